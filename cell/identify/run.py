"""Drives one arm through the test signals of its joints, and puts the estimates together."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.identify import estimate, signals
from cell.identify.estimate import EstimateError, Following, GapError, Response, Series
from cell.stoptest.rig import Rig, RigError
from cell.stoptest.sweeps import free
from recipes.clearance import Obstacle
from robots.contract import RobotState
from robots.motion import Motion
from robots.rates import RateLimits

F64 = NDArray[np.float64]

ATTEMPTS = 3
"""A motion is driven so often at most until it was recorded without a gap."""
LINGER = 0.5
"""Recorded after the end of a motion, s: longer than any delay that can be estimated."""


class Trial(NamedTuple):
    """One joint, once."""

    sweep: Series
    there: Series
    back: Series
    delay: float
    """By which the sweep comes too late, s."""
    response: Response
    onset: float
    """By which the first movement comes too late, s."""
    following: Following

    @property
    def bound(self) -> float:
        """Longest delay that any estimate gives, s; NaN if one of them is."""
        return _largest(
            [self.delay, self.onset, self.following.seconds, self.following.worst, *self.response.delay.tolist()]
        )


class Recorded(NamedTuple):
    """One joint, once, as it was measured."""

    joint: int
    """From 0."""
    sweep: Series
    there: Series
    back: Series


class Joint(NamedTuple):
    """All trials of one joint."""

    joint: int
    """From 0."""
    trials: tuple[Trial, ...]

    def worst(self, of: Callable[[Trial], float]) -> float:
        return _largest([of(trial) for trial in self.trials])

    @property
    def bound(self) -> float:
        """s."""
        return self.worst(lambda trial: trial.bound)


def total(joints: Sequence[Joint]) -> float:
    """Delay of the whole arm: the longest of all joints, rounded up to a tenth of a millisecond, s.

    Raises EstimateError if one of them is no number."""
    worst = _largest([joint.bound for joint in joints])
    if not math.isfinite(worst):
        raise EstimateError("a delay that is no number")
    return math.ceil(max(0.0, worst) * 1e4 - 1e-6) / 1e4


def evaluate(recorded: Sequence[Recorded]) -> list[Joint]:
    """Put the estimates of all trials together, joint by joint. Raises EstimateError, naming the joint."""
    trials: dict[int, list[Trial]] = {}
    for one in recorded:
        try:
            onset = max(estimate.onset_delay(one.there), estimate.onset_delay(one.back))
            response = estimate.response(one.sweep, signals.LOWEST, signals.HIGHEST)
            trial = Trial(
                one.sweep, one.there, one.back, estimate.matching_delay(one.sweep), response, onset,
                estimate.following(one.there, one.back),
            )  # fmt: skip
        except EstimateError as error:
            raise EstimateError(f"joint {one.joint + 1}: {error}") from error
        trials.setdefault(one.joint, []).append(trial)
    return [Joint(joint, tuple(found)) for joint, found in trials.items()]


def _largest(values: Sequence[float]) -> float:
    """Unlike `max` never a number where one of the values is none."""
    return float(np.max(values))


class Identification:
    """The test on one rig. `plan` before the arm listens; `run` when it stands ready."""

    def __init__(self, rig: Rig, joints: Sequence[int], amplitude: float, repeats: int, limits: RateLimits) -> None:
        """`joints` from 0; `amplitude` of the sweep, rad."""
        self._rig, self._joints, self._amplitude = rig, joints, amplitude
        self._repeats, self._limits = repeats, limits

    @property
    def trials(self) -> int:
        """How many there will be."""
        return len(self._joints) * self._repeats

    def plan(self, q: F64, obstacles: Sequence[Obstacle]) -> None:
        """See that everything is within the arm's means from q (dof,), and free of furniture. Raises NoSignal."""
        for joint in self._joints:
            for kind in signals.KINDS:
                if not free(self._rig.model, obstacles, self._motion(q, joint, 0, kind).path):
                    raise signals.NoSignal(
                        f"joint {joint + 1} would touch something: take a smaller amplitude or another rest pose"
                    )

    def _motion(self, q: F64, joint: int, n: int, kind: signals.Kind) -> Motion:
        name = f"identify-{joint + 1}-{n}"
        return signals.motion(self._rig.model, q, joint, self._amplitude, self._limits, name, kind)

    def run(self, home: F64 | None, progress: Callable[[int, int], None]) -> list[Recorded]:
        """Return the joints' responses, measured from `home` (dof,), or from where the arm stands.

        Nothing is evaluated meanwhile: a real arm does not put up with a silent node. `progress` is told joint (from 0)
        and number of each trial that is done. Raises RigError, NoSignal, EstimateError."""
        rig = self._rig
        found: list[Recorded] = []
        if home is not None:
            rig.approach(home)
        gc.collect()
        gc.disable()
        try:
            for joint in self._joints:
                for n in range(self._repeats):
                    q = np.array(rig.state.q_commanded)
                    series = [self._record(self._motion(q, joint, n, kind), joint) for kind in signals.KINDS]
                    found.append(Recorded(joint, *series))
                    progress(joint, n)
        except EstimateError as error:
            raise EstimateError(f"joint {joint + 1}: {error}") from error
        finally:
            gc.enable()
        return found

    def _record(self, motion: Motion, joint: int) -> Series:
        """Drive a motion and keep what was commanded and measured of a joint; again if the machine was held up."""
        left = ATTEMPTS
        while True:
            left -= 1
            try:
                return self._once(motion, joint, left)
            except GapError:
                if left == 0:
                    raise
                self._rig.approach(motion.path[0])

    def _once(self, motion: Motion, joint: int, left: int) -> Series:
        rig = self._rig
        motion = replace(motion, motion_id=f"{motion.motion_id}-{left}")
        sent: list[float] = []
        states: list[RobotState] = []

        def keep() -> None:
            sent.append(rig.now)
            states.append(rig.state)

        rig.watch = keep
        try:
            rig.go(motion)
            rig.rest(LINGER)
        finally:
            rig.watch = None
        if any(state.limit < 1.0 for state in states if state.motion_id and state.progress > 0.1):
            raise RigError("the arm was slowed down during the test: see that no override is set")
        return estimate.series(
            sent, [s.q_commanded[joint] for s in states], [s.t for s in states], [s.q[joint] for s in states]
        )
