"""The search for the largest admissible limit, compiled: one call for a whole cycle.

A limit L is admissible for a pair of ball and link if, over everything the arm may sweep until it stands, their gap
stays at least what people travel in that time plus C + Z_d + Z_r. Sweep and time grow with L (`safety.braking`), so
what is admissible is an interval from 0, and the limit is the least upper end over all pairs. Pairs that cannot lower
the limit found so far are passed over: the way of the link bounds how much the gap can shrink.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from robots.kinematics import Chain
from robots.motion import spline_at
from safety.braking import Brakes, Course, worst_stop
from safety.kernels import BLOCK, SLACK, Cloud, Sweep, gaps, lowest, to_axis, unpack
from safety.separation import NEAR
from safety.stations import SPACING, STATIONS, Path, fill, here

F64 = NDArray[np.float64]
RESOLUTION = 2.0**-12
"""Width to which the limit is enclosed; the lower end is granted."""
_WINDOW = (STATIONS - 2) * SPACING


class People(NamedTuple):
    """How people move, and what of S_p does not depend on the arm."""

    slow: float
    """m/s, beyond `NEAR`."""
    fast: float
    """m/s, up to `NEAR`."""
    fixed: float
    """C + Z_d + Z_r, m."""
    age: float
    """From the reference time of the balls to now, s."""


class Finding(NamedTuple):
    """What `decide` returns."""

    sound: bool
    """False: an input is not a sensible number; nothing else holds."""
    limit: float
    ahead: float
    """Nominal progress within which the arm stands at this limit, s."""
    separation: float
    """Smallest gap now, m; inf if there is no ball."""
    ball: int
    """Of that pair; -1 if there is none."""
    link: int
    time: float
    """Until the arm stands if it keeps the present rate, s."""
    swept: float
    """Nominal progress until then, s."""
    low: float
    """Smallest gap until then of the nearest and of the binding pair, m."""


@njit(cache=True)
def needed(people: People, time: float) -> float:
    """Return S_h + C + Z_d + Z_r, m, if the arm stands after `time` s (ISO 13855:2010, 6.2.3: hand speed to 500 mm)."""
    travel = people.age + time
    near = people.fast * travel + people.fixed
    if near <= NEAR:
        return near
    return max(NEAR, people.slow * travel + people.fixed)


@njit(cache=True)
def _end(swept: float) -> tuple[int, float]:
    """Station and share of the stretch behind it at which a sweep ends. Station 1 is at the present progress."""
    at = swept / SPACING
    k = min(math.floor(at), STATIONS - 3)
    return 1 + k, min(1.0, at - k)


@njit(cache=True)
def admits(
    limit: float, ball: int, link: int, cloud: Cloud, sweep: Sweep, course: Course, path: Path, brakes: Brakes,
    people: People,
) -> bool:  # fmt: skip
    """Whether the limit is admissible for a pair; ball -1: for none in particular."""
    time, swept = worst_stop(course, limit, path.fall, path.step, brakes)
    if not swept <= _WINDOW:
        return False
    if ball < 0:
        return True
    need = needed(people, time)
    last, share = _end(swept)
    return lowest(ball, link, cloud, sweep, last, share, need, need) >= need


@njit(cache=True)
def highest(
    limit: float, ball: int, link: int, cloud: Cloud, sweep: Sweep, course: Course, path: Path, brakes: Brakes,
    people: People,
) -> float:  # fmt: skip
    """Return the largest limit below `limit`, to RESOLUTION, that is admissible for a pair; 0 if none is."""
    low, high = 0.0, limit
    middle = min(RESOLUTION, 0.5 * limit)
    while high - low > RESOLUTION:
        if admits(middle, ball, link, cloud, sweep, course, path, brakes, people):
            low = middle
        elif low == 0.0 and middle <= RESOLUTION:
            return 0.0
        else:
            high = middle
        middle = 0.5 * (low + high)
    return low


@njit(cache=True)
def _reach(need: float, last: int, share: float, sweep: Sweep, out: F64) -> None:
    """Fill out (links,): a pair with a larger gap now cannot come nearer than `need` in the sweep."""
    way = sweep.way
    for i in range(out.shape[0]):
        out[i] = need + way[last, i] + share * (way[last + 1, i] - way[last, i]) + sweep.bend[i] + SLACK


@njit(cache=True)
def nearest_pair(whole: int, cloud: Cloud, links: int) -> tuple[int, int]:
    """Return ball and link with the smallest gap now; -1, -1 if there is no ball."""
    ball, link, at = -1, -1, -1
    least = np.inf
    for i in range(links):
        for b in range(whole // BLOCK):
            if cloud.block[i, b] < least:
                least, link, at = float(cloud.block[i, b]), i, b
    if link >= 0:
        ball = at * BLOCK
        for k in range(at * BLOCK, (at + 1) * BLOCK):
            if cloud.gap[link, k] < cloud.gap[link, ball]:
                ball = k
    return ball, link


@njit(cache=True)
def search(
    whole: int, ball: int, link: int, cloud: Cloud, sweep: Sweep, course: Course, path: Path, brakes: Brakes,
    people: People, reach: F64,
) -> tuple[float, float, int, int]:  # fmt: skip
    """Return limit, its sweep (nominal s), and the pair that binds (-1, -1: none does).

    ball, link: the nearest pair, which is tried first as it is likely to bind. reach: (links,) scratch.
    """
    bound_ball, bound_link = -1, -1
    limit = 1.0
    if not admits(limit, -1, -1, cloud, sweep, course, path, brakes, people):
        limit = highest(limit, -1, -1, cloud, sweep, course, path, brakes, people)
    if ball >= 0 and not admits(limit, ball, link, cloud, sweep, course, path, brakes, people):
        limit = highest(limit, ball, link, cloud, sweep, course, path, brakes, people)
        bound_ball, bound_link = ball, link
    time, swept = worst_stop(course, limit, path.fall, path.step, brakes)
    need = needed(people, time)
    last, share = _end(swept)
    _reach(need, last, share, sweep, reach)
    for i in range(reach.shape[0] - 1, -1, -1):
        for b in range(whole // BLOCK):
            if cloud.block[i, b] >= reach[i]:
                continue
            for k in range(b * BLOCK, (b + 1) * BLOCK):
                if limit == 0.0:
                    return limit, swept, bound_ball, bound_link
                if cloud.gap[i, k] >= reach[i] or lowest(k, i, cloud, sweep, last, share, need, need) >= need:
                    continue
                limit = highest(limit, k, i, cloud, sweep, course, path, brakes, people)
                bound_ball, bound_link = k, i
                time, swept = worst_stop(course, limit, path.fall, path.step, brakes)
                need = needed(people, time)
                last, share = _end(swept)
                _reach(need, last, share, sweep, reach)
    return limit, swept, bound_ball, bound_link


@njit(cache=True)
def decide(
    balls: NDArray[np.float32], chain: Chain, fixed: int, q: F64, course: Course, path: Path, brakes: Brakes,
    people: People, cloud: Cloud, sweep: Sweep, reach: F64,
) -> Finding:  # fmt: skip
    """One whole cycle on a path.

    Args:
        balls: (n * 4,) x, y, z, radius of everything occupied, m.
        chain, fixed: the arm, and how many of its capsules do not move.
        q: (dof,) measured joint positions, finite.
        course, path, brakes, people: the situation; all numbers finite.
        cloud, sweep, reach: scratch with room for the balls (whole blocks), STATIONS and the moving links.
    """
    whole = unpack(balls, cloud)
    if whole < 0:
        return Finding(False, 0.0, 0.0, -1.0, -1, -1, 0.0, 0.0, 0.0)
    _, farthest = worst_stop(course, 1.0, path.fall, path.step, brakes)
    count = STATIONS if not farthest < _WINDOW else min(STATIONS, math.floor(farthest / SPACING) + 3)
    fill(chain, fixed, path, q, course.progress, count, sweep)
    gaps(whole, sweep.ends[0], sweep.radius, cloud)
    ball, link = nearest_pair(whole, cloud, reach.shape[0])
    limit, ahead, bound_ball, bound_link = search(whole, ball, link, cloud, sweep, course, path, brakes, people, reach)
    time, swept = worst_stop(course, course.rate, path.fall, path.step, brakes)
    if ball < 0:
        return Finding(True, limit, ahead, np.inf, -1, -1, time, swept, np.inf)
    separation = gap_now(ball, link, cloud, sweep)
    last, share = _end(min(swept, _WINDOW))
    low = lowest(ball, link, cloud, sweep, last, share, separation, -np.inf)
    if bound_ball >= 0:
        low = lowest(bound_ball, bound_link, cloud, sweep, last, share, low, -np.inf)
    return Finding(True, limit, ahead, separation, ball, link, time, swept, low)


@njit(cache=True)
def gap_now(ball: int, link: int, cloud: Cloud, sweep: Sweep) -> float:
    """Return the gap of a pair at station 0, m."""
    x, y, z = float(cloud.x[ball]), float(cloud.y[ball]), float(cloud.z[ball])
    return to_axis(x, y, z, sweep.ends[0, link]) - float(cloud.r[ball]) - sweep.radius[link]


@njit(cache=True)
def stand(balls: NDArray[np.float32], chain: Chain, fixed: int, q: F64, cloud: Cloud, sweep: Sweep) -> Finding:
    """Measure an arm that is on no path: separation and its pair; limit 0. Arguments as for `decide`."""
    whole = unpack(balls, cloud)
    if whole < 0:
        return Finding(False, 0.0, 0.0, -1.0, -1, -1, 0.0, 0.0, 0.0)
    here(chain, fixed, q, sweep)
    gaps(whole, sweep.ends[0], sweep.radius, cloud)
    ball, link = nearest_pair(whole, cloud, sweep.radius.shape[0])
    if ball < 0:
        return Finding(True, 0.0, 0.0, np.inf, -1, -1, 0.0, 0.0, np.inf)
    separation = gap_now(ball, link, cloud, sweep)
    return Finding(True, 0.0, 0.0, separation, ball, link, 0.0, 0.0, separation)


@njit(cache=True)
def deviation(q: F64, progress: float, path: Path) -> float:
    """Return how far the joint farthest from its place on the path at `progress` is from it, rad."""
    n = q.shape[0]
    place, first, second = np.empty(n), np.empty(n), np.empty(n)
    spline_at(path.Q, path.M, path.step, progress, place, first, second)
    most = 0.0
    for j in range(n):
        most = max(most, abs(q[j] - place[j]))
    return most
