"""From a recipe file to the list of phases of one batch: loops unrolled, references filled in, parameters checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from cell.yamlfile import SIZE_LIMIT, Document, FileError, FileErrors, parse_text, read_yaml
from recipes.contract import CellView, Skill
from recipes.formula import Formula, check_declarations, fill
from recipes.schema import LOOP_LIMIT, Operation, Phase, Recipe, Recovery

Where = tuple[str | int, ...]


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe that has passed its schema, with its lines."""

    recipe: Recipe
    document: Document
    text: str
    """The file as it was read; part of the fingerprint."""


@dataclass(frozen=True)
class PhaseCall:
    """One phase of one batch, ready to run."""

    key: str
    """Unique in the batch: `fill[2].0`."""
    group: str
    """Phases of one round of an operation; skipping one skips what is left of its group."""
    operation: str
    skill: Skill
    params: BaseModel
    recovery: Mapping[str, Recovery]
    label: str
    line: int
    where: Where


def load_recipe(path: Path) -> LoadedRecipe:
    """Read a recipe file. Raises FileErrors with every fault of schema and declarations."""
    loaded, errors = inspect_recipe(path)
    if errors:
        raise FileErrors(errors)
    return loaded


def inspect_recipe(path: Path) -> tuple[LoadedRecipe, list[FileError]]:
    """Read a recipe and return it with the faults of its declarations, so that an analysis can add its own.

    Raises FileErrors if the file does not even fit the schema.
    """
    return _inspect(read_yaml(path), path.read_text(encoding="utf-8"))


def read_recipe(text: str, file: str = "<text>") -> tuple[LoadedRecipe, list[FileError]]:
    """Read a recipe given as text, as `inspect_recipe` does. Raises FileErrors."""
    if len(text.encode()) > SIZE_LIMIT:
        raise FileErrors([FileError(file, 0, "", "the recipe is too large", f"at most {SIZE_LIMIT} bytes")])
    return _inspect(parse_text(text, file), text)


def _inspect(document: Document, text: str) -> tuple[LoadedRecipe, list[FileError]]:
    recipe = document.parse(Recipe)
    return LoadedRecipe(recipe, document, text), list(check_declarations(recipe, document))


@cache
def installed_skills() -> dict[str, Skill]:
    """Return all skills of the entry points `cell.skills`, one instance each. A broken plug-in raises ImportError."""
    return {point.name: cast(Skill, point.load()()) for point in entry_points(group="cell.skills")}


def expand(
    loaded: LoadedRecipe, formula: Formula, cell: CellView
) -> tuple[list[PhaseCall], list[PhaseCall], list[FileError]]:
    """Return the phases of a batch, those of the changeover, and everything that is wrong with them."""
    expander = _Expander(loaded, formula, cell)
    phases = [call for i, op in enumerate(loaded.recipe.operations) for call in expander.operation(i, op)]
    changeover = [
        call
        for i, phase in enumerate(loaded.recipe.changeover)
        for call in expander.phase(phase, ("changeover", i), "changeover", f"changeover.{i}", formula)
    ]
    errors = list(dict.fromkeys(expander.errors))
    return phases, changeover, errors


class _Expander:
    def __init__(self, loaded: LoadedRecipe, formula: Formula, cell: CellView) -> None:
        self._document = loaded.document
        self._capabilities = set(loaded.recipe.capabilities)
        self._formula = formula
        self._cell = cell
        self._skills = installed_skills()
        self._count = 0
        self.errors: list[FileError] = []

    def _fault(self, where: Sequence[str | int], message: str, allowed: str = "", remedy: str = "") -> None:
        self.errors.append(self._document.error(where, message, allowed, remedy))

    def operation(self, number: int, operation: Operation) -> Iterator[PhaseCall]:
        where: Where = ("operations", number)
        if operation.for_each is None:
            rounds: list[dict[str, Any]] = [{}]
        else:
            rounds = [
                {operation.for_each.var: item, "index": i} for i, item in enumerate(self._items(operation, where))
            ]
        for i, variables in enumerate(rounds):
            for j, phase in enumerate(operation.phases):
                key = f"{operation.operation}[{i}].{j}" if operation.for_each else f"{operation.operation}.{j}"
                known = {**self._formula, **variables}
                yield from self.phase(phase, (*where, "phases", j), operation.operation, key, known)

    def _items(self, operation: Operation, where: Where) -> list[Any]:
        loop = operation.for_each
        assert loop is not None  # asked only for loops
        at = (*where, "for_each")
        if (loop.items is None) == (loop.pattern is None):
            self._fault(at, "give either items or pattern")
            return []
        if loop.var in self._formula or loop.var == "index":
            self._fault((*at, "var"), f"{loop.var} is already a parameter", remedy="Choose another name")
        if loop.pattern is not None:
            pattern = self._cell.workcell.patterns.get(loop.pattern)
            if pattern is None:
                known = ", ".join(self._cell.workcell.patterns) or "none"
                self._fault((*at, "pattern"), f"missing frame: the cell has no pattern {loop.pattern}", known)
                return []
            return list(range(min(pattern.count, LOOP_LIMIT)))
        items, unknown = fill(loop.items, self._formula)
        if unknown:
            self._unknown((*at, "items"), unknown, self._formula)
            return []
        if not isinstance(items, list):
            self._fault((*at, "items"), "is not a list")
            return []
        return items

    def _unknown(self, where: Where, names: list[str], known: Mapping[str, Any]) -> None:
        for name in dict.fromkeys(names):
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean {near[0]}?" if near else ""
            self._fault(where, f"unknown reference ${{{name}}}", ", ".join(known) or "none", remedy)

    def phase(
        self, phase: Phase, where: Where, operation: str, key: str, known: Mapping[str, Any]
    ) -> Iterator[PhaseCall]:
        self._count += 1
        if self._count > LOOP_LIMIT:
            if self._count == LOOP_LIMIT + 1:
                self._fault(where, f"the recipe unrolls to more than {LOOP_LIMIT} phases")
            return
        skill = self._skills.get(phase.skill)
        if skill is None:
            near = difflib.get_close_matches(phase.skill, self._skills, n=1)
            remedy = f"Did you mean {near[0]}?" if near else ""
            self._fault((*where, "skill"), f"unknown skill {phase.skill}", ", ".join(sorted(self._skills)), remedy)
            return
        self._check_use(skill, phase, where)
        values, unknown = fill(phase.params, known)
        if unknown:
            self._unknown((*where, "params"), unknown, known)
            return
        try:
            params = self._document.validate(skill.Params, values, (*where, "params"))
        except FileErrors as caught:
            self.errors.extend(caught.errors)
            return
        faults = list(skill.analyse(self._cell, params))
        for field, message in faults:
            self._fault((*where, "params", field), message)
        if not faults:
            label = phase.name or skill.label(params)
            line = self._document.line(where)
            yield PhaseCall(key, key.rpartition(".")[0], operation, skill, params, phase.on, label, line, where)

    def _check_use(self, skill: Skill, phase: Phase, where: Where) -> None:
        missing = sorted(skill.needs - self._capabilities)
        if missing:
            text = f"skill {skill.name} needs {', '.join(missing)}"
            self._fault((*where, "skill"), text, remedy="Add it to the recipe's capabilities")
        for outcome in phase.on:
            if outcome not in skill.outcomes:
                self._fault((*where, "on", outcome), f"{skill.name} has no such outcome", ", ".join(skill.outcomes))
