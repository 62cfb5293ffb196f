"""Which part of the cell the cameras see: fixtures and the arm in its work stand in the way. Base frame, m.

A point is *seen* by a camera that would tell a target there from the background: inside its picture and range, nothing
solid or the arm before it, and nearer than the background by the tolerance that background subtraction keeps
(`build_background`). The layer in which that fails, along walls, floor and table, is part of what is blind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from perception.background import Background, box_transforms, build_background
from perception.config import Mount, PerceptionConfig
from perception.contract import CameraInfo
from robots.workcell import Workcell

F64 = NDArray[np.float64]
B = NDArray[np.bool_]
BEHIND = 0.01
"""A line of sight that comes this close to a link's capsule is blocked, m."""
LEAST_ACROSS = 3
"""Pixels a target must cover in each direction: a pixel and the neighbours that support it."""
HEIGHTS = (1.3, 1.7, 2.1)
"""Heights above the floor at which one more camera is tried, m."""
CANDIDATE_STEP = 0.5
"""Between places that are tried, along the walls of the volume, m."""


class Arms(NamedTuple):
    """Capsules of the arm in some poses of its work."""

    a: F64
    """(poses, n, 3)."""
    b: F64
    r: F64
    """(n,)."""


class Coverage(NamedTuple):
    """What a set of cameras sees."""

    points: F64
    """(n, 3) centres of the cells in which a person could be."""
    cell: float
    """Edge of a cell."""
    share: F64
    """(cameras, n): share of the arm's poses in which each camera sees the cell."""
    together: F64
    """(n,) share of the poses in which at least one does."""
    smallest: F64
    """(n,) the smallest target that the best camera can tell there, m across; inf where none ever sees."""

    @property
    def always(self) -> B:
        """(n,) seen in every pose, by one camera or another."""
        return np.asarray(self.together >= 1.0)

    @property
    def never(self) -> B:
        """(n,) seen by no camera in any pose."""
        return np.asarray(self.together <= 0.0)

    def volume(self, chosen: B) -> float:
        """Volume of chosen cells, m^3."""
        return float(chosen.sum()) * self.cell**3


class Gap(NamedTuple):
    """How well the way from an open side to the arm is watched."""

    entry: str
    seen: float
    """Share of the straight ways that is seen in every pose."""
    longest: float
    """Longest unseen stretch on any of them, m."""


class Candidate(NamedTuple):
    """A place for one more camera."""

    position: tuple[float, float, float]
    look_at: tuple[float, float, float]
    gain: float
    """Volume it sees in every pose that no other camera does, m^3."""


def grid(workcell: Workcell, cell: float) -> F64:
    """(n, 3) centres of the cells of the person volume that are not inside a fixture."""
    lower, upper = (np.array(v, float) for v in workcell.person_volume)
    axes = [np.arange(lo + cell / 2, hi, cell) for lo, hi in zip(lower, upper, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    T, half = box_transforms(list(workcell.fixtures))
    free = np.ones(len(points), bool)
    for into, size in zip(T, half, strict=True):
        local = points @ into[:3, :3].T + into[:3, 3]
        free &= (np.abs(local) > size).any(axis=1)
    return np.ascontiguousarray(points[free])


def coverage(
    cameras: Sequence[CameraInfo], workcell: Workcell, config: PerceptionConfig, arms: Arms, cell: float = 0.1
) -> Coverage:
    """Return what the cameras see of the volume in which people can be. Raises ValueError without a camera or pose."""
    if not cameras or not len(arms.a):
        raise ValueError("coverage needs a camera and a pose of the arm")
    points = grid(workcell, cell)
    share = np.zeros((len(cameras), len(points)))
    anyone = np.zeros((len(points), len(arms.a)), bool)
    smallest = np.full(len(points), np.inf)
    for n, camera in enumerate(cameras):
        seen = seen_in(camera, build_background(camera, workcell, config), arms, points)
        share[n] = seen.mean(axis=1)
        anyone |= seen
        across = detectable(camera, points)
        smallest = np.where(share[n] > 0.0, np.minimum(smallest, across), smallest)
    return Coverage(points, cell, share, anyone.mean(axis=1), smallest)


def seen_in(camera: CameraInfo, background: Background, arms: Arms, points: F64) -> B:
    """(n, poses) whether the camera sees each point in each pose of the arm."""
    T = np.asarray(camera.T_base_camera, float).reshape(4, 4)
    local = (points - T[:3, 3]) @ T[:3, :3]
    k, z = camera.intrinsics, local[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.rint(local[:, 0] / z * k.fx + k.cx)
        v = np.rint(local[:, 1] / z * k.fy + k.cy)
    inside = (z >= camera.depth_min) & (z <= camera.depth_max) & (u >= 0) & (u < k.width) & (v >= 0) & (v < k.height)
    where = np.flatnonzero(inside)
    near = background.near[v[where].astype(int), u[where].astype(int)] / 1000.0
    where = where[z[where] < near]
    seen = np.zeros((len(points), len(arms.a)), bool)
    seen[where] = _unblocked(T[:3, 3].copy(), np.ascontiguousarray(points[where]), arms.a, arms.b, arms.r + BEHIND)
    return seen


def detectable(camera: CameraInfo, points: F64) -> F64:
    """(n,) width of a target that covers `LEAST_ACROSS` pixels at each point, m."""
    T = np.asarray(camera.T_base_camera, float).reshape(4, 4)
    z = ((points - T[:3, 3]) @ T[:3, :3])[:, 2]
    return np.asarray(LEAST_ACROSS * np.maximum(z, 0.0) / min(camera.intrinsics.fx, camera.intrinsics.fy))


@njit(cache=True, nogil=True)
def _unblocked(eye: F64, points: F64, a: F64, b: F64, r: F64) -> B:
    """(n, poses) whether no capsule comes between the eye and each point."""
    poses, links = a.shape[0], a.shape[1]
    out = np.ones((len(points), poses), np.bool_)
    for i in range(len(points)):
        for k in range(poses):
            for j in range(links):
                if _apart(eye, points[i], a[k, j], b[k, j]) < r[j]:
                    out[i, k] = False
                    break
    return out


@njit(cache=True, nogil=True)
def _apart(p: F64, q: F64, a: F64, b: F64) -> float:
    """Distance of two segments p-q and a-b, m: the parameters of the nearest points, clamped one after the other."""
    d1, d2, w = q - p, b - a, p - a
    n1, n2 = np.dot(d1, d1), np.dot(d2, d2)
    c, f, e = np.dot(d1, w), np.dot(d2, w), np.dot(d1, d2)
    s = 0.0
    if n1 > 1e-15:
        denominator = n1 * n2 - e * e
        if denominator > 1e-12 * n1 * max(n2, 1e-15):
            s = min(1.0, max(0.0, (e * f - c * n2) / denominator))
        t = (e * s + f) / n2 if n2 > 1e-15 else 0.0
        if t < 0.0 or t > 1.0 or n2 <= 1e-15:
            t = min(1.0, max(0.0, t))
            s = min(1.0, max(0.0, (e * t - c) / n1))
    else:
        t = min(1.0, max(0.0, f / n2)) if n2 > 1e-15 else 0.0
    gap = w + s * d1 - t * d2
    return math.sqrt(np.dot(gap, gap))


# ---------------------------------------------------------------- ways in, and one more camera


def approaches(found: Coverage, workcell: Workcell, target: F64) -> list[Gap]:
    """How well straight ways from each open side to `target` (3,) are watched, in steps of a cell."""
    lower, upper = (np.array(v, float) for v in workcell.person_volume)
    lookup = {tuple(key): seen for key, seen in zip(_keys(found.points, lower, found.cell), found.always, strict=True)}
    gaps = []
    for entry in workcell.entries:
        axis, side = "xyz".index(entry[0]), entry.endswith("max")
        starts = _face(lower, upper, axis, side, found.cell)
        seen = total = 0
        longest = 0.0
        for start in starts:
            count = max(2, math.ceil(float(np.linalg.norm(target - start)) / found.cell))
            way = start + np.linspace(0.0, 1.0, count)[:, None] * (target - start)
            step = float(np.linalg.norm(target - start)) / (count - 1)
            run = 0
            for key in _keys(way, lower, found.cell):
                state = lookup.get(tuple(key))
                if state is None:  # inside a fixture: nobody walks there
                    run = 0
                    continue
                total += 1
                seen += bool(state)
                run = 0 if state else run + 1
                longest = max(longest, run * step)
        gaps.append(Gap(entry, seen / total if total else 0.0, longest))
    return gaps


def _keys(points: F64, lower: F64, cell: float) -> NDArray[np.int64]:
    return np.floor((points - lower) / cell + 1e-9).astype(np.int64)


def _face(lower: F64, upper: F64, axis: int, side: bool, cell: float) -> F64:
    """Points on a face of the volume, two cells apart."""
    axes = [np.arange(lo + cell / 2, hi, 2 * cell) for lo, hi in zip(lower, upper, strict=True)]
    axes[axis] = np.array([upper[axis] - cell / 2 if side else lower[axis] + cell / 2])
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def best_addition(
    found: Coverage, like: CameraInfo, workcell: Workcell, config: PerceptionConfig, arms: Arms
) -> Candidate | None:
    """Where one more camera like `like` would see most of what no camera sees in every pose; None if nothing is left.

    Tried along the sides of the volume, at `HEIGHTS` above the floor, looking at the middle of what is not seen and at
    the middle of the volume.
    """
    dark = np.flatnonzero(~found.always)
    if not len(dark):
        return None
    lower, upper = (np.array(v, float) for v in workcell.person_volume)
    aims = [found.points[dark].mean(axis=0), 0.5 * (lower + upper)]
    best: Candidate | None = None
    for place in _places(lower, upper, workcell.floor):
        for aim in aims:
            if float(np.linalg.norm((place - aim)[:2])) < 0.2:
                continue
            position, look_at = _triple(place), _triple(aim)
            pose = Mount(position=position, look_at=look_at).T_base_camera()
            camera = CameraInfo(
                "one more", like.model, like.intrinsics, like.rate, tuple(pose.ravel().tolist()),
                like.noise_coefficient, like.depth_min, like.depth_max,
            )  # fmt: skip
            seen = seen_in(camera, build_background(camera, workcell, config), arms, found.points[dark])
            gain = float(seen.all(axis=1).sum()) * found.cell**3
            if best is None or gain > best.gain:
                best = Candidate(position, look_at, gain)
    return best


def _places(lower: F64, upper: F64, floor: float) -> list[F64]:
    xs = np.arange(lower[0], upper[0] + 1e-9, CANDIDATE_STEP)
    ys = np.arange(lower[1], upper[1] + 1e-9, CANDIDATE_STEP)
    rim = [(x, y) for x in xs for y in (lower[1], upper[1])] + [(x, y) for x in (lower[0], upper[0]) for y in ys[1:-1]]
    return [np.array((x, y, floor + height)) for x, y in rim for height in HEIGHTS]


def _triple(v: F64) -> tuple[float, float, float]:
    return round(float(v[0]), 3), round(float(v[1]), 3), round(float(v[2]), 3)
