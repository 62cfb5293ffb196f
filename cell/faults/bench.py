"""Runs a recipe in the twin on simulated time, injects one fault while the arm moves, and judges what became of it.

Somebody stands beside the arm, so that the permitted rate is below 1: a fault that raises it shows. In the rows with
rendered pictures nobody does, because the space behind a standing person would stop the arm.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cell.bus.messages import Heartbeat
from cell.bus.ports import Node, Ports, Publisher
from cell.clock import SimulatedClock
from cell.faults.bus import FaultyHub, Sent
from cell.faults.catalogue import Fault
from cell.faults.messages import build_change
from cell.faults.processes import FaultyNode
from cell.faults.verdict import Verdict, judge
from cell.heartbeat import topic as heartbeat_topic
from cell.launch import run_directory
from cell.lockstep import TICK, Lockstep
from cell.nodes import build
from cell.observer import Observer
from cell.operator import Operator
from cell.options import RunOptions
from cell.session import ARM, OPERATOR, SUPERVISOR, WORLD, Session, new_session
from robots.contract import RobotState
from robots.motion import Motion
from safety.contract import SECOND

BESIDE = {"position": [1.35, -0.9], "yaw_deg": 150}
"""Where the person stands: near enough to slow the arm of the demo cell, too far to stop it."""
READY_WITHIN = 30.0
"""Longest time until the arm must move as the injection needs it, s."""
FAST = 0.5
LEFT = 1.2
"""The fault is injected while some joint is faster than `FAST`, rad/s, and the motion goes on for `LEFT` s."""
WATCHED = 2.5
"""How long the arm is watched after the fault is over, s."""


class Moment(NamedTuple):
    """One tick of a run."""

    t: float
    speed: float
    """True speed of the fastest joint, rad/s."""
    motion: str
    progress: float
    rate: float
    limit: float
    """What the robot node takes to be permitted."""
    stop_time: float
    """Braking time T_s on the accepted motion from here, s."""
    drives_stop: float
    """Time the drives' own stop takes from here, s."""


class Trace(NamedTuple):
    """What one run showed."""

    injected: float
    moments: list[Moment]
    """From the injection on."""
    codes: list[str]
    """Faults latched by the robot node and alarms raised since."""
    events: int
    gaps: int


class _Truth(Protocol):
    def joint_speed(self) -> float: ...

    def drives_stop_time(self) -> float: ...


class Bench:
    """One fault at a time; `reference` is the same run without any."""

    def __init__(self, options: RunOptions, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._references: dict[str, Trace] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._scenario = folder / "beside.yaml"
        person = {"name": "beside", "start": BESIDE, "behaviour": [{"do": "stand"}]}
        self._scenario.write_text(json.dumps({"scenario": "beside", "people": [person]}), encoding="utf-8")

    def run(self, fault: Fault) -> Verdict:
        """Inject one fault and judge. Raises what a cell that cannot start raises."""
        if fault.perception not in self._references:
            self._references[fault.perception] = self._trace(None, self._session("reference", fault.perception))
        session = self.session_of(fault)
        return judge(fault, self._trace(fault, session), self._references[fault.perception], session)

    def trace_of(self, fault: Fault) -> Trace:
        """What a run with the fault shows."""
        return self._trace(fault, self.session_of(fault))

    def session_of(self, fault: Fault) -> Session:
        """A session as the fault is injected into."""
        return self._session(fault.id, fault.perception)

    def _trace(self, fault: Fault | None, session: Session) -> Trace:
        cell = _Cell(session)
        try:
            return cell.trace(fault)
        finally:
            cell.close()

    def _session(self, name: str, perception: Any) -> Session:
        folder = run_directory(self._folder / name)
        options = self._options
        return new_session(
            RunOptions(
                recipe=options.recipe, cell=options.cell, seed=options.seed,
                scenario=str(self._scenario) if perception == "surface" else "none",
                settings=options.settings, perception=perception, quiet=True,
            ),
            folder,
            attended=True,
        )  # fmt: skip


class _Cell:
    """A lock-step cell whose nodes and topics can be tampered with."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._hub = FaultyHub()
        self._clock = SimulatedClock()
        self._nodes: dict[str, FaultyNode] = {}
        steps: list[tuple[Node, Publisher[Heartbeat]]] = []
        for name in session.node_names:
            ports = self._hub.ports(name)
            node = FaultyNode(build(name, session, ports, self._clock), self._again(name))
            self._nodes[name] = node
            steps.append((node, ports.publisher(heartbeat_topic(name), Heartbeat)))
        self._loop = Lockstep(steps, self._clock)
        self._ports: Ports = self._hub.ports(OPERATOR)
        self._operator = Operator(self._ports, "operator", True, True, session=OPERATOR)
        self._observer = Observer(self._ports)
        self._feed = self._ports.event_feed()
        self._twin = self._ports.requester("twin.requests", "faults")
        self._motion: Motion | None = None
        self._state: RobotState | None = None
        self._codes: list[str] = []
        self._events = 0

    def _again(self, name: str) -> Callable[[int], Node]:
        def make(boot: int) -> Node:
            topics = {SUPERVISOR: ["arm.lease.supervisor", "safety.status"], SECOND: ["arm.lease.second_channel"]}
            self._hub.leave(topics.get(name, []))
            return build(name, self.session, self._hub.ports(name, boot), self._clock, boot)

        return make

    # ------------------------------------------------------------ one run

    def trace(self, fault: Fault | None) -> Trace:
        """Run up to the injection, inject, and watch."""
        past: deque[tuple[float, Any]] = deque(maxlen=1000)
        if fault is not None and fault.message is not None:

            def remember(body: Any, now: float) -> list[Sent]:
                past.append((now, body))
                return [Sent(body)]

            self._hub.changes[fault.message.topic] = remember
        now = 0.0
        while not self._ready():
            now = self._tick()
            if now > READY_WITHIN:
                raise RuntimeError(f"the arm did not move fast enough within {READY_WITHIN:.0f} s: no fault injected")
        start = now
        self._codes.clear()
        if fault is not None:
            self._inject(fault, past, now, True)
        lasts = 1.0 if fault is None or fault.lasts is None else fault.lasts
        over = fault is None or fault.lasts is None
        moments: list[Moment] = []
        while now < start + lasts + WATCHED - TICK / 2:
            if not over and now >= start + lasts - TICK / 2 and fault is not None:
                self._inject(fault, past, now, False)
                over = True
            now = self._tick()
            moments.append(self._moment(now))
        return Trace(start, moments, list(dict.fromkeys(self._codes)), self._events, self._observer.gaps)

    def _ready(self) -> bool:
        s, motion = self._state, self._motion
        if s is None or motion is None or s.motion_id != motion.motion_id or s.rate < 0.25:
            return False
        if s.rate > 0.9 and self.session.file.perception == "surface":
            return False
        return self._truth.joint_speed() > FAST and (s.duration - s.progress) / s.rate > LEFT

    def _tick(self) -> float:
        self._hub.step(self._clock.now())
        now = self._loop.step()
        self._operator.step(now)
        self._observer.step(now)
        # Not from the bus: what is there may be tampered with.
        arm: Any = self._nodes[ARM].node
        self._state, follower = arm.published, arm.core.follower
        self._motion = follower.motion if follower is not None else None
        for event in self._feed.drain():
            self._events += 1
            if event.kind == "robot.fault":
                self._codes.append(str(event.data["code"]))
        status = self._operator.status
        if status is not None:
            self._codes += [alarm.code for alarm in status.alarms]
        return now

    @property
    def _truth(self) -> _Truth:
        twin: Any = self._nodes[WORLD].node
        truth: _Truth = twin
        return truth

    def _moment(self, now: float) -> Moment:
        s, motion = self._state, self._motion
        speed, drives = self._truth.joint_speed(), self._truth.drives_stop_time()
        if s is None:
            return Moment(now, speed, "", 0.0, 0.0, 0.0, 0.0, drives)
        stop = 0.0
        if motion is not None and motion.motion_id == s.motion_id and s.rate > 0.0:
            stop = motion.braking(s.rate, s.progress, s.rate_slope)[0]
        return Moment(now, speed, s.motion_id, s.progress, s.rate, s.limit, stop, drives)

    def _inject(self, fault: Fault, past: deque[tuple[float, Any]], now: float, on: bool) -> None:
        """Switch the fault on or off."""
        if fault.message is not None:
            topic = fault.message.topic
            if on:
                self._hub.changes[topic] = build_change(fault.message, self.session.key, past)
            else:
                self._hub.changes.pop(topic, None)
        elif fault.process is not None:
            node = self._nodes[fault.process.name]
            if on:
                node.fail(fault.process)
                if fault.process.do in ("kill", "pause"):
                    self._hub.changes[heartbeat_topic(fault.process.name)] = lambda body, t: []
            else:
                node.recover()
                self._hub.changes.pop(heartbeat_topic(fault.process.name), None)
        elif fault.twin is not None:
            for name, value in fault.twin.items():
                self._twin.request({"type": "twin_fault", "name": name, "value": value if on else 0.0}, now)
        elif fault.inputs is not None:
            for name, switched in fault.inputs.items():
                self._twin.request({"type": "twin_input", "name": name, "value": switched if on else not switched}, now)

    def close(self) -> None:
        """Close all nodes."""
        self._loop.close()


__all__ = ["ARM", "Bench", "Moment", "Trace"]
