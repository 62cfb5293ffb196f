"""Manual work: only with the vendor's mode switch and enabling device, and over the moment one of them says no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest

from robots.conformance.bench import Bench

RENEWED = 0.05
"""Time between two jog commands, s."""
SPEED = 0.2
"""rad/s."""
Devices = Callable[[Literal["automatic", "manual"], bool], None]


@pytest.fixture
def devices(bench: Bench) -> Iterator[Devices]:
    """Turns the switch, holds or releases the device, and waits until the arm tells."""
    turn = getattr(bench.around, "devices", None)
    if not bench.driver.info.manual_devices:
        pytest.skip("this driver reads no mode switch and no enabling device")
    if turn is None:
        pytest.skip("nobody here turns the mode switch: give the surroundings a method `devices`")

    def do(switch: Literal["automatic", "manual"], enabling: bool) -> None:
        turn(switch, enabling)
        bench.until(lambda: told(bench) == (switch, enabling), f"{switch}, device {enabling}", 2.0)
        bench.run(0.02)

    yield do
    turn("automatic", False)


def told(bench: Bench) -> tuple[Any, bool]:
    state = bench.driver.state(bench.now)
    assert state is not None
    return state.mode_switch, state.enabling_device


def mode(bench: Bench, wanted: Literal["automatic", "manual"]) -> Any:
    return bench.ask(bench.client.set_mode(wanted, bench.now))


def jog(bench: Bench, seconds: float) -> float:
    """Jog the last joint; return how far it has turned, rad."""
    q = np.array(bench.state.q)
    velocity = [0.0] * bench.model.dof
    velocity[-1] = SPEED
    for _ in range(round(seconds / RENEWED)):
        bench.issuer.motion_id = ""
        bench.client.jog("joint", velocity, bench.now)
        bench.run(RENEWED)
    return float(np.abs(np.array(bench.state.q) - q).max())


def test_a_real_arm_whose_devices_are_not_read_is_not_worked_on_by_hand(bench: Bench) -> None:
    info = bench.driver.info
    if info.manual_devices or info.simulated:
        pytest.skip("this driver reads mode switch and enabling device, or moves nothing real")
    refused = mode(bench, "manual")
    assert refused.verdict == "rejected" and refused.reason
    assert bench.state.manual_missing
    assert jog(bench, 0.3) < 2e-3 and bench.state.mode == "automatic"


def test_the_mode_switch_decides_on_the_mode(bench: Bench, devices: Devices) -> None:
    devices("automatic", True)
    refused = mode(bench, "manual")
    assert refused.verdict == "rejected" and "switch" in refused.reason
    assert "switch" in bench.state.manual_missing
    devices("manual", False)
    assert mode(bench, "manual").verdict == "done"
    refused = mode(bench, "automatic")
    assert refused.verdict == "rejected" and "switch" in refused.reason
    devices("automatic", False)
    assert mode(bench, "automatic").verdict == "done"
    assert bench.ask(bench.start(bench.motion(0.1))).verdict == "done"


def test_jogging_needs_the_enabling_device_and_ends_with_it(bench: Bench, devices: Devices) -> None:
    devices("manual", False)
    assert mode(bench, "manual").verdict == "done"
    assert "enabling" in bench.state.manual_missing
    assert jog(bench, 0.4) < 2e-3, "it moves without the enabling device"
    devices("manual", True)
    assert bench.state.manual_missing == ""
    assert jog(bench, 0.6) > 0.05
    devices("manual", False)
    # A quarter of the joint's acceleration is used for jogging; the rest is time to be told and to follow.
    braking = SPEED / (0.25 * float(bench.model.a_max[-1]))
    bench.run(braking + bench.driver.info.drive_delay + 0.15)
    assert jog(bench, 0.3) < 2e-3, "it moves on without the enabling device"
    assert not bench.state.fault


def test_a_motion_by_hand_is_held_and_waits_for_a_new_command(bench: Bench, devices: Devices) -> None:
    devices("manual", True)
    assert mode(bench, "manual").verdict == "done"
    motion = bench.motion(0.2)
    request = bench.start(motion, 0.3 * motion.duration)
    devices("manual", False)
    bench.until(lambda: bench.state.standing, "standstill", 3.0)
    assert bench.state.limit_by == "enabling_device"
    devices("manual", True)
    q = np.array(bench.state.q)
    bench.run(0.5)
    assert np.abs(np.array(bench.state.q) - q).max() < 2e-3, "it went on by itself"
    assert bench.ask(bench.client.set_override(1.0, bench.now)).verdict == "done"
    assert bench.ask(request).verdict == "done"


def test_no_automatic_motion_while_the_switch_says_manual(bench: Bench, devices: Devices) -> None:
    devices("automatic", False)
    motion = bench.motion(0.7)
    request = bench.start(motion, 0.3 * motion.duration)
    devices("manual", True)
    bench.until(lambda: bench.state.standing, "standstill", 3.0)
    assert bench.state.limit_by == "mode_switch"
    devices("automatic", False)
    q = np.array(bench.state.q)
    bench.run(0.5)
    assert np.abs(np.array(bench.state.q) - q).max() < 2e-3, "it went on by itself"
    assert bench.ask(bench.client.set_override(1.0, bench.now)).verdict == "done"
    assert bench.ask(request).verdict == "done"
