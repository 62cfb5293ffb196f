"""The options of the suite. An entry point of pytest: a folder named by `--pyargs` comes too late for options."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("robot driver conformance (pytest --pyargs robots.conformance)")
    group.addoption("--driver", help="entry point of cell.robot_drivers that is tested. THE ARM MOVES")
    group.addoption("--driver-options", default="{}", help="JSON: robot.options of the cell file, and `model`")
    group.addoption("--driver-config", default="{}", help="JSON: other fields of the cell file's robot block")
