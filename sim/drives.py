"""The simulated drives: a pure state machine between the setpoints that arrive and the targets the joints follow.

They do what a vendor's drives do below any controller: check each setpoint, interpolate between setpoints, brake by
themselves when setpoints stop coming, stop on the emergency stop, and stay faulted until a person has them recover.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.contract import Setpoint

Vector = NDArray[np.float64]
Phase = Literal["idle", "following", "braking", "faulted"]

JUMP_TOLERANCE = 0.02
"""Slack of the setpoint jump check beyond 1.5 v_max times the time since the last setpoint, rad."""
START_TOLERANCE = 0.05
"""First setpoint after idle must lie this close to the measured joints, rad."""
FOLLOWING_TOLERANCE = 0.3
"""Measured joints further than this from the target: fault, rad."""
SAFEGUARD_TIME = 0.7
"""After the safeguard input the arm must have been brought to rest within this time, or the drives stop it, s."""
CYCLE = 0.004
"""A setpoint is reached so long after the time on its stamp, whatever the time between two, s."""
LONGEST_STEP = 0.02
"""The interpolator never stretches one setpoint over more than this, s."""


class DriveLimits(NamedTuple):
    """What the drives know of their joints; arrays of length dof."""

    q_lower: Vector
    q_upper: Vector
    v_max: Vector
    brake: Vector
    """Deceleration of their own stop, rad/s^2."""
    watchdog: float
    """s."""


class DriveInputs(NamedTuple):
    """What the drives see in one physics step."""

    emergency_stop: bool
    safeguard: bool
    stop_category: int
    """-1 none, 0 or 1 asked for by the node."""
    recover_seq: int


class DriveTarget(NamedTuple):
    """What the joints are to do until the next physics step."""

    q: Vector
    dq: Vector


_VERDICTS = ("", "setpoint_invalid", "setpoint_limit", "setpoint_speed", "setpoint_jump")


@njit(cache=True)
def _verdict(
    q: Vector, dq: Vector, lower: Vector, upper: Vector, v_max: Vector, since: Vector, elapsed: float, slack: float
) -> int:
    """Index into `_VERDICTS`: finite, within limits, not too fast, no farther from `since` than `elapsed` allows."""
    worst = 0
    for i in range(len(q)):
        if not (np.isfinite(q[i]) and np.isfinite(dq[i])):
            return 1
        verdict = 0
        if q[i] < lower[i] - 1e-6 or q[i] > upper[i] + 1e-6:
            verdict = 2
        elif abs(dq[i]) > 1.2 * v_max[i]:
            verdict = 3
        elif abs(q[i] - since[i]) > 1.5 * v_max[i] * elapsed + slack:
            verdict = 4
        if verdict and not worst:
            worst = verdict
    return worst


@njit(cache=True)
def _within_reach(measured: Vector, q: Vector, tolerance: float) -> bool:
    near = 0
    for i in range(len(q)):
        near += abs(measured[i] - q[i]) <= tolerance
    return near == len(q)


@njit(cache=True)
def _played_on(to: Vector, dq: Vector, time: float, lower: Vector, upper: Vector) -> Vector:
    """`to`, carried on at `dq` for `time`, within the limits."""
    out = np.empty_like(to)
    for i in range(len(to)):
        out[i] = min(max(to[i] + time * dq[i], lower[i]), upper[i])
    return out


@njit(cache=True)
def _interpolated(start: Vector, to: Vector, part: float) -> Vector:
    out = np.empty_like(to)
    for i in range(len(to)):
        out[i] = start[i] + part * (to[i] - start[i])
    return out


class SimulatedDrives:
    """Functional core; `accept` takes setpoints, `step` advances one physics step. No clock but the `t` given."""

    def __init__(self, limits: DriveLimits, q: Vector) -> None:
        self.limits = limits
        self.phase: Phase = "idle"
        self.fault = ""
        self.watchdog_tripped = False
        self.ignore_setpoint_stops = False
        """Injected fault: the arm keeps the last velocity it was commanded above zero, whatever setpoints say."""
        self.ignore_vendor_stop = False
        """Injected fault: not even the drives' own stop is obeyed."""
        self._q = q.copy()
        self._dq = np.zeros_like(q)
        self._from: Vector = q.copy()
        self._told: Vector = q.copy()
        self._to: Vector = q.copy()
        self._to_dq: Vector = np.zeros_like(q)
        self._segment_start = 0.0
        self._segment_time = 0.0
        self._last: Setpoint | None = None
        self._last_at = -math.inf
        self._recovered = 0
        self._safeguard_since: float | None = None
        self._runaway: Vector = np.zeros_like(q)

    @property
    def target(self) -> DriveTarget:
        return DriveTarget(self._q, self._dq)

    @property
    def standing(self) -> bool:
        return not np.any(self._dq)

    def new_sender(self) -> None:
        """The node restarted: its counters begin anew. Faults stay."""
        self._last = None
        self._recovered = 0

    def accept(self, setpoint: Setpoint, t: float, measured: Vector) -> None:
        """Take a setpoint that arrived at `t`. A repeated or older one is ignored, so that it feeds no watchdog."""
        if self._last is not None and setpoint.seq <= self._last.seq:
            return
        if self.phase in ("braking", "faulted"):
            self._last = setpoint
            return
        q, dq = np.array(setpoint.q, dtype=np.float64), np.array(setpoint.dq, dtype=np.float64)
        problem = self._check(q, dq, setpoint.t, t, measured)
        if problem:
            self._brake(problem)
            return
        step = 0.0
        if self.phase == "following" and self._last is not None:
            step = CYCLE
        else:
            self.phase = "following"
        # A setpoint holds for the time on its stamp, however long it was on its way: played by its arrival, the
        # jitter of two unsynchronised clocks of 4 ms would shake the arm.
        late = min(max(t - setpoint.t, 0.0), 2.0 * step)
        ahead = min(max(setpoint.t - t, 0.0), LONGEST_STEP - step)
        self._told, self._to_dq = q, dq
        self._from, self._to = self._q, self._within(late)
        self._segment_start, self._segment_time = t, step + ahead
        self._last, self._last_at = setpoint, t
        if max(map(abs, setpoint.dq)) > 0.05:
            self._runaway = dq

    def _check(self, q: Vector, dq: Vector, stamp: float, t: float, measured: Vector) -> str:
        limits = self.limits
        dof = len(limits.v_max)
        if q.shape != (dof,) or dq.shape != (dof,) or not math.isfinite(stamp):
            return "setpoint_invalid"
        slack, since = START_TOLERANCE, measured
        moving = self.phase != "idle"
        if moving:
            slack, since = JUMP_TOLERANCE, self._told
        elapsed = 0.0
        if moving and self._last is not None:
            # Drives that were held up find the newest of several setpoints: its stamp says how far the arm may have
            # gone since, their own clock does not. A wrong stamp gains no more than the watchdog's time.
            elapsed = min(max(t - self._last_at, stamp - self._last.t), limits.watchdog)
        return _VERDICTS[_verdict(q, dq, limits.q_lower, limits.q_upper, limits.v_max, since, elapsed, slack)]

    def _brake(self, fault: str) -> None:
        if self.phase != "faulted":
            self.phase = "braking"
        if not self.fault:
            self.fault = fault

    def step(self, t: float, dt: float, inputs: DriveInputs, measured: Vector) -> DriveTarget:
        """Advance from `t` to `t + dt`; return the target the joints follow in between."""
        self._supervise(t, inputs, measured)
        before = self._q
        if self.phase == "following":
            self._interpolate(t + dt)
        elif self.phase == "braking":
            self._decelerate(dt)
        else:
            self._dq = np.zeros_like(self._q)
        if self.ignore_setpoint_stops and (self.phase == "following" or self.ignore_vendor_stop):
            self._run_away(before, dt)
        return self.target

    def _supervise(self, t: float, inputs: DriveInputs, measured: Vector) -> None:
        if self.phase == "following" and t - self._last_at > self.limits.watchdog:
            self.watchdog_tripped = True
            self._brake("watchdog")
        if self.phase == "following" and not _within_reach(measured, self._q, FOLLOWING_TOLERANCE):
            self._brake("following_error")
        if inputs.emergency_stop:
            self._brake("emergency_stop")
        if inputs.stop_category >= 0:
            self._brake("stopped_by_node")
        if not inputs.safeguard:
            self._safeguard_since = None
        elif self._safeguard_since is None:
            self._safeguard_since = t
        elif t - self._safeguard_since > SAFEGUARD_TIME and self.phase == "following" and np.abs(self._dq).max() > 5e-3:
            self._brake("safeguard_not_obeyed")
        if inputs.recover_seq > self._recovered:
            self._recovered = inputs.recover_seq
            if self.phase == "faulted" and not inputs.emergency_stop and inputs.stop_category < 0:
                self._recover(measured)

    def _recover(self, measured: Vector) -> None:
        self.phase, self.fault, self.watchdog_tripped = "idle", "", False
        self._q = measured.copy()
        self._dq = np.zeros_like(measured)
        self._runaway = np.zeros_like(measured)

    def _interpolate(self, t: float) -> None:
        """Straight line from the old target to the new setpoint over the time between setpoints; then on at its
        speed for as long again, so that one lost or late setpoint does not jerk the arm; then hold."""
        progress = 1.0
        if self._segment_time > 0.0:
            progress = min((t - self._segment_start) / self._segment_time, 1.0)
        self._q = _interpolated(self._from, self._to, progress)
        longest = max(self._segment_time, 0.004)
        over = t - self._segment_start - self._segment_time
        if over > 1e-9:
            limits = self.limits
            self._q = _played_on(self._to, self._to_dq, min(over, longest), limits.q_lower, limits.q_upper)
        self._dq = self._to_dq if over <= longest + 1e-9 else np.zeros_like(self._q)

    def _within(self, time: float) -> Vector:
        """The setpoint, carried on at its speed for `time`."""
        limits = self.limits
        return np.asarray(_played_on(self._told, self._to_dq, time, limits.q_lower, limits.q_upper))

    def _decelerate(self, dt: float) -> None:
        """All joints reach zero together, so that the arm stays near its path: T = max |dq| / brake."""
        longest = float((np.abs(self._dq) / self.limits.brake).max())
        scale = max(0.0, 1.0 - dt / longest) if longest > 0.0 else 0.0
        after = self._dq * scale
        self._q = np.clip(self._q + 0.5 * (self._dq + after) * dt, self.limits.q_lower, self.limits.q_upper)
        self._dq = after
        if scale == 0.0:
            self.phase = "faulted"

    def _run_away(self, before: Vector, dt: float) -> None:
        limits = self.limits
        q = np.clip(before + self._runaway * dt, limits.q_lower, limits.q_upper)
        self._q, self._dq = q, np.where((q > limits.q_lower) & (q < limits.q_upper), self._runaway, 0.0)
