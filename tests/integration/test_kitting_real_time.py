"""The same recipe on arms that keep real time, each through its maker's client.

All nodes in one process, at the machine's pace: with a process a node they, the arm's simulator, the maker's client and
the twin beside it would need more than the two processors this must run on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cell.clock import RealClock
from cell.commands.run import sum_up
from cell.config import load_cell
from cell.launch import run_lockstep
from cell.ledger import read_ledger
from cell.options import RunOptions
from robots.contract import Driver, DriverError, Setpoint
from robots.drivers.franka import FrankaDriver
from sim.franka_server import FrankaServer, NotInstalled
from sim.ur_sim import UrProcess
from tests.integration.test_kitting import LIBRARY, in_box, visitor
from tests.integration.test_kitting_drivers import DEMO, cell_with, without_driver

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
LAMPS = ["lamp_green", "lamp_amber", "lamp_red", "buzzer"]


@pytest.fixture
def franka_arm() -> Iterator[FrankaServer]:
    try:
        arm = FrankaServer()
    except NotInstalled as missing:
        pytest.skip(str(missing))
    yield arm
    arm.close()


@pytest.fixture
def ur_arm() -> Iterator[UrProcess]:
    arm = UrProcess()
    yield arm
    arm.close()


def ur_block(address: str) -> dict[str, Any]:
    """A UR5e that rests over the table as the demo cell's arm does."""
    return {
        "driver": "ur",
        "model": "ur5e",
        "tool": "parallel_gripper",
        "home_deg": [-66, -109, 93, -74, -90, -21],
        "gripper": {"driver": "twin"},
        "options": {"address": address, "drive_delay": 0.06, "watchdog": 0.3, "outputs": LAMPS},
    }


def franka_block(address: str) -> dict[str, Any]:
    """A Franka Research 3 whose fingers are the twin's."""
    options = {"address": address, "realtime": "ignore", "watchdog": 0.3, "gripper": False, "drive_delay": 0.06}
    return {"driver": "franka", "model": "fr3", "gripper": {"driver": "twin"}, "options": options}


def bring(driver: Driver, goal: list[float], seconds: float) -> None:
    """What a person does first: the arm to its rest pose, slowly, before anything runs."""
    clock = RealClock()
    begun, state = clock.now(), None
    while state is None:
        assert clock.now() - begun < 30.0, "the arm does not answer"
        with contextlib.suppress(DriverError):
            driver.connect(clock.now())
            state = driver.state(clock.now())
        time.sleep(0.01)
    start, begun = list(state.q), clock.now()
    for n in range(round((seconds + 0.5) * 250)):
        share = min(1.0, (clock.now() - begun) / seconds)
        smooth = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
        q = [a + smooth * (b - a) for a, b in zip(start, goal, strict=True)]
        driver.send(Setpoint(n + 1, clock.now(), q, [0.0] * len(q)))
        driver.state(clock.now())
        time.sleep(0.004)
    driver.close()


def kit(folder: Path, cell: Path, varieties: str) -> None:
    """Run with somebody passing; assert that it went as on the twin's own arm."""
    assert without_driver(cell) == without_driver(DEMO)
    options = RunOptions(
        recipe=LIBRARY / "kitting.yaml", cell=cell, runs=folder, paced=True, perception="surface", shadow=True,
        scenario=str(visitor(folder)), settings={"varieties": varieties}, quiet=True, time_limit=180.0,
    )  # fmt: skip
    result = run_lockstep(options)
    s = sum_up(result, options)
    assert s.outcome == "Complete", (s.alarms, result.operator.refusals)
    assert s.parts_done == varieties.count(",") + 1
    assert (s.contacts_while_moving, s.psd_violations) == (0, 0)
    assert s.time_slowed_s > 0.0
    rows = read_ledger(result.session.directory / "events.sqlite")
    parts = [row.event.data["parts"] for row in rows if row.event.kind == "twin.parts"]
    assert len(in_box(parts[-1])) == s.parts_done


def test_kitting_on_a_ur_controller(tmp_path: Path, ur_arm: UrProcess) -> None:
    kit(tmp_path, cell_with(tmp_path, ur_block(ur_arm.address), {}, drive_delay=0.06), "cube_red,bar_blue")


def test_kitting_on_a_franka_controller(tmp_path: Path, franka_arm: FrankaServer) -> None:
    block = franka_block(franka_arm.address)
    cell = cell_with(tmp_path, block, {}, drive_delay=0.06)
    bring(FrankaDriver(block["options"], 7), load_cell(cell).home().tolist(), 8.0)
    kit(tmp_path, cell, "cube_red,bar_blue")
