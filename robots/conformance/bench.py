"""A robot node round the driver under test, with a lease issuer and a controller of the test's own, on one clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.bus.inprocess import Hub
from cell.bus.messages import Event
from cell.clock import Clock, RealClock, SimulatedClock
from robots.client import RequestStatus, RobotClient
from robots.config import RobotConfig
from robots.conformance.issuer import KEY, PRINT, VALIDITY, Issuer
from robots.conformance.surroundings import Surroundings
from robots.contract import RobotState, topic_state
from robots.leases import LeaseRules
from robots.model import RobotModel
from robots.motion import Motion
from robots.node import RobotNode
from robots.planning import plan_ptp

Array = NDArray[np.float64]
PATIENCE = 20.0
"""Longest time anything may take that the suite waits for, s."""


class Bench:
    """The node ticks at its rate, the issuer every 8 ms, the controller every 20 ms."""

    def __init__(self, driver: str, around: Surroundings, hub: Hub, config: dict[str, Any]) -> None:
        """`config`: fields of `robots.config.RobotConfig` that this driver needs otherwise."""
        self.around = around
        self.model = RobotModel.load(around.model)
        own: Mapping[str, Any] = getattr(around, "config", {})
        self.config = RobotConfig(**{"driver": driver, "model": around.model, **own, **config})
        ports = hub.ports("arm")
        self.driver = around.driver(ports)
        self._slower = self.driver.info.slow_motion
        self._clock: Clock = RealClock(self._slower) if around.real_time else SimulatedClock()
        rules = LeaseRules(tuple(self.config.leases.issuers), PRINT, KEY, validity=VALIDITY)
        self.node = RobotNode(ports, self.config, self.model, self.driver, rules)
        self.issuer = Issuer(hub)
        self.client = RobotClient(hub.ports("controller"), "controller", "conformance")
        self._feed = hub.ports("observer").event_feed()
        self._watch = hub.ports("watcher").subscriber(topic_state(), RobotState)
        self.events: list[Event] = []
        self.states: list[RobotState] = []
        self.awake = True
        """False: the robot node says nothing any more, as if its process stood still."""
        self._tick = 0
        self._began = self.now = self._clock.now()

    def begin(self) -> None:
        """Load the kernels, then run until the node is ready."""
        self.node.warm_up()
        # Kernels of the tests' own: loading one takes longer than a real arm puts up with a silent node.
        home = np.array(self.model.home)
        plan_ptp(self.model, home, home + 0.05, motion_id="warm").braking(1.0, 0.0)
        self._began = self.now = self._clock.now()
        self._tick = 0
        self.until(lambda: self.client.connected and bool(self.states) and bool(self.state.q_commanded), "a state")
        self.run(0.2)

    @property
    def state(self) -> RobotState:
        return self.states[-1]

    def step(self) -> None:
        self._tick += 1
        t = self._began + self._tick * self.config.period
        if isinstance(self._clock, SimulatedClock):
            self._clock.advance_to(t)
        else:
            time.sleep(max(0.0, t - self._clock.now()) * self._slower)
        self.now = now = self._clock.now()
        self.around.step(now)
        if not self.awake:
            return
        if self._tick % max(1, round(0.008 / self.config.period)) == 0:
            self.issuer.step(now)
        if self._tick % max(1, round(0.02 / self.config.period)) == 0:
            self.client.poll(now)
        self.node.step(now)
        envelope = self._watch.take()
        if envelope is not None:
            self.states.append(envelope.body)
        self.events += self._feed.drain()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / self.config.period)):
            self.step()

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> float:
        """Run until the condition holds; return how long it took, s. Fails with what the node says."""
        begun = self.now
        while not condition():
            if self.now - begun > seconds:
                said = f"; fault: {self.state.fault_text or 'none'}" if self.states else "; the node has no state"
                raise AssertionError(f"no {what} within {seconds:g} s{said}")
            self.step()
        return self.now - begun

    def motion(self, span: float = 0.5, name: str = "m1") -> Motion:
        """A motion that turns the first two joints from where the arm is commanded, by `span` and a fifth of it."""
        q = np.array(self.state.q_commanded)
        sign = 1.0 if q[0] + span <= self.model.q_upper[0] - 0.1 else -1.0
        goal = q.copy()
        goal[0] += sign * span
        goal[1] += 0.2 * sign * span
        return plan_ptp(self.model, q, goal, motion_id=name)

    def start(self, motion: Motion, until: float = 0.0) -> str:
        """Have a motion accepted, and run until it has come `until` nominal seconds far."""
        request = self.client.move(motion, self.now)
        self.until(lambda: self.status(request).verdict != "sent", "answer", 3.0)
        status = self.status(request)
        assert status.verdict == "accepted", f"the motion was {status.verdict}: {status.reason}"
        self.until(lambda: self.state.progress >= until and self.state.motion_id == motion.motion_id, "progress")
        return request

    def status(self, request: str) -> RequestStatus:
        return self.client.status(request)

    def ask(self, request: str) -> RequestStatus:
        """Run until a request is finished."""
        self.until(lambda: self.status(request).finished, "end of the request")
        return self.status(request)

    def clear(self) -> RequestStatus:
        """A person clears the latched faults."""
        return self.ask(self.client.clear_fault("conformance", self.now))

    def go_on(self) -> None:
        """A person lets the arm go on: clears, then ends the hold."""
        cleared = self.clear()
        assert cleared.verdict == "done", f"ClearFault was {cleared.verdict}: {cleared.reason}"
        assert self.ask(self.client.set_override(1.0, self.now)).verdict == "done"

    def close(self) -> None:
        """Stop the arm and end everything."""
        try:
            self.node.close()
        finally:
            self.around.close()


def off_path(motion: Motion, q: Array) -> float:
    """How far measured positions q, (n, dof), lie off a motion's path, rad: the largest joint of the nearest place."""
    a, b = motion.path[:-1], motion.path[1:]
    way = b - a
    length = np.maximum((way * way).sum(axis=1), 1e-18)
    worst = 0.0
    for row in q:
        share = np.clip(((row - a) * way).sum(axis=1) / length, 0.0, 1.0)
        distance = np.abs(a + share[:, None] * way - row).max(axis=1)
        worst = max(worst, float(distance.min()))
    return worst
