import { EdgesGeometry, ExtrudeGeometry, LineBasicMaterial, LineSegments, Mesh, MeshStandardMaterial, Shape, Vector2 } from "three";

/** Colours of the methods: what slows or stops the arm is warm, what watches the distance is blue. */
const COLOURS: Record<string, number> = {
  stop: 0xb3141b,
  no_person: 0x7a5195,
  keep_out: 0x5c6468,
  reduced_speed: 0xd08a00,
  ssm_contact: 0x1f8a4c,
};
const DISTANCE = 0x2f7fb5;

export function colourOf(method: string | undefined): number {
  return COLOURS[method ?? ""] ?? DISTANCE;
}

/** A translucent upright prism with its edges; null where the outline or the heights enclose nothing. */
export function prismMesh(corners: number[][], low: number, high: number, colour: number, opacity: number): Mesh | null {
  if (corners.length < 3 || !(high > low) || !corners.flat().every(Number.isFinite)) return null;
  const outline = new Shape(corners.map(([x, y]) => new Vector2(x, y)));
  const geometry = new ExtrudeGeometry(outline, { depth: high - low, bevelEnabled: false });
  const body = new Mesh(geometry, new MeshStandardMaterial({ color: colour, transparent: true, opacity, depthWrite: false }));
  body.add(new LineSegments(new EdgesGeometry(geometry), new LineBasicMaterial({ color: colour })));
  body.position.z = low;
  return body;
}
