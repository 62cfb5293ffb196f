"""The controller's core: PackML, alarms and sequencer brought together. No sockets, no clock; `step` says it all.

What each cause does is DESIGN.md's table: a person near changes the rate only; an arm blocked for more than 3 s in
Execute suspends and goes on by itself; lost parts, cameras, supervisors and the operator hold; robot, drives and
emergency stop abort. Nothing here can permit motion: that is the robot node's, and the leases'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cell.alarms import Alarms, Change, load_definitions
from cell.arm import Arm
from cell.contract import Command, Question, ResumeItem, Stepping
from cell.manual import Manual
from cell.objections import RESTING, objection
from cell.packml import PackML, Refused, Row
from cell.resume import Snapshot, compare, snapshot
from cell.sequencer import Frozen, Sequencer
from cell.watch import BLOCKED_TIME, Seen, blocked, conditions
from recipes.contract import CellView, PhaseFault, SkillContext
from recipes.parts import Parts, PartsError
from recipes.skills.move_to import held_geometry
from recipes.travel import Load, to_joints
from robots.contract import RobotState
from robots.manual import mode_refusal

AT_HOME = 0.01
"""The arm counts as at its rest pose when every joint is this near, rad."""
ABORT_TIME = 2.0
"""After this Aborting ends even if nobody reports a standing arm: no more can be done from here, s."""
STOP_TIME = 10.0
RESET_TIME = 10.0
HOLD_TIME = 3.0
"""Holding waits so long for an action that wants to end first, and for a trembling arm to be still, s."""
HOLDABLE = frozenset({"Starting", "Execute", "Unholding", "Suspending", "Suspended", "Unsuspending"})


@dataclass
class Unit:
    """One cell's controller."""

    cell: CellView
    arm: Arm
    emit: Callable[..., Any]
    issuers: frozenset[str] = frozenset({"supervisor"})
    frozen: Frozen | None = None
    """What the next Start runs; None: no recipe is loaded."""

    def __post_init__(self) -> None:
        self.packml = PackML("Stopped", self._changed)
        self.alarms = Alarms(load_definitions())
        self.parts = Parts(self.cell.workcell)
        self.sequencer: Sequencer | None = None
        self.seen = Seen(began=math.nan)
        self.override = 1.0
        self.mode: Literal["automatic", "manual"] = "automatic"
        self.blocked_since = -1.0
        self._now = 0.0
        self._last = math.nan
        self._entered = 0.0
        self._request = ""
        self._asked = False
        self._home_id = ""
        self.phase_alarm = ""
        """Code of the alarm that stands for the failed phase."""
        self.loading = ""
        """Recipe being analysed; nothing starts meanwhile."""
        self.stepping: Stepping = "automatic"
        self.manual = Manual(self.cell, self.arm)
        self._held: Snapshot | None = None
        self._robot_codes: set[str] = set()

    # ------------------------------------------------------------ one step

    def step(self, now: float) -> None:
        """Watch, react, work."""
        if math.isnan(self.seen.began):
            self.seen.began = now
        dt = 0.0 if math.isnan(self._last) else min(max(now - self._last, 0.0), 0.2)
        self._now, self._last = now, now
        self._watch(now)
        self._react()
        self._work(now, dt)

    def _changed(self, row: Row) -> None:
        self._entered, self._request, self._asked = self._now, "", False
        self._held = snapshot(self.seen.state, self.seen.observation) if row.target == "Held" else None
        self.emit(
            "packml.state",
            self._now,
            state=row.target,
            number=self.packml.number,
            before=row.source,
            trigger=row.trigger,
        )

    # ------------------------------------------------------------ what people ask

    def command(self, command: Command, now: float) -> None:
        """Take a PackML command. Raises Refused with the reason; then nothing has changed."""
        self._now = now
        if command.name in ("Stop", "Hold") and self.packml.state in RESTING:
            # The state admits neither, but a motion by hand is always stopped.
            if self.manual.cancel(f"{command.name} by {command.person}", now):
                self.emit("operator.command", now, command=command.name, person=command.person)
                return
        reason = objection(self, command.name)
        if reason and command.name in self.packml.table.admitted(self.packml.state):
            raise Refused(reason)
        self.packml.command(command.name)
        if command.name == "Unhold":
            self.seen.status_restarted = False
            if self.sequencer is not None:
                self.sequencer.recover(now)
        self.emit("operator.command", now, command=command.name, person=command.person)

    def answer(self, question: str, choice: str, person: str, now: float) -> None:
        """Answer the open question. Raises Refused."""
        reason = self.sequencer.answer(question, choice) if self.sequencer is not None else "no question is open"
        if reason:
            raise Refused(reason)
        self.emit("operator.answer", now, question=question, answer=choice, person=person)

    def load(self, frozen: Frozen | None, person: str, now: float) -> None:
        """Take over what Start shall run; None: nothing. Raises Refused outside the resting states."""
        self.check_resting("a recipe is loaded")
        self.frozen, self.sequencer = frozen, None
        data = {"recipe": frozen.recipe, "fingerprint": frozen.fingerprint} if frozen is not None else {"recipe": ""}
        self.emit("operator.load", now, person=person, **data)

    def check_resting(self, what: str) -> None:
        """Raises Refused unless nothing of a recipe is under way."""
        if self.packml.state not in RESTING:
            raise Refused(f"{what} in {', '.join(sorted(RESTING))} only, not in {self.packml.state}")

    def set_stepping(self, value: Stepping, person: str, now: float) -> None:
        """How phases follow each other."""
        self.stepping = value
        if self.sequencer is not None:
            self.sequencer.stepping = value
        self.emit("operator.stepping", now, value=value, person=person)

    def let_next(self, person: str, now: float) -> None:
        """Let the waiting phase begin. Raises Refused."""
        if self.packml.state != "Execute" or self.sequencer is None or not self.sequencer.let_next():
            raise Refused("no phase waits for this")
        self.emit("operator.next", now, person=person)

    def set_override(self, value: float, now: float, person: str = "operator") -> None:
        """Speed override of the operator. Raises Refused."""
        # Written so that a NaN is refused.
        if not 0.0 <= value <= 1.0:
            raise Refused("the override lies between 0 and 1")
        self.override = value
        if self.packml.state not in ("Holding", "Held"):
            self.arm.set_override(value, now)
        self.emit("operator.override", now, value=value, person=person)

    def set_mode(self, mode: Literal["automatic", "manual"], person: str, now: float) -> None:
        """Automatic or manual. Raises Refused."""
        self.check_resting("the mode is changed")
        refused = mode_refusal(mode, self.arm.state)
        if refused:
            raise Refused(refused)
        self.manual.cancel("the mode is changed", now)
        self.mode = mode
        self.arm.set_mode(mode, now)
        if mode == "manual":
            # A stop in mid-motion has left the arm with an override of 0.
            self.arm.set_override(self.override, now)
        self.emit("operator.mode", now, mode=mode, person=person)

    def acknowledge(self, code: str, person: str, now: float) -> None:
        """A person has read an alarm. Raises Refused."""
        change = self.alarms.acknowledge(code)
        if change is None:
            raise Refused(f"there is no unread alarm {code}")
        self._tell(change, now, person=person)

    # ------------------------------------------------------------ alarms

    def _tell(self, change: Change | None, now: float, **more: Any) -> None:
        if change is not None:
            alarm = change.alarm
            data = {"code": alarm.code, "text": alarm.definition.text, "reaction": alarm.definition.reaction}
            self.emit(f"alarm.{change.what}", now, **data, detail=alarm.detail, first_out=alarm.first_out, **more)

    def _set(self, code: str, present: bool, detail: str, now: float) -> None:
        change = self.alarms.raise_(code, now, detail) if present else self.alarms.clear(code)
        self._tell(change, now)

    def _watch(self, now: float) -> None:
        for code, present, detail in conditions(self.seen, now):
            self._set(code, present, detail, now)
        self._set("session_refused", bool(self.arm.refusal), self.arm.refusal, now)
        state = self.seen.state
        fault = state.fault if state is not None else ""
        for alarm in self.alarms.listed():
            if alarm.active and alarm.code in self._robot_codes and alarm.code != fault:
                self._tell(self.alarms.clear(alarm.code), now)
        if fault and state is not None:
            self._robot_codes.add(fault)
            self._set(fault, True, state.fault_text, now)
        self._watch_phase(now)
        self._watch_blocked(state, now)

    def _watch_phase(self, now: float) -> None:
        sequencer = self.sequencer
        code = sequencer.failure.code if sequencer is not None and sequencer.failure is not None else ""
        if self.phase_alarm and self.phase_alarm != code:
            self._tell(self.alarms.clear(self.phase_alarm), now)
        if code and sequencer is not None and sequencer.failure is not None:
            self._set(code, True, sequencer.failure.text, now)
        self.phase_alarm = code
        bug = sequencer.bug if sequencer is not None else ""
        self._set("skill_bug", bool(bug), bug, now)

    def _watch_blocked(self, state: RobotState | None, now: float) -> None:
        if not blocked(state, self.issuers):
            self.blocked_since = -1.0
        elif self.blocked_since < 0.0:
            self.blocked_since = now
        long = self.blocked_since >= 0.0 and now - self.blocked_since > BLOCKED_TIME
        acting = self.packml.state in ("Execute", "Suspending", "Suspended")
        self._set("blocked", long and acting, state.limit_reason if state is not None else "", now)

    def _react(self) -> None:
        reaction = self.alarms.gravest
        state = self.packml.state
        if reaction == "abort" and state not in ("Aborting", "Aborted"):
            # A cell at rest is not aborted by a node that has not been started yet.
            if state != "Stopped" or any(a.code not in _ABSENCE for a in self.alarms.listed() if a.active):
                self.packml.command("Abort")
        elif reaction in ("hold", "abort") and state in HOLDABLE:
            self.packml.command("Hold")
        elif reaction == "suspend" and state == "Execute":
            self.packml.command("Suspend")
        elif state == "Suspended" and reaction == "none" and self._may_go_on():
            self.packml.command("Unsuspend")

    def _may_go_on(self) -> bool:
        """A supervisor permits motion again; its own rules (clear for 1 s, signalled) are behind that."""
        state, status = self.seen.state, self.seen.status
        return state is not None and state.limit > 0.0 and status is not None and status.limit > 0.0

    # ------------------------------------------------------------ acting states

    def _work(self, now: float, dt: float) -> None:
        execute = self.packml.state == "Execute"
        if self.sequencer is not None:
            self.sequencer.step(now, dt, self.arm, execute)
        work = getattr(self, f"_in_{self.packml.state.lower()}", None)
        if work is not None and work(now):
            self.packml.state_complete()

    @property
    def _standing(self) -> bool:
        state = self.seen.state
        return state is not None and state.standing and not self.alarms.is_active("robot_lost")

    def _ask_once(self, ask: Callable[[], str]) -> str:
        """Make a request once per visit of a state; return the verdict so far."""
        if not self._request:
            self._request = ask()
        return self.arm.status(self._request).verdict

    def _restore_override(self, now: float) -> str:
        return self._ask_once(lambda: self.arm.set_override(self.override, now))

    def _in_resetting(self, now: float) -> bool:
        state = self.seen.state
        if state is not None and state.fault:
            self._give_up(f"the robot has the fault {state.fault}: {state.fault_text}", now)
            return False
        if now - self._entered > RESET_TIME:
            self._give_up(self.arm.refusal or "the robot node is not ready", now)
            return False
        if not self.arm.connected or state is None:
            return False
        if self._restore_override(now) not in ("accepted", "done"):
            return False
        self.sequencer = None
        return state.standing

    def _give_up(self, reason: str, now: float) -> None:
        self.emit("packml.gave_up", now, state=self.packml.state, reason=reason)
        self.packml.command("Stop")

    def _in_starting(self, now: float) -> bool:
        if self.frozen is None:
            self._give_up("no recipe is loaded", now)
            return False
        if self.sequencer is None:
            if self.seen.status is not None:
                self.seen.fingerprint = self.seen.status.fingerprint
            context = SkillContext(self.cell, self.parts, self.cell.home.copy(), 0.0)
            context.cache = dict(self.frozen.analysis.motions)
            self.sequencer = Sequencer(self.frozen, context, self.emit, stepping=self.stepping)
        return self._go_home(now)

    def _go_home(self, now: float) -> bool:
        """Bring the arm to its rest pose; True when it is there."""
        state, sequencer = self.seen.state, self.sequencer
        if state is None or sequencer is None:
            return False
        if self._home_id:
            reply = self.arm.status(self._home_id)
            if not reply.finished:
                return False
            self._home_id = ""
            if reply.verdict != "done":
                self._give_up(f"the arm could not go to its rest pose: {reply.reason}", now)
                return False
        if not state.standing or state.motion_id:
            return False
        if float(np.abs(np.array(state.q) - self.cell.home).max()) <= AT_HOME:
            return True
        context = sequencer.context
        context.q, context.gripper_width = np.array(state.q_commanded), state.gripper_width
        context.prefix = context.id_prefix = f"home.{now:.3f}"
        try:
            motion = to_joints(context, self.cell.home, "move home", Load(held_geometry(context)))
        except (PhaseFault, PartsError) as fault:
            self._give_up(f"the arm cannot go to its rest pose: {fault}", now)
            return False
        self._home_id = self.arm.move(motion, now)
        return False

    def _in_execute(self, now: float) -> bool:
        sequencer = self.sequencer
        if sequencer is None:
            self._give_up("there is nothing to run", now)
            return False
        if sequencer.stopped:
            self._give_up(sequencer.stopped, now)
            return False
        return sequencer.finished and self._standing

    def _in_completing(self, now: float) -> bool:
        return self._standing

    def _in_holding(self, now: float) -> bool:
        in_action = self.sequencer is not None and not self.sequencer.may_hold
        if in_action and now - self._entered < HOLD_TIME:
            return False
        self._ask_once(lambda: self.arm.set_override(0.0, now))
        state = self.seen.state
        # Fingers that press on something can keep the arm trembling: an arm that is told to stand counts as held then.
        told = state is not None and state.rate == 0.0 and now - self._entered > HOLD_TIME
        return self._standing or told or self.alarms.is_active("robot_lost")

    def _in_unholding(self, now: float) -> bool:
        verdict = self._restore_override(now)
        if verdict in ("rejected", "failed"):
            reason = self.arm.status(self._request).reason
            self.emit("packml.gave_up", now, state="Unholding", reason=reason)
            self.packml.command("Hold")
            return False
        return verdict in ("accepted", "done")

    def _in_suspending(self, now: float) -> bool:
        return self._standing

    def _in_unsuspending(self, now: float) -> bool:
        return True

    def _in_stopping(self, now: float) -> bool:
        state = self.seen.state
        if self.sequencer is not None:
            self.sequencer.cancel()
        self._home_id = ""
        self._ask_once(lambda: self.arm.cancel("the cell is stopping", now))
        return (self._standing and state is not None and not state.motion_id) or now - self._entered > STOP_TIME

    def _in_aborting(self, now: float) -> bool:
        if self.sequencer is not None:
            self.sequencer.cancel()
        self._home_id = ""
        state = self.seen.state
        if state is None or not state.fault:
            self._ask_once(lambda: self.arm.stop(1, "the cell aborts", now))
        return self._standing or now - self._entered > ABORT_TIME

    def _in_clearing(self, now: float) -> bool:
        self.seen.fingerprint = ""
        return True

    # ------------------------------------------------------------ what people see

    @property
    def resume(self) -> list[ResumeItem]:
        """In Held: what has changed since the arm stood still."""
        return [] if self._held is None else compare(self._held, snapshot(self.seen.state, self.seen.observation))

    @property
    def question(self) -> Question | None:
        """What only a person can decide."""
        return self.sequencer.question if self.sequencer is not None else None


_ABSENCE = frozenset({"robot_lost", "session_refused", "perception_lost", "supervisor_lost", "node_silent"})
"""Causes that only mean that something has not been started yet while the cell is Stopped."""
