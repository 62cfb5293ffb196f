"""`cell ur-sim`: a simulated UR arm behind the ports of its controller."""

from __future__ import annotations

import contextlib
import importlib
import select
import sys
from typing import Any

from rich.console import Console

from cell.exits import OK, BadInput

SIMULATION = "sim.ur_sim"
"""Reached by its name: nothing of the runtime depends on the simulation."""


def simulate(address: str, model: str, local: bool, off: bool, shift: int) -> int:
    """Run until Ctrl-C or the end of the orders; return the exit code. Raises BadInput."""
    module = importlib.import_module(SIMULATION)
    console = Console()
    try:
        ports = module.Ports(*(port + shift for port in module.Ports()))
        arm = module.UrSimulation(address, model, ports, remote=not local, running=not off)
    except (OSError, OverflowError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadInput(
            f"{why}. Another simulated or real controller may have that port: end it, or choose another address "
            "(such as --address 127.0.0.2)"
        ) from None
    try:
        arm.warm_up()
        named = ", ".join(f"{name} {port}" for name, port in ports._asdict().items())
        console.print(f"{model} behind a UR controller at {address}: {named}")
        console.print("Orders of somebody at the arm, each ended with Enter (Ctrl-C ends):")
        console.print(module.ORDERS, highlight=False)
        with contextlib.suppress(KeyboardInterrupt):
            module.run(arm, lambda: _take_orders(arm, console))
    finally:
        arm.close()
    return OK


def _take_orders(arm: Any, console: Console) -> bool:
    """One line if there is one; without a keyboard the arm goes on until Ctrl-C."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return True
    if select.select([sys.stdin], [], [], 0.0)[0]:
        line = sys.stdin.readline()
        if line.strip():
            console.print(arm.order(line), highlight=False)
    return True
