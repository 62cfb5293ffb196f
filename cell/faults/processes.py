"""What a `Process` of the catalogue does to a node."""

from __future__ import annotations

import resource
from collections.abc import Callable

from cell.bus.ports import Node
from cell.faults.catalogue import Process

SLOW = 40
"""A slow node runs so many times more rarely."""


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
        elif fault.do == "disk_full" or (fault.do == "slow" and self._count % SLOW == 0):
            self.node.step(now)

    def fail(self, fault: Process) -> None:
        """Begin."""
        if fault.do == "restart":
            self._boot += 1
            self.node = self._again(self._boot)
            return
        self._fault = fault
        if fault.do == "disk_full":
            self._files = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._files[1]))

    def recover(self) -> None:
        """End; a killed node stays dead."""
        fault, self._fault = self._fault, None
        if fault is not None and fault.do == "kill":
            self._fault = fault
        if fault is not None and fault.do == "disk_full":
            resource.setrlimit(resource.RLIMIT_FSIZE, self._files)

    def close(self) -> None:
        """End a fault of the whole process, and the node."""
        self.recover()
        self.node.close()
