"""Crowded pictures: smooth surfaces are taken in blocks of 4x4 pixels, only the rest pixel by pixel. Compiled by numba.

A block all of whose measured pixels are foreground is a *surface*: between its least and its greatest depth everything
is taken as occupied over the whole width of the block, and its rays are free no farther than its least depth allows. So
nothing a pixel showed is lost, and the answer is coarser by not more than a block and the depth within it. What may
belong to the robot or to a part, what lies at the edge of the volume, and every outline is no surface.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception.freedepth import free_mm
from perception.kernels import BACKGROUND, EDGE, PART, PERSON, ROBOT, new_cell

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]

MOST_HOLES = np.uint8(3)
"""Invalid pixels of 16 in a surface: each of its rows and columns has a measured pixel."""
TILT = 3.0
"""Depth within a surface, in tolerances of two neighbouring pixels: a surface may be steep over its four pixels."""
EMPTY, REST = np.uint8(254), np.uint8(255)
"""In place of a number of holes: blocks of background only, and blocks to be looked at pixel by pixel."""


@njit(cache=True, nogil=True)
def _strip(depth: U16, label: U8, v: int, low: U16, high: U16, holes: U8, kinds: U8) -> None:
    """For each column over rows 4 v to 4 v + 3: least depth less one, greatest, invalid pixels, all classes or-ed."""
    columns = depth.shape[1]
    low[:] = 65535
    high[:] = 0
    holes[:] = 0
    kinds[:] = 0
    for k in range(4 * v, 4 * v + 4):
        z, kind = depth[k], label[k]
        for u in range(columns):
            # One less than 0 is the largest number: no depth is never the least.
            low[u] = min(low[u], np.uint16(z[u] - np.uint16(1)))
            high[u] = max(high[u], z[u])
            holes[u] += np.uint8(z[u] == 0)
            kinds[u] |= kind[u]


@njit(cache=True, nogil=True)
def find_surfaces(depth: U16, label: U8, spread: float, least: U16, greatest: U16, holes: U8) -> None:
    """Least and greatest depth (mm) and number of invalid pixels of each block that is a surface by its depths alone.

    label: as `pixels.first_labels` made it. least is 0 where there is none; holes is EMPTY or REST there. Blocks that
    are cut by the picture's edge are none.
    """
    rows, columns = depth.shape
    low, high = np.empty(columns, np.uint16), np.empty(columns, np.uint16)
    lost, kinds = np.empty(columns, np.uint8), np.empty(columns, np.uint8)
    least[:, :] = 0
    holes[:, :] = REST
    for v in range(rows // 4):
        _strip(depth, label, v, low, high, lost, kinds)
        for b in range(columns // 4):
            u = 4 * b
            kind = kinds[u] | kinds[u + 1] | kinds[u + 2] | kinds[u + 3]
            if kind == BACKGROUND and lost[u] + lost[u + 1] + lost[u + 2] + lost[u + 3] == 0:
                holes[v, b] = EMPTY
                continue
            near = np.int64(min(min(low[u], low[u + 1]), min(low[u + 2], low[u + 3]))) + 1
            far = np.int64(max(max(high[u], high[u + 1]), max(high[u + 2], high[u + 3])))
            missing = lost[u] + lost[u + 1] + lost[u + 2] + lost[u + 3]
            if kind == PERSON and missing <= MOST_HOLES and far - near <= TILT * (30.0 + spread * near * near):
                least[v, b], greatest[v, b], holes[v, b] = near, far, missing


@njit(cache=True, nogil=True)
def _intervals(ray: F32, axis: int, T: F64, count: int) -> F64:
    """(3, count, 2) least and greatest of T[a, axis] * ray over the four pixels of each block."""
    out = np.empty((3, count, 2))
    for a in range(3):
        for b in range(count):
            first, last = T[a, axis] * ray[4 * b], T[a, axis] * ray[4 * b + 3]
            out[a, b, 0], out[a, b, 1] = min(first, last), max(first, last)
    return out


@njit(cache=True, nogil=True)
def _apart(low: F64, high: F64, slack: float, boxes: F64) -> bool:
    """Whether low..high is farther than `slack` along some axis from every box (n, 2, 3)."""
    for n in range(boxes.shape[0]):
        apart = False
        for a in range(3):
            apart |= (high[a] < boxes[n, 0, a] - slack) | (low[a] > boxes[n, 1, a] + slack)
        if not apart:
            return False
    return True


@njit(cache=True, nogil=True)
def _round(least: U16, holes: U8, v: int, u: int) -> int:
    """Least depth of the 3x3 blocks round a surface with holes; 0 if not all are surfaces. Without holes, its own.

    Each line of the neighbours has a measured pixel too, so every run of holes that begins here ends in one of them,
    after at most three pixels of theirs: what hides behind it stands out beside it.
    """
    if holes[v, u] == 0:
        return int(least[v, u])
    if not (0 < v < least.shape[0] - 1 and 0 < u < least.shape[1] - 1):
        return 0
    best = int(least[v, u])
    for y in range(v - 1, v + 2):
        for x in range(u - 1, u + 2):
            best = min(best, int(least[y, x]))
    return best


@njit(cache=True, nogil=True)
def take_surfaces(
    least: U16, greatest: U16, holes: U8, label: U8, ray_x: F32, ray_y: F32, T: F64, volume: F64, boxes: F64,
    size: float, shape: tuple[int, int, int], margin_mm: float, noise: float, sigmas: float, width_mm: float,
    table: I32, out: F32, pooled: U16, pixels: I32,
) -> tuple[int, int]:  # fmt: skip
    """Write the cells of all surfaces to `out` and what is free in front of them to `pooled`; list the other pixels.

    least, greatest, holes: as `find_surfaces` made them; holes becomes REST where a block is no surface after all.
    volume: (2, 3) corners of the person volume; boxes: (n, 2, 3) corners of what surfaces must be apart from, with all
    margins but the noise. table, out: as in `kernels.collect_points`; the rest: as in `freedepth.free_depth`.
    Returns the number of cells, which is more than len(out) if they do not fit, and of `pixels`.
    """
    rows, columns = label.shape
    across, down = _intervals(ray_x, 0, T, columns // 4), _intervals(ray_y, 1, T, rows // 4)
    n, left = 0, 0
    spread = sigmas * noise * 0.001
    low, high, span = np.empty(3), np.empty(3), np.full((2, 3), -1)
    for v in range(least.shape[0]):
        for u in range(least.shape[1]):
            if holes[v, u] == EMPTY:
                continue
            nearest = 0
            if least[v, u] != 0:
                z0, z1 = least[v, u] * 0.001, greatest[v, u] * 0.001
                inside = True
                for a in range(3):
                    first = across[a, u, 0] + down[a, v, 0] + T[a, 2]
                    last = across[a, u, 1] + down[a, v, 1] + T[a, 2]
                    low[a] = T[a, 3] + min(first * z0, first * z1)
                    high[a] = T[a, 3] + max(last * z0, last * z1)
                    inside &= (low[a] >= volume[0, a]) & (high[a] <= volume[1, a])
                if inside and _apart(low, high, sigmas * noise * z1 * z1, boxes):
                    nearest = _round(least, holes, v, u)
            if nearest == 0:
                holes[v, u] = REST
                left = _list(label, v, u, pixels, left)
                continue
            free = free_mm(float(nearest), margin_mm, spread)
            run = 3.0 + holes[v, u]
            pooled[v, u] = free if holes[v, u] == 0 else np.uint16(min(float(free), width_mm / run))
            if n <= out.shape[0] and _moved(low, high, volume[0], size, shape, span):
                n = _mark(span, volume[0], size, shape, table, out, n)
    return n, left


@njit(cache=True, nogil=True)
def _list(label: U8, v: int, u: int, pixels: I32, left: int) -> int:
    for y in range(4 * v, min(4 * v + 4, label.shape[0])):
        for x in range(4 * u, min(4 * u + 4, label.shape[1])):
            if label[y, x] != BACKGROUND:
                pixels[left] = y << 16 | x
                left += 1
    return left


@njit(cache=True, nogil=True)
def _moved(low: F64, high: F64, lower: F64, size: float, shape: tuple[int, int, int], span: NDArray[np.int64]) -> bool:
    """Set span (2, 3) to the cells from low to high; whether they are others than before."""
    moved = False
    inverse = 1.0 / size
    most = (shape[0] - 1, shape[1] - 1, shape[2] - 1)
    for a in range(3):
        first = min(int((low[a] - lower[a]) * inverse), most[a])
        last = min(int((high[a] - lower[a]) * inverse), most[a])
        moved |= (span[0, a] != first) | (span[1, a] != last)
        span[0, a], span[1, a] = first, last
    return moved


@njit(cache=True, nogil=True)
def _mark(
    span: NDArray[np.int64], lower: F64, size: float, shape: tuple[int, int, int], table: I32, out: F32, n: int
) -> int:
    for i in range(span[0, 0], span[1, 0] + 1):
        for j in range(span[0, 1], span[1, 1] + 1):
            for k in range(span[0, 2], span[1, 2] + 1):
                if not new_cell((i * shape[1] + j) * shape[2] + k, table):
                    continue
                if n == out.shape[0]:
                    return n + 1
                out[n, 0] = lower[0] + (i + 0.5) * size
                out[n, 1] = lower[1] + (j + 0.5) * size
                out[n, 2] = lower[2] + (k + 0.5) * size
                n += 1
    return n


@njit(cache=True, nogil=True)
def edges_in_surfaces(depth: U16, filled: U16, holes: U8, first: U8, pixels: I32, n: int, label: U8) -> int:
    """Make pixels of surfaces EDGE that lie behind and beside a pixel of the robot or a part; add them to `pixels`.

    depth, filled: as measured and with holes filled; first, label: classes before and after the look at edges. Returns
    the number of pixels.
    """
    rows, columns = depth.shape
    for k in range(n):
        v, u = pixels[k] >> 16, pixels[k] & 0xFFFF
        if first[v, u] != ROBOT and first[v, u] != PART:
            continue
        for y in range(max(v - 1, 0), min(v + 2, rows)):
            for x in range(max(u - 1, 0), min(u + 2, columns)):
                surface = holes[y >> 2, x >> 2] <= MOST_HOLES
                if surface and label[y, x] == PERSON and filled[v, u] < depth[y, x]:
                    label[y, x] = EDGE
                    pixels[n] = y << 16 | x
                    n += 1
    return n
