"""The ring of frames: newest only, never torn, never another camera's, and a killed writer's is replaced."""

from __future__ import annotations

import math
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.cameras import ring
from perception.cameras.ring import RingError, RingFormat, RingReader, RingWriter, clear_away
from perception.contract import Frame, Intrinsics

W, H = 64, 48
LENS = Intrinsics(W, H, 60.0, 61.0, 31.5, 23.5)
STREAM = """
import sys, time
from pathlib import Path
import numpy as np
from perception.cameras.ring import RingFormat, RingWriter
from perception.contract import Frame, Intrinsics
w, h = int(sys.argv[2]), int(sys.argv[3])
form = RingFormat("a", Intrinsics(w, h, 0.9 * w, 0.9 * w, w / 2, h / 2), True)
writer = RingWriter(Path(sys.argv[1]), form)
depth, colour = np.zeros((h, w), np.uint16), np.zeros((h, w, 3), np.uint8)
print("ready", flush=True)
for seq in range(int(sys.argv[4])):
    depth[:], colour[:] = seq % 65536, seq % 256
    writer.write(Frame("a", seq, 0.001 * seq, depth, colour), time.monotonic())
    if seq % 7 == 0:
        time.sleep(float(sys.argv[5]))
print("done", flush=True)
sys.stdin.read()
"""


def form(name: str = "a", lens: Intrinsics = LENS, colour: bool = False) -> RingFormat:
    return RingFormat(name, lens, colour)


def picture(value: int, seq: int | None = None, colour: bool = False) -> Frame:
    shade = np.full((H, W, 3), value % 256, np.uint8) if colour else None
    number = value if seq is None else seq
    return Frame("a", number, 0.01 * number, np.full((H, W), value, np.uint16), shade, 0, 0.008, 5.0 + number)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RingWriter, RingReader]]:
    writer, reader = RingWriter(tmp_path, form(), 1), RingReader(tmp_path, form())
    yield writer, reader
    reader.detach()
    writer.close()


def child(folder: Path, frames: int, size: tuple[int, int], pause: float = 0.0) -> subprocess.Popen[str]:
    words = [str(folder), str(size[0]), str(size[1]), str(frames), str(pause)]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", STREAM, *words], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=root
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_a_frame_arrives_whole_and_once(tmp_path: Path) -> None:
    writer, reader = RingWriter(tmp_path, form(colour=True), 7), RingReader(tmp_path, form(colour=True))
    sent = picture(1234, 5, colour=True)
    writer.write(sent, 9.0)
    frame = reader.take(9.0)
    assert frame is not None and frame.colour is not None and sent.colour is not None
    assert np.array_equal(frame.depth, sent.depth) and np.array_equal(frame.colour, sent.colour)
    assert frame[:3] == ("a", 5, 0.05) and frame[5:] == (7, 0.008, 10.0)
    assert reader.written == 9.0
    assert reader.take(9.004) is None, "a frame is taken once"
    reader.detach()
    writer.close()
    assert not writer.path.exists()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_the_newest_is_taken_whatever_was_missed(tmp_path_factory: pytest.TempPathFactory, bursts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("ring")
    writer, reader = RingWriter(folder, form(), 1), RingReader(folder, form())
    reader.take(0.0)
    value = 0
    for k, burst in enumerate(bursts):
        for _ in range(burst):
            value += 1
            writer.write(picture(value), 0.1 * k)
        frame = reader.take(0.1 * k)
        assert (frame is None) == (burst == 0)
        assert frame is None or (frame.seq == value and bool((frame.depth == value).all()))
    reader.detach()
    writer.close()


class Interrupted(RingReader):
    """Is interrupted in the middle of each copy by a writer that writes some frames more."""

    def __init__(self, writer: RingWriter, bursts: list[int]) -> None:
        super().__init__(writer.path.parent, writer.form)
        self.writer, self.bursts, self.value = writer, bursts, 0

    def publish(self) -> None:
        self.value += 1
        self.writer.write(picture(self.value), 1.0)

    def _copy(self, views: Any, slot: int, count: int) -> tuple[Frame, float] | None:
        found = super()._copy(views, slot, count)
        for _ in range(self.bursts.pop(0) if self.bursts else 0):
            self.publish()
        if found is not None:
            # The second half is what is there by now.
            found[0].depth[H // 2 :] = views.depths[slot][H // 2 :]
        return found


@pytest.mark.requirement("PER-09")
@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_a_frame_overwritten_while_it_is_copied_is_not_used(
    tmp_path_factory: pytest.TempPathFactory, bursts: list[int]
) -> None:
    writer = RingWriter(tmp_path_factory.mktemp("ring"), form(), 1)
    reader = Interrupted(writer, list(bursts))
    reader.publish()
    torn_twice = all(b >= ring.SLOTS for b in bursts[: ring.TRIES]) and len(bursts) >= ring.TRIES
    for k in range(4):
        frame = reader.take(1.0 + k)
        assert frame is None or bool((frame.depth == frame.seq).all()), "torn"
        if k == 0:
            assert (frame is None) == torn_twice
            assert reader.torn >= torn_twice
    reader.detach()
    writer.close()


@pytest.mark.requirement("PER-09")
def test_a_second_process_at_full_speed_is_never_seen_torn(tmp_path: Path) -> None:
    size = (424, 240)
    process = child(tmp_path, 6000, size)
    reader = RingReader(tmp_path, form("a", Intrinsics(*size, 0.9 * size[0], 0.9 * size[0], 212, 120), True))
    seen, now, before = 0, 0.0, -1
    while before < 5999 and process.poll() is None:
        now += 0.1
        frame = reader.take(now)
        if frame is not None:
            assert frame.seq > before
            assert int(frame.depth.min()) == int(frame.depth.max()) == frame.seq
            assert frame.colour is not None and int(frame.colour.min()) == int(frame.colour.max()) == frame.seq % 256
            before, seen = frame.seq, seen + 1
    assert before == 5999, "the last frame stays"
    assert seen > 20
    reader.detach()
    ended(process)


@pytest.mark.requirement("PER-09")
def test_a_killed_writer_is_replaced_and_its_old_frames_are_not_taken(tmp_path: Path) -> None:
    process = child(tmp_path, 5, (W, H))
    lens = Intrinsics(W, H, 0.9 * W, 0.9 * W, W / 2, H / 2)
    reader = RingReader(tmp_path, form("a", lens, True))
    assert process.stdout is not None
    process.stdout.readline()
    first = reader.take(0.0)
    assert first is not None
    with pytest.raises(RingError, match="has a writer"):
        RingWriter(tmp_path, form("a", lens, True))
    process.send_signal(signal.SIGKILL)
    ended(process)
    assert reader.take(1.0) is None, "a dead writer gives nothing"
    writer = RingWriter(tmp_path, form("a", lens, True))
    assert reader.take(2.0) is None
    writer.write(picture(3, colour=True), 2.0)
    again = reader.take(2.01)
    assert again is not None and again.seq == 3
    assert again.boot > first.boot, "a reader tells the new life from the old one"
    reader.detach()
    writer.close()


def test_a_reader_that_comes_first_says_why_it_has_nothing(tmp_path: Path) -> None:
    reader = RingReader(tmp_path, form())
    assert reader.take(0.0) is None
    assert "no camera process" in reader.fault
    writer = RingWriter(tmp_path, form(), 1)
    writer.write(picture(1), 0.0)
    assert reader.take(0.01) is None, "it does not look at the files at every step"
    assert reader.take(0.06) is not None
    assert reader.fault == ""
    reader.detach()
    writer.close()


@pytest.mark.requirement("PER-09")
@pytest.mark.parametrize(
    ("other", "words"),
    [
        (RingFormat("a", Intrinsics(W, H + 2, 60.0, 61.0, 31.5, 23.5), False), "height"),
        (RingFormat("a", Intrinsics(W, H, 60.0, 61.5, 31.5, 23.5), False), "fy"),
        (RingFormat("a", LENS, True), "colour"),
    ],
)
def test_a_ring_of_another_format_is_refused(tmp_path: Path, other: RingFormat, words: str) -> None:
    writer = RingWriter(tmp_path, other, 1)
    reader = RingReader(tmp_path, form())
    assert reader.take(0.0) is None
    assert words in reader.fault
    writer.close()


def test_another_camera_under_this_name_is_refused(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, form("b"), 1)
    os.rename(writer.path, tmp_path / f"a{ring.SUFFIX}")
    reader = RingReader(tmp_path, form("a"))
    assert reader.take(0.0) is None
    assert "name" in reader.fault
    writer.close()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=600))
def test_bytes_that_are_no_ring_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("ring")
    (folder / f"a{ring.SUFFIX}").write_bytes(content)
    reader = RingReader(folder, form())
    assert reader.take(0.0) is None
    assert reader.fault


@pytest.mark.parametrize("at", [9, 40, 60, 100])
def test_one_wrong_bit_in_the_head_is_refused(tmp_path: Path, at: int) -> None:
    writer = RingWriter(tmp_path, form(), 1)
    with writer.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))
    reader = RingReader(tmp_path, form())
    assert reader.take(0.0) is None
    assert reader.fault
    writer.close()


def test_a_cut_off_segment_is_refused(tmp_path: Path) -> None:
    writer = RingWriter(tmp_path, form(), 1)
    os.truncate(writer.path, writer.form.size - 4096)
    reader = RingReader(tmp_path, form())
    assert reader.take(0.0) is None
    assert "bytes" in reader.fault
    writer.close()


@pytest.mark.requirement("PER-09")
def test_forged_figures_of_a_frame_are_refused(pair: tuple[RingWriter, RingReader]) -> None:
    writer, reader = pair
    writer.write(picture(1), 0.0)
    at = writer._views.metas[1]
    # An exposure that is newer than the truth, without its check.
    struct.pack_into("<d", writer._views.memory, at + 24, 99.0)
    assert reader.take(0.0) is None
    assert reader.torn
    writer.write(picture(2), 0.0)
    good = reader.take(0.1)
    assert good is not None and good.seq == 2


def test_a_count_that_runs_ahead_of_the_frames_gives_nothing(pair: tuple[RingWriter, RingReader]) -> None:
    writer, reader = pair
    writer.write(picture(1), 0.0)
    writer._views.count[0] = 9
    assert reader.take(0.0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        picture(1)._replace(depth=np.zeros((H, W + 1), np.uint16)),
        picture(1)._replace(depth=np.zeros((0, 0), np.uint16)),
        picture(1)._replace(depth=np.zeros((H, W), np.int32)),  # type: ignore[arg-type]
    ],
)
def test_a_picture_of_another_kind_is_not_written(pair: tuple[RingWriter, RingReader], wrong: Frame) -> None:
    writer, reader = pair
    writer.write(picture(1), 0.0)
    assert reader.take(0.0) is not None
    with pytest.raises(RingError, match="expected"):
        writer.write(wrong, 0.1)
    assert reader.take(0.1) is None


@pytest.mark.parametrize("size", [(0, 4), (1, 1), (5000, 10), (-3, 4)])
def test_sizes_that_are_no_picture_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(RingError):
        RingFormat("a", Intrinsics(*size, 1.0, 1.0, 1.0, 1.0), False)


def test_intrinsics_and_names_that_are_none_are_refused() -> None:
    with pytest.raises(RingError):
        RingFormat("a", Intrinsics(W, H, math.nan, 1.0, 1.0, 1.0), False)
    with pytest.raises(RingError):
        RingFormat("", LENS, False)
    with pytest.raises(RingError):
        RingFormat("x" * 65, LENS, False)


def test_frames_stay_until_three_more_are_taken(pair: tuple[RingWriter, RingReader]) -> None:
    writer, reader = pair
    kept = []
    for value in range(1, 5):
        writer.write(picture(value), 0.0)
        frame = reader.take(0.1 * value)
        assert frame is not None
        kept.append(frame)
    assert [int(f.depth[0, 0]) for f in kept] == [1, 2, 3, 4]


def test_what_killed_cells_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    for name in ("cell-dead", "cell-alive", "cell-other", "else-dead"):
        (tmp_path / name).mkdir()
    for name in ("cell-dead", "else-dead"):
        RingWriter(tmp_path / name, form(), 1).close()
    (tmp_path / "cell-other" / "important").write_text("x")
    alive = RingWriter(tmp_path / "cell-alive", form(), 1)
    at = (tmp_path / "cell-dead").stat().st_mtime
    assert clear_away(tmp_path, "cell-", at + 1.0) == [], "it may just be starting"
    assert clear_away(tmp_path, "cell-", at + 100.0) == [tmp_path / "cell-dead"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cell-alive", "cell-other", "else-dead"]
    alive.close()


def test_no_room_for_a_ring_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RingError, match="ring"):
        RingWriter(tmp_path / "file", form())
