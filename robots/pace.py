"""Does the robot node keep its ticks? What comes after a lease's expiry rests on it. Pure."""

from __future__ import annotations

import math

WINDOW = 1.0
"""Nominal time over which the mean is taken, s."""
SLOW = 2.0
"""A mean of so many periods is a fault: the node then no longer acts within the tick the monitor counts on."""
LONGEST = 0.1
"""A single gap counts as at most this much, s: one pause is the business of the drives' watchdog and of the leases."""


class Pace:
    """Time between ticks. One instance per node, one thread."""

    def __init__(self, period: float) -> None:
        """`period`: of the node, as the monitor counts on it, s."""
        self._period = period
        self._last = math.nan
        self._count = max(1, round(WINDOW / period))
        self._gaps = [period] * self._count
        self._sum = period * self._count
        self._next = 0
        self.gap = 0.0
        """Time since the tick before, s."""
        self.worst = 0.0
        """Longest of them since the start, s."""

    def tick(self, now: float) -> str:
        """Take a tick at `now`, s; return what is wrong with the pace, empty if nothing is."""
        gap = now - self._last
        self._last = now
        if not gap >= 0.0:
            # The first tick; or time that ran back or is no number, which other checks refuse.
            return ""
        self.gap = gap
        self.worst = max(self.worst, gap)
        counted = min(gap, LONGEST)
        self._sum += counted - self._gaps[self._next]
        self._gaps[self._next] = counted
        self._next = (self._next + 1) % self._count
        mean = self._sum / self._count
        if mean <= SLOW * self._period:
            return ""
        return f"a tick takes {mean * 1e3:.1f} ms on average, {self._period * 1e3:.1f} ms are configured"
