"""Measured stopping times and distances, in the conditions of ISO 10218-1:2011, Annex B: joint, speed, load, extension.

A table holds the worst of at least ten stops in each condition. Between conditions nothing is interpolated: a condition
takes the largest value of all measured ones that are no faster, no heavier and no farther reached out than the next
measured step above it. So the value is never below that of a neighbour, and grows with speed, load and extension. What
lies beyond the table is refused or, for the speed, limited.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from cell.yamlfile import load_yaml
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import RateLimits
from robots.workcell import Name, Strict

F64 = NDArray[np.float64]
Percent = Literal[33, 66, 100]
PERCENT: tuple[Percent, ...] = (33, 66, 100)
"""Steps of speed and extension, % of the largest."""
LEAST_STOPS = 10
MOVES = 0.01
"""A joint slower than this on a motion, rad/s, is not stopped."""
SHOULDER = 2
"""Extension is the distance of the TCP from the origin of this joint's frame."""
ROWS = 400
"""Samples of a motion at which its extension is looked for."""

Positive = Annotated[float, Field(gt=0.0, le=100.0, allow_inf_nan=False)]


class StoppingError(ValueError):
    """A table that does not fit the arm, or a condition beyond it."""


class StopRow(Strict):
    """Worst of several stops of one joint in one condition."""

    joint: Annotated[int, Field(ge=1, le=12)]
    speed_percent: Percent
    extension_percent: Percent
    load: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]
    """kg, besides the tool."""
    speed: Positive
    """Of the joint at the command to stop, the slowest of the stops, rad/s."""
    extension: Positive
    """Distance of the TCP from the shoulder at the command, the smallest of the stops, m."""
    stops: Annotated[int, Field(ge=LEAST_STOPS)]
    time: Positive
    """From the command to standstill of all joints, the longest, s."""
    angle: Positive
    """Way of the joint until then, the longest, rad."""


class StopLimits(Strict):
    """How the robot node brakes on the path: part of the condition."""

    slope_up: Positive
    slope_down: Positive
    jerk: Annotated[float, Field(gt=0.0, le=1e4, allow_inf_nan=False)]


class StopTable(Strict):
    """One file of `cell robots stop-test`."""

    title: Annotated[str, Field(min_length=1, max_length=120)]
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    model: Name
    tool: Name
    driver: Name
    simulation_only: bool
    rate_limits: StopLimits
    rows: Annotated[list[StopRow], Field(min_length=1)]

    @model_validator(mode="after")
    def _once(self) -> StopTable:
        seen: set[tuple[int, int, int, float]] = set()
        for row in self.rows:
            condition = (row.joint, row.speed_percent, row.extension_percent, row.load)
            if condition in seen:
                raise ValueError(f"joint {row.joint}, {row.speed_percent} % speed is given twice for one condition")
            seen.add(condition)
        return self


def load_table(path: Path) -> StopTable:
    """Read a table. Raises FileErrors with every fault."""
    return load_yaml(path, StopTable)


def table_fingerprint(path: Path) -> str:
    """SHA-256 (hex) of the file, as the safety configuration names it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def extension(model: RobotModel, q: ArrayLike) -> float:
    """Return the distance of the TCP from the shoulder at q (dof,), m."""
    shoulder = model.frames(q)[1][min(SHOULDER, model.dof)]
    return float(np.linalg.norm(model.fk(q)[:3, 3] - shoulder))


class Stops(NamedTuple):
    """What a table says of one motion."""

    rows: F64
    """(k, 3) rate, time (s), way (nominal s at rate 1): up to that rate the arm stands within `time` and rate * way.
    Rates, times and ways do not fall from row to row."""
    top: float
    """Largest rate that was measured, at most 1."""


class Stopping:
    """A table made ready for an arm. Immutable but for what it remembers of the last motion."""

    def __init__(self, table: StopTable, model: RobotModel, limits: RateLimits, driver: str) -> None:
        """Raises StoppingError for a table of another arm, tool, driver or brake, or one with conditions missing."""
        for what, found, wanted in (
            ("arm", table.model, model.name),
            ("tool", table.tool, model.tool_name),
            ("driver", table.driver, driver),
            ("slope_up", table.rate_limits.slope_up, limits.slope_up),
            ("slope_down", table.rate_limits.slope_down, limits.slope_down),
            ("jerk", table.rate_limits.jerk, limits.jerk),
        ):
            if found != wanted:
                raise StoppingError(f"the stopping table was measured with {what} {found}, this cell has {wanted}")
        self.table = table
        self._model = model
        self.loads = sorted({row.load for row in table.rows})
        """kg, measured."""
        shape = (model.dof, len(PERCENT), len(PERCENT), len(self.loads))
        time, way = np.full(shape, np.nan), np.full(shape, np.nan)
        speed, reached = np.full(shape, np.nan), np.full(shape, np.nan)
        for row in table.rows:
            if row.joint > model.dof:
                raise StoppingError(f"the stopping table has a joint {row.joint}, the arm {model.dof} joints")
            at = (row.joint - 1, PERCENT.index(row.speed_percent), PERCENT.index(row.extension_percent),
                  self.loads.index(row.load))  # fmt: skip
            time[at], way[at], speed[at], reached[at] = row.time, row.angle / row.speed, row.speed, row.extension
        missing = np.argwhere(np.isnan(time))
        if len(missing):
            j, s, e, m = (int(v) for v in missing[0])
            raise StoppingError(
                f"the stopping table lacks {len(missing)} conditions, first joint {j + 1} at {PERCENT[s]} % speed, "
                f"{PERCENT[e]} % extension, {self.loads[m]:g} kg"
            )
        self._speed: F64 = speed.min(axis=(2, 3))
        """(dof, 3) speed up to which each step counts."""
        self.extensions: F64 = reached.min(axis=(0, 1, 3))
        """(3,) the same for the extension, m."""
        if not ((np.diff(self._speed, axis=1) > 0.0).all() and (np.diff(self.extensions) > 0.0).all()):
            raise StoppingError("the steps of speed or extension of the stopping table do not rise")
        for axis in (1, 2, 3):
            time, way = np.maximum.accumulate(time, axis), np.maximum.accumulate(way, axis)
        self._time, self._way = time, way
        self._kept: tuple[str, float, float, Stops] | None = None

    @property
    def longest(self) -> float:
        """Longest time of the table, s: for movement whose condition is not known."""
        return float(self._time.max())

    def stop(self, joint: int, speed: float, reached: float, load: float) -> tuple[float, float]:
        """Return time (s) and way (rad) of a stop of `joint` (from 0) from a speed (rad/s, its size counts), extension
        (m) and load (kg). Raises StoppingError beyond the table, and for what is no number."""
        e, m = self._place(reached, load)
        s = _step(abs(speed), self._speed[joint])
        if s < 0:
            raise StoppingError(
                f"joint {joint + 1} at {speed:.2f} rad/s: stopping was measured up to {self._speed[joint, -1]:.2f}"
            )
        return float(self._time[joint, s, e, m]), abs(speed) * float(self._way[joint, s, e, m])

    def _place(self, reached: float, load: float) -> tuple[int, int]:
        e, m = _step(reached, self.extensions), _step(load, np.asarray(self.loads))
        if e < 0:
            raise StoppingError(
                f"the arm reaches out {reached:.2f} m, stopping was measured up to {self.extensions[-1]:.2f}"
            )
        if m < 0:
            raise StoppingError(f"a load of {load:g} kg is carried, stopping was measured up to {self.loads[-1]:g} kg")
        return e, m

    def along(self, motion: Motion, load: float) -> Stops:
        """Return the stops of a motion with a load, kg. Raises StoppingError for conditions beyond the table."""
        kept = self._kept
        if kept is not None and kept[0] == motion.motion_id and kept[1] == motion.duration and kept[2] == load:
            return kept[3]
        e, m = self._place(self._farthest(motion), load)
        peak = np.asarray(motion.peak_velocity, float)
        joints = [j for j in range(self._model.dof) if not peak[j] < MOVES]
        top = min((float(self._speed[j, -1]) / peak[j] for j in joints), default=1.0)
        rates = {min(1.0, top)}
        rates |= {r for j in joints for r in (float(v) / peak[j] for v in self._speed[j]) if r < min(1.0, top)}
        rows = []
        for rate in sorted(rates):
            # A hair below, so that the step that ends at this very rate is the one that counts.
            steps = [(j, _step(rate * peak[j] * (1.0 - 1e-12), self._speed[j])) for j in joints]
            time = max((float(self._time[j, s, e, m]) for j, s in steps), default=0.0)
            way = max((float(self._way[j, s, e, m]) for j, s in steps), default=0.0)
            rows.append((rate, time, way))
        stops = Stops(np.asarray(rows), float(min(1.0, top)))
        self._kept = (motion.motion_id, motion.duration, load, stops)
        return stops

    def _farthest(self, motion: Motion) -> float:
        """Upper bound of the extension on a motion, m: the farthest sample and the largest step between two."""
        rows = np.unique(np.linspace(0, len(motion.path) - 1, min(ROWS, len(motion.path))).astype(int))
        reached = np.array([extension(self._model, motion.path[k]) for k in rows])
        return float(reached.max() + np.abs(np.diff(reached)).max(initial=0.0))


def _step(value: float, covers: F64) -> int:
    """Number of the first step that covers a value; -1 if none does, or it is no number."""
    if not (math.isfinite(value) and value >= 0.0):
        return -1
    k = int(np.searchsorted(covers, value))
    return k if k < len(covers) else -1
