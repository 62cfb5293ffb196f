"""Vertical top grasps: where the TCP is to be for a part, and how wide the fingers have to open. m, 4x4 poses.

TCP frame: z forward out of the hand (down in a top grasp), fingers move along y. Part frame: centre of the bounding
box, z up. The fingers close along the part's y.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robots.workcell import PartType

Matrix = NDArray[np.float64]

FINGER_OVERLAP = 0.006
"""How far below the part's top the TCP goes at most, so that the hand stays clear of what stands round the part."""
CLEARANCE_MIN = 0.0025
"""Free way of each finger beside the part at least, on the way down; less than RELEASE, so that fingers that have just
let a part of the same width go need not be opened again."""
CLEARANCE = 0.010
"""Free way of each finger beside the part when the gripper is opened for it."""
RELEASE = 0.004
"""How far each finger opens to let go: walls of the box are near."""
PRESS = 0.004
"""How much narrower than the part the fingers are told to go, so that they press."""


def turned(T: Matrix, yaw: float) -> Matrix:
    """Return T turned about its own z by yaw, rad."""
    R = np.eye(4)
    R[0, 0] = R[1, 1] = math.cos(yaw)
    R[1, 0], R[0, 1] = math.sin(yaw), -math.sin(yaw)
    return np.asarray(T @ R)


def tcp_from_part(kind: PartType) -> Matrix:
    """Return the pose of the part in the TCP frame for the grasp with yaw 0."""
    T_part_tcp = np.diag([1.0, -1.0, -1.0, 1.0])
    T_part_tcp[2, 3] = grip_height(kind) - kind.size[2] / 2
    return np.linalg.inv(T_part_tcp)


def grip_height(kind: PartType) -> float:
    """Return the height of the TCP above the part's underside."""
    return max(kind.size[2] - FINGER_OVERLAP, kind.size[2] / 2)


def symmetry(kind: PartType) -> tuple[float, ...]:
    """Return the yaw angles (rad) that bring the part onto itself and leave its grip width as it is."""
    if kind.shape == "cylinder" or abs(kind.size[0] - kind.size[1]) < 1e-6:
        return (0.0, math.pi / 2, math.pi, -math.pi / 2)
    return (0.0, math.pi)


def pick_poses(T_base_part: Matrix, kind: PartType) -> list[Matrix]:
    """Return all TCP poses from which the part can be gripped."""
    T_part_tcp = np.linalg.inv(tcp_from_part(kind))
    return [turned(T_base_part, yaw) @ T_part_tcp for yaw in symmetry(kind)]


def place_poses(T_base_part: Matrix, T_tcp_part: Matrix, kind: PartType) -> list[Matrix]:
    """Return all TCP poses that bring a part held at T_tcp_part to T_base_part (or a turn of it onto itself)."""
    T_part_tcp = np.linalg.inv(T_tcp_part)
    return [turned(T_base_part, yaw) @ T_part_tcp for yaw in symmetry(kind)]


def too_wide(kind: PartType, opening: float) -> str:
    """Say why a gripper of this largest opening cannot grip the part, or return an empty text."""
    need = kind.grip_width + 2 * CLEARANCE_MIN
    if need <= opening:
        return ""
    return (
        f"grip too wide: {kind.grip_width * 1000:.0f} mm plus clearance needs an opening of {need * 1000:.0f} mm, "
        f"the gripper opens {opening * 1000:.0f} mm"
    )


def opening_for(kind: PartType, opening: float) -> float:
    """Return the opening with which the fingers come down round the part."""
    return min(kind.grip_width + 2 * CLEARANCE, opening)
