"""A whole cell on one in-process bus for tests of the controller: real robot node, real drivers, a scripted supervisor.

The supervisor here permits what the test says (`limit`); everything else is the product.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from cell.bus.inprocess import Hub
from cell.bus.messages import PROTOCOL_VERSION, Event, Hello, Reply
from cell.config import LoadedCell, load_cell
from cell.contract import SERVICE, TOPIC_STATUS, CellStatus, Command
from cell.controller import ControllerNode
from cell.loading import freeze
from cell.sequencer import Frozen
from perception.contract import TOPIC_EXPECTED, TOPIC_OBSERVATION, ExpectedParts, Observation
from recipes.contract import GripAction
from recipes.expand import load_recipe
from robots.config import LeaseConfig
from robots.contract import AcceptedMotion, RobotState, SpeedLease, topic_lease, topic_motion, topic_state
from robots.drivers.null import NullDriver
from robots.leases import sign_lease
from robots.node import RobotNode, lease_rules
from safety.contract import SUPERVISOR, SafetyStatus, SeparationTerms
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY

ROOT = Path(__file__).parents[2]
TICK = 0.004
KEY = b"k" * 32
PRINT = "test-fingerprint"
SHORT = """
recipe: short
version: "1"
capabilities: [gripper, operator, inputs, outputs]
operations:
  - operation: one
    phases:
      - {skill: pick, params: {part: cube_red, from: tray_grid}}
      - {skill: place, params: {at: kit_places}}
      - {skill: move_to, params: {home: true}}
"""


@cache
def demo() -> LoadedCell:
    return load_cell()


@cache
def frozen_text(text: str, batches: int = 1) -> Frozen:
    """Freeze a recipe given as text, for the demo cell."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_text(text)
        return freeze(load_recipe(path), demo(), demo().view(), {}, batches)


class Supervisor:
    """Issues leases for whatever motion is accepted, at the limit the test sets."""

    def __init__(self, hub: Hub) -> None:
        ports = hub.ports(SUPERVISOR)
        self.limit = 1.0
        self.silent = False
        self.healthy = True
        self.reason = "dead"
        self.boot = 1
        self.fingerprint = PRINT
        self.observing = True
        self.confirmed = True
        """Somebody has said that the cell is clear."""
        self._ports = hub
        self._state = ports.subscriber(topic_state(), RobotState)
        self._motion = ports.subscriber(topic_motion(), AcceptedMotion)
        self._lease = ports.publisher(topic_lease(SUPERVISOR), SpeedLease)
        self._status: Any = ports.publisher(TOPIC_SAFETY, SafetyStatus)
        self._observation = hub.ports("perception").publisher(TOPIC_OBSERVATION, Observation)
        self._seq = 0
        self._motion_id = ""
        self._state_seq = 0

    def restart(self) -> None:
        """Begin a new life on the same topics."""
        self.boot += 1
        self._ports._published.discard(TOPIC_SAFETY)
        self._status = self._ports.ports(SUPERVISOR, boot=self.boot).publisher(TOPIC_SAFETY, SafetyStatus)

    def step(self, now: float) -> None:
        state, motion = self._state.take(), self._motion.take()
        if state is not None:
            self._state_seq = state.body.seq
        if motion is not None:
            self._motion_id = motion.body.motion_id
        if self.silent:
            return
        self._seq += 1
        limit = self.limit if self.healthy else 0.0
        lease = SpeedLease(
            SUPERVISOR, self.boot, self._seq, limit, self._motion_id, 0.0, 1e6, self._state_seq, now - 0.02, now + 0.15,
            "" if limit == 1.0 else "person near", True, PRINT,
        )  # fmt: skip
        self._lease.send(sign_lease(lease, KEY), now)
        terms = SeparationTerms(0.3, 0.1, 0.1, 0.2, 0.05, 0.01)
        self._status.send(
            SafetyStatus(
                self._seq, now, limit, "", 1e9 if limit == 1.0 else 0.5, 0.7, terms, "panda_link7", (1.0, 0.0, 0.0),
                True, now - 0.02, 0.0, self.fingerprint, True,
            ),
            now,
        )  # fmt: skip
        if self.observing:
            reason = "" if self.healthy else self.reason
            self._observation.send(
                Observation(self._seq, now, now - 0.02, b"", 0, self.healthy, reason, [], [], self.confirmed), now
            )


class Bench:
    """The cell under test."""

    def __init__(self, recipe: str | None = SHORT, batches: int = 1, inputs: tuple[str, ...] = ()) -> None:
        loaded = demo()
        self.hub = Hub()
        self.now = 0.0
        model = loaded.model()
        robot = loaded.config.robot.model_copy(update={"driver": "null", "leases": LeaseConfig(issuers=[SUPERVISOR])})
        self.driver = NullDriver({"q": loaded.home().tolist(), "inputs": list(inputs), "outputs": ["clamp"]}, model.dof)
        self.arm = RobotNode(self.hub.ports("arm"), robot, model, self.driver, lease_rules(robot, PRINT, KEY))
        self.supervisor = Supervisor(self.hub)
        frozen = frozen_text(recipe, batches) if recipe is not None else None
        self.node = ControllerNode(self.hub.ports("controller"), loaded.view(), "test-session", frozen)
        reader = self.hub.ports("reader")
        self._status = reader.subscriber(TOPIC_STATUS, CellStatus)
        self._robot = reader.subscriber(topic_state(), RobotState)
        self._expected = reader.subscriber(TOPIC_EXPECTED, ExpectedParts)
        self._feed = reader.event_feed()
        self.people = reader.requester(SERVICE, "people")
        self.status: CellStatus | None = None
        self.robot: RobotState | None = None
        self.expected: ExpectedParts | None = None
        self.events: list[Event] = []
        self.rates: list[float] = []
        self.empty_tray = False
        """Fingers close on nothing."""
        self.arm_runs = True
        self.controller_runs = True
        self._ticks = 0

    @property
    def state(self) -> str:
        return self.node.unit.packml.state

    @property
    def codes(self) -> list[str]:
        """Codes of active alarms."""
        return [a.code for a in self.node.unit.alarms.listed() if a.active]

    def tick(self) -> None:
        self._ticks += 1
        self.now = round(self._ticks * TICK, 6)
        self._world()
        if self._ticks % 2 == 0:
            self.supervisor.step(self.now)
        if self.controller_runs and self._ticks % 5 == 0:
            self.node.step(self.now)
        if self.arm_runs:
            self.arm.step(self.now)
        for name, inbox in (("status", self._status), ("robot", self._robot), ("expected", self._expected)):
            message = inbox.take()  # type: ignore[attr-defined]
            if message is not None:
                setattr(self, name, message.body)
        self.events.extend(self._feed.drain())
        if self.robot is not None:
            self.rates.append(self.robot.rate)

    def _world(self) -> None:
        """Let the fingers find the part that lies where the arm is."""
        sequencer = self.node.unit.sequencer
        action = sequencer._action.action if sequencer is not None and sequencer._action is not None else None
        if isinstance(action, GripAction):
            if action.part is not None and not self.empty_tray:
                self.driver.part_width = action.part.size[1]
            elif action.release:
                self.driver.part_width = None

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.tick()

    def until(self, *states: str, seconds: float = 40.0) -> str:
        """Run until the PackML state is one of `states`; fail with what is known otherwise."""
        for _ in range(round(seconds / TICK)):
            self.tick()
            if self.state in states:
                return self.state
        robot = msgspec.to_builtins(self.robot) if self.robot is not None else {}
        shown = {k: robot.get(k) for k in ("motion_id", "progress", "rate", "limit", "limit_by", "fault", "session")}
        raise AssertionError(f"{self.state} after {seconds} s, alarms {self.codes}, robot {shown}")

    def ask(self, body: Any, seconds: float = 1.0) -> Reply:
        """Ask the controller; return the last reply."""
        request = self.people.request(body, self.now)
        last: Reply | None = None
        for _ in range(round(seconds / TICK)):
            self.tick()
            for reply in self.people.replies():
                if reply.id == request:
                    last = reply
            if last is not None and last.verdict != "accepted":
                break
        assert last is not None, "no reply"
        return last

    def command(self, name: Any) -> Reply:
        return self.ask(Command(name))

    def start(self) -> None:
        """Bring the cell to Execute as a person would."""
        self.run(0.2)
        self.ask(Hello(PROTOCOL_VERSION, "operator", "people"))
        assert self.command("Reset").verdict == "done"
        self.until("Idle")
        assert self.command("Start").verdict == "done"
        self.until("Execute")

    def until_moving(self, seconds: float = 10.0) -> None:
        """Run until the arm moves at full rate in Execute."""
        for _ in range(round(seconds / TICK)):
            self.tick()
            if self.robot is not None and self.robot.motion_id and self.robot.rate > 0.99:
                return
        raise AssertionError("the arm does not move")

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.kind == kind]
