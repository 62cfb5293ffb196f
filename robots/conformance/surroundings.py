"""What a driver under test is connected to: its arm, real or simulated, and the hands that pull its cable."""

from __future__ import annotations

from typing import Any, Protocol

from cell.bus.inprocess import Hub
from cell.bus.ports import Ports
from robots.contract import Driver, DriverFactory


class Unavailable(Exception):
    """These surroundings cannot do that; the test that asks for it is skipped with this text."""


class Surroundings(Protocol):
    """Entry point `cell.driver_benches`: called with the hub of the test and the driver's options."""

    model: str
    """Robot model whose arm it is (`robots.model`)."""
    real_time: bool
    """The arm keeps its own time; otherwise it moves only in `step`."""
    # A further attribute `config` may hold fields of the cell file's robot block that these surroundings need, and a
    # further method `devices(switch: Literal["automatic", "manual"], enabling: bool) -> None` turn the vendor's mode
    # switch and hold or release its enabling device.

    def driver(self, ports: Ports) -> Driver:
        """Return a new driver. Raises DriverError for options that are wrong."""
        ...

    def step(self, now: float) -> None:
        """Let the arm move up to `now`, s. Nothing to do in real time."""
        ...

    def cut(self) -> None:
        """Pull the cable: from now on nothing comes back from the arm. Raises Unavailable."""
        ...

    def join(self) -> None:
        """Put the cable back."""
        ...

    def raise_fault(self) -> str:
        """Make the vendor's side report a fault; return the code the robot node latches. Raises Unavailable."""
        ...

    def lift_fault(self) -> None:
        """Remove the cause of the fault, as a person at the arm does. The fault itself waits for `recover`."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


class Plain:
    """A driver as it is, in real time: nobody pulls its cable."""

    real_time = True

    def __init__(self, factory: DriverFactory, options: dict[str, Any]) -> None:
        """`options["model"]` names the robot model (Panda without one); the driver gets the other options."""
        self.model = str(options.get("model", "panda"))
        self._options = {key: value for key, value in options.items() if key != "model"}
        self._factory = factory

    def driver(self, ports: Ports) -> Driver:
        from robots.model import RobotModel

        return self._factory(self._options, RobotModel.load(self.model).dof, ports)

    def step(self, now: float) -> None:
        """The arm keeps its own time."""

    def cut(self) -> None:
        raise Unavailable("nobody here pulls the cable: add an entry point to cell.driver_benches")

    def join(self) -> None:
        """The cable was never pulled."""

    def raise_fault(self) -> str:
        raise Unavailable("nobody here makes the arm fail: add an entry point to cell.driver_benches")

    def lift_fault(self) -> None:
        """There is none."""

    def close(self) -> None:
        """Nothing was started."""


def surroundings(name: str, factory: DriverFactory, bench: Any, hub: Hub, options: dict[str, Any]) -> Surroundings:
    """Those of `cell.driver_benches` if the driver has one, else the driver as it is."""
    if bench is None:
        return Plain(factory, options)
    made: Surroundings = bench(hub, options)
    return made
