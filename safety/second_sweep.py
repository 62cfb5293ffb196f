"""Distances from everyone to the arm along a stretch of its path, for the second channel. Plain float64 numpy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robots.contract import PartGeometry
from safety.second_arm import ArmError, ArmGeometry, Course

Array = NDArray[np.float64]

STEP = 0.02
"""Nominal time between two places of the path that are looked at, s."""
WINDOW = 200
"""So many places are worked out at a time; a motion may last for hours."""
AT_ONCE = 4000
"""So many pairs are measured in one go."""
BEND = 1.05
"""A link between two places is no farther from the nearer one than half the straight way, times this, plus ..."""
ROUNDING = 0.0005
"""... this, m."""


class Sweep:
    """The links of an arm at the places 0, STEP, 2 STEP ... of a course, worked out once for all calls."""

    def __init__(self, arm: ArmGeometry, course: Course, held: PartGeometry | None) -> None:
        """Raises ArmError for a held part that is none."""
        self.course, self.held = course, held
        self._arm = arm
        self._begin = self._end = 0
        self._a: Array = np.empty((0, 0, 3))
        self._b = self._half = self._way = self._a

    def stretch(self, first: int, last: int) -> tuple[Array, Array, Array, Array]:
        """Return axis ends a, b (K, m, 3), what may lie between places (K, m), and way since `first` (K, m), m.

        Places beyond the end of the course are the end. Raises ArmError if a link is nowhere.
        """
        if first < self._begin or last >= self._end:
            self._work_out(first, last)
        part = slice(first - self._begin, last + 1 - self._begin)
        way = self._way[part]
        return self._a[part], self._b[part], self._half[part], way - way[0]

    def _work_out(self, first: int, last: int) -> None:
        # Beyond the end the arm stays: places there are worked out only as far as somebody asks.
        whole = math.ceil(self.course.duration / STEP) + 2
        self._begin, self._end = max(0, first - 5), max(last + 2, min(first + WINDOW, whole))
        at: Array = np.arange(self._begin, self._end, dtype=np.float64) * STEP
        a, b, _ = self._arm.capsules(self.course.positions(at), self.held)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ArmError("a link is nowhere")
        step = np.sqrt(np.maximum(((a[1:] - a[:-1]) ** 2).sum(-1), ((b[1:] - b[:-1]) ** 2).sum(-1)))
        half = np.full(a.shape[:2], ROUNDING)
        half[1:] += 0.5 * BEND * step
        half[:-1] = np.maximum(half[:-1], ROUNDING + 0.5 * BEND * step)
        self._a, self._b, self._half = a, b, half
        self._way = np.concatenate([np.zeros((1, a.shape[1])), np.cumsum(step, axis=0)])


def distances(
    balls: Array, here: tuple[Array, Array, Array], ahead: tuple[Array, Array, Array, Array] | None, widest: float
) -> Array:
    """Least distance (1 + K,) between anyone and the arm: where it is measured to be, and at each place ahead.

    balls: (n, 4) centres and radii. here: ends a, b (m, 3) and radii (m,). ahead: as `Sweep.stretch` returns it.
    Whoever is farther than `widest` from the whole sweep needs no exact figure: they count as that far.
    """
    a0, b0, _ = here
    if ahead is None:
        ahead = (a0[None], b0[None], np.zeros((1, len(a0))), np.zeros((1, len(a0))))
    a, b, half, way = ahead
    far = np.full(1 + len(a), widest)
    found = _near(balls, here, (a, b, half), widest)
    if found is None:
        return far
    x, r, link = found
    first = _to_segments(x, a0[link], b0[link]) - r
    gone = np.sqrt(np.maximum(((a[0] - a0) ** 2).sum(-1), ((b[0] - b0) ** 2).sum(-1)))
    # By the triangle inequality no pair changes by more than its link moves: most cannot be the nearest anywhere.
    moved = (gone + way[-1] + half.max(axis=0))[link]
    keep = first - moved <= min(widest, float((first + moved).min()))
    if not keep.any():
        return far
    x, r, link, first = x[keep], r[keep], link[keep], first[keep]
    far[0] = min(widest, float(first.min()))
    every = max(1, AT_ONCE // len(x))
    for k in range(0, len(a), every):
        some = slice(k, k + every)
        exact = _to_segments(x, a[some, link], b[some, link]) - r - half[some, link]
        far[1 + k : 1 + k + every] = np.minimum(widest, exact.min(axis=1))
    return far


def _near(
    balls: Array, here: tuple[Array, Array, Array], ahead: tuple[Array, Array, Array], widest: float
) -> tuple[Array, Array, NDArray[np.int64]] | None:
    """Centres (p, 3), both radii added (p,) and links (p,) of all pairs that can come within `widest`; None: none."""
    a0, b0, radii = here
    a, b, half = ahead
    # A ball round each link's sweep, and one round all of them: who is outside by `widest` is out of the question.
    low = np.minimum(np.minimum(a.min(axis=0), b.min(axis=0)), np.minimum(a0, b0))
    high = np.maximum(np.maximum(a.max(axis=0), b.max(axis=0)), np.maximum(a0, b0))
    middle = 0.5 * (low + high)
    size = 0.5 * np.sqrt(((high - low) ** 2).sum(-1)) + radii + half.max(axis=0)
    hull = 0.5 * (middle.min(axis=0) + middle.max(axis=0))
    whole = float((np.sqrt(((middle - hull) ** 2).sum(-1)) + size).max()) + widest
    offset = balls[:, :3] - hull
    reach = whole + balls[:, 3]
    near = balls[np.einsum("ij,ij->i", offset, offset) < reach * reach]
    if not len(near):
        return None
    # |x - m|^2 multiplied out about the common middle: rounding stays below a micrometre, ROUNDING is in `size`.
    x, m = near[:, :3] - hull, middle - hull
    square = (x * x).sum(1)[:, None] + (m * m).sum(1) - 2.0 * (x @ m.T)
    away = np.sqrt(np.maximum(square, 0.0)) - near[:, 3:]
    # Wherever the arm is, somebody is as near as this; who can never come so near is out of the question too.
    most = float((away + (0.5 * np.sqrt(((high - low) ** 2).sum(-1)) - radii)).min())
    ball, link = np.nonzero(away < np.minimum(widest, most) + size)
    if not len(ball):
        return None
    return near[ball, :3], near[ball, 3] + radii[link], link


def _to_segments(x: Array, a: Array, b: Array) -> Array:
    """Distances (..., n) of points (n, 3) to segments a-b (..., n, 3)."""
    along, to = b - a, x - a
    length2 = np.maximum(np.einsum("...i,...i->...", along, along), 1e-18)
    share = np.clip(np.einsum("...i,...i->...", along, to) / length2, 0.0, 1.0)
    rest = to - share[..., None] * along
    gap: Array = np.sqrt(np.einsum("...i,...i->...", rest, rest))
    return gap


def places(begin: float, swept: float) -> tuple[int, int]:
    """First and last place that enclose the stretch of `swept` nominal s from progress `begin`."""
    return math.floor(begin / STEP), math.ceil((begin + swept) / STEP)
