"""Where the arm was when a picture was exposed."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perception.view import Capsules
from robots.contract import PartGeometry, RobotState

LONGEST_GAP = 0.05
"""Two measurements farther apart than this are not interpolated, s."""


class CapsuleModel(Protocol):
    """What perception needs of `robots.model.RobotModel`."""

    dof: int

    def capsules(
        self, q: NDArray[np.float64], held: PartGeometry | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...


class ArmHistory:
    """The last second of measured joint positions."""

    def __init__(self, model: CapsuleModel, keep: float = 1.0) -> None:
        self._model = model
        self._keep = keep
        self._states: deque[RobotState] = deque()
        self._answer: tuple[float, float, Capsules | None] = (math.nan, math.nan, None)

    def add(self, state: RobotState) -> None:
        """Keep a state; one that is not newer, not finite or of the wrong length is ignored."""
        if len(state.q) != self._model.dof or not all(map(math.isfinite, state.q)) or not math.isfinite(state.t):
            return
        if self._states and state.t <= self._states[-1].t:
            return
        self._states.append(state)
        while state.t - self._states[0].t > self._keep:
            self._states.popleft()

    def at(self, t: float) -> Capsules | None:
        """Return the link capsules at `t`, s, or None where no measurement is near enough to tell."""
        newest = self._states[-1].t if self._states else math.nan
        if self._answer[:2] != (t, newest):
            # Cameras exposed together ask for the same moment.
            self._answer = t, newest, self._find(t)
        return self._answer[2]

    def _find(self, t: float) -> Capsules | None:
        after: RobotState | None = None
        for state in reversed(self._states):
            if state.t <= t:
                return self._between(state, after, t)
            after = state
        return None

    def _between(self, before: RobotState, after: RobotState | None, t: float) -> Capsules | None:
        q = np.asarray(before.q)
        held = before.held
        if after is None:
            # The newest measurement is older than the picture: close enough only while it is a tick or two.
            if t - before.t > LONGEST_GAP:
                return None
            q = q + np.asarray(before.dq) * (t - before.t)
        else:
            if after.t - before.t > LONGEST_GAP:
                return None
            s = (t - before.t) / (after.t - before.t)
            q = q + s * (np.asarray(after.q) - q)
            held = held or after.held
        a, b, r = self._model.capsules(q, held)
        return Capsules(a, b, r)

    @property
    def newest(self) -> RobotState | None:
        return self._states[-1] if self._states else None
