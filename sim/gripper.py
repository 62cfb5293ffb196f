"""The twin's gripper apart from its arm: for arms of other makes that the twin follows."""

from __future__ import annotations

from typing import Any

from cell.bus.ports import Ports
from robots.contract import DriverError, GripperState
from robots.drivers.checks import check_grip
from sim.contract import TOPIC_DRIVE_COMMAND, TOPIC_DRIVE_STATE, DriveCommand, DriveState

OPEN = 0.08
"""m."""


class TwinGripper:
    """Implements `robots.contract.GripperDriver`: its orders are drive commands without a setpoint."""

    name = "twin"

    def __init__(self, options: dict[str, Any], ports: Ports) -> None:
        """Raises DriverError (`gripper_options`): it has no options."""
        if options:
            raise DriverError("gripper_options", f"unknown options {sorted(options)}", "The twin's gripper has none")
        self._commands = ports.publisher(TOPIC_DRIVE_COMMAND, DriveCommand)
        self._states = ports.subscriber(TOPIC_DRIVE_STATE, DriveState)
        self._command = DriveCommand(None, OPEN, 0.0, 0, {})
        self._newest: GripperState | None = None
        self._told = -1e9

    def connect(self, now: float) -> None:
        """Idempotent. It answers as soon as the twin runs; until then `state` is None."""
        self._publish(now)

    def state(self, now: float) -> GripperState | None:
        """The newest state; the last order is repeated ten times a second, for a twin that was not yet there."""
        envelope = self._states.take()
        if envelope is not None:
            state = envelope.body.state
            self._newest = GripperState(state.t, state.gripper_width, state.gripper_holding)
        if now - self._told >= 0.1:
            self._publish(now)
        return self._newest

    def grip(self, width: float, force: float) -> None:
        check_grip(width, force)
        self._command = DriveCommand(None, width, force, self._command.gripper_seq + 1, {})
        self._publish(self._told)

    def recover(self, person: str, now: float) -> None:
        """It has no faults of its own."""

    def close(self) -> None:
        """The fingers hold what they hold."""

    def _publish(self, now: float) -> None:
        self._told = now
        self._commands.send(self._command, now)
