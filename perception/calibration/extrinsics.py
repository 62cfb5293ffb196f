"""The place of a camera from views of a target on the flange: what is refused, what is reported."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception.calibration.board import LEAST_CORNERS, CalibrationError, in_line
from perception.calibration.handeye import HandEye, View, closed_form, inverse, predicted, refine
from perception.calibration.lens import Lens, board_poses

F64 = NDArray[np.float64]
LEAST_VIEWS = 15
"""Different poses of the arm."""
MOST_VIEWS = 500
SAME_SHIFT, SAME_TURN = 0.01, math.radians(2.0)
"""Poses nearer to each other than both, m and rad, count as one."""
LEAST_TURN = math.radians(5.0)
"""Root mean square turn of the flange about each of two axes; less is taken for parallel poses."""
MOST_RESIDUAL = 0.8
"""Root mean square over all corners that are used, px."""
OUTLIER, OUTLIER_FLOOR = 3.0, 0.4
"""A view is an outlier beyond this many times the median of the views, and this many px."""
MOST_OUTLIERS = 0.25
"""Share of the views."""
MOST_SHIFT_SD, MOST_TURN_SD = 0.0015, math.radians(0.08)
"""Standard deviations of the result that are accepted, m and rad."""


class ViewReport(NamedTuple):
    """How one view agrees with the solution."""

    name: str
    corners: int
    px: float
    """Root mean square of its corners."""
    mm: float
    """The same at the target."""
    deg: float
    """Between the target's attitude by this picture alone and by the solution."""
    outlier: bool
    """Left out of the solution."""


class Extrinsics(NamedTuple):
    """Result of `locate`."""

    T_base_camera: F64
    T_flange_board: F64
    residual_px: float
    shift_sd: float
    """Largest standard deviation of the camera's position in any direction, m."""
    turn_sd: float
    """The same of its attitude, rad."""
    views: list[ViewReport]

    @property
    def used(self) -> int:
        """Views in the solution."""
        return sum(not view.outlier for view in self.views)


def locate(lens: Lens, views: list[View], nominal: F64 | None = None) -> Extrinsics:
    """Find base to camera and flange to board. `nominal`: (4, 4) where the camera is taken to be, a further start.

    Raises CalibrationError: too few views, parallel poses, views that do not fit, result not determined well enough.
    """
    _check(lens, views)
    solution, kept = _without_outliers(lens, views, nominal)
    used = [views[n] for n in kept]
    _enough(used, "after outliers were left out")
    rms = math.sqrt(float(np.mean(np.concatenate(solution.residuals) ** 2)) * 2.0)
    if not rms <= MOST_RESIDUAL:
        raise CalibrationError(
            f"the residual of {rms:.2f} px is too large (at most {MOST_RESIDUAL} px). Likely causes: wrong size of the "
            "board, wrong intrinsics, the board loose on the flange, poses that do not belong to the pictures"
        )
    shift_sd = math.sqrt(float(np.linalg.eigvalsh(_finite(solution.covariance[:3, :3]))[-1]))
    turn_sd = math.sqrt(float(np.linalg.eigvalsh(_finite(solution.covariance[3:6, 3:6]))[-1]))
    if not (shift_sd <= MOST_SHIFT_SD and turn_sd <= MOST_TURN_SD):
        raise CalibrationError(
            f"the views do not determine the camera well enough: standard deviation {1000 * shift_sd:.2f} mm and "
            f"{math.degrees(turn_sd):.3f} degrees, at most {1000 * MOST_SHIFT_SD:g} mm and "
            f"{math.degrees(MOST_TURN_SD):g} degrees. Spread the poses over more of the picture and turn the board more"
        )
    reports = [_report(lens, views[n], solution, n not in kept) for n in range(len(views))]
    return Extrinsics(solution.T_base_camera, solution.T_flange_board, rms, shift_sd, turn_sd, reports)


def _finite(part: F64) -> F64:
    return np.asarray(part) if np.isfinite(part).all() else np.eye(3) * 1e6


def _check(lens: Lens, views: list[View]) -> None:
    if len(views) > MOST_VIEWS:
        raise CalibrationError(f"{len(views)} views: at most {MOST_VIEWS}")
    names = [view.name for view in views]
    for name in names:
        if names.count(name) > 1:
            raise CalibrationError(f"view {name} is given twice")
    for view in views:
        T = view.T_base_flange
        if T.shape != (4, 4) or not np.isfinite(T).all() or np.abs(T[:3, :3] @ T[:3, :3].T - np.eye(3)).max() > 1e-4:
            raise CalibrationError(f"view {view.name}: the pose of the flange is no pose")
        if len(view.pixels) < LEAST_CORNERS or len(view.pixels) != len(view.points) or in_line(view.points[:, :2]):
            raise CalibrationError(f"view {view.name}: at least {LEAST_CORNERS} corners that are not in one line")
        inside = (view.pixels >= -0.5) & (view.pixels <= np.array([lens.width, lens.height]) - 0.5)
        if not (np.isfinite(view.pixels).all() and inside.all()):
            raise CalibrationError(f"view {view.name}: corners outside the picture of {lens.width} x {lens.height} px")
    _enough(views, "")


def _enough(views: list[View], when: str) -> None:
    """Enough different poses, turned about two axes."""
    different: list[F64] = []
    for view in views:
        if all(_apart(view.T_base_flange, other) for other in different):
            different.append(view.T_base_flange)
    if len(different) < LEAST_VIEWS:
        raise CalibrationError(
            f"{len(different)} different poses {when}".rstrip()
            + f": at least {LEAST_VIEWS} are needed, {1000 * SAME_SHIFT:g} mm or {math.degrees(SAME_TURN):g} degrees "
            "apart"
        )
    turns = Rotation.from_matrix(np.array([T[:3, :3] for T in different]))
    away = (turns.mean().inv() * turns).as_rotvec()
    spread = np.linalg.svd(away, compute_uv=False) / math.sqrt(len(away))
    if spread[1] < LEAST_TURN:
        raise CalibrationError(
            "the poses of the arm are all parallel or turn about one axis only (second axis "
            f"{math.degrees(spread[1]):.1f} degrees, at least {math.degrees(LEAST_TURN):g}): tilt the board "
            "about two axes between the views"
        )


def _apart(one: F64, other: F64) -> bool:
    shift = float(np.linalg.norm(one[:3, 3] - other[:3, 3]))
    return shift >= SAME_SHIFT or turn_between(one, other) >= SAME_TURN


def turn_between(one: F64, other: F64) -> float:
    """Angle between two poses (4, 4), rad."""
    return float(Rotation.from_matrix(one[:3, :3].T @ other[:3, :3]).magnitude())


def _without_outliers(lens: Lens, views: list[View], nominal: F64 | None) -> tuple[HandEye, list[int]]:
    """Solve, leave out views that do not fit, solve again, until none is left out. Indices of the views that stay."""
    kept = list(range(len(views)))
    solution = _solved(lens, views, nominal)
    while True:
        each = np.array([_rms(r) for r in solution.residuals])
        limit = max(OUTLIER * float(np.median(each)), OUTLIER_FLOOR)
        stay = [n for n, rms in zip(kept, each, strict=True) if rms <= limit]
        if len(stay) == len(kept):
            return solution, kept
        if len(stay) < (1.0 - MOST_OUTLIERS) * len(views):
            bad = ", ".join(views[n].name for n in range(len(views)) if n not in stay)
            raise CalibrationError(
                f"{len(views) - len(stay)} of {len(views)} views do not fit ({bad}): check that poses and pictures "
                "belong together, and that the board is fixed to the flange"
            )
        kept = stay
        solution, _ = refine(lens, [views[n] for n in kept], solution.T_base_camera, solution.T_flange_board)


def _rms(residual: F64) -> float:
    """Root mean square length of (n, 2)."""
    return math.sqrt(float(np.mean(residual**2)) * 2.0)


def _solved(lens: Lens, views: list[View], nominal: F64 | None) -> HandEye:
    A = [view.T_base_flange for view in views]
    poses = [board_poses(lens, view.points, view.pixels) for view in views]
    for view, found in zip(views, poses, strict=True):
        if not found:
            raise CalibrationError(f"view {view.name}: the corners fit no pose of the board")
    starts = [closed_form(A, [found[0] for found in poses])]
    # The mirrored pose was the wrong one in some views: take the one that agrees with the rest, and solve again.
    chosen = [_agreeing(a, found, *starts[0]) for a, found in zip(A, poses, strict=True)]
    starts.append(closed_form(A, chosen))
    if nominal is not None:
        each = [inverse(a) @ nominal @ found[0] for a, found in zip(A, poses, strict=True)]
        Z = np.eye(4)
        Z[:3, :3] = Rotation.from_matrix(np.array([T[:3, :3] for T in each])).mean().as_matrix()
        Z[:3, 3] = np.median([T[:3, 3] for T in each], axis=0)
        starts.append((nominal, Z))
    best: tuple[HandEye, float] | None = None
    for X, Z in starts:
        tried = refine(lens, views, X, Z)
        if best is None or tried[1] < best[1]:
            best = tried
        # A wrong start ends far from the pictures, not near them.
        if np.median([_rms(r) for r in best[0].residuals]) <= MOST_RESIDUAL:
            break
    assert best is not None
    return best[0]


def _agreeing(A: F64, poses: list[F64], X: F64, Z: F64) -> F64:
    wanted = inverse(X) @ A @ Z
    return min(poses, key=lambda T: turn_between(T, wanted))


def _report(lens: Lens, view: View, solution: HandEye, outlier: bool) -> ViewReport:
    X, Z = solution.T_base_camera, solution.T_flange_board
    px = _rms(np.nan_to_num(predicted(lens, view, X, Z) - view.pixels, nan=1e3))
    expected = inverse(X) @ view.T_base_flange @ Z
    alone = _agreeing(view.T_base_flange, board_poses(lens, view.points, view.pixels), X, Z)
    mm = 1000.0 * px * abs(float(expected[2, 3])) / lens.fx
    return ViewReport(view.name, len(view.pixels), px, mm, math.degrees(turn_between(alone, expected)), outlier)
