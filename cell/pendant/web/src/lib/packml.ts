import type { CommandName, PackmlTable, Role, Status } from "./types";

/** In the order in which the command bar shows them. */
export const COMMANDS: CommandName[] = [
  "Stop",
  "Start",
  "Hold",
  "Unhold",
  "Complete",
  "Reset",
  "Suspend",
  "Unsuspend",
  "Clear",
  "Abort",
];

/** Never need control: who sees a danger may stop. */
const STOPPING: ReadonlySet<CommandName> = new Set(["Stop", "Hold", "Abort"]);

export type Why =
  | { kind: "ok" }
  | { kind: "busy" }
  | { kind: "stale" }
  | { kind: "locked" }
  | { kind: "role" }
  | { kind: "unloaded" }
  | { kind: "control"; holder: string | null }
  | { kind: "table"; state: string }
  | { kind: "cell"; reason: string };

export interface Situation {
  table: PackmlTable | null;
  status: Status | null;
  stale: boolean;
  locked: boolean;
  role: Role | null;
  mine: boolean;
  holder: string | null;
  /** The arm is moved by hand (manual mode): Stop and Hold end that in every state. */
  byHand: boolean;
}

/** Operators and programmers command the cell; safety engineers and administrators only look. */
export function mayOperate(role: Role | null): boolean {
  return role === "operator" || role === "programmer";
}

/**
 * Whether a PackML button can be pressed, and if not, why not. The state's table row decides; on top of it come the
 * reasons why this person at this page may not, and what the cell itself objects to now.
 * Stop can be pressed whenever the page does not know better: stale data or a lock never take it away.
 */
export function admission(command: CommandName, s: Situation): Why {
  if (!mayOperate(s.role)) return { kind: "role" };
  if (command === "Stop" && (s.stale || !s.table || !s.status)) return { kind: "ok" };
  if (s.stale || !s.table || !s.status) return { kind: "stale" };
  if (s.locked && command !== "Stop") return { kind: "locked" };
  if (s.byHand && (command === "Stop" || command === "Hold")) return { kind: "ok" };
  const admitted = s.table.admitted[s.status.state] ?? [];
  if (!admitted.includes(command)) return { kind: "table", state: s.status.state };
  if (!s.mine && !STOPPING.has(command)) return { kind: "control", holder: s.holder };
  const reason = s.status.blocked?.[command];
  if (reason && !STOPPING.has(command)) return { kind: "cell", reason };
  return { kind: "ok" };
}
