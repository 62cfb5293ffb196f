"""`cell camera`: which cameras there are, what is in a recording, and recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Depth cameras: list them, record them, look into recordings.")

CellOption = Annotated[
    Path | None, typer.Option("--cell", metavar="FILE", help="Cell file; left out: the demo cell of the package.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable result.")]


@app.command("list")
def list_cameras(cell: CellOption = None, as_json: JsonOption = False) -> None:
    """List the cameras of a cell file, the RealSense cameras plugged in, and the installed drivers."""
    from cell.commands.camera_info import show_cameras

    raise typer.Exit(show_cameras(cell, as_json))


@app.command()
def info(
    what: Annotated[str, typer.Argument(metavar="FILE|SERIAL", help="A recording, or a RealSense's serial number.")],
    size: Annotated[
        str, typer.Option("--size", metavar="WxH@HZ", help="Of a plugged-in camera: which profile.")
    ] = "848x480@30",
    as_json: JsonOption = False,
) -> None:
    """Say what is in a recording, or what a plugged-in camera needs in the cell file.

    \b
    Examples:
      cell camera info visit.mcap
      cell camera info 123622270224 --size 848x480@90
    """
    from cell.commands.camera_info import show_info

    raise typer.Exit(show_info(what, size, as_json))


@app.command()
def record(
    out: Annotated[Path, typer.Argument(metavar="FILE", help=".mcap, or .db3 for one RealSense.")],
    cell: CellOption = None,
    camera: Annotated[
        list[str] | None, typer.Option("--camera", metavar="NAME", help="Only this one; repeatable.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", min=0.1, max=86400.0, help="Left out: until Ctrl-C.")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", metavar="NAME|FILE", help="Who comes into the twin; `none`: nobody.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Of the twin.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Record cameras of a cell file. Those of the twin run on simulated time, as fast as the machine can.

    \b
    Examples:
      cell camera record visit.mcap --seconds 20
      cell camera record empty.mcap --scenario none --camera front --seconds 5
      cell camera record desk.db3 --cell mycell.yaml --camera left
    """
    from cell.commands.camera_record import RecordOptions, run_record

    options = RecordOptions(out, cell, tuple(camera or ()), seconds, scenario, seed, force, as_json)
    raise typer.Exit(run_record(options))
