"""Both buses keep the same promises: newest value, id'd requests, events with gaps, refusals with reasons."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import zmq

from cell.bus.followers import DEPTH
from cell.bus.inprocess import Hub
from cell.bus.keys import is_local, load_keys, new_keys, save_keys
from cell.bus.messages import PROTOCOL_VERSION, Envelope, Hello, Reply
from cell.bus.ports import BusError, Ports
from cell.bus.zeromq import Addresses, Security, ZmqPorts


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """A test message."""

    n: int


class Other(msgspec.Struct, frozen=True, tag="other"):
    """Another one."""

    text: str


T = TypeVar("T")
MakePorts = Callable[[str], Ports]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: a socket's may have at most 107 characters, pytest's own are longer."""
    with tempfile.TemporaryDirectory(prefix="bus-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(params=["inprocess", "zeromq"])
def make_ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakePorts]:
    made: list[Ports] = []
    hub = Hub()

    def make(node: str) -> Ports:
        if request.param == "inprocess":
            ports: Ports = hub.ports(node)
        else:
            ports = ZmqPorts(node, Addresses(tmp_path, ["a", "b"]))
        made.append(ports)
        return ports

    yield make
    for ports in made:
        ports.close()


def eventually(get: Callable[[], T]) -> T:
    """Ask until something comes; sockets need a moment, bounded by the number of questions."""
    for _ in range(200_000):
        found = get()
        if found:
            return found
        os.sched_yield()
    raise AssertionError("nothing came")


def test_newest_value_wins(make_ports: MakePorts) -> None:
    a, b = make_ports("a"), make_ports("b")
    out, into = a.publisher("x", Ping), b.subscriber("x", Ping)

    def first() -> Envelope[Ping] | None:
        out.send(Ping(0), 1.0)
        return into.take()

    eventually(first)
    for n in range(1, 100):
        out.send(Ping(n), 2.0)

    def last() -> bool:
        envelope = into.take()
        return envelope is not None and envelope.body.n == 99 and envelope.source == "a"

    eventually(last)
    assert into.take() is None


def test_a_follower_gets_every_message_in_order_and_knows_what_is_missing(make_ports: MakePorts) -> None:
    a, b = make_ports("a"), make_ports("b")
    out, into = a.publisher("x", Ping), b.follower("x", Ping)
    got: list[Envelope[Ping]] = []

    def comes() -> bool:
        out.send(Ping(len(got)), 1.0)
        got.extend(into.drain())
        return bool(got)

    eventually(comes)
    # At once, faster than anything can leave: a conflating sender would keep the newest alone.
    burst = DEPTH // 2
    for n in range(1_000_000, 1_000_000 + burst):
        out.send(Ping(n), 2.0)
    eventually(lambda: got.extend(into.drain()) or got[-1].body.n == 1_000_000 + burst - 1)
    assert [e.body.n for e in got[-burst:]] == list(range(1_000_000, 1_000_000 + burst))
    assert [e.seq for e in got[-burst:]] == list(range(got[-1].seq - burst + 1, got[-1].seq + 1))
    assert into.lost == got[-1].seq - got[0].seq + 1 - len(got)
    assert into.drain() == []


def test_a_follower_that_never_reads_holds_nobody_up(make_ports: MakePorts) -> None:
    a, b = make_ports("a"), make_ports("b")
    out, into, newest = a.publisher("x", Ping), b.follower("x", Ping), b.subscriber("x", Ping)
    eventually(lambda: out.send(Ping(0), 1.0) or into.drain())
    last = 40 * DEPTH
    for n in range(1, last + 1):
        out.send(Ping(n), 2.0)

    def comes() -> bool:
        envelope = newest.take()
        return envelope is not None and envelope.body.n == last

    eventually(comes)
    got = into.drain()
    assert 0 < len(got) <= DEPTH
    assert [e.seq for e in got] == sorted({e.seq for e in got})


def test_a_follower_that_is_slow_loses_the_oldest_and_counts_them() -> None:
    hub = Hub()
    out, into = hub.ports("a").publisher("x", Ping), hub.ports("b").follower("x", Ping)
    for n in range(3 * DEPTH):
        out.send(Ping(n), 1.0)
        if n == 0:
            assert len(into.drain()) == 1
    left = into.drain()
    assert [e.body.n for e in left] == list(range(2 * DEPTH, 3 * DEPTH))
    assert into.lost == 2 * DEPTH - 1


def test_request_is_answered_by_id(make_ports: MakePorts) -> None:
    server = make_ports("a").responder("svc", Ping | Hello)
    client = make_ports("b").requester("svc", "s1")
    ids: list[str] = []

    def ask() -> list[Any]:
        if not ids:
            sent = client.request(Ping(7), 0.0)
            refused = [r for r in client.replies() if r.id == sent]
            if not refused:
                ids.append(sent)
        return list(server.requests())

    (incoming,) = eventually(ask)
    assert (incoming.id, incoming.session, incoming.body) == (ids[0], "s1", Ping(7))
    server.reply(incoming.client, Reply(incoming.id, "accepted"))
    server.reply(incoming.client, Reply(incoming.id, "done"))  # type: ignore[attr-defined]
    got: list[Reply] = []

    def both() -> bool:
        got.extend(client.replies())
        return len(got) == 2

    eventually(both)
    assert [r.verdict for r in got] == ["accepted", "done"]
    assert {r.id for r in got} == {ids[0]}


def test_foreign_request_is_rejected_with_reason(make_ports: MakePorts) -> None:
    server = make_ports("a").responder("svc", Ping)
    client = make_ports("b").requester("svc", "s1")

    def ask() -> list[Reply]:
        client.request(Other("no"), 0.0)
        assert server.requests() == []
        return [r for r in client.replies() if "not understood" in r.reason]

    assert eventually(ask)[0].verdict == "rejected"


def test_events_carry_sequence_numbers(make_ports: MakePorts) -> None:
    feed = make_ports("b").event_feed()
    source = make_ports("a").event_source()
    got = []

    def some() -> bool:
        source.emit("test.kind", 1.0, value=3)
        got.extend(feed.drain())
        return len(got) >= 3

    eventually(some)
    numbers = [e.seq for e in got]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert got[0].data == {"value": 3}
    assert feed.gaps == 0


def test_second_publisher_or_service_is_refused(make_ports: MakePorts) -> None:
    a = make_ports("a")
    a.publisher("x", Ping)
    a.responder("svc", Ping)
    with pytest.raises(BusError):
        a.publisher("x", Ping)
    with pytest.raises(BusError):
        a.responder("svc", Ping)


def test_request_to_nobody_is_rejected_not_stored(tmp_path: Path) -> None:
    ports = ZmqPorts("b", Addresses(tmp_path, ["a"]))
    client = ports.requester("svc", "s1")
    sent = client.request(Ping(1), 0.0)
    (reply,) = client.replies()
    assert (reply.id, reply.verdict) == (sent, "rejected")
    ports.close()


def test_gap_in_events_is_counted(tmp_path: Path) -> None:
    ports = ZmqPorts("a", Addresses(tmp_path, ["a"]))
    other = ZmqPorts("b", Addresses(tmp_path, ["a"]))
    source, feed = ports.event_source(), other.event_feed()
    got = []

    def some() -> bool:
        source.emit("k", 0.0)
        got.extend(feed.drain())
        return bool(got)

    eventually(some)
    for _ in range(5):
        next(source._seq)  # type: ignore[attr-defined]

    def more() -> bool:
        source.emit("k", 0.0)
        feed.drain()
        return feed.gaps > 0

    eventually(more)
    assert feed.gaps == 5
    ports.close()
    other.close()


def test_garbage_and_other_versions_are_dropped_and_counted() -> None:
    hub = Hub()
    into = hub.ports("b").subscriber("x", Ping)
    for data in (b"", b"\xc1", b"garbage", msgspec.msgpack.encode(Envelope(PROTOCOL_VERSION, "a", 1, 1, 0.0, "text"))):
        into.newest = data  # type: ignore[attr-defined]
        assert into.take() is None
    into.newest = msgspec.msgpack.encode(Envelope(PROTOCOL_VERSION + 1, "a", 1, 1, 0.0, Ping(1)))  # type: ignore[attr-defined]
    assert into.take() is None
    assert into.rejected == 5


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("ipc:///tmp/x", True),
        ("tcp://127.0.0.1:5", True),
        ("tcp://localhost:5", True),
        ("tcp://[::1]:5", True),
        ("tcp://0.0.0.0:5", False),
        ("tcp://*:5", False),
        ("tcp://10.0.0.1:5", False),
        ("tcp://eth0:5", False),
        ("pgm://239.0.0.1:5", False),
    ],
)
def test_what_counts_as_this_machine(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) is local


def test_bind_beyond_this_machine_needs_keys(tmp_path: Path) -> None:
    ports = ZmqPorts("a", Addresses(tmp_path, ["a"], {"t-x": "tcp://0.0.0.0:45671"}))
    with pytest.raises(BusError, match="refusing to bind"):
        ports.publisher("x", Ping)
    with pytest.raises(BusError, match="without CURVE keys"):
        ports._connect(ports._socket(zmq.SUB), "tcp://10.0.0.1:4")
    ports.close()


def test_empty_allow_list_is_refused() -> None:
    keys = new_keys()
    with pytest.raises(BusError, match="allow-list"):
        Security(keys, keys.public, frozenset())


def test_only_listed_keys_come_in(tmp_path: Path) -> None:
    """CURVE with ZAP: the listed client is answered, an unlisted one that knows the server's key is not."""
    server_keys, friend, stranger = new_keys(), new_keys(), new_keys()
    server = ZmqPorts("a", Addresses(tmp_path, ["a"]), security=Security(server_keys, b"", frozenset({friend.public})))
    socket = server._socket(zmq.ROUTER)
    server._authenticate(server._security)  # type: ignore[arg-type]
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, server_keys.secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, b"cell")
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    got = {}
    for name, keys in (("friend", friend), ("stranger", stranger)):
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.CURVE_SERVERKEY, server_keys.public)
        dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        dealer.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(b"hello")
        got[name] = bool(socket.poll(1000)) and socket.recv_multipart()[-1] == b"hello"
        dealer.close()
        context.term()
    assert got == {"friend": True, "stranger": False}
    server.close()


def test_key_files_are_private(tmp_path: Path) -> None:
    keys, path = new_keys(), tmp_path / "server.key"
    save_keys(path, keys)
    assert load_keys(path) == keys
    with pytest.raises(FileExistsError):
        save_keys(path, keys)
    os.chmod(path, 0o644)
    with pytest.raises(BusError, match="readable by others"):
        load_keys(path)
    with pytest.raises(BusError, match="cell keys new"):
        load_keys(tmp_path / "none.key")
