"""Switch a digital output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import BaseModel

from recipes.contract import DONE, CellView, Outcome, OutcomeSpec, OutputAction, Run, SkillContext
from robots.workcell import Name, Strict


class SetOutputParams(Strict):
    """Which output, and on or off."""

    name: Name
    value: bool


class SetOutput:
    """One switch."""

    name: ClassVar[str] = "set_output"
    Params: ClassVar[type[BaseModel]] = SetOutputParams
    needs: ClassVar[frozenset[str]] = frozenset({"outputs"})
    outcomes: ClassVar[dict[str, OutcomeSpec]] = {"output_refused": OutcomeSpec("the robot node refused to switch it")}

    def label(self, params: SetOutputParams) -> str:
        return f"{params.name} {'on' if params.value else 'off'}"

    def analyse(self, cell: CellView, params: SetOutputParams) -> Iterator[tuple[str, str]]:
        if cell.outputs is not None and params.name not in cell.outputs:
            yield "name", f"the robot has no output {params.name}; it has {', '.join(cell.outputs) or 'none'}"

    def run(self, context: SkillContext, params: SetOutputParams) -> Run:
        result = yield OutputAction(params.name, params.value)
        return DONE if result.ok else Outcome(result.code, result.reason)

    def assume(self, context: SkillContext, params: SetOutputParams) -> None:
        """Parts stay where they are."""

    def hold(self) -> Literal["on_path", "after_action"]:
        return "after_action"
