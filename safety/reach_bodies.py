"""The bodies of the method `reach`, compiled: people as capsules, some with a known velocity.

A pair of body and link is clear of a limit if no arm that still moves can reach the body, in each interval of time by
the body's velocity or by the largest speed of people. What is clear at a limit is clear at every lower one
(docs/safety/proof.md, lemma 4), so pairs that are clear at the limit found so far never have to be looked at again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from safety.kernels import SLACK, Sweep
from safety.reach_kernels import (
    ACCELERATION,
    BODY,
    CAPSULE,
    INTERVALS,
    SPREAD,
    Stages,
    Work,
    apart,
    apart_at,
    ask,
    clear,
    clear_of,
    fill_need,
    fill_spans,
    new_work,
    stays,
)
from safety.search import (
    RESOLUTION,
    Bound,
    People,
    Problem,
    Stop,
    entail,
    entail_besides,
    entail_held,
    feasible,
)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
ROUNDING = 1e-9
"""More than the arithmetic of a few distances loses, m."""
SAMPLES = 2
"""Parts of a sweep between which a margin is taken."""


class Crowd(NamedTuple):
    """Bodies, and where those with a velocity are in each interval, whatever the limit."""

    bodies: F64
    """(m, BODY)."""
    moved: F64
    """(m, INTERVALS, CAPSULE): the capsule at the middle of each interval, grown by all it may be elsewhere in it.
    Not filled for bodies without a velocity and for intervals without an end."""
    speed: F64
    """(m,): no point of the axis moves faster by that velocity, m/s; inf: it is not known."""


@njit(cache=True)
def crowd_of(bodies: F64, stages: Stages, age: float) -> Crowd:
    """Return bodies (m, BODY) with their places in each interval. age: from their reference time to now, s."""
    count = bodies.shape[0]
    crowd = Crowd(bodies, np.empty((count, INTERVALS, CAPSULE)), np.full(count, np.inf))
    for m in range(count):
        body = bodies[m]
        if body.shape[0] < BODY or not body[SPREAD] < np.inf:
            continue
        v = body[CAPSULE:SPREAD]
        speed = math.sqrt(max(v[0] ** 2 + v[1] ** 2 + v[2] ** 2, v[3] ** 2 + v[4] ** 2 + v[5] ** 2))
        crowd.speed[m] = speed
        for k in range(INTERVALS):
            since, until = stages.since[k], stages.until[k]
            if not until < np.inf:
                break
            middle, end, row = age + 0.5 * (since + until), age + until, crowd.moved[m, k]
            for c in range(6):
                row[c] = body[c] + middle * v[c]
            grown = 0.5 * (until - since) * speed + end * (body[SPREAD] + 0.5 * body[ACCELERATION] * end)
            row[6] = body[6] + grown
    return crowd


@njit(cache=True)
def _evades(
    stop: Stop, spans: F64, m: int, link: int, gap: float, crowd: Crowd, sweep: Sweep, stages: Stages, fixed: float,
    work: Work,
) -> bool:  # fmt: skip
    """As `clear_of` for a body with a known velocity: in each interval by that, or by the largest speed of people.

    spans: of the course. gap: between body and link now, less the bend, or less than that, m.
    Where the moved body is in one interval bounds where it can be in the next one: its axis moves by no more than
    `speed` and the link's by no more than its way, so their distance falls by no more than both.
    """
    if not stop.need > -np.inf:
        return True
    if not stop.need < np.inf:
        return False
    way, body, speed, thick = sweep.way, crowd.bodies[m], crowd.speed[m], sweep.radius[link] + sweep.bend[link]
    known, when, where = -np.inf, 0.0, 0.0
    for k in range(INTERVALS):
        last, share, need, first = int(spans[k, 0]), spans[k, 1], spans[k, 2], stages.first[k]
        if last < 0:
            return True
        if first > last:
            continue
        total = way[last, link] + share * (way[last + 1, link] - way[last, link])
        if gap - total >= need:
            continue
        since, until = stages.since[k], stages.until[k]
        if until < np.inf:
            moved, begin, middle = crowd.moved[m, k], way[first, link], 0.5 * (since + until)
            wanted = fixed + moved[6] + thick + total - begin
            if known - speed * (middle - when) - (begin - where) >= wanted + ROUNDING:
                continue
            known, when, where = apart(moved, sweep.ends[first, link]), middle, begin
            if known >= wanted:
                continue
            work.flat[first : last + 1] = fixed
            if stays(moved, link, sweep, first, last, share, work.flat):
                continue
        work.flat[first : last + 1] = need
        if not stays(body, link, sweep, first, last, share, work.flat):
            return False
    return True


@njit(cache=True)
def _now(m: int, link: int, crowd: Crowd, sweep: Sweep) -> float:
    return apart(crowd.bodies[m], sweep.ends[0, link]) - crowd.bodies[m, 6] - sweep.radius[link] - sweep.bend[link]


@njit(cache=True)
def body_clear(
    bound: Bound, m: int, link: int, crowd: Crowd, sweep: Sweep, stages: Stages, people: People, work: Work
) -> bool:  # fmt: skip
    """As `clear`, for body m of a crowd, which may have a velocity."""
    if clear(bound, crowd.bodies[m], link, sweep, work):
        return True
    if not crowd.speed[m] < np.inf:
        return False
    gap = _now(m, link, crowd, sweep)
    return _evades(bound.held, work.spans[0], m, link, gap, crowd, sweep, stages, people.fixed, work) and _evades(
        bound.down, work.spans[1], m, link, gap, crowd, sweep, stages, people.fixed, work
    )


@njit(cache=True)
def _space(body: F64, link: int, sweep: Sweep, first: int, last: int, share: float) -> float:
    """Estimate the smallest gap on a stretch, from SAMPLES + 1 places of it, m."""
    least = apart_at(body, sweep.ends, link, last, share)
    for n in range(SAMPLES):
        least = min(least, apart_at(body, sweep.ends, link, first + (last - first) * n // SAMPLES, 0.0))
    return least - body[6] - sweep.radius[link] - sweep.bend[link]


@njit(cache=True)
def _margin_of(
    stop: Stop, need: F64, spans: F64, m: int, link: int, crowd: Crowd, sweep: Sweep, stages: Stages, fixed: float
) -> float:  # fmt: skip
    if not stop.need > -np.inf:
        return np.inf
    if not stop.need < np.inf:
        return -np.inf
    body, least = crowd.bodies[m], np.inf
    for n in range(SAMPLES + 1):
        k = stop.last * n // SAMPLES
        share = stop.share if n == SAMPLES else 0.0
        d = apart_at(body, sweep.ends, link, k, share) - need[k]
        least = min(least, d)
    least -= body[6] + sweep.radius[link] + sweep.bend[link]
    if not crowd.speed[m] < np.inf:
        return least
    other = np.inf
    for k in range(INTERVALS):
        last, share, first = int(spans[k, 0]), spans[k, 1], stages.first[k]
        if last < 0:
            break
        if first <= last:
            left = _space(body, link, sweep, first, last, share) - spans[k, 2]
            if stages.until[k] < np.inf:
                left = max(left, _space(crowd.moved[m, k], link, sweep, first, last, share) - fixed)
            other = min(other, left)
    return max(least, other)


@njit(cache=True)
def margin(
    bound: Bound, m: int, link: int, crowd: Crowd, sweep: Sweep, stages: Stages, fixed: float, work: Work
) -> float:  # fmt: skip
    """Estimate by how much a pair is clear of a limit, m: it says only where to look next, never what is permitted."""
    held = _margin_of(bound.held, work.held, work.spans[0], m, link, crowd, sweep, stages, fixed)
    return min(held, _margin_of(bound.down, work.down, work.spans[1], m, link, crowd, sweep, stages, fixed))


@njit(cache=True)
def _tried(
    limit: float, m: int, link: int, crowd: Crowd, problem: Problem, stages: Stages, work: Work
) -> tuple[bool, Bound]:  # fmt: skip
    """Return whether a limit is admissible for a pair, as `body_clear` and `search.feasible` say, and what it entails.

    Where keeping to the limit is too much already, what lies above it is not followed.
    """
    sweep, people, body = problem.sweep, problem.people, crowd.bodies[m]
    kept = entail_held(limit, problem)
    if not kept.held.need < np.inf:
        return False, kept
    fill_need(kept.held, stages, people, work.held)
    fill_spans(kept.held, stages, people, work.spans[0])
    known = crowd.speed[m] < np.inf
    gap = _now(m, link, crowd, sweep) if known else 0.0
    plain = clear_of(kept.held, body, link, sweep, work.held)
    evades = not plain and known
    if evades:
        evades = _evades(kept.held, work.spans[0], m, link, gap, crowd, sweep, stages, people.fixed, work)
    if not plain and not evades:
        return False, kept
    tried = entail_besides(kept, problem)
    if not feasible(tried, problem):
        return False, tried
    if not tried.down.need > -np.inf:
        return True, tried
    fill_need(tried.down, stages, people, work.down)
    fill_spans(tried.down, stages, people, work.spans[1])
    if plain and clear_of(tried.down, body, link, sweep, work.down):
        return True, tried
    if plain and known:
        evades = _evades(kept.held, work.spans[0], m, link, gap, crowd, sweep, stages, people.fixed, work)
    good = evades and _evades(tried.down, work.spans[1], m, link, gap, crowd, sweep, stages, people.fixed, work)
    return good, tried


@njit(cache=True)
def lowered(bound: Bound, m: int, link: int, crowd: Crowd, problem: Problem, stages: Stages, work: Work) -> Bound:
    """Return the largest multiple of RESOLUTION below `bound` at which a pair is clear; the pair is not at `bound`.

    On fixed multiples, and what is clear being an interval from 0, the result does not depend on the order in which
    the pairs are tried. 0 if the pair is clear of none.
    """
    low, high, middle = 0, round(bound.limit / RESOLUTION), 1
    found = bound
    while high - low > 1:
        good, tried = _tried(middle * RESOLUTION, m, link, crowd, problem, stages, work)
        if good:
            low, found = middle, tried
        elif middle == 1:
            break
        else:
            high = middle
        middle = (low + high) // 2
    return found if low > 0 else entail(0.0, problem)


@njit(cache=True)
def fill_near(bound: Bound, sweep: Sweep, out: F64) -> None:
    """Fill out (links,): a pair with a larger gap now cannot come nearer than any place asks for."""
    way, last, share = sweep.way, bound.farther.last, bound.farther.share
    for i in range(out.shape[0]):
        total = way[last, i] + share * (way[last + 1, i] - way[last, i])
        out[i] = bound.farther.need + total + sweep.bend[i] + SLACK


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
def _not_clear(
    bound: Bound, gap: F64, crowd: Crowd, problem: Problem, stages: Stages, work: Work, out: I64
) -> tuple[int, float]:  # fmt: skip
    """Fill out (pairs, 2) with link and body of every pair that is not clear at a bound, the one with the least margin
    first; return how many there are, and that margin. gap: as from `nearest_body`."""
    sweep, people = problem.sweep, problem.people
    near = np.empty(gap.shape[0])
    fill_near(bound, sweep, near)
    count, least = 0, np.inf
    for i in range(gap.shape[0] - 1, -1, -1):
        for m in range(gap.shape[1]):
            if gap[i, m] >= near[i]:
                continue
            gap[i, m] = apart(crowd.bodies[m], sweep.ends[0, i]) - sweep.radius[i] - crowd.bodies[m, 6]
            if gap[i, m] >= near[i] or body_clear(bound, m, i, crowd, sweep, stages, people, work):
                continue
            out[count, 0], out[count, 1] = i, m
            count += 1
            least = _put_first(bound, count - 1, least, crowd, problem, stages, work, out)
    return count, least


@njit(cache=True)
def _put_first(
    bound: Bound, n: int, least: float, crowd: Crowd, problem: Problem, stages: Stages, work: Work, pairs: I64
) -> float:  # fmt: skip
    """Put pair n in front of all if its margin is below `least`, or it is the only one; return the smaller margin."""
    i, m = pairs[n, 0], pairs[n, 1]
    left = margin(bound, m, i, crowd, problem.sweep, stages, problem.people.fixed, work)
    if n > 0 and not left < least:
        return least
    pairs[n, 0], pairs[n, 1] = pairs[0, 0], pairs[0, 1]
    pairs[0, 0], pairs[0, 1] = i, m
    return left


@njit(cache=True)
def among_bodies(
    bound: Bound, number: int, link: int, bodies: F64, gap: F64, problem: Problem, stages: Stages
) -> Bound:
    """Return the largest limit up to that of `bound` that is clear of all bodies. number, link: the nearest pair.

    The limit of the nearest pair is found first; then that of the pair that is least clear of it, until all are.
    """
    sweep, people = problem.sweep, problem.people
    work, trial, pairs = new_work(), new_work(), np.empty((gap.size, 2), np.int64)
    crowd = crowd_of(bodies, stages, people.age)
    ask(bound, stages, people, work)
    if not body_clear(bound, number, link, crowd, sweep, stages, people, work):
        bound = lowered(bound, number, link, crowd, problem, stages, trial)
        ask(bound, stages, people, work)
    if bound.limit == 0.0:
        return bound
    count, least = _not_clear(bound, gap, crowd, problem, stages, work, pairs)
    while count > 0:
        bound = lowered(bound, pairs[0, 1], pairs[0, 0], crowd, problem, stages, trial)
        if bound.limit == 0.0:
            return bound
        ask(bound, stages, people, work)
        remain = 0
        for n in range(1, count):
            i, m = pairs[n, 0], pairs[n, 1]
            if not body_clear(bound, m, i, crowd, sweep, stages, people, work):
                pairs[remain, 0], pairs[remain, 1] = i, m
                remain += 1
                least = _put_first(bound, remain - 1, least, crowd, problem, stages, work, pairs)
        count = remain
    return bound
