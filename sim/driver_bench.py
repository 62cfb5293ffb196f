"""Surroundings for the conformance suite: the twin without furniture, directly or behind a vendor's protocol."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from cell.bus.inprocess import Hub
from cell.bus.ports import Ports
from robots.drivers.abb import AbbDriver
from robots.drivers.ur import UrDriver
from robots.model import RobotModel
from robots.workcell import Workcell
from sim.contract import SERVICE
from sim.egm_robot import EgmRobotEnd
from sim.robot import MODE_SWITCH, TwinDriver
from sim.twin import TwinNode
from sim.ur_sim import UrProcess


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

    def devices(self, switch: Literal["automatic", "manual"], enabling: bool) -> None:
        self._ask("twin_input", MODE_SWITCH, switch == "manual")
        self._ask("twin_input", "enabling_device", enabling)

    def close(self) -> None:
        self._twin.close()


class EgmBench(TwinBench):
    """The twin's arm behind an ABB controller's end of EGM, over UDP on this machine: surroundings of `abb`."""

    def __init__(self, hub: Hub, options: dict[str, Any]) -> None:
        super().__init__(hub, {"model": options.get("model", "ur5e")})
        port = free_udp_port()
        self._egm_options = {"address": "127.0.0.1", "port": port, **options}
        self._egm_options.pop("model", None)
        self._arm = super().driver(hub.ports("drives"))
        self._arm.connect(0.0)
        self.end = EgmRobotEnd(self._arm, ("127.0.0.1", port))

    def driver(self, ports: Ports) -> AbbDriver:  # type: ignore[override]
        return AbbDriver(self._egm_options, RobotModel.load(self.model).dof, ports)

    def step(self, now: float) -> None:
        super().step(now)
        self.end.step(now)

    def cut(self) -> None:
        self.end.cable = False

    def join(self) -> None:
        self.end.cable = True

    def close(self) -> None:
        self.end.close()
        super().close()


class UrBench:
    """The twin's arm behind a UR controller in a process of its own, in real time: surroundings of `ur`."""

    real_time = True
    config: Mapping[str, Any] = MappingProxyType({"state_timeout": 0.085})
    """The machine that runs the suite runs the arm as well, and is no real-time machine."""

    def __init__(self, hub: Hub, options: dict[str, Any]) -> None:
        self.model = str(options.get("model", "ur5e"))
        self._arm = UrProcess(self.model)
        self._options = {"address": self._arm.address, "watchdog": 0.3, **options}
        self._options.pop("model", None)

    def driver(self, ports: Ports) -> UrDriver:
        return UrDriver(self._options, RobotModel.load(self.model).dof, ports)

    def step(self, now: float) -> None:
        """The arm keeps its own time."""

    def cut(self) -> None:
        self._arm.order("cable off")

    def join(self) -> None:
        self._arm.order("cable on")

    def raise_fault(self) -> str:
        self._arm.order("emergency_stop on")
        return "emergency_stop"

    def lift_fault(self) -> None:
        self._arm.order("emergency_stop off")

    def close(self) -> None:
        self._arm.close()


def free_udp_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
