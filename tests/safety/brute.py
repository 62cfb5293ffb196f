"""Dense brute force for the monitor's limit: own geometry in plain float64, the robot node's own rate law.

For every rate r on a fine grid the arm is led through the ramps that matter: at r at once, at r only at the very end
and still rising, from the present rate down to r after an older lease. From wherever that leaves it the node brakes
tick by tick with the fall its motion permits at each place. r is admissible if everything swept stays as far from all
balls as people need until the arm stands.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.model import RobotModel
from robots.motion import Motion
from robots.rates import RateLimits, rate_step
from safety.config import SafetyConfig

F64 = NDArray[np.float64]
GRID = 400
"""Rates tried: 1/GRID, 2/GRID, ..., 1."""
PITCH = 0.002
"""Nominal time between two positions at which gaps are measured, s."""


class Situation(NamedTuple):
    """Where the arm is, and how old the observation is."""

    motion: Motion
    progress: float
    rate: float
    slope: float
    lag: float
    """The measured arm is where the path was so long ago, nominal s."""
    age: float
    """From the reference time of the balls to the robot state, s."""
    oldest: float
    """From the oldest exposure to the robot state, s."""


@njit(cache=True)
def _fall(fall: F64, step: float, p: float, down: float) -> float:
    """Fall the node permits at progress p: the least of the samples on both sides."""
    last = fall.shape[0] - 1
    low = min(max(int(math.floor(p / step)), 0), last)
    high = min(max(int(math.ceil(p / step)), low), last)
    return min(down, min(fall[low], fall[high]))


@njit(cache=True)
def _run(
    p: float, rate: float, slope: float, target: float, ticks: int, fall: F64, step: float, up: float, down: float,
    jerk: float, dt: float,
) -> tuple[float, float, float, int]:  # fmt: skip
    """Progress, rate, slope and ticks taken under one target; ticks < 0: until the arm stands."""
    n = 0
    while n < ticks or (ticks < 0 and rate > 0.0 and n < 20000):
        before = rate
        rate, slope = rate_step(rate, slope, target, up, _fall(fall, step, p, down), jerk, dt)
        p += 0.5 * (before + rate) * dt
        n += 1
    return p, rate, slope, n


@njit(cache=True)
def outcomes(
    now: tuple[float, float, float], horizon: float, delay: float, obeyed: float, fall: F64, step: float, up: float,
    down: float, jerk: float, dt: float, grid: int,
) -> tuple[F64, F64]:  # fmt: skip
    """Time and progress of standstill, (grid, ramps) each."""
    parts = 5
    time, end = np.zeros((grid, 2 * parts + 1)), np.zeros((grid, 2 * parts + 1))
    p0, rate0, slope0 = now
    if p0 == 0.0 and rate0 == 0.0:
        rate0 = 1.0  # the node lets the rate jump at the start of a motion, an older lease permitting
    whole = int(math.ceil(horizon / dt - 1e-9))
    commanded = int(math.ceil(max(0.0, horizon - delay) / dt - 1e-9))
    for g in range(grid):
        r = (g + 1) / grid
        for part in range(parts):
            start = p0 + r * whole * dt * part / (parts - 1)
            p, _, _, n = _run(start, r, 0.0, 0.0, -1, fall, step, up, down, jerk, dt)
            time[g, part], end[g, part] = (whole + n) * dt, p
            # rising as steeply as the node may so close to its target: what the slope still adds just reaches it
            steep = 0.5 * jerk * dt * (math.sqrt(1.0 + 8.0 * r / (jerk * dt * dt)) - 1.0) + jerk * dt
            steep = min(up, steep)
            low, s = r, steep - jerk * dt
            while s > 0.0:
                low -= s * dt
                s -= jerk * dt
            low = max(low, 1e-9)
            p, _, _, n = _run(start, low, steep, 0.0, -1, fall, step, up, down, jerk, dt)
            time[g, parts + part], end[g, parts + part] = (whole + n) * dt, p
        first = min(commanded, int(math.ceil(obeyed / dt - 1e-9)))
        p, rate, slope, _ = _run(p0, rate0, slope0, 1.0, first, fall, step, up, down, jerk, dt)
        if rate > r:
            p, rate, slope, _ = _run(p, rate, slope, r, commanded - first, fall, step, up, down, jerk, dt)
            p, _, _, n = _run(p, rate, slope, 0.0, -1, fall, step, up, down, jerk, dt)
            time[g, 2 * parts], end[g, 2 * parts] = (commanded + n) * dt + delay, p
    return time, end


def gaps_along(model: RobotModel, s: Situation, at: F64, balls: F64, fixed: int) -> F64:
    """Smallest gap (scenes, places) of any moving link to the balls (scenes, n, 4) up to each of the places."""
    Q = np.array([s.motion.sample(p)[0] for p in at])
    a, b, r = model.capsule_paths(Q)
    out = np.full((len(balls), len(at)), np.inf)
    for link in range(fixed, len(r)):
        start, along = a[:, link], b[:, link] - a[:, link]
        length2 = (along * along).sum(1)
        for n in range(balls.shape[1]):
            w = balls[:, n, None, :3] - start[None]
            share = np.clip((w * along).sum(2) / np.maximum(length2, 1e-12), 0.0, 1.0)
            d = np.sqrt(((w - share[..., None] * along) ** 2).sum(2)) - r[link] - balls[:, n, None, 3]
            np.minimum(out, d, out=out)
    return np.minimum.accumulate(out, axis=1)


def travel(config: SafetyConfig, time: F64) -> F64:
    """What people need: hand speed up to half a metre of distance, walking speed beyond, C + Z_d + Z_r on top."""
    rest = config.intrusion + config.Z_d + config.Z_r
    hand = config.human.fast * time + rest
    return np.where(hand <= 0.5, hand, np.maximum(0.5, config.human.slow * time + rest))


def allowed(
    config: SafetyConfig, model: RobotModel, limits: RateLimits, s: Situation, balls: F64, fixed: int,
    pitch: float = PITCH,
) -> tuple[F64, F64]:  # fmt: skip
    """Brute-force limits (scenes,), and margins (scenes, grid): how much gap each rate leaves at the least, m.

    Between two places the smallest gap so far is interpolated, which is up to 1 mm too strict at PITCH.
    """
    c = config.reaction
    horizon = c.lease_validity + c.after_expiry - s.oldest
    obeyed = c.monitor_period + c.bus + c.tick
    m = s.motion
    time, end = outcomes(
        (s.progress, s.rate, s.slope), horizon, c.drive_delay, obeyed, m.slope_limits, m.step, limits.slope_up,
        limits.slope_down, limits.jerk, c.tick, GRID,
    )  # fmt: skip
    behind = np.arange(s.progress - s.lag, s.progress, pitch)
    at = np.append(behind, np.arange(s.progress, float(end.max()) + pitch, pitch))
    low = gaps_along(model, s, at, balls, fixed)
    place = len(behind) + np.maximum(end - s.progress, 0.0) / pitch
    place[time == 0.0] = 0.0
    k = np.minimum(place.astype(int), low.shape[1] - 2)
    left = low[:, k] + (place - k)[None] * (low[:, k + 1] - low[:, k])
    need = np.where(time == 0.0, -np.inf, travel(config, s.age + time))
    margin = (left - need[None]).min(axis=2)
    good = np.logical_and.accumulate(margin >= 0.0, axis=1)
    return good.sum(axis=1) / GRID, margin
