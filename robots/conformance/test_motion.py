"""The driver under the unchanged robot node: it follows, it slows down, it stops, and it stays stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robots.conformance.bench import Bench, off_path
from robots.conformance.issuer import VALIDITY
from robots.watch import STANDING_SPEED

OFF_PATH = 4e-3
"""Largest deviation of the measured arm from the planned path, rad."""
REPORTED = 0.1
"""A state takes so long at most to be measured, sent and read, s."""

Hands = Callable[[Callable[[], Any]], Any]


def measured(bench: Bench, since: int) -> Any:
    return np.array([state.q for state in bench.states[since:]])


def stands(bench: Bench) -> bool:
    return bench.state.standing


def test_it_follows_a_motion(bench: Bench) -> None:
    motion, first = bench.motion(), len(bench.states)
    assert bench.ask(bench.start(motion)).verdict == "done", bench.state.fault_text
    end = np.abs(np.array(bench.state.q) - motion.path[-1]).max()
    assert end <= bench.config.settle_tolerance, f"ends {end:.4f} rad off"
    assert off_path(motion, measured(bench, first)) <= OFF_PATH
    worst = max(state.tracking_error for state in bench.states[first:])
    fastest = max(max(map(abs, state.dq_commanded)) for state in bench.states[first:])
    delay = bench.driver.info.drive_delay + 2.0 * bench.config.period
    assert worst <= OFF_PATH + fastest * (delay + bench.driver.info.control_period), "it lags more than it says"


def test_it_follows_any_rate(bench: Bench) -> None:
    """Speed limits that change at random leave the arm on its path, and it arrives."""
    motion, first = bench.motion(0.7), len(bench.states)
    request, random = bench.start(motion), np.random.default_rng(3)
    while not bench.status(request).finished:
        bench.issuer.limit = float(random.choice([1.0, 0.6, 0.25, 0.0], p=[0.4, 0.3, 0.2, 0.1]))
        bench.run(float(random.uniform(0.05, 0.3)))
        assert len(bench.states) - first < 30.0 / bench.config.period, bench.state.limit_reason
    assert bench.status(request).verdict == "done", bench.status(request).reason
    assert off_path(motion, measured(bench, first)) <= OFF_PATH
    rates = [state.rate for state in bench.states[first:]]
    assert min(rates[5:]) < 0.5 < max(rates), "the rate did not change"


def test_hold_and_resume(bench: Bench) -> None:
    motion, first = bench.motion(), len(bench.states)
    request = bench.start(motion, 0.3 * motion.duration)
    assert bench.ask(bench.client.set_override(0.0, bench.now)).verdict == "done"
    bench.until(lambda: stands(bench), "standstill", 3.0)
    held = np.array(bench.state.q)
    bench.run(0.3)
    assert np.abs(np.array(bench.state.q) - held).max() < 2e-3, "it creeps while it is held"
    assert bench.ask(bench.client.set_override(1.0, bench.now)).verdict == "done"
    assert bench.ask(request).verdict == "done"
    assert off_path(motion, measured(bench, first)) <= OFF_PATH


def test_a_lost_lease_stops_it_until_a_person_comes(bench: Bench) -> None:
    motion = bench.motion(0.7)
    request = bench.start(motion, 0.4 * motion.duration)
    first = len(bench.states) - 1
    stopping, _ = motion.braking(bench.state.rate, bench.state.progress)
    bench.issuer.limit = None
    took = bench.until(lambda: stands(bench), "standstill", 3.0)
    bound = VALIDITY + bench.driver.info.drive_delay + stopping + REPORTED
    assert took <= bound, f"stood after {took:.3f} s, must within {bound:.3f} s"
    braked = measured(bench, first)
    bench.run(0.6)
    assert bench.state.fault == "lease_lost", bench.state.fault_text
    bench.issuer.limit = 1.0
    q = np.array(bench.state.q)
    bench.run(0.5)
    assert np.abs(np.array(bench.state.q) - q).max() < 2e-3, "it went on by itself"
    bench.go_on()
    assert bench.ask(request).verdict == "done"
    # At the end: it takes long as well.
    assert off_path(motion, braked) <= OFF_PATH


def test_silence_of_the_node_stops_it(bench: Bench) -> None:
    """Without setpoints the drives brake by themselves, within the time the driver says."""
    motion = bench.motion(0.7)
    bench.start(motion, 0.4 * motion.duration)
    fastest = max(map(abs, bench.state.dq))
    assert fastest > 0.1
    bench.awake = False
    bench.run(bench.driver.info.watchdog + bench.driver.info.drive_delay + 0.5)
    before = bench.driver.state(bench.now)
    bench.run(0.2)
    after = bench.driver.state(bench.now)
    assert before is not None and after is not None
    assert max(abs(a - b) for a, b in zip(before.q, after.q, strict=True)) < 2e-3, "it still moves"
    assert max(map(abs, after.dq)) <= STANDING_SPEED


def test_the_vendors_stop_stops_it(bench: Bench) -> None:
    motion = bench.motion(0.7)
    bench.start(motion, 0.4 * motion.duration)
    assert bench.ask(bench.client.stop(1, "conformance", bench.now)).verdict == "done"
    bench.until(lambda: stands(bench), "standstill", 3.0)
    refused = bench.ask(bench.client.move(bench.motion(0.1, "m2"), bench.now))
    assert refused.verdict == "rejected" and refused.reason
    bench.go_on()
    assert bench.ask(bench.start(bench.motion(0.1, "m3"))).verdict == "done"


def test_a_fault_refuses_everything_until_a_person_clears_it(bench: Bench, hands: Hands) -> None:
    motion = bench.motion(0.7)
    bench.start(motion, 0.4 * motion.duration)
    code = hands(bench.around.raise_fault)
    bench.until(lambda: bool(bench.state.fault), "fault", 2.0)
    assert code in bench.state.fault or code in str(bench.events)
    bench.until(lambda: stands(bench), "standstill", 3.0)
    assert bench.ask(bench.client.move(bench.motion(0.1, "m2"), bench.now)).verdict == "rejected"
    hands(bench.around.lift_fault)
    bench.run(0.5)
    assert bench.state.fault, "the fault went away by itself"
    bench.until(lambda: bench.clear().verdict == "done", "a fault that can be cleared", 10.0)
    assert bench.ask(bench.client.set_override(1.0, bench.now)).verdict == "done"
    assert bench.ask(bench.start(bench.motion(0.1, "m3"))).verdict == "done"


def test_a_pulled_cable_is_noticed_and_mended_without_a_restart(bench: Bench, hands: Hands) -> None:
    motion = bench.motion(0.7)
    bench.start(motion, 0.4 * motion.duration)
    hands(bench.around.cut)
    bench.until(lambda: bool(bench.state.fault), "fault", bench.config.state_timeout + 1.0)
    assert bench.state.fault in ("driver_lost", "driver_fault"), bench.state.fault_text
    bench.run(1.0)
    assert bench.clear().verdict == "rejected", "cleared although nobody knows where the arm is"
    hands(bench.around.join)
    bench.run(1.5)
    q = np.array(bench.state.q)
    bench.run(0.5)
    assert np.abs(np.array(bench.state.q) - q).max() < 2e-3, "it went on by itself"
    bench.until(lambda: bench.clear().verdict == "done", "a fault that can be cleared", 10.0)
    assert bench.ask(bench.client.set_override(1.0, bench.now)).verdict == "done"
    assert bench.ask(bench.start(bench.motion(0.1, "m2"))).verdict == "done"


@pytest.mark.parametrize("joint", ["lowest", "highest"])
def test_nothing_is_sent_beyond_the_limits(bench: Bench, joint: str) -> None:
    """A motion over a joint's end is refused by the node; the driver never sees it."""
    motion = bench.motion(0.1, "beyond")
    path = motion.path.copy()
    path[:, -1] = np.linspace(path[0, -1], bench.model.q_upper[-1] + 0.2, len(path))
    if joint == "lowest":
        path[:, -1] = np.linspace(motion.path[0, -1], bench.model.q_lower[-1] - 0.2, len(path))
    move = motion.to_move()
    refused = bench.ask(bench.client.move(type(move)("beyond", move.step, move.dof, path.tobytes()), bench.now))
    assert refused.verdict == "rejected" and bench.model.joint_names[-1] in refused.reason
    bench.run(0.2)
    assert bench.state.standing


def test_the_gripper_goes_where_it_is_told(bench: Bench) -> None:
    if not bench.driver.info.gripper:
        pytest.skip("this driver has no gripper")
    for width in (0.03, bench.model.gripper_max):
        request = bench.client.grip(width, 0.0, bench.now)
        assert bench.ask(request).verdict == "done", bench.status(request).reason
        assert abs(bench.state.gripper_width - width) <= 2e-3
