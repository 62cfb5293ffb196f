"""Manual work on an arm: the vendor's mode switch and three-position enabling device permit it, no software does.

Pure. The node refuses manual mode and jogging by these answers, and stops manual motion the moment one of them changes.
"""

from __future__ import annotations

from typing import Literal

from robots.contract import DriverInfo, DriverState, RobotState

NO_DEVICES = "this driver reads neither a mode switch nor an enabling device: no manual work on this arm"
TURN_MANUAL = "turn the mode switch of the arm to manual"
TURN_AUTOMATIC = "the mode switch of the arm says manual: turn it to automatic"
NO_SWITCH = "the arm does not tell where its mode switch stands"
HOLD_DEVICE = "hold the enabling device in its middle position"


def switch_missing(info: DriverInfo, state: DriverState | None) -> str:
    """What the mode switch lacks for manual mode; empty: nothing.

    An arm that cannot be told to be in manual mode is worked on by nobody. A simulated one needs no switch, but obeys
    the one it has."""
    if not info.manual_devices:
        return "" if info.simulated else NO_DEVICES
    position = state.mode_switch if state is not None else None
    if position == "manual":
        return ""
    if position is None:
        return "" if info.simulated else NO_SWITCH
    return TURN_MANUAL


def mode_refusal(mode: Literal["automatic", "manual"], state: RobotState | None) -> str:
    """Why the robot node will not take a mode, from what it publishes; empty: it will, as far as the devices go."""
    if state is None:
        return ""
    if mode == "automatic":
        return TURN_AUTOMATIC if state.mode_switch == "manual" else ""
    return "" if state.manual_missing == HOLD_DEVICE else state.manual_missing


def manual_missing(info: DriverInfo, state: DriverState | None, demanded: bool) -> str:
    """What is missing for the arm to be moved by hand; empty: nothing.

    `demanded`: the cell file asks for the enabling device, which only a simulated arm may do without."""
    missing = switch_missing(info, state)
    if missing:
        return missing
    if not demanded and info.simulated:
        return ""
    return "" if state is not None and state.enabling_device else HOLD_DEVICE


def automatic_missing(info: DriverInfo, state: DriverState | None) -> str:
    """What forbids automatic motion; empty: nothing."""
    if info.manual_devices and state is not None and state.mode_switch == "manual":
        return TURN_AUTOMATIC
    return ""
