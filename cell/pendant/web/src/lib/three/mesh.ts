import { BufferAttribute, BufferGeometry } from "three";
import { resourceUrl } from "../api";

export interface MeshHeader {
  vertices: number;
  triangles: number;
  [key: string]: unknown;
}
export interface MeshFile {
  header: MeshHeader;
  /** What follows the header. */
  data: ArrayBuffer;
}

/**
 * Splits a mesh file: little-endian uint32 length, JSON header of that length, data.
 * @throws Error for a file whose header does not fit
 */
export function parseMesh(buffer: ArrayBuffer): MeshFile {
  if (buffer.byteLength < 4) throw new Error("mesh: too short");
  const length = new DataView(buffer).getUint32(0, true);
  if (length < 2 || length > buffer.byteLength - 4) throw new Error("mesh: header length");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as MeshHeader;
  const { vertices, triangles } = header;
  if (!Number.isInteger(vertices) || !Number.isInteger(triangles) || vertices < 0 || triangles < 0) throw new Error("mesh: counts");
  const data = buffer.slice(4 + length);
  if (data.byteLength < 12 * (vertices + triangles)) throw new Error("mesh: data");
  return { header, data };
}

/** Vertices (n, 3) float32 in metres, then triangles (m, 3) uint32. */
export function geometryOf(file: MeshFile): BufferGeometry {
  const { vertices, triangles } = file.header;
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(file.data, 0, 3 * vertices), 3));
  geometry.setIndex(new BufferAttribute(new Uint32Array(file.data, 12 * vertices, 3 * triangles), 1));
  geometry.computeVertexNormals();
  return geometry;
}

export async function fetchMesh(url: string): Promise<MeshFile> {
  const response = await fetch(resourceUrl(url), { credentials: "same-origin" });
  if (!response.ok) throw new Error(`mesh: HTTP ${response.status}`);
  return parseMesh(await response.arrayBuffer());
}
