"""Contacts with people who came faster than configured are told apart, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim.arms import arm_spec
from sim.config import RefereeOptions
from sim.contract import RefereeReport
from sim.linkage import load_linkage
from sim.referee import ArmTruth, PersonTrack, PersonTruth, Referee
from sim.referee_assumption import Assumption, Watched
from tests.sim.test_referee import BODY, standing_at
from tests.sim.test_referee_contact import zone

DT = 0.016
ARM = arm_spec("panda")
LINKAGE = load_linkage(ARM)
BENT = np.radians([0.0, 40.0, 0.0, -60.0, 0.0, 120.0, 45.0])
TURN = np.array([1.0, 0, 0, 0, 0, 0, 0])
ROW = 6
Way = Callable[[float], float]


def touched(x: Way, seconds: float, rate: Way = lambda t: 1.0, rows: int = ROW, **options: Any) -> RefereeReport:
    """An arm that swings to and fro a little whatever happens, and a person who glides along x; planted contacts."""
    referee = Referee(LINKAGE, RefereeOptions(**options), [2 * b for b in ARM.brake])
    base = standing_at(0.0, -0.05)
    count = round(seconds / DT)
    times, arms, bones = [], [], []
    for k in range(count):
        t = k * DT
        at = base.copy()
        at[:, 0, 3] += x(t)
        times.append(t)
        arms.append(ArmTruth(BENT + TURN * 0.02 * np.sin(10.0 * t), TURN * 0.2 * rate(t), 0.04))
        bones.append(at)
    for k in range(0, count, rows):
        some = slice(k, k + rows)
        referee.observe_all(times[some], arms[some], [PersonTrack("p", "body_178", np.array(bones[some]))])
    report = referee.report(seconds)
    referee.close()
    return report


def coming(speed: float) -> Way:
    """From 0.5 s before the arm is reached, or a little more."""
    return lambda t: 1.0 + 0.6 * speed - speed * t


@pytest.mark.parametrize("speed", [0.9, 1.9])
def test_a_planted_contact_within_the_assumption_is_no_other_contact(speed: float) -> None:
    report = touched(coming(speed), 0.7 + 0.2 / speed)
    assert report.contacts_while_moving > 0
    assert report.contacts_outside_assumption == 0


@pytest.mark.parametrize("rows", [1, ROW])
def test_whoever_runs_into_the_arm_is_told_apart_and_still_counted(rows: int) -> None:
    report = touched(coming(3.5), 0.72, rows=rows)
    assert report.contacts_while_moving == report.contacts_outside_assumption > 0
    assert 0.0 < report.time_beyond <= report.time_judged


def test_an_arm_that_touches_a_person_who_stands_is_within_whatever_they_did_before() -> None:
    """They ran up to it, stood before it for half a second, and then came on slowly."""

    def way(t: float) -> float:
        return max(2.6 - 4.0 * t, 1.4) if t < 0.8 else 1.4 - (t - 0.8)

    report = touched(way, 1.6)
    assert report.time_beyond > 0.1
    assert report.contacts_while_moving > 0
    assert report.contacts_outside_assumption == 0


def test_a_flick_that_leads_nowhere_is_no_excuse() -> None:
    """At 4 m/s to and fro over 16 cm, on the way at 0.8 m/s."""

    def way(t: float) -> float:
        return 2.2 - 0.8 * t + 0.08 * (2.0 * abs((t * 12.5) % 2.0 - 1.0) - 1.0)

    report = touched(way, 1.8)
    assert report.outside_assumption > 50
    assert report.contacts_while_moving > 0
    assert report.contacts_outside_assumption == 0


def test_what_came_before_the_recording_excuses_nothing() -> None:
    report = touched(lambda t: 1.05 - 3.5 * t, 0.2)
    assert report.contacts_while_moving > 0
    assert report.contacts_outside_assumption == 0


def test_a_faster_arm_takes_longer_to_stop_so_more_of_the_past_counts() -> None:
    """Half a second at 3 m/s suffices for a slow arm, not for one that needs a second and a half for its stop."""

    def way(t: float) -> float:
        return 2.3 - 0.2 * t if t < 1.5 else 2.0 - 3.0 * (t - 1.5)

    slow = touched(way, 2.0)
    fast = touched(way, 2.0, rate=lambda t: 20.0, brake_deceleration=[3.4] * 7, brake_time_cap=1.2)
    assert slow.contacts_outside_assumption == slow.contacts_while_moving > 0
    assert fast.contacts_while_moving > 0 == fast.contacts_outside_assumption


def test_in_contact_zones_the_part_that_touches_decides() -> None:
    """Touches outside the zones, judged part by part."""
    elsewhere = [zone(9.0, upper=-2.0)]
    for speed, outside in ((1.2, False), (3.5, True)):
        report = touched(coming(speed), 0.7 + 0.2 / speed, contact_zones=elsewhere)
        assert report.contacts_while_moving > 0
        assert report.contacts_outside_assumption == (report.contacts_while_moving if outside else 0)


def test_one_slow_touch_beside_a_fast_one_is_held_against_the_system() -> None:
    referee = Referee(LINKAGE, RefereeOptions(), [2 * b for b in ARM.brake])
    told = {43: True, 47: False}
    referee._assumption.broken = lambda t, name, bone, place: told[bone]  # type: ignore[method-assign]
    place = np.zeros(3)
    assert referee._came_too_fast(1.0, [("p", 43, place)])
    assert not referee._came_too_fast(1.0, [("p", 43, place), ("p", 47, place)])
    assert not referee._came_too_fast(1.0, []), "a contact nobody can place is excused by nothing"
    referee.close()


@pytest.mark.parametrize(("speed", "beyond"), [(0.0, 0.0), (1.5, 0.0), (1.8, 1.0), (3.0, 1.0)])
def test_the_share_of_time_beyond_the_assumption(speed: float, beyond: float) -> None:
    """Once enough of the past is known; the first 0.395 s are not judged."""
    report = touched(lambda t: 9.0 - speed * t, 2.0)
    assert report.time_judged == pytest.approx(2.0 - DT, abs=1e-6)
    assert report.time_beyond == pytest.approx(beyond * (2.0 - 0.395), abs=0.04)


def test_swinging_feet_are_counted_apart_from_whoever_walks_on_them() -> None:
    """And arms may be as fast as configured for near the arm."""
    options = RefereeOptions()
    watch = Assumption(options, lambda dq: 0.2)
    base = standing_at(2.0, 0.0)
    for k in range(50):
        bones = np.tile(base, (1, 1, 1, 1))
        bones[0, [4, 6, 24, 26], 0, 3] -= 3.0 * k * DT
        bones[0, [52, 65, 78, 91], 0, 3] -= 1.9 * k * DT
        watch.note([k * DT], np.zeros((1, 7)), [Watched("p", BODY, bones)])
    assert watch.time > 0.7 and watch.beyond == 0.0


def test_nobody_there_is_no_time_judged() -> None:
    referee = Referee(LINKAGE, RefereeOptions(), [2 * b for b in ARM.brake], narrow=False)
    for k in range(500):
        referee.observe(k * DT, ArmTruth(BENT, TURN, 0.04), [])
    assert referee.report(2.0).time_judged == 0.0
    assert len(referee._assumption._rows) < 110
    referee.close()


def test_people_who_come_later_are_known_from_then_on() -> None:
    referee = Referee(LINKAGE, RefereeOptions(), [2 * b for b in ARM.brake], narrow=False)
    for k in range(75):
        people = [PersonTruth("p", "body_178", standing_at(3.0 - 2.5 * DT * k, 0.0))] if k > 24 else []
        referee.observe(k * DT, ArmTruth(BENT, np.zeros(7), 0.04), people)
    report = referee.report(1.2)
    referee.close()
    assert report.time_judged == pytest.approx(50 * DT) and 0.3 < report.time_beyond < report.time_judged
