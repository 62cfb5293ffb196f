"""How frames get from a camera's node to perception: over the bus in lock-step, through a ring in live runs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from cell.bus.ports import Ports, Publisher, Subscriber
from perception.cameras.ring import RingReader, RingWriter
from perception.contract import ColourMessage, Frame, FrameMessage, FrameReady, topic_colour, topic_frame


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
    """Frames as messages, for nodes in one process. Colour stays behind unless somebody looks at it."""

    def __init__(self, ports: Ports, camera: str, colour: bool = False) -> None:
        """`colour`: say the frames with their colours too, on a topic of their own."""
        self._frames = ports.publisher(topic_frame(camera), FrameMessage)
        self._coloured = ports.publisher(topic_colour(camera), ColourMessage) if colour else None

    def send(self, frame: Frame, now: float) -> None:
        """Publish the frame."""
        height, width = frame.depth.shape
        pixels = frame.depth.tobytes()
        message = FrameMessage(frame.camera, frame.seq, frame.exposure, height, width, pixels, frame.boot)
        self._frames.send(message, now)
        if self._coloured is not None and frame.colour is not None:
            shades = frame.colour.tobytes()
            self._coloured.send(
                ColourMessage(frame.camera, frame.seq, frame.exposure, height, width, pixels, shades, frame.boot), now
            )

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


class ColourSource:
    """Reads the frames that `BusSink` sends with their colours."""

    fault = ""

    def __init__(self, ports: Ports, camera: str) -> None:
        self._frames = ports.subscriber(topic_colour(camera), ColourMessage)

    def take(self, now: float) -> Frame | None:
        """Return the newest frame; one that is none, or has no whole colours, is dropped."""
        envelope = self._frames.take()
        if envelope is None:
            return None
        m = envelope.body
        frame = decode_frame(FrameMessage(m.camera, m.seq, m.exposure, m.height, m.width, m.depth, m.boot))
        if frame is None or len(m.colour) != 3 * m.height * m.width:
            return None
        return frame._replace(colour=np.frombuffer(m.colour, np.uint8).reshape(m.height, m.width, 3))

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

    def __init__(self, writer: RingWriter, ready: Publisher[FrameReady] | None = None) -> None:
        """`ready`: where it is said that a frame lies there."""
        self._writer = writer
        self._ready = ready

    def send(self, frame: Frame, now: float) -> None:
        """Write the frame. Raises RingError."""
        self._writer.write(frame, now)
        if self._ready is not None:
            self._ready.send(FrameReady(frame.seq), now)

    def close(self) -> None:
        """Remove the ring."""
        self._writer.close()


class RingSource:
    """Reads a camera's ring."""

    def __init__(self, reader: RingReader, ready: Subscriber[FrameReady] | None = None) -> None:
        """`ready`: where it is said that a frame lies there. What is read is the ring all the same."""
        self._reader = reader
        self._ready = ready

    @property
    def wakes(self) -> list[Subscriber[Any]]:
        """Whose messages are a reason to look at once."""
        return [] if self._ready is None else [self._ready]

    @property
    def fault(self) -> str:
        """Why the ring cannot be read."""
        return self._reader.fault

    def take(self, now: float) -> Frame | None:
        """Return the newest whole frame."""
        if self._ready is not None:
            # Taken first: what is said while the ring is read wakes again.
            self._ready.take()
        return self._reader.take(now)

    def close(self) -> None:
        """Let the ring go."""
        self._reader.detach()
