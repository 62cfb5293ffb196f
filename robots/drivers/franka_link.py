"""What the Franka driver and its processes say to each other, and what the vendor's words mean; no vendor package."""

from __future__ import annotations

import msgspec

MOST = 1 << 16
"""Bytes of the longest message."""

OTHER, IDLE, MOVE, GUIDING, REFLEX, USER_STOPPED, RECOVERING = range(7)
"""The vendor's robot modes."""


class Settings(msgspec.Struct, frozen=True):
    """What the arm's process needs to know at its start."""

    address: str
    realtime: bool
    """Demand a real-time kernel (`kEnforce`)."""
    buffer: float
    """Setpoints are carried out so long after they were sent, s."""
    silence: float
    """Without setpoints for so long it brakes the arm, s."""
    load: tuple[float, tuple[float, float, float], tuple[float, ...]] | None
    """Mass, kg, centre, m, and inertia (9, column by column, kg m^2) in the flange's frame; None leaves it."""
    torques: tuple[tuple[float, ...], tuple[float, ...]]
    """From where on contact and collision are reported, Nm, per joint."""
    forces: tuple[tuple[float, ...], tuple[float, ...]]
    """The same at the tool, N and Nm."""
    ready: bool
    """Follow setpoints at once; False: not before a person lets the arm go on."""
    slow_motion: float = 1.0
    """The controller and the cell have a clock so many times slower than the machine's."""
    scale: float = 1.0
    """Of the limits of acceleration and jerk; above 1 the controller answers with a reflex, for tests of just that."""


# ---------------------------------------------------------------- driver -> process


class Target(msgspec.Struct, frozen=True, tag="target"):
    """A setpoint, rad, sent at t, s."""

    seq: int
    t: float
    q: list[float]


class Halt(msgspec.Struct, frozen=True, tag="halt"):
    """Brake the arm; category 0 leaves the braking to the controller. Nothing moves until `Recover`."""

    category: int


class Recover(msgspec.Struct, frozen=True, tag="recover"):
    """A person lets the arm go on."""

    count: int


class Grasp(msgspec.Struct, frozen=True, tag="grasp"):
    """Fingers to a width, m; with a force, N, until they press on something."""

    count: int
    width: float
    force: float


Order = Target | Halt | Recover


# ---------------------------------------------------------------- process -> driver


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """What keeps the arm from being reached: code, cause, remedy."""

    parts: list[tuple[str, str, str]]


class Measured(msgspec.Struct, frozen=True):
    """The newest state of the arm."""

    seq: int
    t: float
    """When it came, on the cell's clock, s."""
    q: list[float]
    dq: list[float]
    tau: list[float]
    mode: int
    errors: str
    """The vendor's names of what is wrong now, or of what ended the last motion; empty: nothing."""
    recovered: int
    """The last `Recover` that was carried out."""
    halted: bool
    """Setpoints are not followed until `Recover`."""
    problem: str
    """What the process itself found wrong, or empty."""
    cycles: int
    """Cycles of the controller in which the arm was under command."""
    missed: int
    """Those of them that passed without a command."""
    answered: float
    """The controller's own figure: share of the last 100 commands that came in time."""


class Fingers(msgspec.Struct, frozen=True):
    """The newest state of the gripper."""

    seq: int
    width: float
    holding: bool
    done: int
    """The last `Grasp` that came to its end."""
    problem: str


encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_grasp = msgspec.msgpack.Decoder(Grasp).decode
decode_failed = msgspec.msgpack.Decoder(Failed).decode
decode_measured = msgspec.msgpack.Decoder(Measured).decode
decode_fingers = msgspec.msgpack.Decoder(Fingers).decode

_MODES = {
    OTHER: "is in a mode of operation in which no program moves it: see that its joints are unlocked and FCI is active",
    GUIDING: "is being guided by hand",
    RECOVERING: "recovers from an error",
}


def names(errors: str) -> str:
    """The vendor's list `["a_b", "c"]` as words: `a_b, c`."""
    return errors.strip().strip("[]").replace('"', "").strip()


def safeguarded(mode: int) -> bool:
    """The user stop, whose button or input is released at the arm alone."""
    return mode == USER_STOPPED


def fault(m: Measured) -> str:
    """What keeps the arm from following, in words; empty: nothing. The user stop is not here."""
    if m.mode == REFLEX:
        return f"reflex: {m.errors or 'no reason given'}" + (f" ({m.problem})" if m.problem else "")
    if m.mode == USER_STOPPED:
        return ""
    if m.mode not in (IDLE, MOVE):
        return f"the arm {_MODES.get(m.mode, f'is in mode {m.mode}')}"
    return m.problem
