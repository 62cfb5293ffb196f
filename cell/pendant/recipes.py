"""Recipes as people see them: the cell's library, own ones beside it, their analyses, checks while they are written."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Response
from pydantic import Field

from cell.contract import AnalysisView
from cell.loading import Loader, Order, problem_view
from cell.pendant.editing import EditError, insert_step
from cell.pendant.errors import ApiError, invalid, missing, refused
from cell.pendant.people import Body, Plain, Who
from cell.pendant.pictures import recipe_picture
from cell.yamlfile import FileError, FileErrors
from recipes.expand import LoadedRecipe, expand, read_recipe
from recipes.formula import parse_settings

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
RecipeText = Annotated[str, Field(max_length=1_000_000)]
Settings = dict[str, Any]
MOST_RECIPES = 500


class TextBody(Body):
    text: RecipeText


class SaveBody(Body):
    text: RecipeText
    base_hash: Annotated[str, Field(max_length=64)]


class NewBody(Body):
    name: Annotated[str, Field(min_length=1, max_length=60)]
    text: RecipeText


class AnalyseBody(Body):
    settings: Plain = {}
    batches: Annotated[int, Field(ge=1, le=1000)] = 1


class InsertBody(Body):
    after_step: Annotated[int, Field(ge=0, le=500)]
    step: Plain


class Shelf:
    """The recipes of a cell. A person's file of a name comes before the library's."""

    def __init__(self, library: Path, own: Path, loader: Loader) -> None:
        self._library, self._own = library, own
        self._loader = loader
        self._one_at_a_time = asyncio.Lock()
        self._analyses: dict[str, tuple[str, dict[str, Any]]] = {}

    def names(self) -> list[str]:
        """Names of all recipes, sorted."""
        files = [*self._library.glob("*.yaml"), *self._own.glob("*.yaml")]
        return sorted({file.stem for file in files if NAME.fullmatch(file.stem)})[:MOST_RECIPES]

    def path(self, name: str) -> Path:
        """Return the file of a recipe. Raises ApiError 404."""
        if NAME.fullmatch(name):
            for folder in (self._own, self._library):
                if (folder / f"{name}.yaml").is_file():
                    return folder / f"{name}.yaml"
        raise missing(f"recipe {name[:60]}")

    def text(self, name: str) -> str:
        """Return a recipe's text. Raises ApiError."""
        try:
            return self.path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise refused(f"the recipe {name} cannot be read: {error}") from None

    def save(self, name: str, text: str, base_hash: str | None) -> None:
        """Write a person's file. `base_hash`: of the text it was made from; None: it is a new one. Raises ApiError."""
        if not NAME.fullmatch(name):
            raise invalid("a recipe's name is a word", "name", "letters, digits and _, up to 60, no digit first")
        if base_hash is None and name in self.names():
            raise refused(f"there is a recipe {name} already", "Choose another name")
        if base_hash is not None and digest(self.text(name)) != base_hash:
            raise refused("the recipe was changed by somebody else meanwhile", "Load it again and repeat your change")
        self._own.mkdir(parents=True, exist_ok=True)
        draft = self._own / f".{name}.{os.getpid()}.part"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._own / f"{name}.yaml")

    def delete(self, name: str) -> None:
        """Remove a person's file. Raises ApiError."""
        path = self.path(name)
        if path.parent != self._own:
            raise refused(f"{name} belongs to the library of the cell")
        path.unlink(missing_ok=True)

    def is_library(self, name: str) -> bool:
        """Is it the library's own file that is used?"""
        return self.path(name).parent == self._library

    # ------------------------------------------------------------ analyses

    async def analyse(self, name: str, settings: Settings, batches: int) -> dict[str, Any]:
        """Analyse in another process; return what it found."""
        text = self.text(name)
        async with self._one_at_a_time:
            self._loader.begin(Order(name, text, settings, batches))
            while (result := self._loader.poll()) is None:
                await asyncio.sleep(0.02)
        return self.remember(name, text, msgspec.to_builtins(result.view))

    def remember(self, name: str, text: str, found: dict[str, Any]) -> dict[str, Any]:
        """Keep the analysis of a text for the list; return it as the API says it."""
        view = analysis_view(msgspec.convert(found, AnalysisView))
        self._analyses[name] = (digest(text), view)
        return view

    def analysis(self, name: str) -> dict[str, Any] | None:
        """The last analysis of the recipe as it is now."""
        known = self._analyses.get(name)
        return known[1] if known is not None and known[0] == digest(self.text(name)) else None


def digest(text: str) -> str:
    """Fingerprint of a text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def analysis_view(found: AnalysisView) -> dict[str, Any]:
    """An analysis as the API says it."""
    phases = [
        {
            "step": number,
            "operation": step.operation,
            "label": step.label,
            "skill": step.skill,
            "duration_s": step.duration,
        }
        for number, step in enumerate(found.steps, start=1)
    ]
    return {
        "ok": found.ok,
        "settings": found.settings,
        "batches": found.batches,
        "at_wall": int(time.time() * 1000),
        "fingerprint": found.fingerprint,
        "predicted_cycle_s": found.predicted_cycle,
        "phases": phases,
        "problems": [msgspec.to_builtins(problem) for problem in found.problems],
    }


def parameters_view(loaded: LoadedRecipe) -> list[dict[str, Any]]:
    """The form of a recipe's parameters."""
    rows = []
    for name, one in loaded.recipe.parameters.items():
        kind = "choice" if one.type == "text" and one.choices is not None else one.type
        row = {"name": name, "type": kind, "unit": one.unit, "min": one.min, "max": one.max, "default": one.default}
        rows.append({**row, "choices": one.choices, "description": one.description})
    return rows


def steps_view(loaded: LoadedRecipe) -> list[dict[str, Any]]:
    """The phases as they are written, numbered from 1."""
    rows: list[dict[str, Any]] = []
    for i, operation in enumerate(loaded.recipe.operations):
        for j, phase in enumerate(operation.phases):
            rows.append(
                {
                    "index": len(rows) + 1,
                    "operation": operation.operation,
                    "repeated": operation.for_each is not None,
                    "skill": phase.skill,
                    "name": phase.name,
                    "params": phase.params,
                    "line": loaded.document.line(("operations", i, "phases", j)),
                }
            )
    return rows


def _fault_view(fault: FileError) -> dict[str, Any]:
    return msgspec.to_builtins(problem_view(fault))


def view_of(pendant: Pendant, name: str, text: bool = False) -> dict[str, Any]:
    """One recipe as the API says it. A file that cannot be read is listed with what is wrong. Raises ApiError 404."""
    shelf = pendant.recipes
    path, written = shelf.path(name), shelf.text(name)
    row: dict[str, Any] = {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "file": path.name,
        "library": shelf.is_library(name),
        "changed_wall": int(path.stat().st_mtime * 1000),
        "analysis": shelf.analysis(name),
        "picture": f"/api/v1/recipes/{name}/picture.png",
        "hash": digest(written),
        "problems": [],
    }
    try:
        loaded, faults = read_recipe(written, path.name)
    except FileErrors as caught:
        row |= {"description": "", "version": "", "capabilities": [], "parameters": [], "steps": [], "picture": None}
        row["problems"] = [_fault_view(fault) for fault in caught.errors]
    else:
        recipe = loaded.recipe
        row |= {"description": recipe.description, "version": recipe.version, "capabilities": recipe.capabilities}
        row |= {"parameters": parameters_view(loaded), "steps": steps_view(loaded)}
        row["problems"] = [_fault_view(fault) for fault in faults]
    return {**row, "text": written} if text else row


def check_text(pendant: Pendant, text: str) -> dict[str, Any]:
    """Everything that can be told about a recipe without planning a motion."""
    try:
        loaded, faults = read_recipe(text, "recipe")
        formula, more = parse_settings(loaded.recipe, {})
        _, _, found = expand(loaded, formula, pendant.view)
    except FileErrors as caught:
        return {"ok": False, "problems": [_fault_view(fault) for fault in caught.errors]}
    problems = [*faults, *more, *found]
    return {"ok": not problems, "problems": [_fault_view(fault) for fault in problems]}


def router(pendant: Pendant) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(tags=["recipes"])

    @routes.get("/recipes")
    async def recipes() -> list[dict[str, Any]]:
        """All recipes of the cell."""
        return await asyncio.to_thread(lambda: [view_of(pendant, name) for name in pendant.recipes.names()])

    @routes.post("/recipes", status_code=201)
    async def add(body: NewBody, login: Who) -> dict[str, Any]:
        """Make a recipe."""
        pendant.recipes.save(body.name, body.text, None)
        pendant.emit("pendant.recipe_saved", login.name, recipe=body.name, hash=digest(body.text))
        return await asyncio.to_thread(view_of, pendant, body.name, True)

    @routes.post("/recipes/check")
    async def check_now(body: TextBody) -> dict[str, Any]:
        """What is wrong with a text; cheap enough to ask while it is typed."""
        return await asyncio.to_thread(check_text, pendant, body.text)

    @routes.get("/recipes/{name}")
    async def recipe(name: str) -> dict[str, Any]:
        """One recipe with its text."""
        return await asyncio.to_thread(view_of, pendant, name, True)

    @routes.put("/recipes/{name}")
    async def save(name: str, body: SaveBody, login: Who) -> dict[str, Any]:
        """Save a recipe; one of the library is kept, and this one comes before it."""
        pendant.recipes.save(name, body.text, body.base_hash)
        pendant.emit("pendant.recipe_saved", login.name, recipe=name, hash=digest(body.text))
        return await asyncio.to_thread(view_of, pendant, name, True)

    @routes.delete("/recipes/{name}")
    async def delete(name: str, login: Who) -> dict[str, Any]:
        """Remove an own recipe."""
        pendant.recipes.delete(name)
        pendant.emit("pendant.recipe_deleted", login.name, recipe=name)
        return {"deleted": name}

    @routes.post("/recipes/{name}/analyse")
    async def analyse(name: str, body: AnalyseBody) -> dict[str, Any]:
        """Plan the whole recipe: problems, phases, predicted time."""
        return await pendant.recipes.analyse(name, body.settings, body.batches)

    @routes.post("/recipes/{name}/insert")
    async def insert(name: str, body: InsertBody) -> dict[str, Any]:
        """Return the recipe's text with one more step; nothing is saved."""
        try:
            text = insert_step(pendant.recipes.text(name), body.after_step, body.step)
        except EditError as error:
            raise invalid(str(error), error.field) from None
        return {"text": text, **check_text(pendant, text)}

    @routes.get("/recipes/{name}/picture.png")
    async def picture(name: str) -> Response:
        """Plan view of the cell with the places of the recipe."""
        text = pendant.recipes.text(name)
        try:
            data = await asyncio.to_thread(recipe_picture, pendant.cell.config.workcell, text)
        except FileErrors:
            raise ApiError(404, "not_found", "a recipe with faults has no picture") from None
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=60"})

    return routes
