"""Advancing along an accepted motion: the commanded joints are always a point of the planned path."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.motion import Motion, spline_at
from robots.rates import rate_step, window_minimum

Array = NDArray[np.float64]


@njit(cache=True)
def advance(
    Q: Array,
    M: Array,
    h: float,
    fall: Array,
    rise: Array,
    state: Array,
    target: float,
    up: float,
    down: float,
    jerk: float,
    dt: float,
    q: Array,
    dq: Array,
) -> None:
    """One tick along a motion.

    Args:
        Q, M, h: samples, curvature, spacing of the spline.
        fall, rise: permitted fall and rise of the rate along it, 1/s.
        state: (3,) progress, rate, slope; updated in place.
        target: rate asked for.
        up, down, jerk, dt: bounds and tick.
        q, dq: (n,) filled with the commanded positions and velocities.
    """
    p, rate, slope = state[0], state[1], state[2]
    end = h * (Q.shape[0] - 1)
    up = min(up, window_minimum(rise, h, p, p))
    down = min(down, window_minimum(fall, h, p, p))
    if p == 0.0 and rate == 0.0 and target > 0.0:
        # The path itself is at rest here (q' = 0), so the joints feel no jump when the rate starts at its target.
        rate, slope = min(target, 1.0), 0.0
    new_rate, slope = rate_step(rate, slope, target, up, down, jerk, dt)
    p += 0.5 * (rate + new_rate) * dt
    if p >= end - 1e-9:  # the nominal law is at rest there, so the rate can end with it
        p, new_rate, slope = end, 0.0, 0.0
    state[0], state[1], state[2] = p, new_rate, slope
    ddq = np.empty(Q.shape[1])
    spline_at(Q, M, h, p, q, dq, ddq)
    for j in range(q.shape[0]):
        dq[j] *= new_rate


class Follower:
    """Progress, rate and slope on one motion."""

    def __init__(self, motion: Motion, dt: float) -> None:
        self.motion = motion
        self._dt = dt
        self._state = np.zeros(3)
        self.q = motion.path[0].copy()
        """Commanded joint positions, rad."""
        self.dq = np.zeros_like(self.q)
        """Commanded joint velocities, rad/s."""

    @property
    def progress(self) -> float:
        return float(self._state[0])

    @property
    def rate(self) -> float:
        return float(self._state[1])

    @property
    def slope(self) -> float:
        return float(self._state[2])

    @property
    def at_end(self) -> bool:
        return bool(self._state[0] >= self.motion.duration - 1e-9)

    def step(self, target: float) -> None:
        """Advance one tick towards the rate `target`."""
        m, limits = self.motion, self.motion.limits
        advance(
            m.path,
            m.curvature,
            m.step,
            m.slope_limits,
            m.rise_limits,
            self._state,
            target,
            limits.slope_up,
            limits.slope_down,
            limits.jerk,
            self._dt,
            self.q,
            self.dq,
        )
