"""The driver by itself: what it says of itself, and that it takes nothing it must not take."""

from __future__ import annotations

import math

import pytest

from cell.bus.inprocess import Hub
from robots.conformance.bench import Bench
from robots.conformance.conftest import Subject
from robots.contract import DriverError, Setpoint

PATIENCE = 2.0
"""Longest time until an arm that was connected has a state, s: as the robot node demands it."""


def test_wrong_options_are_refused_with_cause_and_remedy(subject: Subject) -> None:
    # The first test: making further surroundings takes time, in which the node of `calm` would be silent.
    around = subject._replace(options={**subject.options, "no_such_option": 1}).around(Hub())
    try:
        with pytest.raises(DriverError) as caught:
            around.driver(Hub().ports("arm"))
    finally:
        around.close()
    error = caught.value
    assert error.code and " " not in error.code, "a stable name for people's searches"
    assert "no_such_option" in error.cause and error.remedy


def test_it_says_what_it_can(calm: Bench) -> None:
    info = calm.driver.info
    assert info.name and info.dof == calm.model.dof
    assert 0.0005 <= info.control_period <= 0.02, "control_period in s"
    assert 0.0 <= info.drive_delay <= 0.2, "drive_delay in s: from `send` to the drives acting on it"
    assert info.control_period < info.watchdog <= 0.5, "watchdog in s: without setpoints the drives brake by themselves"
    assert info.commands, "how the drives are commanded"
    assert len(set(info.inputs)) == len(info.inputs) and len(set(info.outputs)) == len(info.outputs)


def test_connect_twice_is_connect(calm: Bench) -> None:
    calm.driver.connect(calm.now)
    calm.driver.connect(calm.now)
    calm.run(0.1)
    assert not calm.state.fault


def test_states_are_fresh_and_numbered(calm: Bench) -> None:
    """Every state is finite, has the arm's joints, and is newer than the one before or the same one."""
    before = calm.driver.state(calm.now)
    assert before is not None
    stamps = set()
    for _ in range(100):
        calm.step()
        state = calm.driver.state(calm.now)
        assert state is not None
        assert len(state.q) == len(state.dq) == len(state.tau) == calm.driver.info.dof
        assert math.isfinite(sum(state.q) + sum(state.dq) + sum(state.tau) + state.gripper_width)
        assert state.seq >= before.seq and state.t >= before.t
        assert state.seq > before.seq or state.t == before.t, "the same number, measured at another time"
        assert -0.02 <= calm.now - state.t <= calm.config.state_timeout, f"{calm.now - state.t:.3f} s old"
        vendors = {"emergency_stop", "safeguard", "enabling_device", "mode_switch"}
        assert set(state.inputs) >= set(calm.driver.info.inputs) - vendors
        stamps.add(state.t)
        before = state
    assert len(stamps) >= 20, "the state stands still"


@pytest.mark.parametrize("wrong", ["nan", "infinite", "short", "long"])
def test_a_setpoint_that_is_none_is_refused(calm: Bench, wrong: str) -> None:
    q = list(calm.state.q_commanded)
    zero = [0.0] * len(q)
    values = {"nan": [math.nan, *q[1:]], "infinite": [*q[:-1], math.inf], "short": q[:-1], "long": [*q, 0.0]}[wrong]
    with pytest.raises(DriverError):
        calm.driver.send(Setpoint(1 << 40, calm.now, values, zero[: len(values)]))
    calm.run(0.2)
    assert max(abs(a - b) for a, b in zip(calm.state.q, q, strict=True)) < 0.01, "the arm moved"


def test_what_was_sent_is_told(calm: Bench) -> None:
    """`send` answers with what really went to the drives: at standstill the very setpoint."""
    q = list(calm.state.q_commanded)
    sent = calm.driver.send(Setpoint(calm.state.seq + 1, calm.now, q, [0.0] * len(q)))
    assert max(abs(a - b) for a, b in zip(sent.q, q, strict=True)) < 1e-9


@pytest.mark.parametrize(("width", "force"), [(math.nan, 1.0), (0.02, math.inf), (-1.0, 1.0), (0.02, -5.0)])
def test_a_grip_that_is_none_is_refused(calm: Bench, width: float, force: float) -> None:
    if not calm.driver.info.gripper:
        pytest.skip("this driver has no gripper")
    with pytest.raises(DriverError):
        calm.driver.grip(width, force)


def test_an_output_it_has_not_is_refused(calm: Bench) -> None:
    with pytest.raises(DriverError) as caught:
        calm.driver.set_output("no_such_output", True)
    assert "no_such_output" in str(caught.value)


def test_outputs_are_reported(calm: Bench) -> None:
    if not calm.driver.info.outputs:
        pytest.skip("this driver has no outputs")
    name = calm.driver.info.outputs[0]
    for value in (True, False):
        calm.driver.set_output(name, value)
        calm.until(lambda value=value: calm.state.outputs.get(name) is value, f"{name} = {value}", 2.0)  # type: ignore[misc]


def test_stop_twice_is_stop_and_close_twice_is_close(bench: Bench) -> None:
    for _ in range(2):
        bench.driver.stop(1, bench.now)
        bench.run(0.05)
    bench.driver.stop(0, bench.now)
    bench.run(0.1)
    bench.driver.close()
    bench.driver.close()
