"""Nodes hosted in a second process: the same bytes in the same order, one period later; every end of it is noticed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cell.bus.inprocess import Hub
from cell.bus.messages import Event
from cell.bus.ports import BusError, Ports
from cell.bus.relay import RelayError
from cell.bus.worker import Handler, Worker, WorkerError
from cell.clock import Clock
from cell.hosted import HostedNode


class Number(msgspec.Struct):
    """A message."""

    value: float


class Doubler:
    """Publishes twice the newest number, counts all of them, repeats every event it hears."""

    def __init__(self, ports: Ports, clock: Clock) -> None:
        self.name, self.period = "doubler", 0.008
        self._clock = clock
        self._newest = ports.subscriber("in", Number)
        self._every = ports.follower("in", Number)
        self._out = ports.publisher("out", Number)
        self._source, self._feed = ports.event_source(), ports.event_feed()
        self._count = 0

    def step(self, now: float) -> None:
        assert self._clock.now() == now
        self._count += len(self._every.drain())
        for event in self._feed.drain():
            if event.source != self.name:
                self._source.emit("heard", now, what=event.kind, count=self._count)
        newest = self._newest.take()
        if newest is not None:
            if newest.body.value < 0.0:
                raise ValueError("a negative number")
            self._out.send(Number(2.0 * newest.body.value), now)

    def close(self) -> None:
        self._source.emit("closed", self._clock.now(), count=self._count + len(self._every.drain()))


class Desk:
    """The other side: a hub with a sender and readers."""

    def __init__(self, together: int = 1, later: int = 1) -> None:
        self.hub = Hub()
        self.ports = self.hub.ports("desk")
        self.sender = self.ports.publisher("in", Number)
        self.reader = self.ports.subscriber("out", Number)
        self.follower = self.ports.follower("out", Number)
        self.source, self.feed = self.ports.event_source(), self.ports.event_feed()
        self.node = HostedNode("doubler", self.hub, Doubler, together, later)
        self.node.open()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.node.close()


def test_answers_come_one_step_later_and_tell_of_the_step_before(desk: Desk) -> None:
    assert desk.node.period == 0.008
    seen = []
    for n in range(1, 6):
        desk.sender.send(Number(float(n)), 0.008 * n)
        desk.node.step(0.008 * n)
        got = desk.reader.take()
        seen.append(None if got is None else (got.body.value, got.sent_at, got.source, got.seq))
    assert seen == [None] + [(2.0 * n, 0.008 * n, "doubler", n) for n in range(1, 5)]


def test_every_message_arrives_and_the_newest_is_the_newest(desk: Desk) -> None:
    for n in range(1, 8):
        desk.sender.send(Number(float(n)), 0.001 * n)
    desk.node.step(0.008)
    desk.source.emit("something", 0.009)
    desk.node.step(0.016)
    assert [e.body.value for e in desk.follower.drain()] == [14.0]
    desk.node.step(0.024)
    assert [(e.source, e.kind, e.data) for e in desk.feed.drain()] == [
        ("desk", "something", {}),
        ("doubler", "heard", {"what": "something", "count": 7}),
    ]


def test_what_was_said_last_is_handed_over_before_the_node_closes(desk: Desk) -> None:
    desk.node.step(0.008)
    for n in range(3):
        desk.sender.send(Number(float(n)), 0.01)
    desk.node.close()
    desk.node.close()
    assert [(e.kind, e.data) for e in desk.feed.drain()] == [("closed", {"count": 3})]


def test_steps_handed_over_together_are_the_same_steps() -> None:
    desk = Desk(together=4)
    for n in range(1, 10):
        desk.sender.send(Number(float(n)), 0.008 * n)
        desk.node.step(0.008 * n)
    desk.node.close()
    assert [(e.body.value, e.sent_at) for e in desk.follower.drain()] == [(2.0 * n, 0.008 * n) for n in range(1, 10)]


def test_answers_may_come_two_steps_later() -> None:
    desk = Desk(later=2)
    seen = []
    for n in range(1, 6):
        desk.sender.send(Number(float(n)), 0.008 * n)
        desk.node.step(0.008 * n)
        seen.append([e.body.value for e in desk.follower.drain()])
    desk.node.close()
    seen.append([e.body.value for e in desk.follower.drain()])
    assert seen == [[], [], [2.0], [4.0], [6.0], [8.0, 10.0]]


def test_a_fault_there_ends_the_run_here_and_says_where(desk: Desk) -> None:
    desk.sender.send(Number(-1.0), 0.0)
    desk.node.step(0.008)
    with pytest.raises(WorkerError, match=r"(?s)doubler failed.*a negative number"):
        desk.node.step(0.016)
    # Said once: what closes the rest of the run is not disturbed by it again.
    desk.node.close()


def step_on(desk: Desk) -> None:
    for n in range(1, 4):
        desk.node.step(0.008 * n)


def test_a_killed_process_is_noticed(desk: Desk) -> None:
    pid = desk.node._worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="doubler: its process has ended"):
        step_on(desk)


def test_two_publishers_of_one_topic_are_refused() -> None:
    hub = Hub()
    hub.ports("other").publisher("out", Number)
    node = HostedNode("doubler", hub, Doubler)
    with pytest.raises(BusError, match="already has a publisher"):
        node.open()
    node.close()


class Server(Doubler):
    """Serves requests as well."""

    def __init__(self, ports: Ports, clock: Clock) -> None:
        super().__init__(ports, clock)
        ports.responder("service", Number)


class Echo(Doubler):
    """Reads what it says."""

    def __init__(self, ports: Ports, clock: Clock) -> None:
        super().__init__(ports, clock)
        ports.subscriber("out", Number)


@pytest.mark.parametrize(("kind", "why"), [(Server, RelayError.__name__), (Echo, "reads what it publishes itself")])
def test_a_node_that_cannot_be_hosted_is_refused_before_anything_moves(kind: Any, why: str) -> None:
    node = HostedNode("doubler", Hub(), kind)
    with pytest.raises(WorkerError, match=why):
        node.open()
    node.close()


def test_a_worker_answers_in_order_and_ends_with_its_pipe() -> None:
    def begin() -> Handler:
        return lambda request: bytes(reversed(request))

    worker = Worker("mirror", begin)
    for n in range(50):
        worker.send(b"%03d" % n)
    assert worker.waiting == 50
    assert [worker.receive() for _ in range(50)] == [bytes(reversed(b"%03d" % n)) for n in range(50)]
    pid = worker.pid
    assert pid is not None
    worker.close()
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_workers_end_by_themselves_in_any_order() -> None:
    """A process forked later holds the pipes of the earlier ones open as well: they must not wait for its end."""
    workers = [Worker(f"mirror {n}", lambda: lambda request: request) for n in range(3)]
    for worker in workers:
        worker.send(b"1")
        worker.receive()
    for worker in workers:
        worker.close()
        assert worker.exit_code == 0, f"{worker.name} had to be killed"


def test_a_worker_that_hangs_and_one_that_is_gone_are_closed() -> None:
    def hang(request: bytes) -> bytes:
        signal.pause()
        return request

    hung, gone = Worker("hung", lambda: hang), Worker("gone", lambda: hang)
    hung.send(b"1")
    assert gone.pid is not None
    os.kill(gone.pid, signal.SIGKILL)
    for worker in (hung, gone):
        worker.close()
        assert worker.exit_code == -signal.SIGKILL


def test_events_keep_their_sender_and_number(desk: Desk) -> None:
    desk.source.emit("a", 0.0)
    desk.source.emit("b", 0.0)
    desk.node.step(0.008)
    desk.node.step(0.016)
    heard = [e for e in desk.feed.drain() if e.source == "doubler"]
    assert heard == [
        Event("doubler", 1, n, 0.008, "heard", {"what": kind, "count": 0}) for n, kind in ((1, "a"), (2, "b"))
    ]
