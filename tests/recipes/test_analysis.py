"""`check` finds everything at once, and predicts the time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cell.config import default_cell, load_cell
from cell.yamlfile import FileErrors
from recipes.analysis import Analysis, check
from recipes.contract import CellView
from recipes.expand import load_recipe
from recipes.formula import parse_settings
from robots.workcell import PartType

DATA = Path(__file__).parent / "data"
LIBRARY = Path(__file__).parents[2] / "recipes" / "library"


def view(**parts: PartType) -> CellView:
    cell = load_cell().view()
    workcell = cell.workcell.model_copy(update={"parts": {**cell.workcell.parts, **parts}})
    return CellView(cell.name, workcell, cell.model, cell.home, ("ready",), ("clamp",))


def analyse(path: Path, cell: CellView | None = None, **settings: str) -> Analysis:
    loaded = load_recipe(path)
    formula, errors = parse_settings(loaded.recipe, settings)
    assert not errors
    return check(loaded, cell or view(), formula)


def test_seven_planted_defects_are_all_reported() -> None:
    slab = PartType(size=(0.05, 0.079, 0.03))
    loaded_errors: list[str] = []
    with pytest.raises(FileErrors) as caught:
        load_recipe(DATA / "seven_defects.yaml")
    loaded_errors += [str(e) for e in caught.value.errors]
    from recipes.expand import inspect_recipe

    loaded, errors = inspect_recipe(DATA / "seven_defects.yaml")
    assert loaded is not None
    formula, _ = parse_settings(loaded.recipe, {})
    problems = [*errors, *check(loaded, view(slab=slab), formula).problems]
    found = {p.line: str(p) for p in problems}
    expected = {
        6: "out of range",
        10: "unknown skill pikc",
        11: "unreachable pose",
        12: "joint limit",
        13: "collision with",
        14: "grip too wide",
        15: "missing frame",
    }
    assert set(found) == set(expected)
    for line, words in expected.items():
        assert words in found[line], found[line]
        assert f"seven_defects.yaml:{line}:" in found[line]
    assert len(problems) == 7
    assert len(loaded_errors) == 1


def test_kitting_is_clean_and_brisk() -> None:
    analysis = analyse(LIBRARY / "kitting.yaml")
    assert [str(p) for p in analysis.problems] == []
    assert 25.0 <= analysis.predicted_cycle_s <= 40.0
    assert len(analysis.phases) == 13
    model = load_cell().model()
    assert all(model.in_limits(q) for m in analysis.motions.values() for q in m.path)


@pytest.mark.parametrize("variety", ["cube_red", "cube_green", "bar_blue", "block_yellow", "post_white", "puck_black"])
def test_each_variety_alone(variety: str) -> None:
    analysis = analyse(LIBRARY / "kitting.yaml", varieties=variety)
    assert [str(p) for p in analysis.problems] == []
    assert len(analysis.phases) == 3


def test_machine_tending_is_clean_in_its_cell() -> None:
    cell = load_cell(default_cell().with_name("tending.yaml"))
    analysis = analyse(LIBRARY / "machine_tending.yaml", cell.view(("machine_ready",), ("clamp", "machine_start")))
    assert [str(p) for p in analysis.problems] == []
    assert analysis.predicted_cycle_s > 2 * 4.0
    assert [call.skill.name for call in analysis.changeover] == ["operator_confirm"]


def test_more_parts_than_the_tray_has() -> None:
    analysis = analyse(LIBRARY / "kitting.yaml", varieties="cube_red,cube_red,cube_red")
    assert any("no cube_red is left" in p.message for p in analysis.problems)


def test_analysis_is_repeatable() -> None:
    one, two = analyse(LIBRARY / "kitting.yaml"), analyse(LIBRARY / "kitting.yaml")
    assert one.predicted_cycle_s == two.predicted_cycle_s
    for key, motion in one.motions.items():
        assert np.array_equal(motion.path, two.motions[key].path)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{skill: pick, params: {part: gold, from: tray_grid}}", "unknown part gold"),
        ("{skill: pick, params: {part: cube_red, from: moon}}", "missing frame"),
        ("{skill: pick, params: {part: '${nobody}', from: tray_grid}}", "unknown reference ${nobody}"),
        ("{skill: pick, params: {part: cube_red}}", "is missing"),
        ("{skill: pick, params: {part: cube_red, from: tray_grid, form: x}}", "unknown key"),
        ("{skill: place, params: {at: kit_places, index: 6}}", "outside kit_places"),
        ("{skill: place, params: {at: kit_places}}", "nothing is in the gripper"),
        ("{skill: move_to, params: {}}", "exactly one of"),
        ("{skill: move_to, params: {home: true, frame: base}}", "exactly one of"),
        ("{skill: move_to, params: {frame: nowhere}}", "missing frame"),
        ("{skill: move_to, params: {joints_deg: [1, 2]}}", "has 7 joints"),
        ("{skill: move_to, params: {home: true, speed: 1.5}}", "out of range"),
        ("{skill: wait_for, params: {input: bell}}", "no input bell"),
        ("{skill: wait_for, params: {input: ready, seconds: 1}}", "either input or seconds"),
        ("{skill: wait_for, params: {seconds: 0}}", "out of range"),
        ("{skill: set_output, params: {name: horn, value: true}}", "no output horn"),
        ("{skill: inspect, params: {expect: held}}", "needs part"),
        ("{skill: operator_confirm, params: {text: ''}}", "at least"),
        ("{skill: move_to, params: {home: true}, on: {exploded: {retry: 1}}}", "no such outcome"),
    ],
)
def test_each_fault_has_its_words(tmp_path: Path, body: str, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "recipe: r\nversion: '1'\ncapabilities: [gripper, inputs, outputs, operator]\n"
        f"operations:\n  - operation: one\n    phases:\n      - {body}\n"
    )
    problems = analyse(path).problems
    assert [p for p in problems if words in str(p) and p.line == 7], [str(p) for p in problems]


def test_capabilities_must_be_declared_and_offered(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "recipe: r\nversion: '1'\ncapabilities: [inputs]\n"
        "operations:\n  - operation: one\n    phases:\n      - {skill: operator_confirm, params: {text: Ready?}}\n"
    )
    cell = view()
    bare = CellView(cell.name, cell.workcell, cell.model, cell.home, (), ())
    texts = [str(p) for p in analyse(path, bare).problems]
    assert any("needs operator" in t for t in texts)
    assert any("offers no inputs" in t for t in texts)


def test_the_demo_cell_is_the_packages() -> None:
    assert default_cell().name == "demo.yaml"
