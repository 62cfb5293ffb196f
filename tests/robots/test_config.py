"""The robot block of cell files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from robots.config import RobotConfig
from robots.contract import DriverError
from robots.drivers.null import NullDriver
from robots.faults import KINDS, FaultBoard
from robots.node import lease_rules

DEMO = Path(__file__).parents[2] / "cell" / "cells" / "demo.yaml"


def test_the_demo_cell_is_understood() -> None:
    config = RobotConfig.model_validate(YAML(typ="safe").load(DEMO.read_text())["robot"])
    assert (config.model, config.tool, config.rate_hz) == ("panda", "panda_hand", 250)
    assert config.home == pytest.approx([math.radians(v) for v in (-45, -35, 0, -135, 0, 100, 45)])
    assert config.period == 0.004


@pytest.mark.parametrize(
    "block",
    [
        {"driver": "null", "rate": 250},
        {"driver": "null", "rate_hz": 100},
        {"driver": "null", "rate_hz": math.nan},
        {"driver": "null", "manual_speed": 0.5},
        {"driver": "null", "leases": {"issuers": []}},
        {"driver": "null", "leases": {"validity": 3.0}},
        {"driver": "null", "keep_out": [{"kind": "plane", "name": "p", "normal": [0, 0, 0], "offset": 0}]},
        {"driver": "null", "home_deg": [math.inf]},
        {},
    ],
)
def test_wrong_blocks_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RobotConfig.model_validate(block)


def test_lease_rules_come_from_the_file_and_what_is_dealt_out() -> None:
    rules = lease_rules(RobotConfig(driver="null"), "print", b"k" * 32)
    assert (rules.issuers, rules.validity, rules.fingerprint) == (("supervisor",), 0.3, "print")
    with pytest.raises(ValueError, match="key"):
        lease_rules(RobotConfig(driver="null"), "print", b"")


def test_every_fault_says_cause_and_remedy_and_the_first_is_kept() -> None:
    for kind in KINDS.values():
        assert kind.cause
        assert kind.remedy
    board = FaultBoard()
    assert board.latch("lease_lost", "x")
    assert not board.latch("lease_lost", "y")
    board.latch("driver_lost")
    assert board.first[0] == "lease_lost"
    assert "x" in board.first[1]
    assert board.clear() == ["lease_lost", "driver_lost"]
    with pytest.raises(KeyError):
        board.latch("no_such_fault")


def test_the_null_driver_names_wrong_options() -> None:
    with pytest.raises(DriverError, match="speed"):
        NullDriver({"speed": 1}, 7)
    with pytest.raises(DriverError, match="7 finite"):
        NullDriver({"q": [0.0] * 6}, 7)
