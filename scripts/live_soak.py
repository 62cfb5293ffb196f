"""Runs the demo cell live for a long time and watches the memory of every process.

    python scripts/live_soak.py [--minutes 30] [--perception rendered|surface] [--json FILE]

Batches of the kitting recipe with nobody there, real processes, real time, two rendered cameras at 30 Hz. Printed at
the end: outcome, late leases, gaps in the events, and for each process the largest memory of the run's second quarter
and of its last quarter. Ctrl-C ends the run early and sums up what there is. Exit code 1 if a process grew by more than
2 %, a lease was late, an event was lost, or the run did not end Complete.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

CYCLE = 34.0
"""One batch with the time for the next parts, s."""
EVERY = 5.0
GROWS = 0.02
"""Largest share by which a process may grow."""
SMALL = 1_000_000
"""Less than this is no growth, bytes: a few buffers."""


def name_of(process: psutil.Process) -> str:
    """A node writes to a log of its own name; what has none goes by what it runs."""
    try:
        out = Path(os.readlink(f"/proc/{process.pid}/fd/1"))
    except OSError:
        out = Path()
    if out.suffix == ".log" and out.parent.name == "logs":
        return out.stem
    text = " ".join(process.cmdline())
    for part in ("forkserver", "resource_tracker"):
        if part in text:
            return part
    return "cell run"


def memory(parent: psutil.Process) -> dict[str, int]:
    """Resident bytes that belong to each process alone, by name."""
    found: dict[str, int] = defaultdict(int)
    for process in [parent, *parent.children(recursive=True)]:
        try:
            found[name_of(process)] += process.memory_full_info().uss
        except psutil.Error:
            continue
    return found


def watch(run: subprocess.Popen[bytes], samples: list[tuple[float, dict[str, int]]]) -> None:
    begun, parent = time.monotonic(), psutil.Process(run.pid)
    while run.poll() is None:
        try:
            samples.append((time.monotonic() - begun, memory(parent)))
        except psutil.NoSuchProcess:
            return
        print(f"\r{samples[-1][0] / 60.0:5.1f} min  {sum(samples[-1][1].values()) / 1e6:6.0f} MB", end="", flush=True)
        time.sleep(EVERY)


def grown(samples: list[tuple[float, dict[str, int]]]) -> list[tuple[str, int, int]]:
    """Name, largest memory of the second quarter and of the last one, bytes. The last samples see processes end."""
    samples = samples[:-2]
    end = samples[-1][0] if samples else 0.0
    early = [m for t, m in samples if 0.25 * end <= t < 0.5 * end]
    late = [m for t, m in samples if t >= 0.75 * end]
    names = sorted({name for m in late for name in m})
    return [(n, max((m.get(n, 0) for m in early), default=0), max(m.get(n, 0) for m in late)) for n in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--perception", choices=("rendered", "surface"), default="rendered")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    batches = max(1, math.ceil(60.0 * options.minutes / CYCLE))
    samples: list[tuple[float, dict[str, int]]] = []
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "run.json"
        command = [sys.executable, "-m", "cell.cli", "run", "kitting", "--live", "--quiet", "--scenario", "none"]
        command += ["--batch", str(batches), "--perception", options.perception, "--json", str(result)]
        command += ["--time-limit", str(120.0 * options.minutes)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
            try:
                watch(run, samples)
            except KeyboardInterrupt:
                run.wait()
        summary = json.loads(result.read_text()) if result.exists() else {"outcome": f"exit code {run.returncode}"}
    return report(summary, samples, options.json)


def report(summary: dict[str, object], samples: list[tuple[float, dict[str, int]]], file: Path | None) -> int:
    rows = grown(samples)
    print()
    for key in ("outcome", "batches_done", "parts_done", "sim_s", "late_leases", "event_gaps", "protective_stops"):
        print(f"{key:20s} {summary.get(key)}")
    bad = [key for key in ("late_leases", "event_gaps") if summary.get(key) != 0]
    bad += [] if summary["outcome"] == "Complete" else ["outcome"]
    for name, before, after in rows:
        share = after / before - 1.0 if before else math.inf
        grows = after - before > SMALL and share > GROWS
        bad += [name] if grows else []
        verdict = "  GROWS" if grows else ""
        print(f"{name:20s} {before / 1e6:8.1f} MB {after / 1e6:8.1f} MB {100.0 * share:+6.1f} %{verdict}")
    if file is not None:
        file.write_text(json.dumps({"summary": summary, "memory": rows}, indent=2))
    return 1 if bad or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
