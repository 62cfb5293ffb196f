"""Recheck of a flight recording: every recorded lease against the second channel's calculation. Pure.

A lease names the robot state it was computed from, and is checked against that very state. It is *too permissive* if
the separation would not have sufficed even with every doubt in its favour, if it rests on data on which nothing may be
granted, or if it permits a motion or stretch other than that state's. It is *stricter here* if the second channel, with
its own reserves, would have granted less: worth a look where it is much. It is *not checked* if the recording lacks
what it rests on (its state, observation or motion), or the lease itself is missing; each such lease is counted with its
reason, and a recording with any of them proves nothing.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from perception.contract import Observation
from robots.contract import AcceptedMotion, RobotState, SpeedLease
from safety.config import SafetyConfig
from safety.second import CREEP, SecondMonitor
from safety.second_arm import ArmError, Course

KEPT = 1024
"""So many observations and motions back a lease can rest on."""
KEPT_STATES = 8192
"""The same for robot states."""
ROUNDING = 0.001
"""Shortfall below which arithmetic may differ, m."""
VALIDITY_ROUNDING = 1e-3
"""The same for times, s."""
STATE_APART = 0.25
"""A state this much older than the exposure a lease rests on is another one of the same number, s."""


class Finding(NamedTuple):
    """A lease that was too permissive."""

    t: float
    """Of the robot state it was computed from, s."""
    issuer: str
    limit: float
    motion_id: str
    progress: float
    reason: str
    shortfall: float
    """Distance missing with every doubt in its favour, m; inf where nothing may be granted at all."""


@dataclass
class Tally:
    """What a recheck found."""

    leases: Counter[str] = field(default_factory=Counter)
    """All recorded leases by issuer."""
    checked: int = 0
    """Leases with a limit above 0 whose grounds were recalculated."""
    stops: int = 0
    """Leases with limit 0: nothing was granted."""
    not_in_force: int = 0
    """Leases that had expired when their robot state was measured: the robot node takes them as 0."""
    not_checked: Counter[str] = field(default_factory=Counter)
    """Why, and how many."""
    missing: int = 0
    """Of these: leases that were issued, by their numbers, and are not in the recording at all."""
    stricter_here: int = 0
    """Leases of which the second channel, with its reserves, would have granted less."""
    largest_reserve: float = 0.0
    """By how much at most, m."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Every lease was checked and none was too permissive."""
        return not self.findings and not self.not_checked and self.checked + self.stops > 0

    @property
    def share_not_checked(self) -> float:
        """Of all leases that were issued, in [0, 1]."""
        issued = sum(self.leases.values()) + self.missing
        return sum(self.not_checked.values()) / issued if issued else 0.0


class Recheck:
    """Takes the messages of a recording in order; `tally` is the result so far."""

    def __init__(self, config: SafetyConfig, monitor: SecondMonitor, fingerprint: str) -> None:
        self._config = config
        self._monitor = monitor
        self._fingerprint = fingerprint
        self._observations: OrderedDict[tuple[float, int], Observation] = OrderedDict()
        self._courses: OrderedDict[str, Course | None] = OrderedDict()
        self._states: OrderedDict[int, RobotState] = OrderedDict()
        self._last: dict[str, tuple[int, int]] = {}
        self._numbers: dict[str, tuple[int, int]] = {}
        self.tally = Tally()

    def observation(self, observation: Observation) -> None:
        """An observation, with its points."""
        self._observations[(observation.oldest_exposure, observation.seq)] = observation
        while len(self._observations) > KEPT:
            self._observations.popitem(last=False)

    def motion(self, motion: AcceptedMotion) -> None:
        """A motion the robot node accepted. One that cannot be prepared permits nothing."""
        if not motion.motion_id:
            return
        try:
            self._courses[motion.motion_id] = self._monitor.course(motion)
        except (ArmError, ValueError):
            self._courses[motion.motion_id] = None
        while len(self._courses) > KEPT:
            self._courses.popitem(last=False)

    def state(self, state: RobotState) -> None:
        """A robot state. The number of one that a restarted node has used again is the later one's."""
        self._states.pop(state.seq, None)
        self._states[state.seq] = state
        while len(self._states) > KEPT_STATES:
            self._states.popitem(last=False)

    def lease(self, lease: SpeedLease) -> None:
        """A lease, after what it rests on."""
        tally = self.tally
        tally.leases[lease.issuer] += 1
        self._count_missing(lease)
        if not lease.limit > 0.0 and not math.isnan(lease.limit):
            tally.stops += 1
            return
        wrong = self._formally_wrong(lease)
        if wrong:
            self._found(lease, None, wrong, math.inf)
            return
        s = self._states.get(lease.state_seq)
        if s is None:
            tally.not_checked["the robot state it names was not recorded"] += 1
        elif not s.t >= lease.oldest_exposure - STATE_APART:
            tally.not_checked["the robot state recorded under that number is another one"] += 1
        elif s.t >= lease.expires_at + self._config.reaction.after_expiry:
            tally.not_in_force += 1
        elif not self._fits(lease, s):
            self._found(lease, s, "for another motion or stretch than that of the robot state it names", math.inf)
        else:
            self._recalculate(lease, s)

    def _count_missing(self, lease: SpeedLease) -> None:
        """Leases between this one and the one before it that the recording does not hold."""
        boot, seq = self._numbers.get(lease.issuer, (lease.boot, lease.seq - 1))
        if boot == lease.boot and lease.seq > seq + 1:
            self.tally.not_checked["missing from the recording: their numbers are left out"] += lease.seq - seq - 1
            self.tally.missing += lease.seq - seq - 1
        self._numbers[lease.issuer] = (lease.boot, max(lease.seq, seq) if boot == lease.boot else lease.seq)

    def _fits(self, lease: SpeedLease, state: RobotState) -> bool:
        """Is it for what the arm was doing in the state it was computed from?"""
        there = lease.progress_from - 1e-9 <= state.progress <= lease.progress_to + 1e-9
        return lease.motion_id == state.motion_id and (there or not lease.motion_id)

    def _formally_wrong(self, lease: SpeedLease) -> str:
        """Why a lease should never have been issued, whatever the separation; empty if there is no reason."""
        numbers = (lease.limit, lease.progress_from, lease.progress_to, lease.oldest_exposure, lease.expires_at)
        if not all(map(math.isfinite, numbers)) or not 0.0 <= lease.limit <= 1.0:
            return "numbers that are not finite or out of range"
        longest = lease.oldest_exposure + self._config.reaction.lease_validity + VALIDITY_ROUNDING
        if lease.expires_at > longest:
            return "valid for longer than configured"
        if lease.fingerprint != self._fingerprint:
            return "computed with another configuration"
        before = self._last.get(lease.issuer, (-1, -1))
        self._last[lease.issuer] = (lease.boot, lease.seq)
        if (lease.boot, lease.seq) < before:
            return "older than the one before it"
        return ""

    def _recalculate(self, lease: SpeedLease, state: RobotState) -> None:
        tally = self.tally
        grounds = [o for (exposure, _), o in self._observations.items() if exposure == lease.oldest_exposure]
        if not grounds:
            tally.not_checked["the observation it rests on was not recorded"] += 1
            return
        if lease.motion_id and lease.motion_id not in self._courses:
            tally.not_checked["its motion was not recorded"] += 1
            return
        tally.checked += 1
        # Pictures of two cameras can make two observations with one oldest exposure: it may rest on either.
        results = [self._against(lease, state, o) for o in grounds]
        favour, own, reason = max(results)
        if favour < -ROUNDING:
            self._found(lease, state, reason, -favour)
        elif own < 0.0:
            tally.stricter_here += 1
            tally.largest_reserve = max(tally.largest_reserve, -own)

    def _against(self, lease: SpeedLease, state: RobotState, observation: Observation) -> tuple[float, float, str]:
        """Margins in favour of the lease and by this channel's own measure, m, and what is wrong if they are short."""
        if not observation.healthy:
            return -math.inf, -math.inf, "the observation was not healthy"
        course = self._courses.get(lease.motion_id) if lease.motion_id else None
        if lease.motion_id and course is None:
            return -math.inf, -math.inf, "its motion is none"
        if course is None:
            verdict = self._monitor.judge(state.t, observation, state, None)
            if verdict.limit >= lease.limit - CREEP:
                return 0.0, 0.0, ""
            return -math.inf, -math.inf, verdict.reason or "jogging that close is not permitted"
        margins = self._monitor.audit(observation, state, course, lease.limit)
        if margins is None:
            verdict = self._monitor.judge(state.t, observation, state, course, measured=False)
            return -math.inf, -math.inf, verdict.reason or "nothing may be granted on its grounds"
        return margins[0], margins[1], "the arm could not have stopped far enough from somebody"

    def _found(self, lease: SpeedLease, state: RobotState | None, reason: str, shortfall: float) -> None:
        progress = state.progress if state is not None else lease.progress_from
        t = state.t if state is not None else lease.oldest_exposure
        self.tally.findings.append(Finding(t, lease.issuer, lease.limit, lease.motion_id, progress, reason, shortfall))
