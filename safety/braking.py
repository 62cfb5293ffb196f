"""How long the arm may still move, and how far, if it is granted a limit now: compiled, the node's own rate law.

Nominal seconds of progress and seconds of time; rates in [0, 1]. Everything here grows with the limit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from robots.rates import rate_step, window_minimum

F64 = NDArray[np.float64]


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


@njit(cache=True)
def stop(rate: float, slope: float, down: float, jerk: float, tick: float) -> tuple[float, float]:
    """Return time and swept progress of the node's own braking, tick by tick, at a constant fall `down`.

    The position a tick commands already contains that tick's fall, so the arm never takes longer. Ticks at the full
    fall are taken in one go.
    """
    time, swept = 0.0, 0.0
    fall = down * tick
    landing = 0.5 * down * (down / jerk + tick) + fall
    while rate > 0.0 and time < 60.0:
        if slope == -down and rate > landing + fall:
            ticks = math.floor((rate - landing) / fall)
            swept += ticks * tick * (rate - 0.5 * ticks * fall)
            rate -= ticks * fall
            time += ticks * tick
        before = rate
        rate, slope = rate_step(rate, slope, 0.0, 1e9, down, jerk, tick)
        swept += 0.5 * (before + rate) * tick
        time += tick
    return time, swept


@njit(cache=True)
def _coming_down(course: Course, limit: float, down: float, brakes: Brakes) -> tuple[float, float]:
    """Time and sweep if the arm is above the limit: an older lease until `obeyed`, then down to the limit, then stop.

    The node stops obeying when the lease expires, which is `delay` before the drives feel it.
    """
    rate, slope, swept = course.rate, course.slope, 0.0
    ticks = math.ceil(max(0.0, course.horizon - brakes.delay) / brakes.tick - 1e-9)
    for k in range(ticks):
        before = rate
        target = 1.0 if k * brakes.tick < course.obeyed else limit
        rate, slope = rate_step(rate, slope, target, brakes.up, down, brakes.jerk, brakes.tick)
        swept += 0.5 * (before + rate) * brakes.tick
    time, stopping = stop(rate, slope, down, brakes.jerk, brakes.tick)
    return ticks * brakes.tick + time + brakes.delay, swept + stopping


@njit(cache=True)
def worst_stop(course: Course, limit: float, slope_limits: F64, step: float, brakes: Brakes) -> tuple[float, float]:
    """Bound time from now and nominal progress until the arm stands, whichever rates up to `limit` it is led through.

    Below the limit the arm is taken to move at it at once, for the whole horizon, and to be still rising when braking
    starts (a slope of `up` takes up / jerk to undo). Times are rounded up to whole ticks. From above it comes down
    first. The fall is the least one the joints permit anywhere in the stretch that is swept.

    Args:
        course: present state.
        limit: in [0, 1].
        slope_limits: (K,) permitted fall of the rate at progress 0, step, 2 step, ..., 1/s.
        step: s.
        brakes: bounds of the node.

    Returns:
        time (s) and swept progress (nominal s); infinite if there is no bound.
    """
    turn = math.ceil(brakes.up / (brakes.jerk * brakes.tick) - 1e-9)
    moving = brakes.tick * (math.ceil(course.horizon / brakes.tick - 1e-9) + turn)
    rise = max(brakes.up, course.slope)
    peak = course.rate + rise * (course.obeyed + 2.0 * brakes.tick) + 0.5 * rise * rise / brakes.jerk
    # a first reach below the one that is sought: braking at the full fall without any jerk limit
    reach = course.progress + limit * (moving + 0.5 * limit / brakes.down)
    for _ in range(64):
        down = min(brakes.down, window_minimum(slope_limits, step, course.progress, reach))
        stopping, swept = stop(limit, 0.0, down, brakes.jerk, brakes.tick)
        time = moving + stopping
        swept += limit * moving
        if course.rate > 0.0 and limit < peak:
            late, far = _coming_down(course, limit, down, brakes)
            time, swept = max(time, late), max(swept, far)
        if course.progress + swept <= reach + 1e-12:
            return time, swept
        reach = course.progress + swept
    return math.inf, math.inf
