"""`cell perceive detection`: people and parts of people before the twin's cameras, and what of them was missed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cell.config import LoadedCell, load_cell
from cell.exits import BAD_INPUT, FAILED, OK
from cell.nodes import camera_options
from cell.session import entry_point
from cell.yamlfile import FileErrors
from perception.background import build_background
from perception.capability import places
from perception.contract import CameraError
from perception.coverage import Arms, grid
from perception.detection import FRAMES, TARGETS, Judge, Moment, Quiet, Tally, holds, quiet, tally
from perception.standing import Layer, layer, layer_figures, place
from perception.view import CameraView, Capsules
from safety.config import load_safety

NATIVE = {"width": 848, "height": 480, "decimation": 1, "scatter": 0.02}
"""Picture of a camera that stands in for those of the cell file."""
GRID = 0.1
LAYER_CELL = 0.05
POSES = 12
"""Of the arm, for the empty cell."""
DRAWS = 8
"""Places tried until a target is due at its first moment."""
BANDS = ((0.05, (60, 140, 90)), (0.10, (150, 190, 90)), (0.15, (230, 200, 80)), (0.20, (235, 140, 60)))
THICKER, UNSEEN = (200, 60, 50), (70, 70, 78)


def show_detection(
    cell_file: Path | None, seeds: int, targets: str, model: str, replay: int, png: Path | None, as_json: bool
) -> int:
    """Measure and print; return the exit code."""
    try:
        cell = load_cell(cell_file)
        safety = load_safety(cell.safety_path)
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    chosen = [t.strip() for t in targets.split(",") if t.strip()] if targets else list(TARGETS)
    wrong = [t for t in chosen if t not in TARGETS]
    if wrong or cell.config.world is None or not cell.config.cameras:
        what = f"no target is called {', '.join(wrong)}: there are {', '.join(TARGETS)}"
        print(
            f"cell perceive detection: {what if wrong else f'{cell.path} has no twin, or no cameras'}", file=sys.stderr
        )
        return BAD_INPUT
    try:
        result, found = _measured(cell, chosen, seeds, model, replay, safety.intrusion)
    except (CameraError, ValueError) as error:
        print(f"cell perceive detection: {error}", file=sys.stderr)
        return BAD_INPUT
    result["configured_Z_d_m"] = safety.Z_d
    if png is not None:
        _draw(found, png)
        result["picture"] = str(png)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        _print(result)
    return OK if result["holds"] else FAILED


def bench_cameras(cell: LoadedCell, model: str, seed: int, **more: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and options of the cell's cameras; `model` replaces their make, at its native 848 x 480."""
    cameras = []
    for camera in cell.config.cameras:
        options = camera_options(camera.name, cell, seed)[1]
        cameras.append((camera.name, {**options, **({"model": model, **NATIVE} if model else {}), **more}))
    return cameras


def _measured(
    cell: LoadedCell, targets: list[str], seeds: int, model: str, replay: int, intrusion: float
) -> tuple[dict[str, Any], Layer]:
    config, q = cell.config, cell.home()
    assert config.world is not None
    bench = entry_point("cell.targets", config.world.driver).people(bench_cameras(cell, model, 1), q.tolist(), 1)
    try:
        views = [CameraView(info, config.workcell, config.perception) for info in bench.infos]
        backgrounds = [build_background(info, config.workcell, config.perception) for info in bench.infos]
        a, b, r = (np.asarray(v) for v in cell.model().capsules(q))
        arms, volume = Arms(a[None], b[None], r), np.array(config.workcell.person_volume, float)
        spots = places(bench.infos, backgrounds, grid(config.workcell, GRID), volume, arms)
        judge = Judge(views, Capsules(a, b, r), volume, config.perception.sigmas, config.perception.cell_size)
        tallies, hidden = [], {}
        for target in targets:
            runs = list(_runs(bench, judge, target, cell, spots, seeds))
            hidden[target] = sum(not moment.due for run in runs for moment in run)
            tallies += [t for near in (True, False) if (t := tally(target, near, runs)).frames]
        found = layer(bench.infos, backgrounds, config.workcell, arms, LAYER_CELL)
        still = _quiet(cell, bench, views, replay) if replay else None
    finally:
        bench.close()
    return _result(tallies, hidden, found, still, intrusion, seeds, bench.infos[0].model), found


def _runs(
    bench: Any, judge: Judge, target: str, cell: LoadedCell, spots: list[Any], seeds: int
) -> Iterator[list[Moment]]:
    for seed in range(seeds):
        random = np.random.default_rng([seed, TARGETS.index(target)])
        for _ in range(DRAWS):
            where = place(target, cell.config.workcell, spots, random)
            first = judge.moment(target, bench.shots(target, where, 0, seed))
            if first.due:
                break
        rest = (judge.moment(target, bench.shots(target, where, n, seed)) for n in range(1, FRAMES))
        yield [first, *rest]


def _quiet(cell: LoadedCell, bench: Any, views: list[CameraView], replay: int) -> Quiet:
    """Noise over the cell without people and parts: the arm at home and in poses with every joint within 0.35 rad."""
    model, home = cell.model(), cell.home()
    random = np.random.default_rng(5)
    poses = home + random.uniform(-0.35, 0.35, (POSES, len(home)))
    poses[0] = home
    arms = [Capsules(*(np.asarray(v) for v in model.capsules(q))) for q in poses]
    return quiet(bench, views, poses, arms, max(1, replay // POSES), [], 1)


def _figure(value: float, scale: float = 1000.0) -> float | None:
    return round(scale * value, 1) if math.isfinite(value) else None


def _result(
    tallies: list[Tally], hidden: dict[str, int], found: Layer, still: Quiet | None, intrusion: float, seeds: int,
    camera: str,
) -> dict[str, Any]:  # fmt: skip
    problems = holds(tallies)
    figures = {k: v if math.isfinite(v) else None for k, v in layer_figures(found, intrusion).items()}
    result: dict[str, Any] = {
        "cameras": camera,
        "seeds": seeds,
        "frames_a_seed": FRAMES,
        "targets": [
            {
                "target": t.target,
                "range": "near" if t.near else "far",
                "frames": t.frames,
                "missed": t.missed,
                "longest_run_missed": t.longest,
                "largest_excess_mm": _figure(t.excess),
                "frames_beyond_Z_d": t.beyond,
                "worst_less_Z_d_mm": _figure(t.margin),
            }
            for t in tallies
        ],
        "frames_not_due": hidden,
        "layer": {**figures, "C_m": round(intrusion, 3)},
    }
    if still is not None:
        result["empty_cell"] = {
            "moments": still.moments,
            "pictures": still.pictures,
            "false_pictures": still.false,
            "most_cells": still.cells,
            "nearest_to_arm_mm": _figure(still.nearest),
        }
        if still.false:
            problems.append(
                f"empty cell: something was taken for a person in {still.false} of {still.pictures} pictures"
            )
    return {**result, "problems": problems, "holds": not problems}


def _draw(found: Layer, path: Path) -> None:
    """Top view, x to the right, y upwards; one square a cell, coloured by the thickness of the layer."""
    from PIL import Image, ImageDraw

    scale = 8
    nx, ny = found.thickness.shape
    picture = Image.new("RGB", (nx * scale, ny * scale + 26), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    for i in range(nx):
        for j in range(ny):
            t = found.thickness[i, j]
            colour = UNSEEN if math.isinf(t) else next((c for most, c in BANDS if t <= most + 1e-9), THICKER)
            draw.rectangle(
                (i * scale, (ny - 1 - j) * scale, (i + 1) * scale - 1, (ny - j) * scale - 1), fill=colour
            )  # fmt: skip
    names = [(c, f"to {1000 * most:.0f} mm") for most, c in BANDS] + [(THICKER, "more"), (UNSEEN, "not seen")]
    for n, (colour, text) in enumerate(names):
        left = 6 + n * (nx * scale - 10) // len(names)
        draw.rectangle((left, ny * scale + 8, left + 10, ny * scale + 18), fill=colour)
        draw.text((left + 14, ny * scale + 7), text, fill=(20, 20, 20))
    picture.save(path)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        "target", "range", "frames", "missed", "longest run", "largest excess (mm)", "beyond Z_d",
        title=f"{result['cameras']}, {result['seeds']} seeds, {result['frames_a_seed']} frames each",
    )  # fmt: skip
    for row in result["targets"]:
        excess = "-" if row["largest_excess_mm"] is None else f"{row['largest_excess_mm']:.0f}"
        cells = (row["frames"], row["missed"], row["longest_run_missed"], excess, row["frames_beyond_Z_d"])
        table.add_row(row["target"], row["range"], *(str(c) for c in cells))
    console.print(table)
    console.print(f"layer over surfaces: {result['layer']}", highlight=False, soft_wrap=True)
    if "empty_cell" in result:
        console.print(f"empty cell: {result['empty_cell']}", highlight=False, soft_wrap=True)
    for problem in result["problems"] or ["all that was asked for holds"]:
        console.print(problem, highlight=False)
