"""The reaction time as it is, part by part, against the configured one. Pure.

The total is enforced elsewhere and without this: a lease ends a configured time after its oldest exposure, whatever
made it late, and data older than that is refused. Here the parts are measured, so that a stop says which of them was
too long and by how much, and so that a part that eats up the allowance for missed pictures is known before it stops
the arm.
"""

from __future__ import annotations

import math

from perception.contract import Observation
from safety.config import ReactionTime

LASTING = 1.0
"""A part that was over its budget in every sample for so long is reported, s."""
GRACE = 1e-6
"""Rounding, s."""
PICTURES, FRAMES, MONITOR, DATA = "exposure to observation", "between exposures", "monitor period", "age of data"


def budgets(reaction: ReactionTime) -> dict[str, float]:
    """Return the longest time each part may take, s."""
    r = reaction
    return {
        PICTURES: r.exposure_and_transfer + r.perception + r.bus + r.monitor_period,
        FRAMES: (1 + r.missed_frames) * r.frame_period,
        MONITOR: r.monitor_period,
        DATA: r.lease_validity,
    }


class ReactionWatch:
    """Measures the parts the supervisor can see. One instance per supervisor, one thread."""

    def __init__(self, reaction: ReactionTime) -> None:
        self.budgets = budgets(reaction)
        self.now: dict[str, float] = {}
        """Newest measurement of each part, s."""
        self._since: dict[str, float] = {}
        self._step = math.nan
        self._exposure = math.nan

    def take(self, now: float, fresh: Observation | None, oldest: float) -> None:
        """Take one cycle: `fresh` is an observation that has just come, `oldest` the exposure decisions rest on, s."""
        self._note(MONITOR, now - self._step, now)
        self._step = now
        self._note(DATA, now - oldest, now)
        if fresh is None:
            return
        self._note(PICTURES, now - fresh.t, now)
        if fresh.oldest_exposure > self._exposure or math.isnan(self._exposure):
            self._note(FRAMES, fresh.oldest_exposure - self._exposure, now)
            self._exposure = fresh.oldest_exposure

    def _note(self, part: str, took: float, now: float) -> None:
        if not (math.isfinite(took) and took >= 0.0):
            return
        self.now[part] = took
        # The period of the monitor jitters about its budget, and two ticks of lock-step round to one more.
        if took <= self.budgets[part] * (2.0 if part == MONITOR else 1.0) + GRACE:
            self._since.pop(part, None)
        else:
            self._since.setdefault(part, now)

    @property
    def over(self) -> str:
        """The parts that are over their budgets now, and by how much; empty if none is."""
        return "; ".join(self._words(part) for part in self._since)

    def lasting(self, now: float) -> str:
        """The parts that have been over their budgets for LASTING; empty if none has."""
        return "; ".join(self._words(part) for part, since in self._since.items() if now - since >= LASTING)

    def _words(self, part: str) -> str:
        took, budget = self.now[part], self.budgets[part]
        return f"{part} {took * 1e3:.0f} ms, {(took - budget) * 1e3:.0f} ms more than configured"
