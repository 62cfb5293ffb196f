import { describe, expect, it } from "vitest";
import { check, defaults, moved, same } from "./params";
import type { Parameter } from "./types";

const parameter = (more: Partial<Parameter>): Parameter => ({
  name: "p",
  type: "number",
  unit: "m",
  min: 0,
  max: 1,
  default: null,
  choices: null,
  description: "",
  ...more,
});

describe("parameters", () => {
  it("are checked as declared", () => {
    expect(check(parameter({}), 0.5)).toBeNull();
    expect(check(parameter({}), "")?.key).toBe("param.required");
    expect(check(parameter({}), NaN)?.key).toBe("param.number");
    expect(check(parameter({}), -0.1)).toEqual({ key: "param.below", values: { min: 0 } });
    expect(check(parameter({}), 2)).toEqual({ key: "param.above", values: { max: 1 } });
    expect(check(parameter({ type: "integer", max: 9 }), 1.5)?.key).toBe("param.integer");
    expect(check(parameter({ type: "choice", choices: ["a"] }), "b")?.key).toBe("param.choice");
    const list = parameter({ type: "list", min: 1, max: 2, choices: ["a", "b"] });
    expect(check(list, [])?.key).toBe("param.few");
    expect(check(list, ["a", "b", "a"])?.key).toBe("param.many");
    expect(check(list, ["c"])?.key).toBe("param.choice");
    expect(check(list, ["b", "a"])).toBeNull();
  });
  it("begin with their defaults, not shared", () => {
    const list = parameter({ type: "list", default: ["a"] });
    const first = defaults([list]);
    (first["p"] as string[]).push("b");
    expect(defaults([list])).toEqual({ p: ["a"] });
  });
  it("compare by value", () => {
    expect(same({ a: [1, 2], b: "x" }, { b: "x", a: [1, 2] })).toBe(true);
    expect(same({ a: [1, 2] }, { a: [2, 1] })).toBe(false);
    expect(same({ a: 1 }, { a: 1, b: undefined })).toBe(true);
    expect(same([1], { 0: 1 })).toBe(false);
  });
  it("move within a list only", () => {
    expect(moved(["a", "b", "c"], 2, 0)).toEqual(["c", "a", "b"]);
    expect(moved(["a"], 0, 1)).toEqual(["a"]);
  });
});
