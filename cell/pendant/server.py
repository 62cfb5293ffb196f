"""The pendant's process: uvicorn round the application, the bus looked at from the same event loop."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvicorn

from cell.bus.messages import Heartbeat
from cell.bus.ports import Ports
from cell.bus.zeromq import ZmqPorts
from cell.clock import Clock, RealClock
from cell.heartbeat import BEAT, launcher_lives
from cell.heartbeat import topic as heartbeat_topic
from cell.loading import Loader, ProcessLoader
from cell.pendant.accounts import Accounts
from cell.pendant.app import create_app
from cell.pendant.feed import Feed
from cell.pendant.guard import App
from cell.pendant.link import Link
from cell.pendant.pendant import Pendant
from cell.pendant.place import HOST
from cell.session import PENDANT, Session


def assemble(session: Session, ports: Ports, clock: Clock, loader: Loader, data: Path, runs: Path) -> Pendant:
    """Return a pendant on the ports it is given. Raises AccountError if its folder cannot be used."""
    cell = session.cell
    # A shadow beside a real arm is not the world: its people and its enabling device are the real ones.
    simulated = cell.simulated
    model = cell.model()
    return Pendant(
        session=session,
        cell=cell,
        view=cell.view(),
        model=model,
        data=data,
        runs=runs,
        clock=clock,
        link=Link(ports, clock, simulated),
        feed=Feed(ports, model, simulated, cell.config.robot.enabling_device),
        accounts=Accounts(data),
        loader=loader,
        simulated=simulated,
    )


def serving(app: App, port: int = 0) -> uvicorn.Config:
    """How the application is served on this machine."""
    return uvicorn.Config(
        app,
        host=HOST,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_max_size=1 << 20,
        ws_per_message_deflate=False,
        ws_ping_interval=5.0,
        ws_ping_timeout=10.0,
        timeout_graceful_shutdown=1,
    )


def serve(session: Session) -> int:
    """Serve until SIGTERM; return the process's exit code."""
    file = session.file.pendant
    if file is None:
        print("this session has no pendant", file=sys.stderr, flush=True)
        return 2
    # Before the sockets: its process inherits what is open.
    loader = ProcessLoader(session.cell)
    clock = RealClock()
    ports = ZmqPorts(PENDANT, session.addresses)
    try:
        pendant = assemble(session, ports, clock, loader, Path(file.data), Path(file.runs))
        pendant.every_step.append(_Beat(ports).step)
        pendant.every_step.append(lambda _: ports.refresh())
        asyncio.run(_serve(uvicorn.Server(serving(create_app(pendant), file.port))))
    finally:
        loader.close()
        ports.close()
    return 0


async def _serve(server: uvicorn.Server) -> None:
    await server.serve()


class _Beat:
    """Heartbeat of the process."""

    def __init__(self, ports: Ports) -> None:
        self._beats = ports.publisher(heartbeat_topic(PENDANT), Heartbeat)
        self._next = 0.0

    def step(self, now: float) -> None:
        if now >= self._next:
            self._next = now + BEAT
            self._beats.send(Heartbeat(PENDANT, now, True), now)
            if not launcher_lives():
                signal.raise_signal(signal.SIGTERM)
