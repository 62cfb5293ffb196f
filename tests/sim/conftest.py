"""What the tests of the twin share."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cell.bus.inprocess import Hub
from robots.workcell import Workcell
from sim.robot import TwinDriver
from sim.twin import TwinNode

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def demo() -> dict[str, Any]:
    """The demo cell file as it is written."""
    content: dict[str, Any] = YAML(typ="safe").load((ROOT / "cell/cells/demo.yaml").read_text())
    return content


@pytest.fixture(scope="session")
def workcell(demo: dict[str, Any]) -> Workcell:
    return Workcell.model_validate(demo["workcell"])


@pytest.fixture(scope="session")
def home(demo: dict[str, Any]) -> list[float]:
    return [math.radians(v) for v in demo["robot"]["home_deg"]]


@pytest.fixture(scope="session")
def mocap() -> Path:
    """Folder of recorded motion that is not in the repository."""
    path = Path(os.environ.get("CELL_TEST_DATA", ROOT.parent / "shared")) / "mocap"
    if not path.is_dir():
        pytest.skip(f"no recorded motion in {path}: set CELL_TEST_DATA")
    return path


class Bench:
    """A twin, its driver and a clock, in lock-step on one hub."""

    def __init__(self, demo: dict[str, Any], workcell: Workcell, **twin: Any) -> None:
        self.hub = Hub()
        self.feed = self.hub.ports("test").event_feed()
        self.requests = self.hub.ports("tester").requester("twin.requests", "s")
        self.twin = TwinNode(self.hub.ports("twin"), workcell, demo["robot"], **twin)
        self.driver = TwinDriver({}, len(self.twin._reading.q), self.hub.ports("arm"))
        self.driver.connect(0.0)
        self.t = 0.0
        self.seq = 0

    def tick(self, q: Any = None, dq: Any = None) -> Any:
        """One period: the twin steps, the driver reads, and a setpoint is sent if `q` is given."""
        from robots.contract import Setpoint

        self.t = round(self.t + 0.004, 9)
        self.twin.step(self.t)
        state = self.driver.state(self.t)
        if q is not None:
            self.seq += 1
            speeds = [0.0] * len(q) if dq is None else [float(v) for v in dq]
            self.driver.send(Setpoint(self.seq, self.t, [float(v) for v in q], speeds))
        return state

    def ask(self, body: Any) -> Any:
        """Send a request to the twin, step once without a setpoint, and return the reply."""
        self.requests.request(body, self.t)
        self.t = round(self.t + 0.004, 9)
        self.twin.step(self.t)
        return self.requests.replies()[-1]

    def events(self, kind: str) -> list[Any]:
        return [e for e in self.feed.drain() if e.kind == kind]


@pytest.fixture
def bench(demo: dict[str, Any], workcell: Workcell, request: pytest.FixtureRequest) -> Any:
    """Factory of benches; all are closed at the end."""
    made: list[Bench] = []

    def make(**twin: Any) -> Bench:
        made.append(Bench(demo, workcell, **twin))
        return made[-1]

    yield make
    for one in made:
        one.twin.close()
