"""`cell up --lockstep`: what it refuses before anything has started. What it does is seen in tests/integration."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from cell.options import RunOptions
from cell.session import SessionError, new_session
from cell.together import Together, up_together


def options(folder: Path) -> RunOptions:
    return RunOptions(recipe=None, runs=folder / "runs", perception="surface", mode="lockstep")


def test_without_a_pendant_nobody_could_command_it(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="without a pendant"):
        up_together(options(tmp_path))


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        with pytest.raises(SessionError, match=f"port {port}"):
            up_together(replace(options(tmp_path), pendant_port=port))


def test_an_arm_that_keeps_its_own_time(tmp_path: Path) -> None:
    session = new_session(options(tmp_path), tmp_path)
    cell = session.cell.config
    real = replace(session.cell, config=cell.model_copy(update={"world": None}))
    with pytest.raises(SessionError, match="keeps its own time"):
        Together(replace(session, cell=real), tmp_path, tmp_path)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none(tmp_path: Path, speed: float) -> None:
    session = new_session(options(tmp_path), tmp_path)
    with pytest.raises(ValueError, match="speed"):
        Together(session, tmp_path, tmp_path, speed)
