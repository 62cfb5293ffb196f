"""The supervisor node: reads observation, robot state and accepted motion, publishes leases and its grounds."""

from __future__ import annotations

import msgspec

from cell.bus.ports import Ports, Subscriber
from cell.clock import Clock
from perception.contract import TOPIC_OBSERVATION, Observation
from robots.contract import AcceptedMotion, RobotState, SpeedLease, topic_lease, topic_motion, topic_state
from robots.leases import sign_lease
from safety.contract import SUPERVISOR, TOPIC_STATUS, SafetyStatus
from safety.supervisor import SupervisorCore


class SupervisorNode:
    """Shell round `SupervisorCore`; `key` signs the leases."""

    def __init__(self, ports: Ports, core: SupervisorCore, key: bytes, period: float, clock: Clock) -> None:
        self.name = SUPERVISOR
        self.period = period
        self.core = core
        self._key = key
        self._clock = clock
        self._observations: Subscriber[Observation] = ports.subscriber(TOPIC_OBSERVATION, Observation)
        self.wakes = [self._observations]
        """An observation is looked at at once, not at the end of the period."""
        self._states: Subscriber[RobotState] = ports.subscriber(topic_state(), RobotState)
        self._motions: Subscriber[AcceptedMotion] = ports.subscriber(topic_motion(), AcceptedMotion)
        self._leases = ports.publisher(topic_lease(SUPERVISOR), SpeedLease)
        self._status = ports.publisher(TOPIC_STATUS, SafetyStatus)
        self._events = ports.event_source()

    def warm_up(self) -> None:
        """Load the compiled kernels before the clock runs."""
        self.core.warm_up()

    def step(self, now: float) -> None:
        """One monitor cycle."""
        motion = self._motions.take()
        if motion is not None:
            self.core.accept_motion(motion.body)
        observation, state = self._observations.take(), self._states.take()
        out = self.core.step(now, observation.body if observation else None, state.body if state else None)
        self._leases.send(sign_lease(out.lease, self._key), now)
        took = self._clock.now() - now
        self._status.send(msgspec.structs.replace(out.status, cycle_time=max(0.0, took)), now)
        for kind, data in out.events:
            self._events.emit(kind, now, **data)

    def close(self) -> None:
        """Nothing is held beyond the ports."""
