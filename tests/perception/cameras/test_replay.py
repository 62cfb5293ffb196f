"""A recording played into perception, node by node in lock-step: what was seen is seen again, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell.bus.inprocess import Hub
from perception.cameras.files import McapRecorder
from perception.cameras.links import BusSink, BusSource, RingSink, RingSource
from perception.cameras.recording import RecordingCamera
from perception.cameras.ring import RingFormat, RingReader, RingWriter
from perception.config import PerceptionConfig
from perception.contract import SERVICE, TOPIC_OBSERVATION, ConfirmClear, Frame, Observation
from perception.core import CameraFusion
from perception.node import CameraNode, PerceptionNode
from robots.contract import RobotState, topic_state
from robots.workcell import Workcell
from tests.perception.conftest import camera_info, render
from tests.perception.test_perception import PERSON, OneLink, robot_state

TICK = 0.004
FRAMES = 14
MOUNT = {"position": [-0.6, -1.42, 1.84], "look_at": [1.08, -0.3, 0.4]}


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory, workcell: Workcell) -> Path:
    """A second and a half: nobody, then a person."""
    path = tmp_path_factory.mktemp("visit") / "visit.mcap"
    info = camera_info("seen")
    recorder = McapRecorder(path, [info])
    for k in range(FRAMES):
        boxes = [PERSON] if k >= 6 else []
        recorder.add(Frame("seen", k + 1, 3.0 + k / 30, render(info, workcell, boxes, 50 + k)))
    recorder.close()
    return path


def played(visit: Path, workcell: Workcell, ring: Path | None) -> list[Observation]:
    """All observations; frames go over the bus, or through a ring in the folder."""
    hub = Hub()
    camera = RecordingCamera("front", {"mount": MOUNT, "file": str(visit)})
    fusion = CameraFusion([camera.info], workcell, PerceptionConfig(), OneLink())
    ports, reader = hub.ports("camera.front"), hub.ports("perception")
    sink: Any = BusSink(ports, "front")
    source: Any = BusSource(reader, "front")
    if ring is not None:
        form = RingFormat("front", camera.info.intrinsics, camera.info.colour)
        sink, source = RingSink(RingWriter(ring, form)), RingSource(RingReader(ring, form))
    node = CameraNode(camera, sink, ports.event_source(), TICK)
    perception = PerceptionNode(reader, fusion, TICK, {"front": source})
    states = hub.ports("arm").publisher(topic_state(), RobotState)
    asking = hub.ports("controller")
    asking.requester(SERVICE, "test").request(ConfirmClear("tester"), 0.0)
    observations = asking.follower(TOPIC_OBSERVATION, Observation)
    for k in range(1, 160):
        now = k * TICK
        states.send(robot_state(now), now)
        node.step(now)
        perception.step(now)
    perception.close()
    node.close()
    return [envelope.body for envelope in observations.drain()]


def test_perception_sees_in_a_recording_what_the_camera_saw(visit: Path, workcell: Workcell) -> None:
    seen = played(visit, workcell, None)
    assert len(seen) == FRAMES, "each frame once"
    assert np.allclose(np.diff([o.oldest_exposure for o in seen]), 1 / 30)
    assert [o.seen > 0 for o in seen] == [False] * 6 + [True] * (FRAMES - 6)
    balls = np.frombuffer(seen[-1].balls, "<f4").reshape(-1, 4)[: seen[-1].seen]
    assert np.abs(balls[:, :2].mean(axis=0) - PERSON[0][:2]).max() < 0.3


def test_the_same_recording_gives_the_same_over_the_bus_and_through_the_ring(
    visit: Path, workcell: Workcell, tmp_path: Path
) -> None:
    first, again = played(visit, workcell, None), played(visit, workcell, None)
    assert first == again
    # Lives are numbered differently; what is seen is not.
    assert [o.balls for o in played(visit, workcell, tmp_path)] == [o.balls for o in first]
