"""The bound on jogging against the jogger itself."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from robots.contract import Jog
from robots.guards import KeepOutRegions
from robots.jogging import JOINT_SHARE, Jogger
from robots.model import RobotModel
from safety.blind import Jogging, blind_limit, drift, turning
from safety.search import People
from tests.safety.test_monitor import CONFIG, model, monitor, motion, observation, state_on

TICK = CONFIG.reaction.tick


def jogger_of(arm: RobotModel) -> Jogger:
    return Jogger(arm, KeepOutRegions.from_config([]), 0.25, TICK)


def wild(rng: np.random.Generator, arm: RobotModel, seq: int) -> Jog:
    """A jog that would go as fast as it can, somewhere else each time."""
    space = rng.choice(["joint", "base", "tool"])
    count = arm.dof if space == "joint" else 6
    return Jog("s", seq, 0.25, space, (rng.choice([-1.0, 1.0], count) * rng.uniform(0.2, 3.0, count)).tolist())


@pytest.mark.parametrize("name", ["panda", "iiwa14", "ur5e"])
def test_no_jogging_leaves_the_bound(name: str) -> None:
    """100 runs each: any speed before, an older lease at 1, a wild jog every few ticks, then the lease ends."""
    arm = RobotModel.load(name)
    fixed = int((np.asarray(arm.chain.owner) == 0).sum())
    rng = np.random.default_rng(11)
    moved = 0.0
    for run in range(100):
        q = arm.q_lower + rng.uniform(0.25, 0.75, arm.dof) * (arm.q_upper - arm.q_lower)
        jogger, seq, now = jogger_of(arm), 0, 0.0
        for _ in range(int(rng.integers(0, 60))):
            seq += 1
            jogger.offer(wild(rng, arm, seq), now, "s")
            q, now = jogger.step(now, q, 1.0), now + TICK
        limit, horizon, obeyed = rng.uniform(), rng.uniform(0.02, 0.15), 0.018
        jog = Jogging(np.abs(jogger.dq), JOINT_SHARE * arm.v_max, JOINT_SHARE * arm.a_max, horizon, obeyed, TICK)
        turn = np.empty(arm.dof)
        time = turning(limit, jog, turn)
        far = np.empty(len(arm.chain.owner) - fixed)
        drift(arm.chain, fixed, q, turn, far)
        a0, b0, _ = arm.capsules(q)
        began, start = now, q.copy()
        while jogger.moving or now - began < horizon:
            if rng.uniform() < 0.2:
                seq += 1
                jogger.offer(wild(rng, arm, seq), now, "s")
            age = now - began
            q, now = jogger.step(now, q, 1.0 if age < obeyed else limit if age < horizon else 0.0), now + TICK
            assert (np.abs(q - start) <= turn + 1e-12).all(), run
            a, b, _ = arm.capsules(q)
            way = np.maximum(np.linalg.norm(a - a0, axis=1), np.linalg.norm(b - b0, axis=1))[fixed:]
            assert (way <= far + 1e-12).all(), run
            moved = max(moved, float((way / np.maximum(far, 1e-9)).max()))
        assert now - began <= time + 1e-9, run
    assert moved > 0.2, "the runs say nothing about the bound"


def test_the_limit_for_jogging_falls_with_the_distance_and_needs_manual_mode() -> None:
    m = motion(0)
    state = state_on(m, 0.0, 0.0)
    free = msgspec.structs.replace(state, motion_id="", mode="manual")
    tip = model().fk(np.array(state.q))[:3, 3]
    found = []
    for away in np.linspace(0.3, 4.0, 40):
        balls = np.array([[tip[0] + away, tip[1], tip[2], 0.05]])
        found.append(monitor().cycle(10.0, observation(balls), free, None).limit)
        automatic = msgspec.structs.replace(free, mode="automatic")
        assert monitor().cycle(10.0, observation(balls), automatic, None).limit == 0.0
    assert found[0] == 0.0
    assert found[-1] == 1.0
    assert (np.diff(found) >= 0.0).all()
    assert any(0.1 < x < 0.9 for x in found)
    assert monitor().cycle(10.0, observation(np.zeros((0, 4))), free, None).limit == 1.0


def test_an_arm_that_jogs_already_gets_no_more_than_one_that_stands() -> None:
    """20,000 cases."""
    arm = model()
    fixed = monitor()._fixed
    rng = np.random.default_rng(3)
    top, acceleration = JOINT_SHARE * arm.v_max, JOINT_SHARE * arm.a_max
    some = 0
    for _ in range(20_000):
        q = arm.q_lower + rng.uniform(0.1, 0.9, arm.dof) * (arm.q_upper - arm.q_lower)
        near = rng.uniform(0.4, 3.0, len(arm.chain.owner) - fixed)
        people = People(1.6, 2.0, 0.288, 0.05)
        standing = Jogging(np.zeros(arm.dof), top, acceleration, 0.1, 0.018, TICK)
        moving = standing._replace(speed=rng.uniform(0.0, 1.2, arm.dof) * top)
        slow = blind_limit(arm.chain, fixed, q, moving, people, near)
        fast = blind_limit(arm.chain, fixed, q, standing, people, near)
        assert slow <= fast
        assert blind_limit(arm.chain, fixed, q, standing, people, near - 0.05) <= fast
        assert blind_limit(arm.chain, fixed, q, standing, people._replace(age=0.08), near) <= fast
        some += 0.0 < fast < 1.0
    assert some > 3000


@pytest.mark.requirement("SAF-02")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_commanded_speed_that_is_no_number_stops_jogging(bad: float) -> None:
    state = msgspec.structs.replace(state_on(motion(0), 0.0, 0.0), motion_id="", mode="manual")
    broken = msgspec.structs.replace(state, dq_commanded=[bad, *state.dq_commanded[1:]])
    assert monitor().cycle(10.0, observation(np.zeros((0, 4))), broken, None).limit == 0.0
    short = msgspec.structs.replace(state, dq_commanded=state.dq_commanded[:-1])
    assert monitor().cycle(10.0, observation(np.zeros((0, 4))), short, None).limit == 0.0
