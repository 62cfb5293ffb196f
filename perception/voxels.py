"""Loops over points and the cells they fall into, compiled by numba. Pure functions on arrays; metres unless stated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@njit(cache=True, nogil=True)
def merge_cells(points: F32, size: float, table: NDArray[np.int64], out: F32) -> int:
    """Write the centres of the cells of edge `size` that (n, 3) points fall into, one entry a cell, as they come.

    table: scratch, a power of two of at least 2 n entries; out: (n, 3). Returns how many cells there are, or -1 if a
    point is not finite or farther than 1000 m along an axis.
    """
    table[:] = -1
    mask = table.shape[0] - 1
    inverse = 1.0 / size
    n = 0
    for p in range(points.shape[0]):
        code = 0
        for k in range(3):
            value = points[p, k]
            if not (-1000.0 <= value <= 1000.0):
                return -1
            code = (code << 21) | (int(np.floor(value * inverse)) + (1 << 20))
        slot = (code ^ (code >> 17) ^ (code >> 35)) & mask
        while table[slot] >= 0 and table[slot] != code:
            slot = (slot + 1) & mask
        if table[slot] == code:
            continue
        table[slot] = code
        for k in range(3):
            out[n, k] = (np.floor(points[p, k] * inverse) + 0.5) * size
        n += 1
    return n


@njit(cache=True, nogil=True)
def label_clusters(points: F32, lower: F64, size: float, grid: I32, stack: I32, label: I32) -> int:
    """Number the clusters of (n, 3) points: cells of edge `size` that touch, corners included, belong to one.

    grid: (nx, ny, nz) scratch that holds all points from `lower` on; stack: scratch of nx ny nz entries; label: (n,),
    from 0 on in the order of each cluster's first point. Returns how many there are.
    """
    nx, ny, nz = grid.shape
    grid[:, :, :] = 0
    cell = np.empty((points.shape[0], 3), np.int64)
    for p in range(points.shape[0]):
        for k in range(3):
            cell[p, k] = int((points[p, k] - lower[k]) / size)
        grid[cell[p, 0], cell[p, 1], cell[p, 2]] = -1
    count = 0
    for p in range(points.shape[0]):
        if grid[cell[p, 0], cell[p, 1], cell[p, 2]] == -1:
            count += 1
            grid[cell[p, 0], cell[p, 1], cell[p, 2]] = count
            stack[0] = (cell[p, 0] * ny + cell[p, 1]) * nz + cell[p, 2]
            tail = 1
            while tail > 0:
                tail -= 1
                code = stack[tail]
                i, j, k = code // (ny * nz), (code // nz) % ny, code % nz
                for a in range(max(0, i - 1), min(nx, i + 2)):
                    for b in range(max(0, j - 1), min(ny, j + 2)):
                        for c in range(max(0, k - 1), min(nz, k + 2)):
                            if grid[a, b, c] == -1:
                                grid[a, b, c] = count
                                stack[tail] = (a * ny + b) * nz + c
                                tail += 1
        label[p] = grid[cell[p, 0], cell[p, 1], cell[p, 2]] - 1
    return count


@njit(cache=True, nogil=True)
def bounds(points: F32) -> F64:
    """(2, 3) least and greatest coordinates of (n, 3) points; NaN along an axis where any is not finite."""
    out = np.empty((2, 3))
    out[0], out[1] = np.inf, -np.inf
    for k in range(3):
        finite = True
        for p in range(points.shape[0]):
            value = points[p, k]
            finite &= np.isfinite(value)
            out[0, k], out[1, k] = min(out[0, k], value), max(out[1, k], value)
        if not finite:
            out[:, k] = np.nan
    return out


@njit(cache=True, nogil=True)
def centroid(points: F32) -> F64:
    """(3,) mean of (n, 3) points."""
    out = np.zeros(3)
    for p in range(points.shape[0]):
        for k in range(3):
            out[k] += points[p, k]
    return out / points.shape[0]
