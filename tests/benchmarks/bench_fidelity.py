"""How true each driver keeps its arm to the planned path at random rates, with holds: deviation, lag, faults.

Run: python -m tests.benchmarks.bench_fidelity --driver NAME [--motions 50] [--holds 20] [--seed 1] [--json]
THE ARM MOVES, at up to 80 % of its speed, anywhere above its base within 0.9 rad and 0.25 m of where it stands.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from typing import Any

import msgspec

from cell.bus.inprocess import Hub
from cell.session import entry_point
from robots.conformance.bench import Bench
from robots.conformance.fidelity import Fidelity, measure
from robots.conformance.surroundings import surroundings

PACKAGES = {"ur": "rtde_control", "abb": "ABBRobotEGM"}
"""What a driver needs besides the project."""
BENCHED = ("null", "twin", "abb", "ur")


def fidelity(
    driver: str, motions: int = 50, holds: int = 20, seed: int = 1, options: dict[str, Any] | None = None,
    tell: bool = False, following: float | None = None, config: dict[str, Any] | None = None,
) -> Fidelity:  # fmt: skip
    """Drive one driver's arm through its bench (`cell.driver_benches`). `following`: as identified, s."""
    hub = Hub()
    factory, made = entry_point("cell.robot_drivers", driver), entry_point("cell.driver_benches", driver)
    bench = Bench(driver, surroundings(driver, factory, made, hub, dict(options or {})), hub, dict(config or {}))

    def progress(n: int) -> None:
        if tell:
            print(f"\r{n}/{motions}", end="", file=sys.stderr, flush=True)

    try:
        return measure(bench, motions, holds, seed, following, progress)
    finally:
        bench.close()


def show(one: Fidelity) -> None:
    print(
        f"{one.driver:>8} ({one.model}): {one.motions} motions, {one.holds} holds, {one.seconds:.0f} s: off the path "
        f"{one.tcp_mm:.2f} mm, {one.joint_mrad:.2f} mrad; beyond a following error of {one.following_ms:.1f} ms: "
        f"{one.tcp_over_mm:.2f} mm, {one.joint_over_mrad:.2f} mrad (asked: 2 mm, 4 mrad); lag "
        f"{one.lag_median_ms:.1f} ms, p99 {one.lag_worst_ms:.1f}; creep {one.creep_mrad:.2f} mrad; "
        f"faults: {', '.join(one.faults) or 'none'}"
    )


def test_bench_fidelity() -> None:
    """Figures of every driver that can be run here; printed, not judged."""
    print()
    for driver in BENCHED:
        if driver in PACKAGES and importlib.util.find_spec(PACKAGES[driver]) is None:
            continue
        show(fidelity(driver, motions=12, holds=5))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--driver-options", default="{}", help="JSON: robot.options of the cell file, and `model`")
    parser.add_argument("--driver-config", default="{}", help="JSON: other fields of the cell file's robot block")
    parser.add_argument("--motions", type=int, default=50)
    parser.add_argument("--holds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--following-ms", type=float, help="from cell robots identify; left out: the median lag")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    following = None if given.following_ms is None else 1e-3 * given.following_ms
    options = json.loads(given.driver_options)
    one = fidelity(given.driver, given.motions, given.holds, given.seed, options, not given.json, following,
                   json.loads(given.driver_config))  # fmt: skip
    if given.json:
        print(msgspec.json.encode(one).decode())
    else:
        print("\r", end="", file=sys.stderr)
        show(one)
    return 0 if one.good else 1


if __name__ == "__main__":
    raise SystemExit(main())
