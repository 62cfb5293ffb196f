"""A bus in one process on which the messages of a topic can be lost, held up, repeated or changed."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from cell.bus.inprocess import Hub, HubPorts
from cell.bus.ports import Publisher

T = TypeVar("T")


class Sent(NamedTuple):
    """What is put on the bus instead of a message."""

    body: Any
    """The message; or the bytes of the whole envelope."""
    after: float = 0.0
    """s from now."""


Change = Callable[[Any, float], list[Sent]]
"""Message and time of sending -> what becomes of it."""


class FaultyHub(Hub):
    """A `Hub` with changes in force on some topics. Nodes cannot tell it from another."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: dict[str, Change] = {}
        self._held: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = itertools.count()

    def ports(self, node: str, boot: int = 1) -> HubPorts:
        return _FaultyPorts(self, node, boot)

    def leave(self, topics: list[str]) -> None:
        """Let topics have a publisher again: theirs was killed."""
        self._published.difference_update(topics)

    def hold(self, until: float, deliver: Callable[[float], None]) -> None:
        """Deliver something later."""
        heapq.heappush(self._held, (until, next(self._number), deliver))

    def step(self, now: float) -> None:
        """Deliver what was held up until now."""
        while self._held and self._held[0][0] <= now + 1e-9:
            heapq.heappop(self._held)[2](now)

    def raw(self, topic: str, data: bytes) -> None:
        """Put bytes on a topic."""
        for inbox in self._topics.get(topic, []):
            inbox.newest = data
        for follower in self._followers.get(topic, []):
            follower.queue.append(data)


class _FaultyPorts(HubPorts):
    def publisher(self, topic: str, kind: type[T]) -> Publisher[T]:
        hub = self._hub
        assert isinstance(hub, FaultyHub)
        return _Outlet(super().publisher(topic, kind), hub, topic)


class _Outlet(Generic[T]):
    def __init__(self, outbox: Publisher[T], hub: FaultyHub, topic: str) -> None:
        self._outbox = outbox
        self._hub = hub
        self._topic = topic

    def send(self, body: T, now: float) -> None:
        change = self._hub.changes.get(self._topic)
        if change is None:
            self._outbox.send(body, now)
            return
        for sent in change(body, now):
            if sent.after > 0.0:
                self._hub.hold(now + sent.after, self._delivery(sent.body))
            else:
                self._delivery(sent.body)(now)

    def _delivery(self, body: Any) -> Callable[[float], None]:
        if isinstance(body, bytes):
            return lambda now: self._hub.raw(self._topic, body)
        return lambda now: self._outbox.send(body, now)
