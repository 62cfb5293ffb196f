"""ABB arms over Externally Guided Motion (EGM): joint guidance, one UDP message each way every 4 ms.

The robot's controller begins: it sends its feedback to this machine, and takes setpoints only as answers. EGM can
neither switch motors nor clear alarms; that stays at the robot. docs/drivers/abb.md says what RAPID has to do.
"""

from __future__ import annotations

import importlib
import ipaddress
import math
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from robots.contract import DriverError, DriverInfo, DriverState, Setpoint
from robots.drivers import egm
from robots.drivers.checks import check_grip, check_output, check_setpoint
from robots.workcell import Strict

CYCLE = 0.004
"""Of the robot's controller, s."""
AT_ONCE = 200
"""As many messages are read in one go at most: more means somebody floods the port."""
BEGINS_ANEW = 1.0
"""A lower message number after so long a silence means that the robot's controller started anew, s."""
_PACKAGE = "ABBRobotEGM"


class AbbOptions(Strict):
    """`robot.options` of the cell file for the driver `abb`."""

    address: str = "192.168.125.1"
    """Of the robot's controller; messages from any other are ignored."""
    port: int = Field(6510, ge=1, le=65535)
    """UDP port of this machine to which the controller sends (its `UCDEVICE`)."""
    drive_delay: float = Field(0.03, ge=CYCLE, le=0.2)
    """Upper bound from `send` to the joints acting on it, s: from `cell robots stop-test`."""
    comm_timeout: float = Field(0.1, ge=0.02, le=0.5)
    """The same value as `CommTimeout` in RAPID: without messages the controller ends the session and stops, s."""
    gripper: bool = True
    inputs: tuple[str, ...] = Field((), max_length=32)
    """Names of RAPID's input bits, lowest first."""
    outputs: tuple[str, ...] = Field(("lamp_green", "lamp_amber", "lamp_red", "buzzer"), max_length=32)

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        ipaddress.IPv4Address(value)
        return value


class AbbDriver:
    """Implements `robots.contract.Driver`. Owns a UDP socket and no thread; every call reads what has come."""

    def __init__(self, options: dict[str, Any], dof: int, ports: Any = None) -> None:
        """Raises DriverError (`abb_options`) if an option is wrong."""
        try:
            self.options = o = AbbOptions.model_validate(options)
        except ValidationError as error:
            raise DriverError("abb_options", f"robot.options: {error}", "Correct the options") from error
        self.info = DriverInfo(
            "abb", dof, CYCLE, o.drive_delay, o.comm_timeout, o.gripper, o.inputs, o.outputs,
            vendor_safety=("emergency_stop", "safeguard"), brakes=True, manual_devices=True,
        )  # fmt: skip
        self._client: Any = None
        self._clock = egm.ControllerClock()
        self._newest: DriverState | None = None
        self._number, self._heard = -1, -math.inf
        self._stamp = 0.0
        """The controller's own time of the newest feedback, s."""
        self._numbers = egm.ToRobot(0.0, 0.0, 0, 0, 0)
        self._silent = False
        """The stop of EGM: nothing is answered until a person lets the session go on."""
        self._wrong = ""
        self.ignored = 0
        """Messages from elsewhere, repeated, out of order or unreadable."""

    # ------------------------------------------------------------ connection

    def connect(self, now: float) -> None:
        """Open the port and see whether the controller sends. Raises DriverError with all that is missing."""
        if self._client is None:
            self._client = self._open()
        self._read(now)
        if self._newest is None:
            raise DriverError(
                "abb_unreached",
                f"no EGM feedback from {self.options.address} on UDP port {self.options.port}",
                "See that the robot runs the EGM program in automatic mode and its UCDEVICE names this machine",
                self._doubts(),
            )

    def _open(self) -> Any:
        try:
            package = importlib.import_module(_PACKAGE)
        except ImportError:
            raise DriverError(
                "abb_package", f"the package {_PACKAGE} is missing", "pip install 'collabcell[abb]'"
            ) from None
        try:
            return package.EGM(self.options.port)
        except OSError as error:
            raise DriverError(
                "abb_port", f"UDP port {self.options.port}: {error.strerror}", "End what else uses it, or take another"
            ) from None

    def _doubts(self) -> list[DriverError]:
        found = []
        if self.ignored:
            text = f"{self.ignored} messages were ignored (another sender, unreadable or out of order)"
            found.append(DriverError("abb_ignored", text, "See that robot.options.address is the robot's"))
        if self._wrong:
            found.append(DriverError("abb_invalid", self._wrong, "See that robot.model is this arm"))
        return found

    # ------------------------------------------------------------ from the robot

    def state(self, now: float) -> DriverState | None:
        """Raises DriverError (`abb_invalid`) for feedback that cannot be this arm's."""
        if self._client is None:
            return None
        self._read(now)
        if self._wrong:
            wrong, self._wrong = self._wrong, ""
            raise DriverError("abb_invalid", wrong, "See that robot.model is this arm and RAPID hands its numbers over")
        return self._newest

    def _read(self, now: float) -> None:
        from google.protobuf.message import DecodeError

        for _ in range(AT_ONCE):
            try:
                came, feedback = self._client.receive_from_robot(0.0)
            except DecodeError:
                self.ignored += 1
                continue
            if not came:
                return
            if self._client.egm_addr[0] != self.options.address:
                self.ignored += 1
                self._client.egm_addr = None  # nothing is answered to a stranger
                continue
            self._take(feedback.robot_message, now)

    def _take(self, message: Any, now: float) -> None:
        number = message.header.seqno
        if number <= self._number and now - self._heard < BEGINS_ANEW:
            self.ignored += 1
            return
        self._number, self._heard = number, now
        q = egm.to_radians(message.feedBack.joints.joints, message.feedBack.externalJoints.joints, self.info.dof)
        told = egm.from_robot(message.RAPIDfromRobot.dnum)
        if q is None or not math.isfinite(sum(q)):
            self._wrong = f"feedback without {self.info.dof} finite joint positions"
        elif told is None:
            self._wrong = "feedback without RAPID's seven numbers"
        else:
            self._newest = self._state(message, q, told, self._clock.at(message.header.tm, now))

    def _state(self, message: Any, q: list[float], told: egm.FromRobot, t: float) -> DriverState:
        before, dq, stamp = self._newest, [0.0] * len(q), _stamp(message)
        if before is not None:
            dt = stamp - self._stamp
            dq = [(a - b) / dt for a, b in zip(q, before.q, strict=True)] if dt > 0.25 * CYCLE else before.dq
        self._stamp = stamp
        outputs = {name: bool(told.outputs >> n & 1) for n, name in enumerate(self.options.outputs)}
        inputs = {name: bool(told.inputs >> n & 1) for n, name in enumerate(self.options.inputs)}
        seq = before.seq + 1 if before is not None else 1
        return DriverState(
            seq, t, q, dq, [0.0] * len(q), 1e-3 * told.grip_width, told.holding, inputs, outputs,
            told.emergency_stop, told.safeguard, _fault(message), told.enabling_device,
            mode_switch=told.mode_switch,
        )  # fmt: skip

    # ------------------------------------------------------------ to the robot

    def send(self, setpoint: Setpoint) -> Setpoint:
        """Answer the newest feedback. While the session is stopped nothing leaves; the arm stands where it stands."""
        check_setpoint(setpoint, self.info)
        if self._client is None or self._newest is None:
            raise DriverError("abb_unreached", "no EGM feedback has come", "Start the EGM program on the robot")
        if self._silent:
            return Setpoint(setpoint.seq, setpoint.t, list(self._newest.q), [0.0] * self.info.dof)
        joints, external = egm.to_degrees(setpoint.q)
        speeds, external_speeds = egm.to_degrees(setpoint.dq)
        if self._client.egm_addr is not None:
            self._client.send_to_robot(
                joints, speed_ref=speeds, external_joints=external or None,
                external_joints_speed=external_speeds or None, rapid_to_robot=[float(v) for v in self._numbers],
            )  # fmt: skip
        return setpoint

    def grip(self, width: float, force: float) -> None:
        check_grip(width, force)
        if not self.info.gripper:
            raise DriverError("no_gripper", "this arm has no gripper", "Set robot.options.gripper")
        count = (self._numbers.grip_count + 1) % (1 << 31)
        self._numbers = self._numbers._replace(grip_width=1e3 * width, grip_force=force, grip_count=count)

    def set_output(self, name: str, value: bool) -> None:
        check_output(name, self.info)
        bit = 1 << self.options.outputs.index(name)
        outputs = self._numbers.outputs | bit if value else self._numbers.outputs & ~bit
        self._numbers = self._numbers._replace(outputs=outputs)

    def stop(self, category: Literal[0, 1], now: float) -> None:
        """Fall silent: EGM has no stop of its own, its controller ends the session after `comm_timeout`."""
        self._silent = True

    def recover(self, person: str, now: float) -> None:
        """Answer again and ask RAPID for a new session. Motors and alarms are the robot's own business."""
        self._silent = False
        count = (self._numbers.recover_count + 1) % (1 << 31)
        self._numbers = self._numbers._replace(recover_count=count)

    def close(self) -> None:
        """Silence makes the robot stop."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _stamp(message: Any) -> float:
    """The controller's time of the measurement, s: to the microsecond where it says so, for the speeds' sake."""
    if message.feedBack.HasField("time"):
        return float(message.feedBack.time.sec) + 1e-6 * float(message.feedBack.time.usec)
    return 1e-3 * float(message.header.tm)


def _fault(message: Any) -> str:
    """What keeps the robot from following, as its controller says; empty: nothing."""
    if message.motorState.state != message.motorState.MOTORS_ON:
        return "motors are off"
    if message.rapidExecState.state != message.rapidExecState.RAPID_RUNNING:
        return "the RAPID program is stopped"
    if message.mciState.state != message.mciState.MCI_RUNNING:
        return "the EGM session is stopped"
    if message.CollisionInfo.collsionTriggered:
        return "the robot's collision detection has triggered"
    return ""
