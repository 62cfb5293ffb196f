"""The reaction time part by part: what is too long is named, and a total that is too long stops the arm."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.rates import DEFAULT_LIMITS
from safety.config import ReactionTime
from safety.monitor import Monitor
from safety.reaction import DATA, FRAMES, LASTING, MONITOR, PICTURES, ReactionWatch, budgets
from safety.supervisor import SupervisorCore
from tests.safety.test_monitor import CONFIG, model, motion
from tests.safety.test_supervisor import NOBODY, arm, seen

R = ReactionTime()


def test_the_budgets_of_what_the_supervisor_sees_make_up_the_lease() -> None:
    b = budgets(R)
    assert b[PICTURES] + b[FRAMES] == pytest.approx(R.lease_validity) == b[DATA]
    assert b[DATA] + R.after_expiry == pytest.approx(R.total)


def test_what_is_within_budget_is_silent() -> None:
    w = ReactionWatch(R)
    for n in range(1000):
        now = 10.0 + 0.008 * n
        fresh = seen(now, NOBODY) if n % 4 == 0 else None
        fresh = msgspec.structs.replace(fresh, t=now - 0.05, oldest_exposure=now - 0.051) if fresh else None
        w.take(now, fresh, now - 0.08)
        assert not w.over and not w.lasting(now)
    assert w.now == pytest.approx({MONITOR: 0.008, DATA: 0.08, PICTURES: 0.05, FRAMES: 0.032})


@pytest.mark.requirement("SAF-22")
@pytest.mark.parametrize(
    ("part", "late", "every", "cycle"),
    [(PICTURES, 0.084, 0.032, 0.008), (FRAMES, 0.05, 0.12, 0.008), (MONITOR, 0.05, 0.04, 0.02)],
)
def test_a_part_that_stays_over_its_budget_is_reported_after_a_second(
    part: str, late: float, every: float, cycle: float
) -> None:
    w = ReactionWatch(R)
    begin, reported = None, None
    for n in range(400):
        now = 10.0 + cycle * n
        fresh = None
        if round(n * cycle / every, 9) == int(round(n * cycle / every, 9)):
            fresh = msgspec.structs.replace(seen(now, NOBODY), t=now - late, oldest_exposure=now - late - 0.001)
        w.take(now, fresh, now - 0.08)
        begin = now if begin is None and part in w.over else begin
        if reported is None and part in w.lasting(now):
            reported = now
    assert begin is not None and reported is not None and reported - begin == pytest.approx(LASTING, abs=0.03)
    assert "ms more than configured" in w.over and w.over.count("ms more") == 1
    took = w.now[part]
    assert f"{took * 1e3:.0f} ms, {(took - w.budgets[part]) * 1e3:.0f} ms more" in w.over


@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats()), max_size=20))
def test_no_time_however_odd_breaks_it(times: list[tuple[float, float, float]]) -> None:
    w = ReactionWatch(R)
    for now, t, oldest in times:
        w.take(now, msgspec.structs.replace(seen(1.0, NOBODY), t=t, oldest_exposure=oldest), oldest)
        assert all(math.isfinite(v) and v >= 0.0 for v in w.now.values())
        assert isinstance(w.over + w.lasting(now), str)


@pytest.mark.requirement("SAF-22")
def test_old_data_stops_the_arm_and_names_the_part_that_was_late() -> None:
    """Pictures that come 150 ms late: limit 0 at once, resumable; not resumable after half a second."""
    m = motion(0)
    core = SupervisorCore(CONFIG, Monitor(CONFIG, model(), DEFAULT_LIMITS), model(), "print", 7)
    core.accept_motion(m.to_accepted())
    assert core.step(9.8, seen(9.8, NOBODY), arm(m, 9.8, 1.0)).lease.limit == 1.0
    for n in range(100):
        now = 10.0 + 0.008 * n
        late = msgspec.structs.replace(seen(now, NOBODY), t=now - 0.15, oldest_exposure=now - 0.151)
        out = core.step(now, late, arm(m, now, 0.5))
        assert out.lease.limit == 0.0
        assert "camera data is 151 ms old" in out.lease.reason
        assert f"{PICTURES} 150 ms, {150 - budgets(R)[PICTURES] * 1e3:.0f} ms more than configured" in out.lease.reason
        assert out.lease.restartable == (now - 10.0 <= 0.5)
    assert out.status.reaction[PICTURES] == pytest.approx(0.15)
    assert not out.status.reaction_exceeded
    for n in range(100, 150):
        now = 10.0 + 0.008 * n
        late = msgspec.structs.replace(seen(now, NOBODY), t=now - 0.15, oldest_exposure=now - 0.151)
        out = core.step(now, late, arm(m, now, 0.5))
    assert PICTURES in out.status.reaction_exceeded
