"""The lens of a camera from pictures of a board held in many places and attitudes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from perception.calibration.board import Board, CalibrationError, Corners
from perception.calibration.lens import Lens

F64 = NDArray[np.float64]
LEAST_VIEWS = 12
MOST_VIEWS = 300
LEAST_TILT = math.radians(8.0)
"""Root mean square tilt of the board about each of two axes; parallel boards do not tell focal length from distance."""
LEAST_COVERED = 0.4
"""Share of the picture inside the hull of all corners; outside it distortion is extrapolated."""
MOST_RESIDUAL = 0.8
"""px."""
MOST_FOCAL_SD = 0.003
"""Standard deviation of the focal lengths, relative."""
OUTLIER, OUTLIER_FLOOR = 3.0, 0.4
MOST_OUTLIERS = 0.25


class LensView(NamedTuple):
    """How one picture agrees with the result."""

    name: str
    corners: int
    px: float
    mm: float
    """The same at the board."""
    tilt_deg: float
    """Between the board's normal and the line of sight."""
    outlier: bool


class IntrinsicsResult(NamedTuple):
    """Result of `calibrate_lens`."""

    lens: Lens
    sd: tuple[float, float, float, float]
    """Standard deviations of fx, fy, cx, cy, px."""
    residual_px: float
    covered: float
    """Share of the picture inside the hull of all corners."""
    views: list[LensView]


class _Fit(NamedTuple):
    rms: float
    K: F64
    distortion: F64
    turns: list[F64]
    shifts: list[F64]
    sd: F64
    each: F64


def calibrate_lens(
    board: Board, size: tuple[int, int], seen: Sequence[tuple[str, Corners]], distortion: bool = True
) -> IntrinsicsResult:
    """Fit the lens to pictures of `size` (width, height) px. `distortion` False: rectified pictures, none is fitted.

    Raises CalibrationError: too few pictures, board always parallel, picture not covered, residual too large.
    """
    if len(seen) > MOST_VIEWS:
        raise CalibrationError(f"{len(seen)} pictures: at most {MOST_VIEWS}")
    _enough(len(seen), "")
    kept = list(range(len(seen)))
    fit = _fitted(board, size, [seen[n][1] for n in kept], distortion)
    limit = max(OUTLIER * float(np.median(fit.each)), OUTLIER_FLOOR)
    outliers = {n: (fit, n) for n in kept if fit.each[n] > limit}
    if outliers:
        kept = [n for n in kept if n not in outliers]
        if len(outliers) > MOST_OUTLIERS * len(seen):
            bad = ", ".join(seen[n][0] for n in outliers)
            raise CalibrationError(f"{len(outliers)} of {len(seen)} pictures do not fit ({bad}): is the board flat?")
        _enough(len(kept), "after outliers were left out")
        fit = _fitted(board, size, [seen[n][1] for n in kept], distortion)
    covered = _covered(size, [seen[n][1].pixels for n in kept])
    _refuse(fit, covered)
    lens = _lens(size, fit, distortion)
    reports = []
    for n, (name, corners) in enumerate(seen):
        source, index = outliers[n] if n in outliers else (fit, kept.index(n))
        reports.append(_report(name, corners, lens, source, index, n in outliers))
    return IntrinsicsResult(lens, tuple(float(v) for v in fit.sd[:4]), fit.rms, covered, reports)  # type: ignore[arg-type]


def _enough(count: int, when: str) -> None:
    if count < LEAST_VIEWS:
        raise CalibrationError(
            f"{count} pictures with a board {when}".rstrip()
            + f": at least {LEAST_VIEWS} are needed, with the board tilted and in all parts of the picture"
        )


def _fitted(board: Board, size: tuple[int, int], seen: Sequence[Corners], distortion: bool) -> _Fit:
    points = [board.points(corners.ids).astype(np.float32) for corners in seen]
    pixels = [corners.pixels.astype(np.float32) for corners in seen]
    flags = 0 if distortion else cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST
    try:
        found: Any = cv2.calibrateCameraExtended(points, pixels, size, None, None, flags=flags)  # type: ignore[call-overload]
    except cv2.error as error:
        raise CalibrationError(f"the pictures determine no lens: {error.err or error}") from None
    rms, K, bend, turns, shifts, sd, _, each = found
    return _Fit(
        float(rms), np.asarray(K), np.asarray(bend).ravel()[:5], [np.ravel(t) for t in turns],
        [np.ravel(t) for t in shifts], np.asarray(sd).ravel(), np.asarray(each).ravel(),
    )  # fmt: skip


def _refuse(fit: _Fit, covered: float) -> None:
    if not (np.isfinite(fit.K).all() and np.isfinite(fit.distortion).all() and math.isfinite(fit.rms)):
        raise CalibrationError("the pictures determine no lens: the solution is not finite")
    normals = np.array([cv2.Rodrigues(turn)[0][:, 2] for turn in fit.turns])
    spread = np.linalg.svd(normals - normals.mean(0), compute_uv=False) / math.sqrt(len(normals))
    if spread[1] < math.sin(LEAST_TILT):
        raise CalibrationError(
            "the board is parallel to itself in all pictures (spread of its normal "
            f"{math.degrees(spread[1]):.1f} degrees, at least {math.degrees(LEAST_TILT):g}): tilt it about two "
            "axes, by 20 to 40 degrees"
        )
    if covered < LEAST_COVERED:
        raise CalibrationError(
            f"the corners cover {covered:.0%} of the picture, at least {LEAST_COVERED:.0%}: hold the board into "
            "its corners"
        )
    if not fit.rms <= MOST_RESIDUAL:
        raise CalibrationError(
            f"the residual of {fit.rms:.2f} px is too large (at most {MOST_RESIDUAL} px): is the board flat and its "
            "description right, are the pictures sharp?"
        )
    relative = fit.sd[:2] / np.array([fit.K[0, 0], fit.K[1, 1]])
    if not (np.isfinite(relative).all() and (relative <= MOST_FOCAL_SD).all()):
        raise CalibrationError(
            f"the focal length is not determined well enough (standard deviation {relative.max():.2%}, at most "
            f"{MOST_FOCAL_SD:.1%}): more pictures, more tilt"
        )


def _lens(size: tuple[int, int], fit: _Fit, distortion: bool) -> Lens:
    try:
        return Lens(
            width=size[0], height=size[1], fx=float(fit.K[0, 0]), fy=float(fit.K[1, 1]), cx=float(fit.K[0, 2]),
            cy=float(fit.K[1, 2]), distortion=[float(v) for v in fit.distortion] if distortion else [],
        )  # fmt: skip
    except ValueError as error:
        raise CalibrationError(f"the pictures determine no lens that could be one: {error}") from None


def _covered(size: tuple[int, int], pixels: Sequence[F64]) -> float:
    hull: Any = cv2.convexHull(np.concatenate(pixels).astype(np.float32))
    return float(cv2.contourArea(hull)) / (size[0] * size[1])


def _report(name: str, corners: Corners, lens: Lens, fit: _Fit, index: int, outlier: bool) -> LensView:
    px = float(fit.each[index])
    sight = fit.shifts[index] / np.linalg.norm(fit.shifts[index])
    normal = cv2.Rodrigues(fit.turns[index])[0][:, 2]
    tilt = math.degrees(math.acos(min(1.0, abs(float(sight @ normal)))))
    return LensView(name, len(corners.ids), px, 1000.0 * px * float(fit.shifts[index][2]) / lens.fx, tilt, outlier)
