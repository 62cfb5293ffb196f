"""The empty cell as a camera measures it, against the empty cell as the cell file describes it.

The background that perception uses is cast from the fixtures of the cell file and stays so: a measured one would take
whoever stands there for a wall. What is measured is compared, and differences are reported as fixtures that are missing
in the file, gone, or moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from perception import kernels
from perception.background import box_transforms, rays
from perception.calibration.board import CalibrationError
from perception.config import PerceptionConfig
from perception.contract import CameraInfo
from perception.view import Capsules
from robots.workcell import Workcell

F64 = NDArray[np.float64]
U16 = NDArray[np.uint16]
LEAST_FRAMES = 10
LEAST_VALID = 0.5
"""Share of the frames in which a pixel must have been measured, and share of all pixels that must have been."""
STILL = 3.0
"""A pixel moves if it varies by more than this many standard deviations of its noise."""
MOST_MOVING = 0.02
"""Share of the pixels; more, and somebody was in the picture."""
LEAST_AREA = 0.0016
"""A difference smaller than 40 x 40 mm is not reported, m^2."""
LEAST_PIXELS = 12
NEIGHBOURS = 5
"""Edges are compared within so many pixels: stereo widens the nearer surface."""
ARM_MARGIN = 0.05
"""m round the links."""
SAME_PLACE = 0.6
"""A surface that is gone and one that is new belong together within this, m."""
NOTHING, FLOOR = -2, -1
SAME, NEARER, DEEPER, UNKNOWN = 0, 1, 2, 3


class Recorded(NamedTuple):
    """What the camera measured over some seconds."""

    depth: F64
    """(h, w) median, m; NaN: unknown."""
    sd: F64
    """(h, w) standard deviation, m."""
    frames: int


class Difference(NamedTuple):
    """A patch of the picture that does not fit the cell file."""

    kind: str
    """`extra`: nearer than anything the file has there; `gone`: deeper than the fixture the file has there."""
    fixture: str
    """Whose surface is gone, or behind what is extra: a fixture's name, `floor`, or empty."""
    centre: tuple[float, float, float]
    """Base frame, m; of what was measured (`extra`) or expected (`gone`)."""
    extent: tuple[float, float, float]
    off: float
    """Median difference along the line of sight, m."""
    pixels: int
    moved: str
    """Name of the fixture whose surface this probably is, now elsewhere; empty if none."""


class Comparison(NamedTuple):
    """Result of `compare`."""

    expected: F64
    """(h, w) depth by the cell file, m; NaN: nothing in range."""
    mask: NDArray[np.uint8]
    """(h, w) SAME, NEARER, DEEPER or UNKNOWN; only in the volume in which people are looked for."""
    differences: list[Difference]
    unknown: float
    """Share of the static surfaces in the volume that were not measured."""
    noise_coefficient: float
    """Median of sd / depth^2 as measured, 1/m; the camera's description has what is assumed."""


def record(frames: Sequence[U16]) -> Recorded:
    """Take the median of depth pictures (h, w), mm, of the empty cell. Raises CalibrationError: too few, of different
    size, mostly unknown, something moved."""
    if len(frames) < LEAST_FRAMES:
        raise CalibrationError(f"{len(frames)} depth pictures: at least {LEAST_FRAMES} are needed")
    shapes = {(frame.shape, str(frame.dtype)) for frame in frames}
    if len(shapes) != 1 or next(iter(shapes))[1] != "uint16" or frames[0].ndim != 2 or min(frames[0].shape) < 16:
        raise CalibrationError("the depth pictures are not all of one size and in whole millimetres")
    stack = np.stack(frames).astype(np.float64) / 1000.0
    stack[(stack <= 0.0) | (stack >= 65.535)] = np.nan
    often = np.isfinite(stack).mean(0) >= LEAST_VALID
    if often.mean() < LEAST_VALID:
        raise CalibrationError(f"only {often.mean():.0%} of the picture has depth: is the camera covered or too near?")
    depth, sd = np.full(often.shape, np.nan), np.full(often.shape, np.nan)
    depth[often] = np.nanmedian(stack[:, often], axis=0)
    sd[often] = np.nanstd(stack[:, often], axis=0, ddof=1)
    return Recorded(depth, sd, len(frames))


def compare(
    info: CameraInfo, workcell: Workcell, config: PerceptionConfig, recorded: Recorded, arm: Capsules
) -> Comparison:
    """Compare with the cell file. `arm`: capsules of the arm as it stood. Raises CalibrationError: wrong size, or
    somebody moved in the picture."""
    i = info.intrinsics
    if recorded.depth.shape != (i.height, i.width):
        have = f"{recorded.depth.shape[1]} x {recorded.depth.shape[0]}"
        raise CalibrationError(f"the pictures are {have} px, camera {info.name} is set to {i.width} x {i.height}")
    T = np.asarray(info.T_base_camera, float).reshape(4, 4)
    ray_x, ray_y = rays(i)
    direction = np.stack([*np.meshgrid(ray_x.astype(float), ray_y.astype(float)), np.ones((i.height, i.width))], -1)
    expected, owner = _cast(info, workcell)
    known = np.isfinite(recorded.depth)
    _still(info, recorded, known)
    there = (direction * np.where(known, recorded.depth, 0.0)[..., None]) @ T[:3, :3].T + T[:3, 3]
    wanted = (direction * expected[..., None]) @ T[:3, :3].T + T[:3, 3]
    lower, upper = (np.asarray(corner, float) for corner in workcell.person_volume)
    in_range = known & (recorded.depth >= info.depth_min) & (recorded.depth <= info.depth_max)
    is_arm = known & _near_arm(there, arm)
    nearest = ndimage.minimum_filter(expected, NEIGHBOURS, mode="nearest")
    farthest = ndimage.maximum_filter(expected, NEIGHBOURS, mode="nearest")
    measured = np.where(known, recorded.depth, np.inf)
    tolerance = config.sigmas * info.noise_coefficient * nearest**2 + config.background_margin
    nearer = in_range & ~is_arm & _inside(there, lower, upper) & (measured < nearest - tolerance)
    static = (owner != NOTHING) & _inside(wanted, lower - 0.01, upper + 0.01)
    beyond = config.sigmas * info.noise_coefficient * farthest**2 + config.background_margin
    deeper = known & static & (measured > farthest + beyond)
    mask = np.zeros(known.shape, np.uint8)
    mask[static & ~known] = UNKNOWN
    mask[deeper], mask[nearer] = DEEPER, NEARER
    names = [fixture.name for fixture in workcell.fixtures if fixture.visible]
    found = _patches(info, mask == NEARER, "extra", there, measured - expected, owner, names, measured)
    found += _patches(info, mask == DEEPER, "gone", wanted, measured - expected, owner, names, expected)
    flat = known & static & (mask == SAME)
    coefficient = float(np.median(recorded.sd[flat] / recorded.depth[flat] ** 2)) if flat.any() else math.nan
    unknown = float((static & ~known).sum() / max(1, int(static.sum())))
    shown = np.where(owner == NOTHING, np.nan, expected)
    return Comparison(shown, mask, _paired(found), unknown, coefficient)


def _still(info: CameraInfo, recorded: Recorded, known: NDArray[np.bool_]) -> None:
    """Raise CalibrationError if too much of the picture varied."""
    allowed = STILL * info.noise_coefficient * recorded.depth**2 + 0.005
    # Edges flicker between two surfaces; a person is a patch.
    moving = ndimage.binary_opening(known & (recorded.sd > allowed), np.ones((3, 3), bool))
    if moving.mean() > MOST_MOVING:
        raise CalibrationError(
            f"{moving.mean():.1%} of the picture varied while it was recorded: the cell must be empty and at rest"
        )


def _cast(info: CameraInfo, workcell: Workcell) -> tuple[F64, NDArray[np.int32]]:
    """Depth (h, w) by the cell file, and whose surface it is: a visible fixture's number, FLOOR or NOTHING."""
    T = np.asarray(info.T_base_camera, float).reshape(4, 4)
    ray_x, ray_y = rays(info.intrinsics)
    far = info.depth_max
    shape = (info.intrinsics.height, info.intrinsics.width)
    boxes, half = box_transforms([fixture for fixture in workcell.fixtures if fixture.visible])
    best = np.empty(shape, np.float32)
    kernels.raycast_boxes(ray_x, ray_y, T, boxes[:0], half[:0], workcell.floor, far, best)
    owner = np.where(best < far, FLOOR, NOTHING).astype(np.int32)
    alone = np.empty(shape, np.float32)
    for n in range(len(half)):
        kernels.raycast_boxes(ray_x, ray_y, T, boxes[n : n + 1], half[n : n + 1], -1e4, far, alone)
        nearer = alone < best
        owner[nearer], best[nearer] = n, alone[nearer]
    return best.astype(np.float64), owner


def _inside(points: F64, lower: F64, upper: F64) -> NDArray[np.bool_]:
    return np.asarray(((points >= lower) & (points <= upper)).all(-1))


def _near_arm(points: F64, arm: Capsules) -> NDArray[np.bool_]:
    """Which of the points (h, w, 3) are within the arm and its margin."""
    near = np.zeros(points.shape[:2], bool)
    for a, b, r in zip(arm.a, arm.b, arm.r, strict=True):
        axis = b - a
        t = np.clip(((points - a) @ axis) / max(float(axis @ axis), 1e-12), 0.0, 1.0)
        near |= np.linalg.norm(points - a - t[..., None] * axis, axis=-1) < r + ARM_MARGIN
    return near


def _patches(
    info: CameraInfo, where: NDArray[np.bool_], kind: str, points: F64, off: F64, owner: NDArray[np.int32],
    names: list[str], depth: F64,
) -> list[Difference]:  # fmt: skip
    """Connected patches that are large enough, each fixture's surface apart where it is gone."""
    i = info.intrinsics
    found = []
    whose = np.unique(owner[where]) if kind == "gone" else [None]
    for one in whose:
        label, count = ndimage.label(where if one is None else where & (owner == one), np.ones((3, 3), int))
        for n in range(1, int(count) + 1):
            here = label == n
            area = float((depth[here] ** 2).sum()) / (i.fx * i.fy)
            if here.sum() < LEAST_PIXELS or area < LEAST_AREA:
                continue
            numbers, counts = np.unique(owner[here], return_counts=True)
            number = int(numbers[np.argmax(counts)])
            name = names[number] if number >= 0 else ("floor" if number == FLOOR else "")
            low, high = np.percentile(points[here], [2.0, 98.0], axis=0)
            x, y, z = (float(v) for v in (low + high) / 2)
            wide, deep, high_ = (float(v) for v in high - low)
            found.append(
                Difference(kind, name, (x, y, z), (wide, deep, high_), float(np.median(off[here])), int(here.sum()), "")
            )
    return sorted(found, key=lambda d: -d.pixels)


def _paired(found: list[Difference]) -> list[Difference]:
    """Name the fixture that went from one place to another."""
    gone = [d for d in found if d.kind == "gone" and d.fixture not in ("", "floor")]
    extra = [d for d in found if d.kind == "extra"]
    out = []
    for d in found:
        others = extra if d in gone else gone if d.kind == "extra" else []
        near = [o for o in others if math.dist(o.centre, d.centre) <= SAME_PLACE]
        if near:
            nearest = min(near, key=lambda o: math.dist(o.centre, d.centre))
            d = d._replace(moved=d.fixture if d.kind == "gone" else nearest.fixture)
        out.append(d)
    return out
