"""The flight recorder: an MCAP file of what the nodes said, readable by common tools, and its reader.

Messages are msgpack with the JSON schema of their struct beside them, in the order in which they were said. They are
written 1 s later (`cell.keeping`), and chunks are closed every second, so an ended process costs the last two seconds
at most; a file that ends in the middle is read up to there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer

from cell.bus.messages import Event
from cell.bus.ports import Ports, Subscriber
from cell.contract import TOPIC_STATUS as TOPIC_CELL
from cell.contract import CellStatus
from cell.keeping import HELD_BACK, InOrder, StateKeeper
from perception.contract import TOPIC_OBSERVATION, TOPIC_SKELETONS, CameraHealth, Observation, Skeletons
from robots.contract import ARM, AcceptedMotion, RobotState, SpeedLease, topic_lease, topic_motion, topic_state
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY
from safety.contract import SafetyStatus

FLUSH_PERIOD = 1.0
CHUNK = 64 * 1024
TOPIC_EVENTS = "events"
TOPIC_SUMMARY = "perception.summary"
TOPIC_POINTS = "perception.points"
COMPRESSION = 1
MOST_BALLS = 1_000_000
LATEST = 1e9
"""s on the shared monotonic clock."""
BROKEN = (McapError, struct.error)
"""What the reader raises where a file breaks off, depending on the byte."""
ABOUT = "cell"
"""Name of the metadata that say what the recording is of."""


class RecordError(Exception):
    """A recording that cannot be written or read; the text names the file and the remedy."""


class ObservationSummary(msgspec.Struct, frozen=True):
    """An `Observation` without its points."""

    seq: int
    t: float
    oldest_exposure: float
    balls: int
    seen: int
    healthy: bool
    reason: str
    cameras: list[CameraHealth]
    people: int
    confirmed_clear: bool

    @staticmethod
    def of(o: Observation) -> ObservationSummary:
        """Summarise an observation."""
        count = len(o.balls) // 16
        return ObservationSummary(
            o.seq,
            o.t,
            o.oldest_exposure,
            count,
            o.seen,
            o.healthy,
            o.reason,
            o.cameras,
            len(o.tracks),
            o.confirmed_clear,
        )


class PackedObservation(msgspec.Struct, frozen=True):
    """What a decision needs of an `Observation`: its points, compressed without loss, and its times."""

    seq: int
    t: float
    oldest_exposure: float
    seen: int
    healthy: bool
    confirmed_clear: bool
    balls: bytes
    """A Zstandard frame; see `Observation.balls`."""

    @staticmethod
    def of(o: Observation) -> PackedObservation:
        """Pack an observation."""
        packed = zstandard.ZstdCompressor(level=COMPRESSION).compress(o.balls)
        return PackedObservation(o.seq, o.t, o.oldest_exposure, o.seen, o.healthy, o.confirmed_clear, packed)

    def unpack(self) -> Observation:
        """Return the observation, without cameras and tracks. Raises ValueError if the points are damaged."""
        try:
            # The frame says how much it unpacks to: asked first, a forged one cannot fill the memory.
            if not 0 <= zstandard.frame_content_size(self.balls) <= MOST_BALLS * 16:
                raise ValueError("damaged points: too many, or none said")
            balls = zstandard.ZstdDecompressor().decompress(self.balls)
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged points: {error}") from None
        if len(balls) % 16:
            raise ValueError("damaged points: they break off")
        return Observation(
            self.seq, self.t, self.oldest_exposure, balls, self.seen, self.healthy, "", [], [], self.confirmed_clear
        )


class _File:
    """An MCAP file being written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] = path.open("wb")
        self._writer = Writer(self._stream, chunk_size=CHUNK, compression=CompressionType.NONE)
        self._writer.start(profile="collabcell", library="collabcell")
        self._channels: dict[str, int] = {}
        self._encode = msgspec.msgpack.Encoder().encode

    def describe(self, about: dict[str, str]) -> None:
        self._writer.add_metadata(ABOUT, about)

    def add(self, topic: str, kind: type, body: Any, t: float) -> None:
        """Add a message; a body that is encoded already (`msgspec.Raw`) goes in as it is."""
        channel = self._channels.get(topic)
        if channel is None:
            text = msgspec.json.encode(msgspec.json.schema(kind))
            schema = self._writer.register_schema(kind.__name__, "jsonschema", text)
            channel = self._channels[topic] = self._writer.register_channel(topic, "msgpack", schema)
        # A stamp that is no sensible time must not end the recording.
        stamp = round(min(max(t, 0.0), LATEST) * 1e9) if math.isfinite(t) else 0
        data = bytes(body) if isinstance(body, msgspec.Raw) else self._encode(body)
        self._writer.add_message(channel, stamp, data, stamp)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._stream.close()


class RecorderNode:
    """Records every lease with the robot state it names, every observation with its points, every motion and every
    event; of the other states and of decisions the newest each time it looks.

    A recorder that cannot write says so once as an event (`recorder.failed`) and lets the cell go on: the ledger is
    what must not be lost.
    """

    name = "recorder"

    def __init__(
        self,
        ports: Ports,
        path: Path,
        robot: str = ARM,
        issuers: tuple[str, ...] = ("supervisor",),
        period: float = 0.02,
        about: dict[str, str] | None = None,
        skeletons: bool = False,
    ) -> None:
        """`about` says what a recheck needs to know; `skeletons`: somebody says them. Raises
        RecordError if the file cannot be made."""
        self.period = period
        self.path = path
        try:
            self._file: _File | None = _File(path)
            self._file.describe(about or {})
        except OSError as error:
            raise RecordError(f"recording {path}: {error.strerror}; give the cell the right to write there") from None
        kinds: list[tuple[str, type]] = [(TOPIC_SAFETY, SafetyStatus), (TOPIC_CELL, CellStatus)]
        if skeletons:
            kinds.append((TOPIC_SKELETONS, Skeletons))
        # Nothing of these is looked at here: they are written as they came.
        self._inputs: list[tuple[str, type, Subscriber[msgspec.Raw]]] = [
            (topic, kind, ports.subscriber(topic, msgspec.Raw)) for topic, kind in kinds
        ]
        self._states = (topic_state(robot), ports.follower(topic_state(robot), msgspec.Raw))
        self._keeper, self._lines = StateKeeper(), InOrder()
        topics = [topic_lease(issuer, robot) for issuer in issuers]
        self._leases = [(topic, ports.follower(topic, msgspec.Raw)) for topic in topics]
        self._motions = (topic_motion(robot), ports.follower(topic_motion(robot), AcceptedMotion))
        self._observations = ports.follower(TOPIC_OBSERVATION, Observation)
        self._feed = ports.event_feed()
        self._events = ports.event_source()
        self._motion = ""
        self._flush_due = 0.0

    def step(self, now: float) -> None:
        events = self._feed.drain()
        if self._file is None:
            return
        try:
            self._record(self._file, events, now)
        except (OSError, ValueError) as error:
            self._file = None
            self._events.emit("recorder.failed", now, file=str(self.path), reason=str(error))

    def _record(self, file: _File, events: list[Event], now: float) -> None:
        self._collect(events, now)
        for state in self._keeper.release(now - HELD_BACK):
            self._lines.add(self._states[0], RobotState, state.body, state.sent_at, now)
        for line in self._lines.release(now - HELD_BACK):
            file.add(line.topic, line.kind, line.body, line.t)
        if now >= self._flush_due:
            self._flush_due = now + FLUSH_PERIOD
            file.flush()

    def _collect(self, events: list[Event], now: float) -> None:
        """Take what has come. States before leases: what a lease names has then come."""
        add = self._lines.add
        topic, motions = self._motions
        for motion in motions.drain():
            # Published again and again while it runs; once is enough to replay it.
            if motion.body.motion_id != self._motion:
                self._motion = motion.body.motion_id
                add(topic, AcceptedMotion, motion.body, motion.sent_at, now)
        for topic, kind, inbox in self._inputs:
            envelope = inbox.take()
            if envelope is not None:
                add(topic, kind, envelope.body, envelope.sent_at, now)
        self._keeper.take(self._states[1].drain(), now)
        for topic, leases in self._leases:
            for lease in leases.drain():
                self._keeper.lease(lease.body)
                add(topic, SpeedLease, lease.body, lease.sent_at, now)
        for observation in self._observations.drain():
            t = observation.sent_at
            add(TOPIC_SUMMARY, ObservationSummary, ObservationSummary.of(observation.body), t, now)
            add(TOPIC_POINTS, PackedObservation, PackedObservation.of(observation.body), t, now)
        for event in events:
            add(TOPIC_EVENTS, Event, event, event.t, now)

    def close(self) -> None:
        """Write what has come since, and the index."""
        if self._file is not None:
            self._record(self._file, self._feed.drain(), math.inf)
            self._file.close()
            self._file = None


class Recorded(NamedTuple):
    """One message of a recording."""

    t: float
    topic: str
    body: Any


def read_flight(path: Path) -> Iterator[Recorded]:
    """Yield all messages in the order of recording; a file that breaks off is read up to there. Raises RecordError."""
    kinds: dict[str, type] = {
        k.__name__: k
        for k in (
            RobotState,
            AcceptedMotion,
            SafetyStatus,
            CellStatus,
            SpeedLease,
            ObservationSummary,
            PackedObservation,
            Skeletons,
            Event,
        )
    }
    decoders: dict[str, Any] = {name: msgspec.msgpack.Decoder(kind) for name, kind in kinds.items()}
    if not path.is_file():
        raise RecordError(f"recording {path}: does not exist; give the folder of a run")
    schemas: dict[int, str] = {}
    channels: dict[int, Channel] = {}
    with path.open("rb") as stream:
        records = StreamReader(stream).records
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except BROKEN as error:
                if not channels:
                    raise RecordError(f"recording {path}: is no MCAP file ({error})") from None
                return
            if isinstance(record, Schema):
                schemas[record.id] = record.name
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels[record.channel_id]
                decoder = decoders.get(schemas.get(channel.schema_id, ""))
                if decoder is not None:
                    yield Recorded(record.log_time / 1e9, channel.topic, decoder.decode(record.data))


def read_about(path: Path) -> dict[str, str]:
    """Return what a recording says about itself; empty for one that says nothing. Raises RecordError."""
    if not path.is_file():
        raise RecordError(f"recording {path}: does not exist; give the folder of a run")
    with path.open("rb") as stream:
        try:
            for record in StreamReader(stream).records:
                if isinstance(record, Metadata) and record.name == ABOUT:
                    return dict(record.metadata)
                if isinstance(record, Message):
                    break
        except BROKEN as error:
            raise RecordError(f"recording {path}: is no MCAP file ({error})") from None
    return {}
