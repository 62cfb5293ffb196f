"""The RealSense driver against librealsense's own software devices: set up, checked, timed, unplugged and back."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

rs = pytest.importorskip("pyrealsense2")

from perception.cameras import realsense_link  # noqa: E402
from perception.cameras.colour import ColourMap, coloured, straight_grid  # noqa: E402
from perception.cameras.hardwareclock import SETTLE  # noqa: E402
from perception.cameras.realsense import RealsenseCamera, depth_of, millimetres  # noqa: E402
from perception.contract import CameraError, Frame, Intrinsics  # noqa: E402
from tests.perception.cameras.software import (  # noqa: E402
    CENTRE,
    FOCAL,
    HEIGHT,
    WIDTH,
    SoftwareCamera,
    bench,
    lens,
    noisy,
)

OPTIONS: dict[str, Any] = {
    "mount": {"position": [0.0, 0.0, 2.0], "look_at": [1.0, 0.0, 0.0]},
    "serial": "123",
    "model": "D455",
    "fx": FOCAL,
    "fy": FOCAL,
    "cx": CENTRE[0],
    "cy": CENTRE[1],
}
LATENCY = 0.06
OFFSET = 40.0
"""Between the clocks of cell and camera, s."""


class Rig:
    """A driver on software devices, on simulated time."""

    def __init__(self, *devices: SoftwareCamera, **options: Any) -> None:
        self.device = devices[0] if devices else SoftwareCamera()
        given = {**OPTIONS, **options}
        self.camera = RealsenseCamera("front", given, devices=bench(*(devices or (self.device,))), thread=False)
        self.seq, self.t = 0, 100.0
        self.camera.connect(self.t)

    def plug_in(self) -> None:
        self.t += 1.1
        self.camera.tend(self.t)

    def shoot(self, picture: np.ndarray, **how: Any) -> Frame | None:
        """A frame exposed now; what the driver makes of it 20 ms later."""
        self.seq += 1
        self.t += 1 / 30
        self.device.push(self.seq, self.t - OFFSET, picture, **how)
        return self.arrived()

    def arrived(self) -> Frame | None:
        """The library hands frames over in threads of its own; the cell's clock stands meanwhile."""
        for _ in range(4000):
            frame = self.camera.poll(self.t + 0.02)
            if frame is not None:
                return frame
            if self.camera._times._seen and self.camera._times._last >= self.t - OFFSET - 1e-4:
                return None
            time.sleep(0.001)
        return None

    def settle(self, **how: Any) -> None:
        for k in range(SETTLE):
            assert self.shoot(noisy(1000 + k), **how) is None

    def trouble(self) -> str:
        with pytest.raises(CameraError) as caught:
            self.camera.poll(self.t)
        return str(caught.value)


def test_frames_come_bit_exact_with_counter_exposure_and_hardware_time() -> None:
    rig = Rig()
    rig.plug_in()
    rig.settle()
    picture = noisy(1)
    frame = rig.shoot(picture, exposure=0.0125)
    assert frame is not None
    assert np.array_equal(frame.depth, picture)
    assert frame.seq == rig.seq and frame.camera == "front"
    assert frame.exposure_time == pytest.approx(0.0125)
    assert frame.hardware == pytest.approx(rig.t - OFFSET, abs=1e-5)
    # Found 20 ms after exposure, which counts as up to 60 ms.
    assert frame.exposure == pytest.approx(rig.t + 0.02 - LATENCY, abs=1e-5)
    assert frame.boot > 0
    assert rig.camera.poll(rig.t + 0.021) is None, "once"
    rig.camera.close()


def test_without_the_sensors_stamp_half_the_exposure_counts() -> None:
    rig = Rig()
    rig.plug_in()
    rig.settle(sensor_delay=None, exposure=0.010)
    frame = rig.shoot(noisy(1), sensor_delay=None, exposure=0.010)
    assert frame is not None and frame.hardware == pytest.approx(rig.t - OFFSET - 0.005, abs=1e-5)
    rig.camera.close()


def test_saturated_pixels_are_unknown_and_other_units_become_millimetres() -> None:
    rig = Rig(SoftwareCamera(units=0.0001))
    rig.plug_in()
    rig.settle()
    picture = noisy(2, 1, 40000)
    picture[:5], picture[5:9] = 65535, 0
    frame = rig.shoot(picture)
    assert frame is not None
    assert not frame.depth[:9].any()
    assert np.abs(frame.depth[9:].astype(float) - picture[9:] * 0.1).max() <= 0.5001
    rig.camera.close()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.floats(1e-6, 0.1, exclude_min=True, exclude_max=True))
def test_no_raw_value_becomes_a_depth_it_is_not(units: float) -> None:
    table = millimetres(units)
    raw = np.arange(65536)
    known = table > 0
    assert np.abs(table[known] - raw[known] * units * 1000.0).max(initial=0.0) <= 0.5 + 1e-6
    assert table[0] == 0 and table[65535] == 0
    assert not known[raw * units * 1000.0 > 65534.5].any()


@pytest.mark.parametrize("wrong", [np.zeros((0, 4), np.uint16), np.zeros((4, 4), np.int16), np.zeros(9, np.uint16)])
def test_pictures_that_are_none(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="depth frame"):
        depth_of(wrong, None)


def test_no_camera_is_said_at_once_and_a_camera_that_comes_later_is_found() -> None:
    device = SoftwareCamera()
    device.plugged = False
    begun = time.monotonic()
    rig = Rig(device)
    rig.plug_in()
    assert "no RealSense with the serial number 123; plugged in: none" in rig.trouble()
    assert time.monotonic() - begun < 5.0, "the library's start blocks for 15 s without a camera"
    device.plugged = True
    rig.plug_in()
    rig.settle()
    assert rig.shoot(noisy(1)) is not None
    rig.camera.close()


@pytest.mark.requirement("PER-11")
def test_unplugged_and_plugged_in_again_is_a_new_life() -> None:
    rig = Rig()
    rig.plug_in()
    rig.settle()
    rig.shoot(noisy(1))
    before = rig.shoot(noisy(3))
    rig.device.plugged = False
    rig.plug_in()
    assert "unplugged" in rig.trouble()
    rig.plug_in()
    assert "no RealSense" in rig.trouble()
    rig.device.plugged = True
    rig.plug_in()
    rig.seq = 0
    rig.settle()
    after = rig.shoot(noisy(2))
    assert before is not None and after is not None
    assert after.boot > before.boot and after.seq < before.seq
    assert after.exposure > before.exposure
    rig.camera.close()


def test_a_silent_camera_is_opened_anew() -> None:
    rig = Rig()
    rig.plug_in()
    first = rig.camera._link.stream if rig.camera._link else None
    rig.settle()
    rig.t += 1.5
    rig.camera.tend(rig.t)
    assert "gives no frames" in rig.trouble()
    rig.plug_in()
    link = rig.camera._link
    assert link is not None and link.stream is not None and link.stream is not first
    rig.settle()
    assert rig.shoot(noisy(1)) is not None
    rig.camera.close()


def test_settings_are_made_and_read_back() -> None:
    device = SoftwareCamera()
    rig = Rig(device, emitter=False, laser_power=180.0, exposure=0.006, gain=32.0, sync="slave")
    rig.plug_in()
    read = device.depth_sensor.get_option
    assert read(rs.option.emitter_enabled) == 0.0
    assert read(rs.option.laser_power) == 180.0
    assert read(rs.option.enable_auto_exposure) == 0.0
    assert read(rs.option.exposure) == 6000.0
    assert read(rs.option.gain) == 32.0
    assert read(rs.option.inter_cam_sync_mode) == 2.0
    assert read(rs.option.global_time_enabled) == 0.0, "the library's host time jumps with the wall clock"
    rig.camera.close()


@pytest.mark.requirement("PER-11")
@pytest.mark.parametrize(
    ("devices", "options", "words"),
    [
        ([SoftwareCamera("9"), SoftwareCamera("8")], {}, "plugged in: 9, 8"),
        ([SoftwareCamera(), SoftwareCamera()], {}, "two devices"),
        ([SoftwareCamera(name="Intel RealSense D435")], {}, "is a Intel RealSense D435"),
        ([SoftwareCamera(rate=15)], {}, "it has 848x480@15"),
        ([SoftwareCamera()], {"rate_hz": 90}, "no depth of 848x480@90"),
        ([SoftwareCamera()], {"fx": 430.0}, "fx 421.000 instead of 430.000"),
        ([SoftwareCamera(depth_lens=lens(coefficients=(0.1, 0, 0, 0, 0)))], {}, "not rectified"),
        ([SoftwareCamera(options=False)], {}, "no option emitter_enabled"),
        ([SoftwareCamera()], {"gain": 2.0}, "possible are 16 to 248"),
        ([SoftwareCamera()], {"colour": True}, "no color of 848x480@30"),
        ([SoftwareCamera(units=0.0)], {}, "depth units"),
        ([SoftwareCamera(units=math.nan)], {}, "depth units"),
    ],
)
def test_a_device_that_is_not_the_one_of_the_cell_file_is_refused(
    devices: list[SoftwareCamera], options: dict[str, Any], words: str
) -> None:
    rig = Rig(*devices, **options)
    rig.plug_in()
    assert words in rig.trouble()
    assert "\n" not in rig.trouble()
    rig.camera.close()


@pytest.mark.requirement("PER-10")
def test_frames_without_hardware_time_are_refused() -> None:
    rig = Rig()
    rig.plug_in()
    rig.device.push(1, 5.0, noisy(1), domain=rs.timestamp_domain.system_time)

    def until_refused() -> None:
        for _ in range(4000):
            assert rig.camera.poll(rig.t) is None
            time.sleep(0.001)

    with pytest.raises(CameraError, match="hardware time"):
        until_refused()
    rig.camera.close()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"serial": ""}, "serial"),
        ({"serial": "12 3"}, "serial"),
        ({"model": "D999"}, "model"),
        ({"fx": 1.0}, "fx"),
        ({"cx": 900.0}, "cx"),
        ({"fy": math.nan}, "fy"),
        ({"rate_hz": 31}, "rate_hz"),
        ({"width": 1280, "height": 720, "rate_hz": 60, "cx": 640.0, "cy": 360.0}, "848x480@90"),
        ({"exposure": -1.0}, "exposure"),
        ({"latency": 0.0}, "latency"),
        ({"typo": 1}, "typo"),
        ({"mount": {"position": [0, 0, 1], "look_at": [0, 0, 1]}}, "coincide"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(CameraError, match=field):
        RealsenseCamera.describe("front", {**OPTIONS, **options})


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match=r"collabcell\[realsense\]"):
        realsense_link.library()


def test_asked_before_it_is_connected() -> None:
    camera = RealsenseCamera("front", OPTIONS, devices=list, thread=False)
    with pytest.raises(CameraError, match="not connected"):
        camera.poll(0.0)
    camera.close()
    camera.close()


def test_the_thread_that_looks_after_the_plug_ends_with_the_camera() -> None:
    camera = RealsenseCamera("front", OPTIONS, devices=bench(SoftwareCamera()))
    camera.connect(0.0)
    camera.connect(0.0)
    thread, link = camera._thread, camera._link
    assert thread is not None and link is not None
    for _ in range(2000):
        if link.stream is not None:
            break
        time.sleep(0.01)
    assert link.stream is not None
    camera.close()
    assert not thread.is_alive()


def test_what_the_library_throws_at_the_thread_is_said_and_the_camera_is_looked_for_again() -> None:
    calls = 0

    def devices() -> list[Any]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise TypeError("odd")
        return []

    camera = RealsenseCamera("front", OPTIONS, devices=devices)
    camera.connect(0.0)
    link = camera._link
    assert link is not None
    for _ in range(2000):
        if calls >= 2:
            break
        if calls == 1 and "odd" in link.trouble:
            link._next = -math.inf
        time.sleep(0.01)
    assert calls >= 2
    camera.close()


DISTORTED = (-0.056, 0.066, 0.0003, -0.0004, -0.021)
"""Of the size that colour lenses of a D455 have."""


@pytest.mark.parametrize("coefficients", [(0.0,) * 5, DISTORTED])
def test_colour_lies_where_the_library_projects_it(coefficients: tuple[float, ...]) -> None:
    device = SoftwareCamera(colour_lens=lens(coefficients=coefficients))
    rig = Rig(device, colour=True)
    rig.plug_in()
    rows, columns = np.indices((HEIGHT, WIDTH))
    # Each pixel of this picture says where it is, to 4 px.
    shade = np.stack([columns // 4, rows // 4, np.full_like(rows, 77)], axis=2).astype(np.uint8)
    depth = noisy(3, 700, 4000)
    depth[::7] = 0
    for k in range(SETTLE + 1):
        device.push(rig.seq + 1, rig.t - OFFSET, shade)
        time.sleep(0.005)
        frame = rig.shoot(depth if k == SETTLE else noisy(k))
    assert frame is not None and frame.colour is not None
    assert not frame.colour[depth == 0].any()
    k = device.depth_profile.as_video_stream_profile().get_intrinsics()
    outer = device.colour_profile.as_video_stream_profile().get_intrinsics()  # type: ignore[union-attr]
    compared = 0
    for v, u in np.random.default_rng(5).integers((0, 0), (HEIGHT, WIDTH), (2000, 2)):
        if depth[v, u] == 0:
            continue
        at = rs.rs2_deproject_pixel_to_point(k, [float(u), float(v)], 0.001 * float(depth[v, u]))
        there = rs.rs2_transform_point_to_point(device.extrinsics, at)
        x, y = rs.rs2_project_point_to_pixel(outer, there)
        if 2 <= x < WIDTH - 2 and 2 <= y < HEIGHT - 2:
            found = frame.colour[v, u].astype(float) * 4.0 + 2.0
            assert abs(found[0] - x - 0.5) <= 2.7 and abs(found[1] - y - 0.5) <= 2.7
            assert frame.colour[v, u, 2] == 77
            compared += 1
    assert compared > 1000
    rig.camera.close()


def test_colour_of_other_sizes_is_refused() -> None:
    k = Intrinsics(8, 6, 8.0, 8.0, 4.0, 3.0)
    mapping = ColourMap(k, np.eye(3), np.zeros(3), k, straight_grid(k))
    with pytest.raises(ValueError, match="not of these cameras"):
        coloured(mapping, np.zeros((6, 8), np.uint16), np.zeros((6, 9, 3), np.uint8))
    depth = np.full((6, 8), 1000, np.uint16)
    same = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    assert np.array_equal(coloured(mapping, depth, same), same)


def test_colour_that_does_not_come_gives_no_frames() -> None:
    rig = Rig(SoftwareCamera(colour_lens=lens()), colour=True)
    rig.plug_in()
    rig.settle()
    assert rig.shoot(noisy(1)) is None
    rig.camera.close()
