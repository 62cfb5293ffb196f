"""Camera faults in a live cell: what reaches perception is falsified, and the twin's truth says when the arm stands.

    python scripts/camera_faults.py [--fault NAME]...

Each case starts a cell of its own (real processes, real time, rendered cameras, nobody in the cell) and waits until
the arm moves fast. Then the process of camera `front` is killed, and this script takes over its ring and writes false
frames into it at the camera's rate. The arm must stand within the bound (rest of the lease, drive delay, braking; for
faults that show only by silence the configured time a camera may be late is part of the lease already), a true alarm
must come, and nothing may move again, not even when good pictures come back, until a person clears the fault. Exit
code 1 if a case fails.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from kill_tests import FROZEN, STANDS, Result, Tape, Watch, _bound, live_cell

from cell.nodes import camera_infos, model_of
from perception.cameras.ring import RingError, RingFormat, RingReader, RingWriter, ring_folder
from perception.contract import CameraInfo, Frame
from robots.motion import Motion

CAMERA = "front"
ALARMS = {"camera_fault", "lease_lost", "camera_moved"}


class Falsifier:
    """Writes frames made of the last good picture into the camera's ring, one each frame time."""

    def __init__(self, writer: RingWriter, good: Frame, rate: float, fault: Callable[[Frame, int], Frame]) -> None:
        self.writer, self.good, self.period, self.fault = writer, good, 1.0 / rate, fault
        self.count, self.due = 0, -math.inf

    def step(self, now: float) -> None:
        """Write when a frame is due."""
        if now < self.due:
            return
        self.due = now + self.period
        self.count += 1
        self.writer.write(self.fault(self.fresh(now), self.count), now)

    def fresh(self, now: float) -> Frame:
        """A good frame: the last one, differing as noise does."""
        noise = np.random.default_rng(self.count).integers(-1, 2, self.good.depth.shape)
        depth = np.where(self.good.depth > 0, self.good.depth.astype(np.int32) + noise, 0).astype(np.uint16)
        return Frame(CAMERA, self.count, now - 0.03, depth, None, self.writer.boot)


def _frozen(good: Frame) -> Callable[[Frame, int], Frame]:
    return lambda frame, k: frame._replace(depth=good.depth)


def _changed(**values: float) -> Callable[[Frame], Callable[[Frame, int], Frame]]:
    return lambda good: lambda frame, k: frame._replace(exposure=frame.exposure + values["by"])


def _depth(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Frame], Callable[[Frame, int], Frame]]:
    return lambda good: lambda frame, k: frame._replace(depth=change(frame.depth))


FAULTS: dict[str, Callable[[Frame], Callable[[Frame, int], Frame]]] = {
    "frozen": _frozen,
    "late": _changed(by=-0.3),
    "future": _changed(by=1.0),
    "no-time": _changed(by=math.nan),
    "repeated": lambda good: lambda frame, k: frame._replace(seq=1),
    "blank": _depth(np.zeros_like),
    "saturated": _depth(lambda d: np.full_like(d, 65535)),
    "covered": _depth(lambda d: (d // 20).astype(np.uint16)),
    "half-invalid": _depth(lambda d: np.where(np.indices(d.shape)[1] % 2 == 0, d, 0).astype(np.uint16)),
}


def run_case(fault: str, directory: Path) -> Result:
    """Run one fault in a cell of its own."""
    result = Result(f"{fault:12}", "")
    with live_cell(directory, "rendered") as cell:
        info = next(i for i in camera_infos(cell.session.cell) if i.name == CAMERA)
        folder = ring_folder(cell.session.file.bus)
        form = RingFormat(info.name, info.intrinsics, info.colour)
        reader = RingReader(folder, form)
        if not cell.until(cell.fast, 60.0):
            result.problems.append("the arm never moved fast")
            return result
        _strike(cell, fault, folder, form, reader, info, result)
        reader.detach()
    return result


def _strike(
    cell: Watch, fault: str, folder: Path, form: RingFormat, reader: RingReader, info: CameraInfo, result: Result
) -> None:
    child, motion = cell.processes.children[f"camera.{CAMERA}"], cell.motion
    good = reader.take(cell.clock.now())
    if good is None or child.pid is None or motion is None or cell.state is None:
        result.problems.append("no good picture before the fault")
        return
    cell.attending = False
    before, at = cell.tape, cell.clock.now()
    result.speed = before.truth[-1].fastest
    cell.tape = Tape(states=[cell.state], leases=before.leases[-1:], truth=before.truth[-1:], events=before.events)
    os.kill(child.pid, signal.SIGKILL)
    writer = _taken_over(folder, form)
    falsifier = Falsifier(writer, good, info.rate, FAULTS[fault](good))
    _for(cell, falsifier, FROZEN + 0.8)
    tape = cell.tape
    result.stood = max([s.t - at for s in tape.truth if s.fastest >= STANDS], default=0.0)
    result.slack = max(tape.lateness, tape.gap)
    _bound(cell, f"camera.{CAMERA}", at, Motion.from_accepted(model_of(cell.session), motion), result)
    if result.stood > result.bound + result.slack:
        result.problems.append("stood too late")
    # Good pictures come back; nobody has cleared anything.
    falsifier.fault = lambda frame, k: frame
    seen = len(tape.truth)
    _for(cell, falsifier, FROZEN)
    if any(s.fastest >= STANDS for s in tape.truth[seen:]):
        result.problems.append("moved again without ClearFault")
    events = [e for e in tape.events if e.t >= at]
    result.faults = list(dict.fromkeys(str(e.data["reason"]) for e in events if e.kind == "camera.fault"))
    result.alarms = list(dict.fromkeys(str(e.data["code"]) for e in events if e.kind == "alarm.raised"))
    if not ALARMS & set(result.alarms):
        result.problems.append(f"none of the alarms {', '.join(sorted(ALARMS))} came")
    writer.close()


def _for(cell: Watch, falsifier: Falsifier, seconds: float) -> None:
    end = cell.clock.now() + seconds
    while cell.look() < end:
        falsifier.step(cell.clock.now())


def _taken_over(folder: Path, form: RingFormat) -> RingWriter:
    """The ring of a camera that was killed, as soon as the system has given its lock back."""
    for _ in range(10_000):
        try:
            return RingWriter(folder, form)
        except RingError:
            os.sched_yield()
    raise RingError(f"{folder}: the killed camera still holds its ring")


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="Only this one; repeatable.")
    chosen = parser.parse_args(arguments).fault or list(FAULTS)
    failed = 0
    for fault in chosen:
        with tempfile.TemporaryDirectory() as folder:
            result = run_case(fault, Path(folder))
        failed += bool(result.problems)
        print(result.line(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
