"""What the safety monitor tells people and the recorder; what it tells the robot is `robots.contract.SpeedLease`."""

from __future__ import annotations

import msgspec

SUPERVISOR = "supervisor"
"""Issuer and node name of the first channel."""

SECOND = "second_channel"
"""Issuer and node name of the second channel."""

TOPIC_STATUS = "safety.status"


class SeparationTerms(msgspec.Struct, frozen=True):
    """The six terms of the protective separation distance, ISO/TS 15066:2016 5.5.4.2.3, m."""

    S_h: float
    S_r: float
    S_s: float
    C: float
    Z_d: float
    Z_r: float

    @property
    def S_p(self) -> float:
        """Their sum, m."""
        return self.S_h + self.S_r + self.S_s + self.C + self.Z_d + self.Z_r


class SafetyStatus(msgspec.Struct, frozen=True):
    """The monitor's last decision with its grounds, published each cycle on `TOPIC_STATUS`."""

    seq: int
    t: float
    limit: float
    reason: str
    separation: float
    """Smallest distance between the arm and an occupied ball's surface now, m; inf encoded as 1e9."""
    required: float
    """Protective separation distance at the present rate for that pair, m."""
    terms: SeparationTerms
    link: str
    """Link of the binding pair."""
    point: tuple[float, float, float]
    """Centre of the binding ball, base frame, m."""
    seen: bool
    """The binding ball is a seen point (False: possible but unseen space)."""
    oldest_exposure: float
    cycle_time: float
    """Duration of this monitor cycle, s (0 in lock-step, where time stands still)."""
    fingerprint: str
    simulation_only: bool
    reaction: dict[str, float] = {}
    """Newest measurement of each part of the reaction time, s; names as in `safety.reaction`."""
    reaction_exceeded: str = ""
    """Parts that have been over their budgets for a second, and by how much; empty if none has."""
