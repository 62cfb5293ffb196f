"""The API's documentation as one plain page: no script, nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any


def docs_style() -> str:
    """Style sheet of the page."""
    return """body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;
background:#fff}h2{margin-top:2.5rem}section{border-top:1px solid #bbb;padding:.5rem 0}code,pre{font-family:monospace;
background:#f2f2f2;padding:.1rem .3rem}pre{overflow:auto;padding:.6rem}.method{display:inline-block;min-width:4.5rem;
font-weight:700}@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}code,pre{background:#2a2a2a}}"""


def docs_page(schema: dict[str, Any]) -> str:
    """Return the page for an OpenAPI description."""
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, one in methods.items():
            tag = (one.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_section(path, method, one, schema))
    title = html.escape(schema["info"]["title"])
    parts = [f"<h2>{html.escape(tag.capitalize())}</h2>{''.join(sections)}" for tag, sections in groups.items()]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs.css"></head><body>'
        f"<h1>{title} {html.escape(schema['info']['version'])}</h1><p>{html.escape(schema['info']['description'])}</p>"
        '<p>Machine-readable: <a href="/openapi.json">openapi.json</a>. Sockets: <code>/api/v1/telemetry</code>, '
        "<code>/api/v1/command</code>, <code>/api/v1/jog</code>.</p>"
        f"{''.join(parts)}</body></html>"
    )


def _section(path: str, method: str, one: dict[str, Any], schema: dict[str, Any]) -> str:
    text = html.escape(one.get("description", "")).replace("\n\n", "<br>")
    body = ""
    content = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if content is not None:
        shown = _resolve(content, schema, 0)
        body = f"<details><summary>Body</summary><pre>{html.escape(json.dumps(shown, indent=2))}</pre></details>"
    names = [f"<code>{html.escape(p['name'])}</code> ({html.escape(p['in'])})" for p in one.get("parameters", [])]
    parameters = f"<p>Parameters: {', '.join(names)}</p>" if names else ""
    head = f'<span class="method">{method.upper()}</span> <code>{html.escape(path)}</code>'
    return f"<section><h3>{head}</h3><p>{text}</p>{parameters}{body}</section>"


def _resolve(value: Any, schema: dict[str, Any], depth: int) -> Any:
    """Follow references, a few levels deep."""
    if depth > 6:
        return "..."
    if isinstance(value, dict):
        if "$ref" in value:
            return _resolve(schema["components"]["schemas"][value["$ref"].rpartition("/")[2]], schema, depth + 1)
        return {k: _resolve(v, schema, depth) for k, v in value.items() if k not in ("title", "discriminator")}
    if isinstance(value, list):
        return [_resolve(item, schema, depth) for item in value]
    return value
