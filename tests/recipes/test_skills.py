"""Each skill by itself: what it asks for, and every outcome it declares that a result can bring about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cell.config import load_cell
from recipes.contract import (
    DONE,
    Action,
    AskAction,
    DelayAction,
    GripAction,
    InputAction,
    MoveAction,
    Outcome,
    OutputAction,
    PhaseFault,
    Result,
    SkillContext,
)
from recipes.expand import installed_skills
from recipes.parts import Parts, PartsError
from recipes.skills.operator_confirm import LOOK

OK = Result(True)


def context() -> SkillContext:
    view = load_cell().view()
    return SkillContext(view, Parts(view.workcell), np.array(view.home), 0.08, prefix="t")


def drive(name: str, ctx: SkillContext, params: dict[str, Any], *results: Result) -> tuple[list[Action], Outcome]:
    """Run a skill with the given results, then with success."""
    skill = installed_skills()[name]
    run = skill.run(ctx, skill.Params.model_validate(params))
    todo = list(results)
    actions: list[Action] = []
    try:
        actions.append(next(run))
        while True:
            result = todo.pop(0) if todo else OK
            action = actions[-1]
            if result.ok and isinstance(action, MoveAction):
                ctx.q = action.motion.path[-1]
            if result.ok and isinstance(action, GripAction):
                ctx.gripper_width = action.width
            actions.append(run.send(result))
    except StopIteration as stop:
        return actions, stop.value


def test_all_seven_are_installed_and_declare_what_they_can_end_in() -> None:
    skills = installed_skills()
    assert set(skills) >= {
        "move_to",
        "pick",
        "place",
        "wait_for",
        "set_output",
        "operator_confirm",
        "inspect",
    }
    for name, skill in skills.items():
        assert skill.name == name
        assert skill.outcomes
        assert skill.hold() in ("on_path", "after_action")


def test_pick_then_place_then_inspect() -> None:
    ctx = context()
    actions, outcome = drive("pick", ctx, {"part": "post_white", "from": "tray_grid"})
    assert outcome == DONE
    assert [type(a) for a in actions] == [MoveAction, GripAction]
    grip = actions[1]
    assert isinstance(grip, GripAction)
    assert grip.part is not None
    assert grip.part.name == "post_white#9"
    assert grip.width < 0.036
    assert ctx.parts.held is not None
    ctx.gripper_width = 0.0365
    assert drive("inspect", ctx, {"expect": "held", "part": "post_white"})[1] == DONE
    assert drive("inspect", ctx, {"expect": "held", "part": "cube_red"})[1].code == "inspection_failed"
    assert drive("inspect", ctx, {"expect": "empty"})[1].code == "inspection_failed"
    for width in (0.03, 0.05, float("nan")):
        ctx.gripper_width = width
        assert drive("inspect", ctx, {"expect": "held", "part": "post_white"})[1].code == "inspection_failed"
    ctx.gripper_width = 0.036
    actions, outcome = drive("place", ctx, {"at": "kit_places"})
    assert outcome == DONE
    assert isinstance(actions[-1], GripAction)
    assert actions[-1].release
    assert drive("inspect", ctx, {"expect": "empty"})[1] == DONE


def test_fingers_that_are_too_narrow_open_above_the_part() -> None:
    ctx = context()
    ctx.gripper_width = 0.0
    actions, outcome = drive("pick", ctx, {"part": "cube_red", "from": "tray_grid"})
    assert outcome == DONE
    assert [type(a) for a in actions] == [MoveAction, GripAction, MoveAction, GripAction]


@pytest.mark.parametrize(("which", "code"), [(0, "move_failed"), (0, "move_refused"), (1, "grip_missed")])
def test_a_failed_action_is_the_outcome(which: int, code: str) -> None:
    ctx = context()
    results = [OK] * which + [Result(False, code, "because")]
    _, outcome = drive("pick", ctx, {"part": "cube_red", "from": "tray_grid"}, *results)
    assert outcome == Outcome(code, "because")
    assert code in installed_skills()["pick"].outcomes
    assert ctx.parts.held is None
    assert ctx.parts.find("cube_red", "tray_grid").name == "cube_red#1"


def test_picking_with_a_full_and_placing_with_an_empty_gripper() -> None:
    ctx = context()
    with pytest.raises(PartsError) as empty:
        drive("place", ctx, {"at": "kit_places"})
    assert empty.value.code == "part_lost"
    ctx.parts.grip("cube_red#1")
    with pytest.raises(PhaseFault, match="still in the gripper"):
        drive("pick", ctx, {"part": "cube_red", "from": "tray_grid"})


def test_waiting_asking_switching() -> None:
    ctx = context()
    actions, outcome = drive("wait_for", ctx, {"input": "ready", "value": False, "timeout": 3.0})
    assert (actions, outcome) == ([InputAction("ready", False, 3.0)], DONE)
    late = Result(False, "wait_timeout", "too late")
    assert drive("wait_for", ctx, {"input": "ready"}, late)[1] == Outcome("wait_timeout", "too late")
    assert drive("wait_for", ctx, {"seconds": 2.0})[0] == [DelayAction(2.0)]
    assert drive("set_output", ctx, {"name": "clamp", "value": True})[0] == [OutputAction("clamp", True)]
    yes, no = Result(True, answer="yes"), Result(True, answer="no")
    actions, outcome = drive("operator_confirm", ctx, {"text": "Ready?"}, yes)
    assert (actions, outcome) == ([AskAction("Ready?", ("yes", "no"))], DONE)
    assert drive("operator_confirm", ctx, {"text": "Full?", "restocked": True}, yes) == (
        [AskAction("Full?", ("yes", "no"), True), DelayAction(LOOK)],
        DONE,
    )
    assert drive("operator_confirm", ctx, {"text": "Ready?"}, no)[1].code == "answered_no"
    # An answer that is neither is no yes.
    assert drive("operator_confirm", ctx, {"text": "Ready?"}, Result(True))[1].code == "answered_no"


def test_restocking_is_said_by_a_yes_or_an_input_only() -> None:
    ctx = context()
    ctx.parts.lose("cube_red#1")
    drive("operator_confirm", ctx, {"text": "Full?", "restocked": True}, Result(True, answer="no"))
    assert ctx.parts.find("cube_red", "tray_grid").name == "cube_red#2"
    drive("operator_confirm", ctx, {"text": "Full?", "restocked": True}, Result(True, answer="yes"))
    assert ctx.parts.find("cube_red", "tray_grid").name == "cube_red#1"
    ctx.parts.lose("cube_red#1")
    drive("wait_for", ctx, {"input": "full", "restocked": True})
    assert ctx.parts.find("cube_red", "tray_grid").name == "cube_red#1"


def test_moving_straight_and_by_joints() -> None:
    ctx = context()
    target = {"frame": "base", "position": [0.4, -0.3, 0.35]}
    for path in ("ptp", "lin"):
        actions, outcome = drive("move_to", ctx, {**target, "path": path})
        assert outcome == DONE
        assert isinstance(actions[0], MoveAction)
        end = ctx.cell.model.fk(actions[0].motion.path[-1])
        assert end[:3, 3] == pytest.approx([0.4, -0.3, 0.35], abs=1e-4)
        assert end[:3, 2] == pytest.approx([0, 0, -1], abs=1e-4)
    drive("move_to", ctx, {"home": True})
    assert ctx.q == pytest.approx(ctx.cell.home, abs=1e-6)
