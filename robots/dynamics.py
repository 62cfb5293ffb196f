"""Rigid-body dynamics of a serial arm as a numba kernel (recursive Newton-Euler)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots import kinematics
from robots.kinematics import Chain

Array = NDArray[np.float64]

GRAVITY = 9.81
"""m/s^2, along -z of the base."""


class Bodies(NamedTuple):
    """Masses moving with the joints, in the frames of `kinematics.link_frames`."""

    mass: Array
    """(n,) kg, of the body after joint i."""
    com: Array
    """(n, 3) centre of mass in frame i, m."""
    inertia: Array
    """(n, 3, 3) inertia about the centre of mass, in axes of frame i, kg m^2."""


@njit(cache=True)
def inverse_dynamics(chain: Chain, bodies: Bodies, q: Array, dq: Array, ddq: Array, tau: Array) -> None:
    """Fill tau (n,) with the joint torques of motion q, dq, ddq against inertia and gravity, Nm.

    Luh, Walker and Paul 1980, with all vectors in base axes: velocities outwards, forces and moments inwards.
    """
    n = q.shape[0]
    R, p = np.empty((n + 1, 3, 3)), np.empty((n + 1, 3))
    kinematics.link_frames(chain, q, R, p)
    force, moment, lever = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros((n, 3))
    w, dw, acc = np.zeros(3), np.zeros(3), np.zeros(3)
    acc[2] = GRAVITY
    z, r, t, work = np.empty(3), np.empty(3), np.empty(3), np.empty((4, 3))
    for k in range(n):
        for i in range(3):
            r[i] = p[k + 1, i] - p[k, i]
            z[i] = R[k + 1, i, 2]
        if k > 0:  # the origin of this joint moves with the body before it
            _carry(w, dw, r, acc)
        # angular acceleration picks up z*ddq and the turning of z itself, w x z dq
        _cross(w, z, t)
        for i in range(3):
            dw[i] += z[i] * ddq[k] + t[i] * dq[k]
            w[i] += z[i] * dq[k]
        for i in range(3):
            c = 0.0
            for j in range(3):
                c += R[k + 1, i, j] * bodies.com[k, j]
            lever[k, i] = c
            force[k, i] = acc[i]
        _carry(w, dw, lever[k], force[k])
        for i in range(3):
            force[k, i] *= bodies.mass[k]
        _euler(R[k + 1], bodies.inertia[k], w, dw, work, moment[k])
    f, m = np.zeros(3), np.zeros(3)
    for k in range(n - 1, -1, -1):
        if k < n - 1:  # move the moment of all bodies beyond to the origin of this joint
            for i in range(3):
                r[i] = p[k + 2, i] - p[k + 1, i]
            _cross(r, f, t)
            for i in range(3):
                m[i] += t[i]
        _cross(lever[k], force[k], t)
        tau[k] = 0.0
        for i in range(3):
            f[i] += force[k, i]
            m[i] += moment[k, i] + t[i]
            tau[k] += m[i] * R[k + 1, i, 2]


@njit(cache=True)
def _cross(a: Array, b: Array, out: Array) -> None:
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]


@njit(cache=True)
def _carry(w: Array, dw: Array, r: Array, acc: Array) -> None:
    """Add dw x r + w x (w x r) to acc: the acceleration of a point at r on a turning body."""
    x = w[1] * r[2] - w[2] * r[1]
    y = w[2] * r[0] - w[0] * r[2]
    z = w[0] * r[1] - w[1] * r[0]
    acc[0] += dw[1] * r[2] - dw[2] * r[1] + w[1] * z - w[2] * y
    acc[1] += dw[2] * r[0] - dw[0] * r[2] + w[2] * x - w[0] * z
    acc[2] += dw[0] * r[1] - dw[1] * r[0] + w[0] * y - w[1] * x


@njit(cache=True)
def _euler(R: Array, inertia: Array, w: Array, dw: Array, work: Array, out: Array) -> None:
    """Fill out with I dw + w x (I w), the inertia I given in axes turned by R. `work` (4, 3) is scratch."""
    for i in range(3):
        work[0, i] = R[0, i] * dw[0] + R[1, i] * dw[1] + R[2, i] * dw[2]
        work[1, i] = R[0, i] * w[0] + R[1, i] * w[1] + R[2, i] * w[2]
    for i in range(3):
        work[2, i] = inertia[i, 0] * work[0, 0] + inertia[i, 1] * work[0, 1] + inertia[i, 2] * work[0, 2]
        work[3, i] = inertia[i, 0] * work[1, 0] + inertia[i, 1] * work[1, 1] + inertia[i, 2] * work[1, 2]
    _cross(work[1], work[3], work[0])
    for i in range(3):
        work[2, i] += work[0, i]
    for i in range(3):
        out[i] = R[i, 0] * work[2, 0] + R[i, 1] * work[2, 1] + R[i, 2] * work[2, 2]


@njit(cache=True)
def braking_torque_bound(
    chain: Chain, bodies: Bodies, q: Array, d1: Array, d2: Array, room: Array, bound: Array
) -> None:
    """Fill bound (m,) with the fall of the rate, 1/s, that needs at most `room` (n,) Nm at each of m points of a path.

    Rigid-body torque is affine in the squared rate and in the slope, so rate 0 and rate 1 decide.

    Args:
        chain, bodies: the arm.
        q, d1, d2: (m, n) positions and first and second derivatives by progress.
        room: (n,) permitted torque.
        bound: (m,) filled; 1000 where the path is at rest.
    """
    m, n = q.shape
    zero = np.zeros(n)
    standing, per_slope, moving = np.empty(n), np.empty(n), np.empty(n)
    for k in range(m):
        bound[k] = 1e3
        top = 0.0
        for j in range(n):
            top = max(top, abs(d1[k, j]))
        if top < 1e-3:
            continue
        inverse_dynamics(chain, bodies, q[k], zero, zero, standing)
        inverse_dynamics(chain, bodies, q[k], zero, d1[k], per_slope)
        inverse_dynamics(chain, bodies, q[k], d1[k], d2[k], moving)
        for j in range(n):
            s = per_slope[j] - standing[j]
            if abs(s) < 1e-6:
                continue
            low = min(standing[j], moving[j]) if s > 0.0 else -max(standing[j], moving[j])
            # braking adds -s * slope to the torque: from `low` down to -room
            bound[k] = min(bound[k], (room[j] + low) / abs(s))
