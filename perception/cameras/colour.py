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
    inner = np.array([k.fx, k.fy, k.cx, k.cy])
    outer = np.array([lens.fx, lens.fy, lens.cx, lens.cy])
    _colour(depth, colour, inner, outer, mapping.rotation, mapping.translation, mapping.grid, out)
    return out


@njit(cache=True, nogil=True)
def _colour(
    depth: NDArray[np.uint16],
    colour: NDArray[np.uint8],
    k: NDArray[np.float64],
    lens: NDArray[np.float64],
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
    grid: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    height, width = colour.shape[0], colour.shape[1]
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            z = 0.001 * depth[v, u]
            if z <= 0.0:
                continue
            x, y = (u - k[2]) / k[0] * z, (v - k[3]) / k[1] * z
            px = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
            py = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
            pz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
            if pz <= 0.0:
                continue
            a = (px / pz * lens[0] + lens[2]) / STEP + MARGIN
            b = (py / pz * lens[1] + lens[3]) / STEP + MARGIN
            if not (0.0 <= a < grid.shape[1] - 1 and 0.0 <= b < grid.shape[0] - 1):
                continue
            i, j = int(b), int(a)
            s, t = b - i, a - j
            at_u = (1 - s) * ((1 - t) * grid[i, j, 0] + t * grid[i, j + 1, 0]) + s * (
                (1 - t) * grid[i + 1, j, 0] + t * grid[i + 1, j + 1, 0]
            )
            at_v = (1 - s) * ((1 - t) * grid[i, j, 1] + t * grid[i, j + 1, 1]) + s * (
                (1 - t) * grid[i + 1, j, 1] + t * grid[i + 1, j + 1, 1]
            )
            if not (-0.5 <= at_u < width - 0.5 and -0.5 <= at_v < height - 0.5):
                continue
            column, row = int(at_u + 0.5), int(at_v + 0.5)
            for c in range(3):
                out[v, u, c] = colour[row, column, c]
