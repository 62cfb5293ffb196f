"""How long the arm may still move, and how far, if it is granted a limit: the second channel's own calculation.

Nominal seconds of progress, seconds of time, rates in [0, 1]. Where a stopping table was measured, no stop is taken to
be shorter than it says.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from robots.rates import RateLimits
from safety.config import ReactionTime
from safety.second_arm import Course
from safety.second_table import NOT_MEASURED, Stops

LONGEST_STOP = 3.0
"""A stop takes less, s."""
CLOSER = 12
"""Halvings with which the rate at the end of a lease is found."""


class Care(NamedTuple):
    """What is added for doubt."""

    braking: float
    """Share of the braking found that is counted on."""
    ticks: float
    """Ticks of the node after which it acts."""
    slack: float
    """Share of what a link may do between the places looked at."""


STRICT, LENIENT = Care(0.97, 2.0, 1.0), Care(1.0, 0.0, 0.0)


class Case(NamedTuple):
    """Where the arm is and for how long it may go on."""

    begin: float
    """Progress, nominal s."""
    rate: float
    """Upper bound."""
    least: float
    """The rate may also still be as low as this, and rising."""
    slope: float
    horizon: float
    """Until the lease can no longer be obeyed, s."""
    delay: float
    """Until a new limit is obeyed, s."""
    age: float
    """Since the reference time of the observation, s."""
    stops: Stops = NOT_MEASURED


def quickest_stop(
    limit: float, case: Case, course: Course, limits: RateLimits, reaction: ReactionTime
) -> tuple[float, float]:
    """Time, s, and nominal progress until standstill if the arm uses the limit while the lease lasts.

    With every doubt in the arm's favour: at each place it brakes with all that joints and torques permit there, and
    ends without easing off. Really it is never quicker, and never quicker than a measured stop. Infinite beyond what
    was measured.
    """
    if limit > case.stops.top * (1.0 + 1e-6):
        return math.inf, math.inf
    dt, jerk = 0.5 * reaction.tick, limits.jerk
    rate, slope, place, time = case.rate, case.slope, case.begin, 0.0
    if place <= 0.0 and rate <= 0.0:
        rate = limit
    # The node's command is where a measured stop begins; the drives feel it later.
    commanded, least, way = max(0.0, case.horizon - reaction.drive_delay), 0.0, 0.0
    measured = not len(case.stops.rates)
    while time < LONGEST_STOP:
        target = limit if time < case.horizon else 0.0
        if target <= 0.0 and rate <= 0.0 and time > 0.0:
            break
        fall, rise = course.here(place)
        if rate < target:
            slope = min(slope + jerk * dt, min(rise, limits.slope_up), (target - rate) / dt)
        else:
            slope = max(min(slope, 0.0) - jerk * dt, -fall, (target - rate) / dt)
        before, rate = rate, max(0.0, rate + slope * dt)
        if not measured and time + dt >= commanded:
            measured = True
            took, on = case.stops.of(min(before, rate))
            least, way = commanded + took, place - case.begin + on
        place += 0.5 * (before + rate) * dt
        time += dt
    return max(time, least), max(place - case.begin, way)


def stop_within(
    limit: float, case: Case, course: Course, care: Care, limits: RateLimits, reaction: ReactionTime
) -> tuple[float, float]:
    """Bound time, s, and nominal progress until standstill if the arm may move at `limit` while the lease lasts.

    Below the limit the rate rises as fast as it may and is still rising when the lease ends. Above it the arm brakes to
    the limit, stays there while the lease lasts, and brakes again; a lease that ends in between can only shorten that.
    Both results hold for every profile of the rate that the node could take. Infinite beyond what was measured.
    """
    jerk, tick, up = limits.jerk, care.ticks * reaction.tick, limits.slope_up
    rate, slope, horizon = case.rate, case.slope, case.horizon
    if limit > case.stops.top:
        return math.inf, math.inf
    time, swept = 0.0, 0.0
    end = case.begin
    for _ in range(12):
        down = care.braking * course.braking(case.begin, end)
        if down <= 0.01:
            return math.inf, math.inf
        # A rate that is still rising towards the limit when the lease ends has to be turned round first.
        rising = (max(up, slope) if case.least < limit else slope) / jerk
        lasts = horizon + rising
        if rate > limit:
            time, swept = fall(limit, 0.0, 0.0, down, jerk, tick)
            before, area = fall(rate, limit, slope, down, jerk, tick)
            before += case.delay
            moved = rate * case.delay + area + limit * max(0.0, lasts - before)
            at_end = limit if before <= lasts else _rate_at(lasts - case.delay, limit, case, down, jerk, tick)
            time, swept = time + max(lasts, before), swept + moved
        else:
            steep = max(up, slope)
            top = min(limit, rate + steep * horizon + 0.5 * steep * steep / jerk)
            rise = min(horizon, (limit - rate) / steep)
            if case.begin <= 0.0:
                # Where the path begins the node lets the rate jump.
                top, rise = limit, 0.0
            time, swept = fall(top, 0.0, 0.0, down, jerk, tick)
            # The table counts for the limit itself, as if the arm had reached it.
            moved, at_end = top * lasts - 0.5 * max(0.0, top - rate) * rise, limit
            time, swept = time + lasts, swept + moved
        least, way = case.stops.of(at_end)
        if least > 0.0:
            time, swept = max(time, lasts + tick + least), max(swept, moved + at_end * tick + way)
        if case.begin + swept <= end:
            break
        end = case.begin + swept
    return time, swept


def _rate_at(after: float, limit: float, case: Case, down: float, jerk: float, tick: float) -> float:
    """Bound of the rate so long after the fall towards the limit began, s.

    What is reached by easing off there is passed no later by falling on: so the lowest rate that could be reached in
    the time bounds it, whatever lies below. It does not fall when the limit rises.
    """
    low, high = limit, case.rate
    for _ in range(CLOSER):
        middle = 0.5 * (low + high)
        if fall(case.rate, middle, case.slope, down, jerk, tick)[0] <= after:
            high = middle
        else:
            low = middle
    # A slope that is still rising has to be undone first, and may lift it above where it began.
    return max(high, limit) if high < case.rate else min(1.0, case.rate + 0.5 * case.slope**2 / jerk)


def fall(rate: float, to: float, slope: float, down: float, jerk: float, tick: float) -> tuple[float, float]:
    """Time and area of a jerk-limited fall of the rate, and two ticks of the node.

    With the fall d and the jerk j it takes r/d + d/j for a drop r, or 2 sqrt(r/j) if d is not reached, and sweeps the
    mean of both rates in that time, being symmetrical. A rise at its beginning has to be undone first.
    """
    if rate <= to and slope <= 0.0:
        return 0.0, 0.0
    undo = slope / jerk
    top = min(max(1.0, rate), rate + 0.5 * slope * undo)
    drop = top - to
    took = drop / down + down / jerk if drop >= down * down / jerk else 2.0 * math.sqrt(drop / jerk)
    return undo + took + 2.0 * tick, top * (undo + 2.0 * tick) + 0.5 * (top + to) * took
