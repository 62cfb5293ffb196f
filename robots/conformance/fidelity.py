"""How true an arm stays to its path, whatever becomes of its speed: random motions under random limits.

The arm's node, driver and surroundings are those of the suite. Each measured position is compared with the planned path
near where the arm is commanded at the moment it was measured; what it lags behind on the path counts as time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from robots.conformance.bench import Bench
from robots.contract import RobotState
from robots.model import RobotModel
from robots.motion import Motion
from robots.planning import PlanError, Segment, plan_path, plan_ptp

Array = NDArray[np.float64]

TCP_LIMIT = 2e-3
"""Largest deviation from the path, m."""
JOINT_LIMIT = 4e-3
"""The same for each joint, rad."""
PITCH = 0.002
"""Nominal time between the places of a path that are compared, s."""
AHEAD = 0.02
"""An arm is never farther on its path than commanded but for the times' own error, nominal s."""
BEHIND = 0.15
"""Nominal s behind the command, besides the driver's delay, in which the arm's place is looked for."""
FAST = 0.15
"""Lag is read only where a joint is faster, rad/s: elsewhere time and place say little of each other."""
MARGIN = 0.1
"""Distance kept from the joint limits, rad."""
CLEAR = 0.05
"""All links stay so high above the base, and the hand so far from the arm's first links, m."""
ATTEMPTS = 400
LIMITS = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)
SHARES = (0.3, 0.15, 0.15, 0.15, 0.1, 0.15)


class Records(NamedTuple):
    """One motion as it was driven: a row each tick."""

    motion: Motion
    now: list[float]
    """s, when the node's tick began."""
    states: list[RobotState]


class Deviation(NamedTuple):
    """What one motion showed: n rows, one a tick."""

    tcp: Array
    """(n,) distance of the TCP from the path, m."""
    tcp_speed: Array
    """(n,) commanded, m/s."""
    joint: Array
    """(n,) distance from the path of the joint that is farthest off, rad."""
    joint_speed: Array
    """(n,) of the fastest joint as commanded, rad/s."""
    lag: list[float]
    """s, where it could be read."""
    error: float
    """Largest |q - q_commanded| of any tick, rad."""


class Fidelity(msgspec.Struct, frozen=True):
    """Result of a whole run."""

    driver: str
    model: str
    motions: int
    holds: int
    seed: int
    seconds: float
    """How long it took the arm."""
    tcp_mm: float
    joint_mrad: float
    """Largest distances from the path, whatever the speed."""
    following_ms: float
    """The following error that is allowed for: way behind the command a speed, s."""
    tcp_over_mm: float
    joint_over_mrad: float
    """Largest distances from the path beyond the following error at the speed of the moment; at least 0."""
    lag_median_ms: float
    lag_worst_ms: float
    """The 99th percentile."""
    tracking_mrad: float
    """Largest difference between commanded and measured joints, the lag included."""
    creep_mrad: float
    """Largest way of a joint while the arm was held."""
    faults: list[str]

    @property
    def good(self) -> bool:
        """Within 2 mm and 4 mrad and the following error, and no fault."""
        within = self.tcp_over_mm <= 1e3 * TCP_LIMIT and self.joint_over_mrad <= 1e3 * JOINT_LIMIT
        return within and not self.faults


# ---------------------------------------------------------------- which motions


def random_motions(model: RobotModel, start: Array, count: int, rng: np.random.Generator) -> list[Motion]:
    """Plan `count` motions in a row, from `start` (dof,) on: point to point, through via points, and straight lines.

    Raises PlanError if no free one is found."""
    found: list[Motion] = []
    q = start
    for n in range(count):
        motion = _one(model, q, n, rng)
        found.append(motion)
        q = motion.path[-1]
    return found


def _one(model: RobotModel, q: Array, n: int, rng: np.random.Generator) -> Motion:
    for _ in range(ATTEMPTS):
        kind = ("ptp", "lin", "via")[n % 3]
        try:
            motion = plan_path(model, q, _segments(model, q, kind, rng), motion_id=f"fidelity-{n}", label=kind)
        except PlanError:
            continue
        if motion.duration > 0.5 and _free(model, motion.path):
            return motion
    raise PlanError("unreachable", 0, f"no free random motion from {np.round(q, 2).tolist()}")


def _segments(model: RobotModel, q: Array, kind: str, rng: np.random.Generator) -> list[Segment]:
    if kind == "lin":
        T = model.fk(q)
        T[:3, 3] += rng.uniform(-0.25, 0.25, 3)
        return [Segment("lin", T, speed=float(rng.uniform(0.1, 0.5)))]
    goals = [_goal(model, q, rng) for _ in range(int(rng.integers(2, 4)) if kind == "via" else 1)]
    return [Segment("ptp", goal, blend=0.06 if k + 1 < len(goals) else 0.0) for k, goal in enumerate(goals)]


def _goal(model: RobotModel, q: Array, rng: np.random.Generator) -> Array:
    return np.clip(q + rng.uniform(-0.9, 0.9, model.dof), model.q_lower + MARGIN, model.q_upper - MARGIN)


def _free(model: RobotModel, path: Array) -> bool:
    """All moving links are above the base's plane, and the hand keeps away from the first links."""
    rows = path[np.unique(np.linspace(0, len(path) - 1, 40).astype(int))]
    a, b, radius = model.capsule_paths(rows)
    moving = slice(max(1, len(radius) // 3), None)
    low = np.minimum(a[:, moving, 2], b[:, moving, 2]) - radius[moving]
    if not low.min() > CLEAR:
        return False
    u = np.linspace(0.0, 1.0, 5)[:, None]
    hand = (a[:, -2:, None] * (1 - u) + b[:, -2:, None] * u).reshape(len(rows), -1, 1, 3)
    first = slice(0, max(1, len(radius) // 3))
    base = (a[:, first, None] * (1 - u) + b[:, first, None] * u).reshape(len(rows), 1, -1, 3)
    gap = np.linalg.norm(hand - base, axis=-1).min(axis=(1, 2)) - float(radius[-2:].max()) - float(radius[first].max())
    return bool(gap.min() > CLEAR)


# ---------------------------------------------------------------- driving them


class Drive:
    """Drives motions on a bench while override and lease limit change at random."""

    def __init__(self, bench: Bench, rng: np.random.Generator) -> None:
        self._bench = bench
        self._rng = rng
        self.creep = 0.0

    def approach(self, q: Array) -> None:
        """Go where the first motion begins."""
        bench = self._bench
        if np.abs(np.array(bench.state.q_commanded) - q).max() > 1e-6:
            way = plan_ptp(bench.model, np.array(bench.state.q_commanded), q, 0.3, motion_id="approach")
            assert bench.ask(bench.start(way)).verdict == "done", bench.state.fault_text

    def run(self, motion: Motion, hold: bool) -> Records:
        """One motion. Fails with what the node says if it does not come to its end."""
        bench, rng = self._bench, self._rng
        records = Records(motion, [], [])
        request = bench.client.move(motion, bench.now)
        hold_at = float(rng.uniform(0.2, 0.8)) * motion.duration if hold else np.inf
        begun = bench.now
        while not bench.status(request).finished:
            self._change()
            self._for(float(rng.uniform(0.04, 0.35)), records, lambda: bench.status(request).finished)
            if bench.state.motion_id == motion.motion_id and bench.state.progress >= hold_at:
                hold_at = np.inf
                self._hold(records)
            assert bench.now - begun < 30.0 + 20.0 * motion.duration, bench.state.limit_reason
        status = bench.status(request)
        assert status.verdict == "done", f"{motion.motion_id} {status.verdict}: {status.reason}"
        bench.issuer.limit = 1.0
        self._settle(1.0, records)
        return records

    def _change(self) -> None:
        """Another lease limit or another override."""
        rng, bench = self._rng, self._bench
        value = float(rng.choice(LIMITS, p=SHARES))
        if rng.random() < 0.6:
            bench.issuer.limit = value
        else:
            bench.client.set_override(value, bench.now)

    def _hold(self, records: Records) -> None:
        """Hold on the path until the arm stands, wait, and let it go on."""
        bench = self._bench
        self._settle(0.0, records)
        self._for(3.0, records, lambda: bench.state.standing)
        assert bench.state.standing, "the arm does not stand while it is held"
        first = np.array(bench.state.q)
        since = len(records.states)
        self._for(float(self._rng.uniform(0.1, 0.4)), records, lambda: False)
        held = np.array([state.q for state in records.states[since:]])
        self.creep = max(self.creep, float(np.abs(held - first).max()))
        self._settle(1.0, records)

    def _settle(self, override: float, records: Records) -> None:
        request = self._bench.client.set_override(override, self._bench.now)
        self._for(2.0, records, lambda: self._bench.status(request).finished)

    def _for(self, seconds: float, records: Records, done: Callable[[], bool]) -> None:
        """Step, and keep what the node publishes while the motion is on."""
        bench = self._bench
        end = bench.now + seconds
        while bench.now < end and not done():
            before = bench.state
            bench.step()
            if bench.state is not before:
                records.now.append(bench.now)
                records.states.append(bench.state)
                del bench.states[:-1]


# ---------------------------------------------------------------- what they show


@njit(cache=True)
def nearest(path: Array, low: int, high: int, q: Array) -> tuple[float, float]:
    """Compare q (n,) with the pieces low..high of a path (K, n).

    Returns the least distance, and the place (in pieces from the path's beginning) nearest by the sum of squares.
    The distance is that of the farthest coordinate for n > 3 and the length for n = 3."""
    best, place, least = np.inf, float(low), np.inf
    n = q.shape[0]
    for k in range(low, high):
        along, length = 0.0, 1e-18
        for j in range(n):
            way = path[k + 1, j] - path[k, j]
            along += (q[j] - path[k, j]) * way
            length += way * way
        share = min(max(along / length, 0.0), 1.0)
        far, total = 0.0, 0.0
        for j in range(n):
            d = path[k, j] + share * (path[k + 1, j] - path[k, j]) - q[j]
            far, total = max(far, abs(d)), total + d * d
        if total < least:
            least, place = total, k + share
        best = min(best, far if n > 3 else np.sqrt(total))
    return best, place


def deviation(model: RobotModel, records: Records, delay: float) -> Deviation:
    """Compare what was measured with the path. `delay`: the driver's own figure, s."""
    motion = records.motion
    K = max(2, round(motion.duration / PITCH) + 1)
    places = np.linspace(0.0, motion.duration, K)
    step = places[1]
    path = np.array([motion.sample(p)[0] for p in places])
    tcp = np.ascontiguousarray(model.tcp_path(path))
    kept = [k for k, s in enumerate(records.states) if s.motion_id == motion.motion_id]
    if not kept:
        nothing = np.zeros(1)
        return Deviation(nothing, nothing, nothing, nothing, [], 0.0)
    first, last = kept[0], kept[-1]
    now = np.array(records.now[first : last + 1])
    states = records.states[first : last + 1]
    progress = np.maximum.accumulate(np.array([s.progress for s in states]))
    rate = np.array([s.rate for s in states])
    measured = np.array([s.q for s in states])
    points = model.tcp_path(measured)
    commanded = np.abs(np.array([s.dq_commanded for s in states])).max(axis=1)
    swift = np.linalg.norm(np.gradient(tcp, step, axis=0), axis=1)
    n = len(states)
    off_tcp, off_joint, tcp_speed = np.zeros(n), np.zeros(n), np.zeros(n)
    lag: list[float] = []
    for k, state in enumerate(states):
        at = float(np.interp(state.t, now, progress))
        low = max(0, int((at - delay - BEHIND) / step))
        high = min(K - 1, max(low + 1, int((at + AHEAD) / step) + 1))
        off_joint[k], place = nearest(path, min(low, high - 1), high, measured[k])
        off_tcp[k], _ = nearest(tcp, min(low, high - 1), high, points[k])
        tcp_speed[k] = rate[k] * swift[min(K - 1, int(at / step))]
        if rate[k] > 0.3 and commanded[k] > FAST and 0 < k < n - 1:
            lag.append((at - place * step) / float(rate[k]))
    return Deviation(off_tcp, tcp_speed, off_joint, commanded, lag, max(s.tracking_error for s in states))


def measure(
    bench: Bench, motions: int, holds: int, seed: int, following: float | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Fidelity:  # fmt: skip
    """Drive random motions on a bench that has not begun yet. Raises AssertionError if the arm does not come to an end.

    `following`: what was identified, s (rad behind the command per rad/s); None: the median lag of these motions.

    Everything is planned before the arm is told anything: a real one does not put up with a silent node."""
    rng = np.random.default_rng(seed)
    start = np.array(bench.model.home)
    planned = random_motions(bench.model, start, motions, rng)
    held = set(rng.choice(motions, min(holds, motions), replace=False).tolist())
    nearest(np.zeros((3, bench.model.dof)), 0, 1, np.zeros(bench.model.dof))
    bench.begin()
    drive = Drive(bench, rng)
    drive.approach(start)
    begun = bench.now
    driven: list[Records] = []
    # What is kept makes collecting garbage take longer than a real arm puts up with.
    gc.disable()
    try:
        for n, motion in enumerate(planned):
            driven.append(drive.run(motion, n in held))
            progress(n + 1)
    finally:
        gc.enable()
    seconds = bench.now - begun
    return _result(bench, driven, len(held), seed, seconds, drive.creep, following)


def _result(
    bench: Bench, driven: Sequence[Records], holds: int, seed: int, seconds: float, creep: float,
    following: float | None,
) -> Fidelity:  # fmt: skip
    found = [deviation(bench.model, one, bench.driver.info.drive_delay) for one in driven]
    lag = np.array([v for one in found for v in one.lag] or [np.nan])
    allowed = max(0.0, float(np.median(lag))) if following is None else following
    faults = [str(e.data.get("code", "?")) for e in bench.events if e.kind in ("robot.fault", "robot.driver_error")]

    def worst(values: Sequence[Array], digits: int = 3) -> float:
        return round(1e3 * max(float(v.max()) for v in values), digits)

    return Fidelity(
        driver=bench.driver.info.name, model=bench.model.name, motions=len(driven), holds=holds, seed=seed,
        seconds=round(seconds, 1), tcp_mm=worst([d.tcp for d in found]), joint_mrad=worst([d.joint for d in found]),
        following_ms=round(1e3 * allowed, 2),
        tcp_over_mm=worst([np.maximum(0.0, d.tcp - allowed * d.tcp_speed) for d in found]),
        joint_over_mrad=worst([np.maximum(0.0, d.joint - allowed * d.joint_speed) for d in found]),
        lag_median_ms=round(1e3 * float(np.median(lag)), 2),
        lag_worst_ms=round(1e3 * float(np.percentile(lag, 99)), 2),
        tracking_mrad=round(1e3 * max(d.error for d in found), 2), creep_mrad=round(1e3 * creep, 3), faults=faults,
    )  # fmt: skip
