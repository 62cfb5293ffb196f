"""The arm's shape and kinematics read from its URDF, for drawing it and for the referee: no physics client needed."""

from __future__ import annotations

import functools
import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cell.compiled import njit
from sim.arms import ArmSpec, cache_dir

F64 = NDArray[np.float64]
FACES_PER_LINK = 400
"""Meshes with more triangles are thinned out to at most so many."""


class Joint(NamedTuple):
    """One joint; `drive` is its place among the arm's joints, -1 fixed, -2 and -3 the two fingers."""

    parent: int
    child: int
    origin: F64
    """(4, 4)."""
    axis: F64
    prismatic: bool
    drive: int


class Linkage(NamedTuple):
    """Links in URDF order with meshes of their collision shapes, in their own frames."""

    links: tuple[str, ...]
    joints: tuple[Joint, ...]
    """Parents before children."""
    root: int
    vertices: tuple[NDArray[np.float32], ...]
    """(n, 3) for each link; empty where it has no shape."""
    faces: tuple[NDArray[np.int32], ...]
    chain: tuple[NDArray[Any], ...]
    """The joints as arrays: parents, children, indices, origins (n, 4, 4), axes (n, 3)."""
    base_yaw: float
    """Turn of the root about the vertical, rad."""

    def poses(self, q: list[float] | F64, fingers: float) -> F64:
        """(links, 4, 4) in the base frame for joint positions (rad) and the distance between the fingers (m)."""
        joints = np.asarray(q, dtype=np.float64)
        return np.asarray(link_poses(joints, fingers, len(self.links), self.base_yaw, *self.chain))


@njit(cache=True)
def link_poses(
    q: F64,
    fingers: float,
    count: int,
    base_yaw: float,
    parents: NDArray[np.int64],
    children: NDArray[np.int64],
    indices: NDArray[np.int64],
    origins: F64,
    axes: F64,
) -> F64:
    """`Linkage.poses`, compiled: `count` links, the chain as in `Linkage.chain`."""
    out = np.zeros((count, 4, 4))
    for i in range(count):
        for k in range(4):
            out[i, k, k] = 1.0
        out[i, 0, 0] = out[i, 1, 1] = np.cos(base_yaw)
        out[i, 1, 0], out[i, 0, 1] = np.sin(base_yaw), -np.sin(base_yaw)
    turn = np.empty((3, 3))
    for n in range(len(parents)):
        above, child, index = parents[n], children[n], indices[n]
        x, y, z = axes[n]
        angle = q[index] if index >= 0 else 0.0
        # Rodrigues: cos I + sin [axis] + (1 - cos) axis axis^T.
        c, s = np.cos(angle), np.sin(angle)
        e = 1.0 - c
        turn[0, 0], turn[0, 1], turn[0, 2] = c + e * x * x, e * x * y - s * z, e * x * z + s * y
        turn[1, 0], turn[1, 1], turn[1, 2] = e * x * y + s * z, c + e * y * y, e * y * z - s * x
        turn[2, 0], turn[2, 1], turn[2, 2] = e * x * z - s * y, e * y * z + s * x, c + e * z * z
        for i in range(3):
            at = out[above, i, 3]
            for j in range(3):
                at += out[above, i, j] * origins[n, j, 3]
            out[child, i, 3] = at
            r0, r1, r2 = 0.0, 0.0, 0.0
            for j in range(3):
                r0 += out[above, i, j] * origins[n, j, 0]
                r1 += out[above, i, j] * origins[n, j, 1]
                r2 += out[above, i, j] * origins[n, j, 2]
            if index >= 0:
                for j in range(3):
                    out[child, i, j] = r0 * turn[0, j] + r1 * turn[1, j] + r2 * turn[2, j]
            else:
                out[child, i, 0], out[child, i, 1], out[child, i, 2] = r0, r1, r2
                if index < -1:
                    out[child, i, 3] += (r0 * x + r1 * y + r2 * z) * fingers / 2
    return out


def _origin(element: ET.Element | None) -> F64:
    pose = np.eye(4)
    if element is not None:
        pose[:3, 3] = [float(v) for v in element.get("xyz", "0 0 0").split()]
        pose[:3, :3] = Rotation.from_euler("xyz", [float(v) for v in element.get("rpy", "0 0 0").split()]).as_matrix()
    return pose


@functools.lru_cache(maxsize=4)
def load_linkage(arm: ArmSpec) -> Linkage:
    """Read the arm's URDF and its collision meshes. Raises FileNotFoundError, ValueError."""
    robot = ET.parse(arm.urdf).getroot()
    links = [e.get("name", "") for e in robot.findall("link")]
    joints = []
    for element in robot.findall("joint"):
        parent, child = element.find("parent"), element.find("child")
        if parent is None or child is None:
            continue
        name = element.get("name", "")
        axis = element.find("axis")
        index = -1
        if name in arm.joints:
            index = arm.joints.index(name)
        elif name in arm.fingers:
            index = -2 - arm.fingers.index(name)
        joints.append(
            Joint(
                links.index(parent.get("link", "")),
                links.index(child.get("link", "")),
                _origin(element.find("origin")),
                np.array([float(v) for v in axis.get("xyz", "1 0 0").split()]) if axis is not None else np.zeros(3),
                element.get("type") == "prismatic",
                index,
            )
        )
    children = {j.child for j in joints}
    root = next(i for i in range(len(links)) if i not in children)
    ordered: list[Joint] = []
    known = {root}
    while len(ordered) < len(joints):
        ready = [j for j in joints if j.parent in known and j.child not in known]
        if not ready:
            raise ValueError(f"{arm.urdf}: its joints do not form a tree")
        ordered += ready
        known |= {j.child for j in ready}
    shapes = [_shape(element, arm.urdf) for element in robot.findall("link")]
    return _assembled(links, ordered, root, shapes, arm.base_yaw)


def _assembled(
    links: list[str],
    joints: list[Joint],
    root: int,
    shapes: list[tuple[NDArray[np.float32], NDArray[np.int32]]],
    base_yaw: float,
) -> Linkage:
    chain = (
        np.array([j.parent for j in joints]),
        np.array([j.child for j in joints]),
        np.array([j.drive for j in joints]),
        np.array([j.origin for j in joints]),
        np.array([j.axis for j in joints]),
    )
    return Linkage(
        tuple(links), tuple(joints), root, tuple(v for v, _ in shapes), tuple(f for _, f in shapes), chain, base_yaw
    )


def _shape(link: ET.Element, urdf: Path) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    vertices: list[NDArray[Any]] = []
    faces: list[NDArray[Any]] = []
    count = 0
    for collision in link.findall("collision"):
        geometry = collision.find("geometry")
        if geometry is None:
            continue
        mesh = _geometry(geometry, urdf)
        if mesh is None:
            continue
        pose = _origin(collision.find("origin"))
        vertices.append(mesh[0] @ pose[:3, :3].T + pose[:3, 3])
        faces.append(mesh[1] + count)
        count += len(mesh[0])
    if not vertices:
        return np.zeros((0, 3), dtype=np.float32), np.zeros((0, 3), dtype=np.int32)
    return np.concatenate(vertices).astype(np.float32), np.concatenate(faces).astype(np.int32)


def _geometry(geometry: ET.Element, urdf: Path) -> tuple[F64, NDArray[np.int64]] | None:
    box, mesh = geometry.find("box"), geometry.find("mesh")
    if box is not None:
        return box_mesh([float(v) for v in box.get("size", "").split()])
    if mesh is None:
        return None
    name = mesh.get("filename", "").removeprefix("package://")
    path = Path(name) if Path(name).is_absolute() else urdf.parent / name
    scale = np.array([float(v) for v in mesh.get("scale", "1 1 1").split()])
    vertices, faces = _thinned(path)
    return vertices * scale, faces


def box_mesh(size: list[float]) -> tuple[F64, NDArray[np.int64]]:
    """Twelve triangles of a box round the origin, counter-clockwise from outside."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]) * np.array(size)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    return corners, np.array(faces)


def cylinder_mesh(radius: float, height: float, sides: int = 24) -> tuple[F64, NDArray[np.int64]]:
    """An upright cylinder round the origin."""
    angle = np.arange(sides) * 2.0 * np.pi / sides
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    low = np.column_stack([ring, np.full(sides, -height / 2)])
    high = np.column_stack([ring, np.full(sides, height / 2)])
    vertices = np.concatenate([low, high, [[0, 0, -height / 2], [0, 0, height / 2]]])
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = np.concatenate(
        [
            np.column_stack([i, j, j + sides]),
            np.column_stack([i, j + sides, i + sides]),
            np.column_stack([j, i, np.full(sides, 2 * sides)]),
            np.column_stack([i + sides, j + sides, np.full(sides, 2 * sides + 1)]),
        ]
    )
    return vertices, faces


def _thinned(path: Path) -> tuple[F64, NDArray[np.int64]]:
    """A mesh file, welded and thinned to `FACES_PER_LINK`; kept in the cache."""
    stamp = f"{path.resolve()}:{path.stat().st_size}:{FACES_PER_LINK}"
    cached = cache_dir() / f"mesh-{hashlib.sha256(stamp.encode()).hexdigest()[:20]}.npz"
    try:
        with np.load(cached, allow_pickle=False) as data:
            return data["vertices"], data["faces"]
    except (OSError, KeyError, ValueError, EOFError):
        pass
    import io

    import trimesh

    from sim.arms import write_atomically

    mesh: Any = trimesh.load(path, force="mesh")
    vertices, faces = np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64)
    vertices, faces = cluster(vertices, faces, 1e-5)
    cell = 0.004
    thin_vertices, thin_faces = vertices, faces
    while len(thin_faces) > FACES_PER_LINK:
        thin_vertices, thin_faces = cluster(vertices, faces, cell)
        cell *= 1.15
    buffer = io.BytesIO()
    np.savez_compressed(buffer, vertices=thin_vertices, faces=thin_faces)
    write_atomically(cached, buffer.getvalue())
    return thin_vertices, thin_faces


def cluster(vertices: F64, faces: NDArray[np.int64], cell: float) -> tuple[F64, NDArray[np.int64]]:
    """Merge the vertices of each cubic cell of edge `cell` into their mean; triangles that collapse disappear."""
    keys = np.floor(vertices / cell).astype(np.int64)
    _, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    count = int(inverse.max()) + 1
    merged = np.zeros((count, 3))
    np.add.at(merged, inverse, vertices)
    merged /= np.bincount(inverse, minlength=count)[:, None]
    new = inverse[faces]
    distinct = (new[:, 0] != new[:, 1]) & (new[:, 1] != new[:, 2]) & (new[:, 2] != new[:, 0])
    new = new[distinct]
    _, first = np.unique(np.sort(new, axis=1), axis=0, return_index=True)
    return merged, new[np.sort(first)]
