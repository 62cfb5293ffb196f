"""Path fidelity of the UR driver in real time: emulator, driver's process and robot node side by side."""

from __future__ import annotations

import pytest

from tests.benchmarks.bench_fidelity import fidelity


@pytest.mark.live
@pytest.mark.timeout(300)
def test_the_arm_stays_on_its_path_at_any_rate() -> None:
    one = fidelity("ur", motions=6, holds=2, seed=3)
    assert one.faults == [] and one.good, one
    assert 20.0 <= one.lag_median_ms <= 60.0, "the look-ahead of servoj alone is 30 ms"
