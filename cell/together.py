"""A simulated cell and its pendant in one process: nodes in lock-step, the page served from the same event loop.

The cell's clock keeps the pace of the machine's and stays behind where the machine is too slow: a tick that comes late
is late on no clock but the wall's, so nothing in the cell suffers from it. For machines with too few processors for a
process a node, and for looking on. Only for a simulated arm: a real one keeps its own time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn

from cell.bus.inprocess import Hub
from cell.bus.messages import Heartbeat
from cell.clock import SimulatedClock
from cell.heartbeat import topic as heartbeat_topic
from cell.hosted import HostedNode
from cell.launch import run_directory, stepped_nodes
from cell.loading import ProcessLoader
from cell.lockstep import TICK, Lockstep
from cell.options import RunOptions
from cell.pendant.app import create_app
from cell.pendant.pendant import Pendant
from cell.pendant.place import HOST, first_password, pendant_of
from cell.pendant.server import assemble, serving
from cell.process import warm_up
from cell.session import PENDANT, Session, SessionError, new_session

MOST_TICKS = 5
"""So many ticks at a time before people are served."""
MOST_BEHIND = 0.1
"""Time that was lost to something else is not made up for beyond this, s."""


class Together:
    """All nodes of a lock-step session, stepped by `drive`; `pendant` looks on and commands. `close` ends it.

    Everything happens in the event loop that awaits `run`. Construct it before threads are started: nodes that share
    the work live in forked processes.
    """

    def __init__(self, session: Session, data: Path, runs: Path, speed: float = 1.0) -> None:
        """`data`, `runs`: folders of the pendant and of all runs. `speed`: most cell seconds a second. Raises what
        the nodes raise (SessionError, FileErrors, BusError), AccountError; SessionError for an arm that is not
        simulated."""
        if not session.cell.simulated:
            raise SessionError(f"{session.cell.path}: the arm keeps its own time: start the cell with --live")
        if not 0.0 < speed <= 100.0:
            raise ValueError(f"speed {speed} is not in (0, 100]")
        self.session = session
        self.hub, self.clock = Hub(), SimulatedClock()
        self.speed = speed
        """Most cell seconds a second; may be changed while it runs."""
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            loaders = [ProcessLoader(session.cell) for _ in range(2)]
            for loader in loaders:
                undo.callback(loader.close)
            nodes = stepped_nodes(session, self.hub, self.clock, loaders[0])
            self.nodes = {node.name: node for node, _ in nodes}
            self._loop = Lockstep(nodes, self.clock)
            undo.callback(self._loop.close)
            ports = self.hub.ports(PENDANT)
            self.pendant: Pendant = assemble(session, ports, self.clock, loaders[1], data, runs)
            beats = ports.publisher(heartbeat_topic(PENDANT), Heartbeat)
            self.pendant.every_step.append(lambda now: beats.send(Heartbeat(PENDANT, now, True), now))
            for node, _ in nodes:
                if not isinstance(node, HostedNode):
                    warm_up(node)
            self._server = uvicorn.Server(serving(create_app(self.pendant)))
            self._stack = undo.pop_all()

    def step(self) -> float:
        """One tick of all nodes; return the time, s."""
        return self._loop.step()

    async def drive(self) -> None:
        """Let the cell's time follow the machine's until cancelled."""
        last, owed = time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            owed = min(owed + (now - last) * self.speed, MOST_BEHIND)
            last = now
            for _ in range(min(MOST_TICKS, int(owed / TICK))):
                self.step()
                owed -= TICK
            await asyncio.sleep(0.0 if owed >= TICK else (TICK - owed) / self.speed)

    async def run(self, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
        """Drive the cell and serve its pendant on a bound socket until `stop` or Ctrl-C. `ready`: called once people
        can log in. Raises what a node raises."""
        # A first second before anybody sees it: nodes have said what they have to say.
        for _ in range(round(1.0 / TICK)):
            self.step()
        driving = asyncio.ensure_future(self.drive())
        serve = asyncio.ensure_future(self._server.serve(sockets=[listening]))
        waiting = asyncio.ensure_future(self._ready(ready))
        try:
            await asyncio.wait({driving, serve}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            waiting.cancel()
            if not driving.done():
                driving.cancel()
        await serve
        with contextlib.suppress(asyncio.CancelledError):
            await driving

    async def _ready(self, ready: Callable[[], None]) -> None:
        while not self._server.started:
            await asyncio.sleep(0.01)
        ready()

    def stop(self) -> None:
        """End `run` soon; safe from another thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Close all nodes, the observers last; idempotent."""
        self._stack.close()


def up_together(options: RunOptions, announce: Callable[[str], None] = print) -> None:
    """`cell up --lockstep`: all of it in this process until Ctrl-C. Raises FileErrors, SessionError, BusError,
    AccountError before anything has moved."""
    place = pendant_of(options)
    if place is None:
        raise SessionError("--lockstep without a pendant has nobody to command it: leave --no-pendant out")
    session = new_session(options, run_directory(options.runs), attended=True)
    data = Path(place.data)
    password = first_password(data)
    if password:
        # At once: it exists nowhere else, whatever happens next.
        announce(f"First start: log in as admin with the password {password} (shown only now; change it).")
    cell = Together(session, data, Path(place.runs))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((HOST, place.port))

            def ready() -> None:
                announce(
                    f"The cell is up: {len(session.node_names)} nodes in lock-step, run folder {session.directory}. "
                    "Ctrl-C ends it."
                )
                announce(f"Pendant: http://{HOST}:{place.port}")

            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(cell.run(listening, ready))
            announce("ending ...")
    finally:
        cell.close()


__all__ = ["Together", "up_together"]
