"""How long the arm may still move, and how far, if it is granted a limit now: compiled, the node's own rate law.

Nominal seconds of progress and seconds of time; rates in [0, 1]. Everything here grows with the limit.

What the joints permit the rate to fall by differs along the path, and a faster arm may pass a weak place that holds a
slower one up. So a bound for a limit has to hold for every rate below it. Where the falls get no better along the
stretch, the fastest arm is the worst one. Elsewhere families of runs are followed together (`stop_between`): the
slowest and the fastest of them enclose all others, and the fastest brakes no better than the worst place between both.
docs/safety/monitor.md has the proof.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.rates import DEFAULT_LIMITS, landing_slope, rate_step

F64 = NDArray[np.float64]


NOTHING_MEASURED: F64 = np.empty((0, 3))
CELLS = 32
"""Ranges of rates that are followed together."""
SHARPEST = DEFAULT_LIMITS
"""The slowest arm that a bound has to cover brakes as the sharpest node does, even if this one is set to brake more
softly: softer brakes then widen what is followed together, and never raise a limit."""


class Brakes(NamedTuple):
    """What bounds the rate of progress, and the delays between a decision and the drives."""

    up: float
    """Largest rise of the rate, 1/s."""
    down: float
    """Largest fall of the rate; what the joints permit on the path can only lower it, 1/s."""
    jerk: float
    """Largest change of the slope, 1/s^3."""
    tick: float
    """Period of the robot node, s."""
    delay: float
    """From the node's command to the drives, s."""
    measured: F64 = NOTHING_MEASURED
    """(k, 3) rate, time, way per rate as in `safety.stopping.Stops.rows`: no stop is taken to be shorter."""


class Course(NamedTuple):
    """Where the arm is on its accepted motion, and until when it may use a limit granted now."""

    progress: float
    rate: float
    slope: float
    """d rate / dt, 1/s."""
    horizon: float
    """Until the drives brake if no further lease comes, s."""
    obeyed: float
    """Until this decision reaches the robot node; before that an older lease may still hold, s."""
    ceiling: float = 1.0
    """No older lease that can still hold permits more."""


class Moving(NamedTuple):
    """A state of the rate law."""

    progress: float
    rate: float
    slope: float


class Falls(NamedTuple):
    """How fast the rate can fall along the path ahead."""

    least: F64
    """Least permitted fall from the sample behind the arm up to each sample ahead, 1/s."""
    local: F64
    """What the joints permit at each sample, at most what the sharpest node asks for, 1/s."""
    plain: float
    """Progress up to which the fall gets no better: `least` and `local` are the same."""
    first: int
    """Number of the first of these samples."""
    step: float
    """Nominal time between samples, s."""


@njit(cache=True)
def falls_ahead(slope_limits: F64, step: float, progress: float, ahead: float, down: float, memory: F64) -> Falls:
    """Gather the falls over `ahead` nominal s in `memory` (at least 2 (3 + ahead / step) numbers).

    An arm that brakes no better than at the worst place passed (`Falls.least`) is never better than what the node
    does, and the braking of a faster, farther arm then takes longer than that of a slower one, whatever the path
    permits.
    """
    last = slope_limits.shape[0] - 1
    first = min(max(math.floor(progress / step), 0), last)
    end = min(max(math.ceil((progress + ahead) / step), first), last)
    count = end + 1 - first
    least, plain = down, np.inf
    for k in range(count):
        fall = slope_limits[first + k]
        # what is no fall stops nobody within the time that counts
        fall = min(max(down, SHARPEST.slope_down), fall) if fall > 0.001 else 0.001
        least = min(least, fall)
        memory[k], memory[count + k] = least, fall
        if min(down, fall) > least and plain == np.inf:
            plain = (first + k - 1) * step
    return Falls(memory[:count], memory[count : 2 * count], plain, first, step)


@njit(cache=True)
def fall_at(falls: Falls, progress: float) -> float:
    """Return the fall to be counted on at a progress, 1/s."""
    k = math.ceil(progress / falls.step) - falls.first
    return float(falls.least[min(max(k, 0), falls.least.shape[0] - 1)])


@njit(cache=True)
def extremes(falls: Falls, start: float, end: float) -> tuple[float, float]:
    """Return the least and the largest fall between two places, 1/s."""
    last = falls.local.shape[0] - 1
    first = min(max(math.floor(start / falls.step) - falls.first, 0), last)
    low = high = falls.local[first]
    for k in range(first + 1, min(max(math.ceil(end / falls.step) - falls.first, first), last) + 1):
        low, high = min(low, falls.local[k]), max(high, falls.local[k])
    return low, high


@njit(cache=True)
def _tick(state: Moving, target: float, down: float, up: float, jerk: float, tick: float) -> Moving:
    """One tick of the node."""
    rate, slope = rate_step(state.rate, state.slope, target, up, down, jerk, tick)
    return Moving(state.progress + 0.5 * (state.rate + rate) * tick, rate, slope)


@njit(cache=True)
def _lead(state: Moving, target: float, down: float, least: float, jerk: float, brakes: Brakes) -> Moving:
    """One tick of the fastest arm: its slope grows by up to `jerk`, and is at least `least`."""
    own = _tick(state, target, down, brakes.up, brakes.jerk, brakes.tick)
    if brakes.jerk < jerk:
        sharp = _tick(state, target, down, brakes.up, jerk, brakes.tick)
        own = Moving(max(own.progress, sharp.progress), max(own.rate, sharp.rate), max(own.slope, sharp.slope))
    return Moving(own.progress, own.rate, max(own.slope, least))


@njit(cache=True)
def stop(progress: float, rate: float, slope: float, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Return time (s) and progress at which the node's own braking ends, tick by tick; infinite after 10 s.

    The position a tick commands already contains that tick's fall, so the arm never takes longer. Ticks at the full
    fall are taken in one go where it stays the same to the end.
    """
    time, tick, jerk = 0.0, brakes.tick, brakes.jerk
    while rate > 0.0:
        if time > 10.0:
            return math.inf, math.inf
        down = fall_at(falls, progress)
        fall = down * tick
        landing = 0.5 * down * (down / jerk + tick) + fall
        if slope == -down and rate > landing + fall:
            rest = rate * (rate / down + down / jerk + 2.0 * tick)
            if fall_at(falls, progress + rest) == down:
                ticks = math.floor((rate - landing) / fall)
                progress += ticks * tick * (rate - 0.5 * ticks * fall)
                rate -= ticks * fall
                time += ticks * tick
        before = rate
        rate, slope = rate_step(rate, slope, 0.0, 1e9, down, jerk, tick)
        progress += 0.5 * (before + rate) * tick
        time += tick
    return time, progress


@njit(cache=True)
def measured_stop(rate: float, brakes: Brakes) -> tuple[float, float]:
    """Return the time (s) and the progress (nominal s) a stop from `rate` was measured to take; 0, 0 without a table.

    Beyond the last row that one counts: who permits a rate has to see that it was measured.
    """
    rows = brakes.measured
    if rows.shape[0] == 0 or not rate > 0.0:
        return 0.0, 0.0
    k = 0
    while k < rows.shape[0] - 1 and rows[k, 0] < rate:
        k += 1
    return rows[k, 1], rate * rows[k, 2]


@njit(cache=True)
def rising(limit: float, brakes: Brakes, most: float = np.inf) -> tuple[float, float]:
    """Return the lowest rate and the steepest slope at which braking can set in if the rate is to reach `limit`.

    The node approaches a limit with at most the slope from which it can still land there (`landing_slope` a tick
    before); once it brakes, the slope loses jerk * tick a tick, and as long as it is above 0 the rate rises.
    most: the slope can be no steeper, 1/s.
    """
    change = brakes.jerk * brakes.tick
    slope = min(most, min(brakes.up, landing_slope(limit, brakes.jerk, brakes.tick) + change))
    ticks = math.floor(slope / change)
    rise = brakes.tick * (ticks * slope - 0.5 * change * ticks * (ticks + 1))
    return max(limit - rise, 1e-9), slope


@njit(cache=True)
def stop_between(behind: Moving, ahead: Moving, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Return time (s) and progress at which everyone who brakes from between two states stands; infinite after 10 s.

    The first brakes with the best fall anywhere between both, the second with the worst. So whoever starts between
    them, in place and rate, is between them at every later tick, and brakes at least as hard as the second.
    """
    low, high = 0.0, 0.0
    since, until = -1, -1
    place, rate, slope = behind
    far, fast, steep = ahead
    last, time, tick, jerk = falls.local.shape[0] - 1, 0.0, brakes.tick, brakes.jerk
    sharp = max(jerk, SHARPEST.jerk)
    while fast > 0.0:
        if time > 10.0:
            return math.inf, math.inf
        i = min(max(math.floor(place / falls.step) - falls.first, 0), last)
        j = min(max(math.ceil(far / falls.step) - falls.first, i), last)
        if i != since or j != until:
            since, until = i, j
            low, high = min(brakes.down, falls.local[i]), falls.local[i]
            for k in range(i + 1, j + 1):
                low, high = min(low, falls.local[k]), max(high, falls.local[k])
        if rate > 0.0:
            before = rate
            rate, slope = rate_step(rate, slope, 0.0, 1e9, high, sharp, tick)
            place += 0.5 * (before + rate) * tick
        before = fast
        fast, steep = rate_step(fast, steep, 0.0, 1e9, low, jerk, tick)
        far += 0.5 * (before + fast) * tick
        time += tick
    return time, far


@njit(cache=True)
def _worst(course: Course, limit: float, moving: float, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Time and progress of a stop from `limit`, `moving` s from now, no better than at the worst place passed."""
    rate, slope = rising(limit, brakes)
    return stop(course.progress + limit * moving, rate, slope, falls, brakes)


@njit(cache=True)
def _cell(
    course: Course, low: float, high: float, moving: float, falls: Falls, brakes: Brakes
) -> tuple[float, float]:  # fmt: skip
    """Bound time and progress of all stops from rates between `low` and `high`, `moving` s from now.

    They begin anywhere from where the arm is now to where the rate can have brought it, at that rate or still rising
    to it.
    """
    ends = course.progress + high * moving
    rate, slope = rising(high, brakes)
    least, least_slope = rising(low, brakes)
    behind = Moving(course.progress, least, least_slope) if low > 0.0 else Moving(course.progress, 0.0, 0.0)
    time, end = stop_between(behind, Moving(ends, rate, slope), falls, brakes)
    flat_time, flat_end = stop(ends, high, 0.0, falls, brakes)
    if flat_time > time or flat_end > end:
        late, far = stop_between(Moving(course.progress, low, 0.0), Moving(ends, high, 0.0), falls, brakes)
        time, end = max(time, min(late, flat_time)), max(end, min(far, flat_end))
    late, far = _worst(course, high, moving, falls, brakes)
    return min(time, late), min(end, far)


@njit(cache=True)
def _every(
    course: Course, limit: float, moving: float, falls: Falls, brakes: Brakes, cells: F64
) -> tuple[float, float]:  # fmt: skip
    """Bound time and progress of all stops from rates up to `limit`, `moving` s from now; cells as for `held`."""
    k = max(0, math.ceil(limit * CELLS) - 1)
    time, end = _cell(course, k / CELLS, limit, moving, falls, brakes)
    while k > 0:
        k -= 1
        known = cells[k]
        if not known[0] >= 0.0:
            known[0], known[1] = _worst(course, (k + 1) / CELLS, moving, falls, brakes)
        if known[0] <= time and known[1] <= end:
            # so are all slower ones
            break
        if not known[2] >= 0.0:
            known[2], known[3] = _cell(course, k / CELLS, (k + 1) / CELLS, moving, falls, brakes)
        time, end = max(time, known[2]), max(end, known[3])
    return time, end


def new_cells() -> F64:
    """Return the scratch array of `held`, (CELLS, 4)."""
    return np.full((CELLS, 4), np.nan)


@njit(cache=True)
def held(course: Course, limit: float, falls: Falls, brakes: Brakes, cells: F64) -> tuple[float, float]:
    """Bound time from now and nominal progress until the arm stands if it moves at most at `limit` from now on.

    It is taken to move at any rate up to the limit at once, to be anywhere that rate can bring it within the horizon,
    rounded up to ticks, when the braking starts, and yet to come to it from below, rising as steeply as the node
    permits.

    Args:
        course: present state.
        limit: in [0, 1].
        falls: of the path ahead.
        brakes: bounds of the node.
        cells: (CELLS, 4) filled with not-a-number before the first call for a course; keeps what slower rates need.

    Returns:
        time (s) and swept progress (nominal s); infinite if there is no bound.
    """
    moving = brakes.tick * math.ceil(course.horizon / brakes.tick - 1e-9)
    time, end = _worst(course, limit, moving, falls, brakes)
    if not end <= falls.plain:
        time, end = _every(course, limit, moving, falls, brakes, cells)
    least, way = measured_stop(limit, brakes)
    return moving + max(time, least), max(end - course.progress, limit * moving + way)


@njit(cache=True)
def above(course: Course, limit: float, brakes: Brakes) -> bool:
    """Whether the arm may be above the limit by the time the node obeys it."""
    steepest = max(brakes.up, course.slope)
    peak = course.rate + steepest * (course.obeyed + 2.0 * brakes.tick) + 0.5 * steepest * steepest / brakes.jerk
    return limit < peak or course.progress <= 0.0


@njit(cache=True)
def _stands(behind: Moving, ahead: Moving, worst: float, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Time and progress of a stop from `ahead`, at place `worst` if it has braked as at the worst place passed."""
    time, end = stop(worst, ahead.rate, ahead.slope, falls, brakes)
    if not end <= falls.plain:
        late, far = stop_between(behind, ahead, falls, brakes)
        time, end = min(time, late), min(end, far)
    return time, end


@njit(cache=True)
def _down_from(
    course: Course, slope: float, jerk: float, limit: float, falls: Falls, brakes: Brakes
) -> tuple[float, float]:  # fmt: skip
    """`coming_down` if the slope is what is given now and grows by up to `jerk`."""
    older, tick = max(course.ceiling, course.rate), brakes.tick
    ticks = math.ceil(max(0.0, course.horizon - brakes.delay) / tick - 1e-9)
    # the path is at rest at its start, so the node lets the rate jump there
    jumps = course.progress <= 0.0 and course.rate == 0.0
    start = Moving(course.progress, course.ceiling if jumps else course.rate, slope)
    time, end, above = 0.0, 0.0, 0
    ahead = worst = behind = start
    for local in range(2):
        behind, ahead, above = Moving(course.progress, course.rate, course.slope), start, 0
        for k in range(ticks):
            target = older if k * tick < course.obeyed - 1e-9 else limit
            # who is asked for less keeps its rise at the largest rate longer than who has landed there
            left = course.slope - brakes.jerk * tick * (k + 1)
            low, high = extremes(falls, behind.progress, ahead.progress)
            behind = _tick(behind, 0.0, high, brakes.up, max(brakes.jerk, SHARPEST.jerk), tick)
            down = min(brakes.down, low) if local else fall_at(falls, ahead.progress)
            ahead = _lead(ahead, target, down, left, jerk, brakes)
            above += int(behind.rate > limit)
        if local:
            late, far = _stands(behind, ahead, ahead.progress, falls, brakes)
            time, end = min(time, late), min(end, far)
        else:
            worst = ahead
            time, end = stop(worst.progress, worst.rate, worst.slope, falls, brakes)
            if end <= falls.plain:
                break
    if above < ticks:
        # to go below the limit and turn round to a slope of s takes s / jerk and, falling, at least sqrt(2) s / jerk
        turned = brakes.jerk * tick * (ticks - above) / (1.0 + math.sqrt(2.0))
        rate, slope = rising(limit, brakes, turned)
        behind = Moving(behind.progress, min(behind.rate, rate), behind.slope)
        late, far = _stands(behind, Moving(ahead.progress, min(rate, ahead.rate), slope), worst.progress, falls, brakes)
        time, end = max(time, late), max(end, far)
    least, way = measured_stop(min(1.0, worst.rate + 0.5 * max(0.0, worst.slope) ** 2 / brakes.jerk), brakes)
    return ticks * tick + max(time, least) + brakes.delay, max(end, worst.progress + way) - course.progress


@njit(cache=True)
def coming_down(course: Course, limit: float, falls: Falls, brakes: Brakes) -> tuple[float, float]:
    """Time and nominal progress until the arm stands if it has to come down to the limit first. As `held`.

    An older lease may hold until `obeyed`; then the rate falls to the limit, and to 0 when the lease has expired. The
    node stops obeying a lease `delay` before the drives feel it. Whatever else the node is asked for in that time keeps
    the arm between this run (`ahead`) and one that brakes from now on (`behind`). An arm that has come below the limit
    sooner may be at it again, and even be rising to it, when the stop begins, but in no better place than `ahead`.
    """
    jerk = max(brakes.jerk, SHARPEST.jerk)
    time, swept = _down_from(course, course.slope, brakes.jerk, limit, falls, brakes)
    if course.slope < 0.0:
        # who lands on a rate it is asked for is done with its fall, at most two changes of the slope too soon
        late, far = _down_from(
            course, min(0.0, course.slope + 2.0 * jerk * brakes.tick), brakes.jerk, limit, falls, brakes
        )
        time, swept = max(time, late), max(swept, far)
    if brakes.jerk < jerk:
        # a node with less jerk comes to its limit more slowly; that must not permit more
        slope = max(course.slope, min(0.0, course.slope + 2.0 * jerk * brakes.tick))
        late, far = _down_from(course, slope, jerk, limit, falls, brakes)
        time, swept = max(time, late), max(swept, far)
    return time, swept
