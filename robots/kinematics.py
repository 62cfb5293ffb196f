"""Forward kinematics, Jacobian and inverse kinematics of a serial arm as numba kernels.

Frames: frame 0 is the base, frame i the link after joint i (i = 1..n). Every joint is revolute about the z axis of its
placement, so `T_i = T_(i-1) * P_i * Rot_z(q_i)` with constant P_i. All arrays are float64, lengths in m, angles in rad.
The kernels allocate only what they return, take no locks and may be called from other kernels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

Array = NDArray[np.float64]


class Chain(NamedTuple):
    """Constant geometry of an arm with its tool, in the form the kernels take."""

    R: Array
    """(n, 3, 3) rotation of joint placement i in frame i-1."""
    p: Array
    """(n, 3) origin of joint placement i in frame i-1."""
    tcp_R: Array
    """(3, 3) rotation of the TCP in frame n."""
    tcp_p: Array
    """(3,) origin of the TCP in frame n."""
    owner: NDArray[np.int64]
    """(m,) frame each capsule is fixed to, 0..n."""
    a: Array
    """(m, 3) first end of each capsule's axis in its owner's frame."""
    b: Array
    """(m, 3) second end."""
    radius: Array
    """(m,)."""


@njit(cache=True)
def link_frames(chain: Chain, q: Array, R: Array, p: Array) -> None:
    """Fill R (n+1, 3, 3) and p (n+1, 3) with the frames of base and links at joint positions q (n,)."""
    for i in range(3):
        p[0, i] = 0.0
        for j in range(3):
            R[0, i, j] = 1.0 if i == j else 0.0
    for k in range(q.shape[0]):
        c, s = math.cos(q[k]), math.sin(q[k])
        for i in range(3):
            x, y, z = R[k, i, 0], R[k, i, 1], R[k, i, 2]
            p[k + 1, i] = p[k, i] + x * chain.p[k, 0] + y * chain.p[k, 1] + z * chain.p[k, 2]
            u = x * chain.R[k, 0, 0] + y * chain.R[k, 1, 0] + z * chain.R[k, 2, 0]
            v = x * chain.R[k, 0, 1] + y * chain.R[k, 1, 1] + z * chain.R[k, 2, 1]
            R[k + 1, i, 0] = u * c + v * s
            R[k + 1, i, 1] = v * c - u * s
            R[k + 1, i, 2] = x * chain.R[k, 0, 2] + y * chain.R[k, 1, 2] + z * chain.R[k, 2, 2]


@njit(cache=True)
def tcp_pose(chain: Chain, q: Array, T: Array) -> None:
    """Fill T (4, 4) with the pose of the TCP in the base frame."""
    n = q.shape[0]
    R = np.empty((n + 1, 3, 3))
    p = np.empty((n + 1, 3))
    link_frames(chain, q, R, p)
    for i in range(3):
        T[i, 3] = p[n, i]
        for k in range(3):
            T[i, 3] += R[n, i, k] * chain.tcp_p[k]
        for j in range(3):
            T[i, j] = 0.0
            for k in range(3):
                T[i, j] += R[n, i, k] * chain.tcp_R[k, j]
    T[3, 0] = T[3, 1] = T[3, 2] = 0.0
    T[3, 3] = 1.0


@njit(cache=True)
def tcp_and_jacobian(chain: Chain, q: Array, T: Array, J: Array) -> None:
    """Fill T (4, 4) with the TCP pose and J (6, n) with its Jacobian.

    Rows: linear velocity of the TCP, then angular velocity, both in base-aligned axes.
    """
    n = q.shape[0]
    R = np.empty((n + 1, 3, 3))
    p = np.empty((n + 1, 3))
    link_frames(chain, q, R, p)
    for i in range(3):
        T[i, 3] = p[n, i]
        for k in range(3):
            T[i, 3] += R[n, i, k] * chain.tcp_p[k]
        for j in range(3):
            T[i, j] = 0.0
            for k in range(3):
                T[i, j] += R[n, i, k] * chain.tcp_R[k, j]
        T[3, i] = 0.0
    T[3, 3] = 1.0
    for k in range(n):
        zx, zy, zz = R[k + 1, 0, 2], R[k + 1, 1, 2], R[k + 1, 2, 2]
        dx, dy, dz = T[0, 3] - p[k + 1, 0], T[1, 3] - p[k + 1, 1], T[2, 3] - p[k + 1, 2]
        J[0, k] = zy * dz - zz * dy
        J[1, k] = zz * dx - zx * dz
        J[2, k] = zx * dy - zy * dx
        J[3, k], J[4, k], J[5, k] = zx, zy, zz


@njit(cache=True)
def capsule_ends(chain: Chain, q: Array, a: Array, b: Array) -> None:
    """Fill a, b (m, 3) with the ends of all capsule axes in the base frame at q (n,)."""
    n = q.shape[0]
    R = np.empty((n + 1, 3, 3))
    p = np.empty((n + 1, 3))
    link_frames(chain, q, R, p)
    for m in range(chain.owner.shape[0]):
        k = chain.owner[m]
        for i in range(3):
            a[m, i] = p[k, i] + R[k, i, 0] * chain.a[m, 0] + R[k, i, 1] * chain.a[m, 1] + R[k, i, 2] * chain.a[m, 2]
            b[m, i] = p[k, i] + R[k, i, 0] * chain.b[m, 0] + R[k, i, 1] * chain.b[m, 1] + R[k, i, 2] * chain.b[m, 2]


@njit(cache=True)
def capsule_paths(chain: Chain, Q: Array, a: Array, b: Array) -> None:
    """Fill a, b (K, m, 3) with the capsule axis ends along the configurations Q (K, n)."""
    n = Q.shape[1]
    R = np.empty((n + 1, 3, 3))
    p = np.empty((n + 1, 3))
    for row in range(Q.shape[0]):
        link_frames(chain, Q[row], R, p)
        for m in range(chain.owner.shape[0]):
            k = chain.owner[m]
            for i in range(3):
                x, y, z = R[k, i, 0], R[k, i, 1], R[k, i, 2]
                a[row, m, i] = p[k, i] + x * chain.a[m, 0] + y * chain.a[m, 1] + z * chain.a[m, 2]
                b[row, m, i] = p[k, i] + x * chain.b[m, 0] + y * chain.b[m, 1] + z * chain.b[m, 2]


@njit(cache=True)
def tcp_positions(chain: Chain, Q: Array, out: Array) -> None:
    """Fill out (K, 3) with the TCP positions along the configurations Q (K, n)."""
    T = np.empty((4, 4))
    for row in range(Q.shape[0]):
        tcp_pose(chain, Q[row], T)
        for i in range(3):
            out[row, i] = T[i, 3]


@njit(cache=True)
def pose_error(T: Array, G: Array, e: Array) -> None:
    """Fill e (6,) with the translation (m) and rotation vector (rad) that carry pose T to pose G, base-aligned."""
    D = np.empty((3, 3))
    for i in range(3):
        e[i] = G[i, 3] - T[i, 3]
        for j in range(3):
            D[i, j] = G[i, 0] * T[j, 0] + G[i, 1] * T[j, 1] + G[i, 2] * T[j, 2]
    wx, wy, wz = D[2, 1] - D[1, 2], D[0, 2] - D[2, 0], D[1, 0] - D[0, 1]
    s = 0.5 * math.sqrt(wx * wx + wy * wy + wz * wz)
    c = 0.5 * (D[0, 0] + D[1, 1] + D[2, 2] - 1.0)
    angle = math.atan2(s, c)
    if s > 1e-9:
        f = 0.5 * angle / s
        e[3], e[4], e[5] = wx * f, wy * f, wz * f
    elif c > 0.0:
        e[3], e[4], e[5] = 0.5 * wx, 0.5 * wy, 0.5 * wz
    else:  # half a turn: the axis is the column of (D + 1)/2 with the largest diagonal element
        k = 0
        for i in range(1, 3):
            if D[i, i] > D[k, k]:
                k = i
        norm = math.sqrt(max(0.5 * (D[k, k] + 1.0), 1e-12))
        for i in range(3):
            e[3 + i] = math.pi * 0.5 * (D[i, k] + (1.0 if i == k else 0.0)) / norm


@njit(cache=True)
def damped_step(J: Array, e: Array, damping: float, dq: Array) -> None:
    """Fill dq (n,) with J^T (J J^T + damping I)^-1 e by a Cholesky factorisation of the 6x6 matrix."""
    n = J.shape[1]
    L = np.zeros((6, 6))
    y = np.empty(6)
    for i in range(6):
        for j in range(i + 1):
            total = damping if i == j else 0.0
            for k in range(n):
                total += J[i, k] * J[j, k]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                L[i, i] = math.sqrt(max(total, 1e-18))
            else:
                L[i, j] = total / L[j, j]
    for i in range(6):
        y[i] = e[i]
        for k in range(i):
            y[i] -= L[i, k] * y[k]
        y[i] /= L[i, i]
    for i in range(5, -1, -1):
        for k in range(i + 1, 6):
            y[i] -= L[k, i] * y[k]
        y[i] /= L[i, i]
    for k in range(n):
        dq[k] = 0.0
        for i in range(6):
            dq[k] += J[i, k] * y[i]


@njit(cache=True)
def solve_ik(
    chain: Chain, goal: Array, q: Array, lower: Array, upper: Array, iterations: int, tol_p: float, tol_r: float
) -> tuple[bool, float, float]:
    """Improve q (n,) in place by damped least squares until the TCP is at `goal` (4, 4).

    Step: dq = J^T (J J^T + d^2 I)^-1 e with a damping that shrinks with the error (Nakamura and Hanafusa 1986,
    Wampler 1986), clamped to 0.4 rad a step and to the joint limits.

    Returns:
        whether both tolerances are met, remaining position error (m), remaining rotation error (rad).
    """
    n = q.shape[0]
    T = np.empty((4, 4))
    J = np.empty((6, n))
    e = np.empty(6)
    dq = np.empty(n)
    for _ in range(iterations):
        tcp_and_jacobian(chain, q, T, J)
        pose_error(T, goal, e)
        ep = math.sqrt(e[0] ** 2 + e[1] ** 2 + e[2] ** 2)
        er = math.sqrt(e[3] ** 2 + e[4] ** 2 + e[5] ** 2)
        if ep <= tol_p and er <= tol_r:
            return True, ep, er
        damped_step(J, e, 1e-8 + 1e-2 * min(ep * ep + er * er, 1.0), dq)
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(dq[i]))
        scale = 0.4 / largest if largest > 0.4 else 1.0
        for i in range(n):
            q[i] = min(max(q[i] + scale * dq[i], lower[i]), upper[i])
    tcp_pose(chain, q, T)
    pose_error(T, goal, e)
    ep = math.sqrt(e[0] ** 2 + e[1] ** 2 + e[2] ** 2)
    er = math.sqrt(e[3] ** 2 + e[4] ** 2 + e[5] ** 2)
    return ep <= tol_p and er <= tol_r, ep, er
