"""A node is woken by what it wants to look at at once, and by nothing else; a lost message only costs a period."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cell.bus.zeromq import Addresses, ZmqPorts
from cell.clock import RealClock
from cell.heartbeat import LiveLoop

LONG = 30.0
"""Far longer than anything here takes, s."""


class Number(msgspec.Struct):
    """A message."""

    value: int


@pytest.fixture
def two() -> Iterator[tuple[ZmqPorts, ZmqPorts]]:
    # A short path: a socket's may have at most 107 characters, pytest's own are longer.
    with tempfile.TemporaryDirectory(prefix="bus-", dir="/tmp") as folder:
        addresses = Addresses(Path(folder), ["here", "there"])
        here, there = ZmqPorts("here", addresses), ZmqPorts("there", addresses)
        yield here, there
        here.close()
        there.close()


def test_waiting_ends_with_a_message_and_only_until_it_is_taken(two: tuple[ZmqPorts, ZmqPorts]) -> None:
    here, there = two
    out, other = there.publisher("news", Number), there.publisher("other", Number)
    news, unasked = here.subscriber("news", Number), here.subscriber("other", Number)
    assert not here.wait([news], 0.0) and not here.wait([], 0.0)
    for value in range(1000):
        out.send(Number(value), 0.0)
        other.send(Number(value), 0.0)
        # A publisher learns of each subscriber in its own time.
        if here.wait([news], 0.02) and here.wait([unasked], 0.02):
            break
    assert here.wait([news], LONG)
    while here.wait([news], 0.1):
        assert news.take() is not None, "woken for nothing"
    assert unasked.take() is not None, "what nobody waits for is there all the same"
    for value in range(1000):
        other.send(Number(value), 0.0)
    assert not here.wait([news], 0.05)
    assert not here.wait([news], -1.0)


class Sleeper:
    """A node that looks every 30 s, or when something comes."""

    def __init__(self, ports: ZmqPorts, woken: bool) -> None:
        self.name, self.period = "here", LONG
        self._news = ports.subscriber("news", Number)
        if woken:
            self.wakes: list[Any] = [self._news]
        self.steps: list[tuple[float, bool]] = []
        self.end = lambda: None

    def step(self, now: float) -> None:
        self.steps.append((now, self._news.take() is not None))
        if len(self.steps) == 3:
            self.end()

    def close(self) -> None:
        """Nothing is held."""


def test_a_node_is_stepped_when_what_it_waits_for_comes(two: tuple[ZmqPorts, ZmqPorts]) -> None:
    here, there = two
    out = there.publisher("news", Number)
    sleeper, stop = Sleeper(here, True), threading.Event()

    def talk() -> None:
        while not stop.wait(0.01):
            out.send(Number(1), 0.0)

    loop = LiveLoop(sleeper, here, RealClock())

    def end() -> None:
        loop._stop = True

    sleeper.end = end
    talker = threading.Thread(target=talk)
    talker.start()
    try:
        loop.run()
    finally:
        stop.set()
        talker.join()
    times = [t for t, _ in sleeper.steps]
    assert len(times) == 3 and times[-1] - times[0] < LONG, "before its period was over"
    assert all(came for _, came in sleeper.steps[1:])
    assert "0 took longer" in loop.account and loop._latest < LONG
