"""The second channel: its own geometry and braking against the arm's, and its limits against what the arm can do."""

from __future__ import annotations

import math
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.contract import CameraHealth
from robots.contract import AcceptedMotion, PartGeometry, RobotState
from robots.description import load_description
from robots.jogging import JOINT_SHARE
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import DEFAULT_LIMITS
from safety.config import SafetyConfig
from safety.contract import SECOND
from safety.second import SecondMonitor
from safety.second_arm import ArmError, ArmGeometry, Course, part_hull
from safety.second_core import SecondCore
from tests.safety.test_monitor import (
    model,
    monitor,
    motion,
    needed,
    observation,
    scene,
    separation,
    state_on,
    worst_run,
)

CONFIG = SafetyConfig(title="test", Z_d=0.05, Z_r=0.03)
PART = PartGeometry("p", (0.06, 0.03, 0.04), (0.01, 0.0, 0.02, 0.0, 0.0, math.sin(0.3), math.cos(0.3)), 0.1)


@cache
def second() -> SecondMonitor:
    return SecondMonitor(CONFIG, model(), DEFAULT_LIMITS)


@cache
def course(seed: int) -> Course:
    return second().course(motion(seed).to_accepted())


# ---------------------------------------------------------------- arm


@pytest.mark.parametrize("name", ["panda", "iiwa14", "ur5e"])
def test_its_own_geometry_puts_every_moving_link_where_the_first_channel_has_it(name: str) -> None:
    arm = RobotModel.load(name)
    geometry = ArmGeometry(load_description(name), arm.tool_name)
    Q = np.random.default_rng(3).uniform(arm.q_lower, arm.q_upper, (40, arm.dof))
    a, b, r = geometry.capsules(Q)
    moving = np.asarray(arm.chain.owner) > 0
    first_a, first_b, first_r = arm.capsule_paths(Q)
    assert a == pytest.approx(first_a[:, moving], abs=1e-9)
    assert b == pytest.approx(first_b[:, moving], abs=1e-9)
    assert r == pytest.approx(first_r[moving])
    assert geometry.names == tuple(n for n, m in zip(arm.capsule_names(), moving, strict=True) if m)


@given(
    st.tuples(*[st.floats(0.005, 0.4)] * 3),
    st.tuples(*[st.floats(-0.2, 0.2)] * 3),
    st.integers(0, 10**6),
)
def test_the_held_part_is_wholly_inside_its_hull(size: tuple[float, ...], at: tuple[float, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, z, w = quaternion = rng.normal(size=4) / 1.0
    quaternion /= np.linalg.norm(quaternion)
    x, y, z, w = quaternion
    ends, radius = part_hull(PartGeometry("p", (size[0], size[1], size[2]), (*at, x, y, z, w)))
    R = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    u = ends[1] - ends[0]
    for corner in np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T:
        point = R @ (corner * np.array(size)) + np.array(at)
        share = np.clip((point - ends[0]) @ u / max(u @ u, 1e-12), 0, 1)
        assert np.linalg.norm(point - ends[0] - share * u) <= radius + 1e-9


def test_the_held_part_moves_with_the_tcp() -> None:
    geometry = ArmGeometry(load_description("panda"), model().tool_name)
    q = np.array(model().home)
    a, b, r = geometry.capsules(q[None], PART)
    ends, radius = part_hull(PART)
    T = model().fk(q)
    assert a[0, -1] == pytest.approx(T[:3, :3] @ ends[0] + T[:3, 3], abs=1e-9)
    assert b[0, -1] == pytest.approx(T[:3, :3] @ ends[1] + T[:3, 3], abs=1e-9)
    assert r[-1] == radius


@pytest.mark.parametrize("bad", [{"size": (0.0, 0.1, 0.1)}, {"size": (math.nan, 0.1, 0.1)}, {"T_tcp_part": (0.0,) * 7}])
def test_a_broken_part_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ArmError):
        part_hull(msgspec.structs.replace(PART, **bad))


@pytest.mark.parametrize("seed", range(12))
def test_it_counts_on_no_more_braking_than_the_node_has(seed: int) -> None:
    m, c = motion(seed), course(seed)
    ratios = []
    for begin in np.arange(0.0, m.duration, 0.013):
        for length in (0.0, 0.05, 0.3):
            least = m.brake_slope(begin, begin + length)
            assert c.braking(begin, begin + length) <= least + 1e-9
            ratios.append(c.braking(begin, begin + length) / least)
    assert np.median(ratios) > 0.6
    at = np.linspace(0, m.duration, 200)
    assert c.positions(at) == pytest.approx(np.array([m.sample(p)[0] for p in at]), abs=1e-6)


@pytest.mark.parametrize(
    "broken",
    [
        {"path": b""},
        {"path": b"\0" * 55},
        {"path": np.full((4, 7), np.nan).tobytes()},
        {"dof": 6},
        {"step": math.nan},
        {"step": 0.0},
        {"path": np.vstack([np.zeros((5, 7)), np.ones((5, 7))]).tobytes()},
    ],
)
def test_a_broken_motion_is_refused_and_permits_nothing(broken: dict[str, object]) -> None:
    accepted = msgspec.structs.replace(motion(0).to_accepted(), **broken)
    with pytest.raises(ArmError):
        second().course(accepted)
    core = SecondCore(CONFIG, second(), "f", 1)
    core.accept_motion(accepted)
    lease = core.step(10.0, observation(np.zeros((0, 4))), state_on(motion(0), 0.1, 0.5))
    assert lease is not None and lease.limit == 0.0


# ---------------------------------------------------------------- limits


@pytest.mark.requirement("SEC-01")
@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    st.integers(0, 11), st.floats(0, 1), st.floats(0, 1), st.floats(0, 3), st.integers(0, 10**6), st.integers(1, 3),
    st.floats(0, 1),
)  # fmt: skip
def test_no_rate_it_grants_lets_anyone_be_reached(
    path: int, where: float, rate: float, slope: float, seed: int, n: int, part: float
) -> None:
    m = motion(path)
    progress = where * m.duration
    balls = scene(seed, m, progress, n)
    found = second().judge(10.0, observation(balls), state_on(m, progress, rate, slope), course(path))
    if found.limit == 0.0:
        return
    used = found.limit * part if part < 0.5 else found.limit
    for start, rising in ((min(rate, found.limit), 0.0), (rate, 0.0), (rate, slope)):
        time, places = worst_run(m, progress, start, rising, used)
        assert separation(m, places, balls) >= needed(0.06 + time) - 0.002
        assert places.max() <= found.reach + 1e-9


def test_it_is_not_much_stricter_than_the_first() -> None:
    pairs = []
    rng = np.random.default_rng(11)
    for k in range(400):
        path = k % 12
        m = motion(path)
        progress = rng.uniform() * m.duration
        balls, state = scene(k, m, progress, 1), state_on(m, progress, rng.uniform())
        o = observation(balls)
        pairs.append((monitor().cycle(10.0, o, state, m).limit, second().judge(10.0, o, state, course(path)).limit))
    one, two = np.array(pairs).T
    between = (one > 0.02) & (one < 1.0)
    assert between.sum() > 30
    # The first counts each place's own braking and so comes within 1 % of brute force; the second is coarser.
    assert np.median(two[between] - one[between]) > -0.1
    assert (two > 0.0)[one > 0.1].mean() > 0.9
    assert (two[one == 1.0] == 1.0).mean() > 0.9


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.integers(1, 20))
def test_more_people_or_older_data_never_raise_it(path: int, where: float, rate: float, seed: int, n: int) -> None:
    m = motion(path)
    progress = where * m.duration
    balls, state = scene(seed, m, progress, n + 5), state_on(m, progress, rate)

    def limit(of: np.ndarray, **times: float) -> float:
        return second().judge(10.0, observation(of, **times), state, course(path)).limit

    few = limit(balls[:n])
    assert limit(balls) <= few
    assert limit(balls[:n], age=0.09) <= few
    grown = balls[:n].copy()
    grown[:, 3] += 0.05
    assert limit(grown) <= few


def test_nobody_there_means_full_rate_and_someone_at_the_arm_means_none() -> None:
    m = motion(0)
    state = state_on(m, 0.3 * m.duration, 1.0)
    assert second().judge(10.0, observation(np.zeros((0, 4))), state, course(0)).limit == 1.0
    far = np.random.default_rng(1).uniform(4, 6, (5000, 4)) * [1, 1, 1, 0.05]
    assert second().judge(10.0, observation(far), state, course(0)).limit == 1.0
    tcp = model().fk(np.array(state.q))[:3, 3]
    assert second().judge(10.0, observation(np.array([[*tcp, 0.05]])), state, course(0)).limit == 0.0


@pytest.mark.requirement("SEC-01")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_a_point_that_is_no_number_stops_the_arm(bad: float, column: int) -> None:
    balls = np.full((50, 4), 5.0)
    balls[31, column] = bad
    assert second().judge(10.0, observation(balls), state_on(motion(0), 0.1, 1.0), course(0)).limit == 0.0


@pytest.mark.parametrize("field", ["q", "dq", "t", "progress", "rate", "rate_slope"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_robot_state_that_is_no_number_stops_the_arm(field: str, bad: float) -> None:
    state = state_on(motion(0), 0.1, 0.5)
    value = [bad, *getattr(state, field)[1:]] if field in ("q", "dq") else bad
    broken = msgspec.structs.replace(state, **{field: value})
    assert second().judge(10.0, observation(np.zeros((0, 4))), broken, course(0)).limit == 0.0


@pytest.mark.parametrize("change", ["torn", "old", "off", "fast", "negative", "part"])
def test_what_does_not_fit_stops_the_arm(change: str) -> None:
    m = motion(0)
    state, o = state_on(m, 0.3 * m.duration, 1.0), observation(np.full((3, 4), 5.0))
    if change == "torn":
        o = msgspec.structs.replace(o, balls=o.balls[:-1])
    elif change == "old":
        o = observation(np.zeros((0, 4)), age=0.3, oldest=0.3)
    elif change == "off":
        state = msgspec.structs.replace(state, q=[state.q[0] + 0.2, *state.q[1:]])
    elif change == "fast":
        state = msgspec.structs.replace(state, dq=[2 * v for v in state.dq])
    elif change == "negative":
        o = observation(np.array([[5.0, 5.0, 5.0, -0.1]]))
    elif change == "part":
        state = msgspec.structs.replace(state, held=msgspec.structs.replace(PART, size=(math.nan, 1.0, 1.0)))
        o = observation(np.array([[0.5, 0.0, 0.5, 0.1]]))
    assert second().judge(10.0, o, state, course(0)).limit == 0.0


def jogging(q: np.ndarray, dq: np.ndarray) -> RobotState:
    state = state_on(motion(0), 0.0, 0.0)
    return msgspec.structs.replace(
        state, q=q.tolist(), dq=dq.tolist(), dq_commanded=dq.tolist(), motion_id="", mode="manual"
    )


def test_jogging_is_limited_by_the_nearest_person_alone() -> None:
    q = motion(0).sample(0.0)[0]
    state = jogging(q, np.zeros(7))
    tcp = model().fk(q)[:3, 3]
    away = (tcp - [0, 0, 0.4]) / np.linalg.norm(tcp - [0, 0, 0.4])
    limits = []
    for d in (0.3, 1.0, 1.4, 1.8, 4.0):
        balls = np.array([[*(tcp + d * away), 0.0]])
        limits.append(second().judge(10.0, observation(balls), state, None).limit)
    assert limits == sorted(limits)
    assert limits[0] == 0.0 and limits[-1] == 1.0 and 0.0 < limits[2] < 1.0
    automatic = msgspec.structs.replace(state, mode="automatic")
    assert second().judge(10.0, observation(np.zeros((0, 4))), automatic, None).limit == 0.0


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_no_jog_gets_farther_than_is_reckoned_with(seed: int, limit: float) -> None:
    """Any jog within the limit, from any speed up to full jog speed, until the lease ends, and then braking."""
    m, rng = model(), np.random.default_rng(seed)
    middle, half = (m.q_lower + m.q_upper) / 2, (m.q_upper - m.q_lower) / 2
    q = middle + rng.uniform(-0.8, 0.8, 7) * half
    top, change = JOINT_SHARE * np.array(m.v_max), JOINT_SHARE * np.array(m.a_max)
    dq = top * rng.uniform(-1, 1, 7)
    state, horizon = jogging(q, dq), 0.1
    here = second()._links(q, None)
    bound_time, bound_way = second()._jogged(limit, state, here, horizon, 0.006)
    wish, dt, t = limit * top * rng.choice([-1, 1], 7), 0.004, 0.0
    start, way, at, speed = np.concatenate(here[:2]), 0.0, q.copy(), dq.copy()
    while t < horizon or np.abs(speed).max() > 0.0:
        target = wish if t < horizon else np.zeros(7)
        worst = np.abs(target - speed).max() and float((np.abs(target - speed) / (change * dt)).max())
        speed = target if worst <= 1.0 else speed + (target - speed) / worst
        at, t = at + speed * dt, t + dt
        a, b, _ = second()._links(at, None)
        way = max(way, float(np.linalg.norm(np.concatenate([a, b]) - start, axis=1).max()))
    assert way <= bound_way
    assert t <= bound_time + 1e-9


def test_at_the_start_of_a_motion_the_rate_may_jump() -> None:
    """The node lets it, so nothing is gained there by the slope of the rate."""
    m = motion(0)
    state, o = state_on(m, 0.0, 0.0), observation(np.zeros((0, 4)))
    found = second().judge(10.0, o, state, course(0))
    time, places = worst_run(m, 0.0, 1.0, 0.0, 1.0)
    assert time > 0.0 and found.reach >= places.max()


# ---------------------------------------------------------------- leases


class Bench:
    """A core with a motion, an arm that stands on it, and a clock."""

    def __init__(self, rate: float = 0.0) -> None:
        self.core = SecondCore(CONFIG, second(), "print", 3)
        self.motion = motion(1)
        self.core.accept_motion(self.motion.to_accepted())
        self.now, self.rate, self.seq = 10.0, rate, 0

    def step(self, balls: np.ndarray, dt: float = 1 / 30, new: bool = True, **changes: object):  # type: ignore[no-untyped-def]
        self.now += dt
        self.seq += 1
        o = observation(balls)
        o = msgspec.structs.replace(
            o, t=self.now - 0.06, oldest_exposure=self.now - 0.08, **{k: v for k, v in changes.items() if k != "state"}
        )
        state = state_on(self.motion, 0.3 * self.motion.duration, self.rate)
        state = msgspec.structs.replace(state, t=self.now, seq=self.seq)
        return self.core.step(self.now, o if new else None, state)


NOBODY = np.zeros((0, 4))


def test_a_lease_says_what_it_is_for() -> None:
    bench = Bench(0.5)
    lease = bench.step(NOBODY)
    assert (lease.issuer, lease.boot, lease.seq, lease.limit, lease.fingerprint) == (SECOND, 3, 1, 1.0, "print")
    assert lease.motion_id == bench.motion.motion_id
    assert lease.expires_at == pytest.approx(bench.now - 0.08 + CONFIG.reaction.lease_validity)
    assert lease.progress_from < 0.3 * bench.motion.duration < lease.progress_to
    assert bench.step(NOBODY).seq == 2


def test_it_calculates_at_the_cameras_rate_and_at_once_for_another_motion() -> None:
    bench = Bench()
    count = sum(bench.step(NOBODY, 0.004, new=k % 8 == 0) is not None for k in range(250))
    assert 28 <= count <= 34
    assert bench.step(NOBODY, 0.001, new=False) is None
    bench.motion = motion(2)
    lease = bench.step(NOBODY, 0.001, new=False)
    assert lease.limit == 0.0 and lease.motion_id == motion(2).motion_id  # it has not been told this motion yet
    bench.core.accept_motion(motion(2).to_accepted())
    assert bench.step(NOBODY).limit == 1.0


def test_after_a_stop_the_way_must_have_been_clear() -> None:
    bench = Bench()
    state = state_on(bench.motion, 0.3 * bench.motion.duration, 0.0)
    near = np.array([[*model().fk(np.array(state.q))[:3, 3], 0.1]])
    assert bench.step(near).limit == 0.0
    limits = [bench.step(NOBODY).limit for _ in range(40)]
    first = next(k for k, limit in enumerate(limits) if limit > 0.0)
    assert 0.99 <= first / 30 <= 1.1
    assert bench.step(near).limit == 0.0
    bench.step(NOBODY)
    bench.step(near)
    assert all(bench.step(NOBODY).limit == 0.0 for _ in range(25))


@pytest.mark.requirement("SEC-01")
@pytest.mark.parametrize(
    ("change", "restartable"),
    [
        ({"oldest_exposure": -1.0}, False),
        ({"oldest_exposure": math.nan}, False),
        ({"oldest_exposure": 1e9}, False),
        ({"healthy": False, "reason": "camera moved", "cameras": [CameraHealth("c", False, "moved", 1, 1, 0)]}, False),
        ({"healthy": False, "reason": "late", "cameras": [CameraHealth("c", False, "late", 1, 1, 0)]}, True),
    ],
)
def test_missing_and_broken_data_stop_the_arm(change: dict[str, object], restartable: bool) -> None:
    bench = Bench(0.5)
    bench.step(NOBODY)
    bench.now += 1 / 30
    o = msgspec.structs.replace(observation(NOBODY), t=bench.now - 0.06, oldest_exposure=bench.now - 0.08)
    state = msgspec.structs.replace(state_on(bench.motion, 0.3 * bench.motion.duration, 0.5), t=bench.now, seq=9)
    lease = bench.core.step(bench.now, msgspec.structs.replace(o, **change), state)
    assert lease is not None
    assert (lease.limit, lease.restartable) == (0.0, restartable)


def test_silence_of_the_cameras_or_the_arm_stops_the_arm() -> None:
    bench = Bench(0.5)
    assert bench.step(NOBODY).limit == 1.0
    lease = bench.step(NOBODY, 0.2, new=False)
    assert (lease.limit, lease.restartable) == (0.0, True)
    lease = bench.step(NOBODY, 0.5, new=False)
    assert (lease.limit, lease.restartable) == (0.0, False)
    other = Bench(0.5)
    other.step(NOBODY)
    o = msgspec.structs.replace(observation(NOBODY), t=other.now + 0.1, oldest_exposure=other.now + 0.08)
    lease = other.core.step(other.now + 0.15, o, None)
    assert lease is not None and lease.limit == 0.0 and "not fresh" in lease.reason


def test_accepted_motions_are_prepared_once() -> None:
    core = SecondCore(CONFIG, second(), "f", 1)
    core.accept_motion(motion(1).to_accepted())
    prepared = core._course
    core.accept_motion(motion(1).to_accepted())
    assert prepared is not None and core._course is prepared
    core.accept_motion(AcceptedMotion("", 0.01, 7, b""))
    assert core._course is None


def test_every_motion_the_node_accepts_can_be_prepared() -> None:
    for seed in range(12):
        assert isinstance(motion(seed), Motion)
        assert course(seed).duration == pytest.approx(motion(seed).duration)
