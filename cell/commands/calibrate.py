"""`cell calibrate`: arguments; the work is in `calibrating`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="""Measure a camera: its lens, where it is, and whether the empty cell looks as the cell file says.

\b
In this order, each time a camera is mounted or moved:
  cell calibrate intrinsics   the lens, from pictures of a ChArUco board held before it
  cell calibrate extrinsics   where it is, from the board on the robot's flange in 15 poses or more
  cell calibrate background   the empty cell, against the fixtures of the cell file

Results are written into a folder as a report, a picture and a proposal. No command changes the cell file.""",
)
CellOption = Annotated[
    Path | None, typer.Option("--cell", metavar="FILE", help="Cell file; left out: the demo cell of the package.")
]
CameraOption = Annotated[str | None, typer.Option("--camera", metavar="NAME", help="Camera of the cell file.")]
BoardOption = Annotated[
    str,
    typer.Option(
        "--board", metavar="CxR:SQ:MK[:DICT]", help="Squares, edge of a square and of a marker in mm, markers."
    ),
]
TwinOption = Annotated[
    bool, typer.Option("--twin", help="The cell's twin makes the views; its truth is compared with.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder of the results; left out: calibration/CAMERA.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Of the twin's views.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
BOARD = "6x5:60:45:4X4_50"


@app.command()
def intrinsics(
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Pictures of the board, all of one camera and size.")
    ] = None,
    board: BoardOption = BOARD,
    rectified: Annotated[
        bool, typer.Option("--rectified", help="The camera delivers rectified pictures: no distortion is fitted.")
    ] = False,
    twin: TwinOption = False,
    views: Annotated[int, typer.Option("--views", metavar="N", min=1, max=100, help="Of the twin.")] = 18,
    cell: CellOption = None,
    camera: CameraOption = None,
    seed: SeedOption = 1,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Focal lengths, principal point and distortion from 12 or more pictures of a ChArUco board.

    Hold the board still and sharp, into every corner of the picture, tilted by 20 to 40 degrees. For a depth camera
    take the left infrared picture with the projector off: depth is in its frame.

    \b
    Examples:
      cell calibrate intrinsics --images pictures/ --board 6x5:60:45:4X4_50
      cell calibrate intrinsics --twin --camera front --json
    """
    from cell.commands import calibrating

    _guarded(
        "intrinsics",
        lambda: calibrating.intrinsics(images, board, not rectified, twin, views, cell, camera, seed, out, as_json),
    )


@app.command()
def extrinsics(
    observations: Annotated[
        Path | None,
        typer.Option(
            "--observations", metavar="FILE", help="JSON: camera, board, lens, views (see the documentation)."
        ),
    ] = None,
    twin: TwinOption = False,
    views: Annotated[int, typer.Option("--views", metavar="N", min=1, max=100, help="Of the twin.")] = 20,
    board: BoardOption = BOARD,
    cell: CellOption = None,
    camera: CameraOption = None,
    seed: SeedOption = 1,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where a camera is in the robot's base frame, from a board on the flange seen in 15 or more poses of the arm.

    Where the board sits on the flange need not be known. Tilt it about two axes between the poses, and spread them over
    the picture and in depth. A view is joints (q, rad) or T_base_flange, and an image or its corners (ids, pixels).

    \b
    Examples:
      cell calibrate extrinsics --twin --camera front
          the twin takes 20 views; observations.json in the results is an example of the file
      cell calibrate extrinsics --observations calibration/front/observations.json
    """
    from cell.commands import calibrating

    _guarded(
        "extrinsics",
        lambda: calibrating.extrinsics(observations, twin, views, board, cell, camera, seed, out, as_json),
    )


@app.command()
def background(
    depth: Annotated[
        list[Path] | None,
        typer.Option("--depth", metavar="FILE|DIR", help="Depth of the empty cell (PNG, NPY), 10 or more. Repeatable."),
    ] = None,
    twin: TwinOption = False,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, max=1000, help="Of the twin.")] = 30,
    cell: CellOption = None,
    camera: CameraOption = None,
    seed: SeedOption = 1,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the empty cell as a camera measures it with the fixtures of the cell file; the arm stands at rest.

    Reports what is there and not in the file, what is in the file and not there, and what was moved. Exit code 1 if
    anything differs. The background perception uses is always that of the cell file; correct the file instead.

    \b
    Examples:
      cell calibrate background --twin --camera front
      cell calibrate background --camera front --depth empty/
    """
    from cell.commands import calibrating

    _guarded("background", lambda: calibrating.background(depth or [], twin, frames, cell, camera, seed, out, as_json))


def _guarded(name: str, action: Callable[[], int]) -> None:
    from cell.exits import BAD_INPUT
    from cell.yamlfile import FileErrors
    from perception.calibration.board import CalibrationError

    try:
        code = action()
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        code = BAD_INPUT
    except (CalibrationError, OSError) as error:
        print(f"cell calibrate {name}: {error}", file=sys.stderr)
        code = BAD_INPUT
    raise typer.Exit(code)
