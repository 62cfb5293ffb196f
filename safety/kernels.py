"""The monitor's loops over occupied balls, link capsules and stations of the path, compiled by numba. Metres."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from robots.rates import braking_on, window_minimum
from safety.separation import NEAR

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
ANCHOR = 0.15
"""Radius within which balls share one measurement against all links, m."""


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
    clear: F64,
    binding: NDArray[np.int64],
    now: F64,
) -> bool:
    """Find the smallest clearance of the arm at every station of its path.

    balls: (n, 4) centre and radius. a, b: (stations, links, 3); r: (links,). slack, moved: see `station_slack`.
    A pair farther apart at station 0 than `reach` (no permitted rate needs more) is passed over.
    clear (stations,): smallest of distance - radii - slack over all pairs; inf if none is near.
    binding (stations, 2): ball and link of that pair, -1 if none.
    now (3,): smallest clearance at station 0 without slack, its ball, its link.
    Returns False if any number is not finite: the caller must then stop the arm.
    """
    stations, links = a.shape[0], a.shape[1]
    worst = np.empty(links)
    anchored = np.empty(links)
    for i in range(links):
        worst[i] = moved[stations - 1, i] + slack[:, i].max()
    for k in range(stations):
        clear[k] = np.inf
        binding[k, 0] = -1
        binding[k, 1] = -1
    now[0] = np.inf
    now[1] = -1.0
    now[2] = -1.0
    ax, ay, az = np.inf, np.inf, np.inf
    largest = np.inf
    for n in range(balls.shape[0]):
        x, y, z, radius = float(balls[n, 0]), float(balls[n, 1]), float(balls[n, 2]), float(balls[n, 3])
        if not np.isfinite(x + y + z + radius) or radius < 0.0:
            return False
        # Neighbouring balls follow each other: within ANCHOR of the last one measured against all links, the triangle
        # inequality bounds every distance from below, and most balls need no more than that.
        step = np.sqrt((x - ax) ** 2 + (y - ay) ** 2 + (z - az) ** 2) if n > 0 else np.inf
        near = step <= ANCHOR
        if not near:
            ax, ay, az, step = x, y, z, 0.0
        for i in range(links):
            if near:
                bound = anchored[i] - step - radius
                if bound >= now[0] and (bound - worst[i] >= largest or bound - moved[stations - 1, i] > reach):
                    continue
            axis = distance_to_segment(x, y, z, a[0, i], b[0, i]) - r[i]
            if not near:
                anchored[i] = axis
            d0 = axis - radius
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
            largest = clear.max()
    return True


@njit(cache=True)
def stop_bound(
    rate: float,
    slope: float,
    limit: float,
    horizon: float,
    progress: float,
    slope_limits: F64,
    step: float,
    up: float,
    down: float,
    jerk: float,
    tick: float,
) -> tuple[float, float]:
    """Bound time from now and nominal progress until the arm stands, if it may move at `limit` for `horizon` s.

    Below the limit the rate is taken to jump to it at once and still to be rising when braking starts (which costs
    up / jerk to undo). Above the limit the arm brakes to it, holds it, and brakes again: at most the sweep of braking
    straight to 0 plus `limit` times (horizon + the time to take the fall up again), plus the landing on the limit,
    whose area is down^3 / (6 jerk^2). Both results grow with `limit`.
    """
    rising = (up if rate < limit else max(0.0, slope)) / jerk
    time, swept = 0.0, 0.0
    reach = progress
    for _ in range(20):
        least = min(down, window_minimum(slope_limits, step, progress, reach))
        flat = np.full(1, least)
        stop_time, stop_swept = braking_on(flat, 1.0, 0.0, limit, 0.0, least, jerk, tick)
        time = horizon + rising + stop_time
        swept = limit * (horizon + rising) + stop_swept
        if rate > limit:
            over_time, over_swept = braking_on(flat, 1.0, 0.0, rate, max(0.0, slope), least, jerk, tick)
            again = least / jerk
            time = max(time, over_time) + again
            swept = over_swept + limit * (horizon + again) + least**3 / (6.0 * jerk * jerk)
        if progress + swept <= reach + 1e-12:
            break
        reach = progress + swept
    return time, swept


@njit(cache=True)
def admissible(
    time: float, swept: float, clear: F64, spacing: float, human_age: float, slow: float, fast: float, fixed: float
) -> bool:
    """Is every station up to `swept` farther from everyone than people travel in `human_age + time`, plus `fixed`?"""
    last = int(np.ceil(swept / spacing - 1e-9))
    if last >= clear.shape[0]:
        return False
    least = np.inf
    for k in range(last + 1):
        least = min(least, clear[k])
    travel = human_age + time
    need = fast * travel + fixed
    if need > NEAR:
        need = max(NEAR, slow * travel + fixed)
    return least >= need
