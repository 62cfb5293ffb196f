"""The control program of `ur_rtde` as its other end sees it: commands in input registers, answers in output ones.

Nothing is interpreted. A client writes the number of a command and its values; the program answers 1 (ready) or 2
(done) in output register 0. Facts about numbers and registers are from the program that `ur_rtde` 1.6.5 loads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from sim.ur_machine import STOPPING, Machine, ProgramState
from sim.ur_rtde import BadPackage, Value

KNOWN = "rtde_control"
"""Name of the program that is known here."""
LONGEST = 1 << 20
READY, DONE = 1, 2
STEP = 0.002
"""Cycle of the vendor's controller, s."""
LOOKAHEAD = (0.03, 0.2)
"""Range of servoj's look-ahead, s."""
STANDS = 1e-3
"""Slower than this a joint stands, rad/s."""
NONE, MOVE_J, SPEED_J, SERVO_J, SPEED_STOP, SERVO_STOP, PAYLOAD = 0, 1, 9, 11, 15, 16, 17
STEP_TIME, PROTECTIVE_STOP, STOP_L, STOP_J, WATCHDOG, END = 26, 31, 33, 34, 35, 255
_STREAMED = (SPEED_J, SERVO_J, STEP_TIME)
"""Taken whenever they come, answered `ready`; the others are taken once and answered `done`."""
_PROGRAM = re.compile(rb"^def .*?^end[ \t]*\r?\n", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"^def\s+(\w+)\s*\(", re.MULTILINE)


def split_programs(buffer: bytearray) -> list[str]:
    """Take whole programs out of what has come so far: from `def` to `end` in the first column, or a single line.

    Raises BadPackage if more has come than any program is long.
    """
    found = []
    while buffer:
        if not buffer.startswith(b"def ") and b"\n" not in buffer:
            break
        if buffer.startswith(b"def "):
            whole = _PROGRAM.match(buffer)
            if whole is None:
                break
            size = whole.end()
        else:
            size = buffer.index(b"\n") + 1
        source = bytes(buffer[:size]).decode("utf-8", "replace")
        del buffer[:size]
        if source.strip() and not source.lstrip().startswith("#"):
            found.append(source)
    if len(buffer) > LONGEST:
        raise BadPackage("a program without an end")
    return found


def program_name(source: str) -> str:
    """Name of a program, or empty for a single line."""
    found = _NAME.search(source)
    return found[1] if found else ""


class ControlProgram:
    """Runs while `machine.program` plays; `written` with each input package, `cycle` once a cycle."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.registers: dict[str, Value] = {"output_int_register_0": 0}
        self._executing = NONE
        """The command that is taken already and not yet taken back by the client."""
        self._target: list[float] | None = None
        self._lookahead = LOOKAHEAD[1]
        self._speed: list[float] | None = None
        self._acceleration = STOPPING
        self._line: tuple[list[float], float, float] | None = None
        self._slowing = STOPPING
        self._heard = -math.inf
        self._patience = math.inf
        """The client's watchdog, s."""

    @property
    def playing(self) -> bool:
        return self._machine.program is ProgramState.PLAYING

    def load(self, source: str) -> bool:
        """Begin a program, which ends the one before; False for one that is not known or cannot run."""
        self._machine.stop_program()
        self._halt(STOPPING)
        if program_name(source) != KNOWN or not self._machine.start_program(KNOWN):
            return False
        self._executing, self._patience = NONE, math.inf
        self._answer(READY)
        return True

    def _answer(self, value: int) -> None:
        self.registers["output_int_register_0"] = value

    # ------------------------------------------------------------ commands

    def written(self, values: Mapping[str, Value], inputs: Mapping[str, Value], now: float) -> None:
        """A client wrote `values`; `inputs` are all registers as they are now."""
        if "input_int_register_0" not in values:
            return
        self._heard = now
        if not self.playing:
            return
        command = int(_number(inputs, "input_int_register_0"))
        if command in _STREAMED:
            self._take(command, inputs, now)
            self._answer(READY)
        elif command == NONE:
            self._executing = NONE
            self._answer(READY)
        elif command != self._executing:
            self._executing = command
            self._take(command, inputs, now)

    def _take(self, command: int, inputs: Mapping[str, Value], now: float) -> None:
        v = [_number(inputs, f"input_double_register_{n}") for n in range(11)]
        if command == SERVO_J:
            self._target, self._speed, self._line = v[:6], None, None
            self._lookahead = min(max(v[9], LOOKAHEAD[0]), LOOKAHEAD[1])
        elif command == SPEED_J:
            self._speed, self._target, self._line, self._acceleration = v[:6], None, None, max(v[6], 0.01)
        elif command == MOVE_J:
            self._line, self._target, self._speed = (v[:6], max(v[6], 1e-3), max(v[7], 1e-2)), None, None
        elif command in (SERVO_STOP, SPEED_STOP, STOP_J, STOP_L):
            self._halt(max(v[0], 0.01))
        elif command == PAYLOAD:
            self._machine.payload, self._machine.payload_cog = v[0], (v[1], v[2], v[3])
        elif command == STEP_TIME:
            self.registers["output_double_register_0"] = STEP
        elif command == PROTECTIVE_STOP:
            self._machine.protective_stop(now)
        elif command == WATCHDOG:
            self._patience = 1.0 / v[0] if v[0] > 0.0 else math.inf
        elif command == END:
            self._machine.stop_program()
        else:
            self._machine.popup = f"command {command} of the control program is not emulated"
            self._machine.stop_program()

    def _halt(self, slowing: float) -> None:
        self._target = self._speed = self._line = None
        self._slowing = slowing

    # ------------------------------------------------------------ motion

    def cycle(self, inputs: Mapping[str, Value], now: float, dt: float) -> None:
        """One cycle of whatever motion goes on, then answer `done` to a command that has ended."""
        m = self._machine
        if self.playing and now - self._heard > self._patience:
            m.stop_program()
        if m.program is ProgramState.STOPPED:
            if self._target or self._speed or self._line:
                self._halt(STOPPING)
        if not self.playing:
            m.drive(None, 1.0, dt)
        elif self._line is not None:
            self._along(*self._line, dt)
        elif self._speed is not None:
            m.accelerate(self._speed, self._acceleration, dt)
        else:
            m.drive(self._target, self._lookahead, dt, self._slowing)
        moving = self._line is not None or (self._speed is None and self._target is None and _fastest(m.dq) > STANDS)
        if self.playing and self._executing != NONE and not moving:
            self._answer(DONE)

    def _along(self, goal: Sequence[float], speed: float, acceleration: float, dt: float) -> None:
        """A straight line in the joints with the given speed and acceleration of the joint that has furthest to go."""
        m = self._machine
        way = [a - b for a, b in zip(goal, m.q, strict=True)]
        left = _fastest(way)
        now_at = _fastest(m.dq)
        fastest = min(speed * m.slider, math.sqrt(2.0 * acceleration * left), now_at + acceleration * dt)
        if left <= max(fastest * dt, 1e-6):
            self._line = None
            m.place(list(goal), dt)
        else:
            m.accelerate([d / left * fastest for d in way], math.inf, dt)


def _number(inputs: Mapping[str, Value], name: str) -> float:
    value = inputs.get(name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _fastest(dq: Sequence[float]) -> float:
    return max(map(abs, dq))
