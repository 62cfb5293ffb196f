"""The real pendant before a real controller and robot node, served to a browser; its clock follows the wall's."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import uvicorn

from tests.cell.harness import TICK, Bench
from tests.pendant.harness import Site

PUMP = 0.04
STILL = 1e-6
"""Slower than this a joint stands, rad/s."""
MOST = 0.1
"""Time that was lost to something else is not made up for: the cell just runs later, s."""


class Served:
    """A `Site` on a free port, in a thread of its own until the block ends. `speed`: cell seconds a second."""

    def __init__(self, folder: Path, speed: float = 1.0, safety: Path | None = None) -> None:
        self._folder, self.speed, self._safety = folder, speed, safety
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._fault: BaseException | None = None
        self.site: Site
        self.moved_at = -1.0
        """Time of the cell when a joint was last told to move, s."""

    @property
    def bench(self) -> Bench:
        """The cell; a test may set what its supervisor permits."""
        return self.site.bench

    async def _main(self) -> None:
        try:
            self.site = Site(self._folder, Bench(None, inputs=("tray_full",)), self._safety)
            config = uvicorn.Config(self.site.app, log_level="error", lifespan="off")
            self._server = uvicorn.Server(config)
            driving = asyncio.ensure_future(self._drive())
            await self._server.serve(sockets=[self._socket])
            driving.cancel()
        except BaseException as error:  # told to the test, whose thread this is not
            self._fault = error
            self._ready.set()

    async def _drive(self) -> None:
        """Let the cell's time follow the wall's."""
        last, due = time.monotonic(), 0.0
        ahead = 0.0
        while True:
            now = time.monotonic()
            ahead += min((now - last) * self.speed, MOST)
            last = now
            while ahead >= TICK:
                self.bench.tick()
                self._look()
                ahead -= TICK
                due += TICK
            if due >= PUMP * self.speed:
                due = 0.0
                self.site.pendant.pump.step()
            if self._server.started:
                self._ready.set()
            await asyncio.sleep(0.004)

    def _look(self) -> None:
        robot = self.bench.robot
        if robot is not None and not max(map(abs, robot.dq_commanded)) < STILL:
            self.moved_at = self.bench.now

    def moves(self) -> bool:
        """Is the arm being moved at this moment?"""
        return self.bench.now - self.moved_at < 2.5 * TICK

    def pass_time(self, seconds: float) -> None:
        """Wait until so much time of the cell has gone by, s."""
        end = self.bench.now + seconds
        while self.bench.now < end and self._thread.is_alive():
            time.sleep(0.005)

    def __enter__(self) -> Served:
        self._thread.start()
        self._ready.wait(120)
        if self._fault is not None:
            raise self._fault
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
