"""Where the pendant is served, its accounts from the command line, its process beside the cell's."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cell.cli import app
from cell.options import RunOptions
from cell.pendant.accounts import Accounts
from cell.pendant.place import data_folder, first_password, pendant_of
from cell.session import PENDANT, SessionError, new_session


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    options = RunOptions(None, runs=tmp_path / "runs", pendant_port=free_port())
    found = pendant_of(options)
    assert found is not None and found.data == str(tmp_path / "pendant-data")
    assert data_folder(replace(options, pendant_data=tmp_path / "x")) == tmp_path / "x"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SessionError, match="another cell"):
            pendant_of(replace(options, pendant_port=int(other.getsockname()[1])))
    assert pendant_of(replace(options, pendant_port=None)) is None
    assert first_password(tmp_path / "data") and not first_password(tmp_path / "data")


def test_no_node_waits_for_the_pendant(tmp_path: Path) -> None:
    options = RunOptions(None, runs=tmp_path / "runs", pendant_port=free_port(), mode="live")
    pendant = pendant_of(options)
    session = new_session(options, tmp_path, pendant=pendant)
    assert PENDANT not in session.node_names and PENDANT in session.addresses.nodes
    assert PENDANT not in new_session(options, tmp_path).addresses.nodes


def test_accounts_from_the_command_line(tmp_path: Path) -> None:
    runner, data = CliRunner(), ["--data", str(tmp_path)]
    twice = "correct horse\ncorrect horse\n"
    done = runner.invoke(app, ["pendant", "users", "add", "Ada", "--role", "operator", *data], input=twice)
    assert done.exit_code == 0, done.output
    assert Accounts(tmp_path).verify("Ada", "correct horse") is not None
    assert "Ada" in runner.invoke(app, ["pendant", "users", "list", *data]).output
    again = runner.invoke(app, ["pendant", "users", "passwd", "Ada", *data], input="another one\nanother one\n")
    assert again.exit_code == 0 and Accounts(tmp_path).verify("Ada", "another one") is not None
    assert runner.invoke(app, ["pendant", "users", "add", "Bo", "--role", "king", *data], input=twice).exit_code != 0
