"""The connection to one Intel RealSense: found by its serial number, set up, checked, watched, and found again.

Sensors are opened directly and deliver into queues that are only ever asked, so no call of the library waits for a
frame: neither the 15 s of a pipeline without a camera nor a wait that hangs after the plug was pulled can occur.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception.cameras.colour import MARGIN, STEP, ColourMap, straight_grid
from perception.contract import CameraError, Intrinsics

LOOK_EVERY = 1.0
"""Between two attempts to find the camera, s."""
CHECK_EVERY = 0.5
"""Between two looks whether it is still plugged in, s."""
SILENCE = 1.0
"""A camera that gives nothing for so long is opened anew, s."""
QUEUE = 2
SYNC = {"none": 0.0, "master": 1.0, "slave": 2.0}
"""Values of the option `inter_cam_sync_mode`."""


def library() -> Any:
    """Import pyrealsense2. Raises CameraError saying what to install."""
    try:
        import pyrealsense2
    except ImportError as error:
        raise CameraError(
            f"RealSense cameras need pyrealsense2 ({error}): run `pip install collabcell[realsense]`, and "
            "`apt-get install libusb-1.0-0`"
        ) from error
    return pyrealsense2


class Wanted(NamedTuple):
    """How the camera is to be set."""

    serial: str
    model: str
    """Part of the device's name, such as D455."""
    depth: Intrinsics
    rate: int
    colour: bool
    options: dict[str, float]
    """Name of the library's option -> value; what the camera does not have is an error."""


class Stream(NamedTuple):
    """An open camera."""

    device: Any
    sensors: list[Any]
    depth: Any
    """Queue of depth frames."""
    colour: Any
    """Queue of colour frames, or None."""
    mapping: ColourMap | None
    units: float
    """m for one step of the raw depth."""


def connected() -> Callable[[], Sequence[Any]]:
    """Return a function that lists the devices plugged in at the moment. The library looks at the bus when it is called
    first, which takes longer than a camera's node may wait."""
    context: list[Any] = []

    def devices() -> Sequence[Any]:
        if not context:
            context.append(library().context())
        return list(context[0].query_devices())

    return devices


def find(devices: Sequence[Any], serial: str) -> Any:
    """Return the device with this serial number. Raises CameraError: none, or two."""
    rs = library()
    known = [d.get_info(rs.camera_info.serial_number) for d in devices if d.supports(rs.camera_info.serial_number)]
    here = [
        d
        for d in devices
        if d.supports(rs.camera_info.serial_number) and d.get_info(rs.camera_info.serial_number) == serial
    ]
    if len(here) > 1:
        raise CameraError(f"two devices say they have the serial number {serial}: unplug one")
    if not here:
        raise CameraError(f"no RealSense with the serial number {serial}; plugged in: {', '.join(known) or 'none'}")
    return here[0]


def open_stream(device: Any, wanted: Wanted) -> Stream:
    """Set the device up and start it. Raises CameraError saying what it lacks; nothing stays open then."""
    rs = library()
    name = device.get_info(rs.camera_info.name) if device.supports(rs.camera_info.name) else "?"
    if wanted.model not in name:
        raise CameraError(f"{wanted.serial} is a {name}, the cell file says {wanted.model}")
    opened: list[Any] = []
    try:
        sensor, profile = _profile(device, rs.stream.depth, rs.format.z16, wanted)
        check_intrinsics(profile.as_video_stream_profile().get_intrinsics(), wanted)
        units = _set(sensor, wanted)
        queue = rs.frame_queue(QUEUE)
        colour, mapping, second = None, None, None
        if wanted.colour:
            second, shade = _profile(device, rs.stream.color, rs.format.rgb8, wanted)
            mapping = colour_map(profile, shade, wanted.depth)
            colour = rs.frame_queue(QUEUE)
        _start(sensor, profile, queue, opened)
        if second is not None:
            _start(second, shade, colour, opened)
    except RuntimeError as error:
        close_sensors(opened)
        raise CameraError(f"{name} {wanted.serial}: {error}") from error
    except CameraError:
        close_sensors(opened)
        raise
    return Stream(device, opened, queue, colour, mapping, units)


def _start(sensor: Any, profile: Any, queue: Any, opened: list[Any]) -> None:
    sensor.open(profile)
    opened.append(sensor)
    sensor.start(queue)


def close_sensors(sensors: Sequence[Any]) -> None:
    """Stop and close; a device that is gone objects, and that is no matter."""
    for sensor in sensors:
        for end in (sensor.stop, sensor.close):
            try:
                end()
            except RuntimeError:
                continue


def _profile(device: Any, stream: Any, kind: Any, wanted: Wanted) -> tuple[Any, Any]:
    """The sensor and its profile of the wanted stream. Raises CameraError listing the rates there are."""
    rs, k = library(), wanted.depth
    others = set()
    for sensor in device.query_sensors():
        for profile in sensor.get_stream_profiles():
            if profile.stream_type() != stream or not profile.is_video_stream_profile():
                continue
            video = profile.as_video_stream_profile()
            if profile.format() != kind:
                continue
            if (video.width(), video.height(), profile.fps()) == (k.width, k.height, wanted.rate):
                return sensor, profile
            others.add((video.width(), video.height(), profile.fps()))
    usb = rs.camera_info.usb_type_descriptor
    cable = f" on USB {device.get_info(usb)}" if device.supports(usb) else ""
    known = ", ".join(f"{w}x{h}@{f}" for w, h, f in sorted(others)) or "none"
    raise CameraError(
        f"{wanted.serial} has no {stream.name} of {k.width}x{k.height}@{wanted.rate}{cable}; it has {known}"
    )


def check_intrinsics(found: Any, wanted: Wanted) -> None:
    """Raises CameraError if the lens is not the one that the cell file, which is signed, describes."""
    k = wanted.depth
    if max((abs(c) for c in found.coeffs), default=0.0) > 1e-6:
        raise CameraError(f"{wanted.serial}: its depth is not rectified (distortion {list(found.coeffs)})")
    pairs = {"fx": (found.fx, k.fx), "fy": (found.fy, k.fy), "cx": (found.ppx, k.cx), "cy": (found.ppy, k.cy)}
    # A pixel at the edge of the picture may be off by half a pixel.
    wrong = [f"{n} {a:.3f} instead of {b:.3f}" for n, (a, b) in pairs.items() if not abs(a - b) <= 0.5]
    if wrong:
        raise CameraError(
            f"{wanted.serial}: the camera says {', '.join(wrong)}: put its figures into the cell file "
            f"(`cell camera info {wanted.serial}` prints them)"
        )


def _set(sensor: Any, wanted: Wanted) -> float:
    """Set all options and read them back; return the depth units, m."""
    rs = library()
    for name, value in wanted.options.items():
        option = getattr(rs.option, name)
        if not sensor.supports(option):
            raise CameraError(f"{wanted.serial} has no option {name}: leave it out of the cell file")
        span = sensor.get_option_range(option)
        if not span.min <= value <= span.max:
            raise CameraError(f"{wanted.serial}: {name} is {value:g}, possible are {span.min:g} to {span.max:g}")
        sensor.set_option(option, value)
        taken = sensor.get_option(option)
        if not abs(taken - value) <= max(0.51 * span.step, 1e-6):
            raise CameraError(f"{wanted.serial}: {name} was set to {value:g}, the camera keeps {taken:g}")
    # The library's conversion to its host's wall clock would jump whenever that is set.
    if sensor.supports(rs.option.global_time_enabled):
        sensor.set_option(rs.option.global_time_enabled, 0.0)
    units = sensor.get_option(rs.option.depth_units) if sensor.supports(rs.option.depth_units) else 0.001
    if not (math.isfinite(units) and 1e-6 < units < 0.1):
        raise CameraError(f"{wanted.serial}: depth units of {units} m")
    return float(units)


def colour_map(depth: Any, colour: Any, k: Intrinsics) -> ColourMap:
    """Return how the colour of depth pixels is found, from the library's profiles of both streams."""
    rs = library()
    lens = colour.as_video_stream_profile().get_intrinsics()
    turn = depth.get_extrinsics_to(colour)
    straight = Intrinsics(lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy)
    grid = straight_grid(straight)
    for r in range(grid.shape[0]):
        for c in range(grid.shape[1]):
            x, y = ((c - MARGIN) * STEP - lens.ppx) / lens.fx, ((r - MARGIN) * STEP - lens.ppy) / lens.fy
            grid[r, c] = rs.rs2_project_point_to_pixel(lens, [x, y, 1.0])
    # The library keeps matrices by columns.
    rotation: NDArray[np.float64] = np.array(turn.rotation, float).reshape(3, 3).T
    return ColourMap(k, np.ascontiguousarray(rotation), np.array(turn.translation, float), straight, grid)


class Link:
    """Keeps one camera open: `step` from any one thread, `stream` read by another.

    A camera that is not there, is unplugged or falls silent is looked for again; `trouble` says why there is none.
    """

    def __init__(self, wanted: Wanted, devices: Callable[[], Sequence[Any]]) -> None:
        self._wanted = wanted
        self._devices = devices
        self.stream: Stream | None = None
        self.opened_at = -math.inf
        self.trouble = f"looking for the RealSense {wanted.serial}"
        self.heard = -math.inf
        """When the reader saw the last frame, s; it writes this."""
        self._next = -math.inf

    def step(self, now: float) -> None:
        """Look after the connection."""
        if now < self._next:
            return
        if self.stream is not None:
            self._next = now + CHECK_EVERY
            reason = self._lost(self.stream, now)
            if reason:
                self._drop(reason)
                self._next = now
            return
        self._next = now + LOOK_EVERY
        try:
            stream = open_stream(find(self._devices(), self._wanted.serial), self._wanted)
        except CameraError as error:
            self.trouble = str(error)
        except RuntimeError as error:
            self.trouble = f"RealSense {self._wanted.serial}: {error}"
        else:
            self.opened_at, self.trouble = now, ""
            self.stream = stream

    def _lost(self, stream: Stream, now: float) -> str:
        try:
            there = stream.device.is_connected()
        except RuntimeError:
            there = False
        if not there:
            return f"RealSense {self._wanted.serial} was unplugged: plug it in again"
        if now - max(self.heard, self.opened_at) > SILENCE:
            return f"RealSense {self._wanted.serial} gives no frames: check cable and power; it is opened anew"
        return ""

    def _drop(self, reason: str) -> None:
        stream, self.stream, self.trouble = self.stream, None, reason
        if stream is not None:
            close_sensors(stream.sensors)

    def give_up(self, reason: str) -> None:
        """Close the camera for this reason; `step` looks for it again."""
        self._drop(reason)

    def close(self) -> None:
        """Close the camera."""
        self._drop("closed")
