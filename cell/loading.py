"""Analyses and freezes recipes that people load while the cell is up. Planning takes seconds: it is done elsewhere.

`ProcessLoader` has a process of its own, forked before the node opens its sockets; `DirectLoader` computes where it is
called, for lock-step cells. What comes back over the pipe between a node and its own child never touches the bus.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

import numpy as np

from cell.bus.worker import Worker, WorkerError
from cell.config import LoadedCell
from cell.contract import AnalysisView, ProblemView, StepView
from cell.sequencer import Frozen
from cell.yamlfile import FileError, FileErrors
from recipes.analysis import Analysis, check
from recipes.contract import CellView, PhaseFault, SkillContext
from recipes.expand import LoadedRecipe, read_recipe
from recipes.formula import Formula, parse_settings
from recipes.parts import Parts, PartsError
from recipes.travel import Load, to_joints, transfer

MOST_BATCHES = 1000


class Order(NamedTuple):
    """What is to be loaded."""

    name: str
    text: str
    settings: Mapping[str, Any]
    batches: int


class Loaded(NamedTuple):
    """What became of an order."""

    frozen: Frozen | None
    """None: it cannot be started."""
    view: AnalysisView


class Loader(Protocol):
    """Takes one order at a time."""

    @property
    def busy(self) -> bool:
        """An order is being worked on."""
        ...

    def begin(self, order: Order) -> None: ...

    def poll(self) -> Loaded | None:
        """Return what became of the order, once."""
        ...

    def close(self) -> None: ...


def prepare(
    loaded: LoadedRecipe, cell: LoadedCell, view: CellView, settings: Mapping[str, Any], batches: int
) -> tuple[Formula, Analysis, str, list[FileError]]:
    """Analyse a recipe; return formula, analysis, fingerprint and every problem."""
    formula, errors = parse_settings(loaded.recipe, settings)
    analysis = check(loaded, view, formula)
    parts = {
        "recipe": loaded.text,
        "formula": formula,
        "cell": cell.fingerprint,
        "versions": {name: version(name) for name in ("collabcell", "pin", "numpy")},
        "driver": cell.config.robot.driver,
    }
    print_ = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return formula, analysis, print_, [*errors, *analysis.problems]


def freeze(loaded: LoadedRecipe, cell: LoadedCell, view: CellView, settings: Mapping[str, Any], batches: int) -> Frozen:
    """Analyse a recipe for a cell and freeze it for Start. Raises FileErrors with every problem."""
    formula, analysis, print_, problems = prepare(loaded, cell, view, settings, batches)
    if problems:
        raise FileErrors(problems)
    return Frozen(loaded.recipe.recipe, print_, analysis, batches, formula)


def problem_view(error: FileError) -> ProblemView:
    """Return a fault as people read it; settings are named as the pendant names them."""
    field = error.field.replace("--set ", "settings.")
    return ProblemView(error.line, field, error.message, error.allowed, error.remedy)


def failed(name: str, problems: list[ProblemView]) -> Loaded:
    """Return the result for a recipe that could not even be expanded."""
    return Loaded(None, AnalysisView(False, name, {}, 0, "", 0.0, [], problems))


def steps_of(analysis: Analysis) -> list[StepView]:
    """Return the phases of a batch with their predicted times, s."""
    times = [time.seconds for time in analysis.times]
    times += [0.0] * (len(analysis.phases) - len(times))
    return [
        StepView(call.operation, call.label, call.skill.name, seconds)
        for call, seconds in zip(analysis.phases, times, strict=True)
    ]


def load(order: Order, cell: LoadedCell, view: CellView) -> Loaded:
    """Carry an order out. Never raises for anything a recipe can contain."""
    if not 1 <= order.batches <= MOST_BATCHES:
        return failed(order.name, [ProblemView(0, "batches", f"{order.batches}", f"1 to {MOST_BATCHES}", "")])
    try:
        loaded, faults = read_recipe(order.text, f"{order.name}.yaml")
        formula, analysis, print_, problems = prepare(loaded, cell, view, order.settings, order.batches)
    except FileErrors as caught:
        return failed(order.name, [problem_view(error) for error in caught.errors])
    problems = [*faults, *problems]
    ok = not problems
    frozen = Frozen(loaded.recipe.recipe, print_, analysis, order.batches, formula) if ok else None
    view_ = AnalysisView(
        ok,
        loaded.recipe.recipe,
        dict(formula),
        order.batches,
        print_ if ok else "",
        analysis.predicted_cycle_s if ok else 0.0,
        steps_of(analysis),
        [problem_view(error) for error in problems],
    )
    return Loaded(frozen, view_)


def rehearse(view: CellView) -> None:
    """Plan a way up and down and back, and forget it: what is compiled or loaded at a first use is there then.

    A controller that does so for the first time while the cell runs is silent for longer than the robot node permits.
    """
    context = SkillContext(view, Parts(view.workcell), view.home.copy(), view.model.gripper_max, dry=True)
    context.prefix = "rehearsal"
    lower = view.model.fk(view.home)
    lower[2, 3] -= 0.05
    with suppress(PhaseFault, PartsError):
        context.q = np.array(transfer(context, [lower], "down", Load()).path[-1])
    with suppress(PhaseFault, PartsError):
        to_joints(context, view.home, "up", Load())


class DirectLoader:
    """Computes at once, where it is called."""

    def __init__(self, cell: LoadedCell, view: CellView) -> None:
        self._cell, self._view = cell, view
        self._result: Loaded | None = None

    @property
    def busy(self) -> bool:
        return self._result is not None

    def begin(self, order: Order) -> None:
        self._result = load(order, self._cell, self._view)

    def poll(self) -> Loaded | None:
        result, self._result = self._result, None
        return result

    def close(self) -> None:
        """Nothing to end."""


class ProcessLoader:
    """Computes in a child of this process. Make it before the process opens sockets: a child inherits them."""

    def __init__(self, cell: LoadedCell) -> None:
        self._worker = Worker("recipe analysis", lambda: _serve(cell), background=True)
        self._order: Order | None = None

    @property
    def busy(self) -> bool:
        return self._order is not None

    def begin(self, order: Order) -> None:
        self._order = order
        try:
            self._worker.send(pickle.dumps(tuple(order)))
        except WorkerError:
            # Told by the next poll.
            return

    def poll(self) -> Loaded | None:
        order = self._order
        if order is None:
            return None
        if self._worker.failed:
            self._order = None
            why = ProblemView(0, "", "the process that analyses recipes has ended", "", "Start the cell again")
            return failed(order.name, [why])
        if not self._worker.ready():
            return None
        self._order = None
        try:
            result: Loaded = pickle.loads(self._worker.receive())
        except WorkerError as error:
            return failed(order.name, [ProblemView(0, "", str(error).splitlines()[-1], "", "Start the cell again")])
        return result

    def close(self) -> None:
        """End the child."""
        self._worker.close()


def _serve(cell: LoadedCell) -> Callable[[bytes], bytes]:
    view = cell.view()

    def answer(request: bytes) -> bytes:
        return pickle.dumps(load(Order(*pickle.loads(request)), cell, view))

    return answer
