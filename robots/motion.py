"""A motion: a sampled joint path with its nominal time law, and how fast the arm can be braked anywhere on it.

The progress variable p is *nominal seconds*. Between the samples the path is the C2 cubic spline with zero velocity at
both ends, computed alike by planner, robot node and safety monitor. The arm moves along q(p(t)); with the rate
r = dp/dt its joints have velocity q'(p) r and acceleration q'(p) dr/dt + q''(p) r^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell.compiled import njit
from robots.contract import AcceptedMotion, Move
from robots.dynamics import braking_torque_bound
from robots.model import RobotModel
from robots.rates import DEFAULT_LIMITS, RateLimits, braking_on, window_minimum

Array = NDArray[np.float64]

LOOKAHEAD = 0.06
"""Nominal s by which a lower slope limit is announced, so that the jerk-limited slope is down in time."""
MIN_SLOPE = 0.5
"""A motion on which the rate could not fall by at least this much everywhere (1/s) is refused."""
TORQUE_PITCH = 0.04
"""Nominal time between the points at which braking torque is evaluated, s."""
MAX_SAMPLES = 60_000


class MotionError(Exception):
    """A motion that cannot be executed; the text says where and why."""


@njit(cache=True)
def spline_curvature(Q: Array, h: float) -> Array:
    """Second derivatives (K, n) of the cubic spline through Q (K, n) at spacing h with zero velocity at both ends.

    Thomas algorithm on the clamped-spline system (de Boor, A Practical Guide to Splines, ch. IV).
    """
    K, n = Q.shape
    M = np.empty((K, n))
    c = np.empty(K)
    w = 6.0 / (h * h)
    for j in range(n):
        c[0] = 0.5
        M[0, j] = w * (Q[1, j] - Q[0, j]) / 2.0
        for k in range(1, K - 1):
            m = 1.0 / (4.0 - c[k - 1])
            c[k] = m
            M[k, j] = (w * (Q[k + 1, j] - 2.0 * Q[k, j] + Q[k - 1, j]) - M[k - 1, j]) * m
        m = 1.0 / (2.0 - c[K - 2])
        M[K - 1, j] = (w * (Q[K - 2, j] - Q[K - 1, j]) - M[K - 2, j]) * m
        for k in range(K - 2, -1, -1):
            M[k, j] -= c[k] * M[k + 1, j]
    return M


@njit(cache=True)
def spline_at(Q: Array, M: Array, h: float, p: float, q: Array, dq: Array, ddq: Array) -> None:
    """Fill q, dq/dp, d2q/dp2 (n,) of the spline at progress p, clamped to its ends."""
    K, n = Q.shape
    x = min(max(p / h, 0.0), K - 1.0)
    k = min(int(x), K - 2)
    b = x - k
    a = 1.0 - b
    for j in range(n):
        q[j] = a * Q[k, j] + b * Q[k + 1, j] + ((a**3 - a) * M[k, j] + (b**3 - b) * M[k + 1, j]) * h * h / 6.0
        dq[j] = (Q[k + 1, j] - Q[k, j]) / h + ((3 * b * b - 1) * M[k + 1, j] - (3 * a * a - 1) * M[k, j]) * h / 6.0
        ddq[j] = a * M[k, j] + b * M[k + 1, j]


@njit(cache=True)
def slope_bounds(Q: Array, M: Array, h: float, a_max: Array, ahead: float) -> tuple[Array, Array, Array, Array]:
    """Permitted fall and rise of the rate along a motion.

    The joint acceleration q' s + q'' r^2 is linear in r^2, so on r in [0, 1] it is bounded where it is at r = 0 and
    r = 1: falling with slope -s needs |q'| s <= a and |q'' - q' s| <= a; rising likewise with the sign changed. Each
    sample takes the least of itself and its neighbours, then of the stretch `ahead` in front of it.

    Returns:
        fall (K,), rise (K,), 1/s, and the largest |q'| (n,) and |q''| (n,) met.
    """
    K, n = Q.shape
    fall, rise = np.empty(K), np.empty(K)
    v_top, a_top = np.zeros(n), np.zeros(n)
    for k in range(K):
        f = g = 1e3
        for j in range(n):
            if k == 0 or k == K - 1:
                v = 0.0
            else:
                v = (Q[k + 1, j] - Q[k, j]) / h - (2.0 * M[k, j] + M[k + 1, j]) * h / 6.0
            acc = M[k, j]
            v_top[j] = max(v_top[j], abs(v))
            a_top[j] = max(a_top[j], abs(acc))
            if abs(v) > 1e-6:
                room = max(a_max[j] - abs(acc), 0.0) / abs(v)
                free = a_max[j] / abs(v)
                if v * acc >= 0.0:
                    f, g = min(f, free), min(g, room)
                else:
                    f, g = min(f, room), min(g, free)
        fall[k], rise[k] = f, g
    count = math.ceil(ahead / h) + 1
    low_fall, low_rise = np.empty(K), np.empty(K)
    for k in range(K):
        f = g = 1e3
        for i in range(max(k - 1, 0), min(k + count, K)):
            f, g = min(f, fall[i]), min(g, rise[i])
        low_fall[k], low_rise[k] = f, g
    return low_fall, low_rise, v_top, a_top


@dataclass(frozen=True, eq=False)
class Motion:
    """An executable motion. Immutable."""

    motion_id: str
    step: float
    """Nominal time between samples, s."""
    path: Array
    """(K, dof) joint positions, rad."""
    duration: float
    """Nominal duration, s."""
    label: str
    curvature: Array
    """(K, dof) d2q/dp2 at the samples."""
    slope_limits: Array
    """(K,) fall of the rate the joints can always follow from here on, 1/s; not yet capped by `RateLimits`."""
    rise_limits: Array
    """(K,) the same for a rising rate."""
    peak_velocity: Array
    """(dof,) largest nominal joint speed, rad/s."""
    peak_acceleration: Array
    """(dof,) largest nominal joint acceleration, rad/s^2."""
    limits: RateLimits = DEFAULT_LIMITS
    phase: str = ""
    """Recipe phase it was planned for; it decides which zones hold. Empty: none is told."""

    @staticmethod
    def from_samples(
        model: RobotModel,
        motion_id: str,
        step: float,
        path: ArrayLike,
        label: str = "",
        limits: RateLimits = DEFAULT_LIMITS,
        phase: str = "",
    ) -> Motion:
        """Build a motion from samples (K, dof) at equal steps of nominal time.

        Raises:
            MotionError: wrong shape, too short or long, not finite, outside joint limits, faster or harder than the
                joints permit, or without authority to brake.
        """
        Q = np.ascontiguousarray(path, dtype=np.float64)
        if not (motion_id and math.isfinite(step) and 0.001 <= step <= 0.1):
            raise MotionError("a motion needs an id and a sample step between 1 and 100 ms")
        if Q.ndim != 2 or Q.shape[1] != model.dof or not 2 <= Q.shape[0] <= MAX_SAMPLES:
            raise MotionError(f"path has shape {Q.shape}; expected (2..{MAX_SAMPLES}, {model.dof})")
        if not np.isfinite(Q).all():
            raise MotionError("path contains values that are not finite")
        _check_range(model, Q, step)
        M = spline_curvature(Q, step)
        fall, rise, v_top, a_top = slope_bounds(Q, M, step, np.array(model.a_max), LOOKAHEAD)
        fall = np.minimum(fall, _torque_bound(model, Q, M, step))
        motion = Motion(motion_id, step, Q, step * (len(Q) - 1), label, M, fall, rise, v_top, a_top, limits, phase)
        _check_dynamics(model, motion)
        return motion

    @staticmethod
    def from_accepted(
        model: RobotModel, accepted: AcceptedMotion | Move, limits: RateLimits = DEFAULT_LIMITS
    ) -> Motion:
        """Build the motion a message carries. Raises MotionError like `from_samples`."""
        if accepted.dof != model.dof:
            raise MotionError(f"motion is for {accepted.dof} joints, {model.name} has {model.dof}")
        if len(accepted.path) % (8 * model.dof):
            raise MotionError("path is not a whole number of float64 rows")
        Q = np.frombuffer(accepted.path, dtype="<f8").reshape(-1, model.dof).astype(np.float64)
        return Motion.from_samples(model, accepted.motion_id, accepted.step, Q, accepted.label, limits, accepted.phase)

    def to_move(self) -> Move:
        """Return the request that asks the robot node to execute this motion."""
        path = self.path.astype("<f8").tobytes()
        return Move(self.motion_id, self.step, self.path.shape[1], path, self.label, self.phase)

    def to_accepted(self) -> AcceptedMotion:
        """Return the message by which the robot node tells everyone what it executes."""
        path = self.path.astype("<f8").tobytes()
        return AcceptedMotion(self.motion_id, self.step, self.path.shape[1], path, self.label, self.phase)

    def sample(self, progress: float) -> tuple[Array, Array, Array]:
        """Return q, dq/dp, d2q/dp2, each (dof,), at a progress; outside [0, duration] the end point."""
        n = self.path.shape[1]
        q, dq, ddq = np.empty(n), np.empty(n), np.empty(n)
        spline_at(self.path, self.curvature, self.step, progress, q, dq, ddq)
        return q, dq, ddq

    def brake_slope(self, p_from: float, p_to: float) -> float:
        """Return the fall of the rate (1/s) the joints can follow anywhere in [p_from, p_to], capped by the limits."""
        if not (math.isfinite(p_from) and math.isfinite(p_to)):
            return float(min(self.limits.slope_down, self.slope_limits.min()))
        low, high = min(p_from, p_to), max(p_from, p_to)
        return float(min(self.limits.slope_down, window_minimum(self.slope_limits, self.step, low, high)))

    def rise_slope(self, progress: float) -> float:
        """Return the rise of the rate (1/s) the joints can follow at a progress, capped by the limits."""
        return float(min(self.limits.slope_up, window_minimum(self.rise_limits, self.step, progress, progress)))

    def braking(self, rate: float, progress: float, slope: float = 0.0, tick: float = 0.004) -> tuple[float, float]:
        """Return time (s) and swept progress (nominal s) within which the rate reaches 0 from here.

        Never shorter than what the robot node really needs, and never shorter for a higher rate than for a lower one.
        `tick` is the period of the node, s.
        """
        down, jerk = self.limits.slope_down, self.limits.jerk
        time, swept = braking_on(self.slope_limits, self.step, progress, rate, slope, down, jerk, tick)
        return float(time), float(swept)


def _torque_bound(model: RobotModel, Q: Array, M: Array, step: float) -> Array:
    """Fall of the rate (K,) at which braking needs no more than 95 % of any joint's torque, gravity included, 1/s.

    Rigid-body torque is affine in r^2 and in the slope, so the ends r = 0 and r = 1 decide. It is evaluated every
    `TORQUE_PITCH` nominal seconds; a sample takes the least of the points on both sides and of those ahead of it.
    """
    K = len(Q)
    rows = np.unique(np.append(np.arange(0, K, max(1, round(TORQUE_PITCH / step))), K - 1))
    inner = np.clip(rows, 1, K - 2)
    speed = (Q[inner + 1] - Q[inner]) / step - (2.0 * M[inner] + M[inner + 1]) * step / 6.0
    speed[(rows == 0) | (rows == K - 1)] = 0.0
    least = np.empty(len(rows))
    braking_torque_bound(model.chain, model.bodies, Q[rows], speed, M[rows], 0.95 * model.tau_max, least)
    ahead = max(1, math.ceil(LOOKAHEAD / TORQUE_PITCH))
    padded = np.concatenate([[1e3], least, np.full(ahead + 1, 1e3)])
    window = np.lib.stride_tricks.sliding_window_view(padded, ahead + 3)[: len(rows)].min(axis=1)
    return window[np.clip(np.searchsorted(rows, np.arange(K), side="right") - 1, 0, len(rows) - 1)]


def _check_range(model: RobotModel, Q: Array, step: float) -> None:
    outside = (model.q_lower - 1e-6 > Q) | (model.q_upper + 1e-6 < Q)
    if outside.any():
        row, joint = (int(v[0]) for v in np.nonzero(outside))
        raise MotionError(
            f"{model.joint_names[joint]} leaves its range "
            f"[{math.degrees(model.q_lower[joint]):.1f}, {math.degrees(model.q_upper[joint]):.1f}] degrees "
            f"{row * step:.2f} s after the start: {math.degrees(Q[row, joint]):.1f}"
        )


def _check_dynamics(model: RobotModel, motion: Motion) -> None:
    fast = motion.peak_velocity > model.v_max * (1 + 1e-6)
    if fast.any():
        j = int(np.nonzero(fast)[0][0])
        raise MotionError(
            f"{model.joint_names[j]} would reach {motion.peak_velocity[j]:.2f} rad/s, its limit is "
            f"{model.v_max[j]:.2f}: plan it slower"
        )
    hard = motion.peak_acceleration > model.a_max * (1 + 1e-6)
    if hard.any():
        j = int(np.nonzero(hard)[0][0])
        raise MotionError(
            f"{model.joint_names[j]} would accelerate with {motion.peak_acceleration[j]:.1f} rad/s^2, its limit is "
            f"{model.a_max[j]:.1f}: plan it slower, or start and end it at rest"
        )
    weak = int(np.argmin(motion.slope_limits))
    if motion.slope_limits[weak] < MIN_SLOPE:
        raise MotionError(
            f"the arm could not be braked {weak * motion.step:.2f} s after the start: its acceleration or torque "
            "is used up by the nominal law; plan it slower"
        )
