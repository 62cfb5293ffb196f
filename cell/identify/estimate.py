"""How late and how truly drives follow, from what was commanded and what was measured. Pure; nothing is assumed of the
drives but that they are linear within the amplitudes of the test.

Times are those of the commands' sending and of the measurements; both series may be sampled unevenly, and samples may
be missing. Whatever cannot be used is left out; what is left must suffice, or EstimateError says why not.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

LONGEST = 0.4
"""A longer delay is none that can be told from a part of the signal, s."""
EARLIEST = -0.03
"""Measurements may seem to come so much before the command, by the error of their times, s."""
LEAST = 100
"""Samples that are needed."""
GAP = 0.12
"""Longest time without a sample, s."""
ALIKE = 0.97
"""Correlation below which the measured signal is not taken for the commanded one."""
GRID = 0.004
"""s, of the spectra."""
COHERENT = 0.9
"""A band of frequencies with less coherence is left out."""
BANDS = 10
AFTER = 0.25
"""Time after which a lag has become steady on a plateau, s."""
STEADY = 0.04
"""Share by which the commanded speed may differ from that of the plateau."""
WHILE = 0.03
"""Time before and after a moment over which its speed is taken, s."""


class EstimateError(ValueError):
    """Nothing can be said from these samples; the text says why."""


class GapError(EstimateError):
    """Samples are missing for too long: the machine was held up, and the same again may succeed."""


class Series(NamedTuple):
    """One joint, commanded and measured."""

    sent: F64
    """(n,) when each command was sent, rising, s."""
    commanded: F64
    """(n,) rad."""
    seen: F64
    """(m,) when each position was measured, rising, s."""
    measured: F64
    """(m,) rad."""


class Response(NamedTuple):
    """Frequency response in bands."""

    frequency: F64
    """(b,) Hz."""
    gain: F64
    """(b,)"""
    delay: F64
    """(b,) phase lag over angular frequency, s."""


def series(sent: ArrayLike, commanded: ArrayLike, seen: ArrayLike, measured: ArrayLike) -> Series:
    """Leave out what is not finite, repeated or out of order. Raises EstimateError if too little is left, or a gap."""
    a, u = _clean(sent, commanded, "commands")
    t, y = _clean(seen, measured, "measurements")
    return Series(a, u, t, y)


def _clean(times: ArrayLike, values: ArrayLike, what: str) -> tuple[F64, F64]:
    t, v = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if t.ndim != 1 or t.shape != v.shape:
        raise EstimateError(f"{what}: {t.shape} times for {v.shape} values")
    good = np.isfinite(t) & np.isfinite(v)
    t, v = t[good], v[good]
    if len(t):
        newest = np.maximum.accumulate(t)
        rising = np.concatenate([[True], t[1:] > newest[:-1]])
        t, v = t[rising], v[rising]
    if len(t) < LEAST:
        raise EstimateError(f"only {len(t)} usable {what}, {LEAST} are needed")
    gap = float(np.diff(t).max())
    if gap > GAP:
        raise GapError(f"{gap:.2f} s without {what}: at most {GAP} s can be borne")
    return t, v


def matching_delay(s: Series) -> float:
    """Return the shift of the commanded signal that correlates best with the measured one, s. Raises EstimateError."""
    coarse = np.arange(EARLIEST, LONGEST, 0.002)
    found = np.array([_alike(s, d) for d in coarse])
    best = int(found.argmax())
    if not found[best] >= ALIKE:
        raise EstimateError(f"the arm does not follow what it is told (correlation {found[best]:.2f})")
    if best in (0, len(coarse) - 1):
        raise EstimateError(f"a delay outside {EARLIEST} to {LONGEST} s")
    fine = coarse[best] + np.arange(-0.003, 0.00301, 0.0002)
    found = np.array([_alike(s, d) for d in fine])
    best = min(max(int(found.argmax()), 1), len(fine) - 2)
    left, middle, right = found[best - 1 : best + 2]
    bend = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0.0 else 0.0
    return float(fine[best] + 0.0002 * min(max(shift, -1.0), 1.0))


def _alike(s: Series, delay: float) -> float:
    """Correlation of the measured with the shifted commanded signal; 0 if one of them does not move."""
    u = np.interp(s.seen - delay, s.sent, s.commanded)
    u, y = u - u.mean(), s.measured - s.measured.mean()
    size = float(np.sqrt((u @ u) * (y @ y)))
    return float(u @ y) / size if size > 1e-12 else 0.0


def response(s: Series, lowest: float, highest: float) -> Response:
    """Return gain and phase delay of a sweep in bands between two frequencies, Hz. Raises EstimateError.

    The measured signal is shifted by the matching delay first, so that its phase does not turn within a band; the
    estimate of a band is its cross spectrum over the commanded signal's own spectrum."""
    shift = matching_delay(s)
    begin, end = max(s.sent[0], s.seen[0] - shift), min(s.sent[-1], s.seen[-1] - shift)
    t = np.arange(begin, end, GRID)
    if len(t) < LEAST:
        raise EstimateError("commands and measurements do not overlap")
    u, y = np.interp(t, s.sent, s.commanded), np.interp(t + shift, s.seen, s.measured)
    U, Y = np.fft.rfft(u - u[0]), np.fft.rfft(y - y[0])
    f = np.fft.rfftfreq(len(t), GRID)
    edges = np.geomspace(lowest, highest, BANDS + 1)
    rows = []
    for low, high in pairwise(edges):
        inside = (f >= low) & (f < high)
        if not inside.any():
            continue
        cross, power = complex((Y[inside] * U[inside].conj()).sum()), float((np.abs(U[inside]) ** 2).sum())
        own = float((np.abs(Y[inside]) ** 2).sum())
        if power <= 0.0 or own <= 0.0 or abs(cross) ** 2 / (power * own) < COHERENT:
            continue
        centre = float((f[inside] * np.abs(U[inside]) ** 2).sum()) / power
        rows.append((centre, abs(cross) / power, shift - float(np.angle(cross)) / (2.0 * np.pi * centre)))
    if not rows:
        raise EstimateError("no frequency at which the arm follows what it is told")
    table = np.array(rows)
    return Response(table[:, 0], table[:, 1], table[:, 2])


def onset_delay(s: Series, share: float = 0.02) -> float:
    """Return how much later the measured signal than the commanded one has come `share` of its way, s.

    Raises EstimateError if one of them does not."""
    way = float(s.commanded[-1] - s.commanded[0])
    if abs(way) < 1e-4:
        raise EstimateError("the commanded step leads nowhere")
    found = []
    for times, values in ((s.sent, s.commanded), (s.seen, s.measured)):
        moved = (values - values[0]) / way
        beyond = np.nonzero(moved >= share)[0]
        if not len(beyond) or beyond[0] == 0:
            raise EstimateError("the arm does not make the step it is told")
        k = int(beyond[0])
        part = (share - moved[k - 1]) / (moved[k] - moved[k - 1])
        found.append(float(times[k - 1] + part * (times[k] - times[k - 1])))
    return found[1] - found[0]


def plateau_errors(s: Series) -> tuple[F64, float]:
    """Return commanded minus measured position (k,) on the plateau of a step in speed, rad, and its speed, rad/s.

    Raises EstimateError if there is no plateau, or nothing was measured on it."""
    # Over a while: on an ordinary machine single ticks are late, and made up for by the next.
    speed = (np.interp(s.sent + WHILE, s.sent, s.commanded) - np.interp(s.sent - WHILE, s.sent, s.commanded)) / (
        2.0 * WHILE
    )
    peak = float(np.median(speed[np.abs(speed) >= 0.9 * np.abs(speed).max()]))
    if abs(peak) < 1e-3:
        raise EstimateError("the commanded step has no speed")
    level = np.nonzero(np.abs(speed / peak - 1.0) <= STEADY)[0]
    if len(level) < 2:
        raise EstimateError("the commanded step has no plateau")
    begin, end = s.sent[level[0]] - WHILE + AFTER, s.sent[level[-1]]
    inside = (s.seen >= begin) & (s.seen <= end)
    if inside.sum() < 10:
        raise EstimateError("too little was measured on the step's plateau")
    return np.interp(s.seen[inside], s.sent, s.commanded) - s.measured[inside], peak


class Following(NamedTuple):
    """How far behind an arm is at a steady speed."""

    seconds: float
    """rad behind the command per rad/s."""
    worst: float
    """The same for the sample that was farther behind than 95 % of all."""
    offset: float
    """Steady error that does not depend on the speed, rad."""


def following(there: Series, back: Series) -> Following:
    """Return the following error of a step to and fro: what they have in common is an offset, the rest is lag.

    Raises EstimateError."""
    e1, v1 = plateau_errors(there)
    e2, v2 = plateau_errors(back)
    if not v1 * v2 < 0.0:
        raise EstimateError("the two steps do not go opposite ways")
    m1, m2 = float(np.median(e1)), float(np.median(e2))
    seconds = (m1 - m2) / (v1 - v2)
    offset = m1 - seconds * v1
    lags = np.concatenate([(e1 - offset) / v1, (e2 - offset) / v2])
    return Following(seconds, float(np.percentile(lags, 95.0)), offset)
