"""One action of a phase, carried out by the robot node: submitted once, then watched until it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cell.bus.messages import Reply
from recipes.contract import (
    Action,
    AskAction,
    DelayAction,
    GripAction,
    InputAction,
    MoveAction,
    OutputAction,
    Result,
)
from robots.contract import Grip, RobotState, SetOutput

REPLY_TIMEOUT = 2.0
"""A request the robot node has not even accepted or rejected after this is taken as failed, s."""
GRIP_TIMEOUT = 10.0


class Arm(Protocol):
    """The robot node as the sequencer needs it (robots.client fits)."""

    @property
    def state(self) -> RobotState | None:
        """Newest state, or None before the first."""
        ...

    def submit(self, body: Any, now: float) -> str:
        """Send a request; return its id."""
        ...

    def verdict(self, request_id: str) -> Reply | None:
        """Return the newest reply to a request, or None while there is none."""
        ...


@dataclass
class Running:
    """An action under way."""

    action: Action
    started: float
    request: str = ""
    spent: float = 0.0
    """Time the action was allowed to run, for delays and time-outs, s."""

    def poll(self, now: float, dt: float, arm: Arm, answers: Mapping[str, str], question: str) -> Result | None:
        """Return how the action ended, or None while it is under way. `dt` is the time since the last poll."""
        self.spent += dt
        action = self.action
        if isinstance(action, DelayAction):
            return Result(True) if self.spent >= action.seconds else None
        if isinstance(action, AskAction):
            answer = answers.get(question)
            return Result(True, answer=answer) if answer is not None else None
        if isinstance(action, InputAction):
            return self._input(action, arm.state)
        return self._request(action, now, arm)

    def _input(self, action: InputAction, state: RobotState | None) -> Result | None:
        if state is not None and state.inputs.get(action.name) is action.value:
            return Result(True)
        if self.spent < action.timeout:
            return None
        return Result(False, "wait_timeout", f"{action.name} was not {action.value} within {action.timeout:g} s")

    def _request(self, action: MoveAction | GripAction | OutputAction, now: float, arm: Arm) -> Result | None:
        reply = arm.verdict(self.request)
        refused, failed = _CODES[type(action)]
        if reply is None:
            late = now - self.started > REPLY_TIMEOUT
            return Result(False, failed, "the robot node did not answer") if late else None
        if reply.verdict == "done":
            return Result(True)
        if reply.verdict == "rejected":
            return Result(False, refused, reply.reason)
        if reply.verdict == "failed":
            code = str(reply.data.get("code", "")) or _failure_code(reply.reason, arm.state, failed)
            return Result(False, code, reply.reason)
        if isinstance(action, GripAction) and self.spent > GRIP_TIMEOUT:
            return Result(False, failed, "the gripper did not settle")
        return None


def _failure_code(reason: str, state: RobotState | None, default: str) -> str:
    if state is not None and state.fault == "part_lost":
        return "part_lost"
    return "grip_missed" if "grip_missed" in reason else default


_CODES: dict[type, tuple[str, str]] = {
    MoveAction: ("move_refused", "move_failed"),
    GripAction: ("grip_refused", "grip_missed"),
    OutputAction: ("output_refused", "output_refused"),
}


def start(action: Action, now: float, arm: Arm) -> Running:
    """Begin an action: what the robot node has to do is submitted to it."""
    running = Running(action, now)
    if isinstance(action, MoveAction):
        running.request = arm.submit(action.motion.to_move(), now)
    elif isinstance(action, GripAction):
        running.request = arm.submit(Grip(action.width, action.force, action.part, action.release), now)
    elif isinstance(action, OutputAction):
        running.request = arm.submit(SetOutput(action.name, action.value), now)
    return running
