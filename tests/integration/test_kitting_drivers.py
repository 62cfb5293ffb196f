"""The same recipe, controller and safety files with another driver: only that block of the cell file differs."""

from __future__ import annotations

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


def egm_cell(folder: Path) -> Path:
    """The demo cell, its arm behind an ABB controller's end of EGM; signed, as for any driver of a real arm."""
    port = free_udp_port()
    content: dict[str, Any] = YAML(typ="safe").load(DEMO.read_text())
    content["robot"]["driver"] = "abb"
    content["robot"]["options"] = {"address": "127.0.0.1", "port": port, "drive_delay": 0.016}
    content["world"]["driver"] = "twin_egm"
    content["world"]["options"]["egm_port"] = port
    path, safety = folder / "demo.yaml", folder / "demo_safety.yaml"
    with path.open("w") as file:
        YAML(typ="safe").dump(content, file)
    safety.write_bytes((ROOT / "cell/cells/demo_safety.yaml").read_bytes())
    for name in ("Anna Berg", "Carl Dietz"):
        key = folder / f"{name[:4]}.pem"
        enrol(trust_path(safety), name, new_key(key))
        config = read_safety(load_cell(path))
        sign(safety, config, load_key(key), name, "2026-01-31T12:00:00Z", load_trusted(trust_path(safety)))
    return path


def without_driver(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(path.read_text())
    for field in ("driver", "model", "tool", "options"):
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
