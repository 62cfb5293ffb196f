"""Zones from file to node: the phase on each motion, the demo's zones of contact, what the referee is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cell.compare.report import Comparison
from cell.compare.runs import contact_file, with_contact
from cell.config import load_cell
from cell.contact_truth import contact_truth
from cell.options import RunOptions
from cell.session import SessionError, new_session, read_safety
from safety.acceptance import TrustedKeys, acceptance_faults
from safety.config import contact_limits
from safety.contact import contact_speed, simplified_mass
from sim.config import RefereeOptions
from tests.cell.harness import frozen_text
from tests.cell.test_compare import result
from tests.cell.test_sequencer import ScriptedArm, fresh

RECIPE = """
recipe: two
version: "1"
operations:
  - operation: first
    phases:
      - {skill: move_to, params: {home: true}}
  - operation: second
    phases:
      - {skill: move_to, params: {home: true}}
"""


class Listening(ScriptedArm):
    """Keeps what it is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[str] = []

    def move(self, motion: Any, now: float) -> str:
        self.phases.append(motion.to_move().phase)
        return super().move(motion, now)


@pytest.mark.requirement("ZON-02")
def test_motions_carry_the_phase_of_the_recipe_they_belong_to() -> None:
    sequencer, _, _ = fresh(frozen_text(RECIPE))
    arm = Listening()
    for i in range(30):
        sequencer.step(0.02 * i, 0.02, arm, True)
    assert sequencer.finished
    assert arm.phases == ["first.move_to", "second.move_to"]


def session(tmp_path: Path) -> Any:
    return new_session(RunOptions(recipe=None, quiet=True, runs=tmp_path), tmp_path)


def test_the_demo_has_a_safety_file_with_contact_that_passes_every_check(tmp_path: Path) -> None:
    plain = session(tmp_path)
    mine = with_contact(plain)
    assert mine.safety.zones.touching
    assert not plain.safety.zones.touching
    assert mine.file.fingerprint != plain.file.fingerprint
    assert mine.simulation_only
    for name in ("reaction", "human", "Z_d", "Z_r", "detection_capability_mm", "restart_after", "restart_limit"):
        assert getattr(mine.safety, name) == getattr(plain.safety, name), name


@pytest.mark.requirement("CON-02")
def test_contact_from_an_unsigned_file_is_for_the_twin_alone(tmp_path: Path) -> None:
    """CON-02: the comparison refuses a real arm, and so does the acceptance of the file itself."""
    plain = session(tmp_path)
    config = plain.cell.config.model_copy(update={"world": None})
    with pytest.raises(SessionError):
        with_contact(replace(plain, cell=replace(plain.cell, config=config)))
    file = contact_file(plain.cell)
    assert acceptance_faults(file, with_contact(plain).safety, TrustedKeys())


def test_the_referee_is_told_plain_numbers_of_the_zones() -> None:
    loaded = load_cell(None)
    assert contact_truth(read_safety(loaded), contact_limits(read_safety(loaded), loaded.safety_path), loaded.model(),
                         loaded.config.workcell) == {}  # fmt: skip
    mine = replace(loaded, config=loaded.config.model_copy(update={"safety": contact_file(loaded).name}))
    safety = read_safety(mine)
    told = contact_truth(safety, contact_limits(safety, mine.safety_path), mine.model(), mine.config.workcell)
    options = RefereeOptions(**told)
    assert len(options.contact_zones) == 2
    assert len(options.fixed) == len(mine.config.workcell.fixtures)
    mass = simplified_mass(mine.model(), safety.contact.load)
    for zone in options.contact_zones:
        assert "head" not in zone.limits
        hand = zone.limits["hand"]
        assert hand.transient == pytest.approx(contact_speed("hands_fingers", mass).speed)
        assert hand.clamped == pytest.approx(contact_speed("hands_fingers", mass, "quasi_static").speed)
        assert hand.width == 0.1


def test_touches_above_the_limits_are_named() -> None:
    bad = msgspec.structs.replace(result("a", "ssm_contact", 31.0), contact_limit_exceedances=2)
    problems = Comparison(30.0, [bad]).problems()
    assert len(problems) == 1
    assert "2 touches" in problems[0]
