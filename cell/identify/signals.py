"""What an arm is told so that its drives show themselves: a step in speed and a sweep of frequencies, joint by joint.

Both begin and end at rest where the arm stands, and stay within the amplitude and a share of the joint's means. Pure.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robots.model import RobotModel
from robots.motion import Motion, MotionError
from robots.rates import RateLimits

F64 = NDArray[np.float64]

STEP = 0.004
"""Nominal time between samples, s."""
LOWEST, HIGHEST = 0.4, 4.0
"""Frequencies of the sweep, Hz."""
SWEEP = 9.0
"""Its duration, s."""
FADE = 0.12
"""Share of the sweep in which it swells, and in which it fades."""
SPEED_SHARE, ACCELERATION_SHARE = 0.3, 0.35
"""Of a joint's speed and acceleration that are used."""
PLATEAU = 0.7
"""Time at the step's full speed, s."""
STEP_WAY = 4.0
"""Way of the step, in amplitudes of the sweep."""
SMALLEST, LARGEST = math.radians(0.5), math.radians(10.0)
"""Amplitudes that are taken, rad."""


Kind = Literal["sweep", "step", "back"]
KINDS: tuple[Kind, ...] = ("sweep", "step", "back")
"""The motions of a joint, in this order."""


class NoSignal(Exception):
    """A joint that has no room for the test; the text says what to do."""


def step_way(model: RobotModel, joint: int, amplitude: float) -> F64:
    """Return the way of a joint (K,) at steps of STEP: as fast up to a speed as permitted, PLATEAU at it, down; rad.

    Speed 3 u^2 - 2 u^3 over the ramp has the integral u^3 - u^4 / 2 and the steepest slope 1.5."""
    hardest = ACCELERATION_SHARE * float(model.a_max[joint])
    speed = SPEED_SHARE * float(model.v_max[joint])
    # way = speed * (ramp + PLATEAU) with ramp = 1.5 speed / hardest
    a, b, c = 1.5 / hardest, PLATEAU, -STEP_WAY * amplitude
    speed = min(speed, (-b + math.sqrt(b * b - 4.0 * a * c)) / (2.0 * a))
    n, flat = max(6, math.ceil(1.5 * speed / hardest / STEP)), math.ceil(PLATEAU / STEP)
    u = np.arange(n + 1) / n
    up = speed * n * STEP * (u**3 - 0.5 * u**4)
    level = up[-1] + speed * STEP * np.arange(1, flat + 1)
    down = level[-1] + up[-1] - up[::-1][1:]
    return np.concatenate([up, level, down])


def sweep_way(model: RobotModel, joint: int, amplitude: float) -> F64:
    """Return a logarithmic chirp (K,) of a joint round 0, rad, with zero speed at both ends."""
    t = np.arange(round(SWEEP / STEP) + 1) * STEP
    ratio = math.log(HIGHEST / LOWEST)
    frequency = LOWEST * np.exp(ratio * t / SWEEP)
    phase = 2.0 * math.pi * SWEEP / ratio * (frequency - LOWEST)
    w = 2.0 * math.pi * frequency
    fastest, hardest = SPEED_SHARE * float(model.v_max[joint]), ACCELERATION_SHARE * float(model.a_max[joint])
    # A smooth smallest of the three: a corner would be a jump in acceleration.
    size = (amplitude**-6.0 + (fastest / w) ** -6.0 + (hardest / (w * w)) ** -6.0) ** (-1.0 / 6.0)
    u = np.minimum(1.0, np.minimum(t, SWEEP - t) / (FADE * SWEEP))
    chirp: F64 = size * (u * u * (3.0 - 2.0 * u)) * np.sin(phase)
    return chirp


def motion(
    model: RobotModel, q: F64, joint: int, amplitude: float, limits: RateLimits, name: str, kind: Kind
) -> Motion:
    """Return one of the motions of a joint (from 0) that stands at q (dof,); `back` begins where `step` has ended.

    The step goes where there is more room. Raises NoSignal."""
    if not SMALLEST <= amplitude <= LARGEST:
        low, high = math.degrees(SMALLEST), math.degrees(LARGEST)
        raise NoSignal(f"the amplitude must lie between {low:g} and {high:g} degrees")
    if kind == "sweep":
        offsets = sweep_way(model, joint, amplitude)
    else:
        way = step_way(model, joint, amplitude)
        sign = 1.0 if model.q_upper[joint] - q[joint] >= q[joint] - model.q_lower[joint] else -1.0
        offsets = sign * (way if kind == "step" else way[-1] - way)
    Q = np.tile(q, (len(offsets), 1))
    Q[:, joint] += offsets
    try:
        return Motion.from_samples(model, f"{name}-{kind}", STEP, Q, f"identify: {kind}", limits)
    except MotionError as error:
        raise NoSignal(
            f"joint {joint + 1} has no room for the {kind}: {error}. Move the arm, or take a smaller amplitude"
        ) from error
