"""The monitor's loops over occupied balls and link capsules, compiled by numba. Metres; nothing is allocated.

Distances of all balls to all links are taken in single precision, on purpose only to tell which pairs need a closer
look (`SLACK` covers the rounding); every figure a decision rests on is taken again in double precision.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
BLOCK = 64
"""Balls whose smallest gap is kept together."""
FARTHEST = np.float32(1e3)
"""A coordinate or radius from here on is no place in a cell, m."""
SLACK = 1e-3
"""More than single precision loses on a distance within reach of an arm, m."""
PIECES = 4
"""Parts into which a stretch between two stations is cut where it decides."""
MARKS = 3
"""Stations at which a block of balls is measured before single balls are."""
_HALF = np.float32(0.5)
_FAR = np.float32(1e9)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_TINY = np.float32(1e-12)


class Cloud(NamedTuple):
    """Occupied balls by coordinate, and their gaps to the links where these are now. Scratch space."""

    x: F32
    y: F32
    z: F32
    r: F32
    gap: F32
    """(links, room): distance of surfaces."""
    block: F32
    """(links, room / BLOCK): smallest gap of each block."""


class Sweep(NamedTuple):
    """Link capsules at the stations of the path ahead. Scratch space."""

    ends: F64
    """(stations, links, 6): both ends of the axis."""
    way: F64
    """(stations, links): how far any point of the axis has come from station 0, along straight lines."""
    bend: F64
    """(links,): how far the path may be from the straight lines between stations."""
    radius: F64
    """(links,)."""


@njit(cache=True)
def cloud_in(memory: F32, links: int) -> Cloud:
    """Lay a cloud out in a flat array; see `cloud_size`."""
    room = memory.shape[0] * BLOCK // (BLOCK * (4 + links) + links) // BLOCK * BLOCK
    gap = 4 * room
    block = gap + links * room
    return Cloud(
        memory[:room],
        memory[room : 2 * room],
        memory[2 * room : 3 * room],
        memory[3 * room : 4 * room],
        memory[gap:block].reshape((links, room)),
        memory[block : block + links * (room // BLOCK)].reshape((links, room // BLOCK)),
    )


def cloud_size(balls: int, links: int) -> int:
    """Return how many numbers a cloud of so many balls needs."""
    blocks = balls // BLOCK + 1
    return blocks * (BLOCK * (4 + links) + links)


@njit(cache=True)
def sweep_in(memory: F64, stations: int, links: int) -> Sweep:
    """Lay a sweep out in a flat array of `sweep_size` numbers."""
    ends = stations * links * 6
    way = ends + stations * links
    return Sweep(
        memory[:ends].reshape((stations, links, 6)),
        memory[ends:way].reshape((stations, links)),
        memory[way : way + links],
        memory[way + links : way + 2 * links],
    )


def sweep_size(stations: int, links: int) -> int:
    """Return how many numbers a sweep needs."""
    return links * (7 * stations + 2)


@njit(cache=True)
def unpack(balls: F32, cloud: Cloud) -> int:
    """Take n balls (n * 4,): x, y, z, radius. Return n rounded up to whole blocks, -1 if a number is not sensible."""
    n = balls.shape[0] // 4
    x, y, z, r = cloud.x, cloud.y, cloud.z, cloud.r
    sound = True
    for k in range(n):
        a, b, c, d = balls[4 * k], balls[4 * k + 1], balls[4 * k + 2], balls[4 * k + 3]
        # a comparison with NaN is false
        sound &= (abs(a) < FARTHEST) & (abs(b) < FARTHEST) & (abs(c) < FARTHEST) & (d < FARTHEST) & (d >= _ZERO)
        x[k], y[k], z[k], r[k] = a, b, c, d
    if not sound:
        return -1
    whole = (n + BLOCK - 1) // BLOCK * BLOCK
    for k in range(n, whole):
        x[k], y[k], z[k], r[k] = _FAR, _FAR, _FAR, _ZERO
    return whole


@njit(cache=True, fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"}, error_model="numpy")
def gaps(count: int, ends: F64, radius: F64, cloud: Cloud) -> None:
    """Fill gap and block of the cloud for capsules with axes `ends` (links, 6). All numbers must be finite."""
    x, y, z, r = cloud.x, cloud.y, cloud.z, cloud.r
    for i in range(ends.shape[0]):
        ax, ay, az = np.float32(ends[i, 0]), np.float32(ends[i, 1]), np.float32(ends[i, 2])
        ux = np.float32(ends[i, 3] - ends[i, 0])
        uy = np.float32(ends[i, 4] - ends[i, 1])
        uz = np.float32(ends[i, 5] - ends[i, 2])
        length2 = ux * ux + uy * uy + uz * uz
        share = _ONE / length2 if length2 > _TINY else _ZERO
        vx, vy, vz = ux * share, uy * share, uz * share
        thick = np.float32(radius[i])
        row = cloud.gap[i]
        for k in range(count):
            wx, wy, wz = x[k] - ax, y[k] - ay, z[k] - az
            s = min(max(wx * vx + wy * vy + wz * vz, _ZERO), _ONE)
            wx -= s * ux
            wy -= s * uy
            wz -= s * uz
            row[k] = np.sqrt(wx * wx + wy * wy + wz * wz) - r[k] - thick
        for b in range(count // BLOCK):
            least = _FAR
            for k in range(b * BLOCK, (b + 1) * BLOCK):
                least = min(least, row[k])
            cloud.block[i, b] = least


@njit(cache=True, fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"}, error_model="numpy")
def block_bounds(block: int, link: int, end: int, cloud: Cloud, sweep: Sweep, before: F32, out: F32) -> None:
    """Fill out (BLOCK,) with a lower bound of the gap of each ball of a block to a link from station 0 to `end`.

    Measured at MARKS stations; where two gaps a and b belong to places no farther apart than w, nothing between them
    is less than (a + b - w) / 2. before: (BLOCK,) scratch.
    """
    x, y, z, r = cloud.x, cloud.y, cloud.z, cloud.r
    start = block * BLOCK
    for k in range(BLOCK):
        before[k] = cloud.gap[link, start + k]
        out[k] = before[k]
    thick = np.float32(sweep.radius[link])
    reached = 0
    for mark in range(1, MARKS + 1):
        station = end * mark // MARKS
        e = sweep.ends[station, link]
        ax, ay, az = np.float32(e[0]), np.float32(e[1]), np.float32(e[2])
        ux, uy, uz = np.float32(e[3] - e[0]), np.float32(e[4] - e[1]), np.float32(e[5] - e[2])
        length2 = ux * ux + uy * uy + uz * uz
        share = _ONE / length2 if length2 > _TINY else _ZERO
        vx, vy, vz = ux * share, uy * share, uz * share
        way = np.float32(sweep.way[station, link] - sweep.way[reached, link])
        reached = station
        for k in range(BLOCK):
            wx, wy, wz = x[start + k] - ax, y[start + k] - ay, z[start + k] - az
            s = min(max(wx * vx + wy * vy + wz * vz, _ZERO), _ONE)
            wx -= s * ux
            wy -= s * uy
            wz -= s * uz
            gap = np.sqrt(wx * wx + wy * wy + wz * wz) - r[start + k] - thick
            out[k] = min(out[k], _HALF * (before[k] + gap - way))
            before[k] = gap


@njit(cache=True)
def to_axis(x: float, y: float, z: float, e: F64) -> float:
    """Return the distance of a point to the segment between e[:3] and e[3:]."""
    ux, uy, uz = e[3] - e[0], e[4] - e[1], e[5] - e[2]
    wx, wy, wz = x - e[0], y - e[1], z - e[2]
    length2 = ux * ux + uy * uy + uz * uz
    s = 0.0
    if length2 > 0.0:
        s = min(1.0, max(0.0, (wx * ux + wy * uy + wz * uz) / length2))
    dx, dy, dz = wx - s * ux, wy - s * uy, wz - s * uz
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@njit(cache=True)
def between(x: float, y: float, z: float, e: F64, f: F64, share: float) -> float:
    """Return the distance of a point to the axis `share` of the way from e to f, both (6,)."""
    rest = 1.0 - share
    ax, ay, az = rest * e[0] + share * f[0], rest * e[1] + share * f[1], rest * e[2] + share * f[2]
    ux = rest * e[3] + share * f[3] - ax
    uy = rest * e[4] + share * f[4] - ay
    uz = rest * e[5] + share * f[5] - az
    wx, wy, wz = x - ax, y - ay, z - az
    length2 = ux * ux + uy * uy + uz * uz
    s = 0.0
    if length2 > 0.0:
        s = min(1.0, max(0.0, (wx * ux + wy * uy + wz * uz) / length2))
    dx, dy, dz = wx - s * ux, wy - s * uy, wz - s * uz
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@njit(cache=True)
def dip(a: float, b: float, way: float) -> float:
    """Bound from below the distance between two axes, one of them moving in a straight line, where it is a and then b.

    way: no point of that axis moves farther in between, m. Every two points of the axes are f apart with
    |f'| <= way over unit time, so f >= (a + b - way) / 2 = m, and, the motion being straight, f'' <= way^2 / f. A curve
    with f'' <= way^2 / m is above its chord less way^2 / (8 m), and no chord begins below a or ends below b.
    """
    least = 0.5 * (a + b - way)
    if not least > 0.0:
        return least
    return max(least, min(a, b) - way * way / (8.0 * least))


@njit(cache=True)
def _stretch(x: float, y: float, z: float, e: F64, f: F64, share: float, d: float, end: float, way: float) -> float:
    """Bound from below the distance of a point to an axis moving from e to `share` of the way to f.

    d, end: distances at both ends of the stretch; way: length of it.
    """
    piece = way / PIECES
    low = min(d, end)
    before = d
    for k in range(1, PIECES + 1):
        after = end if k == PIECES else between(x, y, z, e, f, share * k / PIECES)
        low = min(low, dip(before, after, piece))
        before = after
    return low


@njit(cache=True)
def lowest(
    ball: int, link: int, cloud: Cloud, sweep: Sweep, last: int, share: float, floor: float, enough: float
) -> float:
    """Return the smallest gap between a ball and a link from station 0 to `share` of the way from `last` to the next.

    Goes as far in one step as the link would have to move to come nearer than the smallest gap found so far.

    Args:
        ball, link: the pair.
        last, share: end of the stretch.
        floor: gaps from here on are not told apart.
        enough: the search ends with the first gap below this.

    Returns:
        `floor` or what is less, m; never more than the truth.
    """
    x, y, z = float(cloud.x[ball]), float(cloud.y[ball]), float(cloud.z[ball])
    off = float(cloud.r[ball]) + sweep.radius[link] + sweep.bend[link]
    ends, way = sweep.ends, sweep.way
    total = way[last, link] + share * (way[last + 1, link] - way[last, link])
    low, k = floor, 0
    d = to_axis(x, y, z, ends[0, link]) - off
    while True:
        low = min(low, d)
        room = d - low
        if low < enough or total - way[k, link] <= room:
            return low
        j = k
        while j < last and way[j + 1, link] - way[k, link] <= room:
            j += 1
        if j == k:
            part = share if k == last else 1.0
            end = between(x, y, z, ends[k, link], ends[k + 1, link], part) - off
            length = part * (way[k + 1, link] - way[k, link])
            if dip(d + off, end + off, length) - off < low:
                low = min(
                    low, _stretch(x, y, z, ends[k, link], ends[k + 1, link], part, d + off, end + off, length) - off
                )
            if k == last:
                return low
            k, d = k + 1, end
        else:
            k, d = j, to_axis(x, y, z, ends[j, link]) - off
