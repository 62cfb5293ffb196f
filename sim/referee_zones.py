"""Where contact is permitted, as the referee sees it: plain numbers from the configuration and a few lines of its own.

Within a contact zone a moving arm may touch the parts of the body that the zone names, no faster than is given for
them; where the part can be clamped against something fixed, no faster than is given for that. The speed is the arm's
own: what a person adds by running into it is not the arm's doing. Everywhere else any touch of a moving arm counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.config import ContactZone, FixedBox
from sim.referee_geometry import Cloud

F64 = NDArray[np.float64]
ROUNDING = 0.010
"""Speeds above the limit by no more than this do not count: the drives follow their setpoints only so well, m/s."""


class _Zone(NamedTuple):
    corners: F64
    """(n, 2), counterclockwise."""
    low: float
    high: float
    limits: dict[str, tuple[float, float, float]]


class ContactZones:
    """Zones of contact and what stands fixed in the cell."""

    def __init__(self, zones: Sequence[ContactZone], fixed: Sequence[FixedBox]) -> None:
        self._zones = []
        for zone in zones:
            corners = np.array(zone.corners, dtype=np.float64)
            area = sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True))
            limits = {name: (v.transient, v.clamped, v.width) for name, v in zone.limits.items()}
            self._zones.append(_Zone(corners if area > 0.0 else corners[::-1], zone.z[0], zone.z[1], limits))
        self._boxes = [(np.array(box.T_base_box).reshape(4, 4), np.array(box.size) / 2) for box in fixed]

    def __bool__(self) -> bool:
        return bool(self._zones)

    def holding(self, x: F64) -> NDArray[np.bool_]:
        """Which points (n, 3) lie in which zone (zones, n)."""
        found = np.zeros((len(self._zones), len(x)), dtype=bool)
        for row, zone in zip(found, self._zones, strict=True):
            row[:] = (x[:, 2] >= zone.low) & (x[:, 2] <= zone.high)
            for (ax, ay), (bx, by) in zip(zone.corners, np.roll(zone.corners, -1, axis=0), strict=True):
                row &= (bx - ax) * (x[:, 1] - ay) - (by - ay) * (x[:, 0] - ax) >= 0.0
        return found

    def limit_at(self, point: F64, segment: str) -> float | None:
        """Fastest permitted touch of a body segment at a point, m/s; 0: none is; None: it lies in no zone."""
        held = np.flatnonzero(self.holding(point[None])[:, 0])
        if not len(held):
            return None
        least = math.inf
        for k in held:
            limits = _of(self._zones[k].limits, segment)
            if limits is None:
                return 0.0
            transient, clamped, width = limits
            least = min(least, min(transient, clamped) if self._clearance(point) < width else transient)
        return least

    def _clearance(self, point: F64) -> float:
        """Distance of a point from the nearest fixed box, m."""
        nearest = math.inf
        for T, half in self._boxes:
            local = T[:3, :3].T @ (point - T[:3, 3])
            nearest = min(nearest, float(np.linalg.norm(np.maximum(np.abs(local) - half, 0.0))))
        return nearest

    def apart(self, arm: Cloud, speeds: F64, person: Cloud, segments: list[str]) -> list[tuple[Cloud, Cloud]]:
        """Split arm and person into the pairs that have to keep their distance.

        A group of the arm that is slow enough to touch a segment need not, as far as both lie in zones.
        """
        in_zone = self.holding(person.points)
        if not in_zone.any():
            return [(arm, person)]
        held = np.asarray(self.holding(arm.points).any(axis=0))
        inside = np.asarray(in_zone.any(axis=0))
        pairs = [(arm, _only(person, ~inside))]
        group = np.repeat(np.arange(len(arm.start) - 1), np.diff(arm.start))
        by_limit: dict[float, NDArray[np.bool_]] = {}
        for s, name in enumerate(segments):
            mine = np.zeros(len(person.points), dtype=bool)
            mine[person.start[s] : person.start[s + 1]] = True
            zones = np.flatnonzero((in_zone & mine).any(axis=1))
            if not len(zones):
                continue
            found = [_of(self._zones[k].limits, name) for k in zones]
            limit = min(0.0 if one is None else one[0] for one in found)
            by_limit[limit] = by_limit.get(limit, np.zeros_like(mine)) | (mine & inside)
        for limit, mine in by_limit.items():
            too_fast = speeds[np.minimum(group, len(speeds) - 1)] > (limit + ROUNDING if limit > 0.0 else 0.0)
            pairs.append((_only(arm, ~held | too_fast), _only(person, mine)))
        return pairs


def _of(
    limits: dict[str, tuple[float, float, float]], segment: str
) -> tuple[float, float, float] | None:  # fmt: skip
    """Limits of a segment such as `left_hand`: by its own name, or without the side."""
    return limits.get(segment, limits.get(segment.removeprefix("left_").removeprefix("right_")))


def _only(cloud: Cloud, chosen: NDArray[np.bool_]) -> Cloud:
    """Part of a cloud, with the same groups."""
    count = np.concatenate([[0], np.cumsum(chosen)])
    return Cloud(cloud.points[chosen], count[cloud.start].astype(np.int64), cloud.centre, cloud.radius)
