"""`cell robots identify`: how late and how truly an arm's drives follow, and what of it belongs into the cell file."""

from __future__ import annotations

import datetime
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cell.commands.stoptest import Site, empty_table, filled, kept_rows, measure_stops, write_table
from cell.config import LoadedCell, load_cell
from cell.exits import FAILED, OK, BadInput
from cell.heartbeat import real_time_scheduling
from cell.identify.cellfile import NotWritten, with_identified
from cell.identify.estimate import EstimateError
from cell.identify.picture import draw
from cell.identify.run import Identification, Joint, Recorded, evaluate, total
from cell.identify.signals import HIGHEST, NoSignal
from cell.process import PRIORITY
from cell.session import ARM, read_safety
from cell.stoptest.rig import Arm, Rig, RigError, bench_arm, cell_arm
from recipes.clearance import fixtures
from robots.config import Identified
from robots.contract import DriverInfo
from safety.stopping import LEAST_STOPS, table_fingerprint

WARNING = """THE ARM WILL MOVE: each joint swings by {amplitude:g} degrees, up to {highest:g} times a second, and turns
by {way:g} degrees and back, without cameras or supervisors watching.{stops}{furniture}
Nobody may be inside; emergency stop and safeguards of the robot's own controller must be in force."""
STOPS = "\nThen it moves fast and stops hard, many times, in its whole range."
FURNITURE = "\nNo cell file is given: nothing is known of what stands round it."


class Asked(NamedTuple):
    """The command line."""

    cell: Path | None
    driver: str | None
    driver_options: str
    driver_config: str
    joints: list[int]
    amplitude: float
    """Degrees."""
    repeats: int
    table: Path | None
    write: bool
    yes: bool
    picture: Path | None
    as_json: bool


class Place(NamedTuple):
    """Where the arm is, and what is claimed of it."""

    arm: Callable[[], Arm]
    cell: LoadedCell | None
    allowed: float | None
    """What the safety configuration counts on, s; None without a cell."""


def run_identify(asked: Asked) -> int:
    """Measure, judge, and write what was asked for. Raises BadInput and what cell, driver and world raise."""
    place = _place(asked)
    arm = place.arm()
    rig = Rig(arm)
    try:
        joints = _joints(asked.joints, rig.model.dof)
        if not _may_move(asked, arm, place):
            return FAILED
        recorded = _measure(rig, arm, asked, place, joints)
        info = rig.driver.info
    finally:
        rig.close()
    if recorded is None:
        return FAILED
    try:
        found = evaluate(recorded)
        total(found)
    except EstimateError as error:
        typer.echo(str(error), err=True)
        return FAILED
    fingerprint = ""
    if asked.table is not None:
        fingerprint = _stops(asked.table, arm, place, joints)
        if not fingerprint:
            return FAILED
    return _report(asked, place, arm, info, found, fingerprint)


def _place(asked: Asked) -> Place:
    if asked.driver is not None:
        if asked.cell is not None or asked.write:
            raise BadInput("--driver stands for a driver without a cell: leave --cell and --write out")
        options = _object(asked.driver_options, "--driver-options")
        block = _object(asked.driver_config, "--driver-config")
        name = asked.driver
        return Place(lambda: _bench_arm(name, options, block), None, None)
    if asked.write and asked.cell is None:
        raise BadInput("--write needs --cell: the demo cell of the package is not changed")
    if asked.write and asked.joints:
        raise BadInput("--write needs all joints: leave --joint out")
    cell = load_cell(asked.cell)
    twin, robot = cell.simulated, cell.config.robot
    return Place(lambda: cell_arm(cell, robot.driver, twin), cell, read_safety(cell).reaction.drive_delay)


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{option} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f'{option} must be an object, such as {{"address": "192.168.1.7"}}')
    return found


def _bench_arm(name: str, options: dict[str, Any], block: dict[str, Any]) -> Arm:
    try:
        return bench_arm(name, options, block)
    except ValidationError as error:
        raise BadInput(f"--driver-config: {error}") from error


def _joints(given: list[int], dof: int) -> list[int]:
    wrong = [j for j in given if not 1 <= j <= dof]
    if wrong:
        raise BadInput(f"--joint {wrong[0]}: the arm has joints 1 to {dof}")
    return sorted({j - 1 for j in given}) if given else list(range(dof))


def _may_move(asked: Asked, arm: Arm, place: Place) -> bool:
    """A person says so, unless the arm is simulated."""
    if arm.simulated_time:
        return True
    stops = STOPS if asked.table is not None else ""
    furniture = FURNITURE if place.cell is None else ""
    warning = WARNING.format(
        amplitude=asked.amplitude, highest=HIGHEST, way=4.0 * asked.amplitude, stops=stops, furniture=furniture
    )
    typer.echo(warning, err=True)
    if not asked.yes and not typer.confirm("Go on?", default=False, err=True):
        return False
    real_time_scheduling(PRIORITY[ARM])
    return True


def _measure(rig: Rig, arm: Arm, asked: Asked, place: Place, joints: list[int]) -> list[Recorded] | None:
    """None if the arm did not take part. Whatever ends the test brings the arm to rest."""
    console = Console(stderr=True)
    limits = arm.config.rate_limits.limits
    test = Identification(rig, joints, math.radians(asked.amplitude), asked.repeats, limits)
    try:
        with Progress(
            TextColumn("identifying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.description}"), console=console, transient=True,
        ) as bar:  # fmt: skip
            task = bar.add_task("planning", total=test.trials)
            home = None if place.cell is None else place.cell.home()
            if place.cell is not None and home is not None:
                test.plan(home, fixtures(place.cell.config.workcell))
            rig.prepare(0.0)
            if home is not None:
                rig.start_at(home)

            def show(joint: int, n: int) -> None:
                bar.update(task, advance=1, description=f"joint {joint + 1}, trial {n + 1}")

            return test.run(home, show)
    except (RigError, NoSignal, EstimateError) as error:
        console.print(str(error), style="red", markup=False)
        rig.settle()
        return None
    except KeyboardInterrupt:
        console.print("ended by Ctrl-C: the arm is brought to rest, nothing is written")
        rig.settle()
        return None


def _stops(out: Path, arm: Arm, place: Place, joints: list[int]) -> str:
    """Measure the stopping table; return its fingerprint, empty if the arm did not take part.

    Rows of other loads and joints that are in the file already are kept. Raises BadInput for another arm's file."""
    if place.cell is None:
        site = Site(place.arm, [], np.array(arm.model.home), False)
    else:
        site = Site(place.arm, fixtures(place.cell.config.workcell), place.cell.home(), True)
    table = empty_table(arm.config, arm.model, arm.simulated)
    kept = kept_rows(out, table, joints, 0.0)
    rows = measure_stops(site, arm.config.rate_limits.limits, joints, LEAST_STOPS, 0.0)
    if rows is None:
        return ""
    write_table(out, filled(table, [*kept, *rows]))
    return table_fingerprint(out)


# ---------------------------------------------------------------- what was found


def _report(asked: Asked, place: Place, arm: Arm, info: DriverInfo, found: Sequence[Joint], fingerprint: str) -> int:
    delay = total(found)
    faults = _faults(delay, info, place)
    record = _record(asked, place, arm, delay, found, fingerprint)
    if asked.picture is not None:
        draw(asked.picture, found, delay, info.drive_delay, f"{info.name}, {arm.model.name}")
    if asked.as_json:
        result = {
            **record.model_dump(mode="json", exclude_none=True), "claimed": info.drive_delay, "allowed": place.allowed,
            "faults": faults, "joints": [_plain(one) for one in found],
        }  # fmt: skip
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        _show(found, delay, info, place)
    if asked.write and place.cell is not None:
        _write(place.cell, record, delay if delay > info.drive_delay else None)
        typer.echo(f"written to {place.cell.path}: robot.identified", err=True)
    if fingerprint:
        said = f"stopping_table: {asked.table}\nstopping_table_sha256: {fingerprint}"
        typer.echo(
            f"the safety configuration takes the measured stops into account with these lines:\n{said}", err=True
        )
    for fault in faults:
        typer.echo(f"refused: {fault}", err=True)
    return FAILED if faults else OK


def _faults(delay: float, info: DriverInfo, place: Place) -> list[str]:
    """Claims that the measurement contradicts."""
    found = []
    if delay > info.drive_delay + 1e-9:
        found.append(
            f"the drives are up to {1e3 * delay:.1f} ms late, robot.options.drive_delay says "
            f"{1e3 * info.drive_delay:g} ms: raise it"
        )
    if place.allowed is not None and delay > place.allowed + 1e-9:
        found.append(
            f"the drives are up to {1e3 * delay:.1f} ms late, the safety configuration counts on "
            f"{1e3 * place.allowed:g} ms: raise reaction.drive_delay"
        )
    return found


def _record(asked: Asked, place: Place, arm: Arm, delay: float, found: Sequence[Joint], fingerprint: str) -> Identified:
    return Identified(
        date=datetime.date.today().isoformat(), driver=arm.config.driver, model=arm.model.name,
        tool=arm.model.tool_name, simulation_only=arm.simulated, amplitude_deg=asked.amplitude, delay=delay,
        delays=[round(min(one.bound, delay), 4) for one in found],
        following=[round(one.worst(lambda t: t.following.seconds), 4) for one in found],
        stopping_table_sha256=fingerprint or None,
    )  # fmt: skip


def _plain(one: Joint) -> dict[str, Any]:
    return {
        "joint": one.joint + 1,
        "bound": round(one.bound, 5),
        "trials": [
            {
                "delay": round(t.delay, 5), "onset": round(t.onset, 5), "following": round(t.following.seconds, 5),
                "following_worst": round(t.following.worst, 5), "offset": round(t.following.offset, 6),
                "frequency": t.response.frequency.round(3).tolist(), "gain": t.response.gain.round(4).tolist(),
                "phase_delay": t.response.delay.round(5).tolist(),
            }
            for t in one.trials
        ],
    }  # fmt: skip


def _show(found: Sequence[Joint], delay: float, info: DriverInfo, place: Place) -> None:
    table = Table(title="worst of the trials, ms", title_justify="left")
    for name in ("joint", "sweep", "onset", "following", "95 %", "phase, slow", "phase, fast", "gain, fast", "bound"):
        table.add_column(name, justify="right")
    for one in found:
        values = (
            one.worst(lambda t: t.delay), one.worst(lambda t: t.onset), one.worst(lambda t: t.following.seconds),
            one.worst(lambda t: t.following.worst), one.worst(lambda t: float(t.response.delay[0])),
            one.worst(lambda t: float(t.response.delay[-1])),
        )  # fmt: skip
        gain = f"{one.worst(lambda t: float(t.response.gain[-1])):.2f}"
        table.add_row(str(one.joint + 1), *(f"{1e3 * v:.1f}" for v in values), gain, f"{1e3 * one.bound:.1f}")
    console = Console()
    console.print(table)
    counted = "" if place.allowed is None else f"; the safety configuration counts on {1e3 * place.allowed:g} ms"
    console.print(f"delay {1e3 * delay:.1f} ms; the driver says {1e3 * info.drive_delay:g} ms{counted}")


def _write(cell: LoadedCell, record: Identified, drive_delay: float | None) -> None:
    """Whole or not at all. Raises BadInput if the file cannot be changed safely, or changed meanwhile."""
    text = cell.path.read_bytes().decode("utf-8")
    if text != cell.text and text.replace("\r\n", "\n") != cell.text:
        raise BadInput(f"{cell.path} was changed during the test: nothing is written")
    try:
        new = with_identified(text, record.model_dump(mode="json", exclude_none=True), drive_delay)
    except NotWritten as error:
        raise BadInput(f"{cell.path}: {error}") from error
    part = cell.path.with_name(cell.path.name + ".part")
    part.write_bytes(new.encode("utf-8"))
    part.chmod(cell.path.stat().st_mode & 0o777)
    os.replace(part, cell.path)
