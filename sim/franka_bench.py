"""Surroundings of the driver `franka` for the conformance suite: the third-party simulator, in slow motion."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cell.bus.inprocess import Hub
from cell.bus.ports import Ports
from robots.drivers.franka import FrankaDriver
from robots.model import RobotModel
from sim.franka_server import FrankaServer

NICE = -15
"""Of the process that runs the suite, where the machine permits it. Real-time scheduling would be too much: what a test
computes in between takes so long that the system holds up everything with such scheduling, the arm included."""
SLOW_MOTION = 4.0
"""Both ends of the arm, the suite and a robot node share this machine, and what else it has to do comes in between:
milliseconds, for which an arm does not wait. On a slower clock they are fractions of the arm's cycle."""


class FrankaBench:
    """A simulated FR3 with a gripper that holds nothing. Raises `sim.franka_server.NotInstalled` without one."""

    real_time = True
    config: Mapping[str, Any] = MappingProxyType({"state_timeout": 0.085})
    """The machine that runs the suite runs the arm as well, and is no real-time machine."""

    def __init__(self, hub: Hub, options: dict[str, Any]) -> None:
        self.model = str(options.get("model", "fr3"))
        slow_motion = float(options.get("slow_motion", SLOW_MOTION))
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
        self.server = FrankaServer(slow_motion=slow_motion)
        self._options = {"address": self.server.address, "realtime": "ignore", "watchdog": 0.3, **options}
        self._options["slow_motion"] = slow_motion
        self._options.pop("model", None)

    def driver(self, ports: Ports) -> FrankaDriver:
        return FrankaDriver(self._options, RobotModel.load(self.model).dof, ports)

    def step(self, now: float) -> None:
        """The arm keeps its own time."""

    def cut(self) -> None:
        self.server.freeze()

    def join(self) -> None:
        self.server.thaw()

    def raise_fault(self) -> str:
        """Somebody pushes the arm: the vendor's reflex."""
        self.server.order("collision")
        return "driver_fault"

    def lift_fault(self) -> None:
        """Whoever pushed it has let go; the reflex waits for `recover`."""

    def close(self) -> None:
        self.server.close()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, self._nice)
