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
from numpy.typing import NDArray

from cell.compiled import njit
from robots.kinematics import Chain
from robots.motion import spline_at
from safety.braking import CELLS, Brakes, Course, Falls, above, coming_down, falls_ahead, held
from safety.kernels import BLOCK, SLACK, Cloud, Sweep, block_bounds, cloud_in, gaps, lowest, sweep_in, to_axis, unpack
from safety.permits import Permits, Terrain, block_may_touch, may_touch, permits_along, slow_enough
from safety.separation import NEAR
from safety.stations import LEAD, SPACING, STATIONS, WINDOW, Path, fill, here

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
RESOLUTION = 2.0**-12
"""Limits are multiples of this, rounded down."""
FALLS = 2 * (math.ceil(WINDOW / 0.001) + 3)
"""Numbers that `falls_ahead` may need: samples are 1 ms apart or more."""


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


class Problem(NamedTuple):
    """All that one cycle rests on."""

    cloud: Cloud
    sweep: Sweep
    course: Course
    falls: Falls
    brakes: Brakes
    people: People
    permits: Permits
    cells: F64
    """Scratch of `safety.braking.held`."""


class Stop(NamedTuple):
    """What one course of events asks for."""

    need: float
    """Gap that must be left, m; -inf: the course cannot happen; inf: the stations do not reach so far."""
    last: int
    """Station behind which the sweep ends, and ..."""
    share: float
    """... the share of the stretch to the next one."""
    time: float
    """Until the arm stands, s."""
    swept: float
    """Nominal progress until then, s."""


class Bound(NamedTuple):
    """A limit with what it entails."""

    limit: float
    held: Stop
    """If the arm keeps to it from now on."""
    down: Stop
    """If it has to come down to it first."""
    farther: Stop
    """The worse of both in every respect."""


@njit(cache=True)
def needed(people: People, time: float) -> float:
    """Return S_h + C + Z_d + Z_r, m, if the arm stands after `time` s (ISO 13855:2010, 6.2.3: hand speed to 500 mm)."""
    travel = people.age + time
    near = people.fast * travel + people.fixed
    if near <= NEAR:
        return near
    return max(NEAR, people.slow * travel + people.fixed)


@njit(cache=True)
def _stop(time: float, swept: float, people: People) -> Stop:
    """Return what must be left free for a stop. Station LEAD is at the present progress."""
    need = needed(people, time)
    if not swept <= WINDOW:
        swept, need = WINDOW, np.inf
    at = swept / SPACING
    k = min(math.floor(at), STATIONS - LEAD - 3)
    return Stop(need, LEAD + k, min(1.0, at - k), time, swept)


@njit(cache=True)
def entail(limit: float, problem: Problem) -> Bound:
    """Return what a limit entails."""
    return entail_besides(entail_held(limit, problem), problem)


@njit(cache=True)
def entail_held(limit: float, problem: Problem) -> Bound:
    """Return what a limit entails if the arm keeps to it; whether it has to come down first is left open.

    That costs more to follow: not worth it where keeping to the limit is too much already."""
    time, swept = held(problem.course, limit, problem.falls, problem.brakes, problem.cells)
    first = _stop(time, swept, problem.people)
    return Bound(limit, first, Stop(-np.inf, 0, 0.0, time, swept), first)


@njit(cache=True)
def entail_besides(kept: Bound, problem: Problem) -> Bound:
    """Return all that a limit entails, from what `entail_held` has found of it."""
    course, falls, brakes, people = problem.course, problem.falls, problem.brakes, problem.people
    limit, first, time, swept = kept.limit, kept.held, kept.down.time, kept.down.swept
    over = above(course, limit, brakes)
    if not over and course.progress + swept <= falls.plain:
        return Bound(limit, first, Stop(-np.inf, 0, 0.0, 0.0, 0.0), first)
    late, far = coming_down(course, limit, falls, brakes)
    if not over and late <= time and far <= swept:
        return Bound(limit, first, Stop(-np.inf, 0, 0.0, 0.0, 0.0), first)
    second = _stop(late, far, people)
    return Bound(limit, first, second, _stop(max(time, late), max(swept, far), people))


@njit(cache=True)
def _leaves(stop: Stop, ball: int, link: int, problem: Problem) -> bool:
    if not stop.need > -np.inf:
        return True
    if not stop.need < np.inf:
        return False
    gap = lowest(ball, link, problem.cloud, problem.sweep, stop.last, stop.share, stop.need, stop.need)
    return gap >= stop.need


@njit(cache=True)
def keeps(bound: Bound, ball: int, link: int, problem: Problem) -> bool:
    """Whether a pair stays as far apart as a limit needs it, or may touch."""
    if may_touch(problem.permits, bound.limit, bound.farther.last + 1, ball, link):
        return True
    return _leaves(bound.held, ball, link, problem) and _leaves(bound.down, ball, link, problem)


@njit(cache=True)
def feasible(bound: Bound, problem: Problem) -> bool:
    """Whether a limit is admissible apart from all pairs: the sweep ends within the stations, and is slow enough."""
    farther = bound.farther
    return farther.need < np.inf and slow_enough(problem.permits, bound.limit, farther.last + 1)


@njit(cache=True)
def _tried(limit: float, ball: int, link: int, problem: Problem) -> tuple[bool, Bound]:
    """Return whether a limit is admissible for a pair (ball -1: for none), and if so what it entails."""
    kept = entail_held(limit, problem)
    alone = ball < 0 or problem.permits.zone.shape[0] > 0
    if not alone and not _leaves(kept.held, ball, link, problem):
        return False, kept
    bound = entail_besides(kept, problem)
    if not feasible(bound, problem):
        return False, bound
    if alone:
        return ball < 0 or keeps(bound, ball, link, problem), bound
    return _leaves(bound.down, ball, link, problem), bound


@njit(cache=True)
def highest(above: Bound, ball: int, link: int, problem: Problem) -> Bound:
    """Return the largest multiple of RESOLUTION below `above` that is admissible for a pair; 0 if none is.

    On fixed multiples the result does not depend on the order in which the pairs are tried.
    ball -1: no pair, the sweep alone must be feasible.
    """
    low, high = 0, round(above.limit / RESOLUTION)
    found = above
    middle = 1
    while high - low > 1:
        good, bound = _tried(middle * RESOLUTION, ball, link, problem)
        if good:
            low, found = middle, bound
        elif middle == 1:
            break
        else:
            high = middle
        middle = (low + high) // 2
    return found if low > 0 else entail(0.0, problem)


@njit(cache=True)
def _reach(stop: Stop, sweep: Sweep, out: F64) -> None:
    """Fill out (links,): a pair with a larger gap now cannot come nearer than needed in the sweep."""
    way, last = sweep.way, stop.last
    for i in range(out.shape[0]):
        out[i] = stop.need + way[last, i] + stop.share * (way[last + 1, i] - way[last, i]) + sweep.bend[i] + SLACK


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
def search(whole: int, full: Bound, ball: int, link: int, problem: Problem) -> tuple[Bound, int, int]:
    """Return the largest limit admissible for all pairs, and the pair that binds (-1, -1: none does).

    full: what the limit 1 entails. ball, link: the nearest pair, tried first as it is likely to bind.
    """
    cloud, sweep = problem.cloud, problem.sweep
    bound, bound_ball, bound_link = full, -1, -1
    if not feasible(full, problem):
        bound = highest(full, -1, -1, problem)
    if ball >= 0 and not keeps(bound, ball, link, problem):
        bound, bound_ball, bound_link = highest(bound, ball, link, problem), ball, link
    reach = np.empty(sweep.radius.shape[0])
    before, least = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    _reach(bound.farther, sweep, reach)
    for i in range(reach.shape[0] - 1, -1, -1):
        for b in range(whole // BLOCK):
            if bound.limit == 0.0:
                return bound, bound_ball, bound_link
            if cloud.block[i, b] >= reach[i] or block_may_touch(
                problem.permits, bound.limit, bound.farther.last + 1, b * BLOCK, i
            ):
                continue
            block_bounds(b, i, bound.farther.last + 1, cloud, sweep, before, least)
            for k in range(BLOCK):
                if least[k] >= bound.farther.need + sweep.bend[i] + SLACK or keeps(bound, b * BLOCK + k, i, problem):
                    continue
                bound, bound_ball, bound_link = highest(bound, b * BLOCK + k, i, problem), b * BLOCK + k, i
                _reach(bound.farther, sweep, reach)
    return bound, bound_ball, bound_link


@njit(cache=True)
def gap_now(ball: int, link: int, cloud: Cloud, sweep: Sweep) -> float:
    """Return the gap of a pair at station 0, m."""
    x, y, z = float(cloud.x[ball]), float(cloud.y[ball]), float(cloud.z[ball])
    return to_axis(x, y, z, sweep.ends[0, link]) - float(cloud.r[ball]) - sweep.radius[link]


@njit(cache=True)
def decide(
    balls: F32, chain: Chain, fixed: int, q: F64, course: Course, path: Path, brakes: Brakes, people: People,
    terrain: Terrain, singles: F32, doubles: F64,
) -> Finding:  # fmt: skip
    """One whole cycle on a path.

    Args:
        balls: (n * 4,) x, y, z, radius of everything occupied, m.
        chain, fixed: the arm, and how many of its capsules do not move.
        q: (dof,) measured joint positions, finite.
        course, path, brakes, people: the situation; all numbers finite.
        terrain: what the zones say of these balls and this path.
        singles, doubles: scratch of `cloud_size` and `sweep_size` + FALLS numbers.
    """
    return measure(balls, chain, fixed, q, course, path, brakes, people, terrain, singles, doubles)[0]


@njit(cache=True)
def measure(
    balls: F32, chain: Chain, fixed: int, q: F64, course: Course, path: Path, brakes: Brakes, people: People,
    terrain: Terrain, singles: F32, doubles: F64,
) -> tuple[Finding, Problem, Bound]:  # fmt: skip
    """As `decide`, with all it has measured and what the limit 1 entails, for a method that goes on from there.

    The problem is filled only if the finding is sound.
    """
    links = chain.owner.shape[0] - fixed
    cloud, sweep = cloud_in(singles, links), sweep_in(doubles, STATIONS, links)
    whole = unpack(balls, cloud)
    falls = falls_ahead(path.fall, path.step, course.progress, WINDOW, brakes.down, doubles[-FALLS:])
    nothing = Permits(terrain.zone, np.empty((0, 0, 0)), np.empty(0))
    cells = np.full((CELLS, 4), np.nan)
    problem = Problem(cloud, sweep, course, falls, brakes, people, nothing, cells)
    full = entail(1.0, problem)
    if whole < 0:
        return Finding(False, 0.0, 0.0, -1.0, -1, -1, 0.0, 0.0, 0.0), problem, full
    fill(chain, fixed, path, q, course.progress, full.farther.last + 2, sweep)
    permits = permits_along(terrain, course.progress, sweep, full.farther.last + 2)
    problem = Problem(cloud, sweep, course, falls, brakes, people, permits, cells)
    return _found(whole, full, problem), problem, full


@njit(cache=True)
def _found(whole: int, full: Bound, problem: Problem) -> Finding:
    """Search among `whole` balls in whole blocks; all stations that the limit 1 needs are filled."""
    cloud, sweep, course = problem.cloud, problem.sweep, problem.course
    gaps(whole, sweep.ends[0], sweep.radius, cloud)
    ball, link = nearest_pair(whole, cloud, sweep.radius.shape[0])
    bound, bound_ball, bound_link = search(whole, full, ball, link, problem)
    rate = (bound if course.rate == bound.limit else entail(course.rate, problem)).held
    if ball < 0:
        return Finding(True, bound.limit, bound.farther.swept, np.inf, -1, -1, rate.time, rate.swept, np.inf)
    separation = gap_now(ball, link, cloud, sweep)
    low = lowest(ball, link, cloud, sweep, rate.last, rate.share, separation, -np.inf)
    if bound_ball >= 0:
        low = lowest(bound_ball, bound_link, cloud, sweep, rate.last, rate.share, low, -np.inf)
    return Finding(True, bound.limit, bound.farther.swept, separation, ball, link, rate.time, rate.swept, low)


@njit(cache=True)
def stand(balls: F32, chain: Chain, fixed: int, q: F64, singles: F32, doubles: F64, near: F64) -> Finding:
    """Measure an arm that is on no path: separation and its pair; limit 0.

    near: (links,) filled with the smallest gap of each link, m; inf if there is no ball. The rest as for `decide`.
    """
    links = chain.owner.shape[0] - fixed
    cloud, sweep = cloud_in(singles, links), sweep_in(doubles, STATIONS, links)
    whole = unpack(balls, cloud)
    if whole < 0:
        return Finding(False, 0.0, 0.0, -1.0, -1, -1, 0.0, 0.0, 0.0)
    here(chain, fixed, q, sweep)
    gaps(whole, sweep.ends[0], sweep.radius, cloud)
    for i in range(links):
        near[i] = np.inf
        for b in range(whole // BLOCK):
            near[i] = min(near[i], float(cloud.block[i, b]) - SLACK)
    ball, link = nearest_pair(whole, cloud, links)
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
