"""What the page says of the arm's own devices: only what the node reported."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.pendant.devices import devices, drives, enabling
from robots.contract import DriverInfo, DriverState, RobotState
from robots.faults import KINDS
from robots.manual import HOLD_DEVICE, NO_DEVICES, NO_SWITCH, TURN_MANUAL, manual_missing

EMPTY = RobotState(
    seq=1, t=0.0, q=[0.0], dq=[0.0], tau=[0.0], q_commanded=[0.0], dq_commanded=[0.0], motion_id="", progress=0.0,
    duration=0.0, rate=0.0, rate_slope=0.0, limit=0.0, limit_by="", limit_reason="", override=1.0, mode="manual",
    fault="", fault_text="", standing=True, gripper_width=0.0, gripper_holding=False, held=None, inputs={}, outputs={},
    emergency_stop=False, safeguard=False, tracking_error=0.0, late_leases=0, session="",
)  # fmt: skip


def state(**changes: object) -> RobotState:
    return msgspec.structs.replace(EMPTY, **changes)


@pytest.mark.parametrize("code", sorted(KINDS))
def test_drives_are_on_only_without_a_fault(code: str) -> None:
    assert drives(state()) == "on"
    # A milder fault may be the first of several: then nothing is claimed.
    assert drives(state(fault=code)) == ("stopped" if KINDS[code].vendor_stop else "not_told")
    assert drives(state(fault="of_a_later_version")) == "not_told"


@given(
    st.sampled_from(["automatic", "manual", None]), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)  # fmt: skip
def test_the_device_is_said_to_be_held_only_when_it_is(
    switch: str | None, device: bool, reads: bool, simulated: bool, demanded: bool
) -> None:
    info = DriverInfo("x", 1, 0.002, 0.01, 0.1, False, manual_devices=reads, simulated=simulated)
    measured = DriverState(
        1, 0.0, [0.0], [0.0], [0.0], 0.0, False, {}, {}, False, False, enabling_device=device, mode_switch=switch
    )  # type: ignore[arg-type]
    said = enabling(state(manual_missing=manual_missing(info, measured, demanded)), simulated, demanded)
    if said == "held":
        assert device
    if said == "released":
        assert not device and not simulated
    if not simulated and not reads:
        assert said == "none"


def test_words_of_the_node() -> None:
    for missing, said in ((NO_DEVICES, "none"), (NO_SWITCH, "not_told"), (TURN_MANUAL, "not_told")):
        assert enabling(state(manual_missing=missing), False, True) == said
    assert enabling(state(manual_missing=HOLD_DEVICE), False, True) == "released"
    assert enabling(state(manual_missing=HOLD_DEVICE), True, True) == "button"
    assert devices(state(), True, False) == {"drives": "on", "enabling": "not_needed"}
