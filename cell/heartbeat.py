"""Runs one node in real time: at its period, counting its lateness, telling everyone that it lives."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cell.bus.messages import Heartbeat
from cell.bus.ports import Node
from cell.bus.zeromq import ZmqPorts
from cell.clock import Clock

BEAT = 0.1
"""Time between heartbeats, s."""


def topic(node: str) -> str:
    """Topic of a node's `Heartbeat`."""
    return f"heartbeat.{node}"


def real_time_scheduling(priority: int) -> str:
    """Ask for SCHED_FIFO; return how the process is scheduled now. Must run before any ZeroMQ context exists."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (PermissionError, OSError) as error:
        return f"ordinary scheduling ({error.strerror})"
    return f"SCHED_FIFO priority {priority}"


@contextmanager
def in_real_time(priority: int) -> Iterator[None]:
    """Real-time scheduling for as long as this lasts, where it is permitted; processes started meanwhile keep it."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    real_time_scheduling(priority)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, *before)


def launcher_lives() -> bool:
    """Whether the process that started this node is still there; True where this is no node's process.

    The fork server between them does not tell: it lives as long as any node does.
    """
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


class LiveLoop:
    """Steps a node until a signal ends it. SIGINT and SIGTERM end it between two steps."""

    def __init__(self, node: Node, ports: ZmqPorts, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._ports = ports
        self._beats = ports.publisher(topic(ports.node), Heartbeat)
        self._wakes = list(getattr(node, "wakes", ()))
        self._stop = False
        self._late = 0.0
        self._steps = self._slow = 0
        self._longest = self._latest = 0.0
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def run(self) -> None:
        """Step until ended. A step that is late is not made up for: the next one is due a period after now."""
        gc.collect()
        gc.freeze()
        due = self._clock.now()
        beat = due
        try:
            while not self._stop:
                now = self._clock.now()
                if now < due:
                    now = self._rest(due, now)
                self._late = max(self._late, now - due)
                self._node.step(now)
                self._account(self._clock.now() - now, max(0.0, now - due))
                if now >= beat:
                    self._beats.send(Heartbeat(self._node.name, now, True, "", self._late), now)
                    self._ports.refresh()
                    if not launcher_lives():
                        # Nodes that nobody attends would hold the arm, its session and the processor.
                        print("the launcher has ended: so does this node", flush=True)
                        self._stop = True
                    beat, self._late = now + BEAT, 0.0
                # Woken early, the node is due a period after that.
                due = now + self._node.period if now < due else max(due + self._node.period, now)
        finally:
            print(self.account, flush=True)
            self._node.close()

    def _rest(self, due: float, now: float) -> float:
        """Wait until the next step is due, or until something has come that the node wants to look at at once; return
        the time then."""
        if self._wakes:
            came = self._ports.wait(self._wakes, due - now)
            now = self._clock.now()
            if came:
                return now
        if now < due:
            time.sleep(due - now)
        return self._clock.now()

    def _account(self, took: float, late: float) -> None:
        self._steps += 1
        self._slow += took > self._node.period
        self._longest, self._latest = max(self._longest, took), max(self._latest, late)

    @property
    def account(self) -> str:
        """How well the node kept its time, for its log."""
        return (
            f"{self._steps} steps of {1e3 * self._node.period:.0f} ms, {self._slow} took longer than that; "
            f"longest {1e3 * self._longest:.1f} ms, latest {1e3 * self._latest:.1f} ms"
        )
