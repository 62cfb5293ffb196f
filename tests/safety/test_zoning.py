"""Zones in force: what they make of everyone there is, in both channels, and what the monitor then grants."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from perception.contract import Observation
from robots.description import load_description
from robots.guards import KeepOutRegions
from robots.rates import DEFAULT_LIMITS
from safety.config import SafetyConfig
from safety.monitor import Monitor
from safety.second import SecondMonitor
from safety.second_arm import ArmGeometry
from safety.second_zones import SecondZones
from safety.selftest import SelfTest
from safety.supervisor import SupervisorCore
from safety.zones import Mode, keep_out_boxes
from safety.zoning import Zoning
from tests.safety.test_monitor import CONFIG, model, monitor, motion, observation, scene, state_on

WHY = {"regions": ["hands_fingers", "lower_arms_wrists"], "text": "risk assessment 7, section 3", "by": "A. Engineer"}
AUTOMATIC: Mode = "automatic"


def box(name: str, lower: list[float], upper: list[float], method: str, **more: Any) -> dict[str, Any]:
    extra = {"ssm_contact": {"contact": WHY}, "no_person": {"justification": "a solid machine stands there"}}
    shape = {"kind": "box", "lower": lower, "upper": upper}
    return {"name": name, "shape": shape, "automatic": method, **extra.get(method, {}), **more}


def config(*volumes: dict[str, Any], **more: Any) -> SafetyConfig:
    zones = {"volumes": list(volumes), "elsewhere": "ssm", **more}
    return SafetyConfig.model_validate({**CONFIG.model_dump(exclude={"zones"}), "zones": zones})


EVERYWHERE = box("everywhere", [-3, -3, -2], [3, 3, 3], "ssm_contact")
CORNERS = [[0.3, 0.2], [0.9, 0.3], [0.7, 0.8], [0.2, 0.7]]
MIXED = config(
    box("halt", [1, -1, 0], [2, 0, 1], "stop"),
    box("creep", [1, 0, 0], [2, 1, 1], "reduced_speed", speed=0.2),
    box("touch", [-1, -1, 0], [0, 0, 1], "ssm_contact"),
    box("machine", [-1, 0, 0], [0, 1, 1], "no_person"),
    {"name": "prism", "shape": {"kind": "prism", "corners": CORNERS, "z": [0.0, 1.0]}, "automatic": "ssm_contact",
     "contact": WHY},
)  # fmt: skip


@cache
def zoned(which: str) -> tuple[Monitor, SecondMonitor]:
    made = {
        "touch": config(EVERYWHERE),
        "mixed": MIXED,
        "creep": config(box("creep", [-3, -3, -2], [3, 3, 3], "reduced_speed", speed=0.15)),
        "sets": SETS,
        "manual": config({**EVERYWHERE, "manual": "ssm"}),
    }[which]
    return Monitor(made, model(), DEFAULT_LIMITS), SecondMonitor(made, model(), DEFAULT_LIMITS)


SETS = config(
    box("halt", [1, -1, 0], [2, 0, 1], "stop"),
    box("creep", [1, 0, 0], [2, 1, 1], "reduced_speed", speed=0.2),
    EVERYWHERE,
    sets={"default": ["creep"], "touching": ["everywhere"], "halting": ["halt"]},
    phases={"fill.place": "touching", "inspect": "halting"},
)


# ---------------------------------------------------------------- what zones make of balls


@pytest.mark.requirement("ZON-01")
def test_both_channels_sort_everyone_alike_and_as_the_zones_say() -> None:
    """ZON-01: 4,000 balls against both calculations and a third one by sampling each ball's surface."""
    rng = np.random.default_rng(3)
    first = Zoning(MIXED, model())
    second = SecondZones(MIXED, model(), ArmGeometry(load_description("panda"), model().tool_name), None, None)
    sphere = rng.normal(size=(400, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    kinds = {"stop": 0, "slow": 0, "touch": 0, "gone": 0}
    for _ in range(4000):
        ball = np.array([*rng.uniform([-1.3, -1.3, -0.3], [2.3, 1.3, 1.3]), rng.uniform(0.0, 0.2)], "<f4")
        seen = int(rng.integers(0, 2))
        o = msgspec.structs.replace(observation(ball[None]), seen=seen)
        one = first.rule(o, ball, "any", AUTOMATIC)
        two = second.sort(ball[None].astype(np.float64), seen, "any", AUTOMATIC)
        assert one.stop == two.stop
        assert one.slowest == two.slowest
        assert len(one.zone) == sum(len(balls) for _, balls in two.touchable)
        assert len(one.balls) // 4 == len(two.free) + len(one.zone)
        kinds["stop"] += bool(one.stop)
        kinds["slow"] += one.slowest == 0.2
        kinds["touch"] += len(one.zone)
        kinds["gone"] += len(one.balls) == 0
        points = ball[:3] + ball[3] * np.vstack([sphere, np.zeros(3)])
        x, y, z = points.T
        flat = (z >= 0) & (z <= 1)
        assert not (flat & (x >= 1) & (x <= 2) & (y >= -1) & (y <= 0)).any() or one.stop == "halt"
        assert not (flat & (x >= 1) & (x <= 2) & (y >= 0) & (y <= 1)).any() or one.slowest == 0.2
        if len(one.zone):
            corner = np.array(CORNERS)
            inside = flat.copy()
            for p, q in zip(corner, np.roll(corner, -1, axis=0), strict=True):
                inside &= (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) >= 0
            assert inside.all() or (flat & (x >= -1) & (x <= 0) & (y >= -1) & (y <= 0)).all()
        if not len(one.balls):
            assert seen == 0
            assert (flat & (x >= -1) & (x <= 0) & (y >= 0) & (y <= 1)).all()
    assert min(kinds.values()) > 50, kinds


@pytest.mark.requirement("ZON-01")
@pytest.mark.parametrize("channel", [0, 1])
def test_somebody_in_a_stop_zone_stops_the_arm_and_it_may_go_on_by_itself(channel: int) -> None:
    m = motion(1)
    state, away = state_on(m, 0.3, 0.4), np.array([[5.0, 5.0, 0.5, 0.1]])
    edge = np.array([[2.05, -0.5, 0.5, 0.06]])
    for balls, free in ((away, True), (edge, False), (edge - [0, 0, 0, 0.02], True)):
        o = observation(balls)
        if channel == 0:
            decision = zoned("mixed")[0].cycle(10.0, o, state, m)
            assert decision.required >= 0.0
            limit, reason = decision.limit, decision.reason
        else:
            verdict = zoned("mixed")[1].judge(10.0, o, state, zoned("mixed")[1].course(m.to_accepted()))
            assert verdict.restartable
            assert verdict.by_separation
            limit, reason = verdict.limit, verdict.reason
        assert (limit > 0.0) is free
        assert ("halt" in reason) is not free


@pytest.mark.requirement("ZON-03")
def test_reduced_speed_holds_for_every_point_of_the_arm_and_hardly_costs_more() -> None:
    """ZON-03: the fastest point along everything that may be swept, measured densely in float64."""
    first, second = zoned("creep")
    far = observation(np.array([[2.9, 2.9, 2.9, 0.05]]))
    used, ratios = [], []
    for seed in range(12):
        m = motion(seed)
        for share in (0.0, 0.15, 0.5, 0.85):
            progress = share * m.duration
            state = state_on(m, progress, 0.1)
            decision = first.cycle(10.0, far, state, m, 0.1)
            assert decision.limit > 0.0
            fastest = speeds(m, progress, decision.progress_to).max()
            assert decision.limit * fastest <= 0.15
            if decision.limit < 1.0:
                used.append(decision.limit * fastest)
            limit = second.judge(10.0, far, state, second.course(m.to_accepted()), False, 0.1).limit
            assert limit * fastest <= 0.15
            ratios.append(limit / decision.limit)
    assert np.median(used) > 0.12
    assert np.median(ratios) > 0.85


def speeds(m: Any, begin: float, end: float) -> np.ndarray:
    """Speeds (K, links) of the fastest of many points on the surface of each moving link at rate 1."""
    at = np.arange(begin, min(end, m.duration) + 2e-3, 2e-3)
    dt = 1e-5
    rng = np.random.default_rng(0)
    found = []
    for p in at:
        rows = []
        for side in (-0.5 * dt, 0.5 * dt):
            R, o = model().frames(m.sample(float(np.clip(p + side, 0.0, m.duration)))[0])
            chain = model().chain
            links = []
            for k, owner in enumerate(chain.owner):
                if owner == 0:
                    continue
                local = np.vstack([chain.a[k] + t * (chain.b[k] - chain.a[k]) for t in (0.0, 0.5, 1.0)])
                turn = rng.__class__(np.random.PCG64(7)).normal(size=(30, 3))
                turn *= chain.radius[k] / np.linalg.norm(turn, axis=1, keepdims=True)
                local = (local[:, None] + turn).reshape(-1, 3)
                links.append(local @ R[owner].T + o[owner])
            rows.append(links)
        found.append([np.linalg.norm(b - a, axis=1).max() / dt for a, b in zip(*rows, strict=True)])
    return np.array(found)


# ---------------------------------------------------------------- sets and phases


@pytest.mark.requirement("ZON-02")
def test_without_a_known_phase_the_strictest_of_all_sets_holds() -> None:
    """ZON-02: in both channels, and never more than under any phase."""
    first, second = zoned("sets")
    rng = np.random.default_rng(5)
    told = dict.fromkeys(("fill.place", "inspect.camera", "other"), 0)
    for seed in range(60):
        m = motion(seed % 12)
        progress = float(rng.uniform(0.1, 0.9)) * m.duration
        people = scene(seed, m, progress, 3)
        if seed % 2:
            people[0, :3] = rng.uniform([0.9, -1, 0], [2, 1, 1])
        o, state = observation(people), state_on(m, progress, 0.2)
        limit = {phase: first.cycle(10.0, o, state, dataclasses.replace(m, phase=phase)).limit for phase in ("", *told)}
        for phase in told:
            assert limit[""] <= limit[phase]
            told[phase] += limit[""] < limit[phase]
        assert limit[""] <= monitor().cycle(10.0, o, state, m).limit
        courses = {
            phase: second.course(dataclasses.replace(m, phase=phase).to_accepted()) for phase in ("", "fill.place")
        }
        other = {p: second.judge(10.0, o, state, c, measured=False).limit for p, c in courses.items()}
        assert other[""] <= other["fill.place"]
    assert told["fill.place"] > 10


@pytest.mark.requirement("ZON-02")
def test_the_phase_is_bound_to_the_motion_and_a_whole_operation_may_be_named() -> None:
    zones = SETS.zones
    assert [zones.set_of(p) for p in ("fill.place", "fill.pick", "inspect.camera", "inspect")] == [
        "touching", "default", "halting", "halting",
    ]  # fmt: skip
    m = dataclasses.replace(motion(0), phase="fill.place")
    assert m.to_move().phase == m.to_accepted().phase == "fill.place"
    assert type(m).from_accepted(model(), m.to_accepted()).phase == "fill.place"
    assert Zoning(SETS, model()).set_for("") is None


# ---------------------------------------------------------------- nobody, nothing, and no path


@pytest.mark.requirement("ZON-04")
def test_only_unseen_space_wholly_inside_counts_as_empty() -> None:
    """ZON-04: seen points and balls that stick out of a place where nobody can be count as everywhere."""
    m = motion(2)
    state = state_on(m, 0.4, 0.3)
    a, b, _ = model().capsules(m.sample(0.4)[0])
    tip = 0.5 * (a[-1] + b[-1])
    lower, upper = (tip - 0.2).tolist(), (tip + 0.2).tolist()
    mine = config(box("machine", lower, upper, "no_person"))
    first, second = Monitor(mine, model(), DEFAULT_LIMITS), SecondMonitor(mine, model(), DEFAULT_LIMITS)
    course = second.course(m.to_accepted())
    for radius, seen, free in ((0.1, 0, True), (0.1, 1, False), (0.21, 0, False)):
        o = msgspec.structs.replace(observation(np.array([[*tip, radius]])), seen=seen)
        assert (first.cycle(10.0, o, state, m).limit == 1.0) is free
        assert (second.judge(10.0, o, state, course, measured=False).limit == 1.0) is free


@pytest.mark.requirement("ZON-04")
@pytest.mark.parametrize("method", ["no_person", "ssm_contact", "ssm"])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.5])
def test_a_ball_that_is_no_sensible_one_stops_the_arm_whatever_zone_it_is_in(
    method: str, place: int, value: float
) -> None:
    """ZON-04: what cannot be placed is in no zone that makes it count for less."""
    if place < 3 and value == -0.5:
        return  # a place like any other
    m = motion(2)
    state = state_on(m, 0.4, 0.3)
    mine = config(box("everywhere", [-9.0, -9.0, -9.0], [9.0, 9.0, 9.0], method))
    first, second = Monitor(mine, model(), DEFAULT_LIMITS), SecondMonitor(mine, model(), DEFAULT_LIMITS)
    ball = [5.0, 5.0, 5.0, 0.1]
    ball[place] = value
    for seen in (0, 1):
        o = msgspec.structs.replace(observation(np.array([ball])), seen=seen)
        assert first.cycle(10.0, o, state, m).limit == 0.0
        assert second.judge(10.0, o, state, second.course(m.to_accepted()), measured=False).limit == 0.0


@pytest.mark.requirement("ZON-01")
def test_zones_that_nobody_is_in_change_nothing_to_the_last_bit() -> None:
    far = config(box("far", [-9, -9, 5], [-8, -8, 6], "ssm_contact"), box("off", [-7, -9, 5], [-6, -8, 6], "stop"))
    first, plain = Monitor(far, model(), DEFAULT_LIMITS), monitor()
    second, bare = SecondMonitor(far, model(), DEFAULT_LIMITS), SecondMonitor(CONFIG, model(), DEFAULT_LIMITS)
    rng = np.random.default_rng(9)
    between = 0
    for seed in range(300):
        m = motion(seed % 12)
        progress = float(rng.uniform()) * m.duration
        people = scene(seed, m, progress, 1)
        o, state = observation(people), state_on(m, progress, float(rng.uniform()))
        one, two = first.cycle(10.0, o, state, m), plain.cycle(10.0, o, state, m)
        assert one == two
        between += 0.0 < one.limit < 1.0
        if seed % 10 == 0:
            course = bare.course(m.to_accepted())
            assert second.judge(10.0, o, state, course) == bare.judge(10.0, o, state, course)
    assert between > 30


@pytest.mark.requirement("ZON-03")
def test_jogging_knows_stop_zones_and_reduced_speed_but_no_contact() -> None:
    q = model().home
    state = msgspec.structs.replace(
        state_on(motion(0), 0.0, 0.0), q=q.tolist(), motion_id="", progress=0.0, mode="manual",
        dq=[0.0] * 7, dq_commanded=[0.0] * 7,
    )  # fmt: skip
    a, b, _ = model().capsules(q)
    near = observation(np.array([[*(0.5 * (a[-1] + b[-1])), 0.02]]))
    for one in zoned("touch"):
        answer = one.cycle(10.0, near, state, None) if isinstance(one, Monitor) else one.judge(10.0, near, state, None)
        assert answer.limit == 0.0
    far = observation(np.array([[2.9, 2.9, 2.9, 0.05]]))
    first, second = zoned("creep")
    for limit in (first.cycle(10.0, far, state, None).limit, second.judge(10.0, far, state, None).limit):
        assert 0.0 < limit < 0.5
    inside = observation(np.array([[1.5, -0.5, 0.5, 0.05]]))
    assert zoned("mixed")[0].cycle(10.0, inside, state, None).limit == 0.0
    assert zoned("mixed")[1].judge(10.0, inside, state, None).limit == 0.0


@pytest.mark.requirement("CON-02")
def test_a_method_of_another_mode_permits_nothing_in_this_one() -> None:
    """CON-02: contact in automatic mode alone, asked in manual mode."""
    m = motion(3)
    progress = 0.5 * m.duration
    a, b, _ = model().capsules(m.sample(progress)[0])
    o = observation(np.array([[*(0.5 * (a[-1] + b[-1])), 0.02]]))
    state = state_on(m, progress, 0.1)
    first, second = zoned("manual")
    assert first.cycle(10.0, o, state, m).limit > 0.0
    manual = msgspec.structs.replace(state, mode="manual")
    assert first.cycle(10.0, o, manual, m).limit == 0.0
    assert second.judge(10.0, o, manual, second.course(m.to_accepted())).limit == 0.0


@pytest.mark.requirement("ZON-05")
def test_keep_out_zones_of_every_set_are_refused_by_the_robot_node() -> None:
    """ZON-05: a box, and a prism by the box round it."""
    m = motion(3)
    a, b, _ = model().capsules(m.sample(0.5 * m.duration)[0])
    x, y, z = (0.5 * (a[-1] + b[-1])).tolist()
    prism = {
        "kind": "prism",
        "corners": [[x - 0.05, y], [x + 0.05, y - 0.05], [x + 0.05, y + 0.05]],
        "z": [z - 1, z + 1],
    }
    volumes = [
        box("block", [x - 0.05, y - 0.05, z - 0.05], [x + 0.05, y + 0.05, z + 0.05], "keep_out"),
        {"name": "pillar", "shape": prism, "automatic": "keep_out"},
        box("away", [5, 5, 0], [6, 6, 1], "keep_out"),
    ]
    for volume, word in zip(volumes, ("block", "pillar", ""), strict=True):
        mine = config(
            volume, box("other", [2, 2, 2], [3, 3, 3], "ssm"), sets={"default": ["other"], "x": [volume["name"]]}
        )
        regions = KeepOutRegions.from_config(keep_out_boxes(mine.zones))
        assert regions
        assert word in regions.violation(model(), m.path, None)
        assert bool(regions.violation(model(), m.path, None)) is bool(word)


# ---------------------------------------------------------------- in the supervisor


def seen_at(now: float, balls: np.ndarray) -> Observation:
    return msgspec.structs.replace(observation(balls), t=now - 0.05, oldest_exposure=now - 0.06)


@pytest.mark.requirement("CON-02")
def test_the_supervisor_tests_itself_in_zones_of_contact_by_separation() -> None:
    """CON-02: phantoms inside the arm pass for people although the whole cell is a zone of contact."""
    m = motion(0)
    one = config(EVERYWHERE)
    test = SelfTest(ArmGeometry(load_description("panda"), model().tool_name))
    core = SupervisorCore(one, Monitor(one, model(), DEFAULT_LIMITS), model(), "print", 1, selftest=test)
    core.accept_motion(m.to_accepted())
    kinds: list[str] = []
    a, b, _ = model().capsules(m.sample(0.4)[0])
    near = np.array([[*(0.5 * (a[-1] + b[-1])), 0.02]])
    limits = []
    for n in range(200):
        now = 10.0 + 0.008 * n
        state = msgspec.structs.replace(state_on(m, 0.4, 0.05), t=now)
        out = core.step(now, seen_at(now, near), state)
        kinds += [kind for kind, _ in out.events]
        limits.append(out.lease.limit)
    assert "safety.self_test_passed" in kinds
    assert "safety.self_test_failed" not in kinds
    assert min(limits) > 0.05


@pytest.mark.requirement("CON-03")
def test_what_older_leases_permit_is_remembered_for_as_long_as_they_last() -> None:
    """CON-03: a supervisor that has just begun takes any lease to be about; later it knows its own."""
    m = motion(0)
    one = config(EVERYWHERE)
    asked: list[float] = []

    class Watched(Monitor):
        def cycle(self, now: Any, observation: Any, state: Any, motion: Any, ceiling: float = 1.0) -> Any:
            asked.append(ceiling)
            return super().cycle(now, observation, state, motion, ceiling)

    core = SupervisorCore(one, Watched(one, model(), DEFAULT_LIMITS), model(), "print", 1)
    core.accept_motion(m.to_accepted())
    a, b, _ = model().capsules(m.sample(0.4)[0])
    near = np.array([[*(0.5 * (a[-1] + b[-1])), 0.02]])
    granted = []
    for n in range(100):
        now = 10.0 + 0.008 * n
        people = np.zeros((0, 4)) if n < 50 else near
        state = msgspec.structs.replace(state_on(m, 0.4, 0.05), t=now)
        granted.append(core.step(now, seen_at(now, people), state).lease.limit)
    lasting = math.ceil(one.reaction.total / 0.008)
    assert asked[: lasting + 1] == [1.0] * (lasting + 1)
    assert asked[49] == 1.0 and granted[49] == 1.0
    assert asked[51 + lasting // 2] == 1.0
    assert asked[99] == granted[98] < 1.0
