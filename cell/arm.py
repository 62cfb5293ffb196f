"""One action of a phase, carried out by the robot node: submitted once, then watched until it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

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
from robots.client import RequestStatus
from robots.contract import PartGeometry, RobotState
from robots.motion import Motion

GRIP_TIMEOUT = 10.0
"""A grip that has not settled after this has failed, s."""


class Arm(Protocol):
    """The robot node as the controller needs it; `robots.client.RobotClient` is one."""

    connected: bool
    refusal: str
    state: RobotState | None

    def status(self, request_id: str) -> RequestStatus: ...

    def move(self, motion: Motion, now: float) -> str: ...

    def grip(
        self, width: float, force: float, now: float, part: PartGeometry | None = None, release: bool = False
    ) -> str: ...

    def set_output(self, name: str, value: bool, now: float) -> str: ...

    def set_override(self, value: float, now: float) -> str: ...

    def set_mode(self, mode: Literal["automatic", "manual"], now: float) -> str: ...

    def stop(self, category: Literal[1, 2], reason: str, now: float) -> str: ...

    def cancel(self, reason: str, now: float) -> str: ...


@dataclass
class Running:
    """An action under way."""

    action: Action
    started: float
    request: str = ""
    spent: float = 0.0
    """Time the action was allowed to run, for delays and time-outs, s."""

    def poll(self, dt: float, arm: Arm, answers: Mapping[str, str], question: str) -> Result | None:
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
        return self._request(action, arm)

    def _input(self, action: InputAction, state: RobotState | None) -> Result | None:
        if state is not None and state.inputs.get(action.name) is action.value:
            return Result(True)
        if self.spent < action.timeout:
            return None
        return Result(False, "wait_timeout", f"{action.name} was not {action.value} within {action.timeout:g} s")

    def _request(self, action: MoveAction | GripAction | OutputAction, arm: Arm) -> Result | None:
        status = arm.status(self.request)
        refused, failed = _CODES[type(action)]
        if status.verdict == "done":
            return Result(True)
        if status.verdict == "rejected":
            return Result(False, refused, status.reason)
        if status.verdict == "failed":
            code = status.code if status.code in _OWN_CODES else failed
            return Result(False, code, status.reason)
        if isinstance(action, GripAction) and self.spent > GRIP_TIMEOUT:
            return Result(False, failed, "the gripper did not settle")
        return None


_OWN_CODES = frozenset({"grip_missed", "part_lost"})
"""Codes of the robot node that are outcomes of skills by the same name."""
_CODES: dict[type, tuple[str, str]] = {
    MoveAction: ("move_refused", "move_failed"),
    GripAction: ("grip_refused", "grip_failed"),
    OutputAction: ("output_refused", "output_refused"),
}


def start(action: Action, now: float, arm: Arm) -> Running:
    """Begin an action: what the robot node has to do is submitted to it."""
    running = Running(action, now)
    if isinstance(action, MoveAction):
        running.request = arm.move(action.motion, now)
    elif isinstance(action, GripAction):
        running.request = arm.grip(action.width, action.force, now, action.part, action.release)
    elif isinstance(action, OutputAction):
        running.request = arm.set_output(action.name, action.value, now)
    return running
