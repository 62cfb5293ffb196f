"""Limits the node enforces itself: keep-out regions and the manual-mode speed at TCP and elbow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots import kinematics
from robots.config import KeepOutBox, KeepOutPlane
from robots.contract import PartGeometry
from robots.kinematics import Chain
from robots.model import RobotModel
from robots.motion import Motion
from robots.urdf import transform

Array = NDArray[np.float64]

MANUAL_LOOKAHEAD = 0.3
"""Nominal s ahead over which the manual-mode limit looks, so that the rate has fallen before a fast stretch."""


@njit(cache=True)
def box_distance(a: Array, b: Array, half: Array) -> float:
    """Distance of the segment a-b (each (3,)) to the origin-centred box with half edges `half` (3,), m; 0: touching.

    The distance of a point to a convex body is convex along a line, so a golden-section search finds the minimum.
    """
    ratio = 0.5 * (math.sqrt(5.0) - 1.0)
    low, high = 0.0, 1.0
    best = math.inf
    for _ in range(40):
        t1, t2 = high - ratio * (high - low), low + ratio * (high - low)
        d1, d2 = 0.0, 0.0
        for i in range(3):
            x1 = abs(a[i] + t1 * (b[i] - a[i])) - half[i]
            x2 = abs(a[i] + t2 * (b[i] - a[i])) - half[i]
            d1 += max(x1, 0.0) ** 2
            d2 += max(x2, 0.0) ** 2
        best = min(best, d1, d2)
        if d1 <= d2:
            high = t2
        else:
            low = t1
    return math.sqrt(best)


@njit(cache=True)
def point_speeds(chain: Chain, Q: Array, h: float, frame: int) -> Array:
    """Speed (K,) of TCP or elbow (origin of `frame`), whichever is faster, along samples Q (K, n), m/s.

    Taken as the larger of the differences to both neighbours.
    """
    K, n = Q.shape
    R, p = np.empty((n + 1, 3, 3)), np.empty((n + 1, 3))
    T = np.empty((4, 4))
    points = np.empty((K, 2, 3))
    for k in range(K):
        kinematics.link_frames(chain, Q[k], R, p)
        kinematics.tcp_pose(chain, Q[k], T)
        for i in range(3):
            points[k, 0, i] = T[i, 3]
            points[k, 1, i] = p[frame, i]
    speed = np.zeros(K)
    for k in range(K - 1):
        for m in range(2):
            total = 0.0
            for i in range(3):
                total += (points[k + 1, m, i] - points[k, m, i]) ** 2
            v = math.sqrt(total) / h
            speed[k], speed[k + 1] = max(speed[k], v), max(speed[k + 1], v)
    return speed


@dataclass(frozen=True, eq=False)
class KeepOutRegions:
    """The configured regions, tested against the capsules of the moving arm."""

    planes: tuple[tuple[str, Array, float], ...]
    boxes: tuple[tuple[str, Array, Array], ...]
    """Name, base-to-box transform (4, 4), half edges (3,)."""

    @staticmethod
    def from_config(regions: Sequence[KeepOutPlane | KeepOutBox]) -> KeepOutRegions:
        planes: list[tuple[str, Array, float]] = []
        boxes: list[tuple[str, Array, Array]] = []
        for region in regions:
            if isinstance(region, KeepOutPlane):
                normal = np.array(region.normal, dtype=np.float64)
                planes.append((region.name, normal / np.linalg.norm(normal), float(region.offset)))
            else:
                T: Array = np.linalg.inv(transform(region.pose.position, region.pose.rpy)).astype(np.float64)
                boxes.append((region.name, T, np.array(region.size, dtype=np.float64) / 2))
        return KeepOutRegions(tuple(planes), tuple(boxes))

    def __bool__(self) -> bool:
        return bool(self.planes or self.boxes)

    def violation(self, model: RobotModel, Q: Array, held: PartGeometry | None) -> str:
        """Name what would enter which region at which of the configurations Q (K, dof); empty if nothing does.

        The base, which does not move, is not tested.
        """
        if not self:
            return ""
        chain, names = model.chain_with(held), model.capsule_names(held)
        a, b, radius = model.capsule_paths(Q, held)
        moving = np.nonzero(chain.owner > 0)[0]
        for name, normal, offset in self.planes:
            depth = np.minimum(a[:, moving] @ normal, b[:, moving] @ normal) - radius[moving] - offset
            if depth.min() < 0:
                row, column = np.unravel_index(int(depth.argmin()), depth.shape)
                return (
                    f"{names[moving[column]]} would cross keep-out plane {name} by {-depth[row, column] * 1e3:.0f} mm"
                )
        for name, T, half in self.boxes:
            left, right = a @ T[:3, :3].T + T[:3, 3], b @ T[:3, :3].T + T[:3, 3]
            near = _rows_in_box(np.ascontiguousarray(left), np.ascontiguousarray(right), radius, moving, half)
            if near >= 0:
                return f"{names[near]} would enter keep-out box {name}"
        return ""


@njit(cache=True)
def _rows_in_box(a: Array, b: Array, radius: Array, moving: NDArray[np.int64], half: Array) -> int:
    for k in range(a.shape[0]):
        for m in moving:
            if box_distance(a[k, m], b[k, m], half) <= radius[m]:
                return int(m)
    return -1


def manual_rates(model: RobotModel, motion: Motion, speed: float) -> Array:
    """Highest rate (K,) at each sample at which TCP and elbow stay below `speed` m/s there and a little ahead."""
    fast = point_speeds(model.chain, motion.path, motion.step, model.elbow_frame)
    count = math.ceil(MANUAL_LOOKAHEAD / motion.step)
    padded = np.concatenate([fast, np.zeros(count)])
    ahead = np.lib.stride_tricks.sliding_window_view(padded, count + 1).max(axis=1)
    # 2 % for what the spline does between the samples
    return np.minimum(1.0, speed / np.maximum(1.02 * ahead, 1e-9))
