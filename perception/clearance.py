"""Where a person could be without being seen: a voxel map that starts full and is swept clean by looking.

possible(t + dt) = (grow(possible(t), v dt) minus seen free) plus seen occupied plus entries.

Growth is a distance, not a step a frame: `travel` adds up v dt, and each time it reaches a voxel's edge the map is
dilated once and `travel` falls by that edge. Between two dilations every possible voxel stands for itself and for all
that can be reached from it within `travel`. So the promise kept after each call is: whoever was not seen is, with
every part of the body, within `travel` of a possible voxel. A voxel seen free may therefore only be cleared if nobody
can have left it for a neighbour that is not possible itself (`voxelbits.sweep`). Which neighbours those can be, each
camera's exact set tells: its last set grown by the travel since, rounded up, less what is seen free. Such a set grows
too fast where nobody looks, but it leaves no doubt of less than a voxel behind; people are in both.
docs/perception/unknown-space.md argues it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception import voxelbits
from perception.background import Background, box_transforms
from perception.config import PerceptionConfig
from perception.contract import CameraInfo
from robots.workcell import Workcell

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
MOST_LAG = 3
"""A picture older than the map by more than this many voxels of travel clears nothing."""
MOST_STEPS = 8
"""The exact set of a camera that has been silent for more voxels of travel is worth nothing."""
SLAB = 20_000
"""Voxels projected at a time: a fine map of a large cell would otherwise need a gigabyte."""


class VoxelView(NamedTuple):
    """How one camera sees the voxels (flat index)."""

    number: int
    """Of the camera in the map, from 0."""
    rect: NDArray[np.int16]
    """(n, 4) bounds of the projection in 4x4-pooled pixels: v0, v1, u0, u1, inclusive."""
    far_mm: NDArray[np.uint16]
    window: NDArray[np.uint16]
    """Scratch for the least free depth of 4x4 of these."""
    visible: NDArray[np.uint64]
    """Bits (see `perception.voxelbits`) of voxels wholly inside the picture and not behind a static surface."""


@dataclasses.dataclass
class _Exact:
    """Where people could be at the time of a camera's last picture, with nothing added for travel (bits)."""

    bits: NDArray[np.uint64]
    time: float


class ClearanceMap:
    """The map of one cell. Not thread safe; `advance`, `clear` and `occupy` are called in time order."""

    def __init__(self, workcell: Workcell, config: PerceptionConfig, guarded: bool = True) -> None:
        """guarded: a voxel seen free stays while somebody may have left it for a neighbour since the last dilation."""
        self._guarded = guarded
        self._config = config
        self.size = config.voxel
        self.lower = np.asarray(workcell.person_volume[0], float)
        extent = np.asarray(workcell.person_volume[1], float) - self.lower
        if not np.all(extent > self.size):
            raise ValueError("person_volume: the upper corner must lie beyond the lower one by at least one voxel")
        shape = tuple(math.ceil(e / self.size - 1e-9) for e in extent)
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        solid = self._solid(workcell)
        self.passable = voxelbits.pack(1 - solid)
        self._entry = voxelbits.pack(self._entries(workcell, solid))
        self._possible = self.passable.copy()
        self._anchored, self._thin, self._free, self._near, self._query, self._a, self._b = (
            np.zeros_like(self._possible) for _ in range(7)
        )
        most = 32 * self._possible.size
        self._first = np.zeros(self._possible.size + 1, np.int32)
        self._runs = np.zeros(most, np.uint64)
        self._parent, self._room = np.zeros(most, np.int32), np.zeros(most, np.int32)
        self._exact: list[_Exact] = []
        self._time = -math.inf
        self.travel = 0.0

    @property
    def possible(self) -> NDArray[np.uint8]:
        """A copy of the map, shape `shape`, 1 where a person could be."""
        return voxelbits.unpack(self._possible, self.shape[2])

    @possible.setter
    def possible(self, voxels: NDArray[np.uint8]) -> None:
        self._possible[:] = voxelbits.pack(voxels) & self.passable
        for exact in self._exact:
            exact.time = -math.inf

    @property
    def solid(self) -> NDArray[np.uint8]:
        """A copy of the voxels, shape `shape`, that are wholly inside a fixture or the floor, as 1."""
        return np.asarray(1 - voxelbits.unpack(self.passable, self.shape[2]), np.uint8)

    def _centres(self) -> NDArray[np.float64]:
        index = np.indices(self.shape).reshape(3, -1).T
        return np.asarray(self.lower + (index + 0.5) * self.size)

    def _solid(self, workcell: Workcell) -> NDArray[np.uint8]:
        """Voxels with all of their volume inside one fixture or below the floor: in any other a limb finds room."""
        centres = self._centres()
        solid = centres[:, 2] + 0.5 * self.size <= workcell.floor + 1e-9
        boxes = [f for f in workcell.fixtures if f.solid]
        T, half = box_transforms(boxes)
        for i in range(len(boxes)):
            local = centres @ T[i, :3, :3].T + T[i, :3, 3]
            corner = 0.5 * self.size * np.abs(T[i, :3, :3]).sum(1)
            solid |= np.all(np.abs(local) + corner <= half[i] + 1e-9, axis=1)
        return solid.reshape(self.shape).astype(np.uint8)

    def _entries(self, workcell: Workcell, solid: NDArray[np.uint8]) -> NDArray[np.uint8]:
        entry = np.zeros(self.shape, np.uint8)
        sides = {"x_min": (0, 0), "x_max": (0, -1), "y_min": (1, 0), "y_max": (1, -1)}
        for name in workcell.entries:
            axis, end = sides[name]
            index: list[slice | int] = [slice(None)] * 3
            index[axis] = end
            entry[tuple(index)] = 1
        entry[solid == 1] = 0
        return entry

    def view(self, camera: CameraInfo, background: Background) -> VoxelView:
        """Project every voxel into a camera, once."""
        centres = self._centres()
        parts = [self._project(centres[n : n + SLAB], camera, background) for n in range(0, len(centres), SLAB)]
        rect, far, visible = (np.concatenate([p[k] for p in parts]) for k in range(3))
        k = camera.intrinsics
        window = np.zeros(((k.height + 3) // 4, (k.width + 3) // 4), np.uint16)
        return VoxelView(self.add_camera(), rect, far, window, voxelbits.pack(visible.reshape(self.shape)))

    def add_camera(self) -> int:
        """Make room for one more camera; return its number."""
        self._exact.append(_Exact(self.passable.copy(), -math.inf))
        return len(self._exact) - 1

    def _project(
        self, centres: NDArray[np.float64], camera: CameraInfo, background: Background
    ) -> tuple[NDArray[np.int16], NDArray[np.uint16], NDArray[np.bool_]]:
        """Bounds in pooled pixels (n, 4), depth of the far side in mm (n,), visibility (n,) of (n, 3) voxels."""
        T = np.linalg.inv(np.asarray(camera.T_base_camera, float).reshape(4, 4))
        k = camera.intrinsics
        corners = np.stack(np.meshgrid(*([(-0.5, 0.5)] * 3), indexing="ij"), -1).reshape(8, 3) * self.size
        local = (centres[:, None, :] + corners) @ T[:3, :3].T + T[:3, 3]
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
        rect = np.where(visible[:, None], np.stack([v0, v1, u0, u1], 1), 0).astype(np.int64) >> 2
        return rect.astype(np.int16), np.where(visible, np.ceil(far * 1000.0), 0).astype(np.uint16), visible

    def confirm_clear(self) -> None:
        """A person vouches that nobody is in the cell: only the entries stay possible."""
        self._possible[:] = self._entry
        for exact in self._exact:
            exact.bits[:], exact.time = self._entry, self._time

    def advance(self, now: float) -> None:
        """Grow the map to `now`, s. A step back in time is an error; a first call only sets the clock."""
        if not math.isfinite(now) or now < self._time - 1e-9:
            raise ValueError(f"clearance map cannot go from {self._time} s to {now} s")
        if math.isfinite(self._time):
            self.travel += self._config.growth_speed * max(0.0, now - self._time)
        self._time = max(now, self._time)
        steps = 0
        while self.travel >= self.size:
            self.travel -= self.size
            if steps < sum(self.shape):
                self._grow(self._possible, 1, self._possible)
                self._possible &= self.passable
            steps += 1
        self._possible |= self._entry

    def _grow(self, bits: NDArray[np.uint64], steps: int, out: NDArray[np.uint64]) -> None:
        """out: `bits` dilated `steps` times; may be `bits` itself."""
        if out is not bits:
            out[:] = bits
        for _ in range(steps):
            voxelbits.dilate(out, self._a, self._b)
            out[:] = self._b

    def _voxels_of(self, lag: float) -> int:
        """Voxels a person passes in `lag` s, rounded up; very many if that is no number of seconds."""
        if not 0.0 <= lag < 10.0:
            return 10**9
        return math.ceil(self._config.growth_speed * lag / self.size - 1e-9)

    def clear(self, seen: Sequence[tuple[VoxelView, NDArray[np.uint16]]], lag: float = 0.0) -> None:
        """Clear what cameras saw free at one moment, `lag` s before the map's time.

        seen: view and free depth (mm, of 4x4 pixels) of each. What was seen free some time ago is still free only
        where nobody has come in from the sides since.
        """
        steps = self._voxels_of(lag)
        if steps > MOST_LAG:
            return
        self._grow(self._possible, steps + 1, self._near)
        self._free[:] = 0
        for view, pooled in seen:
            np.bitwise_and(self._near, view.visible, out=self._query)
            self._query &= ~self._free
            voxelbits.least_of_window(pooled, np.empty_like(pooled[0]), view.window)
            voxelbits.seen_free(self._query, pooled, view.window, view.rect, view.far_mm, self.shape[2], self._a)
            self._free |= self._a
        self.sweep([view.number for view, _ in seen], self._free, steps)

    def sweep(self, cameras: Sequence[int], free: NDArray[np.uint64], steps: int = 0) -> None:
        """Clear the voxels (bits) that `cameras` together saw free `steps` voxels of travel before the map's time."""
        if steps:
            # People may have come in through an entry since, from where no map is.
            np.bitwise_and(self.passable, ~free | self._entry, out=self._query)
            self._grow(self._query, steps, self._query)
            free = ~self._query & self.passable
        if not self._guarded:
            self._possible &= ~free | self._entry
            return
        self._grow(self._possible, 1, self._near)
        left = self._near & self.passable
        for number, exact in enumerate(self._exact):
            k = self._voxels_of(self._time - exact.time)
            if k <= MOST_STEPS:
                self._grow(exact.bits, k, self._query)
                self._query |= self._entry
            else:
                self._query[:] = ALL
            self._query &= self._near
            self._query &= self.passable
            if number in cameras:
                self._query &= ~free
                self._query |= self._entry
                exact.bits[:] = self._query
                exact.time = self._time
            left &= self._query
        voxelbits.sweep(self._possible, self.passable & ~left, self.passable, self._query, self._a, self._b)
        self._possible |= self._entry

    def occupy(self, cloud: NDArray[np.float32], cell: float = 0.0, lag: float = 0.0) -> None:
        """Mark what cells of edge `cell` round points (n, 3), seen `lag` s before the map's time, can have reached.

        People spread from there, and until `release` a pocket that holds a mark is no pocket that can be dropped.
        """
        self._query[:] = 0
        voxelbits.occupy(cloud, 0.5 * cell, self.lower, self.size, self.shape[2], self._query)
        self._grow(self._query, min(self._voxels_of(lag), sum(self.shape)), self._query)
        self._query &= self.passable
        self._possible |= self._query
        self._anchored |= self._query
        for exact in self._exact:
            exact.bits |= self._query

    def release(self) -> None:
        """Forget where people were seen; the map itself keeps them."""
        self._anchored[:] = self._entry

    def drop_pockets(self, a: NDArray[np.float64], b: NDArray[np.float64], r: NDArray[np.float64]) -> int:
        """Clear closed pockets too small to hold a person; return the voxels cleared.

        a, b, r: link capsules; the layer round the arm holds no torso and does not count as room.
        """
        least = int(self._config.least_person_volume / self.size**3)
        self._thin[:] = 0
        voxelbits.near_capsules(
            self._possible, self.lower, self.size, self.shape[2], a, b, r, self._config.arm_layer, self._thin
        )
        return int(
            voxelbits.drop_small_components(
                self._possible, self._anchored, self._thin, least, self._first, self._runs, self._parent, self._room
            )
        )

    def exclude_arm(self, a: NDArray[np.float64], b: NDArray[np.float64], r: NDArray[np.float64]) -> None:
        """Clear voxels whose centre is inside the arm as it is at the map's time."""
        self._thin[:] = 0
        voxelbits.near_capsules(self._possible, self.lower, self.size, self.shape[2], a, b, r, 0.0, self._thin)
        self._thin &= ~self._entry
        self._possible &= ~self._thin
        for exact in self._exact:
            # Where the arm is now, a person may have been when the other camera looked.
            if exact.time == self._time:
                exact.bits &= ~self._thin

    def balls(self, box: tuple[NDArray[np.float64], NDArray[np.float64]], out: NDArray[np.float32]) -> int:
        """Write centres of possible voxels that matter to an arm within `box`; return their number (may overflow)."""
        return int(
            voxelbits.frontier(
                self._possible, self.lower, self.size, self.shape[2], box[0], box[1], self._config.interest,
                2.0 * self.size, out,
            )
        )  # fmt: skip

    @property
    def ball_radius(self) -> float:
        """Radius that makes a voxel's ball cover all travel since the last dilation, m."""
        return 0.5 * math.sqrt(3.0) * self.size + self.travel
