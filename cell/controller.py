"""The controller's node: ports round `unit.Unit`. One session with the robot node, one service for people."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from cell.bus.messages import PROTOCOL_VERSION, Heartbeat, Hello, Reply
from cell.bus.ports import Incoming, Ports
from cell.contract import (
    NODE,
    SERVICE,
    TOPIC_JOG,
    TOPIC_LEDGER,
    TOPIC_RECIPE,
    TOPIC_STATUS,
    AcknowledgeAlarm,
    AnswerConfirm,
    CellRequest,
    CellStatus,
    ChooseRecovery,
    Command,
    GoTo,
    JogWish,
    LedgerStatus,
    LoadRecipe,
    ManualGrip,
    ManualOutput,
    NextPhase,
    OverrideSpeed,
    RecipeStatus,
    SetStepping,
    SetUnitMode,
    UnloadRecipe,
)
from cell.loading import DirectLoader, Loaded, Loader, Order, freeze, rehearse, steps_of
from cell.manual import JogGate
from cell.objections import manual_objection, objections
from cell.packml import Refused
from cell.sequencer import Frozen
from cell.session import SKELETONS, Session
from cell.unit import Unit
from perception.contract import SERVICE as PERCEPTION_SERVICE
from perception.contract import (
    TOPIC_EXPECTED,
    TOPIC_OBSERVATION,
    TOPIC_SKELETONS,
    ConfirmClear,
    ExpectedParts,
    Observation,
    Skeletons,
)
from recipes.contract import CellView
from recipes.expand import load_recipe
from robots.client import RobotClient
from robots.contract import ARM, TOPIC_MIRROR, ClearFault, MirrorStatus, SetOverride
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY
from safety.contract import SafetyStatus

STATUS_PERIOD = 0.1
EXPECTED_PERIOD = 0.5


class ControllerNode:
    """Shell of the controller.

    Args:
        ports: the node's connections.
        cell: what recipes know of the cell.
        session: random id of this life of the controller (fixed in lock-step runs).
        frozen: recipe, formula and analysis that Start runs; None: none is loaded.
        robot: name of the robot node.
        issuers: names of the safety supervisors, as the robot node knows them.
        watched: nodes whose heartbeat must not fall silent.
        period: time between two steps, s.
        skeletons: somebody publishes them; their absence is told, and changes nothing else.
        shadow: a twin follows the arm, and says how well.
        loader: analyses recipes that people load; None: none can be loaded.
    """

    name = NODE

    def __init__(
        self,
        ports: Ports,
        cell: CellView,
        session: str,
        frozen: Frozen | None = None,
        robot: str = ARM,
        issuers: Sequence[str] = ("supervisor",),
        watched: Sequence[str] = (),
        period: float = 0.02,
        skeletons: bool = False,
        shadow: bool = False,
        loader: Loader | None = None,
    ) -> None:
        self.period = period
        self._link = RobotClient(ports, "controller", session, robot)
        self._events = ports.event_source()
        self.unit = Unit(cell, self._link, self._events.emit, frozenset(issuers), frozen)
        self._safety = ports.subscriber(TOPIC_SAFETY, SafetyStatus)
        self._observation = ports.subscriber(TOPIC_OBSERVATION, Observation)
        self._ledger = ports.subscriber(TOPIC_LEDGER, LedgerStatus)
        self._skeletons = ports.subscriber(TOPIC_SKELETONS, Skeletons) if skeletons else None
        self.unit.seen.skeletons_due = skeletons
        self._mirror = ports.subscriber(TOPIC_MIRROR, MirrorStatus) if shadow else None
        self.unit.seen.mirror_due = shadow
        self._heartbeats = {node: ports.subscriber(f"heartbeat.{node}", Heartbeat) for node in watched}
        self.unit.seen.heartbeats = dict.fromkeys(watched, -1e9)
        self._jog = ports.subscriber(TOPIC_JOG, JogWish)
        self.wakes = [self._jog]
        """A person's hand on the jog button is looked at at once, not at the next step."""
        self._gate = JogGate(cell.model.dof)
        self._loader = loader
        self._load: tuple[Incoming, LoadRecipe] | None = None
        self._recipe = ports.publisher(TOPIC_RECIPE, RecipeStatus)
        self._recipe_at, self._loads, self._loads_shown = -1e9, 0, -1
        self._service = ports.responder(SERVICE, CellRequest)
        self._perception = ports.requester(PERCEPTION_SERVICE, session)
        self._perception_hello = ""
        self._session = session
        self._status = ports.publisher(TOPIC_STATUS, CellStatus)
        self._expected = ports.publisher(TOPIC_EXPECTED, ExpectedParts)
        self._status_at = self._expected_at = -1e9
        self._shown: tuple[object, ...] = ()
        self._parts_version = -1
        self._relayed: dict[str, tuple[Incoming, str]] = {}

    def warm_up(self) -> None:
        """Load the compiled kernels of planning before the clock runs."""
        rehearse(self.unit.cell)

    def step(self, now: float) -> None:
        self._take(now)

        for request in self._service.requests():
            self._serve(request, now)
        self._relay(now)
        self._finish_load(now)
        self._take_jog(now)
        self.unit.step(now)
        self._publish(now)

    # ------------------------------------------------------------ in

    def _take(self, now: float) -> None:
        seen = self.unit.seen
        self._link.poll(now)
        seen.state, seen.state_at = self._link.state, self._link.state_received
        status = self._safety.take()
        if status is not None:
            seen.take_status(status.body, status.boot, now)
        observation = self._observation.take()
        if observation is not None:
            seen.take_observation(observation.body, now)
        ledger = self._ledger.take()
        if ledger is not None:
            seen.ledger, seen.ledger_at = ledger.body, now
        skeletons = self._skeletons.take() if self._skeletons is not None else None
        if skeletons is not None:
            seen.skeletons, seen.skeletons_at = skeletons.body, now
        mirror = self._mirror.take() if self._mirror is not None else None
        if mirror is not None:
            seen.mirror, seen.mirror_at = mirror.body, now
        for node, inbox in self._heartbeats.items():
            # A node that reports a fault is alive; its fault has an alarm of its own.
            if inbox.take() is not None:
                seen.heartbeats[node] = now

    def _serve(self, request: Incoming, now: float) -> None:
        try:
            done = self._do(request, now)
        except Refused as refusal:
            self._service.reply(request.client, Reply(request.id, "rejected", str(refusal)))
            return
        self._service.reply(request.client, Reply(request.id, "accepted"))
        if done:
            self._service.reply(request.client, Reply(request.id, "done"))

    def _do(self, request: Incoming, now: float) -> bool:
        """Carry a request out; False if its `done` comes later. Raises Refused."""
        body, unit = request.body, self.unit
        if isinstance(body, Hello):
            if body.version != PROTOCOL_VERSION:
                raise Refused(f"protocol version {body.version} does not match {PROTOCOL_VERSION} of the controller")
        elif isinstance(body, Command):
            unit.command(body, now)
        elif isinstance(body, SetUnitMode):
            unit.set_mode(body.mode, body.person, now)
        elif isinstance(body, AnswerConfirm):
            unit.answer(body.question, body.answer, body.person, now)
        elif isinstance(body, ChooseRecovery):
            unit.answer(body.question, body.choice, body.person, now)
        elif isinstance(body, AcknowledgeAlarm):
            unit.acknowledge(body.code, body.person, now)
        elif isinstance(body, SetOverride):
            unit.set_override(body.value, now)
        elif isinstance(body, OverrideSpeed):
            unit.set_override(body.value, now, body.person)
        elif isinstance(body, SetStepping):
            unit.set_stepping(body.value, body.person, now)
        elif isinstance(body, NextPhase):
            unit.let_next(body.person, now)
        elif isinstance(body, LoadRecipe):
            self._begin_load(request, body)
            return False
        elif isinstance(body, UnloadRecipe):
            unit.load(None, body.person, now)
            self._loads += 1
        elif isinstance(body, GoTo | ManualGrip | ManualOutput):
            self._relayed["robot:" + self._by_hand(body, now)] = (request, "operator.manual")
            return False
        elif isinstance(body, ClearFault):
            self._relayed["robot:" + self._link.clear_fault(body.person, now)] = (request, "operator.clear_fault")
            return False
        elif isinstance(body, ConfirmClear):
            if not self._perception_hello:
                hello = Hello(PROTOCOL_VERSION, "controller", self._session)
                self._perception_hello = self._perception.request(hello, now)
            self._relayed["perception:" + self._perception.request(body, now)] = (request, "operator.confirm_clear")
            return False
        return True

    def _begin_load(self, request: Incoming, body: LoadRecipe) -> None:
        if self._loader is None:
            raise Refused("this controller loads no recipes: start the cell with `cell up`")
        if self._load is not None or self._loader.busy:
            raise Refused(f"{self.unit.loading or 'another recipe'} is being analysed: wait for it")
        self.unit.check_resting("a recipe is loaded")
        self._load, self.unit.loading = (request, body), body.name
        self._loader.begin(Order(body.name, body.text, body.settings, body.batches))

    def _finish_load(self, now: float) -> None:
        loaded = self._loader.poll() if self._loader is not None else None
        if loaded is None or self._load is None:
            return
        (request, body), self._load, self.unit.loading = self._load, None, ""
        verdict, reason = self._take_over(loaded, body, now)
        self._service.reply(request.client, Reply(request.id, verdict, reason, msgspec.to_builtins(loaded.view)))

    def _take_over(self, loaded: Loaded, body: LoadRecipe, now: float) -> tuple[Literal["done", "failed"], str]:
        if loaded.frozen is None:
            return "failed", f"the recipe has {len(loaded.view.problems)} problems: {loaded.view.problems[0].message}"
        try:
            # Minutes may have passed: somebody may have started what was loaded before.
            self.unit.load(loaded.frozen, body.person, now)
        except Refused as refusal:
            return "failed", str(refusal)
        self._loads += 1
        return "done", ""

    def _by_hand(self, body: GoTo | ManualGrip | ManualOutput, now: float) -> str:
        """Do what a person asks for in manual mode; return the robot node's request. Raises Refused."""
        reason = manual_objection(self.unit)
        if reason:
            raise Refused(reason)
        if isinstance(body, GoTo):
            missing = self._link.state.manual_missing if self._link.state is not None else ""
            if missing:
                raise Refused(missing)
            return self.unit.manual.go_to(body, self.unit.parts, now)
        if isinstance(body, ManualGrip):
            return self._link.grip(body.width, body.force, now, release=True)
        return self._link.set_output(body.name, body.value, now)

    def _take_jog(self, now: float) -> None:
        """Hand a jog command on, or say once why not."""
        wish = self._jog.take()
        if wish is None:
            return
        body = wish.body
        reason = self._gate.refusal(body, wish.boot, now) or manual_objection(self.unit)
        # A release is always handed on: it can only stop.
        if not reason or not body.velocity:
            self._gate.forward(body, self._link, now)
        jogging = "" if reason or not body.velocity else body.person
        if jogging != self._gate.person:
            self._gate.person = jogging
            self._events.emit("operator.jog", now, person=body.person, active=bool(jogging), reason=reason)

    def _relay(self, now: float) -> None:
        """Bring answers of robot node and perception back to whoever asked."""
        ended: list[tuple[str, str, str]] = [
            ("perception:" + r.id, r.verdict, r.reason) for r in self._perception.replies()
        ]
        for key in self._relayed:
            if key.startswith("robot:"):
                status = self._link.status(key.removeprefix("robot:"))
                if status.finished:
                    ended.append((key, status.verdict, status.reason))
        for key, verdict, reason in ended:
            if key not in self._relayed or verdict == "accepted":
                continue
            request, kind = self._relayed.pop(key)
            final: Literal["done", "failed"] = "done" if verdict == "done" else "failed"
            self._service.reply(request.client, Reply(request.id, final, reason))
            self._events.emit(kind, now, person=request.body.person, verdict=verdict, reason=reason)

    # ------------------------------------------------------------ out

    def _publish(self, now: float) -> None:
        parts = self.unit.parts
        if parts.version != self._parts_version or now - self._expected_at >= EXPECTED_PERIOD - 1e-9:
            self._parts_version, self._expected_at = parts.version, now
            self._expected.send(parts.expected(), now)
        if self._loads != self._loads_shown or now - self._recipe_at >= EXPECTED_PERIOD - 1e-9:
            self._loads_shown, self._recipe_at = self._loads, now
            self._recipe.send(self.recipe_status(), now)
        unit, sequencer = self.unit, self.unit.sequencer
        question = unit.question.id if unit.question is not None else ""
        shown = (
            unit.packml.state,
            unit.stepping,
            unit.loading,
            sequencer is not None and sequencer.waits,
            sequencer.step_number if sequencer else 0,
            question,
            len(unit.alarms.listed()),
        )
        if shown != self._shown or now - self._status_at >= STATUS_PERIOD - 1e-9:
            self._shown, self._status_at = shown, now
            self._status.send(self.status(now), now)

    def status(self, now: float) -> CellStatus:
        """Return what people see."""
        unit, sequencer, frozen = self.unit, self.unit.sequencer, self.unit.frozen
        call = sequencer.call if sequencer is not None else None
        return CellStatus(
            t=now,
            state=unit.packml.state,
            state_number=unit.packml.number,
            mode="manual" if unit.mode == "manual" else "automatic",
            recipe=frozen.recipe if frozen is not None else "",
            operation=call.operation if call is not None else "",
            phase=call.label if call is not None else "",
            step=sequencer.step_number if sequencer is not None else 0,
            steps=len(frozen.analysis.phases) if frozen is not None else 0,
            parts_done=sequencer.parts_done if sequencer is not None else 0,
            batch=sequencer.batch if sequencer is not None else 0,
            batches=frozen.batches if frozen is not None else 0,
            cycle_times=list(sequencer.cycle_times) if sequencer is not None else [],
            blocked_since=unit.blocked_since,
            override=unit.override,
            alarms=[alarm.view() for alarm in unit.alarms.listed()],
            question=unit.question,
            fingerprint=frozen.fingerprint if frozen is not None and sequencer is not None else "",
            predicted_cycle=frozen.analysis.predicted_cycle_s if frozen is not None else 0.0,
            blocked=objections(unit),
            stepping=unit.stepping,
            waits=sequencer is not None and sequencer.waits,
            loading=unit.loading,
            manual_missing=manual_objection(unit),
            resume=unit.resume,
        )

    def recipe_status(self) -> RecipeStatus:
        """Return what is loaded."""
        frozen = self.unit.frozen
        if frozen is None:
            return RecipeStatus("", {}, 0, "", 0.0, [], self._loads)
        analysis = frozen.analysis
        return RecipeStatus(
            frozen.recipe,
            dict(frozen.settings),
            frozen.batches,
            frozen.fingerprint,
            analysis.predicted_cycle_s,
            steps_of(analysis),
            self._loads,
        )

    def close(self) -> None:
        """Give the session up; the arm stops by that."""
        self._link.release("the controller ends", 0.0)
        if self._loader is not None:
            self._loader.close()


def build_controller(session: Session, ports: Ports, loader: Loader | None = None) -> ControllerNode:
    """Return the controller of a session, its recipe analysed and frozen. Raises FileErrors."""
    view, file = session.cell.view(), session.file
    frozen = None
    if file.recipe:
        frozen = freeze(load_recipe(Path(file.recipe)), session.cell, view, file.settings, file.batches)
    own = "controller" if file.mode == "lockstep" else secrets.token_hex(8)
    watched = [name for name in session.node_names if name not in (NODE, "recorder", SKELETONS)]
    issuers = session.cell.config.robot.leases.issuers
    skeletons, shadow = session.skeletons, session.shadow
    if loader is None and file.mode == "lockstep":
        loader = DirectLoader(session.cell, view)
    return ControllerNode(
        ports, view, own, frozen, issuers=issuers, watched=watched, skeletons=skeletons, shadow=shadow, loader=loader
    )
