import { Group, type Raycaster } from "three";
import type { Prism } from "../zones";
import { colourOf, prismMesh } from "./prism";
import { clear } from "./things";

/** The zones that are edited, each between its heights. */
export class ZoneView {
  readonly group = new Group();

  /** `prisms`: null where a zone has no shape that can be drawn. `span`: heights of a zone without its own. */
  set(prisms: (Prism | null)[], methods: (string | undefined)[], chosen: number, span: [number, number]): void {
    clear(this.group);
    prisms.forEach((prism, index) => {
      const [low, high] = prism?.z ?? span;
      const mesh = prism && prismMesh(prism.corners, low, high, colourOf(methods[index]), index === chosen ? 0.34 : 0.14);
      if (!mesh) return;
      mesh.userData["zone"] = index;
      this.group.add(mesh);
    });
  }

  /** The zone a ray meets first, and where, m; null: none. */
  hit(caster: Raycaster): { zone: number; at: number[] } | null {
    const found = caster.intersectObjects(this.group.children, false)[0];
    const zone: unknown = found?.object.userData["zone"];
    return found && typeof zone === "number" ? { zone, at: found.point.toArray() } : null;
  }
}
