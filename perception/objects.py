"""Objects in one depth picture: everything that is not background, split at steps in depth. Camera frame: x right,
y down, z forward; m."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from perception.contract import Intrinsics

U16 = NDArray[np.uint16]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
STEP = 0.04
"""Neighbouring pixels farther apart than this and the grade of the depth belong to different objects, m."""
STEP_GROWTH = 0.01
"""The grade of stereo and structured-light depth grows with the square of the distance, 1/m: 1 cm at 1 m, as a Kinect
at 4 m (16 cm) and worse than a D435 (60 mm at 4 m, 1 sigma)."""
LEAST_PIXELS = 40
"""What is smaller is no object but scatter. It still counts as points."""
BACKGROUND_SIGMAS = 4.0
"""A target nearer than the background by fewer standard deviations cannot be told from noise."""
NOISE = 0.0038
"""Standard deviation of depth = NOISE * z^2, 1/m: a D435 at 848 x 480 (subpixel 0.08)."""


class Thing(NamedTuple):
    """One object."""

    position: tuple[float, float, float]
    """Centroid of its visible points."""
    extent: tuple[float, float, float]
    """Edges of the box round its visible points."""
    distance: float
    """From the camera to `position`."""
    nearest: float
    """From the camera to its nearest point."""
    points: int
    box: tuple[int, int, int, int]
    """Pixels: left, top, right, bottom, the last two included."""
    label: int
    """In `Segmented.labels`."""


class Segmented(NamedTuple):
    """A picture taken apart."""

    labels: I32
    """(height, width): number of the object, 0 for background, scatter and unknown."""
    things: list[Thing]
    """Nearest first."""
    points: int
    """Pixels with depth that are not background, scatter included."""
    invalid: int
    """Pixels without depth: unknown, never free."""
    nearest: float | None
    """Distance of the nearest point of all, m; None without any."""


def foreground(depth: U16, background: U16 | None) -> NDArray[np.bool_]:
    """Pixels (h, w) with depth that are nearer than the background by more than noise; all of them without one.

    Where the background has no depth, nothing is known to be background. Raises ValueError for another size.
    """
    there = depth > 0
    if background is None:
        return there
    if background.shape != depth.shape:
        raise ValueError(f"the background has {background.shape[::-1]} pixels, the picture {depth.shape[::-1]}")
    z = background.astype(np.float64) / 1000.0
    least = 1000.0 * np.maximum(BACKGROUND_SIGMAS * NOISE * z * z, 0.02)
    return there & ((background == 0) | (depth < background - least))


def points_of(depth: U16, camera: Intrinsics) -> F32:
    """(h, w, 3) points in the camera frame, m; where the depth is 0 they are 0 and mean nothing."""
    z = depth.astype(np.float32) / np.float32(1000.0)
    x = (np.arange(camera.width, dtype=np.float32) - np.float32(camera.cx)) / np.float32(camera.fx)
    y = (np.arange(camera.height, dtype=np.float32) - np.float32(camera.cy)) / np.float32(camera.fy)
    return np.stack([x[None, :] * z, y[:, None] * z, z], axis=2)


def segment(depth: U16, camera: Intrinsics, background: U16 | None = None) -> Segmented:
    """Take a picture (h, w), mm, apart. Raises ValueError if picture, camera and background do not fit together."""
    if depth.shape != (camera.height, camera.width):
        raise ValueError(f"the picture has {depth.shape[::-1]} pixels, the camera {(camera.width, camera.height)}")
    mask = foreground(depth, background)
    cloud = points_of(depth, camera)
    labels = _components(depth, mask)
    things = _things(labels, mask, cloud)
    order = {thing.label: n for n, thing in enumerate(things, start=1)}
    renumbered = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    for label, n in order.items():
        renumbered[label] = n
    things = [thing._replace(label=order[thing.label]) for thing in things]
    ranges = np.linalg.norm(cloud[mask], axis=1)
    nearest = float(ranges.min()) if len(ranges) else None
    return Segmented(renumbered[labels], things, int(mask.sum()), int((depth == 0).sum()), nearest)


def _components(depth: U16, mask: NDArray[np.bool_]) -> I32:
    """(h, w) numbers of connected pixels from 1; 0 outside the mask. Four neighbours, joined if depth has no step."""
    number = np.full(depth.shape, -1, np.int64)
    count = int(mask.sum())
    number[mask] = np.arange(count)
    z = depth.astype(np.float32) / np.float32(1000.0)
    pairs = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        limit = STEP + STEP_GROWTH * np.minimum(z[a], z[b]) ** 2
        joined = mask[a] & mask[b] & (np.abs(z[a] - z[b]) <= limit)
        pairs.append(np.stack([number[a][joined], number[b][joined]]))
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    labels = np.zeros(depth.shape, np.int32)
    labels[mask] = component + 1
    return labels


def _things(labels: I32, mask: NDArray[np.bool_], cloud: F32) -> list[Thing]:
    sizes = np.bincount(labels[mask]) if mask.any() else np.zeros(1, np.int64)
    found = []
    for label in np.flatnonzero(sizes >= LEAST_PIXELS):
        v, u = np.nonzero(labels == label)
        points = cloud[v, u].astype(np.float64)
        centre = points.mean(axis=0)
        edges = points.max(axis=0) - points.min(axis=0)
        found.append(
            Thing(
                (float(centre[0]), float(centre[1]), float(centre[2])),
                (float(edges[0]), float(edges[1]), float(edges[2])),
                float(np.linalg.norm(centre)),
                float(np.linalg.norm(points, axis=1).min()),
                len(points),
                (int(u.min()), int(v.min()), int(u.max()), int(v.max())),
                int(label),
            )
        )
    return sorted(found, key=lambda thing: thing.nearest)
