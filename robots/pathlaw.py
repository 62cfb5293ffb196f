"""The time law of one stretch of path: limits of joints and TCP on a grid, the fastest law, samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots import kinematics
from robots.kinematics import Chain
from robots.model import RobotModel
from robots.splines import PathSpline
from robots.timing import fastest_profile, law

Array = NDArray[np.float64]

NOMINAL_ACCELERATION = 0.5
"""Share of the joints' acceleration a nominal law uses; the rest brakes."""
ROTATION_SPEED = 2.5
"""Largest nominal rotation speed of the TCP, rad/s."""


class KinkError(ValueError):
    """A stretch with a corner that no speed can pass."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Joint positions along one segment with the limits in force there."""

    rows: Array
    tcp_speed: float
    tcp_acceleration: float
    joint_speed: float


def timed(model: RobotModel, section: list[Piece], step: float) -> Array:
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
    spline = PathSpline(u, Q)
    N = int(np.clip(math.ceil(u[-1] / 0.008), 120, 1200))
    grid = np.linspace(0.0, u[-1], N)
    tags = marks[np.clip(np.searchsorted(u, grid, side="right") - 1, 0, len(marks) - 1)]
    f, g, limit, cap = _constraints(model, spline, grid, tags)
    x = fastest_profile(f, g, limit, cap, grid[1] - grid[0])
    if (x[1:-1] <= 0).any():
        raise KinkError("the path has a kink no speed can pass: give the corner a blend or stop there")
    return np.ascontiguousarray(spline(law(x, grid[1] - grid[0], step))[0])


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


def _constraints(model: RobotModel, spline: PathSpline, grid: Array, tags: Array) -> tuple[Array, Array, Array, Array]:
    """Coefficients f, g, limit (N, dof + 1) and bound on x (N,) for joints and TCP.

    The TCP's tangential and normal acceleration each get 1/sqrt(2) of the limit, so that their sum keeps it.
    """
    Q, d1, d2 = spline(grid)
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
