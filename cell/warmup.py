"""Compiles the numerical kernels once, at set-up, so that the first run does not wait: `python -m cell.warmup`."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from pathlib import Path

from cell.bus.inprocess import Hub
from cell.clock import SimulatedClock
from cell.lockstep import TICK
from cell.nodes import build
from cell.options import RunOptions
from cell.process import warm_up
from cell.session import SUPERVISOR, Session, new_session

TICKS = 60


def main() -> None:
    """Build every node of the demo cell, let it rehearse, and run a quarter of a second.

    The supervisor is 40 s of work, and needs little of what the others compile: a second process takes it.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(recipe=Path("recipes/library/kitting.yaml"), scenario="visit", runs=Path(folder))
        session = new_session(options, Path(folder))
        supervisor = multiprocessing.get_context("fork").Process(target=_compile, args=(session, [SUPERVISOR], 0))
        supervisor.start()
        _compile(session, [name for name in session.node_names if name != SUPERVISOR], 0)
        supervisor.join()
        if supervisor.exitcode:
            sys.exit(f"the kernels of the supervisor do not compile (exit code {supervisor.exitcode}, reason above)")
        _compile(session, list(session.node_names), TICKS)


def _compile(session: Session, names: list[str], ticks: int) -> None:
    """Build these nodes, let them rehearse, and step them together."""
    clock, hub = SimulatedClock(), Hub()
    nodes = [build(name, session, hub.ports(name), clock) for name in names]
    try:
        for node in nodes:
            warm_up(node)
        for tick in range(1, ticks):
            clock.advance_to(tick * TICK)
            for node in nodes:
                node.step(clock.now())
    finally:
        for node in reversed(nodes):
            node.close()


if __name__ == "__main__":
    main()
