"""The bus over ZeroMQ, for live runs: the same ports, one context per node.

Every publisher and every service binds endpoints whose addresses follow from their names (`Addresses`). Newest-value
topics are single frames with CONFLATE set before connect: set later it is ignored, and with several frames only the
last would survive. A conflating sender keeps one message for a reader that is late, so who wants every message is
served by a second socket of the sender, with a bounded queue that never holds it up. Events are never conflated.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from cell.bus.followers import DEPTH, SocketFollower
from cell.bus.keys import KeyPair, is_local
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
_decode_event = msgspec.msgpack.Decoder(Event).decode
_decode_reply = msgspec.msgpack.Decoder(Reply).decode
EVENT_QUEUE = 100_000
"""Events a slow reader may lag behind before the gap is reported."""
KEPT_EVENTS = 2000
"""Events a source says again to a reader that joins late."""
LARGEST_MESSAGE = 16 * 1024 * 1024


def _new_boot() -> int:
    """Number of this life of a node. It rises from one life to the next, also of a process that was killed: a reader
    that has seen the later life takes nothing from the earlier one any more. Microseconds since the machine started."""
    return time.monotonic_ns() // 1000


class Addresses:
    """Where the endpoints of one session are: sockets in its run directory, or TCP addresses given by name."""

    def __init__(self, directory: Path, nodes: Iterable[str], overrides: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.nodes = tuple(nodes)
        self._overrides = overrides or {}
        longest = max(len(str(directory)) + 40, 0)
        if longest > 107:
            raise BusError(f"run directory {directory} is too long for a socket path: use a shorter one, e.g. in /tmp")

    def _at(self, name: str) -> str:
        return self._overrides.get(name, f"ipc://{self.directory}/{name}")

    def topic(self, topic: str) -> str:
        return self._at(f"t-{topic}")

    def every(self, topic: str) -> str:
        """Where every message of a topic is sent, for followers."""
        return self._at(f"a-{topic}")

    def events(self, node: str) -> str:
        return self._at(f"e-{node}")

    def service(self, service: str) -> str:
        return self._at(f"s-{service}")


class Security:
    """Keys for endpoints beyond this machine: our own pair, the servers' public keys, and who may come in."""

    def __init__(self, own: KeyPair, server_public: bytes, allowed_clients: frozenset[bytes]) -> None:
        if not allowed_clients:
            raise BusError("an empty allow-list would lock everyone out, a missing one let anyone in: list client keys")
        self.own = own
        self.server_public = server_public
        self.allowed_clients = allowed_clients


class _AllowList:
    """ZAP credentials provider: exactly the listed public keys."""

    def __init__(self, allowed: frozenset[bytes]) -> None:
        self._allowed = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        return zmq.utils.z85.encode(key) in self._allowed if len(key) == 32 else key in self._allowed


class ZmqPorts:
    """One node's sockets. Everything is non-blocking; `close` drops what is not yet sent after 200 ms."""

    def __init__(self, node: str, addresses: Addresses, boot: int | None = None, security: Security | None = None):
        self.node = node
        self._addresses = addresses
        self._boot = self.boot = boot if boot is not None else _new_boot()
        self._security = security
        self._context = zmq.Context()
        self._context.setsockopt(zmq.LINGER, 200)
        self._authenticator: ThreadAuthenticator | None = None
        self._source: _Source | None = None
        self._sockets: list[zmq.Socket[bytes]] = []
        self._locks: list[int] = []
        self._waited: tuple[_Inbox[Any], ...] = ()
        self._poller = zmq.Poller()

    # ------------------------------------------------------------- sockets

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
        self._sockets.append(socket)
        return socket

    def _bind(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        if not is_local(endpoint):
            if self._security is None:
                raise BusError(
                    f"refusing to bind {endpoint}: it can be reached from other machines and no keys are given. "
                    "Use 127.0.0.1, or give CURVE keys with an allow-list"
                )
            self._authenticate(self._security)
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._security.own.secret)
            socket.setsockopt(zmq.ZAP_DOMAIN, b"cell")
        self._refuse_second(endpoint)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise BusError(
                f"cannot bind {endpoint}: {error.strerror}. Is another {self.node} running? Stop it first"
            ) from error

    def _refuse_second(self, endpoint: str) -> None:
        """A second bind of a socket file would silently steal it from its owner."""
        if not endpoint.startswith("ipc://"):
            return
        lock = os.open(endpoint[len("ipc://") :] + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise BusError(f"{endpoint} is in use: is another {self.node} running? Stop it first") from error
        # The kernel drops the lock with the process, however that ends.
        self._locks.append(lock)

    def _authenticate(self, security: Security) -> None:
        if self._authenticator is None:
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve_callback("cell", _AllowList(security.allowed_clients))

    def _connect(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        if not is_local(endpoint):
            if self._security is None:
                raise BusError(f"refusing to connect to {endpoint} without CURVE keys")
            socket.setsockopt(zmq.CURVE_SERVERKEY, self._security.server_public)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._security.own.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._security.own.secret)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        socket.connect(endpoint)

    # ------------------------------------------------------------- ports

    def publisher(self, topic: str, kind: type[T]) -> Publisher[T]:
        socket = self._socket(zmq.PUB)
        socket.setsockopt(zmq.CONFLATE, 1)
        self._bind(socket, self._addresses.topic(topic))
        every = self._socket(zmq.PUB)
        every.setsockopt(zmq.SNDHWM, DEPTH)
        self._bind(every, self._addresses.every(topic))
        return _Outbox(socket, every, self.node, self._boot)

    def subscriber(self, topic: str, kind: type[T]) -> Subscriber[T]:
        socket = self._socket(zmq.SUB)
        socket.setsockopt(zmq.CONFLATE, 1)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._connect(socket, self._addresses.topic(topic))
        return _Inbox(socket, kind)

    def follower(self, topic: str, kind: type[T]) -> Follower[T]:
        socket = self._socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, DEPTH)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._connect(socket, self._addresses.every(topic))
        return SocketFollower(socket, kind)

    def event_source(self) -> EventSource:
        if self._source is None:
            socket = self._socket(zmq.XPUB)
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
            socket.setsockopt(zmq.SNDHWM, EVENT_QUEUE)
            self._bind(socket, self._addresses.events(self.node))
            self._source = _Source(socket, self.node, self._boot)
        return self._source

    def event_feed(self) -> EventFeed:
        socket = self._socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, EVENT_QUEUE)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        for node in self._addresses.nodes:
            self._connect(socket, self._addresses.events(node))
        return _Feed(socket)

    def wait(self, subscribers: Iterable[Subscriber[Any]], timeout: float) -> bool:
        """Wait until one of these subscribers of newest-value topics has something to take, at most `timeout` s rounded
        down to 1 ms. Return whether one has."""
        waiting = tuple(s for s in subscribers if isinstance(s, _Inbox))
        if waiting != self._waited:
            self._waited, self._poller = waiting, zmq.Poller()
            for inbox in waiting:
                self._poller.register(inbox.socket, zmq.POLLIN)
        return bool(self._poller.poll(int(1e3 * max(0.0, timeout))))

    def refresh(self) -> None:
        """Serve late readers of events; called with every heartbeat."""
        if self._source is not None:
            self._source.serve_newcomers()

    def requester(self, service: str, session: str) -> Requester:
        socket = self._socket(zmq.DEALER)
        # Requests to a service that is not there must not pile up and be delivered later as stale commands.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 100)
        self._connect(socket, self._addresses.service(service))
        return _Client(socket, session)

    def responder(self, service: str, kinds: Any) -> Responder:
        socket = self._socket(zmq.ROUTER)
        self._bind(socket, self._addresses.service(service))
        return _Server(socket, kinds)

    def close(self) -> None:
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        for socket in self._sockets:
            socket.close()
        self._sockets.clear()
        self._context.term()
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()


class _Outbox(Generic[T]):
    def __init__(self, socket: zmq.Socket[bytes], every: zmq.Socket[bytes], node: str, boot: int) -> None:
        """`every` is for followers: what its queue cannot hold is lost to them, and counted by them."""
        self._socket = socket
        self._every = every
        self._node = node
        self._boot = boot
        self._seq = itertools.count(1)

    def send(self, body: T, now: float) -> None:
        data = _encode(Envelope(PROTOCOL_VERSION, self._node, self._boot, next(self._seq), now, body))
        # Those who decide come first.
        self._socket.send(data, zmq.DONTWAIT)
        self._every.send(data, zmq.DONTWAIT)


class _Inbox(Generic[T]):
    def __init__(self, socket: zmq.Socket[bytes], kind: type[T]) -> None:
        self.socket = socket
        self._decode = msgspec.msgpack.Decoder(Envelope[kind]).decode  # type: ignore[valid-type]
        self.rejected = 0

    def take(self) -> Envelope[T] | None:
        newest = None
        while True:
            try:
                newest = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
        if newest is None:
            return None
        envelope: Envelope[T] | None = open_envelope(self._decode, newest)
        self.rejected += envelope is None
        return envelope


class _Source:
    """Keeps its newest events and says them again to whoever joins late; readers drop what they know."""

    def __init__(self, socket: zmq.Socket[bytes], node: str, boot: int) -> None:
        self._socket = socket
        self._node = node
        self._boot = boot
        self._seq = itertools.count(1)
        self._kept: deque[bytes] = deque(maxlen=KEPT_EVENTS)

    def emit(self, kind: str, now: float, **data: Any) -> Event:
        self.serve_newcomers()
        event = Event(self._node, self._boot, next(self._seq), now, kind, data)
        self._kept.append(_encode(event))
        self._socket.send(self._kept[-1], zmq.DONTWAIT)
        return event

    def serve_newcomers(self) -> None:
        """Repeat the kept events if somebody has subscribed since the last call."""
        joined = False
        while True:
            try:
                joined = self._socket.recv(zmq.DONTWAIT).startswith(b"\x01") or joined
            except zmq.Again:
                break
        if joined:
            for data in self._kept:
                self._socket.send(data, zmq.DONTWAIT)


class _Feed:
    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._last: dict[tuple[str, int], int] = {}
        self._missing: dict[tuple[str, int], set[int]] = {}
        self._garbage = 0

    @property
    def gaps(self) -> int:
        return self._garbage + sum(map(len, self._missing.values()))

    def drain(self) -> list[Event]:
        events: list[Event] = []
        while True:
            try:
                data = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return events
            try:
                event = _decode_event(data)
            except msgspec.DecodeError:
                self._garbage += 1
                continue
            if self._is_new(event):
                events.append(event)

    def _is_new(self, event: Event) -> bool:
        """Note the event's number; False for one that was already read."""
        key = (event.source, event.boot)
        last = self._last.get(key, 0)
        missing = self._missing.setdefault(key, set())
        if event.seq <= last:
            known = event.seq not in missing
            missing.discard(event.seq)
            return not known
        missing.update(range(max(last + 1, event.seq - EVENT_QUEUE), event.seq))
        self._last[key] = event.seq
        return True


class _Client:
    """Frames of a request: id, session, body."""

    def __init__(self, socket: zmq.Socket[bytes], session: str) -> None:
        self._socket = socket
        self._session = session
        self._ids = itertools.count(1)
        self._unsent: list[Reply] = []

    def request(self, body: Any, now: float) -> str:
        request_id = f"{self._session}-{next(self._ids)}"
        try:
            self._socket.send_multipart([request_id.encode(), self._session.encode(), _encode(body)], zmq.DONTWAIT)
        except zmq.Again:
            self._unsent.append(Reply(request_id, "rejected", "the service does not answer: is its node running?"))
        return request_id

    def replies(self) -> list[Reply]:
        replies, self._unsent = self._unsent, []
        while True:
            try:
                replies.append(_decode_reply(self._socket.recv_multipart(zmq.DONTWAIT)[-1]))
            except zmq.Again:
                return replies
            except msgspec.DecodeError:
                continue


class _Server:
    def __init__(self, socket: zmq.Socket[bytes], kinds: Any) -> None:
        self._socket = socket
        self._decode = msgspec.msgpack.Decoder(kinds).decode

    def requests(self) -> list[Incoming]:
        incoming: list[Incoming] = []
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return incoming
            if len(frames) != 4:
                continue
            client, request_id, session = frames[0], frames[1].decode(errors="replace"), frames[2]
            try:
                body = self._decode(frames[3])
            except msgspec.DecodeError as error:
                self.reply(client, Reply(request_id, "rejected", f"request not understood: {error}"))
                continue
            incoming.append(Incoming(client, request_id, session.decode(errors="replace"), body))

    def reply(self, client: bytes, reply: Reply) -> None:
        self._socket.send_multipart([client, _encode(reply)], zmq.DONTWAIT)
