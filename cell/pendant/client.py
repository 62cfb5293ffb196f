"""Python client of the pendant's API, for tests and scripts: needs httpx and websockets, and no other part of the cell.

    async with Client("http://127.0.0.1:8080") as client:
        await client.login("ada", "...")
        await client.take_control()
        await client.load("kitting")
        await client.packml("Reset")

A command carries the time of the newest telemetry this client has seen, as the page's do: `watch` must run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

BASE = "/api/v1"


class PendantError(Exception):
    """The pendant said no: `status` and the error object of the API."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status} {error.get('code')}: {error.get('message')}")
        self.status = status
        self.code = str(error.get("code", ""))
        self.error = error


class Client:
    """One login. All calls are coroutines of one event loop."""

    def __init__(self, url: str = "http://127.0.0.1:8080", transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.url, transport=transport, headers={"Origin": self.url}, timeout=150.0
        )
        self._csrf = ""
        self._watching: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}
        """Newest value of each telemetry key."""
        self.messages = 0
        self.bytes = 0
        self.on_message: Callable[[dict[str, Any]], None] | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the login ends by itself, or by `logout`."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, OSError):
                await self._watching
        await self._http.aclose()

    # ------------------------------------------------------------ requests

    async def request(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """One request below BASE. Raises PendantError."""
        headers = {"X-CSRF-Token": self._csrf} if self._csrf else {}
        arguments: dict[str, Any] = {"headers": headers, "params": query or None}
        if body is not None:
            arguments["json"] = body
        response = await self._http.request(method, BASE + path, **arguments)
        if response.status_code >= 400:
            try:
                error = response.json()["error"]
            except (ValueError, KeyError, TypeError):
                error = {"code": "unknown", "message": response.text[:200]}
            raise PendantError(response.status_code, error)
        return response

    async def get(self, path: str, **query: Any) -> Any:
        """GET; the JSON of the answer."""
        return (await self.request("GET", path, **query)).json()

    async def post(self, path: str, body: Any = None) -> Any:
        """POST; the JSON of the answer."""
        return (await self.request("POST", path, body)).json()

    # ------------------------------------------------------------ session

    async def login(self, name: str, password: str) -> dict[str, Any]:
        """Log in. Raises PendantError 401 or 429."""
        found: dict[str, Any] = await self.post("/session", {"name": name, "password": password})
        self._csrf = found["csrf"]
        return found

    async def logout(self) -> None:
        """Log out."""
        await self.request("DELETE", "/session")
        self._csrf = ""

    async def take_control(self) -> dict[str, Any]:
        """Take control, or ask for it."""
        found: dict[str, Any] = await self.post("/control/take")
        return found

    @property
    def cookie(self) -> str:
        """Header value that proves the login."""
        return "; ".join(f"{name}={value}" for name, value in self._http.cookies.items())

    # ------------------------------------------------------------ telemetry

    def socket(self, path: str) -> connect:
        """A WebSocket of this login: `async with client.socket("/jog") as socket`."""
        url = self.url.replace("http", "ws", 1) + BASE + path
        return connect(
            url, origin=Origin(self.url), additional_headers={"Cookie": self.cookie}, max_size=1 << 24, compression=None
        )

    async def watch(self) -> None:
        """Follow the telemetry in the background; returns after the first message."""
        first = asyncio.Event()
        self._watching = asyncio.ensure_future(self._watch(first))
        waiting = asyncio.ensure_future(first.wait())
        await asyncio.wait({waiting, self._watching}, return_when=asyncio.FIRST_COMPLETED)
        if self._watching.done():
            waiting.cancel()
            self._watching.result()

    async def _watch(self, first: asyncio.Event) -> None:
        async with self.socket("/telemetry") as socket:
            async for message in socket:
                data = message if isinstance(message, bytes) else message.encode()
                self.take(msgspec.msgpack.decode(data), len(data))
                first.set()

    def take(self, message: dict[str, Any], size: int = 0) -> None:
        """Take over one telemetry message."""
        self.state.update(message)
        self.messages += 1
        self.bytes += size
        if self.on_message is not None:
            self.on_message(message)

    async def until(self, condition: Callable[[dict[str, Any]], bool], timeout: float = 60.0) -> dict[str, Any]:
        """Wait until the telemetry satisfies a condition; return it. Raises TimeoutError."""

        async def wait() -> dict[str, Any]:
            while not condition(self.state):
                if self._watching is not None and self._watching.done():
                    self._watching.result()
                    raise ConnectionError("the telemetry socket has ended")
                await asyncio.sleep(0.01)
            return self.state

        return await asyncio.wait_for(wait(), timeout)

    async def until_state(self, *states: str, timeout: float = 60.0) -> str:
        """Wait for a PackML state."""
        found = await self.until(lambda state: state.get("status", {}).get("state") in states, timeout)
        return str(found["status"]["state"])

    # ------------------------------------------------------------ commands

    async def command(self, **body: Any) -> dict[str, Any]:
        """One command, with what this client has seen last. Raises PendantError."""
        body.setdefault("seen", self.state.get("t"))
        found: dict[str, Any] = await self.post("/commands", body)
        return found

    async def packml(self, name: str) -> dict[str, Any]:
        """A PackML command."""
        return await self.command(type="packml", name=name)

    async def load(self, recipe: str, settings: dict[str, Any] | None = None, batches: int = 1) -> dict[str, Any]:
        """Analyse and load a recipe."""
        return await self.command(type="load", recipe=recipe, settings=settings or {}, batches=batches)

    @contextlib.asynccontextmanager
    async def opened(self, path: str) -> AsyncIterator[ClientConnection]:
        """A command or jog socket that has said its token."""
        async with self.socket(path) as socket:
            await socket.send(json.dumps({"csrf": self._csrf}))
            yield socket
