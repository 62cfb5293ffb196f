import { num } from "./format";
import { named, t } from "./i18n/index.svelte";
import type { Why } from "./packml";
import type { RobotState, SafetyState, Status } from "./types";

/** Why a control cannot be used now, as a sentence; empty if it can. */
export function whyText(why: Why): string {
  switch (why.kind) {
    case "ok":
      return "";
    case "table":
      return t("why.table", { state: named("state", why.state) });
    case "control":
      return why.holder ? t("why.control", { holder: why.holder }) : t("why.control.nobody");
    case "cell":
      return why.reason;
    default:
      return t(`why.${why.kind}`);
  }
}

/** "person 0.84 m from link 5, needs 1.02 m", or null without anybody near enough to matter. */
export function nearness(safety: SafetyState | null): string | null {
  if (!safety || safety.separation === null || !Number.isFinite(safety.separation)) return null;
  return t(safety.seen ? "rate.person" : "rate.unseen", {
    separation: num(safety.separation, 2),
    required: num(safety.required, 2),
    link: safety.link.replace(/_/g, " ") || "?",
  });
}

const OWN: Record<string, "rate.fault" | "rate.manual" | "rate.override"> = {
  fault: "rate.fault",
  manual: "rate.manual",
  override: "rate.override",
};

/** Why the arm moves as fast as it does, for a person. */
export function rateReason(robot: RobotState | null, safety: SafetyState | null, status: Status | null): string {
  if (!robot) return "";
  if (robot.emergency_stop) return t("rate.emergency_stop");
  if (robot.safeguard) return t("rate.safeguard");
  if (robot.fault) return robot.fault_text || t("rate.fault");
  // The controller itself holds the arm back, whatever a person has set.
  if (status && robot.override < status.override - 0.005) return t("rate.state", { state: named("state", status.state) });
  if (robot.limit < robot.override - 0.005 || robot.limit <= 0) {
    const own = OWN[robot.limit_by];
    const near = own ? null : nearness(safety);
    if (near && (safety?.separation ?? Infinity) < (safety?.required ?? 0) * 3) return near;
    return robot.limit_reason || (own ? t(own) : t("rate.limited", { by: robot.limit_by }));
  }
  if (!robot.motion_id) return t("rate.no_motion");
  return robot.override < 1 ? t("rate.override") : t("rate.free");
}
