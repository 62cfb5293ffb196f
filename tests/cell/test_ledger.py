"""The ledger keeps what it has acknowledged, and says plainly when it cannot."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cell.bus.inprocess import Hub
from cell.bus.messages import Event
from cell.contract import TOPIC_LEDGER, LedgerStatus
from cell.ledger import Ledger, LedgerError, LedgerNode, read_ledger

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from cell.bus.messages import Event
from cell.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for i in range(1, 1_000_000):
    ledger.append([Event("writer", 1, i, i * 0.1, "tick", {"i": i})])
    print(i, flush=True)
"""


def event(seq: int, kind: str = "tick", source: str = "a", boot: int = 1, **data: object) -> Event:
    return Event(source, boot, seq, float(seq), kind, dict(data))


@pytest.mark.requirement("CTL-09")
def test_kill_loses_no_acknowledged_event(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged == 60:
            process.send_signal(signal.SIGKILL)
            break
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.stdout.close()
    process.wait()
    kept = [row.event.seq for row in read_ledger(path)]
    assert kept == list(range(1, len(kept) + 1))
    assert acknowledged >= 60
    assert len(kept) >= acknowledged
    assert Ledger(path).append([event(len(kept) + 1, source="writer")]) == []


def test_gaps_are_found_per_source_and_boot(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    assert ledger.append([event(1), event(1, source="b")]) == []
    assert ledger.append([event(4), event(2, source="b")]) == [("a", 1, 2, 3)]
    assert ledger.append([event(1, boot=2)]) == []
    assert ledger.append([event(3, source="c")]) == [("c", 1, 1, 2)]
    ledger.close()
    again = Ledger(tmp_path / "l.sqlite")
    assert again.append([event(5)]) == []
    assert again.append([event(7)]) == [("a", 1, 6, 6)]


def test_a_repeated_event_is_written_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.append([event(1), event(1)])
    ledger.append([event(1)])
    assert ledger.count() == 1


def test_rows_carry_the_fingerprint_of_their_batch(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path)
    ledger.append([event(1), event(2, "batch.started", fingerprint="abc"), event(3)])
    ledger.append([event(4), event(5, "batch.finished"), event(6)])
    assert [row.fingerprint for row in read_ledger(path)] == ["", "abc", "abc", "abc", "abc", ""]


def test_odd_values_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    Ledger(path).append([event(1, value=float("nan"), raw=b"\x00\xff", text="é\x00")])
    data = next(read_ledger(path)).event.data
    assert data["value"] is None
    assert data["text"] == "é\x00"
    assert data["raw"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"this is no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path)
    with pytest.raises(LedgerError, match="damaged"):
        list(read_ledger(path))
    with pytest.raises(LedgerError, match="does not exist"):
        list(read_ledger(tmp_path / "none"))
    with pytest.raises(LedgerError, match=r"write there|Not a directory|File exists"):
        Ledger(path / "below" / "l.sqlite")


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="another cell"):
        ledger.append([event(1)])
    other.execute("ROLLBACK")
    assert ledger.append([event(1)]) == []


def test_a_full_disk_keeps_events_until_there_is_room(tmp_path: Path) -> None:
    hub = Hub()
    source = hub.ports("source").event_source()
    node = LedgerNode(hub.ports("ledger"), tmp_path / "l.sqlite")
    status = hub.ports("reader").subscriber(TOPIC_LEDGER, LedgerStatus)
    pages = node._ledger._db.execute("PRAGMA page_count").fetchone()[0]
    node._ledger._db.execute(f"PRAGMA max_page_count={pages}")
    for i in range(50):
        source.emit("tick", float(i), text="x" * 4000)
    node.step(1.0)
    seen = status.take()
    assert seen is not None
    assert not seen.body.ok
    assert "full" in seen.body.reason
    assert seen.body.waiting == 50
    assert "source" not in seen.body.acknowledged
    node._ledger._db.execute("PRAGMA max_page_count=100000")
    node.step(1.1)
    seen = status.take()
    assert seen is not None
    assert (seen.body.ok, seen.body.waiting, seen.body.acknowledged) == (True, 0, {"source": 50})
    node.close()
    assert len(list(read_ledger(tmp_path / "l.sqlite"))) == 50
