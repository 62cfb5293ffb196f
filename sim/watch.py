"""What has changed in the world since the last look."""

from __future__ import annotations

import math

Places = dict[str, tuple[float, float, float]]
REST = 0.002
"""A part that moved less than this since the last look is at rest, m."""
_FAR = (1e3, 0.0, 0.0)


class Watch:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self._settled: Places = {}
        self._reported: Places = {}
        self._touching: set[tuple[str, str]] = set()

    def moved(self, places: Places, held: bool) -> bool:
        """Have parts come to rest somewhere else than was last reported? While one is `held` nothing is at rest."""
        resting = all(math.dist(at, self._settled.get(name, at)) < REST for name, at in places.items())
        moved = any(math.dist(at, self._reported.get(name, _FAR)) > 2 * REST for name, at in places.items())
        self._settled = places
        if not (resting and moved) or held:
            return False
        self._reported = places
        return True

    def begun(self, touching: set[tuple[str, str]]) -> list[tuple[str, str]]:
        """Pairs that touch now and did not at the last look, sorted."""
        begun = sorted(touching - self._touching)
        self._touching = touching
        return begun
