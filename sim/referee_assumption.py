"""How fast people are against the speed the configuration counts on, for the referee: truth and plain numbers alone.

The protective separation distance holds for people who approach at up to v_h. It is used up over the whole time from an
exposure to the arm's standstill, so that is the time over which a speed is taken here: how far a point of a body has
got, straight, in the reaction time and a full stop, divided by that time. A flick that leads nowhere is no excuse.

* A *contact* lies outside the assumption if the very points that touch were faster than the larger of both configured
  speeds, over the reaction time and the longest stop from any speed the arm had in it.
* A *person* is beyond it while trunk or head are faster than v_h (walking, beyond 0.5 m), or a hand or arm is faster
  than v_h within 0.5 m. Legs are left out of this figure, and of no other: the feet of whoever walks at 1.2 m/s swing
  at 3 m/s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.body import Body
from sim.config import RefereeOptions
from sim.human_shape import segments

F64 = NDArray[np.float64]
TRUNK = ("head", "neck", "chest", "abdomen", "pelvis")
ARMS = ("upper_arm", "forearm", "hand")
LONGEST = 1.5
"""Moments are kept for so long, s."""


class Watched(NamedTuple):
    """A person in a row of moments."""

    name: str
    body: Body
    bones: F64
    """(n, 104, 3, 4) world transforms, base frame."""


class _Row(NamedTuple):
    times: F64
    speeds: F64
    """(n, dof) |dq|, rad/s."""
    bones: dict[str, F64]
    parts: dict[str, F64]
    """(n, k, 3) places of the bones of trunk and head, then of arms and hands, m."""


class Assumption:
    """Fed with rows of moments; says who was beyond the assumption. One instance per referee."""

    def __init__(self, options: RefereeOptions, stop_time: Callable[[F64], float]) -> None:
        """`stop_time`: T_s of a full braking from joint speeds, s."""
        self._options = options
        self._stop_time = stop_time
        self._rows: deque[_Row] = deque()
        self._parts: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self._before: float | None = None
        self.time = 0.0
        """Judged with somebody there, s."""
        self.beyond = 0.0
        """Of that, somebody was beyond the assumption, s."""

    def note(self, times: Sequence[float], dq: F64, people: list[Watched]) -> None:
        """Take a row of moments (n,) with the arm's joint speeds (n, dof) and everyone; times rise."""
        now = np.asarray(times, np.float64)
        bones = {p.name: p.bones for p in people}
        parts = {p.name: p.bones[..., 3][:, np.concatenate(self._parts_of(p))] for p in people}
        self._rows.append(_Row(now, np.abs(dq), bones, parts))
        while self._rows[0].times[-1] < now[-1] - LONGEST:
            self._rows.popleft()
        steps = np.diff(now, prepend=now[0] if self._before is None else self._before)
        self._before = float(now[-1])
        if not people:
            return
        fast = np.zeros(len(now), bool)
        for person in people:
            fast |= self._faster(person, now)
        self.time += float(steps.sum())
        self.beyond += float(steps[fast].sum())

    def _faster(self, person: Watched, now: F64) -> NDArray[np.bool_]:
        """In which moments (n,) of the newest row trunk or arms are beyond the assumption."""
        o = self._options
        span = o.reaction + self._stop_time(np.zeros(self._rows[-1].speeds.shape[1]))
        rows = [row for row in self._rows if person.name in row.parts]
        times, places = (np.concatenate(x) for x in zip(*((r.times, r.parts[person.name]) for r in rows), strict=True))
        then = np.searchsorted(times, now - span + 1e-9, side="right") - 1
        known = then >= 0
        took = np.where(known, now - times[np.maximum(then, 0)], 1.0)
        way = np.linalg.norm(places[-len(now) :] - places[np.maximum(then, 0)], axis=2)
        trunk = len(self._parts_of(person)[0])
        body, arms = (w.max(axis=1, initial=0.0) for w in (way[:, :trunk], way[:, trunk:]))
        near = max(o.human_speed, o.human_speed_near)
        result: NDArray[np.bool_] = known & ((body > o.human_speed * took) | (arms > near * took))
        return result

    def _parts_of(self, person: Watched) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bones of trunk and head, and of arms and hands."""
        if person.body.name not in self._parts:
            found = [(s.name.removeprefix("left_").removeprefix("right_"), s.bone) for s in segments(person.body)]
            self._parts[person.body.name] = (
                np.array([bone for name, bone in found if name in TRUNK], np.int64),
                np.array([bone for name, bone in found if name in ARMS], np.int64),
            )
        return self._parts[person.body.name]

    def _track(self, name: str) -> tuple[list[F64], F64]:
        """A person's transforms at all moments kept, and their times."""
        rows = [row for row in self._rows if name in row.bones]
        return [one for row in rows for one in row.bones[name]], np.concatenate([row.times for row in rows])

    def broken(self, t: float, name: str, bone: int, place: F64) -> bool:
        """Whether the point of a person's bone that is at `place` (3,), m, at `t` came too fast to be counted on.

        Where too little of the past is known, it was not.
        """
        o = self._options
        bones, times = self._track(name)
        at = int(np.searchsorted(times, t + 1e-9, side="right")) - 1
        if at < 0:
            return False
        span = o.reaction + self._stop_time(self._fastest(t, o.reaction))
        span = o.reaction + self._stop_time(self._fastest(t, span))
        then = int(np.searchsorted(times, t - span + 1e-9, side="right")) - 1
        if then < 0:
            return False
        now, before = bones[at][bone], bones[then][bone]
        point = before[:, :3] @ (now[:, :3].T @ (place - now[:, 3])) + before[:, 3]
        took = float(times[at] - times[then])
        return bool(np.linalg.norm(place - point) > max(o.human_speed, o.human_speed_near) * took)

    def _fastest(self, t: float, span: float) -> F64:
        """Largest joint speeds (dof,) in the `span` s before `t`."""
        found = [row.speeds[(row.times > t - span) & (row.times <= t + 1e-9)] for row in self._rows]
        fastest: F64 = np.concatenate(found).max(axis=0, initial=0.0)
        return fastest
