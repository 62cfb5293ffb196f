"""What a vendor would deliver: the client of an arm, here with the arm in it. It knows nothing of the cell."""

from __future__ import annotations


class VendorArm:
    """Takes joint targets over a cable, answers with counted readings; stops by itself when nothing comes."""

    WATCHDOG = 0.04

    def __init__(self, start: list[float]) -> None:
        self.angles = list(start)
        self.speeds = [0.0] * len(start)
        self.alarm = ""
        self.connected = False
        self.halted = False
        self.cable = True
        self.count = 0
        self.clock = 0.0
        self.lamp = False
        self._target: list[float] | None = None
        self._heard = -1e9

    def write(self, target: list[float]) -> None:
        if self.cable:
            self._target, self._heard = list(target), self.clock

    def halt(self) -> None:
        self.halted = True

    def reset(self) -> None:
        if not self.alarm:
            self.halted, self._target = False, None

    def live(self, clock: float) -> None:
        """The arm's own time passes."""
        dt, self.clock = clock - self.clock, clock
        self.count += 1
        standing = self.halted or self.alarm or self._target is None or clock - self._heard > self.WATCHDOG
        before = self.angles
        if not standing and self._target is not None:
            self.angles = list(self._target)
        self.speeds = [(a - b) / dt if dt > 0.0 else 0.0 for a, b in zip(self.angles, before, strict=True)]
