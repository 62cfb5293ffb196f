"""Other methods than the exact one, for comparison: a static stop zone and the constant-speed form, which are coarser,
and `reach` (`safety.reach`), which judges contact alone. All leave every check of inputs to the exact monitor and
replace its limit alone."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np

from perception.contract import Observation
from robots.contract import RobotState
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import RateLimits
from safety.clamping import Fixed
from safety.config import SafetyConfig
from safety.contact import ContactLimits
from safety.monitor import Decision, Monitor
from safety.protective_field import protective_field
from safety.reach import Reach
from safety.separation import Braking, allowed_speed
from safety.stopping import Stopping

Method = Literal["exact", "constant_speed", "static_zone", "reach", "ssm_contact"]
"""`ssm_contact` is the exact monitor with a safety configuration that has zones of contact."""
ZONE_BRAKING = 0.35
"""Whole-arm braking time a static zone is sized with, s: the longest of the arm at full speed, as a stopping test
would give it (published: 0.29 s for a Panda's slowest joint, and the rate's ramp)."""
SAMPLES = 40
"""Stations of a motion at which the fastest point of the arm is looked for."""


class AnyMonitor(Protocol):
    """What the supervisor asks of a monitor."""

    def cycle(self, now: float, observation: Observation, state: RobotState, motion: Motion | None) -> Decision: ...

    def warm_up(self) -> None: ...


class StaticZone:
    """Stops the arm while anything is within a fixed distance of its working area, whatever the arm does.

    The zone is a circle round the base axis: the farthest the arm reaches in its work, and the separation distance
    of ISO 13855:2010 for an orthogonal field of the configured detection capability and T = T_r + T_s.
    """

    def __init__(self, exact: Monitor, config: SafetyConfig, reach: float) -> None:
        """`reach`: largest horizontal distance of any point of the arm from the base axis in its work, m."""
        T = config.reaction.total + ZONE_BRAKING
        field = protective_field("2010", "orthogonal", config.detection_capability_mm, T)
        self.radius = reach + field.S / 1000.0
        """m."""
        self._exact = exact

    def cycle(self, now: float, observation: Observation, state: RobotState, motion: Motion | None) -> Decision:
        """As `Monitor.cycle`."""
        decision = self._exact.cycle(now, observation, state, motion)
        if decision.required < 0.0 or motion is None:
            return decision
        balls = np.frombuffer(observation.balls, "<f4").reshape(-1, 4)
        inside = bool(len(balls)) and float((np.hypot(balls[:, 0], balls[:, 1]) - balls[:, 3]).min()) < self.radius
        reason = f"somebody is inside the stop zone of {self.radius:.2f} m" if inside else ""
        return _with_limit(decision, 0.0 if inside else 1.0, reason, motion)

    def warm_up(self) -> None:
        """As `Monitor.warm_up`."""
        self._exact.warm_up()


class ConstantSpeed:
    """ISO/TS 15066:2016, 5.5.4.2.3, with constant values: the nearest distance, whatever its direction, and the
    motion's own highest speed and longest braking time."""

    def __init__(self, exact: Monitor, config: SafetyConfig, model: RobotModel) -> None:
        self._exact = exact
        self._config = config
        self._model = model
        self._motion = ""
        self._fastest = 0.0
        self._braking = Braking(time=0.0, distance=0.0)

    def cycle(self, now: float, observation: Observation, state: RobotState, motion: Motion | None) -> Decision:
        """As `Monitor.cycle`."""
        decision = self._exact.cycle(now, observation, state, motion)
        if decision.required < 0.0 or motion is None or math.isinf(decision.separation):
            return decision
        self._learn(motion)
        c = self._config
        allowed = allowed_speed(
            max(0.0, decision.separation), c.human.slow, c.reaction.total, self._braking, c.intrusion, c.Z_d, c.Z_r
        )
        limit = 1.0 if self._fastest <= 0.0 else min(1.0, allowed / self._fastest)
        reason = f"nearest person {decision.separation:.2f} m away" if limit < 1.0 else ""
        return _with_limit(decision, limit, reason, motion)

    def _learn(self, motion: Motion) -> None:
        """Highest speed of any point of the arm on the motion at rate 1, and what stopping from it takes."""
        if motion.motion_id == self._motion:
            return
        self._motion = motion.motion_id
        at = np.linspace(0.0, motion.duration, SAMPLES)
        dt = 0.004
        before = self._model.capsule_paths(np.array([motion.sample(p)[0] for p in at]))
        after = self._model.capsule_paths(np.array([motion.sample(min(p + dt, motion.duration))[0] for p in at]))
        ends = [np.linalg.norm(b - a, axis=2).max() for a, b in zip(before[:2], after[:2], strict=True)]
        self._fastest = float(max(ends)) / dt
        time = max(motion.braking(1.0, float(p))[0] for p in at)
        self._braking = Braking(time=time, distance=0.5 * self._fastest * time)

    def warm_up(self) -> None:
        """As `Monitor.warm_up`."""
        self._exact.warm_up()


def _with_limit(decision: Decision, limit: float, reason: str, motion: Motion) -> Decision:
    """The same grounds with another limit; it holds for the rest of the motion."""
    return decision._replace(limit=limit, reason=reason, progress_to=motion.duration)


def build_monitor(
    method: Method, config: SafetyConfig, model: RobotModel, limits: RateLimits, reach: float = 0.0,
    contact: ContactLimits | None = None, fixed: Fixed | None = None, stopping: Stopping | None = None,
) -> AnyMonitor:  # fmt: skip
    """Return the monitor of a method; `reach` as in `StaticZone`, the rest as in `Monitor`."""
    if method == "reach":
        return Reach(config, model, limits, contact, fixed, stopping)
    exact = Monitor(config, model, limits, contact, fixed, stopping)
    if method == "static_zone":
        return StaticZone(exact, config, reach)
    if method == "constant_speed":
        return ConstantSpeed(exact, config, model)
    return exact
