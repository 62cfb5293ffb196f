"""Poses of the arm in which a camera sees the target on its flange: spread over the picture, tilted, clear."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception.background import box_transforms
from perception.calibration.board import Board, CalibrationError
from perception.calibration.handeye import inverse
from perception.calibration.lens import Lens
from robots.model import IkError, RobotModel
from robots.workcell import Workcell

F64 = NDArray[np.float64]
TRIES = 4000
TILT = (math.radians(10.0), math.radians(40.0))
"""Of the board against the line of sight."""
CLEAR = 0.03
"""Between arm and fixtures, m."""
EDGE = 12.0
"""Pixels kept between the board and the edge of the picture."""
MARKER_PX = 9.0
"""Smallest marker the detector finds reliably."""
SAMPLES = 9
"""Points looked at along a link."""
FIXED_LINKS = 2
"""Capsules from the base on that stand where the arm is mounted."""


def flange_board(board: Board, ahead: float = 0.04) -> F64:
    """Flange to board, (4, 4), for a board centred before the tool and facing away from it. `ahead`: m from the TCP."""
    T = np.eye(4)
    T[:3, :3] = np.diag([1.0, -1.0, -1.0])
    T[:3, 3] = [-board.size[0] / 2, board.size[1] / 2, ahead]
    return T


def plan_poses(
    model: RobotModel, home: F64, T_base_camera: F64, lens: Lens, board: Board, workcell: Workcell, count: int,
    seed: int,
) -> list[F64]:  # fmt: skip
    """Return `count` joint positions (dof,), rad. Only the poses are free of fixtures, not the ways between them.

    Raises CalibrationError if the camera cannot see the board in so many."""
    random = np.random.default_rng(seed)
    Z = flange_board(board)
    boxes = box_transforms([fixture for fixture in workcell.fixtures if fixture.collide])
    shoulder = model.chain.p[0]
    found: list[F64] = []
    for _ in range(TRIES):
        direction = random.normal(size=3)
        centre = shoulder + direction / np.linalg.norm(direction) * random.uniform(0.35, 0.9) * model.reach * 0.8
        T = _facing(T_base_camera, centre, board, random)
        if not _in_picture(lens, board, inverse(T_base_camera) @ T):
            continue
        try:
            q = model.ik(T @ inverse(Z), home, restarts=3)
        except IkError:
            continue
        if _clear(model, q, boxes, workcell.floor):
            found.append(q)
            if len(found) == count:
                return found
    raise CalibrationError(
        f"only {len(found)} of {count} poses were found in which the arm holds the board {board} before the camera: "
        "a larger board, a nearer camera, or fewer views"
    )


def _facing(T_base_camera: F64, centre: F64, board: Board, random: np.random.Generator) -> F64:
    """Base to board with its centre there, looking at the camera but for a tilt, turned at random in its plane."""
    sight = centre - T_base_camera[:3, 3]
    sight /= np.linalg.norm(sight)
    right = np.cross(T_base_camera[:3, 1], sight)
    right /= np.linalg.norm(right)
    R = Rotation.from_matrix(np.stack([right, np.cross(sight, right), sight], 1))
    about = random.uniform(0.0, 2.0 * math.pi)
    tilt = random.uniform(*TILT) * np.array([math.cos(about), math.sin(about), 0.0])
    R = R * Rotation.from_rotvec(tilt) * Rotation.from_euler("z", random.uniform(-math.pi, math.pi))
    T = np.eye(4)
    T[:3, :3] = R.as_matrix()
    T[:3, 3] = centre - T[:3, :3] @ np.array([board.size[0] / 2, board.size[1] / 2, 0.0])
    return T


def _in_picture(lens: Lens, board: Board, T_camera_board: F64) -> bool:
    width, height = board.size
    corners = np.array([[0, 0, 0], [width, 0, 0], [0, height, 0], [width, height, 0]], float)
    there = corners @ T_camera_board[:3, :3].T + T_camera_board[:3, 3]
    if there[:, 2].min() < 0.2 or lens.fx * board.marker / there[:, 2].max() < MARKER_PX:
        return False
    pixels = lens.project(there)
    return bool((pixels >= EDGE).all() and (pixels <= np.array([lens.width, lens.height]) - EDGE).all())


def _clear(model: RobotModel, q: F64, boxes: tuple[F64, F64], floor: float) -> bool:
    a, b, r = model.capsules(q)
    share = np.linspace(0.0, 1.0, SAMPLES)[:, None]
    for n in range(FIXED_LINKS, len(r)):
        points = a[n] + share * (b[n] - a[n])
        if points[:, 2].min() - r[n] < floor + CLEAR:
            return False
        for T, half in zip(*boxes, strict=True):
            outside = np.maximum(np.abs(points @ T[:3, :3].T + T[:3, 3]) - half, 0.0)
            if np.linalg.norm(outside, axis=1).min() < r[n] + CLEAR:
                return False
    return True
