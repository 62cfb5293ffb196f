"""A camera's clock: pictures are never taken for newer than they are by more than the configuration says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.cameras.hardwareclock import JUMP, SETTLE, WINDOW, WRAP, HardwareClock

LATENCY = 0.05


def placed(clock: HardwareClock, begin: float, offset: float, delays: list[float], period: float = 1 / 30,
           drift: float = 0.0) -> list[tuple[float, float | None, float]]:  # fmt: skip
    """(true exposure, placed, arrival) of frames exposed at `begin` + k periods on the cell's clock."""
    out = []
    for k, delay in enumerate(delays):
        true = begin + k * period
        out.append((true, clock.place((true - offset) * (1.0 + drift), true + delay), true + delay))
    return out


@pytest.mark.requirement("PER-10")
@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.floats(-1e5, 1e5),
    st.floats(0.0, LATENCY),
    st.lists(st.floats(0.0, 0.2), min_size=40, max_size=120),
    st.floats(-1e-4, 1e-4),
)
def test_no_picture_is_placed_later_than_it_was(offset: float, least: float, jitter: list[float], drift: float) -> None:
    """Once one frame has come with the least delay, up to the configured one."""
    delays = [least + (0.0 if k == 3 else extra) for k, extra in enumerate(jitter)]
    slack = abs(drift) * WINDOW + 1e-6
    begin = 100.0 + offset
    for true, at, arrival in placed(HardwareClock(LATENCY), begin, offset, delays, drift=drift):
        if at is not None:
            assert at <= true + slack
            assert at <= arrival
            assert at >= true - LATENCY - slack, "nor much older than it must be"


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.0, 0.3), min_size=60, max_size=60), st.floats(0.0, 0.3))
def test_even_when_no_frame_came_quickly_the_error_is_the_excess_of_the_least_delay(
    jitter: list[float], least: float
) -> None:
    for k, (true, at, _) in enumerate(placed(HardwareClock(LATENCY), 5.0, 0.0, [least + j for j in jitter])):
        if at is not None:
            assert at <= true + max(0.0, least + min(jitter[: k + 1]) - LATENCY) + 1e-9


@pytest.mark.requirement("PER-10")
def test_the_first_frames_after_a_start_are_not_used() -> None:
    clock = HardwareClock(LATENCY)
    results = [at for _, at, _ in placed(clock, 1.0, 0.5, [0.02] * (SETTLE + 5))]
    assert results[:SETTLE] == [None] * SETTLE
    assert all(at is not None for at in results[SETTLE:])


def test_microseconds_of_32_bits_begin_again_without_a_gap() -> None:
    clock, period = HardwareClock(LATENCY), 1 / 30
    hardware = [(WRAP - 1.0 + k * period) % WRAP for k in range(90)]
    results = [clock.place(h, 50.0 + k * period + 0.02) for k, h in enumerate(hardware)]
    kept = [at for at in results if at is not None]
    assert len(kept) == 90 - SETTLE
    assert np.allclose(np.diff(kept), period, atol=1e-6)


@pytest.mark.requirement("PER-10")
@pytest.mark.parametrize("jump", [-JUMP - 0.5, JUMP + 0.5, -3000.0, 1e6])
def test_a_clock_that_was_set_is_learned_anew(jump: float) -> None:
    clock = HardwareClock(LATENCY)
    placed(clock, 10.0, 0.0, [0.02] * 30)
    after = [clock.place(11.0 + jump + k / 30, 11.0 + k / 30 + 0.03) for k in range(40)]
    assert after[: SETTLE - 1] == [None] * (SETTLE - 1)
    known = [(k, at) for k, at in enumerate(after) if at is not None]
    assert known
    assert all(at <= 11.0 + k / 30 + 1e-9 for k, at in known)


@pytest.mark.requirement("PER-10")
def test_repeated_and_earlier_frames_have_no_time() -> None:
    clock = HardwareClock(LATENCY)
    placed(clock, 10.0, 0.0, [0.02] * 30)
    now = 10.0 + 30 / 30
    assert clock.place(now, now + 0.02) is not None
    assert clock.place(now, now + 0.03) is None
    assert clock.place(now - 0.2, now + 0.04) is None
    assert clock.place(now + 1 / 30, now + 1 / 30 + 0.02) is not None


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_times_that_are_none(wrong: float) -> None:
    clock = HardwareClock(LATENCY)
    placed(clock, 10.0, 0.0, [0.02] * 30)
    assert clock.place(wrong, 12.0) is None
    assert clock.place(12.0, wrong) is None
    assert clock.place(11.0, 11.02) is not None
