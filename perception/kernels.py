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

ONE = np.uint64(1)
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
def capsule_bounds(cap_a: F64, cap_b: F64, cap_r: F64) -> F64:
    """(2, 3) lower and upper corner of a box round all capsules; empty (lower > upper) if there is none."""
    bounds = np.empty((2, 3))
    bounds[0], bounds[1] = np.inf, -np.inf
    for i in range(cap_r.shape[0]):
        for k in range(3):
            bounds[0, k] = min(bounds[0, k], min(cap_a[i, k], cap_b[i, k]) - cap_r[i])
            bounds[1, k] = max(bounds[1, k], max(cap_a[i, k], cap_b[i, k]) + cap_r[i])
    return bounds


@njit(cache=True, nogil=True)
def _segments(cap_a: F64, cap_b: F64, cap_r: F64) -> F64:
    """(n, 8) of capsules: start, direction to the end, 1 / length^2 of it (0 for a ball), radius."""
    out = np.empty((cap_r.shape[0], 8))
    for i in range(cap_r.shape[0]):
        length2 = 0.0
        for k in range(3):
            out[i, k] = cap_a[i, k]
            out[i, 3 + k] = cap_b[i, k] - cap_a[i, k]
            length2 += out[i, 3 + k] * out[i, 3 + k]
        out[i, 6] = 1.0 / length2 if length2 > 0.0 else 0.0
        out[i, 7] = cap_r[i]
    return out


@njit(cache=True, nogil=True)
def _in_segments(x: float, y: float, z: float, more: float, s: F64) -> bool:
    for i in range(s.shape[0]):
        wx, wy, wz = x - s[i, 0], y - s[i, 1], z - s[i, 2]
        along = min(1.0, max(0.0, (wx * s[i, 3] + wy * s[i, 4] + wz * s[i, 5]) * s[i, 6]))
        dx, dy, dz = wx - along * s[i, 3], wy - along * s[i, 4], wz - along * s[i, 5]
        reach = s[i, 7] + more
        if dx * dx + dy * dy + dz * dz <= reach * reach:
            return True
    return False


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

    depth: (h, w) mm. pixels: as `pixels.candidates` wrote them. ray_x, ray_y: (w,), (h,) tangents. T: (4, 4) camera to
    base. cap_*: link capsules at exposure time, base frame. The robot's margin is margin + sigmas * noise * z^2 (a
    fixed margin gives false stops, three sigmas do not). part_T: (n, 4, 4) base to part; part_half: (n, 3) half edges.
    """
    bounds = capsule_bounds(cap_a, cap_b, cap_r)
    s = _segments(cap_a, cap_b, cap_r)
    x0, y0, w0, x1, y1, w1 = lower[0], lower[1], lower[2], upper[0], upper[1], upper[2]
    bx0, by0, bw0 = bounds[0, 0] - margin, bounds[0, 1] - margin, bounds[0, 2] - margin
    bx1, by1, bw1 = bounds[1, 0] + margin, bounds[1, 1] + margin, bounds[1, 2] + margin
    t00, t10, t20 = T[0, 0], T[1, 0], T[2, 0]
    t03, t13, t23 = T[0, 3], T[1, 3], T[2, 3]
    parts = part_half.shape[0]
    spread = sigmas * noise
    row = -1
    rx = ry = rw = 0.0
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if label[v, u] != PERSON:
            continue
        if v != row:
            row = v
            rx = T[0, 1] * ray_y[v] + T[0, 2]
            ry = T[1, 1] * ray_y[v] + T[1, 2]
            rw = T[2, 1] * ray_y[v] + T[2, 2]
        z = depth[v, u] * 0.001
        c = float(ray_x[u])
        x = (t00 * c + rx) * z + t03
        y = (t10 * c + ry) * z + t13
        w = (t20 * c + rw) * z + t23
        if x < x0 or y < y0 or w < w0 or x > x1 or y > y1 or w > w1:
            label[v, u] = BACKGROUND
            continue
        slack = spread * z * z
        close = bx0 - slack <= x <= bx1 + slack and by0 - slack <= y <= by1 + slack
        if close and bw0 - slack <= w <= bw1 + slack and _in_segments(x, y, w, margin + slack, s):
            label[v, u] = ROBOT
        elif parts > 0 and _in_boxes(x, y, w, part_margin + slack, part_T, part_half):
            label[v, u] = PART


@njit(cache=True, nogil=True)
def _agrees(kind: np.uint8, z: np.uint16, least: np.uint32, span: np.uint32) -> bool:
    """A person pixel within least..least + span; less than `least` wraps round to more than any span."""
    return (kind == PERSON) & (np.uint32(np.uint32(z) - least) <= span)


@njit(cache=True, nogil=True)
def _look_round(
    depth: U16, measured: U16, label: U8, v: int, u: int, least: np.uint32, span: np.uint32
) -> tuple[int, bool]:
    """How many of 8 neighbours are measured person pixels of like depth; whether one is robot or part and nearer."""
    rows, columns = depth.shape
    agree = 0
    edge = False
    for y in range(max(v - 1, 0), min(v + 2, rows)):
        for x in range(max(u - 1, 0), min(u + 2, columns)):
            if y == v and x == u:
                continue
            kind = label[y, x]
            # A filled hole repeats a neighbour: counted as evidence, one wrong pixel would bear itself out.
            agree += 0 + _agrees(kind, measured[y, x], least, span)
            edge |= (kind == ROBOT or kind == PART) and depth[y, x] < depth[v, u]
    return agree, edge


@njit(cache=True, nogil=True)
def _support(
    label: U8, measured: U16, i: np.uint64, wide: np.uint64, least: np.uint32, span: np.uint32, enough: int
) -> int:
    """As `_look_round` at an inner pixel with flat index i, counted until it is `enough`; -1 beside robot or part."""
    up, down = i - wide, i + wide
    a, b, c = label[up - ONE], label[up], label[up + ONE]
    d, e = label[i - ONE], label[i + ONE]
    f, g, h = label[down - ONE], label[down], label[down + ONE]
    # Of the classes only robot and part have this bit.
    if (a | b | c | d | e | f | g | h) & 2 != 0:
        return -1
    agree = 0 + _agrees(d, measured[i - ONE], least, span) + _agrees(e, measured[i + ONE], least, span)
    if agree < enough:
        agree += 0 + _agrees(b, measured[up], least, span) + _agrees(g, measured[down], least, span)
        agree += 0 + _agrees(a, measured[up - ONE], least, span) + _agrees(c, measured[up + ONE], least, span)
        agree += 0 + _agrees(f, measured[down - ONE], least, span) + _agrees(h, measured[down + ONE], least, span)
    return agree


@njit(cache=True, nogil=True)
def resolve_edges_and_support(
    depth: U16, measured: U16, pixels: I32, label: U8, noise: float, sigmas: float, support: int, out: U8
) -> int:
    """Second pass over person pixels: mixed pixels at the robot's outline become EDGE, unsupported ones UNKNOWN.

    A person pixel was measured and needs `support` neighbours of 8 that were measured, are person pixels too and agree
    in depth. A pixel that lies behind a robot pixel beside it is EDGE. depth: (h, w) mm with isolated holes filled;
    measured: the same as it came. Returns the number of person pixels left.
    """
    rows, columns = depth.shape
    labels, depths, copy = label.reshape(label.size), measured.reshape(label.size), out.reshape(label.size)
    for n in range(labels.size):
        copy[n] = labels[n]
    spread = sigmas * noise * 0.001
    wide = np.uint64(columns)
    count = 0
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if label[v, u] != PERSON:
            continue
        z = np.int64(depth[v, u])
        # Depths are whole millimetres, so the tolerance may be rounded down; 0 is no depth.
        tolerance = np.int64(30.0 + spread * z * z)
        low = max(np.int64(1), z - tolerance)
        least, span = np.uint32(low), np.uint32(z + tolerance - low)
        agree, edge = -1, False
        if 0 < v < rows - 1 and 0 < u < columns - 1:
            agree = _support(labels, depths, np.uint64(v) * wide + np.uint64(u), wide, least, span, support)
        if agree < 0:
            agree, edge = _look_round(depth, measured, label, v, u, least, span)
        if edge:
            out[v, u] = EDGE
        elif agree < support or measured[v, u] == 0:
            out[v, u] = UNKNOWN
        else:
            count += 1
    return count


@njit(cache=True, nogil=True)
def new_cell(code: int, table: I32) -> bool:
    """Put a number into a hash table of a power of two entries, -1 where free; False if it was in."""
    room = table.shape[0] - 1
    # Neighbours along the last axis stay together: they come one after the other.
    slot = ((((code >> 3) * 0x9E3779B1) >> 12 << 3) | (code & 7)) & room
    while table[slot] >= 0:
        if table[slot] == code:
            return False
        slot = (slot + 1) & room
    table[slot] = code
    return True


@njit(cache=True, nogil=True)
def collect_points(
    depth: U16, pixels: I32, label: U8, ray_x: F32, ray_y: F32, T: F64, lower: F64, size: float,
    shape: tuple[int, int, int], table: I32, n: int, out: F32,
) -> int:  # fmt: skip
    """Write the centres of the cells of `size` that person pixels fall into; one entry a cell.

    shape: cells along each axis from `lower` on; points outside are left out: there the entries of the possible-space
    map already count as occupied. table: hash table of the numbers of the n cells that are in `out` already, at least
    four times as long as `out`. Returns how many cells there are; more than len(out) means overflow, which the caller
    must treat as "cannot see".
    """
    nx, ny, nz = shape
    if n > out.shape[0]:
        return n
    inverse = 1.0 / size
    scale = 0.001 * inverse
    t00, t10, t20 = T[0, 0] * scale, T[1, 0] * scale, T[2, 0] * scale
    t03, t13, t23 = (T[0, 3] - lower[0]) * inverse, (T[1, 3] - lower[1]) * inverse, (T[2, 3] - lower[2]) * inverse
    row, rx, ry, rw = -1, 0.0, 0.0, 0.0
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if label[v, u] != PERSON:
            continue
        if v != row:
            row = v
            rx = (T[0, 1] * ray_y[v] + T[0, 2]) * scale
            ry = (T[1, 1] * ray_y[v] + T[1, 2]) * scale
            rw = (T[2, 1] * ray_y[v] + T[2, 2]) * scale
        z, c = float(depth[v, u]), float(ray_x[u])
        # Truncation is floor for what is not left out.
        i = int((t00 * c + rx) * z + t03 + 1.0) - 1
        j = int((t10 * c + ry) * z + t13 + 1.0) - 1
        k = int((t20 * c + rw) * z + t23 + 1.0) - 1
        if i < 0 or j < 0 or k < 0 or i >= nx or j >= ny or k >= nz:
            continue
        if not new_cell((i * ny + j) * nz + k, table):
            continue
        if n == out.shape[0]:
            return n + 1
        out[n, 0] = lower[0] + (i + 0.5) * size
        out[n, 1] = lower[1] + (j + 0.5) * size
        out[n, 2] = lower[2] + (k + 0.5) * size
        n += 1
    return n


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
