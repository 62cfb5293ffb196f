"""A pendant round a cell on an in-process bus: both are stepped by the test, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import msgspec
from argon2 import PasswordHasher

from cell.loading import DirectLoader
from cell.pendant import accounts as accounts_module
from cell.pendant.accounts import ROLES, Accounts, Role
from cell.pendant.app import create_app
from cell.pendant.client import Client
from cell.pendant.feed import Feed
from cell.pendant.guard import App
from cell.pendant.link import Link
from cell.pendant.logins import COOKIE
from cell.pendant.pendant import Pendant
from cell.pendant.proposals import SafetyFiles
from cell.session import Session, SessionFile, read_safety
from tests.cell.harness import SHORT, Bench, demo

URL = "http://127.0.0.1:8080"
PASSWORD = "correct horse"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NAMES: dict[Role, str] = {role: role.split("_")[0].capitalize() for role in ROLES}


class Site:
    """One pendant and the cell behind it."""

    def __init__(self, folder: Path, bench: Bench | None = None, safety: Path | None = None) -> None:
        self.bench = bench or Bench(None)
        self.bench.node._loader = DirectLoader(demo(), demo().view())
        self.bench.arm.core.config = self.bench.arm.core.config.model_copy(update={"enabling_device": False})
        cell = demo()
        ports = self.bench.hub.ports("pendant")
        model = cell.model()
        runs = folder / "runs"
        (runs / "now").mkdir(parents=True)
        file = SessionFile(
            directory=str(runs / "now"), cell=str(cell.path), recipe="", scenario=None, seed=1, batches=1, settings={},
            perception="surface", key="00" * 32, fingerprint="f" * 64, mode="live", bus="",
        )  # fmt: skip
        session = Session(file, cell, read_safety(cell))
        data = folder / "data"
        self.pendant = Pendant(
            session=session, cell=cell, view=cell.view(), model=model, data=data, runs=runs,
            clock=cast(Any, SimpleNamespace(now=lambda: self.bench.now)),
            link=Link(ports, cast(Any, SimpleNamespace(now=lambda: self.bench.now)), False, self._pause),
            feed=Feed(ports, model, False), accounts=Accounts(data, QUICK), loader=DirectLoader(cell, cell.view()),
            simulated=False,
        )  # fmt: skip
        if safety is not None:
            self.pendant.safety = SafetyFiles(self.pendant, safety)
        for role, name in NAMES.items():
            self.pendant.accounts.create(name, role, PASSWORD)
        self.app: App = create_app(self.pendant, pump=False)

    async def _pause(self, _: float) -> None:
        self.bench.tick()
        await asyncio.sleep(0)

    def run(self, seconds: float) -> None:
        """Let time pass in cell and pendant."""
        for k in range(round(seconds / 0.004)):
            self.bench.tick()
            if k % 10 == 9:
                self.pendant.pump.clients = 1
                self.pendant.pump.step()

    def client(self) -> Client:
        return Client(URL, httpx.ASGITransport(app=cast(Any, self.app)))

    async def logged_in(self, role: Role) -> Client:
        client = self.client()
        await client.login(NAMES[role], PASSWORD)
        return client

    async def in_control(self, role: Role = "programmer") -> Client:
        """A client that holds control and has seen the newest telemetry."""
        client = await self.logged_in(role)
        await client.take_control()
        self.run(0.2)
        client.state["t"] = self.bench.now
        return client

    @contextlib.asynccontextmanager
    async def socket(
        self, path: str, client: Client | None = None, origin: str | None = URL, cookie: str | None = None
    ) -> AsyncIterator[Socket]:
        """A WebSocket to the application."""
        headers = [(b"host", b"127.0.0.1:8080")]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        if client is not None:
            cookie = client.cookie
        if cookie is not None:
            headers.append((b"cookie", cookie.encode()))
        socket = Socket(self.app, path, headers)
        await socket.open()
        try:
            yield socket
        finally:
            await socket.close()


class Socket:
    """The test's end of an ASGI WebSocket."""

    def __init__(self, app: App, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        where, _, query = path.partition("?")
        self._scope: dict[str, Any] = {
            "type": "websocket", "path": f"/api/v1{where}", "raw_path": where.encode(), "headers": headers,
            "query_string": query.encode(), "subprotocols": [], "scheme": "ws", "root_path": "", "http_version": "1.1",
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8080), "asgi": {"version": "3.0"}, "state": {},
        }  # fmt: skip
        self._app = app
        self._to: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.accepted = False
        self.closed: int | None = None

    async def open(self) -> None:
        async def send(message: Any) -> None:
            await self._from.put(dict(message))

        self._task = asyncio.ensure_future(self._app(self._scope, self._to.get, send))
        await self._to.put({"type": "websocket.connect"})
        first = await asyncio.wait_for(self._from.get(), 5.0)
        self.accepted = first["type"] == "websocket.accept"
        if not self.accepted:
            self.closed = int(first.get("code", 0))

    async def send(self, body: Any) -> None:
        await self._to.put({"type": "websocket.receive", "text": body if isinstance(body, str) else json.dumps(body)})

    async def receive(self) -> Any:
        """The next message, decoded; None if the server has closed."""
        message = await asyncio.wait_for(self._from.get(), 10.0)
        if message["type"] == "websocket.close":
            self.closed = int(message.get("code", 1000))
            return None
        if message.get("bytes") is not None:
            return msgspec.msgpack.decode(message["bytes"])
        return json.loads(message["text"])

    async def close(self) -> None:
        assert self._task is not None
        if not self._task.done():
            await self._to.put({"type": "websocket.disconnect", "code": 1000})
            with contextlib.suppress(asyncio.CancelledError):
                done, _ = await asyncio.wait({self._task}, timeout=0.1)
                if not done:
                    self._task.cancel()
        if self._task.done() and not self._task.cancelled():
            self._task.result()


__all__ = ["COOKIE", "NAMES", "PASSWORD", "SHORT", "URL", "Site", "Socket", "accounts_module"]
