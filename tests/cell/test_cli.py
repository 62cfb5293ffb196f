"""The command line: arguments that belong together, exit codes, one clear line for each fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.bus.ports import BusError
from cell.cli import BAD_INPUT, FAILED, OK, BadInput, group_people, guarded, main, person_of, settings_of
from cell.options import PersonOption
from cell.yamlfile import FileError, FileErrors

ROOT = Path(__file__).parents[2]


def test_people_keep_what_stands_behind_them() -> None:
    first = ["--person", "a.bvh", "--person-at", "1,2,90", "--person-loop", "--seed", "3", "--person-start=4"]
    second = ["--person", "walk", "--json", "out.json", "--person-at=-0.5,0,180"]
    folded = group_people(["run", "kitting", *first, *second])
    assert folded[:2] == ["run", "kitting"]
    assert folded.count("--person") == 2
    people = [person_of(folded[i + 1]) for i, item in enumerate(folded) if item == "--person"]
    assert people == [
        PersonOption("a.bvh", (1.0, 2.0, 90.0), 4.0, True),
        PersonOption("walk", (-0.5, 0.0, 180.0), 0.0, False),
    ]
    assert folded[4:6] == ["--seed", "3"]
    assert "--json" in folded


@pytest.mark.parametrize(
    "words",
    [
        "--person",
        "--person a --person-at",
        "--person a --person-at 1,2",
        "--person a --person-at 1,2,nan",
        "--person a --person-at x,y,z",
        "--person a --person-start -1",
        "--person a --person-start inf",
        "--person a --person-at 1e9,0,0",
    ],
)
def test_bad_people(words: str) -> None:
    with pytest.raises(BadInput):
        [person_of(item) for item in group_people(words.split()) if item.startswith("{")]


@given(st.lists(st.sampled_from(["run", "--person", "--person-at", "x", "--seed", "1", "--person-loop", "--a=b"])))
def test_other_arguments_pass_unchanged(arguments: list[str]) -> None:
    if "--person" not in arguments:
        assert group_people(arguments) == arguments


def test_settings() -> None:
    assert settings_of(["a=1", "b = x=y"]) == {"a": "1", "b": " x=y"}
    for texts in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(BadInput):
            settings_of(texts)


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> int:
        raise error

    assert guarded(lambda: OK) == OK
    assert guarded(lambda: fail(KeyboardInterrupt())) == FAILED
    assert guarded(lambda: fail(BadInput("--set a: write it as name=value"))) == BAD_INPUT
    assert guarded(lambda: fail(BusError("port in use: stop the other cell"))) == BAD_INPUT
    assert guarded(lambda: fail(FileErrors([FileError("f.yaml", 3, "a", "is wrong")]))) == BAD_INPUT
    shown = capsys.readouterr().err
    assert "f.yaml:3: a: is wrong" in shown
    assert "Traceback" not in shown
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "no_such_recipe"], "kitting"),
        (["check", "kitting", "--set", "varieties=gold"], "not one of the choices"),
        (["check", "kitting", "--set", "colour=red"], "unknown parameter"),
        (["check", "kitting", "--cell", "nowhere.yaml"], "does not exist"),
        (["run", "kitting", "--person-at", "1,2,3"], "behind the --person"),
        (["run", "kitting", "--perception", "magic"], "neither rendered nor surface"),
        (["run", "kitting", "--set", "varieties=gold"], "not one of the choices"),
        (["run", "kitting", "--batch", "0"], "batch"),
        (["run"], "RECIPE"),
        (["frobnicate"], "frobnicate"),
        (["replay", "no_such_run"], "does not exist"),
    ],
)
def test_bad_input_ends_with_2_and_says_why(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == BAD_INPUT
    out = capsys.readouterr()
    assert words in (out.out + out.err).replace("\n", " ")
    assert not (tmp_path / "runs").exists()


def test_check_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", str(ROOT / "tests/recipes/data/seven_defects.yaml"), "--json"])
    assert caught.value.code == BAD_INPUT
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is False
    assert [p["line"] for p in result["problems"]] == [6, 10, 11, 12, 13, 14, 15]
    with pytest.raises(SystemExit) as caught:
        main(["check", "kitting", "--json", "--set", "varieties=cube_red"])
    assert caught.value.code == OK
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is True
    assert result["predicted_cycle_s"] == pytest.approx(sum(p["seconds"] for p in result["phases"]), abs=0.01)


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, cell.cli\n"
        "try: cell.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy','pinocchio','pybullet','pydantic','zmq','matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "cell doctor" in done.stdout
