"""What an arm may do under leases up to a limit, played through in plain steps: random ramps of the robot node.

Own code throughout but for the node's law of the rate (`robots.rates.rate_step`), which is what is to be covered.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.rates import rate_step

F64 = NDArray[np.float64]
TICKS = 400


class Start(NamedTuple):
    """Where the arm is, and what bounds it. Times in s, progress in nominal s, slopes in 1/s."""

    progress: float
    rate: float
    slope: float
    horizon: float
    obeyed: float
    up: float
    down: float
    jerk: float
    tick: float
    delay: float


@njit(cache=True)
def _local(fall: F64, step: float, p: float, down: float) -> float:
    last = fall.shape[0] - 1
    low = min(max(int(math.floor(p / step)), 0), last)
    high = min(max(int(math.ceil(p / step)), low), last)
    return min(down, min(fall[low], fall[high]))


@njit(cache=True)
def ramp(
    s: Start, limit: float, kind: int, fall: F64, step: float, seed: int, place: F64, rate: F64
) -> int:  # fmt: skip
    """Fill place (progress ahead) and rate after each tick from now on; return the number of ticks until it stands.

    kind 0: stops at once. 1: at the limit. 2: stops, and goes up again as late as it can. 3: at the limit, stops, up
    again. 4: stops hard, at 20 /s without any jerk limit, at a random moment. 5 and above: anything, changing.
    Until the decision reaches the node an older lease may hold: any target up to 1.
    """
    np.random.seed(seed)
    p, r, slope, target = s.progress, s.rate, s.slope, limit
    older = int(math.ceil(s.obeyed / s.tick - 1e-9))
    expiry = int(math.ceil(max(0.0, s.horizon - s.delay) / s.tick - 1e-9))
    turn = np.random.randint(0, expiry + 1)
    again = np.random.randint(turn, expiry + 1)
    place[0], rate[0] = 0.0, r
    for n in range(TICKS - 1):
        if n >= expiry or kind == 0:
            target = 0.0
        elif kind == 2:
            target = limit if n >= turn else 0.0
        elif kind == 3:
            target = 0.0 if turn <= n < again else limit
        elif kind in (1, 4):
            target = limit
        elif n % 4 == 0 or n == older:
            target = limit * np.random.random() if np.random.random() < 0.5 else limit * np.random.randint(0, 2)
        if n < min(older, expiry) and kind % 2 == 1:
            target = 1.0 if kind < 7 else np.random.random()
        before = r
        if p == 0.0 and r == 0.0 and target > 0.0:
            before, r, slope = target, target, 0.0
        if kind == 4 and n >= turn:
            r, slope = max(0.0, r - 20.0 * s.tick), 0.0
        else:
            r, slope = rate_step(r, slope, target, s.up, _local(fall, step, p, s.down), s.jerk, s.tick)
        p += 0.5 * (before + r) * s.tick
        place[n + 1], rate[n + 1] = p - s.progress, r
        if r == 0.0 and (n >= expiry or (kind == 4 and n >= turn)):
            return n + 1
    return TICKS - 1


@njit(cache=True)
def ramps(
    s: Start, limits: F64, each: int, fall: F64, step: float, seed: int
) -> tuple[F64, F64, NDArray[np.int64]]:  # fmt: skip
    """Play `each` ramps for every limit.

    Returns:
        place (progress ahead) and time, (limits, points) each, at the end of every tick in which the *drives* move the
        arm, lagging behind the command by nothing or by the drive delay; and the number of points (limits,).
    """
    most = 2 * each * TICKS
    where, when = np.zeros((limits.shape[0], most)), np.zeros((limits.shape[0], most))
    count = np.zeros(limits.shape[0], np.int64)
    place, rate = np.empty(TICKS), np.empty(TICKS)
    for g in range(limits.shape[0]):
        for k in range(each):
            last = ramp(s, limits[g], k, fall, step, seed + 1000 * g + k, place, rate)
            for lag in (0.0, s.delay):
                for n in range(last):
                    if max(rate[n], rate[n + 1]) > 0.0:
                        c = count[g]
                        where[g, c], when[g, c] = place[n + 1], (n + 1) * s.tick + lag
                        count[g] += 1
    return where, when, count
