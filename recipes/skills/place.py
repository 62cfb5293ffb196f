"""Put the held part on a place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field

from recipes import parts
from recipes.contract import DONE, CellView, GripAction, MoveAction, Outcome, OutcomeSpec, PhaseFault, Run, SkillContext
from recipes.grasp import RELEASE, place_poses, tcp_from_part
from recipes.travel import Load, transfer
from robots.motion import Motion
from robots.workcell import Name, PartType, Strict


class PlaceParams(Strict):
    """Where to put it."""

    at: Name
    """Pattern."""
    index: Annotated[int, Field(ge=0, le=9999)] | None = None
    """Place of the pattern; left out: the first free one that the gripper can reach beside what lies there."""
    clearance: Annotated[float, Field(ge=0.0, le=0.02)] = 0.002
    """Height above the place at which the part is let go, m."""


class Place:
    """Up, across, down; open just enough to let go."""

    name: ClassVar[str] = "place"
    Params: ClassVar[type[BaseModel]] = PlaceParams
    needs: ClassVar[frozenset[str]] = frozenset({"gripper"})
    outcomes: ClassVar[dict[str, OutcomeSpec]] = {
        "no_place": OutcomeSpec("the place is taken or there is none", choices=("retry", "stop")),
        "not_reachable": OutcomeSpec("no clear way to the place", choices=("retry", "stop")),
        "part_lost": OutcomeSpec("the held part was lost", choices=("skip", "stop")),
        "move_failed": OutcomeSpec("the motion was not finished"),
        "move_refused": OutcomeSpec("the robot node refused the motion"),
        "grip_refused": OutcomeSpec("the robot node refused to open"),
        "grip_failed": OutcomeSpec("the gripper did not open", choices=("retry", "stop")),
    }

    def label(self, params: PlaceParams) -> str:
        return f"place in {params.at}"

    def analyse(self, cell: CellView, params: PlaceParams) -> Iterator[tuple[str, str]]:
        pattern = cell.workcell.patterns.get(params.at)
        if pattern is None:
            known = ", ".join(cell.workcell.patterns) or "none"
            yield "at", f"missing frame: the cell has no pattern {params.at}; it has {known}"
        elif params.index is not None and params.index >= pattern.count:
            yield "index", f"place {params.index} is outside {params.at}; allowed 0 to {pattern.count - 1}"

    def run(self, context: SkillContext, params: PlaceParams) -> Run:
        part = context.parts.held
        if part is None:
            raise parts.PartsError("part_lost", "nothing is in the gripper to be placed")
        kind = context.parts.kind(part.kind)
        place, motion = self._way(context, params, part)
        result = yield MoveAction(motion)
        if not result.ok:
            return Outcome(result.code, result.reason)
        result = yield GripAction(self._opening(context, kind), release=True)
        if not result.ok:
            return Outcome(result.code, result.reason)
        context.parts.put(place)
        return DONE

    def _opening(self, context: SkillContext, kind: PartType) -> float:
        return min(kind.grip_width + 2 * RELEASE, context.cell.model.gripper_max)

    def _way(self, context: SkillContext, params: PlaceParams, part: parts.Part) -> tuple[parts.Place, Motion]:
        """Choose the place and plan the way to it. Raises PhaseFault, PartsError."""
        kind = context.parts.kind(part.kind)
        T_tcp_part = tcp_from_part(kind)
        held = context.parts.geometry(part, T_tcp_part)
        load = Load(held, opening=self._opening(context, kind))
        fault: PhaseFault | None = None
        for place in self._places(context, params):
            T_place = context.parts.pose_on(part.kind, place)
            T_place[:3, 3] += np.array([0.0, 0.0, params.clearance])
            goals = place_poses(T_place, T_tcp_part, kind)
            label = f"place {part.kind} on {place.pattern} {place.index}"
            try:
                return place, transfer(context, goals, label, load)
            except PhaseFault as error:
                fault = fault or error
        raise fault or PhaseFault("no_place", f"{params.at} has no place")

    def _places(self, context: SkillContext, params: PlaceParams) -> list[parts.Place]:
        if params.index is None:
            return context.parts.free(params.at)
        place = parts.Place(params.at, params.index)
        if context.parts.at(place) is not None:
            raise parts.PartsError("no_place", f"place {place.index} of {place.pattern} is taken")
        return [place]

    def assume(self, context: SkillContext, params: PlaceParams) -> None:
        """The part lies on the place, or, if there is none, nowhere."""
        held = context.parts.held
        if held is None:
            return
        try:
            context.parts.put(self._places(context, params)[0])
        except parts.PartsError:
            context.parts.lose(held.name)

    def hold(self) -> Literal["on_path", "after_action"]:
        return "on_path"
