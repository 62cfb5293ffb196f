"""The monitor's loops over occupied balls, link capsules and stations of the path, compiled by numba. Metres."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]


@njit(cache=True)
def distance_to_segment(x: float, y: float, z: float, a: F64, b: F64) -> float:
    """Return the distance of a point to the segment a-b."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    wx, wy, wz = x - a[0], y - a[1], z - a[2]
    length2 = ux * ux + uy * uy + uz * uz
    s = 0.0
    if length2 > 0.0:
        s = min(1.0, max(0.0, (wx * ux + wy * uy + wz * uz) / length2))
    dx, dy, dz = wx - s * ux, wy - s * uy, wz - s * uz
    return float(np.sqrt(dx * dx + dy * dy + dz * dz))


@njit(cache=True)
def station_slack(a: F64, b: F64, slack: F64, moved: F64) -> None:
    """Bound how far a link gets between stations.

    a, b: (stations, links, 3) capsule ends. slack (stations, links): half the longer of the ways to the neighbouring
    stations, as the axis of a rigid link never moves farther than its farther end; 3 % and 0.5 mm cover the bend of
    the path. moved (stations, links): way from station 0 to each station.
    """
    stations, links = a.shape[0], a.shape[1]
    for i in range(links):
        moved[0, i] = 0.0
        for k in range(stations):
            slack[k, i] = 0.0005
        for k in range(1, stations):
            da = 0.0
            db = 0.0
            for c in range(3):
                da += (a[k, i, c] - a[k - 1, i, c]) ** 2
                db += (b[k, i, c] - b[k - 1, i, c]) ** 2
            step = float(np.sqrt(max(da, db)))
            moved[k, i] = moved[k - 1, i] + step
            half = 0.5 * 1.03 * step + 0.0005
            slack[k, i] = max(slack[k, i], half)
            slack[k - 1, i] = max(slack[k - 1, i], half)


@njit(cache=True)
def clearances(
    balls: F32,
    a: F64,
    b: F64,
    r: F64,
    slack: F64,
    moved: F64,
    reach: float,
    start: F64,
    clear: F64,
    binding: NDArray[np.int64],
    now: F64,
) -> bool:
    """Find the smallest clearance of the arm at every station of its path.

    balls: (n, 4) centre and radius. a, b: (stations, links, 3); r: (links,). slack, moved: see `station_slack`.
    A pair farther apart at station 0 than `reach` (no permitted rate needs more) is passed over.
    clear (stations,): smallest of distance - radii - slack over all pairs; inf if none is near.
    binding (stations, 2): ball and link of that pair, -1 if none. start: (links,) scratch.
    now (3,): smallest clearance at station 0 without slack, its ball, its link.
    Returns False if any number is not finite: the caller must then stop the arm.
    """
    stations, links = a.shape[0], a.shape[1]
    for k in range(stations):
        clear[k] = np.inf
        binding[k, 0] = -1
        binding[k, 1] = -1
    now[0] = np.inf
    now[1] = -1.0
    now[2] = -1.0
    for n in range(balls.shape[0]):
        x, y, z, radius = float(balls[n, 0]), float(balls[n, 1]), float(balls[n, 2]), float(balls[n, 3])
        if not np.isfinite(x + y + z + radius) or radius < 0.0:
            return False
        for i in range(links):
            d0 = distance_to_segment(x, y, z, a[0, i], b[0, i]) - r[i] - radius
            if not np.isfinite(d0):
                return False
            if d0 < now[0]:
                now[0] = d0
                now[1] = n
                now[2] = i
            if d0 - moved[stations - 1, i] > reach:
                continue
            for k in range(stations):
                # No nearer than this: the link has moved at most moved[k] since station 0.
                if d0 - moved[k, i] - slack[k, i] >= clear[k]:
                    continue
                d = d0 if k == 0 else distance_to_segment(x, y, z, a[k, i], b[k, i]) - r[i] - radius
                d -= slack[k, i]
                if d < clear[k]:
                    clear[k] = d
                    binding[k, 0] = n
                    binding[k, 1] = i
    return True
