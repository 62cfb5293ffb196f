"""An arm of one make with a gripper of another: to the robot node one driver like any other.

Most arms come without a gripper, and most grippers have a controller of their own. What the arm's driver says of itself
stays as it is; only the fingers are somebody else's.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from robots.contract import Driver, DriverError, DriverState, GripperDriver, GripperState, Setpoint

LOST_AFTER = 0.5
"""A gripper whose newest state is older than this is lost, s: it holds by itself, so the arm is not stopped at once."""
AHEAD = 0.05
"""A state stamped farther in the future is none of now, s; it would count as fresh for ever."""


class ArmWithGripper:
    """Implements `robots.contract.Driver` with the arm of `arm` and the fingers of `gripper`."""

    def __init__(self, arm: Driver, gripper: GripperDriver) -> None:
        self.arm = arm
        self.gripper = gripper
        self.info = msgspec.structs.replace(arm.info, gripper=True)
        self._fingers: GripperState | None = None

    def connect(self, now: float) -> None:
        """Connect both; raise DriverError with what is missing of either."""
        parts: list[DriverError] = []
        for device in (self.arm, self.gripper):
            try:
                device.connect(now)
            except DriverError as error:
                parts.append(error)
        if len(parts) == 1:
            raise parts[0]
        if parts:
            raise DriverError("unreached", "arm and gripper are not reached", "Mend both", parts)

    def state(self, now: float) -> DriverState | None:
        """The arm's newest measurement with the fingers in it; None until both have been heard."""
        state = self.arm.state(now)
        fingers = self.gripper.state(now)
        if fingers is not None:
            self._fingers = fingers
        if state is None or self._fingers is None:
            return None
        f = self._fingers
        # Written so that a time that is no number counts as lost.
        fresh = -AHEAD <= now - f.t <= LOST_AFTER
        lost = (
            "" if fresh else f"gripper {self.gripper.name}: silent for more than {LOST_AFTER} s, or its time is wrong"
        )
        told = f"gripper {self.gripper.name}: {f.fault}" if f.fault else ""
        width = f.width if math.isfinite(f.width) else math.nan
        return msgspec.structs.replace(
            state, gripper_width=width, gripper_holding=f.holding, fault=state.fault or told or lost
        )

    @property
    def account(self) -> dict[str, float]:
        """What the arm's driver has counted."""
        counted: dict[str, float] = getattr(self.arm, "account", {})
        return counted

    def send(self, setpoint: Setpoint) -> Setpoint:
        return self.arm.send(setpoint)

    def grip(self, width: float, force: float) -> None:
        self.gripper.grip(width, force)

    def set_output(self, name: str, value: bool) -> None:
        self.arm.set_output(name, value)

    def stop(self, category: Literal[0, 1], now: float) -> None:
        """Stop the arm. The fingers stay as they are: a stop must not drop what they hold."""
        self.arm.stop(category, now)

    def recover(self, person: str, now: float) -> None:
        """Recover the gripper, then the arm, so that the arm stands if the gripper cannot."""
        self.gripper.recover(person, now)
        self.arm.recover(person, now)

    def close(self) -> None:
        try:
            self.arm.close()
        finally:
            self.gripper.close()
