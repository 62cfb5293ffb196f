"""Recordings of librealsense (`.bag`, `.db3`) read, and `.db3` written."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception.cameras.colour import ColourMap, coloured
from perception.cameras.files import RecordingError, find_camera
from perception.cameras.realsense import (
    BASELINE,
    RANGE,
    SUBPIXEL,
    counter_of,
    depth_of,
    exposure_of,
    millimetres,
    newest,
)
from perception.cameras.realsense_link import (
    Stream,
    Wanted,
    close_sensors,
    colour_map,
    find,
    library,
    open_stream,
)
from perception.contract import CameraInfo, Frame, Intrinsics

AHEAD = 8
"""Frames read ahead; the library's thread waits while so many lie there, so that none is lost."""
PATIENCE = 5.0
"""A file whose next frame does not come for so long is broken, s."""


class _Raw(NamedTuple):
    """A frame as it was when the library showed it; its own memory is given back at once."""

    depth: bool
    seq: int
    hardware: float
    length: float
    pixels: NDArray[Any]


class RealsenseRecording:
    """One camera from a file of librealsense. Each frame comes exactly once, whatever the reader's speed."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError: no such file, none of librealsense's, no depth in it. CameraError: no library."""
        rs = library()
        self.path = path
        try:
            if path.stat().st_size == 0:
                raise RecordingError(f"{path}: empty file")
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror}; give an existing recording") from None
        try:
            self._context = rs.context()
            self._device = self._context.load_device(str(path))
            self._device.as_playback().set_real_time(False)
            self._depth = self._profile(rs.stream.depth, rs.format.z16)
            self._colour = self._profile(rs.stream.color, rs.format.rgb8)
            self.cameras = [self._info()]
        except RuntimeError as error:
            raise RecordingError(f"{path}: is no readable recording of librealsense ({str(error)[:120]})") from None
        self._stop = threading.Event()

    def _profile(self, stream: Any, kind: Any) -> tuple[Any, Any] | None:
        for sensor in self._device.query_sensors():
            for profile in sensor.get_stream_profiles():
                if profile.stream_type() == stream and profile.format() == kind:
                    return sensor, profile
        return None

    def _info(self) -> CameraInfo:
        if self._depth is None:
            raise RecordingError(f"{self.path}: has no depth in it")
        rs = library()
        sensor, profile = self._depth
        lens = profile.as_video_stream_profile().get_intrinsics()
        self._units = 0.001
        if sensor.supports(rs.option.depth_units):
            self._units = float(sensor.get_option(rs.option.depth_units))
        if not (math.isfinite(self._units) and 1e-6 < self._units < 0.1):
            raise RecordingError(f"{self.path}: depth units of {self._units} m")
        name = "RealSense"
        if self._device.supports(rs.camera_info.name):
            name = self._device.get_info(rs.camera_info.name)
        model = next((m for m in BASELINE if m in name), "D435")
        k = Intrinsics(lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy)
        if not (2 <= k.width <= 4096 and 2 <= k.height <= 4096 and lens.fx > 1.0):
            raise RecordingError(f"{self.path}: impossible figures of its lens")
        here = tuple(float(v) for v in np.eye(4).ravel())
        coefficient = SUBPIXEL / (lens.fx * BASELINE[model])
        near, far = RANGE[model]
        camera = self.path.stem
        return CameraInfo(camera, name, k, float(profile.fps()), here, coefficient, near, far, self._colour is not None)

    def frames(self, camera: str) -> Generator[Frame]:
        """Yield the frames, `exposure` on the camera's own clock; one iteration at a time. Raises RecordingError."""
        info = find_camera(self, camera)
        table = None if abs(self._units - 0.001) < 1e-7 else millimetres(self._units)
        mapping, shade = self._mapping(info.intrinsics), None
        for raw in self._play():
            if not raw.depth:
                shade = raw.pixels
                continue
            if raw.pixels.shape != (info.intrinsics.height, info.intrinsics.width):
                raise RecordingError(f"{self.path}: damaged: a frame of {raw.pixels.shape[::-1]} px")
            depth = depth_of(raw.pixels, table)
            colour = coloured(mapping, depth, shade) if mapping is not None and shade is not None else None
            yield Frame(info.name, raw.seq, raw.hardware, depth, colour, 0, raw.length, raw.hardware)

    def _mapping(self, k: Intrinsics) -> ColourMap | None:
        if self._colour is None or self._depth is None:
            return None
        return colour_map(self._depth[1], self._colour[1], k)

    def _play(self) -> Iterator[_Raw]:
        rs = library()
        ready: queue.Queue[_Raw] = queue.Queue(AHEAD)
        stop = self._stop = threading.Event()
        playback = self._device.as_playback()

        def take(frame: Any) -> None:
            depth = frame.profile.stream_type() == rs.stream.depth
            length, hardware = exposure_of(frame)
            raw = _Raw(depth, counter_of(frame), hardware, length, np.array(frame.get_data()))
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    ready.put(raw, timeout=0.05)
                    return

        sensors: list[Any] = []
        try:
            for found in (self._depth, self._colour):
                if found is not None:
                    found[0].open(found[1])
                    sensors.append(found[0])
            for sensor in sensors:
                sensor.start(take)
            yield from self._arrivals(ready, playback)
        except RuntimeError as error:
            raise RecordingError(f"{self.path}: {error}") from None
        finally:
            stop.set()
            close_sensors(sensors)

    def _arrivals(self, ready: queue.Queue[_Raw], playback: Any) -> Iterator[_Raw]:
        waited = 0.0
        while True:
            # Asked before the queue: whatever was shown before the end lies in the queue then.
            over = playback.current_status() == library().playback_status.stopped
            try:
                yield ready.get(timeout=0.02)
                waited = 0.0
            except queue.Empty:
                if over:
                    return
                waited += 0.02
                if waited > PATIENCE:
                    raise RecordingError(f"{self.path}: breaks off: no frame for {PATIENCE:g} s") from None

    def close(self) -> None:
        """End a running iteration; the file is given back with this object."""
        self._stop.set()


class Db3Recorder:
    """Lets librealsense write what one camera delivers."""

    def __init__(self, path: Path, wanted: Wanted, devices: Callable[[], Sequence[Any]]) -> None:
        """Open the camera and begin. Raises CameraError for the camera, RecordingError for the file."""
        device = find(devices(), wanted.serial)
        self.path = path
        path.unlink(missing_ok=True)
        try:
            self._recorder = library().recorder(str(path), device)
        except RuntimeError as error:
            raise RecordingError(f"{path}: cannot be recorded: {error}") from None
        self._stream: Stream | None = open_stream(self._recorder, wanted)

    def poll(self) -> int:
        """Return how many depth frames have come since; they are in the file."""
        count = 0
        while self._stream is not None and self._stream.depth.poll_for_frame():
            count += 1
        if self._stream is not None and self._stream.colour is not None:
            newest(self._stream.colour)
        return count

    def close(self) -> None:
        """End the recording; the file is complete then. Idempotent."""
        if self._stream is not None:
            close_sensors(self._stream.sensors)
            self._stream = None
            del self._recorder
