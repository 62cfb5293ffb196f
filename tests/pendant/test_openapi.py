"""Requests made up from the OpenAPI description: whatever is sent, no answer is a fault of the server."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from cell.pendant.accounts import Role
from cell.pendant.guard import Guard
from cell.pendant.roles import permits, rule_for
from tests.pendant.harness import URL, Site

EXAMPLES = 3
SLOW = ("/analyse", "picture", "timeline")
"""What plans or draws gets one example."""
USED: tuple[Role, ...] = ("programmer", "safety_engineer", "admin")
LEAVES = (("DELETE", "/session"), ("POST", "/session"), ("POST", "/session/password"))
"""They would end the login the others use."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("openapi"))
    site.run(0.4)
    return site


def send(site: Site, case: Any, headers: dict[str, str]) -> httpx.Response:
    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(app=cast(Any, site.app), raise_app_exceptions=True)
        arguments = case.as_transport_kwargs(base_url=URL)
        arguments["headers"] = {**dict(arguments.get("headers") or {}), **headers}
        arguments.pop("cookies", None)
        async with httpx.AsyncClient(transport=transport) as http:
            return await http.request(**arguments)

    return asyncio.run(one())


def probe(site: Site, operation: Any, count: int, headers: dict[str, str]) -> int:
    """Send made-up requests; return how many were sent."""
    sent = 0

    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case: Any) -> None:
        nonlocal sent
        response = send(site, case, headers)
        sent += 1
        assert response.status_code < 500, (case, response.text)
        if response.status_code >= 400:
            assert {"code", "message", "field", "allowed", "remedy"} <= set(response.json()["error"])

    check()
    return sent


def test_no_made_up_request_is_a_fault_of_the_server(site: Site) -> None:
    description = cast(Any, cast(Guard, site.app)._app).openapi()
    schema = schemathesis.openapi.from_dict(description)
    logins: dict[Role, dict[str, str]] = {}
    for role in USED:
        client = asyncio.run(site.logged_in(role))
        logins[role] = {"Origin": URL, "X-CSRF-Token": client._csrf, "Cookie": client.cookie}
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 50
    sent = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for operation in operations:
            below = operation.path.removeprefix("/api/v1")
            if (operation.method.upper(), below) in LEAVES:
                continue
            slow = any(word in below for word in SLOW)
            rule = rule_for(operation.method.upper(), operation.path.replace("{", "").replace("}", ""))
            assert rule is not None
            # Somebody who gets past the door: what is behind it is tried here.
            role = next(role for role in USED if permits(role, rule.least))
            sent += probe(site, operation, 1 if slow else EXAMPLES, logins[role])
    assert sent > 100
