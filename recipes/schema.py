"""What a recipe file may say, in the words of ISA-88: recipe -> operations -> phases, and a formula of parameters.

References `${name}` in phase parameters stand for formula parameters and loop variables. Nothing is computed in a
recipe: a file that a person signs has no programming language in it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from robots.workcell import Name, Strict

Reference = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
Value = bool | int | float | str
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Word = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

LOOP_LIMIT = 500
"""Phases of one batch after loops are unrolled."""


class Parameter(Strict):
    """One parameter of the formula: declared once; range, default and unit are used by files, command line, pendant."""

    type: Literal["number", "integer", "text", "boolean", "list"]
    unit: Annotated[str, Field(max_length=20)] = ""
    min: Number | None = None
    """Smallest value; of a list: smallest length."""
    max: Number | None = None
    choices: list[str] | None = None
    """Admitted texts (type text) or admitted items (type list)."""
    default: Value | list[Value]
    description: Annotated[str, Field(max_length=300)] = ""


class Recovery(Strict):
    """What to do when a phase ends in one of its declared outcomes."""

    retry: Annotated[int, Field(ge=0, le=5)] = 0
    """How often the phase is tried again by itself."""
    then: Literal["ask", "skip", "stop"] = "ask"
    """After that: hold and ask a person, go on without, or stop the batch."""


class Phase(Strict):
    """One use of a skill."""

    skill: Word
    name: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """What the operator reads; the skill's own words if left out."""
    params: dict[str, Any] = Field(default_factory=dict)
    on: dict[Word, Recovery] = Field(default_factory=dict)
    """Outcome -> recovery; outcomes not named here: one retry where the skill says it is safe, then ask."""


class ForEach(Strict):
    """Repeat the operation over a list parameter, a list written here, or the places of a pattern."""

    items: Annotated[str, Field(pattern=r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$")] | list[Value] | None = None
    pattern: Name | None = None
    """Name of a pattern of the cell: the variable runs over its indices."""
    var: Word = "item"
    """Name of the loop variable; `${index}` counts from 0 beside it."""


class Operation(Strict):
    """A named group of phases."""

    operation: Word
    for_each: ForEach | None = None
    phases: Annotated[list[Phase], Field(min_length=1, max_length=100)]


class Recipe(Strict):
    """A recipe file."""

    recipe: Word
    version: Annotated[str, Field(min_length=1, max_length=20)]
    description: Annotated[str, Field(max_length=2000)] = ""
    capabilities: list[Literal["gripper", "inputs", "outputs", "operator"]] = Field(default_factory=list)
    """What the cell must offer."""
    parameters: dict[Word, Parameter] = Field(default_factory=dict)
    operations: Annotated[list[Operation], Field(min_length=1, max_length=100)]
    changeover: list[Phase] = Field(default_factory=list)
    """Run between two batches: exchange of boxes and trays."""
