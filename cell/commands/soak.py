"""`cell perceive soak`: an empty cell at work for a long time; is anybody ever seen, does the robot ever stop?"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from cell.bus.ports import BusError, Ports
from cell.commands.detection import NATIVE
from cell.config import beside
from cell.exits import BAD_INPUT, FAILED, OK
from cell.launch import Progress, RunResult, run_directory, run_lockstep
from cell.nodes import camera_infos, camera_options, model_of
from cell.options import RunOptions
from cell.session import Session, SessionError, entry_point, new_session, session_fingerprint
from cell.yamlfile import FileErrors
from perception.cameras.links import BusSource
from perception.contract import TOPIC_EXPECTED, TOPIC_OBSERVATION, CameraError, ExpectedParts, Observation
from perception.soak import EmptyWatch, Keeper, Replayed, Watched, rate_bound, replay
from perception.view import CameraView
from robots.contract import RobotState, topic_state

CLEAN = {
    "stereo_noise": False, "quantisation": False, "edge_holes": False, "dark_holes": False, "flying_pixels": False,
    "scatter": 0.0,
}  # fmt: skip
"""Options of a camera of the twin that delivers true depth."""
EVERY = 0.25
"""Between two kept pictures of a camera, s."""
MOST_KEPT = 120
"""Of each camera: half a minute of work."""
RECORDED = 32.0
"""Simulated seconds from which pictures are kept, s."""
RECIPE = "kitting.yaml"
SECONDS_AN_HOUR = 3600.0
Told = Callable[[float, str], None]
"""Share done and a remark."""


class Soaked(NamedTuple):
    """What was measured."""

    run: RunResult | None
    watched: Watched | None
    replayed: Replayed | None
    kept: int
    cameras: int
    rate: float
    """Pictures a second of one camera, Hz."""
    seconds: float
    """Processor time of the replay, s."""


def show_soak(cell_file: Path | None, minutes: float, pictures: int, model: str, seed: int, as_json: bool) -> int:
    """Measure and print; return the exit code."""
    try:
        if not (math.isfinite(minutes) and minutes >= 0.0):
            raise ValueError(f"--minutes {minutes}: a number from 0 on")
        with tempfile.TemporaryDirectory(prefix="cell-soak-") as folder:
            soaked = _soaked(cell_file, 60.0 * minutes, pictures, model, seed, Path(folder), as_json)
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    except (SessionError, BusError, CameraError, ValueError) as error:
        print(f"cell perceive soak: {error}", file=sys.stderr)
        return BAD_INPUT
    result = _result(soaked, model)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        _print(result)
    return OK if result["holds"] else FAILED


def _soaked(
    cell_file: Path | None, seconds: float, pictures: int, model: str, seed: int, runs: Path, as_json: bool
) -> Soaked:
    run, watched, replayed, kept, took = None, None, None, 0, 0.0
    session = _session(cell_file, runs, seed, seconds, model, {})
    if seconds > 0.0:
        watch = EmptyWatch()
        with _progress("empty cell at work", as_json) as told:
            run = _run(session, seconds, seed, lambda ports: _watching(ports, watch), told)
        watched = watch.result
    infos = camera_infos(session.cell, seed)
    if pictures > 0:
        clean = _session(cell_file, runs, seed, RECORDED, model, CLEAN)
        keeper = Keeper(model_of(clean), EVERY, MOST_KEPT)
        with _progress("true pictures", as_json) as told:
            _run(clean, RECORDED, seed, lambda ports: _keeping(ports, keeper, clean), told)
        kept = len(keeper.kept)
        with _progress("noise over them", as_json) as told:
            begun = time.process_time()
            replayed = _replayed(session, keeper, pictures, seed, told)
            took = time.process_time() - begun
    return Soaked(run, watched, replayed, kept, len(infos), infos[0].rate, took)


def _session(
    cell_file: Path | None, runs: Path, seed: int, seconds: float, model: str, more: dict[str, Any]
) -> Session:
    """A session with nobody in the cell; `model` and `more` replace options of the cameras. Raises SessionError."""
    options = _options(cell_file, runs, seed, seconds)
    session = new_session(options, run_directory(runs), attended=True)
    config = session.cell.config
    if config.world is None or not config.cameras:
        raise SessionError(f"{session.cell.path} has no twin, or no cameras")
    given = {**({"model": model, **NATIVE} if model else {}), **more}
    cameras = [c.model_copy(update={"options": {**c.options, **given}}) for c in config.cameras]
    cell = replace(session.cell, config=config.model_copy(update={"cameras": cameras}))
    recipe = beside(cell.path, cell.config.recipes) / RECIPE
    fingerprint = session_fingerprint(cell, session.safety)
    file = msgspec.structs.replace(session.file, fingerprint=fingerprint, recipe=str(recipe.resolve()))
    return replace(session, file=file, cell=cell)


def _options(cell_file: Path | None, runs: Path, seed: int, seconds: float) -> RunOptions:
    batches = 1 + int(seconds / 5.0)
    return RunOptions(
        recipe=None, cell=cell_file, scenario="none", batches=batches, seed=seed, runs=runs, time_limit=seconds,
        quiet=True,
    )  # fmt: skip


def _run(
    session: Session, seconds: float, seed: int, visit: Callable[[Ports], Callable[[float], None]], told: Told
) -> RunResult:
    def show(progress: Progress) -> None:
        seen = progress.observer
        batch = seen.cell.batch if seen.cell is not None else 0
        told(progress.now / seconds, f"{progress.now:.0f} s, batch {batch}, {seen.protective_stops} stops")

    options = _options(Path(session.file.cell), session.directory, seed, seconds)
    return run_lockstep(options, show, session, visit)


def _watching(ports: Ports, watch: EmptyWatch) -> Callable[[float], None]:
    observations = ports.subscriber(TOPIC_OBSERVATION, Observation)
    feed = ports.event_feed()

    def look(now: float) -> None:
        for event in feed.drain():
            if event.kind == "operator.answer":
                watch.changeover(event.t)
        envelope = observations.take()
        if envelope is not None:
            watch.take(envelope.body)

    return look


def _keeping(ports: Ports, keeper: Keeper, session: Session) -> Callable[[float], None]:
    sources = [BusSource(ports, camera.name) for camera in session.cell.config.cameras]
    states = ports.subscriber(topic_state(), RobotState)
    expected = ports.subscriber(TOPIC_EXPECTED, ExpectedParts)
    parts: list[ExpectedParts] = []

    def look(now: float) -> None:
        state, newest = states.take(), expected.take()
        if newest is not None:
            parts[:] = [newest.body]
        frames = [frame for source in sources if (frame := source.take(now)) is not None]
        # Before the first list of parts those on the tray are nobody's.
        keeper.take(frames if parts else [], state.body if state is not None else None, parts[0].parts if parts else [])

    return look


def _replayed(session: Session, keeper: Keeper, pictures: int, seed: int, told: Told) -> Replayed:
    config = session.cell.config
    assert config.world is not None
    bench = entry_point("cell.targets", config.world.driver)
    views, noises = {}, {}
    for info in camera_infos(session.cell, seed):
        views[info.name] = CameraView(info, config.workcell, config.perception)
        noises[info.name] = bench.noise(info.name, camera_options(info.name, session.cell, seed)[1])

    def tell(done: int, false: int) -> bool:
        told(done / pictures, f"{done} pictures, {false} false")
        return True

    return replay(keeper.kept, views, noises, pictures, tell)


def _result(soaked: Soaked, model: str) -> dict[str, Any]:
    result: dict[str, Any] = {"cameras": soaked.cameras, "camera_model": model or "as in the cell file"}
    problems = []
    if soaked.run is not None and soaked.watched is not None:
        run, watched = soaked.run, soaked.watched
        status = run.operator.status
        result["run"] = {
            "simulated_s": round(run.sim_s, 1),
            "wall_s": round(run.wall_s, 1),
            "batches": len(status.cycle_times) if status is not None else 0,
            "observations": watched.observations,
            "observations_with_points": watched.with_points,
            "observations_unhealthy": watched.unhealthy,
            "protective_stops": run.observer.protective_stops,
            "stopped_s": round(run.observer.time_stopped, 2),
            "slowed_s": round(run.observer.time_slowed, 2),
            "alarms": run.observer.alarms,
        }
        problems += _run_problems(run, watched)
    if soaked.replayed is not None:
        r = soaked.replayed
        hours = r.pictures / (soaked.cameras * soaked.rate * SECONDS_AN_HOUR)
        result["replay"] = {
            "true_pictures": soaked.kept,
            "pictures": r.pictures,
            "equivalent_hours": round(hours, 3),
            "false_pictures": r.false,
            "most_cells": r.most,
            "overflow": r.overflow,
            "rate_bound_per_hour": round(rate_bound(r.false + r.overflow, hours), 3),
            "confidence": 0.95,
            "processor_s": round(soaked.seconds, 1),
            "ms_a_picture": round(1e3 * soaked.seconds / r.pictures, 3),
        }
        if r.false or r.overflow:
            problems.append(f"replay: {r.false} false and {r.overflow} refused of {r.pictures} pictures")
    if not result.keys() & {"run", "replay"}:
        problems.append("nothing was measured")
    return {**result, "problems": problems, "holds": not problems}


def _run_problems(run: RunResult, watched: Watched) -> list[str]:
    status = run.operator.status
    found = []
    if not watched.observations or status is None or not status.cycle_times:
        found.append(f"run: no batch was finished ({run.outcome}): nothing was measured")
    if watched.with_points:
        found.append(f"run: something was seen in {watched.with_points} of {watched.observations} observations")
    if watched.unhealthy:
        found.append(f"run: {watched.unhealthy} observations on which the arm must stand: {'; '.join(watched.reasons)}")
    if run.observer.protective_stops or run.observer.time_stopped > 0.0:
        stops, stood = run.observer.protective_stops, run.observer.time_stopped
        found.append(f"run: {stops} protective stops, the arm stood {stood:.2f} s although nobody was there")
    if run.observer.alarms:
        found.append(f"run: alarms {', '.join(run.observer.alarms[:5])}")
    return found


@contextmanager
def _progress(what: str, as_json: bool) -> Iterator[Told]:
    """A bar on the error stream; nothing with --json."""
    if as_json:
        yield lambda share, remark: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[remark]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=1.0, remark="")
        yield lambda share, remark: bar.update(task, completed=min(1.0, share), remark=remark)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    for key in ("run", "replay"):
        if key in result:
            console.print(f"{key}: {result[key]}", highlight=False, soft_wrap=True)
    for problem in result["problems"] or ["no false stop"]:
        console.print(problem, highlight=False, soft_wrap=True)
