"""Move the arm to its rest pose, to joint positions, or to a pose in a frame of the cell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from recipes.contract import DONE, CellView, MoveAction, Outcome, OutcomeSpec, Run, SkillContext
from recipes.grasp import tcp_from_part
from recipes.parts import matrix
from recipes.travel import Load, direct, straight, to_joints
from robots.contract import PartGeometry
from robots.workcell import Name, Pose, Strict, Vector

Angle = Annotated[float, Field(ge=-720.0, le=720.0)]


class MoveToParams(Strict):
    """Exactly one of `home`, `joints_deg` and `frame`."""

    home: Literal[True] | None = None
    joints_deg: list[Angle] | None = None
    frame: Name | None = None
    position: Vector = (0.0, 0.0, 0.0)
    """Of the TCP in the frame, m."""
    rpy_deg: tuple[Angle, Angle, Angle] = (180.0, 0.0, 0.0)
    """Of the TCP in the frame; (180, 0, 0) points straight down."""
    path: Literal["ptp", "lin"] = "ptp"
    speed: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the nominal speed."""

    @model_validator(mode="after")
    def one_target(self) -> MoveToParams:
        if (self.home is not None) + (self.joints_deg is not None) + (self.frame is not None) != 1:
            raise ValueError("give exactly one of home, joints_deg and frame")
        return self


class MoveTo:
    """One motion."""

    name: ClassVar[str] = "move_to"
    Params: ClassVar[type[BaseModel]] = MoveToParams
    needs: ClassVar[frozenset[str]] = frozenset()
    outcomes: ClassVar[dict[str, OutcomeSpec]] = {
        "not_reachable": OutcomeSpec("no clear way to the target"),
        "move_failed": OutcomeSpec("the motion was not finished", retries=0),
        "move_refused": OutcomeSpec("the robot node refused the motion"),
        "part_lost": OutcomeSpec("the held part was lost", choices=("skip", "stop")),
    }

    def label(self, params: MoveToParams) -> str:
        return "move home" if params.home else f"move to {params.frame or 'joint positions'}"

    def analyse(self, cell: CellView, params: MoveToParams) -> Iterator[tuple[str, str]]:
        if params.joints_deg is not None:
            yield from self._check_joints(cell, params.joints_deg)
        if params.frame is not None and params.frame != "base" and params.frame not in cell.workcell.frames:
            known = ", ".join(["base", *cell.workcell.frames])
            yield "frame", f"missing frame: the cell has no frame {params.frame}; it has {known}"

    def _check_joints(self, cell: CellView, joints: list[float]) -> Iterator[tuple[str, str]]:
        model = cell.model
        if len(joints) != model.dof:
            yield "joints_deg", f"{len(joints)} values, {model.name} has {model.dof} joints"
            return
        for name, value, low, high in zip(model.joint_names, joints, model.q_lower, model.q_upper, strict=True):
            if not low <= math.radians(value) <= high:
                yield (
                    "joints_deg",
                    f"joint limit: {name} at {value:g} degrees; allowed {math.degrees(low):.1f} to "
                    f"{math.degrees(high):.1f}",
                )

    def run(self, context: SkillContext, params: MoveToParams) -> Run:
        load = Load(held_geometry(context))
        label = self.label(params)
        if params.home or params.joints_deg is not None:
            q = context.cell.home if params.joints_deg is None else np.radians(params.joints_deg)
            motion = to_joints(context, q, label, load, params.speed)
        else:
            T = self._pose(context.cell, params)
            motion = (
                straight(context, T, label, load, 0.5 * params.speed)
                if params.path == "lin"
                else direct(context, T, label, load, params.speed)
            )
        result = yield MoveAction(motion)
        return DONE if result.ok else Outcome(result.code, result.reason)

    def _pose(self, cell: CellView, params: MoveToParams) -> np.ndarray:
        frame = params.frame or "base"
        T_base_frame = np.eye(4) if frame == "base" else matrix(cell.workcell.frames[frame])
        return np.asarray(T_base_frame @ matrix(Pose(position=params.position, rpy_deg=params.rpy_deg)))

    def assume(self, context: SkillContext, params: MoveToParams) -> None:
        """Parts stay where they are."""

    def hold(self) -> Literal["on_path", "after_action"]:
        return "on_path"


def held_geometry(context: SkillContext) -> PartGeometry | None:
    """Return the part in the gripper as the planner takes it."""
    part = context.parts.held
    return context.parts.geometry(part, tcp_from_part(context.parts.kind(part.kind))) if part is not None else None
