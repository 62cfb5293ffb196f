"""Writes what was identified into a cell file: every other character of it stays as it is, comments and all. Pure.

The file's own parser says where a value begins and ends; the text between is replaced or extended. The result is parsed
again and must differ from what there was in exactly what was to be written, or nothing is.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

WIDTH = 110
INDENT = 2


class NotWritten(ValueError):
    """A file whose text cannot be changed safely; the text says what to write by hand."""


def with_identified(text: str, identified: Mapping[str, Any], drive_delay: float | None) -> str:
    """Return a cell file's text with `robot.identified`, and with `robot.options.drive_delay` unless None.

    Raises NotWritten."""
    before = _data(text)
    wanted = copy.deepcopy(before)
    try:
        wanted["robot"]["identified"] = dict(identified)
        out = _set(text, ("robot",), "identified", _flow(identified))
        if drive_delay is not None:
            if isinstance(wanted["robot"].get("options"), dict):
                out = _set(out, ("robot", "options"), "drive_delay", json.dumps(drive_delay))
                wanted["robot"]["options"]["drive_delay"] = drive_delay
            else:
                out = _set(out, ("robot",), "options", f"{{drive_delay: {json.dumps(drive_delay)}}}")
                wanted["robot"]["options"] = {"drive_delay": drive_delay}
    except (KeyError, TypeError, AttributeError) as error:
        raise NotWritten(f"the file has no robot block of the usual form ({error})") from error
    if _data(out) != wanted:
        raise NotWritten(f"write it by hand below robot: identified: {_flow(identified)}")
    return out


def _data(text: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise NotWritten(f"not YAML: {error}") from error


def _flow(values: Mapping[str, Any]) -> str:
    """A block of keys on one line or several, each short enough to be read."""
    parts = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    lines, line = [], ""
    for part in parts:
        if line and len(line) + len(part) + 2 > WIDTH:
            lines.append(line)
            line = ""
        line += (", " if line else "") + part
    lines.append(line)
    return "{" + ",\n".join(lines) + "}"


def _set(text: str, path: tuple[str, ...], key: str, value: str) -> str:
    """Replace the value of `key` in the mapping at `path`, or add it at the mapping's end."""
    root = YAML(typ="safe", pure=True).compose(text)
    node = _at(root, path)
    old = _entry(node, key)
    ending = "\r\n" if "\r\n" in text else "\n"
    if old is not None:
        begin, end = old[1].start_mark.index, _end(old[1])
        indent = old[0].start_mark.column
        return (
            text[:begin]
            + (_one_line(value) if node.flow_style else _indented(value, indent).replace("\n", ending))
            + text[end:]
        )
    if node.flow_style:
        close = node.end_mark.index - 1
        comma = ", " if node.value else ""
        return text[:close].rstrip(" ") + f"{comma}{key}: {_one_line(value)}" + text[close:]
    column = node.value[0][0].start_mark.column
    last = _end(node)
    line_end = text.find("\n", last)
    head, tail = (text, "") if line_end < 0 else (text[: line_end + 1], text[line_end + 1 :])
    if not head.endswith("\n"):
        head += ending
    return head + " " * column + f"{key}: {_indented(value, column)}".replace("\n", ending) + ending + tail


def _at(root: Node, path: tuple[str, ...]) -> MappingNode:
    node: Node = root
    for key in path:
        if not isinstance(node, MappingNode):
            raise NotWritten(f"{key} is no block of keys")
        entry = _entry(node, key)
        if entry is None:
            raise NotWritten(f"there is no {key}")
        node = entry[1]
    if not isinstance(node, MappingNode) or not (node.value or node.flow_style):
        raise NotWritten(f"{path[-1]} is no block of keys")
    return node


def _entry(node: MappingNode, key: str) -> tuple[Node, Node] | None:
    return next(((k, v) for k, v in node.value if isinstance(k, ScalarNode) and k.value == key), None)


def _end(node: Node) -> int:
    """Where the text of a node ends: a block's own mark lies beyond the comments that follow it."""
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _indented(value: str, column: int) -> str:
    return value.replace("\n", "\n" + " " * (column + INDENT))


def _one_line(value: str) -> str:
    return value.replace("\n", " ")
