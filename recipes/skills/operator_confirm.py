"""Ask the operator, and wait for the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from recipes.contract import DONE, AskAction, CellView, DelayAction, Outcome, OutcomeSpec, Run, SkillContext
from robots.workcell import Strict

LOOK = 0.5
"""After a restocking nothing moves for so long, s: the cameras have to see the parts that are expected from now on, for
until then they take them for a person."""


class OperatorConfirmParams(Strict):
    """The question."""

    text: Annotated[str, Field(min_length=3, max_length=300)]
    restocked: bool = False
    """A yes also says that trays are full and boxes exchanged."""


class OperatorConfirm:
    """Yes goes on; no is an outcome."""

    name: ClassVar[str] = "operator_confirm"
    Params: ClassVar[type[BaseModel]] = OperatorConfirmParams
    needs: ClassVar[frozenset[str]] = frozenset({"operator"})
    outcomes: ClassVar[dict[str, OutcomeSpec]] = {"answered_no": OutcomeSpec("the operator answered no")}

    def label(self, params: OperatorConfirmParams) -> str:
        return "operator: " + params.text[:60]

    def analyse(self, cell: CellView, params: OperatorConfirmParams) -> Iterator[tuple[str, str]]:
        yield from ()

    def run(self, context: SkillContext, params: OperatorConfirmParams) -> Run:
        result = yield AskAction(params.text, ("yes", "no"), params.restocked)
        if not result.ok or result.answer != "yes":
            return Outcome("answered_no", result.reason or params.text)
        if params.restocked:
            context.parts.restock()
            yield DelayAction(LOOK)
        return DONE

    def assume(self, context: SkillContext, params: OperatorConfirmParams) -> None:
        """Parts stay where they are."""

    def hold(self) -> Literal["on_path", "after_action"]:
        return "on_path"
