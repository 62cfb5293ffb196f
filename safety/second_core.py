"""The second channel's pure core: newest inputs in, a lease out when there is something new."""

from __future__ import annotations

import math

from perception.contract import Observation
from robots.contract import AcceptedMotion, RobotState, SpeedLease
from safety.config import SafetyConfig
from safety.contract import SECOND
from safety.second import SecondMonitor, Verdict, refused
from safety.second_arm import ArmError, Course
from safety.selftest import SelfTest

DEAD = 0.5
"""Data older than this: only a person starts the arm again, s."""
FUTURE = 0.02
"""Stamps may lie so far in the future, s."""


class SecondCore:
    """Newest inputs in, a lease out when there is something new. One thread."""

    def __init__(
        self, config: SafetyConfig, monitor: SecondMonitor, fingerprint: str, boot: int,
        selftest: SelfTest | None = None,
    ) -> None:  # fmt: skip
        """`selftest` None: the channel is not tested by phantoms (comparisons of methods, single tests)."""
        self.monitor = monitor
        self.selftest = selftest
        self._config = config
        self._fingerprint = fingerprint
        self._boot = boot
        self._observation: Observation | None = None
        self._state: RobotState | None = None
        self._accepted = ""
        self._course: Course | None = None
        self._trouble = ""
        self._fresh = False
        self._seq = 0
        self._next = -math.inf
        self._window = (0.0, 0.0)
        self._for: str | None = None
        self._stopped = False
        self._clear_since = math.nan
        self._since = math.inf
        self._issued: list[tuple[float, str, float]] = []

    def accept_motion(self, motion: AcceptedMotion) -> None:
        """Take the motion the robot node says it executes; one that is broken permits nothing."""
        if motion.motion_id == self._accepted and (self._course is not None or not motion.motion_id):
            return
        self._accepted, self._course, self._trouble = motion.motion_id, None, ""
        if motion.motion_id:
            try:
                self._course = self.monitor.course(motion)
            except (ArmError, ValueError) as error:
                self._trouble = str(error)

    def step(self, now: float, observation: Observation | None, state: RobotState | None) -> SpeedLease | None:
        """Take what has come; return an unsigned lease at the camera's rate and whenever the last one does not fit.

        It does not fit when the arm has another motion or has left the stretch it was computed for.
        """
        if observation is not None and (self._observation is None or observation.t >= self._observation.t):
            self._observation, self._fresh = observation, True
        if state is not None:
            self._state = state
        s = self._state
        other = s is not None and (s.motion_id != self._for or not self._window[0] <= s.progress <= self._window[1])
        period = self._config.reaction.frame_period
        if not (other or (self._fresh and now >= self._next - 0.5 * period) or now >= self._next):
            return None
        self._next, self._fresh = now + period, False
        verdict = self._judge(now, self._observation)
        if not math.isnan(verdict.separation) and not self._tested(now):
            assert self.selftest is not None
            verdict = refused(f"second channel: {self.selftest.failed}", restartable=False)
        lease = self._lease(verdict, *self._restart_rule(now, verdict))
        if self._config.zones.touching:
            self._since = min(self._since, now)
            lasting = now - self._config.reaction.total - FUTURE
            self._issued = [*(one for one in self._issued if one[0] >= lasting), (now, lease.motion_id, lease.limit)]
        return lease

    def _still_held(self, now: float, motion_id: str) -> float:
        """What leases of this channel that may still be obeyed grant a motion; 1 where that is not known, or where
        nobody may be touched and it does not matter."""
        if not now - self._since > self._config.reaction.total + FUTURE:
            return 1.0
        return max((limit for _, motion, limit in self._issued if motion == motion_id), default=0.0)

    def _tested(self, now: float) -> bool:
        """Try the phantoms that are due; False once one was not seen."""
        test, o, s = self.selftest, self._observation, self._state
        if test is None or o is None or s is None:
            return True
        for _ in range(test.due(now) if not test.failed else 0):
            phantom = test.phantom(o, s)
            answer = self._judge(now, phantom.observation)
            if not test.judge(phantom, answer.limit, answer.separation, now):
                break
        return not test.failed

    def _judge(self, now: float, o: Observation | None) -> Verdict:
        s = self._state
        if o is None or s is None:
            return refused("second channel: waiting for observation and robot state")
        age = now - o.oldest_exposure
        if not age >= -FUTURE:
            return refused("second channel: camera time is not on this machine's clock", restartable=False)
        if not age <= self._config.reaction.lease_validity:
            return refused(f"second channel: camera data is {1e3 * age:.0f} ms old", age <= DEAD)
        if not o.healthy:
            late = all(c.ok or c.reason == "late" for c in o.cameras)
            return refused(f"second channel: {o.reason}", late and o.confirmed_clear)
        if not -FUTURE <= now - s.t <= 10.0 * self._config.reaction.tick:
            return refused("second channel: robot state is not fresh")
        if s.motion_id and (self._course is None or self._course.motion_id != s.motion_id):
            return refused(f"second channel: {self._trouble or 'the accepted motion is not known yet'}")
        held = self._still_held(now, s.motion_id)
        return self.monitor.judge(now, o, s, self._course if s.motion_id else None, held=held)

    def _restart_rule(self, now: float, verdict: Verdict) -> tuple[float, str]:
        """An arm that this channel has brought to a stand goes on only after the way was clear for a while."""
        s = self._state
        if s is None or not s.motion_id:
            self._stopped = False
            return verdict.limit, verdict.reason
        if verdict.by_separation and verdict.limit == 0.0 and s.rate == 0.0 and not self._stopped:
            self._stopped, self._clear_since = True, math.nan
        if not self._stopped:
            return verdict.limit, verdict.reason
        if verdict.limit < self._config.restart_limit:
            self._clear_since = math.nan
            return 0.0, verdict.reason
        if math.isnan(self._clear_since):
            self._clear_since = now
        if now - self._clear_since < self._config.restart_after:
            return 0.0, "second channel: the way is clear, going on soon"
        self._stopped = False
        return verdict.limit, verdict.reason

    def _lease(self, verdict: Verdict, limit: float, reason: str) -> SpeedLease:
        o, s = self._observation, self._state
        exposure = o.oldest_exposure if o is not None else -1.0
        progress = s.progress if s is not None else 0.0
        self._for = s.motion_id if s is not None else None
        self._window = (max(0.0, progress - 0.05), max(progress, verdict.reach) + 1e-6)
        self._seq += 1
        return SpeedLease(
            issuer=SECOND,
            boot=self._boot,
            seq=self._seq,
            limit=limit,
            motion_id=self._for or "",
            progress_from=self._window[0],
            progress_to=self._window[1],
            state_seq=s.seq if s is not None else 0,
            oldest_exposure=exposure,
            expires_at=exposure + self._config.reaction.lease_validity,
            reason=reason,
            restartable=verdict.restartable,
            fingerprint=self._fingerprint,
            tested_at=self.selftest.passed_at if self.selftest is not None else -1.0,
        )
