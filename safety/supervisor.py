"""The supervisor's pure core: newest inputs in, one lease and one status out, every cycle."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from perception.contract import Observation
from robots.contract import AcceptedMotion, RobotState, SpeedLease
from robots.model import RobotModel
from robots.motion import Motion, MotionError
from safety.config import SafetyConfig
from safety.contract import SUPERVISOR, SafetyStatus
from safety.methods import AnyMonitor
from safety.monitor import Decision, Monitor, refuse
from safety.reaction import ReactionWatch
from safety.selftest import SelfTest

LEAST_LIMIT = 0.02
"""Below this rate the arm would only creep: it stops instead."""
CLOCK_SLACK = 0.02
"""A message may have been made this long after the cycle read its clock, s: the process may be held up in between."""
DEAD_AFTER = 0.5
"""After no usable observation, robot state or motion for so long only a person starts the arm again, s."""


class Output(NamedTuple):
    """Result of one cycle. The lease is not signed yet."""

    lease: SpeedLease
    status: SafetyStatus
    events: list[tuple[str, dict[str, object]]]


class SupervisorCore:
    """Holds the newest inputs, the accepted motion and the restart rule. One instance per robot, one thread."""

    def __init__(
        self,
        config: SafetyConfig,
        monitor: AnyMonitor,
        model: RobotModel,
        fingerprint: str,
        boot: int,
        simulation_only: bool = True,
        selftest: SelfTest | None = None,
    ) -> None:
        """`selftest` None: the monitor is not tested by phantoms (comparisons of methods)."""
        self._config = config
        self.monitor = monitor
        self._model = model
        self._fingerprint = fingerprint
        self._boot = boot
        self._simulation_only = simulation_only
        self.selftest = selftest
        self._observation: Observation | None = None
        self._state: RobotState | None = None
        self._motion: Motion | None = None
        self.reaction = ReactionWatch(config.reaction)
        self._seq = 0
        self._stopped = False
        self._clear_since = math.nan
        self._refused_since = math.inf
        # Where people may be touched the limit rests on what older leases permit, too.
        self._touching = config.zones.touching
        self._granted: deque[tuple[float, str, float]] = deque()
        self._first = math.inf

    def warm_up(self) -> None:
        """Load the compiled kernels."""
        self.monitor.warm_up()
        rest = (self._model.q_lower + self._model.q_upper) / 2
        Motion.from_samples(self._model, "warm-up", 0.01, [rest, rest, rest])

    def accept_motion(self, accepted: AcceptedMotion) -> None:
        """Take the motion the robot node says it executes. One that makes no path is not taken: its limit stays 0."""
        if not accepted.motion_id:
            self._motion = None
        elif self._motion is None or self._motion.motion_id != accepted.motion_id:
            try:
                self._motion = Motion.from_accepted(self._model, accepted)
            except (MotionError, ValueError):
                self._motion = None

    def step(self, now: float, observation: Observation | None, state: RobotState | None) -> Output:
        """Decide on the newest observation and state (None: no newer one has come)."""
        if observation is not None and (self._observation is None or observation.t >= self._observation.t):
            self._observation = observation
        if state is not None:
            self._state = state
        o = self._observation
        self.reaction.take(now, observation, o.oldest_exposure if o is not None else math.nan)
        events: list[tuple[str, dict[str, object]]] = []
        decision, restartable = self._judge(now, self._observation)
        if decision.required >= 0.0 and not self._tested(now, events):
            assert self.selftest is not None
            decision, restartable = refuse(self.selftest.failed, decision.progress_from), False
        restartable = restartable and not self._refused_for_long(now, decision)
        limit, reason = self._restart_rule(now, decision, events)
        self._seq += 1
        self._remember(now, limit)
        return Output(
            self._lease(limit, reason, decision, restartable), self._status(now, limit, reason, decision), events
        )

    def _remember(self, now: float, limit: float) -> None:
        """Keep what was granted for as long as a lease can still be obeyed."""
        if not self._touching or self._state is None:
            return
        self._first = min(self._first, now)
        self._granted.append((now, self._state.motion_id, limit))
        while self._granted[0][0] < now - self._kept:
            self._granted.popleft()

    @property
    def _kept(self) -> float:
        return self._config.reaction.total + CLOCK_SLACK

    def _ceiling(self, now: float, motion_id: str) -> float:
        """The most that any lease on a motion that can still be obeyed permits; 1 as long as leases of another life of
        this supervisor may be about."""
        if now - self._first <= self._kept:
            return 1.0
        return max((limit for _, motion, limit in self._granted if motion == motion_id), default=0.0)

    def _refused_for_long(self, now: float, decision: Decision) -> bool:
        """Has a motion been refused for another cause than separation for longer than the arm may go on by itself?"""
        if decision.required >= 0.0 or self._state is None or not self._state.motion_id:
            self._refused_since = math.inf
            return False
        self._refused_since = min(self._refused_since, now)
        return now - self._refused_since > DEAD_AFTER

    def _tested(self, now: float, events: list[tuple[str, dict[str, object]]]) -> bool:
        """Try the phantoms that are due; False once one was not seen."""
        test, o, s = self.selftest, self._observation, self._state
        if test is None or o is None or s is None:
            return True
        before = test.complete
        for _ in range(test.due(now) if not test.failed else 0):
            phantom = test.phantom(o, s)
            answer = self._judge(now, phantom.observation)[0]
            separation = answer.separation if answer.required >= 0.0 else math.nan
            if not test.judge(phantom, answer.limit, separation, now):
                events.append(("safety.self_test_failed", {"reason": test.failed}))
                break
        if test.complete and not before:
            events.append(("safety.self_test_passed", {}))
        return not test.failed

    def _judge(self, now: float, o: Observation | None) -> tuple[Decision, bool]:
        """Return the decision and whether the arm may go on by itself once separation allows it."""
        s = self._state
        if o is None or s is None:
            return refuse("waiting for the first observation and robot state"), True
        age = now - o.oldest_exposure
        if not math.isfinite(age) or age < -CLOCK_SLACK:
            return refuse("camera time is not on this machine's clock", s.progress), False
        if not o.t <= now + CLOCK_SLACK:
            return refuse("the observation's time lies in the future", s.progress), False
        if age > self._config.reaction.lease_validity:
            why = f"camera data is {age * 1e3:.0f} ms old ({self.reaction.over})"
            return refuse(why, s.progress), age <= DEAD_AFTER
        if not o.healthy:
            only_late = all(c.ok or c.reason == "late" for c in o.cameras) and o.confirmed_clear
            return refuse(o.reason, s.progress), only_late
        if now - s.t > 10 * self._config.reaction.tick or s.t > now + CLOCK_SLACK:
            return refuse(f"robot state is {(now - s.t) * 1e3:.0f} ms old", s.progress), True
        if s.motion_id and (self._motion is None or self._motion.motion_id != s.motion_id):
            return refuse("the accepted motion is not known yet", s.progress), True
        motion = self._motion if s.motion_id else None
        if self._touching and isinstance(self.monitor, Monitor):
            return self.monitor.cycle(now, o, s, motion, self._ceiling(now, s.motion_id)), True
        return self.monitor.cycle(now, o, s, motion), True

    def _restart_rule(
        self, now: float, decision: Decision, events: list[tuple[str, dict[str, object]]]
    ) -> tuple[float, str]:
        """After the arm was stopped, go on only when the way has been clear for `restart_after`."""
        limit = decision.limit if decision.limit >= LEAST_LIMIT else 0.0
        state = self._state
        if state is None or not state.motion_id:
            self._stopped = False
            return limit, decision.reason
        if not self._stopped and limit == 0.0 and state.rate == 0.0 and decision.required >= 0.0:
            self._stopped, self._clear_since = True, math.nan
            events.append(("safety.protective_stop", {"reason": decision.reason, "separation": decision.separation}))
        if not self._stopped:
            return limit, decision.reason
        if limit < self._config.restart_limit:
            self._clear_since = math.nan
            return 0.0, decision.reason
        if not math.isfinite(self._clear_since):
            self._clear_since = now
            events.append(("safety.restart_announced", {"in_s": self._config.restart_after}))
        left = self._config.restart_after - (now - self._clear_since)
        if left > 0.0:
            return 0.0, f"the way is clear: going on in {left:.1f} s"
        self._stopped = False
        events.append(("safety.restart", {"limit": limit}))
        return limit, decision.reason

    def _lease(self, limit: float, reason: str, decision: Decision, restartable: bool) -> SpeedLease:
        o, s = self._observation, self._state
        exposure = o.oldest_exposure if o is not None else -1.0
        return SpeedLease(
            issuer=SUPERVISOR,
            boot=self._boot,
            seq=self._seq,
            limit=limit,
            motion_id=s.motion_id if s is not None else "",
            progress_from=max(0.0, decision.progress_from - 0.05),
            progress_to=decision.progress_to + 1e-6,
            state_seq=s.seq if s is not None else 0,
            oldest_exposure=exposure,
            expires_at=exposure + self._config.reaction.lease_validity,
            reason=reason,
            restartable=restartable,
            fingerprint=self._fingerprint,
            tested_at=self.selftest.passed_at if self.selftest is not None else -1.0,
        )

    def _status(self, now: float, limit: float, reason: str, d: Decision) -> SafetyStatus:
        o = self._observation
        return SafetyStatus(
            seq=self._seq,
            t=now,
            limit=limit,
            reason=reason,
            separation=min(d.separation, 1e9),
            required=d.required,
            terms=d.terms,
            link=d.link,
            point=d.point,
            seen=d.seen,
            oldest_exposure=o.oldest_exposure if o is not None else -1.0,
            cycle_time=0.0,
            fingerprint=self._fingerprint,
            simulation_only=self._simulation_only,
            reaction=dict(self.reaction.now),
            reaction_exceeded=self.reaction.lasting(now),
        )
