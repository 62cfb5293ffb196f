"""The gripper's interlocks and outcomes, manual mode, jogging."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from robots.config import KeepOutBox
from robots.contract import PartGeometry
from robots.guards import KeepOutRegions, box_distance
from robots.model import RobotModel
from robots.planning import plan_ptp
from robots.workcell import Pose
from tests.robots.bench import Bench

PART = PartGeometry("cube#1", (0.04, 0.04, 0.04), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), 0.06)


def holding() -> Bench:
    b = Bench()
    b.driver.part_width = 0.04
    assert b.ask(b.client.grip(0.03, 20.0, b.now, PART)).verdict == "done"
    assert b.state.held == PART
    assert b.state.gripper_holding
    return b


def test_a_grip_is_done_when_it_holds_and_the_part_belongs_to_the_arm() -> None:
    b = holding()
    assert b.state.gripper_width == pytest.approx(0.04, abs=1e-6)
    assert b.ask(b.client.grip(0.08, 0.0, b.now, release=True)).verdict == "done"
    assert b.state.held is None


def test_fingers_that_close_on_nothing_report_a_missed_grip() -> None:
    b = Bench()
    status = b.ask(b.client.grip(0.03, 20.0, b.now, PART))
    assert (status.verdict, status.code) == ("failed", "grip_missed")
    assert b.state.held is None
    assert b.ask(b.client.grip(0.08, 0.0, b.now)).verdict == "done"


def test_fingers_that_never_arrive_report_it() -> None:
    b = Bench()
    b.driver.grip = lambda width, force: None  # type: ignore[method-assign]
    status = b.ask(b.client.grip(0.02, 0.0, b.now), 6.0)
    assert (status.verdict, status.code) == ("failed", "grip_timeout")


def test_opening_against_something_is_done_where_the_fingers_settle() -> None:
    b = holding()
    grip = b.driver.grip
    b.driver.grip = lambda width, force: grip(min(width, 0.056), force)  # type: ignore[method-assign]
    assert b.ask(b.client.grip(0.058, 0.0, b.now, release=True)).verdict == "done"
    assert b.state.gripper_width == pytest.approx(0.056)
    assert b.state.held is None


@pytest.mark.requirement("ROB-11")
def test_a_held_part_is_let_go_only_on_purpose_and_never_by_a_stop() -> None:
    b = holding()
    refused = b.ask(b.client.grip(0.08, 0.0, b.now))
    assert refused.verdict == "rejected"
    assert "cube#1" in refused.reason
    calls: list[Any] = []
    b.driver.grip = lambda width, force: calls.append((width, force))  # type: ignore[method-assign]
    b.start(2.0, until=0.4)
    b.driver.emergency_stop = True
    b.run(1.0)
    b.driver.emergency_stop = False
    b.ask(b.client.clear_fault("Ann", b.now))
    b.client.stop(1, "x", b.now)
    b.run(1.0)
    b.issuer.limit = None
    b.run(1.0)
    assert calls == []
    assert b.state.held == PART


@pytest.mark.requirement("ROB-11")
def test_no_grip_while_a_motion_is_accepted_and_no_motion_while_gripping() -> None:
    b = Bench()
    b.start(2.0)
    assert "stands" in b.ask(b.client.grip(0.02, 0.0, b.now)).reason
    b.client.cancel("x", b.now)
    b.run(1.0)
    b.client.grip(0.02, 0.0, b.now)
    b.run(0.05)
    assert "gripper" in b.ask(b.client.move(b.motion(0.2, "m2"), b.now)).reason


@pytest.mark.requirement("ROB-12")
def test_a_lost_part_stops_the_motion_and_waits_for_a_person() -> None:
    b = holding()
    request = b.start(2.0, until=0.4)
    b.driver.part_width = None
    b.run(0.8)
    status = b.status(request)
    assert (status.verdict, status.code) == ("failed", "part_lost")
    assert b.state.fault == "part_lost"
    assert b.state.held is None
    assert b.state.standing
    assert b.driver.stops == []
    lost = [e for e in b.events if e.kind == "robot.part_lost"]
    assert [e.data["part"] for e in lost] == ["cube#1"]
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "done"


@pytest.mark.parametrize(
    ("width", "force", "part", "word"),
    [
        (math.nan, 0.0, None, "width"),
        (0.2, 0.0, None, "width"),
        (-0.01, 0.0, None, "width"),
        (0.02, math.inf, None, "force"),
        (0.02, -1.0, None, "force"),
        (0.02, 9e9, None, "force"),
        (0.02, 1.0, PartGeometry("p", (0.0, 1.0, 1.0), (0, 0, 0, 0, 0, 0, 1)), "part p"),
        (0.02, 1.0, PartGeometry("p", (0.1, 0.1, 0.1), (0, 0, 0, 0, 0, 0, 1), math.nan), "mass"),
    ],
)
def test_bad_grips_are_refused(width: float, force: float, part: PartGeometry | None, word: str) -> None:
    b = Bench()
    status = b.ask(b.client.grip(width, force, b.now, part))
    assert status.verdict == "rejected"
    assert word in status.reason


# ---------------------------------------------------------------- manual mode


def manual() -> Bench:
    b = Bench()
    b.driver.enabling_device = True
    assert b.ask(b.client.set_mode("manual", b.now)).verdict == "done"
    return b


def speeds(b: Bench, since: int) -> tuple[float, float]:
    """Largest TCP and elbow speed commanded since a state."""
    Q = np.array([s.q_commanded for s in b.states[since:]])
    tcp = np.linalg.norm(np.diff(b.model.tcp_path(Q), axis=0), axis=1).max()
    elbow = np.linalg.norm(np.diff(b.model.elbow_path(Q), axis=0), axis=1).max()
    return tcp / b.config.period, elbow / b.config.period


@pytest.mark.requirement("ROB-13")
@pytest.mark.parametrize("joint", [0, 1, 3])
def test_manual_mode_keeps_tcp_and_elbow_below_250_mm_per_s(joint: int) -> None:
    b = manual()
    q = np.array(b.state.q_commanded)
    goal = q.copy()
    goal[joint] += 0.8 if joint != 3 else 1.5
    motion = plan_ptp(b.model, q, goal, motion_id="m")
    nominal = b.model.tcp_path(motion.path)
    assert np.linalg.norm(np.diff(nominal, axis=0), axis=1).max() / motion.step > 0.3
    since = len(b.states)
    assert b.ask(b.client.move(motion, b.now), 20.0).verdict == "done"
    tcp, elbow = speeds(b, since)
    assert max(tcp, elbow) <= 0.2501
    assert max(tcp, elbow) > 0.2


@pytest.mark.requirement("ROB-13")
def test_manual_mode_moves_only_with_the_enabling_device() -> None:
    b = manual()
    b.start(1.0, until=0.4)
    assert b.state.rate > 0
    b.driver.enabling_device = False
    b.brake()
    assert b.state.limit_by == "enabling_device"
    b.driver.enabling_device = True
    b.run(0.3)
    assert b.state.rate == 0, "a device that is held again starts nothing"
    assert b.ask(b.client.set_override(1.0, b.now)).verdict == "done"
    b.run(0.3)
    assert b.state.rate > 0
    assert "standstill" in b.ask(b.client.set_mode("automatic", b.now)).reason


def jog(b: Bench, space: Any, velocity: list[float], seconds: float) -> None:
    for _ in range(round(seconds / 0.05)):
        b.client.jog(space, velocity, b.now)
        b.run(0.05)


@pytest.mark.requirement("ROB-14")
def test_jogging_needs_manual_mode_and_a_path_blind_lease_and_ends_by_itself() -> None:
    b = Bench()
    jog(b, "joint", [0.2, 0, 0, 0, 0, 0, 0], 0.2)
    assert "robot.jog_refused" in b.kinds()
    b = manual()
    start = b.state.q_commanded[0]
    jog(b, "joint", [0.2, 0, 0, 0, 0, 0, 0], 0.5)
    assert b.state.dq_commanded[0] == pytest.approx(0.2, abs=1e-6)
    assert b.state.q_commanded[0] > start + 0.06
    last = b.now
    b.run_until(lambda: not any(b.state.dq_commanded), 1.0)
    assert b.now - last <= 0.2 + 0.2 / (0.25 * 7.5) + 0.02
    assert b.state.fault == ""
    b.issuer.changes["motion_id"] = "m1"  # leases for a motion do not permit jogging
    b.run(0.02)
    q = b.state.q_commanded
    jog(b, "joint", [0.2, 0, 0, 0, 0, 0, 0], 0.3)
    assert b.state.q_commanded == q


@pytest.mark.requirement("ROB-14")
@pytest.mark.parametrize("space", ["base", "tool"])
def test_cartesian_jogging_goes_where_it_is_told_within_250_mm_per_s(space: str) -> None:
    b = manual()
    before = b.model.fk(b.state.q_commanded)
    since = len(b.states)
    jog(b, space, [0.0, 0.0, 9.0, 0.0, 0.0, 0.0], 0.6)
    after = b.model.fk(b.state.q_commanded)
    moved = after[:3, 3] - before[:3, 3]
    direction = np.array([0, 0, 1.0]) if space == "base" else before[:3, 2]
    assert moved @ direction > 0.05
    assert np.linalg.norm(moved - direction * (moved @ direction)) < 0.02
    assert max(speeds(b, since)) <= 0.2505


@pytest.mark.requirement("ROB-14")
def test_jogging_stops_before_joint_limits_and_keep_out() -> None:
    b = manual()
    jog(b, "joint", [0, 0, 0, 0, 0, 0, 0.5], 8.0)
    assert b.model.q_upper[6] - 0.05 < b.state.q_commanded[6] < b.model.q_upper[6]
    b = Bench(keep_out=[{"kind": "plane", "name": "wall", "normal": [0, -1, 0], "offset": -0.3}])
    b.driver.enabling_device = True
    b.ask(b.client.set_mode("manual", b.now))
    jog(b, "base", [0, 0.2, 0, 0, 0, 0], 4.0)
    a, e, radius = b.model.capsules(b.state.q_commanded)
    farthest = (np.maximum(a[1:, 1], e[1:, 1]) + radius[1:]).max()
    assert 0.27 < farthest <= 0.3


@pytest.mark.requirement("ROB-14")
@pytest.mark.parametrize(
    "command",
    [
        ("joint", [math.nan] + [0.0] * 6, 0.2),
        ("joint", [0.1] * 6, 0.2),
        ("base", [0.1] * 7, 0.2),
        ("joint", [0.1] * 7, 5.0),
        ("joint", [0.1] * 7, math.nan),
        ("joint", [0.1] * 7, -1.0),
    ],
)
def test_bad_jog_commands_are_refused(command: tuple[Any, list[float], float]) -> None:
    b = manual()
    q = b.state.q_commanded
    b.client.jog(command[0], command[1], b.now, command[2])
    b.run(0.3)
    assert b.state.q_commanded == q
    assert "robot.jog_refused" in b.kinds()


def test_an_old_or_repeated_jog_command_ends_the_jogging() -> None:
    b = manual()
    jog(b, "joint", [0.2] + [0.0] * 6, 0.3)
    inbox = b.hub._topics["arm.jog"][0]
    b.client.jog("joint", [0.2] + [0.0] * 6, b.now)
    captured = inbox.newest
    b.run(0.02)
    inbox.newest = captured
    b.run(0.3)
    assert not any(b.state.dq_commanded)
    assert "repeated" in [e for e in b.events if e.kind == "robot.jog_refused"][-1].data["reason"]


# ---------------------------------------------------------------- geometry of the guards


def test_segment_to_box_distance_agrees_with_dense_sampling() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        a, b, half = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3), rng.uniform(0.05, 0.4, 3)
        points = a + np.linspace(0, 1, 2001)[:, None] * (b - a)
        dense = np.linalg.norm(np.maximum(np.abs(points) - half, 0), axis=1).min()
        assert box_distance(a, b, half) == pytest.approx(dense, abs=1e-3)


def test_the_held_part_counts_for_keep_out() -> None:
    model = RobotModel.load("panda")
    x, y, low = (float(v) for v in model.fk(model.home)[:3, 3])
    long = PartGeometry("rod", (0.02, 0.02, 0.3), (0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0))
    pose = Pose(position=(x, y, low - 0.2))
    regions = KeepOutRegions.from_config([KeepOutBox(name="press", size=(0.2, 0.2, 0.2), pose=pose)])
    rows = model.home[None, :]
    assert regions.violation(model, rows, None) == ""
    assert "held would enter keep-out box press" in regions.violation(model, rows, long)


def test_a_slow_gripper_is_not_taken_for_a_missed_grip() -> None:
    b = Bench()
    b.driver.part_width = 0.04
    late: list[tuple[float, float]] = []
    grip = b.driver.grip
    b.driver.grip = lambda width, force: late.append((width, force))  # type: ignore[method-assign]
    request = b.client.grip(0.03, 20.0, b.now, PART)
    b.run(0.5)
    grip(*late[0])
    assert b.ask(request).verdict == "done"
    assert b.state.held == PART


def test_a_part_that_does_not_let_go_stays_held() -> None:
    b = holding()
    b.driver.grip = lambda width, force: None  # type: ignore[method-assign]
    status = b.ask(b.client.grip(0.08, 0.0, b.now, release=True), 6.0)
    assert status.code == "grip_timeout"
    assert b.state.held == PART
