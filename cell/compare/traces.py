"""The visits of a comparison: people who come, work beside the robot for a while, and leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

CLIPS = (
    "crawl", "dance_a", "dance_b", "getup_facedown", "getup_faceup", "jump", "kick", "punch", "roll", "run", "spin",
    "walk",
)  # fmt: skip
"""Clips that come with pybullet, as humanoid3d_NAME."""
OUTSIDE = (3.2, -0.4)
"""Where everyone comes from and goes to, m."""
PLACES = ((1.30, -0.35), (1.60, -0.30), (1.35, -0.95), (1.85, -0.45))
"""Where a clip is played, m: at the trays, behind them, at the side, in the gangway."""
COMES_AFTER = 4.0
"""s."""


class Trace(NamedTuple):
    """One visit."""

    name: str
    scenario: dict[str, Any]


def scripted() -> list[Trace]:
    """Work beside the robot without recorded motion."""
    tray, box = [0.55, -0.30, 0.25], [0.45, -0.28, 0.20]
    works: list[tuple[str, list[dict[str, Any]]]] = [
        ("reaches over the tray", [_walk(1.15, -0.35), {"do": "reach_into", "target": tray, "hold": 2.0}]),
        ("looks into the box", [_walk(1.20, -0.45), {"do": "reach_into", "target": box, "hand": "left", "hold": 4.0}]),
        ("stands in the gangway", [_walk(1.80, -0.40), {"do": "stand", "for": 8.0}]),
        ("stands at the side", [_walk(1.30, -1.00), {"do": "stand", "for": 8.0}]),
        ("crouches at the fence", [_walk(1.50, -0.70), {"do": "crouch", "hold": 4.0}]),
        ("passes by", [_walk(1.40, -1.10), _walk(1.55, 0.60), _walk(1.40, -1.10)]),
        ("comes twice", [_walk(1.45, -0.40), _walk(2.60, -0.40), {"do": "stand", "for": 4.0}, _walk(1.45, -0.40)]),
        ("runs at the tray", [{"do": "run_at", "position": [1.45, -0.40], "speed": 2.5}, {"do": "stand", "for": 3.0}]),
    ]
    return [_visit(name, work) for name, work in works]


def recorded(folders: list[Path]) -> list[Trace]:
    """Visits with recorded motion: pybullet's clips, and every clip found in `folders`."""
    clips = [(f"humanoid3d_{name}", f"humanoid3d_{name}") for name in CLIPS]
    for folder in folders:
        files = sorted([*folder.rglob("*.joints_m.npz"), *folder.rglob("*.bvh")])
        clips += [(path.name.removesuffix(".joints_m.npz"), str(path.resolve())) for path in files]
    visits = []
    for number, (name, clip) in enumerate(clips):
        x, y = PLACES[number % len(PLACES)]
        visits.append(_visit(name, [_walk(x, y), {"do": "clip", "clip": clip}]))
    return visits


def _walk(x: float, y: float) -> dict[str, Any]:
    return {"do": "walk_to", "position": [x, y], "speed": 1.2}


def _visit(name: str, work: list[dict[str, Any]]) -> Trace:
    way = [{"do": "stand", "for": COMES_AFTER}, *work, _walk(*OUTSIDE), {"do": "stand"}]
    person = {"name": "visitor", "start": {"position": list(OUTSIDE), "yaw_deg": 180}, "behaviour": way}
    return Trace(name, {"scenario": "visit", "people": [person]})
