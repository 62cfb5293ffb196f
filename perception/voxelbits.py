"""The possible-space map's loops on bits, compiled by numba: 64 voxels along z in one word.

A set of voxels is an array of uint64, shape (words, nx, ny): voxel (i, j, k) is bit k % 64 of word [k // 64, i, j].
Bits above the highest voxel are always 0. Pure functions; metres unless stated.
"""

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
U64 = NDArray[np.uint64]

# numba turns uint64 mixed with a signed literal into float64, so every operand is of this type.
ZERO, ONE, TOP = np.uint64(0), np.uint64(1), np.uint64(63)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_M1, _M2 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_M4, _H8 = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
_NIBBLE = np.uint64(15)
_S2, _S4, _S56 = np.uint64(2), np.uint64(4), np.uint64(56)


def pack(voxels: NDArray[np.generic]) -> U64:
    """Bits of an (nx, ny, nz) array: set where it is not zero."""
    nx, ny, nz = voxels.shape
    words = (nz + 63) // 64
    full = np.zeros((nx, ny, words * 64), np.uint8)
    full[:, :, :nz] = voxels != 0
    packed = np.packbits(full, axis=2, bitorder="little").view("<u8").astype(np.uint64)
    return np.ascontiguousarray(packed.transpose(2, 0, 1))


def unpack(bits: U64, nz: int) -> U8:
    """The (nx, ny, nz) array of 0 and 1 that `pack` made `bits` from."""
    columns = np.ascontiguousarray(bits.transpose(1, 2, 0)).astype("<u8")
    return np.unpackbits(columns.view(np.uint8), axis=2, bitorder="little")[:, :, :nz]


@njit(cache=True, nogil=True)
def popcount(x: np.uint64) -> int:
    """Set bits of a word (sums of pairs, nibbles, bytes)."""
    x = x - ((x >> ONE) & _M1)
    x = (x & _M2) + ((x >> _S2) & _M2)
    x = (x + (x >> _S4)) & _M4
    return int((x * _H8) >> _S56)


@njit(cache=True, nogil=True)
def grow(bits: U64, passable: U64, steps: int, scratch: U64, out: U64) -> None:
    """out: `bits` grown `steps` times by one voxel in all 26 directions, each time less what is not `passable`.

    Only the results are masked: a person passes a corner by less than a voxel, so the way round it must not be blocked.
    out may be `bits`; scratch: of the same shape.
    """
    words, nx, ny = bits.shape
    if steps <= 0:
        out[:, :, :] = bits
    line = np.empty(ny, np.uint64)
    for step in range(steps):
        source = bits if step == 0 else out
        for w in range(words):
            for i in range(nx):
                for j in range(ny):
                    here = source[w, i, j]
                    line[j] = here | (here << ONE) | (here >> ONE)
                if w > 0:
                    for j in range(ny):
                        line[j] |= source[w - 1, i, j] >> TOP
                if w < words - 1:
                    for j in range(ny):
                        line[j] |= source[w + 1, i, j] << TOP
                for j in range(1, ny - 1):
                    scratch[w, i, j] = line[j - 1] | line[j] | line[j + 1]
                scratch[w, i, 0] = line[0] | line[min(1, ny - 1)]
                scratch[w, i, ny - 1] = line[ny - 1] | line[max(0, ny - 2)]
        for w in range(words):
            for i in range(nx):
                before, after = max(0, i - 1), min(nx - 1, i + 1)
                for j in range(ny):
                    near = scratch[w, before, j] | scratch[w, i, j] | scratch[w, after, j]
                    out[w, i, j] = near & passable[w, i, j]


@njit(cache=True, nogil=True)
def extremes_of_window(pooled: U16, least: U16, greatest: U16) -> None:
    """Least and greatest of the 4x4 entries of `pooled` from (v, u) on, as far as there are so many."""
    rows, columns = pooled.shape
    low, high = np.empty(columns, np.uint16), np.empty(columns, np.uint16)
    for v in range(rows):
        low[:] = pooled[v]
        high[:] = pooled[v]
        for y in range(v + 1, min(v + 4, rows)):
            for u in range(columns):
                low[u] = min(low[u], pooled[y, u])
                high[u] = max(high[u], pooled[y, u])
        for u in range(columns - 3):
            least[v, u] = min(min(low[u], low[u + 1]), min(low[u + 2], low[u + 3]))
            greatest[v, u] = max(max(high[u], high[u + 1]), max(high[u + 2], high[u + 3]))
        for u in range(max(0, columns - 3), columns):
            least[v, u], greatest[v, u] = low[u], high[u]
            for x in range(u + 1, columns):
                least[v, u] = min(least[v, u], low[x])
                greatest[v, u] = max(greatest[v, u], high[x])


@njit(cache=True, nogil=True)
def seen_free(
    query: U64, pooled: U16, least: U16, greatest: U16, box: U16, group: U16, nz: int, out: U64
) -> None:  # fmt: skip
    """out: the voxels of `query` whose whole projection is known to be free up to their far side.

    query: only voxels the camera can see. pooled: free depth of blocks of pixels, mm; least, greatest: as
    `extremes_of_window` makes them. box: (nx ny nz, 5) pooled pixel bounds v0, v1, u0, u1 (inclusive) and far side,
    mm. group: (16 words nx ny, 6) the same of all that is visible of four voxels above each other, with the greatest
    and, last, the least far side. Most groups are free or hidden as a whole.
    """
    words, nx, ny = query.shape
    for w in range(words):
        for i in range(nx):
            for j in range(ny):
                rest = query[w, i, j]
                free = ZERO
                column = (i * ny + j) * words + w
                while rest != ZERO:
                    nibble = (popcount((rest & (~rest + ONE)) - ONE)) >> 2
                    four = rest & (_NIBBLE << np.uint64(4 * nibble))
                    rest ^= four
                    g = 16 * column + nibble
                    if _hidden(greatest, group[g]):
                        continue
                    if _free_over(pooled, least, group[g]):
                        free |= four
                        continue
                    while four != ZERO:
                        low = four & (~four + ONE)
                        four ^= low
                        n = (i * ny + j) * nz + 64 * w + popcount(low - ONE)
                        if _free_over(pooled, least, box[n]):
                            free |= low
                out[w, i, j] = free


@njit(cache=True, nogil=True)
def _hidden(greatest: U16, group: U16) -> bool:
    """Whether no block of pixels of a rectangle, and none a little beside it, is free as far as the least far side."""
    v0, v1, u0, u1 = np.intp(group[0]), np.intp(group[1]), np.intp(group[2]), np.intp(group[3])
    far = group[5]
    for v in range(v0, v1 + 1, 4):
        for u in range(u0, u1 + 1, 4):
            if greatest[v, u] >= far:
                return False
    return True


@njit(cache=True, nogil=True)
def _free_over(pooled: U16, least: U16, box: U16) -> bool:
    """Whether all blocks of pixels of a rectangle are free as far as its far side."""
    v0, v1, u0, u1 = np.intp(box[0]), np.intp(box[1]), np.intp(box[2]), np.intp(box[3])
    far = box[4]
    if pooled[v0, u0] < far:
        return False
    if v1 - v0 < 3 or u1 - u0 < 3:
        if v1 - v0 < 4 and u1 - u0 < 4 and least[v0, u0] >= far:
            return True
        for v in range(v0, v1 + 1):
            for u in range(u0, u1 + 1):
                if pooled[v, u] < far:
                    return False
        return True
    # Windows side by side, the last ones pushed back to end with the rectangle.
    for v in range(v0, v1 + 1, 4):
        for u in range(u0, u1 + 1, 4):
            y, x = v if v < v1 - 3 else v1 - 3, u if u < u1 - 3 else u1 - 3
            if least[y, x] < far:
                return False
    return True


@njit(cache=True, nogil=True)
def occupy(points: F32, half: float, lower: F64, size: float, nz: int, out: U64) -> None:
    """Set the voxels that cubes of half edge `half` about (n, 3) points meet; what is outside the map is left out."""
    _, nx, ny = out.shape
    low, high = np.empty(3), np.empty(3)
    limit = (nx, ny, nz)
    for n in range(points.shape[0]):
        inside = True
        for axis in range(3):
            # The cube is shrunk by a millionth of a voxel: cells that end exactly on a voxel's face do not enter it.
            low[axis] = max(0.0, np.floor((points[n, axis] - half - lower[axis]) / size + 1e-6))
            high[axis] = min(limit[axis] - 1.0, np.floor((points[n, axis] + half - lower[axis]) / size - 1e-6))
            inside &= low[axis] <= high[axis]
        if not inside:
            continue
        for i in range(int(low[0]), int(high[0]) + 1):
            for j in range(int(low[1]), int(high[1]) + 1):
                for k in range(int(low[2]), int(high[2]) + 1):
                    out[k >> 6, i, j] |= ONE << np.uint64(k & 63)


@njit(cache=True, nogil=True)
def near_capsules(
    possible: U64, lower: F64, size: float, nz: int, cap_a: F64, cap_b: F64, cap_r: F64, more: float, out: U64
) -> None:
    """Add to `out` the voxels of `possible` whose centre is within r + more of the axis of a capsule."""
    words, nx, ny = possible.shape
    centre = np.empty(3)
    for c in range(cap_r.shape[0]):
        r = cap_r[c] + more
        if not r > 0.0:
            continue
        i0 = max(0, int(np.floor((min(cap_a[c, 0], cap_b[c, 0]) - r - lower[0]) / size)))
        i1 = min(nx - 1, int(np.floor((max(cap_a[c, 0], cap_b[c, 0]) + r - lower[0]) / size)))
        j0 = max(0, int(np.floor((min(cap_a[c, 1], cap_b[c, 1]) - r - lower[1]) / size)))
        j1 = min(ny - 1, int(np.floor((max(cap_a[c, 1], cap_b[c, 1]) + r - lower[1]) / size)))
        k0 = max(0, int(np.floor((min(cap_a[c, 2], cap_b[c, 2]) - r - lower[2]) / size)))
        k1 = min(nz - 1, int(np.floor((max(cap_a[c, 2], cap_b[c, 2]) + r - lower[2]) / size)))
        for i in range(i0, i1 + 1):
            centre[0] = lower[0] + (i + 0.5) * size
            for j in range(j0, j1 + 1):
                centre[1] = lower[1] + (j + 0.5) * size
                for w in range(words):
                    rest = possible[w, i, j] & ~out[w, i, j]
                    while rest != ZERO:
                        low = rest & (~rest + ONE)
                        rest ^= low
                        k = 64 * w + popcount(low - ONE)
                        if k0 <= k <= k1:
                            centre[2] = lower[2] + (k + 0.5) * size
                            if distance2_to_segment(centre[0], centre[1], centre[2], cap_a[c], cap_b[c]) <= r * r:
                                out[w, i, j] |= low


@njit(cache=True, nogil=True)
def _root(parent: I32, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(cache=True, nogil=True)
def _unite(parent: I32, a: int, b: int) -> None:
    one, other = _root(parent, a), _root(parent, b)
    parent[max(one, other)] = min(one, other)


@njit(cache=True, nogil=True)
def _join(here: int, there: int, first: I32, runs: U64, parent: I32) -> None:
    """Unite the runs of two neighbouring columns of a word that touch, corners included."""
    a, b = first[here], first[there]
    while a < first[here + 1] and b < first[there + 1]:
        if (runs[a] | (runs[a] << ONE) | (runs[a] >> ONE)) & runs[b] != ZERO:
            _unite(parent, a, b)
        if runs[a] < runs[b]:
            a += 1
        else:
            b += 1


@njit(cache=True, nogil=True)
def _join_words(words: int, nx: int, ny: int, first: I32, runs: U64, parent: I32) -> None:
    """Unite runs that end at the top of a word with those that begin at the bottom of the next, corners included."""
    for w in range(1, words):
        for i in range(nx):
            for j in range(ny):
                here = (w * nx + i) * ny + j
                if first[here] == first[here + 1] or runs[first[here]] & ONE == ZERO:
                    continue
                for x in range(max(0, i - 1), min(nx, i + 2)):
                    for y in range(max(0, j - 1), min(ny, j + 2)):
                        below = ((w - 1) * nx + x) * ny + y
                        last = first[below + 1] - 1
                        if last >= first[below] and runs[last] >> TOP != ZERO:
                            _unite(parent, first[here], last)


@njit(cache=True, nogil=True)
def drop_small_components(
    possible: U64, anchored: U64, thin: U64, least: int, first: I32, runs: U64, parent: I32, room: I32
) -> int:
    """Clear 26-connected components of `possible` with fewer than `least` voxels of room and no `anchored` voxel.

    thin: voxels that are no room for a torso (the layer round the arm); they belong to their component but do not
    count. anchored: where something was seen or people can enter; such a component is never dropped. Components are
    found by uniting the runs of neighbouring columns.
    first (words nx ny + 1), runs, parent, room (n): scratch; n is at least 32 words nx ny, the most runs there can be.
    Returns how many voxels were cleared.
    """
    words, nx, ny = possible.shape
    count = 0
    for w in range(words):
        for i in range(nx):
            for j in range(ny):
                here = (w * nx + i) * ny + j
                first[here] = count
                rest = possible[w, i, j]
                while rest != ZERO:
                    # Adding the lowest bit carries through the lowest run.
                    run = rest & ~(rest + (rest & (~rest + ONE)))
                    rest ^= run
                    runs[count], parent[count] = run, count
                    # One bit of a run that is seen or an entry makes all of its component large enough.
                    held = run & anchored[w, i, j] != ZERO
                    room[count] = least if held else min(least, popcount(run & ~thin[w, i, j]))
                    count += 1
                first[here + 1] = count
                if j > 0:
                    _join(here, here - 1, first, runs, parent)
                if i > 0:
                    for other in range(max(0, j - 1), min(ny, j + 2)):
                        _join(here, here - ny + other - j, first, runs, parent)
    _join_words(words, nx, ny, first, runs, parent)
    for n in range(count):
        root = _root(parent, n)
        if root != n:
            room[root] = min(least, room[root] + room[n])
    return _clear_small(possible, least, first, runs, parent, room)


@njit(cache=True, nogil=True)
def _clear_small(possible: U64, least: int, first: I32, runs: U64, parent: I32, room: I32) -> int:
    words, nx, ny = possible.shape
    cleared = 0
    for w in range(words):
        for i in range(nx):
            for j in range(ny):
                here = (w * nx + i) * ny + j
                for n in range(first[here], first[here + 1]):
                    if room[_root(parent, n)] < least:
                        possible[w, i, j] &= ~runs[n]
                        cleared += popcount(runs[n])
    return cleared


@njit(cache=True, nogil=True)
def _edges(possible: U64, w: int, i: int, j: int, ends: U64) -> np.uint64:
    """Bits of a word with a neighbour (of 6) inside the map that is not possible. ends: (2,) lowest, highest voxel."""
    words, nx, ny = possible.shape
    here = possible[w, i, j]
    below = (here << ONE) | (possible[w - 1, i, j] >> TOP if w > 0 else ends[0])
    above = (here >> ONE) | (possible[w + 1, i, j] << TOP if w < words - 1 else ends[1])
    inner = below & above
    if i > 0:
        inner &= possible[w, i - 1, j]
    if i < nx - 1:
        inner &= possible[w, i + 1, j]
    if j > 0:
        inner &= possible[w, i, j - 1]
    if j < ny - 1:
        inner &= possible[w, i, j + 1]
    return here & ~inner


@njit(cache=True, nogil=True)
def frontier(
    possible: U64, lower: F64, size: float, nz: int, box_low: F64, box_high: F64, interest: float, always: float,
    out: F32,
) -> int:  # fmt: skip
    """Write the centres of possible voxels that can matter to an arm inside the box box_low..box_high.

    A voxel matters within `interest` of the box if it has a neighbour that is not possible (the nearest voxel of a
    region always has one), or if it lies within `always` of the box. Returns the number; > len(out) is overflow.
    """
    words, nx, ny = possible.shape
    ends = np.array([ONE, ONE << np.uint64((nz - 1) & 63)], np.uint64)
    n = 0
    for i in range(nx):
        x = lower[0] + (i + 0.5) * size
        dx = max(box_low[0] - x, 0.0, x - box_high[0])
        for j in range(ny):
            y = lower[1] + (j + 0.5) * size
            dy = max(box_low[1] - y, 0.0, y - box_high[1])
            across = dx * dx + dy * dy
            if across > interest * interest:
                continue
            for w in range(words):
                rest = possible[w, i, j]
                if rest == ZERO:
                    continue
                edge = _edges(possible, w, i, j, ends)
                if across > always * always:
                    rest = edge
                while rest != ZERO:
                    low = rest & (~rest + ONE)
                    rest ^= low
                    z = lower[2] + (64 * w + popcount(low - ONE) + 0.5) * size
                    dz = max(box_low[2] - z, 0.0, z - box_high[2])
                    d2 = across + dz * dz
                    if d2 > interest * interest or (edge & low == ZERO and d2 > always * always):
                        continue
                    if n < out.shape[0]:
                        out[n, 0], out[n, 1], out[n, 2] = x, y, z
                    n += 1
    return n
