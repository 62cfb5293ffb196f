"""`cell safety coverage`: what the cameras see, how small a thing, what is blind, where one more would help."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cell.commands.files import read_both
from cell.config import LoadedCell
from cell.exits import BAD_INPUT, OK
from cell.nodes import camera_infos
from cell.yamlfile import FileErrors
from perception.contract import CameraInfo
from perception.coverage import Arms, Candidate, Coverage, Gap, approaches, best_addition, coverage
from recipes.analysis import check
from recipes.expand import LoadedRecipe
from recipes.formula import parse_settings

POSES = 24
"""Poses of the arm along the recipe."""
SLICES = (0.3, 0.8, 1.2, 1.6)
"""Heights above the floor that are drawn, m."""
SHIN, LIMB = 0.07, 0.055
"""Widths that figures are given for, m: ISO 13855's leg, and an arm."""


def show_coverage(
    cell_file: Path | None, recipe: str, cell_size: float, picture: Path | None, as_json: bool, candidate: bool
) -> int:
    """Print what is seen; return the exit code."""
    try:
        cell, loaded, faults = read_both(recipe, cell_file)
        if faults:
            raise FileErrors(faults)
        arms, work = _arms(cell, loaded)
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    config = cell.config
    if not config.cameras:
        print(f"cell safety coverage: {cell.path} has no cameras", file=sys.stderr)
        return BAD_INPUT
    infos = camera_infos(cell)
    found = coverage(infos, config.workcell, config.perception, arms, cell_size)
    gaps = approaches(found, config.workcell, work)
    better = best_addition(found, infos[0], config.workcell, config.perception, arms) if candidate else None
    result = _result(found, infos, gaps, better, arms)
    if picture is not None:
        _draw(found, infos, config.workcell.floor, picture)
        result["picture"] = str(picture)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        _print(result)
    return OK


def _arms(cell: LoadedCell, loaded: LoadedRecipe) -> tuple[Arms, np.ndarray[Any, np.dtype[np.float64]]]:
    """The arm in its work, evenly along the recipe's path, and the middle of where its tool goes. Raises FileErrors."""
    formula, faults = parse_settings(loaded.recipe, {})
    analysis = check(loaded, cell.view(), formula)
    if faults or not analysis.ok or not analysis.motions:
        raise FileErrors([*faults, *analysis.problems])
    path = np.concatenate([motion.path for motion in analysis.motions.values()])
    chosen = path[np.linspace(0, len(path) - 1, POSES).astype(int)]
    model = cell.model()
    a, b, r = model.capsule_paths(chosen)
    tool = np.array([model.fk(q)[:3, 3] for q in chosen])
    return Arms(np.ascontiguousarray(a), np.ascontiguousarray(b), np.asarray(r)), tool.mean(axis=0)


def _result(
    found: Coverage, infos: list[CameraInfo], gaps: list[Gap], better: Candidate | None, arms: Arms
) -> dict[str, Any]:
    whole = float(len(found.points)) * found.cell**3
    always, never = found.always, found.never

    def part(volume: float) -> dict[str, float]:
        return {"m3": round(volume, 3), "share": round(volume / whole, 4) if whole else 0.0}

    return {
        "volume_m3": round(whole, 3),
        "cell_m": found.cell,
        "arm_poses": len(arms.a),
        "always_seen": part(found.volume(always)),
        "sometimes_seen": part(found.volume(~always & ~never)),
        "blind": part(found.volume(never)),
        "cameras": [
            {
                "name": info.name,
                "always_sees": part(found.volume(found.share[n] >= 1.0)),
                "alone": part(found.volume((found.share[n] >= 1.0) & (np.delete(found.share, n, 0) < 1.0).all(axis=0))),
            }
            for n, info in enumerate(infos)
        ],
        "smallest_target": {
            "median_m": _number(np.median(found.smallest[~never])) if (~never).any() else None,
            "p95_m": _number(np.percentile(found.smallest[~never], 95)) if (~never).any() else None,
            f"up_to_{1000 * LIMB:.0f}_mm": part(found.volume(found.smallest <= LIMB)),
            f"up_to_{1000 * SHIN:.0f}_mm": part(found.volume(found.smallest <= SHIN)),
        },
        "approaches": [
            {"entry": gap.entry, "always_seen_share": _number(gap.seen), "longest_unseen_m": _number(gap.longest)}
            for gap in gaps
        ],
        "one_more_camera": None
        if better is None
        else {"position": better.position, "look_at": better.look_at, "gain": part(better.gain)},
    }


def _number(value: float) -> float:
    return round(float(value), 4)


def _draw(found: Coverage, infos: list[CameraInfo], floor: float, target: Path) -> None:
    """Two rows of plans: who sees what at some heights, and how small a thing."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(SLICES), figsize=(4 * len(SLICES), 7.4), sharex=True, sharey=True)
    places = np.array([np.asarray(info.T_base_camera).reshape(4, 4)[:2, 3] for info in infos])
    size = (220 * found.cell) ** 2 / 10
    for column, height in enumerate(SLICES):
        level = found.points[:, 2]
        nearest = level[np.argmin(np.abs(level - (floor + height)))]
        here = np.abs(level - nearest) < 1e-6
        x, y = found.points[here, 0], found.points[here, 1]
        seen = axes[0, column].scatter(
            x, y, c=found.together[here], s=size, marker="s", cmap="RdYlGn", vmin=0.0, vmax=1.0, linewidths=0
        )
        width = np.where(np.isfinite(found.smallest[here]), 1000.0 * found.smallest[here], np.nan)
        small = axes[1, column].scatter(
            x, y, c=width, s=size, marker="s", cmap="viridis_r", vmin=0.0, vmax=70.0, linewidths=0
        )
        axes[0, column].set_title(f"{height:.1f} m above the floor")
        for row in (0, 1):
            axes[row, column].plot(places[:, 0], places[:, 1], "k^", markersize=8)
            axes[row, column].plot(0.0, 0.0, "ks", markersize=6)
            axes[row, column].set_aspect("equal")
    axes[0, 0].set_ylabel("y (m)")
    axes[1, 0].set_ylabel("y (m)")
    figure.colorbar(seen, ax=axes[0, :], label="share of the arm's poses in which it is seen")
    figure.colorbar(small, ax=axes[1, :], label="smallest target (mm)")
    figure.suptitle("Seen by the cameras (triangles); the arm's base is the square", x=0.42)
    figure.savefig(target, dpi=90, bbox_inches="tight")
    plt.close(figure)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("volume", "m3", "share", title=f"{result['volume_m3']:.1f} m3 in which people can be")
    rows = [
        ("always seen", "always_seen"),
        ("seen in some poses", "sometimes_seen"),
        ("never seen", "blind"),
    ]
    for text, key in rows:
        table.add_row(text, f"{result[key]['m3']:.2f}", f"{result[key]['share']:.1%}")
    for camera in result["cameras"]:
        for text, key in (("always sees", "always_sees"), ("sees alone", "alone")):
            part = camera[key]
            table.add_row(f"camera {camera['name']} {text}", f"{part['m3']:.2f}", f"{part['share']:.1%}")
    for key, part in result["smallest_target"].items():
        if isinstance(part, dict):
            table.add_row(f"targets {key.replace('_', ' ')} are told", f"{part['m3']:.2f}", f"{part['share']:.1%}")
    console.print(table)
    for way in result["approaches"]:
        console.print(
            f"straight ways in from {way['entry']}: {way['always_seen_share']:.1%} always seen, longest unseen stretch "
            f"{way['longest_unseen_m']:.2f} m",
            highlight=False,
        )
    more = result["one_more_camera"]
    if more is not None:
        place, aim = (", ".join(f"{v:.2f}" for v in more[key]) for key in ("position", "look_at"))
        console.print(
            f"one more camera helps most at ({place}) looking at ({aim}): {more['gain']['m3']:.2f} m3 more",
            highlight=False,
        )
    if "picture" in result:
        console.print(f"picture: {result['picture']}", markup=False, highlight=False, soft_wrap=True)
