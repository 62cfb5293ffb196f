"""Recordings of cameras, ours and librealsense's: bit exact, each frame once, and what is damaged is said."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.cameras.files import (
    McapRecorder,
    McapRecording,
    RecordedFrame,
    RecordingError,
    open_recording,
    summarise,
)
from perception.cameras.recording import RecordingCamera
from perception.contract import CameraError, CameraInfo, Frame, Intrinsics

W, H = 32, 24
MOUNT = {"position": [0.0, 0.0, 2.0], "look_at": [1.0, 0.0, 0.0]}
EYE = tuple(float(v) for v in np.eye(4).ravel())


def camera(name: str = "front", colour: bool = False) -> CameraInfo:
    return CameraInfo(name, "D455", Intrinsics(W, H, 30.0, 30.0, 16.0, 12.0), 30.0, EYE, 0.002, 0.3, 6.0, colour)


def picture(seq: int, t: float, name: str = "front", colour: bool = False) -> Frame:
    rng = np.random.default_rng(seq)
    depth = rng.integers(0, 65536, (H, W)).astype(np.uint16)
    shade = rng.integers(0, 256, (H, W, 3)).astype(np.uint8) if colour else None
    return Frame(name, seq, t, depth, shade, 0, 0.008 if seq % 2 else math.nan, 3.0 + t)


def record(path: Path, frames: list[Frame], cameras: list[CameraInfo] | None = None) -> Path:
    recorder = McapRecorder(path, cameras or [camera()])
    for frame in frames:
        recorder.add(frame)
    recorder.close()
    return path


def same(a: Frame, b: Frame) -> bool:
    colours = (a.colour is None) == (b.colour is None) and (
        a.colour is None or b.colour is None or np.array_equal(a.colour, b.colour)
    )
    rest = np.array_equal([a.seq, a.exposure], [b.seq, b.exposure])
    figures = np.array_equal([a.exposure_time, a.hardware], [b.exposure_time, b.hardware], equal_nan=True)
    return bool(np.array_equal(a.depth, b.depth) and colours and rest and figures and a.camera == b.camera)


def play(path: Path, now: float = 50.0, step: float = 0.004, seconds: float = 1.0, **options: Any) -> list[Frame]:
    player = RecordingCamera("here", {"mount": MOUNT, "file": str(path), **options})
    player.connect(now)
    frames = []
    for k in range(round(seconds / step)):
        frame = player.poll(now + k * step)
        if frame is not None:
            assert frame.exposure + player.options.latency <= now + k * step + 1e-6, "nothing comes before its time"
            frames.append(frame)
    player.close()
    return frames


def test_our_recordings_come_back_bit_exact(tmp_path: Path) -> None:
    frames = [picture(k, 0.1 * k, name, name == "b") for k in range(1, 6) for name in ("a", "b")]
    path = record(tmp_path / "two.mcap", frames, [camera("a"), camera("b", True)])
    with open_recording(path).path.open("rb"):
        recording = McapRecording(path)
    assert list(recording.cameras) == [camera("a"), camera("b", True)]
    for name in ("a", "b"):
        back = list(recording.frames(name))
        assert len(back) == 5
        assert all(same(x, y) for x, y in zip(back, [f for f in frames if f.camera == name], strict=True))


def test_a_recording_that_breaks_off_is_read_up_to_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    info = CameraInfo("front", "D455", Intrinsics(512, 400, 500.0, 500.0, 256.0, 200.0), 30.0, EYE, 0.002, 0.3, 6.0)
    frames = [Frame("front", k, 0.1 * k, rng.integers(0, 65536, (400, 512)).astype(np.uint16)) for k in range(1, 20)]
    path = record(tmp_path / "a.mcap", frames, [info])
    whole = path.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: len(whole) // 2])
    got = list(McapRecording(cut).frames("front"))
    assert 4 < len(got) < 19
    assert [f.seq for f in got] == list(range(1, len(got) + 1))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_recording_never_gives_another_picture(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("rec")
    frames = [picture(k, 0.1 * k) for k in range(1, 4)]
    path = record(folder / "a.mcap", frames)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        got = list(McapRecording(path).frames("front"))
    except RecordingError:
        return
    assert all(any(same(f, o) for o in frames) for f in got)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mcap", None, "No such file"),
        ("a.mcap", b"", "empty"),
        ("a.mcap", b"no recording at all" * 9, "no MCAP"),
        ("a.txt", b"x", "a recording is a"),
        ("a.db3", None, "No such file"),
        ("a.db3", b"", "empty"),
        ("a.db3", b"nonsense" * 99, "no readable recording"),
        ("a.bag", b"#ROSBAG V2.0\n" + b"\0" * 99, "no readable recording"),
    ],
)
def test_files_that_are_no_recording(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=words):
        open_recording(tmp_path / name)
    with pytest.raises(CameraError, match=words):
        RecordingCamera("here", {"mount": MOUNT, "file": str(tmp_path / name)})


def test_a_recording_of_the_cell_has_no_camera(tmp_path: Path) -> None:
    McapRecorder(tmp_path / "a.mcap", []).close()
    with pytest.raises(RecordingError, match="no camera"):
        McapRecording(tmp_path / "a.mcap")


@pytest.mark.parametrize("change", [{"height": H + 1}, {"exposure": math.nan}, {"depth": b""}, {"depth": b"x" * 99}])
def test_forged_frames_are_refused(tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    encode = msgspec.msgpack.encode

    def forged(body: Any) -> bytes:
        return encode(msgspec.structs.replace(body, **change)) if isinstance(body, RecordedFrame) else encode(body)

    monkeypatch.setattr("perception.cameras.files.msgspec.msgpack.encode", forged)
    path = record(tmp_path / "a.mcap", [picture(1, 0.1)])
    with pytest.raises(RecordingError, match="damaged"):
        list(McapRecording(path).frames("front"))


def test_a_frame_that_unpacks_to_more_is_not_unpacked(tmp_path: Path) -> None:
    recorder = McapRecorder(tmp_path / "a.mcap", [camera()])
    recorder.add(picture(1, 0.1)._replace(depth=np.zeros((4000, 4000), np.uint16)))
    recorder.close()
    with pytest.raises(RecordingError, match="damaged"):
        list(McapRecording(tmp_path / "a.mcap").frames("front"))


def test_frames_of_no_camera_and_no_time_are_not_recorded(tmp_path: Path) -> None:
    recorder = McapRecorder(tmp_path / "a.mcap", [camera()])
    for wrong in (picture(1, 0.1, "other"), picture(1, math.nan), picture(1, -1.0), picture(1, math.inf)):
        with pytest.raises(RecordingError):
            recorder.add(wrong)
    recorder.close()
    recorder.close()
    with pytest.raises(RecordingError, match="choose a place"):
        McapRecorder(tmp_path / "none" / "a.mcap", [camera()])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=15))
def test_each_frame_is_played_once_at_its_time(tmp_path_factory: pytest.TempPathFactory, gaps: list[int]) -> None:
    """At the 4 ms of lock-step, frames at least 4 ms apart."""
    times = np.cumsum([0.004 * g for g in gaps]) + 7.0
    frames = [picture(k, float(t)) for k, t in enumerate(times)]
    path = record(tmp_path_factory.mktemp("rec") / "a.mcap", frames)
    got = play(path, seconds=4.0)
    assert [f.seq for f in got] == [f.seq for f in frames]
    assert all(np.array_equal(a.depth, b.depth) for a, b in zip(got, frames, strict=True))
    assert np.allclose([f.exposure for f in got], times - times[0] + 50.0)
    assert {f.camera for f in got} == {"here"}


def test_a_reader_that_was_held_up_gets_the_newest_and_its_number_tells(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [picture(k, 0.03 * k) for k in range(20)])
    player = RecordingCamera("here", {"mount": MOUNT, "file": str(path)})
    player.connect(0.0)
    assert player.poll(0.0) is None
    first, later = player.poll(0.03), player.poll(0.30)
    assert first is not None and first.seq == 0
    assert later is not None and later.seq == 9
    assert player.poll(0.30) is None


def test_time_that_runs_backwards_ends_the_recording_with_its_reason(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [picture(k, t) for k, t in enumerate((0.1, 0.2, 0.15, 0.3))])
    player = RecordingCamera("here", {"mount": MOUNT, "file": str(path)})
    player.connect(0.0)
    got = [f.seq for k in range(34) if (f := player.poll(0.004 * k)) is not None]
    assert got == [0, 1]
    with pytest.raises(CameraError, match="backwards at frame 2"):
        player.poll(1.0)


def test_the_end_is_silence(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [picture(1, 0.1)])
    assert [f.seq for f in play(path)] == [1]


def test_which_camera_of_several(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [picture(1, 0.1, "a"), picture(9, 0.2, "b")], [camera("a"), camera("b")])
    options = {"mount": MOUNT, "file": str(path)}
    with pytest.raises(CameraError, match="say which camera: there are a, b"):
        RecordingCamera("here", options)
    with pytest.raises(CameraError, match="no camera 'c'"):
        RecordingCamera.describe("here", {**options, "camera": "c"})
    assert [f.seq for f in play(path, camera="b")] == [9]
    info = RecordingCamera.describe("here", {**options, "camera": "b"})
    assert info.name == "here" and info.intrinsics == camera().intrinsics
    assert info.T_base_camera[11] == 2.0, "where it is says the cell file"


def test_a_recording_without_frames_cannot_be_played(tmp_path: Path) -> None:
    player = RecordingCamera("here", {"mount": MOUNT, "file": str(record(tmp_path / "a.mcap", []))})
    with pytest.raises(CameraError, match="no frame"):
        player.connect(0.0)
    with pytest.raises(CameraError, match="typo"):
        RecordingCamera("here", {"mount": MOUNT, "file": "a.mcap", "typo": 1})


def test_a_recording_is_summed_up(tmp_path: Path) -> None:
    frames = [picture(k, t) for k, t in ((1, 0.1), (2, 0.2), (5, 0.5), (6, 0.6))]
    recording = McapRecording(record(tmp_path / "a.mcap", frames))
    found = summarise(recording.frames("front"), "front")
    assert found[:2] == ("front", 4) and found.dropped == 2
    assert found.seconds == pytest.approx(0.5) and found.longest_gap == pytest.approx(0.3)
    assert summarise(iter(()), "x") == ("x", 0, 0.0, 0, 0.0)


# ---------------------------------------------------------------- librealsense


@pytest.fixture(scope="module")
def db3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """Written by librealsense: 25 frames of depth and colour."""
    rs = pytest.importorskip("pyrealsense2")
    from tests.perception.cameras.software import HEIGHT, WIDTH, SoftwareCamera, lens, noisy

    path = tmp_path_factory.mktemp("rs") / "desk.db3"
    source = SoftwareCamera(colour_lens=lens())
    recorder = rs.recorder(str(path), source.device)
    sensors = recorder.query_sensors()
    queue = rs.frame_queue(100)
    for sensor in sensors:
        sensor.open(sensor.get_stream_profiles()[0])
        sensor.start(queue)
    pictures = [noisy(k) for k in range(25)]
    shade = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    for k, one in enumerate(pictures):
        source.push(k + 1, 20.0 + k / 30, shade)
        source.push(k + 1, 20.0 + k / 30, one)
        time.sleep(0.004)
    for _ in range(2000):
        if queue.size() >= 50:
            break
        time.sleep(0.01)
    for sensor in sensors:
        sensor.stop()
        sensor.close()
    del recorder, sensors, sensor
    return path, pictures


def test_recordings_of_librealsense_come_back_bit_exact_and_once(db3: tuple[Path, list[np.ndarray]]) -> None:
    path, pictures = db3
    for _ in range(2):
        recording = open_recording(path)
        info = recording.cameras[0]
        assert (info.name, info.intrinsics.fx, info.rate, info.colour) == ("desk", 421.0, 30.0, True)
        assert info.noise_coefficient == pytest.approx(0.08 / (421.0 * 0.095))
        got = []
        for frame in recording.frames("desk"):
            got.append(frame)
            if len(got) == 5:
                # A reader that is slow for a moment loses nothing.
                time.sleep(0.3)
        assert [f.seq for f in got] == list(range(1, 26))
        assert all(np.array_equal(a.depth, b) for a, b in zip(got, pictures, strict=True))
        assert np.allclose([f.exposure for f in got], 20.0 + np.arange(25) / 30, atol=1e-4)
        assert all(f.exposure_time == pytest.approx(0.008) for f in got)
        colours = [f for f in got if f.colour is not None]
        assert len(colours) >= 24 and all(set(np.unique(f.colour)) <= {0, 99} for f in colours)
        recording.close()


def test_a_recording_of_librealsense_plays_as_a_camera(db3: tuple[Path, list[np.ndarray]]) -> None:
    path, _ = db3
    got = play(path, seconds=1.2)
    assert [f.seq for f in got] == list(range(1, 26))
    assert np.allclose([f.exposure for f in got], 50.0 + np.arange(25) / 30, atol=1e-4)


def test_a_bag_of_an_older_librealsense_comes_back_bit_exact_and_once(tmp_path: Path) -> None:
    """The file was written by librealsense 2.56.5; the installed 2.59 reads ROS bags and writes .db3 only. Its ten
    pictures can be calculated."""
    pytest.importorskip("pyrealsense2")
    path = Path(__file__).parent / "data" / "desk.bag"
    pictures = [(np.arange(32 * 24).reshape(24, 32) % 977 + 500 + k).astype(np.uint16) for k in range(10)]
    for _ in range(2):
        recording = open_recording(path)
        info = recording.cameras[0]
        assert (info.name, info.model, info.intrinsics.width, info.intrinsics.fx) == (
            "desk", "Intel RealSense D455", 32, 421.0,
        )  # fmt: skip
        assert info.colour and info.rate == 30.0
        got = list(recording.frames("desk"))
        recording.close()
        assert [f.seq for f in got] == list(range(1, 11))
        assert all(np.array_equal(f.depth, p) for f, p in zip(got, pictures, strict=True))
        assert np.allclose([f.exposure for f in got], 20.0 + np.arange(10) / 30, atol=1e-4)
        assert all(f.exposure_time == pytest.approx(0.008) for f in got)
    played = play(path, seconds=0.6)
    assert [f.seq for f in played] == list(range(1, 11))
    cut = tmp_path / "cut.bag"
    for length in (0, 13, 4000, path.stat().st_size // 2):
        cut.write_bytes(path.read_bytes()[:length])
        with pytest.raises(RecordingError):
            list(open_recording(cut).frames("cut"))


def test_a_player_that_is_closed_early_lets_the_file_go(db3: tuple[Path, list[np.ndarray]]) -> None:
    path, _ = db3
    player = RecordingCamera("here", {"mount": MOUNT, "file": str(path)})
    player.connect(0.0)
    assert player.poll(0.03) is not None
    player.close()
    again = RecordingCamera("here", {"mount": MOUNT, "file": str(path)})
    again.connect(0.0)
    first = again.poll(0.03)
    assert first is not None and first.seq == 1
    again.close()


def test_librealsense_records_what_a_camera_of_the_cell_delivers(tmp_path: Path) -> None:
    pytest.importorskip("pyrealsense2")
    from perception.cameras.realsense import describe, wanted_of
    from perception.cameras.realsense_files import Db3Recorder
    from tests.perception.cameras.software import SoftwareCamera, noisy
    from tests.perception.cameras.test_realsense import OPTIONS

    source = SoftwareCamera()
    wanted = wanted_of(*describe("left", OPTIONS))
    with pytest.raises(CameraError, match="no RealSense"):
        Db3Recorder(tmp_path / "a.db3", wanted, list)
    recorder = Db3Recorder(tmp_path / "a.db3", wanted, lambda: [source.device])
    pictures, count = [noisy(k) for k in range(8)], 0
    for k, one in enumerate(pictures):
        source.push(k + 1, 20.0 + k / 30, one)
        for _ in range(2000):
            came = recorder.poll()
            count += came
            if came:
                break
            time.sleep(0.002)
    recorder.close()
    recorder.close()
    assert count == 8
    back = list(open_recording(tmp_path / "a.db3").frames("a"))
    assert [f.seq for f in back] == list(range(1, 9))
    assert all(np.array_equal(f.depth, p) for f, p in zip(back, pictures, strict=True))


def test_the_figures_for_the_cell_file_are_those_of_the_camera() -> None:
    rs = pytest.importorskip("pyrealsense2")
    from cell.commands.camera_info import lens_figures
    from tests.perception.cameras.software import CENTRE, FOCAL, SoftwareCamera

    device = SoftwareCamera().device
    found = lens_figures(device, (848, 480, 30), rs)
    assert found == {"model": "D455", "fx": FOCAL, "fy": FOCAL, "cx": CENTRE[0], "cy": CENTRE[1]}
    with pytest.raises(CameraError, match="no depth of 640x480@30"):
        lens_figures(device, (640, 480, 30), rs)
