"""What a `Process` of the catalogue does to a node."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from cell.bus.ports import Node
from cell.faults.catalogue import Process
from perception.contract import Observation
from robots.contract import RobotState
from robots.motion import Motion
from safety.methods import AnyMonitor
from safety.monitor import Decision

BLIND = 0.05
"""m."""
STEPPING = ("disk_full", "monitor_stuck", "monitor_blind", "self_test_off", "camera_moved")
"""Faults with which a node goes on running."""
SLOW = 40
"""A slow node runs so many times more rarely."""


class StuckMonitor:
    """Goes on giving the first answer it was asked for, for whatever motion."""

    def __init__(self, monitor: AnyMonitor) -> None:
        self.monitor = monitor
        self._answer: Decision | None = None

    def cycle(self, now: float, observation: Observation, state: RobotState, motion: Motion | None) -> Decision:
        """As `Monitor.cycle`."""
        if self._answer is None:
            self._answer = self.monitor.cycle(now, observation, state, motion)
        return self._answer._replace(progress_from=state.progress, progress_to=state.progress + 1.0)

    def warm_up(self) -> None:
        """As `Monitor.warm_up`."""
        self.monitor.warm_up()


class BlindMonitor(StuckMonitor):
    """Sees nothing that is within `BLIND` of the arm's hand, as if its model lacked the last link."""

    def cycle(self, now: float, observation: Observation, state: RobotState, motion: Motion | None) -> Decision:
        """As `Monitor.cycle`."""
        answer = self.monitor.cycle(now, observation, state, motion)
        if answer.separation > 0.0:
            return answer
        balls = np.frombuffer(observation.balls, "<f4").reshape(-1, 4)
        hand = np.array(answer.point)
        far = balls[np.linalg.norm(balls[:, :3] - hand, axis=1) > BLIND]
        seen = msgspec.structs.replace(observation, balls=far.tobytes(), seen=min(observation.seen, len(far)))
        return self.monitor.cycle(now, seen, state, motion)


class FaultyNode:
    """A node that can be killed, frozen, slowed down, started again, or given a wrong clock."""

    def __init__(self, node: Node, again: Callable[[int], Node]) -> None:
        """`again` builds it anew for a boot number."""
        self.node = node
        self.name = node.name
        self.period = node.period
        self._again = again
        self._fault: Process | None = None
        self._boot = 1
        self._count = 0
        self._files = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def step(self, now: float) -> None:
        """Step the node as the fault lets it."""
        fault = self._fault
        self._count += 1
        if fault is None:
            self.node.step(now)
        elif fault.do == "clock":
            self.node.step(now + fault.by)
        elif fault.do in STEPPING or (fault.do == "slow" and self._count % SLOW == 0):
            self.node.step(now)

    def fail(self, fault: Process) -> None:
        """Begin."""
        if fault.do == "restart":
            self._boot += 1
            self.node = self._again(self._boot)
            return
        self._fault = fault
        if fault.do in ("monitor_stuck", "monitor_blind"):
            supervisor: Any = self.node
            kind = StuckMonitor if fault.do == "monitor_stuck" else BlindMonitor
            supervisor.core.monitor = kind(supervisor.core.monitor)
        if fault.do in ("self_test_off", "camera_moved"):
            self._tamper(fault, True)
        if fault.do == "disk_full":
            self._files = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._files[1]))

    def recover(self) -> None:
        """End; a killed node stays dead."""
        fault, self._fault = self._fault, None
        if fault is not None and fault.do == "kill":
            self._fault = fault
        if fault is not None and fault.do in ("monitor_stuck", "monitor_blind"):
            supervisor: Any = self.node
            supervisor.core.monitor = supervisor.core.monitor.monitor
        if fault is not None and fault.do in ("self_test_off", "camera_moved"):
            self._tamper(fault, False)
        if fault is not None and fault.do == "disk_full":
            resource.setrlimit(resource.RLIMIT_FSIZE, self._files)

    def _tamper(self, fault: Process, on: bool) -> None:
        node: Any = self.node
        if fault.do == "camera_moved":
            node.camera.knock((fault.by if on else -fault.by, 0.0, 0.0))
        elif on:
            node.core.selftest.due = lambda now: 0
        else:
            del node.core.selftest.due

    def close(self) -> None:
        """End a fault of the whole process, and the node."""
        self.recover()
        self.node.close()
