"""`cell perceive capability`: test cylinders before the twin's cameras."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cell.config import LoadedCell, load_cell
from cell.exits import BAD_INPUT, FAILED, OK
from cell.nodes import camera_options
from cell.session import entry_point
from cell.yamlfile import FileErrors
from perception.background import build_background
from perception.capability import BINS, DIAMETERS, LENGTH, Tally, capability, measure, places
from perception.coverage import Arms, grid
from perception.view import CameraView, Capsules
from safety.config import load_safety

GRID = 0.1
"""Between places targets may be put, m."""


def show_capability(cell_file: Path | None, count: int, seed: int, as_json: bool) -> int:
    """Measure and print; return the exit code."""
    try:
        cell = load_cell(cell_file)
        claimed = load_safety(cell.safety_path).detection_capability_mm / 1000.0
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    if cell.config.world is None or not cell.config.cameras:
        print(f"cell perceive capability: {cell.path} has no twin, or no cameras", file=sys.stderr)
        return BAD_INPUT
    tallies = _measured(cell, count, seed, quiet=as_json)
    result = _result(tallies, claimed, seed)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        _print(result, tallies)
    return OK if result["claim_holds"] else FAILED


def _measured(cell: LoadedCell, count: int, seed: int, quiet: bool) -> list[Tally]:
    from rich.progress import Progress

    config = cell.config
    assert config.world is not None
    cameras = [(camera.name, camera_options(camera.name, cell, seed)[1]) for camera in config.cameras]
    q = cell.home()
    a, b, r = cell.model().capsules(q)
    sizes = [(diameter, LENGTH) for diameter in DIAMETERS]
    bench = entry_point("cell.targets", config.world.driver)(cameras, sizes, q.tolist(), seed)
    try:
        views = [CameraView(info, config.workcell, config.perception) for info in bench.infos]
        backgrounds = [build_background(info, config.workcell, config.perception) for info in bench.infos]
        arms = Arms(a[None], b[None], np.asarray(r))
        volume = np.array(config.workcell.person_volume, float)
        spots = places(bench.infos, backgrounds, grid(config.workcell, GRID), volume, arms)
        with Progress(disable=quiet, transient=True) as bar:
            task = bar.add_task("targets", total=1.0)
            arm = Capsules(a, b, np.asarray(r))
            return list(
                measure(bench, views, arm, spots, count, seed, lambda share: bar.update(task, completed=share))
            )  # fmt: skip
    finally:
        bench.close()


def _result(tallies: list[Tally], claimed: float, seed: int) -> dict[str, Any]:
    classes: list[dict[str, Any]] = []
    for near, far in itertools.pairwise(BINS):
        d = capability(tallies, near, far)
        if math.isnan(d):
            continue
        here = [t for t in tallies if t.near == near]
        classes.append(
            {
                "from_m": near,
                "to_m": far,
                "d_mm": None if math.isinf(d) else round(1000.0 * d),
                "missed": {f"{1000 * t.diameter:.0f}_mm_{_how(t)}": [t.missed, t.pictures] for t in here},
            }
        )
    measured = [
        1000.0 * d for near, far in itertools.pairwise(BINS) if not math.isnan(d := capability(tallies, near, far))
    ]
    worst = round(max(measured)) if measured and max(measured) < math.inf else None
    return {
        "classes": classes,
        "claimed_d_mm": round(1000.0 * claimed, 1),
        "worst_d_mm": worst,
        "holds_up_to_m": _holds_up_to(tallies, claimed),
        "claim_holds": worst is not None and worst <= 1000.0 * claimed + 1e-6,
        "seed": seed,
    }


def _holds_up_to(tallies: list[Tally], claimed: float) -> float | None:
    """Distance to the cameras up to which nothing of the claimed size was missed; None if it was in the first class."""
    reached = None
    for near, far in itertools.pairwise(BINS):
        d = capability(tallies, near, far)
        if math.isnan(d):
            continue
        if d > claimed + 1e-9:
            return reached
        reached = far
    return reached


def _how(tally: Tally) -> str:
    return "moving" if tally.moving else "still"


def _print(result: dict[str, Any], tallies: list[Tally]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        "distance (m)",
        *(f"{1000 * d:.0f} mm" for d in DIAMETERS),
        "d",
        title="missed of shown (still and moving), and the smallest never missed",
    )
    for row in result["classes"]:
        here = [t for t in tallies if t.near == row["from_m"]]
        cells = []
        for diameter in DIAMETERS:
            of = [t for t in here if t.diameter == diameter]
            cells.append(f"{sum(t.missed for t in of)} / {sum(t.pictures for t in of)}")
        table.add_row(
            f"{row['from_m']:.1f} to {row['to_m']:.1f}", *cells, "none" if row["d_mm"] is None else f"{row['d_mm']} mm"
        )
    console.print(table)
    claim, reached = f"{result['claimed_d_mm']:g} mm", result["holds_up_to_m"]
    if result["claim_holds"]:
        text = f"the {claim} that the safety configuration claims hold at every distance"
    elif reached is None:
        text = f"the {claim} that the safety configuration claims do not hold: raise detection_capability_mm"
    else:
        text = (
            f"the {claim} that the safety configuration claims hold up to {reached:g} m from a camera, not beyond: "
            "add a camera, raise detection_capability_mm, or show that nobody reaches the arm from there in one step"
        )
    console.print(text, highlight=False)
