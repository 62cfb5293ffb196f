"""`cell compare`: the same recipe and the same visits under several methods of speed and separation monitoring."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cell.commands.files import find_recipe
from cell.compare.clairvoyant import least_lost, read_batch, read_people, read_work
from cell.compare.report import Comparison, draw, markdown, plain, table_of
from cell.compare.runs import Job, Result, contact_file, jobs_of, run_all, run_job, working_reach
from cell.compare.traces import recorded, scripted
from cell.config import load_cell
from cell.exits import FAILED, OK, BadInput
from cell.launch import run_directory
from cell.options import RunOptions
from safety.methods import Method

METHODS: list[Method] = ["static_zone", "constant_speed", "exact", "reach"]


def run_compare(
    recipe: str, cell_file: Path | None, clips: list[Path], seed: int, most: int | None, processes: int, as_json: bool,
    runs: Path,
) -> int:  # fmt: skip
    """Run everything and report; return the exit code. Raises FileErrors, BadInput, SessionError."""
    missing = [str(folder) for folder in clips if not folder.is_dir()]
    if missing:
        raise BadInput(f"no such folder: {', '.join(missing)}")
    cell = load_cell(cell_file)
    options = RunOptions(recipe=find_recipe(recipe, cell).resolve(), cell=cell_file, seed=seed, quiet=True)
    folder = run_directory(runs)
    traces = [*scripted(), *recorded(clips)][:most]
    methods: list[Method] = [*METHODS, *(["ssm_contact"] if contact_file(cell).is_file() else [])]  # type: ignore[list-item]
    jobs = jobs_of(traces, methods, options, folder, working_reach(cell))
    console = Console(stderr=True)
    with _progress(console) as bar:
        task = bar.add_task("nobody there", total=len(jobs) + 1)
        free = run_job(_nobody(jobs[0], folder))
        bar.advance(task)
        results: list[Result] = []
        for result in run_all(jobs, processes):
            results.append(result)
            bar.update(task, advance=1, description=f"{result.trace}, {result.method.replace('_', ' ')}")
        bar.update(task, description="clairvoyant")
        least = clairvoyant(free, results)
    comparison = Comparison(free.cycle_s, results, least)
    draw(comparison, folder / "compare.png")
    (folder / "compare.json").write_text(json.dumps(plain(comparison), indent=2), encoding="utf-8")
    (folder / "compare.md").write_text(markdown(comparison), encoding="utf-8")
    problems = comparison.problems()
    if as_json:
        json.dump(plain(comparison), sys.stdout, indent=2)
        print()
    else:
        shown = Console()
        shown.print(table_of(comparison))
        for contact in comparison.outside_contacts():
            shown.print(contact, style="yellow", markup=False)
        for problem in problems:
            shown.print(problem, style="red", markup=False)
        shown.print(f"picture, table and data: {folder}")
    return FAILED if problems else OK


def clairvoyant(free: Result, results: list[Result]) -> dict[str, float]:
    """What even a clairvoyant loses on each trace, s. Empty if the run with nobody there was not finished."""
    if free.outcome != "Complete":
        return {}
    flight = Path(free.folder) / "flight.mcap"
    work, (begun, took) = read_work(flight), read_batch(flight)
    folders = {r.trace: Path(r.folder) for r in results}
    return {t: least_lost(work, begun, took, read_people(f / "flight.mcap")) for t, f in folders.items()}


def _nobody(job: Job, folder: Path) -> Job:
    return Job(
        "nobody", "", "exact", job.reach, job.recipe, job.cell, job.seed, str(folder / "nobody")
    )  # fmt: skip


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.description}"), console=console, transient=True,
    )  # fmt: skip
