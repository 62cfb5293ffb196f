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
    return [_visit(name, work) for name, work in [*works, *_at_work(), *_in_passing()]]


def _at_work() -> list[tuple[str, list[dict[str, Any]]]]:
    """Hands at the places of the work, from several sides, slower and faster, one after the other."""
    tray, tray_end, box = [0.55, -0.30, 0.25], [0.62, -0.42, 0.22], [0.45, -0.28, 0.20]
    return [
        ("fetches from the tray twice", [_walk(1.15, -0.40), _reach(tray, 1.0), _reach(tray_end, 1.0, "left")]),
        ("works at the tray", [_walk(1.10, -0.45, 1.0), _reach(tray, 3.0), _reach(tray_end, 3.0), _reach(tray, 2.0)]),
        ("sorts the box from the side", [_walk(0.80, -1.05, 0.9), _reach(box, 3.0, "left"), _reach(box, 2.0)]),
        ("reaches in and goes at once", [_walk(1.20, -0.30), _reach(tray, 0.2)]),
        ("comes slowly and reaches far", [_walk(1.25, -0.55, 0.6), _reach([0.50, -0.40, 0.30], 2.0)]),
        ("tray, then box", [_walk(1.15, -0.35), _reach(tray, 1.5), _walk(0.95, -0.95, 0.8), _reach(box, 1.5, "left")]),
        ("bends down at the tray", [_walk(1.30, -0.45), {"do": "crouch", "hold": 2.0}, _reach(tray, 1.5)]),
    ]


def _in_passing() -> list[tuple[str, list[dict[str, Any]]]]:
    """People who walk, stand and crouch near the arm and touch nothing."""
    return [
        ("walks along the tray", [_walk(1.25, -1.20, 1.0), _walk(1.25, 0.70, 1.0), _walk(1.25, -1.20, 1.0)]),
        ("looks in and turns back", [_walk(1.35, -0.40), _walk(2.00, -0.40)]),
        ("comes near step by step", [
            _walk(2.20, -0.40, 0.8), _stand(1.5), _walk(1.70, -0.40, 0.8), _stand(1.5), _walk(1.30, -0.40, 0.8),
            _stand(1.5),
        ]),
        ("waits by the fence", [_walk(1.55, -0.90), _stand(6.0)]),
        ("ties a shoe in the gangway", [_walk(1.75, -0.35), {"do": "crouch", "hold": 5.0}]),
        ("comes three times", [
            _walk(1.40, -0.45), _walk(2.40, -0.40), _walk(1.40, -0.60), _walk(2.40, -0.40), _walk(1.40, -0.30),
        ]),
        ("goes round the cell slowly", [_walk(1.50, -1.10, 0.7), _walk(1.60, 0.20, 0.7), _stand(2.0)]),
    ]  # fmt: skip


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


def _walk(x: float, y: float, speed: float = 1.2) -> dict[str, Any]:
    return {"do": "walk_to", "position": [x, y], "speed": speed}


def _stand(seconds: float) -> dict[str, Any]:
    return {"do": "stand", "for": seconds}


def _reach(target: list[float], hold: float, hand: str = "right") -> dict[str, Any]:
    return {"do": "reach_into", "target": target, "hand": hand, "hold": hold}


def _visit(name: str, work: list[dict[str, Any]]) -> Trace:
    way = [{"do": "stand", "for": COMES_AFTER}, *work, _walk(*OUTSIDE), {"do": "stand"}]
    person = {"name": "visitor", "start": {"position": list(OUTSIDE), "yaw_deg": 180}, "behaviour": way}
    return Trace(name, {"scenario": "visit", "people": [person]})
