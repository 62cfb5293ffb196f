"""Ticks of the robot node: a lasting overload stops the arm, single gaps do not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.pace import LONGEST, SLOW, WINDOW, Pace
from tests.robots.bench import Bench

PERIOD = 0.004
COUNT = round(WINDOW / PERIOD)


@pytest.mark.requirement("ROB-21")
@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=400))
def test_only_a_lasting_overload_counts(gaps: list[float]) -> None:
    pace, now = Pace(PERIOD), 5.0
    assert pace.tick(now) == ""
    taken = [PERIOD] * COUNT
    for gap in gaps:
        before, now = now, now + gap
        taken = [*taken[1:], min(now - before, LONGEST)]
        mean = sum(taken) / COUNT
        slow = pace.tick(now)
        assert pace.gap == now - before
        if abs(mean - SLOW * PERIOD) > 1e-9:
            assert bool(slow) == (mean > SLOW * PERIOD)
    assert pace.worst == pytest.approx(max(gaps), abs=1e-9)


def test_a_regular_node_and_one_pause_are_fine() -> None:
    pace, now = Pace(PERIOD), 0.0
    for n in range(5000):
        now += 1.0 if n == 2000 else PERIOD * (1.9 if n % 2 else 0.9)
        assert pace.tick(now) == ""


@pytest.mark.parametrize("odd", [math.nan, -math.inf, -1.0])
def test_time_that_runs_back_or_is_no_number_counts_as_no_tick(odd: float) -> None:
    pace = Pace(PERIOD)
    pace.tick(1.0)
    assert pace.tick(odd) == "" and pace.gap == 0.0


@pytest.mark.requirement("ROB-21")
def test_a_node_that_stays_slow_is_stopped() -> None:
    b = Bench()
    b.start(2.5, until=0.2)
    # Its pace sees ticks of 10 ms instead of 4.
    late, tick = [0.0], b.node.core.pace.tick
    b.node.core.pace.tick = lambda now: tick(now + late[0])  # type: ignore[method-assign]
    for _ in range(COUNT):
        late[0] += 0.006
        b.step()
        if b.state.fault:
            break
    assert b.state.fault == "node_slow" and "on average" in b.state.fault_text
    b.brake()
    assert b.state.motion_id, "the motion is kept"
