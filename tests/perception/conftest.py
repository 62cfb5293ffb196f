"""A small cell, a camera and pictures made from its geometry, for all perception tests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from perception.background import rays
from perception.config import Mount, PerceptionConfig
from perception.contract import CameraInfo, Frame, Intrinsics
from perception.kernels import raycast_boxes
from robots.workcell import Workcell

WIDTH, HEIGHT = 212, 120


@pytest.fixture(scope="session")
def workcell() -> Workcell:
    return Workcell.model_validate(
        {
            "floor": -0.75,
            "person_volume": [[-1.0, -1.5, -0.75], [2.5, 1.5, 1.45]],
            "entries": ["x_max"],
            "fixtures": [{"name": "table", "size": [1.0, 1.0, 0.75], "pose": {"position": [0.0, 0.0, -0.375]}}],
        }
    )


Point = tuple[float, float, float]
Box = tuple[Point, Point]
"""Centre and size of an upright box, m."""


def camera_info(
    name: str = "a", position: Point = (-0.6, -1.42, 1.84), look_at: Point = (1.08, -0.3, 0.4), roll_deg: float = 0.0
) -> CameraInfo:
    f = WIDTH / 2 / np.tan(np.radians(43.5))
    mount = Mount(position=position, look_at=look_at, roll_deg=roll_deg)
    T = tuple(float(v) for v in mount.T_base_camera().ravel())
    k = Intrinsics(WIDTH, HEIGHT, f, f, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    return CameraInfo(name, "D455", k, 30.0, T, 0.002, 0.4, 6.0)


def render(
    info: CameraInfo, workcell: Workcell, boxes: list[Box], seed: int | None = 1
) -> NDArray[np.uint16]:  # fmt: skip
    """Depth picture of the cell with extra boxes (centre, size), with the camera's own noise unless seed is None."""
    visible = [(f.pose.position, f.size) for f in workcell.fixtures if f.visible] + boxes
    T = np.array([np.eye(4) for _ in visible])
    T[:, :3, 3] = [-np.asarray(centre) for centre, _ in visible]
    half = np.array([np.asarray(size) / 2 for _, size in visible])
    out = np.empty((info.intrinsics.height, info.intrinsics.width), np.float32)
    ray_x, ray_y = rays(info.intrinsics)
    raycast_boxes(ray_x, ray_y, np.reshape(info.T_base_camera, (4, 4)), T, half, workcell.floor, info.depth_max, out)
    if seed is not None:
        noise = np.random.default_rng(seed).normal(size=out.shape)
        out = out + info.noise_coefficient * out**2 * noise
    return np.clip(np.rint(out * 1000), 0, 65535).astype(np.uint16)


def front_camera() -> CameraInfo:
    """A second camera, upright, that sees the near side of the table."""
    return camera_info("b", (2.05, -1.42, 1.56), (0.2, -0.7, 0.34), 90.0)


def frame(info: CameraInfo, depth: NDArray[np.uint16], seq: int, exposure: float) -> Frame:
    return Frame(info.name, seq, exposure, depth)


@pytest.fixture(scope="session")
def config() -> PerceptionConfig:
    return PerceptionConfig()
