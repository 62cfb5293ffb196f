"""Alarms: three states, first-out, and a table without holes."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cell.alarms import SEVERITY, Alarms, load_definitions


def make() -> Alarms:
    return Alarms(load_definitions())


def test_table_of_the_package_is_complete() -> None:
    definitions = load_definitions()
    assert {"part_lost", "robot_lost", "camera_fault", "supervisor_lost", "blocked", "ledger_failed"} <= set(
        definitions
    )
    assert {d.reaction for d in definitions.values()} == set(SEVERITY)


def test_raise_read_clear() -> None:
    alarms = make()
    assert alarms.raise_("part_lost", 1.0, "cube") is not None
    assert alarms.raise_("part_lost", 2.0, "cube again") is None
    assert alarms.listed()[0].view().state == "active"
    assert alarms.acknowledge("part_lost") is not None
    assert alarms.listed()[0].view().state == "acknowledged"
    assert alarms.gravest == "hold"
    assert alarms.clear("part_lost") is not None
    assert not alarms.listed()
    assert alarms.gravest == "none"
    assert [a.code for a in alarms.history] == ["part_lost"]


def test_cleared_but_unread_stays_in_the_list() -> None:
    alarms = make()
    alarms.raise_("part_lost", 1.0)
    alarms.clear("part_lost")
    assert alarms.listed()[0].view().state == "cleared"
    alarms.raise_("part_lost", 3.0)
    assert alarms.listed()[0].count == 2
    alarms.acknowledge("part_lost")
    alarms.clear("part_lost")
    assert not alarms.listed()


def test_first_out_names_the_cause_not_the_consequence() -> None:
    alarms = make()
    alarms.raise_("blocked", 0.0)
    alarms.raise_("camera_fault", 1.0)
    alarms.raise_("lease_lost", 1.5)
    assert [(a.code, a.first_out) for a in alarms.listed()] == [
        ("camera_fault", True),
        ("blocked", False),
        ("lease_lost", False),
    ]


@pytest.mark.parametrize("code", ["", "never heard of", "x" * 5000])
def test_an_unknown_code_aborts(code: str) -> None:
    alarms = make()
    change = alarms.raise_(code, 0.0, "y" * 5000)
    assert change is not None
    assert alarms.gravest == "abort"
    assert len(change.alarm.detail) <= 500


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.alarms = make()
        self.causes: set[str] = set()
        self.unread: set[str] = set()
        self.now = 0.0

    codes = st.sampled_from(["part_lost", "camera_fault", "blocked", "ledger_gap", "robot_lost"])

    @rule(code=codes)
    def raise_(self, code: str) -> None:
        self.now += 1.0
        changed = self.alarms.raise_(code, self.now) is not None
        assert changed == (code not in self.causes)
        if changed:
            self.unread.add(code)
        self.causes.add(code)

    @rule(code=codes)
    def clear(self, code: str) -> None:
        assert (self.alarms.clear(code) is not None) == (code in self.causes)
        self.causes.discard(code)

    @rule(code=codes)
    def acknowledge(self, code: str) -> None:
        self.alarms.acknowledge(code)
        self.unread.discard(code)

    @invariant()
    def list_is_what_is_present_or_unread(self) -> None:
        grave = {"part_lost", "camera_fault", "robot_lost"}
        assert {a.code for a in self.alarms.listed()} == self.causes | (self.unread & grave)
        assert all(self.alarms.is_active(code) for code in self.causes)
        expected = max((SEVERITY[self.alarms.definition(c).reaction] for c in self.causes), default=0)
        assert SEVERITY[self.alarms.gravest] == expected


TestMachine = Machine.TestCase
