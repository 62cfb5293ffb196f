"""The same recipe on arms that keep real time, each through its maker's client.

All nodes in one process, at the machine's pace: with a process a node they, the arm's simulator, the maker's client and
the twin beside it would need more than the two processors this must run on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cell.commands.run import sum_up
from cell.launch import run_lockstep
from cell.ledger import read_ledger
from cell.options import RunOptions
from sim.franka_bench import SLOW_MOTION
from sim.franka_server import FrankaServer, NotInstalled
from sim.ur_sim import UrProcess
from tests.integration.test_kitting import LIBRARY, in_box, visitor
from tests.integration.test_kitting_drivers import DEMO, cell_with, without_driver

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
LAMPS = ["lamp_green", "lamp_amber", "lamp_red", "buzzer"]


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


def kit(folder: Path, cell: Path, varieties: str, slow_motion: float = 1.0) -> None:
    """Run with somebody passing; assert that it went as on the twin's own arm."""
    assert without_driver(cell) == without_driver(DEMO)
    options = RunOptions(
        recipe=LIBRARY / "kitting.yaml", cell=cell, runs=folder, paced=True, perception="surface", shadow=True,
        scenario=str(visitor(folder)), settings={"varieties": varieties}, quiet=True, time_limit=180.0,
        slow_motion=slow_motion,
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


@pytest.fixture
def franka_arm() -> Iterator[FrankaServer]:
    rest = [math.radians(v) for v in YAML(typ="safe").load(DEMO.read_text())["robot"]["home_deg"]]
    try:
        arm = FrankaServer(slow_motion=SLOW_MOTION, q=rest)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    yield arm
    arm.close()


def franka_block(address: str) -> dict[str, Any]:
    """An FR3 whose hand is the twin's: the simulator has nothing to grip."""
    options = {
        "address": address, "realtime": "ignore", "slow_motion": SLOW_MOTION, "gripper": False, "drive_delay": 0.06,
        "watchdog": 0.3,
    }  # fmt: skip
    return {"driver": "franka", "model": "fr3", "gripper": {"driver": "twin"}, "options": options}


def test_kitting_through_the_vendors_franka_client(tmp_path: Path, franka_arm: FrankaServer) -> None:
    cell = cell_with(tmp_path, franka_block(franka_arm.address), {}, drive_delay=0.06)
    kit(tmp_path, cell, "cube_red,bar_blue", SLOW_MOTION)
