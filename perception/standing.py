"""Where targets of the detection statistics are put, and the layer over surfaces in which nothing can be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception.background import Background
from perception.capability import Spot
from perception.contract import CameraInfo
from perception.coverage import Arms, seen_in
from perception.detection import HAND, LIMB, NEAR, Place
from robots.workcell import Fixture, Workcell

F64 = NDArray[np.float64]
ROOM = 0.35
"""People keep this far from fixtures and from the edge of the space for people, m."""
BEHIND = 0.30
"""How far behind the guard somebody stands whose arm reaches through it, m."""
STEP = 0.01
"""Between heights that are looked at, m."""
HIGHEST = 0.60
"""Layers thicker than this are not told apart from places no camera sees, m."""


def place(target: str, workcell: Workcell, spots: Sequence[Spot], random: np.random.Generator) -> Place:
    """A random place for a target. `spots`: for limbs and hands, as `perception.capability.places` gives them.

    Raises ValueError if there is none."""
    if target in (LIMB, HAND):
        return _piece(target, spots, random)
    lower, upper = (np.asarray(corner, float) for corner in workcell.person_volume)
    start = float(random.random())
    if target == "arm_through_gap":
        side = 1.0 if random.random() < 0.5 else -1.0
        y = (upper[1] + BEHIND) if side > 0 else (lower[1] - BEHIND)
        x = float(random.uniform(lower[0] + ROOM, upper[0] - ROOM))
        return Place((x, float(y), workcell.floor), _upright(-side * math.pi / 2), start)
    for _ in range(1000):
        x, y = (float(random.uniform(lower[i] + ROOM, upper[i] - ROOM)) for i in (0, 1))
        if not any(_over(fixture, x, y, ROOM) for fixture in workcell.fixtures if fixture.visible):
            return Place((x, y, workcell.floor), _upright(float(random.uniform(-math.pi, math.pi))), start)
    raise ValueError("the space for people has no room for anybody")


def _piece(target: str, spots: Sequence[Spot], random: np.random.Generator) -> Place:
    near = [spot for spot in spots if spot.distance <= NEAR] if target == HAND else list(spots)
    if not near:
        raise ValueError("no camera sees a place for limbs or hands")
    spot = near[int(random.integers(len(near)))]
    x, y, z, w = Rotation.random(random_state=random).as_quat().tolist()
    a, b, c = spot.centre.tolist()
    return Place((a, b, c), (x, y, z, w), 0.0)


def _upright(yaw: float) -> tuple[float, float, float, float]:
    return 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)


def _over(fixture: Fixture, x: float, y: float, room: float) -> bool:
    """Is (x, y) over a fixture, or nearer to it than `room`? Turned fixtures count as their diagonal."""
    size, pose = fixture.size, fixture.pose
    half = (size[0] / 2, size[1] / 2) if not any(pose.rpy) else (math.hypot(*size) / 2,) * 2
    return all(abs(at - centre) <= h + room for at, centre, h in zip((x, y), pose.position, half, strict=False))


class Layer(NamedTuple):
    """Thickness of the layer over floor and fixtures in which nothing can be told."""

    lower: tuple[float, float]
    """Corner of the map, m."""
    cell: float
    surface: F64
    """(nx, ny) height of the topmost surface, m."""
    thickness: F64
    """(nx, ny) m; inf: no camera sees anything up to `HIGHEST` over it."""


def layer(
    cameras: Sequence[CameraInfo], backgrounds: Sequence[Background], workcell: Workcell, arms: Arms, cell: float
) -> Layer:
    """From which height over the topmost surface on every camera set sees an object: the least h from which on all
    of h to h + 50 mm is seen, arm in its one pose of `arms`."""
    lower, upper = (np.asarray(corner, float) for corner in workcell.person_volume)
    xs, ys = (np.arange(lower[i] + cell / 2, upper[i], cell) for i in (0, 1))
    surface = np.full((len(xs), len(ys)), workcell.floor)
    for fixture in workcell.fixtures:
        if fixture.visible:
            top = fixture.pose.position[2] + fixture.size[2] / 2
            over = np.array([[_over(fixture, float(x), float(y), 0.0) for y in ys] for x in xs])
            surface[over] = np.maximum(surface[over], top)
    heights = np.arange(STEP, HIGHEST + 0.05 + STEP / 2, STEP)
    grid = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1)
    points = np.empty((*grid.shape[:2], len(heights), 3))
    points[..., :2] = grid[:, :, None]
    points[..., 2] = surface[:, :, None] + heights
    flat = points.reshape(-1, 3)
    seen = np.zeros(len(flat), bool)
    for camera, background in zip(cameras, backgrounds, strict=True):
        seen |= seen_in(camera, background, arms, flat)[:, 0]
    tops = seen.reshape(points.shape[:3])
    row = round(0.05 / STEP)
    count = tops.shape[2] - row + 1
    lasting = np.all([tops[:, :, n : n + count] for n in range(row)], axis=0)
    first = lasting.argmax(axis=2)
    thickness = np.where(lasting.any(axis=2), heights[first], math.inf)
    return Layer((float(lower[0]), float(lower[1])), cell, surface, thickness)


def layer_figures(found: Layer, intrusion: float) -> dict[str, float]:
    """Median and 95th percentile of the layer where it ends, m; shares of the surface where it is thicker than the
    intrusion distance C, and where nothing is seen at all."""
    ends = found.thickness[np.isfinite(found.thickness)]
    return {
        "median_m": round(float(np.median(ends)), 3) if len(ends) else math.inf,
        "p95_m": round(float(np.percentile(ends, 95)), 3) if len(ends) else math.inf,
        "thickest_m": round(float(ends.max()), 3) if len(ends) else math.inf,
        "share_thicker_than_C": round(float((ends > intrusion).sum() / found.thickness.size), 4),
        "share_not_seen": round(float(np.isinf(found.thickness).mean()), 4),
    }
