"""`cell check`: all problems of a recipe in a cell, and its predicted cycle time."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from cell.commands.files import read_both
from cell.exits import BAD_INPUT, OK
from cell.yamlfile import FileError, FileErrors
from recipes.analysis import Analysis, check
from recipes.formula import parse_settings


def check_recipe(recipe: str, cell_file: Path | None, settings: dict[str, str], as_json: bool) -> int:
    """Analyse and print; return the exit code."""
    problems: list[FileError]
    analysis: Analysis | None = None
    try:
        cell, loaded, problems = read_both(recipe, cell_file)
        formula, more = parse_settings(loaded.recipe, settings)
        analysis = check(loaded, cell.view(), formula)
        problems = sorted([*problems, *more, *analysis.problems], key=lambda p: p.line)
    except FileErrors as caught:
        problems = caught.errors
    if as_json:
        seconds = analysis.predicted_cycle_s if analysis is not None and not problems else None
        phases = [{"phase": t.label, "seconds": round(t.seconds, 3)} for t in analysis.times] if analysis else []
        found = [asdict(p) for p in problems]
        print(
            json.dumps(
                {"ok": not problems, "problems": found, "predicted_cycle_s": seconds, "phases": phases}, indent=2
            )
        )
    else:
        _print(recipe, problems, analysis)
    return BAD_INPUT if problems else OK


def _print(recipe: str, problems: list[FileError], analysis: Analysis | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if problems or analysis is None:
        for problem in problems:
            console.print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)
        console.print(
            f"{len(problems)} problem{'s' if len(problems) != 1 else ''}; nothing has moved", style="bold red"
        )
        return
    table = Table(title=recipe, title_justify="left")
    table.add_column("phase")
    table.add_column("s", justify="right")
    for time in analysis.times:
        table.add_row(time.label, f"{time.seconds:.2f}")
    console.print(table)
    console.print(f"no problems; predicted cycle {analysis.predicted_cycle_s:.1f} s", style="bold green")
