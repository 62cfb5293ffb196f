"""The simulated drives as a state machine: they stop by themselves, and stay stopped until a person says so."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.contract import Setpoint
from sim.drives import DriveInputs, DriveLimits, SimulatedDrives

DOF = 3
DT = 0.004
LIMITS = DriveLimits(np.full(DOF, -2.0), np.full(DOF, 2.0), np.full(DOF, 2.0), np.array([5.0, 4.0, 6.0]), watchdog=0.05)
FREE = DriveInputs(False, False, -1, 0)


def make() -> SimulatedDrives:
    return SimulatedDrives(LIMITS, np.zeros(DOF))


def feed(drives: SimulatedDrives, seq: int, t: float, q: list[float], dq: list[float]) -> None:
    drives.accept(Setpoint(seq, t, q, dq), t, drives.target.q)


def cruise(drives: SimulatedDrives, speed: float, steps: int = 50) -> tuple[float, int]:
    """Move all joints at `speed` from rest with a gentle start; returns time and last sequence number."""
    q = 0.0
    for k in range(steps):
        v = speed * min(1.0, (k + 1) / 20)
        q += v * DT
        feed(drives, k + 1, k * DT, [q] * DOF, [v] * DOF)
        drives.step(k * DT, DT, FREE, drives.target.q)
    return steps * DT, steps


def test_follows_setpoints_exactly() -> None:
    drives = make()
    cruise(drives, 1.0)
    assert drives.phase == "following"
    assert drives.target.dq == pytest.approx([1.0] * DOF)


def test_silence_brakes_all_joints_to_rest_together_and_latches() -> None:
    drives = make()
    t, _ = cruise(drives, 1.0)
    start = t
    speeds = []
    while t < start + 1.0:
        speeds.append(np.abs(drives.step(t, DT, FREE, drives.target.q).dq).max())
        t += DT
    assert drives.fault == "watchdog"
    assert drives.watchdog_tripped
    assert drives.phase == "faulted"
    moving = sum(v > 0 for v in speeds) * DT
    # 0.05 s of watchdog, then 1.0 / 4.0 s of braking.
    assert moving <= LIMITS.watchdog + 0.25 + 3 * DT
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(speeds))


def test_a_repeated_setpoint_feeds_no_watchdog() -> None:
    drives = make()
    t, seq = cruise(drives, 1.0)
    for _ in range(40):
        feed(drives, seq, t, drives.target.q.tolist(), [1.0] * DOF)
        drives.step(t, DT, FREE, drives.target.q)
        t += DT
    assert drives.fault == "watchdog"


@pytest.mark.parametrize(
    ("q", "dq", "fault"),
    [
        ([math.nan, 0.0, 0.0], [0.0] * 3, "setpoint_invalid"),
        ([0.0] * 3, [math.inf, 0.0, 0.0], "setpoint_invalid"),
        ([0.0] * 2, [0.0] * 2, "setpoint_invalid"),
        ([0.5, 0.0, 0.0], [0.0] * 3, "setpoint_jump"),
        ([2.5, 0.0, 0.0], [0.0] * 3, "setpoint_limit"),
        ([0.0] * 3, [9.0, 0.0, 0.0], "setpoint_speed"),
    ],
)
def test_a_wrong_setpoint_faults(q: list[float], dq: list[float], fault: str) -> None:
    drives = make()
    feed(drives, 1, 0.0, [0.0] * DOF, [0.0] * DOF)
    drives.step(0.0, DT, FREE, np.zeros(DOF))
    feed(drives, 2, DT, q, dq)
    target = drives.step(DT, DT, FREE, np.zeros(DOF))
    assert drives.fault == fault
    assert np.abs(target.q).max() < 1e-9


def test_drives_that_were_held_up_take_the_newest_of_several_setpoints_but_no_jump() -> None:
    speed, gap = 2.0, 0.04

    def after_a_pause(step: float, stamp: float) -> str:
        """The verdict on a setpoint that is `step` from the last one and stamped `stamp` after it."""
        drives = make()
        t, seq = cruise(drives, speed)
        at = drives.target.q + speed * DT
        drives.accept(Setpoint(seq, t, at.tolist(), [speed] * DOF), t, drives.target.q)
        drives.step(t, DT, FREE, drives.target.q)
        drives.accept(Setpoint(seq + 9, t + stamp, (at + step).tolist(), [speed] * DOF), t + DT, drives.target.q)
        return drives.fault

    # The drives' clock has gone on by one step only: it stood as long as they did.
    assert after_a_pause(speed * gap, gap) == ""
    assert after_a_pause(speed * gap, DT) == "setpoint_jump"
    assert after_a_pause(0.5, 1e9) == "setpoint_jump"
    assert after_a_pause(0.5, -1e9) == "setpoint_jump"


def test_the_first_setpoint_must_be_where_the_arm_is() -> None:
    drives = make()
    drives.accept(Setpoint(1, 0.0, [0.2] * DOF, [0.0] * DOF), 0.0, np.zeros(DOF))
    drives.step(0.0, DT, FREE, np.zeros(DOF))
    assert drives.fault == "setpoint_jump"


def test_emergency_stop_brakes_and_only_a_recovery_after_its_release_clears_it() -> None:
    drives = make()
    t, seq = cruise(drives, 1.0)
    pressed = DriveInputs(True, False, -1, 0)
    for _ in range(150):
        seq += 1
        feed(drives, seq, t, drives.target.q.tolist(), [1.0] * DOF)
        drives.step(t, DT, pressed, drives.target.q)
        t += DT
    assert drives.phase == "faulted"
    assert drives.standing
    drives.step(t, DT, pressed._replace(recover_seq=1), drives.target.q)
    assert drives.fault == "emergency_stop"
    drives.step(t, DT, FREE._replace(recover_seq=1), drives.target.q)
    assert drives.fault == "emergency_stop", "a recovery asked for while pressed is used up"
    drives.step(t, DT, FREE._replace(recover_seq=2), drives.target.q)
    assert drives.fault == ""
    assert drives.phase == "idle"


def test_safeguard_not_obeyed_in_time_is_enforced() -> None:
    drives = make()
    t, seq = cruise(drives, 0.2)
    guarded = DriveInputs(False, True, -1, 0)
    q = drives.target.q.copy()
    for _ in range(200):
        seq += 1
        q = q + 0.2 * DT
        feed(drives, seq, t, q.tolist(), [0.2] * DOF)
        drives.step(t, DT, guarded, drives.target.q)
        t += DT
    assert drives.fault == "safeguard_not_obeyed"


def test_following_error_faults() -> None:
    drives = make()
    t, seq = cruise(drives, 1.0, 100)
    stuck = np.zeros(DOF)
    feed(drives, seq + 1, t, drives.target.q.tolist(), [1.0] * DOF)
    drives.step(t, DT, FREE, stuck)
    assert drives.fault == "following_error"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True, width=32),
            st.floats(-3, 3),
            st.booleans(),
            st.booleans(),
            st.integers(-1, 1),
            st.integers(0, 3),
        ),
        max_size=60,
    )
)
def test_targets_stay_finite_in_limits_and_continuous_whatever_arrives(
    commands: list[tuple[float, float, bool, bool, int, int]],
) -> None:
    drives = make()
    before = drives.target.q.copy()
    for k, (q, dq, stop, guard, category, recover) in enumerate(commands):
        t = k * DT
        drives.accept(Setpoint(k + 1, t, [q, 0.0, 0.0], [dq, 0.0, 0.0]), t, drives.target.q)
        target = drives.step(t, DT, DriveInputs(stop, guard, category, recover), drives.target.q)
        assert np.isfinite(target.q).all()
        assert (target.q >= LIMITS.q_lower).all()
        assert (target.q <= LIMITS.q_upper).all()
        assert np.abs(target.q - before).max() <= 1.5 * 2.0 * LIMITS.watchdog + 0.051
        before = target.q.copy()


@pytest.mark.parametrize("late", [[0.0039, 0.0001], [0.003, 0.0045, 0.0005], [0.0, 0.0079]])
def test_setpoints_that_come_late_do_not_shake_the_arm(late: list[float]) -> None:
    drives = make()
    arrivals = itertools.cycle(late)
    sent = [(k * DT, k * DT + (next(arrivals) if k else 0.0)) for k in range(200)]
    targets = []
    newest = -1
    for n in range(180):
        t = n * DT
        ready = [k for k, (_, came) in enumerate(sent) if came <= t + 1e-9]
        if ready and ready[-1] > newest:
            newest = ready[-1]
            speed = min(1.0, newest * DT / 0.3)
            q = 0.5 * speed * newest * DT if speed < 1.0 else newest * DT - 0.15
            drives.accept(Setpoint(newest + 1, sent[newest][0], [q] * DOF, [speed] * DOF), t, drives.target.q)
        targets.append(float(drives.step(t, DT, FREE, drives.target.q).q[0]))
    speeds = np.diff(targets[100:]) / DT
    assert drives.phase == "following"
    assert np.abs(speeds - 1.0).max() < 0.05
