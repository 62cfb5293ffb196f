"""One camera's pictures turned into seen points and a free-depth picture."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception import crowded, freedepth, kernels, pixels
from perception.background import Background, build_background, leaving_depth
from perception.config import PerceptionConfig
from perception.contract import CameraInfo, ExpectedPart, Frame
from robots.workcell import Workcell

MAX_CELLS = 8192
"""More seen cells than this from one camera is an overflow: the camera cannot be relied on."""
CROWDED = 0.08
"""Share of foreground pixels from which on smooth surfaces are taken in blocks."""


class Capsules(NamedTuple):
    """Link capsules in the base frame."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    r: NDArray[np.float64]


class Seen(NamedTuple):
    """Result of one frame."""

    exposure: float
    points: NDArray[np.float32]
    """(n, 3) centres of occupied cells, base frame, m."""
    free: NDArray[np.uint16]
    """4x4-pooled free depth, mm."""
    overflow: bool


class CameraView:
    """The pipeline of one camera; owns its scratch arrays, so nothing is allocated per frame but the result."""

    def __init__(self, info: CameraInfo, workcell: Workcell, config: PerceptionConfig) -> None:
        self.info = info
        self._config = config
        self._T = np.asarray(info.T_base_camera, float).reshape(4, 4)
        self.background: Background = build_background(info, workcell, config)
        height, width = info.intrinsics.height, info.intrinsics.width
        self._depth = np.zeros((height, width), np.uint16)
        self._label = np.zeros((height, width), np.uint8)
        self._pixels = np.zeros(height * width, np.int32)
        self.label = np.zeros((height, width), np.uint8)
        self._bridged = np.zeros((height, width), np.uint16)
        blocks = ((height + 3) // 4, (width + 3) // 4)
        self._pooled, self._least, self._greatest = (np.zeros(blocks, np.uint16) for _ in range(3))
        self._holes = np.zeros(blocks, np.uint8)
        self._lower = np.asarray(workcell.person_volume[0], float)
        self._upper = np.asarray(workcell.person_volume[1], float)
        # What lies beyond the volume needs no closer look than a static surface.
        self._near = np.minimum(self.background.near, leaving_depth(info, self._lower, self._upper))
        extent = self._upper - self._lower
        cells = np.ceil(extent / config.cell_size).astype(int)
        self._shape = (int(cells[0]), int(cells[1]), int(cells[2]))
        if math.prod(self._shape) >= 2**31:
            raise ValueError("person_volume has too many cells: enlarge perception.cell_size")
        self._volume = np.stack([self._lower, self._upper])
        self._table = np.zeros(4 * MAX_CELLS, np.int32)
        self._cells = np.zeros((MAX_CELLS, 3), np.float32)

    def process(self, frame: Frame, arm: Capsules, parts: list[ExpectedPart]) -> Seen:
        """Classify a frame. `arm`: capsules at its exposure time; `parts`: where the recipe put parts."""
        c, b, noise = self._config, self.background, self.info.noise_coefficient
        part_T, part_half = part_boxes(tuple(parts))
        self._pooled.fill(freedepth.FREE_ALL)
        self._table.fill(-1)
        found = pixels.first_labels(frame.depth, self._near, self._label)
        crowd = found > CROWDED * frame.depth.size
        count = 0
        if crowd:
            count, left = self._surfaces(frame, arm, part_T, part_half)
        else:
            left = pixels.not_background(self._label, self._pixels)
        left = pixels.fill_holes(frame.depth, self._near, self._depth, self._label, self._pixels[:left])
        chosen = self._pixels[:left]
        kernels.classify(
            self._depth, chosen, b.ray_x, b.ray_y, self._T, arm.a, arm.b, arm.r,
            c.robot_margin, noise, c.sigmas, part_T, part_half, c.part_margin, self._lower, self._upper, self._label,
        )  # fmt: skip
        people = kernels.resolve_edges_and_support(
            self._depth, frame.depth, chosen, self._label, noise, c.sigmas, c.support, self.label
        )
        if people:
            count = int(
                kernels.collect_points(
                    self._depth, chosen, self.label, b.ray_x, b.ray_y, self._T,
                    self._lower, c.cell_size, self._shape, self._table, count, self._cells,
                )
            )  # fmt: skip
        if crowd:
            left = crowded.edges_in_surfaces(
                frame.depth, self._depth, self._holes, self._label, self._pixels, left, self.label
            )
        freedepth.free_depth(
            self._depth, self._pixels[:left], self.label, c.background_margin * 1000.0, noise, c.sigmas,
            self._smallest_mm(), self._bridged, self._pooled,
        )  # fmt: skip
        return Seen(frame.exposure, self._cells[: min(count, MAX_CELLS)].copy(), self._pooled, count > MAX_CELLS)

    def _smallest_mm(self) -> float:
        """The smallest object's size times the focal length: mm times pixels."""
        return self._config.smallest_object * 1000.0 * min(self.info.intrinsics.fx, self.info.intrinsics.fy)

    def _surfaces(
        self, frame: Frame, arm: Capsules, part_T: NDArray[np.float64], part_half: NDArray[np.float64]
    ) -> tuple[int, int]:
        """Take the picture's surfaces in blocks; return how many cells they are and how many pixels are left."""
        c, b, noise = self._config, self.background, self.info.noise_coefficient
        # What is left looks at its neighbours' depth, wherever they are.
        self._depth[:] = frame.depth
        crowded.find_surfaces(
            frame.depth, self._label, c.sigmas * noise * 0.001, self._least, self._greatest, self._holes
        )
        boxes = np.concatenate([
            _grown(kernels.capsule_bounds(arm.a, arm.b, arm.r), c.robot_margin)[None],
            _grown(_box_bounds(part_T, part_half), c.part_margin)[None],
        ])  # fmt: skip
        count, left = crowded.take_surfaces(
            self._least, self._greatest, self._holes, self._label, b.ray_x, b.ray_y, self._T, self._volume, boxes,
            c.cell_size, self._shape, c.background_margin * 1000.0, noise, c.sigmas, self._smallest_mm(),
            self._table, self._cells, self._pooled, self._pixels,
        )  # fmt: skip
        return int(count), int(left)


def _grown(bounds: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    return np.asarray(bounds + np.array([[-margin], [margin]]))


def _box_bounds(T: NDArray[np.float64], half: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) corners of a box round boxes (base to box (n, 4, 4), half edges (n, 3)); lower > upper if none."""
    rotation = T[:, :3, :3].transpose(0, 2, 1)
    centre = -np.einsum("nij,nj->ni", rotation, T[:, :3, 3])
    reach = np.einsum("nij,nj->ni", np.abs(rotation), half)
    none = np.full((1, 3), np.inf)
    return np.stack([np.concatenate([centre - reach, none]).min(0), np.concatenate([centre + reach, -none]).max(0)])


@functools.lru_cache(maxsize=16)
def part_boxes(parts: tuple[ExpectedPart, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n, 4, 4) transforms base -> part and (n, 3) half edge lengths. A part that is not finite is left out.

    The same parts come with every picture between two grips, so the answer is kept."""
    T = np.zeros((len(parts), 4, 4))
    half = np.zeros((len(parts), 3))
    n = 0
    for part in parts:
        x, y, z, qx, qy, qz, qw = part.T_base_part
        norm = float(np.sqrt(qx * qx + qy * qy + qz * qz + qw * qw))
        if not (np.isfinite(norm) and np.all(np.isfinite(part.T_base_part)) and norm > 0.5):
            continue
        qx, qy, qz, qw = qx / norm, qy / norm, qz / norm, qw / norm
        R = np.array(
            [
                [1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy - qz * qw), 2 * (qx * qz + qy * qw)],
                [2 * (qx * qy + qz * qw), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz - qx * qw)],
                [2 * (qx * qz - qy * qw), 2 * (qy * qz + qx * qw), 1 - 2 * (qx * qx + qy * qy)],
            ]
        )
        T[n, :3, :3] = R.T
        T[n, :3, 3] = -R.T @ np.array([x, y, z])
        T[n, 3, 3] = 1.0
        half[n] = np.asarray(part.size) / 2
        n += 1
    return T[:n], half[:n]
