"""A driver without a robot: the arm follows perfectly, and fails on demand. For dry runs and for tests of the node."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal

import msgspec

from robots.contract import DriverError, DriverInfo, DriverState, Setpoint
from robots.drivers.checks import check_grip, check_output, check_setpoint
from robots.model import RobotModel

FINGER_SPEED = 0.1
"""m/s."""


class NullFaults(msgspec.Struct):
    """Faults that can be switched on at any time."""

    silent: bool = False
    """`state` returns None."""
    frozen: bool = False
    """`state` keeps returning the same measurement."""
    nan: bool = False
    """Positions are NaN."""
    stuck_joint: int = -1
    """This joint no longer follows; -1: none."""
    runaway: bool = False
    """The arm keeps its speed whatever it is told, and ignores the stop."""
    latency: float = 0.0
    """Age of the measurements returned, s."""
    lost_setpoints: int = 0
    """This many further setpoints are lost."""
    fault: str = ""
    """Vendor fault, until `recover`."""
    tool: str | None = None
    """What the drives report as their tool; None: they cannot tell."""
    refuse: bool = False
    """Every command raises DriverError."""


class NullDriver:
    """Implements `robots.contract.Driver`. Options: `model` (for the start pose), `q` (rad), `inputs`, `outputs`."""

    def __init__(self, options: dict[str, Any], dof: int, ports: Any = None) -> None:
        known = {"model", "q", "inputs", "outputs", "drive_delay"}
        if set(options) - known:
            raise DriverError("options", f"unknown options {sorted(set(options) - known)}", f"use {sorted(known)}")
        start = options.get("q") or RobotModel.load(options.get("model", "panda")).home.tolist()
        if len(start) != dof or not all(map(math.isfinite, start)):
            raise DriverError("options", f"q must have {dof} finite values", "correct robot.options.q")
        outputs = tuple(options.get("outputs", ("signal",)))
        delay = float(options.get("drive_delay", 0.004))
        self.info = DriverInfo(
            "null", dof, 0.001, delay, 0.05, True, tuple(options.get("inputs", ())), outputs,
            manual_devices=True, simulated=True,
        )  # fmt: skip
        self.faults = NullFaults()
        self.emergency_stop = False
        self.safeguard = False
        self.enabling_device = False
        self.mode_switch: Literal["automatic", "manual"] | None = None
        self.part_width: float | None = None
        """Width of a part between the fingers, m; None: they close on nothing."""
        self.stops: list[int] = []
        """Vendor stops that were called, in order."""
        self._q = [float(v) for v in start]
        self._dq = [0.0] * dof
        self._width, self._goal, self._force = 0.08, 0.08, 0.0
        self._outputs = dict.fromkeys(outputs, False)
        self._inputs = dict.fromkeys(options.get("inputs", ()), False)
        self._seq = 0
        self._now = -math.inf
        self._stopped = False
        self._heard = math.inf
        """Time of the newest setpoint that arrived, s."""
        self._history: deque[DriverState] = deque(maxlen=500)
        self._frozen: DriverState | None = None

    def connect(self, now: float) -> None:
        """Always succeeds."""

    def set_input(self, name: str, value: bool) -> None:
        """Set a simulated digital input."""
        self._inputs[name] = value

    def state(self, now: float) -> DriverState | None:
        """Measure the arm at `now`, as the faults permit."""
        if self.faults.silent:
            return None
        dt = now - self._now if math.isfinite(self._now) else 0.0
        if self.faults.runaway:
            self._q = [q + v * dt for q, v in zip(self._q, self._dq, strict=True)]
        elif now - self._heard > self.info.watchdog:
            self._dq = [0.0] * len(self._q)
        self._move_fingers(dt)
        self._now = now
        self._seq += 1
        q = [math.nan] * len(self._q) if self.faults.nan else list(self._q)
        state = DriverState(
            self._seq,
            now,
            q,
            list(self._dq),
            [0.0] * len(q),
            self._width,
            self._holding,
            dict(self._inputs),
            dict(self._outputs),
            self.emergency_stop,
            self.safeguard,
            self.faults.fault,
            self.enabling_device,
            self.faults.tool,
            self.mode_switch,
        )
        self._history.append(state)
        if self.faults.frozen:
            self._frozen = self._frozen or state
            return self._frozen
        self._frozen = None
        late = [s for s in self._history if s.t <= now - self.faults.latency + 1e-9]
        return late[-1] if late else None

    @property
    def _holding(self) -> bool:
        return self.part_width is not None and self._force > 0 and self._width <= self.part_width + 1e-6

    def _move_fingers(self, dt: float) -> None:
        goal = self._goal
        if self.part_width is not None and goal < self.part_width <= self._width + 1e-9:
            goal = self.part_width
        change = FINGER_SPEED * dt
        self._width += min(max(goal - self._width, -change), change)

    def send(self, setpoint: Setpoint) -> Setpoint:
        """Follow the setpoint at once."""
        self._check()
        check_setpoint(setpoint, self.info)
        if self.faults.lost_setpoints > 0:
            self.faults.lost_setpoints -= 1
            return setpoint
        self._heard = setpoint.t
        if self.faults.runaway:
            return setpoint
        if self._stopped or self.faults.fault or self.emergency_stop:
            self._dq = [0.0] * len(self._q)
            return setpoint
        stuck = self.faults.stuck_joint
        self._q = [old if j == stuck else new for j, (old, new) in enumerate(zip(self._q, setpoint.q, strict=True))]
        self._dq = [0.0 if j == stuck else v for j, v in enumerate(setpoint.dq)]
        return setpoint

    def grip(self, width: float, force: float) -> None:
        """Move the fingers."""
        self._check()
        check_grip(width, force)
        self._goal, self._force = width, force

    def set_output(self, name: str, value: bool) -> None:
        """Switch a simulated output."""
        self._check()
        check_output(name, self.info)
        self._outputs[name] = value

    def stop(self, category: Literal[0, 1], now: float) -> None:
        """Stand at once, unless the arm runs away."""
        self.stops.append(category)
        self._stopped = True
        if not self.faults.runaway:
            self._dq = [0.0] * len(self._q)

    def recover(self, person: str, now: float) -> None:
        """Clear the simulated vendor fault."""
        self._check()
        self._stopped = False
        self.faults.fault = ""

    def _check(self) -> None:
        if self.faults.refuse:
            raise DriverError("refused", "the drives refuse commands", "restart the drives")

    def close(self) -> None:
        """Nothing to close."""
