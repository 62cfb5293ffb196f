"""Surroundings of the driver without a robot: its own faults stand for the cable and the vendor."""

from __future__ import annotations

import sys
from typing import Any, Literal

from cell.bus.inprocess import Hub
from cell.bus.ports import Ports
from robots.drivers.null import NullDriver
from robots.model import RobotModel


class DryBench:
    """Implements `robots.conformance.surroundings.Surroundings` for `null`, on simulated time."""

    real_time = False

    def __init__(self, hub: Hub, options: dict[str, Any]) -> None:
        self.model = str(options.get("model", "panda"))
        self._options = options
        self._driver: NullDriver | None = None

    def driver(self, ports: Ports) -> NullDriver:
        self._driver = NullDriver(self._options, RobotModel.load(self.model).dof, ports)
        return self._driver

    @property
    def _made(self) -> NullDriver:
        assert self._driver is not None
        return self._driver

    def step(self, now: float) -> None:
        """Its arm moves when it is asked for its state."""

    def cut(self) -> None:
        self._made.faults.frozen = True
        self._made.faults.lost_setpoints = sys.maxsize

    def join(self) -> None:
        self._made.faults.frozen = False
        self._made.faults.lost_setpoints = 0

    def raise_fault(self) -> str:
        self._made.faults.fault = "overcurrent in joint 2"
        return "driver_fault"

    def lift_fault(self) -> None:
        """The null driver's fault has no cause; `recover` clears it."""

    def devices(self, switch: Literal["automatic", "manual"], enabling: bool) -> None:
        self._made.mode_switch, self._made.enabling_device = switch, enabling

    def close(self) -> None:
        """Nothing was started."""
