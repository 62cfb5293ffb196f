import { Bone, BufferAttribute, Group, Matrix4, MeshStandardMaterial, Skeleton, SkinnedMesh } from "three";
import { floats } from "../telemetry";
import type { CellModel, SceneState } from "../types";
import { arrayOf, fetchMesh, geometryOf, type MeshFile } from "./mesh";

const INFLUENCES = 4;

interface Person {
  mesh: SkinnedMesh;
  bones: Bone[];
}

/** A body's surface, each vertex moved by up to four bones; a bone turns about its head: p = R (v - head) + t. */
function skinned(file: MeshFile): Person {
  const geometry = geometryOf(file);
  const heads = arrayOf(file, "heads", Float32Array);
  geometry.setAttribute("skinIndex", new BufferAttribute(arrayOf(file, "bone_index", Uint8Array), INFLUENCES));
  geometry.setAttribute("skinWeight", new BufferAttribute(arrayOf(file, "bone_weight", Float32Array), INFLUENCES));
  const bones = Array.from({ length: heads.length / 3 }, () => new Bone());
  const inverses = bones.map((_, i) => new Matrix4().makeTranslation(-heads[3 * i]!, -heads[3 * i + 1]!, -heads[3 * i + 2]!));
  const mesh = new SkinnedMesh(geometry, new MeshStandardMaterial({ color: 0x7f8f9a, roughness: 0.8 }));
  mesh.bindMode = "detached";
  mesh.bind(new Skeleton(bones, inverses), new Matrix4());
  mesh.frustumCulled = false;
  return { mesh, bones };
}

/** The people of the twin with their body's surface. Without a body file there is nobody to draw here. */
export class BodyView {
  readonly group = new Group();
  private readonly files = new Map<string, Promise<MeshFile | null>>();
  private readonly known = new Map<string, Person>();

  constructor(
    private readonly bodies: CellModel["body"],
    private readonly changed: () => void,
  ) {}

  set(people: NonNullable<SceneState["people"]>): void {
    const gone = new Set(this.known.keys());
    for (const person of people) {
      gone.delete(person.name);
      const matrices = floats(person.bones);
      const made = this.known.get(person.name);
      if (made) this.pose(made, matrices);
      else void this.add(person.name, person.body, matrices);
    }
    for (const name of gone) {
      const person = this.known.get(name);
      if (person) this.group.remove(person.mesh);
      this.known.delete(name);
    }
  }

  /** File of a body by its name; a body of another name is drawn as the first one known. */
  private urlOf(body: string): string | undefined {
    return this.bodies?.[body] ?? Object.values(this.bodies ?? {})[0];
  }

  private async add(name: string, body: string, matrices: Float32Array): Promise<void> {
    const url = this.urlOf(body);
    if (!url || matrices.length === 0) return;
    let file = this.files.get(url);
    if (!file) this.files.set(url, (file = fetchMesh(url).catch(() => null)));
    const loaded = await file;
    if (!loaded || this.known.has(name)) return;
    const person = skinned(loaded);
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
