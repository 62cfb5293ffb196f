"""How far each ray of a picture is known to be free, compiled by numba. Depth is uint16 millimetres; 0 is invalid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception.kernels import BACKGROUND, EDGE, PART, PERSON, ROBOT, UNKNOWN

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]

FREE_ALL = np.uint16(65535)
"""Free all the way to the static surface."""


@njit(cache=True, nogil=True)
def _unknown(kind: np.uint8) -> bool:
    return (kind == UNKNOWN) | (kind == EDGE)


@njit(cache=True, nogil=True)
def free_mm(z: float, margin_mm: float, spread: float) -> np.uint16:
    """Depth up to which a ray that ends at z mm is free: spread * z^2 is the tolerance for noise, mm."""
    return np.uint16(max(0.0, z - margin_mm - spread * z * z))


@njit(cache=True, nogil=True)
def _free_of(depth: U16, label: U8, v: int, u: int, margin_mm: float, spread: float) -> np.uint16:
    kind = label[v, u]
    if kind == BACKGROUND or kind == PART:
        return FREE_ALL
    if _unknown(kind):
        return np.uint16(0)
    return free_mm(float(depth[v, u]), margin_mm, spread)


@njit(cache=True, nogil=True)
def _bridge(
    depth: U16, label: U8, v: int, u: int, dv: int, du: int, width: float, margin_mm: float, spread: float, out: U16
) -> None:
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
    one, other = (
        _free_of(depth, label, v - dv, u - du, margin_mm, spread),
        _free_of(depth, label, y, x, margin_mm, spread),
    )
    least = np.uint16(min(float(min(one, other)), width / length))
    for k in range(length):
        out[v + k * dv, u + k * du] = max(out[v + k * dv, u + k * du], least)


@njit(cache=True, nogil=True)
def free_depth(
    depth: U16, pixels: I32, label: U8, margin_mm: float, noise: float, sigmas: float, width_mm: float, bridged: U16,
    pooled: U16,
) -> None:  # fmt: skip
    """Lower `pooled` to the depth (mm, rounded down) up to which *every* ray of its 4x4 pixels is known to be free.

    Background pixels are free all the way to the static surface (FREE_ALL: what hides behind static surfaces is
    handled by each voxel's own static visibility), so blocks without other pixels are left as they are. Unknown and
    edge pixels are free for nothing of their own; narrow runs of them, along rows or columns, are bridged as far as
    nothing of the smallest detectable size could hide there. pixels: as `pixels.candidates` wrote them; width_mm: that
    size times the focal length in pixels; bridged: (h, w) scratch.
    """
    spread = sigmas * noise * 0.001
    unknown = 0
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        kind = label[v, u]
        if kind == ROBOT or kind == PERSON:
            free = free_mm(float(depth[v, u]), margin_mm, spread)
            pooled[v >> 2, u >> 2] = min(pooled[v >> 2, u >> 2], free)
        elif _unknown(kind):
            bridged[v, u] = 0
            unknown += 1
    if unknown == 0:
        return
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if _unknown(label[v, u]):
            _bridge(depth, label, v, u, 0, 1, width_mm, margin_mm, spread, bridged)
            _bridge(depth, label, v, u, 1, 0, width_mm, margin_mm, spread, bridged)
    for code in pixels:
        v, u = code >> 16, code & 0xFFFF
        if _unknown(label[v, u]):
            pooled[v >> 2, u >> 2] = min(pooled[v >> 2, u >> 2], bridged[v, u])
