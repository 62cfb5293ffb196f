"""Points and frames people teach: named joint positions and poses, kept in the data folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from cell.pendant.errors import invalid, missing, refused
from cell.pendant.people import Body, Who

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

NAME = re.compile(r"[^\W_][\w -]{0,39}")
MOST = 500
OLD = 0.5
"""A robot state older than this is no pose to save, s."""


class SaveHere(Body):
    name: Annotated[str, Field(min_length=1, max_length=40)]
    comment: Annotated[str, Field(max_length=500)] = ""


class Notebook:
    """Named entries in one JSON file, replaced as a whole."""

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what

    def all(self) -> list[dict[str, Any]]:
        """All entries, in the order they were saved. Raises ApiError if the file is damaged."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise refused(f"{self._path} cannot be read: {error}", "Move it away for examination") from None
        return found if isinstance(found, list) else []

    def get(self, name: str) -> dict[str, Any]:
        """One entry. Raises ApiError 404."""
        found = next((one for one in self.all() if one.get("name") == name), None)
        if found is None:
            raise missing(f"{self._what} {name[:40]}")
        return found

    def joints(self, name: str) -> list[float]:
        """Joint positions of a point, rad. Raises ApiError."""
        return [float(v) for v in self.get(name)["q"]]

    def save(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Add an entry, or replace the one of its name. Raises ApiError."""
        if not NAME.fullmatch(entry["name"]):
            raise invalid("begins with a letter or digit", "name", "letters, digits, spaces, _ and -, up to 40")
        kept = [one for one in self.all() if one.get("name") != entry["name"]]
        if len(kept) >= MOST:
            raise refused(f"there are {MOST} already", "Delete some")
        self._write([*kept, entry])
        return entry

    def delete(self, name: str) -> None:
        """Remove an entry. Raises ApiError 404."""
        self.get(name)
        self._write([one for one in self.all() if one.get("name") != name])

    def _write(self, entries: list[dict[str, Any]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        draft.write_text(json.dumps(entries, indent=1, allow_nan=False), encoding="utf-8")
        draft.replace(self._path)


def here(pendant: Pendant, body: SaveHere, person: str) -> dict[str, Any]:
    """The present pose of the arm under a name. Raises ApiError while it moves or is unknown."""
    robot = pendant.feed.robot
    if robot is None or pendant.feed.age(pendant.now())["robot"] > OLD:
        raise refused("where the arm is, is not known", "See that the robot node runs")
    if not robot.standing:
        raise refused("the arm is moving", "Save when it stands")
    T = pendant.model.fk(robot.q)
    return {
        "name": body.name,
        "q": list(robot.q),
        "T_base_tcp": T.ravel().tolist(),
        "by": person,
        "at_wall": int(time.time() * 1000),
        "comment": body.comment,
    }


def _pose(entry: dict[str, Any]) -> dict[str, Any]:
    return {"name": entry["name"], "pose": entry["T_base_tcp"], "by": entry["by"], "at_wall": entry["at_wall"]}


def router(pendant: Pendant) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(tags=["teach"])

    @routes.get("/points")
    async def points() -> list[dict[str, Any]]:
        """All points."""
        return await asyncio.to_thread(pendant.points.all)

    @routes.post("/points", status_code=201)
    async def save_point(body: SaveHere, login: Who) -> dict[str, Any]:
        """Save where the arm stands."""
        entry = pendant.points.save(here(pendant, body, login.name))
        pendant.emit("pendant.point_saved", login.name, name=body.name)
        return entry

    @routes.delete("/points/{name}")
    async def delete_point(name: str, login: Who) -> dict[str, Any]:
        """Remove a point."""
        pendant.points.delete(name)
        pendant.emit("pendant.point_deleted", login.name, name=name)
        return {"deleted": name}

    @routes.get("/frames")
    async def frames() -> list[dict[str, Any]]:
        """Taught frames; those of the cell file are in /cell."""
        return [_pose(entry) for entry in await asyncio.to_thread(pendant.frames.all)]

    @routes.post("/frames", status_code=201)
    async def save_frame(body: SaveHere, login: Who) -> dict[str, Any]:
        """Save the pose of the TCP."""
        entry = pendant.frames.save(here(pendant, body, login.name))
        pendant.emit("pendant.frame_saved", login.name, name=body.name)
        return _pose(entry)

    @routes.delete("/frames/{name}")
    async def delete_frame(name: str, login: Who) -> dict[str, Any]:
        """Remove a frame."""
        pendant.frames.delete(name)
        pendant.emit("pendant.frame_deleted", login.name, name=name)
        return {"deleted": name}

    return routes
