"""What a recording keeps of a stream that is too dense to keep whole, and in which order it writes what it keeps."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from cell.bus.messages import Envelope

HELD_BACK = 1.0
"""A message is written so long after it was said, s: until then it may turn out that somebody rests on it, or that one
said before it comes later."""
MOST_STATES = 4096
MOST_NAMED = 1024


class _Number(msgspec.Struct):
    """All that is looked at of a robot state."""

    seq: int


class _Named(msgspec.Struct):
    """All that is looked at of a lease."""

    state_seq: int


_number = msgspec.msgpack.Decoder(_Number).decode
_named = msgspec.msgpack.Decoder(_Named).decode


@dataclass
class _State:
    envelope: Envelope[msgspec.Raw]
    since: float
    keep: bool


class StateKeeper:
    """Of robot states keeps the newest each time it looks, and every one that a lease names.

    A lease is published some milliseconds after the state it rests on, so states wait for it. One thread.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, _State]] = deque()
        self._by_number: dict[int, _State] = {}
        self._named: OrderedDict[int, None] = OrderedDict()

    def take(self, states: Iterable[Envelope[msgspec.Raw]], now: float) -> None:
        """All states that have come, in their order. One that cannot be read has no number anybody could name."""
        newest = None
        for envelope in states:
            try:
                number = _number(bytes(envelope.body)).seq
            except msgspec.DecodeError:
                number = -1
            newest = _State(envelope, min(envelope.sent_at, now), number in self._named)
            self._waiting.append((number, newest))
            self._by_number[number] = newest
        if newest is not None:
            newest.keep = True

    def lease(self, body: msgspec.Raw) -> None:
        """A lease: the state it names is kept."""
        try:
            number = _named(bytes(body)).state_seq
        except msgspec.DecodeError:
            return
        state = self._by_number.get(number)
        if state is not None:
            state.keep = True
            return
        # It may still be on its way: it comes through another socket.
        self._named[number] = None
        while len(self._named) > MOST_NAMED:
            self._named.popitem(last=False)

    def release(self, until: float) -> Iterator[Envelope[msgspec.Raw]]:
        """States said up to then that are kept, in their order; the others are forgotten."""
        while self._waiting and (not self._waiting[0][1].since > until or len(self._waiting) > MOST_STATES):
            number, state = self._waiting.popleft()
            if self._by_number.get(number) is state:
                del self._by_number[number]
            if state.keep:
                yield state.envelope


class Line(NamedTuple):
    """One message to be written."""

    topic: str
    kind: type
    body: Any
    t: float
    """When it was said, s."""


class InOrder:
    """Messages of several streams, given out in the order in which they were said."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Line]] = []
        self._count = itertools.count()

    def add(self, topic: str, kind: type, body: Any, t: float, now: float) -> None:
        """Add a message. One that says it comes from the future, or no time at all, counts as said now."""
        since = min(t, now) if math.isfinite(t) else now
        heapq.heappush(self._heap, (since, next(self._count), Line(topic, kind, body, t)))

    def release(self, until: float) -> Iterator[Line]:
        """Those said up to then."""
        while self._heap and not self._heap[0][0] > until:
            yield heapq.heappop(self._heap)[2]
