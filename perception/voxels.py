"""The per-voxel loops of the possible-space map, compiled by numba. Pure functions on arrays; metres unless stated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception.kernels import distance2_to_segment

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]


@njit(cache=True, nogil=True)
def clear_seen_free(possible: U8, pooled: U16, rect: NDArray[np.int16], far_mm: U16, visible: U8) -> None:
    """Set every voxel to not possible whose whole projection is known to be free up to its far side.

    possible, visible: (n,) flat; rect: (n, 4) pooled pixel bounds v0, v1, u0, u1 (inclusive); far_mm: (n,).
    """
    for i in range(possible.shape[0]):
        if possible[i] == 0 or visible[i] == 0:
            continue
        free = True
        for v in range(rect[i, 0], rect[i, 1] + 1):
            for u in range(rect[i, 2], rect[i, 3] + 1):
                if pooled[v, u] < far_mm[i]:
                    free = False
                    break
            if not free:
                break
        if free:
            possible[i] = 0


@njit(cache=True, nogil=True)
def dilate(possible: U8, solid: U8, scratch: U8) -> None:
    """Grow `possible` (nx, ny, nz) by one voxel in all 26 directions, then empty the `solid` ones. In place.

    Only the result is masked: a person passes a corner by less than a voxel, so the way round it must not be blocked.
    """
    nx, ny, nz = possible.shape
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                here = possible[i, j, k]
                if k > 0:
                    here |= possible[i, j, k - 1]
                if k < nz - 1:
                    here |= possible[i, j, k + 1]
                scratch[i, j, k] = here
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                here = scratch[i, j, k]
                if j > 0:
                    here |= scratch[i, j - 1, k]
                if j < ny - 1:
                    here |= scratch[i, j + 1, k]
                possible[i, j, k] = here
    scratch[:, :, :] = possible
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                here = scratch[i, j, k]
                if i > 0:
                    here |= scratch[i - 1, j, k]
                if i < nx - 1:
                    here |= scratch[i + 1, j, k]
                possible[i, j, k] = here if solid[i, j, k] == 0 else 0


@njit(cache=True, nogil=True)
def occupy(points: F32, lower: F64, size: float, possible: U8, anchored: U8) -> None:
    """Mark the voxels that (n, 3) points fall into as possible and as anchored; points outside the map are left out."""
    nx, ny, nz = possible.shape
    for n in range(points.shape[0]):
        x = np.floor((points[n, 0] - lower[0]) / size)
        y = np.floor((points[n, 1] - lower[1]) / size)
        z = np.floor((points[n, 2] - lower[2]) / size)
        if 0.0 <= x < nx and 0.0 <= y < ny and 0.0 <= z < nz:
            possible[int(x), int(y), int(z)] = 1
            anchored[int(x), int(y), int(z)] = 1


@njit(cache=True, nogil=True)
def _root(parent: I32, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(cache=True, nogil=True)
def _runs(possible: U8, anchored: U8, thin: U8, first: I32, runs: I32, parent: I32) -> int:
    """Write the runs of possible voxels along z: column, first and last voxel, room, anchored. Returns their number."""
    nx, ny, nz = possible.shape
    n = 0
    for i in range(nx):
        for j in range(ny):
            first[i * ny + j] = n
            inside = False
            for k in range(nz):
                if possible[i, j, k] == 0:
                    inside = False
                    continue
                if not inside:
                    inside = True
                    runs[n, 0], runs[n, 1], runs[n, 3], runs[n, 4] = i * ny + j, k, 0, 0
                    parent[n] = n
                    n += 1
                runs[n - 1, 2] = k
                runs[n - 1, 3] += 1 - thin[i, j, k]
                runs[n - 1, 4] |= anchored[i, j, k]
    first[nx * ny] = n
    return n


@njit(cache=True, nogil=True)
def _join(here: int, there: int, first: I32, runs: I32, parent: I32) -> None:
    """Unite the runs of two neighbouring columns that touch, corners included."""
    a, b = first[here], first[there]
    while a < first[here + 1] and b < first[there + 1]:
        if runs[a, 1] <= runs[b, 2] + 1 and runs[b, 1] <= runs[a, 2] + 1:
            one, other = _root(parent, a), _root(parent, b)
            parent[max(one, other)] = min(one, other)
        if runs[a, 2] < runs[b, 2]:
            a += 1
        else:
            b += 1


@njit(cache=True, nogil=True)
def drop_small_components(possible: U8, anchored: U8, thin: U8, least: int, first: I32, runs: I32, parent: I32) -> int:
    """Clear 26-connected components of `possible` with fewer than `least` voxels of room and no `anchored` voxel.

    thin: voxels that are no room for a torso (the layer round the arm); they belong to their component but do not
    count. anchored: where something was seen or people can enter; such a component is never dropped. Components are
    found by uniting the runs of neighbouring columns.
    first (nx ny + 1), runs (n, 5), parent (n): scratch; n is at least nx ny (nz + 1) // 2, the most runs there can be.
    Returns how many voxels were cleared.
    """
    nx, ny, _ = possible.shape
    count = _runs(possible, anchored, thin, first, runs, parent)
    for i in range(nx):
        for j in range(ny):
            here = i * ny + j
            if first[here] == first[here + 1]:
                continue
            if j > 0:
                _join(here, here - 1, first, runs, parent)
            if i > 0:
                for other in range(max(0, j - 1), min(ny, j + 2)):
                    _join(here, here - ny + other - j, first, runs, parent)
    for n in range(count):
        root = _root(parent, n)
        if root != n:
            runs[root, 3] += runs[n, 3]
            runs[root, 4] |= runs[n, 4]
    cleared = 0
    for n in range(count):
        root = _root(parent, n)
        if runs[root, 4] == 0 and runs[root, 3] < least:
            possible[runs[n, 0] // ny, runs[n, 0] % ny, runs[n, 1] : runs[n, 2] + 1] = 0
            cleared += runs[n, 2] + 1 - runs[n, 1]
    return cleared


@njit(cache=True, nogil=True)
def frontier(
    possible: U8, lower: F64, size: float, box_low: F64, box_high: F64, interest: float, always: float, out: F32
) -> int:
    """Write the centres of possible voxels that can matter to an arm inside the box box_low..box_high.

    A voxel matters within `interest` of the box if it has a neighbour that is not possible (the nearest voxel of a
    region always has one), or if it lies within `always` of the box. Returns the number; > len(out) is overflow.
    """
    nx, ny, nz = possible.shape
    n = 0
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                if possible[i, j, k] == 0:
                    continue
                x = lower[0] + (i + 0.5) * size
                y = lower[1] + (j + 0.5) * size
                z = lower[2] + (k + 0.5) * size
                dx = max(box_low[0] - x, 0.0, x - box_high[0])
                dy = max(box_low[1] - y, 0.0, y - box_high[1])
                dz = max(box_low[2] - z, 0.0, z - box_high[2])
                d2 = dx * dx + dy * dy + dz * dz
                if d2 > interest * interest:
                    continue
                edge = d2 <= always * always
                if not edge:
                    edge = (
                        (i > 0 and possible[i - 1, j, k] == 0)
                        or (i < nx - 1 and possible[i + 1, j, k] == 0)
                        or (j > 0 and possible[i, j - 1, k] == 0)
                        or (j < ny - 1 and possible[i, j + 1, k] == 0)
                        or (k > 0 and possible[i, j, k - 1] == 0)
                        or (k < nz - 1 and possible[i, j, k + 1] == 0)
                    )
                if edge:
                    if n < out.shape[0]:
                        out[n, 0], out[n, 1], out[n, 2] = x, y, z
                    n += 1
    return n


@njit(cache=True, nogil=True)
def set_near_capsules(
    voxels: U8, value: int, lower: F64, size: float, cap_a: F64, cap_b: F64, cap_r: F64, layer: float
) -> None:
    """Set voxels whose centre lies within `layer` of a link (0: inside it) to `value`."""
    nx, ny, nz = voxels.shape
    for c in range(cap_r.shape[0]):
        r = cap_r[c] + layer
        i0 = max(0, int((min(cap_a[c, 0], cap_b[c, 0]) - r - lower[0]) / size))
        i1 = min(nx - 1, int((max(cap_a[c, 0], cap_b[c, 0]) + r - lower[0]) / size))
        j0 = max(0, int((min(cap_a[c, 1], cap_b[c, 1]) - r - lower[1]) / size))
        j1 = min(ny - 1, int((max(cap_a[c, 1], cap_b[c, 1]) + r - lower[1]) / size))
        k0 = max(0, int((min(cap_a[c, 2], cap_b[c, 2]) - r - lower[2]) / size))
        k1 = min(nz - 1, int((max(cap_a[c, 2], cap_b[c, 2]) + r - lower[2]) / size))
        for i in range(i0, i1 + 1):
            for j in range(j0, j1 + 1):
                for k in range(k0, k1 + 1):
                    x = lower[0] + (i + 0.5) * size
                    y = lower[1] + (j + 0.5) * size
                    z = lower[2] + (k + 0.5) * size
                    if distance2_to_segment(x, y, z, cap_a[c], cap_b[c]) <= r * r:
                        voxels[i, j, k] = value


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
