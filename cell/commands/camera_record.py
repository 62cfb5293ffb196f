"""`cell camera record`: cameras of a cell file into a recording, on simulated or real time."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cell.bus.inprocess import Hub
from cell.clock import RealClock, SimulatedClock
from cell.config import LoadedCell, load_cell
from cell.exits import BAD_INPUT, FAILED, OK
from cell.lockstep import TICK
from cell.nodes import build, camera_options
from cell.options import RunOptions
from cell.session import WORLD, SessionError, entry_point, new_session
from cell.yamlfile import FileErrors
from perception.cameras.files import McapRecorder, RecordingError
from perception.contract import Camera, CameraError

PATIENCE = 10.0
"""A camera that gives nothing for so long after the start is given up, s."""
POLL = 0.002


@dataclass(frozen=True)
class RecordOptions:
    """What was asked for."""

    out: Path
    cell: Path | None
    cameras: tuple[str, ...]
    seconds: float | None
    scenario: str | None
    seed: int
    force: bool
    json: bool


@dataclass
class Taken:
    """What was recorded."""

    frames: dict[str, int]
    seconds: float = 0.0
    stopped: bool = False
    """By Ctrl-C."""


def run_record(options: RecordOptions) -> int:
    """Record; return the exit code: 1 if a camera failed on the way, 2 if nothing could be recorded."""
    try:
        cell = load_cell(options.cell)
        names = _chosen(options, cell)
        if options.out.suffix.lower() == ".db3":
            taken, trouble = _record_db3(options, cell, names)
        else:
            taken, trouble = _record_mcap(options, cell, names)
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    except (CameraError, RecordingError, SessionError) as error:
        print(f"cell camera record: {error}", file=sys.stderr)
        return BAD_INPUT
    size = options.out.stat().st_size
    if options.json:
        result = {"file": str(options.out), "frames": taken.frames, "seconds": round(taken.seconds, 3), "bytes": size}
        print(json.dumps(result | {"stopped": taken.stopped, "trouble": trouble}, indent=2))
    else:
        counts = ", ".join(f"{count} of {name}" for name, count in taken.frames.items())
        print(f"{options.out}: {counts} in {taken.seconds:.1f} s, {size / 1e6:.1f} MB")
    if trouble:
        print(f"cell camera record: {trouble}", file=sys.stderr)
    return FAILED if trouble or not all(taken.frames.values()) else OK


def _chosen(options: RecordOptions, cell: LoadedCell) -> list[str]:
    """The cameras to record. Raises CameraError, RecordingError for what cannot be."""
    known = [camera.name for camera in cell.config.cameras]
    names = list(dict.fromkeys(options.cameras)) or known
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise CameraError(
            f"{cell.path}: no camera {', '.join(wrong) or 'at all'}: there are {', '.join(known) or 'none'}"
        )
    if options.out.suffix.lower() not in (".mcap", ".db3"):
        raise RecordingError(f"{options.out}: a recording is written as .mcap, or as .db3 of one RealSense")
    if options.out.exists() and not options.force:
        raise RecordingError(f"{options.out}: is there already: give another name or --force")
    if not options.out.parent.is_dir():
        raise RecordingError(f"{options.out.parent}: no such folder")
    return names


class _Bench:
    """Cameras with the time they live in: the twin's with their world on simulated time, others on real time."""

    def __init__(self, options: RecordOptions, cell: LoadedCell, names: list[str], stack: ExitStack) -> None:
        world = cell.config.world
        drivers = {camera.name: camera.driver for camera in cell.config.cameras}
        simulated = [n for n in names if world is not None and drivers[n] == world.driver]
        if simulated and len(simulated) < len(names):
            raise CameraError("cameras of the twin and others do not share a clock: record them apart")
        self._clock = SimulatedClock() if simulated else None
        self._world: Any = None
        hub = Hub()
        if self._clock is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            run = RunOptions(recipe=None, cell=options.cell, scenario=options.scenario, seed=options.seed)
            self._world = build(WORLD, new_session(run, folder), hub.ports(WORLD), self._clock)
            stack.callback(self._world.close)
        elif options.scenario is not None:
            raise CameraError("--scenario is for cameras of the twin")
        self.cameras: dict[str, Camera] = {}
        for name in names:
            driver, given = camera_options(name, cell, options.seed)
            self.cameras[name] = entry_point("cell.cameras", driver)(name, given, hub.ports(f"camera.{name}"))
            stack.callback(self.cameras[name].close)
        self._real = RealClock()

    def advance(self) -> float:
        """Let a moment pass; return the time."""
        if self._clock is None:
            time.sleep(POLL)
            return self._real.now()
        self._clock.advance_to(self._clock.now() + TICK)
        self._world.step(self._clock.now())
        return self._clock.now()


def _record_mcap(options: RecordOptions, cell: LoadedCell, names: list[str]) -> tuple[Taken, str]:
    with ExitStack() as stack:
        bench = _Bench(options, cell, names, stack)
        now = bench.advance()
        for camera in bench.cameras.values():
            camera.connect(now)
        recorder = McapRecorder(options.out, [camera.info for camera in bench.cameras.values()])
        stack.callback(recorder.close)
        taken, troubles = Taken(dict.fromkeys(names, 0)), dict.fromkeys(names, "")

        def moment() -> float:
            now = bench.advance()
            for name, camera in bench.cameras.items():
                try:
                    frame = camera.poll(now)
                    troubles[name] = "" if frame is not None else troubles[name]
                except CameraError as error:
                    troubles[name], frame = str(error), None
                if frame is not None:
                    recorder.add(frame)
                    taken.frames[name] += 1
            return now

        return taken, _until(options, taken, troubles, moment)


def _until(options: RecordOptions, taken: Taken, troubles: dict[str, str], moment: Callable[[], float]) -> str:
    """Go on to the end that was asked for, or Ctrl-C; return what went wrong."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    quiet = options.json or not sys.stderr.isatty()
    begun = moment()
    try:
        with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
            task = bar.add_task("recording", total=options.seconds)
            while options.seconds is None or taken.seconds < options.seconds - 1e-9:
                taken.seconds = moment() - begun
                bar.update(task, completed=taken.seconds, description=f"{sum(taken.frames.values())} frames")
                silent = [name for name, count in taken.frames.items() if count == 0]
                if silent and taken.seconds > PATIENCE:
                    break
    except KeyboardInterrupt:
        taken.stopped = True
    faults = [
        troubles[n] or f"camera {n}: no frame in {taken.seconds:.1f} s" for n, c in taken.frames.items() if c == 0
    ]
    return "; ".join(faults or [text for text in troubles.values() if text])


def _record_db3(options: RecordOptions, cell: LoadedCell, names: list[str]) -> tuple[Taken, str]:
    chosen = [camera for camera in cell.config.cameras if camera.name in names]
    if len(chosen) != 1 or chosen[0].driver != "realsense":
        raise RecordingError(f"{options.out}: a .db3 holds one camera, of driver realsense: choose it with --camera")
    from perception.cameras.realsense import describe, wanted_of
    from perception.cameras.realsense_files import Db3Recorder
    from perception.cameras.realsense_link import connected

    name = chosen[0].name
    info, settings = describe(name, camera_options(name, cell, options.seed)[1])
    recorder = Db3Recorder(options.out, wanted_of(info, settings), connected())
    taken, clock = Taken({name: 0}), RealClock()

    def moment() -> float:
        time.sleep(POLL)
        taken.frames[name] += recorder.poll()
        return clock.now()

    try:
        trouble = _until(options, taken, {name: ""}, moment)
    finally:
        recorder.close()
    return taken, trouble
