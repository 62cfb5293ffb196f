import { describe, expect, it } from "vitest";
import { moveCorner, moveZone, newZone, prismOf } from "./zones";

describe("zones", () => {
  const box = newZone("a");
  const prism = { name: "b", shape: { kind: "prism", corners: [[0, 0], [1, 0], [0, 1]], z: [0, 1] } };

  it("know their corners", () => {
    expect(prismOf(box)?.corners).toEqual([[0.8, -0.25], [1.3, -0.25], [1.3, 0.25], [0.8, 0.25]]);
    expect(prismOf(prism)?.z).toEqual([0, 1]);
    expect(prismOf({ name: "c" })).toBeNull();
    expect(prismOf({ name: "d", shape: { kind: "box", lower: [0, NaN, 0], upper: [1, 1, 1] } })).toBeNull();
  });
  it("stay boxes when a corner is moved, and are not changed in place", () => {
    const moved = moveCorner(box, 2, 1.456, 0.5);
    expect(moved.shape).toMatchObject({ lower: [0.8, -0.25, -0.1], upper: [1.46, 0.5, 1.4] });
    expect(box.shape?.upper).toEqual([1.3, 0.25, 1.4]);
  });
  it("move as a whole", () => {
    expect(moveZone(prism, 0.5, -0.25).shape?.corners).toEqual([[0.5, -0.25], [1.5, -0.25], [0.5, 0.75]]);
    expect(prismOf(moveZone(box, 0.1, 0))?.corners[0]).toEqual([0.9, -0.25]);
  });
});
