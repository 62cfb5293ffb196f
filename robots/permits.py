"""The leases of all issuers taken together: what is permitted now, and what has to be latched."""

from __future__ import annotations

import math
from typing import NamedTuple

from robots.contract import SpeedLease
from robots.leases import LeaseKeeper, LeaseRules


class Verdict(NamedTuple):
    """What all issuers together permit."""

    limit: float
    by: str
    reason: str
    fault: str
    """Code to latch, or empty."""
    detail: str


class LeaseDesk:
    """One keeper per configured issuer, and the clock of every gap.

    A gap up to `rules.late` brakes and resumes and is counted; a longer one is a fault. While nothing is active, gaps
    count for nothing. The first wait of a motion for its first lease is no gap, but it may not be longer either.
    """

    def __init__(self, rules: LeaseRules, ticks_per_second: float) -> None:
        self._rules = rules
        self._keepers = {issuer: LeaseKeeper(issuer, rules, ticks_per_second) for issuer in rules.issuers}
        self._since: dict[str, float] = {}
        self._had: set[str] = set()
        self._restarts: dict[str, int] = dict.fromkeys(rules.issuers, 0)
        self._what: str | None = None
        self._from_seq = 0
        self.late = 0
        """Gaps that were short enough to go on by itself."""

    def offer(self, lease: SpeedLease, topic_issuer: str, now: float, state_seq: int) -> str:
        """Take a lease from an issuer's topic. Return why it is refused, or an empty string."""
        keeper = self._keepers.get(topic_issuer)
        if keeper is None:
            return f"lease from an issuer that is not configured: {topic_issuer!r}"
        return keeper.offer(lease, now, state_seq)

    def begin(self, state_seq: int) -> None:
        """A motion is accepted; only leases computed from states from `state_seq` on count for it.

        So a lease for an earlier motion that bore the same id permits nothing.
        """
        self._what, self._from_seq = None, state_seq

    def verdict(self, now: float, what: str | None, progress: float, state_seq: int) -> Verdict:
        """Return what is permitted now.

        Args:
            now: s.
            what: motion id, empty for path-blind movement (jog), None if nothing is active.
            progress: nominal s along the motion.
            state_seq: newest sequence number of the robot state.
        """
        if what is None:
            self._what, self._from_seq = None, 0
            self._restarts = {issuer: keeper.restarts for issuer, keeper in self._keepers.items()}
            return Verdict(1.0, "", "", "", "")
        if what != self._what:
            self._what, self._had = what, set()
            self._since = dict.fromkeys(self._keepers, now)
        worst = Verdict(1.0, "", "", "", "")
        for issuer, keeper in self._keepers.items():
            one = self._one(issuer, keeper, now, what, progress, state_seq)
            if one.limit < worst.limit or (one.fault and not worst.fault):
                worst = one
        return worst

    def _one(self, issuer: str, keeper: LeaseKeeper, now: float, what: str, progress: float, state_seq: int) -> Verdict:
        permission = keeper.permission(now, what, progress, state_seq, self._from_seq)
        if keeper.restarts != self._restarts[issuer]:
            self._restarts[issuer] = keeper.restarts
            return Verdict(0.0, issuer, "supervisor restarted", "issuer_restarted", issuer)
        if permission.latch:
            return Verdict(0.0, issuer, permission.reason, "safety_stop", f"{issuer}: {permission.reason}")
        if permission.missing:
            since = self._since.setdefault(issuer, now)
            overdue = now - since > self._rules.late
            detail = f"{issuer}: {permission.reason}, {now - since:.2f} s" if overdue else ""
            return Verdict(0.0, issuer, permission.reason, "lease_lost" if overdue else "", detail)
        if self._since.pop(issuer, None) is not None and issuer in self._had:
            self.late += 1
        self._had.add(issuer)
        return Verdict(permission.limit, issuer, permission.reason, "", "")

    def data_age(self, now: float) -> float:
        """Age of the oldest exposure any stored lease rests on, s; -1 if there is none."""
        oldest = min(keeper.exposure for keeper in self._keepers.values())
        return now - oldest if oldest < math.inf else -1.0

    def blocking(self, now: float) -> str:
        """Why a person cannot clear a lease fault yet; empty if every issuer delivers and none demands a stop."""
        for issuer, keeper in self._keepers.items():
            one = keeper.alive(now)
            if one:
                return f"{issuer}: {one}"
        return ""

    def restart_gaps(self, now: float) -> None:
        """Start all gap clocks anew, after a person has cleared the faults."""
        self._since = dict.fromkeys(self._since, now)
        self._restarts = {issuer: keeper.restarts for issuer, keeper in self._keepers.items()}
