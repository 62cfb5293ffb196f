import type { Frame, Series } from "./types";

/** Separation, required distance and rate over the last minute. */
export interface Sample {
  t: number;
  separation: number | null;
  required: number | null;
  rate: number | null;
  /** PackML state; empty: not known. */
  state: string;
}

/** Samples of a series, each with the state that was entered last before it. */
export function samplesOf(series: Series): Sample[] {
  const states = series.state ?? [];
  let at = -1;
  return series.t.map((t, i) => {
    while (at + 1 < states.length && states[at + 1]![0] <= t) at++;
    return {
      t,
      separation: series.separation[i] ?? null,
      required: series.required[i] ?? null,
      rate: series.rate[i] ?? null,
      state: states[at]?.[1] ?? "",
    };
  });
}

/** The sample next to time t, null without any. */
export function nearest(samples: Sample[], t: number): Sample | null {
  let [low, high] = [0, samples.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (samples[middle]!.t < t) low = middle + 1;
    else high = middle;
  }
  const [before, after] = [samples[low - 1], samples[low]];
  return before && after && t - before.t < after.t - t ? before : (after ?? null);
}

export const WINDOW_S = 60;
const LIMIT = 2000;

export class History {
  samples: Sample[] = [];

  /** Takes over what the server remembers; samples of the page itself that are newer stay. */
  seed(series: Series): void {
    const first = this.samples[0]?.t ?? Infinity;
    const old = samplesOf(series).filter((sample) => sample.t < first);
    this.samples = [...old, ...this.samples];
  }

  add(frame: Frame): void {
    const last = this.samples[this.samples.length - 1];
    // A clock that jumps back is another life of the cell.
    if (last && frame.t < last.t) this.samples = [];
    this.samples.push({
      t: frame.t,
      separation: frame.safety?.separation ?? null,
      required: frame.safety?.required ?? null,
      rate: frame.robot?.rate ?? null,
      state: frame.status?.state ?? "",
    });
    if (this.samples.length > LIMIT) this.samples = this.samples.slice(-Math.floor(LIMIT * 0.8));
    while (this.samples.length && frame.t - this.samples[0]!.t > WINDOW_S) this.samples.shift();
  }

  clear(): void {
    this.samples = [];
  }
}
