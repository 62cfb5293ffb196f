"""What travels over ABB's Externally Guided Motion besides joints, and how its clock is read; no socket here.

The seven axes of an arm are six `joints` and one `externalJoints`. What EGM has no field for goes through the numbers
that RAPID hands over (`RAPIDtoRobot`, `RAPIDfromRobot`); docs/drivers/abb.md has the RAPID side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

ROBOT_JOINTS = 6
"""As many axes travel in `joints`; a seventh travels in `externalJoints`."""
DRIFT = 2e-4
"""The controller's clock may run this share faster or slower than the machine's."""
MODE_SWITCH: tuple[None, Literal["automatic"], Literal["manual"]] = (None, "automatic", "manual")
"""What RAPID's number for the mode switch means: 0 (or left out) that it cannot tell, 1, 2."""
_WRAP = 1 << 32


class ToRobot(NamedTuple):
    """Numbers handed to RAPID with every setpoint."""

    grip_width: float
    """mm."""
    grip_force: float
    """N."""
    grip_count: int
    """Raised with each new grip."""
    recover_count: int
    """Raised when a person lets the session go on after a stop."""
    outputs: int
    """Bit n: the n-th output of the cell file."""


class FromRobot(NamedTuple):
    """Numbers RAPID hands over with every feedback."""

    grip_width: float
    """mm."""
    holding: bool
    inputs: int
    outputs: int
    emergency_stop: bool
    safeguard: bool
    enabling_device: bool
    mode_switch: Literal["automatic", "manual"] | None = None
    """Left out by a program that does not tell."""


def from_robot(numbers: Sequence[float]) -> FromRobot | None:
    """Read RAPID's numbers; None if there are too few, or one that is not finite or no bit field."""
    least = len(FromRobot._fields) - len(FromRobot._field_defaults)
    if len(numbers) < least or not math.isfinite(sum(numbers)):
        return None
    width, holding, inputs, outputs, emergency, safeguard, enabling = numbers[:least]
    if not (0.0 <= inputs < _WRAP and 0.0 <= outputs < _WRAP):
        return None
    switch = numbers[least] if len(numbers) > least else 0.0
    return FromRobot(
        width, holding != 0.0, int(inputs), int(outputs), emergency != 0.0, safeguard != 0.0, enabling != 0.0,
        MODE_SWITCH[int(switch)] if switch in (1.0, 2.0) else None,
    )  # fmt: skip


def to_robot(numbers: Sequence[float]) -> ToRobot | None:
    """The same for what the controller's end receives."""
    if len(numbers) < len(ToRobot._fields) or not math.isfinite(sum(numbers)):
        return None
    width, force, grips, recovers, outputs = numbers[: len(ToRobot._fields)]
    if min(width, force, grips, recovers, outputs) < 0.0 or max(grips, recovers, outputs) >= _WRAP:
        return None
    return ToRobot(width, force, int(grips), int(recovers), int(outputs))


def to_degrees(q: Sequence[float]) -> tuple[list[float], list[float]]:
    """Joint positions or speeds in rad as `joints` and `externalJoints` in degrees."""
    degrees = [math.degrees(v) for v in q]
    return degrees[:ROBOT_JOINTS], degrees[ROBOT_JOINTS:]


def to_radians(joints: Sequence[float], external: Sequence[float], dof: int) -> list[float] | None:
    """`joints` and `externalJoints` in degrees as joint positions in rad; None unless there are exactly `dof`."""
    if len(joints) != min(dof, ROBOT_JOINTS) or len(external) < dof - len(joints):
        return None
    return [math.radians(v) for v in [*joints, *external[: dof - len(joints)]]]


class ControllerClock:
    """Turns the controller's milliseconds into the machine's time.

    The fastest message so far is taken to have come at once; a message that was held up is then as old as it is. The
    constant part of the way (0.1 to 1 ms on a cable) is not seen; it belongs into the drive delay.
    """

    def __init__(self) -> None:
        self._offset = math.inf
        self._last: tuple[int, float] | None = None
        self._elapsed = 0.0

    def at(self, tm: int, now: float) -> float:
        """When the message stamped `tm` (ms, wraps after 49 days) was sent; it was read at `now`, s. Never after `now`.

        A stamp before the last one means a controller that started anew: its clock is learned from the beginning."""
        if self._last is None:
            step = 0.0
        else:
            ms = (tm - self._last[0]) % _WRAP
            if ms >= _WRAP // 2:
                self._offset, ms = math.inf, 0
            step = 1e-3 * ms
            # Both clocks may drift apart: without this a slow controller's messages would seem older for ever.
            self._offset += DRIFT * max(0.0, now - self._last[1])
        self._last = (tm, now)
        self._elapsed += step
        self._offset = min(self._offset, now - self._elapsed)
        return self._elapsed + self._offset
