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
from safety import reach_kernels
from safety.braking import Course
from safety.config import SafetyConfig
from safety.kernels import FARTHEST
from safety.monitor import Decision, Monitor, Scratch, refuse
from safety.reach_kernels import BODY, Bodies, Reached
from safety.search import Finding, People
from safety.stations import Path

MAX_BODIES = 1000
"""More capsules than this are refused."""
LIMB_ACCELERATION = 50.0
"""No tracked point of a person accelerates by more, m/s^2: about five times what walking and reaching people show."""


def bodies_of(
    axis: NDArray[np.float64],
    velocity: NDArray[np.float64] | None = None,
    spread: NDArray[np.float64] | None = None,
    acceleration: float = LIMB_ACCELERATION,
) -> Bodies:
    """Return capsules for `Reach.cycle_among`.

    Args:
        axis: (m, 7) both ends and radius at the reference time of the observation, m, base frame. The radius contains
            the uncertainty of the position.
        velocity: (m, 6) of both ends, m/s; left out: not tracked.
        spread: (m,) bound of its error, m/s; inf where a body is not tracked.
        acceleration: bound on the acceleration of any point of a tracked body, m/s^2.

    Raises:
        ValueError: the shapes do not fit together.
    """
    rows = np.ascontiguousarray(axis, np.float64).reshape(-1, BODY)
    m = len(rows)
    moves = np.zeros((m, 6)) if velocity is None else np.ascontiguousarray(velocity, np.float64)
    if velocity is None:
        wrong = np.full(m, np.inf)
    elif spread is None:
        raise ValueError("a velocity is worth nothing without a bound of its error")
    else:
        wrong = np.ascontiguousarray(spread, np.float64)
    if moves.shape != (m, 6) or wrong.shape != (m,):
        raise ValueError(f"{m} bodies with velocities {moves.shape} and errors {wrong.shape}")
    return Bodies(rows, moves, wrong, float(acceleration))


NOBODY = bodies_of(np.empty((0, BODY)))
_NONE = Reached(0.0, 0.0, np.inf, -1, -1, False)


class Reach(Monitor):
    """`Monitor` with the method's own limit: the checks of all inputs, the scratch arrays and the search for the exact
    limit, from which it starts, are those of the exact monitor."""

    def __init__(self, config: SafetyConfig, model: RobotModel, limits: RateLimits) -> None:
        """As `Monitor`."""
        super().__init__(config, model, limits)
        self._bodies = NOBODY
        self._reached = _NONE

    def cycle(self, now: float, observation: Observation, state: RobotState, motion: Motion | None) -> Decision:
        """As `Monitor.cycle`."""
        return self.cycle_among(now, observation, state, motion, NOBODY)

    def cycle_among(
        self, now: float, observation: Observation, state: RobotState, motion: Motion | None, bodies: Bodies
    ) -> Decision:
        """As `Monitor.cycle`, with people as capsules beside the balls of the observation."""
        if not sound(bodies):
            return refuse("a body is not described by sensible numbers", state.progress)
        if motion is None and len(bodies.axis):
            return refuse("bodies are not known to a stop without a path", 0.0)
        self._bodies, self._reached = bodies, _NONE
        decision = super().cycle(now, observation, state, motion)
        return self._with_bodies(decision, state)

    def _along(
        self, balls: NDArray[np.float32], chain: Chain, course: Course, path: Path, people: People, scratch: Scratch
    ) -> Finding:  # fmt: skip
        found = super()._along(balls, chain, course, path, people, scratch)
        if not found.sound:
            return found
        links = len(chain.owner) - self._fixed
        reached = reach_kernels.widen(
            len(balls) // 4, found.limit, found.ball, found.link, links, course, path, self._brakes, people,
            self._bodies, scratch.singles, scratch.doubles,
        )  # fmt: skip
        self._reached = reached
        return found._replace(limit=reached.limit, ahead=reached.ahead)

    def _with_bodies(self, decision: Decision, state: RobotState) -> Decision:
        """The decision with the nearest body, where that is nearer than any ball."""
        reached = self._reached
        if reached.body < 0 or decision.required < 0.0:
            return decision
        if reached.separation < decision.separation:
            x, y, z = (float(v) for v in self._bodies.axis[reached.body, :3])
            name = self._model.capsule_names(state.held)[reached.link + self._fixed]
            decision = decision._replace(separation=reached.separation, link=name, point=(x, y, z), seen=True)
        if reached.bound_by_body:
            reason = f"body {reached.body} {reached.separation:.2f} m from {decision.link}"
            decision = decision._replace(reason=reason)
        return decision


def sound(bodies: Bodies) -> bool:
    """Whether capsules are described by sensible numbers."""
    if not 0 <= len(bodies.axis) <= MAX_BODIES:
        return False
    far = float(FARTHEST)
    return bool(
        (np.abs(bodies.axis) < far).all()
        and (bodies.axis[:, 6] >= 0.0).all()
        and (np.abs(bodies.velocity) < far).all()
        and (bodies.spread >= 0.0).all()
        and bodies.acceleration >= 0.0
        and np.isfinite(bodies.acceleration)
    )
