"""Teaching, recipe editing, telemetry, history, safety pages, pictures."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import struct
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.contract import SetUnitMode
from cell.ledger import Ledger
from cell.pendant.client import PendantError
from cell.pendant.editing import EditError, insert_step
from cell.pendant.feed import MOST_POINTS, Stream, cloud
from cell.pendant.history import safe_cell
from cell.pendant.proposals import differences
from perception.contract import Observation
from recipes.expand import read_recipe
from safety.acceptance import acceptance_faults, load_trusted, trust_path
from safety.config import fingerprint, load_safety
from tests.pendant.harness import PASSWORD, SHORT, Site

PACKAGE = Path(__file__).parents[2] / "cell" / "cells" / "demo_safety.yaml"


def test_teach_points_insert_a_step_and_go_there(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(0.4)

    async def check() -> None:
        client = await site.in_control("programmer")
        point = await client.post("/points", {"name": "above box", "comment": "try"})
        assert len(point["q"]) == 7 and point["by"] == "Programmer"
        assert [p["name"] for p in await client.get("/points")] == ["above box"]
        await client.post("/frames", {"name": "here", "comment": ""})
        assert len((await client.get("/frames"))[0]["pose"]) == 16
        joints = [round(math.degrees(v), 3) for v in point["q"]]
        step = {"skill": "move_to", "name": "above", "params": {"joints_deg": joints}}
        await client.post("/recipes", {"name": "short", "text": SHORT})
        found = await client.post("/recipes/short/insert", {"after_step": 2, "step": step})
        assert found["ok"], found["problems"]
        recipe = await client.get("/recipes/short")
        saved = await client.request("PUT", "/recipes/short", {"text": found["text"], "base_hash": recipe["hash"]})
        assert [s["skill"] for s in saved.json()["steps"]] == ["pick", "place", "move_to", "move_to"]
        with pytest.raises(PendantError) as caught:
            await client.request("PUT", "/recipes/short", {"text": SHORT, "base_hash": recipe["hash"]})
        assert caught.value.status == 409
        with pytest.raises(PendantError):
            await client.request("DELETE", "/recipes/kitting")
        # Going there is refused in automatic mode, and at the point itself.
        client.state["t"] = site.bench.now
        with pytest.raises(PendantError, match="automatic"):
            await client.command(type="goto", point="above box")
        site.bench.ask(SetUnitMode("manual"))
        site.run(0.3)
        client.state["t"] = site.bench.now
        with pytest.raises(PendantError, match="already"):
            await client.command(type="goto", point="above box")
        with pytest.raises(PendantError, match="404"):
            await client.command(type="goto", point="nowhere")
        await client.request("DELETE", "/points/above box")
        assert await client.get("/points") == []
        await client.close()

    asyncio.run(check())


def test_points_are_not_saved_while_the_arm_moves_or_is_unknown(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def check() -> None:
        client = await site.logged_in("programmer")
        with pytest.raises(PendantError, match="not known"):
            await client.post("/points", {"name": "p"})
        site.run(0.4)
        for name in ("", "a/b", " x", "é" * 41, "<b>"):
            with pytest.raises(PendantError, match="422"):
                await client.post("/points", {"name": name})
        site.bench.arm_runs = False
        site.bench.run(1.0)
        with pytest.raises(PendantError, match="not known"):
            await client.post("/points", {"name": "p"})
        await client.close()

    asyncio.run(check())


def test_inserting_keeps_comments() -> None:
    text = "# first\n" + SHORT.lstrip() + "# last\n"
    for after in range(4):
        new = insert_step(text, after, {"skill": "move_to", "params": {"home": True}})
        assert new.startswith("# first") and "# last" in new
        loaded, faults = read_recipe(new)
        skills = [p.skill for o in loaded.recipe.operations for p in o.phases]
        assert not faults and len(skills) == 4 and skills[after] == "move_to"
    kitting = (Path(__file__).parents[2] / "recipes" / "library" / "kitting.yaml").read_text()
    loaded, _ = read_recipe(insert_step(kitting, 2, {"skill": "move_to", "params": {"home": True}}))
    assert [o.operation for o in loaded.recipe.operations] == ["fill_box", "step_1", "rest"]
    for bad in (
        {"after_step": 9, "text": SHORT},
        {"after_step": 0, "text": "recipe: x"},
        {"after_step": 0, "text": "["},
    ):
        with pytest.raises(EditError):
            insert_step(cast(str, bad["text"]), cast(int, bad["after_step"]), {"skill": "x"})
    with pytest.raises(EditError):
        insert_step(SHORT, 1, {"params": math.nan})


def test_telemetry_says_everything_once_and_then_what_has_changed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(0.4)

    async def check() -> None:
        client = await site.logged_in("viewer")
        async with site.socket("/telemetry", client) as socket:
            await asyncio.sleep(0)
            site.run(0.08)
            first = await socket.receive()
            assert {"seq", "t", "wall", "age", "status", "robot", "safety", "hull", "control", "motion"} <= set(first)
            assert first["status"]["state"] == "Stopped" and first["status"]["blocked"] == {}
            assert first["safety"]["separation"] is None and len(first["robot"]["T_base_tcp"]) == 16
            assert first["age"]["robot"] < 0.1 and first["control"]["holder"] is None
            site.run(0.04)
            second = await socket.receive()
            assert "status" not in second and "control" not in second and "robot" in second
            assert second["seq"] == first["seq"] + 1
            await client.logout()
            site.run(0.04)
            assert await socket.receive() is None and socket.closed == 4401
        await client.close()

    asyncio.run(check())


def test_a_slow_client_gets_the_newest_and_no_queue() -> None:
    stream = Stream()
    values = {"a": (1, msgspec.msgpack.encode("old")), "b": (1, msgspec.msgpack.encode(1))}
    decode = msgspec.msgpack.decode
    assert decode(stream.message(values, 0.0, {}))["a"] == "old"
    values["a"] = (5, msgspec.msgpack.encode("newest"))
    late = decode(stream.message(values, 9.0, {}))
    assert late["a"] == "newest" and "b" not in late and late["seq"] == 2
    many = {f"k{i}": (1, b"\x01") for i in range(40)}
    assert len(decode(Stream().message(many, 0.0, {}))) == 44


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12_000), st.integers(0, 12_000), st.booleans())
def test_clouds_are_bounded(seen: int, possible: int, wild: bool) -> None:
    rng = np.random.default_rng(seen + possible)
    balls = rng.uniform(-3, 3, (seen + possible, 4)).astype("<f4")
    balls[:, 3] = abs(balls[:, 3])
    if wild and len(balls):
        balls[0] = [np.nan, np.inf, -np.inf, np.nan]
    packed = cloud(Observation(1, 0.0, 0.0, balls.tobytes(), seen, True, "", [], [], True))
    a, b = len(packed["seen"]) // 6, len(packed["possible"]) // 6
    assert a + b <= MOST_POINTS and (a > 0) == (seen > 0) and (b > 0) == (possible > 0)
    assert len(packed["seen_radius"]) == a and len(packed["possible_radius"]) == b


def test_history_and_csv(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(0.3)
    site.bench.node.unit._set("grip_failed", True, "=cmd()", site.bench.now)
    site.bench.node.unit._set("grip_failed", False, "", site.bench.now)
    site.run(0.1)
    ledger = Ledger(tmp_path / "runs" / "now" / "events.sqlite")
    ledger.append(site.bench.events)
    ledger.close()

    async def check() -> None:
        client = await site.logged_in("viewer")
        active = await client.get("/alarms")
        assert [(a["code"], a["state"]) for a in active] == [("grip_failed", "cleared")] and active[0]["remedy"]
        found = await client.get("/alarms/history", code="grip_failed")
        assert found["total"] == 2 and [i["what"] for i in found["items"]] == ["cleared", "raised"]
        assert (await client.get("/alarms/history", search="100%_'"))["total"] == 0
        assert (await client.get("/alarms/history", until=0))["total"] == 0
        text = (await client.request("GET", "/alarms/history.csv", code="grip_failed")).text
        assert "'=cmd()" in text and text.splitlines()[0].startswith("wall,")
        for bad in ({"limit": 0}, {"limit": 10**9}, {"offset": -1}, {"since": "x"}):
            with pytest.raises(PendantError, match="422"):
                await client.get("/alarms/history", **cast(Any, bad))
        await client.close()

    asyncio.run(check())
    assert safe_cell("-1+1") == "'-1+1" and safe_cell(None) == "" and safe_cell("x") == "x"


def test_the_cell_is_drawn(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(0.3)

    async def check() -> None:
        client = await site.logged_in("viewer")
        cell = await client.get("/cell")
        robot = cell["robot"]
        assert robot["dof"] == 7 and len(robot["joint_chain"]) >= 7 and cell["patterns"]["tray_grid"]["places"]
        url = next(m["url"] for link in robot["links"] for m in link["meshes"])
        response = await client.request("GET", url.removeprefix("/api/v1"))
        data = response.content
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        (length,) = struct.unpack("<I", data[:4])
        header = json.loads(data[4 : 4 + length])
        arrays = {a["name"]: a for a in header["arrays"]}
        count = arrays["vertices"]["shape"][0]
        faces = arrays["faces"]
        begin = 4 + length + faces["offset"]
        index = np.frombuffer(data, "<u4", int(np.prod(faces["shape"])), begin)
        assert count > 50 and index.max() < count
        assert (await client.request("GET", "/recipes/kitting/picture.png")).content[:4] == b"\x89PNG"
        for path in ("/meshes/..%2f..%2fpyproject.toml", "/meshes/nothing.bin", "/recipes/nothing/picture.png"):
            with pytest.raises(PendantError, match="404"):
                await client.request("GET", path)
        await client.close()

    asyncio.run(check())


def own_safety(folder: Path) -> Path:
    path = folder / "cell_safety.yaml"
    path.write_text(PACKAGE.read_text())
    return path


@pytest.mark.requirement("CTL-13")
def test_a_change_of_the_safety_configuration_needs_two_people(tmp_path: Path) -> None:
    file = own_safety(tmp_path)
    site = Site(tmp_path, safety=file)
    site.run(0.3)
    before = file.read_bytes()

    async def check() -> None:
        one = await site.logged_in("safety_engineer")
        site.pendant.accounts.create("Second", "safety_engineer", PASSWORD)
        two = site.client()
        await two.login("Second", PASSWORD)
        page = await one.get("/safety")
        config = page["config"] | {"Z_d": 0.06}
        assert await one.post("/safety/diff", {"config": config}) == [{"path": "Z_d", "before": 0.05, "after": 0.06}]
        bad = await one.post("/safety/check", {"config": config | {"Z_d": -1.0}})
        assert not bad["ok"] and bad["problems"][0]["field"] == "Z_d"
        good = await one.post("/safety/check", {"config": config})
        assert good["ok"] and good["fingerprint"] != page["fingerprint"]
        with pytest.raises(PendantError, match="401"):
            await one.post("/safety/proposals", {"config": config, "password": "wrong"})
        proposal = await one.post("/safety/proposals", {"config": config, "comment": "more", "password": PASSWORD})
        where = f"/safety/proposals/{proposal['id']}"
        with pytest.raises(PendantError, match="second person"):
            await one.post(f"{where}/accept", {"password": PASSWORD})
        with pytest.raises(PendantError, match="withdrawn, not refused"):
            await one.post(f"{where}/refuse")
        with pytest.raises(PendantError, match="401"):
            await two.post(f"{where}/accept", {"password": "wrong"})
        assert file.read_bytes() == before
        accepted = await two.post(f"{where}/accept", {"password": PASSWORD})
        assert accepted["state"] == "accepted" and accepted["accepted_by"] == "Second"
        new = load_safety(file)
        assert new.Z_d == 0.06 and fingerprint(new) == proposal["fingerprint"]
        assert acceptance_faults(file, new, load_trusted(trust_path(file))) == []
        page = await one.get("/safety")
        assert page["fingerprint"] == proposal["fingerprint"] and page["restart_needed"]
        assert [s["valid"] for s in page["signatures"]] == [True, True]
        with pytest.raises(PendantError, match="already"):
            await two.post(f"{where}/accept", {"password": PASSWORD})
        await one.post("/session/password", {"old": PASSWORD, "new": "another password"})
        proposal = await one.post(
            "/safety/proposals", {"config": config | {"Z_d": 0.07}, "password": "another password"}
        )
        file.write_text(file.read_text().replace("0.06", "0.08"))
        with pytest.raises(PendantError, match="changed since"):
            await two.post(f"/safety/proposals/{proposal['id']}/accept", {"password": PASSWORD})
        assert (await one.post(f"/safety/proposals/{proposal['id']}/withdraw"))["state"] == "withdrawn"
        for client in (one, two):
            await client.close()

    asyncio.run(check())
    keys = list((tmp_path / "data" / "keys").glob("*.pem"))
    assert len(keys) == 2 and all(k.stat().st_mode & 0o077 == 0 and b"ENCRYPTED" in k.read_bytes() for k in keys)


def test_the_packages_own_safety_file_is_not_changed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.run(0.2)

    async def check() -> None:
        client = await site.logged_in("safety_engineer")
        page = await client.get("/safety")
        with pytest.raises(PendantError, match="package"):
            await client.post("/safety/proposals", {"config": page["config"] | {"Z_d": 0.06}, "password": PASSWORD})
        await client.close()

    asyncio.run(check())


def test_what_if_figures(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def check() -> None:
        client = await site.logged_in("viewer")
        body = {"v_human": 1.6, "v_robot": 0.5, "T_r": 0.15, "T_s": 0.1, "C": 0.208, "Z_d": 0.05, "Z_r": 0.03}
        found = await client.post("/safety/psd", body)
        assert found["S_h"] == pytest.approx(1.6 * 0.25) and found["S_r"] == pytest.approx(0.075)
        assert found["S_s"] == pytest.approx(0.025) and found["S_p"] == pytest.approx(0.4 + 0.075 + 0.025 + 0.288)
        for wrong in (-1.0, 1e9, "x", None):
            with pytest.raises(PendantError, match="422"):
                await client.post("/safety/psd", body | {"T_r": wrong})
        await client.close()

    asyncio.run(check())


def test_differences() -> None:
    assert differences({"a": [1, 2], "b": {"c": 1}}, {"a": [1, 3], "b": {"c": 1, "d": 2}}) == [
        {"path": "a[1]", "before": 2, "after": 3},
        {"path": "b.d", "before": None, "after": 2},
    ]
    assert differences([1], [1, 2], "x") == [{"path": "x", "before": [1], "after": [1, 2]}]
