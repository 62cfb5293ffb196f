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
FASTEST = 3.0
"""Displayed speeds are bounded to this, m/s; no protective decision uses them."""

CENTROID_SD = 0.06
"""Of a cluster's centroid about a steady point of the body, one axis: parts of it come into view and leave, m."""
START_SPEED_SD = 1.0
"""Of a new track's velocity, one axis, m/s."""
JERKINESS = 4.0
"""Spectral density of the white acceleration of people, one axis, m^2/s^3: 2 m/s of uncertainty after a second."""
GATE = 4.0
"""A cluster farther than so many standard deviations from where a track is expected is somebody else."""
FORGET = 0.5
"""A person hidden for so long keeps the number, s."""
LONGEST_STEP = 10.0
"""Between two updates nothing is predicted any farther, s."""


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


class Motion:
    """Position and velocity of one cluster: a Kalman filter with constant velocity and white acceleration.

    The three axes share one covariance, as nothing distinguishes them. Not thread safe."""

    def __init__(self, number: int, position: NDArray[np.float64], t: float) -> None:
        self.number, self.t = number, t
        self.position = np.array(position, np.float64)
        self.velocity = np.zeros(3)
        self.covariance = (CENTROID_SD**2, 0.0, START_SPEED_SD**2)
        """Variance of position (m^2), covariance (m^2/s) and variance of velocity (m^2/s^2), each axis."""

    def predicted(self, t: float) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
        """Position and covariance at time `t`, s; a time before the last update counts as that."""
        dt = min(max(t - self.t, 0.0), LONGEST_STEP)
        p, c, v = self.covariance
        grown = (
            p + 2.0 * dt * c + dt * dt * v + JERKINESS * dt**3 / 3.0,
            c + dt * v + JERKINESS * dt * dt / 2.0,
            v + JERKINESS * dt,
        )
        return self.position + dt * self.velocity, grown

    def off(self, measured: NDArray[np.float64], t: float) -> float:
        """Distance of a centroid from where the track is expected, in standard deviations of one axis."""
        expected, (p, _, _) = self.predicted(t)
        return float(np.linalg.norm(measured - expected)) / math.sqrt(p + CENTROID_SD**2)

    def update(self, measured: NDArray[np.float64], t: float) -> None:
        """Take the centroid (3,), m, seen at `t`. The speed stays within `FASTEST`."""
        expected, (p, c, v) = self.predicted(t)
        total = p + CENTROID_SD**2
        residual = measured - expected
        self.position = expected + p / total * residual
        velocity = self.velocity + c / total * residual
        self.velocity = velocity * min(1.0, FASTEST / max(float(np.linalg.norm(velocity)), 1e-9))
        self.covariance = (p - p * p / total, c - p * c / total, v - c * c / total)
        self.t = max(self.t, t)


class Tracker:
    """Follows clusters for display and ergonomics; losing a track loosens nothing."""

    def __init__(self) -> None:
        self.motions: list[Motion] = []
        """Of everybody followed, those hidden for a moment included."""
        self._next = 1

    def update(self, points: NDArray[np.float32], t: float) -> list[Track]:
        """Return the tracks at time `t`, s, for (n, 3) points: one for each cluster, largest first."""
        groups = sorted(clusters(points), key=len, reverse=True)
        centres = [voxels.centroid(group) for group in groups]
        taken: dict[int, Motion] = {}
        free = list(self.motions)
        pairs = [(motion.off(c, t), n, k) for n, c in enumerate(centres) for k, motion in enumerate(free)]
        used: set[int] = set()
        # The best match first, so that two people side by side do not swap numbers.
        for off, n, k in sorted(pairs):
            if off <= GATE and n not in taken and k not in used:
                taken[n] = free[k]
                used.add(k)
                free[k].update(centres[n], t)
        for n, centre in enumerate(centres):
            if n not in taken:
                taken[n] = Motion(self._next, centre, t)
                self._next += 1
        hidden = [motion for k, motion in enumerate(free) if k not in used and t - motion.t < FORGET]
        self.motions = [taken[n] for n in range(len(groups))] + hidden
        return [
            Track(taken[n].number, _triple(centres[n]), _triple(taken[n].velocity), len(group))
            for n, group in enumerate(groups)
        ]


def _triple(v: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(v[0]), float(v[1]), float(v[2])
