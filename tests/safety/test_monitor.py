"""The monitor against a dense brute-force simulation of what the arm may do, and its refusals."""

from __future__ import annotations

import math
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.contract import CameraHealth, Observation
from robots.contract import PartGeometry, RobotState
from robots.model import RobotModel
from robots.motion import Motion
from robots.planning import plan_ptp
from robots.rates import DEFAULT_LIMITS, rate_step
from safety import search
from safety.blind import blind_limit
from safety.config import SafetyConfig
from safety.monitor import Monitor
from safety.separation import NEAR

CONFIG = SafetyConfig(title="test", Z_d=0.05, Z_r=0.03)
FIXED = CONFIG.intrusion + CONFIG.Z_d + CONFIG.Z_r


@cache
def model() -> RobotModel:
    return RobotModel.load("panda")


@cache
def monitor() -> Monitor:
    return Monitor(CONFIG, model(), DEFAULT_LIMITS)


@cache
def motion(seed: int) -> Motion:
    rng = np.random.default_rng(seed)
    m = model()
    middle, half = (m.q_lower + m.q_upper) / 2, (m.q_upper - m.q_lower) / 2
    a, b = (middle + rng.uniform(-0.8, 0.8, m.dof) * half for _ in range(2))
    return plan_ptp(m, a, b)


def state_on(m: Motion, progress: float, rate: float, slope: float = 0.0) -> RobotState:
    q, dq, _ = m.sample(progress)
    zero = [0.0] * len(q)
    return RobotState(
        seq=1, t=10.0, q=q.tolist(), dq=(dq * rate).tolist(), tau=zero, q_commanded=q.tolist(), dq_commanded=zero,
        motion_id=m.motion_id, progress=progress, duration=m.duration, rate=rate, rate_slope=slope, limit=1.0,
        limit_by="", limit_reason="", override=1.0, mode="automatic", fault="", fault_text="", standing=rate == 0.0,
        gripper_width=0.08, gripper_holding=False, held=None, inputs={}, outputs={}, emergency_stop=False,
        safeguard=False, tracking_error=0.0, late_leases=0, session="",
    )  # fmt: skip


def observation(balls: np.ndarray, age: float = 0.06, oldest: float = 0.08) -> Observation:
    data = np.ascontiguousarray(balls, "<f4").reshape(-1, 4)
    camera = CameraHealth("c", True, "", 10.0 - oldest, 1.0, 0)
    return Observation(
        1, 10.0 - age, 10.0 - oldest, data.tobytes(), len(data), True, "", [camera], [], True
    )  # fmt: skip


def needed(time: float) -> float:
    near = CONFIG.human.fast * time + FIXED
    return near if near <= NEAR else max(NEAR, CONFIG.human.slow * time + FIXED)


def separation(m: Motion, at: np.ndarray, balls: np.ndarray) -> float:
    """Smallest distance of moving links to the balls over positions (n,) of progress."""
    Q = np.array([m.sample(p)[0] for p in at])
    a, b, r = model().capsule_paths(Q)
    a, u = a[:, 1:, None], (b - a)[:, 1:, None]
    w = balls[None, None, :, :3] - a
    s = np.clip((w * u).sum(-1) / np.maximum((u * u).sum(-1), 1e-12), 0, 1)
    d = np.linalg.norm(w - s[..., None] * u, axis=-1) - r[1:][None, :, None] - balls[None, None, :, 3]
    return float(d.min())


def worst_run(m: Motion, progress: float, rate: float, slope: float, limit: float) -> tuple[float, np.ndarray]:
    """Let the arm use the limit up to the lease's end, then brake as the node does: stop time and places passed."""
    dt = CONFIG.reaction.tick
    horizon = -0.08 + CONFIG.reaction.lease_validity + CONFIG.reaction.after_expiry
    t, places = 0.0, [progress]
    while t < horizon - 1e-9:
        down = m.brake_slope(progress, progress)
        rate, slope = rate_step(rate, slope, limit, m.rise_slope(progress), down, DEFAULT_LIMITS.jerk, dt)
        progress = min(m.duration, progress + rate * dt)
        t += dt
        places.append(progress)
    while rate > 0.0 and t < 5.0:
        down = m.brake_slope(progress, progress)
        rate, slope = rate_step(rate, slope, 0.0, 1.0, down, DEFAULT_LIMITS.jerk, dt)
        progress = min(m.duration, progress + rate * dt)
        t += dt
        places.append(progress)
    return t, np.array(places)


def scene(seed: int, m: Motion, progress: float, n: int) -> np.ndarray:
    """Balls scattered round the arm at 0.1 to 1.8 m from a link of it."""
    rng = np.random.default_rng(seed)
    a, b, _ = model().capsules(m.sample(progress)[0])
    pick = rng.integers(1, len(a), n)
    base = a[pick] + rng.uniform(0, 1, (n, 1)) * (b - a)[pick]
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.hstack([base + direction * rng.uniform(0.3, 1.8, (n, 1)), rng.uniform(0, 0.1, (n, 1))])


@pytest.mark.requirement("SAF-01")
@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.integers(1, 20), st.floats(0, 1))
def test_no_granted_rate_lets_anyone_be_reached(
    path: int, where: float, rate: float, seed: int, n: int, part: float
) -> None:
    """SAF-01: whatever rate up to the limit is used until the lease ends, the arm stands before S_p is used up."""
    m = motion(path)
    progress = where * m.duration
    balls = scene(seed, m, progress, n)
    decision = monitor().cycle(10.0, observation(balls), state_on(m, progress, rate), m)
    if decision.limit == 0.0:
        return
    used = decision.limit * part
    for start in {min(rate, decision.limit), decision.limit}:
        time, places = worst_run(m, progress, start, 0.0, used if part < 0.5 else decision.limit)
        assert separation(m, places, balls) >= needed(0.06 + time) - 0.002


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.integers(1, 20))
def test_more_people_or_older_data_never_raise_the_limit(
    path: int, where: float, rate: float, seed: int, n: int
) -> None:
    m = motion(path)
    progress = where * m.duration
    balls, state = scene(seed, m, progress, n + 5), state_on(m, progress, rate)
    few = monitor().cycle(10.0, observation(balls[:n]), state, m).limit
    assert monitor().cycle(10.0, observation(balls), state, m).limit <= few
    assert monitor().cycle(10.0, observation(balls[:n], age=0.09), state, m).limit <= few
    # An older exposure with the same reference leaves less time to use the lease: it may only shorten the horizon.
    grown = balls[:n].copy()
    grown[:, 3] += 0.05
    assert monitor().cycle(10.0, observation(grown), state, m).limit <= few


def test_nobody_there_means_full_rate_and_someone_at_the_arm_means_none() -> None:
    m = motion(0)
    state = state_on(m, 0.3 * m.duration, 1.0)
    free = monitor().cycle(10.0, observation(np.zeros((0, 4))), state, m)
    assert free.limit == 1.0
    assert math.isinf(free.separation)
    tcp = model().fk(np.array(state.q))[:3, 3]
    touching = monitor().cycle(10.0, observation(np.array([[*tcp, 0.05]])), state, m)
    assert touching.limit == 0.0
    assert touching.separation < 0.0
    assert "person" in touching.reason


@pytest.mark.requirement("SAF-02")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_a_point_that_is_no_number_stops_the_arm(bad: float, column: int) -> None:
    """SAF-02: one bad number among good ones is enough."""
    m = motion(0)
    balls = np.full((50, 4), 5.0)
    balls[:, 3] = 0.05
    balls[31, column] = bad
    assert monitor().cycle(10.0, observation(balls), state_on(m, 0.1, 1.0), m).limit == 0.0


@pytest.mark.requirement("SAF-02")
@pytest.mark.parametrize("field", ["q", "dq", "t", "progress", "rate", "rate_slope"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_robot_state_that_is_no_number_stops_the_arm(field: str, bad: float) -> None:
    m = motion(0)
    state = state_on(m, 0.1, 0.5)
    value = [bad, *getattr(state, field)[1:]] if field in ("q", "dq") else bad
    broken = msgspec.structs.replace(state, **{field: value})
    assert monitor().cycle(10.0, observation(np.zeros((0, 4))), broken, m).limit == 0.0


@pytest.mark.requirement("SAF-03")
def test_old_data_stops_the_arm() -> None:
    m = motion(0)
    old = observation(np.zeros((0, 4)), age=0.3, oldest=0.3)
    assert monitor().cycle(10.0, old, state_on(m, 0.1, 1.0), m).limit == 0.0


@pytest.mark.requirement("SAF-04")
def test_an_arm_off_its_path_is_stopped() -> None:
    m = motion(0)
    state = state_on(m, 0.1, 1.0)
    moved = msgspec.structs.replace(state, q=[state.q[0] + 0.2, *state.q[1:]])
    assert monitor().cycle(10.0, observation(np.zeros((0, 4))), moved, m).limit == 0.0


@pytest.mark.requirement("SAF-04")
@pytest.mark.parametrize("progress", [-0.5, -1e300, 1e300, 99.0])
def test_a_progress_outside_the_motion_stops_the_arm(progress: float) -> None:
    m = motion(0)
    state = msgspec.structs.replace(state_on(m, 0.0, 0.0), progress=progress)
    assert monitor().cycle(10.0, observation(np.zeros((0, 4))), state, m).limit == 0.0


@pytest.mark.requirement("SAF-03")
@pytest.mark.parametrize(
    ("age", "oldest"), [(-0.2, 0.08), (0.06, -0.2), (0.06, -1e300), (math.nan, 0.08), (-math.inf, 0.08)]
)
def test_times_that_contradict_each_other_stop_the_arm(age: float, oldest: float) -> None:
    """An observation from the future would buy time that nobody has."""
    m = motion(0)
    seen = observation(np.zeros((0, 4)), age=age, oldest=oldest)
    assert monitor().cycle(10.0, seen, state_on(m, 0.1, 1.0), m).limit == 0.0


@pytest.mark.requirement("SAF-02")
@pytest.mark.parametrize("bad", [1e6, -1e6, 3e38])
def test_a_point_beyond_any_cell_stops_the_arm(bad: float) -> None:
    m = motion(0)
    balls = np.full((50, 4), 5.0)
    balls[:, 3] = 0.05
    balls[31, 1] = bad
    assert monitor().cycle(10.0, observation(balls), state_on(m, 0.1, 1.0), m).limit == 0.0
    assert monitor().cycle(10.0, observation(np.array([[5.0, 0, 0, -0.1]])), state_on(m, 0.1, 1.0), m).limit == 0.0


def test_a_part_held_is_swept_too_and_a_senseless_one_stops_the_arm() -> None:
    m = motion(0)
    state = state_on(m, 0.1, 0.5)
    T = model().fk(np.array(state.q))
    ball = observation(np.array([[*(T[:3, 3] + 1.2 * T[:3, 2]), 0.05]]))
    pose = (0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 1.0)
    long = msgspec.structs.replace(state, held=PartGeometry("bar", (0.05, 0.05, 0.8), pose))
    free, loaded = (monitor().cycle(10.0, ball, s, m) for s in (state, long))
    assert loaded.separation == pytest.approx(free.separation - 0.8, abs=0.15)
    assert loaded.limit < free.limit
    assert loaded.link == "held"
    for size, place in [((0.0, 0.1, 0.1), pose), ((math.nan, 0.1, 0.1), pose), ((0.1, 0.1, 0.1), pose[:6])]:
        senseless = msgspec.structs.replace(state, held=PartGeometry("bar", size, place))
        assert monitor().cycle(10.0, observation(np.zeros((0, 4))), senseless, m).limit == 0.0


def test_more_balls_than_there_is_room_for_are_taken_all_the_same() -> None:
    m = motion(0)
    state = state_on(m, 0.1, 1.0)
    tcp = model().fk(np.array(state.q))[:3, 3]
    balls = np.full((20_001, 4), 6.0)
    balls[:, 3] = 0.02
    small = Monitor(CONFIG, model(), DEFAULT_LIMITS)
    assert small.cycle(10.0, observation(balls), state, m).limit == 1.0
    balls[20_000, :3] = tcp
    assert small.cycle(10.0, observation(balls), state, m).limit == 0.0
    assert small.cycle(10.0, observation(balls[:5]), state, m).limit == 1.0


def test_warming_up_compiles_all_that_a_cycle_needs() -> None:
    used = Monitor(CONFIG, model(), DEFAULT_LIMITS)
    used.warm_up()
    kernels = [search.decide, search.stand, search.deviation, blind_limit]
    before = [len(k.signatures) for k in kernels]
    m = Motion.from_accepted(model(), motion(2).to_accepted())
    state = state_on(m, 0.2, 0.5)
    part = PartGeometry("cube", (0.04, 0.04, 0.04), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    for held in (None, part):
        one = msgspec.structs.replace(state, held=held)
        used.cycle(10.0, observation(np.full((3, 4), 1.0)), one, m)
        used.cycle(10.0, observation(np.zeros((0, 4))), one, m)
        used.cycle(10.0, observation(np.full((3, 4), 1.0)), msgspec.structs.replace(one, mode="manual"), None)
    assert [len(k.signatures) for k in kernels] == before


def test_terms_are_reported_and_add_up() -> None:
    m = motion(1)
    state = state_on(m, 0.4 * m.duration, 1.0)
    a, b, _ = model().capsules(np.array(state.q))
    ball = (a[-1] + b[-1]) / 2 + np.array([0.9, 0.0, 0.0])
    d = monitor().cycle(10.0, observation(np.array([[*ball, 0.02]])), state, m)
    t = d.terms
    assert pytest.approx(0.208) == t.C
    assert t.S_h > 0.2
    assert min(t.S_r, t.S_s) >= 0.0
    assert d.required == pytest.approx(t.S_h + t.S_r + t.S_s + t.C + t.Z_d + t.Z_r)
    assert d.link in model().capsule_names()


@pytest.mark.parametrize("name", ["panda", "iiwa14", "ur5e"])
def test_only_what_is_bolted_down_is_left_out(name: str) -> None:
    arm = RobotModel.load(name)
    left_out = Monitor(CONFIG, arm, DEFAULT_LIMITS)._fixed
    rng = np.random.default_rng(1)
    Q = rng.uniform(-1, 1, (20, arm.dof))
    a, b, _ = arm.capsule_paths(Q)
    still = (np.ptp(a, axis=0).max(1) < 1e-9) & (np.ptp(b, axis=0).max(1) < 1e-9)
    assert still[:left_out].all()
    assert left_out >= 1


@pytest.mark.requirement("SAF-02")
@pytest.mark.parametrize("cut", [1, 4, 15])
def test_a_torn_list_of_points_stops_the_arm(cut: int) -> None:
    m = motion(0)
    whole = observation(np.full((3, 4), 5.0))
    torn = msgspec.structs.replace(whole, balls=whole.balls[:-cut])
    assert monitor().cycle(10.0, torn, state_on(m, 0.1, 1.0), m).limit == 0.0
