"""The method `reach`: the arm may move as long as no *moving* arm can touch anybody, whatever ramp it takes.

Where the exact monitor keeps the protective separation distance S_p over the whole sweep for the whole stopping time,
this one asks each place of the path only for what people can cover until the last moment at which a moving arm can
still be there (docs/safety/proof.md). It keeps the same C + Z_d + Z_r. It never permits less than the exact monitor,
and it is conservative about contact, not about S_p: a person whom the arm moves away from, or who reaches the arm
when it stands, is nearer than S_p allows.

People come as the balls of an observation, which grow at v_h in every direction, and as capsules (`bodies_of`)
whose measured velocity bounds them further. Perception's tracks are not such bodies: their velocity is that of a
cluster's centroid, without a bound on its error and without saying which balls belong to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perception.contract import Observation
from robots.contract import RobotState
from robots.kinematics import Chain
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import RateLimits
from safety import reach_search
from safety.braking import Brakes, Course
from safety.clamping import Fixed
from safety.config import SafetyConfig
from safety.contact import ContactLimits
from safety.monitor import Decision, Monitor, Scratch, refuse
from safety.permits import Terrain
from safety.reach_kernels import ACCELERATION, BODY, CAPSULE, SPREAD
from safety.reach_search import Reached
from safety.search import Finding, People
from safety.stations import Path
from safety.stopping import Stopping

F64 = NDArray[np.float64]
MAX_BODIES = 1000
"""More capsules than this are refused."""
LIMB_ACCELERATION = 50.0
"""No tracked point of a person accelerates by more, m/s^2: about five times what walking and reaching people show."""


def bodies_of(
    capsules: NDArray[np.float64],
    velocity: NDArray[np.float64] | None = None,
    spread: NDArray[np.float64] | None = None,
    acceleration: float = LIMB_ACCELERATION,
) -> F64:
    """Return people (m, 15) for `Reach.cycle_among`.

    Args:
        capsules: (m, 7) both ends and radius at the reference time of the observation, m, base frame. The radius
            contains the uncertainty of the position.
        velocity: (m, 6) of both ends, m/s; left out: not tracked.
        spread: (m,) bound of its error, m/s; inf where a body is not tracked.
        acceleration: bound on the acceleration of any point of a tracked body, m/s^2.

    Raises:
        ValueError: the shapes do not fit together, or a velocity has no bound of its error.
    """
    m = len(capsules)
    if (velocity is None) != (spread is None):
        raise ValueError("a velocity is worth nothing without a bound of its error")
    bodies = np.zeros((m, BODY))
    bodies[:, :CAPSULE] = np.reshape(capsules, (m, CAPSULE))
    bodies[:, CAPSULE:SPREAD] = 0.0 if velocity is None else np.reshape(velocity, (m, SPREAD - CAPSULE))
    bodies[:, SPREAD] = np.inf if spread is None else np.reshape(spread, m)
    bodies[:, ACCELERATION] = acceleration
    return bodies


NOBODY = np.empty((0, BODY))


class Reach(Monitor):
    """`Monitor` with the method's own limit: the checks of all inputs, the scratch arrays and the search for the exact
    limit, from which it starts, are those of the exact monitor."""

    def __init__(
        self, config: SafetyConfig, model: RobotModel, limits: RateLimits, contact: ContactLimits | None = None,
        fixed: Fixed | None = None, stopping: Stopping | None = None,
    ) -> None:  # fmt: skip
        """As `Monitor`."""
        super().__init__(config, model, limits, contact, fixed, stopping)
        self._bodies = NOBODY
        self._reached: Reached | None = None

    def cycle(
        self, now: float, observation: Observation, state: RobotState, motion: Motion | None, ceiling: float = 1.0
    ) -> Decision:
        """As `Monitor.cycle`."""
        return self.cycle_among(now, observation, state, motion, NOBODY, ceiling)

    def cycle_among(
        self, now: float, observation: Observation, state: RobotState, motion: Motion | None, bodies: F64,
        ceiling: float = 1.0,
    ) -> Decision:  # fmt: skip
        """As `Monitor.cycle`, with people (m, 15) beside the balls of the observation; see `bodies_of`."""
        if bodies.ndim != 2 or bodies.shape[1] != BODY or len(bodies) > MAX_BODIES or bodies.dtype != np.float64:
            return refuse("bodies are not what they should be", state.progress)
        if motion is None and len(bodies):
            return refuse("bodies are not known to a stop without a path")
        if self._zoning is not None and len(bodies):
            return refuse("bodies are not known to the zones", state.progress)
        self._bodies, self._reached = np.ascontiguousarray(bodies), None
        decision = super().cycle(now, observation, state, motion, ceiling)
        return self._with_bodies(decision, state)

    def _along(
        self, balls: NDArray[np.float32], chain: Chain, course: Course, path: Path, brakes: Brakes, people: People,
        terrain: Terrain, scratch: Scratch,
    ) -> Finding:  # fmt: skip
        self._reached = reach_search.decide(
            balls, chain, self._fixed, self._q, course, path, brakes, people, terrain, self._bodies,
            scratch.singles, scratch.doubles,
        )  # fmt: skip
        return self._reached.found

    def _with_bodies(self, decision: Decision, state: RobotState) -> Decision:
        """The decision with the nearest body, where that is nearer than any ball."""
        reached = self._reached
        if reached is None or reached.body < 0 or decision.required < 0.0:
            return decision
        if reached.separation < decision.separation:
            x, y, z = (float(v) for v in self._bodies[reached.body, :3])
            name = self._model.capsule_names(state.held)[reached.link + self._fixed]
            decision = decision._replace(separation=reached.separation, link=name, point=(x, y, z), seen=True)
        if reached.bound_by_body:
            reason = f"body {reached.body} {reached.separation:.2f} m from {decision.link}"
            decision = decision._replace(reason=reason)
        return decision
