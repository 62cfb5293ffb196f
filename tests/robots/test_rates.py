"""The rate of progress: bounds, landing, invalid input."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.rates import DEFAULT_LIMITS, rate_step

DT = st.sampled_from([0.001, 0.002, 0.004])


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 80)), min_size=1, max_size=8), DT)
def test_slope_and_jerk_stay_bounded_and_the_target_is_reached(profile: list[tuple[float, int]], dt: float) -> None:
    up, down, jerk = DEFAULT_LIMITS
    rate = slope = 0.0
    for target, ticks in [*profile, (0.0, 2000)]:
        for _ in range(ticks):
            before = slope
            last = rate
            rate, slope = rate_step(rate, slope, target, up, down, jerk, dt)
            assert 0.0 <= rate <= 1.0
            assert -down - 1e-9 <= slope <= up + 1e-9
            assert -down * dt - 1e-9 <= rate - last <= up * dt + 1e-9
            # the landing tick and the end stops may shed up to two ticks' worth of slope
            assert abs(slope - before) <= 3.0 * jerk * dt + 1e-9 or rate in (0.0, 1.0)
    assert (rate, slope) == (0.0, 0.0)


@given(st.floats(0, 1), st.floats(0, 1), DT)
def test_a_constant_target_is_never_overshot(start: float, target: float, dt: float) -> None:
    rate, slope = start, 0.0
    for _ in range(3000):
        rate, slope = rate_step(rate, slope, target, *DEFAULT_LIMITS, dt)
        assert min(start, target) - 1e-12 <= rate <= max(start, target) + 1e-12
    assert rate == pytest.approx(target, abs=1e-12)


def test_full_stop_takes_what_the_limits_allow() -> None:
    rate, slope, t = 1.0, 0.0, 0.0
    while rate > 0:
        rate, slope = rate_step(rate, slope, 0.0, *DEFAULT_LIMITS, 0.004)
        t += 0.004
    # 1/8 s at full slope and half of the slope's own build-up and landing, 8/160 s
    assert t == pytest.approx(1 / 8 + 8 / 160, abs=0.012)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_invalid_input_stands(bad: float) -> None:
    assert rate_step(bad, 0.0, 1.0, *DEFAULT_LIMITS, 0.004) == (0.0, 0.0)
    assert rate_step(0.5, 0.0, math.nan, *DEFAULT_LIMITS, 0.004) == (0.0, 0.0)
    assert rate_step(0.5, math.nan, 1.0, *DEFAULT_LIMITS, 0.004) == (0.0, 0.0)
