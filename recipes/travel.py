"""Ways of the arm between places: up, across, down in one blended motion, clear of furniture.

`transfer` is what pick, place and move_to use. It depends on nothing but where the arm stands, so a phase can be tried
again from anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recipes.clearance import Obstacle, collisions, fixtures
from recipes.contract import PhaseFault, SkillContext
from robots.contract import PartGeometry
from robots.model import IkError
from robots.motion import Motion
from robots.planning import PlanError, Segment, plan_path

Array = NDArray[np.float64]

LIFT = 0.13
"""Height above the lower of start and goal at which the arm crosses, m: box walls and held parts pass under it."""
BLEND = 0.05
"""Largest rounding of the corners, m."""
APPROACH_SPEED = 0.35
"""TCP speed down to and up from a part, m/s."""
APPROACH_ACCELERATION = 1.5
CANDIDATES = 4
"""Of several symmetric grasps the nearest ones are planned."""
LIMIT_MARGIN = 0.08
"""Distance from the joint limits above a goal, so that the straight way down has room, rad."""
SAME_START = 1e-4
"""A planned motion is used again if the arm stands this near to its start, rad."""


def _raised(T: Array, z: float) -> Array:
    lifted = T.copy()
    lifted[2, 3] = max(z, T[2, 3])
    return lifted


@dataclass(frozen=True, eq=False)
class _Goal:
    """A TCP pose with the joints above it."""

    T: Array
    above: Array
    q_above: Array


def _crossing(T_now: Array, T_goal: Array) -> float:
    """Height at which the arm crosses, m."""
    return float(max(min(T_now[2, 3], T_goal[2, 3]) + LIFT, T_goal[2, 3] + LIFT / 2))


def _ordered(context: SkillContext, goals: Sequence[Array]) -> list[_Goal]:
    """Goals that can be reached, nearest first. Raises PhaseFault if there is none.

    The joints above a goal are looked for from the rest pose, not from where the arm happens to stand: a seven-joint
    arm would otherwise wander in its redundancy from phase to phase until a joint is at its limit.
    """
    model = context.cell.model
    crossing = [_crossing(model.fk(context.q), T) for T in goals]
    found: list[tuple[float, int, _Goal]] = []
    reasons = []
    for i, T in enumerate(goals):
        above = _raised(T, crossing[i])
        try:
            q = model.ik(above, context.cell.home, margin=LIMIT_MARGIN)
        except IkError as error:
            reasons.append(str(error))
            continue
        found.append((float(np.abs(q - context.q).max()), i, _Goal(T, above, q)))
    if not found:
        raise PhaseFault("not_reachable", f"unreachable pose: {reasons[0]}")
    found.sort(key=lambda item: item[:2])
    return [goal for _, _, goal in found]


def _segments(context: SkillContext, goal: _Goal) -> list[Segment]:
    """Up, across and down from where the arm stands to the goal."""
    T_now = context.cell.model.fk(context.q)
    up = _raised(T_now, goal.above[2, 3])
    segments = []
    rise = up[2, 3] - T_now[2, 3]
    drop = goal.above[2, 3] - goal.T[2, 3]
    across = float(np.linalg.norm(goal.above[:3, 3] - up[:3, 3]))
    if rise > 0.002:
        blend = min(BLEND, 0.4 * rise, 0.4 * across)
        segments.append(Segment("lin", up, blend=blend, speed=APPROACH_SPEED, acceleration=APPROACH_ACCELERATION))
    blend = min(BLEND, 0.4 * drop, 0.4 * across) if drop > 0.002 else 0.0
    segments.append(Segment("ptp", goal.q_above, blend=blend))
    if drop > 0.002:
        segments.append(Segment("lin", goal.T, speed=APPROACH_SPEED, acceleration=APPROACH_ACCELERATION))
    return segments


@dataclass(frozen=True)
class Load:
    """What the gripper carries, touches and how wide it is on the way; enough to tell what it may not touch."""

    held: PartGeometry | None = None
    target: str = ""
    """Part the fingers go round."""
    opening: float | None = None
    """Widest opening on the way or at its end, m; None: as it is."""


NOTHING = Load()


def _plan(context: SkillContext, segments: Sequence[Segment], label: str, load: Load) -> Motion:
    """Plan and check against furniture and parts. Raises PhaseFault."""
    model = context.cell.model
    try:
        motion = plan_path(model, context.q, segments, motion_id=context.next_id(), label=label)
    except PlanError as error:
        kind = "joint limit" if error.reason == "joint_limit" else f"{error.reason} pose"
        raise PhaseFault("not_reachable", f"{kind}: {error}") from None
    obstacles = fixtures(context.cell.workcell)
    obstacles += [Obstacle(*found) for found in context.parts.lying(load.target)]
    opening = context.gripper_width if load.opening is None else max(load.opening, context.gripper_width)
    hits = collisions(model, obstacles, motion.path, opening, load.held)
    if hits:
        raise PhaseFault("not_reachable", str(max(hits, key=lambda hit: hit.depth)))
    return motion


def transfer(context: SkillContext, goals: Sequence[Array], label: str, load: Load = NOTHING) -> Motion:
    """Return a motion that goes up, across and straight down to the nearest of `goals` (TCP poses, 4x4).

    Raises PhaseFault `not_reachable`: no goal can be reached without leaving the joint ranges or touching furniture.
    """
    remembered = _recall(context, goals, label)
    if remembered is not None:
        return remembered
    fault: PhaseFault | None = None
    for goal in _ordered(context, goals)[:CANDIDATES]:
        try:
            motion = _plan(context, _segments(context, goal), label, load)
        except PhaseFault as error:
            fault = fault or error
            continue
        context.cache[f"{context.prefix}/{label}"] = motion
        return motion
    raise fault or PhaseFault("not_reachable", "unreachable pose")


def _recall(context: SkillContext, goals: Sequence[Array], label: str) -> Motion | None:
    """Return the motion the analysis planned for this very way, under a new id."""
    old = context.cache.get(f"{context.prefix}/{label}")
    if old is None or float(np.abs(old.path[0] - context.q).max()) > SAME_START:
        return None
    T_end = context.cell.model.fk(old.path[-1])
    if not any(np.allclose(T_end, T, atol=1e-4) for T in goals):
        return None
    return replace(old, motion_id=context.next_id())


def to_joints(context: SkillContext, q_to: Array, label: str, load: Load = NOTHING, speed: float = 1.0) -> Motion:
    """Return a motion to joint positions: straight up first if the arm stands low. Raises PhaseFault."""
    model = context.cell.model
    T_now, T_goal = model.fk(context.q), model.fk(q_to)
    segments = []
    rise = T_goal[2, 3] - T_now[2, 3]
    if rise > 0.02:
        up = _raised(T_now, T_now[2, 3] + min(rise, LIFT))
        height = up[2, 3] - T_now[2, 3]
        across = float(np.linalg.norm(T_goal[:3, 3] - up[:3, 3]))
        blend = min(BLEND, 0.4 * height, 0.4 * across)
        segments.append(Segment("lin", up, blend=blend, speed=APPROACH_SPEED, acceleration=APPROACH_ACCELERATION))
    segments.append(Segment("ptp", q_to, speed=speed))
    return _plan(context, segments, label, load)


def straight(
    context: SkillContext, T_goal: Array, label: str, load: Load = NOTHING, speed: float | None = None
) -> Motion:
    """Return a straight line of the TCP to a pose. Raises PhaseFault."""
    return _plan(context, [Segment("lin", T_goal, speed=speed)], label, load)


def direct(context: SkillContext, T_goal: Array, label: str, load: Load = NOTHING, speed: float = 1.0) -> Motion:
    """Return a joint-space motion to a pose. Raises PhaseFault."""
    return _plan(context, [Segment("ptp", T_goal, speed=speed)], label, load)
