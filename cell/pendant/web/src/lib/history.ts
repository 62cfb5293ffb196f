import type { Frame, Series } from "./types";

/** Separation, required distance and rate over the last minute. */
export interface Sample {
  t: number;
  separation: number | null;
  required: number | null;
  rate: number | null;
}

export const WINDOW_S = 60;
const LIMIT = 2000;

export class History {
  samples: Sample[] = [];

  /** Takes over what the server remembers; samples of the page itself that are newer stay. */
  seed(series: Series): void {
    const first = this.samples[0]?.t ?? Infinity;
    const old: Sample[] = [];
    series.t.forEach((t, i) => {
      if (t < first)
        old.push({
          t,
          separation: series.separation[i] ?? null,
          required: series.required[i] ?? null,
          rate: series.rate[i] ?? null,
        });
    });
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
    });
    if (this.samples.length > LIMIT) this.samples = this.samples.slice(-Math.floor(LIMIT * 0.8));
    while (this.samples.length && frame.t - this.samples[0]!.t > WINDOW_S) this.samples.shift();
  }

  clear(): void {
    this.samples = [];
  }
}
