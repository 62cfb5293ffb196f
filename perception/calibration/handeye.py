"""Where a camera is, from a target on the arm's flange seen in many poses of the arm.

For each pose i, with A_i = base to flange (known from the joints), B_i = camera to board (from the picture), X = base
to camera and Z = flange to board (both unknown):  A_i Z = X B_i.

Start: the rotations solve a linear problem, R_A R_Z = R_X R_B for all i (Shah, "Solving the robot-world/hand-eye
calibration problem using the Kronecker product", J. Mechanisms Robotics 5, 2013), then the translations do. Result:
least squares of the reprojection error of every corner over the twelve parameters of X and Z, with a robust loss.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from perception.calibration.board import CalibrationError
from perception.calibration.lens import Lens

F64 = NDArray[np.float64]
LOSS = 0.5
"""Residual at which the robust loss turns from square to linear, px."""
BEHIND = 1e3
"""Residual of a corner behind the camera, px."""


class View(NamedTuple):
    """One picture of the target and the pose of the flange in which it was taken."""

    name: str
    T_base_flange: F64
    """(4, 4)."""
    points: F64
    """(n, 3) corners in the board's frame, m."""
    pixels: F64
    """(n, 2)."""


class HandEye(NamedTuple):
    """Solution."""

    T_base_camera: F64
    T_flange_board: F64
    residuals: list[F64]
    """For each view (n, 2), px: predicted less seen."""
    covariance: F64
    """(12, 12) of X then Z, each translation (m) and rotation vector (rad), for the residuals that were left."""


def inverse(T: F64) -> F64:
    """Inverse of a pose."""
    out = np.eye(4)
    out[:3, :3] = T[:3, :3].T
    out[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return out


def closed_form(A: list[F64], B: list[F64]) -> tuple[F64, F64]:
    """X and Z of A_i Z = X B_i, least squares of rotations first. Raises CalibrationError if the rotations do not
    determine them."""
    K = sum(np.kron(b[:3, :3], a[:3, :3]) for a, b in zip(A, B, strict=True)) / len(A)
    left, values, right = np.linalg.svd(np.asarray(K))
    if values[1] > 0.9999 * values[0]:
        raise CalibrationError("the poses of the arm are all parallel: turn the target about two axes between them")
    # vec(R_X) = K vec(R_Z) for exact data: the largest singular value is 1 and its vectors are the two rotations.
    R_X, R_Z = _rotation(left[:, 0].reshape(3, 3, order="F")), _rotation(right[0].reshape(3, 3, order="F"))
    # R_A t_Z + t_A = R_X t_B + t_X
    rows = np.concatenate([np.hstack([-np.eye(3), a[:3, :3]]) for a in A])
    wanted = np.concatenate([R_X @ b[:3, 3] - a[:3, 3] for a, b in zip(A, B, strict=True)])
    solution, _, rank, _ = np.linalg.lstsq(rows, wanted, rcond=1e-6)
    if rank < 6:
        raise CalibrationError("the poses of the arm turn about one axis only: turn the target about two axes")
    X, Z = np.eye(4), np.eye(4)
    X[:3, :3], X[:3, 3] = R_X, solution[:3]
    Z[:3, :3], Z[:3, 3] = R_Z, solution[3:]
    return X, Z


def _rotation(M: F64) -> F64:
    """The rotation nearest to a multiple of M, whose sign is not known."""
    M = M * np.sign(np.linalg.det(M))
    u, _, v = np.linalg.svd(M)
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v)


def moved(T: F64, change: F64) -> F64:
    """T followed by a shift (m, in the frame T is given in) and a turn (rad, in its own frame)."""
    out = T.copy()
    out[:3, 3] += change[:3]
    out[:3, :3] = T[:3, :3] @ Rotation.from_rotvec(change[3:]).as_matrix()
    return out


def predicted(lens: Lens, view: View, X: F64, Z: F64) -> F64:
    """Pixels (n, 2) at which the corners of a view should be; NaN behind the camera."""
    T = inverse(X) @ view.T_base_flange @ Z
    return lens.project(view.points @ T[:3, :3].T + T[:3, 3])


def refine(lens: Lens, views: list[View], X: F64, Z: F64) -> tuple[HandEye, float]:
    """Least squares over all corners from a start; the solution and its cost."""
    seen = np.concatenate([view.pixels for view in views])

    def residual(x: F64) -> F64:
        here, there = moved(X, x[:6]), moved(Z, x[6:])
        away = np.concatenate([predicted(lens, view, here, there) for view in views]) - seen
        return np.nan_to_num(away, nan=BEHIND).ravel()

    found = least_squares(residual, np.zeros(12), x_scale="jac", loss="soft_l1", f_scale=LOSS, max_nfev=60)
    X, Z = moved(X, found.x[:6]), moved(Z, found.x[6:])
    each = [np.nan_to_num(predicted(lens, view, X, Z) - view.pixels, nan=BEHIND) for view in views]
    J = np.asarray(found.jac, float)
    return HandEye(X, Z, each, _covariance(J, each)), float(found.cost)


def _covariance(J: F64, residuals: list[F64]) -> F64:
    """Covariance of the parameters; infinite where they are not determined."""
    left = np.concatenate(residuals).ravel()
    free = len(left) - J.shape[1]
    scale = np.linalg.norm(J, axis=0)
    if free <= 0 or not np.isfinite(J).all() or (scale == 0.0).any():
        return np.full((12, 12), math.inf)
    information = (J / scale).T @ (J / scale)
    if np.linalg.cond(information) > 1e14:
        return np.full((12, 12), math.inf)
    # Errors within a view go together (arm, light, print), so the residuals understate them: corners count as a third.
    return np.asarray(3.0 * np.linalg.inv(information) / np.outer(scale, scale) * (left @ left) / free)
