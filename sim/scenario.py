"""Scenario files: who comes into the cell and what they do."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sim.config import ClipPlacement, Person, Scenario, valid_scenario_name

SCENARIOS = Path(__file__).parent / "scenarios"
EMPTY = Scenario(scenario="none")


class ScenarioError(Exception):
    """A scenario that cannot run; the text lists every problem."""


def library() -> list[str]:
    """Names of the packaged scenarios, `none` among them."""
    return sorted({"none", *(path.stem for path in SCENARIOS.glob("*.yaml"))})


def load_scenario(source: str | Path | Mapping[str, Any] | Scenario | None) -> Scenario:
    """Load a scenario by name, path or contents; None and `none` are the empty cell.

    Raises ScenarioError, or the file errors of `cell.yamlfile`, with all problems at once.
    """
    if source is None or source == "none":
        return EMPTY
    if isinstance(source, Scenario):
        return source
    if isinstance(source, Mapping):
        return _validate(dict(source), "scenario")
    path = _find(source)
    yamlfile = _yamlfile()
    if yamlfile is not None:
        loaded: Scenario = yamlfile.load_yaml(path, Scenario)
        return loaded
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    return _validate(content, str(path))


def _yamlfile() -> Any:
    """The cell's reader with line numbers, where it is installed."""
    try:
        return importlib.import_module("cell.yamlfile")
    except ModuleNotFoundError:
        return None


def _find(source: str | Path) -> Path:
    text = str(source)
    if valid_scenario_name(text):
        path = SCENARIOS / f"{text}.yaml"
        if path.is_file():
            return path
    path = Path(text)
    if not path.is_file():
        raise ScenarioError(f"there is no scenario {text!r}: neither a file nor one of {', '.join(library())}")
    return path


def _validate(content: Any, where: str) -> Scenario:
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        lines = [f"{where}: {'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise ScenarioError("\n".join(lines)) from error


def scenario_of_clips(placements: list[ClipPlacement], seed: int = 1) -> Scenario:
    """The scenario that the command line's `--person` options describe."""
    people = [Person(name=f"person_{i + 1}", mocap=placement) for i, placement in enumerate(placements)]
    return Scenario(scenario="persons", seed=seed, people=people)
