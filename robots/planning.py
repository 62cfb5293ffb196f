"""Planners: point to point, straight, circular, and whole paths blended through via points.

A path is laid out geometrically first (inverse kinematics follows straight and circular segments with seed
continuity), corners with a blend are rounded in joint space, and then the whole receives one nominal time law. At a
corner without a blend the arm stops.

Nominal laws use at most `NOMINAL_ACCELERATION` of the joints' acceleration, so that authority to brake remains on all
of the path, and `NOMINAL_VELOCITY` of their speed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from robots import kinematics
from robots.kinematics import Chain
from robots.model import IkError, RobotModel
from robots.motion import Motion, MotionError
from robots.timing import fastest_profile, law

Array = NDArray[np.float64]

NOMINAL_ACCELERATION = 0.5
NOMINAL_VELOCITY = 0.8
SAMPLE_STEP = 0.008
"""Nominal time between the samples of a motion, s."""
PTP_TCP_SPEED = 1.0
"""TCP speed of a point-to-point segment at speed 1, m/s."""
PTP_TCP_ACCELERATION = 4.0
LIN_SPEED = 0.5
LIN_ACCELERATION = 2.0
ROTATION_SPEED = 2.5
"""Largest nominal rotation speed of the TCP, rad/s."""
LIMIT_MARGIN = 2e-3
"""Planned paths keep this distance from the joint limits, rad."""

_LIN_PITCH = 0.005
_ROTATION_PITCH = 0.02
_PTP_PITCH = 0.02
_LARGEST_STEP = 0.25
"""More joint motion than this between two points 5 mm apart is a singularity, rad."""


class PlanError(Exception):
    """A path that cannot be planned. `reason` is stable: `unreachable`, `joint_limit`, `singularity`, `speed`,
    `invalid`; `segment` counts from 0; the text says where and why."""

    def __init__(self, reason: str, segment: int, text: str) -> None:
        super().__init__(f"segment {segment + 1}: {text}")
        self.reason = reason
        self.segment = segment


@dataclass(frozen=True, eq=False)
class Segment:
    """One piece of a path, ending at `target`."""

    kind: Literal["ptp", "lin", "circ"]
    target: ArrayLike
    """Joint positions (dof,), only for ptp, or a TCP pose (4, 4) in the base frame."""
    via: ArrayLike | None = None
    """A TCP pose (4, 4) the circle passes; only its position counts, the orientation is slerped from start to end."""
    blend: float = 0.0
    """How far before and after the target the path may leave it to round the corner, m at the TCP; 0: stop there."""
    speed: float | None = None
    """ptp: share of the nominal joint speed, in (0, 1]; lin and circ: TCP speed, m/s."""
    acceleration: float | None = None
    """lin and circ: TCP acceleration, m/s^2."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """Joint positions along one segment with the limits in force there."""

    rows: Array
    tcp_speed: float
    tcp_acceleration: float
    joint_speed: float


def plan_ptp(
    model: RobotModel,
    q_from: ArrayLike,
    q_to: ArrayLike,
    speed: float = 1.0,
    *,
    motion_id: str | None = None,
    label: str = "",
) -> Motion:
    """Plan a straight line in joint space from q_from to q_to (dof,), or to a TCP pose (4, 4).

    `speed` in (0, 1] scales the nominal joint speeds. Raises PlanError.
    """
    return plan_path(model, q_from, [Segment("ptp", q_to, speed=speed)], motion_id=motion_id, label=label)


def plan_lin(
    model: RobotModel,
    q_from: ArrayLike,
    T_goal: ArrayLike,
    speed: float = LIN_SPEED,
    acceleration: float = LIN_ACCELERATION,
    *,
    motion_id: str | None = None,
    label: str = "",
) -> Motion:
    """Plan a straight TCP line to the pose (4, 4), orientation slerped; m/s, m/s^2. Raises PlanError."""
    segment = Segment("lin", T_goal, speed=speed, acceleration=acceleration)
    return plan_path(model, q_from, [segment], motion_id=motion_id, label=label)


def plan_circ(
    model: RobotModel,
    q_from: ArrayLike,
    T_via: ArrayLike,
    T_goal: ArrayLike,
    speed: float = LIN_SPEED,
    acceleration: float = LIN_ACCELERATION,
    *,
    motion_id: str | None = None,
    label: str = "",
) -> Motion:
    """Plan the circular arc through the position of T_via to T_goal (4, 4). Raises PlanError."""
    segment = Segment("circ", T_goal, via=T_via, speed=speed, acceleration=acceleration)
    return plan_path(model, q_from, [segment], motion_id=motion_id, label=label)


def plan_path(
    model: RobotModel,
    q_from: ArrayLike,
    segments: Sequence[Segment],
    *,
    motion_id: str | None = None,
    label: str = "",
    step: float = SAMPLE_STEP,
) -> Motion:
    """Plan one motion through all segments, starting and ending at rest.

    Args:
        model: the arm.
        q_from: (dof,) joint positions at the start, rad.
        segments: at least one; see `Segment`. Corners with `blend` > 0 are passed without stopping.
        motion_id: name of the motion; by default one derived from its samples.
        label: what people read.
        step: nominal time between samples, s.

    Raises:
        PlanError: naming the segment, where on it, and why.
    """
    start = np.ascontiguousarray(q_from, dtype=np.float64)
    if not segments:
        raise PlanError("invalid", 0, "the path has no segments")
    if not model.in_limits(start, -1e-4):
        raise PlanError("invalid", 0, f"the start is not a valid joint position of {model.name}: {np.round(start, 3)}")
    pieces: list[_Piece] = []
    q = np.clip(start, model.q_lower, model.q_upper)
    for index, segment in enumerate(segments):
        piece = _lay_out(model, q, segment, index)
        pieces.append(piece)
        q = piece.rows[-1]
    path = _join(model, segments, pieces, step)
    try:
        name = motion_id or "m-" + hashlib.blake2s(path.tobytes(), digest_size=8).hexdigest()
        return Motion.from_samples(model, name, step, path, label)
    except MotionError as error:
        raise PlanError("speed", 0, str(error)) from error


# ---------------------------------------------------------------- geometry of one segment


def _lay_out(model: RobotModel, q: Array, segment: Segment, index: int) -> _Piece:
    target = np.ascontiguousarray(segment.target, dtype=np.float64)
    if not np.isfinite(target).all() or not (math.isfinite(segment.blend) and 0 <= segment.blend <= 1):
        raise PlanError("invalid", index, "target and blend must be finite, blend between 0 and 1 m")
    if segment.kind == "ptp":
        speed = _positive(segment.speed, 1.0, 1.0, "speed of a ptp segment", index)
        goal = _joint_target(model, q, target, index)
        rows = _joint_line(q, goal)
        return _Piece(rows, PTP_TCP_SPEED * speed, PTP_TCP_ACCELERATION, NOMINAL_VELOCITY * speed)
    speed = _positive(segment.speed, LIN_SPEED, 3.0, "speed", index)
    acceleration = _positive(segment.acceleration, LIN_ACCELERATION, 20.0, "acceleration", index)
    if target.shape != (4, 4):
        raise PlanError("invalid", index, f"a {segment.kind} segment needs a pose (4, 4), got shape {target.shape}")
    T = model.fk(q)
    goals = _line(T, target) if segment.kind == "lin" else _arc(T, segment, target, index)
    rows = _follow(model, q, goals, segment.kind, index)
    return _Piece(rows, speed, acceleration, NOMINAL_VELOCITY)


def _positive(value: float | None, default: float, most: float, what: str, index: int) -> float:
    chosen = default if value is None else float(value)
    if not (math.isfinite(chosen) and 0.0 < chosen <= most):
        raise PlanError("invalid", index, f"{what} must lie in (0, {most:g}], got {chosen}")
    return chosen


def _joint_target(model: RobotModel, q: Array, target: Array, index: int) -> Array:
    if target.shape == (4, 4):
        try:
            return model.ik(target, q, margin=LIMIT_MARGIN)
        except IkError as error:
            raise PlanError("unreachable" if error.reason != "invalid" else "invalid", index, str(error)) from error
    if target.shape != (model.dof,):
        raise PlanError("invalid", index, f"a ptp target has {model.dof} joints or is a pose (4, 4)")
    for j in range(model.dof):
        if not model.q_lower[j] <= target[j] <= model.q_upper[j]:
            raise PlanError(
                "joint_limit",
                index,
                f"{model.joint_names[j]} would go to {math.degrees(target[j]):.1f} degrees; allowed "
                f"{math.degrees(model.q_lower[j]):.1f} to {math.degrees(model.q_upper[j]):.1f}",
            )
    return target


def _joint_line(q: Array, goal: Array) -> Array:
    count = max(6, math.ceil(float(np.abs(goal - q).max()) / _PTP_PITCH) + 1)
    return q + np.linspace(0.0, 1.0, count)[:, None] * (goal - q)


def rotation_vector(R: Array) -> Array:
    """Rotation vector (3,), rad, of a rotation matrix (3, 3)."""
    e, eye, T = np.empty(6), np.eye(4), np.eye(4)
    T[:3, :3] = R
    kinematics.pose_error(eye, T, e)
    return e[3:]


def rotation_of(vector: Array) -> Array:
    """Rotation matrix (3, 3) of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * K + (1 - math.cos(angle)) * (K @ K)


def _turned(R0: Array, R1: Array, shares: Array) -> Array:
    """Slerp: (m, 3, 3) orientations at the given shares of the way from R0 to R1."""
    w = rotation_vector(R0.T @ R1)
    return np.array([R0 @ rotation_of(w * s) for s in shares])


def _line(T0: Array, T1: Array) -> Array:
    angle = float(np.linalg.norm(rotation_vector(T0[:3, :3].T @ T1[:3, :3])))
    length = float(np.linalg.norm(T1[:3, 3] - T0[:3, 3]))
    shares = np.linspace(0.0, 1.0, max(6, math.ceil(max(length / _LIN_PITCH, angle / _ROTATION_PITCH)) + 1))
    goals = np.tile(np.eye(4), (len(shares), 1, 1))
    goals[:, :3, :3] = _turned(T0[:3, :3], T1[:3, :3], shares)
    goals[:, :3, 3] = T0[:3, 3] + shares[:, None] * (T1[:3, 3] - T0[:3, 3])
    return goals


def _arc(T0: Array, segment: Segment, T1: Array, index: int) -> Array:
    via = np.ascontiguousarray(segment.via if segment.via is not None else np.full((4, 4), np.nan), dtype=np.float64)
    if via.shape != (4, 4) or not np.isfinite(via).all():
        raise PlanError("invalid", index, "a circ segment needs a via pose (4, 4)")
    p0, p1, pv = T0[:3, 3], T1[:3, 3], via[:3, 3]
    u, v = pv - p0, p1 - p0
    normal = np.cross(u, v)
    area = float(normal @ normal)
    if area < 1e-10 * max(float(u @ u) * float(v @ v), 1e-12) or area < 1e-14:
        raise PlanError("invalid", index, "start, via and end of a circle must not lie on a line or coincide")
    # circumcentre of the triangle p0, pv, p1
    centre = p0 + (float(v @ v) * np.cross(normal, u) - float(u @ u) * np.cross(normal, v)) * (1.0 / (2.0 * area))
    x = p0 - centre
    radius = float(np.linalg.norm(x))
    x = x / radius
    y = np.cross(normal / math.sqrt(area), x)
    angle = math.atan2(float((p1 - centre) @ y), float((p1 - centre) @ x)) % (2 * math.pi)
    turn = float(np.linalg.norm(rotation_vector(T0[:3, :3].T @ T1[:3, :3])))
    count = max(8, math.ceil(max(angle * radius / _LIN_PITCH, turn / _ROTATION_PITCH, angle / 0.05)) + 1)
    shares = np.linspace(0.0, 1.0, count)
    goals = np.tile(np.eye(4), (count, 1, 1))
    goals[:, :3, :3] = _turned(T0[:3, :3], T1[:3, :3], shares)
    phi = shares[:, None] * angle
    goals[:, :3, 3] = centre + radius * (np.cos(phi) * x + np.sin(phi) * y)
    return goals


@njit(cache=True)
def _follow_kernel(
    chain: Chain, goals: Array, q0: Array, lower: Array, upper: Array, largest: float
) -> tuple[Array, int, int, float]:
    """Joint positions (m, n) along the poses by continuation. Returns them, the index of the first failure (-1: none),
    its cause (1 not reached, 2 jump) and the position error there."""
    m, n = goals.shape[0], q0.shape[0]
    rows = np.empty((m, n))
    rows[0] = q0
    for i in range(1, m):
        q = rows[i - 1].copy()
        if i > 1:  # start from the linear extrapolation: fewer iterations
            for j in range(n):
                q[j] = min(max(2.0 * rows[i - 1, j] - rows[i - 2, j], lower[j]), upper[j])
        ok, error, _ = kinematics.solve_ik(chain, goals[i], q, lower, upper, 40, 1e-6, 1e-6)
        rows[i] = q
        if not ok:
            return rows, i, 1, error
        for j in range(n):
            if abs(q[j] - rows[i - 1, j]) > largest:
                return rows, i, 2, error
    return rows, -1, 0, 0.0


def _follow(model: RobotModel, q: Array, goals: Array, kind: str, index: int) -> Array:
    # a start that lies within the margin of a limit must not be pushed off the path
    lower, upper = np.minimum(model.q_lower + LIMIT_MARGIN, q), np.maximum(model.q_upper - LIMIT_MARGIN, q)
    rows, failed, cause, _ = _follow_kernel(model.chain, goals, q, lower, upper, _LARGEST_STEP)
    if failed < 0:
        return rows
    where = f"at {100 * failed / (len(goals) - 1):.0f} % of the {kind} segment"
    if cause == 2:
        raise PlanError("singularity", index, f"{where} the joints would have to jump: a singularity is too near")
    at_limit = (rows[failed] <= lower + 1e-9) | (rows[failed] >= upper - 1e-9)
    if at_limit.any():
        names = ", ".join(model.joint_names[j] for j in np.nonzero(at_limit)[0])
        raise PlanError("joint_limit", index, f"{where} {names} is at its limit")
    J = model.jacobian(rows[failed - 1])
    if np.linalg.svd(J, compute_uv=False)[-1] < 0.03:
        raise PlanError("singularity", index, f"{where} the arm is stretched out or folded into a singularity")
    raise PlanError("unreachable", index, f"{where} the TCP cannot follow")


# ---------------------------------------------------------------- corners and the time law


def _join(model: RobotModel, segments: Sequence[Segment], pieces: list[_Piece], step: float) -> Array:
    """Samples (K, dof) of the whole path at equal nominal time steps."""
    sections: list[list[_Piece]] = [[]]
    for i, piece in enumerate(pieces):
        last = i + 1 == len(pieces)
        if last or segments[i].blend <= 0.0:
            sections[-1].append(piece)
            if not last:
                sections.append([])
            continue
        before, corner, after = _round(model, piece, pieces[i + 1], segments[i].blend)
        if corner is None:
            sections[-1].append(piece)
            sections.append([])
            continue
        sections[-1] += [before, corner]
        pieces[i + 1] = after
    samples = [_timed(model, section, step) for section in sections]
    return np.concatenate([samples[0], *(s[1:] for s in samples[1:])])


def _round(model: RobotModel, one: _Piece, two: _Piece, blend: float) -> tuple[_Piece, _Piece | None, _Piece]:
    """Cut both pieces near their common corner and bridge the gap by a quintic curve in joint space.

    The curve leaves and meets both pieces with their tangents and without curvature, so that the whole is C2. The
    inner control points never pass the corner.
    """
    i = _cut(model.tcp_path(one.rows)[::-1], blend)
    j = _cut(model.tcp_path(two.rows), blend)
    i = len(one.rows) - 1 - i
    if i < 1 or j > len(two.rows) - 2 or i >= len(one.rows) - 1 or j < 1:
        return one, None, two
    a, b, corner = one.rows[i], two.rows[j], one.rows[-1]
    ta, tb = one.rows[i] - one.rows[i - 1], two.rows[j + 1] - two.rows[j]
    na, nb = float(np.linalg.norm(ta)), float(np.linalg.norm(tb))
    if na < 1e-9 or nb < 1e-9:
        return one, None, two
    la, lb = float(np.linalg.norm(corner - a)), float(np.linalg.norm(corner - b))
    ta, tb = ta / na * la, tb / nb * lb
    control = [a, a + 0.4 * ta, a + 0.8 * ta, b - 0.8 * tb, b - 0.4 * tb, b]
    count = max(12, math.ceil((la + lb) / (_PTP_PITCH / 2)))
    t = np.linspace(0.0, 1.0, count)[:, None]
    curve = sum(math.comb(5, k) * (1 - t) ** (5 - k) * t**k * control[k] for k in range(6))
    limits = (
        min(one.tcp_speed, two.tcp_speed),
        max(one.tcp_acceleration, two.tcp_acceleration),
        min(one.joint_speed, two.joint_speed),
    )
    rest = _Piece(two.rows[j:], two.tcp_speed, two.tcp_acceleration, two.joint_speed)
    head = _Piece(one.rows[: i + 1], one.tcp_speed, one.tcp_acceleration, one.joint_speed)
    return head, _Piece(np.asarray(curve), *limits), rest


def _cut(points: Array, blend: float) -> int:
    """Index of the point at path length min(blend, 45 % of the whole) from the first one."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    reach = min(blend, 0.45 * float(lengths[-1]))
    return int(np.searchsorted(lengths, reach, side="right")) - 1


def _timed(model: RobotModel, section: list[_Piece], step: float) -> Array:
    """One stretch without stops: spline through all rows, limits on a grid, fastest law, samples."""
    rows, speeds = [section[0].rows[:1]], []
    for piece in section:
        rows.append(piece.rows[1:])
        speeds += [(piece.tcp_speed, piece.tcp_acceleration, piece.joint_speed)] * (len(piece.rows) - 1)
    Q = np.concatenate(rows)
    lengths = np.linalg.norm(np.diff(Q, axis=0), axis=1)
    keep = np.concatenate([[True], lengths > 1e-9])
    if keep.sum() < 2:
        return np.tile(Q[0], (4, 1))
    Q, marks = Q[keep], np.array(speeds)[keep[1:]]
    u = np.concatenate([[0.0], np.cumsum(lengths[lengths > 1e-9])])
    spline = CubicSpline(u, Q) if len(u) > 3 else CubicSpline([0.0, u[-1]], Q[[0, -1]])
    N = int(np.clip(math.ceil(u[-1] / 0.008), 120, 1200))
    grid = np.linspace(0.0, u[-1], N)
    tags = marks[np.clip(np.searchsorted(u, grid, side="right") - 1, 0, len(marks) - 1)]
    f, g, limit, cap = _constraints(model, spline, grid, tags)
    x = fastest_profile(f, g, limit, cap, grid[1] - grid[0])
    if (x[1:-1] <= 0).any():
        raise PlanError("speed", 0, "the path has a kink no speed can pass: give the corner a blend or stop there")
    return np.ascontiguousarray(spline(law(x, grid[1] - grid[0], step)))


@njit(cache=True)
def _tcp_rates(chain: Chain, Q: Array, dQ: Array, out: Array) -> None:
    """Fill out (N, 6) with the TCP's linear and angular derivative along the path."""
    n = Q.shape[1]
    T, J = np.empty((4, 4)), np.empty((6, n))
    for k in range(Q.shape[0]):
        kinematics.tcp_and_jacobian(chain, Q[k], T, J)
        for i in range(6):
            out[k, i] = 0.0
            for j in range(n):
                out[k, i] += J[i, j] * dQ[k, j]


def _constraints(model: RobotModel, spline: CubicSpline, grid: Array, tags: Array) -> tuple[Array, Array, Array, Array]:
    """Coefficients f, g, limit (N, dof + 1) and bound on x (N,) for joints and TCP.

    The TCP's tangential and normal acceleration each get 1/sqrt(2) of the limit, so that their sum keeps it.
    """
    Q, d1, d2 = (np.ascontiguousarray(spline(grid, k)) for k in range(3))
    rates = np.empty((len(grid), 6))
    _tcp_rates(model.chain, Q, d1, rates)
    linear, turning = rates[:, :3], np.linalg.norm(rates[:, 3:], axis=1)
    bend = np.gradient(linear, grid[1] - grid[0], axis=0)
    speed = np.linalg.norm(linear, axis=1)
    tangent = np.einsum("ij,ij->i", linear, bend) / np.maximum(speed, 1e-9)
    normal = np.sqrt(np.maximum(np.einsum("ij,ij->i", bend, bend) - tangent**2, 0.0))
    share = tags[:, 1] / math.sqrt(2.0)
    cap = np.full(len(grid), 1e6)
    cap = np.minimum(cap, (tags[:, 0] / np.maximum(speed, 1e-9)) ** 2)
    cap = np.minimum(cap, (ROTATION_SPEED / np.maximum(turning, 1e-9)) ** 2)
    cap = np.minimum(cap, share / np.maximum(normal, 1e-9))
    joint = (tags[:, 2:3] * model.v_max / np.maximum(np.abs(d1), 1e-9)) ** 2
    cap = np.minimum(cap, joint.min(axis=1))
    f = np.column_stack([d1, speed])
    g = np.column_stack([d2, tangent])
    limit = np.column_stack([np.tile(NOMINAL_ACCELERATION * model.a_max, (len(grid), 1)), share])
    return f, g, limit, cap
