"""The door: every endpoint and socket for every role, without login, from a foreign site, with a replayed cookie.

The cases come from the one table of roles; the table is held against the application's own routes.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute

from cell.pendant.accounts import ROLES, Role
from cell.pendant.guard import Guard
from cell.pendant.logins import IDLE_LOCK
from cell.pendant.roles import BASE, RULES, permits, rule_for
from tests.pendant.harness import NAMES, PASSWORD, URL, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site"))
    site.run(0.4)
    return site


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", "nobody", path)


async def plain(site: Site, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    transport = httpx.ASGITransport(app=cast(Any, site.app))
    async with httpx.AsyncClient(base_url=URL, transport=transport) as http:
        body = None if method in ("GET", "DELETE") else {}
        return await http.request(method, BASE + path, headers=headers, json=body)


def walk(routes: Any) -> list[Any]:
    found = []
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        found += walk(inner) if inner else [route]
    return found


def test_the_table_lists_exactly_what_the_application_serves(site: Site) -> None:
    guard = cast(Guard, site.app)
    schema = cast(Any, guard._app).openapi()
    served = {(m.upper(), path.removeprefix(BASE)) for path, ms in schema["paths"].items() for m in ms}
    listed = {(rule.method, rule.path) for rule in RULES if rule.method != "WS"}
    assert served == listed
    sockets = {r.path for r in walk(cast(Any, guard._app).routes) if isinstance(r, APIWebSocketRoute)}
    assert {path.removeprefix(BASE) for path in sockets} == {rule.path for rule in RULES if rule.method == "WS"}
    assert not [r for r in walk(cast(Any, guard._app).routes) if isinstance(r, APIRoute) and r.path == "/docs/oauth2"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_roles(site: Site, method: str) -> None:
    async def check() -> None:
        for role in ROLES:
            client = await site.logged_in(role)
            csrf = client._csrf
            for rule in RULES:
                if rule.method != method or (method, rule.path) in (("DELETE", "/session"), ("POST", "/session")):
                    continue
                headers = {"Origin": URL, "X-CSRF-Token": csrf, "Cookie": client.cookie}
                response = await plain(site, method, concrete(rule.path), headers)
                code = "" if response.status_code < 400 else response.json()["error"]["code"]
                assert response.status_code < 500, (rule, role, response.text)
                assert (code == "role") == (not permits(role, rule.least)), (rule, role, response.text)
            await client.close()

    asyncio.run(check())


def test_nobody_comes_in_without_login_or_from_elsewhere(site: Site) -> None:
    async def check() -> None:
        client = await site.logged_in("admin")
        good = {"Origin": URL, "X-CSRF-Token": client._csrf, "Cookie": client.cookie}
        for rule in RULES:
            if rule.method == "WS":
                continue
            path = concrete(rule.path)
            response = await plain(site, rule.method, path, {"Origin": URL})
            if rule.least == "anybody":
                assert response.status_code in (200, 422)
            else:
                assert response.status_code == 401, rule
            for origin in ("https://evil.example", "http://127.0.0.1:8081", "null", "http://localhost:8080"):
                response = await plain(site, rule.method, path, {**good, "Origin": origin})
                assert response.json()["error"]["code"] == "origin", (rule, origin)
            if rule.method != "GET":
                for headers in ({k: v for k, v in good.items() if k != "Origin"}, {**good, "X-CSRF-Token": "x"}):
                    response = await plain(site, rule.method, path, headers)
                    assert response.json()["error"]["code"] in ("origin", "csrf"), rule
            response = await plain(site, rule.method, path, {**good, "Host": "cell.example"})
            assert response.json()["error"]["code"] == "origin", rule
        await client.close()

    asyncio.run(check())


def test_sockets(site: Site) -> None:
    async def check() -> None:
        for rule in RULES:
            if rule.method != "WS":
                continue
            for role in ROLES:
                client = await site.logged_in(role)
                async with site.socket(rule.path, client) as socket:
                    assert socket.accepted == permits(role, rule.least), (rule, role)
                for origin in (None, "https://evil.example"):
                    async with site.socket(rule.path, client, origin=origin) as socket:
                        assert not socket.accepted
                await client.close()
            async with site.socket(rule.path) as socket:
                assert not socket.accepted and socket.closed == 4401
            async with site.socket(rule.path, cookie="cell_session=made-up") as socket:
                assert not socket.accepted

    asyncio.run(check())


@pytest.mark.parametrize("path", ["/command", "/jog"])
@pytest.mark.parametrize("first", ["{}", "nonsense", '{"csrf": 5}', '{"csrf": "x"}', "[]"])
def test_a_socket_that_moves_something_begins_with_the_token(site: Site, path: str, first: str) -> None:
    async def check() -> None:
        client = await site.logged_in("programmer")
        async with site.socket(path, client) as socket:
            await socket.send(first)
            assert await socket.receive() is None and socket.closed == 4403
        await client.close()

    asyncio.run(check())


def test_a_cookie_is_worth_nothing_after_logout(site: Site) -> None:
    async def check() -> None:
        client = await site.logged_in("operator")
        headers = {"Origin": URL, "X-CSRF-Token": client._csrf, "Cookie": client.cookie}
        assert (await plain(site, "GET", "/alarms", headers)).status_code == 200
        await client.logout()
        assert (await plain(site, "GET", "/alarms", headers)).status_code == 401
        async with site.socket("/telemetry", cookie=headers["Cookie"]) as socket:
            assert not socket.accepted
        await client.close()

    asyncio.run(check())


@pytest.mark.requirement("CTL-12")
def test_a_locked_session_can_only_stop(site: Site) -> None:
    async def check() -> None:
        client = await site.logged_in("operator")
        login = site.pendant.login_of(client.cookie.partition("=")[2])
        assert login is not None
        login.active -= IDLE_LOCK + 1.0
        headers = {"Origin": URL, "X-CSRF-Token": client._csrf, "Cookie": client.cookie}
        for rule in RULES:
            if rule.method == "WS" or not permits("operator", rule.least) or rule.path == "/session":
                continue
            response = await plain(site, rule.method, concrete(rule.path), headers)
            code = "" if response.status_code < 400 else response.json()["error"]["code"]
            assert (code == "locked") == (not rule.locked), rule
        assert (await client.get("/session"))["locked"]
        found = await client.command(type="packml", name="Abort")
        assert found["verdict"] == "done"
        await client.post("/session/unlock", {"password": PASSWORD})
        assert not (await client.get("/session"))["locked"]
        await client.close()

    asyncio.run(check())


def test_a_changed_account_loses_its_logins(site: Site) -> None:
    async def check() -> None:
        admin = await site.logged_in("admin")
        await admin.post("/users", {"name": "New", "role": "operator", "password": PASSWORD})
        client = site.client()
        await client.login("New", PASSWORD)
        await admin.request("PATCH", "/users/New", {"role": "viewer"})
        response = await plain(site, "GET", "/alarms", {"Cookie": client.cookie})
        assert response.status_code == 401
        await client.close()
        await admin.close()

    asyncio.run(check())


def test_rules_are_found_by_whole_segments() -> None:
    assert rule_for("POST", f"{BASE}/recipes/check") == next(r for r in RULES if r.path == "/recipes/check")
    assert rule_for("GET", f"{BASE}/recipes/a/b") is None
    assert rule_for("GET", f"{BASE}/users") is not None and rule_for("DELETE", f"{BASE}/users") is None
    assert rule_for("GET", "/users") is None
    for rule in RULES:
        assert rule_for(rule.method, BASE + concrete(rule.path)) == rule


def test_headers_of_every_answer(site: Site, tmp_path: Path) -> None:
    async def check() -> None:
        transport = httpx.ASGITransport(app=cast(Any, site.app))
        async with httpx.AsyncClient(base_url=URL, transport=transport) as http:
            for path in ("/", "/docs", "/openapi.json", f"{BASE}/session", f"{BASE}/nothing", "/nothing"):
                response = await http.get(path)
                assert "default-src 'self'" in response.headers["content-security-policy"]
                assert "unsafe" not in response.headers["content-security-policy"]
                assert response.headers["x-content-type-options"] == "nosniff"
            page = (await http.get("/docs")).text
            assert "<script" not in page and "http://" not in page and "https://" not in page
            for path in ("/../pyproject.toml", "/%2e%2e/%2e%2e/pyproject.toml", "/static/../app.py"):
                assert (await http.get(path)).status_code == 404

    asyncio.run(check())


def test_guessing_passwords_ends(site: Site) -> None:
    async def check() -> None:
        codes = []
        for _ in range(7):
            response = await plain(site, "GET", "/session", {})
            async with httpx.AsyncClient(base_url=URL, transport=httpx.ASGITransport(app=cast(Any, site.app))) as http:
                response = await http.post(
                    f"{BASE}/session", json={"name": NAMES["viewer"], "password": "wrong"}, headers={"Origin": URL}
                )
            codes.append(response.status_code)
        assert codes == [401] * 5 + [429] * 2

    asyncio.run(check())


def test_a_body_beyond_all_measure_is_not_read(site: Site) -> None:
    async def check() -> None:
        client = await site.logged_in("programmer")
        transport = httpx.ASGITransport(app=cast(Any, site.app))
        headers = {"Origin": URL, "X-CSRF-Token": client._csrf, "Cookie": client.cookie}
        async with httpx.AsyncClient(base_url=URL, transport=transport) as http:
            big = b'{"text": "' + b"x" * 5_000_000 + b'"}'
            assert (await http.post(f"{BASE}/recipes/check", content=big, headers=headers)).status_code == 413

            async def pieces() -> Any:
                for _ in range(60):
                    yield b"x" * 100_000

            response = await http.post(f"{BASE}/recipes/check", content=pieces(), headers=headers)
            assert response.status_code in (400, 413) and "error" in response.json()
            for text in (b"", b"{", b"\xff\xfe", b"[" * 10_000):
                response = await http.post(f"{BASE}/recipes/check", content=text, headers=headers)
                assert response.status_code in (400, 422) and "error" in response.json(), text[:5]
        await client.close()

    asyncio.run(check())


def test_permits() -> None:
    for role in ROLES:
        assert permits(role, "anybody") and permits(role, "viewer")
        assert permits(role, "safety_engineer") == (role == "safety_engineer")
        assert permits(role, "admin") == (role == "admin")
        assert permits(role, "programmer") == (role == "programmer")
        assert permits(role, "operator") == (role in cast(tuple[Role, ...], ("operator", "programmer")))
