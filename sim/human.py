"""People of the twin: the pose of each is a function of time and seed alone and can be asked for at any time."""

from __future__ import annotations

import math

import numpy as np

from sim import body as b
from sim.behaviour import choreograph
from sim.body import Body, load_body
from sim.config import Person, Scenario
from sim.retarget import RATE
from sim.rotations import F64

SWAY = 0.003
"""A standing person is never quite still: amplitude of the pelvis, m."""


class Human:
    """One person. Thread-safe: nothing changes after construction."""

    def __init__(self, person: Person, floor: float, seed: int) -> None:
        """`floor`: its height in the base frame, m. Raises ClipError."""
        self.name = person.name
        self.body: Body = load_body(person.body)
        run = choreograph(person, floor)
        frames = run.frames()
        self._roots = np.ascontiguousarray(frames.roots + np.array([0.0, 0.0, floor]))
        self._rotations = np.ascontiguousarray(frames.rotations)
        self._loop_from = run.loop_from
        rng = np.random.default_rng([seed, *person.name.encode()])
        self._sway_phase: list[float] = rng.uniform(0.0, 2.0 * math.pi, 2).tolist()
        self._sway_rate: list[float] = rng.uniform(1.2, 2.2, 2).tolist()

    @property
    def duration(self) -> float:
        """Time until the run repeats or its last pose is held, s."""
        return (len(self._roots) - 1) / RATE

    def _frame_at(self, t: float) -> tuple[int, int, float]:
        if not math.isfinite(t):
            raise ValueError("time must be finite")
        last = len(self._roots) - 1
        at = max(t, 0.0) * RATE
        if self._loop_from is not None and at > last:
            at = self._loop_from + (at - self._loop_from) % (last - self._loop_from)
        at = min(at, float(last))
        low = min(int(at), max(last - 1, 0))
        return low, min(low + 1, last), at - low

    def pose(self, t: float) -> tuple[F64, F64]:
        """Root position (3,) in the base frame and local rotations (16, 4) at time `t`, s (before 0: the start)."""
        root, rotations = np.empty(3), np.empty((b.DRIVEN, 4))
        low, high, part = self._frame_at(t)
        b.pose_at(self._roots, self._rotations, low, high, part, root, rotations)
        root[:2] += self._sway(t)
        return root, rotations

    def _sway(self, t: float) -> tuple[float, float]:
        x, y = (SWAY * math.sin(r * t + p) for r, p in zip(self._sway_rate, self._sway_phase, strict=True))
        return x, y

    def bones_row(self, times: list[float]) -> F64:
        """`bones` at each of n times: (n, 104, 3, 4)."""
        frames = [self._frame_at(t) for t in times]
        low, high = np.array([f[0] for f in frames]), np.array([f[1] for f in frames])
        part = np.array([f[2] for f in frames])
        sway = np.array([self._sway(t) for t in times])
        return b.transforms_row(self.body, self._roots, self._rotations, low, high, part, sway)

    def bones(self, t: float) -> F64:
        """World transforms (104, 3, 4) of all bones in the base frame at time `t`."""
        root, rotations = self.pose(t)
        return b.transforms(self.body, root, rotations)


def people_of(scenario: Scenario, floor: float, seed: int) -> list[Human]:
    """Everyone of a scenario. Raises ClipError."""
    return [Human(person, floor, seed + i) for i, person in enumerate(scenario.people)]
