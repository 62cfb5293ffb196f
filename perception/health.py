"""Is a camera fit to be relied on? Anything odd is a reason, and any reason stops the robot."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from perception import kernels
from perception.config import PerceptionConfig
from perception.contract import CameraHealth, CameraInfo, Frame


class CameraWatch:
    """Judges each frame of one camera and the silence between frames. One instance per camera, one thread."""

    def __init__(self, info: CameraInfo, config: PerceptionConfig) -> None:
        self._info = info
        self._config = config
        self._boot = -1
        self._seq = -1
        self._exposure = -math.inf
        self._picture: NDArray[np.uint16] | None = None
        self._reason = "no frame yet"
        self.moved = ""
        """Why the camera is taken to have been moved; set by whoever compares its pictures with the fixed scene."""
        self._valid = 0.0
        self._dropped = 0

    def admit(self, frame: Frame, now: float) -> bool:
        """Return True if the frame may be used: new, in order, of the right size, sane, and not a frozen picture."""
        info = self._info.intrinsics
        if frame.depth.shape != (info.height, info.width) or frame.depth.dtype != np.uint16:
            return self._refuse(f"wrong picture size {frame.depth.shape}, expected {(info.height, info.width)}")
        if not math.isfinite(frame.exposure) or frame.exposure > now + 0.001:
            return self._refuse("exposure time lies in the future or is not a number")
        known = (frame.boot, frame.seq) <= (self._boot, self._seq) or frame.seq < 0
        if known or frame.exposure <= self._exposure:
            # A repeated or late frame brings nothing new: it is ignored, and the silence counts on.
            return False
        if frame.boot == self._boot:
            self._dropped += frame.seq - self._seq - 1
        self._boot, self._seq, self._exposure = frame.boot, frame.seq, frame.exposure
        return self._content(frame)

    def _content(self, frame: Frame) -> bool:
        if self._picture is None:
            # No camera delivers this value: the first picture differs from it.
            self._picture = np.full(frame.depth.shape, 65535, np.uint16)
        same, valid, near, saturated = kernels.compare(frame.depth, self._picture, self._config.covered_nearer * 1000.0)
        self._picture[:] = frame.depth
        if same:
            # Real depth noise never repeats a picture to the bit.
            return self._refuse("frozen: the same picture came twice")
        if saturated:
            # Taken for depth it would be the farthest there is, and all before it free.
            return self._refuse(f"saturated: {saturated} pixels at the largest value, where unknown is 0")
        self._valid = valid / frame.depth.size
        if self._valid < self._config.least_valid:
            return self._refuse(f"invalid: only {self._valid:.0%} of the pixels are valid")
        if near > 0.5 * valid:
            return self._refuse("covered: most of the picture is right in front of the lens")
        self._reason = ""
        return True

    def _refuse(self, reason: str) -> bool:
        self._reason = reason
        return False

    def health(self, now: float) -> CameraHealth:
        """Return the verdict at `now`."""
        age = now - self._exposure
        reason = self._reason or self.moved
        if age > self._config.dead_after:
            reason = "dead: no usable frame" if math.isfinite(age) else "no frame yet"
        elif not reason and age > self._config.late_after:
            reason = "late"
        exposure = self._exposure if math.isfinite(self._exposure) else -1.0
        return CameraHealth(self._info.name, not reason, reason, exposure, self._valid, self._dropped)
