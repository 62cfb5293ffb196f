"""From perfect depth to the depth of an active stereo camera (Intel RealSense D435 / D455 figures).

The camera measures disparity d = f B / z with a subpixel noise of 0.08 px, so sigma_z = 0.08 z^2 / (f B); the figures
of f and B reproduce 3.8 mm (D435) and 2.0 mm (D455) at 1 m. Every effect can be switched off; all draws depend on the
seed, the frame's number and the pixel's place alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cell.compiled import njit

F32 = NDArray[np.float32]
NATIVE_WIDTH = 848
SUBPIXEL = 0.08
DISPARITY_STEP = 1.0 / 32.0
"""Finest disparity the camera reports, px."""


_QUANTILES: F32 = ndtri((np.arange(65536) + 0.5) / 65536.0).astype(np.float32)
"""Standard normal deviates of equal probability; the largest is 4.3."""


class StereoModel(NamedTuple):
    """Constants of a make at its native 848 x 480."""

    focal: float
    """px at 848 columns."""
    baseline: float
    """m."""
    depth_min: float
    depth_max: float


MODELS = {
    "D435": StereoModel(421.0, 0.050, 0.20, 10.0),
    "D455": StereoModel(421.0, 0.095, 0.35, 10.0),
}


class Effects(NamedTuple):
    """Which effects are on."""

    stereo_noise: bool = True
    quantisation: bool = True
    edge_holes: bool = True
    dark_holes: bool = True
    flying_pixels: bool = True
    scatter: float = 0.02
    """Share of isolated invalid pixels."""


_HALF = np.float32(0.5)
_EDGE = np.float32(0.05)
"""Surfaces farther apart than this make an edge, m."""
_HIDDEN = np.float32(0.85)
"""Share of pixels lost beside a nearer surface."""
_FLYING = 60948
"""Draws (of 65536) from which on a pixel at an edge flies: 7 %."""


@njit(cache=True, nogil=True, inline="always")
def _mixed(bits: np.uint64) -> np.uint64:
    """Finaliser of SplitMix64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@njit(cache=True, nogil=True, error_model="numpy")
def _draws(state: np.uint64, row: int, out: NDArray[np.uint64]) -> None:
    """Random bits of one row, 64 for two pixels, from their place alone (SplitMix64)."""
    first = state + np.uint64(row * out.shape[0]) * np.uint64(0x9E3779B97F4A7C15)
    for i in range(out.shape[0]):
        out[i] = _mixed(first + np.uint64(i) * np.uint64(0x9E3779B97F4A7C15))


@njit(cache=True, nogil=True, error_model="numpy")
def _hidden(z: F32, inverse: F32, step: np.float32, out: NDArray[np.uint8]) -> None:
    """Mark the pixels of a row the second imager cannot see.

    A surface behind the edge of a nearer one (to its left) is hidden from it for as many pixels as the disparities
    differ, here at most 4. z, inverse: a row of depths and their inverses, 4 zeros behind it; step: 1/m for a pixel.
    """
    for x in range(out.shape[0]):
        edge, here = z[x] - _EDGE, inverse[x]
        lost = (z[x + 1] < edge) & (inverse[x + 1] - here >= step)
        lost |= (z[x + 2] < edge) & (inverse[x + 2] - here >= np.float32(2.0) * step)
        lost |= (z[x + 3] < edge) & (inverse[x + 3] - here >= np.float32(3.0) * step)
        lost |= (z[x + 4] < edge) & (inverse[x + 4] - here >= np.float32(4.0) * step)
        out[x] = lost


@njit(cache=True, nogil=True, error_model="numpy")
def _fly(depth: F32, y: int, bits: NDArray[np.uint32], z: F32) -> None:
    """Move some pixels of row `y` that lie behind an edge to somewhere between the two surfaces.

    A matching window that straddles the edge mixes the two."""
    width = depth.shape[1]
    for x in range(width):
        draw = bits[x] >> np.uint32(16)
        if draw < np.uint32(_FLYING):
            continue
        here = depth[y, x]
        nearest = here
        if x > 0 and np.float32(0.0) < depth[y, x - 1] < nearest:
            nearest = depth[y, x - 1]
        if y > 0 and np.float32(0.0) < depth[y - 1, x] < nearest:
            nearest = depth[y - 1, x]
        if x + 1 < width and np.float32(0.0) < depth[y, x + 1] < nearest:
            nearest = depth[y, x + 1]
        if nearest < here - _EDGE:
            part = np.float32(np.int32(draw) - _FLYING) * np.float32(1.0 / (65536 - _FLYING))
            z[x] = nearest + (here - nearest) * part


@njit(cache=True, nogil=True, error_model="numpy")
def _measured(
    z: F32, bits: NDArray[np.uint32], quantile: F32, fb: np.float32, subpixel: np.float32, grid: np.float32, out: F32
) -> None:
    """Depth (mm) the camera measures for true depths `z` (m) of a row: noise and steps are those of the disparity."""
    for x in range(out.shape[0]):
        out[x] = subpixel * quantile[bits[x] & np.uint32(0xFFFF)]
    if grid > np.float32(0.0):
        for x in range(out.shape[0]):
            out[x] = np.rint((fb / z[x] + out[x]) * grid) / grid
    else:
        for x in range(out.shape[0]):
            out[x] += fb / z[x]
    for x in range(out.shape[0]):
        out[x] = np.float32(1000.0) * fb / out[x]


@njit(cache=True, nogil=True, error_model="numpy")
def _degrade(
    depth: F32,
    shade: F32,
    quantile: F32,
    seed: np.uint64,
    frame: np.uint64,
    fb: np.float32,
    subpixel: np.float32,
    near: np.float32,
    far: np.float32,
    grid: np.float32,
    edge_holes: bool,
    dark_holes: bool,
    flying: bool,
    scatter: np.float32,
    edge_px: np.float32,
    out: NDArray[np.uint16],
) -> None:
    """Short loops over one row at a time, each without branches where it can be, so that they compile to vectors."""
    height, width = depth.shape
    state = _mixed(_mixed(seed) + frame)
    draws = np.empty((width + 1) // 2, np.uint64)
    bits = draws.view(np.uint32)
    true, z, inverse = np.zeros(width + 4, np.float32), np.empty(width, np.float32), np.zeros(width + 4, np.float32)
    lost, measured = np.zeros(width, np.uint8), np.empty(width, np.float32)
    least, most = np.float32(1000.0) * near, min(np.float32(1000.0) * far, np.float32(65535.0))
    dark = np.float32(0.10) if dark_holes else np.float32(-1.0)
    for y in range(height):
        _draws(state, y, draws)
        for x in range(width):
            true[x] = z[x] = depth[y, x]
            inverse[x] = np.float32(1.0) / z[x] if z[x] > np.float32(0.0) else np.float32(0.0)
        if edge_holes:
            _hidden(true, inverse, np.float32(1.0) / edge_px, lost)
        if flying:
            _fly(depth, y, bits, z)
        _measured(z, bits, quantile, fb, subpixel, grid, measured)
        for x in range(width):
            u = np.float32(np.int32(bits[x] >> np.uint32(16))) * np.float32(1.0 / 65536.0)
            there = (true[x] >= near) & (true[x] <= far) & (u >= scatter) & ((lost[x] == 0) | (u >= _HIDDEN))
            # Dark cloth returns little of the projector's pattern, the less the farther away.
            there &= (shade[y, x] >= dark) | (u - scatter >= np.float32(0.05) * z[x] * z[x])
            there &= (measured[x] >= least) & (measured[x] <= most)
            out[y, x] = np.uint16(np.int32(measured[x] + _HALF)) if there else np.uint16(0)


@njit(cache=True, nogil=True)
def _scatter(points: F32, sigma: float, seed: np.uint64, frame: np.uint64, quantile: F32) -> None:
    state = _mixed(_mixed(seed) + frame)
    rows, columns = points.shape
    for i in range(rows):
        bits = _mixed(state + np.uint64(i) * np.uint64(0x9E3779B97F4A7C15))
        for k in range(columns):
            points[i, k] += sigma * quantile[bits & np.uint64(0xFFFF)]
            bits = bits >> np.uint64(16)


def scatter(points: F32, sigma: float, seed: int, frame: int) -> None:
    """Add normal noise of `sigma` (m) to each coordinate of (n, 3) points in place, from seed, frame and row alone."""
    _scatter(points, sigma, np.uint64(seed), np.uint64(frame), _QUANTILES)


class DepthNoise:
    """Turns perfect depth (m) into delivered depth (uint16 mm). Deterministic per (seed, frame number)."""

    def __init__(self, model: StereoModel, width: int, decimation: int, effects: Effects, seed: int) -> None:
        """`width`: delivered columns; `decimation`: the native picture is that many times wider, so the depth has the
        native grade."""
        native = width * decimation
        self.fb = model.focal * native / NATIVE_WIDTH * model.baseline
        self.coefficient = SUBPIXEL / self.fb
        """sigma = coefficient z^2, 1/m."""
        self._model = model
        self._effects = effects
        self._seed = seed
        self._edge_px = model.focal * width / NATIVE_WIDTH * model.baseline

    def apply(self, depth: F32, shade: F32, frame: int) -> NDArray[np.uint16]:
        """`depth`: (h, w) m along the optical axis; `shade`: (h, w) reflectivity 0-1. Returns (h, w) uint16 mm."""
        e = self._effects
        out = np.empty(depth.shape, dtype=np.uint16)
        _degrade(
            depth,
            shade,
            _QUANTILES,
            np.uint64(self._seed),
            np.uint64(frame),
            np.float32(self.fb),
            np.float32(SUBPIXEL if e.stereo_noise else 0.0),
            np.float32(self._model.depth_min),
            np.float32(self._model.depth_max),
            np.float32(1.0 / DISPARITY_STEP if e.quantisation else 0.0),
            e.edge_holes,
            e.dark_holes,
            e.flying_pixels,
            np.float32(e.scatter),
            np.float32(self._edge_px),
            out,
        )
        return out
