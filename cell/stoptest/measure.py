"""Stops every condition some ten times and keeps the worst: rows of a stopping table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cell.stoptest.rig import Rig, RigError, Stopped
from cell.stoptest.sweeps import Sweep, motion, plateau, sweeps, transit
from recipes.clearance import Obstacle
from robots.rates import RateLimits
from safety.stopping import StopRow, extension

UP_TO_SPEED = 0.97
"""A stop counts only from at least this share of the speed that was meant."""


class Measurement:
    """The whole test on one rig; `rows` yields one condition after the other."""

    def __init__(self, rig: Rig, obstacles: Sequence[Obstacle], home: NDArray[np.float64], limits: RateLimits) -> None:
        self._rig = rig
        self._obstacles = obstacles
        self._home = home
        self._limits = limits
        self._number = 0
        self._joint = -1
        self._extension = -1

    def rows(
        self, joints: Sequence[int], stops: int, load: float, progress: Callable[[Sweep, int], None]
    ) -> Iterator[StopRow]:
        """Yield the rows of the joints (from 0). `progress` is told the sweep and how many of its stops are done.

        Raises NoSweep, RigError.
        """
        for sweep in sweeps(self._rig.model, self._obstacles, self._home, joints, self._limits):
            self._approach(sweep)
            found: list[Stopped] = []
            for n in range(stops + stops % 2):
                found.append(self._one(sweep, n, stops))
                progress(sweep, n + 1)
            yield StopRow(
                joint=sweep.joint + 1, speed_percent=sweep.speed_percent, extension_percent=sweep.extension_percent,
                load=load, speed=round(min(s.speed for s in found), 4), stops=len(found),
                extension=round(min(s.extension for s in found), 4), time=_up(max(s.time for s in found)),
                angle=_up(max(s.angle for s in found)),
            )  # fmt: skip
        self._move(self._home)

    def _approach(self, sweep: Sweep) -> None:
        """To the beginning of a sweep; between postures by way of the rest pose, from which all were found free."""
        if (self._joint, self._extension) != (sweep.joint, sweep.extension_percent):
            self._move(self._home)
        self._joint, self._extension = sweep.joint, sweep.extension_percent
        self._move(sweep.start)

    def _move(self, to: NDArray[np.float64]) -> None:
        at = np.array(self._rig.state.q_commanded)
        if float(np.abs(at - to).max()) < 1e-6:
            return
        way = transit(self._rig.model, self._obstacles, at, to)
        if way is None:
            raise RigError("the way to the next posture is not free: move the arm to its rest pose and start again")
        self._rig.go(way)
        self._rig.finish()

    def _one(self, sweep: Sweep, n: int, stops: int) -> Stopped:
        """One sweep to or fro with a stop on the plateau, each a little later than the one before."""
        rig, model = self._rig, self._rig.model
        self._number += 1
        way = motion(model, sweep, n % 2 == 1, self._limits, f"stop-{self._number}")
        begins, lasts = plateau(model, sweep)
        rig.go(way, begins + 0.3 * lasts * (n // 2) / max(1, stops // 2) + 0.05 * lasts)
        stopped = rig.stop(sweep.joint, lambda q: extension(model, q))
        rig.finish()
        if not stopped.speed >= UP_TO_SPEED * sweep.speed:
            raise RigError(
                f"joint {sweep.joint + 1} came to {stopped.speed:.2f} rad/s instead of {sweep.speed:.2f}: see that no "
                "override or speed limit is set in the vendor's controller"
            )
        return stopped


def _up(value: float) -> float:
    """Rounded up to four places."""
    return float(np.ceil(value * 1e4 - 1e-9) / 1e4)
