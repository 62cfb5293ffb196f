"""The vendor's side of the Franka driver, in slow motion: what `pylibfranka` and the simulated arm's own limits say.

Time is judged by the arm's own cycles, not by the machine's: the simulator is none that keeps time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from cell.clock import RealClock
from robots.contract import DriverError, DriverState, Setpoint
from robots.drivers import franka_link as link
from robots.drivers.franka import FrankaDriver
from sim.franka_bench import SLOW_MOTION
from sim.franka_server import FrankaServer, NotInstalled

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
CLOCK = RealClock(SLOW_MOTION)
PATIENCE = 30.0
SPEED = 0.5
"""Of the setpoints, rad/s."""


class Reckless(FrankaDriver):
    """Leaves jumps as they are."""

    def _settings(self) -> link.Settings:
        return msgspec.structs.replace(super()._settings(), scale=100.0)


class Reached:
    """A driver, its processes with the vendor's client, and the simulated arm; unhurried."""

    def __init__(self, kind: type[FrankaDriver] = FrankaDriver, **options: Any) -> None:
        self.arm = FrankaServer(slow_motion=SLOW_MOTION)
        given = {
            "address": self.arm.address, "realtime": "ignore", "slow_motion": SLOW_MOTION, "watchdog": 0.3,
            "gripper": False, **options,
        }  # fmt: skip
        self.driver = kind(given, 7)
        self.n = 0
        self.aim: list[float] = []
        self.sent = 0.0

    def close(self) -> None:
        self.driver.close()
        self.arm.close()

    def until(
        self, done: Callable[[DriverState], bool], q: list[float] | None = None, speed: float = SPEED
    ) -> DriverState:
        """Connects, and sends setpoints towards `q` all the time, as the robot node does: from where the arm stands
        whenever it has a fault."""
        end, state = CLOCK.now() + PATIENCE, None
        while CLOCK.now() < end:
            now = CLOCK.now()
            with contextlib.suppress(DriverError):  # not reached yet
                self.driver.connect(now)
                state = self.driver.state(now)
            if state is not None:
                if done(state):
                    return state
                if q is not None:
                    self.towards(state, q, now, speed)
            pause(0.004)
        raise AssertionError(f"nothing within {PATIENCE:g} s: {state}; {self.driver._measured}")

    def towards(self, state: DriverState, q: list[float], now: float, speed: float) -> None:
        step, self.sent = speed * min(now - self.sent, 0.1), now
        if state.fault or state.safeguard or not self.aim:
            self.aim, step = list(state.q), 0.0
        self.aim = [a + min(max(b - a, -step), step) for a, b in zip(self.aim, q, strict=True)]
        self.n += 1
        with contextlib.suppress(DriverError):  # a connection that is being made again
            self.driver.send(Setpoint(self.n, now, list(self.aim), [0.0] * 7))

    def hold_for(self, cycles: int, q: list[float]) -> DriverState:
        """Send setpoints for so many states of the arm."""
        first = self.cycle
        return self.until(lambda s: not first <= self.cycle <= first + cycles, q)

    @property
    def cycle(self) -> int:
        """States the arm has sent over this connection."""
        measured = self.driver._measured
        return measured.seq if measured is not None else 0

    def recover(self) -> None:
        self.aim = []  # as the robot node: from where the arm stands
        self.driver.recover("somebody", CLOCK.now())

    def moved_on(self, q: list[float]) -> DriverState:
        """A person lets the arm go on, and it goes to q."""
        self.recover()
        return self.until(lambda s: near(s.q, q), q)


def pause(seconds: float) -> None:
    """Of the arm's time."""
    time.sleep(seconds * SLOW_MOTION)


def near(a: list[float], b: list[float], by: float = 4e-3) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) < by


@pytest.fixture(params=[FrankaDriver])
def reached(request: pytest.FixtureRequest) -> Iterator[Reached]:
    try:
        made = Reached(request.param)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    try:
        yield made
    finally:
        made.close()


def moving(reached: Reached, by: float = 0.6) -> list[float]:
    """Bring joint 1 under way; returns where to."""
    start = reached.until(lambda s: not s.fault)
    goal = [start.q[0] + by, *start.q[1:]]
    reached.until(lambda s: abs(s.dq[0]) > 0.2, goal)
    return goal


def stays(reached: Reached, goal: list[float]) -> DriverState:
    """However long it is told to move, the arm stands and says why."""
    stood = reached.until(lambda s: max(map(abs, s.dq)) < 2e-3, goal)
    after = reached.hold_for(400, goal)
    assert near(after.q, stood.q), "it went on without a person"
    return after


@pytest.mark.parametrize("reached", [Reckless], indirect=True)
def test_a_jump_raises_the_vendors_reflex_and_only_a_person_clears_it(reached: Reached) -> None:
    start = reached.until(lambda s: not s.fault)
    reached.hold_for(300, start.q)
    jump = [start.q[0], start.q[1] + 0.3, *start.q[2:]]
    said = reached.until(lambda s: bool(s.fault), jump, speed=1e3)
    assert "reflex: joint_motion_generator_" in said.fault and "discontinuity" in said.fault, said.fault
    assert "reflex" in stays(reached, jump).fault
    held = reached.until(lambda s: True)
    reached.recover()
    assert not reached.until(lambda s: not s.fault, held.q).fault


def test_the_same_jump_through_the_driver_raises_none(reached: Reached) -> None:
    goal = moving(reached)
    jump = [goal[0], goal[1] + 0.3, *goal[2:]]
    arrived = reached.until(lambda s: bool(s.fault) or near(s.q, jump), jump, speed=1e3)
    assert not arrived.fault


def test_silence_brakes_the_arm_until_a_person_comes(reached: Reached) -> None:
    goal = moving(reached)
    first = reached.cycle
    reached.until(lambda s: reached.cycle > first + 300)  # 0.3 s of the arm's time
    assert "no setpoints came" in stays(reached, goal).fault
    reached.moved_on(goal)


def test_a_collision_is_named_and_only_a_person_clears_it(reached: Reached) -> None:
    goal = moving(reached)
    reached.arm.order("collision")
    assert "cartesian_reflex" in reached.until(lambda s: bool(s.fault), goal).fault
    assert stays(reached, goal).fault
    reached.moved_on(goal)


def test_the_user_stop_is_shown_and_never_cleared_from_software(reached: Reached) -> None:
    goal = moving(reached)
    reached.arm.order("user_stop on")
    assert not reached.until(lambda s: s.safeguard, goal).emergency_stop
    reached.recover()
    assert stays(reached, goal).safeguard, "cleared from software"
    reached.arm.order("user_stop off")
    assert reached.until(lambda s: not s.safeguard, goal).fault
    assert stays(reached, goal).fault, "it went on when the button was released"
    reached.moved_on(goal)


@pytest.mark.parametrize("category", [0, 1])
def test_the_stop_of_the_driver_stops_it(reached: Reached, category: Any) -> None:
    goal = moving(reached)
    reached.driver.stop(category, CLOCK.now())
    stays(reached, goal)
    reached.moved_on(goal)


def test_a_process_that_dies_stops_the_arm_and_its_heir_waits_for_a_person(reached: Reached) -> None:
    goal = moving(reached)
    child = reached.driver._arm._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    first = reached.until(lambda s: reached.driver._arm._child is not child and bool(s.fault), goal)
    assert "waits for a person" in stays(reached, goal).fault, first.fault
    reached.moved_on(goal)


def test_a_process_that_stands_still_ends_in_the_vendors_reflex(reached: Reached) -> None:
    goal = moving(reached)
    child = reached.driver._arm._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    pause(0.2)
    os.kill(child.pid, signal.SIGCONT)
    said = reached.until(lambda s: bool(s.fault), goal)
    assert "communication_constraints_violation" in said.fault
    stays(reached, goal)
    reached.moved_on(goal)


def test_a_process_that_never_goes_on_is_replaced(reached: Reached) -> None:
    goal = moving(reached)
    child = reached.driver._arm._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)
    reached.until(lambda s: reached.driver._arm._child is not child and "waits for a person" in s.fault, goal)
    assert child.gone
    reached.moved_on(goal)


def test_a_cable_that_is_pulled_and_put_back(reached: Reached) -> None:
    goal = moving(reached)
    reached.arm.freeze()
    old = reached.driver.state(CLOCK.now())
    assert old is not None
    pause(1.5)
    for _ in range(300):
        reached.driver.state(CLOCK.now())
        pause(0.004)
    last = reached.driver.state(CLOCK.now())
    assert last is not None and CLOCK.now() - last.t > 1.0, "a state that nobody sent is new"
    reached.arm.thaw()
    reached.until(lambda s: s.seq > last.seq and "waits for a person" in s.fault, goal)
    stays(reached, goal)
    reached.moved_on(goal)


def test_an_arm_that_is_switched_off_and_on(reached: Reached) -> None:
    goal = moving(reached)
    address, old = reached.arm.address, reached.driver.state(CLOCK.now())
    assert old is not None
    reached.arm.kill()
    end = CLOCK.now() + PATIENCE
    while not reached.driver._arm.failed and CLOCK.now() < end:
        reached.driver.state(CLOCK.now())
        pause(0.01)
    assert reached.driver._arm.failed[0][0] == "franka_network"
    reached.arm.close()
    reached.arm = FrankaServer(address, SLOW_MOTION)
    reached.until(lambda s: s.seq > old.seq and "waits for a person" in s.fault, goal)
    stays(reached, goal)
    reached.moved_on([0.3, *goal[1:]])


@pytest.mark.parametrize("width", [0.03, 0.07])
def test_the_gripper_moves_while_the_arm_does(width: float) -> None:
    try:
        reached = Reached(gripper=True)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    try:
        goal = moving(reached)
        reached.driver.grip(width, 0.0)
        state = reached.until(lambda s: abs(s.gripper_width - width) < 1e-3 or bool(s.fault), goal)
        assert not state.fault and not state.gripper_holding
        reached.driver.grip(0.0, 20.0)
        empty = reached.until(lambda s: s.gripper_width < 1e-3 or bool(s.fault), goal)
        assert not empty.fault and not empty.gripper_holding, "it holds nothing"
        assert not reached.until(lambda s: near(s.q, goal) or bool(s.fault), goal).fault
    finally:
        reached.close()
