"""The per-pixel and per-voxel loops of perception, compiled by numba. Pure functions on arrays; metres unless stated.

Depth pictures are uint16 millimetres along the optical axis, 0 = invalid. Invalid is unknown, never free.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]

UNKNOWN, BACKGROUND, ROBOT, PART, PERSON, EDGE = 0, 1, 2, 3, 4, 5
"""Classes of a pixel. EDGE: behind and beside a robot pixel, where stereo mixes two depths; treated as unknown."""

FREE_ALL = np.uint16(65535)


@njit(cache=True)
def fill_small_holes(depth: U16, out: U16) -> None:
    """Give an isolated invalid pixel (>= 6 of 8 neighbours valid) its nearest neighbour's depth; others stay 0."""
    rows, columns = depth.shape
    for v in range(rows):
        for u in range(columns):
            z = depth[v, u]
            if z == 0 and 0 < v < rows - 1 and 0 < u < columns - 1:
                valid = 0
                nearest = FREE_ALL
                for dv in range(-1, 2):
                    for du in range(-1, 2):
                        n = depth[v + dv, u + du]
                        if n != 0:
                            valid += 1
                            if n < nearest:
                                nearest = n
                if valid >= 6:
                    z = nearest
            out[v, u] = z


@njit(cache=True)
def _distance2_to_segment(x: float, y: float, z: float, a: F64, b: F64) -> float:
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    wx, wy, wz = x - a[0], y - a[1], z - a[2]
    length2 = ux * ux + uy * uy + uz * uz
    s = 0.0
    if length2 > 0.0:
        s = min(1.0, max(0.0, (wx * ux + wy * uy + wz * uz) / length2))
    dx, dy, dz = wx - s * ux, wy - s * uy, wz - s * uz
    return dx * dx + dy * dy + dz * dz


@njit(cache=True)
def classify(
    depth: U16,
    near: U16,
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
    """Label every pixel: background, robot, expected part, or person.

    Points outside the person volume lower..upper count as background: the ray is free on its way through the volume,
    and what comes in does so through the entries of the possible-space map.

    depth, near: (h, w) mm; a valid pixel not nearer than `near` is background. ray_x, ray_y: (w,), (h,) tangents.
    T: (4, 4) camera to base. cap_*: link capsules at exposure time, base frame. The robot's margin is
    margin + sigmas * noise * z^2 (FACTS: a fixed margin gives false stops, three sigmas do not).
    part_T: (n, 4, 4) base to part; part_half: (n, 3) half edge lengths.
    """
    rows, columns = depth.shape
    for v in range(rows):
        for u in range(columns):
            raw = depth[v, u]
            if raw == 0:
                label[v, u] = UNKNOWN
                continue
            if raw >= near[v, u]:
                label[v, u] = BACKGROUND
                continue
            z = raw * 0.001
            cx, cy = ray_x[u] * z, ray_y[v] * z
            x = T[0, 0] * cx + T[0, 1] * cy + T[0, 2] * z + T[0, 3]
            y = T[1, 0] * cx + T[1, 1] * cy + T[1, 2] * z + T[1, 3]
            w = T[2, 0] * cx + T[2, 1] * cy + T[2, 2] * z + T[2, 3]
            if x < lower[0] or y < lower[1] or w < lower[2] or x > upper[0] or y > upper[1] or w > upper[2]:
                label[v, u] = BACKGROUND
                continue
            slack = sigmas * noise * z * z
            kind = PERSON
            for i in range(cap_r.shape[0]):
                reach = cap_r[i] + margin + slack
                if _distance2_to_segment(x, y, w, cap_a[i], cap_b[i]) <= reach * reach:
                    kind = ROBOT
                    break
            if kind == PERSON:
                for i in range(part_half.shape[0]):
                    inside = True
                    for k in range(3):
                        local = part_T[i, k, 0] * x + part_T[i, k, 1] * y + part_T[i, k, 2] * w + part_T[i, k, 3]
                        if abs(local) > part_half[i, k] + part_margin + slack:
                            inside = False
                            break
                    if inside:
                        kind = PART
                        break
            label[v, u] = kind


@njit(cache=True)
def resolve_edges_and_support(depth: U16, label: U8, noise: float, sigmas: float, support: int, out: U8) -> int:
    """Second pass over person pixels: mixed pixels at the robot's outline become EDGE, unsupported ones UNKNOWN.

    A person pixel needs `support` neighbours of 8 that are person pixels too and agree in depth. A pixel that lies
    behind a robot pixel beside it is EDGE. Returns the number of person pixels left.
    """
    rows, columns = depth.shape
    count = 0
    for v in range(rows):
        for u in range(columns):
            kind = label[v, u]
            out[v, u] = kind
            if kind != PERSON:
                continue
            z = depth[v, u]
            tolerance = 30.0 + sigmas * noise * (z * 0.001) * z
            agree = 0
            edge = False
            for dv in range(-1, 2):
                for du in range(-1, 2):
                    if (dv == 0 and du == 0) or not (0 <= v + dv < rows and 0 <= u + du < columns):
                        continue
                    other = label[v + dv, u + du]
                    n = depth[v + dv, u + du]
                    if other == PERSON and abs(float(n) - float(z)) <= tolerance:
                        agree += 1
                    elif (other == ROBOT or other == PART) and n < z:
                        edge = True
            if edge:
                out[v, u] = EDGE
            elif agree < support:
                out[v, u] = UNKNOWN
            else:
                count += 1
    return count


@njit(cache=True)
def collect_points(
    depth: U16, label: U8, ray_x: F32, ray_y: F32, T: F64, lower: F64, size: float, stamp: I32, mark: int, out: F32
) -> int:
    """Write the centres of the cells of `size` that person pixels fall into; one entry a cell.

    stamp: (nx, ny, nz) int32 scratch, `mark` a value not yet in it. Points outside the grid are left out: there the
    entries of the possible-space map already count as occupied. Returns how many cells there are; more than
    len(out) means overflow, which the caller must treat as "cannot see".
    """
    rows, columns = depth.shape
    n = 0
    inverse = 1.0 / size
    for v in range(rows):
        for u in range(columns):
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


@njit(cache=True)
def _bridge(free: F32, start: int, stop: int, width: float, out: F32) -> None:
    """Give the unknown run start..stop-1 of a line what its ends and its width allow, if that is more than `out` has.

    An object of at least the smallest detectable size that hides behind a run of n pixels lies beyond `width` / n: any
    nearer it would stand out on both sides, where the line is known to be free up to the nearer end's depth.
    """
    if start == 0 or stop == free.shape[0]:
        return
    least = min(free[start - 1], free[stop], width / (stop - start))
    for i in range(start, stop):
        if least > out[i]:
            out[i] = least


@njit(cache=True)
def _bridge_line(free: F32, width: float, out: F32) -> None:
    start = -1
    for i in range(free.shape[0]):
        unknown = free[i] < 0.0
        if unknown and start < 0:
            start = i
        elif not unknown and start >= 0:
            _bridge(free, start, i, width, out)
            start = -1


@njit(cache=True)
def free_depth(
    depth: U16,
    label: U8,
    margin_mm: float,
    noise: float,
    sigmas: float,
    width_mm: float,
    free: F32,
    bridged: F32,
    pooled: U16,
) -> None:
    """Pool 4x4 pixels to the depth (mm) up to which *every* ray of the block is known to be free.

    Background pixels are free all the way to the static surface (FREE_ALL: what hides behind static surfaces is
    handled by each voxel's own static visibility). Unknown and edge pixels are free for nothing of their own; narrow
    runs of them, along rows or columns, are bridged as far as nothing of the smallest detectable size could hide
    there. width_mm: that size times the focal length in pixels. free, bridged: (h, w) scratch.
    """
    rows, columns = depth.shape
    for v in range(rows):
        for u in range(columns):
            kind = label[v, u]
            if kind == BACKGROUND or kind == PART:
                free[v, u] = 65535.0
            elif kind == UNKNOWN or kind == EDGE:
                free[v, u] = -1.0
            else:
                z = float(depth[v, u])
                free[v, u] = max(0.0, z - margin_mm - sigmas * noise * (z * 0.001) * z)
            bridged[v, u] = max(free[v, u], 0.0)
    for v in range(rows):
        _bridge_line(free[v], width_mm, bridged[v])
    for u in range(columns):
        _bridge_line(free[:, u], width_mm, bridged[:, u])
    pooled[:, :] = FREE_ALL
    for v in range(rows):
        for u in range(columns):
            if bridged[v, u] < pooled[v >> 2, u >> 2]:
                pooled[v >> 2, u >> 2] = np.uint16(bridged[v, u])


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def drop_small_components(possible: U8, anchored: U8, thin: U8, least: int, label: I32, stack: I32) -> int:
    """Clear 26-connected components of `possible` with fewer than `least` voxels of room and no `anchored` voxel.

    thin: voxels that are no room for a torso (the layer round the arm); they belong to their component but do not
    count. anchored: where something was seen or people can enter; such a component is never dropped.
    label, stack: scratch.
    Returns how many voxels were cleared.
    """
    nx, ny, nz = possible.shape
    label[:, :, :] = 0
    mark = 0
    cleared = 0
    for i0 in range(nx):
        for j0 in range(ny):
            for k0 in range(nz):
                if possible[i0, j0, k0] == 0 or label[i0, j0, k0] != 0:
                    continue
                mark += 1
                head = 0
                tail = 1
                stack[0] = (i0 * ny + j0) * nz + k0
                label[i0, j0, k0] = mark
                held = False
                room = 0
                while head < tail:
                    code = stack[head]
                    head += 1
                    k = code % nz
                    j = (code // nz) % ny
                    i = code // (nz * ny)
                    if anchored[i, j, k]:
                        held = True
                    if thin[i, j, k] == 0:
                        room += 1
                    for di in range(-1, 2):
                        for dj in range(-1, 2):
                            for dk in range(-1, 2):
                                a, b, c = i + di, j + dj, k + dk
                                if 0 <= a < nx and 0 <= b < ny and 0 <= c < nz:
                                    if possible[a, b, c] and label[a, b, c] == 0:
                                        label[a, b, c] = mark
                                        stack[tail] = (a * ny + b) * nz + c
                                        tail += 1
                if not held and room < least:
                    for index in range(tail):
                        code = stack[index]
                        possible[code // (nz * ny), (code // nz) % ny, code % nz] = 0
                    cleared += tail
    return cleared


@njit(cache=True)
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


@njit(cache=True)
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
                    if _distance2_to_segment(x, y, z, cap_a[c], cap_b[c]) <= r * r:
                        voxels[i, j, k] = value


@njit(cache=True)
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
