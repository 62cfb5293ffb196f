"""Where the links are along the accepted path ahead, compiled: capsules at stations, and bounds for what lies between.

Progress in nominal s, lengths in m, angles in rad.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.kinematics import Chain, link_frames
from robots.motion import spline_at
from safety.kernels import Sweep

F64 = NDArray[np.float64]
SPACING = 0.005
"""Nominal time between two stations, s."""
LEAD = 4
"""Stations from the measured arm (station 0) to the path at the present progress (station LEAD)."""
STATIONS = 258
WINDOW = (STATIONS - LEAD - 2) * SPACING
"""A sweep beyond this nominal time (1.26 s) is not admissible."""


class Path(NamedTuple):
    """The arrays of a `Motion`."""

    Q: F64
    M: F64
    """Second derivative at the samples."""
    fall: F64
    """Permitted fall of the rate at the samples, 1/s."""
    step: float


@njit(cache=True)
def levers(chain: Chain, fixed: int, out: F64) -> None:
    """Fill out (links, n): how far capsule fixed + i can ever be from the axis of joint j, in any configuration.

    The way from the joint's origin along the origins of the later joints to the farther end; 0 for joints behind it.
    """
    n = chain.p.shape[0]
    for i in range(out.shape[0]):
        m = fixed + i
        a, b = 0.0, 0.0
        for c in range(3):
            a += chain.a[m, c] ** 2
            b += chain.b[m, c] ** 2
        lever = math.sqrt(max(a, b))
        for j in range(n - 1, -1, -1):
            if j >= chain.owner[m]:
                out[i, j] = 0.0
                continue
            out[i, j] = lever
            lever += math.sqrt(chain.p[j, 0] ** 2 + chain.p[j, 1] ** 2 + chain.p[j, 2] ** 2)


@njit(cache=True)
def _place(chain: Chain, q: F64, fixed: int, R: F64, p: F64, out: F64) -> None:
    """Fill out (links, 6) with the axes of the moving capsules at joint positions q."""
    link_frames(chain, q, R, p)
    for i in range(out.shape[0]):
        m = fixed + i
        k = chain.owner[m]
        for c in range(3):
            x, y, z = R[k, c, 0], R[k, c, 1], R[k, c, 2]
            out[i, c] = p[k, c] + x * chain.a[m, 0] + y * chain.a[m, 1] + z * chain.a[m, 2]
            out[i, 3 + c] = p[k, c] + x * chain.b[m, 0] + y * chain.b[m, 1] + z * chain.b[m, 2]


@njit(cache=True)
def _sagitta(lever: F64, turn: F64, bow: F64) -> float:
    """Bound how far a point strays from the straight line between two configurations, m.

    |x - line| <= |x''| / 8 over unit time, and with joint speeds w and accelerations b
    |x''| <= sum_j lever_j b_j + sum_jk lever_max(j,k) w_j w_k, as the second derivative of a position by two joints is
    a double cross product with the arm of the outer one.
    """
    total, inner = 0.0, 0.0
    for j in range(lever.shape[0]):
        total += lever[j] * (bow[j] + turn[j] * (turn[j] + 2.0 * inner))
        inner += turn[j]
    return 0.125 * total


@njit(cache=True)
def _bow(path: Path, start: float, end: float, out: F64) -> None:
    """Fill out (n,) with the largest |d2q/dp2| in [start, end] times SPACING^2: it is linear between samples."""
    last = path.M.shape[0] - 1
    low = min(max(math.floor(start / path.step), 0), last)
    high = min(max(math.ceil(end / path.step), low), last)
    for j in range(out.shape[0]):
        out[j] = 0.0
    for k in range(low, high + 1):
        for j in range(out.shape[0]):
            out[j] = max(out[j], abs(path.M[k, j]))
    for j in range(out.shape[0]):
        out[j] *= SPACING * SPACING


@njit(cache=True)
def _extend(sweep: Sweep, k: int) -> None:
    """Fill way at station k: by the farther of the ways of a link's two ends; no point of a rigid axis goes farther."""
    ends, way = sweep.ends, sweep.way
    for i in range(way.shape[1]):
        a, b = 0.0, 0.0
        for c in range(3):
            a += (ends[k, i, c] - ends[k - 1, i, c]) ** 2
            b += (ends[k, i, 3 + c] - ends[k - 1, i, 3 + c]) ** 2
        way[k, i] = way[k - 1, i] + math.sqrt(max(a, b))


@njit(cache=True)
def fill(chain: Chain, fixed: int, path: Path, q: F64, progress: float, count: int, sweep: Sweep) -> None:
    """Fill the sweep with `count` stations: from the measured arm to the path at `progress`, and on along it.

    q: (n,) measured joint positions. count: more than LEAD. Beyond the path's end the arm stays there.
    """
    n = q.shape[0]
    links = sweep.ends.shape[1]
    R, p = np.empty((n + 1, 3, 3)), np.empty((n + 1, 3))
    now, at, before = np.empty(n), np.empty(n), np.empty(n)
    first, second, turn, bow = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    spline_at(path.Q, path.M, path.step, progress, now, first, second)
    _bow(path, progress, progress + (count - 1 - LEAD) * SPACING, bow)
    for j in range(n):
        turn[j], before[j] = 0.0, q[j]
    for i in range(links):
        sweep.way[0, i] = 0.0
    for k in range(count):
        if k < LEAD:
            for j in range(n):
                at[j] = q[j] + (now[j] - q[j]) * k / LEAD
        else:
            spline_at(path.Q, path.M, path.step, progress + (k - LEAD) * SPACING, at, first, second)
        for j in range(n):
            turn[j] = max(turn[j], abs(at[j] - before[j]))
            before[j] = at[j]
        _place(chain, at, fixed, R, p, sweep.ends[k])
        if k > 0:
            _extend(sweep, k)
    for j in range(n):
        # the speed within a stretch differs from its mean by at most half of what the acceleration adds
        turn[j] += 0.5 * bow[j]
    lever = np.empty((links, n))
    levers(chain, fixed, lever)
    for i in range(links):
        sweep.radius[i] = chain.radius[fixed + i]
        sweep.bend[i] = _sagitta(lever[i], turn, bow)


@njit(cache=True)
def here(chain: Chain, fixed: int, q: F64, sweep: Sweep) -> None:
    """Fill station 0 and the radii of the sweep: the arm at joint positions q (n,)."""
    n = q.shape[0]
    _place(chain, q, fixed, np.empty((n + 1, 3, 3)), np.empty((n + 1, 3)), sweep.ends[0])
    for i in range(sweep.radius.shape[0]):
        sweep.radius[i] = chain.radius[fixed + i]
