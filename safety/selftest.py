"""The supervisor's test of itself: a phantom person is added to the live input and must stop the arm.

The phantom is a ball on the axis of one link after the other, placed by the second channel's geometry, so that a link
missing from the monitor's own model shows. It is only ever added, and what the monitor says of it goes to nobody but
this test: the live decision stands beside it. All links are tried before the first motion is permitted, one in each
period after that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np

from perception.contract import Observation
from robots.contract import RobotState
from safety.monitor import Decision
from safety.second_arm import ArmGeometry

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


class SelfTest:
    """Says when a test is due, makes the phantom, judges the answer. One instance per supervisor."""

    def __init__(self, arm: ArmGeometry) -> None:
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
        """What went wrong; it stays until the supervisor is started again."""

    @property
    def passed_at(self) -> float:
        """When the newest test was passed, s; -1 before every link has been tried, and after a test has failed.

        It stands on every lease: a robot node that is told to demands a young one, so that a test that does not run,
        or whose result goes nowhere, stops the arm from outside the supervisor."""
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

    def judge(self, phantom: Phantom, answer: Decision, now: float) -> bool:
        """Was the phantom seen and the arm stopped?"""
        # A refusal (required < 0) has seen nothing; and an answer that is no number compares as not seen.
        seen = answer.required >= 0.0 and answer.separation <= phantom.deepest
        if not (seen and answer.limit == 0.0):
            self.failed = (
                f"self-test failed: a phantom in {phantom.link} was answered with limit {answer.limit:.2f} at "
                f"{answer.separation:.2f} m"
            )
            return False
        self._next += 1
        self._due, self._passed = now + PERIOD, now
        self.complete = self.complete or self._next >= len(self._arm.names)
        return True
