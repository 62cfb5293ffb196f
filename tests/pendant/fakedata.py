"""What the fake cell says: plausible, fixed, small."""

from __future__ import annotations

import base64
import csv
import math
import struct
from itertools import pairwise
from typing import Any

import numpy as np

from cell.data import __path__ as DATA

ROLES = {
    "vera": "viewer",
    "olga": "operator",
    "otto": "operator",
    "pia": "programmer",
    "sina": "safety_engineer",
    "sven": "safety_engineer",
    "ada": "admin",
}
VARIETIES = ["cube_red", "cube_green", "bar_blue", "block_yellow", "post_white", "puck_black"]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def packml() -> dict[str, Any]:
    """The table as the server tells it, from the product's own data."""
    with open(f"{DATA[0]}/packml.csv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    with open(f"{DATA[0]}/packml_states.csv", encoding="utf-8") as f:
        states = [{"name": r["state"], "number": int(r["number"]), "kind": r["kind"]} for r in csv.DictReader(f)]
    admitted: dict[str, list[str]] = {s["name"]: [] for s in states}
    for row in rows:
        if row["trigger_kind"] == "command":
            admitted[row["from_state"]].append(row["trigger"])
    commands = sorted({c for names in admitted.values() for c in names})
    return {"states": states, "commands": commands, "admitted": admitted}


def steps(done: int = 0) -> list[dict[str, Any]]:
    out = []
    for name in VARIETIES:
        for skill in ("pick", "place"):
            n = len(out) + 1
            state = "done" if n <= done else "running" if n == done + 1 else "waiting"
            out.append(
                {"step": n, "operation": "fill_box", "label": f"{skill} {name.replace('_', ' ')}", "state": state}
            )
    out.append({"step": 13, "operation": "rest", "label": "move to home", "state": "waiting"})
    return out


def status(state: str = "Idle") -> dict[str, Any]:
    number = {s["name"]: s["number"] for s in packml()["states"]}[state]
    return {
        "t": 0.0,
        "state": state,
        "state_number": number,
        "mode": "automatic",
        "recipe": "kitting",
        "operation": "fill_box",
        "phase": "place",
        "step": 4,
        "steps": 13,
        "parts_done": 1,
        "batch": 1,
        "batches": 2,
        "cycle_times": [],
        "blocked_since": -1.0,
        "override": 1.0,
        "alarms": [],
        "question": None,
        "fingerprint": "5f1c0a77e2d94b10",
        "predicted_cycle": 38.4,
        "blocked": {},
        "stepping": "automatic",
        "waits": False,
        "loading": "",
        "manual_missing": "",
        "resume": [],
        "step_list": steps(3),
    }


def robot() -> dict[str, Any]:
    q = [math.radians(d) for d in (-45, -35, 0, -135, 0, 100, 45)]
    return {
        "q": q,
        "dq": [0.0] * 7,
        "tau": [0.1, -18.4, 0.2, 21.0, 0.4, 2.1, 0.0],
        "q_commanded": q,
        "rate": 1.0,
        "limit": 1.0,
        "limit_by": "override",
        "limit_reason": "",
        "override": 1.0,
        "mode": "automatic",
        "fault": "",
        "fault_text": "",
        "standing": False,
        "gripper_width": 0.041,
        "gripper_holding": True,
        "held": None,
        "inputs": {"tray_present": True, "door_closed": True},
        "outputs": {"lamp": False, "vacuum": True},
        "emergency_stop": False,
        "safeguard": False,
        "motion_id": "m1",
        "progress": 1.2,
        "duration": 2.6,
        "tracking_error": 0.0004,
        "manual_missing": "",
        "mode_switch": None,
        "devices": {"drives": "on", "enabling": "button"},
        "T_base_tcp": transform(q).reshape(-1).tolist(),
    }


def safety() -> dict[str, Any]:
    return {
        "limit": 1.0,
        "reason": "",
        "separation": None,
        "required": 1.02,
        "terms": {"S_h": 0.42, "S_r": 0.18, "S_s": 0.13, "C": 0.208, "Z_d": 0.05, "Z_r": 0.03},
        "link": "link 5",
        "point": None,
        "seen": True,
        "on_arm": None,
        "simulation_only": True,
    }


# Modified Denavit-Hartenberg parameters of the Panda: a, d, alpha (public data sheet).
_DH = [(0, 0.333, 0), (0, 0, -90), (0, 0.316, 90), (0.0825, 0, 90), (-0.0825, 0.384, -90), (0, 0, 90), (0.088, 0, 90)]


def _offset(a: float, d: float, alpha: float) -> np.ndarray:
    c, s = round(math.cos(math.radians(alpha)), 9), round(math.sin(math.radians(alpha)), 9)
    return np.array([[1, 0, 0, a], [0, c, -s, -s * d], [0, s, c, c * d], [0, 0, 0, 1]], float)


def frames(q: list[float]) -> list[np.ndarray]:
    out, T = [np.eye(4)], np.eye(4)
    for (a, d, alpha), angle in zip(_DH, q, strict=True):
        c, s = math.cos(angle), math.sin(angle)
        T = T @ _offset(a, d, alpha) @ np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        out.append(T)
    return out


def transform(q: list[float]) -> np.ndarray:
    return np.asarray(frames(q)[-1] @ _offset(0, 0.21, 0))


def capsules(q: list[float]) -> list[dict[str, Any]]:
    origins = [T[:3, 3] for T in [*frames(q), transform(q)]]
    return [
        {"link": f"link {i}", "a": a.tolist(), "b": b.tolist(), "radius": 0.08}
        for i, (a, b) in enumerate(pairwise(origins))
    ]


def animate(state: dict[str, Any], t: float) -> None:
    base = [math.radians(d) for d in (-45, -35, 0, -135, 0, 100, 45)]
    q = [b + 0.4 * math.sin(0.8 * t + i) * (i in (0, 3)) for i, b in enumerate(base)]
    state.update(q=q, T_base_tcp=transform(q).reshape(-1).tolist())


def body_points(people: list[tuple[float, float]]) -> list[tuple[float, float, float]]:
    rng = np.random.default_rng(1)
    out: list[tuple[float, float, float]] = []
    for x, y in people:
        p = rng.normal(size=(400, 3)) * [0.12, 0.16, 0.45] + [x, y, 0.1]
        out += [tuple(map(float, row)) for row in p]  # type: ignore[misc]
    return out


def path() -> bytes:
    angles = np.linspace(0, math.pi, 40)
    xyz = np.stack([0.28 + 0.2 * np.cos(angles), -0.4 + 0.12 * np.cos(angles), 0.15 + 0.2 * np.sin(angles)], 1)
    return b"".join(struct.pack("<3f", *row) for row in xyz)


def parts() -> list[dict[str, Any]]:
    return [
        {
            "name": f"{kind}_{i}",
            "kind": kind,
            "pose": [-0.02 + 0.08 * (k % 4), -0.61 + 0.09 * (k // 4), 0.03, 0, 0, 0, 1],
        }
        for k, (kind, i) in enumerate((v, i) for v in VARIETIES for i in (1, 2))
    ]


def _at(x: float, y: float, z: float) -> list[float]:
    return [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1]


def cell_model() -> dict[str, Any]:
    chain = [
        {
            "name": f"joint{i + 1}",
            "type": "revolute",
            "parent": f"link{i}",
            "child": f"link{i + 1}",
            "T_parent_joint": _offset(*row).reshape(-1).tolist(),
            "axis": [0, 0, 1],
        }
        for i, row in enumerate(_DH)
    ]
    return {
        "name": "demo",
        "robot": {
            "model": "panda",
            "dof": 7,
            "home": robot()["q"],
            "T_base_tool": None,
            "joint_chain": chain,
            "joints": [{"name": f"joint{i + 1}", "lower": -2.9, "upper": 2.9, "v_max": 2.1} for i in range(7)],
            "links": [{"name": f"link{i}", "meshes": []} for i in range(8)],
        },
        "fixtures": [
            {"name": "table", "size": [1.1, 1.3, 0.75], "T_base": _at(0.2, -0.2, -0.375), "colour": [0.62, 0.55, 0.45]},
            {"name": "tray_plate", "size": [0.34, 0.26, 0.01], "T_base": _at(0.1, -0.52, 0.005)},
            {
                "name": "box_floor",
                "size": [0.26, 0.26, 0.008],
                "T_base": _at(0.47, -0.28, 0.004),
                "colour": [0.55, 0.4, 0.25],
            },
            {"name": "closed_back", "size": [0.95, 3.4, 2.2], "T_base": _at(-0.825, 0, 0.35), "visible": False},
        ],
        "parts": {
            v: {"shape": "box", "size": [0.04, 0.04, 0.04], "colour": c}
            for v, c in zip(
                VARIETIES,
                [
                    [0.8, 0.16, 0.14],
                    [0.18, 0.6, 0.25],
                    [0.15, 0.32, 0.72],
                    [0.92, 0.76, 0.15],
                    [0.92, 0.92, 0.9],
                    [0.12, 0.12, 0.13],
                ],
                strict=True,
            )
        },
        "frames": {},
        "patterns": {},
        "keep_out": [],
        "floor": -0.75,
        "entries": ["x_max"],
        "cameras": [
            {
                "name": n,
                "model": "D455",
                "T_base_camera": np.eye(4).reshape(-1).tolist(),
                "width": 424,
                "height": 240,
                "fov": 1.5,
            }
            for n in ("front", "back")
        ],
        "zones": [
            {
                "name": "reach_over",
                "automatic": "ssm",
                "manual": "ssm",
                "z": [0.0, None],
                "speed": None,
                "outline": [[0.2, -0.7], [0.7, -0.7], [0.7, -0.1], [0.2, -0.1]],
            }
        ],
        "person_volume": [[-1.3, -1.7, -0.75], [2.7, 1.7, 1.45]],
        "body": None,
    }


def analysis(ok: bool = True, settings: dict[str, Any] | None = None, batches: int = 1) -> dict[str, Any]:
    return {
        "ok": ok,
        "settings": settings or {"varieties": VARIETIES},
        "batches": batches,
        "at_wall": 1_790_000_000_000,
        "fingerprint": "5f1c0a77e2d94b10",
        "predicted_cycle_s": 38.4,
        "phases": [{**s, "skill": s["label"].split()[0], "duration_s": 2.9} for s in steps()],
        "problems": []
        if ok
        else [
            {
                "message": "cube_red is out of reach at tray_grid 3",
                "line": 18,
                "field": "phases.0",
                "remedy": "Move the tray nearer",
            }
        ],
    }


def recipe() -> dict[str, Any]:
    return {
        "name": "kitting",
        "title": "Kitting",
        "version": "1.0",
        "file": "recipes/library/kitting.yaml",
        "description": "Takes one part of each wanted variety from the tray and puts it into a free place of the box.",
        "picture": "/api/v1/recipes/kitting/picture.png",
        "capabilities": ["gripper", "operator"],
        "library": True,
        "parameters": [
            {
                "name": "varieties",
                "type": "list",
                "unit": None,
                "min": 1,
                "max": 6,
                "default": VARIETIES,
                "choices": VARIETIES,
                "description": "Varieties in the order in which they are put into the box",
            }
        ],
        "steps": steps(),
        "changed_wall": 1_790_000_000_000,
        "analysis": None,
        "text": 'recipe: kitting\nversion: "1.0"\n',
        "hash": "abc",
    }


def alarm(code: str = "camera_fault", **changes: Any) -> dict[str, Any]:
    return {
        "code": code,
        "text": "A camera does not deliver usable pictures",
        "cause": "See the detail",
        "remedy": "Check cable lens and lighting of the named camera then confirm the cell is clear",
        "reaction": "hold",
        "state": "active",
        "raised_at": 12.0,
        "count": 1,
        "detail": "front: no picture for 0.4 s",
        "first_out": True,
        **changes,
    }


def answers() -> dict[str, Any]:
    t = [i * 0.2 for i in range(300)]
    series = {
        "t": [x - 60 for x in t],
        "separation": [1.5 + math.sin(x / 4) for x in t],
        "required": [1.02] * 300,
        "rate": [1.0 if math.sin(x / 4) > 0 else 0.4 for x in t],
        "state": [[-60.0, "Execute"], [-20.0, "Suspended"], [-8.0, "Execute"]],
    }
    run = {
        "id": "2026-01-31_12-00-00",
        "began_wall": 1_790_000_000_000,
        "recipe": "kitting",
        "outcome": "complete",
        "parts": 12,
        "batches": 2,
        "contacts": 0,
        "violations": 0,
        "time_stopped_s": 6.2,
        "time_slowed_s": 11.0,
    }
    record = {"seq": 3, "wall": 1_790_000_000_000, "what": "raised", "person": None, **alarm()}
    config = {
        "title": "Demo cell, twin",
        "reaction": {"perception": 0.006},
        "human": {"slow": 1.6, "fast": 2.0},
        "Z_d": 0.05,
        "Z_r": 0.03,
        "detection_capability_mm": 40,
        "zones": {
            "elsewhere": "ssm",
            "volumes": [
                {
                    "name": "entry",
                    "shape": {"kind": "box", "lower": [1.2, -1.2, -0.75], "upper": [2.4, 1.2, 1.4]},
                    "automatic": "ssm",
                },
                {
                    "name": "bench",
                    "shape": {
                        "kind": "prism",
                        "corners": [[0.8, -1.4], [1.1, -1.4], [1.1, 0.2], [0.8, 0.0]],
                        "z": [-0.1, 1.0],
                    },
                    "automatic": "reduced_speed",
                    "speed": 0.2,
                },
            ],
        },
    }
    return {
        "packml": packml(),
        "cell": cell_model(),
        "recipes": [recipe()],
        "recipes/kitting": recipe(),
        "series": series,
        "recipes/kitting/picture.png": PIXEL,
        "cameras": PIXEL,
        "runs": [run],
        "runs/2026-01-31_12-00-00/series": series,
        "alarms/history": {"items": [record], "total": 1},
        "alarms": [],
        "users": [{"name": n, "role": r, "disabled": False} for n, r in ROLES.items()],
        "oee": {
            "availability": 0.91,
            "performance": 0.88,
            "quality": 1.0,
            "good": 12,
            "reworked": 0,
            "planned_s": 90.0,
            "running_s": 82.0,
            "stopped_for_people_s": 6.2,
            "cycle_times_s": [39.9, 42.1],
            "predicted_cycle_s": 38.4,
        },
        "points": [
            {
                "name": "above_tray",
                "q": robot()["q"],
                "T_base_tcp": robot()["T_base_tcp"],
                "by": "pia",
                "at_wall": 1_790_000_000_000,
                "comment": "clear of the box",
            }
        ],
        "frames": [],
        "events": [
            {
                "seq": 9,
                "wall": 1_790_000_000_000,
                "person": "olga",
                "source": "pendant",
                "kind": "pendant.command",
                "data": {"name": "Start"},
            }
        ],
        "safety": {
            "file": "demo_safety.yaml",
            "config": config,
            "schema": {},
            "fingerprint": "77aa01c4e9b3",
            "proposals": [],
            "signatures": [
                {"name": "Anna Berg", "at": 1_790_000_000_000, "fingerprint": "77aa01c4e9b3", "valid": True}
            ],
            "zones": [],
            "psd_defaults": {
                "v_human": 1.6,
                "v_robot": 0.5,
                "T_r": 0.15,
                "T_s": 0.3,
                "C": 0.208,
                "Z_d": 0.05,
                "Z_r": 0.03,
            },
        },
        "safety/history": [],
        "POST recipes/kitting/analyse": lambda b: analysis(True, b["settings"], b["batches"]),
        "POST recipes/check": {"ok": True, "problems": []},
        "POST safety/check": {"ok": True, "problems": [], "warnings": [], "fingerprint": "99bb"},
        "POST safety/psd": {
            "S_h": 0.72,
            "S_r": 0.075,
            "S_s": 0.075,
            "C": 0.208,
            "Z_d": 0.05,
            "Z_r": 0.03,
            "S_p": 1.158,
        },
        "POST safety/diff": lambda b: differences("", config, b["config"]),
    }


def differences(path: str, before: Any, after: Any) -> list[dict[str, Any]]:
    """Where two configurations differ, each leaf a row."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted({*before, *after})
        rows = [differences(f"{path}.{key}" if path else key, before.get(key), after.get(key)) for key in keys]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        rows = [differences(f"{path}[{i}]", *pair) for i, pair in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [{"path": path, "before": before, "after": after}]
    return [row for part in rows for row in part]


def command(cell: Any, body: dict[str, Any]) -> dict[str, Any]:
    answer = {"id": body["id"], **cell.verdict}
    if body["type"] == "load" and answer["verdict"] == "done":
        answer["analysis"] = analysis(True, body["settings"], body["batches"])
    return answer
