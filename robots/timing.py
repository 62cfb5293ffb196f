"""The nominal time law of a geometric path: as fast as the limits permit, at rest at both ends, without jumps in
acceleration.

The path is q(u). With x = (du/dt)^2 and a = d2u/dt2 every limit has the form |f a + g x| <= A at a grid point, plus an
upper bound on x. The largest admissible x is found by one backward pass (controllable sets) and one forward pass
(greedy), as in reachability analysis for path parametrisation (Pham and Pham 2018, IEEE T-RO 34(3)). The resulting
u(t), whose acceleration is piecewise constant, is then averaged over a short window of time: it stays on the path, its
bounds are kept, and its acceleration becomes continuous.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

Array = NDArray[np.float64]

SMOOTHING = 0.06
"""Width of the averaging window, s."""
FINE = 0.001
"""Time resolution of the law before it is sampled, s."""


@njit(cache=True)
def _accelerations(f: Array, g: Array, limit: Array, x: float) -> tuple[float, float]:
    """Interval of admissible d2u/dt2 at one grid point for a given x; empty when low > high."""
    low, high = -1e12, 1e12
    for j in range(f.shape[0]):
        if abs(f[j]) > 1e-9:
            one = (-limit[j] - g[j] * x) / f[j]
            two = (limit[j] - g[j] * x) / f[j]
            low, high = max(low, min(one, two)), min(high, max(one, two))
        elif abs(g[j] * x) > limit[j]:
            return 1.0, -1.0
    return low, high


@njit(cache=True)
def fastest_profile(f: Array, g: Array, limit: Array, x_cap: Array, du: float) -> Array:
    """Return x (N,), the largest (du/dt)^2 at each grid point with x = 0 at both ends.

    Args:
        f, g, limit: (N, c) coefficients of the constraints |f a + g x| <= limit.
        x_cap: (N,) upper bounds on x.
        du: grid spacing.
    """
    N = f.shape[0]
    controllable = np.zeros(N)
    for k in range(N - 2, -1, -1):
        low, high = 0.0, x_cap[k]
        for attempt in range(48):
            x = high if attempt == 0 else 0.5 * (low + high)
            a_low, a_high = _accelerations(f[k], g[k], limit[k], x)
            # the next x must not exceed what is controllable there, and must not become negative
            good = a_low <= a_high and x + 2.0 * du * a_low <= controllable[k + 1] and x + 2.0 * du * a_high >= 0.0
            if good:
                low = x
                if attempt == 0:
                    break
            else:
                high = x
        controllable[k] = low
    x_out = np.zeros(N)
    for k in range(N - 1):
        _, a_high = _accelerations(f[k], g[k], limit[k], x_out[k])
        x_out[k + 1] = min(max(x_out[k] + 2.0 * du * a_high, 0.0), controllable[k + 1])
    return x_out


@njit(cache=True)
def _positions(x: Array, du: float, fine: float) -> Array:
    """u at the times 0, fine, 2 fine, ... until the path ends; d2u/dt2 is constant between grid points."""
    N = x.shape[0]
    times = np.empty(N)
    times[0] = 0.0
    for k in range(N - 1):
        speed = math.sqrt(x[k]) + math.sqrt(x[k + 1])
        times[k + 1] = times[k] + 2.0 * du / max(speed, 1e-9)
    count = math.ceil(times[N - 1] / fine) + 1
    u = np.empty(count)
    k = 0
    for i in range(count):
        t = min(i * fine, times[N - 1])
        while k < N - 2 and times[k + 1] < t:
            k += 1
        a = (x[k + 1] - x[k]) / (2.0 * du)
        dt = t - times[k]
        u[i] = min(k * du + math.sqrt(x[k]) * dt + 0.5 * a * dt * dt, (N - 1) * du)
    u[count - 1] = (N - 1) * du
    return u


def law(x: Array, du: float, step: float, smoothing: float = SMOOTHING) -> Array:
    """Return u (K,) at the times 0, step, 2 step, ...: the profile x, averaged over `smoothing` seconds.

    The first value is exactly 0 and the last exactly the end of the path; both are at rest.
    """
    u = _positions(x, du, FINE)
    width = max(1, round(smoothing / FINE))
    padded = np.concatenate([np.zeros(width), u, np.full(width, u[-1])])
    total = np.concatenate([[0.0], np.cumsum(padded)])
    smooth = (total[width:] - total[:-width]) / width
    count = math.ceil((len(smooth) - 1) * FINE / step) + 1
    sampled = np.interp(np.arange(count) * step, np.arange(len(smooth)) * FINE, smooth)
    sampled[0], sampled[-1] = 0.0, u[-1]
    return sampled
