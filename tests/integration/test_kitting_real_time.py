"""The same recipe on arms that keep real time, each through its maker's client.

All nodes in one process, at the machine's pace: with a process a node they, the arm's simulator, the maker's client and
the twin beside it would need more than the two processors this must run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cell.commands.run import sum_up
from cell.launch import run_lockstep
from cell.ledger import read_ledger
from cell.options import RunOptions
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
