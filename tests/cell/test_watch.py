"""What is missing, old or no number counts as the fault."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.alarms import load_definitions
from cell.contract import LedgerStatus
from cell.watch import GRACE, SKELETON_TIMEOUT, Seen, blocked, conditions
from perception.contract import MOVED, CameraHealth, Observation, Skeletons
from robots.contract import RobotState
from safety.contract import SafetyStatus, SeparationTerms

STATE = RobotState(
    1, 0.0, [0.0], [0.0], [0.0], [0.0], [0.0], "m", 0.0, 1.0, 0.0, 0.0, 0.0, "supervisor", "", 1.0, "automatic", "", "",
    True, 0.0, False, None, {}, {}, False, False, 0.0, 0, "s",
)  # fmt: skip
STATUS = SafetyStatus(
    1, 0.0, 1.0, "", 1e9, 0.5, SeparationTerms(0, 0, 0, 0, 0, 0), "", (0, 0, 0), True, 0.0, 0.0, "print", True
)
OBSERVATION = Observation(1, 0.0, 0.0, b"", 0, True, "", [], [], True)
LEDGER = LedgerStatus(0.0, True, "", 1, 0, 0, {})


def seen(at: float) -> Seen:
    found = Seen(began=0.0)
    found.state, found.state_at = STATE, at
    found.take_status(STATUS, 1, at)
    found.take_observation(OBSERVATION, at)
    found.ledger, found.ledger_at = LEDGER, at
    found.heartbeats = {"twin": at}
    return found


def present(found: Seen, now: float) -> set[str]:
    return {code for code, there, _ in conditions(found, now) if there}


def test_nothing_is_missed_while_everything_speaks() -> None:
    assert present(seen(100.0), 100.1) == set()


def test_silence_of_each_is_noticed() -> None:
    expected = {"robot_lost", "supervisor_lost", "perception_lost", "node_silent", "ledger_failed"}
    assert present(seen(100.0), 103.0) == expected
    assert present(seen(100.0), math.nan) >= {"robot_lost", "supervisor_lost", "perception_lost"}


@pytest.mark.requirement("PER-13")
def test_skeletons_that_fall_silent_or_fail_are_told() -> None:
    found = seen(100.0)
    assert present(found, 100.1) == set(), "nobody asked for them"
    found.skeletons_due = True
    found.skeletons, found.skeletons_at = Skeletons(1, 0.0, True, "", [], 0), 99.0
    assert present(found, 100.1) == set()
    assert present(found, 100.2 + SKELETON_TIMEOUT) >= {"skeletons_lost"}
    found.skeletons, found.skeletons_at = Skeletons(2, -1.0, False, "no pose model", [], 0), 100.0
    told = {code: detail for code, there, detail in conditions(found, 100.1) if there}
    assert told == {"skeletons_lost": "no pose model"}
    never = Seen(began=0.0, skeletons_due=True)
    assert "skeletons_lost" not in present(never, GRACE - 0.1)
    assert "skeletons_lost" in present(never, GRACE + 0.1)


def test_nodes_that_never_spoke_are_missed_after_the_grace() -> None:
    found = Seen(began=0.0, heartbeats={"twin": -1e9})
    assert present(found, GRACE - 0.1) == set()
    assert present(found, GRACE + 0.1) == {"robot_lost", "supervisor_lost", "perception_lost", "node_silent"}


@pytest.mark.requirement("CTL-07")
def test_another_configuration_and_another_life_are_noticed() -> None:
    found = seen(100.0)
    found.fingerprint = "print"
    assert present(found, 100.1) == set()
    found.take_status(msgspec.structs.replace(STATUS, fingerprint="other"), 2, 100.1)
    assert present(found, 100.1) == {"configuration_changed", "supervisor_restarted"}


def test_a_sick_observation_counts_after_a_moment_and_a_healthy_one_clears_it() -> None:
    found = seen(100.0)
    sick = msgspec.structs.replace(OBSERVATION, healthy=False, reason="dead: north")
    found.take_observation(sick, 100.0)
    assert "camera_fault" not in present(found, 100.1)
    found.take_observation(sick, 100.2)
    assert "camera_fault" in present(found, 100.3)
    found.take_observation(OBSERVATION, 100.3)
    assert "camera_fault" not in present(found, 100.3)


def test_a_ledger_that_cannot_write_and_gaps() -> None:
    found = seen(100.0)
    found.ledger = LedgerStatus(0.0, False, "disk full", 1, 2, 5, {})
    assert present(found, 100.1) == {"ledger_failed", "ledger_gap"}


@given(st.floats(allow_nan=True), st.floats(allow_nan=True), st.sampled_from(["supervisor", "override", "fault"]))
def test_blocked_means_a_supervisor_and_no_motion(limit: float, rate: float, by: str) -> None:
    state = msgspec.structs.replace(STATE, limit=limit, rate=rate, limit_by=by)
    expected = by == "supervisor" and not limit > 0.0 and not rate > 0.0
    assert blocked(state, frozenset({"supervisor"})) == expected
    assert not blocked(msgspec.structs.replace(state, motion_id=""), frozenset({"supervisor"}))
    assert not blocked(msgspec.structs.replace(state, fault="lease_lost"), frozenset({"supervisor"}))
    assert not blocked(None, frozenset({"supervisor"}))


@pytest.mark.requirement("SAF-22")
def test_a_part_of_the_reaction_time_over_its_budget_is_an_alarm_that_stops_nothing_by_itself() -> None:
    found = seen(100.0)
    text = "exposure to observation 84 ms, 33 ms more than configured"
    found.take_status(msgspec.structs.replace(STATUS, reaction_exceeded=text), 1, 100.0)
    assert ("reaction_exceeded", True, text) in list(conditions(found, 100.1))
    assert load_definitions()["reaction_exceeded"].reaction == "none"


@pytest.mark.requirement("PER-08")
def test_a_moved_camera_is_an_alarm_of_its_own() -> None:
    def camera(name: str, reason: str) -> CameraHealth:
        return CameraHealth(name, not reason, reason, 0.0, 1.0, 0)

    def codes(*cameras: CameraHealth) -> set[str]:
        found = seen(100.0)
        found.take_observation(msgspec.structs.replace(OBSERVATION, healthy=False, cameras=list(cameras)), 100.0)
        found.observation_at = 100.3
        return present(found, 100.3) & {"camera_moved", "camera_fault"}

    assert codes(camera("a", MOVED + "the fixed scene appears 20 mm off"), camera("b", "")) == {"camera_moved"}
    assert codes(camera("a", MOVED + "x"), camera("b", "dead")) == {"camera_moved", "camera_fault"}
    assert codes(camera("a", ""), camera("b", "dead")) == {"camera_fault"}
    assert codes() == {"camera_fault"}
