"""The sequencer's policy, and that no order of answers, holds and failures brings it out of step."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.sequencer import Frozen, Sequencer, decide
from recipes.contract import Outcome, SkillContext
from recipes.expand import PhaseCall, installed_skills
from recipes.parts import Parts
from recipes.schema import Recovery
from robots.client import RequestStatus
from tests.cell.harness import SHORT, demo, frozen_text


def call(**rules: Recovery) -> PhaseCall:
    skill = installed_skills()["pick"]
    params = skill.Params.model_validate({"part": "cube_red", "from": "tray_grid"})
    return PhaseCall("k", "k", "o", skill, params, rules, "pick", 1, ())


@pytest.mark.parametrize(
    ("outcome", "rules", "attempts", "expected"),
    [
        ("grip_missed", {}, 1, "retry"),
        ("grip_missed", {}, 2, "ask"),
        ("no_part", {}, 1, "ask"),
        ("no_part", {"no_part": Recovery(then="skip")}, 1, "skip"),
        ("grip_missed", {"grip_missed": Recovery(retry=3, then="stop")}, 3, "retry"),
        ("grip_missed", {"grip_missed": Recovery(retry=3, then="stop")}, 4, "stop"),
        ("never declared", {}, 1, "ask"),
    ],
)
def test_recovery_policy(outcome: str, rules: dict[str, Recovery], attempts: int, expected: str) -> None:
    assert decide(Outcome(outcome), call(**rules), attempts) == expected


class ScriptedArm:
    """Answers every request as the test says, at once."""

    connected = True
    refusal = ""
    state: Any = None

    def __init__(self) -> None:
        self.verdicts: list[tuple[str, str]] = []
        self.moves: list[str] = []
        self._ids = itertools.count()
        self._status: dict[str, RequestStatus] = {}

    def _new(self) -> str:
        verdict, code = self.verdicts.pop(0) if self.verdicts else ("done", "")
        name = str(next(self._ids))
        self._status[name] = RequestStatus(name, verdict, code, code, {}, 0.0)  # type: ignore[arg-type]
        return name

    def status(self, request_id: str) -> RequestStatus:
        return self._status[request_id]

    def move(self, motion: Any, now: float) -> str:
        self.moves.append(motion.motion_id)
        return self._new()

    def grip(self, width: float, force: float, now: float, part: Any = None, release: bool = False) -> str:
        return self._new()

    def set_output(self, name: str, value: bool, now: float) -> str:
        return self._new()

    def set_override(self, value: float, now: float) -> str:
        return self._new()

    def set_mode(self, mode: Any, now: float) -> str:
        return self._new()

    def stop(self, category: Any, reason: str, now: float) -> str:
        return self._new()

    def cancel(self, reason: str, now: float) -> str:
        return self._new()


def fresh(frozen: Frozen) -> tuple[Sequencer, ScriptedArm, list[tuple[str, dict[str, Any]]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    view = demo().view()
    context = SkillContext(view, Parts(view.workcell), np.array(view.home), 0.08)
    context.cache = dict(frozen.analysis.motions)
    sequencer = Sequencer(frozen, context, lambda kind, now, **data: events.append((kind, data)))
    return sequencer, ScriptedArm(), events


Step = st.tuples(
    st.booleans(),
    st.sampled_from([("done", ""), ("done", ""), ("failed", "grip_missed"), ("failed", "part_lost"), ("rejected", "")]),
    st.sampled_from(["", "retry", "skip", "stop", "dance"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(Step, max_size=25))
def test_no_story_brings_it_out_of_step(story: list[tuple[bool, tuple[str, str], str]]) -> None:
    sequencer, arm, events = fresh(frozen_text(SHORT))
    now = 0.0
    for running, verdict, choice in story:
        now += 0.02
        arm.verdicts = [verdict]
        before = len(arm.moves)
        sequencer.step(now, 0.02, arm, running)
        if not running:
            assert len(arm.moves) == before, "a motion began while the cell was held"
        if choice and sequencer.question is not None:
            refused = sequencer.answer(sequencer.question.id, choice)
            assert bool(refused) == (choice not in sequencer.question.choices)
            sequencer.recover(now)
        assert sequencer.failure is None or sequencer.question is not None
        assert not sequencer.bug
        assert len(sequencer.context.parts._parts) == 12
    started = [d["key"] for k, d in events if k == "recipe.phase_started"]
    assert len(set(started)) == len(started)
    assert len(set(arm.moves)) == len(arm.moves), "a motion id was used twice"


def test_a_run_of_two_batches_counts_and_ends() -> None:
    recipe = """
recipe: two
version: "1"
operations:
  - operation: one
    phases:
      - {skill: move_to, params: {home: true}}
"""
    sequencer, arm, events = fresh(frozen_text(recipe, 2))
    for i in range(20):
        sequencer.step(0.02 * i, 0.02, arm, True)
    assert sequencer.finished
    assert (sequencer.batch, len(sequencer.cycle_times)) == (2, 2)
    kinds = [kind for kind, _ in events]
    assert kinds.count("batch.started") == kinds.count("batch.finished") == 2
    assert {d["fingerprint"] for k, d in events if k == "batch.started"} == {sequencer.frozen.fingerprint}


def test_a_broken_skill_is_a_bug_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, context: Any, params: Any) -> Any:
        raise ZeroDivisionError("oh")
        yield

    frozen = frozen_text(SHORT)
    monkeypatch.setattr(type(installed_skills()["pick"]), "run", broken)
    sequencer, arm, _ = fresh(frozen)
    sequencer.step(0.0, 0.02, arm, True)
    assert "ZeroDivisionError" in sequencer.bug
    sequencer.step(0.1, 0.02, arm, True)
    assert not arm.moves
