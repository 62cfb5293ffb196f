"""Hold to run: the pure core, and the socket against a real controller and robot node."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.contract import SetUnitMode
from cell.pendant.client import Client
from cell.pendant.jog import MISSED, Beat, Hold
from cell.pendant.logins import IDLE_LOCK
from tests.pendant.harness import Site, Socket

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["press", "beat", "repeat", "stale", "bad", "release", "objection", "look"]),
        st.floats(0.0, 0.4),
    ),
    max_size=30,
)


@pytest.mark.requirement("CTL-11")
@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_nothing_is_sent_after_a_drop_before_the_button_is_pressed_again(events: list[tuple[str, float]]) -> None:
    hold, now, seq = Hold(7), 0.0, 0
    may = False
    last = -math.inf
    for what, pause in events:
        now += pause
        if hold.look(now, ""):
            assert now - last > MISSED
        if now - last > MISSED:
            may = False
        if what == "press":
            hold.press(now)
            may, last = True, now
        elif what in ("beat", "repeat", "stale", "bad", "objection"):
            seq += what != "repeat"
            beat = Beat(
                seq=seq,
                space="joint",
                velocity=[0.1] * (6 if what == "bad" else 7),
                seen=now - (5.0 if what == "stale" else 0.1),
            )
            sent = hold.beat(beat, now, "no control" if what == "objection" else "")
            if sent is not None:
                assert may and what in ("beat", "repeat")
                last = now
            else:
                hold.drop(hold.reason)
                may = False
        elif what == "release":
            hold.drop("")
            may = False
        assert not hold.active or now - last <= MISSED
        assert may or not hold.pressed


class Thumb:
    """A person at the jog buttons."""

    def __init__(self, site: Site, socket: Socket) -> None:
        self.site, self.socket, self.seq = site, socket, 0

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def beats(self, count: int, **changes: Any) -> None:
        for _ in range(count):
            self.seq += 1
            body = {"seq": self.seq, "space": "joint", "velocity": [0.2] + [0.0] * 6, "seen": self.site.bench.now}
            await self.socket.send({**body, **changes})
            await self.settle()
            self.site.run(0.08)


async def pressing(site: Site, client: Client, socket: Socket) -> Thumb:
    await socket.send({"csrf": client._csrf})
    await socket.send({"press": True})
    thumb = Thumb(site, socket)
    await thumb.settle()
    assert await socket.receive() == {"active": True, "reason": ""}
    return thumb


def manual_site(folder: Path) -> Site:
    site = Site(folder)
    site.run(0.4)
    assert site.bench.ask(SetUnitMode("manual", "Ada")).verdict == "done"
    site.run(0.3)
    return site


@pytest.mark.requirement("CTL-11")
@pytest.mark.parametrize("end", ["stop", "close", "logout", "lock", "give", "nonsense", "old page", "silence"])
def test_whatever_ends_the_jog_stops_the_arm(tmp_path: Path, end: str) -> None:
    site = manual_site(tmp_path)

    async def check() -> None:
        client = await site.in_control("programmer")
        async with site.socket("/jog", client) as socket:
            thumb = await pressing(site, client, socket)
            before = site.bench.robot.q[0] if site.bench.robot is not None else 0.0
            await thumb.beats(10)
            robot = site.bench.robot
            assert robot is not None and robot.q[0] > before + 0.02 and not robot.standing
            ended = site.bench.now
            if end == "stop":
                await socket.send({"stop": True})
            elif end == "close":
                await socket.close()
            elif end == "logout":
                await client.logout()
            elif end == "lock":
                login = site.pendant.login_of(client.cookie.partition("=")[2])
                assert login is not None
                login.active -= IDLE_LOCK + 1.0
                site.pendant.logins.look(login, site.bench.now)
            elif end == "give":
                other = await site.logged_in("operator")
                await other.take_control()
                await client.post("/control/give")
                await other.close()
            elif end == "nonsense":
                await socket.send("{")
            elif end == "old page":
                await thumb.beats(1, seen=site.bench.now - 3.0)
            for _ in range(12):
                await asyncio.sleep(0.025)  # the socket's own watch looks on the clock of the wall
                site.run(0.02)
            robot = site.bench.robot
            assert robot is not None and robot.standing, end
            here = robot.q[0]
            if end != "close":
                await thumb.beats(6)
            assert site.bench.robot is not None and abs(site.bench.robot.q[0] - here) < 1e-4, "moved without a press"
            assert ended < site.bench.now
        await client.close()

    asyncio.run(check())


@pytest.mark.parametrize("who", ["no control", "operator mode"])
def test_who_may_not_jog_is_told_why(tmp_path: Path, who: str) -> None:
    site = manual_site(tmp_path) if who == "no control" else Site(tmp_path)
    site.run(0.3)

    async def check() -> None:
        client = await site.logged_in("programmer")
        if who == "operator mode":
            await client.take_control()
        async with site.socket("/jog", client) as socket:
            await socket.send({"csrf": client._csrf})
            await socket.send({"press": True})
            answer = await socket.receive()
            assert not answer["active"]
            assert ("not_in_control" if who == "no control" else "automatic mode") in answer["reason"]
        await client.close()

    asyncio.run(check())


def test_one_button_at_a_time(tmp_path: Path) -> None:
    site = manual_site(tmp_path)

    async def check() -> None:
        client = await site.in_control("programmer")
        async with site.socket("/jog", client) as one:
            thumb = await pressing(site, client, one)
            async with site.socket("/jog", client) as other:
                await other.send({"csrf": client._csrf})
                await other.send({"press": True})
                answer = await other.receive()
                assert not answer["active"] and "another window" in answer["reason"]
                await thumb.beats(3)
                await one.send({"stop": True})
                await thumb.settle()
                await other.send({"press": True})
                assert (await other.receive())["active"]
        await client.close()

    asyncio.run(check())
