import { Color, Group, Matrix4, Mesh, MeshStandardMaterial, Quaternion, Vector3 } from "three";
import type { CellModel, ChainJoint } from "../types";
import { fetchMesh, geometryOf } from "./mesh";

/** Row-major 4 x 4 numbers as a matrix; the identity for anything else. */
export function matrix(values: number[] | null | undefined): Matrix4 {
  const result = new Matrix4();
  if (values?.length === 16 && values.every(Number.isFinite)) result.set(...(values as Parameters<Matrix4["set"]>));
  return result;
}

/** Transform of a joint at position q (rad or m). */
export function jointMatrix(joint: ChainJoint, q: number): Matrix4 {
  const [x = 0, y = 0, z = 1] = joint.axis;
  const axis = new Vector3(x, y, z);
  if (axis.lengthSq() > 0) axis.normalize();
  const motion = new Matrix4();
  if (joint.type === "prismatic") motion.makeTranslation(axis.multiplyScalar(q));
  else if (joint.type !== "fixed") motion.makeRotationFromQuaternion(new Quaternion().setFromAxisAngle(axis, q));
  return matrix(joint.T_parent_joint).multiply(motion);
}

/** The arm: one group a link, moved by the chain of joints. */
export class RobotView {
  readonly group = new Group();
  private readonly links = new Map<string, Group>();
  private readonly moving: { joint: ChainJoint; index: number; link: Group }[] = [];
  private readonly fingers: { joint: ChainJoint; link: Group }[] = [];

  constructor(
    model: CellModel["robot"],
    private readonly changed: () => void,
  ) {
    for (const link of model.links) this.link(link.name);
    const byName = new Map(model.joints.map((joint, i) => [joint.name, i]));
    const children = new Set<string>();
    for (const joint of model.joint_chain) {
      const child = this.link(joint.child);
      children.add(joint.child);
      this.link(joint.parent).add(child);
      child.matrixAutoUpdate = false;
      child.matrix.copy(jointMatrix(joint, 0));
      const index = byName.get(joint.name);
      if (index !== undefined) this.moving.push({ joint, index, link: child });
      else if (model.finger_joints?.includes(joint.name)) this.fingers.push({ joint, link: child });
    }
    for (const [name, link] of this.links) if (!children.has(name)) this.group.add(link);
    for (const link of model.links) {
      for (const mesh of link.meshes) void this.addMesh(link.name, mesh.url, mesh.T_link_mesh, mesh.colour);
    }
  }

  private link(name: string): Group {
    let group = this.links.get(name);
    if (!group) {
      group = new Group();
      group.name = name;
      this.links.set(name, group);
    }
    return group;
  }

  private async addMesh(link: string, url: string, pose: number[], colour?: number[]): Promise<void> {
    try {
      const geometry = geometryOf(await fetchMesh(url));
      const [r = 0.86, g = 0.87, b = 0.88] = colour ?? [];
      const mesh = new Mesh(geometry, new MeshStandardMaterial({ color: new Color(r, g, b), roughness: 0.65 }));
      mesh.matrixAutoUpdate = false;
      mesh.matrix.copy(matrix(pose));
      this.link(link).add(mesh);
      this.changed();
    } catch {
      // A link without its mesh still shows as the capsule of the protective hull.
    }
  }

  /** Joint positions, rad; opening of the gripper, m. */
  set(q: number[], width: number): void {
    for (const { joint, index, link } of this.moving) {
      const value = q[index];
      if (value === undefined || !Number.isFinite(value)) return;
      link.matrix.copy(jointMatrix(joint, value));
      link.matrixWorldNeedsUpdate = true;
    }
    for (const { joint, link } of this.fingers) {
      if (!Number.isFinite(width)) return;
      link.matrix.copy(jointMatrix(joint, width / this.fingers.length));
      link.matrixWorldNeedsUpdate = true;
    }
    this.changed();
  }
}
