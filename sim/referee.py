"""The independent judge. It sees truth alone - joints of the physics, bones of the people - and plain numbers for the
configured human speed, reaction time and braking; never a time stamp, a lease or a line of the system's geometry.

A moment t with the arm moving is *justified* if for some tau in [t - T_r, t] the person as they were at tau could not
have reached the arm before it stands still:

    distance(person(tau), arm over its stopping path from t)  >=  v_h (t - tau + T_s)

That is S_p of ISO/TS 15066 with C = Z_d = Z_r = 0 and the robot's S_r and S_s measured instead of bounded: what falls
short of it is wrong whatever the system's own, larger terms were. T_s is the configured full braking. A moment that is
not justified is still excused while the arm follows that braking from the last justified one. What is neither counts
as a `psd_violation`. Where the configuration has contact zones, pairs in them need no distance while the arm is slow
enough for what it may touch, and touches there are judged by their speed (`sim.referee_zones`).
See docs/decisions/0201-referee.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.body import load_body
from sim.config import RefereeOptions
from sim.contract import RefereeReport
from sim.linkage import Linkage
from sim.referee_assumption import Assumption, Watched
from sim.referee_geometry import (
    NARROW,
    ArmPoints,
    Cloud,
    Held,
    NarrowPhase,
    PersonPoints,
    largest_step,
    largest_steps,
    nearest,
)
from sim.referee_zones import ROUNDING, ContactZones

F64 = NDArray[np.float64]
MOVING = 0.010
"""A link whose fastest point is slower than this stands, m/s."""
REACH = 1.4
"""No point of any arm of the twin, its gripper or what it holds is farther from one of its axes, m."""
NEVER = 1e9
_WIDE_EVERY, _FAR_EVERY = 8, 24
"""The exact distance is measured on every 8th step (24th beyond half a metre), and whenever a bound is too small to
justify the arm's motion."""
_SAMPLES = 6
"""How many instants of the reaction time are tried, the newest and the oldest among them."""


class ArmTruth(NamedTuple):
    """The arm as physics has it."""

    q: F64
    """rad."""
    dq: F64
    """rad/s."""
    fingers: float
    """m."""
    held: Held | None = None
    """The part in the gripper."""


class PersonTruth(NamedTuple):
    """A person as they are."""

    name: str
    body: str
    bones: F64
    """(104, 3, 4) world transforms, base frame."""


class PersonTrack(NamedTuple):
    """A person in a row of moments."""

    name: str
    body: str
    bones: F64
    """(n, 104, 3, 4) world transforms, base frame."""


_Places = dict[str, list[tuple[str, int, F64]]]
"""Of each contact who touches, with which bone, and where (3,), m."""


class _Past(NamedTuple):
    t: float
    people: list[PersonTruth]


class Referee:
    """Fed once a step with truth; `report` gives the account so far. Pure but for the narrow phase's client."""

    def __init__(
        self, linkage: Linkage, options: RefereeOptions, deceleration: Sequence[float], narrow: bool = True
    ) -> None:
        """`deceleration`: joint decelerations of a full braking, rad/s^2, where the options give none. `narrow` off:
        distances below 8 cm come from surface points alone."""
        self.options = options
        self._deceleration = [float(a) for a in options.brake_deceleration or deceleration]
        self._arm = ArmPoints(linkage)
        self._narrow = NarrowPhase(self._arm) if narrow else None
        self._fastest_human = max(options.human_speed, options.human_speed_near)
        self._people: dict[str, PersonPoints] = {}
        self._history: deque[_Past] = deque()
        self._last: tuple[float, float] | None = None
        self._bones: dict[str, F64] = {}
        self._step = 0
        self._touching: set[str] = set()
        self._zones = ContactZones(options.contact_zones, options.fixed)
        self._exceeding: set[str] = set()
        self._slowly: set[str] = set()
        self._exceedances = self._permitted = 0
        self._assumption = Assumption(options, self._stop_time)
        self._beyond = 0
        self._justified_at = -math.inf
        self._justified_speed: F64 = np.zeros(0)
        self._min = NEVER
        self._contacts = self._violations = self._outside = 0
        self._worst: dict[str, Any] = {}
        self._worst_shortfall = 0.0

    # ------------------------------------------------------------ one step

    def observe(self, t: float, arm: ArmTruth, people: list[PersonTruth]) -> None:
        """Judge the moment `t` (s, rising). Without people there is nothing to judge and nothing is measured."""
        self.observe_all([t], [arm], [PersonTrack(p.name, p.body, p.bones[None]) for p in people])

    def observe_all(self, times: list[float], arms: list[ArmTruth], people: list[PersonTrack]) -> None:
        """Judge a row of moments, one after the other: `times` (s, rising), the arm and everyone at each of them."""
        q, fingers = np.array([arm.q for arm in arms]), np.array([arm.fingers for arm in arms])
        held = [arm.held for arm in arms]
        gaps = [self._arm.gaps(q, fingers, held, self._points_of(p.name, p.body), p.bones) for p in people]
        steps = [self._steps_of(p) for p in people]
        watched = [Watched(p.name, load_body(p.body), p.bones) for p in people]
        self._assumption.note(times, np.array([arm.dq for arm in arms]), watched)
        for n, (t, arm) in enumerate(zip(times, arms, strict=True)):
            self._step += 1
            now = [PersonTruth(p.name, p.body, p.bones[n]) for p in people]
            self._remember(t, now)
            finger_speed = self._since_last(t, arm, max((s[n] for s in steps), default=0.0))
            if not people:
                self._justify(t, arm)
                continue
            bounds = [float(g[n]) for g in gaps]
            # No point of an arm is farther than this from any of its axes.
            fastest = REACH * sum(map(abs, arm.dq.tolist())) + abs(finger_speed)
            enough = (self._fastest_human + fastest) * self._stop_time(arm.dq) if fastest > MOVING else -math.inf
            least = min(bounds)
            wide = self._step % (_FAR_EVERY if least > 0.5 else _WIDE_EVERY) == 0
            if least >= enough and not (wide and least < self._min):
                self._justify(t, arm)
            else:
                self._judge(t, arm, finger_speed, now, bounds)

    def _judge(
        self, t: float, arm: ArmTruth, finger_speed: float, people: list[PersonTruth], bounds: list[float]
    ) -> None:
        """The full measurement, for moments that a bound does not settle."""
        cloud = self._arm.at(arm.q, arm.fingers, arm.held)
        speeds = self._arm.speeds(arm.q, arm.dq, arm.fingers, finger_speed, arm.held)
        moving = bool((speeds > MOVING).any())
        stop = self._stop_time(arm.dq)
        # The arm's nearest point can come closer by no more than its fastest point travels while stopping.
        need = (self._fastest_human + float(speeds.max())) * stop if moving else -math.inf
        distance = self._separation(t, arm, cloud, people, bounds, speeds, need)
        if not moving or distance >= need or self._is_justified(t, arm, cloud, stop, speeds):
            self._justify(t, arm)
        elif not self._is_excused(t, arm):
            self._violations += 1

    def _steps_of(self, person: PersonTrack) -> list[float]:
        """How far the fastest bone of a person went up to each moment of the row, m."""
        before = self._bones.get(person.name)
        self._bones[person.name] = person.bones[-1]
        first = 0.0 if before is None else float(largest_step(person.bones[0], before))
        return [first, *np.asarray(largest_steps(person.bones)).tolist()]

    def _since_last(self, t: float, arm: ArmTruth, way: float) -> float:
        """Count people outside the assumption who went `way` m since the last step; return the fingers' speed, m/s."""
        before, self._last = self._last, (t, arm.fingers)
        if before is None or t <= before[0]:
            return 0.0
        self._outside += way > self.options.human_speed * (t - before[0])
        return (arm.fingers - before[1]) / (t - before[0])

    def _remember(self, t: float, people: list[PersonTruth]) -> None:
        self._history.append(_Past(t, people))
        while self._history and self._history[0].t < t - self.options.reaction - 1e-9:
            self._history.popleft()

    def _justify(self, t: float, arm: ArmTruth) -> None:
        self._justified_at, self._justified_speed = t, np.abs(arm.dq)

    def _points_of(self, name: str, body: str) -> PersonPoints:
        if name not in self._people:
            self._people[name] = PersonPoints(name, load_body(body))
        return self._people[name]

    # ------------------------------------------------------------ distances

    def _separation(
        self,
        t: float,
        arm: ArmTruth,
        cloud: Cloud,
        people: list[PersonTruth],
        bounds: list[float],
        speeds: F64,
        need: float,
    ) -> float:
        """True distance now, or a lower bound of it that is at least `need`; counts contacts."""
        least = math.inf
        touching: set[str] = set()
        exceeding: set[str] = set()
        slowly: set[str] = set()
        places: _Places = {}
        wide = self._step % _WIDE_EVERY == 0
        for person, bound in zip(people, bounds, strict=True):
            points = self._points_of(person.name, person.body)
            if bound >= need and not (wide and bound < self._min):
                least = min(least, bound)
                continue
            # Neither the judgement nor the account needs a distance beyond these two.
            distance, link, segment = nearest(cloud, points.at(person.bones), min(max(need, self._min), 100.0))
            if distance < NARROW and self._narrow is not None:
                exact = self._narrow.distances(arm.q, arm.fingers, cloud, points, person.bones)
                distance = min(distance, float(exact.min()))
                hits = np.flatnonzero((exact <= 0.0) & (speeds > MOVING))
                if len(hits):
                    self._touched(arm, points, person, hits, speeds, (touching, exceeding, slowly), places)
            least = min(least, distance)
            if link >= 0 and distance < self._min:
                self._min = distance
                self._note(t, distance, link, person.name, points.segments[segment] if segment >= 0 else "")
        new = touching - self._touching
        self._contacts += len(new)
        self._beyond += sum(self._came_too_fast(t, places[key]) for key in new)
        self._exceedances += len(exceeding - self._exceeding)
        self._permitted += len(slowly - self._slowly)
        self._touching, self._exceeding, self._slowly = touching, exceeding, slowly
        return least

    def _touched(
        self, arm: ArmTruth, points: PersonPoints, person: PersonTruth, hits: NDArray[np.int64], speeds: F64,
        sets: tuple[set[str], set[str], set[str]], places: _Places,
    ) -> None:  # fmt: skip
        """Sort touches of a moving arm: outside contact zones, too fast inside, permitted; note where the first are."""
        assert self._narrow is not None  # asked only after it has measured
        if not self._zones:
            for group in hits.tolist():
                key = f"{person.name}/{self._arm.names[group]}"
                sets[0].add(key)
                places.setdefault(key, [])
            hits = np.array([g for g in hits if f"{person.name}/{self._arm.names[g]}" not in self._touching], np.int64)
        for group, segment, place in self._narrow.touches(arm.q, arm.fingers, points, person.bones, hits):
            key = f"{person.name}/{self._arm.names[group]}"
            which = 0
            if self._zones:
                key = f"{key}/{points.segments[segment]}"
                limit = self._zones.limit_at(place, points.segments[segment])
                which = 0 if limit is None else 1 if speeds[group] > limit + (ROUNDING if limit > 0.0 else 0.0) else 2
                sets[which].add(key)
            if which == 0:
                places.setdefault(key, []).append((person.name, int(points.bones[segment]), place))

    def _came_too_fast(self, t: float, touches: list[tuple[str, int, F64]]) -> bool:
        """Whether every touch of a new contact lies outside the assumption about people's speed."""
        return bool(touches) and all(self._assumption.broken(t, *touch) for touch in touches)

    # ------------------------------------------------------------ justification

    def _human_speed(self, distance: float) -> float:
        o = self.options
        return o.human_speed if distance > o.near_distance else o.human_speed_near

    def _braking(self, dq: F64) -> float:
        """Duration of the deceleration of a full braking from `dq`, s, after delay and ramp."""
        longest = max(abs(v) / a for v, a in zip(dq.tolist(), self._deceleration, strict=True))
        return min(max(longest, self.options.brake_floor), self.options.brake_time_cap)

    def _stop_time(self, dq: F64) -> float:
        """T_s of a full braking from `dq`, s: until the drives act, until the deceleration is built up, and that."""
        return self.options.drive_delay + self.options.brake_ramp + self._braking(dq)

    def _is_justified(self, t: float, arm: ArmTruth, cloud: Cloud, stop: float, speeds: F64) -> bool:
        """The rule of the module's head, for `_SAMPLES` instants of the reaction time."""
        stages = [cloud]
        for share in (0.5, 1.0):
            # Full speed until the drives act, then half of it on average.
            free = self.options.drive_delay
            q = arm.q + arm.dq * (free + (stop - free) * (share - 0.5 * share * share))
            stages.append(self._arm.at(q, arm.fingers, arm.held))
        count = len(self._history)
        picks = sorted({round(k * (count - 1) / (_SAMPLES - 1)) for k in range(_SAMPLES)}, reverse=True)
        shortfall, where = math.inf, (0.0, 0.0, -1, "", "")
        for pick in picks:
            past = self._history[pick]
            worst, at = -math.inf, where
            for person in past.people:
                points = self._points_of(person.name, person.body)
                skin = points.at(person.bones)
                enough = self._fastest_human * (t - past.t + stop)
                pairs = [(stage, skin) for stage in stages]
                if self._zones:
                    pairs = [one for stage in stages for one in self._zones.apart(stage, speeds, skin, points.segments)]
                for stage, part in pairs:
                    d, link, segment = nearest(stage, part, enough)
                    if link < 0:
                        worst = max(worst, 0.0)
                        continue
                    need = self._human_speed(d) * (t - past.t + stop)
                    if need - d > worst:
                        worst = need - d
                        at = (d, need, link, person.name, points.segments[segment] if segment >= 0 else "")
            if worst <= 0.0:
                return True
            if worst < shortfall:
                shortfall, where = worst, at
        if shortfall > self._worst_shortfall:
            self._worst_shortfall = shortfall
            self._worst = self._moment(t, where[0], where[2], where[3], where[4]) | {"required": where[1]}
        return False

    def _is_excused(self, t: float, arm: ArmTruth) -> bool:
        """Joint speeds lie on or below full braking from the last justified moment."""
        o = self.options
        speed = self._justified_speed
        if len(speed) != len(arm.dq):
            return False
        elapsed = t - self._justified_at - o.drive_delay - o.brake_ramp
        left = 1.0 if elapsed <= 0.0 else max(0.0, 1.0 - elapsed / self._braking(speed))
        return bool((np.abs(arm.dq) <= speed.max() * left + 0.02).all())

    # ------------------------------------------------------------ account

    def _moment(self, t: float, distance: float, link: int, person: str, segment: str) -> dict[str, Any]:
        name = self._arm.names[link] if link >= 0 else ""
        return {"t": round(t, 4), "separation": distance, "link": name, "person": person, "body_part": segment}

    def _note(self, t: float, distance: float, link: int, person: str, segment: str) -> None:
        """The nearest moment is the worst one as long as nothing was unjustified."""
        if self._worst_shortfall == 0.0:
            self._worst = self._moment(t, distance, link, person, segment)

    def report(self, t: float) -> RefereeReport:
        """The account up to `t`."""
        return RefereeReport(
            t=t,
            min_separation=self._min,
            contacts_while_moving=self._contacts,
            contact_limit_exceedances=self._exceedances,
            psd_violations=self._violations,
            outside_assumption=self._outside,
            worst=dict(self._worst),
            contacts_permitted=self._permitted,
            contacts_outside_assumption=self._beyond,
            time_judged=self._assumption.time,
            time_beyond=self._assumption.beyond,
        )

    def close(self) -> None:
        """Idempotent."""
        if self._narrow is not None:
            self._narrow.close()
