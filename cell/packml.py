"""The PackML state machine of ISA-TR88.00.02, built from cell/data/packml.csv: 17 states, 52 transitions.

Pure: a command either changes the state and returns the transition, or raises `Refused` and changes nothing. What the
cell does in an acting state, and when that is complete, is the controller's affair (`state_complete`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from transitions import Machine, MachineError

STATE_COMPLETE = "SC"
"""Trigger name of `the acting state has done its work` in the table."""
INITIAL = ("Stopped", "Aborted")


class Row(NamedTuple):
    """One legal transition."""

    source: str
    trigger: str
    target: str


@dataclass(frozen=True)
class Table:
    """The figures of the standard."""

    rows: tuple[Row, ...]
    numbers: dict[str, int]
    """State -> TR88 number."""
    acting: frozenset[str]
    """States that end by themselves with `state_complete`."""
    commands: dict[str, int]
    """Command -> TR88 number."""

    def admitted(self, state: str) -> tuple[str, ...]:
        """Commands that `state` takes."""
        return tuple(row.trigger for row in self.rows if row.source == state and row.trigger != STATE_COMPLETE)


class Refused(Exception):
    """A command that the present state does not admit; the text says why and what would be admitted."""


def _read(name: str) -> list[dict[str, str]]:
    text = resources.files("cell.data").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def table() -> Table:
    """Return the table of the package. Raises ValueError if it contradicts itself."""
    rows = tuple(Row(r["from_state"], r["trigger"], r["to_state"]) for r in _read("packml.csv"))
    states = _read("packml_states.csv")
    numbers = {r["state"]: int(r["number"]) for r in states}
    commands = {r["command"]: int(r["number"]) for r in _read("packml_commands.csv") if r["number"] != "0"}
    named = {name for row in rows for name in (row.source, row.target)}
    if named != set(numbers) or len({(r.source, r.trigger) for r in rows}) != len(rows):
        raise ValueError("cell/data/packml*.csv contradict each other")
    return Table(rows, numbers, frozenset(r["state"] for r in states if r["kind"] == "acting"), commands)


class PackML:
    """One machine. `on_change` is called with each transition, after the state has changed."""

    def __init__(self, initial: str = "Stopped", on_change: Callable[[Row], None] | None = None) -> None:
        if initial not in INITIAL:
            raise ValueError(f"a machine starts in {' or '.join(INITIAL)}, not in {initial}")
        self.table = table()
        self.state: str = initial
        """Set by `transitions` alone."""
        self._on_change = on_change
        self._machine: Any = Machine(
            model=self,
            states=list(self.table.numbers),
            transitions=[[row.trigger, row.source, row.target] for row in self.table.rows],
            initial=initial,
            auto_transitions=False,
            model_override=False,
        )

    @property
    def number(self) -> int:
        """TR88 number of the state."""
        return self.table.numbers[self.state]

    @property
    def acting(self) -> bool:
        """The state ends by itself, with `state_complete`."""
        return self.state in self.table.acting

    def command(self, name: str) -> Row:
        """Take a command. Raises Refused, and changes nothing, if the state does not admit it."""
        if name not in self.table.commands:
            raise Refused(f"{name!r} is no command; commands are {', '.join(self.table.commands)}")
        return self._fire(name)

    def state_complete(self) -> Row:
        """Leave an acting state whose work is done. Raises Refused in a waiting state."""
        return self._fire(STATE_COMPLETE)

    def _fire(self, trigger: str) -> Row:
        source = self.state
        try:
            getattr(self, "trigger")(trigger)  # noqa: B009 - `transitions` adds the method to the model
        except MachineError:
            admitted = ", ".join(self.table.admitted(source)) or "none: it ends by itself"
            what = "has nothing to complete" if trigger == STATE_COMPLETE else f"does not admit {trigger}"
            raise Refused(f"state {source} {what}; it admits {admitted}") from None
        row = Row(source, trigger, self.state)
        if self._on_change is not None:
            self._on_change(row)
        return row
