"""A server with the pendant's API and no cell behind it: tests of the page alone set telemetry and see what is asked.

Everything it says is what a test put there; it checks neither passwords nor rights. For tests and work on the page.
"""

from __future__ import annotations

import asyncio
import copy
import math
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from tests.pendant import fakedata

STATIC = Path(__file__).parents[2] / "cell" / "pendant" / "static"
POLICY = "default-src 'self'; frame-ancestors 'none'; object-src 'none'; base-uri 'none'"
RATE_HZ = 25.0


class FakeCell:
    """State that tests set; `asked` collects every changing request as (method, path, body)."""

    def __init__(self) -> None:
        self.user: dict[str, Any] | None = None
        self.locked = False
        self.control: dict[str, Any] = {
            "holder": None,
            "mine": False,
            "kind": "local",
            "since_wall": None,
            "requested_by": None,
        }
        self.status = fakedata.status()
        self.robot = fakedata.robot()
        self.safety = fakedata.safety()
        self.age: dict[str, float | None] = {"status": 0.02, "robot": 0.005, "safety": 0.01, "observation": 0.06}
        self.person: tuple[float, float] | None = None
        self.unknown: list[tuple[float, float, float, int]] = []
        """Balls of space nobody has seen free: place, m, and radius, cm."""
        self.silent = False
        """Nothing more is sent, though the sockets stay open."""
        self.animate = False
        self.asked: list[tuple[str, str, Any]] = []
        self.jogs: list[tuple[float, dict[str, Any]]] = []
        self.answers: dict[str, Any] = fakedata.answers()
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.verdict: dict[str, Any] = {"verdict": "done", "reason": "", "remedy": ""}

    def session(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "csrf": "token" if self.user else None,
            "locked": self.locked,
            "control": self.control,
            "first_run": False,
            "idle_lock_s": 900,
            "languages": ["en", "de", "zh"],
            "cell": {
                "name": "demo",
                "robot": "arm",
                "model": "panda",
                "simulated": True,
                "fingerprint": "5f1c0a77e2d94b10",
                "version": "0.1.0",
            },
        }

    def frame(self, seq: int, began: float) -> dict[str, Any]:
        """One telemetry message with everything in it."""
        now = time.monotonic()
        if self.animate:
            fakedata.animate(self.robot, now - began)
        people = [] if self.person is None else [self.person]
        points = [struct.pack("<3h", *(int(1000 * v) for v in p)) for p in fakedata.body_points(people)]
        return {
            "seq": seq,
            "t": now,
            "wall": time.time() * 1000,
            "age": self.age,
            "status": self.status,
            "robot": self.robot,
            "safety": self.safety,
            "control": self.control,
            "tracks": [{"id": 1, "position": [x, y, 0.3], "velocity": [-0.4, 0.0, 0.0]} for x, y in people],
            "cameras": [
                {"name": n, "ok": True, "reason": "", "valid_fraction": 0.93, "dropped": 0} for n in ("front", "back")
            ],
            "cloud": {
                "seen": b"".join(points),
                "possible": b"".join(struct.pack("<3h", *(int(1000 * v) for v in ball[:3])) for ball in self.unknown),
                "seen_radius": bytes([4] * len(points)),
                "possible_radius": bytes(ball[3] for ball in self.unknown),
            },
            "hull": {"links": fakedata.capsules(self.robot["q"]), "required": self.safety["required"]},
            "motion": {"id": "m1", "label": "pick", "tcp": fakedata.path()},
            "scene": {"people": [], "parts": fakedata.parts()},
        }


def refused(status: int, error: dict[str, str]) -> JSONResponse:
    """An answer in the shape all refusals have."""
    return JSONResponse({"error": {"field": "", "allowed": "", "remedy": "", **error}}, status)


def application(cell: FakeCell, static: Path = STATIC) -> FastAPI:
    """The API round `cell`, and the built page."""
    app = FastAPI()

    @app.middleware("http")
    async def headers(request: Request, go: Any) -> Any:
        response = await go(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @app.get("/api/v1/session")
    async def session() -> Any:
        return cell.session()

    @app.post("/api/v1/session")
    async def login(request: Request) -> Any:
        body = await request.json()
        if body["password"] == "wrong":
            return refused(401, {"code": "not_logged_in", "message": "Name or password is wrong."})
        cell.user = {"name": body["name"], "role": fakedata.ROLES.get(body["name"], "operator"), "language": None}
        return cell.session()

    @app.delete("/api/v1/session")
    async def logout() -> Any:
        cell.user = None
        return {}

    @app.post("/api/v1/session/unlock")
    async def unlock() -> Any:
        cell.locked = False
        return cell.session()

    @app.post("/api/v1/control/{action}")
    async def control(action: str) -> Any:
        cell.asked.append(("POST", f"/control/{action}", None))
        if action == "take" and cell.control["holder"] not in (None, cell.user and cell.user["name"]):
            cell.control = {**cell.control, "requested_by": cell.user and cell.user["name"]}
        elif action == "take":
            cell.control = {**cell.control, "holder": cell.user and cell.user["name"], "mine": True}
        else:
            cell.control = {**cell.control, "holder": None, "mine": False, "requested_by": None}
        return cell.control

    @app.websocket("/api/v1/telemetry")
    async def telemetry(ws: WebSocket) -> None:
        await ws.accept()
        seq, began, before = 0, time.monotonic(), {}
        try:
            while True:
                if not cell.silent:
                    seq += 1
                    full = cell.frame(seq, began)
                    # As the real server: what has not changed is left out.
                    sent = {k: v for k, v in full.items() if k in ("seq", "t", "wall", "age") or before.get(k) != v}
                    before = copy.deepcopy(full)
                    await ws.send_bytes(msgspec.msgpack.encode(sent))
                await asyncio.sleep(1 / RATE_HZ)
        except (WebSocketDisconnect, RuntimeError):
            return

    @app.websocket("/api/v1/jog")
    async def jog(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                message = await ws.receive_json()
                cell.jogs.append((time.monotonic(), message))
                if "seq" in message:
                    await ws.send_json({"active": True, "reason": ""})
        except (WebSocketDisconnect, RuntimeError):
            cell.jogs.append((time.monotonic(), {"closed": True}))

    @app.api_route("/api/v1/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def anything(path: str, request: Request) -> Any:
        if request.method == "GET":
            answer = cell.answers.get(path, cell.answers.get(path.split("/")[0]))
            if isinstance(answer, bytes):
                return Response(answer, media_type="image/png")
            return JSONResponse(answer, 200 if answer is not None else 404)
        raw = await request.body()
        body = (await request.json()) if raw else None
        cell.asked.append((request.method, f"/{path}", body))
        if cell.refusal:
            return refused(*cell.refusal)
        if path == "commands":
            return fakedata.command(cell, body)
        answer = cell.answers.get(f"{request.method} {path}")
        return answer(body) if callable(answer) else (answer if answer is not None else {})

    app.mount("/", StaticFiles(directory=static, html=True))
    return app


class FakeServer:
    """Serves a `FakeCell` on a free port of this host until closed; a context manager."""

    def __init__(self, cell: FakeCell | None = None, port: int = 0) -> None:
        self.cell = cell or FakeCell()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(application(self.cell), log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)


if __name__ == "__main__":
    fake = FakeCell()
    fake.animate, fake.person = True, (1.2, -0.4)
    with FakeServer(fake, 8090) as server:
        print(server.url)
        start = time.monotonic()
        while True:
            fake.person = (1.1 + 0.5 * math.sin(time.monotonic() - start), -0.4)
            time.sleep(0.04)
