"""From the setpoints of the robot node to a command each millisecond that the arm's controller accepts. Pure.

`Stream` puts a smooth curve through setpoints that come when they come; `Shaper` follows it within the arm's limits on
velocity, acceleration and jerk, which the controller answers with a reflex where they are broken. Joint vectors are
lists of length 7, rad.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

DT = 1e-3
"""Of the arm's controller, s."""
JOINTS = 7

# Franka Control Interface documentation, "Robot and interface specifications", joint space limits of the FR3.
Q_LOWER = (-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196)
Q_UPPER = (2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196)
A_MAX = 10.0
"""rad/s^2, every joint."""
J_MAX = 5000.0
"""rad/s^3, every joint."""
V_SHAPE = (
    (2.62, 0.30, 6.0), (2.62, 0.20, 2.585), (2.62, 0.20, 3.5), (2.62, 0.30, 4.0),
    (5.26, 0.35, 17.0), (4.18, 0.35, 5.5), (5.26, 0.35, 17.0),
)  # fmt: skip
"""v, c, k of each joint: `min(v, sqrt(k d) - c)` is its largest velocity, rad/s, at d rad before the end of its way."""

_V_SHARE, _V_GAP = 0.95, 0.05
_A_SHARE, _J_SHARE = 0.35, 0.2
"""What is used of a limit: the rest is for rounding, and for cycles the controller had to fill in by itself. There its
acceleration stays as it was, and what follows differs from it by up to three times the jerk."""
_A_MOST = 0.6
"""Of acceleration, where the controller's milliseconds last longer than ours."""
_SOFT = 70.0
"""How fast acceleration is taken back before a velocity limit, 1/s: steeper would break the limit of jerk."""
_STIFF = 50.0
"""Natural frequency with which a deviation from the curve is made up for, critically damped, rad/s."""
_BRAKE = 100.0
"""Braking fades below `A_MAX / _BRAKE`, 1/s."""
_SAME = 2.5e-7
"""As near as numbers of single precision, in which the controller reports, can tell, rad."""
_CLOSE = 2e-5
"""What a late command can change within a few cycles, rad."""
_TRAIL = 20
"""After so many cycles without a command the controller ends the motion."""
_STANDING = 1e-3
"""A commanded velocity below it may be taken away at once, rad/s."""


def velocity_limits(j: int, q: float) -> tuple[float, float]:
    """Smallest and largest velocity the controller accepts of joint j at q, rad/s; 0 beyond the end of its way."""
    v, c, k = V_SHAPE[j]
    down = max(0.0, min(v, math.sqrt(k * max(0.0, q - Q_LOWER[j])) - c))
    up = max(0.0, min(v, math.sqrt(k * max(0.0, Q_UPPER[j] - q)) - c))
    return -down, up


class Metronome:
    """When the n-th of many evenly spaced things happens, from when they were noticed.

    An alpha-beta filter to which a thing that comes very late counts as one that comes late: a machine that is held up
    for a moment does not change what is expected of it.
    """

    SHORTEST, LONGEST = 5e-4, 2e-2
    """Bounds of the period, s."""
    LOST = 0.1
    """A deviation beyond it begins anew, s."""

    def __init__(self, share: float, most: float) -> None:
        """`share` of a deviation, of which `most` s count, is taken over at once."""
        self._share, self._most = share, most
        self._n = -1
        self._t = 0.0
        self.period = 0.0
        """Estimated, s; 0 before the second thing."""

    def take(self, n: int, t: float) -> None:
        """The n-th was noticed at t, s. Whatever does not fit at all begins anew."""
        steps = n - self._n
        if self._n < 0 or steps <= 0:
            self._n, self._t, self.period = n, t, 0.0
            return
        if self.period == 0.0:
            self.period = min(max((t - self._t) / steps, self.SHORTEST), self.LONGEST)
        off = t - self.at(n)
        if abs(off) > self.LOST:
            self._n, self._t = n, t
            return
        off = min(max(off, -self._most), self._most)
        self._n, self._t = n, self.at(n) + self._share * off
        change = 0.25 * self._share * self._share * off / steps
        self.period = min(max(self.period + change, self.SHORTEST), self.LONGEST)

    def at(self, n: float) -> float:
        """Estimated time of the n-th, s."""
        return self._t + (n - self._n) * self.period


class Stream:
    """The newest setpoints as control points of a uniform cubic B-spline.

    The curve has a continuous acceleration and never leaves the hull of its control points; it passes within a sixth of
    their second difference. Beyond the newest it goes straight on; how long is for the caller to say.
    """

    KEPT = 64
    GAP = 25
    """More setpoints missing in between begin anew."""

    def __init__(self) -> None:
        self._clock = Metronome(0.08, 4e-3)
        self._first = 0
        self._points: list[list[float]] = []

    def put(self, seq: int, t: float, q: Sequence[float]) -> bool:
        """Take a setpoint sent at t, s; False for one that is older than the newest or the same, which is ignored."""
        newest = self._first + len(self._points) - 1
        if not self._points or seq - newest > self.GAP:
            self._first, self._points = seq, [list(q)]
            self._clock = Metronome(0.08, 4e-3)
        elif seq <= newest:
            return False
        else:
            last, steps = self._points[-1], seq - newest
            for n in range(1, steps + 1):
                self._points.append([a + (b - a) * n / steps for a, b in zip(last, q, strict=True)])
            drop = max(0, len(self._points) - self.KEPT)
            del self._points[:drop]
            self._first += drop
        self._clock.take(seq, t)
        return True

    def at(self, t: float, pace: float = 1.0) -> tuple[list[float], list[float], list[float]]:
        """Position, velocity and acceleration of the curve at t, s. At least one setpoint must have come.

        `pace`: so many of our seconds pass in one of those in which the velocity and the acceleration are wanted.
        """
        period = self._clock.period
        if len(self._points) < 2 or period == 0.0:
            return list(self._points[-1]), [0.0] * JOINTS, [0.0] * JOINTS
        u = self._first + len(self._points) - 1 + (t - self._clock.at(self._first + len(self._points) - 1)) / period
        i = math.floor(u)
        f = u - i
        g = 1.0 - f
        a, b, c, d = (self._point(i + n) for n in (-1, 0, 1, 2))
        w = (g * g * g / 6.0, (3.0 * f * f * f - 6.0 * f * f + 4.0) / 6.0, 0.0, f * f * f / 6.0)
        w = (w[0], w[1], 1.0 - w[0] - w[1] - w[3], w[3])
        s, p2 = 0.5 * pace / period, (period / pace) ** 2
        dw = (-g * g * s, (3.0 * f * f - 4.0 * f) * s, (-3.0 * f * f + 2.0 * f + 1.0) * s, f * f * s)
        ddw = (g / p2, (3.0 * f - 2.0) / p2, (1.0 - 3.0 * f) / p2, f / p2)
        four = list(zip(a, b, c, d, strict=True))
        return (
            [w[0] * x0 + w[1] * x1 + w[2] * x2 + w[3] * x3 for x0, x1, x2, x3 in four],
            [dw[0] * x0 + dw[1] * x1 + dw[2] * x2 + dw[3] * x3 for x0, x1, x2, x3 in four],
            [ddw[0] * x0 + ddw[1] * x1 + ddw[2] * x2 + ddw[3] * x3 for x0, x1, x2, x3 in four],
        )

    def _point(self, n: int) -> list[float]:
        at, points = n - self._first, self._points
        if at < 0:
            return points[0]
        if at < len(points):
            return points[at]
        over = at - len(points) + 1
        return [b + over * (b - a) for a, b in zip(points[-2], points[-1], strict=True)]


class Shaper:
    """Commanded position, velocity and acceleration, and the next of them. Differences are taken backwards, as the
    controller takes them: v = (q - q before) / DT, and so on."""

    def __init__(self, q: Sequence[float], scale: float = 1.0) -> None:
        """Begins at rest at q. `scale` multiplies acceleration and jerk, for tests of what the controller does then."""
        self.q = list(q)
        self.v = [0.0] * JOINTS
        self.a = [0.0] * JOINTS
        self._a_max, self._j_max = _A_SHARE * A_MAX * scale, _J_SHARE * J_MAX * scale
        self._before = (list(q), list(self.v), list(self.a))
        self._trail = deque([list(q)], _TRAIL)

    def follow(self, curve: tuple[list[float], list[float], list[float]], pace: float = 1.0) -> list[float]:
        """Next command towards where the curve is then: its acceleration, corrected by where that would lead to.

        `pace`: as of the curve. What was planned for our seconds needs more in shorter ones.
        """
        most = min(max(1.0, pace * pace) * self._a_max, _A_MOST / _A_SHARE * self._a_max)
        wanted = [
            ar + 2.0 * _STIFF * (vr - 1.5 * DT * ar - v) + _STIFF * _STIFF * (qr - q - DT * (v + DT * ar))
            for qr, vr, ar, q, v in zip(*curve, self.q, self.v, strict=True)
        ]
        hardest = max(map(abs, wanted))
        if hardest > most:  # all joints in proportion: what is missing costs time rather than the path
            wanted = [w * most / hardest for w in wanted]
        return self._advance(wanted, most)

    def brake(self) -> list[float]:
        """Next command towards standstill, all joints in proportion, so that the arm stays on its tangent."""
        fastest = max(map(abs, self.v))
        if fastest <= 0.0:
            return self._advance([0.0] * JOINTS, self._a_max)
        hard = min(self._a_max, _BRAKE * fastest) / fastest
        return self._advance([-hard * v for v in self.v], self._a_max)

    @property
    def standing(self) -> bool:
        """The velocity that is left may be taken away at once."""
        return max(map(abs, self.v)) <= _STANDING and max(map(abs, self.a)) <= 1.0

    def rest(self) -> list[float]:
        """The position commanded last, with which the motion may end. Only while `standing`."""
        self.v, self.a = [0.0] * JOINTS, [0.0] * JOINTS
        return list(self.q)

    def _advance(self, wanted: Sequence[float], a_max: float) -> list[float]:
        self._before = (list(self.q), list(self.v), list(self.a))
        step = self._j_max * DT
        for j in range(JOINTS):
            v, a = self.v[j], self.a[j]
            lower, upper = velocity_limits(j, self.q[j])
            lower, upper = min(0.0, _V_SHARE * lower + _V_GAP), max(0.0, _V_SHARE * upper - _V_GAP)
            least = max(-a_max, _SOFT * (lower - v))
            most = min(a_max, _SOFT * (upper - v))
            # Outside its velocity limit the joint comes back to it; what jerk permits comes before everything else.
            a = min(max(min(max(wanted[j], least), most), a - step), a + step)
            a = min(max(a, -a_max), a_max)
            self.a[j] = a
            self.v[j] = v + a * DT
            self.q[j] += self.v[j] * DT
        self._trail.append(list(self.q))
        return list(self.q)

    def unsay(self) -> None:
        """The newest command was not sent."""
        q, v, a = self._before
        self.q, self.v, self.a = list(q), list(v), list(a)
        self._trail.pop()

    # ------------------------------------------------------------ what the controller made of it

    def agree(self, q_d: Sequence[float], dq_d: Sequence[float], ddq_d: Sequence[float], lost: int) -> bool:
        """The controller reports what it follows, `lost` cycles without a command after the newest; False if that was
        not ours.

        A command that does not arrive in time is made up for by the controller: it goes on at constant acceleration,
        and so do we, from what it reports. The report may be a cycle old, and that of a simulator which took a late
        command for one in time is several behind the cycles it counts.
        """
        for _ in range(min(lost, _TRAIL)):
            self._coast()
        offs = [self._off(q_d, q) for q in reversed(self._trail)]
        if min(offs[:2]) <= _SAME:
            if lost > 0 and offs[0] > _SAME:
                self.a = [0.0] * JOINTS  # for the same reason as below
            return lost == 0
        behind = offs.index(min(offs)) if min(offs) < _CLOSE else 0
        # It may measure what comes by all these cycles: at constant velocity none of its differences jumps.
        self.v, self.a = list(dq_d), list(ddq_d) if behind == 0 else [0.0] * JOINTS
        self.q = [q + behind * DT * v for q, v in zip(q_d, dq_d, strict=True)]
        self._trail[-1] = list(self.q)
        return False

    def _coast(self) -> None:
        """A cycle at constant acceleration."""
        self._before = (list(self.q), list(self.v), list(self.a))
        self.v = [v + a * DT for v, a in zip(self.v, self.a, strict=True)]
        self.q = [q + v * DT for q, v in zip(self.q, self.v, strict=True)]
        self._trail.append(list(self.q))

    @staticmethod
    def _off(a: Sequence[float], b: Sequence[float]) -> float:
        return max(abs(x - y) for x, y in zip(a, b, strict=True))
