"""The calibration target: a ChArUco board, how it is drawn, found in pictures, and where its corners are.

Frame of the board, m: origin at the corner of the printed chessboard, x to the right, y down, z away from the viewer.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from robots.workcell import Strict

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
DICTIONARIES = {
    "4X4_50": cv2.aruco.DICT_4X4_50,
    "4X4_100": cv2.aruco.DICT_4X4_100,
    "5X5_50": cv2.aruco.DICT_5X5_50,
    "5X5_100": cv2.aruco.DICT_5X5_100,
    "6X6_100": cv2.aruco.DICT_6X6_100,
}
LEAST_CORNERS = 6
"""Fewer corners of a board do not make a view."""


class CalibrationError(Exception):
    """Views or measurements from which no calibration can be made; the text says why and what to do."""


class Corners(NamedTuple):
    """Chessboard corners of one picture."""

    ids: NDArray[np.int32]
    """(n,) numbers of the inner corners, row by row."""
    pixels: F64
    """(n, 2) column, row; the centre of the first pixel is (0, 0)."""


class Board(Strict):
    """A ChArUco board as it is printed. Measure the print: scaling by a printer goes straight into the result."""

    columns: Annotated[int, Field(ge=3, le=30)] = 6
    """Squares across."""
    rows: Annotated[int, Field(ge=3, le=30)] = 5
    square: Annotated[float, Field(gt=0.005, le=0.5)] = 0.06
    """Edge of a square, m."""
    marker: Annotated[float, Field(gt=0.003, le=0.5)] = 0.045
    """Edge of a marker, m."""
    dictionary: str = "4X4_50"

    @model_validator(mode="after")
    def _fits(self) -> Board:
        if self.marker >= self.square:
            raise ValueError("the markers do not fit into the squares: marker must be smaller than square")
        if self.dictionary not in DICTIONARIES:
            raise ValueError(f"unknown dictionary {self.dictionary}: one of {', '.join(DICTIONARIES)}")
        if self.columns * self.rows // 2 > int(self.dictionary.rpartition("_")[2]):
            raise ValueError(f"{self.columns} x {self.rows} squares need more markers than {self.dictionary} has")
        return self

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}:{1000 * self.square:g}:{1000 * self.marker:g}:{self.dictionary}"

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the chessboard, m."""
        return (self.columns * self.square, self.rows * self.square)

    @property
    def corner_count(self) -> int:
        """Inner corners."""
        return (self.columns - 1) * (self.rows - 1)

    def points(self, ids: NDArray[np.int32]) -> F64:
        """Return where these corners are, (n, 3) in the board's frame, m."""
        row, column = np.divmod(np.asarray(ids, int), self.columns - 1)
        return np.stack([(column + 1) * self.square, (row + 1) * self.square, np.zeros(len(row))], 1)

    def picture(self, square_px: int) -> U8:
        """Return the chessboard, (rows * square_px, columns * square_px) grey, to print or to draw."""
        size = (self.columns * square_px, self.rows * square_px)
        return np.asarray(_board(self).generateImage(size), np.uint8)


def parse_board(text: str) -> Board:
    """Read `COLUMNSxROWS:SQUARE_MM:MARKER_MM[:DICTIONARY]`. Raises CalibrationError."""
    parts = text.split(":")
    try:
        if len(parts) not in (3, 4):
            raise ValueError("three or four parts are expected")
        columns, rows = parts[0].lower().split("x")
        given = {"dictionary": parts[3].upper()} if len(parts) == 4 else {}
        square, marker = float(parts[1]) / 1000.0, float(parts[2]) / 1000.0
        if not (math.isfinite(square) and math.isfinite(marker)):
            raise ValueError("sizes must be finite")
        return Board(columns=int(columns), rows=int(rows), square=square, marker=marker, **given)
    except ValueError as error:  # pydantic's errors are ValueErrors too
        said = getattr(error, "errors", None)
        why = "; ".join(str(e["msg"]) for e in said()) if said else str(error)
        raise CalibrationError(f"board {text!r}: {why}. Write it as 6x5:60:45:4X4_50 (squares, mm, mm)") from None


@functools.lru_cache(maxsize=8)
def _board(board: Board) -> Any:
    dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARIES[board.dictionary])
    return cv2.aruco.CharucoBoard((board.columns, board.rows), board.square, board.marker, dictionary)


@functools.lru_cache(maxsize=8)
def _detector(board: Board) -> Any:
    settings = cv2.aruco.DetectorParameters()
    # Boards at the far end of a cell: markers of some 12 px.
    settings.minMarkerPerimeterRate = 0.01
    return cv2.aruco.CharucoDetector(_board(board), cv2.aruco.CharucoParameters(), settings)


def find_corners(board: Board, picture: U8) -> Corners | None:
    """Find the board's corners in a grey (h, w) or RGB (h, w, 3) picture; None if fewer than `LEAST_CORNERS` are seen
    or they lie on one line. Raises CalibrationError for what is no picture."""
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or min(picture.shape[:2]) < 32:
        raise CalibrationError(f"{picture.dtype} {picture.shape}: a picture is 8-bit grey or RGB, at least 32 px wide")
    grey = picture if picture.ndim == 2 else np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    found = _detected(board, grey)
    if len(found.ids) < board.corner_count:
        # Markers of 10 px are read more often in an enlarged picture.
        larger = cv2.resize(grey, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC)
        second = _detected(board, np.asarray(larger, np.uint8))
        if len(second.ids) > len(found.ids):
            found = Corners(second.ids, (second.pixels + 0.5) / 2.0 - 0.5)
    if len(found.ids) < LEAST_CORNERS or in_line(board.points(found.ids)[:, :2]):
        return None
    return found


def _detected(board: Board, grey: U8) -> Corners:
    pixels, ids, _, _ = _detector(board).detectBoard(grey)
    if ids is None:
        return Corners(np.zeros(0, np.int32), np.zeros((0, 2)))
    return Corners(np.asarray(ids, np.int32).reshape(-1), np.asarray(pixels, float).reshape(-1, 2))


def in_line(points: F64) -> bool:
    """Whether points (n, 2) lie on one line, and so say nothing about the turn about it."""
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(spread[1] < 0.05 * max(spread[0], 1e-12))
