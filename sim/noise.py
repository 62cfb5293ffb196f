"""From perfect depth to the depth of an active stereo camera (Intel RealSense D435 / D455 figures).

The camera measures disparity d = f B / z with a subpixel noise of 0.08 px, so sigma_z = 0.08 z^2 / (f B); the figures
of f and B reproduce 3.8 mm (D435) and 2.0 mm (D455) at 1 m. Every effect can be switched off; all are drawn from one
generator seeded with the frame's number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

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


@njit(cache=True)
def _degrade(
    depth: F32,
    shade: F32,
    quantile: F32,
    state: np.uint64,
    fb: float,
    subpixel: float,
    near: float,
    far: float,
    quantise: bool,
    edge_holes: bool,
    dark_holes: bool,
    flying: bool,
    scatter: float,
    edge_px: float,
    out: NDArray[np.uint16],
) -> None:
    height, width = depth.shape
    for y in range(height):
        for x in range(width):
            # SplitMix64: 24 bits for a uniform number, 16 others for a normal one by its table of quantiles.
            state += np.uint64(0x9E3779B97F4A7C15)
            bits = state
            bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits = bits ^ (bits >> np.uint64(31))
            u = np.float32(bits >> np.uint64(40)) * np.float32(5.9604644775390625e-08)
            z = depth[y, x]
            if not (near <= z <= far) or u < scatter:
                out[y, x] = 0
                continue
            if edge_holes or flying:
                # A surface behind the edge of a nearer one: the second imager cannot see it for a few pixels
                # (left of the nearer surface), and a matching window that straddles the edge mixes the two.
                lost = False
                for k in range(1, 5):
                    if x + k >= width:
                        break
                    other = depth[y, x + k]
                    if 0.0 < other < z - 0.05 and edge_px * (1.0 / other - 1.0 / z) >= k:
                        lost = True
                        break
                if lost and edge_holes and u < 0.85:
                    out[y, x] = 0
                    continue
                if flying and u > 0.93:
                    nearest = z
                    if x > 0 and 0.0 < depth[y, x - 1] < nearest:
                        nearest = depth[y, x - 1]
                    if y > 0 and 0.0 < depth[y - 1, x] < nearest:
                        nearest = depth[y - 1, x]
                    if x + 1 < width and 0.0 < depth[y, x + 1] < nearest:
                        nearest = depth[y, x + 1]
                    if nearest < z - 0.05:
                        z = nearest + (z - nearest) * (u - 0.93) / 0.07
            # Dark cloth returns little of the projector's pattern, the less the farther away.
            if dark_holes and shade[y, x] < 0.10 and (u - scatter) < 0.05 * z * z:
                out[y, x] = 0
                continue
            disparity = fb / z + subpixel * quantile[bits & np.uint64(0xFFFF)]
            if quantise:
                disparity = np.rint(disparity * 32.0) / 32.0
            if disparity <= 0.0:
                out[y, x] = 0
                continue
            measured = 1000.0 * fb / disparity
            if measured < 1000.0 * near or measured > 65535.0 or measured > 1000.0 * far:
                out[y, x] = 0
            else:
                out[y, x] = np.uint16(np.rint(measured))


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
        state = np.random.SeedSequence([self._seed, frame]).generate_state(1, np.uint64)[0]
        out = np.empty(depth.shape, dtype=np.uint16)
        _degrade(
            depth,
            shade,
            _QUANTILES,
            state,
            self.fb,
            SUBPIXEL if e.stereo_noise else 0.0,
            self._model.depth_min,
            self._model.depth_max,
            e.quantisation,
            e.edge_holes,
            e.dark_holes,
            e.flying_pixels,
            e.scatter,
            self._edge_px,
            out,
        )
        return out
