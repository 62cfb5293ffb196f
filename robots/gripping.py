"""The gripper: interlocks, when a grip is done, and whether a held part is still there."""

from __future__ import annotations

import math
from typing import NamedTuple

from robots.contract import DriverState, Grip, PartGeometry
from robots.model import part_capsule

MAX_FORCE = 200.0
TIMEOUT = 4.0
"""A grip that is neither settled nor holding after this long has failed, s."""
SETTLED = 0.15
"""The width counts as settled when it has not changed for this long, s."""
START_TIME = 0.8
"""How long the fingers may take to begin moving, s."""
WIDTH_TOLERANCE = 1.5e-3
LOST_AFTER = 0.05
"""Time without contact after which a held part counts as lost, s."""


class Outcome(NamedTuple):
    """How a grip ended."""

    verdict: str
    """`done` or `failed`."""
    code: str
    reason: str


class Gripper:
    """State of the gripper between ticks."""

    def __init__(self, opening_max: float, present: bool) -> None:
        self._opening_max = opening_max
        self._present = present
        self._grip: Grip | None = None
        self._started = 0.0
        self._width = math.nan
        self._from_width = math.nan
        self._still_since = 0.0
        self._gone_since: float | None = None
        self.held: PartGeometry | None = None
        """The part in the hand."""

    @property
    def busy(self) -> bool:
        return self._grip is not None

    def refusal(self, grip: Grip, state: DriverState) -> str:
        """Why a grip is not taken; empty if it is."""
        if not self._present:
            return "this robot has no gripper"
        if self._grip is not None:
            return "the gripper is still moving"
        if not (math.isfinite(grip.width) and 0.0 <= grip.width <= self._opening_max + 1e-6):
            return f"width must lie in [0, {self._opening_max:.3f}] m, got {grip.width}"
        if not (math.isfinite(grip.force) and 0.0 <= grip.force <= MAX_FORCE):
            return f"force must lie in [0, {MAX_FORCE:.0f}] N, got {grip.force}"
        opens = grip.width > state.gripper_width + 1e-4 or grip.force == 0.0
        if (self.held is not None or state.gripper_holding) and opens and not grip.release:
            name = self.held.name if self.held else "something"
            return f"the gripper holds {name}: set `release` to let it go on purpose"
        if grip.part is not None:
            try:
                part_capsule(grip.part)
            except (ValueError, TypeError) as error:
                return str(error)
            if not (math.isfinite(grip.part.mass) and 0.0 <= grip.part.mass <= 50.0):
                return "mass of the part must lie in [0, 50] kg"
        return ""

    def start(self, grip: Grip, now: float) -> None:
        """Begin a grip that was not refused."""
        self._grip, self._started = grip, now
        self._width, self._still_since, self._from_width = math.nan, now, math.nan

    def step(self, now: float, state: DriverState) -> Outcome | None:
        """Follow the grip under way with a fresh state; return how it ended, once."""
        grip = self._grip
        if grip is None or state.t <= self._started:
            return None
        if math.isnan(self._from_width):
            self._from_width = state.gripper_width
        if not abs(state.gripper_width - self._width) <= 2e-4:
            self._width, self._still_since = state.gripper_width, now
        settled = now - self._still_since >= SETTLED
        there = abs(state.gripper_width - grip.width) <= WIDTH_TOLERANCE
        if state.gripper_holding and grip.force > 0.0 and now - self._started >= 0.04:
            return self._end(Outcome("done", "", ""), grip.part)
        # Fingers that meet something on the way have done what they could; fingers that never moved have not, or
        # have not yet begun to.
        moved = abs(state.gripper_width - self._from_width) > WIDTH_TOLERANCE
        if grip.part is not None and settled and (moved or now - self._started >= START_TIME):
            return self._end(
                Outcome(
                    "failed", "grip_missed", f"the fingers closed to {state.gripper_width * 1e3:.1f} mm on nothing"
                ),
                None,
            )
        if grip.part is None and ((there and now - self._started >= 0.04) or (settled and moved)):
            return self._end(Outcome("done", "", ""), None)
        if now - self._started > TIMEOUT:
            text = f"the fingers stand at {state.gripper_width * 1e3:.1f} mm instead of {grip.width * 1e3:.1f} mm"
            stuck = self.held if state.gripper_holding else None
            return self._end(Outcome("failed", "grip_timeout", text), stuck)
        return None

    def _end(self, outcome: Outcome, held: PartGeometry | None) -> Outcome:
        self._grip, self._gone_since, self.held = None, None, held
        return outcome

    def lost(self, now: float, state: DriverState) -> str:
        """Name of a part that has just been lost, or empty."""
        if self.held is None or self._grip is not None or state.gripper_holding:
            self._gone_since = None
            return ""
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < LOST_AFTER:
            return ""
        name, self.held, self._gone_since = self.held.name, None, None
        return name
