"""Files of calibrations: pictures, observations of the target, and proposals for the cell file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cell.yamlfile import FileError, FileErrors, load_yaml
from perception.calibration.board import Board, CalibrationError, Corners, find_corners
from perception.calibration.extrinsics import Extrinsics
from perception.calibration.handeye import View
from perception.calibration.lens import Lens
from perception.config import Mount
from robots.workcell import Finite, Name, Strict

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
LARGEST_FILE = 100 * 1024 * 1024
MOST_PICTURES = 500
Pixel = Annotated[float, Field(ge=-1.0, le=1e4, allow_inf_nan=False)]


class ViewFile(Strict):
    """One pose of the arm: joints or flange, and corners or a picture of them."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    q: Annotated[list[Finite], Field(max_length=12)] = []
    """Joint positions, rad."""
    T_base_flange: Annotated[list[Finite], Field(max_length=16)] = []
    """4x4 row major, m; of the flange, the TCP, or anything fixed to them, the same in all views."""
    ids: Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(max_length=1000)] = []
    pixels: Annotated[list[tuple[Pixel, Pixel]], Field(max_length=1000)] = []
    image: str = ""
    """Relative to the file."""

    @model_validator(mode="after")
    def _complete(self) -> ViewFile:
        if bool(self.q) == bool(self.T_base_flange):
            raise ValueError("either q (joints, rad) or T_base_flange (16 numbers) is needed")
        if self.T_base_flange and len(self.T_base_flange) != 16:
            raise ValueError("T_base_flange has 16 numbers, row by row")
        if bool(self.image) == bool(self.ids or self.pixels):
            raise ValueError("either image, or ids and pixels of the corners, are needed")
        if len(self.ids) != len(self.pixels) or len(set(self.ids)) != len(self.ids):
            raise ValueError("ids and pixels belong together one by one, each id once")
        return self


class Observations(Strict):
    """A file of `cell calibrate extrinsics --observations`."""

    camera: Name
    board: Board = Board()
    lens: Lens
    views: Annotated[list[ViewFile], Field(max_length=MOST_PICTURES)]


def read_picture(path: Path) -> U8:
    """Read a grey picture (h, w). Raises CalibrationError."""
    try:
        if not path.is_file():
            raise CalibrationError(f"{path}: no such file")
        if path.stat().st_size > LARGEST_FILE:
            raise CalibrationError(f"{path}: larger than {LARGEST_FILE // 2**20} MB")
        raw = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        picture: Any = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE) if len(raw) else None
    except cv2.error:
        picture = None
    if picture is None:
        raise CalibrationError(f"{path}: is no picture, or a truncated one")
    return np.asarray(picture, np.uint8)


def read_pictures(
    folder: Path, board: Board, progress: Callable[[float], None] = lambda share: None
) -> tuple[tuple[int, int], list[tuple[str, Corners]], list[str]]:
    """Find the board in all pictures of a folder: size (width, height), name and corners of each, and the names of
    those in which it was not found. Raises CalibrationError: no pictures, different sizes, unreadable."""
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise CalibrationError(f"{folder}: holds no pictures ({' '.join(SUFFIXES)})")
    if len(paths) > MOST_PICTURES:
        raise CalibrationError(f"{folder}: {len(paths)} pictures, at most {MOST_PICTURES}")
    size: tuple[int, int] | None = None
    seen, without = [], []
    for n, path in enumerate(paths):
        picture = read_picture(path)
        own = (picture.shape[1], picture.shape[0])
        if size is not None and own != size:
            raise CalibrationError(f"{path}: {own[0]} x {own[1]} px, the pictures before it {size[0]} x {size[1]}")
        size = own
        corners = find_corners(board, picture)
        if corners is None:
            without.append(path.name)
        else:
            seen.append((path.name, corners))
        progress((n + 1) / len(paths))
    assert size is not None
    return size, seen, without


def read_observations(
    path: Path, forward: Callable[[F64], F64], dof: int
) -> tuple[Observations, list[View], list[str]]:
    """Read observations; `forward`: joints (rad) to base-to-flange (4, 4). The third are the names of pictures
    without a board. Raises FileErrors with every fault of the file, CalibrationError for pictures."""
    file = load_yaml(path, Observations)
    faults = [
        FileError(str(path), 0, f"views[{n}]", text) for n, v in enumerate(file.views) if (text := _wrong(v, file, dof))
    ]
    if faults:
        raise FileErrors(faults)
    views, without = [], []
    for item in file.views:
        T = forward(np.array(item.q)) if item.q else np.array(item.T_base_flange).reshape(4, 4)
        corners: Corners | None = Corners(np.array(item.ids, np.int32), np.array(item.pixels, float).reshape(-1, 2))
        if item.image:
            picture = read_picture(path.parent / item.image)
            if picture.shape != (file.lens.height, file.lens.width):
                raise CalibrationError(
                    f"{item.image}: is not {file.lens.width} x {file.lens.height} px, as the lens is"
                )
            corners = find_corners(file.board, picture)
        if corners is None:
            without.append(item.name)
        else:
            views.append(View(item.name, T, file.board.points(corners.ids), corners.pixels))
    return file, views, without


def _wrong(view: ViewFile, file: Observations, dof: int) -> str:
    if view.q and len(view.q) != dof:
        return f"q has {len(view.q)} values, the arm {dof} joints"
    if view.ids and max(view.ids) >= file.board.corner_count:
        return f"ids: board {file.board} has corners 0 to {file.board.corner_count - 1}"
    return ""


def write_observations(path: Path, camera: str, board: Board, lens: Lens, views: list[ViewFile]) -> None:
    """Write a file that `read_observations` reads."""
    file = Observations(camera=camera, board=board, lens=lens, views=views)
    path.write_text(json.dumps(file.model_dump(mode="json", exclude_defaults=True), indent=1), encoding="utf-8")


def proposal(camera: str, found: Extrinsics, board: Board, distance: float, today: datetime.date, source: str) -> str:
    """Text (YAML) of what would go into the camera's block of the cell file. `distance`: of `look_at`, m. Raises
    ValueError if the camera looks straight up or down."""
    mount = Mount.of(found.T_base_camera, distance)
    place, aim = (", ".join(f"{v:.5f}" for v in vector) for vector in (mount.position, mount.look_at))
    return (
        f"# Camera {camera}, measured {today.isoformat()} from {source}. A proposal: nothing reads this file.\n"
        "# To accept it, put these lines into the camera's block of the cell file. That changes the configuration's\n"
        "# fingerprint: a signed acceptance has to be renewed, and `cell calibrate background` looked at again.\n"
        f"# Standard deviation {1000 * found.shift_sd:.2f} mm, {np.degrees(found.turn_sd):.3f} degrees.\n"
        f"mount: {{position: [{place}], look_at: [{aim}], roll_deg: {mount.roll_deg:.5f}}}\n"
        f"calibrated_on: {today.isoformat()}\n"
        f"calibration: {{residual_px: {found.residual_px:.3f}, views: {found.used}, board: '{board}'}}\n"
    )
