"""Where a person could be without being seen: a voxel map that starts full and is swept clean by looking.

possible(t + dt) = (grow(possible(t), v dt) minus seen free) plus seen occupied plus entries.

Growth is a distance, not a step a frame: `travel` adds up v dt, every voxel stands for a ball of half its diagonal
plus `travel`, and each time `travel` reaches a voxel's edge the map is dilated once and `travel` falls by that edge. A
voxel cleared in between was seen free after the last dilation, so what enters it since then has moved at most
`travel` and lies in the ball of the neighbour it came from - unless that one has been cleared as well meanwhile, the
gap that docs/perception/unknown-space.md describes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception import voxels
from perception.background import Background, box_transforms
from perception.config import PerceptionConfig
from perception.contract import CameraInfo
from robots.workcell import Workcell


class VoxelView(NamedTuple):
    """How one camera sees the voxels (flat index)."""

    rect: NDArray[np.int16]
    """(n, 4) bounds of the projection in 4x4-pooled pixels: v0, v1, u0, u1, inclusive."""
    far_mm: NDArray[np.uint16]
    visible: NDArray[np.uint8]
    """1 if wholly inside the picture and not behind a static surface."""


class ClearanceMap:
    """The map of one cell. Not thread safe; `advance`, `clear` and `occupy` are called in time order."""

    def __init__(self, workcell: Workcell, config: PerceptionConfig) -> None:
        self._config = config
        self.size = config.voxel
        self.lower = np.asarray(workcell.person_volume[0], float)
        extent = np.asarray(workcell.person_volume[1], float) - self.lower
        if not np.all(extent > self.size):
            raise ValueError("person_volume: the upper corner must lie beyond the lower one by at least one voxel")
        shape = tuple(math.ceil(e / self.size - 1e-9) for e in extent)
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self.solid = self._solid(workcell)
        self._entry = self._entries(workcell)
        self.possible = np.where(self.solid == 1, 0, 1).astype(np.uint8)
        self._scratch = np.zeros(self.shape, np.uint8)
        columns = self.shape[0] * self.shape[1]
        most = columns * ((self.shape[2] + 1) // 2)
        self._first = np.zeros(columns + 1, np.int32)
        self._runs = np.zeros((most, 5), np.int32)
        self._parent = np.zeros(most, np.int32)
        self._thin = np.zeros(self.shape, np.uint8)
        self._anchored = np.zeros(self.shape, np.uint8)
        self._time = -math.inf
        self.travel = 0.0

    def _centres(self) -> NDArray[np.float64]:
        index = np.indices(self.shape).reshape(3, -1).T
        return np.asarray(self.lower + (index + 0.5) * self.size)

    def _solid(self, workcell: Workcell) -> NDArray[np.uint8]:
        centres = self._centres()
        solid = centres[:, 2] < workcell.floor
        boxes = [f for f in workcell.fixtures if f.solid]
        T, half = box_transforms(boxes)
        for i in range(len(boxes)):
            local = centres @ T[i, :3, :3].T + T[i, :3, 3]
            solid |= np.all(np.abs(local) <= half[i] + 1e-9, axis=1)
        return solid.reshape(self.shape).astype(np.uint8)

    def _entries(self, workcell: Workcell) -> NDArray[np.uint8]:
        entry = np.zeros(self.shape, np.uint8)
        sides = {"x_min": (0, 0), "x_max": (0, -1), "y_min": (1, 0), "y_max": (1, -1)}
        for name in workcell.entries:
            axis, end = sides[name]
            index: list[slice | int] = [slice(None)] * 3
            index[axis] = end
            entry[tuple(index)] = 1
        entry[self.solid == 1] = 0
        return entry

    def view(self, camera: CameraInfo, background: Background) -> VoxelView:
        """Project every voxel into a camera, once."""
        T = np.linalg.inv(np.asarray(camera.T_base_camera, float).reshape(4, 4))
        k = camera.intrinsics
        centres = self._centres()
        corners = np.stack(np.meshgrid(*([(-0.5, 0.5)] * 3), indexing="ij"), -1).reshape(8, 3) * self.size
        points = centres[:, None, :] + corners
        local = points @ T[:3, :3].T + T[:3, 3]
        z = local[..., 2]
        ahead = np.all(z > camera.depth_min, axis=1)
        safe = np.where(z > 0.05, z, 1.0)
        u = local[..., 0] / safe * k.fx + k.cx
        v = local[..., 1] / safe * k.fy + k.cy
        u0, u1 = np.floor(u.min(1)), np.ceil(u.max(1))
        v0, v1 = np.floor(v.min(1)), np.ceil(v.max(1))
        inside = ahead & (u0 >= 0) & (v0 >= 0) & (u1 < k.width) & (v1 < k.height)
        middle = centres @ T[:3, :3].T + T[:3, 3]
        zc = np.where(middle[:, 2] > 0.05, middle[:, 2], 1.0)
        uc = np.clip(np.rint(middle[:, 0] / zc * k.fx + k.cx), 0, k.width - 1).astype(int)
        vc = np.clip(np.rint(middle[:, 1] / zc * k.fy + k.cy), 0, k.height - 1).astype(int)
        open_to_view = background.depth[vc, uc] >= middle[:, 2] - 0.5 * self.size
        far = z.max(1)
        visible = inside & open_to_view & (far < camera.depth_max)
        rect = np.stack([v0, v1, u0, u1], 1)
        rect = np.where(visible[:, None], rect, 0).astype(np.int64) >> 2
        return VoxelView(
            rect.astype(np.int16),
            np.where(visible, np.ceil(far * 1000.0), 0).astype(np.uint16),
            visible.astype(np.uint8),
        )

    def confirm_clear(self) -> None:
        """A person vouches that nobody is in the cell: only the entries stay possible."""
        self.possible[:] = self._entry

    def advance(self, now: float) -> None:
        """Grow the map to `now`, s. A step back in time is an error; a first call only sets the clock."""
        if not math.isfinite(now) or now < self._time - 1e-9:
            raise ValueError(f"clearance map cannot go from {self._time} s to {now} s")
        if math.isfinite(self._time):
            self.travel += self._config.growth_speed * (now - self._time)
        self._time = now
        steps = 0
        while self.travel >= self.size:
            self.travel -= self.size
            if steps < max(self.shape):
                voxels.dilate(self.possible, self.solid, self._scratch)
            steps += 1
        np.maximum(self.possible, self._entry, out=self.possible)

    def clear(self, view: VoxelView, pooled: NDArray[np.uint16]) -> None:
        """Clear what one camera sees free right now (`pooled`: free depth in mm of 4x4 pixel blocks)."""
        voxels.clear_seen_free(self.possible.reshape(-1), pooled, view.rect, view.far_mm, view.visible)
        np.maximum(self.possible, self._entry, out=self.possible)

    def occupy(self, *clouds: NDArray[np.float32]) -> None:
        """Mark voxels with seen points, each (n, 3): people spread from there; pockets beside them stay possible."""
        self._anchored[:] = self._entry
        for cloud in clouds:
            voxels.occupy(cloud, self.lower, self.size, self.possible, self._anchored)

    def drop_pockets(self) -> int:
        """Clear closed pockets too small to hold a person; return the voxels cleared."""
        least = int(self._config.least_person_volume / self.size**3)
        return int(
            voxels.drop_small_components(
                self.possible, self._anchored, self._thin, least, self._first, self._runs, self._parent
            )
        )

    def exclude_arm(self, a: NDArray[np.float64], b: NDArray[np.float64], r: NDArray[np.float64]) -> None:
        """Clear voxels whose centre is inside the arm itself, and note the layer round it that holds no torso."""
        self._thin[:] = 0
        voxels.set_near_capsules(self._thin, 1, self.lower, self.size, a, b, r, self._config.arm_layer)
        voxels.set_near_capsules(self.possible, 0, self.lower, self.size, a, b, r, 0.0)

    def balls(self, box: tuple[NDArray[np.float64], NDArray[np.float64]], out: NDArray[np.float32]) -> int:
        """Write centres of possible voxels that matter to an arm within `box`; return their number (may overflow)."""
        return int(
            voxels.frontier(
                self.possible, self.lower, self.size, box[0], box[1], self._config.interest, 2.0 * self.size, out
            )
        )

    @property
    def ball_radius(self) -> float:
        """Radius that makes a voxel's ball cover all travel since the last dilation, m."""
        return 0.5 * math.sqrt(3.0) * self.size + self.travel
