"""Depth pictures of the twin by a compiled rasteriser: no graphics library, the same picture on every machine.

For depth at camera resolution it is several times cheaper than OpenGL in software: what never moves is drawn once per
camera, only the arm, the parts and the people are drawn over a copy of it, and nothing passes through a driver.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.workcell import Workcell
from sim.arms import ArmSpec
from sim.contract import PartPose, Scene
from sim.linkage import Linkage, load_linkage
from sim.render import (
    ARM_COLOUR,
    CLOTHES,
    NEAR,
    Picture,
    View,
    drawn_faces,
    furniture,
    part_matrices,
    part_mesh,
    posed,
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]


_WORLD: F64 = np.eye(4)[None]


@njit(cache=True, nogil=True, error_model="numpy")
def _to_camera(vertices: F32, owner: I32, matrices: F64, out: F64) -> None:
    """Vertices (n, 3) into the camera's frame, each by the matrix (3, 4) of its `owner`."""
    for i in range(vertices.shape[0]):
        m = matrices[owner[i]]
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        out[i, 0] = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
        out[i, 1] = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
        out[i, 2] = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]


@njit(cache=True, nogil=True, error_model="numpy")
def _triangle(
    x0: float, y0: float, i0: float, x1: float, y1: float, i1: float, x2: float, y2: float, i2: float,
    tint: np.float32, inverse: F32, tone: F32,
) -> None:  # fmt: skip
    """Fill one triangle given in pixels, with inverse depths (1/m) at its corners; the nearer value stays.

    The inverse of depth is an affine function of the pixel, so it needs no correction for perspective. A pixel whose
    centre lies on an edge belongs to both triangles that share it: there are no cracks.
    """
    height, width = inverse.shape
    top, bottom = max(np.ceil(min(y0, y1, y2)), 0.0), min(np.floor(max(y0, y1, y2)), height - 1.0)
    left, right = max(np.ceil(min(x0, x1, x2)), 0.0), min(np.floor(max(x0, x1, x2)), width - 1.0)
    if not (top <= bottom and left <= right):
        return
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area < 0.0:
        x1, y1, i1, x2, y2, i2 = x2, y2, i2, x1, y1, i1
        area = -area
    if not area > 0.0:
        return
    unit = 1.0 / area
    slope_x = ((i1 - i0) * (y2 - y0) - (i2 - i0) * (y1 - y0)) * unit
    slope_y = ((i2 - i0) * (x1 - x0) - (i1 - i0) * (x2 - x0)) * unit
    # Rounding at slivers must not leave the range of the corners.
    least, most = np.float32(min(i0, i1, i2)), np.float32(max(i0, i1, i2))
    # Edge k is a x + b y + c = 0, positive inside; it crosses a row at x = p y + q.
    a0, b0, c0 = y0 - y1, x1 - x0, x0 * y1 - x1 * y0
    a1, b1, c1 = y1 - y2, x2 - x1, x1 * y2 - x2 * y1
    a2, b2, c2 = y2 - y0, x0 - x2, x2 * y0 - x0 * y2
    r0, r1, r2 = -1.0 / a0, -1.0 / a1, -1.0 / a2
    p0, q0, p1, q1, p2, q2 = b0 * r0, c0 * r0, b1 * r1, c1 * r1, b2 * r2, c2 * r2
    for v in range(int(top), int(bottom) + 1):
        low, high = left, right
        if a0 > 0.0:
            low = max(low, p0 * v + q0)
        elif a0 < 0.0:
            high = min(high, p0 * v + q0)
        if a1 > 0.0:
            low = max(low, p1 * v + q1)
        elif a1 < 0.0:
            high = min(high, p1 * v + q1)
        if a2 > 0.0:
            low = max(low, p2 * v + q2)
        elif a2 < 0.0:
            high = min(high, p2 * v + q2)
        first, last = int(np.ceil(low)), int(np.floor(high))
        value = i0 + slope_y * (v - y0) + slope_x * (first - x0)
        for u in range(first, last + 1):
            here = min(max(np.float32(value), least), most)
            if here > inverse[v, u]:
                inverse[v, u] = here
                tone[v, u] = tint
            value += slope_x


@njit(cache=True, nogil=True, error_model="numpy")
def _cut(a: F64, b: F64, out: F64) -> None:
    """Where the edge a-b passes the near plane."""
    s = (NEAR - a[2]) / (b[2] - a[2])
    out[0], out[1], out[2] = a[0] + s * (b[0] - a[0]), a[1] + s * (b[1] - a[1]), NEAR


@njit(cache=True, nogil=True, error_model="numpy")
def _clipped(camera: F64, face: I32, lens: F64, tint: np.float32, inverse: F32, tone: F32) -> None:
    """Draw the part of a triangle that lies beyond the near plane: a triangle or a quadrangle."""
    corners = np.empty((4, 3))
    n = 0
    for k in range(3):
        a, b = camera[face[k]], camera[face[(k + 1) % 3]]
        if a[2] >= NEAR:
            corners[n] = a
            n += 1
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            _cut(a, b, corners[n])
            n += 1
    flat = np.empty((4, 3))
    for k in range(n):
        i = 1.0 / corners[k, 2]
        flat[k, 0], flat[k, 1], flat[k, 2] = (
            lens[0] * corners[k, 0] * i + lens[2],
            lens[1] * corners[k, 1] * i + lens[3],
            i,
        )
    for k in range(2, n):
        _triangle(
            flat[0, 0], flat[0, 1], flat[0, 2], flat[k - 1, 0], flat[k - 1, 1], flat[k - 1, 2],
            flat[k, 0], flat[k, 1], flat[k, 2], tint, inverse, tone,
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(camera: F64, faces: I32, tints: F32, lens: F64, closed: bool, screen: F64, inverse: F32, tone: F32) -> None:
    """Draw triangles (n, 3) over vertices (m, 3) in the camera's frame.

    tints: (n,); lens: fx, fy, cx, cy; closed: the triangles are counter-clockwise from outside and leave no way to
    see their backs, so that those are skipped; screen: (m, 3) scratch; inverse, tone: (h, w), drawn into.
    """
    for i in range(camera.shape[0]):
        z = camera[i, 2]
        if z >= NEAR:
            inv = 1.0 / z
            screen[i, 0], screen[i, 1], screen[i, 2] = (
                lens[0] * camera[i, 0] * inv + lens[2],
                lens[1] * camera[i, 1] * inv + lens[3],
                inv,
            )
        else:
            screen[i, 2] = 0.0
    for f in range(faces.shape[0]):
        a, b, c = screen[faces[f, 0]], screen[faces[f, 1]], screen[faces[f, 2]]
        hidden = (a[2] == 0.0) + (b[2] == 0.0) + (c[2] == 0.0)
        if hidden == 0:
            # Rows run downwards: what is counter-clockwise to the eye has a negative area in pixels.
            if closed and (b[0] - a[0]) * (c[1] - a[1]) > (c[0] - a[0]) * (b[1] - a[1]):
                continue
            _triangle(a[0], a[1], a[2], b[0], b[1], b[2], c[0], c[1], c[2], tints[f], inverse, tone)
        elif hidden < 3:
            _clipped(camera, faces[f], lens, tints[f], inverse, tone)


@njit(cache=True, nogil=True, error_model="numpy")
def _depth(inverse: F32, out: F32) -> None:
    for v in range(inverse.shape[0]):
        for u in range(inverse.shape[1]):
            i = inverse[v, u]
            out[v, u] = np.float32(1.0) / i if i > 0.0 else np.float32(0.0)


class _Meshes:
    """Several meshes in one set of arrays; `owner` says which one's pose a vertex takes."""

    def __init__(self, meshes: list[tuple[F32, I32, tuple[float, float, float]]], closed: bool = False) -> None:
        starts = np.cumsum([0] + [len(vertices) for vertices, _, _ in meshes])
        self.vertices = np.concatenate([np.zeros((0, 3), np.float32)] + [v.astype(np.float32) for v, _, _ in meshes])
        self.faces = np.concatenate(
            [np.zeros((0, 3), np.int32)]
            + [f.astype(np.int32) + np.int32(s) for (_, f, _), s in zip(meshes, starts, strict=False)]
        )
        self.owner = np.repeat(np.arange(len(meshes)), np.diff(starts)).astype(np.int32)
        self.tints = np.repeat([luminance(t) for _, _, t in meshes], [len(f) for _, f, _ in meshes]).astype(np.float32)
        self.closed = closed
        self.camera = np.empty((len(self.vertices), 3))
        self.screen = np.empty((len(self.vertices), 3))


def luminance(colour: tuple[float, float, float]) -> float:
    """Reflectivity (0-1) of a colour, by the weights of ITU-R BT.601."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


class RasterRenderer:
    """Draws depth and reflectivity for one view; holds arrays only, so there is nothing to free."""

    name = "raster"

    def __init__(self, view: View, workcell: Workcell, arm: ArmSpec) -> None:
        self.view = view
        self._workcell = workcell
        self._linkage: Linkage = load_linkage(arm)
        self._shown = [i for i, f in enumerate(self._linkage.faces) if len(f)]
        self._to_camera: F64 = np.linalg.inv(view.pose).astype(np.float64)
        self._lens = np.array([view.fx, view.fy, view.cx, view.cy])
        size = (view.height, view.width)
        self._still = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._inverse, self._tone, self._metres = (np.zeros(size, np.float32) for _ in range(3))
        room = _Meshes(furniture(workcell))
        self._mesh(room, np.tile(np.eye(4), (len(room.owner), 1, 1)), *self._still)
        self._parts: tuple[str, ...] | None = None
        self._rigid = _Meshes([])
        self._people: dict[tuple[str, int], _Meshes] = {}

    def _mesh(self, mesh: _Meshes, poses: F64, inverse: F32, tone: F32) -> None:
        matrices = np.ascontiguousarray((self._to_camera @ poses)[:, :3])
        _to_camera(mesh.vertices, mesh.owner, matrices, mesh.camera)
        _fill(mesh.camera, mesh.faces, mesh.tints, self._lens, mesh.closed, mesh.screen, inverse, tone)

    def _gather(self, parts: list[PartPose]) -> None:
        """Links first, then parts."""
        meshes = [(self._linkage.vertices[i], self._linkage.faces[i], ARM_COLOUR) for i in self._shown]
        for part in parts:
            kind = self._workcell.parts[part.kind]
            vertices, faces = part_mesh(kind)
            meshes.append((vertices.astype(np.float32), faces.astype(np.int32), kind.colour))
        self._rigid = _Meshes(meshes)
        self._parts = tuple(part.name for part in parts)

    def draw(self, scene: Scene, colour: bool) -> Picture:
        """Draw the scene; the picture's arrays are drawn over by the next. Raises ValueError for a colour picture."""
        if colour:
            raise ValueError("the rasteriser draws depth only")
        if self._parts != tuple(part.name for part in scene.parts):
            self._gather(scene.parts)
        inverse, tone = self._inverse, self._tone
        inverse[:], tone[:] = self._still
        poses = self._linkage.poses(scene.q, scene.fingers)[self._shown]
        if scene.parts:
            poses = np.concatenate([poses, part_matrices(scene.parts)])
        self._mesh(self._rigid, poses, inverse, tone)
        for number, person in enumerate(scene.people):
            key = (person.body, number % len(CLOTHES))
            if key not in self._people:
                used, faces = drawn_faces(person.body)
                blank = np.zeros((len(used), 3), np.float32)
                self._people[key] = _Meshes([(blank, faces, CLOTHES[key[1]])], closed=True)
            mesh = self._people[key]
            mesh.vertices = posed(person.body, person.bones)
            self._mesh(mesh, _WORLD, inverse, tone)
        _depth(inverse, self._metres)
        return Picture(self._metres, tone, None)

    def close(self) -> None:
        """Idempotent; nothing to free."""
