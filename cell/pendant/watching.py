"""Endpoints of what is looked at: the cell's geometry, meshes, camera pictures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Response

from cell.nodes import camera_ring
from cell.pendant.errors import missing, refused
from cell.pendant.geometry import Meshes, cameras_of, cell_view
from cell.pendant.overlay import camera_picture
from perception.cameras.links import BusSource
from perception.cameras.ring import RingReader
from perception.contract import CameraInfo

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

PICTURE_RATE = 5.0
"""Pictures of a camera a second; who asks more often gets the same one."""


class Cameras:
    """Newest pictures of the cell's cameras, read from their rings; in lock-step they come over the bus."""

    def __init__(self, pendant: Pendant) -> None:
        self._pendant = pendant
        self._readers: dict[str, RingReader | BusSource] = {}
        self._pictures: dict[tuple[str, bool], tuple[float, bytes]] = {}
        self._busy = asyncio.Lock()

    def _reader(self, info: CameraInfo) -> RingReader | BusSource:
        session = self._pendant.session
        if session.file.mode == "lockstep":
            return BusSource(self._pendant.link.ports, info.name)
        return RingReader(*camera_ring(info, session))

    async def picture(self, info: CameraInfo, depth: bool) -> bytes:
        """A JPEG, at most `PICTURE_RATE` different ones a second. Raises ApiError 409 while there is none."""
        async with self._busy:
            now = self._pendant.now()
            key = (info.name, depth)
            made = self._pictures.get(key)
            if made is not None and now - made[0] < 1.0 / PICTURE_RATE:
                return made[1]
            reader = self._readers.get(info.name)
            if reader is None:
                reader = self._readers[info.name] = self._reader(info)
            frame = reader.take(now)
            if frame is None and made is None:
                raise refused(f"camera {info.name} has delivered no picture yet", reader.fault)
            if frame is not None:
                observation = self._pendant.feed.observation
                data = await asyncio.to_thread(camera_picture, info, frame, observation, depth)
                made = self._pictures[key] = (now, data)
            assert made is not None  # one of the two was there
            return made[1]


def router(pendant: Pendant) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(tags=["cell"])
    meshes = Meshes(pendant.model, pendant.simulated)
    cameras = Cameras(pendant)
    known: dict[str, Any] = {}

    async def infos() -> list[CameraInfo]:
        if "infos" not in known:
            live = pendant.session.file.perception != "surface"
            known["infos"] = (
                await asyncio.to_thread(cameras_of, pendant.cell, pendant.session.file.seed) if live else []
            )
        found: list[CameraInfo] = known["infos"]
        return found

    @routes.get("/cell")
    async def cell() -> dict[str, Any]:
        """Geometry and limits of the cell."""
        if "cell" not in known:
            arguments = (pendant.cell, pendant.model, pendant.session.safety, await infos(), meshes)
            known["cell"] = await asyncio.to_thread(cell_view, *arguments)
        robot = pendant.feed.robot
        inputs = sorted(robot.inputs) if robot is not None else []
        outputs = sorted(robot.outputs) if robot is not None else []
        return {**known["cell"], "inputs": inputs, "outputs": outputs}

    @routes.get("/meshes/{name}")
    async def mesh(name: str) -> Response:
        """A mesh of a link, or a person's body."""
        data = await asyncio.to_thread(meshes.file, name)
        if data is None and not known:
            # Names are known once the cell was looked at.
            await asyncio.to_thread(meshes.links)
            data = await asyncio.to_thread(meshes.file, name)
        if data is None:
            raise missing(f"mesh {name[:60]}")
        headers = {"content-encoding": "gzip", "cache-control": "private, max-age=86400"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    @routes.get("/cameras/{name}/picture.jpg")
    async def picture(name: str, depth: bool = False) -> Response:
        """The newest picture, with people and points drawn over it."""
        info = next((one for one in await infos() if one.name == name), None)
        if info is None:
            raise missing(f"camera {name[:60]}")
        return Response(await cameras.picture(info, depth), media_type="image/jpeg")

    return routes
