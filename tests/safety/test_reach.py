"""The method `reach` against arms and people that are played through densely, and what may never raise its limit."""

from __future__ import annotations

import math
from functools import cache

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from cell.compiled import njit
from robots.rates import DEFAULT_LIMITS, RateLimits
from safety.braking import CELLS, Brakes, Course, falls_ahead
from safety.kernels import cloud_in, sweep_in, to_axis
from safety.monitor import Monitor
from safety.permits import Permits
from safety.reach import Reach, bodies_of
from safety.reach_bodies import body_clear, crowd_of
from safety.reach_kernels import (
    BEFORE,
    BODY,
    HARDEST,
    INTERVALS,
    Stages,
    apart,
    ask,
    fill_stages,
    new_work,
)
from safety.search import FALLS, RESOLUTION, People, Problem, entail
from safety.stations import LEAD, SPACING, STATIONS, WINDOW, Path, fill
from tests.safety.ramps import Start, ramps
from tests.safety.test_monitor import CONFIG, FIXED, model, monitor, motion, observation, state_on
from tests.safety.test_monitor import scene as around
from tests.safety.test_monitor_limit import SCENES, SITUATIONS, case, limits_of
from tests.safety.test_zoning import EVERYWHERE, MIXED, box, config

F64 = NDArray[np.float64]
CREEP = config(box("creep", [-3, -3, -2], [3, 3, 3], "reduced_speed", speed=0.15))
LIMITS = np.arange(1, 65) / 64
EACH = 12
PITCH = 0.002
"""Nominal time between the places at which gaps are measured, s; between them they are interpolated."""
BLUR = 1e-4
"""What interpolation may get wrong, m: gaps are curved by v^2 / gap."""


@cache
def reach() -> Reach:
    return Reach(CONFIG, model(), DEFAULT_LIMITS)


def start_of(seed: int) -> Start:
    s, c = case(seed).situation, CONFIG.reaction
    horizon = c.lease_validity + c.after_expiry - s.oldest
    obeyed = c.monitor_period + c.bus + c.tick
    up, down, jerk = DEFAULT_LIMITS
    return Start(s.progress, s.rate, s.slope, horizon, obeyed, up, down, jerk, c.tick, c.drive_delay)


def needs(time: F64) -> F64:
    """What people need, with C + Z_d + Z_r."""
    hand = CONFIG.human.fast * time + FIXED
    return np.where(hand <= 0.5, hand, np.maximum(0.5, CONFIG.human.slow * time + FIXED))


def axes(seed: int, at: F64) -> tuple[F64, F64, F64]:
    """Ends (places, links, 3) and radii of the links that can move, where the arm is at places ahead of now."""
    s = case(seed).situation
    fixed = monitor()._fixed
    a, b, r = model().capsule_paths(np.array([s.motion.sample(p)[0] for p in s.progress + at]))
    return a[:, fixed:], b[:, fixed:], r[fixed:]


def gaps_to(balls: F64, a: F64, b: F64, r: F64) -> F64:
    """Smallest gap (scenes, places) of any link to balls (scenes, n, 4)."""
    out = np.full((len(balls), len(a)), np.inf)
    for link in range(len(r)):
        start, along = a[:, link], b[:, link] - a[:, link]
        length2 = np.maximum((along * along).sum(1), 1e-12)
        for n in range(balls.shape[1]):
            w = balls[:, n, None, :3] - start[None]
            share = np.clip((w * along).sum(2) / length2, 0.0, 1.0)
            d = np.sqrt(((w - share[..., None] * along) ** 2).sum(2)) - r[link] - balls[:, n, None, 3]
            np.minimum(out, d, out=out)
    return out


@pytest.mark.requirement("SAF-15")
def test_no_granted_rate_lets_a_moving_arm_touch_anybody() -> None:
    """SAF-15: 20,000 cases; for every ramp within a granted limit, at every tick in which the arm moves, nobody who
    moves at v_h in any direction is nearer than C + Z_d + Z_r."""
    granted, tight = [], 0
    for seed in range(SITUATIONS):
        c = case(seed)
        found = limits_of(c, by=reach())
        s, start = c.situation, start_of(seed)
        where, when, count = ramps(start, LIMITS, EACH, s.motion.slope_limits, s.motion.step, seed)
        # where the drives go until the command of now has reached them
        late = np.linspace(0.0, 1.0, 9) if s.rate > 0.0 else np.empty(0)
        at = np.arange(-s.lag, float(where.max()) + 2 * PITCH, PITCH)
        gap = gaps_to(c.balls, *axes(seed, at))
        for g, limit in enumerate(LIMITS):
            here = gap[(found >= limit) & (found < limit + LIMITS[0])]
            if not len(here):
                continue
            place = (np.append(where[g, : count[g]], s.lag * (late - 1.0)) + s.lag) / PITCH
            time = np.append(when[g, : count[g]], late * start.delay)
            k = np.minimum(place.astype(int), here.shape[1] - 2)
            left = here[:, k] * (1.0 - place + k) + here[:, k + 1] * (place - k) - needs(s.age + time)
            assert left.min() >= -BLUR, (seed, limit)
            tight += int((left.min(axis=1) < 0.02).sum())
        granted.append(found)
    limit = np.concatenate(granted)
    assert len(limit) >= 20_000
    assert ((limit > 0.0) & (limit < 1.0)).sum() > 4000
    assert tight > 500, "hardly a case would notice an error of 2 cm"


@pytest.mark.requirement("SAF-15")
def test_no_moving_arm_is_behind_its_stage_or_too_far() -> None:
    """8,000 paths, bounds and states with 12 ramps each: emergency stops and finer ticks of the node included."""
    rng = np.random.default_rng(21)
    memory = np.empty(400)
    stages = Stages(np.empty(INTERVALS, np.int64), *(np.empty(INTERVALS) for _ in range(3)))
    useful = 0
    for n in range(8_000):
        knots = rng.uniform(0.5, 12.0, 12)
        fall = np.interp(np.linspace(0.0, 1.0, 300), np.linspace(0.0, 1.0, 12), knots)
        tick = float(rng.choice([0.002, 0.004]))
        brakes = Brakes(rng.uniform(0.5, 6.0), rng.uniform(2.0, 12.0), rng.uniform(60.0, 400.0), tick, 0.016)
        rate = float(rng.choice([0.0, 1.0, rng.uniform()]))
        course = Course(
            float(rng.choice([0.0, rng.uniform(0.01, 1.6)], p=[0.1, 0.9])), rate,
            rng.uniform(-brakes.down, brakes.up) if 0.0 < rate < 1.0 else 0.0, rng.uniform(0.005, 0.15), 0.014, 1.0,
        )  # fmt: skip
        falls = falls_ahead(fall, 0.008, course.progress, WINDOW, brakes.down, memory)
        fill_stages(course, falls, brakes, stages)
        finer = tick / float(rng.choice([1, 2]))
        start = Start(*course[:5], brakes.up, brakes.down, brakes.jerk, finer, brakes.delay)
        limit = np.array([rng.uniform()])
        where, when, count = ramps(start, limit, EACH, fall, 0.008, n)
        place, time = where[0, : count[0]], when[0, : count[0]]
        k = np.minimum(np.searchsorted(stages.since, time - 1e-9, side="left") - 1, INTERVALS - 1)
        least = np.where(stages.first[k] >= LEAD, (stages.first[k] - LEAD) * SPACING, -np.inf)
        assert (place >= least - 1e-9).all(), (n, course, brakes)
        assert (place <= stages.farthest[k] + 1e-9).all(), (n, course, brakes)
        assert (np.diff(stages.first) >= 0).all()
        assert (stages.until[:-1] >= stages.since[:-1]).all()
        assert stages.since[1:] == pytest.approx(stages.until[:-1])
        useful += int(stages.first[-1] > LEAD)
    assert useful > 5000, "a bound that never says anything is never wrong"
    assert BEFORE < INTERVALS <= 20


@pytest.mark.requirement("SAF-15")
def test_never_less_than_the_exact_monitor_and_more_where_the_arm_moves_away() -> None:
    more = 0
    for seed in range(0, SITUATIONS, 2):
        c = case(seed)
        wide, exact = limits_of(c, by=reach()), limits_of(c)
        assert (wide >= exact).all(), seed
        more += int((wide > exact + 0.02).sum())
    assert more > 100


@pytest.mark.requirement("SAF-15")
def test_more_people_older_data_and_slower_brakes_never_raise_the_limit() -> None:
    """10,000 cases of each."""
    slow = [Reach(CONFIG, model(), RateLimits(3.0, 5.0, 160.0)), Reach(CONFIG, model(), RateLimits(3.0, 8.0, 100.0))]
    changed = 0
    for seed in range(0, SITUATIONS, 2):
        c = case(seed)
        found = limits_of(c, by=reach())
        others = [limits_of(c, age=0.02, by=reach()), limits_of(c, grown=0.03, by=reach())]
        for other in (*others, *(limits_of(c, by=one) for one in slow)):
            assert (other <= found).all(), seed
            changed += int((other < found).sum())
        assert (limits_of(c, count=2, by=reach()) >= found).all(), seed
    assert changed > 5_000


@njit(cache=True)
def _ladder(links: int, course: Course, path: Path, brakes: Brakes, people: People, bodies: F64, limits: F64,
            singles: NDArray[np.float32], doubles: F64, out: NDArray[np.bool_]) -> None:  # fmt: skip
    """Fill out (bodies, links, limits): whether each limit alone is clear of each pair."""
    cloud, sweep = cloud_in(singles, links), sweep_in(doubles, STATIONS, links)
    falls = falls_ahead(path.fall, path.step, course.progress, WINDOW, brakes.down, doubles[-FALLS:])
    permits = Permits(np.empty(0, np.int8), np.empty((0, 0, 0)), np.empty(0))
    problem = Problem(cloud, sweep, course, falls, brakes, people, permits, np.full((CELLS, 4), np.nan))
    stages = Stages(np.empty(INTERVALS, np.int64), np.empty(INTERVALS), np.empty(INTERVALS), np.empty(INTERVALS))
    fill_stages(course, falls, brakes, stages)
    work, crowd = new_work(), crowd_of(bodies, stages, people.age)
    for n in range(limits.shape[0]):
        bound = entail(limits[n], problem)
        ask(bound, stages, people, work)
        for m in range(bodies.shape[0]):
            for i in range(links):
                out[m, i, n] = body_clear(bound, m, i, crowd, sweep, stages, people, work)


def ladder(seed: int, bodies: F64, limits: F64) -> NDArray[np.bool_]:
    """Whether each limit is clear of each pair (bodies, links, limits) in a case."""
    c, used = case(seed), reach()
    s, start = c.situation, start_of(seed)
    scratch = used._scratch[9]
    path = Path(s.motion.path, s.motion.curvature, s.motion.slope_limits, s.motion.step)
    course = Course(s.progress, s.rate, s.slope, start.horizon, start.obeyed, 1.0)
    people = People(CONFIG.human.slow, CONFIG.human.fast, FIXED, s.age)
    fill(model().chain_with(None), used._fixed, path, np.array(c.state.q), s.progress, STATIONS - 1,
         sweep_in(scratch.doubles, STATIONS, 9))  # fmt: skip
    out = np.empty((len(bodies), 9, len(limits)), np.bool_)
    _ladder(9, course, path, used._brakes, people, bodies, limits, scratch.singles, scratch.doubles, out)
    return out


@pytest.mark.requirement("SAF-15")
def test_every_lower_rate_is_admissible() -> None:
    """20,000 bodies, tracked and not, each with all links and 24 limits: what is clear at a limit is clear below it."""
    between = 0
    limits = np.arange(1, 25) / 24
    for seed in range(SITUATIONS):
        out = ladder(seed, scene(seed, SCENES), limits)
        assert (np.diff(out.astype(int), axis=2) <= 0).all(), seed
        between += int((out[..., 0] & ~out[..., -1]).sum())
    assert between > 4000


@pytest.mark.requirement("SAF-15")
@pytest.mark.parametrize(("seed", "number"), [(25, 28), (36, 91), (43, 83)])
def test_every_lower_rate_is_admissible_where_a_stop_ends_as_an_interval_begins(seed: int, number: int) -> None:
    """All limits there are; the sums of ticks on both sides differ by a rounding."""
    limits = np.arange(1, round(1.0 / RESOLUTION) + 1) * RESOLUTION
    bodies = scene(seed, SCENES)[number : number + 1]
    out = ladder(seed, bodies, limits)
    assert (np.diff(out.astype(int), axis=2) <= 0).all()
    clear_of_all = out[0].all(axis=0)
    assert 0 < clear_of_all.sum() < len(limits)
    assert body_limits(seed, bodies)[0] == limits[clear_of_all.sum() - 1]


@pytest.mark.requirement("SAF-15")
def test_several_bodies_permit_what_the_strictest_of_them_permits() -> None:
    """Whatever pair is looked at first: 2 to 30 bodies, in any order."""
    several = 0
    for seed in range(0, SITUATIONS, 2):
        c = case(seed)
        s = c.situation
        rng = np.random.default_rng(seed)
        bodies = scene(seed, SCENES)[rng.permutation(SCENES)[: rng.integers(2, 31)]]
        alone = body_limits(seed, bodies)
        wide = bodies[alone >= np.quantile(alone, 0.5)]
        nobody = observation(np.empty((0, 4)), age=s.age, oldest=s.oldest)
        for chosen in (bodies, wide, wide[::-1]):
            found = reach().cycle_among(10.0, nobody, c.state, s.motion, chosen).limit
            assert found == body_limits(seed, chosen).min(), seed
            several += int(0.0 < found < 1.0)
    assert several > 50


def scene(seed: int, count: int) -> F64:
    """Bodies round the arm of a case, one in three of them not tracked, no faster than people are taken to be."""
    rng = np.random.default_rng(1000 + seed)
    c = case(seed)
    middle = c.balls[rng.integers(0, len(c.balls), count), 0, :3]
    half = rng.normal(0.0, 0.12, (count, 3))
    radius = rng.uniform(0.03, 0.12, count)
    velocity = rng.normal(0.0, 0.5, (count, 3))
    velocity = np.stack([velocity, velocity + rng.normal(0.0, 0.15, (count, 3))], axis=1)
    velocity *= np.minimum(1.0, 1.3 / np.linalg.norm(velocity, axis=2, keepdims=True))
    spread = np.where(rng.uniform(size=count) < 1 / 3, np.inf, rng.uniform(0.0, 0.3, count))
    capsules = np.column_stack([middle - half, middle + half, radius])
    return bodies_of(capsules, velocity.reshape(-1, 6), spread, float(rng.choice([0.0, 5.0, 20.0])))


def body_limits(seed: int, bodies: F64) -> F64:
    """The method's limits with each body alone."""
    c = case(seed)
    s = c.situation
    nobody = observation(np.empty((0, 4)), age=s.age, oldest=s.oldest)
    return np.array([reach().cycle_among(10.0, nobody, c.state, s.motion, b[None]).limit for b in bodies])


def walk(body: F64, toward: F64, rng: np.random.Generator, time: F64) -> F64:
    """A course (time, 6) of a body's ends from its reference time on, within all that is known of it.

    Half of them make straight for `toward` as hard as they may, the others go anywhere.
    """
    moves = np.empty((len(time), 2, 3))
    fast = CONFIG.human.slow
    for end in range(2):
        at, v = body[3 * end : 3 * end + 3], body[7 + 3 * end : 10 + 3 * end]
        way = toward - at if rng.uniform() < 0.5 else rng.normal(size=3)
        way = way / max(1e-9, float(np.linalg.norm(way)))
        if math.isinf(body[13]):
            moves[:, end] = at + fast * time[:, None] * way
            continue
        first, hard = v + body[13] * way, body[14]
        # faster than people are taken to be is no course that has to be covered
        while hard > 0.0 and np.linalg.norm(first + hard * time.max() * way) > fast:
            hard = hard / 2 if hard > 0.1 else 0.0
        moves[:, end] = at + time[:, None] * (first + 0.5 * hard * time[:, None] * way)
    return moves.reshape(-1, 6)


def between_axes(a: F64, b: F64, c: F64, d: F64) -> F64:
    """Distance of segments a-b and c-d, all (n, 3): from the ends, or between two places inside both."""
    least = np.full(len(a), np.inf)
    for x, y, z in ((a, c, d), (b, c, d), (c, a, b), (d, a, b)):
        along = z - y
        t = ((x - y) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-12)
        least = np.minimum(least, np.linalg.norm(x - y - np.clip(t, 0.0, 1.0)[:, None] * along, axis=1))
    u, v, w = b - a, d - c, a - c
    normal = np.cross(u, v)
    size = np.maximum((normal * normal).sum(-1), 1e-12)
    s, t = (np.cross(v, w) * normal).sum(-1) / size, (np.cross(u, w) * normal).sum(-1) / size
    inside = (s >= 0.0) & (s <= 1.0) & (t >= 0.0) & (t <= 1.0)
    return np.where(inside, np.minimum(least, np.abs((w * normal).sum(-1)) / np.sqrt(size)), least)


@pytest.mark.requirement("SAF-15")
def test_no_tracked_body_is_touched_by_a_moving_arm() -> None:
    """20,000 bodies as capsules with bounded velocity and acceleration: each goes its way against one of the ramps of
    every tenth granted rate."""
    played, tight, tracked_more = 0, 0, 0
    for seed in range(SITUATIONS):
        s, start = case(seed).situation, start_of(seed)
        rng = np.random.default_rng(seed)
        bodies = scene(seed, SCENES)
        found = body_limits(seed, bodies)
        if seed < 20:
            plain = bodies.copy()
            plain[:, 13] = np.inf
            untracked = body_limits(seed, plain)
            assert (found >= untracked).all()
            tracked_more += int((found > untracked).sum())
        for body, limit in zip(bodies, found, strict=True):
            if limit <= 0.0:
                continue
            where, when, count = ramps(
                start, np.array([limit]), EACH, s.motion.slope_limits, s.motion.step, int(rng.integers(1 << 30))
            )
            pick = rng.integers(0, count[0], 40) if count[0] else np.empty(0, int)
            pick = pick[np.argsort(when[0, pick])]
            place, time = where[0, pick], when[0, pick]
            if not len(place):
                continue
            a, b, r = axes(seed, place)
            link = int(rng.integers(0, len(r)))
            toward = 0.5 * (a[-1, link] + b[-1, link])
            course = walk(body, toward, rng, s.age + time)
            ends = np.repeat(course, len(r), axis=0)
            d = between_axes(a.reshape(-1, 3), b.reshape(-1, 3), ends[:, :3], ends[:, 3:]).reshape(len(a), len(r))
            least = (d - r).min() - body[6]
            assert least >= FIXED - 1e-6, (seed, limit)
            tight += int(least < FIXED + 0.05)
            played += 1
    assert played > 6000
    assert tight > 100
    assert tracked_more > 100


def test_a_ball_is_a_short_body() -> None:
    """One ball as observation and as body: the same limit."""
    for seed in range(60):
        c = case(seed)
        balls = c.balls[:20, 0]
        bodies = bodies_of(np.hstack([balls[:, :3], balls]))
        s = c.situation
        alone = [
            reach().cycle(10.0, observation(ball[None], age=s.age, oldest=s.oldest), c.state, s.motion).limit
            for ball in balls
        ]
        assert body_limits(seed, bodies) == pytest.approx(np.array(alone), abs=1e-9)


def test_the_distance_of_two_axes() -> None:
    """20,000 pairs, parallel, crossing and degenerate ones among them, against many places on one of them."""
    rng = np.random.default_rng(4)
    for _ in range(20_000):
        a, b = rng.normal(size=6), rng.normal(size=6)
        kind = rng.integers(0, 5)
        if kind == 0:
            b[3:] = b[:3] + rng.normal() * (a[3:] - a[:3])
        elif kind == 1:
            a[3:] = a[:3]
        elif kind == 2:
            b[3:] = b[:3] + 1e-7 * rng.normal(size=3)
        elif kind == 3:
            b = a + 1e-9 * rng.normal(size=6)
        found = apart(a, b)
        share = np.linspace(0.0, 1.0, 60)[:, None]
        rough = min(to_axis(*place, b) for place in a[:3] + share * (a[3:] - a[:3]))
        step = float(np.linalg.norm(a[3:] - a[:3])) / 59
        assert rough - 0.5 * step - 1e-7 <= found <= rough + 1e-7


def observed(balls: list[list[float]]) -> NDArray[np.float64]:
    return np.array(balls, np.float64)


BAD_BODIES = [
    ("not a number", 0, math.nan), ("endless", 5, math.inf), ("far away", 2, 1e4), ("hollow", 6, -0.1),
    ("speed not a number", 8, math.nan), ("spread not a number", 13, math.nan), ("spread below 0", 13, -0.1),
    ("acceleration not a number", 14, math.nan), ("acceleration below 0", 14, -1.0),
    ("acceleration endless", 14, math.inf),
]  # fmt: skip


@pytest.mark.requirement("SAF-15")
@pytest.mark.parametrize(("what", "column", "value"), BAD_BODIES, ids=[b[0] for b in BAD_BODIES])
def test_a_body_that_is_no_sensible_number_stops_the_arm(what: str, column: int, value: float) -> None:
    m = motion(1)
    state, nobody = state_on(m, 0.5 * m.duration, 0.5), observation(np.empty((0, 4)))
    bodies = bodies_of(np.tile([3.0, 3.0, 0.0, 3.0, 3.0, 1.0, 0.1], (3, 1)))
    assert reach().cycle_among(10.0, nobody, state, m, bodies).limit == 1.0
    bodies[1, column] = value
    decision = reach().cycle_among(10.0, nobody, state, m, bodies)
    assert (decision.limit, decision.required) == (0.0, -1.0)


@pytest.mark.requirement("SAF-15")
def test_bodies_of_another_shape_or_without_a_path_stop_the_arm() -> None:
    m = motion(1)
    state, nobody = state_on(m, 0.5 * m.duration, 0.5), observation(np.empty((0, 4)))
    for bodies in (np.zeros((3, BODY - 1)), np.zeros(BODY), np.zeros((2, BODY), np.float32), np.zeros((1001, BODY))):
        assert reach().cycle_among(10.0, nobody, state, m, bodies).required == -1.0
    far = bodies_of(np.array([[9.0, 9.0, 0.0, 9.0, 9.0, 1.0, 0.1]]))
    assert reach().cycle_among(10.0, nobody, state, None, far).limit == 0.0
    with pytest.raises(ValueError, match="bound of its error"):
        bodies_of(np.zeros((1, 7)), velocity=np.zeros((1, 6)))


@pytest.mark.requirement("SAF-15")
def test_inputs_that_stop_the_exact_monitor_stop_this_one() -> None:
    m = motion(1)
    state, far = state_on(m, 0.5 * m.duration, 0.5), np.array([[3.0, 3.0, 0.5, 0.05]])
    good = observation(far)
    assert reach().cycle(10.0, good, state, m).limit == 1.0
    replace = msgspec.structs.replace
    cases = [
        (replace(good, balls=good.balls[:-1]), state),
        (observation(observed([[math.nan, 0.0, 0.0, 0.1]])), state),
        (observation(observed([[3.0, 3.0, 0.0, math.inf]])), state),
        (observation(observed([[3.0, 3.0, 0.0, -0.1]])), state),
        (replace(good, t=math.nan), state),
        (replace(good, oldest_exposure=9.0), state),
        (good, replace(state, q=[math.nan] * 7)),
        (good, replace(state, q=state.q[:-1])),
        (good, replace(state, q=[v + 0.2 for v in state.q])),
        (good, replace(state, progress=math.nan)),
        (good, replace(state, progress=-1.0)),
        (good, replace(state, rate=1.5)),
        (good, replace(state, rate_slope=math.inf)),
        (good, replace(state, t=math.inf)),
    ]
    for seen, where in cases:
        mine, exact = reach().cycle(10.0, seen, where, m), monitor().cycle(10.0, seen, where, m)
        assert (mine.limit, mine.required, mine.reason) == (0.0, -1.0, exact.reason)


def test_bodies_are_named_in_the_reason() -> None:
    m = motion(1)
    state, nobody = state_on(m, 0.5 * m.duration, 0.5), observation(np.empty((0, 4)))
    a, b, _ = model().capsules(m.sample(0.5 * m.duration)[0])
    at = (a[-1] + b[-1]) / 2
    bodies = bodies_of(np.array([[9.0, 9.0, 0.0, 9.0, 9.0, 1.0, 0.1], [*at, *(at + np.array([0.0, 0.0, 0.2])), 0.05]]))
    decision = reach().cycle_among(10.0, nobody, state, m, bodies)
    assert decision.limit == 0.0
    assert decision.separation < 0.0
    assert decision.reason.startswith("body 1 ")
    assert HARDEST >= 20.0


@pytest.mark.requirement("SAF-15")
def test_zones_hold_as_for_the_exact_monitor() -> None:
    """Stop zones and reduced speed bound the limit alike, zones of contact permit at least as much; no bodies there."""
    held, slowed = 0, 0
    for which, made in (("mixed", MIXED), ("creep", CREEP), ("touch", config(EVERYWHERE))):
        wide, exact = Reach(made, model(), DEFAULT_LIMITS), Monitor(made, model(), DEFAULT_LIMITS)
        for seed in range(40):
            m = motion(seed % 12)
            rate = float(np.random.default_rng(seed).uniform())
            state = state_on(m, (0.1 + 0.02 * seed) * m.duration, rate)
            seen = observation(around(seed, m, state.progress, 6))
            mine, theirs = wide.cycle(10.0, seen, state, m), exact.cycle(10.0, seen, state, m)
            assert mine.limit >= theirs.limit, (which, seed)
            if "stop zone" in theirs.reason:
                assert mine.limit == 0.0
                held += 1
            # somebody in a far corner: what is left is the speed the zone permits, the same for both
            corner = observation(np.array([[2.9, 2.9, -1.9, 0.01]]))
            alone = wide.cycle(10.0, corner, state, m).limit
            assert alone == exact.cycle(10.0, corner, state, m).limit
            assert mine.limit <= alone or which != "creep"
            slowed += int(alone < 1.0)
        body = bodies_of(np.array([[9.0, 9.0, 0.0, 9.0, 9.0, 1.0, 0.1]]))
        assert wide.cycle_among(10.0, corner, state, m, body).required == -1.0
    assert held > 3
    assert slowed > 10
