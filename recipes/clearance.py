"""Does the arm touch anything on its way? Distance of links, gripper and held part to boxes of furniture and parts. m.

Link capsules enclose the links (robots.model). The tool's capsules enclose the fingers at their largest opening, which
is far too fat beside a box wall: hand and fingers are taken here as boxes round their real outline at the opening in
force, and the held part as its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from cell.yamlfile import parse_text
from recipes.boxes import Boxes, separations
from recipes.parts import matrix
from robots.contract import PartGeometry
from robots.model import RobotModel
from robots.workcell import Strict, Vector, Workcell

Array = NDArray[np.float64]

SPACING = 0.02
"""Between the points of a capsule's axis that are looked at; for radii of 5 cm and more this errs by 1 mm at most."""
LINK_MARGIN = 0.01
"""Free space asked for between a link and furniture."""
TOOL_MARGIN = 0.0
HELD_MARGIN = -0.004
"""A held part may touch what it lies on, and sink in by what the part frames are uncertain."""
BODY = 0.2
"""No link or hand reaches farther than this from its axis or from the TCP, m."""
MAX_SAMPLES = 120
STEP = 0.01
"""Distance the TCP moves between two samples at most, m (up to MAX_SAMPLES samples a motion)."""


class Outline(Strict):
    """Hand and fingers of a tool in the TCP frame."""

    hand_lower: Vector
    hand_upper: Vector
    """Box round the hand's body."""
    finger_width: Annotated[float, Field(gt=0, le=0.2)]
    """Along x."""
    base_depth: Annotated[float, Field(gt=0, le=0.2)]
    """Thickness of a finger outwards, along y, near the hand."""
    base_end: Annotated[float, Field(ge=-0.3, le=0.2)]
    """Where the thick part ends, along z."""
    finger_depth: Annotated[float, Field(gt=0, le=0.2)]
    """Thickness beyond."""
    finger_tip: Annotated[float, Field(ge=0, le=0.2)]
    """How far the fingers reach beyond the TCP, along z."""


class Outlines(Strict):
    """recipes/data/grippers.yaml."""

    grippers: dict[str, Outline]


@cache
def outlines() -> dict[str, Outline]:
    """Return the tool outlines of the package by tool name."""
    text = resources.files("recipes.data").joinpath("grippers.yaml").read_text(encoding="utf-8")
    return parse_text(text, "recipes/data/grippers.yaml").parse(Outlines).grippers


@dataclass(frozen=True)
class Collision:
    """The arm would touch furniture."""

    part: str
    """Link, `hand`, `fingers` or `held part`."""
    fixture: str
    depth: float
    """By how much the free space asked for is missed, m."""
    sample: int
    """Row of the path."""

    def __str__(self) -> str:
        return (
            f"collision with {self.fixture} on the way: {self.part} misses its clearance by {self.depth * 1000:.0f} mm"
        )


def _tool_boxes(tool: str, opening: float) -> tuple[Boxes, Boxes] | None:
    """Hand and fingers in the TCP frame, or None if the tool has no outline."""
    outline = outlines().get(tool)
    if outline is None:
        return None
    # The thick part's depth tapers to the tip's, as the convex hull of a finger does.
    levels = np.linspace(outline.base_end, outline.finger_tip, 5)
    depths = np.linspace(outline.base_depth, outline.finger_depth, 5)
    slabs = [(outline.base_depth, outline.hand_upper[2], outline.base_end)]
    slabs += [(depths[i], levels[i], levels[i + 1]) for i in range(4)]
    fingers = []
    half = outline.finger_width / 2
    for side in (-1.0, 1.0):
        for depth, z0, z1 in slabs:
            y = sorted((side * opening / 2, side * (opening / 2 + depth)))
            fingers.append((np.array([-half, y[0], z0]), np.array([half, y[1], z1])))
    hand = Boxes.of([(np.array(outline.hand_lower), np.array(outline.hand_upper))])
    return hand, Boxes.of(fingers)


def _capsule_points(a: Array, b: Array) -> Array:
    """Points (K, n, m, 3) on the axes of capsules, at most SPACING apart."""
    longest = float(np.linalg.norm(a - b, axis=-1).max(initial=0.0))
    u = np.linspace(0.0, 1.0, max(2, int(np.ceil(longest / SPACING)) + 1))
    return np.asarray(a[:, :, None, :] * (1 - u)[:, None] + b[:, :, None, :] * u[:, None])


def _box_distance(points: Array, T: Array, half: Array) -> Array:
    """Signed distance of points (..., 3) to a box; negative inside."""
    local = np.abs((points - T[:3, 3]) @ T[:3, :3]) - half
    outside = np.linalg.norm(np.maximum(local, 0.0), axis=-1)
    return np.asarray(outside + np.minimum(local.max(axis=-1), 0.0))


def _thin(model: RobotModel, path: Array) -> Array:
    """Rows of the path at which the check looks, so that the TCP moves at most STEP between two of them."""
    poses = model.tcp_path(path)
    where = poses[..., :3, 3] if poses.ndim == 3 else poses[:, :3]
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(where, axis=0), axis=1))])
    count = int(np.clip(np.ceil(length[-1] / STEP) + 1, 5, MAX_SAMPLES))
    rows = np.searchsorted(length, np.linspace(0.0, length[-1], count))
    return np.unique(np.clip(np.concatenate([rows, [0, len(path) - 1]]), 0, len(path) - 1))


@dataclass(frozen=True, eq=False)
class Obstacle:
    """A box to stay clear of."""

    name: str
    T: Array
    """Pose of its centre in the base frame, (4, 4)."""
    half: Array
    """Half its edges, m."""


def fixtures(workcell: Workcell) -> list[Obstacle]:
    """Return the furniture the arm has to stay clear of."""
    return [Obstacle(f.name, matrix(f.pose), np.array(f.size) / 2) for f in workcell.fixtures if f.collide]


def collisions(
    model: RobotModel,
    obstacles: Sequence[Obstacle],
    path: Array,
    opening: float,
    held: PartGeometry | None = None,
) -> list[Collision]:
    """Return, for each pair of body and obstacle that comes too near along path (K, dof), its worst moment."""
    rows = _thin(model, path)
    Q = np.ascontiguousarray(path[rows])
    a, b, radius = model.capsule_paths(Q)
    names = model.capsule_names(None)
    tool = _tool_boxes(model.tool_name, opening)
    # The base link stands on the furniture it is bolted to; the tool's capsules give way to its outline.
    links = [i for i, name in enumerate(names) if i > 0 and not (tool and i >= len(names) - len(model.tool.capsules))]
    bodies: list[tuple[str, Array, float]] = [
        (names[i], _capsule_points(a[:, i : i + 1], b[:, i : i + 1])[:, 0], float(radius[i])) for i in links
    ]
    T = np.array([model.fk(q) for q in Q])
    rigid: list[tuple[str, Array, Boxes, float]] = []
    if tool is not None:
        rigid += [("hand", T, tool[0], TOOL_MARGIN), ("fingers", T, tool[1], TOOL_MARGIN)]
    if held is not None:
        box = Boxes(np.zeros((1, 3)), np.array([held.size]) / 2)
        rigid.append(("held part", T @ _pose(held.T_tcp_part), box, HELD_MARGIN))
    found = []
    everything = np.concatenate([points.reshape(-1, 3) for _, points, _ in bodies] + [T[:, :3, 3]])
    reach = BODY + (float(np.linalg.norm(held.size)) if held is not None else 0.0)
    low, high = everything.min(axis=0) - reach, everything.max(axis=0) + reach
    for obstacle in obstacles:
        if _far(low, high, obstacle):
            continue
        free: list[tuple[str, Array]] = [
            (name, _box_distance(points, obstacle.T, obstacle.half).min(axis=1) - r - LINK_MARGIN)
            for name, points, r in bodies
        ]
        free += [
            (name, separations(T_body, boxes, obstacle.T, obstacle.half).min(axis=1) - margin)
            for name, T_body, boxes, margin in rigid
        ]
        for name, distance in free:
            worst = int(np.argmin(distance))
            # Written so that a NaN is a collision.
            if not distance[worst] >= 0.0:
                found.append(Collision(name, obstacle.name, float(-distance[worst]), int(rows[worst])))
    return found


def _far(low: Array, high: Array, obstacle: Obstacle) -> bool:
    """Whether the obstacle's bounding box lies outside the box (low, high), which encloses every body on its way."""
    reach = np.abs(obstacle.T[:3, :3]) @ obstacle.half
    centre = obstacle.T[:3, 3]
    return bool(((centre + reach < low) | (centre - reach > high)).any())


def _pose(vector: Sequence[float]) -> Array:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(vector[3:]).as_matrix()
    T[:3, 3] = vector[:3]
    return T
