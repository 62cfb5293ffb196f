"""The telemetry socket: 25 times a second to each client, always the newest, never a queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from cell.pendant.feed import RATE, Stream
from cell.pendant.logins import Login

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

IDLE_RATE = 10.0
"""Without any client the topics are looked at so often, for the charts, Hz."""
ENDED = 4401


class Pump:
    """Looks at the topics at a steady rate and wakes the sockets."""

    def __init__(self, pendant: Pendant) -> None:
        self._pendant = pendant
        self._tick = asyncio.Event()
        self.clients = 0

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self.step()
            due = max(due + 1.0 / (RATE if self.clients else IDLE_RATE), loop.time())
            await asyncio.sleep(max(0.001, due - loop.time()))

    def step(self) -> None:
        """Take what is new and wake whoever waits for it."""
        now = self._pendant.now()
        self._pendant.step(now)
        self._pendant.feed.sample(now, self.clients > 0)
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()

    async def wait(self) -> None:
        """Until the next look."""
        await self._tick.wait()


def router(pendant: Pendant) -> APIRouter:
    """Return the telemetry socket."""
    routes = APIRouter(tags=["telemetry"])

    @routes.websocket("/telemetry")
    async def telemetry(socket: WebSocket, rate: float = Query(RATE, ge=0.5, le=RATE)) -> None:
        login: Login = socket.scope["login"]
        await socket.accept()
        # Nothing is expected from a client; reading is how its end is noticed.
        ended = asyncio.ensure_future(_until_closed(socket))
        pendant.pump.clients += 1
        try:
            await _stream(pendant, socket, login, rate, ended)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            pendant.pump.clients -= 1
            ended.cancel()

    return routes


async def _until_closed(socket: WebSocket) -> None:
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
    except (WebSocketDisconnect, RuntimeError):
        return


async def _stream(pendant: Pendant, socket: WebSocket, login: Login, rate: float, ended: asyncio.Future[None]) -> None:
    stream = Stream()
    every = max(1, round(RATE / rate))
    ticks = 0
    shown = ("", -1)
    control = b""
    while not ended.done():
        await pendant.pump.wait()
        ticks += 1
        if ticks % every:
            continue
        if login.ended:
            await socket.close(ENDED, "not_logged_in")
            return
        now = pendant.now()
        pendant.logins.look(login, now)
        if login.locked:
            pendant.give_up_control(login, "locked")
        values = pendant.feed.values
        if shown != (login.id, pendant.control.version):
            shown = (login.id, pendant.control.version)
            control = pendant.pack(pendant.control.view(login.id))
        # Sending waits while the client is slow; what it misses meanwhile it never gets.
        message = stream.message({**values, "control": (shown[1], control)}, now, pendant.feed.age(now))
        await socket.send_bytes(message)
        # Taken by the browser: one that hangs takes nothing, and gives no sign of life.
        pendant.control.heard(login.id, pendant.now())
