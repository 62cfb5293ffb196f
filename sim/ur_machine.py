"""What a UR controller is apart from its wires: power, brakes, safety, speed slider, outputs, and the arm behind it.

The arm is any `robots.contract.Driver`. Safety states come from what it reports and from what a person does here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

from robots.contract import Driver, DriverState, Setpoint

STOPPING = 12.0
"""How fast joints slow down in a protective stop or when a program ends, rad/s^2."""
UNLOCK_AFTER = 5.0
"""A protective stop cannot be unlocked earlier, s."""
FASTEST = math.pi
"""Speed of a joint, rad/s (UR5e, published)."""
HARDEST = 40.0
"""Acceleration of a joint under servoj, rad/s^2."""
LONGEST = 0.01
"""A cycle that comes later counts as so long, s: the arm then moves more slowly, and never jumps."""
STARTING = 250
"""After the brakes were opened the arm's own fault counts only after so many cycles."""
DOF = 6


class RobotMode(enum.IntEnum):
    """`robot_mode`, the values this controller takes."""

    POWER_OFF = 3
    IDLE = 5
    RUNNING = 7


class SafetyMode(enum.IntEnum):
    """`safety_mode`, the values this controller takes."""

    NORMAL = 1
    REDUCED = 2
    PROTECTIVE_STOP = 3
    SAFEGUARD_STOP = 5
    ROBOT_EMERGENCY_STOP = 7
    VIOLATION = 8
    FAULT = 9


class ProgramState(enum.IntEnum):
    """`runtime_state`."""

    STOPPED = 1
    PLAYING = 2
    PAUSED = 4


_STATUS_BITS = {
    SafetyMode.NORMAL: 0x001,
    SafetyMode.REDUCED: 0x002,
    SafetyMode.PROTECTIVE_STOP: 0x404,
    SafetyMode.SAFEGUARD_STOP: 0x410,
    SafetyMode.ROBOT_EMERGENCY_STOP: 0x4C0,
    SafetyMode.VIOLATION: 0x500,
    SafetyMode.FAULT: 0x600,
}


class Machine:
    """One arm, its power and its safety. `follow` once a cycle."""

    def __init__(self, arm: Driver, model: str = "ur5e", remote: bool = True, running: bool = True) -> None:
        """`running`: the brakes are open already, as after a person has started the arm."""
        self.arm = arm
        self.model = model
        self.remote = remote
        """Remote control is chosen at the pendant."""
        self.robot_mode = RobotMode.RUNNING if running else RobotMode.POWER_OFF
        self.program = ProgramState.STOPPED
        self.program_name = ""
        self.popup = ""
        self.slider = 1.0
        """The pendant's speed slider, in [0, 1]; every motion of a program is slowed down by it."""
        self.payload = 0.0
        self.payload_cog = (0.0, 0.0, 0.0)
        self.emergency_button = False
        self.safeguard_input = False
        self.state: DriverState | None = None
        self.q = [0.0] * DOF
        """Where the joints are told to be."""
        self.dq = [0.0] * DOF
        self._protective = -math.inf
        """Since when, s; -inf: no protective stop."""
        self._faulted = ""
        """The arm's own fault, until the safety system is started anew."""
        self._starting = 0
        """Cycles left of opening the brakes: an arm takes its time to forget what it had before."""
        self._seq = 0
        self._now = -math.inf
        self._settled = False

    # ------------------------------------------------------------ safety

    @property
    def safety_mode(self) -> SafetyMode:
        state = self.state
        if self.emergency_button or (state is not None and state.emergency_stop):
            return SafetyMode.ROBOT_EMERGENCY_STOP
        if self._faulted:
            return SafetyMode.FAULT
        if self.safeguard_input or (state is not None and state.safeguard):
            return SafetyMode.SAFEGUARD_STOP
        return SafetyMode.PROTECTIVE_STOP if self._protective > -math.inf else SafetyMode.NORMAL

    @property
    def fault(self) -> str:
        """What the arm itself reported, until the safety system is started anew."""
        return self._faulted

    @property
    def safety_bits(self) -> int:
        return _STATUS_BITS[self.safety_mode]

    @property
    def status_bits(self) -> int:
        """`robot_status_bits`: power, program."""
        return int(self.robot_mode is RobotMode.RUNNING) | int(self.program is ProgramState.PLAYING) << 1

    @property
    def able(self) -> bool:
        """Programs may move the arm."""
        return self.robot_mode is RobotMode.RUNNING and self.safety_mode in (SafetyMode.NORMAL, SafetyMode.REDUCED)

    def protective_stop(self, now: float) -> None:
        """As after a collision. Idempotent."""
        if self._protective == -math.inf:
            self._protective = now
        self.stop_program()

    def unlock(self, now: float) -> bool:
        """False while it is too early."""
        if now - self._protective < UNLOCK_AFTER:
            return False
        self._protective = -math.inf
        return True

    def restart_safety(self, now: float) -> bool:
        """After a fault or violation; the arm is without power then."""
        if self.safety_mode is not SafetyMode.FAULT:
            return False
        self.power_off(now)
        self._faulted = ""
        return True

    # ------------------------------------------------------------ power and program

    def power_on(self) -> None:
        if self.robot_mode is RobotMode.POWER_OFF and self.safety_mode is not SafetyMode.ROBOT_EMERGENCY_STOP:
            self.robot_mode = RobotMode.IDLE

    def power_off(self, now: float) -> None:
        self.stop_program()
        if self.robot_mode is not RobotMode.POWER_OFF:
            self.robot_mode = RobotMode.POWER_OFF
            self.arm.stop(0, now)

    def release_brakes(self) -> None:
        """From power-off it switches on first, as the vendor's does."""
        self.power_on()
        if self.robot_mode is RobotMode.IDLE:
            self.robot_mode = RobotMode.RUNNING
            self._settled, self._starting = False, STARTING
            self.arm.recover("brake release", self._now)

    def start_program(self, name: str) -> bool:
        """False if the arm cannot move."""
        if not self.able:
            return False
        self.program, self.program_name = ProgramState.PLAYING, name
        return True

    def stop_program(self) -> None:
        self.program, self.program_name = ProgramState.STOPPED, ""

    def pause(self) -> bool:
        if self.program is not ProgramState.PLAYING:
            return False
        self.program = ProgramState.PAUSED
        return True

    def play(self) -> bool:
        """Go on with a paused program; none can be loaded here."""
        if self.program is not ProgramState.PAUSED or not self.able:
            return False
        self.program = ProgramState.PLAYING
        return True

    # ------------------------------------------------------------ the arm

    def follow(self, now: float) -> float:
        """Read the arm and end what its state forbids; return the time since the last cycle, s (0 in the first)."""
        dt = 0.0 if not math.isfinite(self._now) else min(max(0.0, now - self._now), LONGEST)
        self._now = now
        self.state = state = self.arm.state(now)
        if state is None:
            return 0.0
        starting = self.robot_mode is RobotMode.RUNNING and self._starting > 0
        self._starting -= starting
        if starting and state.fault and not state.emergency_stop:
            self.arm.recover("brake release", now)  # again: it may have been asked before the arm stood
            self._settled = False
        if not self._settled:
            self.q, self.dq, self._settled = list(state.q), [0.0] * DOF, True
        if self.robot_mode is RobotMode.RUNNING and not starting and state.fault and not state.emergency_stop:
            self._faulted = self._faulted or state.fault
        if self.safety_mode in (SafetyMode.ROBOT_EMERGENCY_STOP, SafetyMode.FAULT):
            self.power_off(now)
        elif not self.able:
            self.stop_program()
        return dt

    def drive(self, target: Sequence[float] | None, constant: float, dt: float, slowing: float = STOPPING) -> None:
        """One cycle of the arm: towards `target` with the time constant `constant` (s), or without one to standstill.

        A first-order lag stands for the vendor's servo with its look-ahead; the speed slider stretches it.
        """
        if not self._ready(dt):
            return
        if target is not None and self.slider > 0.0:
            share = (1.0 - math.exp(-dt * self.slider / max(constant, 1e-3))) / dt
            self.dq = [
                _within(share * (goal - q), goal - q, v, dt) for goal, q, v in zip(target, self.q, self.dq, strict=True)
            ]
        else:
            self.dq = _slower(self.dq, slowing * dt)
        self._send([q + v * dt for q, v in zip(self.q, self.dq, strict=True)])

    def accelerate(self, dq: Sequence[float], acceleration: float, dt: float) -> None:
        """One cycle of the arm towards joint speeds, each joint by at most `acceleration`."""
        if self._ready(dt):
            most = acceleration * dt
            self.dq = [v + min(max(goal - v, -most), most) for goal, v in zip(dq, self.dq, strict=True)]
            self._send([q + v * dt for q, v in zip(self.q, self.dq, strict=True)])

    def place(self, q: list[float], dt: float) -> None:
        """The last cycle of a motion: exactly there, standing."""
        if self._ready(dt):
            self.dq = [0.0] * DOF
            self._send(q)

    def _ready(self, dt: float) -> bool:
        """Power on; without it the arm may be moved by hand, so its place is learned anew."""
        powered = self.robot_mode is RobotMode.RUNNING
        self._settled = self._settled and powered
        return powered and self.state is not None and dt > 0.0

    def _send(self, q: list[float]) -> None:
        self.q = q
        self._seq += 1
        self.arm.send(Setpoint(self._seq, self._now, list(q), list(self.dq)))

    def set_output(self, bit: int, value: bool) -> None:
        """Standard digital output; those the arm has no name for lead nowhere."""
        names = self.arm.info.outputs
        if bit < len(names) and self.state is not None and self.state.outputs.get(names[bit]) is not value:
            self.arm.set_output(names[bit], value)

    @property
    def output_bits(self) -> int:
        outputs = self.state.outputs if self.state is not None else {}
        return sum(int(outputs.get(name, False)) << n for n, name in enumerate(self.arm.info.outputs))

    @property
    def input_bits(self) -> int:
        known = {"emergency_stop", "safeguard", "enabling_device", "mode_switch"}
        inputs = self.state.inputs if self.state is not None else {}
        return sum(int(value) << n for n, (_, value) in enumerate(kv for kv in inputs.items() if kv[0] not in known))


def _within(wanted: float, left: float, before: float, dt: float) -> float:
    """A joint's speed as its drive permits it: bounded, able to stop in what is left, and not changed too fast."""
    most = min(FASTEST, math.sqrt(HARDEST * abs(left)))  # half of the deceleration: the lag needs the rest
    change = HARDEST * dt
    return min(max(min(max(wanted, -most), most), before - change), before + change)


def _slower(dq: Sequence[float], by: float) -> list[float]:
    """All joints in proportion, so that the arm stays on its path, by at most `by` rad/s for the fastest."""
    fastest = max(map(abs, dq))
    share = max(0.0, 1.0 - by / fastest) if fastest > 0.0 else 0.0
    return [v * share for v in dq]
