"""Detection capability, measured: the smallest test cylinder that is never missed, by distance and set of cameras.

ISO 13855 ties the distance C that a person can intrude undetected to the detection capability d: C = 8 (d - 14 mm) up
to 40 mm, 850 mm up to 70 mm. A configuration may claim no smaller d than was measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception.background import Background
from perception.contract import CameraInfo, Frame
from perception.coverage import Arms, seen_in
from perception.view import CameraView, Capsules

F64 = NDArray[np.float64]
DIAMETERS = (0.014, 0.030, 0.040, 0.055, 0.070, 0.100)
LENGTH = 0.3
BINS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Edges of the classes of distance to the nearest camera that sees the place, m."""
SPEED = 1.6
"""Of a moving target, m/s."""
FRAMES = 5
"""Pictures of a target in one place, or on its way."""
END_ON = math.radians(30.0)
"""Least angle between a target's axis and the line of sight. A limb that points at the camera belongs to a body."""
AROUND = 0.3
"""A target and its way keep within this of its place: half its length, half of 4 steps at 1.6 m/s, its radius, m."""
ROOM = 0.06
"""Points this far from the target's surface are still its own: cells, noise, flying pixels, m."""
RATE = 30.0
"""Pictures a second."""


class Bench(Protocol):
    """Takes pictures of a target."""

    def frames(self, target: int | None, pose: tuple[float, ...]) -> list[Frame]: ...


class Tally(NamedTuple):
    """What became of one size in one class of distance."""

    diameter: float
    near: float
    far: float
    moving: bool
    pictures: int
    """Moments at which the target stood before the cameras."""
    missed: int
    """Moments at which no camera saw any of it."""


class Spot(NamedTuple):
    """A place for a target."""

    centre: F64
    """(3,), m."""
    distance: float
    """To the nearest camera that sees it, m."""
    sight: F64
    """(3,) direction from that camera, unit."""


def places(
    cameras: Sequence[CameraInfo], backgrounds: Sequence[Background], points: F64, volume: F64, arms: Arms
) -> list[Spot]:
    """Those of the points (m, 3) of which a camera sees all that is within `AROUND`, inside the volume (2, 3): a target
    there is cut off neither by the picture's edge nor by a fixture, the arm or the end of the space looked at."""
    corners = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], float)
    corners /= np.maximum(np.linalg.norm(corners, axis=1, keepdims=True), 1.0)
    points = points[((points - AROUND >= volume[0]) & (points + AROUND <= volume[1])).all(axis=1)]
    nearest = np.full(len(points), np.inf)
    sight = np.zeros_like(points)
    for camera, background in zip(cameras, backgrounds, strict=True):
        eye = np.asarray(camera.T_base_camera, float).reshape(4, 4)[:3, 3]
        seen = np.ones(len(points), bool)
        for corner in corners:
            where = np.flatnonzero(seen)
            seen[where] = seen_in(camera, background, arms, points[where] + AROUND * corner).all(axis=1)
        away = points - eye
        distance = np.linalg.norm(away, axis=1)
        better = seen & (distance < nearest)
        nearest[better], sight[better] = distance[better], (away / distance[:, None])[better]
    kept = np.flatnonzero(np.isfinite(nearest))
    return [Spot(points[n], float(nearest[n]), sight[n]) for n in kept]


def measure(
    bench: Bench,
    views: Sequence[CameraView],
    arm: Capsules,
    spots: Sequence[Spot],
    count: int,
    seed: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[Tally]:
    """Put each target into `count` random places of each class of distance, still and moving, and count what is
    missed. Classes in which there is no place are left out."""
    random = np.random.default_rng(seed)
    total = len(DIAMETERS) * (len(BINS) - 1) * 2
    done = 0
    for near, far in itertools.pairwise(BINS):
        here = [spot for spot in spots if near <= spot.distance < far]
        for target, diameter in enumerate(DIAMETERS):
            for moving in (False, True):
                done += 1
                progress(done / total)
                if here:
                    chosen = [here[n] for n in random.integers(len(here), size=count)]
                    yield _tally(bench, views, arm, chosen, target, diameter, near, far, moving, random)


def _tally(
    bench: Bench,
    views: Sequence[CameraView],
    arm: Capsules,
    chosen: Sequence[Spot],
    target: int,
    diameter: float,
    near: float,
    far: float,
    moving: bool,
    random: np.random.Generator,
) -> Tally:
    pictures = missed = 0
    for spot in chosen:
        turn = _turned(spot, random)
        # A target moves across its own axis, as an arm or a leg does.
        way = turn.apply([1.0, 0.0, 0.0]) * (SPEED / RATE if moving else 0.0)
        for n in range(FRAMES):
            centre = spot.centre + way * (n - (FRAMES - 1) / 2)
            pose = (*centre.tolist(), *turn.as_quat().tolist())
            pictures += 1
            missed += not _detected(bench.frames(target, pose), views, arm, centre, turn, diameter)
    return Tally(diameter, near, far, moving, pictures, missed)


def _turned(spot: Spot, random: np.random.Generator) -> Rotation:
    """Any direction, but for one in which the nearest camera sees little more than the target's end."""
    while True:
        turn = Rotation.random(random_state=random)
        if abs(float(turn.apply([0.0, 0.0, 1.0]) @ spot.sight)) <= math.cos(END_ON):
            return turn


def _detected(
    frames: list[Frame], views: Sequence[CameraView], arm: Capsules, centre: F64, turn: Rotation, diameter: float
) -> bool:
    by_name = {view.info.name: view for view in views}
    for frame in frames:
        points = by_name[frame.camera].process(frame, arm, []).points.astype(float)
        local = turn.inv().apply(points - centre) if len(points) else np.zeros((0, 3))
        across = np.hypot(local[:, 0], local[:, 1]) if len(local) else np.zeros(0)
        if ((across < diameter / 2 + ROOM) & (np.abs(local[:, 2]) < LENGTH / 2 + ROOM)).any():
            return True
    return False


def capability(tallies: Sequence[Tally], near: float, far: float) -> float:
    """Smallest diameter such that neither it nor any larger one was ever missed in a class of distance, m; inf if the
    largest was missed, NaN if nothing was measured there."""
    best = math.nan
    for diameter in sorted(DIAMETERS, reverse=True):
        here = [t for t in tallies if t.diameter == diameter and t.near == near and t.far == far]
        if not here:
            continue
        if any(t.missed for t in here):
            return best if not math.isnan(best) else math.inf
        best = diameter
    return best
