"""Formula parameters: ranges hold for defaults and for what is typed."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from recipes.formula import allowed_of, fault_of, fill, parse_settings
from recipes.schema import Operation, Parameter, Phase, Recipe

NUMBER = Parameter(type="number", unit="m", min=0.1, max=0.5, default=0.2)
COUNT = Parameter(type="integer", min=1, max=9, default=3)
KINDS = Parameter(type="list", choices=["a", "b"], min=1, max=3, default=["a"])
FLAG = Parameter(type="boolean", default=True)
WORD = Parameter(type="text", choices=["left", "right"], default="left")
RECIPE = Recipe(
    recipe="r",
    version="1",
    parameters={"number": NUMBER, "count": COUNT, "kinds": KINDS, "flag": FLAG, "word": WORD},
    operations=[Operation(operation="o", phases=[Phase(skill="move_to")])],
)


def test_typed_values() -> None:
    typed = {"number": "0.3", "count": " 4 ", "kinds": "[a, b]", "flag": "no", "word": "right"}
    formula, errors = parse_settings(RECIPE, typed)
    assert not errors
    assert formula == {"number": 0.3, "count": 4, "kinds": ["a", "b"], "flag": False, "word": "right"}


def test_every_bad_value_is_named() -> None:
    typed = {"number": "nan", "count": "2.5", "kinds": "a,c", "flag": "maybe", "word": "up", "nubmer": "1"}
    _, errors = parse_settings(RECIPE, typed)
    assert {e.field for e in errors} == {f"--set {name}" for name in typed}
    assert "did you mean number?" in next(e for e in errors if "nubmer" in e.field).remedy
    assert allowed_of(NUMBER) == "a number >= 0.1, <= 0.5 m"


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_inside_or_a_fault(value: float) -> None:
    inside = math.isfinite(value) and 0.1 <= value <= 0.5
    assert (fault_of(NUMBER, value) == "") == inside


@given(st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.lists(st.integers(), max_size=2)))
def test_another_type_is_a_fault(value: object) -> None:
    assert fault_of(NUMBER, value)


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(st.integers(), st.text(max_size=5)), min_size=2))
def test_references_keep_their_type(variables: dict[str, object]) -> None:
    value, unknown = fill({"x": "${a}", "y": ["${b}", "is ${a}", "${c}"]}, variables)
    assert value["x"] == variables["a"]
    assert value["y"][0] == variables["b"]
    assert value["y"][1] == f"is {variables['a']}"
    assert unknown == ["c"]
