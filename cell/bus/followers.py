"""Readers of a newest-value topic that want every message of it: the recorder. They never hold the sender up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec
import zmq

from cell.bus.messages import Envelope, open_envelope

T = TypeVar("T")
DEPTH = 1024
"""Messages kept for a reader that is slow, at either end of a socket; what does not fit is lost to it, and counted."""


class _Reader(Generic[T]):
    """Opens messages in their order and counts what is missing between them."""

    def __init__(self, kind: type[T]) -> None:
        self._decode = msgspec.msgpack.Decoder(Envelope[kind]).decode  # type: ignore[valid-type]
        self._last: tuple[int, int] | None = None
        self.rejected = 0
        self.lost = 0
        """Messages that were sent and never came here."""

    def open(self, data: bytes) -> Envelope[T] | None:
        """The message, or None if it cannot be read."""
        envelope: Envelope[T] | None = open_envelope(self._decode, data)
        if envelope is None:
            self.rejected += 1
            return None
        if self._last is not None and self._last[0] == envelope.boot:
            self.lost += max(0, envelope.seq - self._last[1] - 1)
        self._last = (envelope.boot, envelope.seq)
        return envelope


class QueueFollower(_Reader[T]):
    """Inside one process."""

    def __init__(self, kind: type[T]) -> None:
        super().__init__(kind)
        self.queue: deque[bytes] = deque(maxlen=DEPTH)

    def drain(self) -> list[Envelope[T]]:
        """All messages that came since the last call, in their order."""
        opened = [self.open(data) for data in self.queue]
        self.queue.clear()
        return [envelope for envelope in opened if envelope is not None]


class SocketFollower(_Reader[T]):
    """Over a SUB socket that is connected and keeps a queue."""

    def __init__(self, socket: zmq.Socket[bytes], kind: type[T]) -> None:
        super().__init__(kind)
        self._socket = socket

    def drain(self) -> list[Envelope[T]]:
        """All messages that came since the last call, in their order."""
        return [envelope for envelope in map(self.open, self._arrived()) if envelope is not None]

    def _arrived(self) -> Iterator[bytes]:
        # As many as fit the queue: a sender that never pauses must not keep its reader here.
        for _ in range(DEPTH):
            try:
                yield self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
