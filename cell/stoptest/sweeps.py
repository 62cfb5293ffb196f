"""Which movements to stop: one joint at a time, at three speeds and three extensions, free of the furniture. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recipes.clearance import Obstacle, collisions
from robots.model import RobotModel
from robots.motion import Motion, MotionError
from robots.planning import NOMINAL_VELOCITY, PlanError, plan_ptp
from robots.rates import RateLimits
from safety.stopping import PERCENT, Percent, extension

F64 = NDArray[np.float64]

STEP = 0.008
"""Nominal time between samples, s."""
PLATEAU = 0.45
"""Time at full speed, in which the stop is commanded and ends, s."""
SHARE = 0.5
"""Of a joint's acceleration that is used to get up to speed."""
POSTURES = 4000
"""Random postures that are looked at; the seed is fixed."""
TRIED = 60
"""Postures tried for each joint and extension, the best first, and so many of the others."""
FREE = 0.06
"""Distance kept between the hand and the arm's first links, m."""
TRANSIT = 0.3
"""Share of the nominal speed on the way to a sweep."""


class Sweep(NamedTuple):
    """One condition: a joint swept to and fro through a posture."""

    joint: int
    """From 0."""
    speed_percent: Percent
    extension_percent: Percent
    start: F64
    """(dof,) one end."""
    end: F64
    """(dof,) the other."""
    speed: float
    """Of the joint on the plateau, rad/s."""


class NoSweep(Exception):
    """No free posture was found for a condition; the text says which."""


def law(model: RobotModel, joint: int, speed: float) -> F64:
    """Return the way of a joint (K,) at steps of STEP: smooth up to `speed`, PLATEAU at it, and down again, rad."""
    ramp = 1.5 * speed / (SHARE * float(model.a_max[joint]))
    n, flat = max(4, int(np.ceil(ramp / STEP))), int(np.ceil(PLATEAU / STEP))
    # Speed 3 u^2 - 2 u^3 over the ramp has the integral u^3 - u^4 / 2 and the steepest slope 1.5.
    u = np.arange(n + 1) / n
    up = speed * n * STEP * (u**3 - 0.5 * u**4)
    level = up[-1] + speed * STEP * np.arange(1, flat + 1)
    down = level[-1] + up[-1] - up[::-1][1:]
    return np.concatenate([up, level, down])


def motion(model: RobotModel, sweep: Sweep, back: bool, limits: RateLimits, motion_id: str) -> Motion:
    """Return the motion of a sweep. Raises MotionError."""
    path = law(model, sweep.joint, sweep.speed)
    first, last = (sweep.end, sweep.start) if back else (sweep.start, sweep.end)
    Q = np.tile(first, (len(path), 1))
    Q[:, sweep.joint] += np.sign(last[sweep.joint] - first[sweep.joint]) * path
    return Motion.from_samples(model, motion_id, STEP, Q, "stop test", limits)


def plateau(model: RobotModel, sweep: Sweep) -> tuple[float, float]:
    """Nominal time at which the full speed is reached, and how long it lasts, s."""
    ramp = 1.5 * sweep.speed / (SHARE * float(model.a_max[sweep.joint]))
    return max(4, int(np.ceil(ramp / STEP))) * STEP, int(np.ceil(PLATEAU / STEP)) * STEP


def sweeps(
    model: RobotModel, obstacles: Sequence[Obstacle], home: F64, joints: Sequence[int], limits: RateLimits
) -> Iterator[Sweep]:
    """Yield the sweeps of all conditions of the joints (from 0), those of one posture together.

    Raises NoSweep for a condition that the furniture or the joint's range leaves no room for."""
    Q, reached = _postures(model)
    largest = float(reached.max())
    for joint in joints:
        top = NOMINAL_VELOCITY * float(model.v_max[joint])
        half = 0.5 * law(model, joint, top)[-1]
        for percent in PERCENT:
            order = np.argsort(np.abs(reached - percent / 100.0 * largest), kind="stable")
            room = (Q[order, joint] - half > model.q_lower[joint] + 0.02) & (
                Q[order, joint] + half < model.q_upper[joint] - 0.02
            )
            found = None
            # A joint that makes the extension itself may find room only at another one, which the row then names.
            fits = order[room]
            for k in [*fits[:TRIED], *fits[TRIED :: max(1, len(fits) // TRIED)]]:
                found = _widest(model, obstacles, home, joint, Q[k], half, limits)
                if found is not None:
                    break
            if found is None:
                raise NoSweep(
                    f"joint {joint + 1} at {percent} % extension: no free posture to sweep {2 * half:.1f} rad"
                )
            for speed in PERCENT:
                yield _sweep(model, joint, speed, percent, found)


def _postures(model: RobotModel) -> tuple[F64, F64]:
    rng = np.random.default_rng(20)
    margin = 0.05 * (model.q_upper - model.q_lower)
    Q = rng.uniform(model.q_lower + margin, model.q_upper - margin, (POSTURES, model.dof))
    return Q, np.array([extension(model, q) for q in Q])


def _sweep(model: RobotModel, joint: int, speed_percent: Percent, extension_percent: Percent, middle: F64) -> Sweep:
    speed = speed_percent / 100.0 * NOMINAL_VELOCITY * float(model.v_max[joint])
    half = 0.5 * law(model, joint, speed)[-1]
    start, end = middle.copy(), middle.copy()
    start[joint] -= half
    end[joint] += half
    return Sweep(joint, speed_percent, extension_percent, start, end, speed)


def _widest(
    model: RobotModel, obstacles: Sequence[Obstacle], home: F64, joint: int, middle: F64, half: float,
    limits: RateLimits,
) -> F64 | None:  # fmt: skip
    """The posture, if its longest sweep is free, can be braked everywhere and can be reached from home and back."""
    sweep = _sweep(model, joint, 100, 100, middle)
    try:
        path = motion(model, sweep, False, limits, "sweep").path
    except MotionError:
        return None
    if not free(model, obstacles, path):
        return None
    for percent in PERCENT:
        try:
            way = transit(model, obstacles, home, _sweep(model, joint, percent, 100, middle).start)
        except PlanError:
            return None
        if way is None:
            return None
    return middle


def free(model: RobotModel, obstacles: Sequence[Obstacle], path: F64) -> bool:
    """Whether nothing touches furniture along path (K, dof), and the hand keeps away from the arm's first links."""
    if collisions(model, obstacles, path, model.gripper_max):
        return False
    rows = path[np.unique(np.linspace(0, len(path) - 1, 25).astype(int))]
    a, b, r = model.capsule_paths(rows)
    u = np.linspace(0.0, 1.0, 5)[:, None]
    ends = slice(max(0, len(r) - 2), len(r))
    hand = (a[:, ends, None] * (1 - u) + b[:, ends, None] * u).reshape(len(rows), -1, 1, 3)
    first = slice(0, max(1, len(r) // 3))
    base = (a[:, first, None] * (1 - u) + b[:, first, None] * u).reshape(len(rows), 1, -1, 3)
    gap = np.linalg.norm(hand - base, axis=-1).min(axis=(1, 2)) - float(r[ends].max()) - float(r[first].max())
    return bool((gap > FREE).all())


def transit(model: RobotModel, obstacles: Sequence[Obstacle], q_from: F64, q_to: F64) -> Motion | None:
    """Return a slow free motion between two postures, or None. Raises PlanError."""
    way = plan_ptp(model, q_from, q_to, TRANSIT, label="to the next sweep")
    return way if free(model, obstacles, way.path) else None
