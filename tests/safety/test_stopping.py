"""Stopping tables: never below a neighbour, growing with every condition, refused beyond it; the monitor never brakes
sooner than measured."""

from __future__ import annotations

import itertools
import math
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cell.config import default_cell
from cell.yamlfile import FileErrors
from robots.contract import PartGeometry
from robots.rates import DEFAULT_LIMITS, RateLimits
from safety.blind import Jogging, turning
from safety.braking import Brakes, Course, coming_down, falls_ahead, held, new_cells
from safety.config import SafetyConfig, load_safety, stopping_of
from safety.methods import build_monitor
from safety.monitor import Monitor
from safety.stopping import PERCENT, Stopping, StoppingError, StopTable, extension, load_table, table_fingerprint
from tests.safety.test_monitor import CONFIG, model, motion, needed, observation, scene, separation, state_on

LOADS = (0.0, 3.0)


def plain(seed: int, longest: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A whole table with random times and ways."""
    rng = np.random.default_rng(seed)
    rows = []
    for j, s, e, m in itertools.product(range(model().dof), PERCENT, PERCENT, LOADS):
        rows.append(
            {
                "joint": j + 1, "speed_percent": s, "extension_percent": e, "load": m, "stops": 10,
                "speed": s / 100 * 0.8 * float(model().v_max[j]) * rng.uniform(1.0, 1.05),
                "extension": e / 100 * 1.1 * rng.uniform(1.0, 1.05),
                "time": rng.uniform(0.05, longest), "angle": rng.uniform(0.01, 0.4),
            }
        )  # fmt: skip
    return {
        "title": "t", "date": "2026-01-31", "model": "panda", "tool": model().tool_name, "driver": "twin",
        "simulation_only": True, "rate_limits": dict(DEFAULT_LIMITS._asdict()), "rows": rows, **changes,
    }  # fmt: skip


def test_the_table_of_the_demo_arm_is_whole_and_marked() -> None:
    """Measured with the twin; its longest stop is near what the brakes' own law says."""
    file = default_cell().parent / "panda_stops.yaml"
    table = load_table(file)
    made = Stopping(table, model(), DEFAULT_LIMITS, "twin")
    assert table.simulation_only and "SIMULATION ONLY" in table.title
    assert made.loads == [0.0, 1.0] and 0.17 < made.longest < 0.35


@cache
def stopping(seed: int, longest: float = 0.5) -> Stopping:
    return Stopping(StopTable.model_validate(plain(seed, longest)), model(), DEFAULT_LIMITS, "twin")


@pytest.mark.requirement("SAF-21")
@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(0, 20), st.integers(0, 6), st.floats(0.0, 2.2), st.floats(0.0, 1.3), st.floats(0.0, 4.0))
def test_a_stop_is_never_below_a_neighbour(seed: int, joint: int, speed: float, reached: float, load: float) -> None:
    """The larger of all conditions round it, or refused; neighbours are found here by plain comparison."""
    table = stopping(seed)
    rows = [row for row in table.table.rows if row.joint == joint + 1]
    covers = {p: min(r.speed for r in rows if r.speed_percent == p) for p in PERCENT}
    reaches = {p: min(r.extension for r in table.table.rows if r.extension_percent == p) for p in PERCENT}
    if speed > covers[100] or reached > reaches[100] or load > LOADS[-1]:
        with pytest.raises(StoppingError):
            table.stop(joint, speed, reached, load)
        return
    time, way = table.stop(joint, speed, reached, load)

    def around(value: float, steps: dict[int, float]) -> set[int]:
        above = min(p for p in steps if steps[p] >= value)
        return {above, *(max([p for p in steps if steps[p] < value], default=above),)}

    loads = {min(m for m in LOADS if m >= load), *([max(m for m in LOADS if m <= load)])}
    near = [
        r for r in rows
        if r.speed_percent in around(speed, covers) and r.extension_percent in around(reached, reaches)
        and r.load in loads
    ]  # fmt: skip
    assert near
    assert time >= max(r.time for r in near)
    assert way >= max(speed * r.angle / r.speed for r in near) - 1e-12
    assert time in [r.time for r in rows], "a measured value, nothing made up"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(0, 20), st.integers(0, 6), st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6))
def test_a_harder_condition_never_stops_sooner(seed: int, joint: int, shares: list[float]) -> None:
    table = stopping(seed)
    a, b, c, d, e, f = shares
    speeds, reached = sorted((1.7 * a, 1.7 * b)), sorted((1.1 * c, 1.1 * d))
    loads = sorted((3.0 * e, 3.0 * f))
    low = table.stop(joint, speeds[0], reached[0], loads[0])
    high = table.stop(joint, speeds[1], reached[1], loads[1])
    assert low[0] <= high[0] and low[1] <= high[1]


@pytest.mark.requirement("SAF-21")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_condition_that_is_no_number_is_refused(value: float) -> None:
    table = stopping(0)
    for condition in ((value, 0.3, 0.0), (0.5, value, 0.0), (0.5, 0.3, value)):
        with pytest.raises(StoppingError):
            table.stop(0, *condition)
    with pytest.raises(StoppingError):
        table.stop(0, 0.5, 0.3, -0.1)


def change(rows: list[dict[str, Any]], n: int, **new: Any) -> list[dict[str, Any]]:
    return [*rows[:n], {**rows[n], **new}, *rows[n + 1 :]]


@pytest.mark.requirement("SAF-21")
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"model": "ur5e"}, "arm ur5e"),
        ({"tool": "vacuum"}, "tool vacuum"),
        ({"driver": "vendor"}, "driver vendor"),
        ({"rate_limits": {"slope_up": 3.0, "slope_down": 9.0, "jerk": 160.0}}, "slope_down"),
        ({"rows": plain(0)["rows"][:-1]}, "lacks 1 conditions, first joint 7 at 100 % speed, 100 % extension, 3 kg"),
        ({"rows": change(plain(0)["rows"], 0, joint=8)}, "joint 8"),
        ({"rows": change(plain(0)["rows"], 0, speed=3.0) and [{**r, "speed": 1.0} for r in plain(0)["rows"]]}, "rise"),
    ],
)  # fmt: skip
def test_a_table_of_another_arm_tool_or_brake_is_refused(wrong: dict[str, Any], text: str) -> None:
    table = StopTable.model_validate(plain(0, **wrong))
    with pytest.raises(StoppingError, match=text):
        Stopping(table, model(), DEFAULT_LIMITS, "twin")


@pytest.mark.requirement("SAF-21")
@pytest.mark.parametrize(
    "wrong", [{"time": math.nan}, {"time": 0.0}, {"angle": math.inf}, {"speed": -1.0}, {"stops": 9}, {"load": -1.0}]
)
def test_a_row_that_is_no_measurement_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StopTable.model_validate(plain(0, rows=change(plain(0)["rows"], 3, **wrong)))
    with pytest.raises(ValidationError, match="twice"):
        StopTable.model_validate(plain(0, rows=[*plain(0)["rows"], plain(0)["rows"][0]]))


@pytest.mark.parametrize("seed", range(6))
def test_a_motion_stops_no_sooner_than_any_of_its_joints(seed: int) -> None:
    table, m = stopping(seed), motion(seed)
    stops = table.along(m, 0.1)
    assert (np.diff(stops.rows, axis=0) >= 0.0).all() and 0.0 < stops.top <= 1.0
    farthest = max(extension(model(), m.sample(p)[0]) for p in np.linspace(0.0, m.duration, 200))
    for rate in np.linspace(0.01, stops.top, 30):
        _, time, way = next(row for row in stops.rows if row[0] >= rate - 1e-12)
        for j, peak in enumerate(m.peak_velocity):
            if peak >= 0.01:
                least, angle = table.stop(j, rate * peak * (1 - 1e-9), farthest, 0.1)
                assert time >= least and way * rate * peak >= angle * (1 - 1e-6)
    with pytest.raises(StoppingError, match="load"):
        table.along(m, 3.5)


def test_a_faster_motion_than_was_measured_is_limited() -> None:
    m = motion(0)
    slow = [{**r, "speed": 0.5 * r["speed"]} for r in plain(0)["rows"]]
    table = Stopping(StopTable.model_validate(plain(0, rows=slow)), model(), DEFAULT_LIMITS, "twin")
    stops = table.along(m, 0.0)
    assert stops.top < 1.0 and stops.rows[-1, 0] == stops.top
    assert all(
        stops.top * v <= 0.5 * 1.05 * 0.8 * w * 1.001 for v, w in zip(m.peak_velocity, model().v_max, strict=True)
    )
    config = CONFIG.model_copy(update={"stopping_table": "x", "stopping_table_sha256": "0" * 64})
    answer = Monitor(config, model(), DEFAULT_LIMITS, stopping=table).cycle(
        10.0, observation(np.zeros((0, 4))), state_on(m, 0.4, 0.0), m
    )
    assert answer.limit == pytest.approx(stops.top)
    assert type(answer.limit) is float, "nothing else can be put on a lease"


@pytest.mark.requirement("SAF-21")
def test_braking_is_never_shorter_than_measured_and_still_grows_with_the_limit() -> None:
    """3,000 paths, brakes and tables, 12 limits each."""
    rng = np.random.default_rng(6)
    memory = np.empty(400)
    longer = 0
    for _ in range(3000):
        fall = np.interp(np.linspace(0.0, 1.0, 300), np.linspace(0.0, 1.0, 12), rng.uniform(0.5, 12.0, 12))
        bare = Brakes(3.0, rng.uniform(2.0, 12.0), rng.uniform(60.0, 400.0), 0.004, 0.016)
        rows = np.sort(rng.uniform(0.02, 0.6, (4, 3)), axis=0)
        rows[:, 0] = np.sort(rng.uniform(0.1, 1.0, 4))
        brakes = bare._replace(measured=rows)
        course = Course(
            rng.uniform(0.0, 2.4), rng.uniform(), rng.uniform(-brakes.down, 3.0), rng.uniform(0.005, 0.15), 0.02
        )
        falls = falls_ahead(fall, 0.008, course.progress, 1.2, brakes.down, memory)
        limits = np.sort(rng.uniform(0.001, 1.0, 12))
        cells = new_cells()
        for course_of, more in ((held, (cells,)), (coming_down, ())):
            with_table = np.array([course_of(course, float(x), falls, brakes, *more) for x in limits])
            without = np.array([course_of(course, float(x), falls, bare, *more) for x in limits])
            assert (with_table >= without).all()
            longer += int((with_table > without).sum())
        kept = np.array([held(course, float(x), falls, brakes, cells) for x in limits])
        down = np.array([coming_down(course, float(x), falls, brakes) for x in limits])
        both = np.maximum(kept, down)
        assert (np.diff(kept, axis=0) >= -1e-9).all() and (np.diff(both, axis=0) >= -1e-9).all()
        for limit, (time, swept) in zip(limits, kept, strict=True):
            row = rows[min(int(np.searchsorted(rows[:, 0], limit)), 3)]
            assert time >= course.horizon + row[1] - 1e-9
            assert swept >= limit * (course.horizon + row[2]) - 1e-9
    assert longer > 10_000


@pytest.mark.requirement("SAF-21")
def test_with_a_table_the_monitor_never_permits_more() -> None:
    config = CONFIG.model_copy(update={"stopping_table": "x", "stopping_table_sha256": "0" * 64})
    with pytest.raises(ValueError, match="belong together"):
        Monitor(config, model(), DEFAULT_LIMITS)
    with pytest.raises(ValueError, match="belong together"):
        Monitor(CONFIG, model(), DEFAULT_LIMITS, stopping=stopping(0))
    plain_one, measured = (
        Monitor(CONFIG, model(), DEFAULT_LIMITS),
        Monitor(config, model(), DEFAULT_LIMITS, stopping=stopping(1)),
    )
    rng = np.random.default_rng(2)
    lower = 0
    for n in range(300):
        m = motion(n % 10)
        balls = np.column_stack([rng.uniform(-1.5, 1.5, (4, 3)), np.full(4, 0.05)])
        state = state_on(m, rng.uniform(0.0, m.duration), rng.uniform())
        one, two = (c.cycle(10.0, observation(balls), state, m) for c in (plain_one, measured))
        assert two.limit <= one.limit
        lower += two.limit < one.limit
    assert lower > 30
    heavy = PartGeometry("block", (0.05, 0.05, 0.05), (0, 0, 0, 0, 0, 0, 1), 5.0)
    state = msgspec.structs.replace(state_on(motion(0), 0.4, 0.5), held=heavy)
    refused = measured.cycle(10.0, observation(np.zeros((0, 4))), state, motion(0))
    assert refused.limit == 0.0 and refused.required < 0.0 and "5 kg" in refused.reason


@pytest.mark.requirement("SAF-21")
def test_reach_with_a_table_lies_between_exact_with_it_and_reach_without() -> None:
    config = CONFIG.model_copy(update={"stopping_table": "x", "stopping_table_sha256": "0" * 64})
    exact, reach = (build_monitor(k, config, model(), DEFAULT_LIMITS, stopping=stopping(1)) for k in ("exact", "reach"))
    bare = build_monitor("reach", CONFIG, model(), DEFAULT_LIMITS)
    rng, lower = np.random.default_rng(4), 0
    for n in range(300):
        m = motion(n % 10)
        state = state_on(m, rng.uniform(0.0, m.duration), rng.uniform())
        o = observation(scene(n, m, state.progress, 2))
        low, own, high = (c.cycle(10.0, o, state, m).limit for c in (exact, reach, bare))
        assert low <= own <= high
        lower += own < high
    assert lower > 30


@pytest.mark.requirement("SAF-21")
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.floats(0.3, 1.0))
def test_an_arm_that_stops_as_slowly_as_measured_touches_nobody_under_reach(
    path: int, where: float, rate: float, seed: int, part: float
) -> None:
    """Played: the limit or less while the lease lasts, then the whole time and way of the table, braking evenly."""
    config = CONFIG.model_copy(update={"stopping_table": "x", "stopping_table_sha256": "0" * 64})
    table, m = stopping(1), motion(path)
    progress = where * m.duration
    balls = scene(seed, m, progress, 2)
    limit = (
        build_monitor("reach", config, model(), DEFAULT_LIMITS, stopping=table)
        .cycle(10.0, observation(balls), state_on(m, progress, rate), m)
        .limit
    )
    if limit == 0.0:
        return
    used = limit * part
    rows = table.along(m, 0.0).rows
    _, took, way = rows[min(int(np.searchsorted(rows[:, 0], used)), len(rows) - 1)]
    lasts = -0.08 + CONFIG.reaction.lease_validity + CONFIG.reaction.after_expiry
    for t in np.linspace(0.0, lasts + took, 40):
        left = 1.0 - max(0.0, t - lasts) / took
        at = min(m.duration, progress + used * (min(t, lasts) + min(way, took) * (1.0 - left * left)))
        assert separation(m, np.array([at]), balls) >= needed(0.06 + t) - 0.002


def test_jogging_counts_on_the_longest_stop() -> None:
    n = model().dof
    jog = Jogging(np.zeros(n), 0.25 * model().v_max, 0.25 * model().a_max, 0.1, 0.01, 0.004)
    short, long = np.empty(n), np.empty(n)
    assert turning(1.0, jog._replace(stopping=0.9), long) >= 0.1 + 0.9 > turning(1.0, jog, short)
    assert (long > short).all()


@pytest.mark.requirement("SAF-21")
def test_the_table_is_part_of_what_is_signed(tmp_path: Path) -> None:
    import json

    table = tmp_path / "stops.yaml"
    table.write_text(json.dumps(plain(0)), encoding="utf-8")
    digest = table_fingerprint(table)
    file = tmp_path / "s.yaml"
    named = f"title: t\nZ_d: 0.05\nZ_r: 0.03\nstopping_table: stops.yaml\nstopping_table_sha256: {digest}\n"
    file.write_text(named, encoding="utf-8")
    config = load_safety(file)
    assert stopping_of(config, file, model(), DEFAULT_LIMITS, "twin") is not None
    assert stopping_of(SafetyConfig(title="t", Z_d=0, Z_r=0), file, model(), DEFAULT_LIMITS, "twin") is None
    with pytest.raises(StoppingError, match="slope_down"):
        stopping_of(config, file, model(), RateLimits(3.0, 9.0, 160.0), "twin")
    table.write_text(json.dumps(plain(1)), encoding="utf-8")
    with pytest.raises(FileErrors, match="another fingerprint"):
        load_safety(file)
    with pytest.raises(StoppingError, match="fingerprint"):
        stopping_of(config, file, model(), DEFAULT_LIMITS, "twin")
    table.unlink()
    with pytest.raises(FileErrors, match="does not exist"):
        load_safety(file)
    file.write_text("title: t\nZ_d: 0.05\nZ_r: 0.03\nstopping_table: stops.yaml\n", encoding="utf-8")
    with pytest.raises(FileErrors, match="belong together"):
        load_safety(file)


def test_a_file_with_a_wrong_row_names_it(tmp_path: Path) -> None:
    file = tmp_path / "stops.yaml"
    rows = "\n".join(f"  - {row}" for row in change(plain(0)["rows"][:2], 1, time=-1.0))
    head = "title: t\ndate: 2026-01-31\nmodel: panda\ntool: x\ndriver: twin\nsimulation_only: true\n"
    file.write_text(
        head.replace("2026-01-31", '"2026-01-31"')
        + "rate_limits: {slope_up: 3, slope_down: 8, jerk: 160}\nrows:\n"
        + rows,
        encoding="utf-8",
    )
    with pytest.raises(FileErrors, match=r"rows\[1\]\.time"):
        load_table(file)
