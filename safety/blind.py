"""The limit where no path is known: jogging. Compiled.

What the robot node enforces on a jog: joint j moves at most at `limit` times its jog speed, speeds change at most by
the jog acceleration, all joints in proportion. How far that carries a link is bounded over all directions at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.kinematics import Chain, link_frames
from safety.search import RESOLUTION, People, needed

F64 = NDArray[np.float64]


class Jogging(NamedTuple):
    """Present joint speeds and what bounds them."""

    speed: F64
    """(n,) larger of measured and commanded |dq|, rad/s."""
    top: F64
    """(n,) jog speed at limit 1, rad/s."""
    acceleration: F64
    """(n,) rad/s^2."""
    horizon: float
    """Until the drives brake if no further lease comes, s."""
    obeyed: float
    """Until this decision reaches the robot node; before that an older lease may still hold, s."""
    tick: float
    stopping: float = 0.0
    """Longest time a stop was measured to take, s; 0: not measured."""


@njit(cache=True)
def turning(limit: float, jog: Jogging, out: F64) -> float:
    """Fill out (n,) with the largest change of each joint until the arm stands, rad. Return the time that takes, s.

    During a change of speed no joint is faster than the faster of before and after; braking is linear, so half its
    time counts, and two ticks are added for the node to act and to round.
    """
    braking = 0.0
    for j in range(out.shape[0]):
        older = max(jog.speed[j], min(jog.top[j], jog.speed[j] + jog.acceleration[j] * jog.obeyed))
        out[j] = max(older, limit * jog.top[j])
        braking = max(braking, out[j] / jog.acceleration[j])
    braking = max(braking, jog.stopping)
    moving = jog.tick * (math.ceil(jog.horizon / jog.tick - 1e-9) + 2)
    for j in range(out.shape[0]):
        out[j] *= moving + 0.5 * braking
    return moving + braking


@njit(cache=True)
def drift(chain: Chain, fixed: int, q: F64, turn: F64, out: F64) -> None:
    """Fill out (links,) with how far any point of each moving capsule can get if joint j turns by at most turn[j].

    A change of all joints is a product of rotations about the *present* axes, the outermost joint first (product of
    exponentials). Each moves a point by at most its distance from the axis times the angle, and that distance has
    grown by at most what the rotations before have moved the point: D_j = D_(j+1) + turn_j (lever_j + D_(j+1)).
    """
    n = q.shape[0]
    R, p = np.empty((n + 1, 3, 3)), np.empty((n + 1, 3))
    link_frames(chain, q, R, p)
    for i in range(out.shape[0]):
        m = fixed + i
        k = chain.owner[m]
        total = 0.0
        for j in range(k, 0, -1):
            lever = max(_lever(R, p, k, j, chain.a[m]), _lever(R, p, k, j, chain.b[m]))
            total += turn[j - 1] * (lever + total)
        out[i] = total


@njit(cache=True)
def _lever(R: F64, p: F64, frame: int, joint: int, end: F64) -> float:
    """Distance of a point (3,) of `frame` from the axis (z through the origin) of frame `joint`."""
    along, square = 0.0, 0.0
    for c in range(3):
        at = p[frame, c] + R[frame, c, 0] * end[0] + R[frame, c, 1] * end[1] + R[frame, c, 2] * end[2]
        away = at - p[joint, c]
        along += away * R[joint, c, 2]
        square += away * away
    return math.sqrt(max(0.0, square - along * along))


@njit(cache=True)
def _admits(limit: float, chain: Chain, fixed: int, q: F64, jog: Jogging, people: People, near: F64) -> bool:
    turn, far = np.empty(q.shape[0]), np.empty(near.shape[0])
    time = turning(limit, jog, turn)
    drift(chain, fixed, q, turn, far)
    need = needed(people, time)
    fits = True
    for i in range(near.shape[0]):
        fits &= near[i] >= need + far[i]
    return fits


@njit(cache=True)
def blind_limit(chain: Chain, fixed: int, q: F64, jog: Jogging, people: People, near: F64) -> float:
    """Return the largest limit, to RESOLUTION, at which no link can come too near whichever way the arm is jogged.

    Args:
        chain, fixed, q: the arm, how many of its capsules do not move, and where it is.
        jog, people: the situation; all numbers finite.
        near: (links,) smallest gap of each moving link now, m; inf if there is nobody.
    """
    if _admits(1.0, chain, fixed, q, jog, people, near):
        return 1.0
    low, high = 0.0, 1.0
    middle = RESOLUTION
    while high - low > RESOLUTION:
        if _admits(middle, chain, fixed, q, jog, people, near):
            low = middle
        elif middle <= RESOLUTION:
            return 0.0
        else:
            high = middle
        middle = 0.5 * (low + high)
    return low
