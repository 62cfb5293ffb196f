"""Watching the drives: is their state fresh and sane, does the arm follow, does it obey, are its inputs safe."""

from __future__ import annotations

import math
from operator import le
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.config import RobotConfig
from robots.contract import DriverInfo, DriverState
from robots.model import RobotModel

Array = NDArray[np.float64]

STANDING_SPEED = 5e-3
"""Below it a joint stands, rad/s."""
OBEY_SPEED = 0.03
"""An arm told to stand whose joints are faster does not obey, rad/s."""
LIMIT_TOLERANCE = 0.02
"""A joint measured this far outside its limits is a fault, rad."""
STATE_AHEAD = 0.02
"""A measurement may be this much younger than the tick that reads it, s: the node may be held up between reading its
clock and reading the drives."""
STARTUP = 2.0
"""How long the drives may take to deliver their first state, s."""


@njit(cache=True)
def deviations(q: Array, dq: Array, q_set: Array, dq_set: Array, delay: float) -> tuple[float, float, int, float, bool]:
    """Compare measured q, dq with commanded q_set, dq_set, all (n,).

    Returns the largest error (rad), the largest error beyond what the commanded speed covers in `delay` s and its
    joint, the largest measured speed (rad/s), and whether a speed is commanded.
    """
    error, excess, joint, fastest, told = 0.0, -1.0, 0, 0.0, False
    for j in range(q.shape[0]):
        e = abs(q[j] - q_set[j])
        x = e - abs(dq_set[j]) * delay
        error = max(error, e)
        if not math.isfinite(x):
            return math.inf, math.inf, j, math.inf, True
        if x > excess:
            excess, joint = x, j
        fastest = max(fastest, abs(dq[j]))
        told = told or dq_set[j] != 0.0
    return error, excess, joint, fastest, told


class Finding(NamedTuple):
    """A fault the watch found."""

    code: str
    detail: str


class DriverWatch:
    """Keeps the newest usable driver state."""

    def __init__(self, model: RobotModel, config: RobotConfig, info: DriverInfo) -> None:
        self._model = model
        self._config = config
        self._delay = info.drive_delay + 2.0 * config.period
        self._started: float | None = None
        self._commanded_standing_since = math.inf
        self.state: DriverState | None = None
        """Newest usable state."""
        self.q = np.zeros(model.dof)
        self.dq = np.zeros(model.dof)
        self.fresh = False
        """The newest state is young enough and no worse one came after it."""
        self.tracking_error = 0.0
        self._fastest = math.inf
        self._low = (model.q_lower - LIMIT_TOLERANCE).tolist()
        self._high = (model.q_upper + LIMIT_TOLERANCE).tolist()

    def take(self, state: DriverState | None, now: float, unreached: str = "") -> list[Finding]:
        """Take what the driver returned this tick, or why it reaches nobody; return what is wrong with it."""
        if self._started is None:
            self._started = now
        self.fresh = False
        if state is None:
            return self._missing(now, unreached or "no state")
        why = self._invalid(state, now)
        if why:
            return [Finding("driver_invalid", why)]
        if self.state is None or state.seq != self.state.seq:
            self.state = state
            self.q, self.dq = np.array(state.q), np.array(state.dq)
            self._fastest = max(map(abs, state.dq))
        age = now - self.state.t
        if age > self._config.state_timeout:
            return self._missing(now, f"newest state is {age:.3f} s old")
        self.fresh = True
        return self._inputs(state)

    def _missing(self, now: float, why: str) -> list[Finding]:
        assert self._started is not None
        if self.state is None and now - self._started < STARTUP:
            return []
        return [Finding("driver_lost", why)]

    def _invalid(self, state: DriverState, now: float) -> str:
        n = self._model.dof
        for name, values in (("q", state.q), ("dq", state.dq), ("tau", state.tau)):
            if len(values) != n:
                return f"{name} has {len(values)} values for {n} joints"
            # a sum is finite only if every term is; it is cheaper than asking each
            if not math.isfinite(sum(values)):
                return f"{name} contains values that are not finite"
        if not math.isfinite(state.t) or state.t > now + STATE_AHEAD:
            return "time stamp lies in the future or is not finite"
        if not math.isfinite(state.gripper_width):
            return "gripper width is not finite"
        return ""

    def _inputs(self, state: DriverState) -> list[Finding]:
        found = []
        if state.emergency_stop:
            found.append(Finding("emergency_stop", ""))
        if state.safeguard:
            found.append(Finding("safeguard_stop", ""))
        if state.fault:
            found.append(Finding("driver_fault", state.fault))
        if state.tool is not None and state.tool != self._model.tool_name:
            found.append(Finding("tool_changed", f"{state.tool or 'none'} instead of {self._model.tool_name}"))
        # One look at all of them first, which is a quarter of the price; what is not a number fails it as well.
        if all(map(le, self._low, state.q)) and all(map(le, state.q, self._high)):
            return found
        for j, (low, q, high) in enumerate(zip(self._low, state.q, self._high, strict=True)):
            if not low <= q <= high:
                found.append(
                    Finding("limit_violated", f"{self._model.joint_names[j]} at {math.degrees(q):.1f} degrees")
                )
        return found

    @property
    def standing(self) -> bool:
        """No joint was measured faster than `STANDING_SPEED`."""
        return self.fresh and self._fastest <= STANDING_SPEED

    def compare(self, now: float, q: Array, dq: Array, follows: bool) -> list[Finding]:
        """Compare the measured arm with what it was told: does it follow, does it stand when told to?

        `q`, `dq` are what was commanded in the tick before; `follows`: the drives are to follow it, which they are not
        after the vendor's stop. The tolerance grows by what the commanded speed covers in the drives' known delay.
        """
        if not self.fresh:
            return []
        self.tracking_error, excess, j, fastest, told = deviations(self.q, self.dq, q, dq, self._delay)
        found = []
        if follows and not excess <= self._config.tracking_tolerance:
            off = math.degrees(abs(self.q[j] - q[j]))
            found.append(
                Finding("tracking_error", f"{self._model.joint_names[j]} is {off:.1f} degrees off its setpoint")
            )
        if told:
            self._commanded_standing_since = math.inf
        elif self._commanded_standing_since == math.inf:
            self._commanded_standing_since = now
        overdue = now - self._commanded_standing_since > self._config.obey_time
        if overdue and not fastest <= OBEY_SPEED:
            found.append(Finding("stop_disobeyed", f"joints still move at {fastest:.2f} rad/s"))
        return found

    def restart(self) -> None:
        """Forget how long the arm has been told to stand, after a person has cleared the faults."""
        self._commanded_standing_since = math.inf
