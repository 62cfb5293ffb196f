"""The search for the largest limit at which no moving arm can touch anybody, compiled: one call for a whole cycle.

It starts from the exact monitor's limit, and from all that monitor has measured.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.kinematics import Chain
from safety import search
from safety.braking import CELLS, Brakes, Course, falls_ahead
from safety.kernels import BLOCK, FARTHEST, SLACK, Cloud, Sweep, block_bounds, cloud_in, sweep_in
from safety.permits import Permits, Terrain, may_touch, permits_along
from safety.reach_kernels import (
    ACCELERATION,
    CAPSULE,
    INTERVALS,
    SPREAD,
    Stages,
    Work,
    apart,
    ask,
    body_clear,
    body_clear_held,
    clear,
    fill_stages,
    new_work,
)
from safety.search import (
    FALLS,
    RESOLUTION,
    Bound,
    Finding,
    People,
    Problem,
    entail,
    entail_besides,
    entail_held,
    feasible,
    highest,
)
from safety.stations import STATIONS, WINDOW, Path

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class Reached(NamedTuple):
    """What `decide` returns."""

    found: Finding
    """The exact monitor's, with this method's limit and way."""
    separation: float
    """Smallest gap to a body now, m; inf if there is none."""
    body: int
    """Of that pair; -1: there is none."""
    link: int
    bound_by_body: bool
    """A body has lowered the limit below what the balls permit."""


@njit(cache=True)
def touches(bound: Bound, ball: int, link: int, problem: Problem) -> bool:
    """Whether a link may touch a ball at a limit: it lies in a zone of contact, and the link is slow enough."""
    return may_touch(problem.permits, bound.limit, bound.farther.last + 1, ball, link)


@njit(cache=True)
def best(
    bound: Bound, floor: float, ball: int, body: F64, link: int, problem: Problem, stages: Stages, work: Work
) -> Bound:
    """Return the largest multiple of RESOLUTION from `floor` to below `bound` at which a pair is clear.

    floor: a limit known to be clear, or 0. ball: number of the ball that `body` (CAPSULE,) stands for.
    """
    low, high = round(floor / RESOLUTION), round(bound.limit / RESOLUTION)
    found = entail(low * RESOLUTION, problem)
    middle = low + 1
    while high - low > 1:
        tried = entail(middle * RESOLUTION, problem)
        fine = feasible(tried, problem)
        if fine and not touches(tried, ball, link, problem):
            ask(tried, stages, problem.people, work)
            fine = clear(tried, body, link, problem.sweep, work)
        if fine:
            low, found = middle, tried
        else:
            high = middle
        middle = (low + high) // 2
    return found


@njit(cache=True)
def take_ball(ball: int, cloud: Cloud, out: F64) -> None:
    """Fill out (CAPSULE,) with a ball of the cloud."""
    out[0] = out[3] = float(cloud.x[ball])
    out[1] = out[4] = float(cloud.y[ball])
    out[2] = out[5] = float(cloud.z[ball])
    out[6] = float(cloud.r[ball])


@njit(cache=True)
def fill_near(bound: Bound, sweep: Sweep, out: F64) -> None:
    """Fill out (links,): a pair with a larger gap now cannot come nearer than any place asks for."""
    way, last, share = sweep.way, bound.farther.last, bound.farther.share
    for i in range(out.shape[0]):
        total = way[last, i] + share * (way[last + 1, i] - way[last, i])
        out[i] = bound.farther.need + total + sweep.bend[i] + SLACK


@njit(cache=True)
def among_balls(
    whole: int, bound: Bound, floor: float, ball: int, link: int, problem: Problem, stages: Stages
) -> Bound:
    """Return the largest limit, from `floor` to that of `bound`, that is clear of all balls.

    whole: number of balls in whole blocks. floor: known to be clear. ball, link: a pair likely to bind.
    """
    cloud, sweep = problem.cloud, problem.sweep
    work, trial, row, near = new_work(), new_work(), np.empty(CAPSULE), np.empty(sweep.radius.shape[0])
    before, least = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    ask(bound, stages, problem.people, work)
    take_ball(ball, cloud, row)
    if not (touches(bound, ball, link, problem) or clear(bound, row, link, sweep, work)):
        bound = best(bound, floor, ball, row, link, problem, stages, trial)
        ask(bound, stages, problem.people, work)
    fill_near(bound, sweep, near)
    for i in range(near.shape[0] - 1, -1, -1):
        for b in range(whole // BLOCK):
            if bound.limit <= floor:
                return bound
            if cloud.block[i, b] >= near[i]:
                continue
            block_bounds(b, i, bound.farther.last + 1, cloud, sweep, before, least)
            for k in range(BLOCK):
                if least[k] >= bound.farther.need + sweep.bend[i] + SLACK:
                    continue
                take_ball(b * BLOCK + k, cloud, row)
                if touches(bound, b * BLOCK + k, i, problem) or clear(bound, row, i, sweep, work):
                    continue
                bound = best(bound, floor, b * BLOCK + k, row, i, problem, stages, trial)
                ask(bound, stages, problem.people, work)
                fill_near(bound, sweep, near)
    return bound


@njit(cache=True)
def nearest_body(bodies: F64, sweep: Sweep, gap: F64) -> tuple[int, int, float]:
    """Return body, link and gap of the nearest pair now; -1, -1, inf without bodies.

    gap: (links, m) filled with the gap of each pair now, or less, by the balls round both.
    """
    number, link, least = -1, -1, np.inf
    for i in range(gap.shape[0]):
        e, thick = sweep.ends[0, i], sweep.radius[i]
        half = 0.5 * math.sqrt((e[3] - e[0]) ** 2 + (e[4] - e[1]) ** 2 + (e[5] - e[2]) ** 2)
        for m in range(bodies.shape[0]):
            b = bodies[m]
            long = 0.5 * math.sqrt((b[3] - b[0]) ** 2 + (b[4] - b[1]) ** 2 + (b[5] - b[2]) ** 2)
            x, y, z = b[0] + b[3] - e[0] - e[3], b[1] + b[4] - e[1] - e[4], b[2] + b[5] - e[2] - e[5]
            gap[i, m] = 0.5 * math.sqrt(x * x + y * y + z * z) - half - long - thick - b[6]
            if gap[i, m] < least:
                gap[i, m] = apart(b, e) - thick - b[6]
                if gap[i, m] < least:
                    number, link, least = m, i, gap[i, m]
    return number, link, least


@njit(cache=True)
def _candidates(
    bound: Bound, number: int, link: int, bodies: F64, gap: F64, problem: Problem, stages: Stages, work: Work, out: I64
) -> int:  # fmt: skip
    """Fill out (pairs, 2) with link and body of every pair that is not clear at a bound; return how many there are.

    The nearest pair, `number` and `link`, comes first if it is one of them.
    """
    near = np.empty(gap.shape[0])
    fill_near(bound, problem.sweep, near)
    ask(bound, stages, problem.people, work)
    count = 0
    for i in range(gap.shape[0] - 1, -1, -1):
        for m in range(bodies.shape[0]):
            if gap[i, m] >= near[i]:
                continue
            gap[i, m] = apart(bodies[m], problem.sweep.ends[0, i]) - problem.sweep.radius[i] - bodies[m, 6]
            if gap[i, m] >= near[i]:
                continue
            if not body_clear(bound, bodies[m], i, problem.sweep, stages, problem.people, work):
                out[count, 0], out[count, 1] = i, m
                if i == link and m == number:
                    out[count, 0], out[count, 1] = out[0, 0], out[0, 1]
                    out[0, 0], out[0, 1] = i, m
                count += 1
    return count


@njit(cache=True)
def among_bodies(
    bound: Bound, number: int, link: int, bodies: F64, gap: F64, problem: Problem, stages: Stages
) -> Bound:
    """Return the largest limit up to that of `bound` that is clear of all bodies. number, link: the nearest pair."""
    sweep, people = problem.sweep, problem.people
    work, pairs = new_work(), np.empty((gap.size, 2), np.int64)
    found = entail(0.0, problem)
    low, high = 0, round(bound.limit / RESOLUTION)
    tried = entail(RESOLUTION, problem)
    ask(tried, stages, people, work)
    if high == 0 or not body_clear(tried, bodies[number], link, sweep, stages, people, work):
        return found
    count = _candidates(bound, number, link, bodies, gap, problem, stages, work, pairs)
    if count == 0:
        return bound
    first, middle = 0, 1
    while high - low > 1:
        kept = entail_held(middle * RESOLUTION, problem)
        n = first
        if kept.held.need < np.inf:
            ask(kept, stages, people, work)
            while n < count and body_clear_held(kept, bodies[pairs[n, 1]], pairs[n, 0], sweep, stages, people, work):
                n += 1
        if n < count:
            # the pair that is too near is likely to bind again
            pairs[first, 0], pairs[n, 0] = pairs[n, 0], pairs[first, 0]
            pairs[first, 1], pairs[n, 1] = pairs[n, 1], pairs[first, 1]
            high, middle = middle, (low + middle) // 2
            continue
        tried = entail_besides(kept, problem)
        n = first
        if feasible(tried, problem):
            ask(tried, stages, people, work)
            while n < count and body_clear(tried, bodies[pairs[n, 1]], pairs[n, 0], sweep, stages, people, work):
                n += 1
        if n == count:
            low, found = middle, tried
        else:
            # what is clear here is clear at every lower limit, and the pair that is not is likely to bind again
            high, first = middle, n
        middle = (low + high) // 2
    return found


@njit(cache=True)
def sound(bodies: F64) -> bool:
    """Whether all bodies (m, BODY) are described by sensible numbers. A comparison with NaN is false."""
    good = True
    for m in range(bodies.shape[0]):
        for c in range(SPREAD):
            good &= abs(bodies[m, c]) < FARTHEST
        good &= (bodies[m, 6] >= 0.0) & (bodies[m, SPREAD] >= 0.0)
        good &= (bodies[m, ACCELERATION] >= 0.0) & (bodies[m, ACCELERATION] < np.inf)
    return good


@njit(cache=True)
def _widened(balls: int, found: Finding, bodies: F64, problem: Problem) -> Reached:
    """Raise the exact limit to what contact permits, then lower it to what the bodies permit."""
    sweep = problem.sweep
    gap = np.empty((sweep.radius.shape[0], bodies.shape[0]))
    number, link, separation = nearest_body(bodies, sweep, gap)
    bound = entail(1.0, problem)
    if not feasible(bound, problem):
        bound = highest(bound, -1, -1, problem)
    near = np.empty(gap.shape[0])
    fill_near(bound, sweep, near)
    far = True
    for i in range(gap.shape[0]):
        for m in range(gap.shape[1]):
            far &= gap[i, m] >= near[i]
    if far and bound.limit <= found.limit:
        return Reached(found, separation, number, link, False)
    stages = Stages(np.empty(INTERVALS, np.int64), np.empty(INTERVALS), np.empty(INTERVALS), np.empty(INTERVALS))
    fill_stages(problem.course, problem.falls, problem.brakes, stages)
    if found.ball >= 0 and bound.limit > found.limit:
        whole = (balls + BLOCK - 1) // BLOCK * BLOCK
        bound = among_balls(whole, bound, found.limit, found.ball, found.link, problem, stages)
    permitted = bound.limit
    if not far:
        bound = among_bodies(bound, number, link, bodies, gap, problem, stages)
    found = Finding(
        found.sound, bound.limit, bound.farther.swept, found.separation, found.ball, found.link, found.time,
        found.swept, found.low,
    )  # fmt: skip
    return Reached(found, separation, number, link, bound.limit < permitted)


@njit(cache=True)
def decide(
    balls: F32, chain: Chain, fixed: int, q: F64, course: Course, path: Path, brakes: Brakes, people: People,
    terrain: Terrain, bodies: F64, singles: F32, doubles: F64,
) -> Reached:  # fmt: skip
    """One whole cycle on a path: `search.decide`, and this method's limit on what that has measured.

    bodies: (m, BODY) people beside the balls. Everything else as for `search.decide`; the finding is not sound if one
    of them is not described by sensible numbers.
    """
    found = search.decide(balls, chain, fixed, q, course, path, brakes, people, terrain, singles, doubles)
    if not (found.sound and sound(bodies)):
        found = Finding(False, 0.0, 0.0, -1.0, -1, -1, 0.0, 0.0, 0.0)
        return Reached(found, -1.0, -1, -1, False)
    if found.limit >= 1.0 and bodies.shape[0] == 0:
        return Reached(found, np.inf, -1, -1, False)
    links = chain.owner.shape[0] - fixed
    cloud, sweep = cloud_in(singles, links), sweep_in(doubles, STATIONS, links)
    falls = falls_ahead(path.fall, path.step, course.progress, WINDOW, brakes.down, doubles[-FALLS:])
    nothing = Permits(terrain.zone, np.empty((0, 0, 0)), np.empty(0))
    cells = np.full((CELLS, 4), np.nan)
    full = entail(1.0, Problem(cloud, sweep, course, falls, brakes, people, nothing, cells))
    permits = permits_along(terrain, course.progress, sweep, full.farther.last + 2)
    problem = Problem(cloud, sweep, course, falls, brakes, people, permits, cells)
    return _widened(balls.shape[0] // 4, found, bodies, problem)
