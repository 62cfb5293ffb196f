"""One cycle of speed and separation monitoring: the largest rate at which the arm can still stop short of everyone.

The arm is followed along its accepted path through the remaining reaction time and its braking, and every link capsule
is measured against every occupied ball all the way. A limit L is admissible if, with the sweep and the stopping time
that L entails, every link stays farther from every ball than people travel until the arm stands (S_h) plus
C + Z_d + Z_r. The arm's own approach S_r + S_s is thereby taken exactly, as the integral along the path
(ISO/TS 15066:2016, 5.5.4.2.3, equations 4 and 6). Sweep and time grow with L, so every lower rate is admissible too.
The search is `safety.search`; docs/safety/monitor.md has the formulas and the proof.

Time is counted once: people move from the reference time of the observation until the arm stands, and what lies in
between is lease validity, tick, drive delay and braking.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception.contract import Observation
from robots.contract import RobotState
from robots.jogging import JOINT_SHARE
from robots.kinematics import Chain
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import RateLimits
from safety import search
from safety.blind import Jogging, blind_limit
from safety.braking import Brakes, Course
from safety.clamping import Fixed
from safety.config import SafetyConfig
from safety.contact import ContactLimits
from safety.contract import SeparationTerms
from safety.kernels import cloud_size, sweep_size
from safety.permits import Terrain, open_terrain
from safety.search import Finding, People
from safety.separation import human_travel
from safety.stations import STATIONS, Path
from safety.stopping import Stopping, StoppingError
from safety.zoning import Ruling, Zoning

OFF_PATH = 0.05
"""A joint farther than this from the path at the reported progress is not on it, rad."""
OUT_OF_TIME = 0.1
"""Times of observation and robot state may contradict each other by so much, s."""
ROOM = 8192
"""Balls for which there is scratch space from the start; more are taken, at the price of an allocation."""


class Decision(NamedTuple):
    """What one cycle found."""

    limit: float
    progress_from: float
    progress_to: float
    separation: float
    """Smallest distance now, m; inf if nobody is known."""
    required: float
    """Protective separation distance of the binding pair at the present rate, m."""
    terms: SeparationTerms
    link: str
    point: tuple[float, float, float]
    seen: bool
    reason: str


NO_TERMS = SeparationTerms(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def refuse(reason: str, progress: float = 0.0) -> Decision:
    """Return the decision that stops the arm."""
    return Decision(0.0, progress, progress, -1.0, -1.0, NO_TERMS, "", (0.0, 0.0, 0.0), False, reason)


class Monitor:
    """The calculation, with its scratch arrays. Holds no state from cycle to cycle."""

    def __init__(
        self, config: SafetyConfig, model: RobotModel, limits: RateLimits, contact: ContactLimits | None = None,
        fixed: Fixed | None = None, stopping: Stopping | None = None,
    ) -> None:  # fmt: skip
        """Capsules of the base, which cannot move, are left out. Raises ValueError unless they come first.

        contact: the biomechanical limits the configuration names; left out: the package's (ValueError if it names
        some).
        fixed: what somebody can be clamped against; left out: they can be everywhere.
        stopping: the stopping table the configuration names (ValueError if the two do not belong together).
        """
        if (stopping is None) != (config.stopping_table is None):
            raise ValueError("the stopping table of the configuration and the one given do not belong together")
        self._stopping = stopping
        self._model = model
        base = np.asarray(model.chain.owner) == 0
        self._fixed = int(base.sum())
        if not base[: self._fixed].all():
            raise ValueError(f"{model.name}: the capsules of the base must come first")
        reaction = config.reaction
        self._config = config
        self._human = config.human
        self._fixed_terms = config.intrusion + config.Z_d + config.Z_r
        self._validity = reaction.lease_validity + reaction.after_expiry
        self._on_its_way = reaction.monitor_period + reaction.bus + reaction.tick
        self._brakes = Brakes(limits.slope_up, limits.slope_down, limits.jerk, reaction.tick, reaction.drive_delay)
        self._jog_speed = JOINT_SHARE * model.v_max
        self._jog_acceleration = JOINT_SHARE * model.a_max
        self._zoning = Zoning(config, model, contact, fixed) if config.zones.volumes else None
        self._open = open_terrain()
        self._q = np.empty(model.dof)
        links = len(model.chain.owner) - self._fixed
        self._scratch = {n: Scratch(n, ROOM) for n in (links, links + 1)}

    def cycle(
        self, now: float, observation: Observation, state: RobotState, motion: Motion | None, ceiling: float = 1.0
    ) -> Decision:
        """Return the limit for the motion `state` is on.

        motion: the accepted motion named by `state.motion_id`, or None if the arm has none (it then stands or is
        jogged). ceiling: no older lease on this motion that can still be obeyed permits more.
        """
        if len(observation.balls) % 16:
            return refuse("the observation's points are not whole", state.progress)
        if not _sane(state, self._model.dof):
            return refuse("robot state is not a set of finite numbers")
        progress = state.progress if motion is not None else 0.0
        horizon = observation.oldest_exposure + self._validity - state.t
        age = state.t - observation.t
        if not horizon > 0.0 or not math.isfinite(age):
            return refuse("the observation is too old to move on", progress)
        if not horizon <= self._validity + OUT_OF_TIME or age < -OUT_OF_TIME or not math.isfinite(now):
            return refuse("observation and robot state are not of the same time", progress)
        self._q[:] = state.q
        if motion is not None and not _on_path(self._q, progress, motion):
            return refuse("the arm is not where its accepted motion says", progress)
        try:
            chain = self._model.chain_with(state.held)
        except (ValueError, TypeError):
            return refuse("the part held is not described by sensible numbers", progress)
        balls = np.frombuffer(observation.balls, "<f4")
        ruling = None
        if self._zoning is not None:
            ruling = self._zoning.rule(observation, balls, motion.phase if motion is not None else "", state.mode)
            balls = ruling.balls
        people = People(self._human.slow, self._human.fast, self._fixed_terms, max(0.0, age))
        try:
            brakes, top = self._measured(motion, state)
        except StoppingError as error:
            return refuse(str(error), progress)
        scratch = self._scratch[len(chain.owner) - self._fixed]
        scratch.make_room(len(balls) // 4)
        obeyed = max(0.0, now - state.t) + self._on_its_way
        if motion is None:
            found = self._off_path(balls, chain, state, horizon, obeyed, people, scratch)
        else:
            terrain = self._open
            if self._zoning is not None and ruling is not None:
                terrain = self._zoning.terrain(ruling, chain, self._fixed, state.held, motion, progress, state.mode)
            course = Course(progress, state.rate, state.rate_slope, horizon, obeyed, ceiling)
            path = Path(motion.path, motion.curvature, motion.slope_limits, motion.step)
            found = self._along(balls, chain, course, path, brakes, people, terrain, scratch)
            found = found if found.limit <= top else found._replace(limit=top)
        if not found.sound:
            return refuse("an occupied point is not a sensible number", progress)
        decision = self._decision(found, state, observation, balls, horizon, people.age)
        if ruling is None:
            return decision
        if motion is None and self._zoning is not None:
            slow = self._zoning.jogging(ruling.slowest, chain, self._fixed, self._jog_speed)
            decision = decision._replace(limit=min(decision.limit, slow))
        return _zoned(decision, ruling)

    def _measured(self, motion: Motion | None, state: RobotState) -> tuple[Brakes, float]:
        """The brakes, with what the stopping table says of the motion, and the largest rate it covers.

        Raises StoppingError if the table does not cover load or extension."""
        if self._stopping is None or motion is None:
            return self._brakes, 1.0
        stops = self._stopping.along(motion, state.held.mass if state.held is not None else 0.0)
        return self._brakes._replace(measured=stops.rows), stops.top

    def warm_up(self) -> None:
        """Load the compiled kernels with a made-up cycle."""
        dof = self._model.dof
        rest = (self._model.q_lower + self._model.q_upper) / 2
        path = Path(np.tile(rest, (3, 1)), np.zeros((3, dof)), np.full(3, 8.0), 0.01)
        balls = np.frombuffer(np.ones(4, "<f4").tobytes(), "<f4")
        people = People(self._human.slow, self._human.fast, self._fixed_terms, 0.1)
        course = Course(0.0, 0.5, 0.0, 0.1, 0.01, 1.0)
        self._q[:] = rest
        scratch = self._scratch[len(self._model.chain.owner) - self._fixed]
        self._along(balls, self._model.chain, course, path, self._brakes, people, self._open, scratch)
        if self._zoning is not None:
            self._zoning.warm_up(self._fixed)
        search.stand(balls, self._model.chain, self._fixed, self._q, scratch.singles, scratch.doubles, scratch.near)
        search.deviation(self._q, 0.0, path)
        jog = Jogging(np.zeros(dof), self._jog_speed, self._jog_acceleration, 0.1, 0.01, self._brakes.tick)
        blind_limit(self._model.chain, self._fixed, self._q, jog, people, scratch.near)

    def _along(
        self, balls: NDArray[np.float32], chain: Chain, course: Course, path: Path, brakes: Brakes, people: People,
        terrain: Terrain, scratch: Scratch,
    ) -> Finding:  # fmt: skip
        """On the accepted path."""
        return search.decide(
            balls, chain, self._fixed, self._q, course, path, brakes, people, terrain,
            scratch.singles, scratch.doubles,
        )  # fmt: skip

    def _off_path(
        self, balls: NDArray[np.float32], chain: Chain, state: RobotState, horizon: float, obeyed: float,
        people: People, scratch: Scratch,
    ) -> Finding:  # fmt: skip
        """Where no motion is accepted: rate 0, but for jogging, which only manual mode knows."""
        found = search.stand(
            balls, chain, self._fixed, self._q, scratch.singles, scratch.doubles, scratch.near
        )  # fmt: skip
        if state.mode != "manual" or not found.sound:
            return found
        speed = np.maximum(np.abs(state.dq), np.abs(state.dq_commanded))
        longest = self._stopping.longest if self._stopping is not None else 0.0
        jog = Jogging(speed, self._jog_speed, self._jog_acceleration, horizon, obeyed, self._brakes.tick, longest)
        return found._replace(limit=blind_limit(chain, self._fixed, self._q, jog, people, scratch.near))

    def _decision(
        self, found: Finding, state: RobotState, observation: Observation, balls: NDArray[np.float32],
        horizon: float, age: float,
    ) -> Decision:  # fmt: skip
        """The decision with its grounds: terms for the nearest pair at the present rate."""
        to = state.progress + found.ahead
        if found.ball < 0:
            return Decision(found.limit, state.progress, to, math.inf, 0.0, NO_TERMS, "", (0.0, 0.0, 0.0), False, "")
        separation = found.separation
        approach = max(0.0, separation - found.low)
        share = min(1.0, state.rate * horizon / found.swept) if found.swept > 0.0 else 0.0
        terms = self._terms(age + found.time, approach, share)
        name = self._model.capsule_names(state.held)[found.link + self._fixed]
        x, y, z = balls[4 * found.ball : 4 * found.ball + 3].tolist()
        seen = found.ball < observation.seen
        required = terms.S_p
        reason = ""
        if found.limit < 1.0:
            who = "person" if seen else "unseen space"
            reason = f"{who} {separation:.2f} m from {name}, needs {required:.2f} m"
        return Decision(found.limit, state.progress, to, separation, required, terms, name, (x, y, z), seen, reason)

    def _terms(self, time: float, approach: float, share: float) -> SeparationTerms:
        config = self._config
        S_h = human_travel(time, self._fixed_terms + approach, self._human.slow, self._human.fast)
        return SeparationTerms(
            S_h, approach * share, approach * (1.0 - share), config.intrusion, config.Z_d, config.Z_r
        )


def _zoned(decision: Decision, ruling: Ruling) -> Decision:
    """The decision with what the zones add: a stop, or words for what holds."""
    if ruling.stop:
        return decision._replace(limit=0.0, reason=f"somebody is in the stop zone {ruling.stop}")
    reason = decision.reason
    if decision.limit < 1.0 and ruling.slowest < math.inf:
        reason += f"{'; ' if reason else ''}reduced speed of {ruling.slowest * 1e3:.0f} mm/s"
    if 0.0 < decision.limit < 1.0 and len(ruling.zone):
        reason += f"{'; ' if reason else ''}slow enough to touch"
    return decision._replace(reason=reason)


class Scratch:
    """Arrays of one cycle for a number of moving links."""

    def __init__(self, links: int, balls: int) -> None:
        self._links = links
        self._room = balls
        self.near = np.empty(links)
        self.singles = np.empty(cloud_size(balls, links), np.float32)
        self.doubles = np.empty(sweep_size(STATIONS, links) + search.FALLS)

    def make_room(self, balls: int) -> None:
        """Make sure that there is room for so many balls."""
        if balls > self._room:
            self._room = 2 * balls
            self.singles = np.empty(cloud_size(self._room, self._links), np.float32)


def _on_path(q: NDArray[np.float64], progress: float, motion: Motion) -> bool:
    """Is the measured arm where the motion is at the reported progress?"""
    if not -1e-9 <= progress <= motion.duration + 1e-6:
        return False
    path = Path(motion.path, motion.curvature, motion.slope_limits, motion.step)
    return bool(search.deviation(q, progress, path) <= OFF_PATH)


def _sane(state: RobotState, dof: int) -> bool:
    if not len(state.q) == len(state.dq) == len(state.dq_commanded) == dof:
        return False
    total = sum(state.q) + sum(state.dq) + sum(state.dq_commanded) + state.t + state.progress + state.rate_slope
    return math.isfinite(total) and 0.0 <= state.rate <= 1.0
