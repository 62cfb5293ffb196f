"""docs/safety/requirements.yaml against the tests: nothing claimed without a test, no test of an unknown claim."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/safety/requirements.yaml"
TEXTS = ("function", "hazard", "trigger", "response_time", "safe_state", "restart")
FIELDS = {"id", "tests", *TEXTS}


def marks_of(source: str) -> dict[str, set[str]]:
    """Test function -> requirement ids it carries; methods are named `Class::method`."""
    found: dict[str, set[str]] = {}

    def visit(body: list[ast.stmt], prefix: str, inherited: set[str]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}::", inherited | ids(node.decorator_list))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
                found[prefix + node.name] = inherited | ids(node.decorator_list)

    def ids(decorators: list[ast.expr]) -> set[str]:
        calls = [d for d in decorators if isinstance(d, ast.Call) and isinstance(d.func, ast.Attribute)]
        marks = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "requirement"]
        return {ast.literal_eval(argument) for mark in marks for argument in mark.args}

    visit(ast.parse(source).body, "", set())
    return found


def faults_of(requirements: list[dict[str, Any]], tests: dict[str, set[str]]) -> list[str]:
    """Everything that is wrong. `tests`: `file::function` -> ids it carries."""
    faults = []
    known = [str(r.get("id", "?")) for r in requirements]
    faults += [f"{one}: twice in the file" for one in sorted({k for k in known if known.count(k) > 1})]
    for requirement in requirements:
        one = str(requirement.get("id", "?"))
        if not re.fullmatch(r"[A-Z]{3}-\d{2}", one):
            faults.append(f"{one}: an id is three capitals and two digits")
        if set(requirement) != FIELDS:
            faults.append(f"{one}: missing or unknown fields {sorted(set(requirement) ^ FIELDS)}")
        faults += [f"{one}: {f} says nothing" for f in TEXTS if not str(requirement.get(f) or "").strip()]
        named = requirement.get("tests") or []
        if not named:
            faults.append(f"{one}: no test")
        for test in named:
            if test not in tests:
                faults.append(f"{one}: there is no test {test}")
            elif one not in tests[test]:
                faults.append(f"{one}: {test} does not carry this id")
    used = {i for ids in tests.values() for i in ids}
    return faults + [f"{one}: carried by a test, but not in the file" for one in sorted(used - set(known))]


def all_tests() -> dict[str, set[str]]:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return {
        f"{path.relative_to(ROOT).as_posix()}::{name}": ids
        for path in files
        for name, ids in marks_of(path.read_text()).items()
    }


def test_every_requirement_has_its_test_and_every_mark_its_requirement() -> None:
    requirements = YAML(typ="safe").load(FILE.read_text())["requirements"]
    assert len(requirements) >= 37
    assert faults_of(requirements, all_tests()) == []


GOOD: dict[str, Any] = {"id": "ABC-01", "tests": ["tests/a.py::test_a"], **dict.fromkeys(TEXTS, "said")}
TESTS = {"tests/a.py::test_a": {"ABC-01"}, "tests/a.py::test_b": set[str]()}


def test_a_sound_file_has_no_faults() -> None:
    assert faults_of([GOOD], TESTS) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"id": "A1"}, "three capitals"),
        ({"hazard": " "}, "says nothing"),
        ({"restart": None}, "says nothing"),
        ({"more": "x"}, "unknown fields"),
        ({"tests": []}, "no test"),
        ({"tests": ["tests/a.py::test_c"]}, "there is no test"),
        ({"tests": ["tests/a.py::test_b"]}, "does not carry"),
    ],
)
def test_each_fault_is_found(change: dict[str, Any], word: str) -> None:
    assert any(word in fault for fault in faults_of([{**GOOD, **change}], TESTS))


def test_a_mark_without_requirement_and_a_double_id_are_found() -> None:
    assert any("not in the file" in fault for fault in faults_of([], TESTS))
    assert any("twice" in fault for fault in faults_of([GOOD, GOOD], TESTS))


def test_marks_are_read_from_functions_and_classes() -> None:
    source = (
        "@pytest.mark.requirement('ABC-01')\nclass TestX:\n"
        "    @pytest.mark.requirement('ABC-02', 'ABC-03')\n    def test_y(self): ...\n"
        "@pytest.mark.parametrize('a', [1])\ndef test_z(a): ...\ndef helper(): ...\n"
    )
    assert marks_of(source) == {"TestX::test_y": {"ABC-01", "ABC-02", "ABC-03"}, "test_z": set()}
