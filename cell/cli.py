"""The command `cell`. Only arguments are dealt with here; what a command needs is imported when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cell.commands import arms as arms_command
from cell.commands import calibrate as calibrate_command
from cell.commands import camera as camera_command
from cell.commands import pendant as pendant_command
from cell.commands import perceive as perceive_command
from cell.commands import safety as safety_commands
from cell.commands.arguments import group_people, person_of, settings_of
from cell.exits import BAD_INPUT, FAILED, OK, BadInput

app = typer.Typer(
    name="cell",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="""Run a human-robot collaborative cell: a recipe, a robot, cameras that watch for people.

\b
Start here:
  cell doctor              is everything installed?
  cell check kitting       would the recipe work in this cell?
  cell run kitting         run it in the digital twin, with a visitor
  cell replay runs/FOLDER  look at a finished run again

Exit codes: 0 all went well, 1 the run failed, 2 bad input or a missing prerequisite (nothing has moved).

This is engineering software, not a certified safety function.""",
)

CellOption = Annotated[
    Path | None, typer.Option("--cell", metavar="FILE", help="Cell file; left out: the demo cell of the package.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Formula parameter, such as varieties=cube_red,bar_blue. Repeatable."
    ),
]
app.add_typer(safety_commands.app, name="safety")
app.add_typer(pendant_command.app, name="pendant")
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder that receives one folder a run.")]
ShadowOption = Annotated[
    bool, typer.Option("--shadow", help="The twin's arm follows the measured joints of the cell's arm.")
]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Recipe file, or its name in the cell's library.")
]


@app.command()
def run(
    recipe: RecipeArgument,
    cell: CellOption = None,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Who comes into the twin; `none`: nobody. Left out: the cell file's."),
    ] = None,
    person: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIP", help="A person moved by a BVH, a .joints_m.npz or a named pybullet clip. Repeatable."
        ),
    ] = None,
    person_at: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,YAW", help="Where the person before it starts: m, m, degrees in the cell frame."),
    ] = None,
    person_start: Annotated[
        list[str] | None, typer.Option(metavar="S", help="When the person before it starts, s.")
    ] = None,
    person_loop: Annotated[
        bool, typer.Option("--person-loop", help="The clip of the person before it repeats.")
    ] = False,
    batch: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many batches.")] = 1,
    settings: SetOption = None,
    lockstep: Annotated[
        bool, typer.Option("--lockstep/--live", help="Simulated time in one process, or real time in many.")
    ] = True,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="Of everything random.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the summary here.")] = None,
    perception: Annotated[
        str, typer.Option(metavar="rendered|surface", help="Depth pictures of the twin, or points on its people.")
    ] = "rendered",
    confirm_clear: Annotated[
        bool,
        typer.Option("--confirm-clear/--no-confirm-clear", help="You have looked: nobody is in the unseen space."),
    ] = True,
    time_limit: Annotated[
        float, typer.Option(metavar="S", min=1.0, max=86400.0, help="Give the run up after this time of the cell.")
    ] = 600.0,
    runs: RunsOption = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No live display.")] = False,
    shadow: ShadowOption = False,
    paced: Annotated[
        bool, typer.Option("--paced", help="Lock-step at the machine's pace, for arms that keep their own time.")
    ] = False,
    slow_motion: Annotated[
        float,
        typer.Option(
            metavar="N", min=1.0, max=20.0, help="With --paced: N seconds for one of the cell's (simulators)."
        ),
    ] = 1.0,
) -> None:
    """Run a recipe. The demo cell is a digital twin; with a real robot only the cell file differs.

    \b
    Examples:
      cell run kitting
          the demo: six parts, a visitor reaches over the tray
      cell run kitting --scenario none --batch 3 --perception surface
      cell run kitting --person walk.bvh --person-at 1.6,0,180 --person-start 4
          one person; a second --person begins the next one
      cell run kitting --set varieties=cube_red,post_white --seed 7 --json a.json
      cell run kitting --live
    """
    if person_at or person_start or person_loop:
        raise BadInput("--person-at, --person-start and --person-loop belong behind the --person they are for")
    if perception not in ("rendered", "surface"):
        raise BadInput(f"--perception: {perception!r} is neither rendered nor surface")
    if paced and not lockstep:
        raise BadInput("--paced is a way of running in lock-step: leave --live out")
    if slow_motion > 1.0 and not paced:
        raise BadInput("--slow-motion is for --paced runs: add --paced")
    from cell.commands.run import run_recipe
    from cell.options import RunOptions

    options = RunOptions(
        recipe=Path(recipe),
        cell=cell,
        scenario=scenario,
        people=tuple(person_of(text) for text in person or ()),
        batches=batch,
        settings=settings_of(settings or ()),
        mode="lockstep" if lockstep else "live",
        seed=seed,
        perception="surface" if perception == "surface" else "rendered",
        json=json_file,
        runs=runs,
        confirm_clear=confirm_clear,
        time_limit=time_limit,
        quiet=quiet,
        shadow=shadow,
        paced=paced,
        slow_motion=slow_motion,
    )
    raise typer.Exit(run_recipe(options))


@app.command()
def up(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Recipe to load; a person starts it.")
    ] = None,
    cell: CellOption = None,
    scenario: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Who comes into the twin.")] = None,
    settings: SetOption = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, max=1000)] = 1,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**31 - 1)] = 1,
    perception: Annotated[str, typer.Option(metavar="rendered|surface")] = "rendered",
    runs: RunsOption = Path("runs"),
    shadow: ShadowOption = False,
    port: Annotated[int, typer.Option(metavar="N", min=1024, max=65535, help="Of the pendant, on 127.0.0.1.")] = 8080,
    pendant: Annotated[bool, typer.Option("--pendant/--no-pendant", help="Serve the teach pendant.")] = True,
    lockstep: Annotated[
        bool, typer.Option("--lockstep/--live", help="Twin only: all in one process, never faster than the wall clock.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The pendant's accounts, points, recipes; else pendant-data beside the runs."),
    ] = None,
) -> None:
    """Start all nodes of a cell as processes, in real time, until Ctrl-C. Nothing starts to move by itself.

    With --lockstep all nodes of a simulated cell run in one process, for machines with few processors: its clock stays
    behind the wall's where the machine is too slow, and nothing in the cell is late.

    The teach pendant is served on http://127.0.0.1:8080; the first start prints the admin's password, once.
    """
    if perception not in ("rendered", "surface"):
        raise BadInput(f"--perception: {perception!r} is neither rendered nor surface")
    from cell.commands.run import bring_up
    from cell.options import RunOptions

    options = RunOptions(
        recipe=Path(recipe) if recipe is not None else None,
        cell=cell,
        scenario=scenario,
        batches=batch,
        settings=settings_of(settings or ()),
        mode="lockstep" if lockstep else "live",
        seed=seed,
        perception="surface" if perception == "surface" else "rendered",
        runs=runs,
        shadow=shadow,
        pendant_port=port if pendant else None,
        pendant_data=data,
    )
    raise typer.Exit(bring_up(options))


@app.command()
def check(
    recipe: RecipeArgument,
    cell: CellOption = None,
    settings: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable result.")] = False,
) -> None:
    """Analyse a recipe for a cell: all problems at once, each with file and line, and the predicted cycle time.

    Example: cell check kitting --set varieties=cube_red,bar_blue
    """
    from cell.commands.check import check_recipe

    raise typer.Exit(check_recipe(recipe, cell, settings_of(settings or ()), as_json))


@app.command()
def doctor(
    cell: CellOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable result.")] = False,
) -> None:
    """Look at libraries, rendering, scheduler rights, cameras and model files: what is there, and what to do."""
    from cell.commands.doctor import examine

    raise typer.Exit(examine(cell, as_json))


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, such as runs/2026-01-31_12-00-00.")],
    picture: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw the timeline here.")] = None,
    events: Annotated[bool, typer.Option("--events", help="List every event.")] = False,
) -> None:
    """Show a finished run again from its recording and ledger.

    Example: cell replay runs/2026-01-31_12-00-00 --events
    """
    from cell.commands.replay import show_run

    raise typer.Exit(show_run(folder, picture, events))


@app.command("ur-sim")
def ur_sim(
    address: Annotated[
        str, typer.Option(metavar="IP", help="Of this machine; clients such as ur_rtde know only the vendor's ports.")
    ] = "127.0.0.1",
    model: Annotated[str, typer.Option(metavar="NAME", help="Arm with six joints; see `cell robots`.")] = "ur5e",
    local: Annotated[bool, typer.Option("--local", help="Local control, as chosen at the pendant.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Begin with the arm switched off.")] = False,
    port_shift: Annotated[
        int, typer.Option(metavar="N", min=-29000, max=35000, help="Added to all ports, for clients that can be told.")
    ] = 0,
) -> None:
    """Run a simulated UR arm that any RTDE client can drive: RTDE 30004, dashboard 29999, scripts 30001 to 30003.

    \b
    The control program of ur_rtde works (servoJ, speedJ, moveJ, stops, payload, watchdog);
    other programs are refused. Nothing is protected by a password: keep to a loopback address.
    While it runs, type what somebody at the arm does: emergency_stop on, slider 50, cable off, ...

    Example: cell ur-sim --address 127.0.0.2
    """
    from cell.commands.ur_sim import simulate

    raise typer.Exit(simulate(address, model, local, off, port_shift))


@app.command()
def compare(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file, or its name.")] = "kitting",
    cell: Annotated[
        Path | None, typer.Option("--cell", metavar="FILE", help="Cell file with a twin; left out: the demo cell.")
    ] = None,
    clips: Annotated[
        list[Path] | None, typer.Option("--clips", metavar="DIR", help="Folder of recorded motion; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of every run.")] = 1,
    traces: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N visits.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Runs at a time.")] = 2,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare methods of keeping the distance: how much time does each lose over the same visits?

    A static stop zone sized by ISO 13855, ISO/TS 15066 with constant speeds, the exact monitor, reach (no contact with
    a moving arm), and the exact monitor with zones of contact where the cell has a X_contact_safety.yaml, in the twin,
    with people who come, work beside the robot and leave. Each method's lease counts alone. Writes a picture, a table
    and all figures.

    Example: cell compare kitting --clips ../shared/mocap --jobs 2
    """
    from cell.commands.compare import run_compare

    raise typer.Exit(run_compare(recipe, cell, clips or [], seed, traces, jobs, as_json, runs))


# ---------------------------------------------------------------- arguments that belong together


# ---------------------------------------------------------------- entry


app.add_typer(arms_command.app, name="robots")
app.add_typer(perceive_command.app, name="perceive")
app.add_typer(calibrate_command.app, name="calibrate")
app.add_typer(camera_command.app, name="camera")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command. Ends the process with one of the exit codes above."""
    sys.exit(guarded(lambda: _typer(list(sys.argv[1:] if arguments is None else arguments))))


def _typer(arguments: list[str]) -> int:
    # The parser ends the process itself: 2 for arguments it does not understand, else the command's code.
    app(args=group_people(arguments), prog_name="cell")
    return OK


def guarded(action: Callable[[], int]) -> int:
    """Run `action`; an error that a person can act on becomes its text and an exit code, not a traceback."""
    try:
        return action()
    except KeyboardInterrupt:
        print("ended by Ctrl-C", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return FAILED
    except BadInput as error:
        print(f"cell: {error}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:  # decided below: what is not meant for people is raised again
        if not _for_people(error):
            raise
        print(f"cell: {error}", file=sys.stderr)
        return BAD_INPUT


def _for_people(error: Exception) -> bool:
    """Errors whose text says cause and remedy; their modules are loaded only if they were needed."""
    names = (
        ("cell.yamlfile", "FileErrors"),
        ("cell.session", "SessionError"),
        ("cell.bus.ports", "BusError"),
        ("cell.ledger", "LedgerError"),
        ("cell.pendant.accounts", "AccountError"),
        ("cell.recorder", "RecordError"),
        ("robots.contract", "DriverError"),
        ("sim.franka_server", "NotInstalled"),
        ("perception.contract", "CameraError"),
        ("perception.cameras.files", "RecordingError"),
    )
    kinds = [getattr(sys.modules[module], name) for module, name in names if module in sys.modules]
    return isinstance(error, tuple(kinds))


if __name__ == "__main__":
    main()
