"""Writes docs/protocol.md from the message structs: `python scripts/protocol.py` (or `--check`)."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

import msgspec

from cell.bus.messages import PROTOCOL_VERSION

MODULES = ("cell.bus.messages", "robots.contract", "perception.contract", "safety.contract", "cell.contract")
TARGET = Path(__file__).parents[1] / "docs" / "protocol.md"

HEAD = f"""# Messages

Generated from the message structs by `scripts/protocol.py`; do not edit. Protocol version {PROTOCOL_VERSION}.

All messages are msgspec structs in msgpack, SI units, base frame unless stated. Patterns:

* **Newest value** (state, observations, leases): PUB/SUB with CONFLATE set before connect, one frame, wrapped in
  `Envelope`. Topic `x` is bound at `ipc://RUN/bus/t-x`; whoever records every message follows
  `ipc://RUN/bus/a-x`, which keeps 1024 and never holds the sender up.
* **Requests**: DEALER/ROUTER, frames *id, session, body*. The answer is a `Reply`: `rejected` with a reason, or
  `accepted` and later `done` or `failed`. Service `x` is bound at `ipc://RUN/bus/s-x`.
* **Events**: PUB/SUB without CONFLATE, one `Event` a frame, numbered per source and boot so that gaps are known. Source
  `x` is bound at `ipc://RUN/bus/e-x`.

Endpoints beyond this machine are refused unless CURVE keys with an allow-list are given. Decoders accept exactly the
types below; anything else is dropped and counted, or answered with `rejected`.
"""


def field_docs(tree: ast.Module) -> dict[str, dict[str, str]]:
    """Return class -> field -> docstring for all classes of a module."""
    docs: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            of_class = docs.setdefault(node.name, {})
            for field, text in zip(node.body, node.body[1:], strict=False):
                named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                if named and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    of_class[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[union-attr]
    return docs


def annotations(tree: ast.Module) -> dict[str, dict[str, str]]:
    """Return class -> field -> annotation as written."""
    return {
        node.name: {
            field.target.id: ast.unparse(field.annotation)
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def document(name: str) -> str:
    """Return the section of one module."""
    module = importlib.import_module(name)
    tree = ast.parse(inspect.getsource(module))
    docs, types = field_docs(tree), annotations(tree)
    lines = [f"## `{name}`", ""]
    for class_name, fields in types.items():
        kind = getattr(module, class_name)
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            continue
        tag = kind.__struct_config__.tag
        lines += [f"### {class_name}" + (f" (tag `{tag}`)" if tag else ""), "", inspect.getdoc(kind) or "", ""]
        if fields:
            lines += ["| field | type | meaning |", "|---|---|---|"]
        for field, annotation in fields.items():
            text = docs.get(class_name, {}).get(field, "").replace("|", "\\|")
            lines.append(f"| `{field}` | `{annotation.replace('|', chr(92) + '|')}` | {text} |")
        lines.append("")
    return "\n".join(lines)


def generate() -> str:
    """Return the whole page."""
    return HEAD + "\n" + "\n".join(document(name) for name in MODULES).rstrip() + "\n"


if __name__ == "__main__":
    page = generate()
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == page else "docs/protocol.md is out of date: run scripts/protocol.py")
    TARGET.write_text(page)
