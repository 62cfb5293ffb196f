"""One cycle of speed and separation monitoring: the largest rate at which the arm can still stop short of everyone.

The arm is followed along its accepted path through the remaining reaction time and its braking. At stations of that
path every link capsule is measured against every occupied ball. A rate L is admissible if, with the sweep and the
stopping time that L entails, every link at every station stays farther from every ball than people travel until the
arm stands (S_h) plus C + Z_d + Z_r. The arm's own approach S_r + S_s is thereby taken exactly, as the integral along
the path (ISO/TS 15066:2016, 5.5.4.2.3, equations 4 and 6). Sweep and time grow with L, so every lower rate is
admissible too.

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
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import RateLimits
from safety import kernels
from safety.config import SafetyConfig
from safety.contract import SeparationTerms
from safety.separation import human_travel

SPACING = 0.02
"""Nominal time between two stations, s."""
STATIONS = 48
"""Longest look ahead: 0.96 s of nominal time; a sweep beyond it is not admissible."""
BISECTIONS = 10
OFF_PATH = 0.05
"""A joint farther than this from the path at the reported progress is not on it, rad."""
BLIND_SPEED = 0.5
"""Fastest any point of the arm moves in manual mode, m/s: TCP and elbow are held to 0.25 m/s by the robot node
(ISO 10218-1:2011, 5.7.3), and no other point of the arm is more than twice as far from the moving axes."""
BLIND_BRAKING = 0.3
"""Longest braking time from jogging speed, s."""


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

    def __init__(self, config: SafetyConfig, model: RobotModel, limits: RateLimits) -> None:
        """Capsules of the base, which cannot move, are left out. Raises ValueError unless they come first."""
        self._config = config
        self._model = model
        self._limits = limits
        base = np.asarray(model.chain.owner) == 0
        self._fixed = int(base.sum())
        if not base[: self._fixed].all():
            raise ValueError(f"{model.name}: the capsules of the base must come first")
        self._fixed_terms = config.intrusion + config.Z_d + config.Z_r
        self._clear = np.empty(STATIONS)
        self._binding = np.empty((STATIONS, 2), np.int64)
        self._now = np.empty(3)

    def cycle(self, now: float, observation: Observation, state: RobotState, motion: Motion | None) -> Decision:
        """Return the limit for the motion `state` is on.

        motion: the accepted motion named by `state.motion_id`, or None if the arm has none (it then stands; the
        decision is for rate 0 and tells the separation).
        """
        if len(observation.balls) % 16:
            return refuse("the observation's points are not whole", state.progress)
        balls = np.frombuffer(observation.balls, "<f4").reshape(-1, 4)
        if not _sane(state, self._model.dof):
            return refuse("robot state is not a set of finite numbers")
        horizon = observation.oldest_exposure + self._config.reaction.lease_validity
        horizon += self._config.reaction.after_expiry - state.t
        age = state.t - observation.t
        progress = state.progress if motion is not None else 0.0
        if not math.isfinite(horizon) or horizon <= 0.0 or not math.isfinite(age):
            return refuse("the observation is too old to move on", progress)
        if motion is not None and not _on_path(state, motion):
            return refuse("the arm is not where its accepted motion says", progress)
        stations = self._stations(state, motion, horizon)
        found = self._measure(balls, stations, state)
        if found is None:
            return refuse("an occupied point or a link is not a finite number", progress)
        if motion is not None:
            limit = self._search(state, motion, horizon, max(0.0, age))
        else:
            limit = self._blind_limit(state, horizon + max(0.0, age))
        return self._decide(limit, state, motion, horizon, max(0.0, age), balls, observation)

    def warm_up(self) -> None:
        """Load the compiled kernels with a made-up cycle."""
        links = len(self._model.capsule_names()) - self._fixed
        a, b, r = self._model.capsule_paths(np.zeros((2, self._model.dof)))
        slack, moved = np.empty((2, links)), np.empty((2, links))
        a, b, r = a[:, self._fixed :].copy(), b[:, self._fixed :].copy(), r[self._fixed :]
        kernels.station_slack(a, b, slack, moved)
        balls = np.ones((2, 4), np.float32)
        kernels.clearances(
            np.frombuffer(balls.tobytes(), "<f4").reshape(-1, 4), a, b, r, slack, moved, 1.0,
            self._clear[:2], self._binding[:2], self._now,
        )  # fmt: skip
        lim = self._limits
        kernels.stop_bound(
            1.0, 0.0, 0.5, 0.1, 0.0, np.full(3, 8.0), 0.01, lim.slope_up, lim.slope_down, lim.jerk, 0.004
        )
        kernels.admissible(0.1, 0.0, self._clear, SPACING, 0.1, 1.6, 2.0, self._fixed_terms)

    def _stations(self, state: RobotState, motion: Motion | None, horizon: float) -> NDArray[np.float64]:
        """Joint positions at the stations; the first is the measured position."""
        if motion is None:
            return np.asarray(state.q)[None, :]
        _, swept = self._bound(state, motion, 1.0, horizon)
        count = min(STATIONS, math.ceil(swept / SPACING) + 2) if math.isfinite(swept) else STATIONS
        at = (state.progress + np.arange(count) * SPACING) / motion.step
        at = np.clip(at, 0.0, len(motion.path) - 1.0)
        low = np.minimum(at.astype(int), max(len(motion.path) - 2, 0))
        part = (at - low)[:, None]
        high = np.minimum(low + 1, len(motion.path) - 1)
        Q = motion.path[low] * (1.0 - part) + motion.path[high] * part
        Q[0] = state.q
        return Q

    def _measure(
        self, balls: NDArray[np.float32], Q: NDArray[np.float64], state: RobotState
    ) -> NDArray[np.float64] | None:
        a, b, r = self._model.capsule_paths(Q, state.held)
        a, b, r = a[:, self._fixed :].copy(), b[:, self._fixed :].copy(), r[self._fixed :]
        slack, moved = np.empty(a.shape[:2]), np.empty(a.shape[:2])
        kernels.station_slack(a, b, slack, moved)
        self._clear[len(Q) :] = -math.inf
        reach = self._config.human.fast * 2.0 + self._fixed_terms
        clear, binding = self._clear[: len(Q)], self._binding[: len(Q)]
        ok = kernels.clearances(balls, a, b, r, slack, moved, reach, clear, binding, self._now)
        return clear if ok else None

    def _bound(self, state: RobotState, motion: Motion, limit: float, horizon: float) -> tuple[float, float]:
        lim = self._limits
        time, swept = kernels.stop_bound(
            state.rate, state.rate_slope, limit, horizon, state.progress, motion.slope_limits, motion.step,
            lim.slope_up, lim.slope_down, lim.jerk, self._config.reaction.tick,
        )  # fmt: skip
        return float(time), float(swept)

    def _admissible(self, limit: float, state: RobotState, motion: Motion, horizon: float, age: float) -> bool:
        time, swept = self._bound(state, motion, limit, horizon)
        human = self._config.human
        return bool(
            kernels.admissible(time, swept, self._clear, SPACING, age, human.slow, human.fast, self._fixed_terms)
        )

    def _search(self, state: RobotState, motion: Motion, horizon: float, age: float) -> float:
        """Largest admissible limit, from below."""
        if self._admissible(1.0, state, motion, horizon, age):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            if self._admissible(middle, state, motion, horizon, age):
                low = middle
            else:
                high = middle
        return low

    def _blind_limit(self, state: RobotState, horizon: float) -> float:
        """Limit for jogging and hand guiding, where no path is known: any point may come at BLIND_SPEED * limit."""
        if state.mode != "manual":
            return 0.0
        human, time = self._config.human, horizon + BLIND_BRAKING
        for percent in range(100, 0, -1):
            approach = BLIND_SPEED * percent / 100.0 * time
            fixed = self._fixed_terms + approach
            if self._now[0] >= human_travel(time, fixed, human.slow, human.fast) + fixed:
                return percent / 100.0
        return 0.0

    def _decide(
        self, limit: float, state: RobotState, motion: Motion | None, horizon: float, age: float,
        balls: NDArray[np.float32], observation: Observation,
    ) -> Decision:  # fmt: skip
        separation, ball, link = float(self._now[0]), int(self._now[1]), int(self._now[2])
        time, swept, to = 0.0, 0.0, state.progress
        if motion is not None:
            time, swept = self._bound(state, motion, state.rate, horizon)
            _, ahead = self._bound(state, motion, limit, horizon)
            to = state.progress + ahead
        if ball < 0:
            return Decision(limit, state.progress, to, math.inf, 0.0, NO_TERMS, "", (0, 0, 0), False, "")
        last = min(math.ceil(swept / SPACING - 1e-9), len(self._clear) - 1)
        approach = max(0.0, separation - float(self._clear[: last + 1].min()))
        share = min(1.0, state.rate * horizon / swept) if swept > 0.0 else 0.0
        terms = self._terms(age + time, approach, share)
        names = self._model.capsule_names(state.held)
        name = names[link + self._fixed]
        x, y, z, _ = (float(v) for v in balls[ball])
        seen = ball < observation.seen
        reason = ""
        if limit < 1.0:
            who = "person" if seen else "unseen space"
            reason = f"{who} {separation:.2f} m from {name}, needs {terms.S_p:.2f} m"
        return Decision(limit, state.progress, to, separation, terms.S_p, terms, name, (x, y, z), seen, reason)

    def _terms(self, time: float, approach: float, share: float) -> SeparationTerms:
        config = self._config
        S_h = human_travel(time, self._fixed_terms + approach, config.human.slow, config.human.fast)
        return SeparationTerms(
            S_h, approach * share, approach * (1.0 - share), config.intrusion, config.Z_d, config.Z_r
        )


def _on_path(state: RobotState, motion: Motion) -> bool:
    """Is the measured arm where the motion is at the reported progress?"""
    at = min(max(state.progress / motion.step, 0.0), len(motion.path) - 1.0)
    low = min(int(at), max(len(motion.path) - 2, 0))
    high = min(low + 1, len(motion.path) - 1)
    expected = motion.path[low] + (at - low) * (motion.path[high] - motion.path[low])
    return bool(np.max(np.abs(expected - np.asarray(state.q))) <= OFF_PATH)


def _sane(state: RobotState, dof: int) -> bool:
    numbers = [*state.q, *state.dq, state.t, state.progress, state.rate, state.rate_slope]
    return len(state.q) == dof and all(map(math.isfinite, numbers)) and 0.0 <= state.rate <= 1.0
