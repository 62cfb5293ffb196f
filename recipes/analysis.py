"""`check`: the whole recipe, run dry before anything moves. All problems at once, and the predicted cycle time.

The same skill generators that move the arm are driven here with every action taken to succeed in its nominal time.
After a fault the analysis goes on as if the phase had worked, so that one fault does not hide the next.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from cell.yamlfile import FileError
from recipes.contract import (
    Action,
    AskAction,
    CellView,
    DelayAction,
    GripAction,
    MoveAction,
    Outcome,
    PhaseFault,
    Result,
    SkillContext,
)
from recipes.expand import LoadedRecipe, PhaseCall, expand
from recipes.formula import Formula
from recipes.parts import Parts, PartsError
from robots.motion import Motion

MOVE_OVERHEAD = 0.015
"""From the end of an action until the next motion is under way: controller period, acceptance, settling, s."""
GRIP_OVERHEAD = 0.02
"""The same for a grip, with the time until the fingers count as settled, s."""
ACTION_LIMIT = 100
"""Actions of one phase; a skill that yields for ever ends here."""


@dataclass(frozen=True)
class PhaseTime:
    """Predicted duration of one phase, s."""

    label: str
    seconds: float


@dataclass(frozen=True)
class Analysis:
    """What `check` found. `problems` empty: the recipe may be started with this cell and formula."""

    problems: list[FileError]
    predicted_cycle_s: float
    """Of one undisturbed batch; meaningful only without problems."""
    phases: list[PhaseCall]
    changeover: list[PhaseCall]
    times: list[PhaseTime]
    motions: dict[str, Motion] = field(default_factory=dict)
    """Planned on the way; the sequencer uses them again where the arm stands as foreseen."""

    @property
    def ok(self) -> bool:
        return not self.problems


def check(loaded: LoadedRecipe, cell: CellView, formula: Formula) -> Analysis:
    """Analyse a recipe for a cell with a formula."""
    phases, changeover, problems = expand(loaded, formula, cell)
    problems += _capabilities(loaded, cell)
    context = SkillContext(cell, Parts(cell.workcell), cell.home.copy(), cell.model.gripper_max, dry=True)
    times = []
    for call in phases:
        seconds, fault = dry_run(call, context)
        times.append(PhaseTime(call.label, seconds))
        if fault is not None:
            problems.append(loaded.document.error((*call.where, "params"), f"{call.label}: {fault.text}"))
    total = sum(time.seconds for time in times)
    unique = list({(p.line, p.message): p for p in problems}.values())
    return Analysis(unique, total, phases, changeover, times, context.cache)


def _capabilities(loaded: LoadedRecipe, cell: CellView) -> list[FileError]:
    offered = {"operator"}
    if cell.model.gripper_max > 0:
        offered.add("gripper")
    if cell.inputs is None or cell.inputs:
        offered.add("inputs")
    if cell.outputs is None or cell.outputs:
        offered.add("outputs")
    return [
        loaded.document.error(("capabilities", i), f"the cell offers no {name}", ", ".join(sorted(offered)))
        for i, name in enumerate(loaded.recipe.capabilities)
        if name not in offered
    ]


def dry_run(call: PhaseCall, context: SkillContext) -> tuple[float, Outcome | None]:
    """Drive one phase with actions that succeed; return its time and, if it does not work out, how it ended."""
    context.prefix, context.count = call.key, 0
    run = call.skill.run(context, call.params)
    seconds = 0.0
    outcome: Outcome | None = None
    result: Result | None = None
    try:
        for _ in range(ACTION_LIMIT):
            action = next(run) if result is None else run.send(result)
            spent, result = _act(action, context)
            seconds += spent
        outcome = Outcome("endless", f"does not end within {ACTION_LIMIT} actions")
    except StopIteration as stop:
        ended: Outcome = stop.value
        outcome = None if ended.code == "done" else ended
    except (PhaseFault, PartsError) as fault:
        outcome = Outcome(fault.code, str(fault))
    run.close()
    if outcome is not None:
        # What cannot even be assumed is the same fault again, and is reported already.
        with suppress(PartsError):
            call.skill.assume(context, call.params)
    return seconds, outcome


def _act(action: Action, context: SkillContext) -> tuple[float, Result]:
    """Let an action succeed: change the context, return nominal time and result."""
    if isinstance(action, MoveAction):
        context.q = np.array(action.motion.path[-1])
        return action.motion.duration + MOVE_OVERHEAD, Result(True)
    if isinstance(action, GripAction):
        width = action.width if action.part is None else context.parts.kind(action.part.name.split("#")[0]).grip_width
        seconds = abs(width - context.gripper_width) / context.cell.gripper_speed + GRIP_OVERHEAD
        context.gripper_width = width
        return seconds, Result(True)
    if isinstance(action, DelayAction):
        return action.seconds, Result(True)
    if isinstance(action, AskAction):
        return 0.0, Result(True, answer=action.choices[0])
    return 0.0, Result(True)
