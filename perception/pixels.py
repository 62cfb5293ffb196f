"""Which pixels of a depth picture are not background: the first, widest loops of perception, compiled by numba.

Depth pictures are uint16 millimetres along the optical axis, 0 = invalid. Invalid is unknown, never free.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception.kernels import BACKGROUND, PERSON
from perception.voxelbits import popcount

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]

_EACH, _BYTE = np.uint64(0x0101010101010101), np.uint64(0xFF)
"""The lowest bit of each of eight pixels, and all of one."""
_ONE, _TWO, _EIGHT = np.uint64(1), np.uint64(2), np.uint64(8)


@njit(cache=True, nogil=True)
def first_labels(depth: U16, near: U16, label: U8) -> int:
    """Label every pixel BACKGROUND (not nearer than `near`), PERSON (nearer) or UNKNOWN (0); count the PERSON ones."""
    rows, columns = depth.shape
    for v in range(rows):
        for u in range(columns):
            z = depth[v, u]
            label[v, u] = np.uint8(z >= near[v, u]) | (np.uint8((z < near[v, u]) & (z != 0)) << np.uint8(2))
    flat = label.reshape(label.size)
    words = flat[: flat.shape[0] // 8 * 8].view(np.uint64)
    count = 0
    for first in range(0, words.shape[0], 255):
        # Only PERSON has this bit; eight sums of at most 255 fit into a word.
        sums = np.uint64(0)
        for k in range(first, min(first + 255, words.shape[0])):
            sums += (words[k] >> _TWO) & _EACH
        for _ in range(8):
            count += int(sums & _BYTE)
            sums >>= _EIGHT
    for k in range(words.shape[0] * 8, flat.shape[0]):
        count += flat[k] == PERSON
    return count


@njit(cache=True, nogil=True)
def not_background(label: U8, pixels: I32) -> int:
    """Write row << 16 | column of all that is UNKNOWN or PERSON, in order; return their number. Eight at a time."""
    columns = label.shape[1]
    flat = label.reshape(label.size)
    words = flat[: flat.shape[0] // 8 * 8].view(np.uint64)
    n, v, u = 0, 0, 0
    for k in range(words.shape[0]):
        # Only BACKGROUND has the lowest bit.
        other = ~words[k] & _EACH
        if other == _EACH and u + 8 <= columns:
            for b in range(8):
                pixels[n + b] = (v << 16 | u) + b
            n += 8
        else:
            while other != 0:
                low = other & (~other + _ONE)
                other ^= low
                x, y = u + (popcount(low - _ONE) >> 3), v
                while x >= columns:
                    x, y = x - columns, y + 1
                pixels[n] = y << 16 | x
                n += 1
        u += 8
        while u >= columns:
            u, v = u - columns, v + 1
    for k in range(words.shape[0] * 8, flat.shape[0]):
        if flat[k] != BACKGROUND:
            pixels[n] = (k // columns) << 16 | k % columns
            n += 1
    return n


@njit(cache=True, nogil=True)
def _nearest(depth: U16, i: np.uint64, wide: np.uint64) -> np.uint16:
    """Depth of the nearest neighbour of the inner pixel with flat index i if >= 6 of its 8 are valid, else 0."""
    up, down = i - wide, i + wide
    a, b, c, d = depth[up - _ONE], depth[up], depth[up + _ONE], depth[i - _ONE]
    e, f, g, h = depth[i + _ONE], depth[down - _ONE], depth[down], depth[down + _ONE]
    valid = 0 + (a != 0) + (b != 0) + (c != 0) + (d != 0) + (e != 0) + (f != 0) + (g != 0) + (h != 0)
    if valid < 6:
        return np.uint16(0)
    # One less than 0 is the largest number: no depth is never the least.
    above = min(min(np.uint16(a - 1), np.uint16(b - 1)), min(np.uint16(c - 1), np.uint16(d - 1)))
    below = min(min(np.uint16(e - 1), np.uint16(f - 1)), min(np.uint16(g - 1), np.uint16(h - 1)))
    return np.uint16(min(above, below) + 1)


@njit(cache=True, nogil=True)
def fill_holes(depth: U16, near: U16, filled: U16, label: U8, pixels: I32) -> int:
    """Give isolated invalid pixels the depth of their nearest neighbour; keep, in `pixels`, what is not background.

    label: as `first_labels` made it, changed where a hole is filled. filled: the depth of all `pixels`, those of others
    are left as they are. Returns how many pixels are kept.
    """
    rows, columns = depth.shape
    flat = depth.reshape(depth.size)
    n = 0
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        z = depth[v, u]
        if z == 0 and 0 < v < rows - 1 and 0 < u < columns - 1:
            z = _nearest(flat, np.uint64(v) * np.uint64(columns) + np.uint64(u), np.uint64(columns))
            if z != 0:
                label[v, u] = BACKGROUND if z >= near[v, u] else PERSON
        filled[v, u] = z
        pixels[n] = code
        n += label[v, u] != BACKGROUND
    return n


@njit(cache=True, nogil=True)
def candidates(depth: U16, near: U16, filled: U16, label: U8, pixels: I32) -> int:
    """Label every pixel UNKNOWN, BACKGROUND or PERSON, the last for whatever is nearer than the background.

    depth, near: (h, w) mm; a valid pixel not nearer than `near` is background. An isolated invalid pixel takes the
    depth of its nearest neighbour; `filled` has those and the depth of every other pixel that is not background.
    pixels: (h * w,), receives row << 16 | column of every pixel that is not background: nothing after this looks at
    the others. Returns their number.
    """
    first_labels(depth, near, label)
    n = not_background(label, pixels)
    return fill_holes(depth, near, filled, label, pixels[:n])
