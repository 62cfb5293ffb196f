"""The PackML machine does what the table says, and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.packml import STATE_COMPLETE, PackML, Refused, Row, table

TABLE = Path(__file__).parents[2] / "cell" / "data" / "packml.csv"
LEGAL = {(r["from_state"], r["trigger"]): r["to_state"] for r in csv.DictReader(TABLE.open(encoding="utf-8"))}
TRIGGERS = [*table().commands, STATE_COMPLETE]
PAIRS = [(state, trigger) for state in table().numbers for trigger in TRIGGERS]


def in_state(state: str) -> PackML:
    """A machine brought to `state` by a shortest legal way."""
    queue: list[tuple[str, ...]] = [()]
    seen = {"Stopped"}
    while queue:
        way = queue.pop(0)
        machine = PackML()
        for trigger in way:
            fire(machine, trigger)
        if machine.state == state:
            return machine
        for (source, trigger), target in LEGAL.items():
            if source == machine.state and target not in seen:
                seen.add(target)
                queue.append((*way, trigger))
    raise AssertionError(f"{state} cannot be reached")


def fire(machine: PackML, trigger: str) -> Row:
    return machine.state_complete() if trigger == STATE_COMPLETE else machine.command(trigger)


def test_figures_of_the_standard() -> None:
    assert len(table().numbers) == 17
    assert len(LEGAL) == 52
    assert sorted(table().numbers.values()) == list(range(1, 18))
    assert (table().numbers["Execute"], table().numbers["Stopped"], table().numbers["Aborted"]) == (6, 2, 9)
    assert len(PAIRS) == 17 * 11


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_every_pair(state: str, trigger: str) -> None:
    machine = in_state(state)
    target = LEGAL.get((state, trigger))
    if target is None:
        with pytest.raises(Refused, match=state):
            fire(machine, trigger)
        assert machine.state == state
    else:
        assert fire(machine, trigger) == Row(state, trigger, target)
        assert machine.state == target


def test_starts_stopped_or_aborted_only() -> None:
    assert PackML("Aborted").state == "Aborted"
    with pytest.raises(ValueError, match="Idle"):
        PackML("Idle")


def test_a_word_that_is_no_command_is_refused() -> None:
    for word in ("", "reset", "SC", "__init__", "Undefined/None"):
        machine = PackML()
        with pytest.raises(Refused, match="no command"):
            machine.command(word)
        assert machine.state == "Stopped"


@given(st.lists(st.sampled_from(TRIGGERS), max_size=40))
def test_abort_is_always_near(triggers: list[str]) -> None:
    changes: list[Row] = []
    machine = PackML(on_change=changes.append)
    for trigger in triggers:
        before = machine.state
        try:
            fire(machine, trigger)
        except Refused:
            assert machine.state == before
    assert all((row.source, row.trigger) in LEGAL for row in changes)
    if machine.state not in ("Aborting", "Aborted"):
        machine.command("Abort")
    assert machine.state in ("Aborting", "Aborted")
