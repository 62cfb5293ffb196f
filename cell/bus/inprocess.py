"""The bus inside one process, for lock-step runs: the same bytes, no sockets, no threads, no time of its own."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any, Generic, TypeVar

import msgspec

from cell.bus.followers import QueueFollower
from cell.bus.messages import PROTOCOL_VERSION, Envelope, Event, Reply, open_envelope
from cell.bus.ports import (
    BusError,
    EventFeed,
    EventSource,
    Follower,
    Incoming,
    Publisher,
    Requester,
    Responder,
    Subscriber,
)

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


class Hub:
    """One bus. `ports(node)` gives a node its connections."""

    def __init__(self) -> None:
        self._topics: dict[str, list[_Inbox[Any]]] = {}
        self._followers: dict[str, list[QueueFollower[Any]]] = {}
        self._feeds: list[_Feed] = []
        self._services: dict[str, _Service] = {}
        self._published: set[str] = set()

    def ports(self, node: str, boot: int = 1) -> HubPorts:
        return HubPorts(self, node, boot)


class HubPorts:
    """A node's connections to a `Hub`."""

    def __init__(self, hub: Hub, node: str, boot: int) -> None:
        self.node = node
        self._hub = hub
        self._boot = boot
        self._source: _Source | None = None
        self._topics: list[str] = []

    def publisher(self, topic: str, kind: type[T]) -> Publisher[T]:
        if topic in self._hub._published:
            raise BusError(f"topic {topic} already has a publisher: is a second {self.node} running?")
        self._hub._published.add(topic)
        self._topics.append(topic)
        hub = self._hub
        return _Outbox(hub._topics.setdefault(topic, []), hub._followers.setdefault(topic, []), self.node, self._boot)

    def subscriber(self, topic: str, kind: type[T]) -> Subscriber[T]:
        inbox: _Inbox[T] = _Inbox(kind)
        self._hub._topics.setdefault(topic, []).append(inbox)
        return inbox

    def follower(self, topic: str, kind: type[T]) -> Follower[T]:
        follower = QueueFollower(kind)
        self._hub._followers.setdefault(topic, []).append(follower)
        return follower

    def event_source(self) -> EventSource:
        if self._source is None:
            self._source = _Source(self._hub._feeds, self.node, self._boot)
        return self._source

    def event_feed(self) -> EventFeed:
        feed = _Feed()
        self._hub._feeds.append(feed)
        return feed

    def requester(self, service: str, session: str) -> Requester:
        return _Client(self._hub._services.setdefault(service, _Service()), session, self.node)

    def responder(self, service: str, kinds: Any) -> Responder:
        server = self._hub._services.setdefault(service, _Service())
        server.serve(service, kinds)
        return server

    def close(self) -> None:
        for topic in self._topics:
            self._hub._published.discard(topic)
        self._topics.clear()


class _Outbox(Generic[T]):
    def __init__(self, inboxes: list[_Inbox[T]], followers: list[QueueFollower[T]], node: str, boot: int) -> None:
        self._inboxes = inboxes
        self._followers = followers
        self._node = node
        self._boot = boot
        self._seq = itertools.count(1)

    def send(self, body: T, now: float) -> None:
        data = _encode(Envelope(PROTOCOL_VERSION, self._node, self._boot, next(self._seq), now, body))
        for inbox in self._inboxes:
            inbox.newest = data
        for follower in self._followers:
            follower.queue.append(data)


class _Inbox(Generic[T]):
    def __init__(self, kind: type[T]) -> None:
        self._decode = msgspec.msgpack.Decoder(Envelope[kind]).decode  # type: ignore[valid-type]
        self.newest: bytes | None = None
        self.rejected = 0

    def take(self) -> Envelope[T] | None:
        data, self.newest = self.newest, None
        if data is None:
            return None
        envelope: Envelope[T] | None = open_envelope(self._decode, data)
        self.rejected += envelope is None
        return envelope


class _Source:
    def __init__(self, feeds: list[_Feed], node: str, boot: int) -> None:
        self._feeds = feeds
        self._node = node
        self._boot = boot
        self._seq = itertools.count(1)

    def emit(self, kind: str, now: float, **data: Any) -> Event:
        event = Event(self._node, self._boot, next(self._seq), now, kind, data)
        for feed in self._feeds:
            feed.events.append(event)
        return event


class _Feed:
    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.gaps = 0

    def drain(self) -> list[Event]:
        events = list(self.events)
        self.events.clear()
        return events


class _Service:
    """Both directions of one service."""

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, str, str, bytes]] = deque()
        self._clients: dict[bytes, deque[Reply]] = {}
        self._decode: Any = None

    def serve(self, name: str, kinds: Any) -> None:
        if self._decode is not None:
            raise BusError(f"service {name} is already served: stop the other instance first")
        self._decode = msgspec.msgpack.Decoder(kinds).decode

    def connect(self, client: bytes) -> deque[Reply]:
        return self._clients.setdefault(client, deque())

    def put(self, client: bytes, request_id: str, session: str, body: bytes) -> None:
        self._queue.append((client, request_id, session, body))

    def requests(self) -> list[Incoming]:
        incoming = []
        while self._queue:
            client, request_id, session, data = self._queue.popleft()
            try:
                incoming.append(Incoming(client, request_id, session, self._decode(data)))
            except msgspec.DecodeError as error:
                self.reply(client, Reply(request_id, "rejected", f"request not understood: {error}"))
        return incoming

    def reply(self, client: bytes, reply: Reply) -> None:
        box = self._clients.get(client)
        if box is not None:
            box.append(reply)


class _Client:
    def __init__(self, service: _Service, session: str, node: str) -> None:
        self._service = service
        self._session = session
        self._address = f"{node}/{session}/{len(service._clients)}".encode()
        self._box = service.connect(self._address)
        self._ids = itertools.count(1)

    def request(self, body: Any, now: float) -> str:
        request_id = f"{self._session}-{next(self._ids)}"
        self._service.put(self._address, request_id, self._session, _encode(body))
        return request_id

    def replies(self) -> list[Reply]:
        replies = list(self._box)
        self._box.clear()
        return replies
