"""What every driver refuses before it sends anything; the robot node never asks for it, so it names a defect."""

from __future__ import annotations

import math

from robots.contract import DriverError, DriverInfo, Setpoint

_DEFECT = "Report this defect"


def check_setpoint(setpoint: Setpoint, info: DriverInfo) -> None:
    """Raise DriverError (`setpoint_invalid`) for one that is not finite or of another length."""
    if len(setpoint.q) != info.dof or len(setpoint.dq) != info.dof:
        raise DriverError("setpoint_invalid", f"setpoint has not {info.dof} joints", _DEFECT)
    if not math.isfinite(sum(setpoint.q) + sum(setpoint.dq) + setpoint.t):
        raise DriverError("setpoint_invalid", "setpoint is not finite", _DEFECT)


def check_grip(width: float, force: float) -> None:
    """Raise DriverError (`grip_invalid`) unless both are finite and not negative."""
    if not (math.isfinite(width) and math.isfinite(force) and width >= 0.0 and force >= 0.0):
        raise DriverError("grip_invalid", f"grip width {width} m, force {force} N", _DEFECT)


def check_output(name: str, info: DriverInfo) -> None:
    """Raise DriverError (`no_such_output`) for an output the driver does not have."""
    if name not in info.outputs:
        has = ", ".join(info.outputs) or "none"
        raise DriverError("no_such_output", f"{info.name} has no output {name}", f"It has: {has}")
