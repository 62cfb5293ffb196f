"""The conformance suite finds every driver by its name, passes good ones, and finds the defects of bad ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from robots.contract import DriverError

ROOT = Path(__file__).parents[2]
THIRD_PARTY = Path(__file__).parent / "third_party"


SUITE = ["--pyargs", "robots.conformance", "-q"]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the third party's package installed."""
    paths = os.pathsep.join([str(ROOT), str(THIRD_PARTY), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTEST_ADDOPTS": ""}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def conformance(driver: str) -> subprocess.CompletedProcess[str]:
    """Run the suite as anybody would."""
    return python("-m", "pytest", *SUITE, "--driver", driver)


@pytest.mark.parametrize("driver", ["null", "twin", "abb"])
def test_good_drivers_pass(driver: str) -> None:
    done = conformance(driver)
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 20


DEFECTS = {
    "example_deaf": "test_silence_of_the_node_stops_it",
    "example_creeping": "test_hold_and_resume",
    "example_lagging": "test_it_follows_a_motion",
    "example_forgiving": "test_a_fault_refuses_everything_until_a_person_clears_it",
    "example_trusting": "test_a_setpoint_that_is_none_is_refused",
}
"""What a driver is called that has one defect, and the test that must find it; the sound example passes them all."""


def test_defects_are_found() -> None:
    """All in one process, one after the other: most of the time goes into starting one."""
    runs = [*list(DEFECTS.items()), ("example", " or ".join(DEFECTS.values()))]
    program = "import pytest\n" + "\n".join(
        f"print('\\n##', {driver!r}, int(pytest.main({[*SUITE, '--driver', driver, '-k', finds]!r})))"
        for driver, finds in runs
    )
    done = python("-c", program)
    codes = dict(re.findall(r"^## (\w+) (\d)$", done.stdout, re.MULTILINE))
    assert codes == {**dict.fromkeys(DEFECTS, "1"), "example": "0"}, done.stdout[-4000:]
    for finds in DEFECTS.values():
        assert re.search(rf"^FAILED .*::{finds}", done.stdout, re.MULTILINE), finds


def test_a_driver_nobody_has_is_named_with_those_there_are() -> None:
    done = conformance("nobody")
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "nobody" in said and "null" in said and "twin" in said


def test_the_tree_of_what_failed() -> None:
    error = DriverError("unreached", "two things are missing", "see below", (
        DriverError("no_power", "the arm is off", "switch it on"),
        DriverError("no_dashboard", "port 29999 refuses", "enable remote control"),
    ))  # fmt: skip
    assert error.tree().splitlines() == [
        "unreached: two things are missing. see below",
        "  no_power: the arm is off. switch it on",
        "  no_dashboard: port 29999 refuses. enable remote control",
    ]
