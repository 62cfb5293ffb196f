"""A recording as a camera: each frame exactly once, at real or lock-step time. Entry point `cell.cameras`."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from perception.cameras.files import Recording, RecordingError, find_camera, open_recording
from perception.config import Mount
from perception.contract import CameraError, CameraInfo, Frame
from robots.workcell import Strict


class RecordingOptions(Strict):
    """A camera's `options` of the cell file for the driver `recording`."""

    mount: Mount
    """Where the camera was."""
    file: str = Field(min_length=1)
    """.mcap, .bag or .db3; relative to the working directory."""
    camera: str = ""
    """Which one, if the recording has several."""
    latency: float = Field(0.030, ge=0.0, le=1.0)
    """Exposure to delivery, s."""


def _opened(name: str, options: dict[str, Any]) -> tuple[Recording, CameraInfo, CameraInfo, RecordingOptions]:
    """The recording, the camera as it is called there, and as it is called here. Raises CameraError."""
    given = {key: value for key, value in options.items() if key not in ("workcell", "robot", "seed")}
    try:
        o = RecordingOptions.model_validate(given)
        pose = o.mount.T_base_camera()
    except (ValidationError, ValueError) as error:
        raise CameraError(f"camera {name}: {error}") from error
    try:
        recording = open_recording(Path(o.file))
        found = find_camera(recording, o.camera)
    except RecordingError as error:
        raise CameraError(f"camera {name}: {error}") from error
    here = CameraInfo(
        name,
        found.model,
        found.intrinsics,
        found.rate,
        tuple(float(v) for v in pose.reshape(-1)),
        found.noise_coefficient,
        found.depth_min,
        found.depth_max,
        found.colour,
    )
    return recording, found, here, o


class RecordingCamera:
    """Implements `perception.contract.Camera`. The first frame counts as exposed when the camera is connected; the
    others follow at the distances of the recording. After the last one there is silence, which is a dead camera."""

    def __init__(self, name: str, options: dict[str, Any], ports: Any = None) -> None:
        """Raises CameraError: wrong option, no such file, another kind of file, no such camera in it."""
        self._recording, self._there, self.info, self.options = _opened(name, options)
        self._frames: Generator[Frame] | None = None
        self._next: Frame | None = None
        self._shift = 0.0
        self._last = -math.inf
        self.played = 0
        """Frames handed out."""
        self._broken = ""

    @staticmethod
    def describe(name: str, options: dict[str, Any]) -> CameraInfo:
        """What the camera is and where. Raises CameraError."""
        recording, _, here, _ = _opened(name, options)
        recording.close()
        return here

    def connect(self, now: float) -> None:
        """Begin to play. Idempotent. Raises CameraError for a recording without a frame."""
        if self._frames is not None:
            return
        self._frames = self._recording.frames(self._there.name)
        first = self._read()
        if first is None:
            nothing = f"{self._recording.path} has no frame of {self._there.name}"
            raise CameraError(f"camera {self.info.name}: {self._broken or nothing}")
        self._shift = now - first.exposure
        self._next = first

    def _read(self) -> Frame | None:
        """The next frame of the file; None at its end, and from a damage or an impossible time on."""
        assert self._frames is not None
        try:
            frame = next(self._frames, None)
        except RecordingError as error:
            self._broken = str(error)
            return None
        if frame is None:
            return None
        if not (math.isfinite(frame.exposure) and frame.exposure > self._last):
            self._broken = (
                f"{self._recording.path}: time runs backwards at frame {frame.seq}: "
                f"{frame.exposure:.4f} s after {self._last:.4f} s"
            )
            return None
        self._last = frame.exposure
        return frame

    def poll(self, now: float) -> Frame | None:
        """Return the newest frame that is due. Raises CameraError if not connected, or where the file is damaged."""
        if self._frames is None:
            raise CameraError(f"camera {self.info.name} is not connected")
        newest = None
        while self._next is not None and self._next.exposure + self._shift + self.options.latency <= now + 1e-9:
            newest, self._next = self._next, None
            self._next = self._read()
        if newest is None:
            if self._next is None and self._broken:
                raise CameraError(f"camera {self.info.name}: {self._broken}")
            return None
        self.played += 1
        return newest._replace(camera=self.info.name, exposure=newest.exposure + self._shift)

    def close(self) -> None:
        """Let the file go. Idempotent."""
        if self._frames is not None:
            self._frames.close()
        self._recording.close()
