"""The work of `cell calibrate`: views from files or the twin, a report, a picture, a proposal."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.commands.calibration_text import print_background, print_extrinsics, print_intrinsics
from cell.config import LoadedCell, load_cell
from cell.exits import FAILED, OK
from cell.nodes import camera_infos, camera_options
from cell.session import entry_point
from perception.calibration.board import Board, CalibrationError, Corners, find_corners, parse_board
from perception.calibration.drawing import draw_comparison, draw_residuals
from perception.calibration.empty import Comparison, Recorded, compare, record
from perception.calibration.extrinsics import Extrinsics, locate, turn_between
from perception.calibration.files import (
    ViewFile,
    proposal,
    read_observations,
    read_pictures,
    write_observations,
)
from perception.calibration.handeye import View, predicted
from perception.calibration.intrinsics import IntrinsicsResult, calibrate_lens
from perception.calibration.lens import Lens, board_poses, lens_of
from perception.calibration.poses import flange_board, plan_poses
from perception.depthfile import DepthFileError, read_depth
from perception.view import Capsules

F64 = NDArray[np.float64]
SPARE = 2
"""The twin tries so many times the poses asked for: in some the arm covers the board."""


def intrinsics(
    images: Path | None, board_text: str, distortion: bool, twin: bool, count: int, cell_file: Path | None,
    camera: str | None, seed: int, out: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """See `cell calibrate intrinsics`. Raises CalibrationError, FileErrors, OSError."""
    board = parse_board(board_text)
    if twin == (images is not None):
        raise CalibrationError("give either --images DIR or --twin")
    truth: Lens | None = None
    with _progress("pictures", as_json) as progress:
        if images is not None:
            size, seen, without = read_pictures(images, board, progress)
            name = camera or images.resolve().name
        else:
            cell = _twin_cell(cell_file)
            name = _camera(cell, camera)
            stand = _stand(cell, name, board, seed)
            truth = stand.truth.lens
            seen, without = _held(stand, board, count, progress)
            size = (stand.info.intrinsics.width, stand.info.intrinsics.height)
            stand.close()
    found = calibrate_lens(board, size, seen, distortion)
    folder = _folder(out, name)
    report = _intrinsics_report(name, board, found, without, truth)
    pixels, away = _lens_residuals(board, found, seen)
    bars = [(view.name, view.px, view.outlier) for view in found.views]
    draw_residuals(folder / "intrinsics.png", size, pixels, away, bars, f"lens of {name}: {found.residual_px:.2f} px")
    report["picture"] = str(folder / "intrinsics.png")
    return _finish(report, folder / "intrinsics.json", as_json, print_intrinsics)


def _held(
    stand: Any, board: Board, count: int, progress: Callable[[float], None]
) -> tuple[list[tuple[str, Corners]], list[str]]:
    seen, without = [], []
    for n, T in enumerate(stand.held_poses(count)):
        corners = find_corners(board, stand.held(T))
        name = f"view_{n + 1:02d}"
        if corners is None:
            without.append(name)
        else:
            seen.append((name, corners))
        progress((n + 1) / count)
    return seen, without


def _lens_residuals(board: Board, found: IntrinsicsResult, seen: list[tuple[str, Corners]]) -> tuple[F64, F64]:
    """Corners and residuals of the pictures that were used, (n, 2) each, px."""
    used = [corners for (_, corners), view in zip(seen, found.views, strict=True) if not view.outlier]
    away = []
    for corners in used:
        points = board.points(corners.ids)
        turned = [
            found.lens.project(points @ T[:3, :3].T + T[:3, 3]) - corners.pixels
            for T in board_poses(found.lens, points, corners.pixels)
        ]
        away.append(min(turned, key=lambda r: float((r**2).sum())))
    return np.concatenate([corners.pixels for corners in used]), np.concatenate(away)


def _intrinsics_report(
    name: str, board: Board, found: IntrinsicsResult, without: list[str], truth: Lens | None
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "camera": name,
        "date": datetime.date.today().isoformat(),
        "board": str(board),
        "lens": found.lens.model_dump(mode="json"),
        "sd_px": dict(zip(("fx", "fy", "cx", "cy"), (round(v, 4) for v in found.sd), strict=True)),
        "residual_px": round(found.residual_px, 4),
        "covered": round(found.covered, 3),
        "views": [
            {"name": v.name, "corners": v.corners, "px": round(v.px, 3), "mm": round(v.mm, 3),
             "tilt_deg": round(v.tilt_deg, 1), "outlier": v.outlier}
            for v in found.views
        ],
        "no_board_found": without,
    }  # fmt: skip
    if truth is not None:
        lens = found.lens
        report["error_px"] = {
            key: round(getattr(lens, key) - getattr(truth, key), 3) for key in ("fx", "fy", "cx", "cy")
        }
    return report


def extrinsics(
    observations: Path | None, twin: bool, count: int, board_text: str, cell_file: Path | None, camera: str | None,
    seed: int, out: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """See `cell calibrate extrinsics`. Raises CalibrationError, FileErrors, OSError."""
    if twin == (observations is not None):
        raise CalibrationError("give either --observations FILE or --twin")
    truth: F64 | None = None
    if observations is not None:
        cell = load_cell(cell_file)
        model = cell.model()
        file, views, without = read_observations(observations, model.fk, model.dof)
        name, board, lens = file.camera, file.board, file.lens
        if camera is not None and camera != name:
            raise CalibrationError(f"{observations} is of camera {name}, not {camera}")
        _camera(cell, name)
        folder = _folder(out, name)
        source = str(observations)
    else:
        cell, board = _twin_cell(cell_file), parse_board(board_text)
        name = _camera(cell, camera)
        stand = _stand(cell, name, board, seed)
        truth, lens = stand.truth.T_base_camera, stand.truth.lens
        folder = _folder(out, name)
        with _progress("views", as_json) as progress:
            views, without = _on_flange(cell, name, stand, board, count, seed, folder, progress)
        stand.close()
        source = f"{len(views)} views of the twin, SIMULATION ONLY"
    nominal = np.asarray(_info(cell, name).T_base_camera, float).reshape(4, 4)
    found = locate(lens, views, nominal)
    report = _extrinsics_report(name, board, found, without, nominal, truth)
    mount = next(c.mount for c in cell.config.cameras if c.name == name)
    distance = max(0.5, math.dist(mount.position, mount.look_at))
    text = proposal(name, found, board, distance, datetime.date.today(), source)
    (folder / "proposal.yaml").write_text(text, encoding="utf-8")
    _draw_extrinsics(folder / "extrinsics.png", lens, views, found, name)
    report |= {"proposal": str(folder / "proposal.yaml"), "picture": str(folder / "extrinsics.png")}
    return _finish(report, folder / "extrinsics.json", as_json, print_extrinsics)


def _on_flange(
    cell: LoadedCell, name: str, stand: Any, board: Board, count: int, seed: int, folder: Path,
    progress: Callable[[float], None],
) -> tuple[list[View], list[str]]:  # fmt: skip
    """Views of the twin, written as observations with their pictures."""
    model, lens = cell.model(), lens_of(stand.info.intrinsics)
    nominal = np.asarray(stand.info.T_base_camera, float).reshape(4, 4)
    poses = plan_poses(model, cell.home(), nominal, lens, board, cell.config.workcell, SPARE * count, seed)
    views: list[View] = []
    files: list[ViewFile] = []
    without: list[str] = []
    (folder / "views").mkdir(exist_ok=True)
    for n, q in enumerate(poses):
        picture, reported = stand.on_flange(q)
        corners = find_corners(board, picture)
        view = f"view_{n + 1:02d}"
        if corners is None:
            without.append(view)
            continue
        cv2.imwrite(str(folder / "views" / f"{view}.png"), picture)
        joints = [float(v) for v in reported]
        files.append(ViewFile(name=view, q=joints, image=f"views/{view}.png"))
        views.append(View(view, model.fk(reported), board.points(corners.ids), corners.pixels))
        progress(len(views) / count)
        if len(views) == count:
            break
    write_observations(folder / "observations.json", name, board, lens, files)
    return views, without


def _extrinsics_report(
    name: str, board: Board, found: Extrinsics, without: list[str], nominal: F64, truth: F64 | None
) -> dict[str, Any]:
    def apart(other: F64) -> dict[str, float]:
        shift = 1000.0 * float(np.linalg.norm(found.T_base_camera[:3, 3] - other[:3, 3]))
        return {"mm": round(shift, 3), "deg": round(math.degrees(turn_between(found.T_base_camera, other)), 4)}

    report: dict[str, Any] = {
        "camera": name,
        "date": datetime.date.today().isoformat(),
        "board": str(board),
        "T_base_camera": [round(float(v), 7) for v in found.T_base_camera.ravel()],
        "T_flange_board": [round(float(v), 7) for v in found.T_flange_board.ravel()],
        "residual_px": round(found.residual_px, 4),
        "sd": {"mm": round(1000.0 * found.shift_sd, 3), "deg": round(math.degrees(found.turn_sd), 4)},
        "from_cell_file": apart(nominal),
        "used_views": found.used,
        "views": [
            {"name": v.name, "corners": v.corners, "px": round(v.px, 3), "mm": round(v.mm, 3),
             "deg": round(v.deg, 3), "outlier": v.outlier}
            for v in found.views
        ],
        "no_board_found": without,
    }  # fmt: skip
    if truth is not None:
        report["error"] = apart(truth)
    return report


def _draw_extrinsics(path: Path, lens: Lens, views: list[View], found: Extrinsics, name: str) -> None:
    used = [view for view, report in zip(views, found.views, strict=True) if not report.outlier]
    pixels = np.concatenate([view.pixels for view in used])
    away = np.concatenate([predicted(lens, view, found.T_base_camera, found.T_flange_board) for view in used]) - pixels
    bars = [(view.name, view.px, view.outlier) for view in found.views]
    draw_residuals(path, (lens.width, lens.height), pixels, away, bars, f"place of {name}: {found.residual_px:.2f} px")


def background(
    depth: list[Path], twin: bool, count: int, cell_file: Path | None, camera: str | None, seed: int, out: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """See `cell calibrate background`. Raises CalibrationError, FileErrors, OSError."""
    if twin == bool(depth):
        raise CalibrationError("give either --depth FILES or --twin")
    cell = _twin_cell(cell_file) if twin else load_cell(cell_file)
    name = _camera(cell, camera)
    info = _info(cell, name)
    with _progress("depth pictures", as_json) as progress:
        if twin:
            frames = _empty_frames(cell, name, count, seed, progress)
        else:
            frames = _depth_files(depth, info.intrinsics, progress)
    recorded = record(frames)
    a, b, r = cell.model().capsules(cell.home())
    found = compare(info, cell.config.workcell, cell.config.perception, recorded, Capsules(a, b, np.asarray(r)))
    folder = _folder(out, name)
    draw_comparison(folder / "background.png", recorded, found, f"empty cell, camera {name}")
    np.savez_compressed(folder / "background.npz", depth=recorded.depth, sd=recorded.sd, expected=found.expected)
    report = _background_report(name, recorded, found, info.noise_coefficient)
    report["picture"] = str(folder / "background.png")
    code = _finish(report, folder / "background.json", as_json, print_background)
    return FAILED if found.differences else code


def _empty_frames(
    cell: LoadedCell, name: str, count: int, seed: int, progress: Callable[[float], None]
) -> list[NDArray[np.uint16]]:
    assert cell.config.world is not None
    cameras = [(name, camera_options(name, cell, seed)[1])]
    bench = entry_point("cell.targets", cell.config.world.driver)(cameras, [], cell.home().tolist(), seed)
    try:
        frames = []
        for n in range(count):
            frames += [frame.depth for frame in bench.frames(None, ())]
            progress((n + 1) / count)
        return frames
    finally:
        bench.close()


def _depth_files(given: list[Path], intrinsics: Any, progress: Callable[[float], None]) -> list[NDArray[np.uint16]]:
    paths: list[Path] = []
    for path in given:
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in (".png", ".npy")) if path.is_dir() else [path]
        if not inside:
            raise CalibrationError(f"{path}: holds no depth pictures (.png .npy)")
        paths += inside
    i, frames = intrinsics, []
    for n, path in enumerate(paths[:1000]):
        try:
            frames.append(read_depth(path, i.fx, i.fy, i.cx, i.cy)[0])
        except DepthFileError as error:
            raise CalibrationError(str(error)) from None
        progress((n + 1) / len(paths))
    return frames


def _background_report(name: str, recorded: Recorded, found: Comparison, assumed: float) -> dict[str, Any]:
    return {
        "camera": name,
        "date": datetime.date.today().isoformat(),
        "frames": recorded.frames,
        "unknown_share": round(found.unknown, 4),
        "noise_coefficient": {
            "measured": None if math.isnan(found.noise_coefficient) else round(found.noise_coefficient, 5),
            "assumed": round(assumed, 5),
        },
        "differences": [
            {"kind": d.kind, "fixture": d.fixture, "moved": d.moved, "centre": [round(v, 3) for v in d.centre],
             "extent": [round(v, 3) for v in d.extent], "off_m": round(d.off, 3), "pixels": d.pixels}
            for d in found.differences
        ],
    }  # fmt: skip


# ---------------------------------------------------------------- what the three share


def _twin_cell(cell_file: Path | None) -> LoadedCell:
    cell = load_cell(cell_file)
    if cell.config.world is None:
        raise CalibrationError(f"{cell.path} has no twin: use files of the real camera")
    return cell


def _camera(cell: LoadedCell, name: str | None) -> str:
    names = [camera.name for camera in cell.config.cameras]
    if name is None and names:
        return names[0]
    if name not in names or name is None:
        raise CalibrationError(f"{cell.path} has no camera {name}: there are {', '.join(names) or 'none'}")
    return name


def _info(cell: LoadedCell, name: str) -> Any:
    return next(info for info in camera_infos(cell) if info.name == name)


def _stand(cell: LoadedCell, name: str, board: Board, seed: int) -> Any:
    assert cell.config.world is not None
    bench = entry_point("cell.targets", cell.config.world.driver)
    return bench.calibration((name, camera_options(name, cell, seed)[1]), board, flange_board(board), seed)


def _folder(out: Path | None, name: str) -> Path:
    folder = out if out is not None else Path("calibration") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _progress(text: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(disable=quiet, transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _finish(report: dict[str, Any], path: Path, as_json: bool, show: Callable[[dict[str, Any]], None]) -> int:
    text = json.dumps(report, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
    else:
        show(report)
    return OK
