"""Clusters of seen points, followed from frame to frame so that people have a number and a velocity to show."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from perception import voxels
from perception.contract import Track

CELL = 0.2
"""Points in touching cells of this size belong to one cluster, m."""
LEAST_POINTS = 8
MOST_CELLS = 1_000_000
FARTHEST_STEP = 0.5
"""A cluster whose centroid is farther away than this is another person, m."""
FASTEST = 3.0
"""Displayed speeds are bounded to this, m/s; no protective decision uses them."""


def clusters(points: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Split (n, 3) points into groups that do not touch; over a space too wide for that they stay one group."""
    if len(points) < LEAST_POINTS:
        return []
    lower, upper = voxels.bounds(points)
    extent = (upper - lower).tolist()
    if not all(map(math.isfinite, extent)):
        return []
    shape = [int(e / CELL) + 1 for e in extent]
    if math.prod(shape) > MOST_CELLS:
        return [points]
    grid, label = np.empty(shape, np.int32), np.empty(len(points), np.int32)
    count = voxels.label_clusters(points, lower, CELL, grid, np.empty(grid.size, np.int32), label)
    groups = [points[label == i] for i in range(count)] if count > 1 else [points]
    return [g for g in groups if len(g) >= LEAST_POINTS]


class Tracker:
    """Nearest-centroid tracking for display and ergonomics; losing a track loosens nothing."""

    def __init__(self) -> None:
        self._tracks: list[tuple[Track, float]] = []
        self._next = 1

    def update(self, points: NDArray[np.float32], t: float) -> list[Track]:
        """Return the tracks at time `t`, s, for (n, 3) points."""
        free = list(self._tracks)
        updated: list[tuple[Track, float]] = []
        for group in sorted(clusters(points), key=len, reverse=True):
            centre = voxels.centroid(group)
            match = min(free, key=lambda pair: float(np.linalg.norm(centre - pair[0].position)), default=None)
            if match is not None and np.linalg.norm(centre - match[0].position) <= FARTHEST_STEP:
                free.remove(match)
                track = self._follow(match[0], match[1], centre, t, len(group))
            else:
                track = Track(self._next, _triple(centre), (0.0, 0.0, 0.0), len(group))
                self._next += 1
            updated.append((track, t))
        # A person hidden for a moment keeps the number for half a second.
        self._tracks = updated + [(track, seen) for track, seen in free if t - seen < 0.5]
        return [track for track, _ in updated]

    def _follow(self, old: Track, seen: float, centre: NDArray[np.float64], t: float, points: int) -> Track:
        dt = max(t - seen, 1e-3)
        measured = np.clip((centre - np.asarray(old.position)) / dt, -FASTEST, FASTEST)
        velocity = 0.7 * np.asarray(old.velocity) + 0.3 * measured
        return Track(old.id, _triple(centre), _triple(velocity), points)


def _triple(v: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(v[0]), float(v[1]), float(v[2])
