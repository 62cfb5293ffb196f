"""Arguments that the parser of options cannot take apart: people, and settings of a recipe."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from cell.exits import BadInput

PERSON_OPTIONS: dict[str, str] = {"--person-at": "at", "--person-start": "start", "--person-loop": "loop"}


def group_people(arguments: Sequence[str]) -> list[str]:
    """Fold each `--person CLIP --person-at A --person-start S --person-loop` into one `--person` with a JSON value.

    The parser of options forgets which `--person-at` stood behind which `--person`. Raises BadInput.
    """
    result: list[str] = []
    people: dict[int, dict[str, Any]] = {}
    where = -1
    rest = [part for argument in arguments for part in _split(argument)]
    while rest:
        item = rest.pop(0)
        if item == "--person":
            result += ["--person", ""]
            where = len(result) - 1
            people[where] = {"clip": _value(item, rest)}
        elif item in PERSON_OPTIONS and where >= 0:
            people[where][PERSON_OPTIONS[item]] = True if item == "--person-loop" else _value(item, rest)
        else:
            result.append(item)
    for index, found in people.items():
        result[index] = json.dumps(found)
    return result


def _split(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and (name == "--person" or name in PERSON_OPTIONS) else [argument]


def _value(name: str, rest: list[str]) -> str:
    if not rest:
        raise BadInput(f"{name} needs a value")
    return rest.pop(0)


def person_of(text: str) -> Any:
    """Return the PersonOption a folded `--person` stands for. Raises BadInput."""
    from cell.options import PersonOption

    given = json.loads(text)
    values: dict[str, Any] = {"clip": given["clip"], "loop": bool(given.get("loop", False))}
    try:
        if "at" in given:
            x, y, yaw = (float(part) for part in given["at"].split(","))
            values["at"] = (x, y, yaw)
        if "start" in given:
            values["start"] = float(given["start"])
    except ValueError:
        raise BadInput(
            f"--person {given['clip']}: --person-at is x,y,yaw in m, m, degrees; --person-start is s"
        ) from None
    numbers = [*values.get("at", ()), values.get("start", 0.0)]
    if not all(math.isfinite(v) and abs(v) <= 1e4 for v in numbers) or values.get("start", 0.0) < 0.0:
        raise BadInput(f"--person {given['clip']}: numbers must be finite and of sensible size, the start not negative")
    return PersonOption(**values)


def settings_of(texts: Sequence[str]) -> dict[str, str]:
    """Return `NAME=VALUE` texts as a dictionary. Raises BadInput."""
    result: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"--set {text}: write it as name=value")
        if name.strip() in result:
            raise BadInput(f"--set {name.strip()} is given twice")
        result[name.strip()] = value
    return result
