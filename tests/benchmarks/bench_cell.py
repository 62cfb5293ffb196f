"""What a whole run costs: `cell run` as a person calls it, timed from outside.

Each figure comes from a process of its own: time from its start until the first phase moves the arm, simulated time
over time on the clock, and its peak memory. A short run before it warms the caches of compiled kernels and files.

Run: python -m tests.benchmarks.bench_cell
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from cell.summary import RunSummary

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^\s*(?P<t>[\d.]+) s\s+(?P<state>\w+)\s+(?P<step>\d+)/\d+")
"""A line of progress as `cell run` prints it where there is no terminal."""


class Figures(NamedTuple):
    """Of one `cell run`."""

    summary: RunSummary
    first_motion: float
    """From the start of the process until the first phase of the recipe runs, s."""
    whole_speed: float
    """Simulated time / time of the run, loading and planning included."""
    speed: float
    """The same between the first phase and the end of the recipe."""
    cpu: float
    """Processor time of the process, all of it, s: unlike the clock it hardly depends on what else is running."""
    peak: float
    """Largest resident set of the process, MB."""


def measure(*arguments: str) -> Figures:
    """Run `cell run kitting` with the arguments and return what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "summary.json"
        command = [sys.executable, "-m", "cell.cli", "run", "kitting", "--lockstep", "--seed", "1"]
        command += ["--runs", folder, "--json", str(out), *arguments]
        begun = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        seen: list[tuple[float, float, str, int]] = []
        assert child.stdout is not None
        for line in child.stdout:
            found = LINE.match(line)
            if found is not None:
                now = time.perf_counter() - begun
                seen.append((now, float(found["t"]), found["state"], int(found["step"])))
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
        summary = msgspec.json.decode(out.read_bytes(), type=RunSummary)
    work = [row for row in seen if row[2] == "Execute" and row[3] > 0]
    # A fast run may end between two lines of its progress: then the last line of it is as near as it gets.
    last = next((row for row in seen if row[2] in ("Completing", "Complete")), seen[-1])
    speed = (last[1] - work[0][1]) / (last[0] - work[0][0])
    cpu = usage.ru_utime + usage.ru_stime
    return Figures(summary, work[0][0], summary.sim_s / summary.wall_s, speed, cpu, usage.ru_maxrss / 1024)


def report(perception: str, *arguments: str) -> None:
    """Warm up, measure, print."""
    measure("--perception", perception, "--scenario", "none", "--set", "varieties=cube_red")
    f = measure("--perception", perception, *arguments)
    s = f.summary
    rows = [
        ("lock-step speed in motion", f"{f.speed:6.2f} x real time"),
        ("lock-step speed of the whole run", f"{f.whole_speed:6.2f} x real time"),
        ("simulated time / processor time", f"{s.sim_s / f.cpu:6.2f}, start of the process included"),
        ("cell run to first motion, warm", f"{f.first_motion:6.2f} s"),
        ("peak memory of the process", f"{f.peak:6.0f} MB"),
        ("cycle time, predicted", f"{s.cycle_times_s[0]:6.2f} s, {s.predicted_cycle_s or 0.0:.2f} s"),
        ("slowed, of that stopped", f"{s.time_slowed_s:6.2f} s, {s.time_stopped_s:.2f} s"),
        ("contacts, violations", f"{s.contacts_while_moving}, {s.psd_violations}"),
    ]
    print(f"\nkitting, {perception} {' '.join(arguments) or '(with the visitor)'}: {s.outcome}")
    for label, value in rows:
        print(f"  {label:38s} {value}")


RUNS = [("surface", "--scenario", "none"), ("surface",), ("rendered",)]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("arguments", RUNS, ids=" ".join)
def test_kitting(arguments: tuple[str, ...]) -> None:
    """Collected by `make bench`; prints, judges nothing."""
    report(*arguments)


if __name__ == "__main__":
    for each in RUNS:
        report(*each)
