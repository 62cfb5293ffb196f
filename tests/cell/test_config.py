"""Cell files: the demo cell loads as it is; faults between blocks are all found."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell.config import default_cell, load_cell
from cell.yamlfile import FileErrors


def test_demo_cell() -> None:
    loaded = load_cell()
    assert loaded.path == default_cell()
    assert loaded.config.cell == "demo"
    assert len(loaded.config.cameras) == 2
    assert loaded.model().dof == 7
    assert loaded.model().in_limits(loaded.home())
    assert loaded.recipes_path.is_dir()
    assert loaded.safety_path.name == "demo_safety.yaml"
    assert loaded.view().workcell.floor == -0.75


def test_fingerprint_is_of_the_content_not_of_the_layout(tmp_path: Path) -> None:
    text = default_cell().read_text(encoding="utf-8")
    one, two, three = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"
    one.write_text(text)
    two.write_text("# a comment\n" + text)
    three.write_text(text.replace("floor: -0.75", "floor: -0.76"))
    prints = [load_cell(p).fingerprint for p in (one, two, three)]
    assert prints[0] == prints[1] != prints[2]


def test_every_fault_between_blocks(tmp_path: Path) -> None:
    text = default_cell().read_text(encoding="utf-8")
    first, second = (camera.name for camera in load_cell().config.cameras)
    for old, new in [
        ("  driver: twin\n  model: panda", "  driver: twine\n  model: panda"),
        ("frame: tray,", "frame: trey,"),
        ("{part: cube_red, pattern: tray_grid, index: 0}", "{part: cube_rad, pattern: tray_grid, index: 0}"),
        ("{part: cube_red, pattern: tray_grid, index: 1}", "{part: cube_red, pattern: tray_grid, index: 99}"),
        ("{part: cube_green, pattern: tray_grid, index: 3}", "{part: cube_green, pattern: tray_grid, index: 2}"),
        (f"- name: {second}", f"- name: {first}"),
        ("home_deg: [-45,", "home_deg: [-450,"),
    ]:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(FileErrors) as caught:
        load_cell(path)
    assert {e.field for e in caught.value.errors} == {
        "robot.driver",
        "robot.home_deg",
        "cameras[1].name",
        "workcell.patterns.tray_grid.frame",
        "workcell.stock[0].part",
        "workcell.stock[1].index",
        "workcell.stock[3]",
    }
    assert all(e.line > 0 for e in caught.value.errors)
    assert "twin" in next(e for e in caught.value.errors if e.field == "robot.driver").allowed


@pytest.mark.requirement("PER-11")
def test_two_cameras_with_one_serial_number_are_refused(tmp_path: Path) -> None:
    text = default_cell().read_text(encoding="utf-8")
    path = tmp_path / "bad.yaml"
    path.write_text(text.replace("decimation: 2}", 'decimation: 2, serial: "8142"}'))
    with pytest.raises(FileErrors, match="serial number 8142 is that of camera") as caught:
        load_cell(path)
    assert [e.field for e in caught.value.errors] == ["cameras[1].options.serial"]
    assert caught.value.errors[0].line > 0


def test_unknown_arm_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(default_cell().read_text(encoding="utf-8").replace("model: panda", "model: pandora", 1))
    with pytest.raises(FileErrors, match="pandora"):
        load_cell(path)
