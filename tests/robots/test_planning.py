"""Planners: geometry of lines, circles and blends, limits of the nominal law, reasons for refusal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.geometry import rotation_of, rotation_vector
from robots.model import RobotModel
from robots.motion import Motion
from robots.pathlaw import NOMINAL_ACCELERATION
from robots.planning import (
    PlanError,
    Segment,
    plan_circ,
    plan_lin,
    plan_path,
    plan_ptp,
)

PANDA = RobotModel.load("panda")
HOME = np.radians([-45.0, -35.0, 0.0, -135.0, 0.0, 100.0, 45.0])


def down(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    c, s = math.cos(yaw), math.sin(yaw)
    T = np.eye(4)
    T[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([1.0, -1.0, -1.0])
    T[:3, 3] = (x, y, z)
    return T


def fine_tcp(model: RobotModel, motion: Motion, every: float = 0.002) -> tuple[np.ndarray, np.ndarray]:
    """TCP positions and configurations between the samples too."""
    Q = np.array([motion.sample(p)[0] for p in np.arange(0.0, motion.duration, every)])
    return model.tcp_path(Q), Q


def check_law(model: RobotModel, motion: Motion) -> None:
    assert (motion.peak_velocity <= 0.81 * model.v_max).all()
    # nominal share, and a tenth more for the averaging of the law over 60 ms
    assert (motion.peak_acceleration <= NOMINAL_ACCELERATION * 1.12 * model.a_max).all()
    assert motion.slope_limits.min() > 1.0


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.1, 1.0), st.sampled_from(["panda", "iiwa14", "ur5e"]))
def test_ptp_is_straight_in_joint_space_and_ends_where_asked(seed: int, speed: float, name: str) -> None:
    model = RobotModel.load(name)
    rng = np.random.default_rng(seed)
    low, high = np.maximum(model.q_lower, -2.5), np.minimum(model.q_upper, 2.5)
    one, two = rng.uniform(low, high), rng.uniform(low, high)
    motion = plan_ptp(model, one, two, speed)
    assert np.allclose(motion.path[0], one, atol=1e-12)
    assert np.allclose(motion.path[-1], two, atol=1e-12)
    d = (two - one) / np.linalg.norm(two - one)
    off = (motion.path - one) - np.outer((motion.path - one) @ d, d)
    assert np.abs(off).max() < 1e-9
    assert (np.diff((motion.path - one) @ d) >= -1e-12).all()
    check_law(model, motion)


def test_kitting_transfers_are_brisk() -> None:
    start = plan_ptp(PANDA, HOME, down(0.1, -0.5, 0.2)).path[-1]
    transfer = plan_ptp(PANDA, start, down(0.47, -0.28, 0.2))
    speed = np.linalg.norm(np.diff(PANDA.tcp_path(transfer.path), axis=0), axis=1) / transfer.step
    assert 0.4 < speed.max() <= 1.01


def test_lin_is_straight_keeps_its_speed_and_turns_evenly() -> None:
    start = plan_ptp(PANDA, HOME, down(0.3, -0.4, 0.4)).path[-1]
    goal = down(0.5, 0.1, 0.2, yaw=0.8)
    motion = plan_lin(PANDA, start, goal, speed=0.3, acceleration=1.0)
    T0 = PANDA.fk(start)
    points, Q = fine_tcp(PANDA, motion)
    d = goal[:3, 3] - T0[:3, 3]
    length = np.linalg.norm(d)
    d /= length
    along = (points - T0[:3, 3]) @ d
    assert np.linalg.norm(points - T0[:3, 3] - np.outer(along, d), axis=1).max() < 1e-4
    assert np.allclose(PANDA.fk(motion.path[-1]), goal, atol=2e-5)
    speed = np.linalg.norm(np.diff(points, axis=0), axis=1) / 0.002
    assert 0.29 < speed.max() < 0.303
    assert np.abs(np.diff(speed) / 0.002).max() < 1.1
    whole = rotation_vector(T0[:3, :3].T @ goal[:3, :3])
    for k in range(0, len(Q), 25):
        expected = T0[:3, :3] @ rotation_of(whole * along[k] / length)
        assert np.linalg.norm(rotation_vector(expected.T @ PANDA.fk(Q[k])[:3, :3])) < 2e-3
    check_law(PANDA, motion)


def test_circ_lies_on_its_circle_and_passes_the_via_point() -> None:
    start = plan_ptp(PANDA, HOME, down(0.3, -0.3, 0.3)).path[-1]
    via, goal = down(0.4, -0.2, 0.3), down(0.5, -0.3, 0.3)
    motion = plan_circ(PANDA, start, via, goal, speed=0.25)
    points, _ = fine_tcp(PANDA, motion)
    assert np.abs(np.linalg.norm(points - [0.4, -0.3, 0.3], axis=1) - 0.1).max() < 1e-4
    assert np.linalg.norm(points - via[:3, 3], axis=1).min() < 1e-3
    assert np.allclose(points[-1], goal[:3, 3], atol=2e-3)
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert length == pytest.approx(math.pi * 0.1, rel=0.01)
    check_law(PANDA, motion)


def test_blend_passes_without_stopping_and_stays_near_the_corner() -> None:
    start = plan_ptp(PANDA, HOME, down(0.1, -0.5, 0.05)).path[-1]
    corner = down(0.1, -0.5, 0.2)
    rest = [Segment("ptp", down(0.47, -0.28, 0.2), blend=0.05), Segment("lin", down(0.47, -0.28, 0.05))]
    stopping = plan_path(PANDA, start, [Segment("lin", corner), *rest])
    motion = plan_path(PANDA, start, [Segment("lin", corner, blend=0.05), *rest])
    assert motion.duration < stopping.duration - 0.2
    points, _ = fine_tcp(PANDA, motion)
    assert np.linalg.norm(points - corner[:3, 3], axis=1).min() < 0.05
    rates = np.linalg.norm(np.diff(points, axis=0), axis=1) / 0.002
    inner = rates[60:-60]
    assert inner.min() > 0.03  # never stops on the way
    lifting = points[points[:, 2] < 0.15 - 1e-3]
    lifting = lifting[np.linalg.norm(lifting[:, :2] - [0.1, -0.5], axis=1) < 0.1]
    assert np.abs(lifting[:, :2] - [0.1, -0.5]).max() < 1e-3  # still the straight line below the blend
    check_law(PANDA, motion)


def test_a_stop_between_segments_without_blend_is_a_real_stop() -> None:
    start = plan_ptp(PANDA, HOME, down(0.1, -0.5, 0.05)).path[-1]
    motion = plan_path(PANDA, start, [Segment("lin", down(0.1, -0.5, 0.2)), Segment("lin", down(0.3, -0.5, 0.2))])
    points, _ = fine_tcp(PANDA, motion)
    speed = np.linalg.norm(np.diff(points, axis=0), axis=1) / 0.002
    corner = np.linalg.norm(points - [0.1, -0.5, 0.2], axis=1).argmin()
    assert speed[max(corner - 2, 0) : corner + 2].min() < 5e-3
    assert np.linalg.norm(points - [0.1, -0.5, 0.2], axis=1).min() < 1e-4
    check_law(PANDA, motion)


def test_same_input_same_motion_and_nothing_to_do() -> None:
    one, two = (plan_ptp(PANDA, HOME, down(0.3, -0.4, 0.3)) for _ in range(2))
    assert one.motion_id == two.motion_id
    assert np.array_equal(one.path, two.path)
    still = plan_ptp(PANDA, HOME, HOME)
    assert np.array_equal(still.path[-1], HOME)
    assert still.duration < 0.05
    assert plan_ptp(PANDA, HOME, HOME, motion_id="x", label="wait").label == "wait"


def reason(call: object) -> tuple[str, str]:
    with pytest.raises(PlanError) as error:
        call()  # type: ignore[operator]
    return error.value.reason, str(error.value)


def test_reasons_name_segment_place_and_cause() -> None:
    start = plan_ptp(PANDA, HOME, down(0.4, -0.3, 0.3)).path[-1]
    why, text = reason(lambda: plan_ptp(PANDA, HOME, down(1.5, 0, 0.3)))
    assert (why, "segment 1" in text) == ("unreachable", True)
    why, text = reason(
        lambda: plan_path(PANDA, start, [Segment("lin", down(0.4, -0.3, 0.2)), Segment("lin", down(1.2, -0.3, 0.2))])
    )
    assert why in ("singularity", "unreachable", "joint_limit")
    assert "segment 2: at " in text
    why, text = reason(lambda: plan_ptp(PANDA, HOME, PANDA.q_upper + 0.1))
    assert why == "joint_limit"
    assert "panda_joint1" in text
    turned = down(0.4, -0.3, 0.3, yaw=3.0)
    turned[:3, :3] = PANDA.fk(start)[:3, :3] @ rotation_of(np.array([0, 0, 3.1]))
    assert reason(lambda: plan_lin(PANDA, start, turned))[0] in ("joint_limit", "singularity", "unreachable")


@pytest.mark.parametrize(
    "segment",
    [
        Segment("ptp", np.full(7, np.nan)),
        Segment("ptp", np.zeros(5)),
        Segment("ptp", HOME, speed=0.0),
        Segment("ptp", HOME, speed=math.nan),
        Segment("ptp", HOME, speed=1.5),
        Segment("lin", HOME),
        Segment("lin", down(0.4, -0.3, 0.3), speed=-1.0),
        Segment("lin", down(0.4, -0.3, 0.3), acceleration=math.inf),
        Segment("lin", down(0.4, -0.3, 0.3), blend=math.nan),
        Segment("circ", down(0.4, -0.3, 0.3)),
        Segment("lin", np.diag([1.0, 1.0, -1.0, 1.0])),
        Segment("circ", down(0.4, -0.3, 0.3), via=down(0.4, -0.3, 0.3)),
    ],
)
def test_invalid_segments_are_refused(segment: Segment) -> None:
    assert reason(lambda: plan_path(PANDA, HOME, [segment]))[0] == "invalid"


def test_invalid_starts_are_refused() -> None:
    for bad in (np.full(7, np.nan), np.zeros(6), np.full(7, 9.0)):
        assert reason(lambda bad=bad: plan_ptp(PANDA, bad, HOME))[0] == "invalid"
    assert reason(lambda: plan_path(PANDA, HOME, []))[0] == "invalid"


@given(st.tuples(*[st.floats(-1.0, 1.0)] * 3), st.floats(0.0, math.pi - 1e-3))
def test_rotation_vector_inverts_the_rotation(axis: tuple[float, float, float], angle: float) -> None:
    norm = math.dist(axis, (0, 0, 0))
    vector = np.array(axis) / norm * angle if norm > 1e-3 else np.zeros(3)
    assert np.allclose(rotation_vector(rotation_of(vector)), vector, atol=1e-6)


def test_half_turn_has_a_rotation_vector() -> None:
    for axis in np.eye(3):
        assert np.linalg.norm(rotation_vector(rotation_of(axis * math.pi))) == pytest.approx(math.pi, abs=1e-6)
