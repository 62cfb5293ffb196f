"""The door: an ASGI layer before everything else, for requests and sockets alike.

It asks, in this order: is the host this machine's own name, is the origin this site's own, is there a live login where
one is needed, does its role suffice, is the session unlocked, is the change meant (CSRF). It also sets the headers.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from cell.pendant.errors import ApiError, not_logged_in
from cell.pendant.logins import COOKIE
from cell.pendant.roles import BASE, permits, rule_for

if TYPE_CHECKING:
    from cell.pendant.logins import Login
    from cell.pendant.pendant import Pendant

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 4_000_000
READING = ("GET", "HEAD", "OPTIONS")
CSP = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Guard:
    """Wraps the application; what passes has `scope["login"]` (None where nobody need be logged in)."""

    def __init__(self, app: App, pendant: Pendant, hosts: Iterable[str]) -> None:
        """`hosts`: names, without port, under which this machine may be addressed."""
        self._app = app
        self._pendant = pendant
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope["login"] = None
        try:
            self._admit(scope)
        except ApiError as error:
            await _refuse(scope, receive, send, error)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), _with_headers(scope, send))

    def _admit(self, scope: Scope) -> None:
        """Raises ApiError for whoever may not pass."""
        headers = _headers(scope)
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
            raise ApiError(403, "origin", "this pendant does not go by that name")
        socket = scope["type"] == "websocket"
        method = "WS" if socket else str(scope["method"])
        changing = socket or method not in READING
        origin = headers.get("origin")
        if (changing and origin is None) or (origin is not None and origin.partition("://")[2] != host):
            raise ApiError(403, "origin", "the request comes from another site")
        length = headers.get("content-length", "0")
        if not (length.isdecimal() and int(length) <= LARGEST_BODY):
            raise ApiError(413, "too_large", "the request is too large", allowed=f"{LARGEST_BODY} bytes")
        path = str(scope["path"])
        if path != BASE and not path.startswith(BASE + "/"):
            return
        rule = rule_for(method, path)
        login = self._login(headers)
        scope["login"] = login
        if rule is not None and rule.least == "anybody":
            if login is not None and method != "GET" and not socket:
                _check_csrf(headers, login)
            return
        if login is None:
            raise not_logged_in()
        if rule is None:
            others = any(rule_for(m, path) for m in ("GET", "POST", "PUT", "PATCH", "DELETE"))
            raise ApiError(405 if others else 404, "not_found", "there is nothing here")
        if changing and not socket:
            _check_csrf(headers, login)
        if not permits(login.role, rule.least):
            raise ApiError(403, "role", f"this is for the role {rule.least}, {login.name} is {login.role}")
        if login.locked and not rule.locked:
            raise ApiError(403, "locked", "the session is locked", remedy="Enter your password")
        now = self._pendant.now()
        if not socket:
            if changing and not login.locked:
                login.active = now
            self._pendant.control.heard(login.id, now)

    def _login(self, headers: dict[str, str]) -> Login | None:
        try:
            cookie = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return None
        morsel = cookie.get(COOKIE)
        return None if morsel is None else self._pendant.login_of(morsel.value)


def _check_csrf(headers: dict[str, str], login: Login) -> None:
    if not hmac.compare_digest(headers.get("x-csrf-token", "").encode(), login.csrf.encode()):
        raise ApiError(403, "csrf", "the request lacks the page's token", remedy="Load the page again")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _limited(receive: Receive) -> Receive:
    """Pass a body on up to its limit; what is longer ends as if the client had gone."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY:
            raise ApiError(413, "too_large", "the request is too large", allowed=f"{LARGEST_BODY} bytes")
        return message

    return limited


def _with_headers(scope: Scope, send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), *HEADERS]
            names = {name for name, _ in headers}
            if str(scope["path"]).startswith(BASE) and b"cache-control" not in names:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4401 if error.status == 401 else 4403, "reason": error.code})
        return
    body = json.dumps(error.body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    sending = _with_headers(scope, send)
    await sending({"type": "http.response.start", "status": error.status, "headers": headers})
    await sending({"type": "http.response.body", "body": body})
