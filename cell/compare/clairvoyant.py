"""What a clairvoyant would lose: a bound for every method of keeping the distance, computed from recordings.

It knows where everybody will be, so it keeps no distance for what people *might* do; and it stops and starts the arm at
once, so it needs none for stopping. What is left of S_p is C + Z_d + Z_r: the arm moves only where every link stays
that far from everybody as they really are. A standing arm is no hazard, as for the methods.

It goes through the motions of the run with nobody there, never faster than that. Whoever is ahead of it at some moment
would have to pass the place where it waits, at a moment at which it would have gone on: so going on whenever possible
is the best there is, and no method that keeps this distance loses less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.contract import CellStatus
from cell.recorder import PackedObservation, RecordError, read_about, read_flight
from robots.config import RobotConfig
from robots.contract import PartGeometry, RobotState
from robots.model import RobotModel
from safety.config import SafetyConfig

F64 = NDArray[np.float64]
STEP = 0.02
"""s; recorded robot states are as far apart."""
STANDING = 1e-5
"""Joints that turn by less in a step stand, rad."""


class Work(NamedTuple):
    """The run with nobody there."""

    times: F64
    """(n,) s on the clock of the run."""
    q: F64
    """(n, dof) measured joints, rad."""
    held: list[PartGeometry | None]
    model: RobotModel
    clear: float
    """C + Z_d + Z_r, m."""


class People(NamedTuple):
    """Where everybody was."""

    times: F64
    """(n,) s on the clock of the run."""
    balls: list[F64]
    """Of each time (m, 4): centre and radius, m."""

    def at(self, t: float) -> F64:
        """The newest balls at `t`; after the recording the last ones."""
        k = int(np.searchsorted(self.times, t + 1e-9)) - 1
        return self.balls[k] if k >= 0 else np.empty((0, 4))


def read_work(flight: Path) -> Work:
    """Read the run with nobody there. Raises RecordError."""
    about = read_about(flight)
    try:
        config = SafetyConfig.model_validate_json(about["safety"])
        robot = RobotConfig.model_validate_json(about["robot"])
    except (KeyError, ValueError) as error:
        raise RecordError(f"recording {flight}: does not say which arm it is of: {error}") from None
    states = [m.body for m in read_flight(flight) if isinstance(m.body, RobotState)]
    if len(states) < 2:
        raise RecordError(f"recording {flight}: has no robot states")
    times, q = np.array([s.t for s in states]), np.array([s.q for s in states])
    clear = config.intrusion + config.Z_d + config.Z_r
    return Work(times, q, [s.held for s in states], RobotModel.load(robot.model, robot.tool), clear)


def read_batch(flight: Path) -> tuple[float, float]:
    """Return when the first batch of a run began, on the clock of the run, and how long it took, s.

    Raises RecordError.
    """
    for message in read_flight(flight):
        if isinstance(message.body, CellStatus) and message.body.cycle_times:
            took = message.body.cycle_times[0]
            return message.t - took, took
    raise RecordError(f"recording {flight}: no batch was finished in it")


def read_people(flight: Path) -> People:
    """Read where people were in a run with `surface` perception, whose balls are as wide as their cells. Raises
    RecordError."""
    times, balls = [], []
    for message in read_flight(flight):
        if isinstance(message.body, PackedObservation):
            seen = message.body.unpack()
            times.append(seen.t)
            balls.append(np.frombuffer(seen.balls, "<f4").reshape(-1, 4).astype(np.float64))
    return People(np.array(times), balls)


def gap(model: RobotModel, q: F64, held: PartGeometry | None, balls: F64) -> float:
    """Smallest distance of any link that can move to any ball, m; inf if there is none."""
    if not len(balls):
        return math.inf
    a, b, r = model.capsules(q, held)
    moving = np.asarray(model.chain_with(held).owner) > 0
    least = math.inf
    for start, end, radius in zip(a[moving], b[moving], r[moving], strict=True):
        along = end - start
        w = balls[:, :3] - start
        share = np.clip(w @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
        d = np.linalg.norm(w - share[:, None] * along, axis=1) - balls[:, 3]
        least = min(least, float(d.min()) - float(radius))
    return least


def _places(work: Work, begun: float, took: float) -> Iterator[tuple[F64, PartGeometry | None]]:
    """Joints and part held every STEP of the work."""
    for t in np.arange(begun, begun + took, STEP):
        k = min(int(np.searchsorted(work.times, t, side="right")), len(work.times) - 1)
        low = max(k - 1, 0)
        span = float(work.times[k] - work.times[low])
        share = min(1.0, max(0.0, (float(t) - float(work.times[low])) / span)) if span > 0.0 else 0.0
        yield work.q[low] + share * (work.q[k] - work.q[low]), work.held[low]


def least_lost(work: Work, begun: float, took: float, people: People) -> float:
    """Return the time that even a clairvoyant loses, s; inf if people are still in the way when their recording ends.

    Args:
        work: the run with nobody there.
        begun: when its batch began, on the clock of the run, s.
        took: how long it took, s.
        people: of the run with people; both runs begin alike.
    """
    places = list(_places(work, begun, took))
    at, waited = 0, 0
    while at < len(places) - 1:
        t = begun + (at + waited) * STEP
        (q, held), (further, _) = places[at], places[at + 1]
        stands = bool(np.abs(further - q).max() < STANDING)
        if stands or (_free(work, q, held, people.at(t)) and _free(work, further, held, people.at(t + STEP))):
            at += 1
        elif t > people.times[-1]:
            return math.inf
        else:
            waited += 1
    return waited * STEP


def _free(work: Work, q: F64, held: PartGeometry | None, balls: F64) -> bool:
    return gap(work.model, q, held, balls) >= work.clear
