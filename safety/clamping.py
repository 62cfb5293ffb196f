"""Where a part of the body can be clamped: gaps between the arm and what stands fixed, and between parts of the arm.

A gap that gets narrower than a part of the body along the motion can crush it (ISO 13854). There the quasi-static
limits of contact hold, elsewhere the transient ones (`safety.contact`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.compiled import njit
from cell.yamlfile import load_yaml
from robots.guards import box_distance
from robots.kinematics import Chain, capsule_paths
from robots.urdf import transform
from robots.workcell import Fixture, Name, Strict
from safety.stations import Path as MotionPath

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
FLOOR = 20.0
"""Half edge of the box that stands for the floor, m."""
APART = 0.02
"""Nominal time between two places of the motion at which gaps are measured, s."""
STILL = 0.01
"""A gap that closes more slowly than this at rate 1 does not count as closing, m/s: so slow a link is standing."""
TRIES = 400
"""Random configurations in which pairs of capsules are looked at."""


class Gap(Strict):
    """One row of the table."""

    gap: Annotated[float, Field(gt=0.0, le=2000.0, allow_inf_nan=False)]
    """mm."""
    source: Annotated[str, Field(min_length=1, max_length=400)]


class ClampingGaps(Strict):
    """A file of gaps by body region."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    gaps_mm: Annotated[dict[Name, Gap], Field(min_length=1)]

    def width(self, region: str) -> float:
        """Narrowest gap that is harmless for a region, m; inf for one the file does not know: it is always clamped."""
        row = self.gaps_mm.get(region)
        return float("inf") if row is None else row.gap / 1000.0


@cache
def default_gaps() -> ClampingGaps:
    """Return the table that comes with the package."""
    return load_yaml(Path(str(resources.files("safety").joinpath("data", "clamping_gaps.yaml"))), ClampingGaps)


# ---------------------------------------------------------------- gaps along a motion


class Fixed(NamedTuple):
    """Boxes that never move; no person fits between them and an arm that comes too near."""

    R: F64
    """(n, 3, 3) rotations of the boxes, base frame."""
    p: F64
    """(n, 3) centres, m."""
    half: F64
    """(n, 3) half edges, m."""


def fixed_boxes(fixtures: Sequence[Fixture], floor: float) -> Fixed:
    """Return the fixtures of a cell and its floor (height, m) as boxes."""
    T = [np.eye(4)]
    T[0][2, 3] = floor - FLOOR
    half = [[FLOOR, FLOOR, FLOOR]]
    for fixture in fixtures:
        T.append(transform(fixture.pose.position, fixture.pose.rpy))
        half.append([0.5 * edge for edge in fixture.size])
    poses = np.array(T)
    return Fixed(np.ascontiguousarray(poses[:, :3, :3]), np.ascontiguousarray(poses[:, :3, 3]), np.array(half))


def pinching_pairs(chain: Chain, q_lower: F64, q_upper: F64) -> I64:
    """Return the pairs (k, 2) of capsules between which something can get that is clamped when the arm folds.

    Neighbours along the chain move about their common joint and leave no gap that opens; neither do capsules that
    overlap in every configuration (TRIES random ones): the gap there is part of the arm's construction.
    """
    Q = np.random.default_rng(1).uniform(q_lower, q_upper, (TRIES, len(q_lower)))
    m = len(chain.owner)
    a, b = np.empty((TRIES, m, 3)), np.empty((TRIES, m, 3))
    capsule_paths(chain, Q, a, b)
    found = []
    for i in range(m):
        for j in range(i + 1, m):
            if chain.owner[j] - chain.owner[i] < 2:
                continue
            off = chain.radius[i] + chain.radius[j]
            if any(_segments_apart(a[k, i], b[k, i], a[k, j], b[k, j]) > off for k in range(TRIES)):
                found.append((i, j))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@njit(cache=True)
def _segments_apart(a: F64, b: F64, c: F64, d: F64) -> float:
    """Distance of the segments a-b and c-d (Ericson, Real-Time Collision Detection, 5.1.9)."""
    u, v, w = b - a, d - c, a - c
    uu, vv, uv = (u * u).sum(), (v * v).sum(), (u * v).sum()
    uw, vw = (u * w).sum(), (v * w).sum()
    s = 0.0
    if uu > 1e-18:
        low = uu * vv - uv * uv
        s = min(1.0, max(0.0, (uv * vw - vv * uw) / low)) if low > 1e-12 else 0.0
    t = min(1.0, max(0.0, (uv * s + vw) / vv)) if vv > 1e-18 else 0.0
    if uu > 1e-18:
        s = min(1.0, max(0.0, (uv * t - uw) / uu))
    gap = w + s * u - t * v
    return math.sqrt((gap * gap).sum())


@njit(cache=True)
def _to_box(a: F64, b: F64, radius: float, box: int, fixed: Fixed, enough: float, out: F64) -> None:
    """Fill out (5,) with gaps between a capsule and a box, m: the narrowest and those of both ends.

    Gaps beyond `enough` are not told apart.
    """
    x, y = np.empty(3), np.empty(3)
    away, length = 0.0, 0.0
    for c in range(3):
        x[c] = y[c] = 0.0
        for d in range(3):
            x[c] += fixed.R[box, d, c] * (a[d] - fixed.p[box, d])
            y[c] += fixed.R[box, d, c] * (b[d] - fixed.p[box, d])
        away += max(0.0, abs(0.5 * (x[c] + y[c])) - fixed.half[box, c]) ** 2
        length += (y[c] - x[c]) ** 2
    out[:] = enough
    if math.sqrt(away) - 0.5 * math.sqrt(length) - radius >= enough:
        return
    out[0] = min(enough, box_distance(x, y, fixed.half[box]) - radius)
    out[1] = min(enough, box_distance(x, x, fixed.half[box]) - radius)
    out[2] = min(enough, box_distance(y, y, fixed.half[box]) - radius)


@njit(cache=True)
def _to_capsule(a: F64, b: F64, c: F64, d: F64, off: float, out: F64) -> None:
    """Fill out (5,) with gaps between two capsules, m: the narrowest and those of the four ends. off: both radii."""
    out[0] = _segments_apart(a, b, c, d) - off
    out[1], out[2] = _segments_apart(a, a, c, d) - off, _segments_apart(b, b, c, d) - off
    out[3], out[4] = _segments_apart(a, b, c, c) - off, _segments_apart(a, b, d, d) - off


@njit(cache=True)
def _measure(a: F64, b: F64, radius: F64, first: int, pairs: I64, fixed: Fixed, enough: float, out: F64) -> None:
    """Fill out (rows, 5): every link against every box, then the pairs of capsules."""
    row = 0
    for m in range(first, radius.shape[0]):
        for box in range(fixed.p.shape[0]):
            _to_box(a[m], b[m], radius[m], box, fixed, enough, out[row])
            row += 1
    for k in range(pairs.shape[0]):
        i, j = pairs[k, 0], pairs[k, 1]
        _to_capsule(a[i], b[i], a[j], b[j], radius[i] + radius[j], out[row])
        row += 1


@njit(cache=True)
def _closing(before: F64, after: F64, least: float) -> bool:
    """Whether any of the gaps of a row gets narrower by more than `least`."""
    found = False
    for k in range(before.shape[0]):
        found |= not after[k] >= before[k] - least
    return found


@njit(cache=True)
def _along(
    chain: Chain, first: int, Q: F64, fine: int, piece: float, pairs: I64, fixed: Fixed, enough: float, speed: F64,
    out: F64,
) -> None:  # fmt: skip
    """Fill out (links, K). Q: (samples, n) of every `fine`-th piece; speed: (links, K) at rate 1."""
    m, links, boxes = chain.owner.shape[0], out.shape[0], fixed.p.shape[0]
    a, b = np.empty((Q.shape[0], m, 3)), np.empty((Q.shape[0], m, 3))
    capsule_paths(chain, Q, a, b)
    rows = links * boxes + pairs.shape[0]
    before, after = np.empty((rows, 5)), np.empty((rows, 5))
    least, step = np.empty(links), fine * piece
    for k in range(Q.shape[0]):
        _measure(a[k], b[k], chain.radius, first, pairs, fixed, enough, after)
        start, end = (k - 1) * fine, min(k * fine, out.shape[1])
        if k > 0:
            least[:] = enough
            for row in range(rows):
                if not _closing(before[row], after[row], STILL * step):
                    continue
                gap = min(before[row, 0], after[row, 0])
                if row < links * boxes:
                    least[row // boxes] = min(least[row // boxes], gap)
                    continue
                for side in range(2):
                    i = pairs[row - links * boxes, side] - first
                    if i >= 0:
                        least[i] = min(least[i], gap)
            fastest = 0.0
            for i in range(links):
                for at in range(start, end):
                    fastest = max(fastest, speed[i, at])
            for i in range(links):
                for at in range(start, end):
                    # Between two samples each side moves by no more than half of this.
                    out[i, at] = least[i] - fastest * step
        before[:] = after


def gaps_along(
    chain: Chain, first: int, path: MotionPath, begin: float, piece: float, speed: F64, pairs: I64, fixed: Fixed,
    enough: float,
) -> F64:  # fmt: skip
    """Return the narrowest gap (links, K), m, that each link closes in each piece of a motion; at most `enough`.

    A gap that stays as it is or opens clamps nobody. One closes if the capsule or any end of its axis comes nearer by
    more than STILL: over a plane an axis comes nearer nowhere more than at one of its ends.

    begin, piece, speed: of a `safety.pace.Pace` whose pieces start at a sample of the path.
    """
    skip = max(1, round(APART / path.step))
    fine = max(1, round(path.step / piece)) * skip
    out: F64 = np.full(speed.shape, -np.inf)
    count = math.ceil(speed.shape[1] / fine) + 1
    # Gaps must be told apart up to what is asked for and the doubt that is taken off them.
    enough += float(speed.max()) * fine * piece
    rows = np.minimum(round(begin / path.step) + skip * np.arange(count), path.Q.shape[0] - 1)
    Q = np.ascontiguousarray(path.Q[rows])
    _along(chain, first, Q, fine, piece, pairs, fixed, enough, speed, out)
    return out
