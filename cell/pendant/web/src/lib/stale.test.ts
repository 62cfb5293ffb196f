import { describe, expect, it } from "vitest";
import { freshness, STALE_AFTER } from "./stale";

const GOOD = { status: 0.05, robot: 0.01, safety: 0.02, observation: 0.1 };

describe("freshness", () => {
  it("counts the age at the server and the wait here together", () => {
    expect(freshness(GOOD, 0.1)).toEqual({ stale: false, age: 0.2, source: "observation" });
    expect(freshness(GOOD, STALE_AFTER - 0.1 + 0.001).stale).toBe(true);
  });
  it("is stale without any message, and for a wait that is no number", () => {
    expect(freshness(null, 0).stale).toBe(true);
    expect(freshness(GOOD, NaN).stale).toBe(true);
    expect(freshness(GOOD, Infinity).source).toBe("link");
  });
  it.each(["status", "robot", "safety"] as const)("is stale when %s is missing, NaN or null", (key) => {
    for (const value of [undefined, null, NaN, Infinity, 1e9]) {
      const result = freshness({ ...GOOD, [key]: value }, 0);
      expect(result.stale).toBe(true);
      expect(result.source).toBe(key);
    }
  });
  it("does without an observation only where the server names none", () => {
    expect(freshness({ ...GOOD, observation: null }, 0).stale).toBe(false);
    expect(freshness({ ...GOOD, observation: 1e9 }, 0).stale).toBe(true);
  });
  it("is exactly at the limit still fresh, above it stale", () => {
    expect(freshness({ status: 0.5, robot: 0, safety: 0 }, 0).stale).toBe(false);
    expect(freshness({ status: 0.5001, robot: 0, safety: 0 }, 0).stale).toBe(true);
  });
});
