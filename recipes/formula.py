"""The formula: declared parameters, given values, and `${references}` filled in."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from cell.yamlfile import Document, FileError
from recipes.schema import Parameter, Recipe, Reference, Value

Formula = dict[str, Value | list[Value]]


def check_declarations(recipe: Recipe, document: Document) -> Iterator[FileError]:
    """Yield what is wrong with the declarations themselves: a default outside its own range, min above max."""
    for name, parameter in recipe.parameters.items():
        at = ("parameters", name)
        if parameter.min is not None and parameter.max is not None and parameter.min > parameter.max:
            yield document.error((*at, "min"), f"min {parameter.min:g} is above max {parameter.max:g}")
        if name in ("index",):
            yield document.error(at, "is the name of the loop counter", remedy="Choose another name")
        fault = fault_of(parameter, parameter.default)
        if fault:
            yield document.error((*at, "default"), fault, allowed_of(parameter))


def allowed_of(parameter: Parameter) -> str:
    """Say in words what the parameter may be."""
    bounds = []
    if parameter.min is not None:
        bounds.append(f">= {parameter.min:g}")
    if parameter.max is not None:
        bounds.append(f"<= {parameter.max:g}")
    text = {"number": "a number", "integer": "a whole number", "text": "text", "boolean": "true or false"}
    head = text.get(parameter.type, "a list of")
    if parameter.choices is not None:
        head = f"{head} {' | '.join(parameter.choices)}" if parameter.type == "list" else " | ".join(parameter.choices)
    tail = (" items " if parameter.type == "list" else " ") + ", ".join(bounds) if bounds else ""
    return head + tail + (f" {parameter.unit}" if parameter.unit else "")


def fault_of(parameter: Parameter, value: Any) -> str:
    """Say what is wrong with a value, or return an empty text."""
    kind = parameter.type
    if kind == "list":
        if not isinstance(value, list):
            return f"{value!r} is not a list"
        for item in value:
            if parameter.choices is not None and item not in parameter.choices:
                return f"{item!r} is not one of the choices{_nearest(str(item), parameter.choices)}"
        return _outside(parameter, len(value), f"{len(value)} items are")
    if kind == "boolean":
        return "" if isinstance(value, bool) else f"{value!r} is not true or false"
    if kind == "text":
        if not isinstance(value, str):
            return f"{value!r} is not text"
        if parameter.choices is not None and value not in parameter.choices:
            return f"{value!r} is not one of the choices{_nearest(value, parameter.choices)}"
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return f"{value!r} is not a number"
    if kind == "integer" and not isinstance(value, int):
        return f"{value!r} is not a whole number"
    return _outside(parameter, value, f"{value!r} is")


def _outside(parameter: Parameter, value: float, subject: str) -> str:
    low = parameter.min if parameter.min is not None else float("-inf")
    high = parameter.max if parameter.max is not None else float("inf")
    # Written so that a NaN is outside.
    return "" if low <= value <= high else f"{subject} out of range"


def _nearest(word: str, names: list[str]) -> str:
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def parse_settings(recipe: Recipe, settings: Mapping[str, Any]) -> tuple[Formula, list[FileError]]:
    """Return defaults overlaid with `--set name=value` texts or ready values, and what is wrong with them."""
    formula: Formula = {name: parameter.default for name, parameter in recipe.parameters.items()}
    errors = []
    for name, text in settings.items():
        parameter = recipe.parameters.get(name)
        field = f"--set {name}"
        if parameter is None:
            names = ", ".join(recipe.parameters) or "none"
            remedy = _nearest(name, list(recipe.parameters)).strip(" ()")
            errors.append(FileError("command line", 0, field, "unknown parameter", names, remedy))
            continue
        value = _parse(parameter, text) if isinstance(text, str) else text
        fault = fault_of(parameter, value)
        if fault:
            errors.append(FileError("command line", 0, field, fault, allowed_of(parameter)))
        else:
            formula[name] = value
    return formula, errors


def _parse(parameter: Parameter, text: str) -> Value | list[Value]:
    """Read a typed text; what cannot be read stays text and fails the check."""
    text = text.strip()
    if parameter.type == "list":
        return [item.strip() for item in text.strip("[]").split(",") if item.strip()]
    if parameter.type == "boolean":
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)
    if parameter.type == "text":
        return text
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def fill(value: Any, variables: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return `value` with references filled in, and the names of unknown references.

    A text that is nothing but one reference takes the variable's own type; inside a longer text it is written out.
    """
    unknown: list[str] = []

    def walk(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: walk(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [walk(inner) for inner in item]
        if not isinstance(item, str):
            return item
        whole = Reference.fullmatch(item)
        if whole is not None and whole[1] in variables:
            return variables[whole[1]]
        unknown.extend(name for name in Reference.findall(item) if name not in variables)
        return Reference.sub(lambda m: str(variables.get(m[1], m[0])), item)

    return walk(value), unknown
