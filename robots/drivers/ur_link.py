"""What the UR driver and its process say to each other, and what the vendor's numbers mean; no vendor package here."""

from __future__ import annotations

import mmap
import struct
import zlib

import msgspec

MOST = 1 << 16
"""Bytes of the longest message."""
RUNNING, PLAYING = 7, 2
"""`robot_mode` and `runtime_state` in which programs move the arm."""

_PROTECTIVE, _RECOVERY, _SAFEGUARD, _VIOLATION, _FAULT = 1 << 2, 1 << 3, 1 << 4, 1 << 8, 1 << 9
_EMERGENCY = 1 << 5 | 1 << 6 | 1 << 7
_ENABLED = 1 << 11
_NORMAL = 1 << 0 | 1 << 1
_MODES = {
    -1: "has no safety controller", 0: "is disconnected", 1: "waits for the safety configuration", 2: "is starting",
    3: "is switched off", 4: "is switching on", 5: "has its brakes closed", 6: "is being guided by hand",
    8: "is updating its firmware",
}  # fmt: skip


class Settings(msgspec.Struct, frozen=True):
    """What the process needs to know at its start."""

    address: str
    lookahead: float
    gain: float
    silence: float
    """Without setpoints for so long it brakes the arm, s."""
    watchdog: float
    """Without a sign of life for so long the controller ends the control program, s."""
    payload: float
    payload_cog: tuple[float, float, float]
    load: bool
    """Load the control program at once; False: not before a person lets the arm go on."""


# ---------------------------------------------------------------- driver -> process


class Target(msgspec.Struct, frozen=True, tag="target"):
    """A setpoint, rad."""

    q: list[float]


class Halt(msgspec.Struct, frozen=True, tag="halt"):
    """Brake the arm; category 0 takes its power as well. Nothing moves until `Recover`."""

    category: int


class Recover(msgspec.Struct, frozen=True, tag="recover"):
    """A person lets the arm go on."""

    count: int


class Output(msgspec.Struct, frozen=True, tag="output"):
    """Switch a standard digital output."""

    bit: int
    value: bool


Order = Target | Halt | Recover | Output


# ---------------------------------------------------------------- process -> driver


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """One thing that keeps the arm from being reached: code, cause, remedy."""

    parts: list[tuple[str, str, str]]


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """The newest package of the controller."""

    seq: int
    t: float
    """When it was measured, the machine's monotonic clock, s."""
    q: list[float]
    dq: list[float]
    robot_mode: int
    safety_bits: int
    playing: bool
    inputs: int
    outputs: int
    slider: float
    """Speed slider in [0, 1]."""
    recovered: int
    """The last `Recover` that was carried out."""
    halted: bool
    """Setpoints are not followed until `Recover`."""
    problem: str
    """What the process itself found wrong, or empty."""
    commands: int = 0
    """`servoj` commands of this connection."""
    commanding: float = 0.0
    """How long it has commanded, pauses left out, s."""


encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_failed = msgspec.msgpack.Decoder(Failed).decode
decode_measured = msgspec.msgpack.Decoder(Measured).decode


class Board:
    """One message in memory that two processes share: the newest, however long nobody looked; never a torn one."""

    SIZE = 4096
    _HEAD = struct.Struct("<II")

    def __init__(self, file: int) -> None:
        """`file`: descriptor of a memory file of `SIZE` bytes."""
        self._memory = mmap.mmap(file, self.SIZE)

    def write(self, data: bytes) -> None:
        """Raises ValueError for a message that does not fit."""
        end = self._HEAD.size + len(data)
        if end > self.SIZE:
            raise ValueError(f"{len(data)} bytes do not fit")
        self._memory[:end] = self._HEAD.pack(len(data), zlib.crc32(data)) + data

    def read(self) -> bytes | None:
        """None if there is none, or the other side is just writing."""
        size, check = self._HEAD.unpack_from(self._memory)
        data = self._memory[self._HEAD.size : self._HEAD.size + min(size, self.SIZE)]
        return data if size == len(data) > 0 and zlib.crc32(data) == check else None

    def close(self) -> None:
        self._memory.close()


def emergency_stopped(bits: int) -> bool:
    """Of the system, the robot, or by either; also if the bits are none a controller sends."""
    return bool(bits & _EMERGENCY)


def enabled(bits: int) -> bool:
    """The three-position enabling device is held in its middle position; only newer controllers say so."""
    return bool(bits & _ENABLED)


def safeguarded(bits: int) -> bool:
    return bool(bits & _SAFEGUARD)


def fault(state: Measured) -> str:
    """What keeps the arm from following, in words; empty: nothing. Emergency and safeguard stop are not here."""
    if state.safety_bits & _FAULT:
        return "the vendor's safety system reports a fault: it is cleared at the robot"
    if state.safety_bits & _VIOLATION:
        return "a limit of the vendor's safety configuration was violated: it is cleared at the robot"
    if state.safety_bits & _RECOVERY:
        return "the arm is in recovery mode: move it back within its limits at the robot"
    if state.safety_bits & _PROTECTIVE:
        return "protective stop: see what the arm met; it can be released after 5 s" + _more(state)
    if emergency_stopped(state.safety_bits) or safeguarded(state.safety_bits):
        return ""
    if not state.safety_bits & _NORMAL:
        return f"the vendor's safety system is in no state that permits motion ({state.safety_bits:#x})"
    if state.robot_mode != RUNNING:
        return f"the arm {_MODES.get(state.robot_mode, f'is in mode {state.robot_mode}')}" + _more(state)
    if state.problem:
        return state.problem
    if not state.playing:
        return "the control program does not run"
    if not state.slider >= 0.999:
        return f"the speed slider stands at {100.0 * state.slider:.0f} %: set it to 100 % and use the cell's override"
    return ""


def _more(state: Measured) -> str:
    return f" ({state.problem})" if state.problem else ""
