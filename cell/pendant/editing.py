"""Changes to a recipe's text that keep its comments and layout."""

from __future__ import annotations

import io
import json
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cell.yamlfile import FileErrors, parse_text


class EditError(Exception):
    """A change that cannot be made; `field` names what is wrong."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def insert_step(text: str, after_step: int, step: dict[str, Any]) -> str:
    """Return the recipe with one more phase behind phase `after_step` as they are written (0: before the first).

    Behind the last phase of a repeated operation it becomes an operation of its own, so that it is not repeated.
    Raises EditError.
    """
    try:
        json.dumps(step, allow_nan=False)
        parse_text(text)
    except (ValueError, TypeError):
        raise EditError("step", "a step holds plain values") from None
    except FileErrors as caught:
        raise EditError("text", str(caught.errors[0])) from None
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        data = yaml.load(text)
        operations = data["operations"]
        _place(operations, after_step, step)
    except (YAMLError, KeyError, TypeError, AttributeError) as error:
        raise EditError("text", f"the recipe has no list of operations with phases: {error}") from None
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def _place(operations: Any, after_step: int, step: dict[str, Any]) -> None:
    if after_step == 0:
        operations[0]["phases"].insert(0, step)
        return
    count = 0
    for i, operation in enumerate(operations):
        phases = operation["phases"]
        if after_step <= count + len(phases):
            place = after_step - count
            if "for_each" in operation and place == len(phases):
                names = {one["operation"] for one in operations}
                number = next(n for n in range(1, 1000) if f"step_{n}" not in names)
                operations.insert(i + 1, {"operation": f"step_{number}", "phases": [step]})
            else:
                phases.insert(place, step)
            return
        count += len(phases)
    raise EditError("after_step", f"the recipe has {count} steps")
