"""Universal Robots arms of the e-Series: `servoj` at up to 500 Hz through `ur_rtde`, in a process of its own.

The vendor's package waits, and connects again by itself; neither must happen in the robot node. The process
(`robots.drivers.ur_worker`) is given up at the first interruption and started anew; the arm goes on only after
`recover`. docs/drivers/ur.md says what the robot must be set up for.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import math
import os
import socket
import subprocess
import sys
from typing import Any, Literal

import msgspec
from pydantic import Field, ValidationError, field_validator

from robots.contract import DriverError, DriverInfo, DriverState, Setpoint
from robots.drivers import ur_link as link
from robots.drivers.checks import check_grip, check_output, check_setpoint
from robots.workcell import Strict

CYCLE = 0.002
"""Of the robot's controller, s."""
DOF = 6
AGAIN = 1.0
"""Time between two attempts to reach the arm, s."""
_PACKAGE = "rtde_control"


class UrOptions(Strict):
    """`robot.options` of the cell file for the driver `ur`."""

    address: str = "192.168.56.101"
    """Of the robot's controller."""
    lookahead: float = Field(0.03, ge=0.03, le=0.2)
    """`lookahead_time` of servoj: smooths, and delays by as much, s."""
    gain: float = Field(300.0, ge=100.0, le=2000.0)
    """`gain` of servoj."""
    drive_delay: float = Field(0.06, ge=0.03, le=0.2)
    """Upper bound from `send` to the joints acting on it, s: from `cell robots stop-test`; longer than `lookahead`."""
    watchdog: float = Field(0.1, ge=0.04, le=0.5)
    """Without setpoints for half of it the process brakes the arm; without the process the controller does, s."""
    payload: float = Field(0.0, ge=0.0, le=50.0)
    """Mass at the flange, kg; 0 leaves the payload as it is set at the pendant."""
    payload_cog: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Its centre of gravity in the flange's frame, m."""
    inputs: tuple[str, ...] = Field((), max_length=8)
    """Names of the standard digital inputs, lowest first."""
    outputs: tuple[str, ...] = Field(("lamp_green", "lamp_amber", "lamp_red", "buzzer"), max_length=8)
    """Names of the standard digital outputs, lowest first."""

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        ipaddress.IPv4Address(value)
        return value

    @field_validator("payload_cog")
    @classmethod
    def _finite(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(map(math.isfinite, value)):
            raise ValueError("must be finite")
        return value


class UrDriver:
    """Implements `robots.contract.Driver`. Owns a process; every call only reads from or writes to its socket."""

    def __init__(self, options: dict[str, Any], dof: int, ports: Any = None) -> None:
        """Raises DriverError (`ur_options`) if an option is wrong."""
        try:
            self.options = o = UrOptions.model_validate(options)
        except ValidationError as error:
            raise DriverError("ur_options", f"robot.options: {error}", "Correct the options") from error
        if dof != DOF:
            raise DriverError("ur_options", f"this robot model has {dof} joints", "Choose the model of a UR arm")
        self.info = DriverInfo(
            "ur", dof, CYCLE, o.drive_delay, o.watchdog, False, o.inputs, o.outputs,
            vendor_safety=("emergency_stop", "safeguard", "protective_stop"), brakes=True,
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: socket.socket | None = None
        self._board: link.Board | None = None
        self._started = -math.inf
        self._failed: list[tuple[str, str, str]] = []
        self._measured: link.Measured | None = None
        self._newest: DriverState | None = None
        self._seq = 0
        self._recovers = 0
        self._stopped = False
        self._closed = False
        self._lost = False
        """The process ended after it had reached the arm."""

    # ------------------------------------------------------------ connection

    def connect(self, now: float) -> None:
        """Start the process; until it has reached the arm, raise DriverError with all that is missing so far."""
        if importlib.util.find_spec(_PACKAGE) is None:
            raise DriverError("ur_package", "the package ur-rtde is missing", "pip install 'collabcell[ur]'")
        self._closed = False
        self._read(now)
        if self._newest is None:
            parts = [DriverError(*part) for part in self._failed]
            what = "could not be reached" if parts else "has not answered yet"
            raise DriverError(
                "ur_unreached", f"the controller at {self.options.address} {what}",
                "See that it is on, in remote control, and robot.options.address is its address", parts,
            )  # fmt: skip

    def _start(self, now: float) -> None:
        self._started, self._recovers, self._measured = now, 0, None
        o = self.options
        settings = link.Settings(
            o.address, o.lookahead, o.gain, 0.5 * o.watchdog, o.watchdog, o.payload, o.payload_cog, load=not self._lost
        )
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        memory = os.memfd_create("ur")
        os.truncate(memory, link.Board.SIZE)
        descriptors = (there.fileno(), memory)
        command = [sys.executable, "-m", "robots.drivers.ur_worker", *map(str, descriptors)]
        with there:
            self._process = subprocess.Popen(
                [*command, msgspec.json.encode(settings).decode()], pass_fds=descriptors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._wire, self._board = here, link.Board(memory)
        os.close(memory)

    def _end(self) -> None:
        """Hang up: the process brakes the arm and ends."""
        wire, self._wire = self._wire, None
        board, self._board = self._board, None
        if wire is not None:
            wire.close()
        if board is not None:
            board.close()

    @property
    def account(self) -> dict[str, float]:
        """`servoj` commands of this connection, and how long it has commanded, s."""
        m = self._measured
        return {"commands": m.commands, "commanding_s": round(m.commanding, 3)} if m is not None else {}

    # ------------------------------------------------------------ from the robot

    def state(self, now: float) -> DriverState | None:
        self._read(now)
        return self._newest

    def _read(self, now: float) -> None:
        if self._wire is None:
            self._again(now)
            return
        assert self._board is not None
        data = self._board.read()
        if data is not None:
            measured = link.decode_measured(data)
            if self._measured is None or measured.seq != self._measured.seq:
                self._take(measured, now)
        try:
            said = self._wire.recv(link.MOST)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said:
            self._failed = link.decode_failed(said).parts
        else:
            self._lost = self._lost or self._newest is not None
            self._end()

    def _again(self, now: float) -> None:
        """The process is gone: start another once it has ended and some time has passed."""
        gone = self._process is None or self._process.poll() is not None
        if gone and not self._closed and now - self._started >= AGAIN:
            self._start(now)

    def _take(self, m: link.Measured, now: float) -> None:
        self._measured, self._failed = m, []
        if len(m.q) != DOF or len(m.dq) != DOF:
            return
        before = self._newest
        self._seq += 1
        outputs = {name: bool(m.outputs >> n & 1) for n, name in enumerate(self.options.outputs)}
        inputs = {name: bool(m.inputs >> n & 1) for n, name in enumerate(self.options.inputs)}
        fault = link.fault(m)
        if m.halted and not self._stopped and m.recovered == self._recovers:
            fault = fault or "the arm is held in its process"
        t = min(m.t, now)  # a node that was held up reads what came after it read its clock
        t = t if before is None else max(t, before.t)
        self._newest = DriverState(
            self._seq, t, m.q, m.dq, [0.0] * DOF, 0.0, False, inputs, outputs,
            link.emergency_stopped(m.safety_bits), link.safeguarded(m.safety_bits), fault,
            link.enabled(m.safety_bits),
        )  # fmt: skip

    # ------------------------------------------------------------ to the robot

    def send(self, setpoint: Setpoint) -> Setpoint:
        """Hand the setpoint to the process. While the arm is stopped nothing leaves; it stands where it stands."""
        check_setpoint(setpoint, self.info)
        if self._newest is None:
            raise DriverError("ur_unreached", "the arm has not been reached", "See that its controller is on")
        if self._stopped or self._wire is None or (self._measured is not None and self._measured.halted):
            return Setpoint(setpoint.seq, setpoint.t, list(self._newest.q), [0.0] * DOF)
        self._order(link.Target(list(setpoint.q)))
        return setpoint

    def grip(self, width: float, force: float) -> None:
        check_grip(width, force)
        raise DriverError("no_gripper", "this arm has no gripper", "Use a digital output for the gripper")

    def set_output(self, name: str, value: bool) -> None:
        check_output(name, self.info)
        if not self._order(link.Output(self.options.outputs.index(name), value)):
            raise DriverError("ur_unreached", f"{name} was not switched: the arm is not reached", "Mend the connection")

    def stop(self, category: Literal[0, 1], now: float) -> None:
        """Brake with the vendor's `servoStop`; category 0 switches the arm off as well."""
        self._stopped = True
        if not self._order(link.Halt(int(category))):
            self._end()  # the process brakes when it is hung up on, and the controller when the process is gone

    def recover(self, person: str, now: float) -> None:
        """Release a protective stop, switch on, load the control program: in the process, and only here."""
        self._recovers += 1
        self._stopped = False
        if not self._order(link.Recover(self._recovers)):
            raise DriverError("ur_unreached", "the arm is not reached", "Mend the connection")

    def _order(self, order: link.Order) -> bool:
        """False if the process is gone or does not listen."""
        if self._wire is None:
            return False
        try:
            self._wire.send(link.encode(order))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Hang up: the process brakes the arm, ends the control program and itself."""
        self._closed = True
        self._end()
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
