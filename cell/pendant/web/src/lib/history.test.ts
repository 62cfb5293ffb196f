import { describe, expect, it } from "vitest";
import { bands } from "./chart";
import { nearest, samplesOf } from "./history";

const series = {
  t: [10, 11, 12, 13],
  separation: [null, 1.5, 0.8, 0.7],
  required: [1, 1, 1, 1],
  rate: [1, 1, 0.4, 0],
  state: [[10.5, "Execute"], [12.5, "Suspended"]] as [number, string][],
};

describe("samples of a run", () => {
  const samples = samplesOf(series);
  it("carry the state that was entered before them", () => {
    expect(samples.map((one) => one.state)).toEqual(["", "Execute", "Execute", "Suspended"]);
    expect(samples[0]?.separation).toBeNull();
    expect(samplesOf({ t: [1], separation: [2], required: [3], rate: [4] })[0]?.state).toBe("");
  });
  it("are found by their time", () => {
    expect(nearest([], 3)).toBeNull();
    expect([-99, 10.4, 11.6, 12.4, 99].map((t) => nearest(samples, t)?.t)).toEqual([10, 10, 12, 12, 13]);
  });
  it("make one band a stretch of one state, cut to what is shown", () => {
    expect(bands(samples, 10.5, 12.8)).toEqual([
      { from: 10.5, to: 11, state: "" },
      { from: 11, to: 12.8, state: "Execute" },
    ]);
    expect(bands(samples, 10, 20).map((one) => one.state)).toEqual(["", "Execute", "Suspended"]);
    expect(bands([], 0, 1)).toEqual([]);
  });
});
