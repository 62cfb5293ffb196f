import type { AgeKey, Frame } from "./types";

/** Older than this and the page no longer shows the cell, but a memory of it, s. */
export const STALE_AFTER = 0.5;
const REQUIRED: AgeKey[] = ["status", "robot", "safety"];

export interface Freshness {
  stale: boolean;
  /** Age of the oldest source the page rests on, s; Infinity without any. */
  age: number;
  /** That source, or `link` if nothing came. */
  source: AgeKey | "link";
}

/** Seconds a source is old, or Infinity for one that is missing or no number: no news is not good news. */
function seconds(value: number | null | undefined): number {
  return typeof value === "number" && Number.isFinite(value) ? Math.max(0, value) : Infinity;
}

/**
 * How old what the page shows is: the age each source had when the message was made, plus the time since it arrived.
 * @param ages ages in the newest message, s; null before the first
 * @param sinceArrival time since it arrived, s
 */
export function freshness(ages: Frame["age"] | null, sinceArrival: number): Freshness {
  if (ages === null || !Number.isFinite(sinceArrival)) return { stale: true, age: Infinity, source: "link" };
  const waited = Math.max(0, sinceArrival);
  let age = -1;
  let source: Freshness["source"] = "link";
  const keys: AgeKey[] = ages.observation === undefined || ages.observation === null ? REQUIRED : [...REQUIRED, "observation"];
  for (const key of keys) {
    const value = seconds(ages[key]) + waited;
    if (value > age) {
      age = value;
      source = key;
    }
  }
  if (waited > STALE_AFTER) source = "link";
  return { stale: !(age <= STALE_AFTER), age, source };
}
