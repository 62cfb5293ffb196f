"""How long the robot room's hot paths take: node tick, motion, kinematics, planning.

Run: python -m tests.benchmarks.bench_robots
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from robots.leases import sign_lease, verify_lease
from robots.motion import Motion
from robots.planning import Segment, plan_path
from tests.robots.bench import KEY, Bench


def median_us(call: Callable[[], object], count: int = 300, warm: int = 5) -> float:
    """Median duration of a call, us."""
    for _ in range(warm):
        call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def node_tick() -> tuple[float, float]:
    """Median duration of the pure core's step and of the whole shell on the in-process bus while moving, us."""
    b = Bench()
    b.client.move(b.motion(2.0), b.now)
    b.run(0.3)
    core: list[float] = []
    whole: list[float] = []
    step = b.node.core.step

    def timed(now: float, inputs: object) -> object:
        start = time.perf_counter()
        out = step(now, inputs)  # type: ignore[arg-type]
        core.append(time.perf_counter() - start)
        return out

    b.node.core.step = timed  # type: ignore[method-assign,assignment]
    shell = b.node.step

    def shell_timed(now: float) -> None:
        start = time.perf_counter()
        shell(now)
        whole.append(time.perf_counter() - start)

    b.node.step = shell_timed  # type: ignore[method-assign]
    while b.state.motion_id:
        b.step()
    return statistics.median(core) * 1e6, statistics.median(whole) * 1e6


def results() -> dict[str, float]:
    """All figures by name, us."""
    b = Bench()
    model, q = b.model, b.model.home
    goal = model.fk(q)
    goal[:3, 3] += (0.05, 0.1, -0.1)
    up, far = goal.copy(), q + np.array([1.2, 0.1, 0.0, 0.1, 0.0, 0.0, 0.5])
    up[2, 3] += 0.15
    segments = [
        Segment("lin", goal, blend=0.03),
        Segment("lin", up, blend=0.05),
        Segment("ptp", far),
        Segment("ptp", q),
    ]
    motion = plan_path(model, q, segments)
    five = int(5.0 / motion.step) + 1
    back_and_forth = np.concatenate([motion.path, motion.path[-2::-1]])
    while len(back_and_forth) < five:
        back_and_forth = np.concatenate([back_and_forth, motion.path[1:], motion.path[-2::-1]])
    cut = [k for k in range(five, len(back_and_forth)) if np.array_equal(back_and_forth[k], motion.path[0])]
    path = back_and_forth[: (cut[0] + 1) if cut else len(back_and_forth)]
    rows = np.tile(q, (1000, 1))
    b.run(0.05)
    lease = b.issuer.lease(b.now)
    core, whole = node_tick()
    return {
        "node core tick": core,
        "node tick with bus and null driver": whole,
        f"motion from {motion.step * (len(path) - 1):.1f} s of samples": median_us(
            lambda: Motion.from_samples(model, "m", motion.step, path), 60
        ),
        "motion.sample": median_us(lambda: motion.sample(0.7)),
        "motion.braking": median_us(lambda: motion.braking(1.0, 0.7)),
        "motion.brake_slope": median_us(lambda: motion.brake_slope(0.5, 0.9)),
        "forward kinematics (one call)": median_us(lambda: model.fk(q)),
        "capsules, per configuration of 1000": median_us(lambda: model.capsule_paths(rows), 50) / 1000,
        "jacobian (one call)": median_us(lambda: model.jacobian(q)),
        "ik from a near seed": median_us(lambda: model.ik(goal, q), 60),
        "plan lin-lin-ptp-ptp blended": median_us(lambda: plan_path(model, q, segments), 20),
        "lease sign": median_us(lambda: sign_lease(lease, KEY)),
        "lease verify": median_us(lambda: verify_lease(lease, KEY)),
    }


def main() -> None:
    for name, value in results().items():
        print(f"{name:45s} {value:10.2f} us")


def test_robots() -> None:
    """Print the figures when the benchmarks are run by pytest."""
    main()


if __name__ == "__main__":
    main()
