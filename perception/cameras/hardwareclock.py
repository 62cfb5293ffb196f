"""From a camera's own clock to the clock of the cell, without ever making a picture newer than it is by more than the
configuration says. Pure."""

from __future__ import annotations

import math

WRAP = 2.0**32 * 1e-6
"""Clocks of cameras count microseconds in 32 bits: they begin again after 71.6 minutes, s."""
WINDOW = 10.0
"""The shortest delay of the last 5 to 10 s counts, s; crystals drift 0.5 ms in it at 50 ppm."""
SETTLE = 10
"""Frames after a start that are not used: their shortest delay is not known yet."""
JUMP = 1.0
"""From one frame to the next camera and cell may differ by so much; beyond it the clock counts as another one, s."""


class HardwareClock:
    """Follows one camera's clock. Not thread safe.

    A frame arrives some delay after its exposure; the delay varies, but is now and then nearly the shortest possible.
    So the smallest difference of arrival and hardware time seen lately is the difference of the clocks plus that
    shortest delay (the usual minimum filter). `latency`, what the shortest delay is at most, is taken off: if it is
    given too large, pictures count as older than they are.
    """

    def __init__(self, latency: float) -> None:
        """`latency`: upper bound of the shortest time from the middle of exposure to arrival, s."""
        self._latency = latency
        self._turns = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget all: another camera, or one that was plugged in again."""
        self._last = self._last_arrival = -math.inf
        self._turns = 0.0
        self._this = self._before = math.inf
        self._since = -math.inf
        self._seen = 0

    def place(self, hardware: float, arrival: float) -> float | None:
        """Return the exposure on the cell's clock, s; None if it is not known (yet) or the frame is no new one.

        `hardware`: middle of exposure on the camera's clock, s. `arrival`: when the frame was found, s."""
        if not (math.isfinite(hardware) and math.isfinite(arrival)):
            return None
        at = hardware + self._turns
        if self._last - at > 0.5 * WRAP:
            self._turns += WRAP
            at += WRAP
        if self._seen:
            if at == self._last:
                return None
            if abs((at - self._last) - (arrival - self._last_arrival)) > JUMP:
                self.reset()
                at = hardware
            elif at < self._last:
                return None
        self._last, self._last_arrival = at, arrival
        self._seen += 1
        if arrival - self._since > 0.5 * WINDOW:
            self._since, self._before, self._this = arrival, self._this, math.inf
        self._this = min(self._this, arrival - at)
        if self._seen <= SETTLE:
            return None
        return at + min(self._this, self._before) - self._latency
