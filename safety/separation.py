"""The protective separation distance of ISO/TS 15066:2016, 5.5.4.2.3, and what the terms mean here.

S_p = S_h + S_r + S_s + C + Z_d + Z_r
  S_h  the person's travel until the arm stands: v_h (age of the picture + remaining reaction + stopping time)
  S_r  the arm's approach to that point during the remaining reaction time
  S_s  the arm's approach to that point while it brakes
  C    intrusion distance: how far a body part reaches before it is seen (ISO 13855:2010, 6.2: 8 (d - 14 mm))
  Z_d  position uncertainty of the person, Z_r of the arm

Two forms are here: with constant speeds (`constant_speed`, the closed form) and with speeds that
change (`integral`, the general form). The monitor of the cell uses neither directly: it takes
the arm's approach from its real path. These are the textbook figures, for lay-out, comparison and report.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

SLOW_APPROACH = 1.6
"""Walking speed used above 500 mm, m/s (ISO 13855:2010, 5.2 and 6.2.3)."""
FAST_APPROACH = 2.0
"""Hand speed used up to 500 mm, m/s (ISO 13855:2010, 6.2.3)."""
NEAR = 0.5
"""Separation up to which the hand speed holds, m."""


def intrusion_distance(detection_capability_mm: float) -> float:
    """Return C, m, for the smallest object never missed (mm): 8 (d - 14), at least 0, for d <= 40; 850 mm up to 70.

    ISO 13855:2010, 6.2.3.1 and 6.2.3.2. Raises ValueError outside 0 < d <= 70 mm: nothing coarser is accepted.
    """
    d = detection_capability_mm
    if not math.isfinite(d) or not 0.0 < d <= 70.0:
        raise ValueError(f"detection capability {d} mm: allowed is more than 0 and at most 70 mm")
    if d <= 40.0:
        return max(0.0, 8.0 * (d - 14.0)) / 1000.0
    return 0.85


def human_travel(time: float, other_terms: float, slow: float = SLOW_APPROACH, fast: float = FAST_APPROACH) -> float:
    """Return S_h, m, for `time` s of human travel when all other terms of S_p add up to `other_terms`, m.

    As in ISO 13855:2010, 6.2.3: the hand speed counts as long as the distance stays within 500 mm; beyond, walking
    speed, but never less than 500 mm in all.
    """
    if not (math.isfinite(time) and math.isfinite(other_terms)) or time < 0.0:
        raise ValueError(f"human travel needs a finite time >= 0, got {time} s and {other_terms} m")
    near = fast * time
    if near + other_terms <= NEAR:
        return near
    return max(slow * time, NEAR - other_terms)


class Terms(NamedTuple):
    """The six terms of S_p, m, in the order of the standard."""

    S_h: float
    S_r: float
    S_s: float
    C: float
    Z_d: float
    Z_r: float

    @property
    def S_p(self) -> float:
        """Their sum, m."""
        return math.fsum(self)


class Braking(NamedTuple):
    """How the arm stops: with constant deceleration, or in a time and a way that were measured."""

    deceleration: float | None = None
    """a_s, m/s^2."""
    time: float | None = None
    """T_s, s, of the arm at the speed in question."""
    distance: float | None = None
    """S_s, m, in the same stop."""


def _number(name: str, value: float, least: float = 0.0, open_end: bool = False) -> float:
    """Return `value` as float. Raises ValueError, naming the quantity, unless it is finite and >= (or >) `least`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: {value!r} is no number")
    number = float(value)
    if not math.isfinite(number) or number < least or (open_end and number == least):
        sign = ">" if open_end else ">="
        raise ValueError(f"{name}: {value} must be finite and {sign} {least:g}")
    return number


def _braking(braking: Braking) -> tuple[float | None, float, float]:
    """Return deceleration, or None with time and distance. Raises ValueError unless exactly one form is given."""
    if braking.deceleration is not None:
        if braking.time is not None or braking.distance is not None:
            raise ValueError("a_s: give either a_s, or T_s and S_s")
        return _number("a_s", braking.deceleration, open_end=True), 0.0, 0.0
    if braking.time is None and braking.distance is None:
        raise ValueError("a_s: is missing (or T_s and S_s)")
    if braking.time is None:
        raise ValueError("T_s: is missing, S_s is given")
    if braking.distance is None:
        raise ValueError("S_s: is missing, T_s is given")
    return None, _number("T_s", braking.time), _number("S_s", braking.distance)


def constant_speed(v_h: float, v_r: float, T_r: float, braking: Braking, C: float, Z_d: float, Z_r: float) -> Terms:
    """Return the terms of S_p while person and arm keep their speeds until the arm brakes.

    ISO/TS 15066:2016, 5.5.4.2.3: S_h = v_h (T_r + T_s), S_r = v_r T_r, and S_s from the arm's stopping
    figures; with a constant deceleration a_s, T_s = v_r / a_s and S_s = v_r^2 / (2 a_s).

    v_h: speed of the person towards the arm, m/s. v_r: of the arm towards the person, m/s, 0 if it moves away.
    T_r: reaction time from exposure to the brakes acting, s. C, Z_d, Z_r: m.
    Raises ValueError, naming the quantity, for anything that is negative or not finite.
    """
    v_h, v_r, T_r = _number("v_h", v_h), _number("v_r", v_r), _number("T_r", T_r)
    C, Z_d, Z_r = _number("C", C), _number("Z_d", Z_d), _number("Z_r", Z_r)
    a_s, T_s, S_s = _braking(braking)
    if a_s is not None:
        T_s, S_s = v_r / a_s, v_r * v_r / (2.0 * a_s)
    return Terms(v_h * (T_r + T_s), v_r * T_r, S_s, C, Z_d, Z_r)


def allowed_speed(d: float, v_h: float, T_r: float, braking: Braking, C: float, Z_d: float, Z_r: float) -> float:
    """Return the largest v_r >= 0, m/s, at which `constant_speed` needs no more than `d` m; 0 if none does.

    With a_s it is the positive root of S_p(v_r) = d:
    sqrt(v_h^2 + (a T_r)^2 + 2 a (d - C - Z_d - Z_r)) - a T_r - v_h. With T_s and S_s, S_p is linear in v_r.
    Raises ValueError as `constant_speed`; with T_s and S_s, T_r must be > 0, or no speed would be too high.
    """
    d, v_h, T_r = _number("d", d), _number("v_h", v_h), _number("T_r", T_r)
    C, Z_d, Z_r = _number("C", C), _number("Z_d", Z_d), _number("Z_r", Z_r)
    a_s, T_s, S_s = _braking(braking)
    room = d - C - Z_d - Z_r
    if a_s is None:
        _number("T_r", T_r, open_end=True)
        return max(0.0, (room - v_h * (T_r + T_s) - S_s) / T_r)
    # 2 a (room - v_h T_r) / (root + a T_r + v_h) is the same root without cancellation of large terms.
    gain = 2.0 * a_s * (room - v_h * T_r)
    if gain <= 0.0:
        return 0.0
    linear = a_s * T_r + v_h
    return gain / (math.sqrt(linear * linear + gain) + linear)


def integral(
    step: float,
    v_h: Sequence[float],
    v_r: Sequence[float],
    v_s: Sequence[float],
    C: float,
    Z_d: float,
    Z_r: float,
) -> Terms:
    """Return the terms of S_p for speeds that change, sampled every `step` s.

    ISO/TS 15066:2016, 5.5.4.2.3: S_h is the integral of v_h over reaction and stopping time, S_r that of v_r, the arm's
    speed towards the person, over the reaction time, S_s that of v_s over the stopping time. Speeds between samples are
    taken at the higher of both neighbours, so that the result is never below the true integral of a curve that is
    monotone between its samples. v_r and v_s are the directed speeds; where the arm moves away they count as 0.

    v_r: samples from the exposure to the brakes acting, both ends included. v_s: from there to standstill.
    v_h: over both together; len(v_h) = len(v_r) + len(v_s) - 1.
    Raises ValueError for an empty profile, wrong lengths, negative human speed or anything that is not finite.
    """
    step = _number("step", step, open_end=True)
    C, Z_d, Z_r = _number("C", C), _number("Z_d", Z_d), _number("Z_r", Z_r)
    if not v_r or not v_s or len(v_h) != len(v_r) + len(v_s) - 1:
        raise ValueError(f"v_h: {len(v_h)} samples, need {max(1, len(v_r) + len(v_s) - 1)} for v_r and v_s together")
    human = [_number("v_h", v) for v in v_h]
    reacting = [max(0.0, _number("v_r", v, -math.inf)) for v in v_r]
    stopping = [max(0.0, _number("v_s", v, -math.inf)) for v in v_s]
    return Terms(_area(human, step), _area(reacting, step), _area(stopping, step), C, Z_d, Z_r)


def _area(samples: Sequence[float], step: float) -> float:
    return step * math.fsum(max(a, b) for a, b in itertools.pairwise(samples))
