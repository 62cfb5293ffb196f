"""The search of the method `reach`, compiled: until when a *moving* arm can be where, and where people are then.

Every place s of the path ahead is asked for the gap that people need until the latest moment at which any permitted
ramp can still have a moving arm there. That moment is bounded in INTERVALS intervals of time, whatever the limit:
each says from which place on an arm is to be expected in it. The limit adds how long and how far the arm may go
(`safety.braking`). The proof is docs/safety/proof.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from safety.braking import Brakes, Course, Falls, measured_stop, rising, stop
from safety.kernels import PIECES, Sweep, dip
from safety.search import Bound, People, Stop, needed
from safety.stations import LEAD, SPACING, STATIONS, WINDOW

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
INTERVALS = 16
BEFORE = 6
"""Of these, how many lie before the lease can have expired."""
HARDEST = 20.0
"""No stop takes the rate down faster than this, 1/s: neither the node's (`slope_down` is at most this) nor
an emergency stop, which is taken to need at least 50 ms from full rate."""
INSTANT = 1e-9
"""More than the rounding of sums of ticks, s."""
CAPSULE = 7
"""Numbers of a capsule: both ends of its axis, radius."""
BODY = 15
"""Numbers of a body: its capsule at the reference time of the observation, m; the velocity of both ends, m/s (6); by
how much that may be wrong, m/s (inf: nothing is known of it, and it is not used); the largest acceleration, m/s^2."""
SPREAD, ACCELERATION = 13, 14


class Stages(NamedTuple):
    """The intervals of time, one row each: no arm that still moves in it is behind the place `first`."""

    first: I64
    """Station. Never falls from one interval to the next."""
    since: F64
    """Start, s from now."""
    until: F64
    """End; inf for the last one."""
    farthest: F64
    """Nominal progress ahead at the end at most, s."""


@njit(cache=True)
def least_ahead(course: Course, level: float, expiry: int, ticks: int, brakes: Brakes) -> float:
    """Return the least nominal progress (s) commanded after `ticks` ticks.

    level: the rate commanded `expiry` ticks from now is at least this. No rate rises by more than the steepest rise
    nor falls by more than HARDEST.
    """
    tick = brakes.tick
    steepest, hardest = max(brakes.up, course.slope), max(HARDEST, brakes.down, -course.slope)
    progress = 0.0
    before = level - steepest * expiry * tick
    for k in range(1, ticks + 1):
        left = (expiry - k) * tick
        after = level - steepest * left if left >= 0.0 else level + hardest * left
        own = course.rate - hardest * k * tick
        if own <= 0.0 and level <= 0.0:
            # nothing is added any more
            return progress
        progress += tick * max(0.0, own, min(before, after))
        before = after
    return progress


@njit(cache=True)
def most_ahead(course: Course, time: float, brakes: Brakes) -> float:
    """Return the largest nominal progress (s) `time` s from now, whatever is permitted."""
    steepest = max(brakes.up, course.slope)
    rate = 1.0 if course.progress <= 0.0 else course.rate
    rises = max(0.0, (1.0 - rate) / steepest)
    time = brakes.tick * math.ceil(time / brakes.tick)
    if time <= rises:
        return time * (rate + 0.5 * steepest * (time + brakes.tick))
    return rises * (rate + 0.5 * steepest * (rises + brakes.tick)) + (time - rises)


@njit(cache=True)
def fill_stages(course: Course, falls: Falls, brakes: Brakes, stages: Stages) -> None:
    """Bound until when a moving arm may be where, whatever the limit. All rows of `stages` are filled."""
    tick, delay = brakes.tick, brakes.delay
    expiry = math.ceil(max(0.0, course.horizon - delay) / tick - 1e-9)
    over = max(tick * math.ceil(course.horizon / tick - 1e-9), expiry * tick + delay)
    steep = Brakes(max(brakes.up, course.slope), brakes.down, brakes.jerk, tick, delay, brakes.measured)
    place = course.progress + most_ahead(course, expiry * tick, brakes)
    turn = steep.up * steep.up / (2.0 * brakes.jerk)
    since, last = 0.0, 0
    for k in range(INTERVALS):
        level = -1.0
        if k < BEFORE:
            until = over * (k + 1) / BEFORE
        else:
            if course.progress > 0.0:
                # still moving: the rate when the lease expired, and what its slope could add, was above this
                level = (k - BEFORE) / (INTERVALS - BEFORE) - turn
            peak = (k + 1 - BEFORE) / (INTERVALS - BEFORE)
            rate, slope = rising(peak, steep)
            time, end = stop(place, rate, slope, falls, brakes)
            time = max(time, measured_stop(peak, brakes)[0])
            until = max(since, over + time if end <= course.progress + WINDOW else np.inf)
        if since >= delay and since < 10.0:
            ahead = least_ahead(course, level, expiry, math.floor((since - delay) / tick), brakes)
            last = max(last, min(LEAD + math.floor(ahead / SPACING), STATIONS - 2))
        stages.first[k], stages.since[k], stages.until[k] = last, since, until
        stages.farthest[k] = most_ahead(course, min(until, 10.0), brakes)
        since = until
    stages.until[INTERVALS - 1] = np.inf


@njit(cache=True)
def fill_need(stop: Stop, stages: Stages, people: People, need: F64) -> None:
    """Fill need (STATIONS,): the gap each stretch behind a station must keep, m; it never falls along the path."""
    k = 0
    time = min(stages.until[0], stop.time)
    gap = needed(people, time)
    for m in range(stop.last + 1):
        while k + 1 < INTERVALS and stages.first[k + 1] <= m:
            k += 1
            if stages.until[k] > time and time < stop.time:
                time = min(stages.until[k], stop.time)
                gap = needed(people, time)
        need[m] = gap


@njit(cache=True)
def fill_spans(stop: Stop, stages: Stages, people: People, spans: F64) -> None:
    """Fill spans (INTERVALS, 3): station and share of the stretch behind it where each interval's stretch of path ends
    (station -1: nothing moves any more), and the gap people need until the interval ends, m.

    Stops and intervals both end at ticks. An interval that begins as the stop ends is counted all the same: rounding
    would else decide whether it is, and a lower limit could be refused where a higher one is admitted.
    """
    for k in range(INTERVALS):
        if stages.since[k] >= stop.time + INSTANT:
            spans[k, 0] = -1.0
            return
        at = min(stop.swept, stages.farthest[k]) / SPACING
        whole = min(math.floor(at), STATIONS - LEAD - 3)
        spans[k, 0], spans[k, 1] = LEAD + whole, min(1.0, at - whole)
        spans[k, 2] = needed(people, min(stages.until[k], stop.time))


@njit(cache=True)
def axes_apart(
    ax: float, ay: float, az: float, ux: float, uy: float, uz: float,
    ex: float, ey: float, ez: float, vx: float, vy: float, vz: float,
) -> float:  # fmt: skip
    """Return the distance between the segments from a along u and from e along v (Ericson, Real-Time Collision
    Detection, 5.1.9): nearest places of the two lines, then first the one, then the other cut to its segment."""
    wx, wy, wz = ax - ex, ay - ey, az - ez
    a, c = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz
    b = ux * vx + uy * vy + uz * vz
    d, f = ux * wx + uy * wy + uz * wz, vx * wx + vy * wy + vz * wz
    s, t = 0.0, 0.0
    cross = a * c - b * b
    if cross > 1e-14 * a * c:
        # of parallel lines any place will do
        s = min(1.0, max(0.0, (b * f - c * d) / cross))
    if c > 0.0:
        t = (b * s + f) / c
    if (t < 0.0 or c == 0.0) and a > 0.0:
        t, s = 0.0, min(1.0, max(0.0, -d / a))
    elif t > 1.0 and a > 0.0:
        t, s = 1.0, min(1.0, max(0.0, (b - d) / a))
    t = min(1.0, max(0.0, t))
    x, y, z = wx + s * ux - t * vx, wy + s * uy - t * vy, wz + s * uz - t * vz
    return math.sqrt(x * x + y * y + z * z)


@njit(cache=True)
def apart(body: F64, e: F64) -> float:
    """Return the distance between the axis of a body and the segment from e[:3] to e[3:]."""
    return axes_apart(
        body[0], body[1], body[2], body[3] - body[0], body[4] - body[1], body[5] - body[2],
        e[0], e[1], e[2], e[3] - e[0], e[4] - e[1], e[5] - e[2],
    )  # fmt: skip


@njit(cache=True)
def apart_at(body: F64, ends: F64, link: int, k: int, share: float) -> float:
    """Return the distance between the axis of a body and that of a link, `share` of the way from station k to k + 1."""
    ex = ends[k, link, 0] + share * (ends[k + 1, link, 0] - ends[k, link, 0])
    ey = ends[k, link, 1] + share * (ends[k + 1, link, 1] - ends[k, link, 1])
    ez = ends[k, link, 2] + share * (ends[k + 1, link, 2] - ends[k, link, 2])
    fx = ends[k, link, 3] + share * (ends[k + 1, link, 3] - ends[k, link, 3])
    fy = ends[k, link, 4] + share * (ends[k + 1, link, 4] - ends[k, link, 4])
    fz = ends[k, link, 5] + share * (ends[k + 1, link, 5] - ends[k, link, 5])
    return axes_apart(
        body[0], body[1], body[2], body[3] - body[0], body[4] - body[1], body[5] - body[2],
        ex, ey, ez, fx - ex, fy - ey, fz - ez,
    )  # fmt: skip


@njit(cache=True)
def stays(body: F64, link: int, sweep: Sweep, first: int, last: int, share: float, need: F64) -> bool:
    """Whether a link keeps its gap to a body on every stretch from station `first` to `share` of the one behind `last`.

    need: (STATIONS,) gap of the stretch behind each station, m; it must not fall. Goes as far in one step as the link
    would have to move to come too near; where that is nowhere, in PIECES of a stretch with `dip` for what lies between.
    """
    ends, way = sweep.ends, sweep.way
    off = body[6] + sweep.radius[link] + sweep.bend[link]
    total = way[last, link] + share * (way[last + 1, link] - way[last, link])
    k = first
    d = apart_at(body, ends, link, k, 0.0) - off
    while True:
        if d < need[k]:
            return False
        if d - (total - way[k, link]) >= need[last]:
            return True
        j = k
        while j < last and d - (way[j + 1, link] - way[k, link]) >= need[j]:
            j += 1
        if j > k:
            k, d = j, apart_at(body, ends, link, j, 0.0) - off
            continue
        part = share if k == last else 1.0
        end = apart_at(body, ends, link, k, part) - off
        length = part * (way[k + 1, link] - way[k, link])
        if end < need[k]:
            return False
        if dip(d + off, end + off, length) - off < need[k]:
            for n in range(1, PIECES + 1):
                after = apart_at(body, ends, link, k, part * n / PIECES) - off if n < PIECES else end
                if dip(d + off, after + off, length / PIECES) - off < need[k]:
                    return False
                d = after
        if k == last:
            return True
        k, d = k + 1, end


class Work(NamedTuple):
    """What a limit asks of the path, and scratch space."""

    held: F64
    """(STATIONS,) for the first course of events, ..."""
    down: F64
    """... the second."""
    flat: F64
    """(STATIONS,)"""
    spans: F64
    """(2, INTERVALS, 3) for both courses: what `fill_spans` says of each interval."""


@njit(cache=True)
def new_work() -> Work:
    """Return scratch space."""
    return Work(np.empty(STATIONS), np.empty(STATIONS), np.empty(STATIONS), np.empty((2, INTERVALS, 3)))


@njit(cache=True)
def ask(bound: Bound, stages: Stages, people: People, work: Work) -> None:
    """Fill what a limit asks for."""
    if bound.held.need < np.inf:
        fill_need(bound.held, stages, people, work.held)
        fill_spans(bound.held, stages, people, work.spans[0])
    if bound.down.need > -np.inf and bound.down.need < np.inf:
        fill_need(bound.down, stages, people, work.down)
        fill_spans(bound.down, stages, people, work.spans[1])


@njit(cache=True)
def clear_of(stop: Stop, body: F64, link: int, sweep: Sweep, need: F64) -> bool:
    """As `clear` for one course. need: (STATIONS,) what it asks for."""
    if not stop.need > -np.inf:
        return True
    return stop.need < np.inf and stays(body, link, sweep, 0, stop.last, stop.share, need)


@njit(cache=True)
def clear(bound: Bound, body: F64, link: int, sweep: Sweep, work: Work) -> bool:
    """Whether an arm that still moves cannot reach a body. `work` holds what the limit asks for."""
    return clear_of(bound.held, body, link, sweep, work.held) and clear_of(bound.down, body, link, sweep, work.down)
