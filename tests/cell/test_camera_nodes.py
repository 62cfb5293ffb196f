"""Which way frames go: the bus in lock-step, a ring of the session in live runs, and no second camera process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cell.bus.inprocess import Hub
from cell.clock import SimulatedClock
from cell.launch import Processes
from cell.nodes import build
from cell.options import RunOptions
from cell.session import Session, SessionError, new_session
from perception.cameras.ring import SUFFIX, RingFormat, RingWriter, ring_folder
from perception.node import CameraNode


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Session]:
    session = new_session(RunOptions(recipe=None, mode="live"), tmp_path)
    yield session
    for folder in (ring_folder(session.file.bus), Path(session.file.bus)):
        shutil.rmtree(folder, ignore_errors=True)


def rings(session: Session) -> list[str]:
    return sorted(path.name for path in ring_folder(session.file.bus).glob(f"*{SUFFIX}"))


@pytest.mark.requirement("PER-09")
def test_a_live_camera_has_a_ring_that_no_second_process_can_take(live: Session) -> None:
    clock = SimulatedClock()
    node = build("camera.front", live, Hub().ports("camera.front"), clock)
    assert isinstance(node, CameraNode)
    assert rings(live) == [f"front{SUFFIX}"]
    assert ring_folder(live.file.bus).stat().st_mode & 0o077 == 0, "for its owner alone"
    with pytest.raises(SessionError, match="has a writer"):
        build("camera.front", live, Hub().ports("camera.front"), clock)
    other = build("camera.back", live, Hub().ports("camera.back"), clock)
    assert rings(live) == [f"back{SUFFIX}", f"front{SUFFIX}"]
    node.close()
    other.close()
    assert rings(live) == []


def test_in_lock_step_nothing_is_shared(tmp_path: Path) -> None:
    before = set(Path("/dev/shm").glob("*")) if Path("/dev/shm").is_dir() else set()
    session = new_session(RunOptions(recipe=None), tmp_path)
    node = build("camera.front", session, Hub().ports("camera.front"), SimulatedClock())
    assert session.file.bus == ""
    made = set(Path("/dev/shm").glob("front*")) if Path("/dev/shm").is_dir() else set()
    assert made <= before
    node.close()


def test_the_end_of_a_cell_takes_its_rings_with_it(live: Session) -> None:
    info = build("camera.front", live, Hub().ports("camera.front"), SimulatedClock())
    assert isinstance(info, CameraNode)
    k = info.camera.info
    info.close()
    with Processes(live):
        # A camera that was killed leaves its segment.
        RingWriter(ring_folder(live.file.bus), RingFormat("front", k.intrinsics, k.colour))
        assert rings(live)
    assert not ring_folder(live.file.bus).exists()
    assert not Path(live.file.bus).exists()
