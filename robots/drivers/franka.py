"""Franka Research 3 through `pylibfranka`: joint positions at 1 kHz in a process of its own, the gripper in another.

The vendor's client waits, and keeps the interpreter while it does. Its process (`robots.drivers.franka_worker`) is
given up at the first interruption and started anew; the arm goes on only after `recover`. docs/drivers/franka.md says
what the robot must be set up for.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import math
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field, ValidationError, field_validator, model_validator

from robots.contract import DriverError, DriverInfo, DriverState, Setpoint
from robots.drivers import franka_link as link
from robots.drivers.checks import check_grip, check_output, check_setpoint
from robots.drivers.child import Child
from robots.drivers.franka_motion import DT, JOINTS
from robots.workcell import Strict

AGAIN = 1.0
"""Time between two attempts to start a process, s."""
SILENT = 0.3
"""Without anything new from the arm for so long its process is given up, s."""
IGNORED = (
    "realtime: ignore - the command loop runs without a real-time kernel: a late command is a lost one, and twenty in "
    "a row stop the arm with a reflex"
)
SLOW = "slow_motion: the cell's clock is slower than the machine's - for simulated arms alone"
_PACKAGE = "pylibfranka"

Positive = Annotated[float, Field(gt=0.0, le=500.0, allow_inf_nan=False)]
Joints = tuple[Positive, Positive, Positive, Positive, Positive, Positive, Positive]
Wrench = tuple[Positive, Positive, Positive, Positive, Positive, Positive]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class FrankaOptions(Strict):
    """`robot.options` of the cell file for the driver `franka`."""

    address: str = "172.16.0.2"
    """Of the arm's control unit."""
    gripper: bool = True
    """The Franka Hand is mounted, and is driven by this driver."""
    realtime: Literal["enforce", "ignore"] = "enforce"
    """`ignore` runs on a machine without a real-time kernel: for simulators and trials."""
    slow_motion: float = Field(1.0, ge=1.0, le=20.0, allow_inf_nan=False)
    """For simulators that are so many times slower than an arm: the cell must run with the same slow motion. Before an
    arm its states count as old, and nothing moves."""
    buffer: float = Field(0.012, ge=0.004, le=0.05, allow_inf_nan=False)
    """Setpoints are carried out so long after they were sent, s: at least two periods of the robot node and what it
    may be late."""
    drive_delay: float = Field(0.04, ge=0.01, le=0.2, allow_inf_nan=False)
    """Upper bound from `send` to the joints acting on it, s: from `cell robots stop-test`; longer than `buffer`."""
    watchdog: float = Field(0.1, ge=0.04, le=0.5, allow_inf_nan=False)
    """Without setpoints for half of it the process brakes the arm; without the process the controller does, s."""
    payload: float = Field(0.0, ge=0.0, le=5.0, allow_inf_nan=False)
    """Mass at the flange beyond the end effector set in Desk, kg; 0 leaves the load as it is set there."""
    payload_cog: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    """Its centre of gravity in the flange's frame, m."""
    payload_inertia: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    """Its moments of inertia about the flange's axes through the centre of gravity, kg m^2."""
    contact_torques: Joints = (20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0)
    """From here on an external torque counts as contact, Nm."""
    collision_torques: Joints = (20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0)
    """From here on it counts as collision: reflex, Nm."""
    contact_forces: Wrench = (20.0, 20.0, 20.0, 25.0, 25.0, 25.0)
    """The same at the tool, N and Nm."""
    collision_forces: Wrench = (20.0, 20.0, 20.0, 25.0, 25.0, 25.0)

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        ipaddress.IPv4Address(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> FrankaOptions:
        if self.drive_delay < self.buffer + 0.005:
            raise ValueError("drive_delay must be at least 0.005 s longer than buffer")
        if self.buffer >= 0.5 * self.watchdog:
            raise ValueError("buffer must be shorter than half of watchdog")
        pairs = [*zip(self.contact_torques, self.collision_torques, strict=True)]
        pairs += zip(self.contact_forces, self.collision_forces, strict=True)
        if any(contact > collision for contact, collision in pairs):
            raise ValueError("a contact threshold is above its collision threshold")
        if min(self.payload_inertia) < 0.0:
            raise ValueError("payload_inertia must not be negative")
        return self

    def settings(self, ready: bool) -> link.Settings:
        """What the arm's process is told."""
        x, y, z = self.payload_inertia
        inertia = (x, 0.0, 0.0, 0.0, y, 0.0, 0.0, 0.0, z)
        return link.Settings(
            self.address, self.realtime == "enforce", self.buffer, 0.5 * self.watchdog,
            (self.payload, self.payload_cog, inertia) if self.payload > 0.0 else None,
            (self.contact_torques, self.collision_torques), (self.contact_forces, self.collision_forces), ready,
            self.slow_motion,
        )  # fmt: skip


class FrankaDriver:
    """Implements `robots.contract.Driver`. Owns two processes; every call only reads from or writes to them."""

    def __init__(self, options: dict[str, Any], dof: int, ports: Any = None) -> None:
        """Raises DriverError (`franka_options`) if an option is wrong."""
        try:
            self.options = o = FrankaOptions.model_validate(options)
        except ValidationError as error:
            raise DriverError("franka_options", f"robot.options: {error}", "Correct the options") from error
        if dof != JOINTS:
            raise DriverError("franka_options", f"this robot model has {dof} joints", "Choose the model fr3")
        self.info = DriverInfo(
            "franka", dof, DT, o.drive_delay, o.watchdog, o.gripper,
            vendor_safety=("safeguard", "reflex"), brakes=True,
            notices=(*((IGNORED,) if o.realtime == "ignore" else ()), *((SLOW,) if o.slow_motion > 1.0 else ())),
            slow_motion=o.slow_motion,
        )  # fmt: skip
        self._arm = _Process("robots.drivers.franka_worker")
        self._hand = _Process("robots.drivers.franka_fingers")
        self._measured: link.Measured | None = None
        self._fingers: link.Fingers | None = None
        self._newest: DriverState | None = None
        self._seq = self._recovers = self._grasps = 0
        self._stopped = self._closed = self._lost = False

    # ------------------------------------------------------------ connection

    def connect(self, now: float) -> None:
        """Start the processes; until both have reached theirs, raise DriverError with all that is missing so far."""
        if importlib.util.find_spec(_PACKAGE) is None:
            raise DriverError(
                "franka_package", "the package pylibfranka is missing", "pip install 'collabcell[franka]'"
            )
        self._closed = False
        self._read(now)
        if self._newest is None:
            parts = [DriverError(*part) for part in [*self._arm.failed, *self._hand.failed]]
            what = "could not be reached" if parts else "has not answered yet"
            remedy = "See that it is on, its joints unlocked, FCI active, and robot.options.address is its address"
            raise DriverError("franka_unreached", f"the arm at {self.options.address} {what}", remedy, parts)

    def state(self, now: float) -> DriverState | None:
        """As `robots.contract.Driver`."""
        self._read(now)
        return self._newest

    @property
    def cycles(self) -> tuple[int, int, float]:
        """Cycles under command of this connection, those of them without a command, and the controller's own share of
        commands in time."""
        m = self._measured
        return (m.cycles, m.missed, m.answered) if m is not None else (0, 0, 0.0)

    @property
    def account(self) -> dict[str, float]:
        """The same by name, for the ledger."""
        names = ("cycles", "missed", "answered")
        return dict(zip(names, self.cycles, strict=True)) if self._measured is not None else {}

    def _settings(self) -> link.Settings:
        return self.options.settings(ready=not self._lost)

    def _read(self, now: float) -> None:
        if self._closed:
            return
        if self._arm.start(now, lambda: msgspec.json.encode(self._settings())):
            self._recovers, self._measured = 0, None
        if self.options.gripper:
            self._hand.start(now, lambda: msgspec.json.encode(self.options.address))
            self._read_fingers()
        data = self._arm.newest()
        if data is not None:
            measured = link.decode_measured(data)
            if self._measured is None or measured.seq != self._measured.seq:
                self._take(measured, now)
        if self._measured is not None and now - self._measured.t > SILENT:
            self._arm.hang_up()
        self._arm.listen()
        if not self._arm.open:
            self._lost = self._lost or self._newest is not None

    def _read_fingers(self) -> None:
        data = self._hand.newest()
        if data is not None:
            self._fingers = link.decode_fingers(data)
        self._hand.listen()

    def _take(self, m: link.Measured, now: float) -> None:
        self._measured = m
        self._arm.failed = []
        if not len(m.q) == len(m.dq) == len(m.tau) == JOINTS:
            return
        fingers = self._fingers
        if self.options.gripper and fingers is None and self._newest is None:
            return  # neither is there before both are
        fault = link.fault(m)
        if m.halted and not self._stopped and m.recovered == self._recovers and not link.safeguarded(m.mode):
            fault = fault or "the arm is held in its process"
        if self.options.gripper and not self._hand.open:
            fault = fault or "the gripper is lost"
        before = self._newest
        self._seq += 1
        t = min(m.t, now)  # a node that was held up reads what came after it read its clock
        t = t if before is None else max(t, before.t)
        width, holding = (fingers.width, fingers.holding) if fingers is not None else (0.0, False)
        self._newest = DriverState(
            self._seq, t, m.q, m.dq, m.tau, width, holding, {}, {}, False, link.safeguarded(m.mode), fault
        )

    # ------------------------------------------------------------ to the robot

    def send(self, setpoint: Setpoint) -> Setpoint:
        """Hand the setpoint to the process. While the arm is stopped nothing leaves; it stands where it stands."""
        check_setpoint(setpoint, self.info)
        if self._newest is None:
            raise DriverError("franka_unreached", "the arm has not been reached", "See that it is on")
        if self._stopped or not self._arm.open or (self._measured is not None and self._measured.halted):
            return Setpoint(setpoint.seq, setpoint.t, list(self._newest.q), [0.0] * JOINTS)
        self._arm.tell(link.encode(link.Target(setpoint.seq, setpoint.t, list(setpoint.q))))
        return setpoint

    def grip(self, width: float, force: float) -> None:
        """As `robots.contract.Driver`; with a force the fingers close until they press on something."""
        check_grip(width, force)
        if not self.options.gripper:
            raise DriverError("no_gripper", "this driver has no gripper", "Set robot.options.gripper")
        self._grasps += 1
        if not self._hand.tell(link.encode(link.Grasp(self._grasps, width, force))):
            raise DriverError("franka_gripper", "the gripper is not reached", "Mend the connection")

    def set_output(self, name: str, value: bool) -> None:
        """The arm has no outputs."""
        check_output(name, self.info)

    def stop(self, category: Literal[0, 1], now: float) -> None:
        """Brake within the arm's limits; category 0 leaves it to the arm's controller."""
        self._stopped = True
        if not self._arm.tell(link.encode(link.Halt(int(category)))):
            self._arm.hang_up()  # the process brakes when it is hung up on, and the controller when the process is gone

    def recover(self, person: str, now: float) -> None:
        """Clear a reflex and follow again: in the process, and only here."""
        self._recovers += 1
        self._stopped = False
        if not self._arm.tell(link.encode(link.Recover(self._recovers))):
            raise DriverError("franka_unreached", "the arm is not reached", "Mend the connection")

    def close(self) -> None:
        """Hang up: the process brakes the arm and ends."""
        self._closed = True
        self._arm.close()
        self._hand.close()


class _Process:
    """One of the driver's processes, started again after it ended."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._child: Child | None = None
        self._started = self._hung_up = -math.inf
        self.failed: list[tuple[str, str, str]] = []
        """What it said keeps it from its robot."""

    def start(self, now: float, settings: Any) -> bool:
        """Start it unless it runs or was started just now; True if it was. One that does not end is killed."""
        child = self._child
        if child is not None and (child.open or now - self._started < AGAIN):
            return False
        if child is not None and not child.gone:
            if self._hung_up == -math.inf:
                self._hung_up = now
            if now - self._hung_up < Child.GRACE:
                return False
            child.kill()
        self._child, self._started, self._hung_up = Child(self._module, settings()), now, -math.inf
        return True

    @property
    def open(self) -> bool:
        return self._child is not None and self._child.open

    def newest(self) -> bytes | None:
        return self._child.newest() if self._child is not None else None

    def listen(self) -> None:
        """Take what it says, if anything."""
        data = self._child.heard() if self._child is not None else None
        if data is not None:
            self.failed = link.decode_failed(data).parts

    def tell(self, data: bytes) -> bool:
        return self._child is not None and self._child.tell(data)

    def hang_up(self) -> None:
        if self._child is not None:
            self._child.hang_up()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
