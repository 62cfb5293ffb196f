"""Every node is killed and frozen while the arm moves fast: real processes, real time, truth from the twin's drives."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_tests.py"

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live"), pytest.mark.timeout(150)]


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_tests", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_tests"] = module
    spec.loader.exec_module(module)
    return module


kill_tests = _script()


@pytest.mark.parametrize("how", ["KILL", "STOP"])
@pytest.mark.parametrize("node", ["supervisor", "perception", "controller", "arm", "twin"])
def test_the_arm_stands_in_time_and_stays_standing(node: str, how: str) -> None:
    # pytest's own folders are too deep for the names of sockets
    with tempfile.TemporaryDirectory(prefix="kill") as folder:
        result = kill_tests.run_case(node, how, "surface", Path(folder))
    print(result.line())
    assert not result.problems, result.line()
