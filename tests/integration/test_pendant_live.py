"""`cell up` with its pendant as real processes: a recipe is loaded and started, a killed pendant comes back."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cell.ledger import read_ledger
from cell.pendant.accounts import Accounts
from cell.pendant.client import Client, PendantError

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live"), pytest.mark.timeout(300)]
PASSWORD = "correct horse"


class Up:
    """One `cell up`."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        self.arguments = [
            sys.executable, "-u", "-m", "cell.cli", "up", "--perception", "surface", "--port", str(self.port),
            "--runs", str(folder / "runs"), "--scenario", "none",
        ]  # fmt: skip
        self.log = folder / "out.txt"
        self.process = subprocess.Popen(self.arguments, stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        until(lambda: "Pendant: http" in self.log.read_text() or self.process.poll() is not None, 200.0)
        time.sleep(0.3)
        assert self.process.poll() is None, self.log.read_text()

    def pendant(self) -> psutil.Process:
        """The process that listens on the port."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if any(c.laddr and c.laddr.port == self.port and c.status == "LISTEN" for c in child.net_connections()):
                return child
        raise AssertionError("no pendant")


async def to_idle(client: Client) -> None:
    """As a person does: clear what was latched while the nodes started one after another, confirm, reset."""
    for _ in range(8):
        state = str(client.state["status"]["state"])
        if state == "Idle":
            return
        try:
            if state == "Aborted":
                if client.state["robot"]["fault"]:
                    await client.command(type="clear_fault")
                await client.packml("Clear")
            elif state == "Stopped":
                await client.command(type="confirm_clear")
                await client.packml("Reset")
        except PendantError as error:
            print(error)
        await asyncio.sleep(1.0)
    raise AssertionError(f"{client.state['status']}")


def until(condition: object, seconds: float) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="pendant") as folder:
        cell = Up(Path(folder))
        yield cell
        cell.process.send_signal(signal.SIGINT)
        try:
            cell.process.wait(20.0)
        except subprocess.TimeoutExpired:
            cell.process.kill()


def test_the_first_password_is_told_once(up: Up) -> None:
    text = up.log.read_text()
    found = re.search(r"with the password (\S+)", text)
    assert found is not None and text.count(found[1]) == 1
    assert Accounts(up.folder / "pendant-data").verify("admin", found[1]) is not None


def test_a_second_cell_on_the_port_is_refused(up: Up) -> None:
    done = subprocess.run(up.arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "another cell" in done.stderr and "Traceback" not in done.stderr


def test_kitting_is_loaded_and_started_and_a_killed_pendant_comes_back(up: Up) -> None:
    Accounts(up.folder / "pendant-data").create("Ada", "operator", PASSWORD)
    url = f"http://127.0.0.1:{up.port}"

    async def start() -> None:
        async with Client(url) as client:
            await client.login("Ada", PASSWORD)
            await client.watch()
            await client.take_control()
            answer = await client.load("kitting", {"varieties": ["cube_red"]}, 3)
            assert answer["verdict"] == "done" and answer["analysis"]["ok"]
            await to_idle(client)
            await client.packml("Start")
            await client.until_state("Execute")
            await client.until(lambda state: state["robot"]["rate"] > 0.5)

    async def look() -> str:
        async with Client(url) as client:
            await client.login("Ada", PASSWORD)
            await client.watch()
            await client.until(lambda state: "status" in state)
            return str(client.state["status"]["state"])

    asyncio.run(start())
    old = up.pendant()
    assert old.nice() >= 5
    os.kill(old.pid, signal.SIGKILL)
    until(lambda: "is started again" in up.log.read_text(), 10.0)

    def back() -> bool:
        try:
            return up.pendant().pid != old.pid
        except AssertionError:
            return False

    until(back, 60.0)
    time.sleep(1.0)
    assert asyncio.run(look()) == "Execute"
    (ledger,) = (up.folder / "runs").glob("*/events.sqlite")
    until(lambda: any(row.event.kind == "pendant.restarted" for row in read_ledger(ledger)), 20.0)
    people = {row.event.data.get("person") for row in read_ledger(ledger) if row.event.kind == "operator.command"}
    assert people == {"Ada"}
