import {
  AmbientLight,
  Color,
  DirectionalLight,
  GridHelper,
  Group,
  PerspectiveCamera,
  Plane,
  Raycaster,
  Scene,
  Vector2,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { FOV } from "./things";

/** At most this many pictures a second: the cell changes more often, the eye does not need it. */
const FRAME_MS = 1000 / 15;
/** A ray that meets the floor beyond this goes nearly level: a pixel would be metres. */
const FARTHEST_M = 15;
/** From 3 m away, what lies so far round the middle is well in the picture. */
const REACH_M = 1.25;

/** Renderer, camera and light; z is up. Draws only when something changed. Throws where there is no WebGL. */
export class Stage {
  readonly scene = new Scene();
  readonly world = new Group();
  readonly camera = new PerspectiveCamera(FOV, 1, 0.05, 50);
  private readonly renderer: WebGLRenderer;
  private readonly controls: OrbitControls;
  private readonly resizer: ResizeObserver;
  private dirty = true;
  private last = 0;
  private frame = 0;
  private away = 1;
  drawn = 0;
  /** Told after each picture: where things are on the screen may have changed. */
  onDrawn: (() => void) | null = null;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly onLost: () => void,
  ) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, powerPreference: "low-power" });
    canvas.addEventListener("webglcontextlost", onLost, { once: true });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    this.camera.up.set(0, 0, 1);
    this.camera.position.set(2.3, -2.1, 1.5);
    this.scene.add(this.world, new AmbientLight(0xffffff, 1.5));
    for (const [x, y, z, power] of [
      [2, -1.5, 3, 1.7],
      [-2, 2, 1.5, 0.6],
    ] as const) {
      const light = new DirectionalLight(0xffffff, power);
      light.position.set(x, y, z);
      this.scene.add(light);
    }
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.target.copy(new Vector3(0.35, -0.25, 0.1));
    this.controls.maxDistance = 8;
    this.controls.minDistance = 0.4;
    this.controls.addEventListener("change", () => this.invalidate());
    this.controls.update();
    this.resizer = new ResizeObserver(() => this.resize());
    this.resizer.observe(canvas);
    this.resize();
    const loop = (now: number) => {
      this.frame = requestAnimationFrame(loop);
      if (!this.dirty || now - this.last < FRAME_MS) return;
      this.dirty = false;
      this.last = now;
      this.renderer.render(this.scene, this.camera);
      this.drawn++;
      this.onDrawn?.();
    };
    this.frame = requestAnimationFrame(loop);
  }

  invalidate(): void {
    this.dirty = true;
  }

  /** Ground colour from the page's theme, and a floor grid at height z, m. */
  ground(colour: string, line: string, z: number): void {
    this.scene.background = new Color(colour);
    const old = this.scene.getObjectByName("grid");
    if (old) this.scene.remove(old);
    const grid = new GridHelper(8, 16, line, line);
    grid.name = "grid";
    grid.rotation.x = Math.PI / 2;
    grid.position.z = z;
    this.scene.add(grid);
    this.invalidate();
  }

  /** Looks from one of the fixed places: `top`, `front`, `side` or the first view. */
  look(from: "top" | "front" | "side" | "free"): void {
    const offset = { top: [0, -0.01, 3.4], front: [3.2, 0, 0.7], side: [0, -3.2, 0.7], free: [1.95, -1.85, 1.4] }[from];
    const [x, y, z] = offset as [number, number, number];
    this.camera.position.set(x, y, z).multiplyScalar(this.away).add(this.controls.target);
    this.controls.update();
    this.invalidate();
  }

  /** Takes in the space between two corners, m, from wherever it is looked at. */
  fit(low: number[], high: number[]): void {
    const [a, b] = [new Vector3(...(low as [number, number, number])), new Vector3(...(high as [number, number, number]))];
    this.controls.target.copy(a.clone().lerp(b, 0.5));
    // The fixed places are about 3 m away.
    this.away = Math.min(4, Math.max(1, a.distanceTo(b) / 2 / REACH_M));
    this.controls.maxDistance = 4 * this.away + 4;
    this.look("free");
  }

  /** The ray from the eye through a place of the screen (CSS pixels, as of a pointer event). */
  ray(x: number, y: number): Raycaster {
    const box = this.canvas.getBoundingClientRect();
    const caster = new Raycaster();
    this.camera.updateMatrixWorld();
    caster.setFromCamera(new Vector2((2 * (x - box.left)) / box.width - 1, 1 - (2 * (y - box.top)) / box.height), this.camera);
    return caster;
  }

  /** Where that ray meets the level plane at height z, m; null if it does not, or too far away to be meant. */
  onLevel(x: number, y: number, z: number): Vector3 | null {
    const { ray } = this.ray(x, y);
    const hit = ray.intersectPlane(new Plane(new Vector3(0, 0, 1), -z), new Vector3());
    return hit && hit.distanceTo(ray.origin) < FARTHEST_M ? hit : null;
  }

  /** Where a point of the cell is on the canvas, CSS pixels; null behind the eye. */
  onScreen(point: Vector3): { x: number; y: number } | null {
    const seen = point.clone().project(this.camera);
    const inFront = seen.z < 1 && Number.isFinite(seen.x) && Number.isFinite(seen.y);
    return inFront ? { x: ((seen.x + 1) / 2) * this.canvas.clientWidth, y: ((1 - seen.y) / 2) * this.canvas.clientHeight } : null;
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.invalidate();
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.resizer.disconnect();
    this.controls.dispose();
    this.renderer.dispose();
    // A browser keeps few drawing contexts and takes them from the oldest page: give this one back at once.
    this.canvas.removeEventListener("webglcontextlost", this.onLost);
    this.renderer.forceContextLoss();
  }
}
