"""The pendant's end of the bus, in an event loop: requests become futures, topics are looked at when somebody asks."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from cell.bus.messages import PROTOCOL_VERSION, Hello, Reply
from cell.bus.ports import Ports, Requester
from cell.clock import Clock
from cell.contract import SERVICE, TOPIC_JOG, JogWish
from cell.operator import WORLD_SERVICE
from cell.pendant.errors import ApiError, cell_silent

ANSWER = 2.0
"""The controller answers every request at once: what takes longer than this is silence, s."""
POLL = 0.004
"""While an answer is awaited, s."""
GREET_AGAIN = 5.0


class Link:
    """One node's connections. Single-threaded: everything happens in the event loop."""

    def __init__(
        self,
        ports: Ports,
        clock: Clock,
        simulated: bool,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`simulated`: there is a world that takes requests. `pause`: sleeps; tests step their cell meanwhile."""
        session = secrets.token_hex(8)
        self.ports = ports
        self._clock = clock
        self._pause = pause
        self._session = session
        self._cell = ports.requester(SERVICE, session)
        self._world = ports.requester(WORLD_SERVICE, session) if simulated else None
        self._jog = ports.publisher(TOPIC_JOG, JogWish)
        self._jog_seq = itertools.count(1)
        self._events = ports.event_source()
        self._replies: dict[str, list[Reply]] = {}
        self._greeted = -1e9

    def now(self) -> float:
        """Shared monotonic clock, s."""
        return self._clock.now()

    def emit(self, kind: str, **data: Any) -> None:
        """Report what a person did."""
        self._events.emit(kind, self.now(), **data)

    def jog(self, wish: Callable[[int, float], JogWish]) -> None:
        """Send one jog command; `wish` is given its number and the time."""
        now = self.now()
        self._jog.send(wish(next(self._jog_seq), now), now)

    async def ask(self, body: Any, final: float = ANSWER) -> Reply:
        """Ask the controller; return its last answer: `done`, `rejected` or `failed`, or `accepted` if after `final` s
        there is no more. Raises ApiError `cell_silent` if it does not even answer."""
        now = self.now()
        if now - self._greeted > GREET_AGAIN:
            self._greeted = now
            self._cell.request(Hello(PROTOCOL_VERSION, "observer", self._session), now)
        return await self._await(self._cell, body, final)

    async def ask_world(self, body: dict[str, Any]) -> Reply:
        """Ask the simulated world. Raises ApiError: there is none, or it does not answer."""
        if self._world is None:
            raise ApiError(409, "refused", "this is a real cell: there is no simulated world")
        return await self._await(self._world, body, ANSWER)

    def tell_world(self, body: dict[str, Any]) -> None:
        """Tell a simulated world something whose answer nobody waits for."""
        if self._world is not None:
            self._world.request(body, self.now())

    async def _await(self, service: Requester, body: Any, final: float) -> Reply:
        asked = self.now()
        request = service.request(body, asked)
        self._replies[request] = []
        try:
            while True:
                self._take(service)
                replies = self._replies[request]
                last = replies[-1] if replies else None
                if last is not None and last.verdict != "accepted":
                    return last
                waited = self.now() - asked
                if last is None and waited > ANSWER:
                    raise cell_silent()
                if last is not None and waited > final:
                    return last
                await self._pause(POLL)
        finally:
            del self._replies[request]

    def _take(self, service: Requester) -> None:
        for reply in service.replies():
            if reply.id in self._replies:
                self._replies[reply.id].append(reply)
