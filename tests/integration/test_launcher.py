"""However the launcher of a live cell ends, its nodes end with it: nobody would attend them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live"), pytest.mark.timeout(200)]
UP_WITHIN = 120.0
ENDED_WITHIN = 8.0
"""Heartbeats look ten times a second; ledger and recorder write what they have, s."""


def nodes_of(launcher: int) -> list[psutil.Process]:
    """Every process below the launcher, the fork server too."""
    return psutil.Process(launcher).children(recursive=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_node_outlives_the_launcher(how: signal.Signals, tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    command = [sys.executable, "-m", "cell.cli", "up", "--no-pendant", "--perception", "surface"]
    with said.open("w") as out:
        launcher = subprocess.Popen([*command, "--runs", str(tmp_path)], stdout=out, stderr=subprocess.STDOUT)
    try:
        until(lambda: "The cell is up" in said.read_text(), UP_WITHIN, "cell")
        nodes = nodes_of(launcher.pid)
        assert len(nodes) >= 8
        os.kill(launcher.pid, how)
        launcher.wait(30.0)
        until(lambda: not any(alive(node) for node in nodes), ENDED_WITHIN, "end of all nodes")
    finally:
        with contextlib.suppress(ProcessLookupError):
            launcher.kill()


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: object, seconds: float, what: str) -> None:
    """Wait for a condition; fail with what did not come."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} within {seconds:g} s"
        time.sleep(0.1)
