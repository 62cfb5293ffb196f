"""Files people write: YAML into a pydantic model, or every fault of the file at once, each with its line.

`load_yaml(path, model)` is the whole of it for most callers. `read_yaml` keeps the line numbers for checks that come
after the schema (`Document.error`). Nothing of the cell is imported here: every room reads its files through this.

Stricter than YAML on purpose, because a cell file is a safety parameter: repeated keys, unknown keys, numbers written
as text, NaN and infinities are faults, and tags cannot construct anything.
"""

from __future__ import annotations

import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[str | int, ...]

SIZE_LIMIT = 2_000_000
"""Bytes; a cell file has some thousands."""
NODE_LIMIT = 100_000
"""Values after aliases are followed, so that a file of aliases to aliases ends as an error."""
DEPTH_LIMIT = 60
ERROR_LIMIT = 200


@dataclass(frozen=True)
class FileError:
    """One fault in one place."""

    file: str
    line: int
    """From 1; 0 if the fault has no line."""
    field: str
    """Dotted path, such as `cameras[1].mount.position[0]`; empty for the file as a whole."""
    message: str
    allowed: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        head = f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        allowed = f"; allowed {self.allowed}" if self.allowed else ""
        remedy = f". {self.remedy}" if self.remedy else ""
        return head + allowed + remedy


class FileErrors(Exception):
    """Everything that is wrong with a file; `errors` is never empty and runs by line."""

    def __init__(self, errors: Iterable[FileError]) -> None:
        unique = dict.fromkeys(errors)
        self.errors: list[FileError] = sorted(unique, key=lambda e: (e.file, e.line, e.field))[:ERROR_LIMIT]
        super().__init__("\n".join(str(e) for e in self.errors))


def field_name(path: Sequence[str | int]) -> str:
    """Write a path as people do: `a.b[2].c`."""
    text = ""
    for item in path:
        text += f"[{item}]" if isinstance(item, int) else (f".{item}" if text else item)
    return text


class Document:
    """A YAML file as plain data (dict, list, str, int, float, bool, None) that remembers its lines."""

    def __init__(self, file: str, data: Any, lines: dict[Path_, int], faults: dict[Path_, list[FileError]]) -> None:
        self.file = file
        self.data = data
        self._lines = lines
        self._faults = faults

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of `path`, or of its nearest ancestor that is in the file; from 1."""
        for end in range(len(path), -1, -1):
            found = self._lines.get(tuple(path[:end]))
            if found is not None:
                return found
        return 0

    def error(self, path: Sequence[str | int], message: str, allowed: str = "", remedy: str = "") -> FileError:
        """Describe a fault found after the schema, such as an unknown frame."""
        return FileError(self.file, self.line(path), field_name(path), message, allowed, remedy)

    def parse(self, model: type[M]) -> M:
        """Validate as `model`. Raises FileErrors with every fault."""
        errors = [error for found in self._faults.values() for error in found]
        try:
            result = self.validate(model, self.data)
        except FileErrors as caught:
            raise FileErrors(errors + caught.errors) from None
        if errors:
            raise FileErrors(errors)
        return result

    def validate(self, model: type[M], data: Any, at: Sequence[str | int] = ()) -> M:
        """Validate `data`, made from the block at path `at` with its references filled in. Raises FileErrors."""
        try:
            # JSON mode is what makes strict usable: an array is a tuple, an integer is a float, a text is no number.
            return model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as caught:
            raise FileErrors(self._translate(caught, model, data, tuple(at))) from None

    def _translate(self, caught: ValidationError, model: type[BaseModel], data: Any, at: Path_) -> Iterator[FileError]:
        seen: set[tuple[Path_, bool]] = set()
        for item in caught.errors(include_url=False):
            kind = str(item["type"])
            missing = kind == "missing"
            loc: tuple[str | int, ...] = item["loc"]
            path = _real_path(data, loc, keep_last=missing)
            # A union reports the same value once per member; the first member is the one meant.
            if (path, missing) in seen:
                continue
            seen.add((path, missing))
            if at + path in self._faults and item["input"] is None:
                continue
            types_here = list(_annotations_at(model, path))
            if kind == "extra_forbidden":
                names = sorted(_known_fields(_annotations_at(model, path[:-1])))
                yield self.error(at + path, "unknown key", ", ".join(names), _nearest(str((path or loc)[-1]), names))
            elif missing:
                yield self.error(at + path, "is missing", _range(types_here))
            else:
                yield self.error(at + path, *_describe(kind, item, [] if "[key]" in loc else types_here))


def load_yaml(path: str | Path, model: type[M]) -> M:
    """Read `path` as `model`. Raises FileErrors with every fault of the file, each with line and allowed values."""
    return read_yaml(path).parse(model)


def read_yaml(path: str | Path) -> Document:
    """Read `path` into plain data. Raises FileErrors: missing, too large, not text, not YAML.

    Repeated keys, NaN and foreign tags are kept and reported by `Document.parse` together with what the schema finds.
    """
    file = str(path)
    return parse_text(_read_text(Path(path), file), file)


def parse_text(text: str, file: str = "<text>") -> Document:
    """Read YAML text as `read_yaml` does; `file` is the name used in errors."""
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise FileErrors([FileError(file, line, "", f"not YAML: {what}")]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise FileErrors([FileError(file, 0, "", f"not YAML: {error}")]) from None
    if root is None:
        raise FileErrors([FileError(file, 1, "", "the file is empty")])
    builder = _Builder(file)
    data = builder.build(root, ())
    return Document(file, data, builder.lines, builder.faults)


def _read_text(path: Path, file: str) -> str:
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise FileErrors([FileError(file, 0, "", what, remedy="Check the path")])
        with path.open("rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise FileErrors([FileError(file, 0, "", f"cannot be read: {error.strerror}")]) from None
    if len(raw) > SIZE_LIMIT:
        raise FileErrors([FileError(file, 0, "", "the file is too large", f"at most {SIZE_LIMIT} bytes")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FileErrors([FileError(file, line, "", "is not a text file in UTF-8")]) from None


_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _TooMuch(Exception):
    """The file unfolds into more than the limits admit."""


class _Builder:
    """Turns composed nodes into plain data, and collects lines and faults on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Path_, int] = {}
        self.faults: dict[Path_, list[FileError]] = {}
        self._count = 0

    def build(self, root: Node, path: Path_) -> Any:
        try:
            return self._value(root, path, 0)
        except _TooMuch as error:
            self._fault(root, path, str(error))
            return None

    def _fault(self, node: Node, path: Path_, message: str, allowed: str = "", remedy: str = "") -> None:
        line = node.start_mark.line + 1
        error = FileError(self.file, line, field_name(path), message, allowed, remedy)
        self.faults.setdefault(path, []).append(error)

    def _value(self, node: Node, path: Path_, depth: int) -> Any:
        self._count += 1
        if self._count > NODE_LIMIT:
            raise _TooMuch(f"the file holds more than {NODE_LIMIT} values")
        if depth > DEPTH_LIMIT:
            raise _TooMuch(f"values lie more than {DEPTH_LIMIT} levels deep")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if not isinstance(node, ScalarNode) and str(node.tag) not in _PLAIN:
            self._fault(node, path, f"tag {node.tag} is not understood", remedy="Write plain values")
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            return [self._value(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path_, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._fault(key_node, path, "a key must be plain text")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in result:
                self._fault(key_node, here, f"is given twice, first in line {self.lines[here]}")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            result[key] = self._value(value_node, here, depth + 1)
        return result

    def _scalar(self, node: Node, path: Path_) -> Any:
        tag = str(node.tag).removeprefix("tag:yaml.org,2002:")
        text = str(node.value)
        if tag == "str" or tag == "timestamp":
            return text
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        if tag == "int":
            return self._integer(node, text, path)
        if tag == "float":
            return self._float(node, text, path)
        self._fault(node, path, f"tag {tag} is not understood", remedy="Write a plain value")
        return None

    def _integer(self, node: Node, text: str, path: Path_) -> int | None:
        digits = text.replace("_", "")
        try:
            value = int(digits, 0) if digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else int(digits, 10)
        except ValueError:
            self._fault(node, path, f"{text!r} is not a whole number")
            return None
        if abs(value) >= 2**63:
            self._fault(node, path, "the number is too large")
            return None
        return value

    def _float(self, node: Node, text: str, path: Path_) -> float | None:
        try:
            value = float(text.replace("_", "").replace(".inf", "inf").replace(".Inf", "inf").replace(".nan", "nan"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._fault(node, path, f"{text} is not a finite number", "a finite number")
            return None
        return value


def _real_path(data: Any, loc: Sequence[str | int], keep_last: bool) -> Path_:
    """Drop the parts of a pydantic location that name union members and validators, not places in the file."""
    path: list[str | int] = []
    here = data
    for i, item in enumerate(loc):
        if (isinstance(here, dict) and item in here) or (
            isinstance(here, list) and isinstance(item, int) and 0 <= item < len(here)
        ):
            path.append(item)
            here = here[item]  # type: ignore[index]  # the test above pairs key and container
        elif keep_last and i == len(loc) - 1:
            path.append(item)
    return tuple(path)


def _flatten(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the members of a possibly annotated, possibly united type, each with its constraints."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner, *more = typing.get_args(annotation)
        yield from _flatten(inner, metadata + tuple(more))
    elif origin is typing.Union or origin is types.UnionType:
        for member in typing.get_args(annotation):
            yield from _flatten(member, metadata)
    else:
        yield annotation, metadata


def _annotations_at(model: type[BaseModel], path: Sequence[str | int]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the types (with constraints) that `model` admits at `path`; nothing if the path leads out of it."""
    here: list[tuple[Any, tuple[Any, ...]]] = [(model, ())]
    for item in path:
        following: list[tuple[Any, tuple[Any, ...]]] = []
        for annotation, _ in here:
            following.extend(_step_into(annotation, item))
        here = following
    yield from here


def _step_into(annotation: Any, item: str | int) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = _fields(annotation).get(str(item))
        if found is not None:
            yield from _flatten(found.annotation, tuple(found.metadata))
    elif origin in (list, set, frozenset) and args:
        yield from _flatten(args[0])
    elif origin is dict and len(args) == 2:
        yield from _flatten(args[1])
    elif origin is tuple and args and isinstance(item, int):
        if args[-1] is Ellipsis:
            yield from _flatten(args[0])
        elif item < len(args):
            yield from _flatten(args[item])


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {(field.alias or name): field for name, field in model.model_fields.items()}


def _known_fields(annotations: Iterable[tuple[Any, tuple[Any, ...]]]) -> set[str]:
    names: set[str] = set()
    for annotation, _ in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names.update(_fields(annotation))
    return names


def _nearest(word: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else ""


_WORDS: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    str: "text",
    bool: "true or false",
    type(None): "nothing",
    Path: "a path",
}


def _range(annotations: Sequence[tuple[Any, tuple[Any, ...]]]) -> str:
    """Say in words what a value may be."""
    texts: list[str] = []
    for annotation, metadata in annotations:
        origin = typing.get_origin(annotation)
        if origin is typing.Literal:
            text = " | ".join(str(value) for value in typing.get_args(annotation))
        elif origin is tuple:
            text = f"a list of {len(typing.get_args(annotation))} values"
        elif origin in (list, set, frozenset):
            text = "a list"
        elif origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            text = "a block of keys"
        else:
            text = _WORDS.get(annotation, "")
        bounds = _bounds(metadata)
        if text or bounds:
            texts.append(" ".join(part for part in (text, bounds) if part))
    return " or ".join(dict.fromkeys(texts))


def _bounds(metadata: Sequence[Any]) -> str:
    found: dict[str, Any] = {}
    for item in metadata:
        holders = item.metadata if isinstance(item, FieldInfo) else [item]
        for holder in holders:
            for name in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern"):
                value = getattr(holder, name, None)
                if value is not None:
                    found[name] = value
    parts = []
    for name, words in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        if name in found:
            parts.append(f"{words} {found[name]:g}")
    if "min_length" in found:
        parts.append(f"at least {found['min_length']} long")
    if "max_length" in found:
        parts.append(f"at most {found['max_length']} long")
    if "pattern" in found:
        parts.append(f"matching {found['pattern']}")
    return ", ".join(parts)


def _describe(kind: str, item: Any, annotations: Sequence[tuple[Any, tuple[Any, ...]]]) -> tuple[str, str, str]:
    """Message, allowed values and remedy of one pydantic error that is neither a missing nor an unknown key."""
    given = item.get("input")
    shown = json.dumps(given) if isinstance(given, (str, int, float, bool, type(None))) else f"a {_shape(given)}"
    if len(shown) > 60:
        shown = shown[:57] + "..."
    allowed = _range(annotations)
    if kind in ("value_error", "assertion_error"):
        return str(item["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, "), "", ""
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        expected = item.get("ctx", {})
        choices = str(expected.get("expected") or expected.get("expected_tags") or allowed)
        names = [name.strip(" '\"") for name in choices.replace(" or ", ",").split(",")]
        return f"{shown} is not one of the choices", ", ".join(names), _nearest(str(given), names)
    if kind.endswith(("_type", "_parsing")) or kind in ("int_from_float", "finite_number"):
        return f"{shown} is of the wrong kind", allowed, ""
    if kind.startswith(("greater_than", "less_than")):
        return f"{shown} is out of range", allowed, ""
    return f"{shown}: {item['msg']}", allowed, ""


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return "block of keys"
    return "list" if isinstance(value, list) else type(value).__name__
