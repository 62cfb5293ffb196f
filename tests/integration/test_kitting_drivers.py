"""The same recipe, controller and safety files with another driver: only that block of the cell file differs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cell.config import load_cell
from cell.session import read_safety
from safety.acceptance import enrol, load_key, load_trusted, new_key, sign, trust_path
from sim.driver_bench import free_udp_port
from tests.integration.test_kitting import ROOT, in_box, run, visitor

pytestmark = pytest.mark.timeout(900)
DEMO = ROOT / "cell/cells/demo.yaml"


def cell_with(folder: Path, robot: dict[str, Any], world: dict[str, Any], drive_delay: float | None = None) -> Path:
    """The demo cell with another block for the arm, and what its twin needs for it; signed, as for any real arm.

    `drive_delay`: of an arm that answers later than the safety file allows for, s; it is the only change to that file.
    """
    content: dict[str, Any] = YAML(typ="safe").load(DEMO.read_text())
    content["robot"].update(robot)
    content["world"]["driver"] = world.pop("driver", content["world"]["driver"])
    content["world"]["options"].update(world)
    path, safety = folder / "demo.yaml", folder / "demo_safety.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump(content, file)
    text = (ROOT / "cell/cells/demo_safety.yaml").read_text()
    if drive_delay is not None:
        text = text.replace("drive_delay: 0.016", f"drive_delay: {drive_delay}")
    safety.write_text(text)
    for name in ("Anna Berg", "Carl Dietz"):
        key = folder / f"{name[:4]}.pem"
        enrol(trust_path(safety), name, new_key(key))
        config = read_safety(load_cell(path))
        sign(safety, config, load_key(key), name, "2026-01-31T12:00:00Z", load_trusted(trust_path(safety)))
    return path


def egm_cell(folder: Path) -> Path:
    """The arm behind an ABB controller's end of EGM."""
    port = free_udp_port()
    options = {"address": "127.0.0.1", "port": port, "drive_delay": 0.016}
    return cell_with(folder, {"driver": "abb", "options": options}, {"driver": "twin_egm", "egm_port": port})


def dry_cell(folder: Path) -> Path:
    """An arm that is nowhere but in its driver, and a gripper of another make: the twin's."""
    home = [math.radians(v) for v in YAML(typ="safe").load(DEMO.read_text())["robot"]["home_deg"]]
    lamps = ["lamp_green", "lamp_amber", "lamp_red", "buzzer"]
    options = {"q": home, "drive_delay": 0.016, "outputs": lamps}
    return cell_with(folder, {"driver": "null", "options": options, "gripper": {"driver": "twin"}}, {})


def without_driver(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(path.read_text())
    for field in ("driver", "model", "tool", "home_deg", "gripper", "options", "state_timeout"):
        content["robot"].pop(field, None)
    content["world"].pop("driver")
    content["world"]["options"].pop("egm_port", None)
    return content


@pytest.mark.xdist_group("kitting_egm")
def test_kitting_over_egm_with_somebody_passing(tmp_path: Path) -> None:
    cell = egm_cell(tmp_path)
    assert without_driver(cell) == without_driver(DEMO)
    done = run(tmp_path, cell=cell, scenario=str(visitor(tmp_path)), settings={"varieties": "cube_red"})
    s = done.summary
    assert (s.outcome, s.parts_done, s.alarms) == ("Complete", 1, [])
    assert (s.contacts_while_moving, s.psd_violations) == (0, 0)
    assert s.time_slowed_s > 0.0
    assert len(in_box(done.events("twin.parts")[-1]["parts"])) == 1
    assert not done.events("twin.drive_fault")


@pytest.mark.xdist_group("kitting_shadow")
def test_kitting_with_a_twin_that_follows_another_arm(tmp_path: Path) -> None:
    """What the twin sees and holds is real enough for a whole kit, though its arm only follows."""
    cell = dry_cell(tmp_path)
    assert without_driver(cell) == without_driver(DEMO)
    done = run(tmp_path, cell=cell, shadow=True, scenario=str(visitor(tmp_path)), settings={"varieties": "cube_red"})
    s = done.summary
    assert (s.outcome, s.parts_done, s.alarms) == ("Complete", 1, [])
    assert (s.contacts_while_moving, s.psd_violations) == (0, 0)
    assert s.time_slowed_s > 0.0
    assert len(in_box(done.events("twin.parts")[-1]["parts"])) == 1
    assert not done.events("twin.mirror")
