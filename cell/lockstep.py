"""Runs all nodes of a cell in step on simulated time: as fast as it goes, bit for bit the same from one seed.

Nodes that a second process hosts are stepped here like the others (`cell.hosted`).
"""

from __future__ import annotations

from cell.bus.messages import Heartbeat
from cell.bus.ports import Node, Publisher
from cell.clock import SimulatedClock
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
        now = self._tick * TICK
        self._clock.advance_to(now)
        for node, every, beats in self._nodes:
            if self._tick % every == 0:
                node.step(now)
            if self._tick % self._beat_every == 0:
                beats.send(Heartbeat(node.name, now, True), now)
        return now

    def close(self) -> None:
        """Close the nodes, last one first."""
        for node, _, _ in reversed(self._nodes):
            node.close()
