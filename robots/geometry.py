"""Geometry of path segments: straight lines in joint space, lines and arcs of TCP poses, orientations between them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robots import kinematics

Array = NDArray[np.float64]

LIN_PITCH = 0.005
"""Distance between the poses of a TCP path, m."""
ROTATION_PITCH = 0.02
"""The same for its rotation, rad."""
PTP_PITCH = 0.02
"""Largest joint step along a straight line in joint space, rad."""


class GeometryError(ValueError):
    """Points that define no path; the text says why."""


def joint_line(q: Array, goal: Array) -> Array:
    """Rows (m, dof) on the straight line in joint space from q to goal, both included."""
    count = max(6, math.ceil(float(np.abs(goal - q).max()) / PTP_PITCH) + 1)
    return q + np.linspace(0.0, 1.0, count)[:, None] * (goal - q)


def rotation_vector(R: Array) -> Array:
    """Rotation vector (3,), rad, of a rotation matrix (3, 3)."""
    e, eye, T = np.empty(6), np.eye(4), np.eye(4)
    T[:3, :3] = R
    kinematics.pose_error(eye, T, e)
    return e[3:]


def rotation_of(vector: Array) -> Array:
    """Rotation matrix (3, 3) of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * K + (1 - math.cos(angle)) * (K @ K)


def turned(R0: Array, R1: Array, shares: Array) -> Array:
    """Slerp: (m, 3, 3) orientations at the given shares of the way from R0 to R1."""
    w = rotation_vector(R0.T @ R1)
    return np.array([R0 @ rotation_of(w * s) for s in shares])


def line(T0: Array, T1: Array) -> Array:
    """Poses (m, 4, 4) on the straight line from T0 to T1, orientation slerped."""
    angle = float(np.linalg.norm(rotation_vector(T0[:3, :3].T @ T1[:3, :3])))
    length = float(np.linalg.norm(T1[:3, 3] - T0[:3, 3]))
    shares = np.linspace(0.0, 1.0, max(6, math.ceil(max(length / LIN_PITCH, angle / ROTATION_PITCH)) + 1))
    goals = np.tile(np.eye(4), (len(shares), 1, 1))
    goals[:, :3, :3] = turned(T0[:3, :3], T1[:3, :3], shares)
    goals[:, :3, 3] = T0[:3, 3] + shares[:, None] * (T1[:3, 3] - T0[:3, 3])
    return goals


def arc(T0: Array, via: Array, T1: Array) -> Array:
    """Poses (m, 4, 4) on the circle from T0 through the position of `via` to T1, orientation slerped from T0 to T1.

    Raises:
        GeometryError: the three positions lie on a line or coincide.
    """
    p0, p1, pv = T0[:3, 3], T1[:3, 3], via[:3, 3]
    u, v = pv - p0, p1 - p0
    normal = np.cross(u, v)
    area = float(normal @ normal)
    if area < 1e-10 * max(float(u @ u) * float(v @ v), 1e-12) or area < 1e-14:
        raise GeometryError("start, via and end of a circle must not lie on a line or coincide")
    # circumcentre of the triangle p0, pv, p1
    centre = p0 + (float(v @ v) * np.cross(normal, u) - float(u @ u) * np.cross(normal, v)) * (1.0 / (2.0 * area))
    x = p0 - centre
    radius = float(np.linalg.norm(x))
    x = x / radius
    y = np.cross(normal / math.sqrt(area), x)
    angle = math.atan2(float((p1 - centre) @ y), float((p1 - centre) @ x)) % (2 * math.pi)
    turn = float(np.linalg.norm(rotation_vector(T0[:3, :3].T @ T1[:3, :3])))
    count = max(8, math.ceil(max(angle * radius / LIN_PITCH, turn / ROTATION_PITCH, angle / 0.05)) + 1)
    shares = np.linspace(0.0, 1.0, count)
    goals = np.tile(np.eye(4), (count, 1, 1))
    goals[:, :3, :3] = turned(T0[:3, :3], T1[:3, :3], shares)
    phi = shares[:, None] * angle
    goals[:, :3, 3] = centre + radius * (np.cos(phi) * x + np.sin(phi) * y)
    return goals


def cut_index(points: Array, blend: float) -> int:
    """Index of the point at path length min(blend, 45 % of the whole) from the first one."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    reach = min(blend, 0.45 * float(lengths[-1]))
    return int(np.searchsorted(lengths, reach, side="right")) - 1
