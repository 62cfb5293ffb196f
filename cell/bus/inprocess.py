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
        self._topics: dict[str, list[_Inbox[Any] | RawInbox]] = {}
        self._followers: dict[str, list[QueueFollower[Any] | RawQueue]] = {}
        self._feeds: list[Feed] = []
        self._services: dict[str, _Service] = {}
        self._published: set[str] = set()

    def ports(self, node: str, boot: int = 1) -> HubPorts:
        return HubPorts(self, node, boot)

    # What is read and said here, and how to listen and speak as bytes: for `cell.bus.relay`.

    def topics_read(self) -> list[str]:
        """Topics of which somebody reads the newest message."""
        return [topic for topic, inboxes in self._topics.items() if inboxes]

    def topics_followed(self) -> list[str]:
        """Topics of which somebody reads every message."""
        return [topic for topic, queues in self._followers.items() if queues]

    def topics_published(self) -> list[str]:
        """Topics somebody publishes."""
        return sorted(self._published)

    def events_read(self) -> bool:
        """Does anybody read events?"""
        return bool(self._feeds)

    def services(self) -> list[str]:
        """Services that are offered or used."""
        return list(self._services)

    def claim(self, topic: str, node: str) -> None:
        """Publish `topic` from elsewhere. Raises BusError if somebody does already."""
        if topic in self._published:
            raise BusError(f"topic {topic} already has a publisher: is a second {node} running?")
        self._published.add(topic)

    def raw_inbox(self, topic: str) -> RawInbox:
        """A place for the newest message of a topic."""
        inbox = RawInbox()
        self._topics.setdefault(topic, []).append(inbox)
        return inbox

    def raw_queue(self, topic: str) -> deque[bytes]:
        """A queue for every message of a topic."""
        queue = RawQueue()
        self._followers.setdefault(topic, []).append(queue)
        return queue.queue

    def raw_feed(self) -> Feed:
        """A feed of all events."""
        feed = Feed()
        self._feeds.append(feed)
        return feed

    def say(self, topic: str, data: bytes) -> None:
        """Send an encoded message to all readers of a topic."""
        for inbox in self._topics.get(topic, ()):
            inbox.newest = data
        for follower in self._followers.get(topic, ()):
            follower.queue.append(data)

    def say_newest(self, topic: str, data: bytes) -> None:
        """Send an encoded message to those who read the newest one of a topic."""
        for inbox in self._topics.get(topic, ()):
            inbox.newest = data

    def report(self, event: Event, unheard_by: Feed | None = None) -> None:
        """Hand an event to all feeds but one."""
        for feed in self._feeds:
            if feed is not unheard_by:
                feed.events.append(event)


class HubPorts:
    """A node's connections to a `Hub`."""

    def __init__(self, hub: Hub, node: str, boot: int) -> None:
        self.node = node
        self._hub = hub
        self._boot = boot
        self._source: _Source | None = None
        self._topics: list[str] = []

    def publisher(self, topic: str, kind: type[T]) -> Publisher[T]:
        self._hub.claim(topic, self.node)
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
        feed = Feed()
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
    def __init__(
        self,
        inboxes: list[_Inbox[Any] | RawInbox],
        followers: list[QueueFollower[Any] | RawQueue],
        node: str,
        boot: int,
    ) -> None:
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


class RawInbox:
    """The newest message of a topic, unread."""

    def __init__(self) -> None:
        self.newest: bytes | None = None


class RawQueue:
    """Every message of a topic, unread."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()


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
    def __init__(self, feeds: list[Feed], node: str, boot: int) -> None:
        self._feeds = feeds
        self._node = node
        self._boot = boot
        self._seq = itertools.count(1)

    def emit(self, kind: str, now: float, **data: Any) -> Event:
        event = Event(self._node, self._boot, next(self._seq), now, kind, data)
        for feed in self._feeds:
            feed.events.append(event)
        return event


class Feed:
    """All events, in the order of arrival."""

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
