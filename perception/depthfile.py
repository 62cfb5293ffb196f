"""Depth pictures from files: 16-bit PNG (mm), NPY (uint16 mm or float m), PCD (points, projected with the intrinsics).

What cannot be a measurement is 0, *unknown*: zero, saturated, not finite. A file that cannot be a picture is refused.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception.contract import Intrinsics
from perception.pcd import read_pcd

U16 = NDArray[np.uint16]
SATURATED = 65535
LARGEST_FILE = 200 * 1024 * 1024
LARGEST_SIDE = 8192
FARTHEST = 65.0
"""m; what a picture in whole millimetres can hold."""


class DepthFileError(Exception):
    """A file that is no depth picture; the text names the file, what is wrong, and what is accepted."""


def check_intrinsics(value: Intrinsics) -> list[tuple[str, str]]:
    """Return `(field, text)` for each figure that cannot belong to a pinhole camera of this picture size."""
    faults = []
    for name, focal in (("fx", value.fx), ("fy", value.fy)):
        # A field of view between 2.9 and 174 degrees.
        low, high = 0.05 * value.width, 20.0 * value.width
        if not (math.isfinite(focal) and low <= focal <= high):
            faults.append((name, f"{focal:g} px: {low:.0f} to {high:.0f} px for a picture {value.width} px wide"))
    for name, centre, size in (("cx", value.cx, value.width), ("cy", value.cy, value.height)):
        if not (math.isfinite(centre) and 0.0 <= centre <= size):
            faults.append((name, f"{centre:g} px: 0 to {size} px, inside the picture"))
    return faults


def read_depth(path: Path, fx: float, fy: float, cx: float, cy: float) -> tuple[U16, Intrinsics]:
    """Return (height, width) uint16 mm, 0 = unknown, and the camera. Raises DepthFileError."""
    raw = _read(path)
    suffix = path.suffix.lower()
    if suffix == ".pcd":
        return _from_points(path, raw, fx, fy, cx, cy)
    if suffix == ".png":
        depth = _from_png(path, raw)
    elif suffix == ".npy":
        depth = _from_npy(path, raw)
    else:
        raise DepthFileError(f"{path}: {suffix or 'no suffix'}: a depth picture is a .png, .npy or .pcd file")
    camera = Intrinsics(depth.shape[1], depth.shape[0], fx, fy, cx, cy)
    _refuse(path, camera)
    return depth, camera


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DepthFileError(f"{path}: larger than {LARGEST_FILE // 2**20} MB: that is no single picture")
        raw = path.read_bytes()
    except OSError as error:
        raise DepthFileError(f"{path}: {error.strerror}; give an existing file") from None
    if not raw:
        raise DepthFileError(f"{path}: empty file")
    return raw


def _refuse(path: Path, camera: Intrinsics) -> None:
    faults = check_intrinsics(camera)
    if faults:
        raise DepthFileError(f"{path}: " + "; ".join(f"{name}: {text}" for name, text in faults))


def _from_png(path: Path, raw: bytes) -> U16:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw)) as picture:
            if picture.width > LARGEST_SIDE or picture.height > LARGEST_SIDE:
                raise DepthFileError(f"{path}: {picture.width} x {picture.height} px: at most {LARGEST_SIDE} a side")
            mode = picture.mode
            values = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise DepthFileError(f"{path}: no readable PNG ({str(error)[:80]})") from None
    if mode not in ("I;16", "I;16B", "I;16N", "I") or values.ndim != 2:
        raise DepthFileError(f"{path}: mode {mode}: a depth PNG has one channel of 16 bits, in mm")
    return _millimetres(path, values)


def _from_npy(path: Path, raw: bytes) -> U16:
    try:
        values = np.load(io.BytesIO(raw), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DepthFileError(f"{path}: no readable NPY ({str(error)[:80]})") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2:
        raise DepthFileError(f"{path}: shape {np.shape(values)}: a depth picture has (height, width)")
    if values.dtype.kind == "f":
        return _from_metres(path, values)
    if values.dtype.kind not in "ui":
        raise DepthFileError(f"{path}: type {values.dtype}: uint16 in mm or float in m")
    return _millimetres(path, values)


def _size(path: Path, values: NDArray[np.generic]) -> None:
    if min(values.shape) < 2 or max(values.shape) > LARGEST_SIDE:
        raise DepthFileError(f"{path}: size {values.shape}: 2 to {LARGEST_SIDE} px a side")


def _millimetres(path: Path, values: NDArray[np.generic]) -> U16:
    _size(path, values)
    whole = values.astype(np.int64)
    if (whole < 0).any():
        raise DepthFileError(f"{path}: {int((whole < 0).sum())} negative depths: mm from 0 (unknown) to 65534")
    if (whole > SATURATED).any():
        raise DepthFileError(f"{path}: depths up to {int(whole.max())}: mm from 0 (unknown) to 65534")
    return np.where(whole == SATURATED, 0, whole).astype(np.uint16)


def _from_metres(path: Path, values: NDArray[np.floating]) -> U16:
    _size(path, values)
    finite = np.isfinite(values)
    if (values[finite] < 0.0).any():
        raise DepthFileError(f"{path}: {int((values[finite] < 0).sum())} negative depths: m from 0 (unknown)")
    if values[finite].max(initial=0.0) > FARTHEST:
        raise DepthFileError(
            f"{path}: depths up to {values[finite].max():g} m: floats are metres, up to {FARTHEST:g} m"
        )
    return np.where(finite, np.rint(np.where(finite, values, 0.0) * 1000.0), 0.0).astype(np.uint16)


def _from_points(path: Path, raw: bytes, fx: float, fy: float, cx: float, cy: float) -> tuple[U16, Intrinsics]:
    """The nearest point that falls into a pixel is its depth. An organised cloud has its own picture size."""
    try:
        points, width, height = read_pcd(raw)
    except ValueError as error:
        raise DepthFileError(f"{path}: {error}") from None
    if height == 1:
        # No picture of its own: twice the principal point, as every common depth camera has it.
        if not (math.isfinite(cx) and math.isfinite(cy)):
            raise DepthFileError(f"{path}: cx, cy: must be finite")
        width, height = round(2 * cx + 1), round(2 * cy + 1)
    camera = Intrinsics(width, height, fx, fy, cx, cy)
    if not (min(width, height) >= 2 and max(width, height) <= LARGEST_SIDE):
        raise DepthFileError(f"{path}: picture of {width} x {height} px: 2 to {LARGEST_SIDE} px a side")
    _refuse(path, camera)
    points = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    points = points[(points[:, 2] > 0.0) & (points[:, 2] < FARTHEST)]
    u = np.rint(points[:, 0] / points[:, 2] * fx + cx)
    v = np.rint(points[:, 1] / points[:, 2] * fy + cy)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    cells = v[inside].astype(np.int64) * width + u[inside].astype(np.int64)
    flat = np.full(width * height, SATURATED, np.int64)
    np.minimum.at(flat, cells, np.rint(points[inside, 2] * 1000.0).astype(np.int64))
    return np.where(flat == SATURATED, 0, flat).astype(np.uint16).reshape(height, width), camera
