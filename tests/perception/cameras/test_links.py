"""The camera node and what it hands over: on the bus, through the ring, and what is said when nothing comes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell.bus.inprocess import Hub
from perception.cameras.links import BusSink, BusSource, RingSink, RingSource
from perception.cameras.ring import RingError, RingFormat, RingReader, RingWriter
from perception.config import PerceptionConfig
from perception.contract import CameraError, CameraInfo, Frame, FrameReady, Intrinsics, topic_ready
from perception.health import CameraWatch
from perception.node import SILENT, CameraNode

W, H = 32, 24
INFO = CameraInfo(
    "front", "t", Intrinsics(W, H, 30.0, 30.0, 16.0, 12.0), 30.0, tuple(np.eye(4).ravel().tolist()), 0.002, 0.3, 6.0
)
FORM = RingFormat("front", INFO.intrinsics, False)


def picture(seq: int, exposure: float, boot: int = 0, **changed: Any) -> Frame:
    depth = np.random.default_rng([abs(seq), boot]).integers(900, 4000, (H, W)).astype(np.uint16)
    return Frame("front", seq, exposure, depth, None, boot)._replace(**changed)


class Scripted:
    """A camera that does what stands in a list: frames, nothing, or complaints."""

    info = INFO

    def __init__(self, script: list[Frame | str | None]) -> None:
        self.script, self.closed = script, 0

    def connect(self, now: float) -> None:
        """There is nothing to open."""

    def poll(self, now: float) -> Frame | None:
        found = self.script.pop(0) if self.script else None
        if isinstance(found, str):
            raise CameraError(found)
        return found

    def close(self) -> None:
        self.closed += 1


def node_of(script: list[Frame | str | None], hub: Hub, sink: Any = None) -> CameraNode:
    ports = hub.ports("camera.front")
    return CameraNode(Scripted(script), sink or BusSink(ports, "front"), ports.event_source(), 0.004)


def test_both_ways_hand_over_the_same(tmp_path: Path) -> None:
    hub = Hub()
    sent = picture(3, 1.5, 8)
    bus, by_bus = BusSink(hub.ports("camera.front"), "front"), BusSource(hub.ports("perception"), "front")
    ring, by_ring = RingSink(RingWriter(tmp_path, FORM, 2)), RingSource(RingReader(tmp_path, FORM))
    for sink, source in ((bus, by_bus), (ring, by_ring)):
        assert source.take(1.0) is None
        sink.send(sent, 1.5)
        got = source.take(1.6)
        assert got is not None and np.array_equal(got.depth, sent.depth)
        assert (got.camera, got.seq, got.exposure, got.boot) == ("front", 3, 1.5, 8)
        assert source.take(1.604) is None
        source.close()
        sink.close()
    assert not list(tmp_path.glob("*.ring"))


def test_a_frame_in_the_ring_is_announced_and_read_without_its_announcement_too(tmp_path: Path) -> None:
    hub = Hub()
    said, heard = hub.ports("camera.front"), hub.ports("perception")
    sink = RingSink(RingWriter(tmp_path, FORM, 2), said.publisher(topic_ready("front"), FrameReady))
    source = RingSource(RingReader(tmp_path, FORM), heard.subscriber(topic_ready("front"), FrameReady))
    (ready,) = source.wakes
    assert source.take(0.9) is None
    sink.send(picture(3, 1.5, 8), 1.5)
    found = source.take(1.6)
    assert found is not None and found.seq == 3
    assert ready.take() is None, "taken with the frame: else it would wake for ever"
    sink.send(picture(4, 1.6, 8), 1.6)
    assert ready.take() is not None, "lost"
    found = source.take(1.7)
    assert found is not None and found.seq == 4
    assert RingSource(RingReader(tmp_path, FORM)).wakes == []
    with pytest.raises(RingError):
        sink.send(picture(5, 1.7, depth=np.zeros((H, W + 2), np.uint16)), 1.7)
    assert ready.take() is None, "nothing lies there"
    source.close()
    sink.close()


def test_a_camera_that_complains_or_is_silent_is_reported_once_and_when_it_is_back(tmp_path: Path) -> None:
    hub = Hub()
    feed = hub.ports("ledger").event_feed()
    node = node_of([picture(1, 0.0), "unplugged", "unplugged", None, picture(2, 0.1)], hub)
    for k in range(6):
        node.step(0.004 * k)
    events = [(e.kind, e.data["reason"]) for e in feed.drain()]
    assert events == [("camera.silent", "unplugged"), ("camera.delivers", "")]
    for k in range(6, 400):
        node.step(0.004 * k)
    events = [(e.kind, e.data["reason"]) for e in feed.drain()]
    assert events == [("camera.silent", f"no picture for {SILENT:g} s")]
    node.close()


def test_a_frame_that_is_not_this_cameras_is_not_handed_over(tmp_path: Path) -> None:
    hub = Hub()
    feed = hub.ports("ledger").event_feed()
    reader = RingReader(tmp_path, FORM)
    wrong = picture(1, 0.0, depth=np.zeros((H, W + 2), np.uint16))
    node = node_of([wrong, picture(2, 0.1)], hub, RingSink(RingWriter(tmp_path, FORM)))
    node.step(0.0)
    assert reader.take(0.0) is None
    assert "expected" in feed.drain()[0].data["reason"]
    node.step(0.1)
    assert reader.take(0.1) is not None
    node.close()


@pytest.mark.requirement("PER-05")
def test_a_restarted_camera_is_used_again_and_frames_of_its_old_life_are_not(config: PerceptionConfig) -> None:
    watch = CameraWatch(INFO, config)
    assert watch.admit(picture(500, 1.0, 7), 1.03)
    assert watch.admit(picture(1, 2.0, 9), 2.03), "its numbers begin again"
    assert not watch.admit(picture(501, 2.1, 7), 2.13), "the old life"
    assert not watch.admit(picture(2, 1.9, 9), 2.14), "exposed before what is known"
    assert not watch.admit(picture(-1, 2.2, 9), 2.23)
    assert watch.admit(picture(2, 2.2, 9), 2.23)
    assert watch.health(2.23).ok
    assert watch.health(2.23).dropped == 0


@pytest.mark.parametrize("exposure", [math.nan, math.inf, 5.0])
@pytest.mark.requirement("PER-05")
def test_impossible_times_from_the_ring_are_a_fault(tmp_path: Path, config: PerceptionConfig, exposure: float) -> None:
    writer, reader = RingWriter(tmp_path, FORM), RingReader(tmp_path, FORM)
    writer.write(picture(1, exposure), 1.0)
    frame = reader.take(1.0)
    assert frame is not None
    watch = CameraWatch(INFO, config)
    assert not watch.admit(frame, 1.0)
    assert not watch.health(1.0).ok
    writer.close()
