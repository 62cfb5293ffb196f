"""How the rate of progress along a motion changes: slope- and jerk-limited, the same code for acting and predicting.

`rate` is d progress / dt in [0, 1], `slope` is d rate / dt (1/s), `jerk` bounds d slope / dt (1/s^2 per s, 1/s^3).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

Array = NDArray[np.float64]


class RateLimits(NamedTuple):
    """Bounds on the rate of progress; what the joints permit (`Motion.slope_limits`) can only lower them."""

    slope_up: float = 3.0
    """Largest d rate / dt, 1/s."""
    slope_down: float = 8.0
    """Largest -d rate / dt, 1/s."""
    jerk: float = 160.0
    """Largest |d slope / dt|, 1/s^2 per s."""


DEFAULT_LIMITS = RateLimits()


@njit(cache=True)
def landing_slope(error: float, jerk: float, dt: float) -> float:
    """Largest slope (1/s) from which the rate still ends on a target `error` away, losing jerk*dt of slope a tick.

    Solves error = dt * (s + (s - j dt) + (s - 2 j dt) + ...) = dt * s (s / (j dt) + 1) / 2 for s.
    """
    u = jerk * dt
    return 4.0 * error / (dt * (math.sqrt(1.0 + 8.0 * error / (u * dt)) + 1.0))


@njit(cache=True)
def rate_step(
    rate: float, slope: float, target: float, up: float, down: float, jerk: float, dt: float
) -> tuple[float, float]:
    """Advance rate and slope by one tick towards `target`, never past it from the side it comes from.

    Args:
        rate, slope: state before the tick.
        target: rate asked for, in [0, 1].
        up, down: largest rise and fall of the rate in force here, 1/s.
        jerk: largest change of the slope, 1/s^2 per s.
        dt: tick, s.

    Returns:
        rate in [0, 1] and slope after the tick. Invalid input (NaN) gives a standing rate (0, 0).
    """
    if not (rate >= 0.0 and target >= 0.0 and math.isfinite(slope) and math.isfinite(rate)):
        return 0.0, 0.0
    target = min(target, 1.0)
    error = target - rate
    if error >= 0.0:
        wish = min(up, landing_slope(error, jerk, dt))
    else:
        wish = -min(down, landing_slope(-error, jerk, dt))
    change = jerk * dt
    new_slope = min(max(wish, slope - change), slope + change)
    new_rate = rate + new_slope * dt
    if (error <= 0.0 and new_rate <= target) or (error >= 0.0 and new_rate >= target and new_slope >= 0.0):
        # The last tick before the target is shorter than a tick's slope: land on it.
        if abs(new_slope) <= 2.0 * change + 1e-12:
            return target, 0.0
        if new_rate < 0.0:
            return 0.0, 0.0
    return min(max(new_rate, 0.0), 1.0), new_slope


@njit(cache=True)
def window_minimum(values: Array, step: float, p_from: float, p_to: float) -> float:
    """Least of `values` (K,), given at progress 0, step, 2 step ..., over the samples that cover [p_from, p_to]."""
    last = values.shape[0] - 1
    first = min(max(math.floor(p_from / step), 0), last)
    end = min(max(math.ceil(p_to / step), first), last)
    least = values[first]
    for k in range(first + 1, end + 1):
        least = min(least, values[k])
    return least


@njit(cache=True)
def _stop(rate: float, slope: float, down: float, jerk: float, dt: float) -> tuple[float, float]:
    time, swept = 0.0, 0.0
    while rate > 0.0 and time < 60.0:
        before = rate
        rate, slope = rate_step(rate, slope, 0.0, 1e9, down, jerk, dt)
        swept += max(before, rate) * dt
        time += dt
    return time, swept


@njit(cache=True)
def braking_on(
    slope_limits: Array, step: float, progress: float, rate: float, slope: float, down: float, jerk: float, dt: float
) -> tuple[float, float]:
    """Bound on the time and the nominal progress from the decision to stop until the rate is 0.

    The fall is taken at the *least* slope the joints permit anywhere in the stretch that is swept, so that the bound
    grows with the rate: what holds for a rate holds for every lower one. Two ticks are added, because the node acts at
    its next tick and rounds the landing.

    Args:
        slope_limits: (K,) permitted fall of the rate at progress 0, step, 2 step, ..., 1/s.
        progress, rate, slope: present state.
        down, jerk: bounds of `RateLimits`.
        dt: the node's tick, s.

    Returns:
        time (s), swept progress (nominal s). Infinite for input that is not finite.
    """
    if not (math.isfinite(progress) and math.isfinite(rate) and math.isfinite(slope) and rate >= 0.0):
        return math.inf, math.inf
    if rate == 0.0 and slope <= 0.0:
        return 0.0, 0.0
    rate = min(rate, 1.0)
    reach = progress
    least = min(down, window_minimum(slope_limits, step, progress, progress))
    time, swept = 0.0, 0.0
    for _ in range(50):
        time, swept = _stop(rate, slope, least, jerk, dt)
        swept += 2.0 * dt * rate
        time += 2.0 * dt
        reach = progress + swept
        now = min(down, window_minimum(slope_limits, step, progress, reach))
        if now >= least:
            break
        least = now
    return time, swept
