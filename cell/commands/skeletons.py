"""`cell perceive skeletons`: are people found by their skeletons, how far off are the joints, is a robot ever one?"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.commands.detection import bench_cameras
from cell.config import LoadedCell, load_cell
from cell.exits import BAD_INPUT, FAILED, OK
from cell.session import entry_point
from cell.yamlfile import FileErrors
from perception.contract import CameraError, CameraInfo, Frame
from perception.detection import Place, Shot
from perception.people import find_people, foreground_of
from perception.pose import CONFIDENCE_ON_FOREGROUND, Person, PoseError, PoseFinder, library_silenced
from perception.view import CameraView, Capsules

F64 = NDArray[np.float64]
FOUND_LEAST, ERROR_MOST = 0.95, 0.05
"""Share of the pictures in which the person must be found; median error of a joint, m."""
DISTANCES = (2.0, 2.5, 3.0, 3.5, 4.0)
KINDS = ("standing", "walking", "crouching", "arm_through_gap")
"""What people do in the pictures; the last reaches forwards with one arm."""
EYE, LOOK = (2.0, -2.6), (2.0, 3.0)
"""Camera for the pictures of people: where and at what, m; the view is clear of fixtures of the demo cell."""
EYE_HEIGHT, LOOK_HEIGHT = 1.5, 0.9
"""Over the floor, m."""
ROUND = 10
"""Cameras round the robot for the pictures without people."""
SAME = 0.6
"""A skeleton whose trunk is farther than this from the true one is not of that person, m."""


FRESH = 100
"""Number of the first person: poses 0 to 7 served to measure how far joints lie behind the skin."""


class Skeletons(NamedTuple):
    """What was found."""

    pictures: int
    found: int
    errors: F64
    """(n,) of every joint that has a place, m."""
    by_joint: dict[str, float]
    """Median error, m."""
    empty: int
    """Pictures of the robot alone."""
    false: int
    """Of those: pictures with a skeleton."""
    without_depth: int
    """The same if depth is not asked where the robot is, only how long bones are."""


def show_skeletons(cell_file: Path | None, poses: int, alone: int, as_json: bool) -> int:
    """Measure and print; return the exit code."""
    try:
        cell = load_cell(cell_file)
        if cell.config.world is None or not cell.config.cameras:
            raise ValueError(f"{cell.path} has no twin, or no cameras")
        with library_silenced(), PoseFinder(confidence=CONFIDENCE_ON_FOREGROUND) as finder:
            found = _measured(cell, finder, poses, alone)
    except FileErrors as caught:
        for problem in caught.errors:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    except (PoseError, CameraError, ValueError) as error:
        print(f"cell perceive skeletons: {error}", file=sys.stderr)
        return BAD_INPUT
    result = _result(found)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")
    return OK if result["holds"] else FAILED


def _result(found: Skeletons) -> dict[str, Any]:
    share = found.found / found.pictures if found.pictures else math.nan
    median = float(np.median(found.errors)) if len(found.errors) else math.nan
    asked = found.pictures == 0 or (share >= FOUND_LEAST and median <= ERROR_MOST)
    return {
        "pictures": found.pictures,
        "found": found.found,
        "median_error_mm": None if math.isnan(median) else round(1000.0 * median, 1),
        "joints": len(found.errors),
        "p90_error_mm": round(1000.0 * float(np.percentile(found.errors, 90)), 1) if len(found.errors) else None,
        "by_joint_mm": {name: round(1000.0 * value, 1) for name, value in found.by_joint.items()},
        "robot_only_pictures": found.empty,
        "robot_only_with_person": found.false,
        "robot_only_with_person_by_bones_alone": found.without_depth,
        "holds": bool(asked and found.false == 0 and found.pictures + found.empty > 0),
    }


def _measured(cell: LoadedCell, finder: PoseFinder, poses: int, alone: int) -> Skeletons:
    pictures = hits = 0
    errors: dict[str, list[float]] = {}
    floor = cell.config.workcell.floor
    if poses:
        eye = (*EYE, floor + EYE_HEIGHT)
        bench = _bench(cell, [("people", {"position": eye, "look_at": (*LOOK, floor + LOOK_HEIGHT)})])
        try:
            view = CameraView(bench.infos[0], cell.config.workcell, cell.config.perception)
            arm = _capsules(cell, cell.home())
            for n in range(poses):
                for distance in DISTANCES:
                    pictures += 1
                    hits += _one(bench, finder, view, arm, FRESH + n, distance, errors)
        finally:
            bench.close()
    empty, false, without = _alone(cell, finder, alone) if alone else (0, 0, 0)
    every = np.array([e for row in errors.values() for e in row])
    by_joint = {name: float(np.median(row)) for name, row in sorted(errors.items())}
    return Skeletons(pictures, hits, every, by_joint, empty, false, without)


def _bench(cell: LoadedCell, mounts: list[tuple[str, dict[str, Any]]]) -> Any:
    assert cell.config.world is not None
    options = bench_cameras(cell, "D435", 1, colour=True)[0][1]
    cameras = [(name, {**options, "mount": {**mount, "roll_deg": 0.0}}) for name, mount in mounts]
    return entry_point("cell.targets", cell.config.world.driver).people(cameras, cell.home().tolist(), 1, colour=True)


def _one(
    bench: Any, finder: PoseFinder, view: CameraView, arm: Capsules, n: int, distance: float,
    errors: dict[str, list[float]],
) -> bool:  # fmt: skip
    """Draw person number `n` at a distance (m) and note the errors of the joints if it is found."""
    random = np.random.default_rng([n, round(10 * distance)])
    x = EYE[0] + float(random.uniform(-0.15, 0.15)) * distance
    # People face the camera within 60 degrees, as people at a cell's open side do.
    yaw = -math.pi / 2 + float(random.uniform(-1.0, 1.0)) * math.pi / 3
    turn = (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    where = Place((x, EYE[1] + distance, 0.0), turn, float(random.random()))
    kind = KINDS[n % len(KINDS)]
    shot: Shot = bench.shots(kind, where, 0, n)[0]
    info: CameraInfo = bench.infos[0]
    truth = bench.joints(kind, where, 0, n)
    people = _found(finder, view, shot.frame, arm)
    T = np.asarray(info.T_base_camera, float).reshape(4, 4)
    middle = np.mean([truth[j] for j in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")], axis=0)
    person = next((p for p in people if _near(p, T, middle)), None)
    if person is None:
        return False
    for name, place in truth.items():
        joint = person.skeleton[name]
        if joint.position is not None:
            base = T[:3, :3] @ np.asarray(joint.position) + T[:3, 3]
            errors.setdefault(name, []).append(float(np.linalg.norm(base - np.asarray(place))))
    return True


def _capsules(cell: LoadedCell, q: F64) -> Capsules:
    return Capsules(*(np.asarray(v) for v in cell.model().capsules(q)))


def _found(finder: PoseFinder, view: CameraView, frame: Frame, arm: Capsules) -> list[Person]:
    """As in the cell: depth says where somebody may be, colour is asked there."""
    view.process(frame, arm, [])
    if frame.colour is None:
        raise ValueError("the bench drew no colours")
    return find_people(finder, frame.colour, frame.depth, foreground_of(view.label), view.info.intrinsics)


def _near(person: Person, T: F64, middle: F64) -> bool:
    if person.position is None:
        return False
    return float(np.linalg.norm(T[:3, :3] @ np.asarray(person.position) + T[:3, 3] - middle)) <= SAME


def _alone(cell: LoadedCell, finder: PoseFinder, count: int) -> tuple[int, int, int]:
    """Pictures of the robot in any pose its joints permit, from all sides, and those with a skeleton."""
    model = cell.model()
    random = np.random.default_rng(8)
    mounts = []
    for n in range(ROUND):
        angle, reach = 2.0 * math.pi * n / ROUND, 1.5 + 2.0 * n / (ROUND - 1)
        eye = (reach * math.cos(angle), reach * math.sin(angle), float(random.uniform(0.2, 1.2)))
        mounts.append((f"round{n}", {"position": eye, "look_at": (0.0, 0.0, 0.4)}))
    bench = _bench(cell, mounts)
    lower, upper = np.asarray(model.q_lower, float), np.asarray(model.q_upper, float)
    views = [CameraView(info, cell.config.workcell, cell.config.perception) for info in bench.infos]
    pictures = false = without = 0
    try:
        while pictures < count:
            q = random.uniform(lower, upper)
            frames = bench.empty(q.tolist(), 0.08, 1, pictures)[0]
            arm = _capsules(cell, q)
            for frame, view in zip(frames[: count - pictures], views, strict=False):
                pictures += 1
                false += bool(_found(finder, view, frame, arm))
                assert frame.colour is not None  # `_found` has looked at it
                without += bool(finder.find(frame.colour, frame.depth, view.info.intrinsics))
    finally:
        bench.close()
    return pictures, false, without
