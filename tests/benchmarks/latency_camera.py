"""A camera whose pictures are there beforehand, at the times a real one would deliver them: for `bench_latency`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from perception.config import Mount
from perception.contract import CameraInfo, Frame, Intrinsics


class ReadyCamera:
    """Implements `perception.contract.Camera`. Options: `frames` (an .npy file of (n, h, w) uint16, mm), `rate_hz`,
    `latency` and `phase` (s), `fx`, `noise`."""

    def __init__(self, name: str, options: dict[str, Any], ports: Any = None) -> None:
        self.info = self.describe(name, options)
        self._frames = np.load(options["frames"])
        self._latency, self._phase = float(options["latency"]), float(options["phase"])
        self._start, self._last = math.nan, -1

    @staticmethod
    def describe(name: str, options: dict[str, Any]) -> CameraInfo:
        """What the camera is and where."""
        _, height, width = np.load(options["frames"], mmap_mode="r").shape
        mount = Mount.model_validate(options["mount"])
        k = Intrinsics(width, height, options["fx"], options["fx"], (width - 1) / 2, (height - 1) / 2)
        T = tuple(float(v) for v in mount.T_base_camera().ravel())
        return CameraInfo(name, "ready", k, float(options["rate_hz"]), T, float(options["noise"]), 0.2, 8.0)

    def connect(self, now: float) -> None:
        """Exposures lie on multiples of the frame time of the shared clock, apart from the phase."""
        period = 1.0 / self.info.rate
        self._start = math.ceil(now / period) * period + self._phase

    def poll(self, now: float) -> Frame | None:
        """The newest picture complete by now."""
        number = math.floor((now - self._start - self._latency) * self.info.rate)
        if number <= self._last:
            return None
        self._last = number
        picture = self._frames[number % len(self._frames)]
        return Frame(self.info.name, number + 1, self._start + number / self.info.rate, picture)

    def close(self) -> None:
        """Nothing is held."""
