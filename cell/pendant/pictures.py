"""Pictures the server draws: a plan of the cell with the places of a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from recipes.expand import read_recipe
from robots.urdf import transform
from robots.workcell import Pose, Workcell

Image = NDArray[np.uint8]
WIDTH, HEIGHT = 480, 300
MARGIN = 0.12
"""Of the plan round the fixtures, m."""
BACKGROUND = (250, 248, 246)
PLACE, USED, PATH, BASE = (196, 190, 184), (40, 120, 220), (170, 140, 90), (90, 90, 90)
TALL = 1.0
"""Fixtures higher than this are guards and walls; they are not part of a plan of the table, m."""


class _Plan:
    """Scale from the base frame to pixels: x to the right, y up."""

    def __init__(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> None:
        span = np.maximum(upper - lower, 0.1)
        self.scale = float(min(WIDTH / span[0], HEIGHT / span[1]))
        self.middle = (lower + upper) / 2.0
        self.image: Image = np.full((HEIGHT, WIDTH, 3), BACKGROUND, dtype=np.uint8)

    def pixel(self, point: Any) -> tuple[int, int]:
        """Of a point in the base frame, m."""
        x, y = (np.asarray(point, dtype=np.float64)[:2] - self.middle) * self.scale
        return round(WIDTH / 2 + x), round(HEIGHT / 2 - y)


def pose_matrix(pose: Pose) -> NDArray[np.float64]:
    """A pose of the cell file as a matrix (4, 4)."""
    roll, pitch, yaw = (float(np.radians(v)) for v in pose.rpy_deg)
    return transform(pose.position, (roll, pitch, yaw))


def plan_of(workcell: Workcell, places: list[tuple[float, float]]) -> Image:
    """Draw fixtures, the places of all patterns, and the way between `places` (x, y in the base frame, m)."""
    shown = [fixture for fixture in workcell.fixtures if fixture.size[2] <= TALL and fixture.visible]
    corners = [np.array(_corners(f.size, f.pose)) for f in shown] or [np.array([[-0.5, -0.5], [0.5, 0.5]])]
    near = [c for c in corners if np.ptp(c, axis=0).max() < 1.6] or corners
    stack = np.vstack([*near, np.zeros((1, 2))])
    plan = _Plan(stack.min(axis=0) - MARGIN, stack.max(axis=0) + MARGIN)
    for fixture, outline in zip(shown, corners, strict=True):
        colour = tuple(int(255 * v) for v in reversed(fixture.colour))
        polygon = np.array([plan.pixel(c) for c in outline], dtype=np.int32)
        cv2.fillPoly(plan.image, [polygon], colour, cv2.LINE_AA)
    for name in workcell.patterns:
        for place in pattern_places(workcell, name):
            cv2.circle(plan.image, plan.pixel(place), 5, PLACE, 1, cv2.LINE_AA)
    cv2.circle(plan.image, plan.pixel((0.0, 0.0)), 16, BASE, 2, cv2.LINE_AA)
    points = [plan.pixel(place) for place in places]
    for a, b in itertools.pairwise(points):
        cv2.line(plan.image, a, b, PATH, 1, cv2.LINE_AA)
    for point in points:
        cv2.circle(plan.image, point, 5, USED, -1, cv2.LINE_AA)
    return plan.image


def _corners(size: tuple[float, float, float], pose: Pose) -> list[tuple[float, float]]:
    T = pose_matrix(pose)
    ends = [(sx * size[0] / 2, sy * size[1] / 2, 0.0, 1.0) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return [(float(p[0]), float(p[1])) for p in (T @ np.array(end) for end in ends)]


def pattern_places(workcell: Workcell, name: str) -> list[tuple[float, float]]:
    """Places of a pattern, x and y in the base frame, m."""
    pattern = workcell.patterns[name]
    T = pose_matrix(workcell.frames[pattern.frame])
    found = [T @ np.array([*pattern.place(i), 1.0]) for i in range(pattern.count)]
    return [(float(p[0]), float(p[1])) for p in found]


def recipe_picture(workcell: Workcell, text: str) -> bytes:
    """Return the plan of a recipe as PNG. Raises FileErrors."""
    loaded, _ = read_recipe(text)
    names = list(_named(loaded.document.data.get("operations")))
    places: list[tuple[float, float]] = []
    for name in names:
        if name in workcell.patterns:
            places += pattern_places(workcell, name)
        elif name in workcell.frames:
            position = workcell.frames[name].position
            places.append((position[0], position[1]))
    return png(plan_of(workcell, places[:60]))


def _named(value: Any) -> Iterator[str]:
    """All texts in a recipe's operations, in their order: frames and patterns are among them."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)
    elif isinstance(value, str):
        yield value


def png(image: Image) -> bytes:
    """Encode a picture (BGR)."""
    ok, data = cv2.imencode(".png", image)
    if not ok:
        raise ValueError("the picture cannot be encoded")
    return bytes(data)
