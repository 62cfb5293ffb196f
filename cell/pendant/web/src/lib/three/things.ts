import {
  BoxGeometry,
  BufferAttribute,
  BufferGeometry,
  CapsuleGeometry,
  Color,
  CylinderGeometry,
  EdgesGeometry,
  Group,
  Line,
  Line3,
  LineBasicMaterial,
  LineSegments,
  Mesh,
  MeshStandardMaterial,
  Object3D,
  Points,
  PointsMaterial,
  Quaternion,
  Vector3,
} from "three";
import { floats, metres } from "../telemetry";
import type { CellModel, Cloud, Fixture, Hull, MotionPath, PartType, SceneState, Track } from "../types";
import { colourOf, prismMesh } from "./prism";
import { matrix } from "./robot";

export function clear(group: Group): void {
  group.traverse((object) => {
    if (object instanceof Mesh || object instanceof Points || object instanceof Line) {
      (object.geometry as BufferGeometry).dispose();
      (object.material as { dispose: () => void }).dispose();
    }
  });
  group.clear();
}

/** A pose as 16 or 12 row-major numbers, or as position and quaternion (x, y, z, w). */
function setPose(object: Object3D, pose: number[]): void {
  if (!pose.every(Number.isFinite)) return;
  if (pose.length === 16 || pose.length === 12) {
    const whole = pose.length === 16 ? pose : [...pose, 0, 0, 0, 1];
    matrix(whole).decompose(object.position, object.quaternion, object.scale);
  } else if (pose.length === 7) {
    object.position.set(pose[0]!, pose[1]!, pose[2]!);
    object.quaternion.set(pose[3]!, pose[4]!, pose[5]!, pose[6]!);
  }
}

/** The point of a link's capsule axis next to p: where the arm is nearest. */
export function nearestOnArm(hull: Hull | undefined, link: string, p: number[] | null): number[] | null {
  if (!hull || p?.length !== 3) return null;
  const point = new Vector3(p[0], p[1], p[2]);
  let best: { distance: number; at: Vector3 } | null = null;
  for (const capsule of hull.links) {
    if (link && capsule.link !== link && hull.links.some((one) => one.link === link)) continue;
    const line = new Line3(new Vector3(...(capsule.a as [number, number, number])), new Vector3(...(capsule.b as [number, number, number])));
    const at = line.closestPointToPoint(point, true, new Vector3());
    const distance = at.distanceTo(point) - capsule.radius;
    if (!best || distance < best.distance) best = { distance, at };
  }
  return best ? best.at.toArray() : null;
}

function edges(size: number[], colour: number): LineSegments {
  const [x = 0.1, y = 0.1, z = 0.1] = size;
  return new LineSegments(new EdgesGeometry(new BoxGeometry(x, y, z)), new LineBasicMaterial({ color: colour }));
}

/** Table, tray, box; what cannot be seen (closed space, guards) only as edges. */
export function fixtures(list: Fixture[]): Group {
  const group = new Group();
  for (const fixture of list) {
    if (fixture.visible === false) continue;
    const [x = 0.1, y = 0.1, z = 0.1] = fixture.size;
    const [r = 0.6, g = 0.6, b = 0.6] = fixture.colour ?? [];
    const box = new Mesh(new BoxGeometry(x, y, z), new MeshStandardMaterial({ color: new Color(r, g, b), roughness: 0.9 }));
    box.applyMatrix4(matrix(fixture.T_base));
    group.add(box);
  }
  return group;
}

/** Zones, keep-out boxes and the space watched for people. */
export function zones(cell: CellModel): Group {
  const group = new Group();
  if (cell.person_volume?.length === 2) {
    const [low, high] = cell.person_volume as [number[], number[]];
    const box = edges(low.map((value, i) => high[i]! - value), 0x6b7f8c);
    box.position.set(...(low.map((value, i) => (value + high[i]!) / 2) as [number, number, number]));
    group.add(box);
  }
  const ceiling = cell.person_volume?.[1]?.[2] ?? 1.5;
  for (const zone of cell.zones) {
    const [low, high] = [zone.z[0] ?? cell.floor, zone.z[1] ?? ceiling];
    const prism = prismMesh(zone.outline, low, high, colourOf(zone.automatic), 0.12);
    if (prism) group.add(prism);
  }
  for (const camera of cell.cameras) {
    const body = new Mesh(new BoxGeometry(0.12, 0.03, 0.03), new MeshStandardMaterial({ color: 0x30363a }));
    body.applyMatrix4(matrix(camera.T_base_camera));
    group.add(body);
  }
  return group;
}

/** Radius of a ball whose own was not sent, cm. */
const LEAST_CM = 3;
/** Field of view of the camera that looks at the cell, upright, degrees. */
export const FOV = 45;

/** Draws each point as a disc of its own diameter, the attribute `ball`, m, as a ball of it would look. */
function ballMaterial(colour: number, opacity: number): PointsMaterial {
  const material = new PointsMaterial({ color: colour, size: 1 / Math.tan((FOV * Math.PI) / 360), transparent: true, opacity, depthWrite: false });
  material.onBeforeCompile = (shader) => {
    shader.vertexShader = `attribute float ball;\n${shader.vertexShader.replace("gl_PointSize = size;", "gl_PointSize = size * ball;")}`;
    const round = "if (length(gl_PointCoord - 0.5) > 0.5) discard;";
    shader.fragmentShader = shader.fragmentShader.replace("#include <color_fragment>", `${round}\n#include <color_fragment>`);
  };
  return material;
}

/** The depth points, and the space nobody has seen free as balls of their real size, coloured apart. */
export class CloudView {
  readonly group = new Group();
  private readonly seen = this.points(new PointsMaterial({ color: 0xd6343c, size: 0.03 }));
  private readonly possible = this.points(ballMaterial(0xc79a1e, 0.22));

  private points(material: PointsMaterial): Points {
    const points = new Points(new BufferGeometry(), material);
    points.frustumCulled = false;
    this.group.add(points);
    return points;
  }

  set(cloud: Cloud): void {
    for (const [view, bytes, radii] of [
      [this.seen, cloud.seen, cloud.seen_radius],
      [this.possible, cloud.possible, cloud.possible_radius],
    ] as const) {
      const places = metres(bytes);
      const balls = Float32Array.from({ length: places.length / 3 }, (_, i) => (2 * (radii[i] ?? LEAST_CM)) / 100);
      view.geometry.dispose();
      view.geometry = new BufferGeometry();
      view.geometry.setAttribute("position", new BufferAttribute(places, 3));
      view.geometry.setAttribute("ball", new BufferAttribute(balls, 1));
    }
  }

  show(seen: boolean, possible: boolean): void {
    this.seen.visible = seen;
    this.possible.visible = possible;
  }
}

function span(mesh: Mesh, a: Vector3, b: Vector3): void {
  const way = b.clone().sub(a);
  mesh.position.copy(a).addScaledVector(way, 0.5);
  if (way.lengthSq() > 1e-9) mesh.quaternion.copy(new Quaternion().setFromUnitVectors(new Vector3(0, 1, 0), way.normalize()));
}

/** Capsules of the links, grown by the required distance: what a person has to stay out of. */
export class HullView {
  readonly group = new Group();
  private readonly material = new MeshStandardMaterial({
    color: 0xd08a00,
    transparent: true,
    opacity: 0.2,
    depthWrite: false,
  });
  private readonly depthMaterial = new MeshStandardMaterial({ colorWrite: false, transparent: true });
  private readonly bodyMaterial = new MeshStandardMaterial({ color: 0xd7dadc, roughness: 0.7 });
  private shapes: { mesh: Mesh; depth: Mesh; radius: number; length: number }[] = [];

  /** `bodies`: draw the capsules themselves, for an arm without meshes. */
  set(hull: Hull, bodies: boolean): void {
    const grown = Math.min(Math.max(hull.required ?? 0, 0), 3);
    const wanted = bodies ? [0, grown] : [grown];
    let at = 0;
    for (const link of hull.links) {
      const a = new Vector3(...(link.a as [number, number, number]));
      const b = new Vector3(...(link.b as [number, number, number]));
      for (const more of wanted) this.shape(at++, a, b, link.radius + more, bodies && more === 0);
    }
    while (this.shapes.length > at) {
      const last = this.shapes.pop();
      if (last) this.group.remove(last.mesh);
    }
  }

  private shape(at: number, a: Vector3, b: Vector3, radius: number, body: boolean): void {
    const length = a.distanceTo(b);
    let shape = this.shapes[at];
    // Geometry is made anew only where it visibly changed.
    if (!shape || Math.abs(shape.radius - radius) > 0.01 || Math.abs(shape.length - length) > 0.005) {
      const geometry = new CapsuleGeometry(radius, length, 10, 24);
      if (shape) {
        shape.mesh.geometry.dispose();
        for (const mesh of [shape.mesh, shape.depth]) mesh.geometry = geometry;
        Object.assign(shape, { radius, length });
      } else {
        shape = { mesh: new Mesh(geometry, this.material), depth: new Mesh(geometry, this.depthMaterial), radius, length };
        shape.depth.renderOrder = 9;
        shape.mesh.add(shape.depth);
        this.shapes[at] = shape;
        this.group.add(shape.mesh);
      }
    }
    // First the depth of all capsules, then their colour: one skin, not a stack of them.
    shape.depth.visible = !body;
    shape.mesh.renderOrder = body ? 0 : 10;
    shape.mesh.material = body ? this.bodyMaterial : this.material;
    span(shape.mesh, a, b);
  }
}

/** People as upright capsules where the tracker has them. */
export class TrackView {
  readonly group = new Group();

  set(tracks: Track[], floor: number): void {
    while (this.group.children.length > tracks.length) this.group.remove(this.group.children[this.group.children.length - 1]!);
    tracks.forEach((track, i) => {
      let body = this.group.children[i] as Mesh | undefined;
      if (!body) {
        const material = new MeshStandardMaterial({ color: 0x6d7f8a, transparent: true, opacity: 0.55 });
        body = new Mesh(new CapsuleGeometry(0.22, 1.25, 6, 16).rotateX(Math.PI / 2), material);
        this.group.add(body);
      }
      body.position.set(track.position[0] ?? 0, track.position[1] ?? 0, floor + 0.85);
    });
  }
}

/** Parts where they are (twin) or where they are expected (real cell). */
export class PartsView {
  readonly group = new Group();
  private readonly known = new Map<string, Mesh>();

  constructor(private readonly types: Record<string, PartType>) {}

  set(parts: SceneState["parts"]): void {
    const gone = new Set(this.known.keys());
    for (const part of parts) {
      gone.delete(part.name);
      let mesh = this.known.get(part.name);
      if (!mesh) {
        mesh = this.make(this.types[part.kind]);
        this.known.set(part.name, mesh);
        this.group.add(mesh);
      }
      setPose(mesh, part.pose);
    }
    for (const name of gone) {
      const mesh = this.known.get(name);
      if (mesh) this.group.remove(mesh);
      this.known.delete(name);
    }
  }

  private make(type: PartType | undefined): Mesh {
    const [x = 0.04, y = 0.04, z = 0.04] = type?.size ?? [];
    const [r = 0.5, g = 0.5, b = 0.5] = type?.colour ?? [];
    const geometry =
      type?.shape === "cylinder" ? new CylinderGeometry(x / 2, x / 2, z, 20).rotateX(Math.PI / 2) : new BoxGeometry(x, y, z);
    return new Mesh(geometry, new MeshStandardMaterial({ color: new Color(r, g, b), roughness: 0.8 }));
  }
}

/** The planned way of the tool point, and the line of the smallest separation. */
export class LinesView {
  readonly group = new Group();
  private readonly path = new Line(new BufferGeometry(), new LineBasicMaterial({ color: 0x1466a8 }));
  private readonly gap = new Line(new BufferGeometry(), new LineBasicMaterial({ color: 0xb3141b }));

  constructor() {
    for (const line of [this.path, this.gap]) {
      line.frustumCulled = false;
      this.group.add(line);
    }
  }

  /** Colours of path and gap, as of the page's theme. */
  colours(path: string, gap: string): void {
    (this.path.material as LineBasicMaterial).color.set(path);
    (this.gap.material as LineBasicMaterial).color.set(gap);
  }

  setPath(motion: MotionPath | undefined): void {
    this.path.geometry.dispose();
    this.path.geometry = new BufferGeometry();
    this.path.geometry.setAttribute("position", new BufferAttribute(floats(motion?.tcp), 3));
  }

  setGap(from: number[] | null, to: number[] | null): void {
    this.gap.visible = from?.length === 3 && to?.length === 3;
    if (!this.gap.visible) return;
    this.gap.geometry.dispose();
    this.gap.geometry = new BufferGeometry();
    this.gap.geometry.setAttribute("position", new BufferAttribute(new Float32Array([...from!, ...to!]), 3));
  }
}
