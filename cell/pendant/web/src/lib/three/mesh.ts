import { BufferAttribute, BufferGeometry } from "three";
import { resourceUrl } from "../api";

interface Listed {
  name: string;
  dtype: string;
  shape: number[];
  offset: number;
}
export interface MeshFile {
  kind: string;
  arrays: Map<string, Float32Array | Uint32Array | Uint16Array | Uint8Array>;
}

const TYPES: Record<string, { size: number; make: (b: ArrayBuffer, o: number, n: number) => Float32Array | Uint32Array | Uint16Array | Uint8Array }> = {
  float32: { size: 4, make: (b, o, n) => new Float32Array(b, o, n) },
  uint32: { size: 4, make: (b, o, n) => new Uint32Array(b, o, n) },
  uint16: { size: 2, make: (b, o, n) => new Uint16Array(b, o, n) },
  uint8: { size: 1, make: (b, o, n) => new Uint8Array(b, o, n) },
};

/**
 * Reads a mesh file: little-endian uint32 length of the JSON header, the header, then the arrays it lists, each at its
 * offset behind the header.
 * @throws Error for a file that does not fit its header
 */
export function parseMesh(buffer: ArrayBuffer): MeshFile {
  if (buffer.byteLength < 4) throw new Error("mesh: too short");
  const length = new DataView(buffer).getUint32(0, true);
  if (length < 2 || length > buffer.byteLength - 4) throw new Error("mesh: header length");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as { kind: string; arrays: Listed[] };
  const arrays = new Map<string, ReturnType<(typeof TYPES)[string]["make"]>>();
  for (const { name, dtype, shape, offset } of header.arrays) {
    const type = TYPES[dtype];
    const count = shape.reduce((product, n) => product * n, 1);
    const at = 4 + length + offset;
    const sound = type && Number.isSafeInteger(count) && count >= 0 && Number.isSafeInteger(offset) && offset >= 0;
    if (!sound || at + count * type.size > buffer.byteLength) throw new Error(`mesh: array ${name}`);
    arrays.set(name, type.make(at % type.size ? buffer.slice(at, at + count * type.size) : buffer, at % type.size ? 0 : at, count));
  }
  return { kind: header.kind, arrays };
}

/** Array of a file by its name. Throws if it is not there or of another type. */
export function arrayOf<T>(file: MeshFile, name: string, type: new (...args: never[]) => T): T {
  const found = file.arrays.get(name);
  if (!(found instanceof type)) throw new Error(`mesh: array ${name} is missing`);
  return found;
}

/** Vertices (n, 3) in metres and faces (m, 3). */
export function geometryOf(file: MeshFile): BufferGeometry {
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(arrayOf(file, "vertices", Float32Array), 3));
  geometry.setIndex(new BufferAttribute(arrayOf(file, "faces", Uint32Array), 1));
  geometry.computeVertexNormals();
  return geometry;
}

export async function fetchMesh(url: string): Promise<MeshFile> {
  const response = await fetch(resourceUrl(url), { credentials: "same-origin" });
  if (!response.ok) throw new Error(`mesh: HTTP ${response.status}`);
  return parseMesh(await response.arrayBuffer());
}
