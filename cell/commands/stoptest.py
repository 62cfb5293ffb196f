"""`cell robots stop-test`: measures stopping times and ways and writes the table the safety configuration can name."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cell.config import LoadedCell, load_cell
from cell.exits import FAILED, OK, BadInput
from cell.heartbeat import real_time_scheduling
from cell.process import PRIORITY
from cell.session import ARM
from cell.stoptest.measure import Measurement, plan
from cell.stoptest.rig import Arm, Rig, RigError, cell_arm
from cell.stoptest.sweeps import NoSweep
from recipes.clearance import Obstacle, fixtures
from robots.config import RobotConfig
from robots.model import RobotModel
from robots.rates import RateLimits
from safety.stopping import LEAST_STOPS, PERCENT, StopRow, StopTable, load_table

HEAD = """# Stopping times and ways, measured by `cell robots stop-test`: worst of the stops in each condition (those of
# ISO 10218-1:2011, Annex B), from the command at the robot node to standstill of all joints. rad, rad/s, s, m, kg.
"""
WARNING = """The arm of this cell will move fast and stop hard, many times, without cameras or supervisors watching.
Nobody may be inside; emergency stop and safeguards of the robot's own controller must be in force.
The load of {load:g} kg must be mounted."""


def run_stop_test(
    cell_file: Path | None, joints: list[int], stops: int, load: float, out: Path | None, as_json: bool
) -> int:
    """Measure, print and write; return the exit code. Raises BadInput and what cell, driver and world raise."""
    cell = load_cell(cell_file)
    model = cell.model()
    chosen = _joints(joints, model.dof)
    if stops < LEAST_STOPS:
        raise BadInput(f"--stops {stops}: at least {LEAST_STOPS} stops a condition")
    twin = cell.simulated
    table = _empty(cell, twin)
    kept = kept_rows(out, table, chosen, load)
    if not twin:
        typer.echo(WARNING.format(load=load), err=True)
        if not typer.confirm("Go on?", default=False, err=True):
            return FAILED
        real_time_scheduling(PRIORITY[ARM])
    robot = cell.config.robot
    site = Site(lambda: cell_arm(cell, robot.driver, twin), fixtures(cell.config.workcell), cell.home(), True)
    rows = measure_stops(site, robot.rate_limits.limits, chosen, stops, load)
    if rows is None:
        return FAILED
    table = filled(table, [*kept, *rows])
    if out is not None:
        write_table(out, table)
    if as_json:
        json.dump(table.model_dump(mode="json"), sys.stdout, indent=2)
        print()
    else:
        show_stops(rows)
    return OK


def _joints(given: list[int], dof: int) -> list[int]:
    wrong = [j for j in given if not 1 <= j <= dof]
    if wrong:
        raise BadInput(f"--joint {wrong[0]}: the arm has joints 1 to {dof}")
    return sorted({j - 1 for j in given}) if given else list(range(dof))


def _empty(cell: LoadedCell, twin: bool) -> StopTable:
    return empty_table(cell.config.robot, cell.model(), twin)


def empty_table(robot: RobotConfig, model: RobotModel, twin: bool) -> StopTable:
    """A table with a single row that says nothing, to be replaced."""
    title = f"{model.name} with {model.tool_name}, {'the twin: SIMULATION ONLY' if twin else robot.driver}"
    blank = StopRow(
        joint=1, speed_percent=33, extension_percent=33, load=0.0, speed=1.0, extension=1.0, stops=LEAST_STOPS,
        time=1.0, angle=1.0,
    )  # fmt: skip
    return StopTable.model_validate(
        {
            "title": title, "date": datetime.date.today().isoformat(), "model": model.name, "tool": model.tool_name,
            "driver": robot.driver, "simulation_only": twin, "rate_limits": robot.rate_limits.model_dump(),
            "rows": [blank],
        }
    )  # fmt: skip


def kept_rows(out: Path | None, table: StopTable, joints: list[int], load: float) -> list[StopRow]:
    """Rows of an earlier table in the same file that this test does not measure again. Raises BadInput, FileErrors."""
    if out is None or not out.exists():
        return []
    old = load_table(out)
    for name in ("model", "tool", "driver", "simulation_only", "rate_limits"):
        if getattr(old, name) != getattr(table, name):
            raise BadInput(f"{out} was measured with another {name}: choose another file")
    return [row for row in old.rows if not (row.load == load and row.joint - 1 in joints)]


class Site(NamedTuple):
    """Where an arm is tested."""

    arm: Callable[[], Arm]
    furniture: list[Obstacle]
    home: NDArray[np.float64]
    """(dof,) rest pose, rad."""
    must_stand_there: bool
    """False: the arm goes to the rest pose by itself, nothing being in its way."""


def measure_stops(site: Site, limits: RateLimits, joints: list[int], stops: int, load: float) -> list[StopRow] | None:
    """Rows of the joints (from 0); None if the arm did not take part. An interrupted test brings the arm to rest."""
    console = Console(stderr=True)
    rig = Rig(site.arm())
    even = stops + stops % 2
    try:
        with Progress(
            TextColumn("stopping"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.description}"), console=console, transient=True,
        ) as bar:  # fmt: skip
            task = bar.add_task("planning", total=len(joints) * len(PERCENT) ** 2 * even)
            planned = plan(rig.model, site.furniture, site.home, joints, limits)
            rig.prepare(load)
            if not site.must_stand_there:
                rig.approach(site.home)
            rig.start_at(site.home)
            measurement = Measurement(rig, *planned)

            def show(sweep: object, done: int) -> None:
                bar.update(task, advance=1, description=_words(sweep))

            return list(measurement.rows(even, load, show))
    except (RigError, NoSweep) as error:
        console.print(str(error), style="red", markup=False)
        rig.settle()
        return None
    except KeyboardInterrupt:
        console.print("ended by Ctrl-C: the arm is brought to rest, nothing is written")
        rig.settle()
        return None
    finally:
        rig.close()


def _words(sweep: object) -> str:
    joint, speed, reach = (getattr(sweep, name) for name in ("joint", "speed_percent", "extension_percent"))
    return f"joint {joint + 1}, {speed} % speed, {reach} % extension"


def _order(row: StopRow) -> tuple[float, int, int, int]:
    return row.load, row.joint, row.extension_percent, row.speed_percent


def filled(table: StopTable, rows: list[StopRow]) -> StopTable:
    """The table with these rows, in order."""
    return table.model_copy(update={"rows": sorted(rows, key=_order)})


def write_table(out: Path, table: StopTable) -> None:
    """Whole or not at all."""
    plain = table.model_dump(mode="json")
    rows = plain.pop("rows")
    lines = [f"{name}: {json.dumps(value)}" for name, value in plain.items()]
    lines += ["rows:", *(f"  - {json.dumps(row)}" for row in rows)]
    part = out.with_name(out.name + ".part")
    part.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, out)


def show_stops(rows: list[StopRow]) -> None:
    table = Table(title="worst of the stops", title_justify="left")
    for name in ("joint", "speed", "extension", "load", "from", "time", "way"):
        table.add_column(name, justify="right")
    for row in sorted(rows, key=_order):
        table.add_row(
            str(row.joint), f"{row.speed_percent} %", f"{row.extension:.2f} m", f"{row.load:g} kg",
            f"{row.speed:.2f} rad/s", f"{row.time * 1e3:.0f} ms", f"{row.angle:.3f} rad",
        )  # fmt: skip
    Console().print(table)
