"""How long a whole monitor cycle takes: 5,000 occupied balls against 9 moving links, search for the limit included.

A standing person's surface beside the arm, at the distance that leaves the arm its full rate, some of it, nothing.

Run: python -m tests.benchmarks.bench_safety
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray

from perception.contract import Observation
from safety.supervisor import SupervisorCore
from tests.safety.test_monitor import CONFIG, model, monitor, motion, observation, state_on

POINTS = 5000
CYCLES = 2000


def person(x: float, y: float) -> NDArray[np.float64]:
    """Balls on an upright elliptic cylinder, sorted in space as perception's voxels are."""
    rng = np.random.default_rng(0)
    angle, height = rng.uniform(0.0, 2.0 * np.pi, POINTS), rng.uniform(-0.8, 0.9, POINTS)
    rows = np.column_stack([x + 0.15 * np.cos(angle), y + 0.25 * np.sin(angle), height, np.full(POINTS, 0.026)])
    return rows[np.lexsort((rows[:, 2], rows[:, 1].round(1), rows[:, 0].round(1)))]


def timed(balls: NDArray[np.float64], rate: float) -> tuple[float, float, float, float]:
    """Limit, and median, 99th percentile (us) and memory still held (bytes a cycle) of `Monitor.cycle`."""
    m = motion(1)
    seen, state, used = observation(balls), state_on(m, 0.45 * m.duration, rate), monitor()
    limit = used.cycle(10.0, seen, state, m).limit
    took = []
    for _ in range(CYCLES):
        start = time.perf_counter()
        used.cycle(10.0, seen, state, m)
        took.append(time.perf_counter() - start)
    tracemalloc.start()
    used.cycle(10.0, seen, state, m)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        used.cycle(10.0, seen, state, m)
    held = (tracemalloc.get_traced_memory()[0] - before) / 100
    tracemalloc.stop()
    return limit, float(np.median(took)) * 1e6, float(np.percentile(took, 99)) * 1e6, held


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
    moving = len(model().capsule_names()) - monitor()._fixed
    print(f"\nmonitor cycle, {POINTS} points x {moving} links")
    for label, at, rate in [
        ("nobody near", (3.0, 1.0), 1.0), ("slowed", (1.1, 0.4), 0.45), ("slowing down", (1.2, 0.4), 1.0),
        ("stopped", (0.9, 0.3), 0.0),
    ]:  # fmt: skip
        limit, median, high, held = timed(person(*at), rate)
        print(f"  {label:14s} limit {limit:4.2f}  p50 {median:7.1f} us  p99 {high:7.1f} us  memory held {held:.0f} B")
    print(f"  supervisor's whole step, slowed   p50 {supervisor(person(1.1, 0.4)):7.1f} us")


def test_safety() -> None:
    """Collected by `make bench`; prints, judges nothing."""
    main()


if __name__ == "__main__":
    main()
