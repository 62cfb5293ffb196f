"""Commands against a real controller: control, staleness, the PackML table, loading."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.contract import CommandName
from cell.packml import table
from cell.pendant.client import PendantError
from cell.pendant.commands import packml_view
from cell.pendant.control import SILENCE
from tests.cell.harness import Bench
from tests.pendant.harness import SHORT, Site


def site_of(tmp_path: Path, recipe: str | None = None) -> Site:
    site = Site(tmp_path, Bench(recipe))
    site.run(0.4)
    return site


async def code_of(client: Any, **body: Any) -> str:
    try:
        await client.command(**body)
    except PendantError as error:
        return error.code
    return ""


def test_a_recipe_is_loaded_started_and_completes(tmp_path: Path) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        client = await site.in_control()
        await client.post("/recipes", {"name": "short", "text": SHORT})
        answer = await client.load("short", {}, 1)
        assert answer["verdict"] == "done" and answer["analysis"]["ok"] and len(answer["analysis"]["phases"]) == 3
        for name, state in (("Reset", "Idle"), ("Start", "Execute")):
            client.state["t"] = site.bench.now
            assert (await client.packml(name))["verdict"] == "done"
            site.bench.until(state)
        site.run(0.2)
        status = site.pendant.feed.status
        assert status is not None and status.recipe == "short" and status.state == "Execute"
        while site.bench.state != "Complete":
            site.run(0.2)
            assert site.bench.now < 60.0
        site.run(0.2)
        runs = await client.get("/runs")
        assert runs[0]["outcome"] == "Complete" and runs[0]["recipe"] == "short" and runs[0]["parts"] == 1
        series = await client.get(f"/runs/{runs[0]['id']}/series", points=50)
        assert 10 < len(series["t"]) <= 50 and series["separation"][0] is None
        assert [s for _, s in series["state"]][-1] == "Complete"
        counters = await client.get("/oee")
        assert counters["good"] == 1 and 0 < counters["performance"] <= 1 and len(counters["cycle_times_s"]) == 1
        await client.close()

    asyncio.run(check())


def test_start_waits_for_somebody_who_has_looked(tmp_path: Path) -> None:
    """Before anybody has confirmed that the cell is clear Start is refused with the reason, not ended by a stop."""
    site = site_of(tmp_path, SHORT)
    site.bench.supervisor.confirmed = False

    async def check() -> None:
        client = await site.in_control()
        assert (await client.packml("Reset"))["verdict"] == "done"
        site.bench.until("Idle")
        site.run(0.2)
        client.state["t"] = site.bench.now
        with pytest.raises(PendantError, match="nobody has confirmed"):
            await client.packml("Start")
        assert site.bench.state == "Idle"
        assert site.bench.status is not None and "nobody has confirmed" in site.bench.status.blocked["Start"]
        assert msgspec.msgpack.decode(site.pendant.feed.values["confirmed_clear"][1]) is False
        site.bench.supervisor.confirmed = True
        site.run(0.2)
        client.state["t"] = site.bench.now
        assert (await client.packml("Start"))["verdict"] == "done"
        assert msgspec.msgpack.decode(site.pendant.feed.values["confirmed_clear"][1]) is True
        await client.close()

    asyncio.run(check())


def test_wrong_recipes_are_refused_with_their_faults(tmp_path: Path) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        client = await site.in_control()
        bad = SHORT.replace("tray_grid", "nowhere")
        found = await client.post("/recipes/check", {"text": bad})
        assert not found["ok"] and "nowhere" in found["problems"][0]["message"] and found["problems"][0]["line"] > 0
        await client.post("/recipes", {"name": "bad", "text": bad})
        with pytest.raises(PendantError) as caught:
            await client.load("bad")
        assert caught.value.code == "refused" and not caught.value.error["analysis"]["ok"]
        analysis = await client.post("/recipes/bad/analyse", {})
        assert not analysis["ok"] and analysis["problems"]
        with pytest.raises(PendantError) as caught:
            await client.load("../kitting")
        assert caught.value.status == 404
        analysis = await client.post("/recipes/kitting/analyse", {"settings": {"varieties": ["cube_red", "no"]}})
        assert analysis["problems"][0]["field"] == "settings.varieties"
        await client.close()

    asyncio.run(check())


@pytest.mark.requirement("CTL-12")
@pytest.mark.parametrize("seen", [None, -5.0, math.inf, -math.inf, 1e9, "now + 1", "now - 2"])
def test_a_late_click_never_moves_anything(tmp_path: Path, seen: Any) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        client = await site.in_control()
        if isinstance(seen, str):
            value = site.bench.now + (1.0 if "+" in seen else -2.0)
        else:
            value = seen
        bodies: list[dict[str, Any]] = [
            {"type": "packml", "name": "Reset"},
            {"type": "mode", "mode": "manual"},
            {"type": "override", "value": 0.5},
            {"type": "unload"},
        ]
        for body in bodies:
            if value is None or math.isfinite(value):
                assert await code_of(client, **body, seen=value) == "stale"
        site.run(0.1)
        assert site.bench.state == "Stopped" and site.bench.node.unit.override == 1.0
        # Stopping is never refused for that.
        assert await code_of(client, type="packml", name="Abort", seen=None) == ""
        await client.close()

    asyncio.run(check())


@pytest.mark.requirement("CTL-12")
def test_only_the_holder_commands_but_everybody_may_stop(tmp_path: Path) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        one, other = await site.in_control("operator"), await site.logged_in("programmer")
        other.state["t"] = one.state["t"] = site.bench.now
        assert await code_of(other, type="packml", name="Reset") == "not_in_control"
        assert not (await other.take_control())["mine"]
        assert (await one.get("/session"))["control"]["requested_by"] == "Programmer"
        assert await code_of(other, type="packml", name="Reset") == "not_in_control"
        assert await code_of(one, type="packml", name="Reset") == ""
        site.bench.until("Idle")
        assert await code_of(other, type="packml", name="Stop") == ""
        site.bench.until("Stopped")
        await one.post("/control/give")
        other.state["t"] = one.state["t"] = site.bench.now
        assert await code_of(one, type="packml", name="Reset") == "not_in_control"
        assert await code_of(other, type="packml", name="Reset") == ""
        viewer = await site.logged_in("viewer")
        assert await code_of(viewer, type="packml", name="Stop") == "role"
        events = [e for e in site.bench.events if e.kind == "pendant.control"]
        assert [e.data["what"] for e in events] == ["taken", "requested", "given"]
        site.run(SILENCE + 1.0)
        other.state["t"] = site.bench.now
        assert await code_of(other, type="packml", name="Reset") == "not_in_control"
        for client in (one, other, viewer):
            await client.close()

    asyncio.run(check())


def test_two_browsers_of_one_person_are_two(tmp_path: Path) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        one, other = await site.in_control("operator"), await site.logged_in("operator")
        other.state["t"] = site.bench.now
        assert not (await other.get("/session"))["control"]["mine"]
        assert await code_of(other, type="packml", name="Reset") == "not_in_control"
        await one.logout()
        assert (await other.take_control())["mine"]
        for client in (one, other):
            await client.close()

    asyncio.run(check())


def test_hand_moves_are_for_programmers(tmp_path: Path) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        client = await site.in_control("operator")
        for body in (
            {"type": "goto", "point": "p"},
            {"type": "grip", "width": 0.01, "force": 5.0},
            {"type": "output", "name": "clamp", "value": True},
        ):
            assert await code_of(client, **body) == "role"
        await client.close()

    asyncio.run(check())


def test_the_pages_table_is_the_state_machine() -> None:
    view, known = packml_view(), table()
    assert len(view["states"]) == 17 and set(view["commands"]) == set(get_args(CommandName))
    for state in known.numbers:
        assert view["admitted"][state] == list(known.admitted(state))


def test_every_button_in_every_state(tmp_path: Path) -> None:
    """What the page enables is what the controller does: admitted by the table, and not `blocked` at that moment."""
    site = site_of(tmp_path, SHORT)
    unit = site.bench.node.unit
    for state in table().numbers:
        for name in get_args(CommandName):
            unit.packml.state = state
            unit._entered = site.bench.now
            blocked = dict(site.bench.node.status(site.bench.now).blocked)
            enabled = name in packml_view()["admitted"][state] and name not in blocked
            # The cell stands still meanwhile: what is shown and what is done are of one and the same moment.
            reply = _at_once(site, name)
            assert (reply == "") == enabled, (state, name, reply, blocked)


def _at_once(site: Site, name: str) -> str:
    from cell.contract import Command
    from cell.packml import Refused

    try:
        site.bench.node.unit.command(Command(name, "Ada"), site.bench.now)  # type: ignore[arg-type]
    except Refused as refusal:
        return str(refusal)
    return ""


def test_the_command_socket(tmp_path: Path) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        client = await site.in_control("operator")
        async with site.socket("/command", client) as socket:
            await socket.send({"csrf": client._csrf})
            await socket.send({"id": "1", "type": "packml", "name": "Reset", "seen": site.bench.now})
            assert await socket.receive() | {"reason": ""} == {
                "id": "1", "verdict": "done", "reason": "", "remedy": "", "code": "", "analysis": None,
            }  # fmt: skip
            await socket.send({"id": "2", "type": "packml", "name": "Reset", "seen": site.bench.now - 5})
            assert (await socket.receive())["code"] == "stale"
            await socket.send({"id": "3", "type": "goto", "point": "x", "seen": site.bench.now})
            assert (await socket.receive())["code"] == "role"
            for nonsense in ("{", "[]", '{"type": "fly"}', '{"type": "override", "value": NaN}', '{"type": "packml"}'):
                await socket.send(nonsense)
                assert (await socket.receive())["code"] == "invalid"
        await client.close()

    asyncio.run(check())


def test_a_silent_controller_is_told(tmp_path: Path) -> None:
    site = site_of(tmp_path)

    async def check() -> None:
        client = await site.in_control("operator")
        site.bench.controller_runs = False
        assert await code_of(client, type="packml", name="Reset") == "cell_silent"
        await client.close()

    asyncio.run(check())


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
PLAIN = LEAF | st.lists(LEAF, max_size=3) | st.dictionaries(st.text(max_size=8), LEAF, max_size=3)


@settings(max_examples=10, deadline=None)
@given(st.lists(PLAIN, min_size=1, max_size=8), st.dictionaries(st.text(max_size=10), PLAIN, max_size=3))
def test_any_message_on_the_command_socket_is_answered(
    tmp_path_factory: Any, bodies: list[Any], more: dict[str, Any]
) -> None:
    site = _shared(tmp_path_factory)

    async def check() -> None:
        client = await site.in_control("operator")
        async with site.socket("/command", client) as socket:
            await socket.send({"csrf": client._csrf})
            load = {"type": "load", "recipe": "none", "seen": site.bench.now, "settings": more}
            for value in (*bodies, load):
                await socket.send(json.dumps(value))
                assert (await socket.receive())["verdict"] == "rejected"
        await client.logout()
        await client.close()

    asyncio.run(check())


_SITES: list[Site] = []


def _shared(factory: Any) -> Site:
    if not _SITES:
        _SITES.append(site_of(factory.mktemp("shared")))
    return _SITES[0]
