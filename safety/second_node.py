"""The second channel's node: the same inputs as the supervisor, a lease of its own."""

from __future__ import annotations

import numpy as np

from cell.bus.ports import Ports, Subscriber
from perception.contract import TOPIC_OBSERVATION, Observation
from robots.contract import AcceptedMotion, RobotState, SpeedLease, topic_lease, topic_motion, topic_state
from robots.leases import sign_lease
from robots.model import RobotModel
from safety.contract import SECOND
from safety.second import SecondMonitor
from safety.second_core import SecondCore


class SecondNode:
    """Shell round `SecondCore`; `key` signs the leases. It steps often, and calculates at the cameras' rate."""

    def __init__(
        self, ports: Ports, core: SecondCore, monitor: SecondMonitor, model: RobotModel, key: bytes, period: float
    ) -> None:
        self.name = SECOND
        self.period = period
        self.core = core
        self._monitor = monitor
        self._model = model
        self._key = key
        self._observations: Subscriber[Observation] = ports.subscriber(TOPIC_OBSERVATION, Observation)
        self._states: Subscriber[RobotState] = ports.subscriber(topic_state(), RobotState)
        self._motions: Subscriber[AcceptedMotion] = ports.subscriber(topic_motion(), AcceptedMotion)
        self._leases = ports.publisher(topic_lease(SECOND), SpeedLease)
        self._events = ports.event_source()
        self._told: bool | None = False

    def warm_up(self) -> None:
        """Use every part once, so that the first motion does not wait for imports."""
        rest = np.tile((self._model.q_lower + self._model.q_upper) / 2, (3, 1))
        self._monitor.course(AcceptedMotion("warm-up", 0.01, self._model.dof, rest.astype("<f8").tobytes()))
        self._model.capsule_paths(rest)  # places the phantoms of the self-test

    def step(self, now: float) -> None:
        """Take the newest inputs; publish a lease if it is time for one."""
        motion = self._motions.take()
        if motion is not None:
            self.core.accept_motion(motion.body)
        observation, state = self._observations.take(), self._states.take()
        lease = self.core.step(now, observation.body if observation else None, state.body if state else None)
        if lease is not None:
            self._leases.send(sign_lease(lease, self._key), now)
            self._tell(now)

    def _tell(self, now: float) -> None:
        """Say once that the self-test was passed, and once that it failed."""
        test = self.core.selftest
        if test is None:
            return
        if test.failed and self._told is not None:
            self._told = None
            self._events.emit("safety.self_test_failed", now, reason=f"second channel: {test.failed}")
        elif test.complete and self._told is False:
            self._told = True
            self._events.emit("safety.self_test_passed", now)

    def close(self) -> None:
        """Nothing is held beyond the ports."""
