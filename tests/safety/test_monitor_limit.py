"""The monitor's limit against brute force, and what may never raise it: at least 20,000 random cases each."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from robots.contract import RobotState
from robots.rates import DEFAULT_LIMITS, RateLimits, rate_step
from safety.braking import Brakes, Course, above, coming_down, falls_ahead, held, new_cells, stop
from safety.kernels import dip, to_axis
from safety.monitor import Monitor
from tests.safety.brute import GRID, Situation, allowed
from tests.safety.ramps import Start, ramps
from tests.safety.test_monitor import CONFIG, model, monitor, motion, observation, state_on

F64 = NDArray[np.float64]
SITUATIONS = 200
SCENES = 100
BALLS = 4


class Case(NamedTuple):
    """One situation of the arm with many scenes round it."""

    situation: Situation
    state: RobotState
    balls: F64
    """(SCENES, BALLS, 4)."""
    constant: bool
    """The fall the path permits never gets better in the stretch ahead."""


@cache
def case(seed: int) -> Case:
    """A random path, place, rate and age; balls mostly where they matter."""
    rng = np.random.default_rng(seed)
    m = motion(int(rng.integers(0, 12)))
    progress = float(rng.choice([0.0, rng.uniform()], p=[0.05, 0.95])) * m.duration
    rate = float(rng.choice([0.0, 1.0, rng.uniform()]))
    slope = float(rng.choice([0.0, rng.uniform(-8.0, 3.0)])) if 0.0 < rate < 1.0 else 0.0
    age = float(rng.uniform(0.02, 0.09))
    lag = min(progress, float(rng.choice([0.0, 0.016 * rate])))
    situation = Situation(m, progress, rate, slope, lag, age, age + float(rng.uniform(0.0, 0.01)))
    q = m.sample(progress - lag)[0]
    a, b, _ = model().capsules(q)
    pick = rng.integers(monitor()._fixed, len(a), (SCENES, BALLS))
    on_axis = a[pick] + rng.uniform(0.0, 1.0, (SCENES, BALLS, 1)) * (b - a)[pick]
    way = rng.normal(size=(SCENES, BALLS, 3))
    way *= (rng.uniform(0.45, 1.1, (SCENES, 1, 1)) + rng.uniform(0.0, 0.5, (SCENES, BALLS, 1))) / np.linalg.norm(
        way, axis=2, keepdims=True
    )
    balls = np.concatenate([on_axis + way, rng.uniform(0.0, 0.1, (SCENES, BALLS, 1))], axis=2)
    state = msgspec.structs.replace(state_on(m, progress, rate, slope), q=q.tolist())
    ahead = np.minimum(DEFAULT_LIMITS.slope_down, m.slope_limits)
    ahead = ahead[int(progress / m.step) : int((progress + 0.5) / m.step) + 2]
    return Case(situation, state, balls.astype(np.float32).astype(np.float64), bool((np.diff(ahead) <= 1e-9).all()))


def limits_of(c: Case, age: float = 0.0, grown: float = 0.0, by: Monitor | None = None, count: int = BALLS) -> F64:
    """The monitor's limits (SCENES,) with older data, larger balls, another monitor, fewer balls."""
    s, used = c.situation, by or monitor()
    found = []
    for balls in c.balls:
        taken = balls[:count].copy()
        taken[:, 3] += grown
        seen = observation(taken, age=s.age + age, oldest=s.oldest)
        found.append(used.cycle(10.0, seen, c.state, s.motion).limit)
    return np.array(found)


@pytest.mark.requirement("SAF-01")
def test_never_more_and_hardly_less_than_brute_force_allows() -> None:
    """SAF-01: 20,000 cases; every rate up to the granted limit is admissible, not only the limit itself."""
    granted, allowing, exact = [], [], []
    for seed in range(SITUATIONS):
        c = case(seed)
        found = limits_of(c)
        most, margin = allowed(CONFIG, model(), DEFAULT_LIMITS, c.situation, c.balls, monitor()._fixed)
        for scene, limit in enumerate(found):
            upto = math.floor(limit * GRID)
            if (margin[scene, :upto] < 0.0).any():
                alone = c.balls[scene : scene + 1]
                _, finer = allowed(CONFIG, model(), DEFAULT_LIMITS, c.situation, alone, monitor()._fixed, 5e-5)
                assert finer[0, :upto].min() >= -2e-5, (seed, scene, limit)
        granted.append(found)
        allowing.append(most)
        exact.append(np.full(SCENES, c.constant))
    limit, most, constant = (np.concatenate(x) for x in (granted, allowing, exact))
    assert len(limit) >= 20_000
    near = (limit >= 0.99 * most) | (limit >= most - 0.01)
    between = (most > 0.0) & (most < 1.0)
    print(
        f"\n{len(limit)} cases, {between.mean():.0%} of them between 0 and 1; within 1 % or 0.01: {near.mean():.2%}, "
        f"of those between {near[between].mean():.2%}, where braking gets no better ahead {near[constant].mean():.2%}; "
        f"mean of what is lost {np.maximum(most - limit, 0.0).mean():.4f}"
    )
    assert between.sum() > 4000
    assert near[constant].mean() >= 0.995
    assert near.mean() >= 0.99
    assert np.median((most - limit)[between]) < 1.0 / GRID
    assert np.maximum(most - limit, 0.0).mean() < 0.001


def test_more_people_older_data_and_slower_brakes_never_raise_the_limit() -> None:
    """10,000 cases of each."""
    slow = [
        Monitor(CONFIG, model(), RateLimits(3.0, 5.0, 160.0)),
        Monitor(CONFIG, model(), RateLimits(3.0, 8.0, 100.0)),
    ]
    changed = 0
    for seed in range(0, SITUATIONS, 2):
        c = case(seed)
        found = limits_of(c)
        for other in (
            limits_of(c, age=0.02),
            limits_of(c, grown=0.03),
            *(limits_of(c, by=one) for one in slow),
        ):
            assert (other <= found).all(), seed
            changed += int((other < found).sum())
        assert (limits_of(c, count=BALLS - 2) >= found).all(), seed
    assert changed > 5_000


def test_time_and_sweep_grow_with_the_limit() -> None:
    """8,000 situations, 12 limits each: a stop from a lower limit is covered by one from the next higher limit.

    That is the reason why every lower rate is admissible too.
    """
    rng = np.random.default_rng(5)
    memory = np.empty(400)
    for _ in range(8_000):
        knots = rng.uniform(0.5, 12.0, 12)
        fall = np.interp(np.linspace(0.0, 1.0, 300), np.linspace(0.0, 1.0, 12), knots)
        brakes = Brakes(
            rng.uniform(0.5, 6.0), rng.uniform(2.0, 12.0), rng.uniform(60.0, 400.0), rng.choice([0.001, 0.004]), 0.016
        )
        rate = rng.choice([0.0, 1.0, rng.uniform()])
        course = Course(
            rng.uniform(0.0, 2.4), rate, rng.uniform(-brakes.down, brakes.up), rng.uniform(0.005, 0.15), 0.02
        )
        falls = falls_ahead(fall, 0.008, course.progress, 1.2, brakes.down, memory)
        limits, cells = np.sort(rng.uniform(0.0, 1.0, 12)), new_cells()
        kept = np.array([held(course, float(x), falls, brakes, cells) for x in limits])
        down = np.array([coming_down(course, float(x), falls, brakes) for x in limits])
        assert (np.diff(kept, axis=0) >= -1e-9).all(), (course, brakes, limits, kept)
        covered = (down[:-1] <= down[1:] + 1e-9).all(axis=1) | (down[:-1] <= kept[1:] + 1e-9).all(axis=1)
        assert covered.all(), (course, brakes, limits, kept, down)


@pytest.mark.requirement("SAF-01")
def test_no_ramp_under_a_limit_takes_longer_or_goes_farther_than_it_entails() -> None:
    """SAF-01: 20,000 rough paths, bounds and states, 12 ramps each: every moving tick is within one of both courses."""
    rng = np.random.default_rng(17)
    memory = np.empty(400)
    longer, tight, rough = 0, 0, 0
    for n in range(20_000):
        knots = rng.uniform(0.5, 12.0, int(rng.integers(4, 60)))
        fall = np.interp(np.linspace(0.0, 1.0, 300), np.linspace(0.0, 1.0, len(knots)), knots)
        tick = float(rng.choice([0.002, 0.004]))
        brakes = Brakes(rng.uniform(0.5, 6.0), rng.uniform(2.0, 12.0), rng.uniform(60.0, 400.0), tick, 0.016)
        rate = float(rng.choice([0.0, 1.0, rng.uniform()]))
        course = Course(
            float(rng.choice([0.0, rng.uniform(0.01, 1.6)], p=[0.1, 0.9])), rate,
            rng.uniform(-brakes.down, brakes.up) if 0.0 < rate < 1.0 else 0.0, rng.uniform(0.005, 0.15), 0.014, 1.0,
        )  # fmt: skip
        falls = falls_ahead(fall, 0.008, course.progress, 1.2, brakes.down, memory)
        limit = float(rng.uniform())
        T, S = held(course, limit, falls, brakes, new_cells())
        late, far = coming_down(course, limit, falls, brakes)
        start = Start(*course[:5], brakes.up, brakes.down, brakes.jerk, tick, brakes.delay)
        where, when, count = ramps(start, np.array([limit]), 12, fall, 0.008, n)
        place, time = where[0, : count[0]], when[0, : count[0]]
        first = (time <= T + 1e-9) & (place <= S + 1e-9)
        second = (time <= late + 1e-9) & (place <= far + 1e-9)
        if not above(course, limit, brakes) and course.progress + S <= falls.plain:
            second[:] = False
        assert (first | second).all(), (n, course, brakes, limit)
        longer += int((~first).any())
        tight += int(len(time) > 0 and max(T, late) - time.max() < 0.05)
        rough += int(course.progress + S > falls.plain)
    assert longer > 1000
    assert tight > 5000, "a bound that is far off is never wrong"
    assert rough > 5000


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, 0.0])
def test_a_fall_that_is_no_number_brakes_nobody(bad: float) -> None:
    """Only an infinite fall counts: it is capped by the largest the node permits."""
    fall = np.full(300, 6.0)
    fall[40] = bad
    brakes, course = Brakes(3.0, 8.0, 160.0, 0.004, 0.016), Course(0.2, 1.0, 0.0, 0.06, 0.014)
    falls = falls_ahead(fall, 0.008, course.progress, 1.2, brakes.down, np.empty(400))
    good = falls_ahead(np.full(300, 6.0), 0.008, course.progress, 1.2, brakes.down, np.empty(400))
    for found, usual in (
        (held(course, 1.0, falls, brakes, new_cells()), held(course, 1.0, good, brakes, new_cells())),
        (coming_down(course, 1.0, falls, brakes), coming_down(course, 1.0, good, brakes)),
    ):
        if bad == math.inf:
            assert 0.0 < found[0] <= usual[0]
        else:
            assert math.isinf(found[0])
            assert math.isinf(found[1])


def test_nothing_between_two_distances_is_less_than_their_dip() -> None:
    """20,000 points and axes that move in a straight line, sampled at 41 places; senseless numbers promise nothing."""
    rng = np.random.default_rng(3)
    tight = 0
    share = np.linspace(0.0, 1.0, 41)[:, None]
    for _ in range(20_000):
        e, move = rng.normal(0.0, 0.4, 6), rng.normal(size=6) * 10.0 ** rng.uniform(-4.0, -0.3)
        x, y, z = rng.normal(0.0, 0.4, 3)
        way = max(float(np.linalg.norm(move[:3])), float(np.linalg.norm(move[3:])))
        d = np.array([to_axis(x, y, z, at) for at in e + share * move])
        bound = dip(float(d[0]), float(d[-1]), way)
        assert bound <= d.min() + 1e-12
        tight += int(d.min() - bound < 1e-4 < way)
    assert tight > 5000
    for bad in (math.nan, -math.inf):
        assert not dip(bad, 1.0, 0.01) >= 0.5
        assert not dip(1.0, bad, 0.01) >= 0.5
    for bad in (math.nan, math.inf):
        assert not dip(1.0, 1.0, bad) >= 0.5


def test_a_receding_link_is_not_exempt_within_the_minimum_distance() -> None:
    """A ball behind a link that moves straight away from it stops the arm all the same."""
    m = motion(3)
    progress = 0.5 * m.duration
    q = m.sample(progress)[0]
    a, b, _ = model().capsules(q)
    later, _, _ = model().capsules(m.sample(progress + 0.01)[0])
    tip = (a[-1] + b[-1]) / 2
    away = (later[-1] - a[-1]) / np.linalg.norm(later[-1] - a[-1])
    state = state_on(m, progress, 0.5)
    need = 1.6 * (0.06 + 0.1) + CONFIG.intrusion + CONFIG.Z_d + CONFIG.Z_r
    behind = np.array([[*(tip - away * 0.8 * need), 0.0]])
    assert monitor().cycle(10.0, observation(behind), state, m).limit == 0.0


def test_braking_in_one_go_is_braking_tick_by_tick() -> None:
    """8,000 stops at a constant fall."""
    rng = np.random.default_rng(8)
    for _ in range(8_000):
        brakes = Brakes(3.0, rng.uniform(0.4, 12.0), rng.uniform(60.0, 400.0), rng.choice([0.001, 0.002, 0.004]), 0.0)
        falls = falls_ahead(np.full(2, 1e3), 1.0, 0.0, 1.2, brakes.down, np.empty(5))
        rate, slope = rng.uniform(), rng.choice([0.0, -brakes.down, rng.uniform(-brakes.down, 3.0)])
        time, end = stop(0.0, rate, slope, falls, brakes)
        plain, swept = 0.0, 0.0
        while rate > 0.0:
            before = rate
            rate, slope = rate_step(rate, slope, 0.0, 1e9, brakes.down, brakes.jerk, brakes.tick)
            swept += 0.5 * (before + rate) * brakes.tick
            plain += brakes.tick
        assert time == pytest.approx(plain, abs=1e-9)
        assert end == pytest.approx(swept, abs=1e-9)
