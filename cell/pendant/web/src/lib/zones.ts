import type { Zone } from "./types";

/** An upright prism: corners (x, y) and heights, m. */
export interface Prism {
  corners: [number, number][];
  z: [number, number] | null;
}

type Shape = NonNullable<Zone["shape"]>;

/** The shape of a zone of the safety file (box, prism or polygon), null for anything else. */
export function prismOf(zone: Zone): Prism | null {
  const shape = zone.shape;
  if (!shape) return null;
  if (shape.lower?.length === 3 && shape.upper?.length === 3) {
    const [[x0, y0, z0], [x1, y1, z1]] = [shape.lower, shape.upper] as [number[], number[]];
    if (![x0, y0, z0, x1, y1, z1].every(Number.isFinite)) return null;
    return { corners: [[x0!, y0!], [x1!, y0!], [x1!, y1!], [x0!, y1!]], z: [z0!, z1!] };
  }
  if (Array.isArray(shape.corners) && shape.corners.length >= 3) {
    if (!shape.corners.every((c) => c.length === 2 && c.every(Number.isFinite))) return null;
    return { corners: shape.corners as [number, number][], z: shape.z?.length === 2 ? [shape.z[0]!, shape.z[1]!] : null };
  }
  return null;
}

/** Moves one corner of a zone and returns the zone anew; a box stays a box along the axes. */
export function moveCorner(zone: Zone, corner: number, x: number, y: number): Zone {
  const shape = zone.shape as Shape;
  const at = (value: number) => Math.round(value * 100) / 100;
  if (shape.lower && shape.upper) {
    const lower = [...shape.lower];
    const upper = [...shape.upper];
    (corner === 0 || corner === 3 ? lower : upper)[0] = at(x);
    (corner === 0 || corner === 1 ? lower : upper)[1] = at(y);
    return { ...zone, shape: { ...shape, lower, upper } };
  }
  const corners = (shape.corners ?? []).map((c, i) => (i === corner ? [at(x), at(y)] : c));
  return { ...zone, shape: { ...shape, corners } };
}

/** Moves a whole zone by (dx, dy). */
export function moveZone(zone: Zone, dx: number, dy: number): Zone {
  const shape = zone.shape as Shape;
  const at = (value: number) => Math.round(value * 100) / 100;
  const shift = (p: number[]) => [at(p[0]! + dx), at(p[1]! + dy), ...p.slice(2)];
  if (shape.lower && shape.upper) return { ...zone, shape: { ...shape, lower: shift(shape.lower), upper: shift(shape.upper) } };
  return { ...zone, shape: { ...shape, corners: (shape.corners ?? []).map(shift) } };
}

export function zonePoints(prism: Prism): string {
  return prism.corners.map(([x, y]) => `${x},${-y}`).join(" ");
}

/** A box of half a metre in front of the table, under separation. */
export function newZone(name: string): Zone {
  return { name, shape: { kind: "box", lower: [0.8, -0.25, -0.1], upper: [1.3, 0.25, 1.4] }, automatic: "ssm" };
}
