"""Runs all nodes of a cell in step on simulated time: as fast as it goes, bit for bit the same from one seed.

Nodes that a second process hosts are stepped here like the others (`cell.hosted`).
"""

from __future__ import annotations

import time

from cell.bus.messages import Heartbeat
from cell.bus.ports import Node, Publisher
from cell.clock import Clock, SimulatedClock
from cell.heartbeat import BEAT

TICK = 0.004
"""Base step of simulated time, s: 250 Hz."""


class Lockstep:
    """Steps nodes in a fixed order at their periods, rounded to whole ticks."""

    def __init__(self, nodes: list[tuple[Node, Publisher[Heartbeat]]], clock: SimulatedClock) -> None:
        self._clock = clock
        self._nodes = [(node, max(1, round(node.period / TICK)), beats) for node, beats in nodes]
        self._beat_every = max(1, round(BEAT / TICK))
        self._tick = 0

    def step(self) -> float:
        """Advance one tick; return the time, s."""
        self._tick += 1
        now = self._next()
        self._clock.advance_to(now)
        for node, every, beats in self._nodes:
            if self._tick % every == 0:
                node.step(now)
            if self._tick % self._beat_every == 0:
                beats.send(Heartbeat(node.name, now, True), now)
        return now

    def _next(self) -> float:
        """Time of the tick that begins, s."""
        return self._tick * TICK

    def close(self) -> None:
        """Close the nodes, last one first."""
        for node, _, _ in reversed(self._nodes):
            node.close()


class Paced(Lockstep):
    """The same on the machine's own clock, for arms that keep their own time: each tick is awaited, and one that comes
    late is not made up for. Not repeatable."""

    def __init__(
        self,
        nodes: list[tuple[Node, Publisher[Heartbeat]]],
        clock: SimulatedClock,
        machine: Clock,
        slower: float = 1.0,
    ) -> None:
        """`clock` is moved to the machine's time with each tick; `slower`: of the machine's clock (`RealClock`)."""
        super().__init__(nodes, clock)
        self._machine, self._slower = machine, slower

    def _next(self) -> float:
        due = self._clock.now() + TICK
        while (now := self._machine.now()) < due:
            time.sleep((due - now) * self._slower)
        return max(due, now)
