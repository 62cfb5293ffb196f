"""Lock-step at the machine's pace: no tick before its time, none made up for, time as the machine has it."""

from __future__ import annotations

import itertools
import os

import pytest

from cell.bus.inprocess import Hub
from cell.bus.messages import Heartbeat
from cell.clock import RealClock, SimulatedClock
from cell.heartbeat import in_real_time, launcher_lives
from cell.lockstep import TICK, Paced


class Machine:
    """A clock that jumps once, as a machine that is held up; else it does as it is told by its readers' waiting."""

    def __init__(self, start: float, held_at: int, held: float) -> None:
        self._now, self._reads, self._held_at, self._held = start, 0, held_at, held

    def now(self) -> float:
        self._reads += 1
        self._now += self._held if self._reads == self._held_at else 0.3 * TICK
        return self._now


class Node:
    name, period = "node", TICK

    def __init__(self) -> None:
        self.times: list[float] = []

    def step(self, now: float) -> None:
        self.times.append(now)

    def close(self) -> None:
        """Nothing to close."""


def test_ticks_keep_the_machines_time_and_a_late_one_is_not_made_up_for() -> None:
    machine, clock, node = Machine(100.0, 40, 0.5), SimulatedClock(100.0), Node()
    beats = Hub().ports("node").publisher("heartbeat.node", Heartbeat)
    loop = Paced([(node, beats)], clock, machine)
    for _ in range(60):
        now = loop.step()
        assert now == clock.now() == node.times[-1] <= machine.now()
    steps = [b - a for a, b in itertools.pairwise(node.times)]
    assert min(steps) >= TICK - 1e-9
    late = [step for step in steps if step > 2 * TICK]
    assert len(late) == 1 and late[0] == pytest.approx(0.5, abs=2 * TICK)
    # Afterwards it goes on from there, at its pace.
    assert max(steps[steps.index(late[0]) + 1 :]) < 2 * TICK


def test_in_slow_motion_a_tick_lasts_as_many_times_longer() -> None:
    waited: list[float] = []
    machine, clock, node = Machine(100.0, 0, 0.0), SimulatedClock(100.0), Node()
    beats = Hub().ports("node").publisher("heartbeat.node", Heartbeat)
    loop = Paced([(node, beats)], clock, machine, 5.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cell.lockstep.time.sleep", waited.append)
        loop.step()
    assert waited[0] == pytest.approx(5.0 * 0.7 * TICK)


@pytest.mark.parametrize("slower", [0.5, 0.0, -1.0, float("nan"), float("inf")])
def test_a_clock_is_never_faster_than_the_machines(slower: float) -> None:
    with pytest.raises(ValueError, match="slower"):
        RealClock(slower)


def test_a_slower_clock_is_one_for_all_processes() -> None:
    before = RealClock().now()
    slow = RealClock(4.0).now()
    assert before / 4.0 <= slow <= RealClock().now() / 4.0


def test_real_time_scheduling_ends_with_its_block() -> None:
    before = os.sched_getscheduler(0)
    with in_real_time(5):
        assert os.sched_getscheduler(0) in (before, os.SCHED_FIFO)
    assert os.sched_getscheduler(0) == before


def test_a_process_without_a_launcher_does_not_miss_one() -> None:
    assert launcher_lives()
    assert RealClock().now() > 0.0
