"""The driver of the twin's arm: to the robot node it is a make of robot like any other, reached over the bus."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from pydantic import Field, ValidationError

from cell.bus.ports import Ports
from robots.contract import DriverError, DriverInfo, DriverState, Setpoint
from robots.drivers.checks import check_grip, check_output, check_setpoint
from sim.config import Strict
from sim.contract import TOPIC_DRIVE_COMMAND, TOPIC_DRIVE_STATE, DriveCommand, DriveState

INPUTS = ("emergency_stop", "safeguard", "enabling_device")
MODE_SWITCH = "mode_switch"
"""A further input: on is manual, off automatic; never set, the arm has no mode switch."""


def mode_switch(inputs: dict[str, bool]) -> Literal["automatic", "manual"] | None:
    """Where the switch stands, by the twin's inputs."""
    return None if MODE_SWITCH not in inputs else "manual" if inputs[MODE_SWITCH] else "automatic"


class TwinDriverOptions(Strict):
    """`robot.options` of the cell file for the driver `twin`."""

    control_period: float = Field(0.004, ge=0.001, le=0.02)
    """s."""
    drive_delay: float = Field(0.016, ge=0.004, le=0.1)
    """Upper bound from `send` to the drives acting on it, s: one bus period, one physics step, the servo lag."""
    watchdog: float = Field(0.05, ge=0.005, le=0.5)
    """Same value as `world.options.watchdog`."""
    inputs: tuple[str, ...] = ()
    """Named digital inputs besides the safety inputs."""
    outputs: tuple[str, ...] = ("lamp_green", "lamp_amber", "lamp_red", "buzzer")


class TwinDriver:
    """Implements `robots.contract.Driver`. Streams `DriveCommand`, reads `DriveState`; owns no time and no thread."""

    def __init__(self, options: dict[str, Any], dof: int, ports: Ports) -> None:
        """Raises DriverError (code `twin_options`) if an option is wrong."""
        try:
            parsed = TwinDriverOptions.model_validate(options)
        except ValidationError as error:
            raise DriverError(
                "twin_options", f"robot.options: {error}", "Correct the options in the cell file."
            ) from error
        self.info = DriverInfo(
            name="twin",
            dof=dof,
            control_period=parsed.control_period,
            drive_delay=parsed.drive_delay,
            watchdog=parsed.watchdog,
            gripper=True,
            inputs=INPUTS + parsed.inputs,
            outputs=parsed.outputs,
            manual_devices=True,
            simulated=True,
        )
        self._commands = ports.publisher(TOPIC_DRIVE_COMMAND, DriveCommand)
        self._states = ports.subscriber(TOPIC_DRIVE_STATE, DriveState)
        self._newest: DriverState | None = None
        self._command = DriveCommand(None, 0.08, 0.0, 0, {})
        self._now = 0.0

    def connect(self, now: float) -> None:
        """Idempotent. The drives answer as soon as the twin runs; until then `state` is None."""
        self._now = now
        self._publish()

    def state(self, now: float) -> DriverState | None:
        self._now = now
        envelope = self._states.take()
        if envelope is not None:
            state = envelope.body.state
            if len(state.q) != self.info.dof or len(state.dq) != self.info.dof:
                raise DriverError(
                    "twin_dof",
                    f"the twin's arm has {len(state.q)} joints, this robot {self.info.dof}",
                    "Start the twin with the same robot model.",
                )
            self._newest = state
        return self._newest

    def send(self, setpoint: Setpoint) -> Setpoint:
        """Raises DriverError (`setpoint_invalid`) for a setpoint that is not finite or of another length."""
        check_setpoint(setpoint, self.info)
        self._command = msgspec.structs.replace(self._command, setpoint=setpoint)
        self._now = max(self._now, setpoint.t)
        self._publish()
        return setpoint

    def grip(self, width: float, force: float) -> None:
        check_grip(width, force)
        self._command = msgspec.structs.replace(
            self._command, gripper_width=width, gripper_force=force, gripper_seq=self._command.gripper_seq + 1
        )
        self._publish()

    def set_output(self, name: str, value: bool) -> None:
        check_output(name, self.info)
        self._command = msgspec.structs.replace(self._command, outputs={**self._command.outputs, name: value})
        self._publish()

    def stop(self, category: Literal[0, 1], now: float) -> None:
        self._now = now
        if self._command.stop_category not in (0, category):
            self._command = msgspec.structs.replace(self._command, stop_category=int(category))
        self._publish()

    def recover(self, person: str, now: float) -> None:
        self._now = now
        self._command = msgspec.structs.replace(
            self._command, stop_category=-1, recover_seq=self._command.recover_seq + 1, setpoint=None
        )
        self._publish()

    def close(self) -> None:
        """Nothing to release: silence makes the drives' watchdog stop the arm."""

    def _publish(self) -> None:
        self._commands.send(self._command, self._now)
