"""Pinhole with the five coefficients of radial and tangential distortion (Brown's model, in OpenCV's order)."""

from __future__ import annotations

from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from perception.contract import Intrinsics
from perception.depthfile import check_intrinsics
from robots.workcell import Finite, Strict

F64 = NDArray[np.float64]
Focal = Annotated[float, Field(gt=0.0, le=1e5, allow_inf_nan=False)]
Centre = Annotated[float, Field(ge=0.0, le=1e4, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=32, le=8192)]


class Lens(Strict):
    """Intrinsics of a camera; pixels, the centre of the first pixel is (0, 0)."""

    width: Side
    height: Side
    fx: Focal
    fy: Focal
    cx: Centre
    cy: Centre
    distortion: Annotated[list[Finite], Field(max_length=5)] = []
    """k1, k2, p1, p2, k3; empty: rectified pictures."""

    @model_validator(mode="after")
    def _plausible(self) -> Lens:
        faults = check_intrinsics(Intrinsics(self.width, self.height, self.fx, self.fy, self.cx, self.cy))
        if faults:
            raise ValueError("; ".join(f"{name}: {text}" for name, text in faults))
        return self

    @property
    def K(self) -> F64:
        """(3, 3) camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def coefficients(self) -> F64:
        """(5,)."""
        return np.array([*self.distortion, *([0.0] * (5 - len(self.distortion)))])

    def project(self, points: F64) -> F64:
        """Pixels (n, 2) of points (n, 3) in the camera's frame, m. Points behind the camera give NaN."""
        z = points[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = np.where(z > 1e-6, points[:, 0] / z, np.nan), np.where(z > 1e-6, points[:, 1] / z, np.nan)
        k1, k2, p1, p2, k3 = self.coefficients
        r2 = x * x + y * y
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        u = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
        v = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
        return np.stack([self.fx * u + self.cx, self.fy * v + self.cy], 1)


def lens_of(intrinsics: Intrinsics) -> Lens:
    """The lens of a rectified camera."""
    i = intrinsics
    return Lens(width=i.width, height=i.height, fx=i.fx, fy=i.fy, cx=i.cx, cy=i.cy)


def board_poses(lens: Lens, points: F64, pixels: F64) -> list[F64]:
    """Poses (4, 4) of a flat target (points (n, 3) with z = 0, m) in the camera's frame, the better one first.

    A flat target far away has two poses that fit nearly as well, mirrored about the line of sight.
    """
    found: Any = cv2.solvePnPGeneric(points, pixels, lens.K, lens.coefficients, flags=cv2.SOLVEPNP_IPPE)
    poses = []
    for turn, shift in zip(found[1], found[2], strict=True):
        T = np.eye(4)
        T[:3, :3] = cv2.Rodrigues(turn)[0]
        T[:3, 3] = np.asarray(shift).reshape(3)
        if np.isfinite(T).all() and T[2, 3] > 0.0:
            poses.append(T)
    return poses
