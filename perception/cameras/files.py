"""Recordings of cameras: our own MCAP files, written and read, and what they share with other kinds.

An MCAP file holds one channel a camera, `camera.<name>.frame`, with msgpack messages (`RecordedFrame`, its JSON schema
beside it) whose pictures are Zstandard frames, and one metadata record a camera that says what it is.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import msgspec
import numpy as np
import zstandard
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer

from perception.contract import CameraInfo, Frame, topic_frame

CHUNK = 1024 * 1024
COMPRESSION = 1
ABOUT = "camera"
"""Name of the metadata records that say what a camera is."""
LARGEST_SIDE = 4096
LARGEST_RECORD = 256 * 1024 * 1024
DAMAGED = (McapError, struct.error, ValueError, KeyError, OverflowError, MemoryError)
"""What the reader raises where a file is damaged, depending on the byte."""


class RecordingError(Exception):
    """A recording that cannot be written or read; the text names the file and what to do."""


class RecordedFrame(msgspec.Struct, frozen=True):
    """One frame in an MCAP file."""

    camera: str
    seq: int
    exposure: float
    """s, on the clock of the recording."""
    exposure_time: float | None
    hardware: float | None
    height: int
    width: int
    depth: bytes
    """Zstandard frame of (height, width) uint16 little endian, mm, 0 = unknown."""
    colour: bytes | None
    """Zstandard frame of (height, width, 3) RGB."""


class Recording(Protocol):
    """A recording that is open for reading."""

    @property
    def path(self) -> Path: ...

    @property
    def cameras(self) -> Sequence[CameraInfo]: ...

    def frames(self, camera: str) -> Generator[Frame]:
        """Yield each frame of a camera exactly once, in the order of recording; `exposure` is on the recording's own
        clock. Raises RecordingError at what is damaged."""
        ...

    def close(self) -> None: ...


class Summary(NamedTuple):
    """What is in a recording, of one camera."""

    camera: str
    frames: int
    seconds: float
    dropped: int
    """Frames missing by the camera's counter."""
    longest_gap: float
    """Between two exposures, s."""


def summarise(frames: Iterator[Frame], camera: str) -> Summary:
    """Read through frames. Raises RecordingError as they do."""
    count, dropped, gap = 0, 0, 0.0
    first = last = math.nan
    seq = 0
    for frame in frames:
        if count:
            dropped += max(0, frame.seq - seq - 1)
            gap = max(gap, frame.exposure - last)
        else:
            first = frame.exposure
        last, seq = frame.exposure, frame.seq
        count += 1
    return Summary(camera, count, last - first if count else 0.0, dropped, gap)


class McapRecorder:
    """Writes frames to an MCAP file."""

    def __init__(self, path: Path, cameras: Sequence[CameraInfo]) -> None:
        """Raises RecordingError if the file cannot be made."""
        self.path = path
        self.frames = 0
        try:
            self._stream: IO[bytes] = path.open("wb")
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror}; choose a place that can be written to") from None
        self._writer = Writer(self._stream, chunk_size=CHUNK, compression=CompressionType.NONE)
        self._writer.start(profile="collabcell", library="collabcell")
        for info in cameras:
            # Figures may be of numpy's types.
            text = msgspec.json.encode(info, enc_hook=float)
            self._writer.add_metadata(ABOUT, {"info": text.decode(), "crc32": str(zlib.crc32(text))})
        schema_text = msgspec.json.encode(msgspec.json.schema(RecordedFrame))
        schema = self._writer.register_schema(RecordedFrame.__name__, "jsonschema", schema_text)
        self._channels = {
            info.name: self._writer.register_channel(topic_frame(info.name), "msgpack", schema) for info in cameras
        }
        self._press = zstandard.ZstdCompressor(level=COMPRESSION, write_checksum=True)

    def add(self, frame: Frame) -> None:
        """Write a frame. Raises RecordingError: unknown camera, impossible time, disk full."""
        channel = self._channels.get(frame.camera)
        if channel is None or not (math.isfinite(frame.exposure) and frame.exposure >= 0.0):
            raise RecordingError(f"{self.path}: no frame of this recording: {frame.camera} at {frame.exposure} s")
        height, width = frame.depth.shape
        body = RecordedFrame(
            frame.camera,
            frame.seq,
            frame.exposure,
            _said(frame.exposure_time),
            _said(frame.hardware),
            height,
            width,
            self._press.compress(np.ascontiguousarray(frame.depth, "<u2").tobytes()),
            self._press.compress(np.ascontiguousarray(frame.colour).tobytes()) if frame.colour is not None else None,
        )
        stamp = round(frame.exposure * 1e9)
        try:
            self._writer.add_message(channel, stamp, msgspec.msgpack.encode(body), stamp)
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror}") from None
        self.frames += 1

    def close(self) -> None:
        """Write the index. Idempotent. Raises RecordingError."""
        if self._stream.closed:
            return
        try:
            self._writer.finish()  # type: ignore[no-untyped-call]
            self._stream.close()
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror}") from None


def _said(value: float) -> float | None:
    return value if math.isfinite(value) else None


class McapRecording:
    """Reads an MCAP file; one that breaks off is read up to there."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError: not there, no MCAP file, or without cameras."""
        self.path = path
        self.cameras: list[CameraInfo] = []
        for record in self._records():
            if isinstance(record, Metadata) and record.name == ABOUT:
                self.cameras.append(self._info(record.metadata))
            elif isinstance(record, Message):
                break
        if not self.cameras:
            raise RecordingError(f"{path}: no camera in it: only recordings of `cell camera record` have some")

    def _info(self, text: dict[str, str]) -> CameraInfo:
        said = text.get("info", "").encode()
        if text.get("crc32") != str(zlib.crc32(said)):
            raise RecordingError(f"{self.path}: damaged: what it says of a camera has been changed")
        try:
            info = msgspec.json.decode(said, type=CameraInfo)
        except msgspec.DecodeError as error:
            raise RecordingError(f"{self.path}: damaged: what it says of a camera is {error}") from None
        k = info.intrinsics
        if not (2 <= k.width <= LARGEST_SIDE and 2 <= k.height <= LARGEST_SIDE and len(info.T_base_camera) == 16):
            raise RecordingError(f"{self.path}: damaged: camera {info.name} has {k.width} x {k.height} px")
        return info

    def _records(self) -> Iterator[Any]:
        try:
            stream = self.path.open("rb")
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror}; give an existing recording") from None
        with stream:
            if not stream.read(1):
                raise RecordingError(f"{self.path}: empty file")
            stream.seek(0)
            reader = StreamReader(stream, validate_crcs=True, record_size_limit=LARGEST_RECORD)
            records = reader.records
            count = 0
            while True:
                try:
                    record = next(records)
                except StopIteration:
                    return
                except EndOfFile:
                    if count == 0:
                        raise RecordingError(f"{self.path}: is no MCAP file") from None
                    # The writer was killed; what it had written is good.
                    return
                except DAMAGED as error:
                    what = f"damaged after {count} records" if count else "is no MCAP file"
                    raise RecordingError(f"{self.path}: {what} ({str(error)[:80]})") from None
                count += 1
                yield record

    def frames(self, camera: str) -> Generator[Frame]:
        """Yield the frames of a camera. Raises RecordingError at one that is damaged."""
        info = find_camera(self, camera)
        decoder = msgspec.msgpack.Decoder(RecordedFrame)
        kinds: dict[int, str] = {}
        channels: dict[int, bool] = {}
        for record in self._records():
            if isinstance(record, Schema):
                kinds[record.id] = record.name
            elif isinstance(record, Channel):
                ours = kinds.get(record.schema_id) == RecordedFrame.__name__
                channels[record.id] = ours and record.topic == topic_frame(camera)
            elif isinstance(record, Message) and channels.get(record.channel_id, False):
                try:
                    yield self._frame(decoder.decode(record.data), info)
                except (msgspec.DecodeError, zstandard.ZstdError, ValueError) as error:
                    raise RecordingError(f"{self.path}: damaged frame of {camera}: {error}") from None

    def _frame(self, body: RecordedFrame, info: CameraInfo) -> Frame:
        height, width = info.intrinsics.height, info.intrinsics.width
        if (body.height, body.width) != (height, width) or not math.isfinite(body.exposure):
            raise ValueError(f"{body.width} x {body.height} px at {body.exposure} s")
        depth = np.frombuffer(_unpacked(body.depth, 2 * height * width), "<u2").reshape(height, width)
        colour = None
        if body.colour is not None:
            colour = np.frombuffer(_unpacked(body.colour, 3 * height * width), np.uint8).reshape(height, width, 3)
        length = math.nan if body.exposure_time is None else body.exposure_time
        hardware = math.nan if body.hardware is None else body.hardware
        return Frame(info.name, body.seq, body.exposure, depth, colour, 0, length, hardware)

    def close(self) -> None:
        """Nothing is held between two reads."""


def _unpacked(data: bytes, size: int) -> bytes:
    # Asked for its size first, a forged frame cannot fill the memory.
    if zstandard.frame_content_size(data) != size:
        raise ValueError(f"a picture of {zstandard.frame_content_size(data)} bytes, expected {size}")
    return zstandard.ZstdDecompressor().decompress(data)


def find_camera(recording: Recording, camera: str) -> CameraInfo:
    """Return a camera of a recording; `camera` may be empty if there is one only. Raises RecordingError."""
    names = [info.name for info in recording.cameras]
    if not camera and len(names) == 1:
        return recording.cameras[0]
    for info in recording.cameras:
        if info.name == camera:
            return info
    wrong = f"no camera {camera!r}" if camera else "say which camera"
    raise RecordingError(f"{recording.path}: {wrong}: there are {', '.join(names)}")


def open_recording(path: Path) -> Recording:
    """Open a recording by its suffix: .mcap ours, .bag and .db3 librealsense's. Raises RecordingError, CameraError."""
    suffix = path.suffix.lower()
    if suffix == ".mcap":
        return McapRecording(path)
    if suffix in (".bag", ".db3"):
        from perception.cameras.realsense_files import RealsenseRecording

        return RealsenseRecording(path)
    raise RecordingError(f"{path}: {suffix or 'no suffix'}: a recording is a .mcap, .bag or .db3 file")
