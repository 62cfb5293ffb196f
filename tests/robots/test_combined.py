"""An arm with a gripper of another make: what is missing, late or not a number stops the arm."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cell.bus.inprocess import Hub
from robots.config import RobotConfig
from robots.contract import DriverError, GripperState, Setpoint
from robots.drivers.combined import LOST_AFTER, ArmWithGripper
from robots.drivers.null import NullDriver
from robots.model import RobotModel
from robots.watch import DriverWatch
from sim.contract import TOPIC_DRIVE_COMMAND, TOPIC_DRIVE_STATE, DriveCommand, DriveState
from sim.gripper import TwinGripper


class Fingers:
    """A gripper that does what a test wants."""

    name = "fingers"

    def __init__(self) -> None:
        self.newest: GripperState | None = GripperState(0.0, 0.08, False)
        self.calls: list[Any] = []
        self.missing = ""

    def connect(self, now: float) -> None:
        if self.missing:
            raise DriverError("fingers_missing", self.missing, "Plug it in")

    def state(self, now: float) -> GripperState | None:
        return self.newest

    def grip(self, width: float, force: float) -> None:
        self.calls.append((width, force))

    def recover(self, person: str, now: float) -> None:
        self.calls.append(person)

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def both() -> tuple[ArmWithGripper, NullDriver, Fingers]:
    arm, fingers = NullDriver({}, 7), Fingers()
    driver = ArmWithGripper(arm, fingers)
    driver.connect(0.0)
    return driver, arm, fingers


def test_the_fingers_are_the_grippers_and_the_joints_the_arms(both: Any) -> None:
    driver, arm, fingers = both
    state, own = driver.state(0.1), arm.state(0.1)
    assert driver.info.gripper
    assert (state.q, state.gripper_width, state.gripper_holding, state.fault) == (own.q, 0.08, False, "")
    driver.grip(0.03, 20.0)
    driver.recover("Anna", 0.2)
    driver.close()
    assert fingers.calls == [(0.03, 20.0), "Anna", "close"]


def test_a_stop_leaves_the_fingers_closed(both: Any) -> None:
    driver, _, fingers = both
    driver.stop(0, 0.1)
    assert fingers.calls == []


@pytest.mark.parametrize("at", [-math.inf, math.nan, 0.0, math.inf, 1e9, LOST_AFTER + 0.2])
def test_a_gripper_that_is_silent_or_from_another_time_is_a_fault_of_the_drives(both: Any, at: float) -> None:
    driver, _, fingers = both
    fingers.newest = GripperState(at, 0.08, False)
    state = driver.state(LOST_AFTER + 0.1)
    assert "fingers" in state.fault and "silent" in state.fault


def test_faults_of_either_are_told_and_the_arms_comes_first(both: Any) -> None:
    driver, arm, fingers = both
    fingers.newest = GripperState(0.0, 0.08, False, "motor too hot")
    assert driver.state(0.1).fault == "gripper fingers: motor too hot"
    arm.faults.fault = "brakes"
    assert driver.state(0.2).fault == "brakes"


@pytest.mark.parametrize("width", [math.nan, math.inf, -math.inf])
def test_a_width_that_is_no_number_is_refused_by_the_robot_node(both: Any, width: float) -> None:
    driver, _, fingers = both
    fingers.newest = GripperState(0.0, width, False)
    watch = DriverWatch(RobotModel.load("panda"), RobotConfig(driver="null"), driver.info)
    found = list(watch.take(driver.state(0.1), 0.1, ""))
    assert [finding.code for finding in found] == ["driver_invalid"]


def test_before_both_are_heard_there_is_no_state(both: Any) -> None:
    driver, _, fingers = both
    fingers.newest = None
    assert driver.state(0.1) is None


def test_connect_names_everything_that_is_missing() -> None:
    arm, fingers = NullDriver({}, 7), Fingers()
    fingers.missing = "no answer at /dev/ttyUSB0"
    with pytest.raises(DriverError) as one:
        ArmWithGripper(arm, fingers).connect(0.0)
    assert one.value.code == "fingers_missing"

    class Away(NullDriver):
        def connect(self, now: float) -> None:
            raise DriverError("arm_missing", "no answer", "Switch it on")

    with pytest.raises(DriverError) as two:
        ArmWithGripper(Away({}, 7), fingers).connect(0.0)
    assert {part.code for part in two.value.parts} == {"arm_missing", "fingers_missing"}


def test_the_twins_gripper_repeats_its_order_until_it_is_heard() -> None:
    hub = Hub()
    gripper = TwinGripper({}, hub.ports("arm"))
    orders = hub.ports("twin").subscriber(TOPIC_DRIVE_COMMAND, DriveCommand)
    states = hub.ports("drives").publisher(TOPIC_DRIVE_STATE, DriveState)
    gripper.connect(0.0)
    orders.take()
    gripper.grip(0.03, 20.0)
    first = orders.take().body
    assert (first.setpoint, first.gripper_width, first.gripper_force, first.gripper_seq) == (None, 0.03, 20.0, 1)
    assert gripper.state(0.2) is None
    assert orders.take().body.gripper_seq == 1
    arm = NullDriver({}, 7)
    arm.connect(0.0)
    state = arm.state(0.25)
    states.send(DriveState(state, False), 0.25)
    assert gripper.state(0.3) == GripperState(state.t, state.gripper_width, state.gripper_holding)
    with pytest.raises(DriverError):
        gripper.grip(math.nan, 1.0)
    with pytest.raises(DriverError):
        TwinGripper({"speed": 1}, hub.ports("other"))


def test_setpoints_reach_the_arm(both: Any) -> None:
    driver, arm, _ = both
    q = list(arm.state(0.1).q)
    assert driver.send(Setpoint(1, 0.1, q, [0.0] * 7)).q == q
