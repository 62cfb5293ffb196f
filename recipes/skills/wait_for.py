"""Wait for a digital input, or let time pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from recipes.contract import DONE, CellView, DelayAction, InputAction, Outcome, OutcomeSpec, Run, SkillContext
from robots.workcell import Name, Strict


class WaitForParams(Strict):
    """Either `input` or `seconds`."""

    input: Name | None = None
    value: bool = True
    timeout: Annotated[float, Field(gt=0.0, le=3600.0)] = 30.0
    """s; the phase ends in `wait_timeout` after that."""
    seconds: Annotated[float, Field(gt=0.0, le=3600.0)] | None = None
    restocked: bool = False
    """The input says that trays are full and boxes exchanged: parts are then where the cell file has them."""

    @model_validator(mode="after")
    def one(self) -> WaitForParams:
        if (self.input is None) == (self.seconds is None):
            raise ValueError("give either input or seconds")
        if self.restocked and self.input is None:
            raise ValueError("restocked needs an input that says so")
        return self


class WaitFor:
    """One wait. The arm stands."""

    name: ClassVar[str] = "wait_for"
    Params: ClassVar[type[BaseModel]] = WaitForParams
    needs: ClassVar[frozenset[str]] = frozenset({"inputs"})
    outcomes: ClassVar[dict[str, OutcomeSpec]] = {"wait_timeout": OutcomeSpec("the input did not come in time")}

    def label(self, params: WaitForParams) -> str:
        return f"wait for {params.input}" if params.input else f"wait {params.seconds:g} s"

    def analyse(self, cell: CellView, params: WaitForParams) -> Iterator[tuple[str, str]]:
        if params.input is not None and cell.inputs is not None and params.input not in cell.inputs:
            yield "input", f"the robot has no input {params.input}; it has {', '.join(cell.inputs) or 'none'}"

    def run(self, context: SkillContext, params: WaitForParams) -> Run:
        if params.seconds is not None:
            yield DelayAction(params.seconds)
            return DONE
        assert params.input is not None  # the validator of the parameters admits nothing else
        result = yield InputAction(params.input, params.value, params.timeout)
        if not result.ok:
            return Outcome(result.code, result.reason)
        if params.restocked:
            context.parts.restock()
        return DONE

    def assume(self, context: SkillContext, params: WaitForParams) -> None:
        """Parts stay where they are."""

    def hold(self) -> Literal["on_path", "after_action"]:
        return "on_path"
