"""How fast and how heavy the arm is along a motion at rate 1: bounds for every point of every link, compiled.

Between the nodes of a fine grid nothing is faster than at the nodes by more than its acceleration can add. Speeds grow
with the rate, kinetic energy with its square.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.dynamics import Bodies, inverse_dynamics
from robots.kinematics import Chain, link_frames
from robots.motion import spline_at
from safety.stations import Path, levers

F64 = NDArray[np.float64]
PIECE = 0.0025
"""Longest nominal time of a piece, s."""
SPAN = 1.7
"""So much of a motion is worked out at a time, nominal s."""
RISE = 1.02
"""The inertia of the arm changes by less than this factor between two samples of a path."""


class Pace(NamedTuple):
    """A stretch of a motion in pieces."""

    begin: float
    """Nominal time at which the first piece begins, s."""
    piece: float
    """Nominal time of one piece, s."""
    speed: F64
    """(links, K): no point of a link, surface included, is faster in a piece at rate 1, m/s."""
    energy: F64
    """(K,): square root of twice the arm's kinetic energy at rate 1, kg^(1/2) m/s."""
    final: bool
    """The last piece ends the motion."""

    @property
    def end(self) -> float:
        """Nominal time at which the last piece ends, s."""
        return self.begin + self.piece * self.energy.shape[0]


@njit(cache=True)
def _link_speeds(chain: Chain, fixed: int, q: F64, dq: F64, R: F64, p: F64, out: F64) -> None:
    """Fill out (links,) with a bound of the speed of all points of each moving capsule.

    A point of the axis is no faster than the faster end; one of the surface by no more than radius times turning.
    """
    link_frames(chain, q, R, p)
    w = np.empty(3)
    for i in range(out.shape[0]):
        m = fixed + i
        frame = chain.owner[m]
        ends = np.zeros((2, 3))
        w[:] = 0.0
        for k in range(frame):
            for c in range(3):
                w[c] += dq[k] * R[k + 1, c, 2]
        fastest = 0.0
        for side in range(2):
            local = chain.a[m] if side == 0 else chain.b[m]
            x = np.empty(3)
            for c in range(3):
                x[c] = p[frame, c]
                for d in range(3):
                    x[c] += R[frame, c, d] * local[d]
            for k in range(frame):
                z0, z1, z2 = R[k + 1, 0, 2], R[k + 1, 1, 2], R[k + 1, 2, 2]
                r0, r1, r2 = x[0] - p[k + 1, 0], x[1] - p[k + 1, 1], x[2] - p[k + 1, 2]
                ends[side, 0] += dq[k] * (z1 * r2 - z2 * r1)
                ends[side, 1] += dq[k] * (z2 * r0 - z0 * r2)
                ends[side, 2] += dq[k] * (z0 * r1 - z1 * r0)
            fastest = max(fastest, math.sqrt(ends[side, 0] ** 2 + ends[side, 1] ** 2 + ends[side, 2] ** 2))
        out[i] = fastest + chain.radius[m] * math.sqrt(w[0] ** 2 + w[1] ** 2 + w[2] ** 2)


@njit(cache=True)
def _steepest(lever: F64, owner: int, radius: float, speed: F64, change: F64) -> float:
    """Bound how fast the speed of any point of a link of frame `owner` changes, m/s^2, for joint speeds and
    accelerations (n,).

    sum_j l_j b_j + sum_jk l_max(j,k) w_j w_k as for the bend between stations (`safety.stations`), with levers to
    the surface; the second term of the bound of the surface's speed, radius times turning, adds
    radius (sum_j b_j + sum_jk w_j w_k).
    """
    total, inner = 0.0, 0.0
    for j in range(owner):
        total += (lever[j] + radius) * (change[j] + speed[j] * (speed[j] + 2.0 * inner))
        inner += speed[j]
    return total


@njit(cache=True)
def _kinetic(chain: Chain, bodies: Bodies, q: F64, v: F64, still: F64, tau: F64) -> float:
    """Square root of v M(q) v. still: (n,) torques against gravity alone; tau: (n,) scratch."""
    inverse_dynamics(chain, bodies, q, np.zeros(q.shape[0]), v, tau)
    total = 0.0
    for j in range(q.shape[0]):
        total += v[j] * (tau[j] - still[j])
    return math.sqrt(max(0.0, total))


@njit(cache=True)
def _fill(chain: Chain, fixed: int, bodies: Bodies, path: Path, first: int, fine: int, speed: F64, energy: F64) -> None:
    """Fill speed (links, K) and energy (K,) from sample `first` of the path on, `fine` pieces to a sample."""
    n = path.Q.shape[1]
    links, pieces = speed.shape
    h = path.step / fine
    R, p = np.empty((n + 1, 3, 3)), np.empty((n + 1, 3))
    lever = np.empty((links, n))
    levers(chain, fixed, lever)
    q, dq, ddq = np.empty(n), np.empty(n), np.empty(n)
    before, after = np.empty(links), np.empty(links)
    dq_before, ddq_before = np.empty(n), np.empty(n)
    w, b = np.empty(n), np.empty(n)
    still, tau, zero = np.empty(n), np.empty(n), np.zeros(n)
    e_before = g_before = 0.0
    for node in range(pieces + 1):
        at = first * path.step + node * h
        spline_at(path.Q, path.M, path.step, at, q, dq, ddq)
        if at >= path.step * (path.Q.shape[0] - 1) - 1e-12:
            dq[:] = 0.0
        _link_speeds(chain, fixed, q, dq, R, p, after)
        if node > 0:
            for j in range(n):
                b[j] = max(abs(ddq[j]), abs(ddq_before[j]))
                w[j] = max(abs(dq[j]), abs(dq_before[j])) + 0.5 * h * b[j]
            for i in range(links):
                m = fixed + i
                within = 0.5 * h * _steepest(lever[i], chain.owner[m], chain.radius[m], w, b)
                speed[i, node - 1] = max(before[i], after[i]) + within
        before[:], dq_before[:], ddq_before[:] = after, dq, ddq
        if node % fine == 0:
            inverse_dynamics(chain, bodies, q, zero, zero, still)
            e = _kinetic(chain, bodies, q, dq, still, tau)
            g = _kinetic(chain, bodies, q, ddq, still, tau)
            for k in range(max(0, node - fine), node):
                energy[k] = RISE * (max(e, e_before) + 0.5 * path.step * max(g, g_before))
            e_before, g_before = e, g


def pace_of(chain: Chain, fixed: int, bodies: Bodies, path: Path, progress: float, load: float) -> Pace:
    """Work out the stretch of a motion from a little before `progress`.

    chain, fixed: the arm and how many of its capsules do not move. load: mass at the TCP, kg; it is taken to move as
    the fastest point of the arm does.
    """
    fine = max(1, math.ceil(path.step / PIECE - 1e-9))
    last = path.Q.shape[0] - 1
    first = min(max(math.floor((progress - 0.1) / path.step), 0), last - 1)
    samples = min(last - first, math.ceil(SPAN / path.step))
    links = chain.owner.shape[0] - fixed
    speed, energy = np.empty((links, samples * fine)), np.empty(samples * fine)
    _fill(chain, fixed, bodies, path, first, fine, speed, energy)
    if load > 0.0:
        energy = np.sqrt(energy**2 + load * speed.max(axis=0) ** 2)
    return Pace(first * path.step, path.step / fine, speed, energy, first + samples == last)
