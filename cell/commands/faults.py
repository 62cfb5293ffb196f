"""`cell safety faults`: the fault matrix, injected into the moving twin row by row."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cell.commands.files import find_recipe
from cell.config import load_cell
from cell.exits import FAILED, OK, BadInput
from cell.faults.bench import Bench
from cell.faults.catalogue import Fault, load_catalogue
from cell.faults.verdict import Verdict
from cell.options import RunOptions

ROWS = Path(__file__).parents[2] / "tests" / "safety" / "faults.yaml"


def run_faults(
    file: Path | None, recipe: str, cell_file: Path | None, only: list[str], as_json: bool, markdown: Path | None
) -> int:
    """Inject the rows of a faults.yaml and report; return the exit code. Raises FileErrors, BadInput, SessionError."""
    rows = _chosen(load_catalogue(file or ROWS), only)
    options = RunOptions(recipe=find_recipe(recipe, load_cell(cell_file)), cell=cell_file, quiet=True)
    console = Console(stderr=True)
    found: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        with _progress(console) as bar:
            task = bar.add_task("", total=len(rows))
            for verdict in _verdicts(rows, Bench(options, Path(folder)), bar, task):
                found.append(verdict)
                if not verdict.passed:
                    bar.console.print(f"{verdict.id}: {'; '.join(verdict.problems)}", style="red", markup=False)
    failed = [v for v in found if not v.passed]
    if as_json:
        json.dump({"rows": [_plain(v) for v in found], "failed": len(failed)}, sys.stdout, indent=2)
        print()
    else:
        _show(found)
    if markdown is not None:
        markdown.write_text(_markdown(found), encoding="utf-8")
    return FAILED if failed else OK


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("injecting faults"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.description}"), console=console, transient=True,
    )  # fmt: skip


def _verdicts(rows: list[Fault], bench: Bench, bar: Progress, task: TaskID) -> Iterator[Verdict]:
    for row in rows:
        bar.update(task, description=row.id)
        yield bench.run(row)
        bar.advance(task)


def _chosen(rows: list[Fault], only: list[str]) -> list[Fault]:
    unknown = [name for name in only if name not in {row.id for row in rows}]
    if unknown:
        raise BadInput(f"no such fault: {', '.join(unknown)}; known are {', '.join(row.id for row in rows)}")
    return [row for row in rows if not only or row.id in only]


def _plain(v: Verdict) -> dict[str, object]:
    finite = {k: (None if math.isnan(x) else round(x, 3)) for k, x in (("t", v.to_standstill), ("bound", v.bound))}
    return {
        "id": v.id, "injected": v.where, "fault": v.what, "expected": v.expected, "reaction": v.reaction,
        "codes": v.codes, "to_standstill_s": finite["t"], "bound_s": finite["bound"], "passed": v.passed,
        "problems": v.problems,
    }  # fmt: skip


def _seconds(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _show(found: list[Verdict]) -> None:
    table = Table(title="Fault matrix", title_justify="left")
    for name in ("fault", "reaction", "codes"):
        table.add_column(name, overflow="fold")
    table.add_column("standstill s", justify="right")
    table.add_column("bound s", justify="right")
    table.add_column("verdict")
    for v in found:
        verdict = "passed" if v.passed else "FAILED"
        style = None if v.passed else "red"
        table.add_row(
            v.id, v.reaction, " ".join(v.codes), _seconds(v.to_standstill), _seconds(v.bound), verdict,
            style=style,
        )  # fmt: skip
    console = Console()
    console.print(table)
    failed = sum(not v.passed for v in found)
    if failed:
        console.print(f"{failed} of {len(found)} faults are not handled as they must be", style="bold red")
    else:
        console.print(f"{len(found)} faults, all handled within their bound; none raised the rate", style="bold green")


def _markdown(found: list[Verdict]) -> str:
    lines = [
        "# Fault matrix",
        "",
        "Written by `cell safety faults --markdown docs/safety/faults.md`: each row of `tests/safety/faults.yaml`",
        "is injected into the moving twin (lock-step). The bound is the time until braking must begin (`detect` and",
        "the configured times of the row), tick and drive delay, the braking time of that moment, and 0.06 s in which",
        "the joints come to rest behind their commands. Faults that must do no harm have no bound: the arm goes on. No",
        "row may move at a higher rate than the run without a fault.",
        "",
        "| fault | injected | what | reaction | codes | standstill s | bound s | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for v in found:
        verdict = "passed" if v.passed else "FAILED: " + "; ".join(v.problems)
        cells = [v.id, v.where, v.what, v.reaction, " ".join(v.codes), _seconds(v.to_standstill), _seconds(v.bound)]
        lines.append("| " + " | ".join([*cells, verdict]) + " |")
    return "\n".join(lines) + "\n"
