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
from numpy.typing import ArrayLike, NDArray

from robots import kinematics
from robots.geometry import PTP_PITCH, GeometryError, arc, cut_index, joint_line, line
from robots.model import IkError, RobotModel
from robots.motion import Motion, MotionError
from robots.pathlaw import KinkError, Piece, timed

Array = NDArray[np.float64]

NOMINAL_VELOCITY = 0.8
"""Share of the joints' speed a nominal law uses."""
SAMPLE_STEP = 0.008
"""Nominal time between the samples of a motion, s."""
PTP_TCP_SPEED = 1.0
"""TCP speed of a point-to-point segment at speed 1, m/s."""
PTP_TCP_ACCELERATION = 4.0
LIN_SPEED = 0.5
LIN_ACCELERATION = 2.0
LIMIT_MARGIN = 2e-3
"""Planned paths keep this distance from the joint limits, rad."""

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
    pieces: list[Piece] = []
    q = np.clip(start, model.q_lower, model.q_upper)
    for index, segment in enumerate(segments):
        piece = _lay_out(model, q, segment, index)
        pieces.append(piece)
        q = piece.rows[-1]
    try:
        path = _join(model, segments, pieces, step)
        name = motion_id or "m-" + hashlib.blake2s(path.tobytes(), digest_size=8).hexdigest()
        return Motion.from_samples(model, name, step, path, label)
    except (MotionError, KinkError) as error:
        raise PlanError("speed", 0, str(error)) from error


# ---------------------------------------------------------------- geometry of one segment


def _lay_out(model: RobotModel, q: Array, segment: Segment, index: int) -> Piece:
    target = np.ascontiguousarray(segment.target, dtype=np.float64)
    if not np.isfinite(target).all() or not (math.isfinite(segment.blend) and 0 <= segment.blend <= 1):
        raise PlanError("invalid", index, "target and blend must be finite, blend between 0 and 1 m")
    if segment.kind == "ptp":
        speed = _positive(segment.speed, 1.0, 1.0, "speed of a ptp segment", index)
        goal = _joint_target(model, q, target, index)
        rows = joint_line(q, goal)
        return Piece(rows, PTP_TCP_SPEED * speed, PTP_TCP_ACCELERATION, NOMINAL_VELOCITY * speed)
    speed = _positive(segment.speed, LIN_SPEED, 3.0, "speed", index)
    acceleration = _positive(segment.acceleration, LIN_ACCELERATION, 20.0, "acceleration", index)
    if target.shape != (4, 4):
        raise PlanError("invalid", index, f"a {segment.kind} segment needs a pose (4, 4), got shape {target.shape}")
    if abs(target[:3, :3] @ target[:3, :3].T - np.eye(3)).max() > 1e-6 or np.linalg.det(target[:3, :3]) < 0:
        raise PlanError("invalid", index, "the target has no proper rotation matrix")
    T = model.fk(q)
    goals = line(T, target) if segment.kind == "lin" else _circle(T, segment, target, index)
    rows = _follow(model, q, goals, segment.kind, index)
    return Piece(rows, speed, acceleration, NOMINAL_VELOCITY)


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


def _circle(T: Array, segment: Segment, target: Array, index: int) -> Array:
    via = np.ascontiguousarray(segment.via if segment.via is not None else np.full((4, 4), np.nan), dtype=np.float64)
    if via.shape != (4, 4) or not np.isfinite(via).all():
        raise PlanError("invalid", index, "a circ segment needs a via pose (4, 4)")
    try:
        return arc(T, via, target)
    except GeometryError as error:
        raise PlanError("invalid", index, str(error)) from error


def _follow(model: RobotModel, q: Array, goals: Array, kind: str, index: int) -> Array:
    # a start that lies within the margin of a limit must not be pushed off the path
    lower, upper = np.minimum(model.q_lower + LIMIT_MARGIN, q), np.maximum(model.q_upper - LIMIT_MARGIN, q)
    rows = np.empty((len(goals), model.dof))
    rows[0] = q
    for i in range(1, len(goals)):
        # from the linear extrapolation fewer iterations are needed
        rows[i] = rows[0] if i == 1 else np.clip(2.0 * rows[i - 1] - rows[i - 2], lower, upper)
        ok, _, _ = kinematics.solve_ik(model.chain, goals[i], rows[i], lower, upper, 40, 1e-6, 1e-6)
        where = f"at {100 * i / (len(goals) - 1):.0f} % of the {kind} segment"
        if not ok:
            raise _not_followed(model, rows, i, lower, upper, index, where)
        if np.abs(rows[i] - rows[i - 1]).max() > _LARGEST_STEP:
            raise PlanError("singularity", index, f"{where} the joints would have to jump: a singularity is too near")
    return rows


def _not_followed(
    model: RobotModel, rows: Array, failed: int, lower: Array, upper: Array, index: int, where: str
) -> PlanError:
    """Why inverse kinematics did not reach the pose of row `failed`."""
    at_limit = (rows[failed] <= lower + 1e-9) | (rows[failed] >= upper - 1e-9)
    if at_limit.any():
        names = ", ".join(model.joint_names[j] for j in np.nonzero(at_limit)[0])
        return PlanError("joint_limit", index, f"{where} {names} is at its limit")
    J = model.jacobian(rows[failed - 1])
    if np.linalg.svd(J, compute_uv=False)[-1] < 0.03:
        return PlanError("singularity", index, f"{where} the arm is stretched out or folded into a singularity")
    return PlanError("unreachable", index, f"{where} the TCP cannot follow")


# ---------------------------------------------------------------- corners


def _join(model: RobotModel, segments: Sequence[Segment], pieces: list[Piece], step: float) -> Array:
    """Samples (K, dof) of the whole path at equal nominal time steps."""
    sections: list[list[Piece]] = [[]]
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
    samples = [timed(model, section, step) for section in sections]
    return np.concatenate([samples[0], *(s[1:] for s in samples[1:])])


def _round(model: RobotModel, one: Piece, two: Piece, blend: float) -> tuple[Piece, Piece | None, Piece]:
    """Cut both pieces near their common corner and bridge the gap by a quintic curve in joint space.

    The curve leaves and meets both pieces with their tangents and without curvature, so that the whole is C2. The
    inner control points never pass the corner.
    """
    i = cut_index(model.tcp_path(one.rows)[::-1], blend)
    j = cut_index(model.tcp_path(two.rows), blend)
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
    count = max(12, math.ceil((la + lb) / (PTP_PITCH / 2)))
    t = np.linspace(0.0, 1.0, count)[:, None]
    curve = sum(math.comb(5, k) * (1 - t) ** (5 - k) * t**k * control[k] for k in range(6))
    limits = (
        min(one.tcp_speed, two.tcp_speed),
        max(one.tcp_acceleration, two.tcp_acceleration),
        min(one.joint_speed, two.joint_speed),
    )
    rest = Piece(two.rows[j:], two.tcp_speed, two.tcp_acceleration, two.joint_speed)
    head = Piece(one.rows[: i + 1], one.tcp_speed, one.tcp_acceleration, one.joint_speed)
    return head, Piece(np.asarray(curve), *limits), rest
