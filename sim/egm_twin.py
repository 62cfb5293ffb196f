"""The twin behind an ABB controller's end of EGM: the cell reaches its arm over UDP, as it would a real one."""

from __future__ import annotations

from typing import Any

from cell.bus.ports import Ports
from sim.egm_robot import EgmRobotEnd
from sim.robot import TwinDriver
from sim.twin import TwinNode


class EgmTwinNode(TwinNode):
    """Entry point `cell.worlds`: `twin_egm`. Its options are the twin's, and `egm_port`: where the feedback goes."""

    def __init__(
        self, ports: Ports, workcell: Any, robot: Any, options: Any = None, *others: Any, **named: Any
    ) -> None:
        """As `TwinNode`. Raises OSError as well."""
        plain = dict(options or {})
        port = int(plain.pop("egm_port", 6510))
        super().__init__(ports, workcell, robot, plain, *others, **named)
        self._arm = TwinDriver({}, len(self._reading.q), ports)
        self._arm.connect(named.get("now", 0.0))
        self._end = EgmRobotEnd(self._arm, ("127.0.0.1", port))

    def step(self, now: float) -> None:
        """The controller's cycle round one step of physics."""
        self._end.take(now)
        super().step(now)
        self._end.tell(now)

    def close(self) -> None:
        self._end.close()
        super().close()
