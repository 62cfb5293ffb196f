"""Stops every condition some ten times and keeps the worst: rows of a stopping table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.stoptest.rig import Rig, RigError, Stopped
from cell.stoptest.sweeps import NoSweep, Sweep, motion, plateau, sweeps, transit
from recipes.clearance import Obstacle
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import RateLimits
from safety.stopping import StopRow, extension

UP_TO_SPEED = 0.97
"""A stop counts only from at least this share of the speed that was meant."""


class Planned(NamedTuple):
    """One condition, ready to be driven: nothing is computed while the drives wait."""

    sweep: Sweep
    approach: list[Motion]
    """From where the condition before ended to the beginning of the sweep."""
    there: Motion
    back: Motion


def plan(
    model: RobotModel,
    obstacles: Sequence[Obstacle],
    home: NDArray[np.float64],
    joints: Sequence[int],
    limits: RateLimits,
) -> tuple[list[Planned], list[Motion]]:
    """Return all conditions of the joints (from 0) in order, and the way home at the end.

    Between postures the arm goes by way of the rest pose, from which all were found free. Raises NoSweep.
    """
    planned: list[Planned] = []
    at, posture = home, (-1, -1)
    for n, sweep in enumerate(sweeps(model, obstacles, home, joints, limits)):
        stations = [sweep.start]
        if posture != (sweep.joint, sweep.extension_percent):
            stations = [home, sweep.start]
        approach = []
        for station in stations:
            approach += _transit(model, obstacles, at, station)
            at = station
        posture = (sweep.joint, sweep.extension_percent)
        there, back = (motion(model, sweep, b, limits, f"sweep-{n}-{b:d}") for b in (False, True))
        planned.append(Planned(sweep, approach, there, back))
    return planned, _transit(model, obstacles, at, home)


def _transit(
    model: RobotModel, obstacles: Sequence[Obstacle], at: NDArray[np.float64], to: NDArray[np.float64]
) -> list[Motion]:
    if float(np.abs(at - to).max()) < 1e-6:
        return []
    way = transit(model, obstacles, at, to)
    if way is None:
        raise NoSweep("the way from one posture to the next is not free")
    return [way]


class Measurement:
    """The whole test on one rig, whose arm stands at the beginning of the plan."""

    def __init__(self, rig: Rig, planned: Sequence[Planned], home: Sequence[Motion]) -> None:
        self._rig = rig
        self._planned = planned
        self._home = home
        self._number = 0

    def rows(self, stops: int, load: float, progress: Callable[[Sweep, int], None]) -> Iterator[StopRow]:
        """Yield a row for each condition. `progress` is told the sweep and how many of its stops are done.

        Raises RigError."""
        for one in self._planned:
            self._drive(one.approach)
            sweep = one.sweep
            found: list[Stopped] = []
            for n in range(stops + stops % 2):
                found.append(self._one(one, n, stops))
                progress(sweep, n + 1)
            yield StopRow(
                joint=sweep.joint + 1, speed_percent=sweep.speed_percent, extension_percent=sweep.extension_percent,
                load=load, speed=round(min(s.speed for s in found), 4), stops=len(found),
                extension=round(min(s.extension for s in found), 4), time=_up(max(s.time for s in found)),
                angle=_up(max(s.angle for s in found)),
            )  # fmt: skip
        self._drive(self._home)

    def _drive(self, ways: Sequence[Motion]) -> None:
        for way in ways:
            self._rig.go(way)
            self._rig.finish()

    def _one(self, planned: Planned, n: int, stops: int) -> Stopped:
        """One sweep to or fro with a stop on the plateau, each a little later than the one before."""
        rig, model, sweep = self._rig, self._rig.model, planned.sweep
        self._number += 1
        way = replace(planned.back if n % 2 else planned.there, motion_id=f"stop-{self._number}")
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
