"""Oriented boxes against oriented boxes, many at once: the separating axis test. m."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARALLEL = 1e-9
"""Squared sine below which two edges count as parallel: their cross product is then no axis of its own."""


class Boxes(NamedTuple):
    """Boxes fixed to one rigid body, their edges along the body's axes."""

    centre: Array
    """(B, 3) in the body's frame."""
    half: Array
    """(B, 3) half edges."""

    @staticmethod
    def of(corners: list[tuple[Array, Array]]) -> Boxes:
        """Build from lower and upper corners."""
        lower, upper = np.array([c[0] for c in corners]), np.array([c[1] for c in corners])
        return Boxes((lower + upper) / 2, (upper - lower) / 2)


def separations(T_body: Array, boxes: Boxes, T_box: Array, half: Array) -> Array:
    """Return how far apart each of `boxes` is from one box, (K, B).

    Positive: they are disjoint, and at least so far apart. Negative: they overlap by that much along the axis that
    takes least to part them. The 15 axes of the test are the normals of both boxes and the cross products of their
    edges (S. Gottschalk, M. C. Lin, D. Manocha, OBBTree, SIGGRAPH 1996).

    Args:
        T_body: (K, 4, 4) poses of the body.
        boxes: its boxes.
        T_box: (4, 4) pose of the other box.
        half: (3,) its half edges.
    """
    R = np.einsum("kji,jl->kil", T_body[:, :3, :3], T_box[:3, :3])
    offset = np.einsum("kji,kj->ki", T_body[:, :3, :3], T_box[:3, 3] - T_body[:, :3, 3])
    t = offset[:, None, :] - boxes.centre
    A = np.abs(R)
    a = boxes.half
    best = (np.abs(t) - (a + np.einsum("kij,j->ki", A, half)[:, None, :])).max(axis=2)
    along = np.abs(np.einsum("kbi,kij->kbj", t, R)) - (half + np.einsum("bi,kij->kbj", a, A))
    best = np.maximum(best, along.max(axis=2))
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            j1, j2 = (j + 1) % 3, (j + 2) % 3
            square = 1.0 - R[:, i, j] ** 2
            reach = a[:, i1] * A[:, i2, j, None] + a[:, i2] * A[:, i1, j, None]
            reach = reach + (half[j1] * A[:, i, j2] + half[j2] * A[:, i, j1])[:, None]
            gap = np.abs(t[:, :, i2] * R[:, i1, j, None] - t[:, :, i1] * R[:, i2, j, None]) - reach
            length = np.sqrt(np.maximum(square, PARALLEL))[:, None]
            best = np.where((square > PARALLEL)[:, None], np.maximum(best, gap / length), best)
    return np.asarray(best)
