"""The rehearsal exercises motion, braking and jogging, and leaves the node as it was."""

from __future__ import annotations

from robots.rehearsal import Rehearsal
from tests.robots.bench import Bench


def test_a_rehearsal_moves_its_own_core_and_nothing_else() -> None:
    bench = Bench(hello=False)
    assert Rehearsal(bench.config, bench.model, bench.driver.info, bench.rules).run() > 30
    bench.node.warm_up()
    assert bench.node.core.q is None and bench.node.core.follower is None and not bench.node.core.faults
    bench.run(0.1)
    assert bench.client.connected and not bench.state.motion_id
