"""Is a camera fit to be relied on? Anything odd is a reason, and any reason stops the robot."""

from __future__ import annotations

import math

import numpy as np

from perception.config import PerceptionConfig
from perception.contract import CameraHealth, CameraInfo, Frame


class CameraWatch:
    """Judges each frame of one camera and the silence between frames. One instance per camera, one thread."""

    def __init__(self, info: CameraInfo, config: PerceptionConfig) -> None:
        self._info = info
        self._config = config
        self._seq = -1
        self._exposure = -math.inf
        self._picture: bytes | None = None
        self._same = 0
        self._reason = "no frame yet"
        self._valid = 0.0
        self._dropped = 0

    def admit(self, frame: Frame, now: float) -> bool:
        """Return True if the frame may be used: new, in order, of the right size, sane, and not a frozen picture."""
        info = self._info.intrinsics
        if frame.depth.shape != (info.height, info.width) or frame.depth.dtype != np.uint16:
            return self._refuse(f"wrong picture size {frame.depth.shape}, expected {(info.height, info.width)}")
        if not math.isfinite(frame.exposure) or frame.exposure > now + 0.001:
            return self._refuse("exposure time lies in the future or is not a number")
        if frame.seq <= self._seq or frame.exposure <= self._exposure:
            # A repeated or late frame brings nothing new: it is ignored, and the silence counts on.
            return False
        if self._seq >= 0:
            self._dropped += frame.seq - self._seq - 1
        self._seq, self._exposure = frame.seq, frame.exposure
        return self._content(frame)

    def _content(self, frame: Frame) -> bool:
        picture = frame.depth.tobytes()
        self._same = self._same + 1 if picture == self._picture else 0
        self._picture = picture
        if self._same >= 1:
            # Real depth noise never repeats a picture to the bit.
            return self._refuse("frozen: the same picture came twice")
        valid = int(np.count_nonzero(frame.depth))
        self._valid = valid / frame.depth.size
        if self._valid < self._config.least_valid:
            return self._refuse(f"invalid: only {self._valid:.0%} of the pixels are valid")
        near = np.count_nonzero(frame.depth < self._config.covered_nearer * 1000.0) - (frame.depth.size - valid)
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
        reason = self._reason
        if age > self._config.dead_after:
            reason = "dead: no usable frame" if math.isfinite(age) else "no frame yet"
        elif not reason and age > self._config.late_after:
            reason = "late"
        exposure = self._exposure if math.isfinite(self._exposure) else -1.0
        return CameraHealth(self._info.name, not reason, reason, exposure, self._valid, self._dropped)
