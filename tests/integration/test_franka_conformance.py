"""The conformance suite for the Franka driver, in slow motion, against the third-party simulator."""

from __future__ import annotations

import re

import pytest

from sim.franka_server import NotInstalled, folder
from tests.robots.test_conformance import conformance


@pytest.mark.live
@pytest.mark.timeout(600)
def test_the_driver_passes_the_suite() -> None:
    try:
        folder()
    except NotInstalled as missing:
        pytest.skip(str(missing))
    done = conformance("franka")
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 20
