"""What the robot node reports of the arm's own devices, as the page shows it. Pure; nothing is guessed."""

from __future__ import annotations

from typing import Literal

from robots.contract import RobotState
from robots.faults import KINDS
from robots.manual import HOLD_DEVICE, NO_DEVICES

Drives = Literal["on", "stopped", "not_told"]
Enabling = Literal["held", "released", "button", "not_needed", "none", "not_told"]


def drives(robot: RobotState) -> Drives:
    """Whether the drives' own stop was called. The node names its first fault only: a milder one may hide another."""
    if not robot.fault:
        return "on"
    kind = KINDS.get(robot.fault)
    return "stopped" if kind is not None and kind.vendor_stop else "not_told"


def enabling(robot: RobotState, simulated: bool, demanded: bool) -> Enabling:
    """The three-position enabling device, from what the node says is missing for work by hand.

    The node asks for the mode switch first: until that says manual, the device's position is not told.
    `demanded`: the cell file asks for the device, which only a simulated arm may do without.
    """
    missing = robot.manual_missing
    if missing == HOLD_DEVICE:
        return "button" if simulated else "released"
    if missing:
        return "none" if missing == NO_DEVICES else "not_told"
    return "not_needed" if simulated and not demanded else "held"


def devices(robot: RobotState, simulated: bool, demanded: bool) -> dict[str, str]:
    """Drives and enabling device; the rest is in the state itself."""
    return {"drives": drives(robot), "enabling": enabling(robot, simulated, demanded)}
