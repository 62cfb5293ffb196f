"""Measured stopping times and ways as the second channel reads them: row by row, plain float64 numpy.

It shares the file (`safety.stopping.StopTable`) with the first channel and none of its calculation. A condition -
joint, speed, extension, load - takes the largest time and way of all rows of its joint that are no faster, no farther
reached out and no heavier than the next measured step above it, so it is never below a neighbour.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robots.model import RobotModel
from robots.rates import RateLimits
from safety.second_arm import ArmError, ArmGeometry, Course
from safety.stopping import StopTable

Array = NDArray[np.float64]

STILL = 0.01
"""A joint that is never faster than this on a course need not be stopped, rad/s."""
PEAK, BEND = 1.01, 1.05
"""What may be missed between two places of a course: of the highest joint speed, and of half the way of the TCP."""


class Stops(NamedTuple):
    """What a table says of one course and load. Without a table `rates` is empty."""

    rates: Array
    """(k,) ascending; each row counts for rates up to its own."""
    times: Array
    """(k,) s, never falling."""
    ways: Array
    """(k,) nominal s at rate 1, never falling."""
    top: float
    """Largest rate that was measured; inf without a table."""

    def of(self, rate: float) -> tuple[float, float]:
        """Time, s, and progress, nominal s, that a stop from a rate takes at least; 0, 0 without a table.

        Beyond the last row that one counts: who permits a rate sees that it is not above `top`.
        """
        if not len(self.rates) or rate <= 0.0:
            return 0.0, 0.0
        k = min(int(np.searchsorted(self.rates, rate)), len(self.rates) - 1)
        return float(self.times[k]), rate * float(self.ways[k])


NOT_MEASURED = Stops(np.empty(0), np.empty(0), np.empty(0), math.inf)


class MeasuredStops:
    """A table made ready for an arm. Immutable but for what it remembers of the last course."""

    def __init__(self, table: StopTable, model: RobotModel, arm: ArmGeometry, limits: RateLimits) -> None:
        """Raises ArmError for a table of another arm, tool or brake, or one with conditions missing."""
        found = (table.model, table.tool, *table.rate_limits.model_dump().values())
        if found != (model.name, model.tool_name, limits.slope_up, limits.slope_down, limits.jerk):
            raise ArmError("the stopping table was measured with another arm, tool or brake")
        rows = table.rows
        self._arm = arm
        self._joint = np.array([row.joint for row in rows])
        self._percent = np.array([row.speed_percent for row in rows])
        self._out = np.array([row.extension_percent for row in rows])
        self._load = np.array([row.load for row in rows])
        self._time = np.array([row.time for row in rows])
        self._way = np.array([row.angle / row.speed for row in rows])
        speed, reached = np.array([row.speed for row in rows]), np.array([row.extension for row in rows])
        steps, outs = np.unique(self._percent), np.unique(self._out)
        kinds = {(row.joint, row.speed_percent, row.extension_percent, row.load) for row in rows}
        if self._joint.max() > arm.dof or len(kinds) != arm.dof * 3 * 3 * len(np.unique(self._load)):
            raise ArmError("the stopping table lacks conditions, or has some of a joint the arm has not")
        # The slowest stop of a step, and the one least reached out: up to there the step was measured.
        self._speeds = [
            [(float(speed[(self._joint == j) & (self._percent == p)].min()), int(p)) for p in steps]
            for j in range(1, arm.dof + 1)
        ]
        self._reaches = [(float(reached[self._out == p].min()), int(p)) for p in outs]
        if any(sorted(column) != column for column in (*self._speeds, self._reaches)):
            raise ArmError("the steps of speed or extension of the stopping table do not rise")
        self._kept: dict[bool, tuple[Course, float, Stops]] = {}

    @property
    def longest(self) -> tuple[float, float]:
        """Longest time, s, and longest way per speed, s: for movement whose condition is not known."""
        return float(self._time.max()), float(self._way.max())

    def along(self, course: Course, load: float, strict: bool) -> Stops:
        """Stops on a course with a load, kg; strict: with what may be missed between two of its places.

        Raises ArmError for an extension or load beyond the table.
        """
        kept = self._kept.get(strict)
        if kept is not None and kept[0] is course and kept[1] == load:
            return kept[2]
        stops = self._work_out(course, load, strict)
        self._kept[strict] = (course, load, stops)
        return stops

    def _work_out(self, course: Course, load: float, strict: bool) -> Stops:
        tips = self._arm.tips(course.table)
        reach = float(np.linalg.norm(tips - self._arm.shoulder(course.table), axis=1).max())
        if strict:
            reach += 0.5 * BEND * float(np.linalg.norm(np.diff(tips, axis=0), axis=1).max(initial=0.0))
        out = next((p for up_to, p in self._reaches if reach <= up_to), None)
        heavy = self._load[self._load >= load]
        if out is None:
            raise ArmError(f"the arm reaches out {reach:.2f} m, farther than stopping was measured")
        if not len(heavy):
            raise ArmError(f"a load of {load:g} kg is carried, more than stopping was measured with")
        covered = (self._out <= out) & (self._load <= heavy.min())
        peaks = course.peak * (PEAK if strict else 1.0)
        steps: list[tuple[float, float, float]] = []
        for j, peak in enumerate(peaks.tolist()):
            if peak < STILL:
                continue
            for up_to, p in self._speeds[j]:
                mine = covered & (self._joint == j + 1) & (self._percent <= p)
                steps.append((up_to / peak, float(self._time[mine].max()), float(self._way[mine].max())))
        top = min((self._speeds[j][-1][0] / peak for j, peak in enumerate(peaks) if peak >= STILL), default=1.0)
        return _stairs(steps, len(self._speeds[0]), min(1.0, top))


def _stairs(steps: list[tuple[float, float, float]], each: int, top: float) -> Stops:
    """Of several joints' rows (rate up to which, time, way), `each` a joint and rising: the largest at every rate."""
    rates = sorted({rate for rate, _, _ in steps if rate < top} | {top})
    times, ways = [], []
    for rate in rates:
        at = [
            next((row for row in steps[k : k + each] if row[0] >= rate * (1.0 - 1e-12)), steps[k + each - 1])
            for k in range(0, len(steps), each)
        ]
        times.append(max((row[1] for row in at), default=0.0))
        ways.append(max((row[2] for row in at), default=0.0))
    return Stops(np.array(rates), np.array(times), np.array(ways), top)
