"""Compare what is with what should be: the width of the held part, an empty gripper, or a digital input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from recipes.contract import DONE, CellView, DelayAction, Outcome, OutcomeSpec, Run, SkillContext
from robots.workcell import Name, Strict


class InspectParams(Strict):
    """What is expected."""

    expect: Literal["held", "empty", "input"]
    part: Name | None = None
    """Variety that should be in the gripper (expect: held)."""
    tolerance: Annotated[float, Field(gt=0.0, le=0.05)] = 0.003
    """Of the width between the fingers, m."""
    input: Name | None = None
    value: bool = True

    @model_validator(mode="after")
    def complete(self) -> InspectParams:
        if self.expect == "held" and self.part is None:
            raise ValueError("expect: held needs part")
        if self.expect == "input" and self.input is None:
            raise ValueError("expect: input needs input")
        return self


class Inspect:
    """One look. Nothing moves."""

    name: ClassVar[str] = "inspect"
    Params: ClassVar[type[BaseModel]] = InspectParams
    needs: ClassVar[frozenset[str]] = frozenset()
    outcomes: ClassVar[dict[str, OutcomeSpec]] = {
        "inspection_failed": OutcomeSpec("something else than expected was found", retries=1)
    }

    def label(self, params: InspectParams) -> str:
        return f"inspect {params.part or params.input or 'gripper'}"

    def analyse(self, cell: CellView, params: InspectParams) -> Iterator[tuple[str, str]]:
        if params.part is not None and params.part not in cell.workcell.parts:
            yield "part", f"unknown part {params.part}; the cell knows {', '.join(cell.workcell.parts) or 'none'}"
        if params.input is not None and cell.inputs is not None and params.input not in cell.inputs:
            yield "input", f"the robot has no input {params.input}; it has {', '.join(cell.inputs) or 'none'}"

    def run(self, context: SkillContext, params: InspectParams) -> Run:
        # One settled reading: the context is renewed between two actions.
        yield DelayAction(0.05)
        fault = "" if context.dry else self._fault(context, params)
        return Outcome("inspection_failed", fault) if fault else DONE

    def _fault(self, context: SkillContext, params: InspectParams) -> str:
        held = context.parts.held
        if params.expect == "input":
            value = context.inputs.get(params.input or "")
            return "" if value is params.value else f"input {params.input} is {value}, expected {params.value}"
        if params.expect == "empty":
            return f"{held.name} is in the gripper" if held is not None else ""
        if held is None or held.kind != params.part:
            return f"{held.kind if held else 'nothing'} is in the gripper, expected {params.part}"
        width = context.parts.kind(held.kind).grip_width
        # Written so that a NaN fails.
        if abs(context.gripper_width - width) <= params.tolerance:
            return ""
        return f"the held part is {context.gripper_width * 1000:.1f} mm wide, expected {width * 1000:.1f} mm"

    def assume(self, context: SkillContext, params: InspectParams) -> None:
        """Parts stay where they are."""

    def hold(self) -> Literal["on_path", "after_action"]:
        return "on_path"
