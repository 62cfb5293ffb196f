"""The search for the largest limit at which no moving arm can touch anybody, compiled: one call for a whole cycle.

It starts from the exact monitor's limit, and from all that monitor has measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.kinematics import Chain
from safety import search
from safety.braking import Brakes, Course
from safety.kernels import BLOCK, FARTHEST, SLACK, Cloud, block_bounds
from safety.permits import Terrain, may_touch
from safety.reach_bodies import among_bodies, fill_near, nearest_body
from safety.reach_kernels import (
    ACCELERATION,
    CAPSULE,
    INTERVALS,
    SPREAD,
    Stages,
    Work,
    ask,
    clear,
    fill_stages,
    new_work,
)
from safety.search import RESOLUTION, Bound, Finding, People, Problem, entail, feasible, highest
from safety.stations import Path

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]


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
def _widened(balls: int, found: Finding, full: Bound, bodies: F64, problem: Problem) -> Reached:
    """Raise the exact limit to what contact permits, then lower it to what the bodies permit."""
    sweep = problem.sweep
    gap = np.empty((sweep.radius.shape[0], bodies.shape[0]))
    number, link, separation = nearest_body(bodies, sweep, gap)
    bound = full if feasible(full, problem) else highest(full, -1, -1, problem)
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
    found, problem, full = search.measure(
        balls, chain, fixed, q, course, path, brakes, people, terrain, singles, doubles
    )
    if not (found.sound and sound(bodies)):
        found = Finding(False, 0.0, 0.0, -1.0, -1, -1, 0.0, 0.0, 0.0)
        return Reached(found, -1.0, -1, -1, False)
    if found.limit >= 1.0 and bodies.shape[0] == 0:
        return Reached(found, np.inf, -1, -1, False)
    return _widened(balls.shape[0] // 4, found, full, bodies, problem)
