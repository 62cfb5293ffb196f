"""The durable event log: SQLite in WAL mode, synchronous=FULL. What `append` has returned for survives kill -9.

One writer, any number of readers. Every row carries the fingerprint of its batch. Sequence numbers run per
source and boot, so a missing event is known to be missing; a repeated one is written once.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cell.bus.messages import Event
from cell.bus.ports import Ports
from cell.contract import TOPIC_LEDGER, LedgerStatus

SCHEMA_VERSION = 1
WAITING_LIMIT = 20_000
"""Events kept in memory while the disk refuses them; beyond that they are counted as lost."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL, boot INTEGER NOT NULL, seq INTEGER NOT NULL,
    t REAL NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL, fingerprint TEXT NOT NULL,
    UNIQUE (source, boot, seq));
CREATE TABLE IF NOT EXISTS gaps (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL, boot INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL);
"""


class LedgerError(Exception):
    """The ledger cannot be opened or written; the text names the file, the cause and the remedy."""


def _explain(path: Path, error: sqlite3.Error) -> LedgerError:
    text = str(error)
    if "locked" in text or "busy" in text:
        remedy = "another cell writes to it: stop that one, or give this one its own folder"
    elif "full" in text:
        remedy = "free disk space; events are kept in memory until then"
    elif "malformed" in text or "not a database" in text or "corrupt" in text:
        remedy = "the file is damaged: move it away for examination, a new one is made at the next start"
    elif "readonly" in text or "unable to open" in text:
        remedy = "give the cell the right to write there"
    else:
        remedy = "check disk and file"
    return LedgerError(f"ledger {path}: {text}; {remedy}")


def _storable(value: Any) -> Any:
    """SQLite and people's tools read JSON: NaN and infinities become text there, and are not lost."""
    return msgspec.to_builtins(value, builtin_types=())


class Ledger:
    """One ledger file, open for writing."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises LedgerError: damaged, locked, not writable, of another version."""
        self.path = path
        self._last: dict[tuple[str, int], int] = {}
        self._fingerprint = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        except OSError as error:
            raise LedgerError(f"ledger {path}: {error.strerror}; give the cell the right to write there") from None
        except sqlite3.Error as error:
            raise _explain(path, error) from None
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise _explain(path, error) from None

    def _open(self) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("database disk image is malformed")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise sqlite3.DatabaseError(f"written by version {version}, this one writes version {SCHEMA_VERSION}")
        if version == 0:
            db.executescript("BEGIN IMMEDIATE;" + _SCHEMA + f"PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        for source, boot, seq in db.execute("SELECT source, boot, MAX(seq) FROM events GROUP BY source, boot"):
            self._last[(source, boot)] = seq

    def append(self, events: Sequence[Event]) -> list[tuple[str, int, int, int]]:
        """Write `events` as one transaction; when this returns they are on disk. An event seen before is skipped.

        Returns new gaps as (source, boot, first missing, last missing). Raises LedgerError; then none was written.
        """
        last = dict(self._last)
        fingerprint = self._fingerprint
        rows, gaps = [], []
        for event in events:
            key = (event.source, event.boot)
            expected = last.get(key, 0) + 1
            if event.seq > expected:
                gaps.append((event.source, event.boot, expected, event.seq - 1))
            last[key] = max(event.seq, last.get(key, 0))
            if event.kind == "batch.started":
                fingerprint = str(event.data.get("fingerprint", ""))
            data = msgspec.json.encode(_storable(event.data))
            rows.append((event.source, event.boot, event.seq, event.t, event.kind, data, fingerprint))
            if event.kind == "batch.finished":
                fingerprint = ""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO events (source, boot, seq, t, kind, data, fingerprint) VALUES (?,?,?,?,?,?,?)",
                rows,
            )
            self._db.executemany("INSERT INTO gaps (source, boot, first, last) VALUES (?,?,?,?)", gaps)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise _explain(self.path, error) from None
        self._last, self._fingerprint = last, fingerprint
        return gaps

    def count(self) -> int:
        """Return how many events are in the file."""
        return int(self._db.execute("SELECT COUNT(*) FROM events").fetchone()[0])

    def close(self) -> None:
        """Idempotent."""
        self._db.close()


class LedgerRow(msgspec.Struct, frozen=True):
    """An event as it was written."""

    event: Event
    fingerprint: str


def read_ledger(path: Path) -> Iterator[LedgerRow]:
    """Yield all events in the order of writing. Raises LedgerError."""
    if not path.is_file():
        raise LedgerError(f"ledger {path}: does not exist; give the folder of a run")
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
    except sqlite3.Error as error:
        raise _explain(path, error) from None
    try:
        query = "SELECT source, boot, seq, t, kind, data, fingerprint FROM events ORDER BY id"
        for source, boot, seq, t, kind, data, fingerprint in db.execute(query):
            yield LedgerRow(Event(source, boot, seq, t, kind, msgspec.json.decode(data)), fingerprint)
    except sqlite3.Error as error:
        raise _explain(path, error) from None
    finally:
        db.close()


class LedgerNode:
    """Writes every event of the cell, and says on `TOPIC_LEDGER` how far it has come.

    While the disk refuses, events wait in memory and the status says so; the controller raises the alarm.
    """

    name = "ledger"

    def __init__(self, ports: Ports, path: Path, period: float = 0.1) -> None:
        self.period = period
        self._ledger = Ledger(path)
        self._feed = ports.event_feed()
        self._status = ports.publisher(TOPIC_LEDGER, LedgerStatus)
        self._waiting: deque[Event] = deque()
        self._newest: dict[str, tuple[int, int]] = {}
        self._written = self._ledger.count()
        self._gaps = 0
        self._lost = 0

    def step(self, now: float) -> None:
        self._waiting.extend(self._feed.drain())
        while len(self._waiting) > WAITING_LIMIT:
            self._waiting.popleft()
            self._lost += 1
        reason = ""
        if self._waiting:
            events = list(self._waiting)
            try:
                gaps = self._ledger.append(events)
            except LedgerError as error:
                reason = str(error)
            else:
                self._waiting.clear()
                self._note(events, gaps)
        if self._lost:
            reason = reason or f"{self._lost} events were lost while the disk refused them"
        acknowledged = {source: seq for source, (_, seq) in self._newest.items()}
        self._status.send(
            LedgerStatus(
                now, not reason, reason, self._written, self._gaps + self._lost, len(self._waiting), acknowledged
            ),
            now,
        )

    def _note(self, events: list[Event], gaps: list[tuple[str, int, int, int]]) -> None:
        self._written += len(events)
        self._gaps += sum(last - first + 1 for _, _, first, last in gaps)
        for event in events:
            self._newest[event.source] = max(self._newest.get(event.source, (0, 0)), (event.boot, event.seq))

    def close(self) -> None:
        """Write what is left, then close the file."""
        self._waiting.extend(self._feed.drain())
        try:
            if self._waiting:
                self._ledger.append(list(self._waiting))
        finally:
            self._ledger.close()
