"""Files people write: every fault at once, with its line; nothing slips through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from cell.yamlfile import NODE_LIMIT, SIZE_LIMIT, FileError, FileErrors, load_yaml, parse_text, read_yaml
from robots.workcell import Strict, Workcell


class Inner(Strict):
    speed: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0
    shape: Literal["box", "cylinder"] = "box"


class Outer(Strict):
    name: str
    inner: Inner = Inner()
    items: tuple[Inner, ...] = ()
    count: Annotated[int, Field(ge=1, le=9)] = 1


def faults(text: str) -> list[FileError]:
    with pytest.raises(FileErrors) as caught:
        parse_text(text, "f.yaml").parse(Outer)
    return caught.value.errors


def test_reads_the_demo_cell() -> None:
    data = read_yaml(Path("cell/cells/demo.yaml")).data
    assert len(Workcell.model_validate(data["workcell"]).stock) == 12


def test_all_faults_at_once_each_with_its_line() -> None:
    errors = faults(
        """inner:
  sped: 1.0
  shape: bax
items:
  - {speed: 3.0}
  - {speed: .nan}
  - {speed: "1.0"}
count: 1.5
count: 2
"""
    )
    found = {(e.line, e.field) for e in errors}
    assert found == {
        (1, "name"),
        (2, "inner.sped"),
        (3, "inner.shape"),
        (5, "items[0].speed"),
        (6, "items[1].speed"),
        (7, "items[2].speed"),
        (8, "count"),
        (9, "count"),
    }
    by_field = {e.field: e for e in errors}
    assert by_field["inner.sped"].remedy == "Did you mean speed?"
    assert by_field["items[0].speed"].allowed == "a number >= 0, <= 2"
    assert by_field["inner.shape"].allowed == "box, cylinder"
    assert str(by_field["items[0].speed"]) == (
        "f.yaml:5: items[0].speed: 3.0 is out of range; allowed a number >= 0, <= 2"
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("- 1\n", "wrong kind"),
        ("a: [1, 2\nb: 3", "not YAML"),
        ("name: !!python/object/apply:os.system [ls]", "not understood"),
        ("name: x\ninner: !thing {speed: 1}", "not understood"),
        ("name: x\ncount: 99999999999999999999", "too large"),
        ("name: x\ncount: true", "wrong kind"),
        ("name: x\n? [a]\n: 1", "plain text"),
        ("name: x\ninner: {speed: .inf}", "finite"),
        ("name: x\ninner: {speed: -.INF}", "finite"),
    ],
)
def test_refusals(text: str, word: str) -> None:
    assert any(word in e.message for e in faults(text))


def test_aliases_that_explode_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 9)]
    assert any(f"more than {NODE_LIMIT}" in e.message for e in faults("\n".join(lines)))


def test_deep_nesting_is_refused() -> None:
    assert faults("name: " + "[" * 100 + "]" * 100)
    assert faults("name: " + "[" * 20000)


def test_a_value_that_holds_itself_is_refused() -> None:
    assert faults("name: &a [*a]\n")


def test_files_that_are_none(tmp_path: Path) -> None:
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"name: x\n\xff\xfe\x00")
    large = tmp_path / "l.yaml"
    large.write_bytes(b"#" * (SIZE_LIMIT + 1))
    for path, word in [
        (binary, "text file"),
        (large, "too large"),
        (tmp_path, "not a file"),
        (tmp_path / "none.yaml", "exist"),
    ]:
        with pytest.raises(FileErrors, match=word):
            load_yaml(path, Outer)


def test_a_later_check_finds_the_line() -> None:
    document = parse_text("name: x\nitems:\n  - speed: 1.0\n", "f.yaml")
    assert document.error(["items", 0, "speed"], "too fast").line == 3
    assert document.error(["items", 4], "missing").line == 2


@given(st.text(alphabet=st.sampled_from("ab:name-[]{}&*!|>'\"#,. \n0159e~?%@"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_model_or_file_errors(text: str) -> None:
    errors: list[FileError] = []
    try:
        parse_text(text).parse(Outer)
    except FileErrors as caught:
        errors = caught.errors
    assert errors or "name" in text
    assert all(0 <= e.line <= text.count("\n") + 2 for e in errors)
