"""Jogging: moving by hand-held commands that expire by themselves. Joint positions are integrated, no path is known."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robots import kinematics
from robots.contract import Jog
from robots.guards import KeepOutRegions
from robots.model import RobotModel

Array = NDArray[np.float64]

MAX_VALIDITY = 0.25
"""Longest life of one jog command, s."""
JOINT_SHARE = 0.25
"""Share of the joints' speed and acceleration that jogging uses."""
LIMIT_MARGIN = 0.01
"""Jogging stops this far from a joint limit, rad."""


class Jogger:
    """Turns jog commands into joint velocities within all limits."""

    def __init__(self, model: RobotModel, regions: KeepOutRegions, speed: float, dt: float) -> None:
        self._model = model
        self._regions = regions
        self._speed = speed
        self._dt = dt
        self._command: Jog | None = None
        self._until = -math.inf
        self._seq: dict[str, int] = {}
        self.dq = np.zeros(model.dof)
        """Commanded joint velocities, rad/s."""
        self.moving = False
        """Whether one of them is not 0."""

    def offer(self, jog: Jog, now: float, session: str) -> str:
        """Take a jog command. Return why it is refused, or an empty string. A refused command ends the jogging."""
        why = self._refusal(jog, session)
        if why:
            self._command = None
            return why
        self._seq[jog.session] = jog.seq
        self._command, self._until = jog, now + jog.valid_for
        return ""

    def _refusal(self, jog: Jog, session: str) -> str:
        if not session or jog.session != session:
            return "jog from a session that does not hold control"
        if jog.seq <= self._seq.get(jog.session, -1):
            return "repeated or old jog command"
        if not (math.isfinite(jog.valid_for) and 0.0 < jog.valid_for <= MAX_VALIDITY):
            return f"jog commands live at most {MAX_VALIDITY} s"
        count = self._model.dof if jog.space == "joint" else 6
        if len(jog.velocity) != count or not all(map(math.isfinite, jog.velocity)):
            return f"a jog in {jog.space} space has {count} finite velocities"
        return ""

    def forget(self) -> None:
        """End the jogging: the arm brakes."""
        self._command = None

    def wanted(self, now: float) -> bool:
        """Whether a jog command is in force."""
        return self._command is not None and now < self._until

    def step(self, now: float, q: Array, limit: float) -> Array:
        """Return the joint positions one tick later, with speed scaled by `limit` in [0, 1]."""
        target = np.zeros(self._model.dof)
        if self.wanted(now) and limit > 0.0:
            target = limit * self._target(q)
        faster = self._towards(target)
        # from the present velocity the arm can always stop in time, because that was checked before it was taken
        self.dq = faster if self._permitted(q, faster) else self._towards(np.zeros(self._model.dof))
        self.moving = bool(self.dq.any())
        return q + self.dq * self._dt

    def _towards(self, target: Array) -> Array:
        """Joint velocities one tick nearer to `target`, all joints changing in proportion."""
        change = target - self.dq
        worst = float(np.max(np.abs(change) / (JOINT_SHARE * self._model.a_max * self._dt)))
        return target if worst <= 1.0 else self.dq + change / worst

    def _target(self, q: Array) -> Array:
        """Joint velocities asked for, scaled down to the limits; always in the direction asked for."""
        jog, model = self._command, self._model
        assert jog is not None
        velocity = np.array(jog.velocity, dtype=np.float64)
        if jog.space == "joint":
            dq = velocity
        else:
            T, J, dq = np.empty((4, 4)), np.empty((6, model.dof)), np.empty(model.dof)
            kinematics.tcp_and_jacobian(model.chain, q, T, J)
            twist = (
                velocity
                if jog.space == "base"
                else np.concatenate([T[:3, :3] @ velocity[:3], T[:3, :3] @ velocity[3:]])
            )
            kinematics.damped_step(J, twist, 1e-4, dq)
        scale = min(1.0, float(np.min(JOINT_SHARE * model.v_max / np.maximum(np.abs(dq), 1e-9))))
        h = 1e-3
        moved = q + h * dq
        fastest = max(
            float(np.linalg.norm(model.fk(moved)[:3, 3] - model.fk(q)[:3, 3])),
            float(np.linalg.norm(model.elbow(moved) - model.elbow(q))),
        )
        # 2 % for the curvature of the difference quotient
        return dq * min(scale, self._speed / max(1.02 * fastest / h, 1e-9))

    def _permitted(self, q: Array, dq: Array) -> bool:
        """Whether the arm, braking from the velocities dq, stays within joint limits and keep-out regions."""
        if not dq.any():
            return True
        model = self._model
        time = float(np.max(np.abs(dq) / (JOINT_SHARE * model.a_max))) + 2 * self._dt
        stop = q + dq * (0.5 * time + self._dt)
        for j in range(model.dof):
            if dq[j] > 0 and stop[j] > model.q_upper[j] - LIMIT_MARGIN:
                return False
            if dq[j] < 0 and stop[j] < model.q_lower[j] + LIMIT_MARGIN:
                return False
        return not self._regions.violation(model, stop[None, :], None)
