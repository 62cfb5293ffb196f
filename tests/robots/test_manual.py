"""Manual work needs the vendor's devices: each combination of driver, switch and device, and the moment one changes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.contract import DriverInfo, DriverState
from robots.manual import automatic_missing, manual_missing, switch_missing
from tests.robots.bench import Bench

SWITCHES: list[Literal["automatic", "manual"] | None] = [None, "automatic", "manual"]


def info(devices: bool, simulated: bool) -> DriverInfo:
    return DriverInfo("any", 1, 0.004, 0.01, 0.1, False, manual_devices=devices, simulated=simulated)


def state(switch: Literal["automatic", "manual"] | None, held: bool) -> DriverState:
    return DriverState(
        1, 0.0, [0.0], [0.0], [0.0], 0.0, False, {}, {}, False, False, enabling_device=held, mode_switch=switch
    )


@pytest.mark.requirement("ROB-30")
@given(st.booleans(), st.booleans(), st.sampled_from(SWITCHES), st.booleans(), st.booleans(), st.booleans())
def test_a_real_arm_needs_both_devices_whatever_is_configured(
    devices: bool, simulated: bool, switch: Any, held: bool, demanded: bool, known: bool
) -> None:
    driver, seen = info(devices, simulated), state(switch, held) if known else None
    free = manual_missing(driver, seen, demanded) == ""
    if not simulated:
        assert free == (devices and known and switch == "manual" and held)
        assert (switch_missing(driver, seen) == "") == (devices and known and switch == "manual")
    elif free:
        assert not demanded or (known and held)
        assert not (devices and known and switch == "automatic")
    forbidden = automatic_missing(driver, seen) != ""
    assert forbidden == (devices and known and switch == "manual")


def bench(**changes: Any) -> Bench:
    """The null driver as if it were a real arm's."""
    b = Bench(hello=False, info={"simulated": False, **changes})
    b.run(0.1)
    return b


def set_mode(b: Bench, mode: Literal["automatic", "manual"]) -> Any:
    return b.ask(b.client.set_mode(mode, b.now))


@pytest.mark.requirement("ROB-30")
def test_a_real_arm_without_devices_has_no_manual_mode() -> None:
    b = bench(manual_devices=False)
    b.driver.enabling_device, b.driver.mode_switch = True, "manual"
    b.run(0.02)
    refused = set_mode(b, "manual")
    assert refused.verdict == "rejected" and "neither" in refused.reason
    assert b.state.manual_missing == refused.reason and b.state.mode == "automatic"
    assert b.client.capabilities["manual_devices"] is False and b.client.capabilities["simulated"] is False


@pytest.mark.requirement("ROB-30")
def test_a_switch_that_cannot_be_read_is_not_manual() -> None:
    b = bench()
    b.driver.enabling_device = True
    refused = set_mode(b, "manual")
    assert refused.verdict == "rejected" and "does not tell" in refused.reason


@pytest.mark.requirement("ROB-30")
def test_no_cell_file_does_away_with_the_device_of_a_real_arm() -> None:
    b = Bench(hello=False, info={"simulated": False}, enabling_device=False)
    b.driver.mode_switch = "manual"
    b.run(0.1)
    assert set_mode(b, "manual").verdict == "done"
    assert "enabling" in b.state.manual_missing
    refused = b.ask(b.client.move(b.motion(0.3), b.now))
    assert refused.verdict == "rejected" and "enabling" in refused.reason


@pytest.mark.requirement("ROB-30")
@pytest.mark.parametrize("lost", ["device", "switch", "unknown"])
def test_jogging_brakes_at_once_when_a_device_says_no(lost: str) -> None:
    b = bench()
    b.driver.mode_switch, b.driver.enabling_device = "manual", True
    assert set_mode(b, "manual").verdict == "done"
    for _ in range(6):
        b.client.jog("joint", [0.2, 0, 0, 0, 0, 0, 0], b.now)
        b.run(0.05)
    assert b.state.dq_commanded[0] == pytest.approx(0.2, abs=1e-6)
    if lost == "device":
        b.driver.enabling_device = False
    else:
        b.driver.mode_switch = "automatic" if lost == "switch" else None
    before = b.state.dq_commanded[0]
    b.step()
    assert b.state.dq_commanded[0] < before, "braking begins in the tick that sees it"
    took = b.run_until(lambda: not any(b.state.dq_commanded), 1.0)
    assert took <= 0.2 / (0.25 * b.model.a_max[0]) + 0.01
    assert "robot.manual_ended" in b.kinds() and b.driver.stops == []
    q = b.state.q_commanded
    for _ in range(4):
        b.client.jog("joint", [0.2, 0, 0, 0, 0, 0, 0], b.now)
        b.run(0.05)
    assert b.state.q_commanded == q and b.state.manual_missing


@pytest.mark.requirement("ROB-30")
def test_a_device_held_again_starts_nothing() -> None:
    b = bench()
    b.driver.mode_switch, b.driver.enabling_device = "manual", True
    assert set_mode(b, "manual").verdict == "done"
    request = b.start(0.6, until=0.4)
    assert b.state.rate > 0.0
    b.driver.enabling_device = False
    b.brake()
    assert b.state.limit_by == "enabling_device"
    refused = b.ask(b.client.set_override(1.0, b.now))
    assert refused.verdict == "rejected" and "enabling" in refused.reason
    b.driver.enabling_device = True
    q = b.state.q_commanded
    b.run(0.5)
    assert b.state.q_commanded == q and b.state.limit_by == "hold"
    assert b.ask(b.client.set_override(1.0, b.now)).verdict == "done"
    assert b.ask(request, 20.0).verdict == "done"


@pytest.mark.requirement("ROB-30")
def test_automatic_motion_ends_when_the_switch_is_turned_and_none_is_taken() -> None:
    b = bench()
    b.driver.mode_switch = "automatic"
    b.start(0.6, until=0.3)
    b.driver.mode_switch, b.driver.enabling_device = "manual", True
    b.brake()
    assert b.state.limit_by == "mode_switch" and not b.state.fault
    assert b.ask(b.client.cancel("test", b.now)).verdict == "done"
    refused = b.ask(b.client.move(b.motion(0.1, "m2"), b.now))
    assert refused.verdict == "rejected" and "switch" in refused.reason
    assert set_mode(b, "manual").verdict == "done"
    refused = set_mode(b, "automatic")
    assert refused.verdict == "rejected" and "switch" in refused.reason


def test_what_devices_say_is_told() -> None:
    b = bench()
    for switch in SWITCHES:
        b.driver.mode_switch = switch
        b.run(0.02)
        assert b.state.mode_switch == switch
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(b.state), type=type(b.state)).mode_switch == "manual"
