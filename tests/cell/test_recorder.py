"""The flight recorder: what was said can be read again, also from a file that breaks off."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from cell.bus.inprocess import Hub
from cell.commands.replay import moments_of
from cell.recorder import RecorderNode, RecordError, read_flight
from cell.report import Moment, draw_timeline, table_of
from cell.summary import RunSummary, write_summary
from tests.cell.harness import Bench


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded start of a batch, a slow-down, a hold."""
    path = tmp_path_factory.mktemp("run") / "flight.mcap"
    bench = Bench()
    recorder = RecorderNode(bench.hub.ports("recorder"), path)

    def run(seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            bench.run(0.02)
            recorder.step(bench.now)

    run(0.2)
    bench.command("Reset")
    run(0.2)
    bench.command("Start")
    run(1.0)
    bench.supervisor.limit = 0.3
    run(0.5)
    bench.command("Hold")
    run(1.0)
    recorder.close()
    return path


def test_reads_back_what_was_said(recording: Path) -> None:
    messages = list(read_flight(recording))
    topics = {m.topic for m in messages}
    assert {"arm.state", "arm.motion", "safety.status", "cell.status", "arm.lease.supervisor", "events"} <= topics
    kinds = [m.body.kind for m in messages if m.topic == "events"]
    assert "packml.state" in kinds
    assert "batch.started" in kinds
    assert len([m for m in messages if m.topic == "arm.motion"]) < 10
    moments = list(moments_of(recording))
    assert {m.state for m in moments} >= {"Stopped", "Execute", "Held"}
    assert any(m.limit == 0.3 and m.rate == pytest.approx(0.3) for m in moments if m.state == "Execute")
    assert all(b.t > a.t for a, b in pairwise(moments))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.99])
def test_a_file_that_breaks_off_is_read_up_to_there(recording: Path, tmp_path: Path, share: float) -> None:
    raw = recording.read_bytes()
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(raw[: int(len(raw) * share)])
    whole = list(read_flight(recording))
    part = list(read_flight(broken)) if share > 0.2 else []
    assert part == whole[: len(part)]
    if share > 0.6:
        assert len(part) > 10


def test_files_that_are_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="does not exist"):
        list(read_flight(tmp_path / "none.mcap"))
    other = tmp_path / "other.mcap"
    other.write_bytes(b"not a recording" * 50)
    with pytest.raises(RecordError, match="no MCAP"):
        list(read_flight(other))
    with pytest.raises(RecordError, match="write there"):
        RecorderNode(Hub().ports("recorder"), other / "below" / "flight.mcap")


def test_a_recorder_that_cannot_write_lets_the_cell_go_on(tmp_path: Path) -> None:
    hub = Hub()
    feed = hub.ports("reader").event_feed()
    node = RecorderNode(hub.ports("recorder"), tmp_path / "flight.mcap")
    assert node._file is not None
    node._file._stream.close()
    hub.ports("other").event_source().emit("something", 1.0)
    node.step(1.0)
    node.step(2.0)
    node.close()
    assert [e.kind for e in feed.drain()].count("recorder.failed") == 1


def test_timeline_and_summary(tmp_path: Path) -> None:
    assert not draw_timeline([], tmp_path / "none.png", "nothing")
    moments = [
        Moment(0.1 * i, 1e9 if i < 20 else 1.0 - 0.02 * i, 0.5, 1.0, 1.0, "Execute" if i < 30 else "Suspended")
        for i in range(60)
    ]
    assert draw_timeline(moments, tmp_path / "t.png", "a run")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    summary = RunSummary(
        outcome="Complete", state="Complete", recipe="r", cell="c", mode="lockstep", parts_done=1, batches_done=1,
        cycle_times_s=[1.0], predicted_cycle_s=1.1, sim_s=2.0, wall_s=1.0, min_separation_m=None,
        contacts_while_moving=0, psd_violations=0, outside_assumption=0, protective_stops=0, time_slowed_s=0.0,
        time_stopped_s=0.0, seed=1, fingerprint="f", digest="d", alarms=[], event_gaps=0,
    )  # fmt: skip
    write_summary(tmp_path / "a" / "s.json", summary)
    assert '"outcome": "Complete"' in (tmp_path / "a" / "s.json").read_text()
    table = table_of(summary)
    assert table.row_count == 13
