"""The second channel's stopping table: never below a neighbour, never more permissive than what was measured."""

from __future__ import annotations

import math
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.contract import PartGeometry
from robots.description import load_description
from robots.rates import DEFAULT_LIMITS, RateLimits
from safety.config import ReactionTime
from safety.monitor import Monitor
from safety.recheck import Recheck
from safety.second import SecondMonitor
from safety.second_arm import ArmError, ArmGeometry
from safety.second_stop import LENIENT, STRICT, Care, Case, fall, quickest_stop, stop_within
from safety.second_table import NOT_MEASURED, MeasuredStops, Stops
from safety.stopping import Stopping, StopTable, extension
from tests.safety.test_monitor import model, motion, observation, scene, state_on
from tests.safety.test_recheck import PRINT, lease_for
from tests.safety.test_second import CONFIG, course, second
from tests.safety.test_stopping import LOADS, plain

NAMED = CONFIG.model_copy(update={"stopping_table": "x", "stopping_table_sha256": "0" * 64})
GEOMETRY = ArmGeometry(load_description(model().name), model().tool_name)


@cache
def table(seed: int, longest: float = 0.5) -> StopTable:
    return StopTable.model_validate(plain(seed, longest))


@cache
def channel(seed: int, longest: float = 0.5) -> SecondMonitor:
    return SecondMonitor(NAMED, model(), DEFAULT_LIMITS, stopping=table(seed, longest))


def measured(seed: int) -> MeasuredStops:
    return MeasuredStops(table(seed), model(), GEOMETRY, DEFAULT_LIMITS)


def test_its_own_extension_is_that_of_the_measurement() -> None:
    Q = np.random.default_rng(5).uniform(model().q_lower, model().q_upper, (50, model().dof))
    found = np.linalg.norm(GEOMETRY.tips(Q) - GEOMETRY.shoulder(Q), axis=1)
    assert found == pytest.approx([extension(model(), q) for q in Q], abs=1e-9)


@pytest.mark.requirement("SAF-21")
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.integers(0, 5), st.floats(0.0, 1.0), st.sampled_from([0.0, 0.4, 3.0]))
def test_it_never_counts_on_a_shorter_stop_than_the_first_channel(
    path: int, seed: int, rate: float, load: float
) -> None:
    """Both read the same rows by calculations of their own."""
    first = Stopping(table(seed), model(), DEFAULT_LIMITS, "twin").along(motion(path), load)
    strict, lenient = (measured(seed).along(course(path), load, s) for s in (True, False))
    row = first.rows[min(int(np.searchsorted(first.rows[:, 0], rate)), len(first.rows) - 1)]
    time, way = strict.of(rate)
    assert time >= row[1] - 1e-12 or rate <= 0.0
    assert way >= rate * row[2] - 1e-12 and strict.top <= first.top + 1e-12
    # In favour of a lease it never counts on a longer one.
    time, way = lenient.of(rate * (1.0 - 1e-9))
    assert time <= row[1] + 1e-12 and way <= rate * row[2] + 1e-12 and lenient.top >= first.top * (1.0 - 1e-6)


@pytest.mark.requirement("SAF-21")
@pytest.mark.parametrize("wrong", ["arm", "tool", "brake", "missing", "joint"])
def test_a_table_of_another_arm_or_with_gaps_is_refused(wrong: str) -> None:
    given = plain(0)
    limits = DEFAULT_LIMITS
    if wrong in ("arm", "tool"):
        given["model" if wrong == "arm" else "tool"] = "other"
    elif wrong == "brake":
        limits = RateLimits(3.0, 9.0, 160.0)
    elif wrong == "missing":
        given["rows"].pop(17)
    else:
        given["rows"][17]["joint"] = 8
    with pytest.raises(ArmError, match="stopping table"):
        SecondMonitor(NAMED, model(), limits, stopping=StopTable.model_validate(given))


def test_configuration_and_table_belong_together() -> None:
    with pytest.raises(ValueError, match="belong together"):
        SecondMonitor(NAMED, model(), DEFAULT_LIMITS)
    with pytest.raises(ValueError, match="belong together"):
        SecondMonitor(CONFIG, model(), DEFAULT_LIMITS, stopping=table(0))


@pytest.mark.requirement("SAF-21")
def test_what_was_not_measured_is_not_permitted() -> None:
    heavy = PartGeometry("block", (0.05, 0.05, 0.05), (0, 0, 0, 0, 0, 0, 1), max(LOADS) + 2.0)
    state = msgspec.structs.replace(state_on(motion(0), 0.4, 0.5), held=heavy)
    nobody = observation(np.zeros((0, 4)))
    refused = channel(0).judge(10.0, nobody, state, course(0))
    assert refused.limit == 0.0 and "5 kg" in refused.reason and not refused.by_separation
    short = plain(0)
    for row in short["rows"]:
        row["extension"] *= 0.3
    found = SecondMonitor(NAMED, model(), DEFAULT_LIMITS, stopping=StopTable.model_validate(short))
    assert "reaches out" in found.judge(10.0, nobody, state_on(motion(0), 0.4, 0.5), course(0)).reason
    slow = plain(0)
    for row in slow["rows"]:
        row["speed"] *= 0.2
    found = SecondMonitor(NAMED, model(), DEFAULT_LIMITS, stopping=StopTable.model_validate(slow))
    first = Monitor(NAMED, model(), DEFAULT_LIMITS, stopping=Stopping(
        StopTable.model_validate(slow), model(), DEFAULT_LIMITS, "twin"))  # fmt: skip
    tops = []
    for path in range(12):
        state = state_on(motion(path), 0.4, 0.1)
        one = first.cycle(10.0, nobody, state, motion(path)).limit
        two = found.judge(10.0, nobody, state, course(path)).limit
        assert two <= one
        tops.append(two)
    assert min(tops) < 0.9 and max(tops) > 0.05


@pytest.mark.requirement("SAF-21")
def test_with_a_table_it_never_permits_more_nor_more_than_the_table_allows_the_first() -> None:
    rng = np.random.default_rng(2)
    first = Monitor(NAMED, model(), DEFAULT_LIMITS, stopping=Stopping(table(1), model(), DEFAULT_LIMITS, "twin"))
    lower, between = 0, 0
    for n in range(300):
        path = n % 10
        m = motion(path)
        progress = rng.uniform(0.0, m.duration)
        o, state = observation(scene(n, m, progress, 1)), state_on(m, progress, 0.5 * rng.uniform())
        bare = second().judge(10.0, o, state, course(path)).limit
        slow = channel(1).judge(10.0, o, state, course(path)).limit
        assert slow <= bare
        lower += slow < bare
        # Where the table decides, both channels count on the same stop; the second keeps its reserves beside it.
        one = first.cycle(10.0, o, state, m).limit
        assert slow <= one + 0.02
        between += 0.02 < one < 1.0
    assert lower > 30 and between > 5


@pytest.mark.requirement("SAF-21")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.integers(1, 4))
def test_what_the_first_channel_grants_by_the_table_is_never_found_too_permissive(
    path: int, where: float, rate: float, seed: int, n: int
) -> None:
    m = motion(path)
    first = Monitor(NAMED, model(), DEFAULT_LIMITS, stopping=Stopping(table(3), model(), DEFAULT_LIMITS, "twin"))
    o, state = observation(scene(seed, m, where * m.duration, n)), state_on(m, where * m.duration, rate)
    granted = first.cycle(10.0, o, state, m).limit
    if granted >= 0.02:
        margins = channel(3).audit(o, state, course(path), granted)
        assert margins is not None and margins[0] >= -0.001


@pytest.mark.requirement("SEC-04")
def test_a_lease_that_forgot_the_table_is_found_by_the_recheck() -> None:
    """A supervisor that counts on the node's own law where a longer stop was measured."""
    found = 0
    for n in range(60):
        m = motion(1)
        o, state = observation(scene(n, m, 0.4 * m.duration, 2)), state_on(m, 0.4 * m.duration, 0.5)
        forgot = Monitor(CONFIG, model(), DEFAULT_LIMITS).cycle(10.0, o, state, m).limit
        check = Recheck(NAMED, channel(4, 0.9), PRINT)
        check.motion(m.to_accepted())
        check.observation(o)
        check.state(state)
        if forgot > 0.05:
            check.lease(lease_for(o, state, forgot, progress_to=math.ceil(m.duration)))
        found += len(check.tally.findings)
    assert found > 5


def stairs(rng: np.random.Generator) -> Stops:
    rates = np.sort(rng.uniform(0.1, 1.0, 4))
    return Stops(rates, np.sort(rng.uniform(0.02, 0.6, 4)), np.sort(rng.uniform(0.02, 0.6, 4)), 1.0)


@pytest.mark.requirement("SAF-21")
def test_time_and_sweep_grow_with_the_limit_and_hold_the_measured_stop() -> None:
    rng, reaction = np.random.default_rng(9), ReactionTime()
    longer = 0
    for n in range(1500):
        c = course(n % 12)
        rate = rng.uniform()
        case = Case(
            rng.uniform(0.01, 0.9) * c.duration, rate, rate, rng.uniform(0.0, 3.0), rng.uniform(0.005, 0.15), 0.006,
            0.06, stairs(rng),
        )  # fmt: skip
        limits = np.sort(rng.uniform(0.001, 1.0, 10))
        with_table = np.array([stop_within(float(x), case, c, STRICT, DEFAULT_LIMITS, reaction) for x in limits])
        bare = case._replace(stops=NOT_MEASURED)
        without = np.array([stop_within(float(x), bare, c, STRICT, DEFAULT_LIMITS, reaction) for x in limits])
        assert (with_table >= without).all()
        longer += int((with_table > without).sum())
        for limit, (time, swept) in zip(limits, with_table, strict=True):
            least, way = case.stops.of(float(limit))
            assert time >= case.horizon + least - 1e-9 and swept >= way - 1e-9
            soonest = quickest_stop(float(limit), case, c, DEFAULT_LIMITS, reaction)
            assert soonest[0] <= time + reaction.tick and soonest[1] <= swept + reaction.tick
    assert longer > 1000


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.floats(0.01, 1.0), st.floats(0.0, 3.0), st.floats(1.0, 12.0), st.floats(0.0, 0.2), st.integers(0, 10**6))
def test_the_rate_at_the_end_of_a_lease_is_never_taken_too_low(
    rate: float, slope: float, down: float, after: float, seed: int
) -> None:
    """Played tick by tick: the arm falls towards the limit and is still above it when the lease ends."""
    from robots.rates import rate_step
    from safety.second_stop import _rate_at

    limit = rate * float(np.random.default_rng(seed).uniform())
    case = Case(0.5, rate, rate, slope, after, 0.0, 0.06)
    bound = _rate_at(after, limit, case, 0.97 * down, DEFAULT_LIMITS.jerk, 0.008)
    r, u, tick = rate, slope, 0.004
    for _ in range(int(after / tick)):
        r, u = rate_step(r, u, limit, DEFAULT_LIMITS.slope_up, down, DEFAULT_LIMITS.jerk, tick)
    assert bound >= min(1.0, r) - 1e-6


def test_care_without_doubt_is_what_the_audit_uses() -> None:
    assert Care(1.0, 0.0, 0.0) == LENIENT and fall(0.0, 0.5, 0.0, 8.0, 160.0, 0.008) == (0.0, 0.0)


def test_jogging_counts_on_the_longest_stop() -> None:
    q = motion(0).sample(0.0)[0]
    zero = np.zeros(7).tolist()
    state = state_on(motion(0), 0.0, 0.0)
    state = msgspec.structs.replace(state, q=q.tolist(), dq=zero, dq_commanded=zero, motion_id="", mode="manual")
    here = second()._links(q, None)
    bare, slow = (c._jogged(0.5, state, here, 0.1, 0.006) for c in (second(), channel(4, 0.9)))
    assert slow[0] >= 0.1 + table(4, 0.9).rows[0].time and slow[0] > bare[0] and slow[1] > bare[1]
