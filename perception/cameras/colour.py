"""The colour of each depth pixel: depth is lifted to points and looked up in the colour camera's picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception.contract import Intrinsics

STEP = 16
"""Between nodes of the lens grid, px; lens distortion is smooth, so bilinear in between is good to 0.1 px."""
MARGIN = 2
"""Nodes beyond each edge."""


class ColourMap(NamedTuple):
    """What is needed to colour depth. Made once for a pair of cameras."""

    depth: Intrinsics
    rotation: NDArray[np.float64]
    """(3, 3), depth camera to colour camera."""
    translation: NDArray[np.float64]
    """(3,), m."""
    lens: Intrinsics
    """The colour camera as if it had no distortion."""
    grid: NDArray[np.float32]
    """(rows, columns, 2): where the undistorted pixel ((c - MARGIN) STEP, (r - MARGIN) STEP) really is, px."""


def straight_grid(lens: Intrinsics) -> NDArray[np.float32]:
    """The grid of a lens without distortion."""
    columns, rows = (size // STEP + 2 * MARGIN + 1 for size in (lens.width, lens.height))
    u, v = np.meshgrid((np.arange(columns) - MARGIN) * STEP, (np.arange(rows) - MARGIN) * STEP)
    return np.stack([u, v], axis=2).astype(np.float32)


def coloured(mapping: ColourMap, depth: NDArray[np.uint16], colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (h, w, 3) RGB for the pixels of `depth` (mm); black where there is no depth or the colour camera does not
    look. Raises ValueError for pictures of another size."""
    k, lens = mapping.depth, mapping.lens
    if depth.shape != (k.height, k.width) or colour.shape != (lens.height, lens.width, 3):
        raise ValueError(f"depth {depth.shape} and colour {colour.shape} are not of these cameras")
    out = np.zeros((k.height, k.width, 3), np.uint8)
    inner = np.array([k.fx, k.fy, k.cx, k.cy], np.float32)
    outer = np.array([lens.fx, lens.fy, lens.cx, lens.cy], np.float32)
    turn, shift = mapping.rotation.astype(np.float32), mapping.translation.astype(np.float32)
    _colour(depth, colour, inner, outer, turn, shift, mapping.grid, out)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _colour(
    depth: NDArray[np.uint16],
    colour: NDArray[np.uint8],
    k: NDArray[np.float32],
    lens: NDArray[np.float32],
    rotation: NDArray[np.float32],
    translation: NDArray[np.float32],
    grid: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    height, width = colour.shape[0], colour.shape[1]
    rows, columns = np.float32(grid.shape[0] - 1), np.float32(grid.shape[1] - 1)
    one, half, zero, metre = np.float32(1.0), np.float32(0.5), np.float32(0.0), np.float32(0.001)
    # The colour camera's pixels in nodes of the grid.
    fx, fy = lens[0] / np.float32(STEP), lens[1] / np.float32(STEP)
    cx, cy = lens[2] / np.float32(STEP) + np.float32(MARGIN), lens[3] / np.float32(STEP) + np.float32(MARGIN)
    right, bottom = np.float32(width) - half, np.float32(height) - half
    for v in range(depth.shape[0]):
        ray_y = (np.float32(v) - k[3]) / k[1]
        base_x = rotation[0, 1] * ray_y + rotation[0, 2]
        base_y = rotation[1, 1] * ray_y + rotation[1, 2]
        base_z = rotation[2, 1] * ray_y + rotation[2, 2]
        for u in range(depth.shape[1]):
            if depth[v, u] == 0:
                continue
            z = metre * np.float32(depth[v, u])
            ray_x = (np.float32(u) - k[2]) / k[0]
            pz = (rotation[2, 0] * ray_x + base_z) * z + translation[2]
            if not pz > zero:
                continue
            a = ((rotation[0, 0] * ray_x + base_x) * z + translation[0]) / pz * fx + cx
            b = ((rotation[1, 0] * ray_x + base_y) * z + translation[1]) / pz * fy + cy
            if not (zero <= a < columns and zero <= b < rows):
                continue
            i, j = np.int32(b), np.int32(a)
            s, t = b - np.float32(i), a - np.float32(j)
            upper, lower = one - s, s
            at_u = upper * ((one - t) * grid[i, j, 0] + t * grid[i, j + 1, 0]) + lower * (
                (one - t) * grid[i + 1, j, 0] + t * grid[i + 1, j + 1, 0]
            )
            at_v = upper * ((one - t) * grid[i, j, 1] + t * grid[i, j + 1, 1]) + lower * (
                (one - t) * grid[i + 1, j, 1] + t * grid[i + 1, j + 1, 1]
            )
            if not (-half <= at_u < right and -half <= at_v < bottom):
                continue
            column, row = np.int32(at_u + half), np.int32(at_v + half)
            out[v, u, 0] = colour[row, column, 0]
            out[v, u, 1] = colour[row, column, 1]
            out[v, u, 2] = colour[row, column, 2]
