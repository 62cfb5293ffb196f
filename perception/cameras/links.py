"""How frames get from a camera's node to perception: over the bus in lock-step, through a ring in live runs."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cell.bus.ports import Ports
from perception.cameras.ring import RingReader, RingWriter
from perception.contract import Frame, FrameMessage, topic_frame


class FrameSink(Protocol):
    """Where a camera's node puts its newest frame."""

    def send(self, frame: Frame, now: float) -> None:
        """Hand a frame on; nobody is waited for. Raises RingError for a frame that cannot be this camera's."""
        ...

    def close(self) -> None: ...


class FrameSource(Protocol):
    """Where perception finds the newest frame of one camera."""

    @property
    def fault(self) -> str:
        """Why nothing can come, for people; empty while all is well."""
        ...

    def take(self, now: float) -> Frame | None:
        """Return the newest frame that was not taken yet. Its arrays hold until three more were taken."""
        ...

    def close(self) -> None: ...


class BusSink:
    """Frames as messages, for nodes in one process. Colour stays behind: no reader on this bus uses it."""

    def __init__(self, ports: Ports, camera: str) -> None:
        self._frames = ports.publisher(topic_frame(camera), FrameMessage)

    def send(self, frame: Frame, now: float) -> None:
        """Publish the frame."""
        height, width = frame.depth.shape
        pixels = frame.depth.tobytes()
        message = FrameMessage(frame.camera, frame.seq, frame.exposure, height, width, pixels, frame.boot)
        self._frames.send(message, now)

    def close(self) -> None:
        """Nothing is held beyond the ports."""


class BusSource:
    """Reads what `BusSink` sends."""

    fault = ""

    def __init__(self, ports: Ports, camera: str) -> None:
        self._frames = ports.subscriber(topic_frame(camera), FrameMessage)

    def take(self, now: float) -> Frame | None:
        """Return the newest frame; one that is none is dropped."""
        envelope = self._frames.take()
        return decode_frame(envelope.body) if envelope else None

    def close(self) -> None:
        """Nothing is held beyond the ports."""


def decode_frame(message: FrameMessage) -> Frame | None:
    """Return the frame in a message, or None if its bytes do not make the picture it names."""
    if message.height <= 0 or message.width <= 0 or len(message.depth) != 2 * message.height * message.width:
        return None
    depth = np.frombuffer(message.depth, "<u2").reshape(message.height, message.width)
    return Frame(message.camera, message.seq, message.exposure, depth, boot=message.boot)


class RingSink:
    """Puts frames into a camera's ring."""

    def __init__(self, writer: RingWriter) -> None:
        self._writer = writer

    def send(self, frame: Frame, now: float) -> None:
        """Write the frame. Raises RingError."""
        self._writer.write(frame, now)

    def close(self) -> None:
        """Remove the ring."""
        self._writer.close()


class RingSource:
    """Reads a camera's ring."""

    def __init__(self, reader: RingReader) -> None:
        self._reader = reader

    @property
    def fault(self) -> str:
        """Why the ring cannot be read."""
        return self._reader.fault

    def take(self, now: float) -> Frame | None:
        """Return the newest whole frame."""
        return self._reader.take(now)

    def close(self) -> None:
        """Let the ring go."""
        self._reader.detach()
