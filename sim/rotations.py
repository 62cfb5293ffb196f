"""Small vectorised rotation algebra; quaternions are x y z w, matrices act on column vectors, leading axes are free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

F64 = NDArray[np.float64]


def unit(v: F64) -> F64:
    """v / |v|; a zero vector becomes +z."""
    norm = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.where(norm > 1e-12, v / np.maximum(norm, 1e-12), np.array([0.0, 0.0, 1.0]))


def cross_matrix(v: F64) -> F64:
    zero = np.zeros(v.shape[:-1])
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    rows = [np.stack(r, axis=-1) for r in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, axis=-2)


def between(a: F64, b: F64) -> F64:
    """Smallest rotation (..., 3, 3) that turns direction `a` into direction `b` (Rodrigues)."""
    a, b = np.broadcast_arrays(unit(a), unit(b))
    k = cross_matrix(np.cross(a, b))
    cosine = (a * b).sum(axis=-1)[..., None, None]
    eye = np.broadcast_to(np.eye(3), k.shape)
    # Opposite directions: half a turn about any axis across them.
    helper = np.where(np.abs(a[..., :1]) < 0.9, np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    axis = unit(np.cross(a, helper))
    half_turn = 2.0 * axis[..., :, None] * axis[..., None, :] - eye
    rotation = eye + k + k @ k / np.maximum(1.0 + cosine, 1e-9)
    return np.where(cosine < -1.0 + 1e-8, half_turn, rotation)


def frame(z: F64, y_hint: F64) -> F64:
    """Rotation whose z axis is `z` and whose y axis is as near `y_hint` as can be."""
    z = unit(z)
    x = unit(np.cross(y_hint, z))
    return np.stack([x, np.cross(z, x), z], axis=-1)


@njit(cache=True)
def _to_quaternions(r: F64) -> F64:
    """(n, 3, 3) -> (n, 4) by the largest of the four components, which is exact where the others are not."""
    q = np.empty((len(r), 4))
    for n in range(len(r)):
        m = r[n]
        trace = m[0, 0] + m[1, 1] + m[2, 2]
        if trace > 0.0:
            s = 2.0 * np.sqrt(1.0 + trace)
            q[n, 3] = 0.25 * s
            q[n, 0] = (m[2, 1] - m[1, 2]) / s
            q[n, 1] = (m[0, 2] - m[2, 0]) / s
            q[n, 2] = (m[1, 0] - m[0, 1]) / s
        else:
            i = 0
            if m[1, 1] > m[0, 0]:
                i = 1
            if m[2, 2] > m[i, i]:
                i = 2
            j, k = (i + 1) % 3, (i + 2) % 3
            s = 2.0 * np.sqrt(max(1.0 + m[i, i] - m[j, j] - m[k, k], 1e-12))
            q[n, i] = 0.25 * s
            q[n, j] = (m[j, i] + m[i, j]) / s
            q[n, k] = (m[k, i] + m[i, k]) / s
            q[n, 3] = (m[k, j] - m[j, k]) / s
        norm = np.sqrt(q[n, 0] ** 2 + q[n, 1] ** 2 + q[n, 2] ** 2 + q[n, 3] ** 2)
        if q[n, 3] < 0.0:
            norm = -norm
        for i in range(4):
            q[n, i] /= norm
    return q


def to_quaternion(r: F64) -> F64:
    """(..., 3, 3) -> (..., 4), w >= 0."""
    flat = np.ascontiguousarray(r, dtype=np.float64).reshape(-1, 3, 3)
    return np.asarray(_to_quaternions(flat)).reshape(*r.shape[:-2], 4)


def to_matrix(q: F64) -> F64:
    """(..., 4) -> (..., 3, 3)."""
    x, y, z, w = (q[..., i] for i in range(4))
    rows = [
        np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], axis=-1),
        np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], axis=-1),
        np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], axis=-1),
    ]
    return np.stack(rows, axis=-2)


def multiply(a: F64, b: F64) -> F64:
    """Quaternion product: the rotation `b` followed by `a`."""
    ax, ay, az, aw = (a[..., i] for i in range(4))
    bx, by, bz, bw = (b[..., i] for i in range(4))
    return np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=-1,
    )


def about(axis: tuple[float, float, float], angle: float) -> F64:
    """Quaternion of a turn by `angle` rad about the unit vector `axis`."""
    return np.array([*(np.sin(angle / 2) * np.array(axis)), np.cos(angle / 2)])


def blend(a: F64, b: F64, part: float | F64) -> F64:
    """Normalised linear interpolation along the shorter way, (..., 4)."""
    sign = np.where((a * b).sum(axis=-1, keepdims=True) < 0.0, -1.0, 1.0)
    q = (1.0 - part) * a + part * sign * b
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def continuous(q: F64) -> F64:
    """Flip signs along the first axis so that neighbours lie on the same side, (n, ..., 4)."""
    if len(q) < 2:
        return q
    flips = np.where((q[1:] * q[:-1]).sum(axis=-1) < 0.0, -1.0, 1.0)
    signs = np.concatenate([np.ones((1, *q.shape[1:-1])), np.cumprod(flips, axis=0)])
    return q * signs[..., None]
