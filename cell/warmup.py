"""Compiles the numerical kernels once, at set-up, so that the first run does not wait: `python -m cell.warmup`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cell.bus.inprocess import Hub
from cell.clock import SimulatedClock
from cell.lockstep import TICK
from cell.nodes import build
from cell.options import RunOptions
from cell.process import warm_up
from cell.session import new_session

TICKS = 60


def main() -> None:
    """Build every node of the demo cell, let it rehearse, and run a quarter of a second."""
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(recipe=Path("recipes/library/kitting.yaml"), scenario="visit", runs=Path(folder))
        session = new_session(options, Path(folder))
        clock, hub = SimulatedClock(), Hub()
        nodes = [build(name, session, hub.ports(name), clock) for name in session.node_names]
        try:
            for node in nodes:
                warm_up(node)
            for tick in range(1, TICKS):
                clock.advance_to(tick * TICK)
                for node in nodes:
                    node.step(clock.now())
        finally:
            for node in reversed(nodes):
                node.close()


if __name__ == "__main__":
    main()
