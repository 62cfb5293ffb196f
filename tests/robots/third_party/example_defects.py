"""The example with one defect each, as drivers really have them: the conformance suite must find every one."""

from __future__ import annotations

from collections import deque

from example_arm import ExampleBench, ExampleDriver
from vendor_arm import VendorArm

from robots.contract import DriverState, Setpoint


class RunningOn(VendorArm):
    """Without targets it goes on at the speed it had."""

    def __init__(self, start: list[float]) -> None:
        super().__init__(start)
        self._cruise = [0.0] * len(start)

    def live(self, clock: float) -> None:
        dt = clock - self.clock
        super().live(clock)
        if any(self.speeds):
            self._cruise = list(self.speeds)
        elif not self.halted and clock - self._heard > self.WATCHDOG:
            self.speeds = self._cruise
            self.angles = [a + v * dt for a, v in zip(self.angles, self.speeds, strict=True)]


class Creeping(VendorArm):
    """Its second joint sinks while nothing moves it."""

    def live(self, clock: float) -> None:
        before = list(self.angles)
        super().live(clock)
        if self._target is not None and self._target == before:
            self._sunk = getattr(self, "_sunk", 0.0) + 1e-4
            self.angles[1] += min(self._sunk, 0.01)


class Lagging(VendorArm):
    """It follows 60 ms late and does not say so."""

    def write(self, target: list[float]) -> None:
        self._late: deque[list[float]] = getattr(self, "_late", deque())
        self._late.append(list(target))
        super().write(self._late.popleft() if len(self._late) > 15 else list(self.angles))


class NoWatchdog(ExampleDriver):
    pass


class Creeps(ExampleDriver):
    pass


class Lags(ExampleDriver):
    pass


class ForgivesItself(ExampleDriver):
    """Resets the arm's alarm as soon as it sees one."""

    def state(self, now: float) -> DriverState | None:
        if self.arm is not None:
            self.arm.alarm = ""
            self.arm.reset()
        return super().state(now)


class TakesAnything(ExampleDriver):
    """Hands over whatever it gets."""

    def send(self, setpoint: Setpoint) -> Setpoint:
        self._connected().write(setpoint.q)
        return setpoint


class NoWatchdogBench(ExampleBench):
    make, arm_type = NoWatchdog, RunningOn


class CreepsBench(ExampleBench):
    make, arm_type = Creeps, Creeping


class LagsBench(ExampleBench):
    make, arm_type = Lags, Lagging


class ForgivesItselfBench(ExampleBench):
    make = ForgivesItself


class TakesAnythingBench(ExampleBench):
    make = TakesAnything
