"""What a node sees of the bus. `inprocess.Hub` (lock-step) and `zeromq.ZmqPorts` (live) implement it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar

from cell.bus.messages import Envelope, Event, Reply

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class BusError(Exception):
    """A bus fault a person can act on; the text says what happened and what to do."""


class Publisher(Protocol[T_contra]):
    """Newest-value topic: a slow or absent reader never holds the sender up."""

    def send(self, body: T_contra, now: float) -> None: ...


class Subscriber(Protocol[T]):
    """Reader of a newest-value topic."""

    def take(self) -> Envelope[T] | None:
        """Return the newest message that has not been taken yet, or None. Undecodable input is dropped and counted."""
        ...

    @property
    def rejected(self) -> int:
        """How many messages were dropped: other protocol version, undecodable, or not the expected type."""
        ...


class Follower(Protocol[T]):
    """Reader of every message of a newest-value topic: for records, never for decisions."""

    def drain(self) -> list[Envelope[T]]:
        """Return all messages since the last call, in their order."""
        ...

    @property
    def lost(self) -> int:
        """Messages known to be missing, from the sequence numbers."""
        ...


class EventSource(Protocol):
    """Where a node reports what must not be lost."""

    def emit(self, kind: str, now: float, **data: Any) -> Event: ...


class EventFeed(Protocol):
    """All events of all sources, in the order of arrival."""

    def drain(self) -> list[Event]: ...

    @property
    def gaps(self) -> int:
        """Events known to be missing, from the sequence numbers."""
        ...


class Incoming(NamedTuple):
    """A request as a service sees it."""

    client: bytes
    """Opaque return address."""
    id: str
    session: str
    body: Any


class Requester(Protocol):
    """Client end of a service: requests carry an id, any number may be open, replies come when they come."""

    def request(self, body: Any, now: float) -> str:
        """Send `body`; return the request's id."""
        ...

    def replies(self) -> list[Reply]: ...


class Responder(Protocol):
    """Server end of a service."""

    def requests(self) -> list[Incoming]: ...

    def reply(self, client: bytes, reply: Reply) -> None: ...


class Ports(Protocol):
    """Factory of one node's connections. Creating the same port twice is an error."""

    node: str

    def publisher(self, topic: str, kind: type[T]) -> Publisher[T]: ...

    def subscriber(self, topic: str, kind: type[T]) -> Subscriber[T]: ...

    def follower(self, topic: str, kind: type[T]) -> Follower[T]: ...

    def event_source(self) -> EventSource: ...

    def event_feed(self) -> EventFeed: ...

    def requester(self, service: str, session: str) -> Requester: ...

    def responder(self, service: str, kinds: Any) -> Responder:
        """Serve `service`; `kinds` is the union of request structs it understands, all tagged."""
        ...

    def close(self) -> None: ...


class Node(Protocol):
    """A node's shell: it reads its ports, steps its pure core, and writes its ports."""

    name: str
    period: float
    """Time between two steps, s."""

    def step(self, now: float) -> None: ...

    def close(self) -> None: ...
