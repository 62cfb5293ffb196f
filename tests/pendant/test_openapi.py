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

from cell.pendant.accounts import ROLES
from cell.pendant.guard import Guard
from tests.pendant.harness import URL, Site

EXAMPLES = 2
SLOW = ("/analyse", "picture", "timeline")
"""What plans or draws gets one example."""
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


def test_no_made_up_request_is_a_fault_of_the_server(site: Site) -> None:
    description = cast(Any, cast(Guard, site.app)._app).openapi()
    schema = schemathesis.openapi.from_dict(description)
    logins = []
    for role in ROLES:
        client = asyncio.run(site.logged_in(role))
        logins.append({"Origin": URL, "X-CSRF-Token": client._csrf, "Cookie": client.cookie})
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 50
    sent = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for operation in operations:
            below = operation.path.removeprefix("/api/v1")
            if (operation.method.upper(), below) in LEAVES:
                continue
            quick = not any(word in below for word in SLOW)
            count = EXAMPLES if quick else 1
            used = logins[2:] if quick else logins[2:3]

            @settings(
                max_examples=count, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
            def check(case: Any, used: list[dict[str, str]] = used) -> None:
                nonlocal sent
                for headers in used:
                    response = send(site, case, headers)
                    sent += 1
                    assert response.status_code < 500, (case, response.text)
                    if response.status_code >= 400:
                        error = response.json()["error"]
                        assert {"code", "message", "field", "allowed", "remedy"} <= set(error)

            check()
    assert sent > 200
