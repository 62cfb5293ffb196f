"""Cubic splines through unevenly spaced rows, as numba kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

Array = NDArray[np.float64]


@njit(cache=True)
def natural_curvature(u: Array, Q: Array) -> Array:
    """Second derivatives (K, n) at the knots of the C2 cubic spline through Q (K, n) at u (K,), zero at both ends.

    Thomas algorithm on the tridiagonal system of the natural spline (de Boor, A Practical Guide to Splines, ch. IV).
    """
    K, n = Q.shape
    M = np.zeros((K, n))
    c = np.zeros(K)
    for k in range(1, K - 1):
        h0, h1 = u[k] - u[k - 1], u[k + 1] - u[k]
        m = 1.0 / (2.0 * (h0 + h1) - h0 * c[k - 1])
        c[k] = h1 * m
        for j in range(n):
            d = 6.0 * ((Q[k + 1, j] - Q[k, j]) / h1 - (Q[k, j] - Q[k - 1, j]) / h0)
            M[k, j] = (d - h0 * M[k - 1, j]) * m
    for k in range(K - 2, 0, -1):
        for j in range(n):
            M[k, j] -= c[k] * M[k + 1, j]
    return M


@njit(cache=True)
def evaluate(u: Array, Q: Array, M: Array, at: Array, q: Array, d1: Array, d2: Array) -> None:
    """Fill q, d1, d2 (N, n) with value and derivatives at the ascending parameters `at` (N,), clamped to the ends."""
    K, n = Q.shape
    k = 0
    for i in range(at.shape[0]):
        x = min(max(at[i], u[0]), u[K - 1])
        while k < K - 2 and u[k + 1] < x:
            k += 1
        h = u[k + 1] - u[k]
        b = (x - u[k]) / h
        a = 1.0 - b
        for j in range(n):
            y0, y1, m0, m1 = Q[k, j], Q[k + 1, j], M[k, j], M[k + 1, j]
            q[i, j] = a * y0 + b * y1 + ((a * a * a - a) * m0 + (b * b * b - b) * m1) * h * h / 6.0
            d1[i, j] = (y1 - y0) / h + ((3.0 * b * b - 1.0) * m1 - (3.0 * a * a - 1.0) * m0) * h / 6.0
            d2[i, j] = a * m0 + b * m1


class PathSpline:
    """The natural cubic spline q(u) through rows Q (K, n), K >= 2, at ascending u (K,)."""

    def __init__(self, u: Array, Q: Array) -> None:
        self.u = np.ascontiguousarray(u, dtype=np.float64)
        self.Q = np.ascontiguousarray(Q, dtype=np.float64)
        self._M = natural_curvature(self.u, self.Q)

    def __call__(self, at: Array) -> tuple[Array, Array, Array]:
        """Return q, dq/du, d2q/du2, each (N, n), at ascending parameters (N,)."""
        q = np.empty((len(at), self.Q.shape[1]))
        d1, d2 = np.empty_like(q), np.empty_like(q)
        evaluate(self.u, self.Q, self._M, np.ascontiguousarray(at, dtype=np.float64), q, d1, d2)
        return q, d1, d2
