"""A robot node with a null driver, a lease issuer and a controller on one in-process bus."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from cell.bus.inprocess import Hub
from cell.bus.messages import Event
from robots.client import RequestStatus, RobotClient
from robots.config import RobotConfig
from robots.conformance.issuer import KEY, PRINT, VALIDITY, Issuer
from robots.contract import RobotState, topic_state
from robots.drivers.null import NullDriver
from robots.leases import LeaseRules
from robots.model import RobotModel
from robots.motion import Motion
from robots.node import RobotNode
from robots.planning import plan_ptp


class Bench:
    """Everything on one clock; `run` ticks the node at its rate, the issuer every 8 ms, the client every 20 ms."""

    def __init__(
        self, hello: bool = True, model: str = "panda", q: list[float] | None = None,
        info: dict[str, Any] | None = None, **config: Any,
    ) -> None:  # fmt: skip
        self.hub = Hub()
        self.model = RobotModel.load(model)
        self.config = RobotConfig(driver="null", model=model, **config)
        self.driver = NullDriver({"q": q or self.model.home.tolist()}, self.model.dof)
        self.driver.info = msgspec.structs.replace(self.driver.info, **(info or {}))
        self.rules = LeaseRules(tuple(self.config.leases.issuers), PRINT, KEY, validity=VALIDITY)
        self.node = RobotNode(self.hub.ports("arm"), self.config, self.model, self.driver, self.rules)
        self.issuers = [Issuer(self.hub, name) for name in self.rules.issuers]
        self.issuer = self.issuers[0]
        self.client = RobotClient(self.hub.ports("controller"), "controller", "s1")
        self.feed = self.hub.ports("observer").event_feed()
        self.watch = self.hub.ports("watcher").subscriber(topic_state(), RobotState)
        self.events: list[Event] = []
        self.states: list[RobotState] = []
        self.alive = True
        self.now = 1.0
        self.tick = 0
        if hello:
            self.run(0.1)
            assert self.client.connected

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / self.config.period)):
            self.step()

    def run_until(self, condition: Any, seconds: float = 10.0) -> float:
        """Run until the condition holds; return the time it took. Fails if it never does."""
        start = self.now
        while not condition():
            assert self.now - start < seconds, f"not within {seconds} s; fault {self.state.fault_text}"
            self.step()
        return self.now - start

    def step(self) -> None:
        self.tick += 1
        self.now = 1.0 + self.tick * self.config.period
        if self.tick % max(1, round(0.008 / self.config.period)) == 0:
            for issuer in self.issuers:
                issuer.step(self.now)
        if self.alive and self.tick % max(1, round(0.02 / self.config.period)) == 0:
            self.client.poll(self.now)
        self.node.step(self.now)
        envelope = self.watch.take()
        if envelope is not None:
            self.states.append(envelope.body)
        self.events += self.feed.drain()

    @property
    def state(self) -> RobotState:
        return self.states[-1]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def motion(self, span: float = 0.6, name: str = "m1") -> Motion:
        """A motion that turns the first joint by `span` rad from where the arm is commanded."""
        q = np.array(self.state.q_commanded)
        goal = q.copy()
        goal[0] += span
        goal[1] += 0.2 * span
        return plan_ptp(self.model, q, goal, motion_id=name)

    def start(self, span: float = 0.6, name: str = "m1", until: float = 0.2) -> str:
        """Begin a motion and run for `until` s; return the request's id."""
        request = self.client.move(self.motion(span, name), self.now)
        self.run(until)
        assert self.client.status(request).verdict == "accepted", self.client.status(request)
        return request

    def status(self, request: str) -> RequestStatus:
        self.client.poll(self.now)
        return self.client.status(request)

    def ask(self, request: str, seconds: float = 3.0) -> RequestStatus:
        """Run until a request is finished."""
        self.run_until(lambda: self.status(request).finished, seconds)
        return self.client.status(request)

    def brake(self) -> float:
        """Run until the rate is 0; return how long it took."""
        return self.run_until(lambda: self.state.rate == 0.0, 3.0)
