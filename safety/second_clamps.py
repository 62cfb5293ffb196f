"""Where somebody can be clamped, for the second channel: gaps measured by sampling the axes of the links, in numpy."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robots.contract import PartGeometry
from robots.model import RobotModel
from robots.workcell import Workcell
from safety.second_arm import ArmGeometry, Course
from safety.second_sweep import STEP

Array = NDArray[np.float64]
LAG = 3
"""The drives may be so many places behind the progress."""
SHARES = np.linspace(0.0, 1.0, 9)
"""Places on an axis that are measured."""
STILL = 0.01
"""A gap that closes more slowly than this at rate 1 clamps nobody, m/s."""
WIDE = 10.0
"""Stands for a gap that is wide enough for anybody, m."""
POSES = 200
"""Random configurations that tell whether a gap between two links ever opens."""


class Clamps:
    """What a link can clamp somebody against: fixtures, floor, other links. Immutable."""

    def __init__(self, arm: ArmGeometry, model: RobotModel, workcell: Workcell) -> None:
        self._arm = arm
        self._floor = workcell.floor
        self._boxes = []
        for fixture in workcell.fixtures:
            turn = Rotation.from_euler("xyz", fixture.pose.rpy).as_matrix()
            self._boxes.append((turn, np.array(fixture.pose.position), 0.5 * np.array(fixture.size)))
        joint = arm.carried_by
        Q = np.random.default_rng(2).uniform(model.q_lower, model.q_upper, (POSES, arm.dof))
        x, _, radii = self._sampled(Q, None)
        self._pairs = [
            (i, j)
            for i, j in itertools.combinations(range(len(joint)), 2)
            if joint[j] - joint[i] >= 2 and bool((_apart(x[:, i], x[:, j])[:, 0] > radii[i] + radii[j]).any())
        ]

    def gaps(
        self, course: Course, first: int, count: int, held: PartGeometry | None, speed: Array, slack: float
    ) -> Array:
        """Narrowest gap (count, m) that each link closes in the stretches that begin LAG places before each place, up
        to the next, m. Without slack: at the places alone. speed: (count, m) in these stretches at rate 1, m/s."""
        begin = first - LAG - (1 if slack == 0.0 else 0)
        at: Array = np.arange(begin, first + count + 1, dtype=np.float64) * STEP
        x, spacing, radii = self._sampled(course.positions(at), held)
        least = np.full((len(at) - 1, x.shape[1]), WIDE)
        away: list[Array] = [x[..., 2] - self._floor]
        for R, p, half in self._boxes:
            away.append(np.sqrt((np.maximum(np.abs((x - p) @ R) - half, 0.0) ** 2).sum(axis=-1)))
        for off in away:
            gaps = _closing(np.stack([off.min(axis=2), off[..., 0], off[..., -1]], axis=-1))
            least = np.minimum(least, gaps - radii - slack * 0.5 * spacing)
        for i, j in self._pairs:
            gap = _closing(_apart(x[:, i], x[:, j])) - radii[i] - radii[j] - slack * 0.5 * (spacing[i] + spacing[j])
            least[:, i], least[:, j] = np.minimum(least[:, i], gap), np.minimum(least[:, j], gap)
        if slack == 0.0:
            return least[LAG:][:count]
        windows = np.lib.stride_tricks.sliding_window_view(least, LAG + 1, axis=0)[:count]
        # Half a step away from a place no gap is narrower by more than both sides can move.
        return np.asarray(windows.min(axis=-1) - speed.max(axis=1, keepdims=True) * STEP, dtype=np.float64)

    def _sampled(self, Q: Array, held: PartGeometry | None) -> tuple[Array, Array, Array]:
        """Points on the axes (K, m, s, 3), their spacing (m,) and radii (m,)."""
        a, b, radii = self._arm.capsules(Q, held)
        x: Array = a[:, :, None] + SHARES[:, None] * (b - a)[:, :, None]
        spacing: Array = np.linalg.norm(b[0] - a[0], axis=1) / (len(SHARES) - 1)
        return x, spacing, radii


def _closing(gaps: Array) -> Array:
    """Narrowest gap (K - 1, ...) in each stretch between two places where any of the gaps (K, ..., n) closes; where
    none does, WIDE. The first of them is the narrowest."""
    closing = (gaps[1:] < gaps[:-1] - STILL * STEP).any(axis=-1)
    return np.where(closing, np.minimum(gaps[1:, ..., 0], gaps[:-1, ..., 0]), WIDE)


def _apart(x: Array, y: Array) -> Array:
    """Least distances (K, 5) of two rows of points (K, s, 3): of all, and of the ends of each to the other."""
    away = np.sqrt(((x[:, :, None] - y[:, None]) ** 2).sum(-1))
    ends = [away[:, 0].min(axis=1), away[:, -1].min(axis=1), away[:, :, 0].min(axis=1), away[:, :, -1].min(axis=1)]
    return np.stack([away.min(axis=(1, 2)), *ends], axis=-1)
