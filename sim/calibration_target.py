"""A calibration board before one of the twin's cameras: pictures as the left imager of a stereo camera gives them, with
the projector off; the frame of depth is that imager's.

The room and the arm are drawn by the twin's rasteriser. The board is its print, mapped into the picture by the
homography of its plane at four times the resolution, averaged, covered by what stands before it, softened
and made noisy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception.calibration.board import Board
from perception.calibration.lens import Lens, lens_of
from perception.contract import CameraInfo
from robots.model import RobotModel
from robots.workcell import Workcell
from sim.arms import arm_spec
from sim.camera import describe
from sim.contract import Scene
from sim.raster import RasterRenderer
from sim.render import View

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
WIDTH, HEIGHT = 1280, 800
"""The imager's own size; depth is delivered smaller."""
FINER = 4
PRINT_PX = 120
"""Pixels of the print for one square."""
MARGIN = 0.5
"""White round the chessboard, squares."""
BLACK, WHITE = 0.06, 0.88
"""Reflectivity of the print."""
SOFTNESS = 0.6
"""Standard deviation of lens and sensor blur, px."""
NOISE = 0.012
"""Standard deviation of a pixel, of full scale."""
BEFORE = 0.004
"""What is nearer than the board by this covers it, m."""


class Truth(NamedTuple):
    """What calibration has to find."""

    T_base_camera: F64
    T_flange_board: F64
    lens: Lens


class CalibrationStand:
    """One camera of a cell, a board, the arm. The camera does not stand quite where the cell file says, nor does the
    board sit on the flange quite as intended; `truth` tells where they are."""

    def __init__(
        self, name: str, options: Mapping[str, Any], board: Board, T_flange_board: F64, seed: int,
        shift: float = 0.03, turn_deg: float = 2.0, joint_noise: float = 5e-5, distortion: Sequence[float] = (),
    ) -> None:  # fmt: skip
        """`options` as for `TwinCamera`; `shift` (m), `turn_deg`: largest misplacement; `joint_noise`: standard
        deviation of what the arm says of its joints, rad. Raises CameraError for wrong options."""
        own = {**options, "width": WIDTH, "height": HEIGHT, "decimation": 1, "seed": seed}
        self.info: CameraInfo = describe(name, own)[0]
        self._random = np.random.default_rng([seed, 11])
        k = self.info.intrinsics
        nominal = np.asarray(self.info.T_base_camera).reshape(4, 4)
        lens = lens_of(k).model_copy(update={"distortion": [float(v) for v in distortion]})
        self.truth = Truth(self._off(nominal, shift, turn_deg), self._off(T_flange_board, shift / 3, turn_deg), lens)
        self._board, self._seed = board, seed
        self._print = _print(board)
        robot = options["robot"]
        self._model = RobotModel.load(str(robot["model"]), robot.get("tool"))
        self._joint_noise = joint_noise
        workcell: Workcell = options["workcell"]
        view = View(k.width, k.height, k.fx, k.fy, k.cx, k.cy, self.truth.T_base_camera)
        empty = workcell.model_copy(update={"stock": []})
        self._renderer = RasterRenderer(view, empty, arm_spec(str(robot["model"])))
        self._rest = [float(v) for v in self._model.home]
        self._map: Any = _bent(lens) if any(distortion) else None

    def _off(self, T: F64, shift: float, turn_deg: float) -> F64:
        out = T.copy()
        out[:3, 3] += self._random.uniform(-1.0, 1.0, 3) * shift / math.sqrt(3.0)
        turn = self._random.uniform(-1.0, 1.0, 3) * math.radians(turn_deg) / math.sqrt(3.0)
        out[:3, :3] = T[:3, :3] @ Rotation.from_rotvec(turn).as_matrix()
        return out

    def on_flange(self, q: F64) -> tuple[U8, F64]:
        """Picture (h, w) with the arm at `q` (rad) and the joint positions the arm reports."""
        T_base_board = self._model.fk(q) @ self.truth.T_flange_board
        picture = self._picture([float(v) for v in q], np.linalg.inv(self.truth.T_base_camera) @ T_base_board)
        return picture, np.asarray(q) + self._random.normal(0.0, 1.0, len(q)) * self._joint_noise

    def held(self, T_camera_board: F64) -> U8:
        """Picture (h, w) of the board held freely, the arm at rest."""
        return self._picture(self._rest, T_camera_board)

    def held_poses(self, count: int) -> list[F64]:
        """Poses for `held`: into all parts of the picture, tilted."""
        return held_poses(self.truth.lens, self._board, count, self._seed)

    def _picture(self, q: list[float], T_camera_board: F64) -> U8:
        drawn = self._renderer.draw(Scene(0.0, q, 0.0, [], []), False)
        grey = drawn.shade.astype(np.float32) * np.float32(0.7)
        self._paint(grey, drawn.depth, T_camera_board)
        if self._map is not None:
            u, v = self._map
            grey = np.asarray(cv2.remap(grey, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32)
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), SOFTNESS), np.float32)
        grey += self._random.normal(0.0, NOISE, grey.shape).astype(np.float32)
        return np.clip(np.rint(grey * 255.0), 0, 255).astype(np.uint8)

    def _paint(self, grey: F32, depth: F32, T: F64) -> None:
        """Draw the board into (h, w) `grey`, where nothing of `depth` (m) stands before it."""
        k = self.info.intrinsics
        away = T[:3, 2]
        if T[2, 3] < 0.05 or float(away @ T[:3, 3]) <= 0.0:
            return
        step = self._board.square / PRINT_PX
        margin = MARGIN * self._board.square
        # Centre of the print's pixel (i, j) -> board -> camera -> pixel.
        to_board = np.array([[step, 0, step / 2 - margin], [0, step, step / 2 - margin], [0, 0, 1.0]])
        K = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1.0]])
        H = K @ np.stack([T[:3, 0], T[:3, 1], T[:3, 3]], 1) @ to_board
        high, wide = self._print.shape
        ends = H @ np.array([[0, wide, 0, wide], [0, 0, high, high], [1, 1, 1, 1]], float)
        if (ends[2] <= 0.0).any():
            return
        left, top = np.floor((ends[:2] / ends[2]).min(1)).astype(int) - 2
        right, bottom = np.ceil((ends[:2] / ends[2]).max(1)).astype(int) + 3
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, k.width), min(bottom, k.height)
        if right <= left or bottom <= top:
            return
        shape = (right - left, bottom - top)
        size = (shape[0] * FINER, shape[1] * FINER)
        finer = np.array([[FINER, 0, (0.5 - left) * FINER - 0.5], [0, FINER, (0.5 - top) * FINER - 0.5], [0, 0, 1.0]])
        ink, paper = (
            cv2.resize(cv2.warpPerspective(source, finer @ H, size), shape, interpolation=cv2.INTER_AREA)
            for source in (self._print, np.ones_like(self._print))
        )
        u, v = np.meshgrid((np.arange(left, right) - k.cx) / k.fx, (np.arange(top, bottom) - k.cy) / k.fy)
        plane = float(away @ T[:3, 3]) / (away[0] * u + away[1] * v + away[2])
        behind = depth[top:bottom, left:right]
        seen = np.asarray(paper) * ((behind <= 0.0) | (plane < behind + BEFORE))
        lit = 0.45 + 0.55 * abs(float(away @ T[:3, 3])) / float(np.linalg.norm(T[:3, 3]))
        part = grey[top:bottom, left:right]
        # `ink` is already weighted with the share of the pixel the board covers.
        part[:] = np.where(np.asarray(paper) > 0, part * (1 - seen) + lit * np.asarray(ink) * (seen > 0), part)

    def close(self) -> None:
        """Free the renderer. Idempotent."""
        self._renderer.close()


def _print(board: Board) -> F32:
    """Reflectivity of the print with its white margin."""
    edge = int(MARGIN * PRINT_PX)
    white = np.pad(board.picture(PRINT_PX).astype(np.float32) / np.float32(255.0), edge, constant_values=1.0)
    return np.asarray(BLACK + (WHITE - BLACK) * white, np.float32)


def _bent(lens: Lens) -> tuple[F32, F32]:
    """For each pixel of the distorted picture the place in the perfect one."""
    u, v = np.meshgrid(np.arange(lens.width, dtype=np.float32), np.arange(lens.height, dtype=np.float32))
    pixels = np.stack([u.ravel(), v.ravel()], 1)[:, None]
    straight = np.asarray(cv2.undistortPoints(pixels, lens.K, lens.coefficients, P=lens.K), np.float32)
    return straight[:, 0, 0].reshape(u.shape), straight[:, 0, 1].reshape(u.shape)


def held_poses(lens: Lens, board: Board, count: int, seed: int) -> list[F64]:
    """Poses (4, 4) in the camera's frame of a board held by hand into all parts of the picture, tilted."""
    random = np.random.default_rng([seed, 13])
    poses = []
    for n in range(count):
        z = lens.fx * board.size[0] / lens.width / random.uniform(0.3, 0.5)
        # A 3 x 3 grid of the picture in turns: people are asked to fill its corners.
        column, row = n % 3, (n // 3) % 3
        u = (0.5 + (column - 1) * 0.3 + random.uniform(-0.05, 0.05)) * lens.width
        v = (0.5 + (row - 1) * 0.28 + random.uniform(-0.05, 0.05)) * lens.height
        about, tilt = random.uniform(0.0, 2.0 * math.pi), math.radians(random.uniform(15.0, 40.0))
        turn = Rotation.from_rotvec(tilt * np.array([math.cos(about), math.sin(about), 0.0]))
        turn = turn * Rotation.from_euler("z", random.uniform(-0.4, 0.4))
        T = np.eye(4)
        T[:3, :3] = turn.as_matrix()
        centre = np.array([(u - lens.cx) / lens.fx * z, (v - lens.cy) / lens.fy * z, z])
        T[:3, 3] = centre - T[:3, :3] @ np.array([board.size[0] / 2, board.size[1] / 2, 0.0])
        poses.append(T)
    return poses
