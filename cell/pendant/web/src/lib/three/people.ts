import { Bone, BufferAttribute, Group, Matrix4, MeshStandardMaterial, Skeleton, SkinnedMesh } from "three";
import { floats } from "../telemetry";
import type { CellModel, SceneState } from "../types";
import { fetchMesh, geometryOf, type MeshFile } from "./mesh";

const INFLUENCES = 4;

interface Person {
  mesh: SkinnedMesh;
  bones: Bone[];
}

/** Bone indices (n, 4) uint16 and weights (n, 4) float32 behind the triangles of a body file. */
function skinned(file: MeshFile, bones: number): Person {
  const geometry = geometryOf(file);
  const { vertices, triangles } = file.header;
  const at = 12 * (vertices + triangles);
  const indices = new Uint16Array(file.data.slice(at, at + 2 * INFLUENCES * vertices));
  const from = at + 2 * INFLUENCES * vertices;
  const weights = new Float32Array(file.data.slice(from, from + 4 * INFLUENCES * vertices));
  geometry.setAttribute("skinIndex", new BufferAttribute(indices, INFLUENCES));
  geometry.setAttribute("skinWeight", new BufferAttribute(weights, INFLUENCES));
  const made = Array.from({ length: bones }, () => new Bone());
  const mesh = new SkinnedMesh(geometry, new MeshStandardMaterial({ color: 0x7f8f9a, roughness: 0.8 }));
  // The matrices of the telemetry already lead from the body at rest to the world: no inverse of a bind pose.
  mesh.bindMode = "detached";
  mesh.bind(new Skeleton(made, made.map(() => new Matrix4())), new Matrix4());
  mesh.frustumCulled = false;
  return { mesh, bones: made };
}

/** The people of the twin with their body's surface. Without a body file there is nobody to draw here. */
export class BodyView {
  readonly group = new Group();
  private readonly files = new Map<string, Promise<MeshFile | null>>();
  private readonly known = new Map<string, Person>();

  constructor(
    private readonly body: CellModel["body"],
    private readonly changed: () => void,
  ) {}

  set(people: NonNullable<SceneState["people"]>): void {
    const gone = new Set(this.known.keys());
    for (const person of people) {
      gone.delete(person.name);
      const matrices = floats(person.bones);
      const made = this.known.get(person.name);
      if (made) this.pose(made, matrices);
      else void this.add(person.name, matrices);
    }
    for (const name of gone) {
      const person = this.known.get(name);
      if (person) this.group.remove(person.mesh);
      this.known.delete(name);
    }
  }

  private async add(name: string, matrices: Float32Array): Promise<void> {
    if (!this.body || matrices.length === 0) return;
    const url = this.body.url;
    let file = this.files.get(url);
    if (!file) this.files.set(url, (file = fetchMesh(url).catch(() => null)));
    const loaded = await file;
    if (!loaded || this.known.has(name)) return;
    const person = skinned(loaded, matrices.length / 12);
    this.known.set(name, person);
    this.group.add(person.mesh);
    this.pose(person, matrices);
    this.changed();
  }

  private pose(person: Person, matrices: Float32Array): void {
    person.bones.forEach((bone, i) => {
      const m = matrices.subarray(12 * i, 12 * i + 12);
      if (m.length < 12 || !m.every(Number.isFinite)) return;
      bone.matrixAutoUpdate = false;
      bone.matrixWorldAutoUpdate = false;
      bone.matrixWorld.set(m[0]!, m[1]!, m[2]!, m[3]!, m[4]!, m[5]!, m[6]!, m[7]!, m[8]!, m[9]!, m[10]!, m[11]!, 0, 0, 0, 1);
    });
    person.mesh.skeleton.update();
  }
}
