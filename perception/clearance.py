"""Where a person could be without being seen: voxel sets that start full and are swept clean by looking.

possible(t + dt) = (grow(possible(t), v dt) minus seen free) plus seen occupied plus entries.

A set of voxels is exact at one moment only, the exposure of the picture that made it; a set kept up to date by whole
voxels either grows too fast or leaves a doubt of less than a voxel that a sweep would then have to reckon with. So the
map is a handful of *covers*, each a set of voxels with its own time, and each promises: whoever is in the volume at
that time and was not seen is inside it with every part of the body. At any other time people are inside the cover grown
by the travel between the two, rounded up - and so inside the intersection of all covers grown to that time. A picture
makes a new cover: this intersection less what it shows free, without any further reasoning about neighbours. Every
camera keeps the cover of its last picture, so rounding up costs at most a voxel a picture; one more cover, which moves
on only when the travel is a whole number of voxels, sees to it that nothing grows faster than `growth_speed`.
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
from perception.view import Capsules
from robots.workcell import Workcell

Bits = NDArray[np.uint64]
MOST_STEPS = 8
"""A cover that is farther away in time than this many voxels of travel says nothing worth its growth."""
SLAB = 20_000
"""Voxels projected at a time: a fine map of a large cell would otherwise need a gigabyte."""


class VoxelView(NamedTuple):
    """How one camera sees the voxels (flat index)."""

    camera: str
    box: NDArray[np.uint16]
    """(n, 5) bounds of the projection in 4x4-pooled pixels, v0, v1, u0, u1, inclusive, and far side in mm."""
    group: NDArray[np.uint16]
    """(m, 6) the same of four voxels above each other, see `voxelbits.seen_free`."""
    least: NDArray[np.uint16]
    greatest: NDArray[np.uint16]
    """Scratch for the extremes of the free depth of 4x4 of these."""
    visible: Bits
    """Bits (see `perception.voxelbits`) of voxels wholly inside the picture and not behind a static surface."""


@dataclasses.dataclass
class _Cover:
    """At `time`, everybody who was not seen is inside `bits`."""

    bits: Bits
    time: float
    cameras: frozenset[str]


class ClearanceMap:
    """The map of one cell. Not thread safe. Pictures may be given in any order of time, the usual one costs least."""

    def __init__(self, workcell: Workcell, config: PerceptionConfig) -> None:
        self._config = config
        self.size = config.voxel
        self.lower = np.asarray(workcell.person_volume[0], float)
        extent = np.asarray(workcell.person_volume[1], float) - self.lower
        if not np.all(extent > self.size):
            raise ValueError("person_volume: the upper corner must lie beyond the lower one by at least one voxel")
        shape = tuple(math.ceil(e / self.size - 1e-9) for e in extent)
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        solid, cramped = self._solid(workcell)
        self._cramped = voxelbits.pack(cramped)
        self.passable = voxelbits.pack(1 - solid)
        self._entry = voxelbits.pack(self._entries(workcell, solid))
        self._anchored, self._thin, self._query, self._free, self._scratch = (
            np.zeros_like(self.passable) for _ in range(5)
        )
        most = 32 * self.passable.size
        self._first = np.zeros(self.passable.size + 1, np.int32)
        self._runs = np.zeros(most, np.uint64)
        self._parent, self._room = np.zeros(most, np.int32), np.zeros(most, np.int32)
        self._steady = _Cover(self.passable.copy(), -math.inf, frozenset())
        self._covers: list[_Cover] = []
        self._seen: dict[str, tuple[Bits, float]] = {}

    @property
    def _newest(self) -> _Cover:
        return max(self._covers, key=lambda cover: cover.time, default=self._steady)

    @property
    def time(self) -> float:
        """Exposure of the newest picture, s, at which `possible` and `balls` hold; -inf before the first."""
        return self._newest.time

    @property
    def possible(self) -> NDArray[np.uint8]:
        """A copy of the map at `time`, shape `shape`, 1 where a person could be."""
        return voxelbits.unpack(self._newest.bits, self.shape[2])

    @possible.setter
    def possible(self, voxels: NDArray[np.uint8]) -> None:
        self._restart(voxelbits.pack(voxels) & self.passable)

    def _restart(self, bits: Bits) -> None:
        self._steady = _Cover(bits.copy(), self.time, frozenset())
        self._covers = []

    @property
    def solid(self) -> NDArray[np.uint8]:
        """A copy of the voxels, shape `shape`, that are wholly inside a fixture or the floor, as 1."""
        return np.asarray(1 - voxelbits.unpack(self.passable, self.shape[2]), np.uint8)

    def _centres(self) -> NDArray[np.float64]:
        index = np.indices(self.shape).reshape(3, -1).T
        return np.asarray(self.lower + (index + 0.5) * self.size)

    def _solid(self, workcell: Workcell) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Voxels with all of their volume inside one fixture or below the floor (in any other a limb finds room), and
        those whose centre is (they are no room for a torso)."""
        centres = self._centres()
        below = centres[:, 2] - workcell.floor
        whole, middle = below + 0.5 * self.size <= 1e-9, below < 0.0
        boxes = [f for f in workcell.fixtures if f.solid]
        T, half = box_transforms(boxes)
        for i in range(len(boxes)):
            local = np.abs(centres @ T[i, :3, :3].T + T[i, :3, 3])
            corner = 0.5 * self.size * np.abs(T[i, :3, :3]).sum(1)
            whole |= np.all(local + corner <= half[i] + 1e-9, axis=1)
            middle |= np.all(local <= half[i] + 1e-9, axis=1)
        return whole.reshape(self.shape).astype(np.uint8), middle.reshape(self.shape).astype(np.uint8)

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
        box, visible = (np.concatenate([p[k] for p in parts]) for k in range(2))
        k = camera.intrinsics
        least, greatest = (np.zeros(((k.height + 3) // 4, (k.width + 3) // 4), np.uint16) for _ in range(2))
        bits = voxelbits.pack(visible.reshape(self.shape))
        return VoxelView(camera.name, box, self._groups(box, visible), least, greatest, bits)

    def _groups(self, box: NDArray[np.uint16], visible: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """What is visible of four voxels above each other: (m, 6) bounds, greatest and least far side."""
        room = ((0, 0), (0, 0), (0, 64 * self.passable.shape[0] - self.shape[2]))
        seen = np.pad(visible.reshape(self.shape), room).reshape(-1, 4)

        def merged(column: int, least: bool) -> NDArray[np.uint16]:
            groups = np.pad(box[:, column].reshape(self.shape), room).reshape(-1, 4)
            best = np.where(seen, groups, 65535).min(1) if least else np.where(seen, groups, 0).max(1)
            return np.where(seen.any(1), best, 0).astype(np.uint16)

        columns = ((0, True), (1, False), (2, True), (3, False), (4, False), (4, True))
        return np.stack([merged(column, least) for column, least in columns], 1)

    def _project(
        self, centres: NDArray[np.float64], camera: CameraInfo, background: Background
    ) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Bounds in pooled pixels and depth of the far side in mm (n, 5), and visibility (n,), of (n, 3) voxels."""
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
        pooled = np.stack([v0, v1, u0, u1], 1) // 4
        box = np.concatenate([pooled, np.ceil(far * 1000.0)[:, None]], 1)
        return np.where(visible[:, None], box, 0).astype(np.uint16), visible

    def confirm_clear(self) -> None:
        """A person vouches that nobody is in the cell: only the entries stay possible."""
        self._restart(self._entry)

    def _voxels_of(self, lag: float) -> int:
        """Voxels a person passes in |lag| s, rounded up; very many if that is no small number of seconds."""
        if not -10.0 < lag < 10.0:
            return 10**9
        return math.ceil(self._config.growth_speed * abs(lag) / self.size - 1e-9)

    def _grow(self, bits: Bits, steps: int, out: Bits) -> None:
        """out: `bits` grown by `steps` voxels as far as people can pass; may be `bits` itself."""
        voxelbits.grow(bits, self.passable, min(steps, sum(self.shape)), self._scratch, out)

    def reachable(self, at: float) -> Bits:
        """Where people could be at `at`, s, by all that was seen before or after. Raises ValueError for nan or inf."""
        if not math.isfinite(at):
            raise ValueError(f"clearance map: {at} s is no time of a picture")
        out = self.passable.copy()
        for cover in (self._steady, *self._covers):
            # Before the first picture there is no time: what was said of the cell holds when it comes.
            steps = self._voxels_of(at - cover.time) if math.isfinite(cover.time) else 0
            # The steady cover is always asked: after a silence of all cameras there is no other.
            if steps <= MOST_STEPS or cover is self._steady:
                self._grow(cover.bits, steps, self._query)
                out &= self._query
        out |= self._entry
        return out

    def look(
        self, at: float, seen: Sequence[tuple[VoxelView, NDArray[np.uint16]]], arm: Capsules | None = None
    ) -> None:
        """Clear what cameras saw free at `at`, s. seen: view and free depth (mm, of 4x4 pixels) of each; arm: the link
        capsules then, for nobody is in a voxel whose centre is inside a link. Raises ValueError for nan or
        inf."""
        bits = self.reachable(at)
        for view, pooled in seen:
            np.bitwise_and(bits, view.visible, out=self._query)
            voxelbits.extremes_of_window(pooled, view.least, view.greatest)
            voxelbits.seen_free(
                self._query, pooled, view.least, view.greatest, view.box, view.group, self.shape[2], self._free
            )
            bits &= ~self._free
        if arm is not None:
            self._free[:] = 0
            voxelbits.near_capsules(bits, self.lower, self.size, self.shape[2], arm.a, arm.b, arm.r, 0.0, self._free)
            bits &= ~self._free
        self._keep(bits, at, [view.camera for view, _ in seen])

    def sweep(self, at: float, cameras: Sequence[str], free: Bits) -> None:
        """As `look`, with the voxels (bits) that `cameras` together saw free."""
        self._keep(self.reachable(at) & ~free, at, cameras)

    def _keep(self, bits: Bits, at: float, cameras: Sequence[str]) -> None:
        bits |= self._entry
        if self._steady.time == -math.inf:
            self._steady.time = at
        for old in self._covers:
            old.cameras -= set(cameras)
            if old.time > at:
                # A late picture also tells where nobody can be now who was in the volume then.
                steps = self._voxels_of(at - old.time)
                if steps <= MOST_STEPS:
                    self._grow(bits, steps, self._query)
                    old.bits &= self._query | self._entry
        latest = self.time
        # What another camera saw later must not be lost with this picture: the newest cover stays.
        self._covers = [old for old in self._covers if old.cameras or old.time == latest > at]
        self._covers.append(_Cover(bits, at, frozenset(cameras)))
        self._advance()

    def _advance(self) -> None:
        """Move the steady cover on by the whole voxels of travel up to the newest picture."""
        per_voxel = self.size / self._config.growth_speed
        steps = math.floor((self.time - self._steady.time) / per_voxel + 1e-9)
        if steps <= 0:
            return
        when = self._steady.time + steps * per_voxel
        self._grow(self._steady.bits, steps, self._steady.bits)
        self._steady.time = when
        self._steady.bits = self.reachable(when)

    def occupy(self, cloud: NDArray[np.float32], cell: float = 0.0, at: float = math.nan, camera: str = "") -> None:
        """Mark what cells of edge `cell` round points (n, 3) meet that `camera` saw at `at`, s (the map's time if nan).

        People spread from there, and a pocket that holds one of the last marks of any camera is none to be dropped.
        """
        at = self.time if math.isnan(at) else at
        marks = np.zeros_like(self.passable)
        voxelbits.occupy(cloud, 0.5 * cell, self.lower, self.size, self.shape[2], marks)
        marks &= self.passable
        self._seen[camera] = marks, at
        for cover in (self._steady, *self._covers):
            self._grow(marks, self._voxels_of(at - cover.time), self._query)
            cover.bits |= self._query

    def drop_pockets(self, arm: Capsules) -> int:
        """Clear closed pockets too small to hold a person from the newest cover; return the voxels cleared.

        The layer round the arm and voxels that are half wall hold no torso and do not count as room.
        """
        bits = self._newest.bits
        self._anchored[:] = self._entry
        for marks, at in self._seen.values():
            # Who was seen a voxel of travel ago is in a neighbour of the mark, which is the same pocket.
            self._grow(marks, max(0, min(self._voxels_of(self.time - at), MOST_STEPS) - 1), self._query)
            self._anchored |= self._query
            bits |= marks
        least = int(self._config.least_person_volume / self.size**3)
        self._thin[:] = self._cramped
        voxelbits.near_capsules(
            bits, self.lower, self.size, self.shape[2], arm.a, arm.b, arm.r, self._config.arm_layer, self._thin
        )
        return int(
            voxelbits.drop_small_components(
                bits, self._anchored, self._thin, least, self._first, self._runs, self._parent, self._room
            )
        )

    def balls(self, box: tuple[NDArray[np.float64], NDArray[np.float64]], out: NDArray[np.float32]) -> int:
        """Write centres of possible voxels that matter to an arm within `box`; return their number (may overflow)."""
        return int(
            voxelbits.frontier(
                self._newest.bits, self.lower, self.size, self.shape[2], box[0], box[1], self._config.interest,
                2.0 * self.size, out,
            )
        )  # fmt: skip

    @property
    def ball_radius(self) -> float:
        """Radius that makes a ball about its centre cover a voxel, m; it holds at `time`."""
        return 0.5 * math.sqrt(3.0) * self.size
