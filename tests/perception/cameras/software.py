"""Cameras that librealsense itself simulates: its own `software_device`, fed with pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyrealsense2 as rs
from numpy.typing import NDArray

WIDTH, HEIGHT, FOCAL = 848, 480, 421.0
CENTRE = (424.0, 240.0)
MARK = rs.frame_metadata_value


def lens(width: int = WIDTH, height: int = HEIGHT, coefficients: tuple[float, ...] = (0.0,) * 5) -> Any:
    k = rs.intrinsics()
    k.width, k.height, k.fx, k.fy, k.ppx, k.ppy = width, height, FOCAL, FOCAL, width / 2, height / 2
    k.model, k.coeffs = rs.distortion.inverse_brown_conrady, list(coefficients)
    return k


def span(low: float, high: float, step: float, usual: float) -> Any:
    found = rs.option_range()
    found.min, found.max, found.step, found.default = low, high, step, usual
    return found


class SoftwareCamera:
    """A D455 that exists in the library only."""

    def __init__(
        self,
        serial: str = "123",
        *,
        name: str = "Intel RealSense D455",
        units: float = 0.001,
        rate: int = 30,
        colour_lens: Any = None,
        depth_lens: Any = None,
        options: bool = True,
    ) -> None:
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.name, name)
        self.device.register_info(rs.camera_info.serial_number, serial)
        self.device.register_info(rs.camera_info.product_line, "D400")
        self.units, self.plugged = units, True
        self.depth_sensor = self.device.add_sensor("Stereo Module")
        self.depth_profile = self._stream(
            self.depth_sensor, rs.stream.depth, rs.format.z16, 2, depth_lens or lens(), rate, 1
        )
        self.depth_sensor.add_read_only_option(rs.option.depth_units, units)
        self.depth_sensor.add_read_only_option(rs.option.stereo_baseline, 95.0)
        if options:
            for option, value in (
                (rs.option.emitter_enabled, span(0, 2, 1, 0)),
                (rs.option.laser_power, span(0, 360, 30, 150)),
                (rs.option.exposure, span(1, 165000, 1, 8500)),
                (rs.option.enable_auto_exposure, span(0, 1, 1, 1)),
                (rs.option.gain, span(16, 248, 1, 16)),
                (rs.option.inter_cam_sync_mode, span(0, 260, 1, 0)),
                (rs.option.global_time_enabled, span(0, 1, 1, 1)),
            ):
                self.depth_sensor.add_option(option, value, True)
        self.colour_profile = None
        if colour_lens is not None:
            self.colour_sensor = self.device.add_sensor("RGB Camera")
            self.colour_profile = self._stream(
                self.colour_sensor, rs.stream.color, rs.format.rgb8, 3, colour_lens, rate, 2
            )
            turn = rs.extrinsics()
            a = 0.01
            # By columns, as the library keeps it: a turn about the vertical axis.
            turn.rotation = [np.cos(a), 0.0, -np.sin(a), 0.0, 1.0, 0.0, np.sin(a), 0.0, np.cos(a)]
            turn.translation = [-0.059, 0.001, 0.0002]
            self.extrinsics = turn
            self.depth_profile.register_extrinsics_to(self.colour_profile, turn)
        self.device.create_matcher(rs.matchers.default)

    def _stream(self, sensor: Any, kind: Any, form: Any, depth: int, k: Any, rate: int, uid: int) -> Any:
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, 0, uid, form, depth
        stream.width, stream.height, stream.fps, stream.intrinsics = k.width, k.height, rate, k
        return sensor.add_video_stream(stream)

    def push(
        self,
        seq: int,
        t: float,
        picture: NDArray[Any],
        *,
        exposure: float = 0.008,
        domain: Any = None,
        said: bool = True,
        sensor_delay: float | None = 0.004,
    ) -> None:
        """A frame whose exposure has its middle at `t` (s, the camera's clock)."""
        colour = picture.ndim == 3
        sensor = self.colour_sensor if colour else self.depth_sensor
        profile = self.colour_profile if colour else self.depth_profile
        frame = rs.software_video_frame()
        frame.pixels = np.ascontiguousarray(picture)
        frame.bpp = 3 if colour else 2
        frame.stride = frame.bpp * picture.shape[1]
        stamp = t + (sensor_delay or 0.0)
        frame.timestamp, frame.domain = stamp * 1e3, domain or rs.timestamp_domain.hardware_clock
        frame.frame_number, frame.profile = seq, profile.as_video_stream_profile()
        frame.depth_units = self.units
        sensor.set_metadata(MARK.actual_fps, 30000)
        if said:
            sensor.set_metadata(MARK.frame_counter, seq)
            sensor.set_metadata(MARK.actual_exposure, round(exposure * 1e6))
            if sensor_delay is not None:
                sensor.set_metadata(MARK.frame_timestamp, round(stamp * 1e6))
                sensor.set_metadata(MARK.sensor_timestamp, round(t * 1e6))
        sensor.on_video_frame(frame)


class Plug:
    """A device as the list of devices shows it: it can be pulled. Everything else is librealsense's."""

    def __init__(self, camera: SoftwareCamera) -> None:
        self._camera = camera

    def is_connected(self) -> bool:
        return self._camera.plugged

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera.device, name)


def bench(*cameras: SoftwareCamera) -> Any:
    """What lists the devices that are plugged in."""
    return lambda: [Plug(camera) for camera in cameras if camera.plugged]


def noisy(seed: int, low: int = 800, high: int = 4000) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH)).astype(np.uint16)
