"""A channel's test of itself: a phantom person is added to its live input and must stop the arm.

The phantom is a ball on the axis of one link after the other. Each channel's is placed by the other channel's geometry,
so that a link missing from its own model shows. It is only ever added, and what the channel says of it goes to nobody
but this test: the live decision stands beside it. All links are tried before the first motion is permitted, one in each
period after that.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from perception.contract import Observation
from robots.contract import RobotState
from robots.model import RobotModel

PERIOD = 0.2
"""Time between two tests, s: a link the monitor has lost is found within this times the number of links."""
RADIUS = 0.01
"""Of the phantom, m."""
RESERVATION = "phantom of the self-test"
"""Stands on the observation: on one with a reservation nobody may be touched, so that zones of contact, too, are tested
by their separation."""
DEPTH = 0.8
"""The phantom must be found at least so deep inside the link it was put into, as a share of the link's radius."""


class Phantom(NamedTuple):
    """One test."""

    observation: Observation
    """The live one and the phantom."""
    link: str
    deepest: float
    """Separation, m, that the monitor must report at most."""


class Limbs(Protocol):
    """Where the links of an arm are that can move."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def capsules(self, Q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Axis ends a, b (K, m, 3) in the base frame and radii (m,) at Q (K, dof), m."""
        ...


class ModelLimbs:
    """The links as the first channel has them, to test the second one."""

    def __init__(self, model: RobotModel) -> None:
        self._model = model
        self._moving = np.asarray(model.chain.owner) > 0
        self.names = tuple(n for n, moves in zip(model.capsule_names(), self._moving, strict=True) if moves)

    def capsules(self, Q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """As `Limbs.capsules`."""
        a, b, radii = self._model.capsule_paths(Q)
        return a[:, self._moving], b[:, self._moving], radii[self._moving]


class SelfTest:
    """Says when a test is due, makes the phantom, judges the answer. One instance per channel."""

    def __init__(self, arm: Limbs) -> None:
        """Raises ValueError for an arm without links: a test of nothing would pass."""
        if not arm.names:
            raise ValueError("the arm has no links to put a phantom into")
        self._arm = arm
        self._next = 0
        self._due = -math.inf
        self.complete = False
        """Every link has been tried once."""
        self._passed = -1.0
        self.failed = ""
        """What went wrong; it stays until the channel is started again."""

    @property
    def passed_at(self) -> float:
        """When the newest test was passed, s; -1 before every link has been tried, and after a test has failed.

        It stands on every lease: a robot node that is told to demands a young one, so that a test that does not run,
        or whose result goes nowhere, stops the arm from outside the channel."""
        return self._passed if self.complete and not self.failed else -1.0

    def due(self, now: float) -> int:
        """How many links are to be tried now."""
        if not self.complete:
            return len(self._arm.names)
        return 1 if now >= self._due else 0

    def phantom(self, observation: Observation, state: RobotState) -> Phantom:
        """Put the phantom into the next link of the arm where it is measured."""
        a, b, radii = self._arm.capsules(np.array([state.q]))
        link = self._next % len(self._arm.names)
        middle = 0.5 * (a[0, link] + b[0, link])
        ball = np.array([*middle, RADIUS], dtype="<f4").tobytes()
        added = msgspec.structs.replace(
            observation, balls=ball + observation.balls, seen=observation.seen + 1, reason=RESERVATION
        )
        return Phantom(added, self._arm.names[link], -DEPTH * float(radii[link]))

    def judge(self, phantom: Phantom, limit: float, separation: float, now: float) -> bool:
        """Was the phantom seen and the arm stopped?

        limit, separation (m): the answer to the phantom's observation. The separation is NaN where the channel refused
        to look at anybody: a refusal has seen nothing, and an answer that is no number compares as not seen.
        """
        if not (separation <= phantom.deepest and limit == 0.0):
            self.failed = (
                f"self-test failed: a phantom in {phantom.link} was answered with limit {limit:.2f} at "
                f"{separation:.2f} m"
            )
            return False
        self._next += 1
        self._due, self._passed = now + PERIOD, now
        self.complete = self.complete or self._next >= len(self._arm.names)
        return True
