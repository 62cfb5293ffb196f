"""`cell safety distance | contact | protective-field`: shapes, units, and everything that must be refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.cli import BAD_INPUT, OK
from cell.commands.formulas import FORMULAS, Faults, answer, parse, run_formula

DISTANCE = {"v_h": 1.6, "v_r": 0.5, "T_r": 0.15, "a_s": 5.0, "C": 0.208, "Z_d": 0.05, "Z_r": 0.03, "d": 1.0}
CONTACT = {"region": "chest", "m_R": 5.0}
FIELD = {"edition": 2010, "approach": "parallel", "d_mm": 50.0, "T": 0.5, "H": 0}
GOOD: dict[str, dict[str, Any]] = {"distance": DISTANCE, "contact": CONTACT, "protective-field": FIELD}


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in names}


def fields(kind: str, data: Any) -> list[str]:
    with pytest.raises(Faults) as caught:
        answer(kind, data)
    return [field for field, _ in caught.value.faults]


def test_distance_answers_what_is_asked() -> None:
    both = answer("distance", DISTANCE)
    assert list(both) == ["S_h", "S_r", "S_s", "C", "Z_d", "Z_r", "S_p", "allowed_speed"]
    assert both["S_h"] == pytest.approx(1.6 * 0.25)
    assert both["S_p"] == pytest.approx(0.4 + 0.075 + 0.025 + 0.288)
    only_speed = answer("distance", without(DISTANCE, "v_r"))
    assert set(only_speed) == {"C", "Z_d", "Z_r", "allowed_speed"}
    assert only_speed["allowed_speed"] == both["allowed_speed"]
    assert "allowed_speed" not in answer("distance", without(DISTANCE, "d"))
    measured = answer("distance", without(DISTANCE, "a_s") | {"T_s": 0.1, "S_s": 0.025})
    assert measured["S_p"] == pytest.approx(both["S_p"])


def test_the_answer_has_the_shape_of_the_question() -> None:
    for kind, record in GOOD.items():
        one = answer(kind, record)
        assert isinstance(one, dict)
        assert answer(kind, [record, record]) == [one, one]
        assert answer(kind, []) == []


def test_contact_is_in_si_units_and_says_where_from() -> None:
    got = answer("contact", CONTACT)
    assert got["mu"] == pytest.approx(1 / (1 / 40 + 1 / 5))
    assert (got["k"], got["F_T"], got["p_T"]) == (25e3, 280.0, 240e4)
    assert got["allowed_speed"] == pytest.approx(280.0 / math.sqrt(got["mu"] * got["k"]))
    assert "A.2" in got["source"] and "A.3" in got["source"]
    assert answer("contact", CONTACT | {"force_only": True}) == got
    area = answer("contact", CONTACT | {"contact_area": 5e-5})
    assert area["allowed_speed"] == pytest.approx(got["allowed_speed"] * 120.0 / 280.0)
    assert answer("contact", CONTACT | {"contact_area": 5e-5, "force_only": True}) == got
    head = answer("contact", {"region": "skull_forehead", "m_R": 5.0})
    assert (head["F_T"], head["p_T"], head["allowed_speed"]) == (0.0, 0.0, 0.0)


def test_protective_field_takes_editions_as_number_or_text() -> None:
    assert answer("protective-field", FIELD) == {"K": 1600.0, "C_or_D_DS_mm": 1200.0, "S_mm": 2000.0}
    assert answer("protective-field", FIELD | {"edition": "2010"}) == answer("protective-field", FIELD)
    orthogonal = {"edition": 2024, "approach": "orthogonal", "d_mm": 14, "T": 0.1, "H": None}
    assert answer("protective-field", orthogonal)["S_mm"] == 200.0


REQUIRED = [(k, n) for k, r in GOOD.items() for n in r if (k, n) not in {("distance", "v_r"), ("distance", "d")}]


@pytest.mark.parametrize(("kind", "name"), REQUIRED)
def test_a_missing_field_is_named_with_its_index(kind: str, name: str) -> None:
    broken = without(GOOD[kind], name)
    assert fields(kind, broken) == [name]
    assert fields(kind, [GOOD[kind], broken]) == [f"[1].{name}"]


NUMBERS = [(k, n) for k, r in GOOD.items() for n, v in r.items() if isinstance(v, float | int) and n != "edition"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1, 1e9, 10**400, "1", None, True, [1], {}])
@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_a_number_that_cannot_be_is_named(kind: str, name: str, bad: Any) -> None:
    assert fields(kind, GOOD[kind] | {name: bad}) == [name]


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_unknown_fields_and_shapes_are_refused(kind: str) -> None:
    assert fields(kind, GOOD[kind] | {"V_H": 1.0}) == ["V_H"]
    assert fields(kind, [1, GOOD[kind], None]) == ["[0]", "[2]"]
    for shape in (None, 1, "x", True):
        assert fields(kind, shape) == ["input"]


@pytest.mark.parametrize(
    ("kind", "record", "expected"),
    [
        ("distance", without(DISTANCE, "v_r", "d"), ["v_r"]),
        ("distance", DISTANCE | {"T_s": 0.1, "S_s": 0.1}, ["a_s"]),
        ("distance", without(DISTANCE, "a_s") | {"T_s": 0.1}, ["S_s"]),
        ("distance", without(DISTANCE, "a_s") | {"S_s": 0.1}, ["T_s"]),
        ("distance", without(DISTANCE, "a_s") | {"T_s": 0.1, "S_s": 0.1, "T_r": 0}, ["T_r"]),
        ("distance", DISTANCE | {"a_s": 0}, ["a_s"]),
        ("contact", CONTACT | {"region": "tail"}, ["region"]),
        ("contact", CONTACT | {"region": ["chest"]}, ["region"]),
        ("contact", CONTACT | {"m_R": 0}, ["m_R"]),
        ("contact", CONTACT | {"force_only": 1}, ["force_only"]),
        ("contact", CONTACT | {"force_only": False}, ["contact_area"]),
        ("contact", CONTACT | {"contact_area": 0}, ["contact_area"]),
        ("contact", CONTACT | {"body_area": "palm_D"}, ["body_area"]),
        ("contact", CONTACT | {"body_area": 3}, ["body_area"]),
        ("contact", CONTACT | {"contact": "soft"}, ["contact"]),
        ("protective-field", FIELD | {"edition": 1999}, ["edition"]),
        ("protective-field", FIELD | {"edition": True}, ["edition"]),
        ("protective-field", FIELD | {"approach": "up"}, ["approach"]),
        ("protective-field", FIELD | {"d_mm": 51}, ["d_mm"]),
        ("protective-field", FIELD | {"Z_mm": 10}, ["Z_mm"]),
        ("protective-field", {"edition": 2024, "approach": "orth", "d_mm": 50, "T": 0.1}, ["d_mm"]),
    ],
)
def test_what_does_not_fit_together_is_named(kind: str, record: dict[str, Any], expected: list[str]) -> None:
    assert fields(kind, record) == expected


def test_every_fault_is_reported_at_once() -> None:
    assert fields("distance", [without(DISTANCE, "C") | {"v_h": math.nan}, {}])[:3] == ["[0].v_h", "[0].C", "[1].v_h"]


@pytest.mark.parametrize("text", ["", "{", "[1,", '{"v_h": 1, "v_h": 2}', "\x00"])
def test_broken_text_is_refused(text: str) -> None:
    with pytest.raises(Faults):
        parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(FORMULAS)), JSON)
def test_no_input_makes_anything_but_an_answer_or_named_faults(kind: str, value: Any) -> None:
    names = list(GOOD[kind])
    for data in (value, GOOD[kind] | dict.fromkeys(names[:1], value), [GOOD[kind] | {names[-1]: value}]):
        found: tuple[tuple[str, str], ...] = ()
        try:
            json.dumps(answer(kind, data), allow_nan=False)
        except Faults as caught:
            found = caught.faults
        assert all(field and text for field, text in found)


def test_a_file_is_answered_as_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "in.json"
    file.write_text(json.dumps([DISTANCE]), encoding="utf-8")
    assert run_formula("distance", str(file), as_json=True) == OK
    assert json.loads(capsys.readouterr().out) == answer("distance", [DISTANCE])
    assert run_formula("distance", str(file), as_json=False) == OK
    assert "S_p" in capsys.readouterr().out
    assert run_formula("distance", str(tmp_path / "none.json"), as_json=True) == BAD_INPUT
    assert "none.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "code"), [(json.dumps(DISTANCE), OK), (json.dumps([DISTANCE | {"v_h": math.nan}]), BAD_INPUT), ("{", 2)]
)
def test_the_command_reads_standard_input_and_names_the_field(text: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cell.cli", "safety", "distance", "--json", "-"],
        input=text,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == code
    if code == OK:
        assert json.loads(done.stdout)["S_p"] == pytest.approx(0.788)
    else:
        assert done.stdout == ""
        assert "[0].v_h" in done.stderr or "not JSON" in done.stderr
        assert "Traceback" not in done.stderr
