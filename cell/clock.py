"""Time behind one interface: the machine's shared monotonic clock, or a clock the lock-step runner advances."""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds on a clock that never steps back and that every node of the cell shares."""

    def now(self) -> float:
        """Return the time, s."""
        ...


class RealClock:
    """CLOCK_MONOTONIC: on Linux one clock for all processes since boot, untouched by changes of the wall clock."""

    def __init__(self, slower: float = 1.0) -> None:
        """`slower`: so many of the machine's seconds make one of this clock's, for simulators that need more time than
        there is. Raises ValueError below 1."""
        if not 1.0 <= slower < math.inf:
            raise ValueError(f"a clock {slower} times slower than the machine's")
        self.slower = slower

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC) / self.slower


class SimulatedClock:
    """Time that stands still until `advance_to` moves it."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance_to(self, t: float) -> None:
        """Move the clock to `t`, s. Raises ValueError if `t` is not finite or lies in the past."""
        if not math.isfinite(t) or t < self._now:
            raise ValueError(f"simulated time cannot go from {self._now} s to {t} s")
        self._now = t
