"""What zones permit along a sweep, compiled: how fast the arm may be where it may touch somebody, and the ceiling that
reduced-speed zones put on the rate.

Both are largest rates that only fall as the sweep gets longer. A limit with its sweep is permitted if it is no larger;
so every lower limit, whose sweep is no longer, is permitted too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from safety.kernels import BLOCK, Sweep
from safety.stations import LEAD, SPACING

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
BEHIND = 0.05
"""The drives lag behind the progress by less than this, nominal s: speeds count from there on."""


class Terrain(NamedTuple):
    """What the zones say of one cycle's balls and of the motion under way."""

    zone: I8
    """(balls,): contact zone each ball lies in wholly, -1: in none. Empty if nobody is in any."""
    planes: F64
    """(zones, p, 4): outward unit normals and offsets of each contact zone."""
    caps: F64
    """(zones, links, K): largest rate at which nothing of a link is too fast to touch, in each piece of the motion."""
    top: F64
    """(K,): speed of the arm's fastest point at rate 1 in each piece, m/s."""
    slowest: float
    """Reduced speed in force, m/s; inf: none is."""
    begin: float
    """Nominal time at which the first piece begins, s."""
    piece: float
    """Nominal time of one piece, s."""
    final: bool
    """The last piece ends the motion, behind which the arm stands."""


class Permits(NamedTuple):
    """The same by station of the sweep."""

    zone: I8
    """As in `Terrain`."""
    rates: F64
    """(zones, links, stations): up to each station; 0: the link does not stay in zones of contact."""
    ceiling: F64
    """(stations,): rate at which no point of the arm is faster than the reduced speed; empty: none is in force."""


def open_terrain() -> Terrain:
    """Return the terrain of a cell without zones."""
    return Terrain(
        np.empty(0, np.int8), np.empty((0, 0, 4)), np.empty((0, 0, 0)), np.empty(0), math.inf, 0.0, 1.0, True
    )  # fmt: skip


@njit(cache=True)
def first_piece(terrain: Terrain, progress: float, pieces: int) -> int:
    """Return the piece of the motion in which the slowest drive may be at a progress."""
    return min(max(math.floor((progress - BEHIND - terrain.begin) / terrain.piece), 0), pieces - 1)


@njit(cache=True)
def last_piece(terrain: Terrain, progress: float, pieces: int) -> int:
    """Return the piece in which a progress lies; one that the table does not reach gives `pieces`."""
    last = pieces - 1 if terrain.final else pieces
    return min(max(math.floor((progress - terrain.begin) / terrain.piece), 0), last)


@njit(cache=True)
def _inside(planes: F64, e: F64, off: float) -> bool:
    """Whether a capsule with axis e (6,), its radius and the doubt about its place `off`, lies wholly in a zone."""
    for k in range(planes.shape[0]):
        x, y, z, limit = planes[k, 0], planes[k, 1], planes[k, 2], planes[k, 3]
        if not max(x * e[0] + y * e[1] + z * e[2], x * e[3] + y * e[4] + z * e[5]) + off <= limit:
            return False
    return True


@njit(cache=True)
def _ceiling(terrain: Terrain, progress: float, count: int, out: F64) -> None:
    pieces = terrain.top.shape[0]
    k = first_piece(terrain, progress, pieces)
    fastest = 0.0
    for station in range(count):
        end = last_piece(terrain, progress + max(0, station - LEAD) * SPACING, pieces)
        while k <= end:
            fastest = max(fastest, terrain.top[k]) if k < pieces else np.inf
            k += 1
        out[station] = terrain.slowest / fastest if fastest > 0.0 else np.inf


@njit(cache=True)
def _rates(terrain: Terrain, progress: float, link: int, sweep: Sweep, least: F64, out: F64) -> None:
    """Fill out (zones, links, stations) for one link. least: (zones,) scratch."""
    zones, pieces = terrain.planes.shape[0], terrain.caps.shape[2]
    first = first_piece(terrain, progress, pieces)
    off = sweep.radius[link] + sweep.bend[link]
    for z in range(zones):
        least[z] = np.inf
    k = first
    # Bits of the zones that have held the link wholly all the way.
    holding = (1 << zones) - 1
    for station in range(out.shape[2]):
        end = last_piece(terrain, progress + max(0, station - LEAD) * SPACING, pieces)
        while k <= end:
            for z in range(zones):
                least[z] = min(least[z], terrain.caps[z, link, k]) if k < pieces else 0.0
            k += 1
        for z in range(zones):
            if holding >> z & 1 and not _inside(terrain.planes[z], sweep.ends[station, link], off):
                holding &= ~(1 << z)
        for a in range(zones):
            best = 0.0
            for z in range(zones):
                if holding >> z & 1:
                    best = max(best, min(least[a], least[z]))
            out[a, link, station] = best


@njit(cache=True)
def permits_along(terrain: Terrain, progress: float, sweep: Sweep, count: int) -> Permits:
    """Return what the terrain permits along the first `count` stations of a sweep that starts at a progress.

    A link may touch balls of contact zone `a` up to a station if it lies wholly in one contact zone z all the way, at
    the rate that its speed permits for the parts of the body named for a and for z.
    """
    ceiling = np.empty(count if terrain.slowest < np.inf else 0)
    if ceiling.shape[0] > 0:
        _ceiling(terrain, progress, count, ceiling)
    if terrain.zone.shape[0] == 0:
        return Permits(terrain.zone, np.empty((0, 0, 0)), ceiling)
    zones, links = terrain.planes.shape[0], sweep.radius.shape[0]
    rates, least = np.empty((zones, links, count)), np.empty(zones)
    for i in range(links):
        _rates(terrain, progress, i, sweep, least, rates)
    return Permits(terrain.zone, rates, ceiling)


@njit(cache=True)
def may_touch(permits: Permits, limit: float, end: int, ball: int, link: int) -> bool:
    """Whether a link may touch a ball at any rate up to `limit` while it moves up to station `end`."""
    if ball >= permits.zone.shape[0]:
        return False
    zone = permits.zone[ball]
    return zone >= 0 and limit <= permits.rates[zone, link, end]


@njit(cache=True)
def block_may_touch(permits: Permits, limit: float, end: int, first: int, link: int) -> bool:
    """As `may_touch`, for a whole block of balls from `first` on; what fills the last block up is nobody."""
    count = permits.zone.shape[0]
    if count == 0:
        return False
    for ball in range(first, min(first + BLOCK, count)):
        zone = permits.zone[ball]
        if zone < 0 or not limit <= permits.rates[zone, link, end]:
            return False
    return True


@njit(cache=True)
def slow_enough(permits: Permits, limit: float, end: int) -> bool:
    """Whether no point of the arm is faster than reduced speed up to station `end`."""
    return permits.ceiling.shape[0] == 0 or limit <= permits.ceiling[end]
