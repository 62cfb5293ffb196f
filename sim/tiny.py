"""Depth pictures through PyBullet's software renderer, for machines without EGL: slower, same interface."""

from __future__ import annotations

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from robots.workcell import Workcell
from sim.arms import ArmSpec
from sim.body import load_body
from sim.contract import BodyPose, Scene
from sim.human_shape import Segment, segments
from sim.linkage import load_linkage
from sim.render import ARM_COLOUR, CLOTHES, FAR, NEAR, ROOM, ROOM_HEIGHT, Picture, View
from sim.rotations import to_quaternion
from sim.surface import bones_of


class TinyRenderer:
    """Draws with a PyBullet client of its own; people are drawn as the convex parts of their bodies."""

    name = "tiny"

    def __init__(self, view: View, workcell: Workcell, arm: ArmSpec) -> None:
        self.view = view
        self._client = p.connect(p.DIRECT)
        self._linkage = load_linkage(arm)
        self._workcell = workcell
        self._bodies: dict[str, int] = {}
        self._people: dict[str, list[tuple[int, Segment]]] = {}
        self._room()
        for fixture in workcell.fixtures:
            if fixture.visible:
                turn = p.getQuaternionFromEuler(fixture.pose.rpy)
                self._box(list(fixture.size), fixture.pose.position, turn, fixture.colour)
        self._links = {
            i: self._hull(self._linkage.vertices[i], self._linkage.faces[i], ARM_COLOUR)
            for i, faces in enumerate(self._linkage.faces)
            if len(faces)
        }

    def _room(self) -> None:
        middle = self._workcell.floor + ROOM_HEIGHT / 2
        turn, grey = (0.0, 0.0, 0.0, 1.0), (0.62, 0.62, 0.60)
        far = ROOM + 0.05
        self._box([4 * ROOM, 4 * ROOM, 0.1], (0, 0, self._workcell.floor - 0.05), turn, grey)
        self._box([4 * ROOM, 4 * ROOM, 0.1], (0, 0, self._workcell.floor + ROOM_HEIGHT + 0.05), turn, grey)
        for x, y in ((far, 0), (-far, 0), (0, far), (0, -far)):
            size = [0.1, 4 * ROOM, ROOM_HEIGHT] if x else [4 * ROOM, 0.1, ROOM_HEIGHT]
            self._box(size, (x, y, middle), turn, grey)

    def _body(self, shape: int, at: tuple[float, ...], turn: tuple[float, ...]) -> int:
        return int(p.createMultiBody(0, -1, shape, at, turn, physicsClientId=self._client))

    def _box(
        self, size: list[float], at: tuple[float, ...], turn: tuple[float, ...], tint: tuple[float, float, float]
    ) -> int:
        half = [s / 2 for s in size]
        shape = p.createVisualShape(p.GEOM_BOX, halfExtents=half, rgbaColor=[*tint, 1], physicsClientId=self._client)
        return self._body(shape, at, turn)

    def _hull(self, vertices: NDArray[np.float32], faces: NDArray[np.int32], tint: tuple[float, float, float]) -> int:
        shape = p.createVisualShape(
            p.GEOM_MESH,
            vertices=vertices.tolist(),
            indices=faces.reshape(-1).tolist(),
            rgbaColor=[*tint, 1],
            physicsClientId=self._client,
        )
        return self._body(shape, (0, 0, 0), (0, 0, 0, 1))

    def _place(self, body: int, at: list[float], turn: list[float]) -> None:
        p.resetBasePositionAndOrientation(body, at, turn, physicsClientId=self._client)

    def draw(self, scene: Scene, colour: bool) -> Picture:
        """Place everything and take one picture."""
        poses = self._linkage.poses(scene.q, scene.fingers)
        for link, body in self._links.items():
            self._place(body, poses[link][:3, 3].tolist(), to_quaternion(poses[link][:3, :3]).tolist())
        for part in scene.parts:
            if part.name not in self._bodies:
                kind = self._workcell.parts[part.kind]
                self._bodies[part.name] = self._part(part.kind, kind.shape == "cylinder")
            self._place(self._bodies[part.name], list(part.T_base_part[:3]), list(part.T_base_part[3:]))
        for number, person in enumerate(scene.people):
            self._person(person, CLOTHES[number % len(CLOTHES)])
        return self._take(colour)

    def _part(self, name: str, round_: bool) -> int:
        kind = self._workcell.parts[name]
        if not round_:
            return self._box(list(kind.size), (0, 0, 0), (0, 0, 0, 1), kind.colour)
        shape = p.createVisualShape(
            p.GEOM_CYLINDER,
            radius=kind.size[0] / 2,
            length=kind.size[2],
            rgbaColor=[*kind.colour, 1],
            physicsClientId=self._client,
        )
        return self._body(shape, (0, 0, 0), (0, 0, 0, 1))

    def _person(self, person: BodyPose, tint: tuple[float, float, float]) -> None:
        if person.name not in self._people:
            self._people[person.name] = [
                (self._hull(s.vertices.astype(np.float32), s.faces, tint), s) for s in segments(load_body(person.body))
            ]
        bones = bones_of(person)
        for body, segment in self._people[person.name]:
            pose = bones[segment.bone]
            self._place(body, pose[:, 3].tolist(), to_quaternion(pose[:, :3]).tolist())

    def _take(self, colour: bool) -> Picture:
        view = self.view
        to_camera = np.linalg.inv(view.pose)
        # OpenGL's camera looks along -z with y up.
        opengl = np.diag([1.0, -1.0, -1.0, 1.0]) @ to_camera
        q = np.zeros((4, 4))
        q[0, 0], q[0, 2] = 2 * view.fx / view.width, 1.0 - 2.0 * (view.cx + 0.5) / view.width
        q[1, 1], q[1, 2] = 2 * view.fy / view.height, 2.0 * (view.cy + 0.5) / view.height - 1.0
        q[2, 2], q[2, 3], q[3, 2] = -(FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR), -1.0
        _, _, rgba, depth, _ = p.getCameraImage(
            view.width,
            view.height,
            opengl.T.reshape(-1).tolist(),
            q.T.reshape(-1).tolist(),
            shadow=0,
            renderer=p.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        window = np.asarray(depth, dtype=np.float64).reshape(view.height, view.width)
        z = FAR * NEAR / (FAR - (FAR - NEAR) * window)
        z[window >= 1.0] = 0.0
        rgb = np.asarray(rgba, dtype=np.uint8).reshape(view.height, view.width, 4)[:, :, :3]
        shade = (rgb @ np.array([0.299, 0.587, 0.114]) / 255.0).astype(np.float32)
        return Picture(z.astype(np.float32), shade, rgb.copy() if colour else None)

    def close(self) -> None:
        """Idempotent."""
        if self._client >= 0:
            p.disconnect(physicsClientId=self._client)
        self._client = -1
