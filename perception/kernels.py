"""The per-pixel and per-voxel loops of perception, compiled by numba. Pure functions on arrays; metres unless stated.

Depth pictures are uint16 millimetres along the optical axis, 0 = invalid. Invalid is unknown, never free.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]

UNKNOWN, BACKGROUND, ROBOT, PART, PERSON, EDGE = 0, 1, 2, 3, 4, 5
"""Classes of a pixel. EDGE: behind and beside a robot pixel, where stereo mixes two depths; treated as unknown."""

FREE_ALL = np.uint16(65535)
SATURATED = np.uint16(65535)
"""No depth, though it is the largest number."""


@njit(cache=True, nogil=True)
def compare(depth: U16, before: U16, covered_mm: float) -> tuple[bool, int, int, int]:
    """Is the picture the same as `before`; how many pixels are valid; how many of those nearer than `covered_mm`; how
    many are saturated (65535)."""
    rows, columns = depth.shape
    differing, valid, near, saturated = 0, 0, 0, 0
    for v in range(rows):
        for u in range(columns):
            z = depth[v, u]
            differing += z != before[v, u]
            valid += z != 0
            near += (z != 0) & (z < covered_mm)
            saturated += z == SATURATED
    return differing == 0, valid, near, saturated


@njit(cache=True, nogil=True)
def distance2_to_segment(x: float, y: float, z: float, a: F64, b: F64) -> float:
    """Square of the distance of a point to the segment a-b."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    wx, wy, wz = x - a[0], y - a[1], z - a[2]
    length2 = ux * ux + uy * uy + uz * uz
    s = 0.0
    if length2 > 0.0:
        s = min(1.0, max(0.0, (wx * ux + wy * uy + wz * uz) / length2))
    dx, dy, dz = wx - s * ux, wy - s * uy, wz - s * uz
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, nogil=True)
def _fill_hole(depth: U16, v: int, u: int) -> np.uint16:
    """Depth of the nearest neighbour of the invalid pixel (v, u) if >= 6 of its 8 neighbours are valid, else 0."""
    rows, columns = depth.shape
    if not (0 < v < rows - 1 and 0 < u < columns - 1):
        return np.uint16(0)
    valid = 0
    nearest = FREE_ALL
    for dv in range(-1, 2):
        for du in range(-1, 2):
            n = depth[v + dv, u + du]
            if n != 0:
                valid += 1
                if n < nearest:
                    nearest = n
    return nearest if valid >= 6 else np.uint16(0)


@njit(cache=True, nogil=True)
def candidates(depth: U16, near: U16, filled: U16, label: U8, pixels: I32) -> int:
    """Label every pixel UNKNOWN, BACKGROUND or PERSON, the last for whatever is nearer than the background.

    depth, near: (h, w) mm; a valid pixel not nearer than `near` is background. An isolated invalid pixel takes the
    depth of its nearest neighbour; `filled` is the picture with those. pixels: (h * w,), receives row << 16 | column
    of every pixel that is not background, in order: nothing after this looks at the others. Returns their number.
    """
    rows, columns = depth.shape
    n = 0
    for v in range(rows):
        for u in range(columns):
            z = depth[v, u]
            filled[v, u] = z
            label[v, u] = BACKGROUND if z >= near[v, u] else PERSON
        for u in range(columns):
            if label[v, u] == BACKGROUND:
                continue
            if depth[v, u] == 0:
                z = _fill_hole(depth, v, u)
                filled[v, u] = z
                label[v, u] = UNKNOWN if z == 0 else BACKGROUND if z >= near[v, u] else PERSON
            pixels[n] = v << 16 | u
            n += label[v, u] != BACKGROUND
    return n


@njit(cache=True, nogil=True)
def _in_capsules(x: float, y: float, z: float, more: float, cap_a: F64, cap_b: F64, cap_r: F64) -> bool:
    for i in range(cap_r.shape[0]):
        reach = cap_r[i] + more
        if distance2_to_segment(x, y, z, cap_a[i], cap_b[i]) <= reach * reach:
            return True
    return False


@njit(cache=True, nogil=True)
def _in_boxes(x: float, y: float, z: float, more: float, box_T: F64, half: F64) -> bool:
    for i in range(half.shape[0]):
        inside = True
        for k in range(3):
            local = box_T[i, k, 0] * x + box_T[i, k, 1] * y + box_T[i, k, 2] * z + box_T[i, k, 3]
            if abs(local) > half[i, k] + more:
                inside = False
                break
        if inside:
            return True
    return False


@njit(cache=True, nogil=True)
def _capsule_bounds(cap_a: F64, cap_b: F64, cap_r: F64) -> F64:
    """(2, 3) lower and upper corner of a box round all capsules; empty (lower > upper) if there is none."""
    bounds = np.empty((2, 3))
    bounds[0], bounds[1] = np.inf, -np.inf
    for i in range(cap_r.shape[0]):
        for k in range(3):
            bounds[0, k] = min(bounds[0, k], min(cap_a[i, k], cap_b[i, k]) - cap_r[i])
            bounds[1, k] = max(bounds[1, k], max(cap_a[i, k], cap_b[i, k]) + cap_r[i])
    return bounds


@njit(cache=True, nogil=True)
def _near_box(x: float, y: float, z: float, more: float, bounds: F64) -> bool:
    return (
        bounds[0, 0] - more <= x <= bounds[1, 0] + more
        and bounds[0, 1] - more <= y <= bounds[1, 1] + more
        and bounds[0, 2] - more <= z <= bounds[1, 2] + more
    )


@njit(cache=True, nogil=True)
def classify(
    depth: U16,
    pixels: I32,
    ray_x: F32,
    ray_y: F32,
    T: F64,
    cap_a: F64,
    cap_b: F64,
    cap_r: F64,
    margin: float,
    noise: float,
    sigmas: float,
    part_T: F64,
    part_half: F64,
    part_margin: float,
    lower: F64,
    upper: F64,
    label: U8,
) -> None:
    """Relabel PERSON pixels that are not: the robot, an expected part, or outside the person volume.

    Points outside the person volume lower..upper count as background: the ray is free on its way through the volume,
    and what comes in does so through the entries of the possible-space map.

    depth: (h, w) mm. pixels: as `candidates` wrote them. ray_x, ray_y: (w,), (h,) tangents. T: (4, 4) camera to base.
    cap_*: link capsules at exposure time, base frame. The robot's margin is margin + sigmas * noise * z^2 (a
    fixed margin gives false stops, three sigmas do not). part_T: (n, 4, 4) base to part; part_half: (n, 3) half edges.
    """
    bounds = _capsule_bounds(cap_a, cap_b, cap_r)
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if label[v, u] != PERSON:
            continue
        z = depth[v, u] * 0.001
        cx, cy = ray_x[u] * z, ray_y[v] * z
        x = T[0, 0] * cx + T[0, 1] * cy + T[0, 2] * z + T[0, 3]
        y = T[1, 0] * cx + T[1, 1] * cy + T[1, 2] * z + T[1, 3]
        w = T[2, 0] * cx + T[2, 1] * cy + T[2, 2] * z + T[2, 3]
        if x < lower[0] or y < lower[1] or w < lower[2] or x > upper[0] or y > upper[1] or w > upper[2]:
            label[v, u] = BACKGROUND
            continue
        slack = sigmas * noise * z * z
        if _near_box(x, y, w, margin + slack, bounds) and _in_capsules(x, y, w, margin + slack, cap_a, cap_b, cap_r):
            label[v, u] = ROBOT
        elif _in_boxes(x, y, w, part_margin + slack, part_T, part_half):
            label[v, u] = PART


@njit(cache=True, nogil=True)
def _look_round(depth: U16, measured: U16, label: U8, v: int, u: int, noise: float, sigmas: float) -> tuple[int, bool]:
    """How many of 8 neighbours are measured person pixels of like depth; whether one is robot or part and nearer."""
    rows, columns = depth.shape
    z = np.int64(depth[v, u])
    # Depths are whole millimetres, so the tolerance may be rounded down.
    tolerance = np.int64(30.0 + sigmas * noise * (z * 0.001) * z)
    agree = 0
    edge = False
    for y in range(max(v - 1, 0), min(v + 2, rows)):
        for x in range(max(u - 1, 0), min(u + 2, columns)):
            kind = label[y, x]
            if kind == BACKGROUND or (y == v and x == u):
                continue
            n = np.int64(depth[y, x])
            if kind == PERSON:
                # A filled hole repeats a neighbour: counted as evidence, one wrong pixel would bear itself out.
                agree += (abs(n - z) <= tolerance) & (measured[y, x] != 0)
            elif kind != UNKNOWN and n < z:
                edge = True
    return agree, edge


@njit(cache=True, nogil=True)
def resolve_edges_and_support(
    depth: U16, measured: U16, pixels: I32, label: U8, noise: float, sigmas: float, support: int, out: U8
) -> int:
    """Second pass over person pixels: mixed pixels at the robot's outline become EDGE, unsupported ones UNKNOWN.

    A person pixel was measured and needs `support` neighbours of 8 that were measured, are person pixels too and agree
    in depth. A pixel that lies behind a robot pixel beside it is EDGE. depth: (h, w) mm with isolated holes filled;
    measured: the same as it came. Returns the number of person pixels left.
    """
    count = 0
    out[:, :] = label
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if label[v, u] != PERSON:
            continue
        agree, edge = _look_round(depth, measured, label, v, u, noise, sigmas)
        if edge:
            out[v, u] = EDGE
        elif agree < support or measured[v, u] == 0:
            out[v, u] = UNKNOWN
        else:
            count += 1
    return count


@njit(cache=True, nogil=True)
def collect_points(
    depth: U16,
    pixels: I32,
    label: U8,
    ray_x: F32,
    ray_y: F32,
    T: F64,
    lower: F64,
    size: float,
    stamp: I32,
    mark: int,
    out: F32,
) -> int:
    """Write the centres of the cells of `size` that person pixels fall into; one entry a cell.

    stamp: (nx, ny, nz) int32 scratch, `mark` a value not yet in it. Points outside the grid are left out: there the
    entries of the possible-space map already count as occupied. Returns how many cells there are; more than
    len(out) means overflow, which the caller must treat as "cannot see".
    """
    n = 0
    inverse = 1.0 / size
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if label[v, u] != PERSON:
            continue
        z = depth[v, u] * 0.001
        cx, cy = ray_x[u] * z, ray_y[v] * z
        i = int(np.floor((T[0, 0] * cx + T[0, 1] * cy + T[0, 2] * z + T[0, 3] - lower[0]) * inverse))
        j = int(np.floor((T[1, 0] * cx + T[1, 1] * cy + T[1, 2] * z + T[1, 3] - lower[1]) * inverse))
        k = int(np.floor((T[2, 0] * cx + T[2, 1] * cy + T[2, 2] * z + T[2, 3] - lower[2]) * inverse))
        if i < 0 or j < 0 or k < 0 or i >= stamp.shape[0] or j >= stamp.shape[1] or k >= stamp.shape[2]:
            continue
        if stamp[i, j, k] == mark:
            continue
        stamp[i, j, k] = mark
        if n < out.shape[0]:
            out[n, 0] = lower[0] + (i + 0.5) * size
            out[n, 1] = lower[1] + (j + 0.5) * size
            out[n, 2] = lower[2] + (k + 0.5) * size
        n += 1
    return n


@njit(cache=True, nogil=True)
def _unknown(kind: np.uint8) -> bool:
    return kind == UNKNOWN or kind == EDGE


@njit(cache=True, nogil=True)
def _bridge(label: U8, free: U16, v: int, u: int, dv: int, du: int, width: float, out: U16) -> None:
    """Bridge the unknown run that begins at (v, u) along (dv, du), if it begins there and ends inside the picture.

    An object of at least the smallest detectable size that hides behind a run of n pixels lies beyond `width` / n: any
    nearer it would stand out on both sides, where the line is known to be free up to the nearer end's depth.
    """
    rows, columns = label.shape
    if v < dv or u < du or _unknown(label[v - dv, u - du]):
        return
    length = 1
    while v + length * dv < rows and u + length * du < columns and _unknown(label[v + length * dv, u + length * du]):
        length += 1
    y, x = v + length * dv, u + length * du
    if y >= rows or x >= columns:
        return
    ends = min(float(free[v - dv, u - du]), float(free[y, x]))
    least = np.uint16(min(ends, width / length))
    for k in range(length):
        out[v + k * dv, u + k * du] = max(out[v + k * dv, u + k * du], least)


@njit(cache=True, nogil=True)
def _pool(picture: U16, out: U16) -> None:
    """Least value of each block of 4x4 pixels; blocks at the right and lower edge may be smaller."""
    rows, columns = picture.shape
    line = np.empty(columns, np.uint16)
    for v in range(out.shape[0]):
        line[:] = picture[4 * v]
        for k in range(4 * v + 1, min(4 * v + 4, rows)):
            for u in range(columns):
                line[u] = min(line[u], picture[k, u])
        for u in range(out.shape[1]):
            least = line[4 * u]
            for k in range(4 * u + 1, min(4 * u + 4, columns)):
                least = min(least, line[k])
            out[v, u] = least


@njit(cache=True, nogil=True)
def free_depth(
    depth: U16,
    pixels: I32,
    label: U8,
    margin_mm: float,
    noise: float,
    sigmas: float,
    width_mm: float,
    free: U16,
    bridged: U16,
    pooled: U16,
) -> None:
    """Pool 4x4 pixels to the depth (mm, rounded down) up to which *every* ray of the block is known to be free.

    Background pixels are free all the way to the static surface (FREE_ALL: what hides behind static surfaces is
    handled by each voxel's own static visibility). Unknown and edge pixels are free for nothing of their own; narrow
    runs of them, along rows or columns, are bridged as far as nothing of the smallest detectable size could hide
    there. pixels: as `candidates` wrote them; width_mm: that size times the focal length in pixels; free, bridged:
    (h, w) scratch.
    """
    free[:, :] = FREE_ALL
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        kind = label[v, u]
        if _unknown(kind):
            free[v, u] = 0
        elif kind == ROBOT or kind == PERSON:
            z = float(depth[v, u])
            free[v, u] = np.uint16(max(0.0, z - margin_mm - sigmas * noise * (z * 0.001) * z))
    bridged[:, :] = free
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if _unknown(label[v, u]):
            _bridge(label, free, v, u, 0, 1, width_mm, bridged)
            _bridge(label, free, v, u, 1, 0, width_mm, bridged)
    _pool(bridged, pooled)


@njit(cache=True, nogil=True)
def raycast_boxes(
    ray_x: F32, ray_y: F32, T: F64, box_T: F64, box_half: F64, floor: float, far: float, out: F32
) -> None:
    """Depth (m, along the optical axis) of the nearest box or the floor for every pixel; `far` where there is none.

    box_T: (n, 4, 4) base to box; box_half: (n, 3). T: (4, 4) camera to base.
    """
    rows, columns = out.shape
    for v in range(rows):
        for u in range(columns):
            dx = T[0, 0] * ray_x[u] + T[0, 1] * ray_y[v] + T[0, 2]
            dy = T[1, 0] * ray_x[u] + T[1, 1] * ray_y[v] + T[1, 2]
            dz = T[2, 0] * ray_x[u] + T[2, 1] * ray_y[v] + T[2, 2]
            best = far
            if dz < -1e-9:
                t = (floor - T[2, 3]) / dz
                if 0.0 < t < best:
                    best = t
            for n in range(box_half.shape[0]):
                enter, leave = 0.0, best
                hit = True
                for k in range(3):
                    o = box_T[n, k, 0] * T[0, 3] + box_T[n, k, 1] * T[1, 3] + box_T[n, k, 2] * T[2, 3] + box_T[n, k, 3]
                    d = box_T[n, k, 0] * dx + box_T[n, k, 1] * dy + box_T[n, k, 2] * dz
                    if abs(d) < 1e-12:
                        if abs(o) > box_half[n, k]:
                            hit = False
                            break
                        continue
                    t1 = (-box_half[n, k] - o) / d
                    t2 = (box_half[n, k] - o) / d
                    enter = max(enter, min(t1, t2))
                    leave = min(leave, max(t1, t2))
                    if enter > leave:
                        hit = False
                        break
                if hit and 0.0 < enter < best:
                    best = enter
            out[v, u] = best
