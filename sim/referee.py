"""The independent judge. It sees truth alone - joints of the physics, bones of the people - and plain numbers for the
configured human speed, reaction time and braking; never a time stamp, a lease or a line of the system's geometry.

A moment t with the arm moving is *justified* if for some tau in [t - T_r, t] the person as they were at tau could not
have reached the arm before it stands still:

    distance(person(tau), arm over its stopping path from t)  >=  v_h (t - tau + T_s)

That is S_p of ISO/TS 15066 with C = Z_d = Z_r = 0, the robot's S_r and S_s measured instead of bounded, and T_s the
shortest stop the arm is capable of: what falls short of it is wrong whatever the system's own, larger terms were. A
moment that is not justified is still excused while the arm follows full braking from the last justified one. What is
neither counts as a `psd_violation`. See docs/decisions/0201-referee.md.
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
from sim.referee_geometry import NARROW, ArmPoints, Cloud, NarrowPhase, PersonPoints, least_gap, nearest

F64 = NDArray[np.float64]
MOVING = 0.010
"""A link whose fastest point is slower than this stands, m/s."""
NEVER = 1e9
NEAR = 0.05
"""People whose bounding balls come nearer than this are measured on every step, m..."""
_WIDE_EVERY = 8
"""... others on every 8th, unless the bound is too small to justify the arm's motion."""
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
    held: tuple[tuple[float, float, float], F64] | None = None
    """Box (edge lengths, m) and pose (4, 4) of the part in the gripper, base frame."""


class PersonTruth(NamedTuple):
    """A person as they are."""

    name: str
    body: str
    bones: F64
    """(104, 3, 4) world transforms, base frame."""


class _Past(NamedTuple):
    t: float
    people: list[PersonTruth]


class Referee:
    """Fed once a step with truth; `report` gives the account so far. Pure but for the narrow phase's client."""

    def __init__(
        self,
        linkage: Linkage,
        options: RefereeOptions,
        shortest_stop: Sequence[float],
        guaranteed_stop: Sequence[float],
        narrow: bool = True,
    ) -> None:
        """`shortest_stop`: largest joint decelerations the arm is capable of (T_s of S_p), rad/s^2;
        `guaranteed_stop`: those a full braking is configured to reach at least (the excuse), rad/s^2. The options
        replace both. `narrow` off: distances below 8 cm come from surface points alone."""
        self.options = options
        self._guaranteed = np.array(options.brake_deceleration or guaranteed_stop, dtype=np.float64)
        self._shortest = np.array(options.shortest_stop or shortest_stop, dtype=np.float64)
        self._arm = ArmPoints(linkage)
        self._narrow = NarrowPhase(self._arm) if narrow else None
        self._people: dict[str, PersonPoints] = {}
        self._history: deque[_Past] = deque()
        self._last: tuple[float, Cloud, dict[str, F64]] | None = None
        self._step = 0
        self._touching: set[str] = set()
        self._justified_at = -math.inf
        self._justified_speed: F64 = np.zeros(0)
        self._min = NEVER
        self._contacts = self._violations = self._outside = 0
        self._worst: dict[str, Any] = {}
        self._worst_shortfall = 0.0

    # ------------------------------------------------------------ one step

    def observe(self, t: float, arm: ArmTruth, people: list[PersonTruth]) -> None:
        """Judge the moment `t` (s, rising). Without people there is nothing to judge and nothing is measured."""
        self._step += 1
        self._remember(t, people)
        if not people:
            self._justify(t, arm)
            self._last = None
            return
        cloud = self._arm.at(arm.q, arm.fingers, arm.held)
        speeds = self._link_speeds(t, cloud)
        self._count_outside(t, people)
        self._last = (t, cloud, {person.name: person.bones for person in people})
        moving = bool((speeds > MOVING).any())
        stop = self._stop_time(arm.dq)
        # The arm's nearest point can come closer by no more than its fastest point travels while stopping.
        need = (max(self.options.human_speed, self.options.human_speed_near) + float(speeds.max())) * stop
        distance = self._separation(t, arm, cloud, people, speeds, need)
        if not moving:
            self._justify(t, arm)
            return
        if distance >= need or self._is_justified(t, arm, cloud, stop):
            self._justify(t, arm)
        elif not self._is_excused(t, arm):
            self._violations += 1

    def _remember(self, t: float, people: list[PersonTruth]) -> None:
        self._history.append(_Past(t, people))
        while self._history and self._history[0].t < t - self.options.reaction - 1e-9:
            self._history.popleft()

    def _justify(self, t: float, arm: ArmTruth) -> None:
        self._justified_at, self._justified_speed = t, np.abs(arm.dq)

    def _points_of(self, person: PersonTruth) -> PersonPoints:
        if person.name not in self._people:
            self._people[person.name] = PersonPoints(person.name, load_body(person.body))
        return self._people[person.name]

    def _link_speeds(self, t: float, cloud: Cloud) -> F64:
        """Speed of the fastest point of each group since the last step, m/s."""
        speeds = np.zeros(len(cloud.radius))
        if self._last is None or t <= self._last[0]:
            return speeds
        before = self._last[1]
        # A part that was just gripped or let go has no counterpart; the links always have.
        groups = min(len(cloud.radius), len(before.radius))
        n = cloud.start[groups]
        moved = np.linalg.norm(cloud.points[:n] - before.points[:n], axis=1) / (t - self._last[0])
        speeds[:groups] = np.maximum.reduceat(moved, cloud.start[:groups])
        return speeds

    def _count_outside(self, t: float, people: list[PersonTruth]) -> None:
        """A step counts if any bone of anyone moved faster than the configured human speed."""
        if self._last is None or t <= self._last[0]:
            return
        for person in people:
            before = self._last[2].get(person.name)
            if before is None:
                continue
            fastest = np.linalg.norm(person.bones[:, :, 3] - before[:, :, 3], axis=1).max() / (t - self._last[0])
            if fastest > self.options.human_speed:
                self._outside += 1
                return

    # ------------------------------------------------------------ distances

    def _separation(
        self, t: float, arm: ArmTruth, cloud: Cloud, people: list[PersonTruth], speeds: F64, need: float
    ) -> float:
        """True distance now, or a lower bound of it that is at least `need`; counts contacts."""
        least = math.inf
        touching: set[str] = set()
        for person in people:
            points = self._points_of(person)
            bound = least_gap(cloud.centre, cloud.radius, *points.balls(person.bones))
            nearer = bound < self._min and (bound < NEAR or self._step % _WIDE_EVERY == 0)
            if bound >= need and not nearer:
                least = min(least, bound)
                continue
            distance, link, segment = nearest(cloud, points.at(person.bones), 10.0)
            if distance < NARROW and self._narrow is not None:
                distance = min(distance, self._touched(arm, points, person, cloud, speeds, touching))
            elif distance <= 0.0 and speeds[link] > MOVING:
                touching.add(person.name)
            least = min(least, distance)
            if distance < self._min:
                self._min = distance
                self._note(t, distance, link, person.name, points.segments[segment] if segment >= 0 else "")
        self._contacts += len(touching - self._touching)
        self._touching = touching
        return least

    def _touched(
        self,
        arm: ArmTruth,
        points: PersonPoints,
        person: PersonTruth,
        cloud: Cloud,
        speeds: F64,
        touching: set[str],
    ) -> float:
        """Distance from the hulls of all links near the person; adds the person to `touching` on a moving contact."""
        assert self._narrow is not None
        centre, radius = points.balls(person.bones)
        least = math.inf
        for link in range(len(cloud.radius)):
            if least_gap(cloud.centre[link : link + 1], cloud.radius[link : link + 1], centre, radius) > NARROW:
                continue
            distance = self._narrow.distance(arm.q, arm.fingers, link, points, person.bones)
            least = min(least, distance)
            if distance <= 0.0 and speeds[link] > MOVING:
                touching.add(f"{person.name}/{self._arm.names[link]}")
        return least

    # ------------------------------------------------------------ justification

    def _human_speed(self, distance: float) -> float:
        o = self.options
        return o.human_speed if distance > o.near_distance else o.human_speed_near

    def _stop_time(self, dq: F64) -> float:
        """T_s: the shortest time in which all joints can be brought to rest, s."""
        return min(float((np.abs(dq) / self._shortest).max()), self.options.brake_time_cap)

    def _is_justified(self, t: float, arm: ArmTruth, cloud: Cloud, stop: float) -> bool:
        """The rule of the module's head, for `_SAMPLES` instants of the reaction time."""
        stages = [cloud]
        for share in (0.5, 1.0):
            # Constant deceleration: after the share s of the stopping time the joints went dq T_s (s - s^2 / 2).
            q = arm.q + arm.dq * stop * (share - 0.5 * share * share)
            stages.append(self._arm.at(q, arm.fingers, arm.held))
        count = len(self._history)
        picks = sorted({round(k * (count - 1) / (_SAMPLES - 1)) for k in range(_SAMPLES)}, reverse=True)
        shortfall, where = math.inf, (0.0, 0.0, -1, "", "")
        for pick in picks:
            past = self._history[pick]
            worst, at = -math.inf, where
            for person in past.people:
                points = self._points_of(person)
                skin = points.at(person.bones)
                for stage in stages:
                    d, link, segment = nearest(stage, skin, 10.0)
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
        longest = max(float((speed / self._guaranteed).max()), o.brake_floor)
        elapsed = t - self._justified_at - o.drive_delay - o.brake_ramp
        left = 1.0 if elapsed <= 0.0 else max(0.0, 1.0 - elapsed / longest)
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
            contact_limit_exceedances=0,
            psd_violations=self._violations,
            outside_assumption=self._outside,
            worst=dict(self._worst),
        )

    def close(self) -> None:
        """Idempotent."""
        if self._narrow is not None:
            self._narrow.close()
