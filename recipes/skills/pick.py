"""Pick a part from a place by a vertical top grasp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from recipes.contract import DONE, CellView, GripAction, MoveAction, Outcome, OutcomeSpec, PhaseFault, Run, SkillContext
from recipes.grasp import CLEARANCE_MIN, PRESS, opening_for, pick_poses, tcp_from_part, too_wide
from recipes.travel import Load, transfer
from robots.workcell import Name, Strict


class PickParams(Strict):
    """What to pick and where."""

    part: Name
    """Variety."""
    from_: Name = Field(alias="from")
    """Pattern; the part with the lowest index is taken."""


class Pick:
    """Up, across, down round the part; open first if the fingers are too narrow; close on it."""

    name: ClassVar[str] = "pick"
    Params: ClassVar[type[BaseModel]] = PickParams
    needs: ClassVar[frozenset[str]] = frozenset({"gripper"})
    outcomes: ClassVar[dict[str, OutcomeSpec]] = {
        "no_part": OutcomeSpec("no part of this variety is left"),
        "grip_missed": OutcomeSpec("the gripper closed on nothing", retries=1),
        "grip_failed": OutcomeSpec("the gripper did not reach its width"),
        "not_reachable": OutcomeSpec("no clear way to the part"),
        "move_failed": OutcomeSpec("the motion was not finished", retries=0),
        "move_refused": OutcomeSpec("the robot node refused the motion"),
        "grip_refused": OutcomeSpec("the robot node refused to grip"),
        "part_lost": OutcomeSpec("the held part was lost", choices=("skip", "stop")),
    }

    def label(self, params: PickParams) -> str:
        return f"pick {params.part}"

    def analyse(self, cell: CellView, params: PickParams) -> Iterator[tuple[str, str]]:
        kind = cell.workcell.parts.get(params.part)
        if kind is None:
            yield "part", f"unknown part {params.part}; the cell knows {', '.join(cell.workcell.parts) or 'none'}"
        elif fault := too_wide(kind, cell.model.gripper_max):
            yield "part", fault
        if params.from_ not in cell.workcell.patterns:
            known = ", ".join(cell.workcell.patterns) or "none"
            yield "from", f"missing frame: the cell has no pattern {params.from_}; it has {known}"

    def run(self, context: SkillContext, params: PickParams) -> Run:
        if context.parts.held is not None:
            raise PhaseFault("grip_refused", f"{context.parts.held.name} is still in the gripper")
        part = context.parts.find(params.part, params.from_)
        kind = context.parts.kind(part.kind)
        assert part.pose is not None  # `find` returns parts on places only
        goals = pick_poses(part.pose, kind)
        opening = opening_for(kind, context.cell.model.gripper_max)
        narrow = context.gripper_width < kind.grip_width + 2 * CLEARANCE_MIN
        if narrow:
            above = [goal.copy() for goal in goals]
            for goal in above:
                goal[2, 3] += 0.08
            result = yield MoveAction(transfer(context, above, f"{self.label(params)}: above", Load(target=part.name)))
            if not result.ok:
                return Outcome(result.code, result.reason)
            result = yield GripAction(opening)
            if not result.ok:
                return Outcome(result.code, result.reason)
        result = yield MoveAction(transfer(context, goals, f"{self.label(params)}: approach", Load(target=part.name)))
        if not result.ok:
            return Outcome(result.code, result.reason)
        geometry = context.parts.geometry(part, tcp_from_part(kind))
        result = yield GripAction(max(0.0, kind.grip_width - PRESS), kind.grip_force, geometry)
        if not result.ok:
            return Outcome(result.code, result.reason)
        context.parts.grip(part.name)
        return DONE

    def assume(self, context: SkillContext, params: PickParams) -> None:
        """The part is in the gripper."""
        if context.parts.held is None:
            context.parts.grip(context.parts.find(params.part, params.from_).name)

    def hold(self) -> Literal["on_path", "after_action"]:
        return "on_path"
