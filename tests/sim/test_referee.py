"""The judge itself is judged: an honest synthetic system gets no complaint, planted bugs do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from sim.arms import arm_spec
from sim.body import load_body, transforms
from sim.config import RefereeOptions
from sim.contract import RefereeReport
from sim.linkage import load_linkage
from sim.poses import stand_pose
from sim.referee import ArmTruth, PersonTruth, Referee
from sim.referee_geometry import ArmPoints, PersonPoints, nearest
from sim.retarget import placed

DT = 0.004
ARM = arm_spec("panda")
LINKAGE = load_linkage(ARM)
BODY = load_body("body_178")
HOME = np.radians([-70.0, 20.0, 0.0, -100.0, 0.0, 120.0, 45.0])
SWEEP = np.array([1.0, 0, 0, 0, 0, 0, 0])
"""Nominal joint speed of the path, rad/s."""
TIP_SPEED = 0.75
"""Bound of any link's speed at rate 1, m/s."""
STOP = 1.0 / 8.0 + 0.05 + 0.02
"""Full braking as configured: 8 /s^2, its ramp, the drives' delay, s."""
V_H = 2.0
FLOOR = -0.75


class System(NamedTuple):
    """A separation controller written for these tests alone. C, Z_d and Z_r are 0: it has no slack to hide bugs in."""

    staleness: float = 0.0
    """How much older the pictures are than the system believes, s."""
    counts_stop: bool = True
    """T_s enters the human's term."""
    blind_to: tuple[str, ...] = ()
    """Links left out."""
    brakes: float = 8.0
    """Fall of the rate it really achieves, 1/s."""


def standing_at(x: float, y: float) -> np.ndarray:
    pose = placed(stand_pose(BODY), x, y, math.pi)
    bones = transforms(BODY, pose.roots[0], pose.rotations[0])
    bones[:, 2, 3] += FLOOR
    return bones


def walker(speed: float, start: float = 2.4, end: float = 0.75, y: float = -0.1) -> Callable[[float], np.ndarray]:
    """A person gliding along -x from `start` to `end`."""
    base = standing_at(0.0, y)

    def at(t: float) -> np.ndarray:
        bones = base.copy()
        bones[:, 0, 3] += max(start - speed * t, end)
        return bones

    return at


def allowed_rate(system: System, d: float, believed_age: float) -> float:
    """Largest rate for which d >= v_h (age + delay + T_s) + robot's travel."""
    for rate in np.linspace(1.0, 0.0, 41):
        stop = STOP
        human = V_H * (believed_age + DT + (stop if system.counts_stop else 0.0))
        if d >= human + TIP_SPEED * rate * (believed_age + stop):
            return float(rate)
    return 0.0


def run(system: System, person: Callable[[float], np.ndarray], seconds: float, **options: float) -> RefereeReport:
    """The arm sweeps to and fro under the system's control while the person moves; returns the account."""
    referee = Referee(
        LINKAGE,
        RefereeOptions(**{"human_speed": V_H, "human_speed_near": V_H, "reaction": 0.12, **options}),
        [2 * b for b in ARM.brake],
    )
    seen = ArmPoints(LINKAGE, system.blind_to)
    points = PersonPoints("p", BODY)
    progress, rate, frame_at = 0.0, 0.0, -math.inf
    frames: list[tuple[float, float]] = []
    moved = False
    for k in range(round(seconds / DT)):
        t = k * DT
        phase = progress % 4.0
        offset, sign = (phase, 1.0) if phase < 2.0 else (4.0 - phase, -1.0)
        q, dq = HOME + SWEEP * offset, SWEEP * sign * rate
        truth = [PersonTruth("p", "body_178", person(t))]
        referee.observe(t, ArmTruth(q, dq, 0.04), truth)
        if t >= frame_at + 0.032:
            frame_at = t
            frames.append((t, t + 0.024))
        usable = [e for e, delivered in frames if delivered <= t]
        target = 0.0
        if usable:
            true_exposure = max(usable[-1] - system.staleness, 0.0)
            cloud = points.at(person(true_exposure))
            d, _, _ = nearest(seen.at(q, 0.04), cloud, 10.0)
            target = allowed_rate(system, d, t - usable[-1])
        rate = max(rate - system.brakes * DT, target) if target < rate else min(rate + 3.0 * DT, target)
        progress += rate * DT
        moved = moved or rate > 0.5
    assert moved, "the run must contain fast motion, or it proves nothing"
    report = referee.report(seconds)
    referee.close()
    return report


def test_an_honest_system_gets_no_complaint_and_a_moving_one_was_judged() -> None:
    report = run(System(), walker(1.9), 1.4)
    assert report.psd_violations == 0
    assert report.contacts_while_moving == 0
    assert 0.0 < report.min_separation < 0.6


def test_a_stale_frame_passed_as_fresh_is_caught() -> None:
    assert run(System(staleness=0.35), walker(1.9), 1.4).psd_violations > 0


def test_a_forgotten_stopping_time_is_caught() -> None:
    assert run(System(counts_stop=False), walker(1.9), 1.4).psd_violations > 0


def test_a_link_left_out_is_caught() -> None:
    forgotten = tuple(n for n in LINKAGE.links if n not in ("panda_link0", "panda_link1", "panda_link2", "panda_link3"))
    report = run(System(blind_to=forgotten), walker(1.9), 1.4)
    assert report.psd_violations > 0
    assert report.worst["link"] in forgotten
    assert report.worst["required"] > report.worst["separation"]


def test_braking_less_than_configured_is_caught() -> None:
    assert run(System(brakes=1.0), walker(1.9), 1.4).psd_violations > 0


def test_running_through_a_person_is_contact_and_violation() -> None:
    report = run(System(staleness=10.0), walker(1.9, end=0.45), 1.3)
    assert report.contacts_while_moving > 0
    assert report.psd_violations > 0
    assert report.min_separation <= 0.0


def test_someone_faster_than_assumed_is_counted_and_a_system_that_does_its_best_is_not_blamed() -> None:
    report = run(System(), walker(3.5), 1.2)
    assert report.outside_assumption > 50
    assert report.psd_violations == 0


def test_a_standing_arm_may_be_touched() -> None:
    referee = Referee(LINKAGE, RefereeOptions(), [2 * b for b in ARM.brake])
    person = walker(1.5, end=0.3, y=0.0)
    q = np.radians([0.0, 40.0, 0.0, -60.0, 0.0, 120.0, 45.0])
    for k in range(500):
        referee.observe(k * DT, ArmTruth(q, np.zeros(7), 0.04), [PersonTruth("p", "body_178", person(k * DT))])
    report = referee.report(2.0)
    referee.close()
    assert report.min_separation < 0.0
    assert report.contacts_while_moving == 0
    assert report.psd_violations == 0


def test_starting_beside_a_person_is_a_violation() -> None:
    referee = Referee(LINKAGE, RefereeOptions(), [2 * b for b in ARM.brake])
    people = [PersonTruth("p", "body_178", standing_at(0.85, 0.0))]
    q, rate = np.radians([0.0, 40.0, 0.0, -60.0, 0.0, 120.0, 45.0]), 0.0
    for k in range(100):
        rate = min(rate + 3 * DT, 1.0) if k > 20 else 0.0
        q = q + SWEEP * rate * DT
        referee.observe(k * DT, ArmTruth(q, SWEEP * rate, 0.04), people)
    assert referee.report(0.4).psd_violations > 0
    referee.close()


def test_an_empty_cell_is_never_judged() -> None:
    referee = Referee(LINKAGE, RefereeOptions(), [2 * b for b in ARM.brake], narrow=False)
    for k in range(10):
        referee.observe(k * DT, ArmTruth(HOME, SWEEP, 0.04), [])
    assert referee.report(0.04) == RefereeReport(0.04, 1e9, 0, 0, 0, 0)


def test_point_distances_agree_with_the_exact_hulls() -> None:
    """GJK on the hulls is the reference; points may only be farther apart by their spacing."""
    from sim.referee_geometry import NarrowPhase

    arm = ArmPoints(LINKAGE)
    narrow = NarrowPhase(arm)
    person = PersonPoints("p", BODY)
    q = np.radians([0.0, 40.0, 0.0, -60.0, 0.0, 120.0, 45.0])
    checked = 0
    for x in np.linspace(0.75, 1.2, 40):
        bones = standing_at(float(x), 0.05)
        d, link, _ = nearest(arm.at(q, 0.04), person.at(bones), 10.0)
        exact = narrow.distances(q, 0.04, arm.at(q, 0.04), person, bones).min()
        if 0.0 < exact < 0.07:
            checked += 1
            # Hulls of body segments fill hollows of the skin, so they may be nearer.
            assert -0.03 < exact - d < 0.005
        assert link >= 0
    assert checked >= 2
    narrow.close()


def test_held_part_is_part_of_the_arm() -> None:
    pose = np.eye(4)
    pose[:3, 3] = (0.9, 0.0, 0.2)
    arm = ArmPoints(LINKAGE)
    cloud = arm.at(HOME, 0.04, ((0.05, 0.05, 0.05), pose))
    d, group, _ = nearest(cloud, PersonPoints("p", BODY).at(standing_at(1.3, 0.0)), 10.0)
    assert arm.names[group] == "held part"
    assert 0.0 < d < 0.4


@pytest.mark.parametrize("bad", [{"reaction": 0.0}, {"human_speed": math.nan}, {"reaction": 9.0}])
def test_senseless_options_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        RefereeOptions(**bad)
