"""Motions: spline, limits, braking authority and its prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from robots.contract import AcceptedMotion, Move
from robots.follower import Follower
from robots.model import RobotModel
from robots.motion import Motion, MotionError
from robots.planning import Segment, plan_path

MODEL = RobotModel.load("panda")
HOME = np.radians([-45.0, -35.0, 0.0, -135.0, 0.0, 100.0, 45.0])


def lifted(dx: float, dy: float, dz: float) -> np.ndarray:
    T = MODEL.fk(HOME)
    T[:3, 3] += (dx, dy, dz)
    return T


def make_motion(seed: int) -> Motion:
    """A motion of the kinds kitting uses: straight down, up, transfer, blended."""
    rng = np.random.default_rng(seed)
    down = lifted(0.1 * rng.uniform(-1, 1), -0.1, -0.2 * rng.uniform(0.2, 1.0))
    up = lifted(0.05, -0.1, 0.05)
    far = HOME + np.array([rng.uniform(0.5, 1.5), 0.1, 0.1, 0.2, 0.0, -0.2, rng.uniform(-1, 1)])
    segments = [
        Segment("lin", down, speed=rng.uniform(0.2, 0.8), blend=float(rng.choice([0.0, 0.03]))),
        Segment("lin", up, speed=0.6, blend=0.05),
        Segment("ptp", far, speed=rng.uniform(0.5, 1.0)),
    ]
    return plan_path(MODEL, HOME, segments)


MOTIONS = [make_motion(seed) for seed in range(4)]
PROFILE = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.35, 0.7, 1.0]), st.integers(1, 60)), min_size=2, max_size=12)


def test_spline_agrees_with_an_independent_clamped_spline() -> None:
    motion = MOTIONS[0]
    t = np.arange(len(motion.path)) * motion.step
    reference = CubicSpline(t, motion.path, bc_type="clamped")
    for p in np.linspace(0.0, motion.duration, 97):
        q, dq, ddq = motion.sample(float(p))
        assert np.allclose(q, reference(p), atol=1e-12)
        assert np.allclose(dq, reference(p, 1), atol=1e-9)
        assert np.allclose(ddq, reference(p, 2), atol=1e-6)


def test_samples_are_interpolated_exactly_and_the_ends_are_at_rest() -> None:
    motion = MOTIONS[1]
    assert np.allclose(motion.sample(17 * motion.step)[0], motion.path[17], atol=1e-12)
    for end in (0.0, motion.duration):
        assert np.abs(motion.sample(end)[1]).max() < 1e-12
    assert np.allclose(motion.sample(-5.0)[0], motion.path[0])
    assert np.allclose(motion.sample(1e9)[0], motion.path[-1])


def test_a_message_carries_the_same_motion() -> None:
    motion = MOTIONS[2]
    accepted = motion.to_accepted()
    again = Motion.from_accepted(MODEL, accepted)
    assert isinstance(accepted, AcceptedMotion)
    assert isinstance(motion.to_move(), Move)
    assert np.array_equal(again.path, motion.path)
    assert np.array_equal(again.slope_limits, motion.slope_limits)
    assert again.duration == motion.duration


@settings(max_examples=40)
@given(st.integers(0, 3), PROFILE, st.sampled_from([0.001, 0.002, 0.004]))
def test_every_rate_profile_stays_on_the_path_and_within_joint_acceleration(
    index: int, profile: list[tuple[float, int]], dt: float
) -> None:
    motion = MOTIONS[index]
    follower = Follower(motion, dt)
    before = follower.dq.copy()
    for target, ticks in profile:
        for _ in range(ticks):
            follower.step(target)
            q, slope, _ = motion.sample(follower.progress)
            assert np.abs(follower.q - q).max() < 1e-12
            assert np.allclose(follower.dq, slope * follower.rate)
            # 4 % for a tick's difference quotient and the landing tick of the rate
            assert (np.abs(follower.dq - before) / dt <= 1.04 * MODEL.a_max + 0.3).all()
            before = follower.dq.copy()


@settings(max_examples=80)
@given(
    st.integers(0, 3),
    st.floats(0.0, 0.98),
    st.floats(0.02, 1.0),
    st.integers(0, 120),
    st.sampled_from([0.001, 0.002, 0.004]),
)
def test_real_braking_is_never_longer_than_predicted(
    index: int, start: float, target: float, ticks: int, dt: float
) -> None:
    motion = MOTIONS[index]
    follower = Follower(motion, dt)
    while follower.progress < start * motion.duration:
        follower.step(1.0)
    for _ in range(ticks):
        follower.step(target)
    time, swept = motion.braking(follower.rate, follower.progress, follower.slope, dt)
    begin, t = follower.progress, 0.0
    while follower.rate > 0.0:
        follower.step(0.0)
        t += dt
    assert t <= time + 1e-9
    assert follower.progress - begin <= swept + 1e-9


@given(st.integers(0, 3), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_braking_bound_grows_with_the_rate(index: int, share: float, one: float, two: float) -> None:
    motion = MOTIONS[index]
    low, high = sorted((one, two))
    slower = motion.braking(low, share * motion.duration)
    faster = motion.braking(high, share * motion.duration)
    assert slower[0] <= faster[0] + 0.0041  # one tick of rounding
    assert slower[1] <= faster[1] + 1e-9 + 0.0041


def test_braking_of_a_standing_arm_and_of_bad_numbers() -> None:
    motion = MOTIONS[0]
    assert motion.braking(0.0, 0.3) == (0.0, 0.0)
    for bad in (math.nan, math.inf, -1.0):
        assert motion.braking(bad, 0.3) == (math.inf, math.inf)
    assert motion.braking(0.5, math.nan) == (math.inf, math.inf)
    assert motion.braking(0.5, 0.3, math.nan) == (math.inf, math.inf)


def test_brake_slope_is_the_least_of_the_window_and_capped() -> None:
    motion = MOTIONS[0]
    k = int(np.argmin(motion.slope_limits))
    p = k * motion.step
    assert motion.brake_slope(max(p - 0.1, 0.0), p + 0.1) == pytest.approx(min(8.0, motion.slope_limits[k]))
    assert motion.brake_slope(0.0, 1e9) <= motion.brake_slope(p, p)
    assert motion.brake_slope(math.nan, 1.0) == pytest.approx(min(8.0, motion.slope_limits.min()))
    assert motion.brake_slope(0.0, 0.0) <= 8.0


def test_slope_limits_hold_against_direct_evaluation() -> None:
    for motion in MOTIONS:
        for k in range(0, len(motion.path), 3):
            _, dq, ddq = motion.sample(k * motion.step)
            for rate in (0.0, 0.5, 1.0):
                fall = min(motion.slope_limits[k], 8.0)
                assert (np.abs(ddq * rate**2 - dq * fall) <= MODEL.a_max * (1 + 1e-9)).all()
                rise = min(motion.rise_limits[k], 3.0)
                assert (np.abs(ddq * rate**2 + dq * rise) <= MODEL.a_max * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda Q: Q[:1], "shape"),
        (lambda Q: Q[:, :6], "shape"),
        (lambda Q: np.where(np.arange(len(Q))[:, None] == 5, np.nan, Q), "finite"),
        (lambda Q: Q + np.array([0, 0, 0, 3.0, 0, 0, 0]), "range"),
        (lambda Q: Q[::6], "limit"),
        (lambda Q: Q[: len(Q) // 2], "rest"),
        (lambda Q: np.vstack([Q, Q[-1] + 0.2]), "limit"),
    ],
)
def test_bad_samples_are_refused_with_a_reason(change: object, word: str) -> None:
    with pytest.raises(MotionError, match=word):
        Motion.from_samples(MODEL, "m", 0.008, change(MOTIONS[0].path))  # type: ignore[operator]


@pytest.mark.parametrize(("step", "name"), [(0.0, "m"), (math.nan, "m"), (1.0, "m"), (0.008, "")])
def test_bad_step_or_name_is_refused(step: float, name: str) -> None:
    with pytest.raises(MotionError):
        Motion.from_samples(MODEL, name, step, MOTIONS[0].path)


def test_a_torn_message_is_refused() -> None:
    move = MOTIONS[0].to_move()
    with pytest.raises(MotionError, match="whole number"):
        Motion.from_accepted(MODEL, Move("m", move.step, 7, move.path[:-3]))
    with pytest.raises(MotionError, match="6 joints"):
        Motion.from_accepted(MODEL, Move("m", move.step, 6, move.path))


def test_braking_torque_stays_within_the_drives() -> None:
    """The acceleration limits used for braking need no more torque than the joints have, gravity included."""
    for motion in MOTIONS:
        for k in range(0, len(motion.path), 10):
            q, dq, ddq = motion.sample(k * motion.step)
            torque = MODEL.torque(q, dq, ddq - min(motion.slope_limits[k], 8.0) * dq)
            assert (np.abs(torque) <= MODEL.tau_max).all()
