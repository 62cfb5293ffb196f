"""The second channel: another calculation of the largest admissible rate, and its own lease.

Written from ISO/TS 15066:2016, 5.5.4.2.3 and ISO 13855:2010 in plain float64 numpy, sharing no code with
`safety.monitor` and `safety.kernels`. It is diverse calculation, not redundant sensing: both channels rest on the same
observation, robot state, clock, configuration, robot description and process image of the machine (docs/safety).

The rule: during the time a lease can be obeyed the arm may move at up to the limit L, then it brakes. Wherever a link
gets on its path in that time, everyone must be farther away than they travel from the observation's reference time to
the arm's standstill, plus C + Z_d + Z_r.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception.contract import Observation
from robots.contract import AcceptedMotion, PartGeometry, RobotState
from robots.description import load_description
from robots.jogging import JOINT_SHARE
from robots.model import RobotModel
from robots.rates import RateLimits
from robots.workcell import Workcell
from safety.config import SafetyConfig
from safety.contact import ContactLimits
from safety.second_arm import ArmError, ArmGeometry, Course
from safety.second_stop import LENIENT, STRICT, Care, Case, quickest_stop, stop_within
from safety.second_sweep import STEP, Sweep, distances, places
from safety.second_table import NOT_MEASURED, MeasuredStops, Stops
from safety.second_zones import SecondZones, Sorted
from safety.stopping import StopTable

Array = NDArray[np.float64]

LONGEST = 1.2
"""Longest sweep that is looked at, nominal s; a limit that entails more is not admissible."""
PATH_TOLERANCE = 0.05
"""An arm with a joint farther than this from its path is not on it, rad."""
PATH_ROUNDING = 0.002
"""By so much two calculations may differ about that, rad."""
OFF_PATH = "second channel: the arm is not on its path"
OVERSPEED = 1.4
"""An arm that is measured to be this much faster than its motion at full rate is not under control."""
SLOW = 0.5
"""Where the motion is slower than this at full rate, measured speeds say nothing about the rate, rad/s."""
LAG = (0.0, 0.02, 0.04, 0.06)
"""Measured speeds can be so old against the progress, nominal s."""
NEARBY = 0.5
"""Round an arm without a motion nobody farther away than this is looked for, m."""
CREEP = 0.02
"""A limit below this is 0."""
HALVINGS = 8


class Verdict(NamedTuple):
    """What one calculation found."""

    limit: float
    reach: float
    """Nominal progress up to which the arm may get with it."""
    reason: str
    restartable: bool
    by_separation: bool
    """The limit follows from distances, not from missing or broken data."""
    separation: float = math.nan
    """Least distance of anybody from the arm now, m, as far as it was looked at; NaN: nobody was."""


def refused(reason: str, restartable: bool = True) -> Verdict:
    """A verdict that stops the arm."""
    return Verdict(0.0, 0.0, reason, restartable, False)


class SecondMonitor:
    """The calculation. Holds nothing from call to call but where the links are along the present motion."""

    def __init__(
        self, config: SafetyConfig, model: RobotModel, limits: RateLimits, contact: ContactLimits | None = None,
        workcell: Workcell | None = None, stopping: StopTable | None = None,
    ) -> None:  # fmt: skip
        """`model` gives name, joint limits and torques; where its links are is calculated anew. Raises ArmError.

        contact: the biomechanical limits the configuration names; left out: the package's (ValueError if it names
        some).
        workcell: what somebody can be clamped against; left out: they can be everywhere.
        stopping: the stopping table the configuration names (ValueError if the two do not belong together).
        """
        if (stopping is None) != (config.stopping_table is None):
            raise ValueError("the stopping table of the configuration and the one given do not belong together")
        self._config = config
        self._arm = ArmGeometry(load_description(model.name), model.tool_name)
        self._model = model
        self._rates = limits
        self._table = MeasuredStops(stopping, model, self._arm, limits) if stopping is not None else None
        self._sweep: Sweep | None = None
        self._fixed = config.intrusion + config.Z_d + config.Z_r
        self._zones = SecondZones(config, model, self._arm, contact, workcell) if config.zones.volumes else None

    def course(self, motion: AcceptedMotion) -> Course:
        """Prepare a motion. Raises ArmError."""
        m = self._model
        down = self._rates.slope_down
        return Course(motion, np.array(m.v_max), np.array(m.a_max), np.array(m.tau_max), m.torque, down)

    def judge(
        self, now: float, observation: Observation, state: RobotState, course: Course | None, measured: bool = True,
        held: float = 1.0,
    ) -> Verdict:  # fmt: skip
        """Return the largest admissible limit on `course` (None: the arm has no motion; it may be jogged).

        measured: the measured speed counts too, where it is higher than the commanded one. held: no lease before this
        one that can still be obeyed grants more.
        """
        found = self._grounds(observation, state)
        if isinstance(found, Verdict):
            return found
        balls, horizon, age = found
        people = self._sorted(balls, observation, state, course)
        try:
            if course is None:
                verdict = self._manual(now, people, state, horizon, age)
            else:
                verdict = self._on_course(now, people, state, course, horizon, age, measured, held)
        except ArmError as error:
            return refused(f"second channel: {error}")
        if people.stop and verdict.by_separation:
            return verdict._replace(limit=0.0, reason=f"second channel: somebody is in the stop zone {people.stop}")
        return verdict

    def _grounds(self, observation: Observation, state: RobotState) -> tuple[Array, float, float] | Verdict:
        """Everyone as balls (n, 4), how long a lease can be obeyed and how old they are, s; or why nothing goes."""
        data = observation.balls
        if len(data) % 16:
            return refused("second channel: the list of points is torn")
        balls = np.frombuffer(data, "<f4").reshape(-1, 4).astype(np.float64)
        if not np.isfinite(balls).all() or (len(balls) and balls[:, 3].min() < 0.0):
            return refused("second channel: a point is not a finite number")
        if not self._plausible(state):
            return refused("second channel: robot state is not a set of finite numbers")
        reaction = self._config.reaction
        horizon = observation.oldest_exposure + reaction.lease_validity + reaction.after_expiry - state.t
        age = max(0.0, state.t - observation.t)
        if not (math.isfinite(horizon) and math.isfinite(age)) or horizon <= 0.0:
            return refused("second channel: the observation is too old")
        return balls, horizon, age

    def _sorted(self, balls: Array, observation: Observation, state: RobotState, course: Course | None) -> Sorted:
        """Everyone there is, by what the zones say of where they are."""
        if self._zones is None:
            return Sorted(balls, (), (), "", math.inf)
        found = self._zones.sort(balls, observation.seen, course.phase if course is not None else "", state.mode)
        if observation.reason:
            # A reservation about what is seen is no ground for touching anybody.
            return found._replace(
                free=np.concatenate([found.free, *(some for _, some in found.touchable)]), touchable=()
            )
        return found

    def _plausible(self, state: RobotState) -> bool:
        values = [*state.q, *state.dq, *state.dq_commanded, state.t, state.progress, state.rate, state.rate_slope]
        shapes = len(state.q) == len(state.dq) == len(state.dq_commanded) == self._arm.dof
        return shapes and all(map(math.isfinite, values)) and 0.0 <= state.rate <= 1.0 and state.progress >= 0.0

    def need(self, time: float) -> float:
        """Distance, m, that must be left from everyone who has `time` s to move: S_h + C + Z_d + Z_r.

        ISO 13855:2010, 6.2.3: hand speed while the whole stays within 0.5 m, walking speed beyond, never less than 0.5.
        """
        human = self._config.human
        by_hand = human.fast * time + self._fixed
        return by_hand if by_hand <= 0.5 else max(0.5, human.slow * time + self._fixed)

    # ------------------------------------------------------------ with a path

    def _on_course(
        self, now: float, people: Sorted, state: RobotState, course: Course, horizon: float, age: float, measured: bool,
        held: float,
    ) -> Verdict:  # fmt: skip
        speed = self._measured_rate(state, course) if measured else 0.0
        if speed > OVERSPEED:
            return refused("second channel: the arm is faster than its motion")
        if not self._on_path(state, course, PATH_TOLERANCE):
            return refused(OFF_PATH)
        # Until this verdict reaches the node the arm may still speed up under the one before.
        delay = max(0.0, now - state.t) + self._config.reaction.bus + self._config.reaction.tick
        top = max(held, state.rate, speed)
        rate = min(top, max(state.rate, speed) + self._rates.slope_up * delay)
        if state.progress <= 0.0:
            rate = max(top, rate)  # the path is at rest at its start, so the node lets the rate jump there
        stops = self._stops(state, course, strict=True)
        case = Case(state.progress, rate, state.rate, max(0.0, state.rate_slope), horizon, delay, age, stops)
        left, stop, margin = self._margin(people, state, course, case, STRICT)
        limit = _largest(lambda candidate: margin(candidate) >= 0.0, rate)
        limit = limit if limit >= CREEP else 0.0
        text = f"second channel: {left:.2f} m from the arm" if limit < 1.0 else ""
        return Verdict(limit, state.progress + stop(limit)[1], text, True, True, left)

    def _on_path(self, state: RobotState, course: Course, tolerance: float) -> bool:
        return bool(np.abs(course.near(state.progress) - np.array(state.q)).max() <= tolerance)

    def _stops(self, state: RobotState, course: Course, strict: bool) -> Stops:
        """What the stopping table says of the course with what is held. Raises ArmError beyond the table."""
        if self._table is None:
            return NOT_MEASURED
        return self._table.along(course, state.held.mass if state.held is not None else 0.0, strict)

    def _margin(
        self, people: Sorted, state: RobotState, course: Course, case: Case, care: Care
    ) -> tuple[float, Callable[[float], tuple[float, float]], Callable[[float], float]]:
        """Return the distance now, m; a limit's stopping time and sweep; and the distance it leaves beyond the need."""

        @cache
        def stop(limit: float) -> tuple[float, float]:
            if care is LENIENT:
                return quickest_stop(limit, case, course, self._rates, self._config.reaction)
            return stop_within(limit, case, course, care, self._rates, self._config.reaction)

        time, swept = stop(min(1.0, case.stops.top))
        time, swept = (time, swept) if swept < LONGEST else (2.0, LONGEST)
        sweep = self._sweep
        if sweep is None or sweep.course is not course or sweep.held != state.held:
            sweep = self._sweep = Sweep(self._arm, course, state.held)
        first, last = places(case.begin, swept)
        a, b, half, way = sweep.stretch(first, last)
        here, widest = self._links(np.array(state.q), state.held), self.need(case.age + time) + 0.1
        left = distances(people.free, here, (a, b, half * care.slack, way), widest)
        touch = None
        if self._zones is not None and (people.touchable or people.slowest < math.inf):
            ahead = (a, b, half, way)
            touch = self._zones.touch(people, course, here, ahead, first, state.held, widest, care.slack)

        def margin(limit: float) -> float:
            t, s = stop(limit)
            if not s < LONGEST:
                return -math.inf
            inside = math.floor((case.begin + s) / STEP) - first
            beyond = math.ceil((case.begin + s) / STEP) - first
            # `left` starts with the arm's measured place; of the others, the first lies just behind it.
            cut = np.arange(beyond + 2) if care is STRICT else np.append(0, np.arange(2, inside + 2))
            least = float(left[np.minimum(cut, len(left) - 1)].min())
            if touch is not None:
                least = min(least, touch.distance(limit, beyond if care is STRICT else inside, cut))
            return least - self.need(case.age + t)

        now = min([float(left[0]), *(float(away[0]) for _, _, away in (touch.near if touch is not None else ()))])
        return now, stop, margin

    def audit(
        self, observation: Observation, state: RobotState, course: Course, limit: float
    ) -> tuple[float, float] | None:
        """Return by how much, m, a limit granted on these grounds leaves more than is needed; None: nothing may be.

        First with every doubt in its favour (no reserve for braking, ticks, or between the places looked at): below 0
        the limit was too permissive. Then as this channel itself decides: below 0 it would have granted less.
        """
        found = self._grounds(observation, state)
        if isinstance(found, Verdict) or not self._on_path(state, course, PATH_TOLERANCE + PATH_ROUNDING):
            return None
        balls, horizon, age = found
        people = self._sorted(balls, observation, state, course)
        if people.stop:
            return None
        reaction, slope = self._config.reaction, max(0.0, state.rate_slope)
        try:
            stops = self._stops(state, course, strict=False)
            case = Case(state.progress, state.rate, state.rate, slope, horizon, 0.0, age, stops)
            favour = self._margin(people, state, course, case, LENIENT)[2](limit)
        except ArmError:
            return None
        delay = reaction.bus + reaction.tick
        rate = min(1.0, state.rate + self._rates.slope_up * delay) if state.progress > 0.0 else 1.0
        try:
            case = case._replace(rate=rate, delay=delay, stops=self._stops(state, course, strict=True))
            own = self._margin(people, state, course, case, STRICT)[2](limit)
        except ArmError:
            own = -math.inf
        return favour, own

    def _measured_rate(self, state: RobotState, course: Course) -> float:
        """Rate at which the joints are measured to move along the course; 0 where it hardly moves them.

        The drives lag: measured speeds belong to a place somewhat behind. The least over that stretch counts.
        """
        dq = np.array(state.dq)
        least = math.inf
        for behind in LAG:
            along = course.speed(state.progress - behind)
            square = float(along @ along)
            least = min(least, float(along @ dq) / square if square > SLOW * SLOW else 0.0)
        return least

    def _links(self, q: Array, held: PartGeometry | None) -> tuple[Array, Array, Array]:
        a, b, radii = self._arm.capsules(q[None], held)
        return a[0], b[0], radii

    # ------------------------------------------------------------ without a path

    def _manual(self, now: float, people: Sorted, state: RobotState, horizon: float, age: float) -> Verdict:
        """Jogging: every joint may turn either way at its jog speed times the limit, or as fast as it does already."""
        here = self._links(np.array(state.q), state.held)
        if state.mode != "manual":
            balls = np.concatenate([people.free, *(some for _, some in people.touchable)])
            left = float(distances(balls, here, None, NEARBY)[0])
            return refused("second channel: no motion is accepted")._replace(separation=left)
        delay = max(0.0, now - state.t) + self._config.reaction.bus + self._config.reaction.tick
        time, way = self._jogged(1.0, state, here, horizon, delay)
        balls = np.concatenate([people.free, *(some for _, some in people.touchable)])
        left = float(distances(balls, here, None, self.need(age + time) + way + 0.1)[0])

        def fits(limit: float) -> bool:
            t, w = self._jogged(limit, state, here, horizon, delay)
            return left >= self.need(age + t) + w

        limit = _largest(fits, 0.0)
        if self._zones is not None and people.slowest < math.inf:
            top, origins = JOINT_SHARE * np.array(self._model.v_max), self._arm.origins(np.array(state.q))
            limit = min(limit, self._zones.jogging(people, top, np.concatenate(here[:2]), origins))
        text = f"second channel: {left:.2f} m from the arm" if limit < 1.0 else ""
        return Verdict(limit if limit >= CREEP else 0.0, 0.0, text, True, True, left)

    def _jogged(
        self, limit: float, state: RobotState, here: tuple[Array, Array, Array], horizon: float, delay: float
    ) -> tuple[float, float]:
        """Bound time, s, and way, m, of any point of the arm until it stands.

        Joint by joint from the outermost: what lies beyond a joint is at most as far from it as now, plus the way that
        the joints beyond it can make, and turns about it by no more than its speed allows.
        """
        m, tick = self._model, self._config.reaction.tick
        top, change = JOINT_SHARE * np.array(m.v_max), JOINT_SHARE * np.array(m.a_max)
        present = np.maximum(np.abs(state.dq), np.abs(state.dq_commanded))
        speed = np.maximum(limit * top, np.maximum(present, np.minimum(top, present + change * delay)))
        braking = float((speed / change).max())
        longest, farthest = self._table.longest if self._table is not None else (0.0, 0.0)
        turn = speed * (horizon + delay + 2.0 * tick + max(0.5 * max(braking, longest), farthest))
        braking = max(braking, longest)
        a, b, radii = here
        ends = np.concatenate([a, b])
        way = 0.0
        for j, origin in reversed(list(enumerate(self._arm.origins(np.array(state.q))))):
            # all links, also those before the joint: more than enough
            reach = float((np.sqrt(((ends - origin) ** 2).sum(-1)) + np.tile(radii, 2)).max())
            way += float(turn[j]) * (reach + way)
        return horizon + delay + 2.0 * tick + braking, way


def _largest(fits: Callable[[float], bool], likely: float) -> float:
    """Largest limit in [0, 1] that fits, to 0.4 %, from below."""
    if fits(1.0):
        return 1.0
    low, high = (likely, 1.0) if likely < 1.0 and fits(likely) else (0.0, 1.0)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
