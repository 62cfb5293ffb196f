"""How long the arm may still move, and how far, if it is granted a limit now: compiled, the node's own rate law.

Nominal seconds of progress and seconds of time; rates in [0, 1]. Everything here grows with the limit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.rates import landing_slope, rate_step

F64 = NDArray[np.float64]


NOTHING_MEASURED: F64 = np.empty((0, 3))


class Brakes(NamedTuple):
    """What bounds the rate of progress, and the delays between a decision and the drives."""

    up: float
    """Largest rise of the rate, 1/s."""
    down: float
    """Largest fall of the rate; what the joints permit on the path can only lower it, 1/s."""
    jerk: float
    """Largest change of the slope, 1/s^3."""
    tick: float
    """Period of the robot node, s."""
    delay: float
    """From the node's command to the drives, s."""
    measured: F64 = NOTHING_MEASURED
    """(k, 3) rate, time, way per rate as in `safety.stopping.Stops.rows`: no stop is taken to be shorter."""


class Course(NamedTuple):
    """Where the arm is on its accepted motion, and until when it may use a limit granted now."""

    progress: float
    rate: float
    slope: float
    """d rate / dt, 1/s."""
    horizon: float
    """Until the drives brake if no further lease comes, s."""
    obeyed: float
    """Until this decision reaches the robot node; before that an older lease may still hold, s."""
    ceiling: float = 1.0
    """No older lease that can still hold permits more."""


class Falls(NamedTuple):
    """How fast the rate can fall along the path ahead."""

    least: F64
    """Least permitted fall from the sample behind the arm up to each sample ahead, 1/s."""
    first: int
    """Number of the first of these samples."""
    step: float
    """Nominal time between samples, s."""


@njit(cache=True)
def falls_ahead(slope_limits: F64, step: float, progress: float, ahead: float, down: float, memory: F64) -> Falls:
    """Gather the falls over `ahead` nominal s, capped by `down`, in `memory` (at least 3 + ahead / step numbers).

    At a place the arm is taken to brake no better than at the worst place passed on the way to it. That is never
    better than what the node does, and it makes the braking of a faster, farther arm take longer than that of a
    slower one, whatever the path permits.
    """
    last = slope_limits.shape[0] - 1
    first = min(max(math.floor(progress / step), 0), last)
    end = min(max(math.ceil((progress + ahead) / step), first), last)
    least = down
    for k in range(first, end + 1):
        least = min(least, slope_limits[k])
        memory[k - first] = least
    return Falls(memory[: end + 1 - first], first, step)


@njit(cache=True)
def fall_at(falls: Falls, progress: float) -> float:
    """Return the fall to be counted on at a progress, 1/s."""
    k = math.ceil(progress / falls.step) - falls.first
    return float(falls.least[min(max(k, 0), falls.least.shape[0] - 1)])


@njit(cache=True)
def stop(progress: float, rate: float, slope: float, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Return time (s) and progress at which the node's own braking ends, tick by tick; infinite after 10 s.

    The position a tick commands already contains that tick's fall, so the arm never takes longer. Ticks at the full
    fall are taken in one go where it stays the same to the end.
    """
    time, tick, jerk = 0.0, brakes.tick, brakes.jerk
    while rate > 0.0:
        if time > 10.0:
            return math.inf, math.inf
        down = fall_at(falls, progress)
        fall = down * tick
        landing = 0.5 * down * (down / jerk + tick) + fall
        if slope == -down and rate > landing + fall:
            rest = rate * (rate / down + down / jerk + 2.0 * tick)
            if fall_at(falls, progress + rest) == down:
                ticks = math.floor((rate - landing) / fall)
                progress += ticks * tick * (rate - 0.5 * ticks * fall)
                rate -= ticks * fall
                time += ticks * tick
        before = rate
        rate, slope = rate_step(rate, slope, 0.0, 1e9, down, jerk, tick)
        progress += 0.5 * (before + rate) * tick
        time += tick
    return time, progress


@njit(cache=True)
def measured_stop(rate: float, brakes: Brakes) -> tuple[float, float]:
    """Return the time (s) and the progress (nominal s) a stop from `rate` was measured to take; 0, 0 without a table.

    Beyond the last row that one counts: who permits a rate has to see that it was measured.
    """
    rows = brakes.measured
    if rows.shape[0] == 0 or not rate > 0.0:
        return 0.0, 0.0
    k = 0
    while k < rows.shape[0] - 1 and rows[k, 0] < rate:
        k += 1
    return rows[k, 1], rate * rows[k, 2]


@njit(cache=True)
def rising(limit: float, brakes: Brakes) -> tuple[float, float]:
    """Return the lowest rate and the steepest slope at which braking can set in if the rate is to reach `limit`.

    The node approaches a limit with at most the slope from which it can still land there (`landing_slope` a tick
    before); once it brakes, the slope loses jerk * tick a tick, and as long as it is above 0 the rate rises.
    """
    change = brakes.jerk * brakes.tick
    slope = min(brakes.up, landing_slope(limit, brakes.jerk, brakes.tick) + change)
    ticks = math.floor(slope / change)
    rise = brakes.tick * (ticks * slope - 0.5 * change * ticks * (ticks + 1))
    return max(limit - rise, 1e-9), slope


@njit(cache=True)
def held(course: Course, limit: float, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Bound time from now and nominal progress until the arm stands if it moves at most at `limit` from now on.

    It is taken to move at the limit at once and for the whole horizon, rounded up to ticks, and yet to come to it from
    below, still rising as steeply as the node permits, when the braking starts.

    Args:
        course: present state.
        limit: in [0, 1].
        falls: of the path ahead.
        brakes: bounds of the node.

    Returns:
        time (s) and swept progress (nominal s); infinite if there is no bound.
    """
    moving = brakes.tick * math.ceil(course.horizon / brakes.tick - 1e-9)
    rate, slope = rising(limit, brakes)
    time, end = stop(course.progress + limit * moving, rate, slope, falls, brakes)
    least, way = measured_stop(limit, brakes)
    return moving + max(time, least), max(end - course.progress, limit * moving + way)


@njit(cache=True)
def above(course: Course, limit: float, brakes: Brakes) -> bool:
    """Whether the arm may be above the limit by the time the node obeys it."""
    steepest = max(brakes.up, course.slope)
    peak = course.rate + steepest * (course.obeyed + 2.0 * brakes.tick) + 0.5 * steepest * steepest / brakes.jerk
    return limit < peak or course.progress <= 0.0


@njit(cache=True)
def coming_down(course: Course, limit: float, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Time and nominal progress until the arm stands if it has to come down to the limit first. As `held`.

    An older lease may hold until `obeyed`; then the rate falls to the limit, and to 0 when the lease has expired. The
    node stops obeying a lease `delay` before the drives feel it.
    """
    progress, rate, slope = course.progress, course.rate, course.slope
    if progress <= 0.0 and rate == 0.0:
        # the path is at rest at its start, so the node lets the rate jump there
        rate = course.ceiling
    older = max(course.ceiling, course.rate)
    ticks = math.ceil(max(0.0, course.horizon - brakes.delay) / brakes.tick - 1e-9)
    for k in range(ticks):
        before = rate
        target = older if k * brakes.tick < course.obeyed - 1e-9 else limit
        rate, slope = rate_step(rate, slope, target, brakes.up, fall_at(falls, progress), brakes.jerk, brakes.tick)
        progress += 0.5 * (before + rate) * brakes.tick
    time, end = stop(progress, rate, slope, falls, brakes)
    least, way = measured_stop(min(1.0, rate + 0.5 * max(0.0, slope) ** 2 / brakes.jerk), brakes)
    end = max(end, progress + way)
    return ticks * brakes.tick + max(time, least) + brakes.delay, end - course.progress
