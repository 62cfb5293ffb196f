"""A node of a lock-step run that lives in a second process, so that two processors share the work.

Each step hands over what was said since the last one, and says what the node answered to an *earlier* step: its
answers come exactly one or more periods after what they rest on, as they would from a process of its own, and the run
stays the same from run to run. A node that only writes down may get several steps at once. Only for nodes that neither
serve requests nor make any.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from cell.bus.inprocess import Hub
from cell.bus.ports import BusError, Node, Ports
from cell.bus.relay import Collector, Parcel, Wants, decode, decode_one, encode, wants_of
from cell.bus.worker import Handler, Worker
from cell.clock import Clock, SimulatedClock
from cell.process import warm_up

Build = Callable[[Ports, Clock], Node]
_STEP, _CLOSE = b"s", b"c"


class _Opening(msgspec.Struct):
    """What the second process says first."""

    period: float
    wants: Wants


class HostedNode:
    """Stands for the node on this process's hub. Raises WorkerError from any call if the other process fails."""

    def __init__(
        self, name: str, hub: Hub, build: Build, together: int = 1, later: int = 1, background: bool = False
    ) -> None:
        """`together`: so many steps are handed over at once; each costs a change of process. `later`: after so many
        more of these its answer is said. `background`: it works with what time others leave."""
        self.name = name
        self._later = later
        self._together = together
        self._steps: list[Parcel] = []
        self._hub = hub
        self._worker = Worker(name, lambda: _serve(name, build), background)
        self._worker.send(b"")
        self._collector: Collector | None = None
        self.period = math.nan
        """Time between two steps, s; known from `open` on."""

    def open(self) -> Collector:
        """Wait until the node is built, once."""
        if self._collector is None:
            opening = msgspec.msgpack.decode(self._worker.receive(), type=_Opening)
            self.period, wants = opening.period, opening.wants
            for topic in wants.publishes:
                self._hub.claim(topic, self.name)
            self._collector = Collector(self._hub, wants.newest, wants.every, wants.events)
        return self._collector

    def step(self, now: float) -> None:
        """Say what came of the last steps, and hand over what came since."""
        collector = self.open()
        if self._worker.waiting >= self._later:
            self._say(collector)
        self._steps.append(collector.take(now))
        if len(self._steps) >= self._together:
            self._hand_over(_STEP)

    def _hand_over(self, what: bytes) -> None:
        steps, self._steps = self._steps, []
        self._worker.send(what + encode(steps))

    def _say(self, collector: Collector, all_of_it: bool = False) -> None:
        while self._worker.waiting:
            collector.deliver(self._hub, decode_one(self._worker.receive()))
            if not all_of_it:
                return

    def close(self) -> None:
        """Hand over the rest, let the node close, end its process; after a failure only that. Idempotent."""
        collector, self._collector = self._collector, None
        try:
            if collector is not None and not self._worker.failed:
                self._say(collector, all_of_it=True)
                self._steps.append(collector.take(math.inf))
                self._hand_over(_CLOSE)
                self._say(collector, all_of_it=True)
        finally:
            self._worker.close()


def _serve(name: str, build: Build) -> Handler:
    """In the second process: the node on a hub of its own."""
    hub, clock = Hub(), SimulatedClock()
    node = build(hub.ports(name), clock)
    warm_up(node)
    wants = wants_of(hub)
    if own := set(wants.publishes) & {*wants.newest, *wants.every}:
        raise BusError(f"{name} reads what it publishes itself ({', '.join(own)}): it cannot be hosted")
    said = Collector(hub, [], wants.publishes, events=True)
    opening = msgspec.msgpack.encode(_Opening(node.period, wants))

    def handle(request: bytes) -> bytes:
        if not request:
            return opening
        for parcel in decode(request[1:]):
            said.deliver(hub, parcel)
            if math.isfinite(parcel.now):
                clock.advance_to(parcel.now)
                node.step(parcel.now)
        if request[:1] == _CLOSE:
            node.close()
        return encode(said.take(clock.now()))

    return handle
