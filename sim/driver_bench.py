"""Surroundings of the twin's driver for the conformance suite: a twin without furniture, on simulated time."""

from __future__ import annotations

from typing import Any

from cell.bus.inprocess import Hub
from cell.bus.ports import Ports
from robots.model import RobotModel
from robots.workcell import Workcell
from sim.contract import SERVICE
from sim.robot import TwinDriver
from sim.twin import TwinNode


class TwinBench:
    """Implements `robots.conformance.surroundings.Surroundings` for `twin`."""

    real_time = False

    def __init__(self, hub: Hub, options: dict[str, Any]) -> None:
        """`options`: those of the driver, and `model` (Panda without one)."""
        self.model = str(options.get("model", "panda"))
        self._options = {key: value for key, value in options.items() if key != "model"}
        model = RobotModel.load(self.model)
        robot = {"model": self.model, "tool": model.tool_name}
        self._twin = TwinNode(hub.ports("twin"), Workcell(), robot)
        self._requests = hub.ports("hands").requester(SERVICE, "hands")
        self._now = 0.0

    def driver(self, ports: Ports) -> TwinDriver:
        return TwinDriver(self._options, RobotModel.load(self.model).dof, ports)

    def step(self, now: float) -> None:
        self._now = now
        self._twin.step(now)

    def _ask(self, kind: str, name: str, value: float | bool) -> None:
        self._requests.request({"type": kind, "name": name, "value": value}, self._now)

    def cut(self) -> None:
        self._ask("twin_fault", "drives_silent", 1.0)

    def join(self) -> None:
        self._ask("twin_fault", "drives_silent", 0.0)

    def raise_fault(self) -> str:
        self._ask("twin_input", "emergency_stop", True)
        return "emergency_stop"

    def lift_fault(self) -> None:
        self._ask("twin_input", "emergency_stop", False)

    def close(self) -> None:
        self._twin.close()
