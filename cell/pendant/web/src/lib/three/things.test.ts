import { Mesh, Points, Raycaster, Vector3 } from "three";
import { describe, expect, it } from "vitest";
import { colourOf, prismMesh } from "./prism";
import { CloudView } from "./things";
import { ZoneView } from "./zones";

const millimetres = (...values: number[]) => new Uint8Array(Int16Array.from(values).buffer);

describe("the cloud", () => {
  it("has balls of the size that was sent, at their places", () => {
    const view = new CloudView();
    const [seen, possible] = view.group.children as Points[];
    view.set({
      seen: millimetres(1000, -2000, 30),
      seen_radius: Uint8Array.of(4),
      possible: millimetres(0, 0, 0, 500, 0, 100),
      possible_radius: Uint8Array.of(10, 25),
    });
    expect(Array.from(seen!.geometry.getAttribute("position").array)).toEqual([1, -2, 0.03].map(Math.fround));
    expect(Array.from(possible!.geometry.getAttribute("ball").array)).toEqual([0.2, 0.5].map(Math.fround));
    view.show(false, true);
    expect([seen!.visible, possible!.visible]).toEqual([false, true]);
  });
});

describe("zones in space", () => {
  const square: [number, number][] = [[0, 0], [1, 0], [1, 1], [0, 1]];
  it("are prisms between their heights, or nothing", () => {
    const mesh = prismMesh(square, -0.5, 1, colourOf("stop"), 0.2);
    mesh!.geometry.computeBoundingBox();
    expect(mesh!.geometry.boundingBox!.max.toArray()).toEqual([1, 1, 1.5]);
    expect(mesh!.position.z).toBe(-0.5);
    expect(prismMesh(square, 1, 1, 0, 0.2)).toBeNull();
    expect(prismMesh(square.slice(2), 0, 1, 0, 0.2)).toBeNull();
    expect(prismMesh([[0, NaN], [1, 0], [1, 1]], 0, 1, 0, 0.2)).toBeNull();
    expect(colourOf("of a later version")).toBe(colourOf("ssm"));
  });
  it("are hit by the ray that meets them first", () => {
    const view = new ZoneView();
    const far: [number, number][] = square.map(([x, y]) => [x + 3, y]);
    view.set([{ corners: square, z: [0, 1] }, null, { corners: far, z: null }], ["ssm", undefined, "stop"], 0, [-0.7, 1.4]);
    view.group.updateMatrixWorld(true);
    const shot = (from: number[], to: number[]) =>
      view.hit(new Raycaster(new Vector3(...(from as [number, number, number])), new Vector3(...(to as [number, number, number]))));
    expect(shot([-5, 0.5, 0.5], [1, 0, 0])).toEqual({ zone: 0, at: [0, 0.5, 0.5] });
    expect(shot([9, 0.5, -0.5], [-1, 0, 0])?.zone).toBe(2);
    expect(shot([-5, 0.5, 2], [1, 0, 0])).toBeNull();
    view.set([], [], 0, [0, 1]);
    expect(view.group.children.filter((one) => one instanceof Mesh)).toEqual([]);
  });
});
