"""How long a whole monitor cycle takes: 5,000 occupied balls against 9 moving links, search for the limit included;
and that of the method `reach` with people as 30 capsules.

A standing person beside the arm, at the distance that leaves the arm its full rate, some of it, nothing. Processor
time; the garbage collector is left on.

Run: python -m tests.benchmarks.bench_safety
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from perception.contract import Observation
from robots.rates import DEFAULT_LIMITS
from safety.monitor import Decision, Monitor
from safety.reach import NOBODY, Reach, bodies_of
from safety.supervisor import SupervisorCore
from tests.safety.test_monitor import CONFIG, model, monitor, motion, observation, state_on

POINTS = 5000
CAPSULES = 30
CYCLES = 2000


def person(x: float, y: float) -> NDArray[np.float64]:
    """Balls on an upright elliptic cylinder, sorted in space as perception's voxels are."""
    rng = np.random.default_rng(0)
    angle, height = rng.uniform(0.0, 2.0 * np.pi, POINTS), rng.uniform(-0.8, 0.9, POINTS)
    rows = np.column_stack([x + 0.15 * np.cos(angle), y + 0.25 * np.sin(angle), height, np.full(POINTS, 0.026)])
    return rows[np.lexsort((rows[:, 2], rows[:, 1].round(1), rows[:, 0].round(1)))]


def figure(x: float, y: float, walking: bool) -> NDArray[np.float64]:
    """An upright person as 30 capsules; tracked, and walking along y, or not tracked."""
    rng = np.random.default_rng(0)
    middle = np.column_stack([
        x + rng.normal(0.0, 0.10, CAPSULES), y + rng.normal(0.0, 0.15, CAPSULES), rng.uniform(-0.7, 0.8, CAPSULES)
    ])  # fmt: skip
    half = rng.normal(size=(CAPSULES, 3))
    half *= 0.12 / np.linalg.norm(half, axis=1, keepdims=True)
    capsules = np.column_stack([middle - half, middle + half, rng.uniform(0.05, 0.12, CAPSULES)])
    if not walking:
        return bodies_of(capsules)
    return bodies_of(capsules, np.tile([0.0, 1.0, 0.0], (CAPSULES, 2)), np.full(CAPSULES, 0.2), 5.0)


def timed(cycle: Callable[[], Decision]) -> tuple[float, float, float, float]:
    """Limit, and median, 99th percentile (us) and memory still held (bytes a cycle)."""
    limit = cycle().limit
    took = []
    for _ in range(CYCLES):
        start = time.thread_time_ns()
        cycle()
        took.append((time.thread_time_ns() - start) / 1e3)
    tracemalloc.start()
    cycle()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        cycle()
    held = (tracemalloc.get_traced_memory()[0] - before) / 100
    tracemalloc.stop()
    return limit, float(np.median(took)), float(np.percentile(took, 99)), held


def show(label: str, figures: tuple[float, float, float, float]) -> None:
    """Print one line."""
    limit, median, high, held = figures
    print(f"  {label:22s} limit {limit:4.2f}  p50 {median:7.1f} us  p99 {high:7.1f} us  memory held {held:.0f} B")


def points(used: Monitor, at: tuple[float, float], rate: float) -> tuple[float, float, float, float]:
    """A monitor with 5,000 balls."""
    m = motion(1)
    seen, state = observation(person(*at)), state_on(m, 0.45 * m.duration, rate)
    return timed(lambda: used.cycle(10.0, seen, state, m))


def capsules(used: Reach, bodies: NDArray[np.float64], rate: float) -> tuple[float, float, float, float]:
    """The method `reach` with bodies alone."""
    m = motion(1)
    nobody, state = observation(np.empty((0, 4))), state_on(m, 0.45 * m.duration, rate)
    return timed(lambda: used.cycle_among(10.0, nobody, state, m, bodies))


def supervisor(balls: NDArray[np.float64]) -> float:
    """Median of the supervisor's whole core step, lease and status included, us."""
    m = motion(1)
    core = SupervisorCore(CONFIG, monitor(), model(), "print", 1)
    core.accept_motion(m.to_accepted())
    seen: Observation = observation(balls)
    state = state_on(m, 0.45 * m.duration, 0.5)
    took = []
    for _ in range(CYCLES):
        start = time.perf_counter()
        core.step(10.0, seen, state)
        took.append(time.perf_counter() - start)
    return float(np.median(took)) * 1e6


def main() -> None:
    """Print the figures."""
    monitor().warm_up()
    used = Reach(CONFIG, model(), DEFAULT_LIMITS)
    used.warm_up()
    moving = len(model().capsule_names()) - monitor()._fixed
    places = [
        ("nobody near", (3.0, 1.0), 1.0), ("slowed", (1.1, 0.4), 0.45), ("slowing down", (1.2, 0.4), 1.0),
        ("stopped", (0.9, 0.3), 0.0),
    ]  # fmt: skip
    for title, by in (("monitor", monitor()), ("reach", used)):
        print(f"\n{title} cycle, {POINTS} points x {moving} links")
        for label, at, rate in places:
            show(label, points(by, at, rate))
    print(f"  supervisor's whole step, slowed   p50 {supervisor(person(1.1, 0.4)):7.1f} us")
    print(f"\nreach cycle, {CAPSULES} capsules x {moving} links")
    show("no capsules", capsules(used, NOBODY, 1.0))
    for label, at, rate in [
        ("nobody near", (3.0, 1.0), 1.0), ("slowed", (1.15, 0.40), 0.45), ("slowing down", (1.20, 0.40), 1.0),
        ("stopped", (0.9, 0.3), 0.0),
    ]:  # fmt: skip
        show(label, capsules(used, figure(*at, False), rate))
        show(f"{label}, tracked", capsules(used, figure(*at, True), rate))


def test_safety() -> None:
    """Collected by `make bench`; prints, judges nothing."""
    main()


if __name__ == "__main__":
    main()
