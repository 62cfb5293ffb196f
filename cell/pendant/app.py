"""The pendant's application: routers, error shapes, static files, the door in front."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from cell.pendant import commands, history, jog, people, recipes, runs, safety_pages, teach, telemetry, watching
from cell.pendant.docs import docs_page, docs_style
from cell.pendant.errors import ApiError
from cell.pendant.guard import App, Guard
from cell.pendant.pendant import Pendant
from cell.pendant.roles import BASE, permits, rule_for

HOSTS = ("127.0.0.1", "localhost", "[::1]")
NOT_BUILT = """<!doctype html><html lang="en"><title>Pendant</title><h1>The page has not been built</h1>
<p>Run <code>make setup</code>. The API is at <a href="/docs">/docs</a>.</p></html>"""


def static_folder() -> Path:
    """Where the built page lies."""
    return Path(str(resources.files("cell.pendant"))) / "static"


def create_app(pendant: Pendant, static: Path | None = None, pump: bool = True) -> App:
    """Return the application behind its door. `pump`: look at the topics by itself (tests do it by hand)."""

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            if pump:
                group.start_soon(pendant.pump.run)
            yield
            group.cancel_scope.cancel()

    api = FastAPI(
        title="Pendant of a collaborative cell",
        version=version("collabcell"),
        description="Commands, recipes, runs, alarms, teaching and safety of one cell. docs/pendant/api.md explains.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=life,
        redirect_slashes=False,
    )
    _errors(api)
    for make in ROUTERS:
        api.include_router(make(pendant), prefix=BASE)
    _document(api)
    _pages(api, static or static_folder())
    return Guard(api, pendant, HOSTS)


ROUTERS: tuple[Callable[[Pendant], APIRouter], ...] = (
    people.session_routes,
    people.user_routes,
    people.control_routes,
    commands.router,
    recipes.router,
    teach.router,
    jog.router,
    watching.router,
    history.router,
    runs.router,
    safety_pages.router,
    telemetry.router,
)


def _errors(api: FastAPI) -> None:
    @api.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status)

    @api.exception_handler(RequestValidationError)
    async def body_error(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            {"field": ".".join(str(p) for p in item["loc"][1:]), "message": str(item["msg"])} for item in error.errors()
        ]
        first = faults[0] if faults else {"field": "", "message": "the request cannot be read"}
        body = ApiError(422, "invalid", first["message"], first["field"], errors=faults).body
        return JSONResponse(body, 422)

    @api.exception_handler(ValidationError)
    async def value_error(_: Request, error: ValidationError) -> JSONResponse:
        return JSONResponse(commands.faults_of(error).body, 422)

    @api.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "not_found"}.get(error.status_code, "invalid")
        return JSONResponse(ApiError(error.status_code, code, str(error.detail)).body, error.status_code)


ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "field", "allowed", "remedy"],
            "properties": {name: {"type": "string"} for name in ("code", "message", "field", "allowed", "remedy")},
        }
    },
}


def _document(api: FastAPI) -> None:
    """Every endpoint's description says which role it is for and which errors it knows."""
    make = api.openapi

    def described() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = make()
            schema["components"].setdefault("schemas", {})["Error"] = ERROR_SCHEMA
            schema["components"]["securitySchemes"] = {
                "session": {"type": "apiKey", "in": "cookie", "name": "cell_session"}
            }
            for path, methods in schema["paths"].items():
                for method, one in methods.items():
                    _describe(one, method.upper(), path)
            api.openapi_schema = schema
        return api.openapi_schema

    api.openapi = described  # type: ignore[method-assign]


def _describe(one: dict[str, Any], method: str, path: str) -> None:
    rule = rule_for(method, path.replace("{", "").replace("}", ""))
    if rule is None:
        return
    roles = [role for role in ("viewer", "operator", "programmer", "safety_engineer", "admin")
             if permits(role, rule.least)]  # fmt: skip
    for_whom = "anybody, also without login" if rule.least == "anybody" else ", ".join(roles)
    one["description"] = f"{one.get('description', '')}\n\nRoles: {for_whom}.".strip()
    if rule.least != "anybody":
        one["security"] = [{"session": []}]
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    texts = {
        "401": "nobody is logged in", "403": "role, csrf, origin, not_in_control or locked", "404": "there is no such",
        "409": "refused, with the reason", "413": "too large", "422": "invalid", "429": "too many", "503": "silent",
    }  # fmt: skip
    for status, text in texts.items():
        one["responses"][status] = {"description": text, "content": content}


def _pages(api: FastAPI, static: Path) -> None:
    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(api.openapi()))

    @api.get("/docs.css", include_in_schema=False)
    async def style() -> Response:
        return Response(docs_style(), media_type="text/css")

    @api.get("/", include_in_schema=False, response_model=None)
    async def index() -> Response:
        page = static / "index.html"
        if not page.is_file():
            return HTMLResponse(NOT_BUILT, 503)
        return FileResponse(page, headers={"cache-control": "no-cache"})

    if static.is_dir():
        api.mount("/", StaticFiles(directory=static), name="static")
