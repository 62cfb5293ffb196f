"""Path fidelity: the comparison sees what it must see, and the drivers without a vendor stay on their path."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.conformance.fidelity import Records, deviation, nearest, random_motions
from robots.contract import RobotState
from robots.model import RobotModel
from robots.motion import Motion
from tests.benchmarks.bench_fidelity import fidelity
from tests.robots.bench import Bench

MODEL = RobotModel.load("panda")
TICK = 0.004


@pytest.fixture(scope="module")
def template() -> RobotState:
    return Bench().state


def driven(motion: Motion, template: RobotState, delay: float, off: np.ndarray[Any, Any]) -> Records:
    """A motion at rate 1 by an arm that is `delay` s late and `off` (dof,) rad beside where it should be."""
    records = Records(motion, [], [])
    zero = [0.0] * MODEL.dof
    for k in range(round((motion.duration + 0.2) / TICK)):
        t = k * TICK
        p = min(t, motion.duration)
        speed = motion.sample(p)[1].tolist() if t < motion.duration else zero
        q = (motion.sample(t - delay)[0] + off).tolist()
        state = msgspec.structs.replace(
            template, t=t, q=q, dq=speed, dq_commanded=speed, motion_id=motion.motion_id, progress=p, rate=1.0
        )
        records.now.append(t)
        records.states.append(state)
    return records


@pytest.fixture(scope="module")
def motions() -> list[Motion]:
    return random_motions(MODEL, MODEL.home, 6, np.random.default_rng(4))


def test_random_motions_are_of_each_kind_and_follow_each_other(motions: list[Motion]) -> None:
    assert [m.label for m in motions] == ["ptp", "lin", "via"] * 2
    for one, two in pairwise(motions):
        assert np.array_equal(one.path[-1], two.path[0])
    turned = np.abs(motions[0].path[-1] - motions[0].path[0]).max()
    assert turned > 0.2


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.06])
def test_lag_is_no_deviation_and_is_measured(motions: list[Motion], template: RobotState, delay: float) -> None:
    for motion in motions:
        found = deviation(MODEL, driven(motion, template, delay, np.zeros(MODEL.dof)), 0.02)
        assert found.joint.max() < 2e-4 and found.tcp.max() < 1e-4
        assert float(np.median(found.lag)) == pytest.approx(delay, abs=1e-3)


@pytest.mark.parametrize("joint", [0, 3, 6])
def test_a_joint_beside_its_path_is_a_deviation(motions: list[Motion], template: RobotState, joint: int) -> None:
    off = np.zeros(MODEL.dof)
    off[joint] = 0.006
    found = deviation(MODEL, driven(motions[0], template, 0.01, off), 0.02)
    # Where only that joint's own motion covers it up, the others show it.
    assert 0.003 < found.joint.max() <= 0.0061


@given(st.lists(st.floats(-1.0, 1.0), min_size=5, max_size=5), st.integers(0, 2**31))
def test_the_nearest_place_is_never_missed(q: list[float], seed: int) -> None:
    path = np.random.default_rng(seed).uniform(-1.0, 1.0, (7, 5)).cumsum(axis=0)
    point = np.array(q)
    best, place = nearest(path, 0, 6, point)
    k = min(int(place), 5)
    found = path[k] + (place - k) * (path[k + 1] - path[k])
    dense = np.concatenate([np.linspace(path[n], path[n + 1], 200) for n in range(6)])
    assert float(((found - point) ** 2).sum()) <= float(((dense - point) ** 2).sum(axis=1).min()) + 1e-9
    assert best <= np.abs(found - point).max() + 1e-12
    assert best >= 0.0 and math.isfinite(best)


@pytest.mark.parametrize("driver", ["null", "twin"])
def test_the_arm_stays_on_its_path_at_any_rate(driver: str) -> None:
    one = fidelity(driver, motions=3, holds=1, seed=5)
    assert one.motions == 3 and one.holds == 1
    assert one.faults == [] and one.good
    assert one.tcp_mm <= 2.0 and one.joint_mrad <= 4.0, "these two need no allowance for a following error"
    assert 0.0 < one.lag_median_ms <= 16.0
    assert one.creep_mrad < 2.0
