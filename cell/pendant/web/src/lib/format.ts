import { locale } from "./i18n/index.svelte";

const DASH = "–";

function tag(): string {
  return locale.language === "zh" ? "zh-CN" : locale.language === "de" ? "de-DE" : "en-GB";
}

/** A number with a fixed count of decimals in the present language, or a dash for what is no number. */
export function num(value: unknown, decimals = 2): string {
  if (typeof value !== "number" || !Number.isFinite(value)) return DASH;
  return value.toLocaleString(tag(), { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export function percent(value: unknown, decimals = 0): string {
  return typeof value === "number" && Number.isFinite(value) ? `${num(value * 100, decimals)} %` : DASH;
}

export function clock(wall: number | null | undefined): string {
  return typeof wall === "number" ? new Date(wall).toLocaleTimeString(tag(), { hour12: false }) : DASH;
}

export function dateTime(wall: number | null | undefined): string {
  if (typeof wall !== "number") return DASH;
  return new Date(wall).toLocaleString(tag(), { dateStyle: "short", timeStyle: "medium" });
}

export function duration(seconds: unknown): string {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return DASH;
  if (seconds < 60) return `${num(seconds, 1)} s`;
  return `${Math.floor(seconds / 60)} min ${String(Math.round(seconds % 60)).padStart(2, "0")} s`;
}

export function degrees(rad: number | undefined): string {
  return num(rad === undefined ? undefined : (rad * 180) / Math.PI, 1);
}

/** An identifier of a file, as a person reads it: `cube_red` becomes `cube red`. */
export function words(name: string): string {
  return name.replace(/_/g, " ");
}
