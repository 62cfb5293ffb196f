"""A driver from outside the project: everything a driver needs, for an arm that takes joint targets."""

from __future__ import annotations

from typing import Any, Literal

from vendor_arm import VendorArm

from robots.contract import DriverError, DriverInfo, DriverState, Setpoint
from robots.drivers.checks import check_grip, check_output, check_setpoint
from robots.model import RobotModel


class ExampleDriver:
    """Implements `robots.contract.Driver`. Options: `address` of the arm."""

    def __init__(self, options: dict[str, Any], dof: int, ports: Any) -> None:
        unknown = set(options) - {"address"}
        if unknown:
            raise DriverError("options", f"unknown options {sorted(unknown)}", "Use only `address`")
        # drive_delay: a target is taken up at the arm's next cycle, 4 ms; watchdog: from the vendor's manual.
        self.info = DriverInfo("example", dof, 0.004, 0.008, VendorArm.WATCHDOG, False, outputs=("lamp",))
        self.arm: VendorArm | None = None
        self._newest: DriverState | None = None

    def _connected(self) -> VendorArm:
        if self.arm is None:
            raise DriverError("not_connected", "no arm is connected", "Switch the arm on")
        return self.arm

    def connect(self, now: float) -> None:
        self._connected().connected = True

    def state(self, now: float) -> DriverState | None:
        arm = self._connected()
        if not arm.connected or not arm.cable:
            return self._newest  # the robot node sees how old it is
        if self._newest is None or self._newest.seq != arm.count:
            self._newest = DriverState(
                seq=arm.count, t=arm.clock, q=list(arm.angles), dq=list(arm.speeds), tau=[0.0] * len(arm.angles),
                gripper_width=0.0, gripper_holding=False, inputs={}, outputs={"lamp": arm.lamp},
                emergency_stop=False, safeguard=False, fault=arm.alarm,
            )  # fmt: skip
        return self._newest

    def send(self, setpoint: Setpoint) -> Setpoint:
        check_setpoint(setpoint, self.info)
        self._connected().write(setpoint.q)
        return setpoint

    def grip(self, width: float, force: float) -> None:
        check_grip(width, force)
        raise DriverError("no_gripper", "this arm has no gripper", "Take the grip out of the recipe")

    def set_output(self, name: str, value: bool) -> None:
        check_output(name, self.info)
        self._connected().lamp = value

    def stop(self, category: Literal[0, 1], now: float) -> None:
        self._connected().halt()

    def recover(self, person: str, now: float) -> None:
        self._connected().reset()

    def close(self) -> None:
        if self.arm is not None:
            self.arm.connected = False


class ExampleBench:
    """Implements `robots.conformance.surroundings.Surroundings`: the arm, and hands that pull its cable."""

    real_time = False
    make: type[ExampleDriver] = ExampleDriver
    arm_type: type[VendorArm] = VendorArm

    def __init__(self, hub: Any, options: dict[str, Any]) -> None:
        self.model = "ur5e"
        self._options = options
        self.arm = self.arm_type(RobotModel.load(self.model).home.tolist())

    def driver(self, ports: Any) -> ExampleDriver:
        driver = self.make(self._options, RobotModel.load(self.model).dof, ports)
        driver.arm = self.arm
        return driver

    def step(self, now: float) -> None:
        self.arm.live(now)

    def cut(self) -> None:
        self.arm.cable = False

    def join(self) -> None:
        self.arm.cable = True

    def raise_fault(self) -> str:
        self.arm.alarm = "motor 3 too hot"
        return "driver_fault"

    def lift_fault(self) -> None:
        self.arm.alarm = ""

    def close(self) -> None:
        """Nothing to end."""
