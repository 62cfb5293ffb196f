"""What a camera sees of the empty cell: computed from the fixtures of the cell file, never learned from pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception import kernels
from perception.config import PerceptionConfig
from perception.contract import CameraInfo, Intrinsics
from robots.workcell import Fixture, Workcell


class Background(NamedTuple):
    """Static picture of one camera."""

    ray_x: NDArray[np.float32]
    """(width,) tangent of each column."""
    ray_y: NDArray[np.float32]
    """(height,) tangent of each row."""
    depth: NDArray[np.float32]
    """(height, width) depth of the nearest static surface along the optical axis, m."""
    near: NDArray[np.uint16]
    """(height, width) mm; a valid pixel at least this deep is background."""


def rays(intrinsics: Intrinsics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return tangents per column and row of a pinhole camera."""
    ray_x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
    ray_y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
    return ray_x.astype(np.float32), ray_y.astype(np.float32)


def box_transforms(fixtures: list[Fixture]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n, 4, 4) transforms base -> box frame and (n, 3) half edge lengths."""
    T = np.empty((len(fixtures), 4, 4))
    half = np.empty((len(fixtures), 3))
    for i, fixture in enumerate(fixtures):
        T[i] = np.linalg.inv(pose_matrix(fixture.pose.position, fixture.pose.rpy))
        half[i] = np.asarray(fixture.size) / 2
    return T, half


def pose_matrix(position: tuple[float, float, float], rpy: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the (4, 4) pose for a position (m) and fixed-axis roll, pitch, yaw (rad)."""
    cr, cp, cy = np.cos(rpy)
    sr, sp, sy = np.sin(rpy)
    T = np.eye(4)
    T[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    T[:3, 3] = position
    return T


def build_background(camera: CameraInfo, workcell: Workcell, config: PerceptionConfig) -> Background:
    """Cast every pixel's ray against floor and visible fixtures.

    A pixel is background from the nearest static depth of its 3x3 neighbourhood (stereo mixes depths at edges) less
    `sigmas` standard deviations of noise there and the margin. Where no static surface is in range, only pixels
    beyond the camera's range are background.
    """
    T = np.asarray(camera.T_base_camera, float).reshape(4, 4)
    ray_x, ray_y = rays(camera.intrinsics)
    box_T, half = box_transforms([f for f in workcell.fixtures if f.visible])
    depth = np.empty((camera.intrinsics.height, camera.intrinsics.width), np.float32)
    kernels.raycast_boxes(ray_x, ray_y, T, box_T, half, workcell.floor, camera.depth_max, depth)
    edge = np.pad(depth, 1, mode="edge")
    nearest = depth.copy()
    for dv in range(3):
        for du in range(3):
            np.minimum(nearest, edge[dv : dv + depth.shape[0], du : du + depth.shape[1]], out=nearest)
    tolerance = config.sigmas * camera.noise_coefficient * nearest.astype(float) ** 2 + config.background_margin
    near = np.clip(np.floor((nearest - tolerance) * 1000.0), 1, 65534).astype(np.uint16)
    return Background(ray_x, ray_y, depth, near)


def leaving_depth(camera: CameraInfo, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Depth (h, w), mm, from which on a pixel's ray is outside the box lower..upper (base frame, m) for good.

    Rounded up by up to 3 mm: a pixel at least this deep is outside, a shallower one may be either. 1 where the ray
    does not meet the box at all.
    """
    T = np.asarray(camera.T_base_camera, float).reshape(4, 4)
    ray_x, ray_y = rays(camera.intrinsics)
    u, v = np.meshgrid(ray_x.astype(float), ray_y.astype(float))
    direction = np.stack([u, v, np.ones_like(u)], -1) @ T[:3, :3].T
    # A ray along a face of the box never passes the planes of that axis; a tiny slope keeps the arithmetic finite.
    direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    first, second = (lower - T[:3, 3]) / direction, (upper - T[:3, 3]) / direction
    enters = np.minimum(first, second).max(-1)
    leaves = np.maximum(first, second).min(-1)
    meets = (leaves + 0.002 >= enters) & (leaves + 0.002 >= 0.0)
    return np.where(meets, np.clip(np.ceil((leaves + 0.002) * 1000.0), 1, 65535), 1).astype(np.uint16)
