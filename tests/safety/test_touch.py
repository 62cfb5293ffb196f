"""Contact: how fast the arm may be where it may touch somebody, against dense float64 measurement of every point."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cell.config import load_cell
from robots.rates import DEFAULT_LIMITS
from safety.clamping import default_gaps, fixed_boxes, gaps_along, pinching_pairs
from safety.config import SafetyConfig
from safety.contact import (
    ContactError,
    contact_speed,
    default_limits,
    directed_mass,
    simplified_mass,
    touch_limit,
    touching_rates,
)
from safety.monitor import Monitor
from safety.pace import pace_of
from safety.permits import Terrain, permits_along
from safety.second import SecondMonitor
from safety.stations import Path
from tests.safety.test_monitor import model, monitor, motion, observation, state_on, worst_run
from tests.safety.test_zoning import EVERYWHERE, WHY, box, config, speeds, zoned

BOX_FREE = ["hands_fingers", "lower_arms_wrists"]


def around(m, progress: float) -> np.ndarray:  # type: ignore[no-untyped-def]
    """A small ball at the middle of every moving link: only contact can permit any motion."""
    a, b, _ = model().capsules(m.sample(progress)[0])
    middle = 0.5 * (a + b)[1:]
    return np.hstack([middle, np.full((len(middle), 1), 0.01)])


def allowed(region: str, kind: str = "quasi_static") -> float:
    return contact_speed(region, simplified_mass(model(), 0.0), kind).speed  # type: ignore[arg-type]


@pytest.mark.requirement("CON-01")
def test_no_point_of_any_link_is_faster_than_contact_permits_at_any_granted_rate() -> None:
    """CON-01: every rate up to the limit, on every place that can be swept; the whole kinetic energy likewise."""
    first, second = zoned("touch")
    top = min(allowed(region) for region in WHY["regions"])
    limits = [touch_limit(region, default_limits()) for region in WHY["regions"]]
    energy = min(0.5 * one.quasi_static**2 / one.k for one in limits)
    used, ratios = [], []
    for seed in range(8):
        m = motion(seed)
        course = second.course(m.to_accepted())
        for share in (0.0, 0.1, 0.4, 0.7, 0.95):
            progress = share * m.duration
            o, state = observation(around(m, progress)), state_on(m, progress, 0.05)
            assert monitor().cycle(10.0, o, state, m).limit == 0.0
            decision = first.cycle(10.0, o, state, m, 0.05)
            verdict = second.judge(10.0, o, state, course, measured=False, held=0.05)
            for limit in (decision.limit, verdict.limit):
                assert limit > 0.0
                for rate in (1.0, 0.5, 0.1):
                    _, places = worst_run(m, progress, 0.05, 0.0, rate * limit)
                    fastest = speeds(m, max(0.0, progress - 0.02), float(places.max())).max()
                    assert rate * limit * fastest <= top + 1e-9
                    for p in np.linspace(progress, places.max(), 6):
                        q, dq, _ = m.sample(float(p))
                        zero = np.zeros(model().dof)
                        work = 0.5 * dq @ (model().torque(q, zero, dq) - model().torque(q, zero, zero))
                        assert (rate * limit) ** 2 * work <= energy + 1e-9
            _, places = worst_run(m, progress, 0.05, 0.0, decision.limit)
            if decision.limit < 1.0 and share > 0.0:
                used.append(decision.limit * speeds(m, progress, float(places.max())).max() / top)
            ratios.append(verdict.limit / decision.limit)
            margins = second.audit(o, state, course, decision.limit)
            assert margins is not None and margins[0] >= 0.0
    print(f"\nused {np.median(used):.3f}, second against first {np.min(ratios):.3f} to {np.max(ratios):.3f}")
    assert np.median(used) > 0.75
    assert np.median(ratios) > 0.9


@pytest.mark.requirement("CON-01")
def test_longer_sweeps_never_permit_more_so_that_every_lower_rate_is_admissible() -> None:
    """CON-01: along 500 random terrains the permitted rates only fall, and a link outside the zone gets none."""
    rng = np.random.default_rng(2)
    falls = 0
    for seed in range(500):
        m = motion(seed % 12)
        from safety.kernels import sweep_in, sweep_size
        from safety.stations import STATIONS, fill

        sweep = sweep_in(np.empty(sweep_size(STATIONS, 9)), STATIONS, 9)
        progress = float(rng.uniform()) * m.duration
        path = Path(m.path, m.curvature, m.slope_limits, m.step)
        fill(model().chain, 1, path, m.sample(progress)[0], progress, 60, sweep)
        planes = np.array([[[1.0, 0, 0, rng.uniform(-0.2, 0.8)], [0, 0, -1.0, rng.uniform(-0.6, 0.3)]]])
        terrain = Terrain(
            np.zeros(1, np.int8), planes, rng.uniform(0.0, 1.0, (1, 9, 400)), rng.uniform(0.1, 2.0, 400), 0.2,
            max(0.0, progress - 0.1), 0.0025, bool(rng.integers(0, 2)),
        )  # fmt: skip
        permits = permits_along(terrain, progress, sweep, 60)
        assert (np.diff(permits.rates, axis=2) <= 0.0).all()
        assert (np.diff(permits.ceiling) <= 0.0).all()
        for link in range(9):
            e = sweep.ends[:60, link]
            r = sweep.radius[link]
            reach = np.maximum(
                np.maximum(e[:, 0], e[:, 3]) + r - planes[0, 0, 3], -np.minimum(e[:, 2], e[:, 5]) + r - planes[0, 1, 3]
            )
            outside = np.maximum.accumulate(reach) > 0.0
            assert (permits.rates[0, link][outside] == 0.0).all()
            falls += int(outside.any() and not outside.all())
    assert falls > 50


@pytest.mark.requirement("CON-02")
def test_a_ball_that_sticks_out_or_a_link_that_leaves_the_zone_is_under_separation() -> None:
    """CON-02."""
    m = motion(3)
    progress = 0.5 * m.duration
    state = state_on(m, progress, 0.05)
    a, b, r = model().capsules(m.sample(progress)[0])
    tip = 0.5 * (a[-1] + b[-1])
    ball = np.array([[*tip, 0.02]])
    wide = (tip - 1.9).tolist(), (tip + 1.9).tolist()
    tight = (tip - 0.05).tolist(), (tip + 0.05).tolist()
    top = tip + 1.9
    top[0] = tip[0] + 0.0199
    for (lower, upper), free in ((wide, True), (tight, False), (((tip - 1.9).tolist(), top.tolist()), False)):
        mine = config(box("zone", list(lower), list(upper), "ssm_contact"))
        first, second = Monitor(mine, model(), DEFAULT_LIMITS), SecondMonitor(mine, model(), DEFAULT_LIMITS)
        assert (first.cycle(10.0, observation(ball), state, m).limit > 0.0) is free
        assert (second.judge(10.0, observation(ball), state, second.course(m.to_accepted())).limit > 0.0) is free
    assert r[-1] > 0.0


@pytest.mark.requirement("CON-02")
def test_people_outside_the_zone_keep_their_distance_though_others_are_inside() -> None:
    """CON-02: the same limit as without contact for those outside, the lower of both for all."""
    first, _ = zoned("touch")
    rng = np.random.default_rng(4)
    bound = 0
    for seed in range(40):
        m = motion(seed % 12)
        progress = float(rng.uniform(0.1, 0.9)) * m.duration
        state = state_on(m, progress, 0.05)
        a, b, _ = model().capsules(m.sample(progress)[0])
        # A tall person's head, above the zone everyone else is in.
        head = np.array([[*(0.5 * (a[-1] + b[-1]) + [0, 0, rng.uniform(0.5, 1.2)]), 0.1]])
        low = config({**EVERYWHERE, "shape": {**EVERYWHERE["shape"], "upper": [3, 3, float(head[0, 2])]}})
        one = Monitor(low, model(), DEFAULT_LIMITS)
        inside = around(m, progress)
        limit = one.cycle(10.0, observation(np.vstack([inside, head])), state, m).limit
        assert limit <= monitor().cycle(10.0, observation(head), state, m).limit
        assert limit <= first.cycle(10.0, observation(inside), state, m).limit
        bound += limit > 0.0
    assert bound > 5


@pytest.mark.requirement("CON-01")
def test_the_most_sensitive_part_counts_and_heads_are_never_touched() -> None:
    m, progress = motion(2), 0.7
    o, state = observation(around(m, progress)), state_on(m, progress, 0.05)

    def limit(*regions: str) -> float:
        zone = {**EVERYWHERE, "contact": {**WHY, "regions": list(regions)}}
        return Monitor(config(zone), model(), DEFAULT_LIMITS).cycle(10.0, o, state, m).limit

    alone = {region: limit(region) for region in ("chest", "hands_fingers", "abdomen")}
    assert len(set(alone.values())) == 3
    assert limit(*alone) == min(alone.values())
    with pytest.raises(ContactError):
        touch_limit("face", default_limits())


def test_the_bound_of_the_mass_covers_the_mass_in_every_direction() -> None:
    """What a person can feel of the arm is never more than its whole kinetic energy at that speed stands for."""
    rng = np.random.default_rng(6)
    m = motion(4)
    path = Path(m.path, m.curvature, m.slope_limits, m.step)
    p = pace_of(model().chain, 1, model().bodies, path, 0.5, 0.0)
    _, b, _ = model().capsules(m.sample(0.5)[0])
    k = round((0.5 - p.begin) / p.piece)
    zero, (q, dq, _) = np.zeros(7), m.sample(0.5)
    twice = float(dq @ (model().torque(q, zero, dq) - model().torque(q, zero, zero)))
    assert p.energy[k] ** 2 >= twice
    assert p.energy[k] ** 2 <= 1.3 * twice
    for link in range(3, 9):
        owner = int(model().chain.owner[link + 1])
        R, o = model().frames(q)
        J = np.stack([np.cross(R[j + 1][:, 2], b[link + 1] - o[j + 1]) if j < owner else zero[:3] for j in range(7)], 1)
        v = J @ dq
        assert np.linalg.norm(v) <= p.speed[link, k] + 1e-9
        for _ in range(50):
            n = rng.normal(size=3)
            n /= np.linalg.norm(n)
            felt = directed_mass(model(), q, owner, b[link + 1], n)
            assert felt * (v @ n) ** 2 <= twice * (1.0 + 1e-6)


def test_rates_follow_the_formulas_of_contact() -> None:
    one = touch_limit("chest", default_limits())
    speed, energy, mass = np.array([[0.5, 2.0]]), np.array([0.1, 0.1]), simplified_mass(model(), 0.0)
    free = touching_rates(one, speed, energy, mass, np.array([[False, False]]))
    held = touching_rates(one, speed, energy, mass, np.array([[True, True]]))
    assert free * speed == pytest.approx(contact_speed("chest", mass, "transient").speed)
    assert held * speed == pytest.approx(contact_speed("chest", mass, "quasi_static").speed)
    heavy = touching_rates(one, speed, np.array([8.0, 8.0]), mass, np.array([[True, True]]))
    assert (heavy < held).all()


# ---------------------------------------------------------------- clamping


@cache
def cell() -> SafetyConfig:
    return config({**EVERYWHERE, "contact": {**WHY, "regions": ["hands_fingers"]}})


@pytest.mark.requirement("CON-04")
def test_gaps_along_a_motion_are_never_wider_than_measured_densely() -> None:
    """CON-04: pieces of the motion in which a link comes nearer to a fixture, against boxes sampled in float64."""
    workcell = load_cell(None).config.workcell
    fixed = fixed_boxes(workcell.fixtures, workcell.floor)
    pairs = pinching_pairs(model().chain, model().q_lower, model().q_upper)
    checked = 0
    for seed in range(6):
        m = motion(seed)
        path = Path(m.path, m.curvature, m.slope_limits, m.step)
        p = pace_of(model().chain, 1, model().bodies, path, 0.3, 0.0)
        gaps = gaps_along(model().chain, 1, path, p.begin, p.piece, p.speed, pairs, fixed, 0.5)
        for k in range(0, gaps.shape[1] - 1, 16):
            at = p.begin + (k + 0.5) * p.piece
            now, soon = table_gaps(m, at - 0.5 * p.piece), table_gaps(m, at + 0.5 * p.piece)
            closing = (soon < now - 0.02 * p.piece) & (now < 0.5)
            checked += int(closing.sum())
            assert (gaps[:, k][closing] <= now[closing] + 2e-3).all()
    assert checked > 60


def table_gaps(m, progress: float) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Gap (links,) of the lower end of each link's axis to the table's top where it is above the table."""
    a, b, r = model().capsules(m.sample(progress)[0])
    lower = np.where((a[:, 2] < b[:, 2])[:, None], a, b)
    over = (np.abs(lower[:, 0] - 0.2) < 0.5) & (np.abs(lower[:, 1] + 0.2) < 0.6) & (lower[:, 2] > 0.0)
    return np.where(over, lower[:, 2] - r, np.inf)[1:]


@pytest.mark.requirement("CON-04")
def test_where_nothing_can_be_clamped_the_transient_limits_hold_in_both_channels() -> None:
    """CON-04: one joint that turns away from all fixtures, and the same without knowledge of them."""
    from robots.planning import plan_ptp

    workcell = load_cell(None).config.workcell
    begin, end = model().home.copy(), model().home.copy()
    begin[0], end[0] = -0.2, 0.6
    m = plan_ptp(model(), begin, end)
    progress = 0.4 * m.duration
    a, b, _ = model().capsules(m.sample(progress)[0])
    # Farther out than the hand, so that the hand alone could reach it.
    tip = 0.5 * (a[-1] + b[-1])
    ball = np.array([[*(tip + 0.48 * np.array([*tip[:2], 0.0]) / np.linalg.norm(tip[:2])), 0.01]])
    state = state_on(m, progress, 0.05)
    nothing = workcell.model_copy(update={"fixtures": []})
    for second in (False, True):
        found = []
        for around_it in (None, workcell, nothing):
            if second:
                sec = SecondMonitor(cell(), model(), DEFAULT_LIMITS, None, around_it)
                course = sec.course(m.to_accepted())
                found.append(sec.judge(10.0, observation(ball), state, course, measured=False).limit)
            else:
                fixed = None if around_it is None else fixed_boxes(around_it.fixtures, around_it.floor)
                mon = Monitor(cell(), model(), DEFAULT_LIMITS, None, fixed)
                found.append(mon.cycle(10.0, observation(ball), state, m).limit)
        unknown, some, none = found
        assert 0.0 < unknown <= some <= none
        assert none > 2.0 * unknown
    assert default_gaps().width("hands_fingers") == 0.1
    assert default_gaps().width("no such part") == float("inf")
