"""Detection statistics: are people and parts of people ever overlooked, and is a distance ever reported too large?

A bench (the twin) takes pictures of a target and tells the truth pixel by pixel. Only what perception promises is asked
for: parts of the target that a camera looks at, inside the volume for people, and in front of the static background by
the tolerance that background subtraction keeps. Of these the nearest to the arm is the true separation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception.contract import CameraInfo, ExpectedPart, Frame
from perception.kernels import PERSON
from perception.view import CameraView, Capsules

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
B = NDArray[np.bool_]
BODIES = ("standing", "walking", "crouching", "crawling", "lying", "dark", "arm_through_gap")
"""Whole people; of `arm_through_gap` only the arm is inside the volume for people."""
LIMB, HAND = "limb_70", "hand"
TARGETS = (*BODIES, LIMB, HAND)
LIMB_SIZE = (0.070, 0.300)
"""Diameter and length, m."""
HAND_SIZE = (0.100, 0.080, 0.030)
"""Edges, m."""
NEAR = 2.5
"""Up to this range hands are asked for, m."""
LEAST_AREA = {LIMB: 0.5 * 0.070 * 0.300, HAND: 0.5 * 0.100 * 0.080}
"""Least area of the target, seen squarely, that must be visible in front of the background for it to be due, m^2."""
LEAST_BODY = 0.070 * 0.300
"""The same for people: as much as a 70 mm limb."""
PIXELS = 2.0
"""A surface's nearest point may lie this many pixels from the nearest that is told (support by neighbours, holes)."""
FRAMES = 6
"""Pictures of a target one after the other, at the cameras' rate."""
RATE = 30.0


class Shot(NamedTuple):
    """A picture and the truth behind it."""

    frame: Frame
    depth: F32
    """(h, w) true depth along the optical axis, m; 0 where nothing is."""
    target: B
    """(h, w) pixels whose nearest surface is the target's."""


class Place(NamedTuple):
    """Where a target is."""

    position: tuple[float, float, float]
    """Of people the point of the floor they stand on, otherwise the centre; base frame, m."""
    turn: tuple[float, float, float, float]
    """Quaternion x y z w. Of people only the rotation about the vertical counts."""
    start: float
    """Where in a recorded motion the first picture is taken, 0 to 1."""


class Bench(Protocol):
    """Takes pictures of targets."""

    def shots(self, target: str, place: Place, moment: int, seed: int) -> list[Shot]: ...

    def empty(self, q: Sequence[float], fingers: float, count: int, seed: int) -> list[list[Frame]]: ...


class Moment(NamedTuple):
    """What became of one target at one moment."""

    due: bool
    """Some camera saw enough of it in front of the background."""
    found: bool
    range: float
    """Least range of the parts that could be told, m; inf if there was none."""
    excess: float
    """Reported separation from the arm less the true one, m; NaN if nothing was found or due."""
    allowed: float
    """Noise and bias at the range of the nearest part, m."""


class Tally(NamedTuple):
    """What became of one target in one class of range."""

    target: str
    near: bool
    """Not farther than `NEAR`."""
    frames: int
    """Moments at which it was due."""
    missed: int
    longest: int
    """Most missed moments in a row."""
    excess: float
    """Largest reported less true separation, m; NaN if there was none."""
    beyond: int
    """Moments at which the excess was larger than noise and bias at that range."""
    margin: float
    """Largest excess less what noise and bias allow at its range, m; <= 0: always covered."""


def z_d(info: CameraInfo, sigmas: float, reach: float) -> tuple[float, float]:
    """Noise and bias of a depth camera at a range (m), m: `sigmas` standard deviations; `PIXELS` pixels sideways and
    1 mm rounding. The calibration's error comes on top on a real cell; in the twin it is nothing."""
    return sigmas * info.noise_coefficient * reach**2, PIXELS * reach / min(
        info.intrinsics.fx, info.intrinsics.fy
    ) + 0.001


@njit(cache=True, nogil=True)
def _nearest(points: F64, a: F64, b: F64, r: F64) -> tuple[float, int]:
    """Least distance of points (n, 3) to capsules, m, and which point it is; inf and -1 without points."""
    best, which = np.inf, -1
    for i in range(points.shape[0]):
        for k in range(r.shape[0]):
            ux, uy, uz = b[k, 0] - a[k, 0], b[k, 1] - a[k, 1], b[k, 2] - a[k, 2]
            wx, wy, wz = points[i, 0] - a[k, 0], points[i, 1] - a[k, 1], points[i, 2] - a[k, 2]
            square = ux * ux + uy * uy + uz * uz
            s = min(1.0, max(0.0, (wx * ux + wy * uy + wz * uz) / square)) if square > 0.0 else 0.0
            dx, dy, dz = wx - s * ux, wy - s * uy, wz - s * uz
            distance = np.sqrt(dx * dx + dy * dy + dz * dz) - r[k]
            if distance < best:
                best, which = distance, i
    return best, which


def separation(points: NDArray[np.floating], arm: Capsules) -> tuple[float, int]:
    """Least distance (m) of points (n, 3) to the arm, negative inside, and the index of that point."""
    near, which = _nearest(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(arm.a, np.float64),
        np.ascontiguousarray(arm.b, np.float64),
        np.ascontiguousarray(arm.r, np.float64),
    )
    return float(near), int(which)


class Judge:
    """Holds perception's answer to the pictures of one moment against the truth."""

    def __init__(self, views: Sequence[CameraView], arm: Capsules, volume: F64, sigmas: float, cell: float) -> None:
        """`volume`: (2, 3) corners of the space for people, m; `cell`: edge of the cells points are merged into, m."""
        self._views = {view.info.name: view for view in views}
        self._arm, self._volume, self._sigmas = arm, volume, sigmas
        self._half = 0.5 * math.sqrt(3.0) * cell

    def told(self, shot: Shot) -> tuple[B, F64]:
        """(h, w) pixels of the target that must be told, and their points (n, 3) in the base frame, m."""
        view = self._views[shot.frame.camera]
        background = view.background
        told = shot.target & (shot.depth > 0.0) & (shot.depth * np.float32(1000.0) < background.near)
        v, u = np.nonzero(told)
        z = shot.depth[v, u].astype(np.float64)
        T = np.asarray(view.info.T_base_camera, float).reshape(4, 4)
        local = np.stack([background.ray_x[u] * z, background.ray_y[v] * z, z], axis=1)
        points = local @ T[:3, :3].T + T[:3, 3]
        inside = ((points >= self._volume[0]) & (points <= self._volume[1])).all(axis=1)
        told[v[~inside], u[~inside]] = False
        return told, points[inside]

    def moment(self, target: str, shots: Sequence[Shot]) -> Moment:
        """Judge the pictures that all cameras took at one moment."""
        least = LEAST_AREA.get(target, LEAST_BODY)
        due = found = False
        reach = true = reported = math.inf
        allowed = 0.0
        for shot in shots:
            view = self._views[shot.frame.camera]
            k = view.info.intrinsics
            mask, points = self.told(shot)
            seen = view.process(shot.frame, self._arm, [])
            found |= bool((view.label[shot.target] == PERSON).any())
            if len(seen.points):
                reported = min(reported, separation(seen.points, self._arm)[0] - self._half)
            if not len(points):
                continue
            due |= float((shot.depth[mask].astype(np.float64) ** 2).sum()) / (k.fx * k.fy) >= least
            eye = np.asarray(view.info.T_base_camera, float).reshape(4, 4)[:3, 3]
            reach = min(reach, float(np.median(np.linalg.norm(points - eye, axis=1))))
            near, which = separation(points, self._arm)
            if near < true:
                true = near
                allowed = sum(z_d(view.info, self._sigmas, float(np.linalg.norm(points[which] - eye))))
        excess = reported - true if due and found else math.nan
        return Moment(due, found, reach, excess, allowed)


def tally(target: str, near: bool, runs: Sequence[Sequence[Moment]]) -> Tally:
    """Add up runs of successive moments of one target, those of one class of range."""
    frames = missed = longest = beyond = 0
    worst, margin = math.nan, -math.inf
    for run in runs:
        row = 0
        for moment in run:
            if not moment.due or (moment.range <= NEAR) != near:
                row = 0
                continue
            frames += 1
            row = 0 if moment.found else row + 1
            missed += not moment.found
            longest = max(longest, row)
            if not math.isnan(moment.excess):
                worst = moment.excess if math.isnan(worst) else max(worst, moment.excess)
                beyond += moment.excess > moment.allowed
                margin = max(margin, moment.excess - moment.allowed)
    return Tally(target, near, frames, missed, longest, worst, beyond, margin)


def holds(tallies: Sequence[Tally]) -> list[str]:
    """What of the promise does not hold, in words; empty if all does. Bodies and 70 mm limbs are never missed; hands
    up to `NEAR` at most once in a row; no separation is reported larger than noise and bias allow."""
    found = []
    for t in tallies:
        where = f"{t.target} {'up to' if t.near else 'beyond'} {NEAR:g} m"
        if t.target == HAND:
            if t.near and t.longest > 1:
                found.append(f"{where}: missed {t.longest} frames in a row")
        elif t.missed:
            found.append(f"{where}: missed in {t.missed} of {t.frames} frames")
        if t.beyond:
            found.append(f"{where}: separation too large by {1000.0 * t.margin:.0f} mm beyond Z_d in {t.beyond} frames")
    if not any(t.frames for t in tallies):
        found.append("no target was due in any frame: nothing was measured")
    return found


class Quiet(NamedTuple):
    """What was seen of an empty cell."""

    moments: int
    pictures: int
    false: int
    """Pictures in which something was taken for a person."""
    cells: int
    """Most cells in one of them."""
    nearest: float
    """Least distance of any of them from the arm, m; inf if there was none."""


def quiet(
    bench: Bench, views: Sequence[CameraView], poses: F64, model_capsules: Sequence[Capsules], count: int,
    parts: list[ExpectedPart], seed: int,
) -> Quiet:  # fmt: skip
    """Noise over the true depth of a cell without people: `count` moments for each arm pose (n, joints)."""
    by_name = {view.info.name: view for view in views}
    moments = pictures = false = most = 0
    nearest = math.inf
    for n, (q, arm) in enumerate(zip(poses, model_capsules, strict=True)):
        for frames in bench.empty(q.tolist(), 0.08, count, seed * 1_000_003 + n):
            moments += 1
            for frame in frames:
                pictures += 1
                points = by_name[frame.camera].process(frame, arm, parts).points
                if len(points):
                    false += 1
                    most = max(most, len(points))
                    nearest = min(nearest, separation(points, arm)[0])
    return Quiet(moments, pictures, false, most, nearest)
