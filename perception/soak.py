"""False stops: is anybody ever seen in a cell in which nobody is? Counted over a run, and over noise on its pictures.

A run shows what the whole chain makes of an empty cell. It is too short for rates of once a shift, so true pictures of
it are kept and given fresh noise over and over, as many as time permits, through the very classification that live
pictures pass. What a count of none is worth is said by a bound (`rate_bound`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from perception.armhistory import ArmHistory, CapsuleModel
from perception.contract import ExpectedPart, Frame, Observation
from perception.view import CameraView, Capsules
from robots.contract import RobotState

U16 = NDArray[np.uint16]
Noise = Callable[[U16, int], U16]
"""True depth, mm, and the number of a draw -> what a camera delivers."""
CONFIDENCE = 0.95


class Kept(NamedTuple):
    """One true picture of the empty cell and what perception knows at that moment."""

    frame: Frame
    arm: Capsules
    """At its exposure, as measured."""
    parts: list[ExpectedPart]


class Keeper:
    """Keeps the pictures of a run that are `every` seconds apart, of each camera."""

    def __init__(self, model: CapsuleModel, every: float, most: int) -> None:
        """`most`: no more of each camera than this."""
        self._history = ArmHistory(model)
        self._every, self._most = every, most
        self._due: dict[str, float] = {}
        self._count: dict[str, int] = {}
        self.kept: list[Kept] = []

    def take(self, frames: Iterable[Frame], state: RobotState | None, parts: list[ExpectedPart]) -> None:
        """What came at one moment of the run: new frames, the newest robot state, the parts that are expected."""
        if state is not None:
            self._history.add(state)
        for frame in frames:
            arm = self._history.at(frame.exposure)
            due = self._due.get(frame.camera, frame.exposure)
            if arm is None or frame.exposure < due - 1e-6 or self._count.get(frame.camera, 0) >= self._most:
                continue
            self._due[frame.camera] = due + self._every
            self._count[frame.camera] = self._count.get(frame.camera, 0) + 1
            self.kept.append(Kept(frame, arm, list(parts)))


class Replayed(NamedTuple):
    """What noise over kept pictures came to."""

    pictures: int
    false: int
    """Pictures in which something was taken for a person."""
    most: int
    """Most cells in one of them."""
    overflow: int
    """Pictures that were refused."""


def replay(
    kept: Sequence[Kept],
    views: Mapping[str, CameraView],
    noises: Mapping[str, Noise],
    pictures: int,
    told: Callable[[int, int], bool],
    batch: int = 500,
) -> Replayed:
    """Classify `pictures` pictures: the kept ones in turn, `batch` draws of noise each time. `told` is given pictures
    and false ones so far and returns whether to go on. Raises ValueError without kept pictures."""
    if not kept:
        raise ValueError("no picture of the run was kept: nothing to replay")
    done = false = most = overflow = at = 0
    going = True
    while done < pictures and going:
        frame, arm, parts = kept[at % len(kept)]
        view, noise = views[frame.camera], noises[frame.camera]
        at += 1
        for _ in range(min(batch, pictures - done)):
            seen = view.process(frame._replace(depth=noise(frame.depth, done), seq=done), arm, parts)
            done += 1
            overflow += seen.overflow
            if len(seen.points):
                false += 1
                most = max(most, len(seen.points))
        going = told(done, false)
    return Replayed(done, false, most, overflow)


class Watched(NamedTuple):
    """What a run through the whole chain came to."""

    observations: int
    with_points: int
    """Observations that hold seen points although nobody is there."""
    unhealthy: int
    """Observations on which the arm must stand."""
    reasons: list[str]


class EmptyWatch:
    """Counts over the observations of a run with nobody there; those before somebody has confirmed that are left out,
    as the arm must stand then."""

    def __init__(self) -> None:
        self._seq = -1
        self._observations = self._with_points = self._unhealthy = 0
        self._reasons: dict[str, None] = {}
        self._changed = -1.0

    def changeover(self, t: float) -> None:
        """Somebody has emptied the box and filled the tray by `t`, s: pictures from before show parts that are expected
        no more. These are rightly taken for somebody."""
        self._changed = t

    def take(self, observation: Observation) -> None:
        """Look at one observation; the same one again does not count."""
        if not observation.confirmed_clear or observation.seq == self._seq:
            return
        self._seq = observation.seq
        self._observations += 1
        self._with_points += observation.seen > 0 and not observation.oldest_exposure <= self._changed
        if not observation.healthy:
            self._unhealthy += 1
            self._reasons[observation.reason] = None

    @property
    def result(self) -> Watched:
        """What was counted."""
        return Watched(self._observations, self._with_points, self._unhealthy, list(self._reasons)[:5])


def rate_bound(events: int, hours: float, confidence: float = CONFIDENCE) -> float:
    """Upper bound of the rate of independent rare events, 1/h, given their count in so many hours: the one-sided exact
    limit of a Poisson process, chi2(confidence; 2 n + 2) / 2 / hours. Infinite without any hours."""
    if not hours > 0.0:
        return float("inf")
    return float(chi2.ppf(confidence, 2 * events + 2)) / 2.0 / hours
