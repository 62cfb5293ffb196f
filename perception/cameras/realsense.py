"""Intel RealSense D400 depth cameras. Entry point `cell.cameras`; needs the extra `realsense`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cell.clock import Clock, RealClock
from perception.cameras.colour import coloured
from perception.cameras.hardwareclock import HardwareClock
from perception.cameras.realsense_link import SYNC, Link, Stream, Wanted, connected, library
from perception.config import Mount
from perception.contract import CameraError, CameraInfo, Frame, Intrinsics
from perception.depthfile import check_intrinsics
from robots.workcell import Strict

SUBPIXEL = 0.08
"""Noise of disparity, px; see docs/perception/cameras.md."""
BASELINE = {"D405": 0.018, "D415": 0.055, "D435": 0.050, "D455": 0.095, "D456": 0.095}
"""Between the two imagers, m (data sheet)."""
RANGE = {"D405": (0.07, 1.0), "D415": (0.3, 10.0), "D435": (0.2, 10.0), "D455": (0.35, 10.0), "D456": (0.35, 10.0)}
"""Nearest and farthest depth that is delivered, m."""
SATURATED = 65535
TURN = 0.1
"""Between two steps of the thread that looks after the plug, s."""
LATEST_EXPOSURE = 0.2
"""A camera cannot say that it exposed earlier than this before its time stamp, s."""


class RealsenseOptions(Strict):
    """A camera's `options` of the cell file for the driver `realsense`."""

    mount: Mount
    serial: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[0-9A-Za-z]+$")]
    model: Literal["D405", "D415", "D435", "D455", "D456"]
    width: int = Field(848, ge=424, le=1280)
    height: int = Field(480, ge=240, le=800)
    rate_hz: Literal[15, 30, 60, 90] = 30
    fx: float
    """Figures of the lens at this size, px: `cell camera info SERIAL`. The camera is refused if it says others."""
    fy: float
    cx: float
    cy: float
    colour: bool = False
    emitter: bool = True
    laser_power: float | None = Field(None, ge=0.0, le=360.0)
    """mW; left out: as the camera is."""
    exposure: float | None = Field(None, ge=1e-5, le=0.05)
    """s; left out: automatic."""
    gain: float | None = Field(None, ge=0.0, le=256.0)
    sync: Literal["none", "master", "slave"] = "none"
    """Role of its hardware synchronisation."""
    latency: float = Field(0.060, ge=0.005, le=0.3)
    """The shortest time from the middle of exposure to the arrival of a frame is at most this, s; too large a value
    makes pictures older than they are."""


def describe(name: str, options: dict[str, Any]) -> tuple[CameraInfo, RealsenseOptions]:
    """What the camera `name` is, without opening it. Raises CameraError for a wrong option."""
    given = {key: value for key, value in options.items() if key not in ("workcell", "robot", "seed")}
    try:
        o = RealsenseOptions.model_validate(given)
        pose = o.mount.T_base_camera()
    except (ValidationError, ValueError) as error:
        raise CameraError(f"camera {name}: {error}") from error
    k = Intrinsics(o.width, o.height, o.fx, o.fy, o.cx, o.cy)
    faults = check_intrinsics(k)
    if faults:
        raise CameraError(f"camera {name}: " + "; ".join(f"{field}: {text}" for field, text in faults))
    if o.width * o.height * o.rate_hz > 848 * 480 * 90:
        raise CameraError(f"camera {name}: {o.width}x{o.height}@{o.rate_hz} is more than 848x480@90")
    near, far = RANGE[o.model]
    info = CameraInfo(
        name=name,
        model=f"Intel RealSense {o.model}",
        intrinsics=k,
        rate=float(o.rate_hz),
        T_base_camera=tuple(float(v) for v in pose.reshape(-1)),
        noise_coefficient=SUBPIXEL / (o.fx * BASELINE[o.model]),
        depth_min=near,
        depth_max=far,
        colour=o.colour,
    )
    return info, o


def wanted_of(info: CameraInfo, o: RealsenseOptions) -> Wanted:
    """The settings of the library that these options mean."""
    options = {"emitter_enabled": float(o.emitter)}
    if o.laser_power is not None:
        options["laser_power"] = o.laser_power
    if o.exposure is None:
        options["enable_auto_exposure"] = 1.0
    else:
        # In this order: setting an exposure is refused while it is automatic. Microseconds.
        options |= {"enable_auto_exposure": 0.0, "exposure": round(o.exposure * 1e6)}
    if o.gain is not None:
        options["gain"] = o.gain
    if o.sync != "none":
        options["inter_cam_sync_mode"] = SYNC[o.sync]
    return Wanted(o.serial, o.model, info.intrinsics, o.rate_hz, o.colour, options)


class RealsenseCamera:
    """Implements `perception.contract.Camera`. A thread of its own looks after the plug; `poll` only asks queues."""

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        ports: Any = None,
        *,
        devices: Callable[[], Sequence[Any]] | None = None,
        clock: Clock | None = None,
        thread: bool = True,
    ) -> None:
        """`devices` lists what is plugged in; left out: the library's own list. `thread` False: `tend` is called by the
        owner. Raises CameraError: wrong option, library missing."""
        self.info, self.options = describe(name, options)
        library()
        self._devices = devices
        self._clock = clock or RealClock()
        self._wanted = wanted_of(self.info, self.options)
        self._link: Link | None = None
        self._with_thread = thread
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self._times = HardwareClock(self.options.latency)
        self._from: Stream | None = None
        self._boot = 0
        self._millimetres: NDArray[np.uint16] | None = None
        self._shade: NDArray[np.uint8] | None = None
        self._reason = ""

    @staticmethod
    def describe(name: str, options: dict[str, Any]) -> CameraInfo:
        """What the camera is and where, without opening it. Raises CameraError for a wrong option."""
        return describe(name, options)[0]

    def connect(self, now: float) -> None:
        """Begin to look for the camera; that it is not there yet is no error here. Idempotent."""
        if self._link is not None:
            return
        self._link = Link(self._wanted, self._devices or connected())
        if self._with_thread:
            self._thread = threading.Thread(target=self._tend, name=f"plug of {self.info.name}", daemon=True)
            self._thread.start()

    def _tend(self) -> None:
        while not self._end.wait(TURN):
            try:
                self.tend(self._clock.now())
            except Exception as error:  # what ended this thread without a word would leave the camera dead for ever
                if self._link is not None:
                    self._link.give_up(f"RealSense {self.options.serial}: {error!r}")

    def tend(self, now: float) -> None:
        """Look after the plug once; may take as long as the library does."""
        if self._link is not None:
            self._link.step(now)

    def poll(self, now: float) -> Frame | None:
        """Return the newest frame. Raises CameraError while there is no camera, or its frames cannot be used."""
        link = self._link
        if link is None:
            raise CameraError(f"camera {self.info.name} is not connected")
        stream = link.stream
        if stream is None:
            self._from = None
            raise CameraError(f"camera {self.info.name}: {link.trouble}")
        if stream is not self._from:
            self._begin(stream, now)
        try:
            raw = newest(stream.depth)
            shade = newest(stream.colour) if stream.colour is not None else None
            if shade is not None:
                self._shade = np.array(shade.get_data(), np.uint8)
            if raw is None and self._reason:
                raise CameraError(self._reason)
            if raw is None:
                return None
            link.heard = now
            return self._frame(raw, stream, now)
        except (RuntimeError, ValueError) as error:
            raise CameraError(f"camera {self.info.name}: {error}") from error

    def _begin(self, stream: Stream, now: float) -> None:
        self._from, self._shade = stream, None
        self._boot = max(self._boot + 1, round(now * 1e6))
        self._times.reset()
        self._millimetres = None if abs(stream.units - 0.001) < 1e-7 else millimetres(stream.units)

    def _frame(self, raw: Any, stream: Stream, now: float) -> Frame | None:
        rs, name = library(), self.info.name
        self._reason = ""
        if raw.frame_timestamp_domain not in (rs.timestamp_domain.hardware_clock, rs.timestamp_domain.global_time):
            self._reason = (
                f"camera {name}: its frames carry no hardware time: install the metadata patch or udev rules of "
                "librealsense, or its build with its own USB backend"
            )
            raise CameraError(self._reason)
        length, hardware = exposure_of(raw)
        at = self._times.place(hardware, now)
        if at is None:
            return None
        depth = depth_of(np.asanyarray(raw.get_data()), self._millimetres)
        if depth.shape != (self.info.intrinsics.height, self.info.intrinsics.width):
            raise CameraError(f"camera {name}: a frame of {depth.shape[1]} x {depth.shape[0]} px")
        colour = None
        if stream.mapping is not None:
            if self._shade is None:
                # Without colour there is no frame of this camera yet.
                return None
            colour = coloured(stream.mapping, depth, self._shade)
        return Frame(name, counter_of(raw), at, depth, colour, self._boot, length, hardware)

    def close(self) -> None:
        """Let the camera go. Idempotent."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None
        if self._link is not None:
            self._link.close()
            self._link = None


def newest(queue: Any) -> Any:
    """Return the newest frame in a queue of the library, or None; never waits."""
    found = None
    while True:
        frame = queue.poll_for_frame()
        if not frame:
            return found
        found = frame


def _metadata(raw: Any, kind: Any) -> float:
    return float(raw.get_frame_metadata(kind)) if raw.supports_frame_metadata(kind) else math.nan


def counter_of(raw: Any) -> int:
    """The camera's frame counter."""
    counter = _metadata(raw, library().frame_metadata_value.frame_counter)
    return int(counter) if math.isfinite(counter) else int(raw.frame_number)


def exposure_of(raw: Any) -> tuple[float, float]:
    """Return how long a frame was exposed (not a number if unknown) and the middle of its exposure on the camera's
    clock, s. The camera says the middle itself (`sensor_timestamp`); else it is half an exposure before the stamp."""
    kinds = library().frame_metadata_value
    length = _metadata(raw, kinds.actual_exposure) * 1e-6
    stamp = float(raw.timestamp) * 1e-3
    before = (_metadata(raw, kinds.frame_timestamp) - _metadata(raw, kinds.sensor_timestamp)) * 1e-6
    if not 0.0 <= before <= LATEST_EXPOSURE:
        before = 0.5 * length if 0.0 <= length <= LATEST_EXPOSURE else 0.0
    return length, stamp - before


def millimetres(units: float) -> NDArray[np.uint16]:
    """Return the table (65536,) of raw depth to mm: 0 (unknown) for 0, for a saturated value and beyond 65.534 m."""
    values = np.rint(np.arange(65536) * (units * 1000.0))
    values[SATURATED] = 0.0
    return np.where(values < SATURATED, values, 0.0).astype(np.uint16)


def depth_of(raw: NDArray[Any], table: NDArray[np.uint16] | None) -> NDArray[np.uint16]:
    """Return a copy of a raw depth picture in mm, saturated pixels as 0 (unknown). Raises ValueError."""
    if raw.ndim != 2 or raw.dtype != np.uint16 or raw.size == 0:
        raise ValueError(f"a depth frame of {raw.dtype} {raw.shape}")
    if table is not None:
        return table[raw]
    depth = raw.copy()
    depth[depth == SATURATED] = 0
    return depth
