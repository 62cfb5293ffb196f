"""The conformance suite for the UR driver, in real time: emulator, driver's process and robot node side by side."""

from __future__ import annotations

import re

import pytest

from tests.robots.test_conformance import conformance


@pytest.mark.live
@pytest.mark.timeout(600)
def test_the_driver_passes_the_suite() -> None:
    done = conformance("ur")
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 20
