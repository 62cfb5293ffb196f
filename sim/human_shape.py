"""A person as convex parts, one a body segment, for the referee and the fallback renderer."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from sim.body import Body, dominant_bone, load_body, segment_of

F64 = NDArray[np.float64]


class Segment(NamedTuple):
    """Convex hull of a body segment, rigid with one bone."""

    name: str
    bone: int
    vertices: F64
    """(n, 3) in the bone's frame, m."""
    faces: NDArray[np.int32]
    skin: NDArray[np.int64]
    """Vertices of the body that belong to the segment, in farthest-point order where they are among `Body.spread`."""


@functools.lru_cache(maxsize=4)
def _segments(name: str) -> tuple[Segment, ...]:
    body = load_body(name)
    names = segment_of(body)
    of_vertex = np.array([names[bone] for bone in dominant_bone(body)])
    result = []
    for segment in sorted(set(names)):
        members = np.flatnonzero(of_vertex == segment)
        if len(members) < 10:
            continue
        # The bone that carries most of the segment's vertices carries the hull.
        bone = int(np.bincount(dominant_bone(body)[members]).argmax())
        points = body.vertices[members].astype(np.float64) - body.heads[bone]
        hull = ConvexHull(points)
        corners = hull.vertices
        renumber = np.full(len(points), -1)
        renumber[corners] = np.arange(len(corners))
        spread = body.spread[np.isin(body.spread, members)]
        result.append(Segment(segment, bone, points[corners], renumber[hull.simplices].astype(np.int32), spread))
    return tuple(result)


def segments(body: Body) -> tuple[Segment, ...]:
    """Convex parts of a body."""
    return _segments(body.name)
