"""`cell robots ...`: arms and drivers, stopping tests, identification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CellOption = Annotated[
    Path | None, typer.Option("--cell", metavar="FILE", help="Cell file; left out: the demo cell of the package.")
]
app = typer.Typer(help="Arms and drivers that are installed; stopping tests, identification.")


@app.callback(invoke_without_command=True)
def robots(context: typer.Context) -> None:
    """List the arms whose models are installed, and the drivers."""
    if context.invoked_subcommand is not None:
        return
    from cell.commands.robots import list_robots

    raise typer.Exit(list_robots())


@app.command("stop-test")
def stop_test(
    cell: CellOption = None,
    joint: Annotated[list[int] | None, typer.Option("--joint", metavar="N", help="Only this one; repeatable.")] = None,
    stops: Annotated[int, typer.Option(metavar="N", min=10, max=1000, help="Stops in each condition.")] = 10,
    load: Annotated[float, typer.Option(metavar="KG", min=0.0, max=100.0, help="Mounted besides the tool.")] = 0.0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Other loads in it are kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Measure stopping times and ways: each joint at 33, 66, 100 % of speed and extension, worst of ten stops or more.

    With a twin in the cell file: on simulated time. With a real arm: it moves, after a confirmation.

    Example: cell robots stop-test --load 3 --out stops.yaml
    """
    from cell.commands.stoptest import run_stop_test

    raise typer.Exit(run_stop_test(cell, joint or [], stops, load, out, as_json))


@app.command("identify")
def identify(
    cell: CellOption = None,
    driver: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead of a cell: this driver, on its test bench if it has one."),
    ] = None,
    driver_options: Annotated[str, typer.Option(metavar="JSON", help="robot.options, and model.")] = "{}",
    driver_config: Annotated[
        str, typer.Option(metavar="JSON", help="With --driver: other fields of a robot block, such as rate_hz.")
    ] = "{}",
    joint: Annotated[list[int] | None, typer.Option("--joint", metavar="N", help="Only this one; repeatable.")] = None,
    amplitude: Annotated[float, typer.Option(metavar="DEG", min=0.5, max=10.0, help="Of the sweep.")] = 3.0,
    repeats: Annotated[
        int, typer.Option(metavar="N", min=1, max=20, help="Trials of each joint; the worst counts.")
    ] = 2,
    table: Annotated[
        Path | None, typer.Option("--stops", metavar="FILE", help="Measure the stopping table as well, into this file.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the result into the cell file.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="A real arm may move: do not ask.")] = False,
    picture: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw the responses here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure how late and how truly the drives follow: step and sweep responses of each joint, THE ARM MOVES.

    Fails if the delay is longer than the driver says or the safety configuration counts on; with --write the cell then
    does not start until somebody has corrected that.

    Example: cell robots identify --cell cell.yaml --write --png responses.png
    """
    from cell.commands.identify import Asked, run_identify

    asked = Asked(
        cell, driver, driver_options, driver_config, joint or [], amplitude, repeats, table, write, yes, picture,
        as_json,
    )  # fmt: skip
    raise typer.Exit(run_identify(asked))
