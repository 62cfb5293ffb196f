"""Depth and colour pictures of the twin through OpenGL (EGL; llvmpipe where there is no graphics card)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cell.compiled import njit
from robots.workcell import PartType, Workcell
from sim.arms import ArmSpec
from sim.body import dominant_bone, load_body, segment_of, skin
from sim.contract import BodyPose, PartPose, Scene
from sim.linkage import Linkage, box_mesh, cylinder_mesh, load_linkage
from sim.surface import bones_of

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
ROOM = 5.0
"""Walls stand this far from the base, so that every ray meets something, m."""
ROOM_HEIGHT = 3.5
NEAR, FAR = 0.05, 30.0
ARM_COLOUR = (0.85, 0.86, 0.88)
CLOTHES = ((0.28, 0.36, 0.52), (0.55, 0.30, 0.25), (0.35, 0.45, 0.32))

SKIN, HAIR = (0.80, 0.60, 0.48), (0.20, 0.15, 0.12)
OUTFIT = {
    "head": SKIN, "hand": SKIN, "forearm": SKIN, "pelvis": (0.22, 0.24, 0.34), "thigh": (0.22, 0.24, 0.34),
    "shin": (0.22, 0.24, 0.34), "foot": (0.16, 0.14, 0.13),
}  # fmt: skip
"""Colour by the end of a body segment's name; everything else is the shirt."""


class Picture(NamedTuple):
    """Perfect picture."""

    depth: F32
    """(h, w) along the optical axis, m; 0 where nothing is."""
    shade: F32
    """(h, w) reflectivity 0-1."""
    colour: NDArray[np.uint8] | None
    """(h, w, 3)."""


class View(NamedTuple):
    """A pinhole camera: size and focal lengths in px, pose of the camera (z forward, x right, y down)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    pose: F64
    """(4, 4) in the base frame."""


class Renderer(Protocol):
    """Draws the scene from one view."""

    name: str

    def draw(self, scene: Scene, colour: bool) -> Picture: ...

    def close(self) -> None: ...


_VERTEX = """
#version 330
uniform mat4 clip;           // world -> clip space
uniform vec4 forward;        // depth along the optical axis = dot(forward, world position)
uniform mat4 models[64];
in vec3 in_position;
in vec3 in_tint;
in float in_model;
out float z;
out vec3 seen;
out vec3 paint;
void main() {
    vec4 p = models[int(in_model)] * vec4(in_position, 1.0);
    z = dot(forward, p);
    seen = p.xyz;
    paint = in_tint;
    gl_Position = clip * p;
}
"""
_FRAGMENT = """
#version 330
in float z;
in vec3 seen;
in vec3 paint;
uniform vec3 eye;
uniform bool shaded;
layout(location = 0) out vec2 measured;
layout(location = 1) out vec4 colour;
void main() {
    measured = vec2(z, dot(paint, vec3(0.299, 0.587, 0.114)));
    if (shaded) {
        vec3 n = normalize(cross(dFdx(seen), dFdy(seen)));
        colour = vec4(paint * (0.45 + 0.55 * abs(dot(n, normalize(seen - eye)))), 1.0);
    }
}
"""
MODELS_MAX = 64
DEPTH_TEST = 2
"""moderngl's flag."""


def _open_context() -> Any:
    import moderngl

    create: Any = moderngl.create_standalone_context
    return create(backend="egl")


class _Batch:
    """Many meshes in one buffer, each with its own matrix: one draw call (each costs 0.1 ms on llvmpipe)."""

    def __init__(self) -> None:
        self.vertices: list[F32] = []
        self.faces: list[NDArray[np.int32]] = []
        self.count = 0

    def add(self, vertices: Any, faces: Any, tint: tuple[float, float, float], model: int) -> None:
        rows = np.empty((len(vertices), 7), dtype=np.float32)
        rows[:, :3], rows[:, 3:6], rows[:, 6] = vertices, tint, model
        self.vertices.append(rows)
        self.faces.append(np.asarray(faces, dtype=np.int32) + self.count)
        self.count += len(rows)

    def upload(self, context: Any, program: Any) -> Any:
        vertices = context.buffer(np.concatenate(self.vertices).tobytes())
        index = context.buffer(np.concatenate(self.faces).tobytes())
        return context.vertex_array(program, [(vertices, "3f 3f 1f", "in_position", "in_tint", "in_model")], index)


@functools.cache
def drawn_faces(body_name: str) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Which vertices of a body are drawn, and its triangles (n, 3) over them."""
    used, faces = np.unique(load_body(body_name).reduced, return_inverse=True)
    return used.astype(np.int64), faces.reshape(-1, 3).astype(np.int32)


@functools.lru_cache(maxsize=8)
def posed(body_name: str, bones: bytes) -> F32:
    """(n, 3) drawn vertices of a person of a `Scene`, m; read only. Cameras exposed at the same time share them.
    Raises ValueError if the bones do not fit the body."""
    body = load_body(body_name)
    vertices = skin(body, bones_of(BodyPose("", bones, body_name)), drawn_faces(body_name)[0])
    vertices.setflags(write=False)
    return vertices


@functools.cache
def dress(body_name: str, shirt: tuple[float, float, float]) -> F32:
    """(v, 3) colours of a body's vertices in colour pictures: skin, hair, a shirt, trousers and shoes."""
    body = load_body(body_name)
    segment = np.array(segment_of(body))[dominant_bone(body)]
    paint = np.tile(np.array(shirt, np.float32), (len(segment), 1))
    for end, colour in OUTFIT.items():
        paint[np.char.endswith(segment, end)] = colour
    head = segment == "head"
    front, height = body.vertices[:, 0], body.vertices[:, 2]
    low, high = height[head].min(), height[head].max()
    middle = float(np.median(front[head]))
    paint[head & ((height > low + 0.85 * (high - low)) | ((front < middle) & (height > low + 0.4 * (high - low))))] = (
        HAIR
    )
    return paint


class _Person:
    """Dynamic vertices of a person."""

    def __init__(self, context: Any, program: Any, body_name: str, tint: tuple[float, float, float]) -> None:
        used, faces = drawn_faces(body_name)
        self.positions = context.buffer(reserve=12 * len(used), dynamic=True)
        index = context.buffer(faces.reshape(-1).astype("i4").tobytes())
        self.array, self.dressed = (
            context.vertex_array(
                program,
                [
                    (self.positions, "3f", "in_position"),
                    (context.buffer(np.insert(paint, 3, 0.0, axis=1).tobytes()), "3f 1f", "in_tint", "in_model"),
                ],
                index,
            )
            for paint in (np.tile(np.array(tint, np.float32), (len(used), 1)), dress(body_name, tint)[used])
        )

    def pose(self, person: BodyPose) -> None:
        self.positions.write(posed(person.body, person.bones).tobytes())


class GlRenderer:
    """One OpenGL context and framebuffer for one view. Use from one thread; `close` frees it."""

    name = "egl"

    def __init__(self, view: View, workcell: Workcell, arm: ArmSpec) -> None:
        """Raises RuntimeError (of any kind moderngl chooses) where there is no EGL; ValueError for too many parts."""
        self.view = view
        self._linkage: Linkage = load_linkage(arm)
        shown = [i for i, f in enumerate(self._linkage.faces) if len(f)]
        if 1 + len(shown) + len(workcell.stock) > MODELS_MAX:
            raise ValueError(f"the twin's camera draws at most {MODELS_MAX - 1 - len(shown)} parts")
        self._shown = shown
        self._context = _open_context()
        size = (view.width, view.height)
        self._measured = self._context.texture(size, 2, dtype="f4")
        self._colour = self._context.texture(size, 4)
        self._target = self._context.framebuffer([self._measured, self._colour], self._context.depth_renderbuffer(size))
        self._program: Any = self._context.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        to_camera = np.linalg.inv(view.pose)
        self._program["clip"].write((projection(view) @ to_camera).T.astype("f4").tobytes())
        self._program["forward"].value = tuple(to_camera[2])
        self._program["eye"].value = tuple(view.pose[:3, 3])
        self._workcell = workcell
        self._world: Any = None
        self._parts: tuple[str, ...] = ()
        self._people: dict[str, _Person] = {}

    def _batch(self, parts: list[PartPose]) -> None:
        """Matrix 0: what never moves; then the links; then the parts."""
        batch = _Batch()
        for vertices, faces, tint in furniture(self._workcell):
            batch.add(vertices, faces, tint, 0)
        for number, link in enumerate(self._shown):
            batch.add(self._linkage.vertices[link], self._linkage.faces[link], ARM_COLOUR, 1 + number)
        for number, part in enumerate(parts[: MODELS_MAX - 1 - len(self._shown)]):
            kind = self._workcell.parts[part.kind]
            batch.add(*part_mesh(kind), kind.colour, 1 + len(self._shown) + number)
        self._world = batch.upload(self._context, self._program)
        self._parts = tuple(part.name for part in parts)

    def draw(self, scene: Scene, colour: bool) -> Picture:
        """Draw the scene. The first picture with new parts or a new person allocates their buffers."""
        # Several cameras share a process in lock-step: each makes its own context the current one.
        with self._context:
            return self._draw(scene, colour)

    def _draw(self, scene: Scene, colour: bool) -> Picture:
        gl = self._context
        if self._world is None or self._parts != tuple(part.name for part in scene.parts):
            self._batch(scene.parts)
        self._target.use()
        gl.enable_only(DEPTH_TEST)
        self._target.clear()
        self._program["shaded"].value = colour
        models = np.zeros((MODELS_MAX, 4, 4), dtype=np.float32)
        models[0] = np.eye(4)
        links = self._linkage.poses(scene.q, scene.fingers)[self._shown]
        models[1 : 1 + len(links)] = links.swapaxes(1, 2)
        if scene.parts:
            models[1 + len(links) : 1 + len(links) + len(scene.parts)] = part_matrices(scene.parts).swapaxes(1, 2)
        self._program["models"].write(models.tobytes())
        self._world.render()
        for number, person in enumerate(scene.people):
            if person.name not in self._people:
                tint = CLOTHES[number % len(CLOTHES)]
                self._people[person.name] = _Person(gl, self._program, person.body, tint)
            drawn = self._people[person.name]
            drawn.pose(person)
            (drawn.dressed if colour else drawn.array).render()
        return self._read(colour)

    def _read(self, colour: bool) -> Picture:
        view = self.view
        raw = np.frombuffer(self._measured.read(), dtype="f4").reshape(view.height, view.width, 2)
        picture = None
        if colour:
            rgba = np.frombuffer(self._colour.read(), dtype=np.uint8).reshape(view.height, view.width, 4)
            picture = rgba[:, :, :3].copy()
        return Picture(np.ascontiguousarray(raw[:, :, 0]), np.ascontiguousarray(raw[:, :, 1]), picture)

    def close(self) -> None:
        """Idempotent."""
        if self._context is not None:
            self._context.release()
            self._context = None


def projection(view: View) -> F64:
    """Camera frame (z forward, y down) -> clip space, so that row 0 of what is read back is the picture's top row."""
    p = np.zeros((4, 4))
    p[0, 0] = 2.0 * view.fx / view.width
    p[0, 2] = 2.0 * (view.cx + 0.5) / view.width - 1.0
    # OpenGL's first row is the bottom one; with y down and no flip it is the picture's top.
    p[1, 1] = 2.0 * view.fy / view.height
    p[1, 2] = 2.0 * (view.cy + 0.5) / view.height - 1.0
    p[2, 2] = (FAR + NEAR) / (FAR - NEAR)
    p[2, 3] = -2.0 * FAR * NEAR / (FAR - NEAR)
    p[3, 2] = 1.0
    return p


def furniture(workcell: Workcell) -> list[tuple[F32, NDArray[np.int32], tuple[float, float, float]]]:
    """Meshes of the room and of every visible fixture in the base frame, with their colours."""
    room, faces = box_mesh([2 * ROOM, 2 * ROOM, ROOM_HEIGHT])
    room = room + np.array([0.0, 0.0, workcell.floor + ROOM_HEIGHT / 2])
    meshes = [(room.astype(np.float32), faces.astype(np.int32), (0.62, 0.62, 0.60))]
    for fixture in workcell.fixtures:
        if not fixture.visible:
            continue
        vertices, faces = box_mesh(list(fixture.size))
        turn = Rotation.from_euler("xyz", fixture.pose.rpy).as_matrix()
        vertices = vertices @ turn.T + np.array(fixture.pose.position)
        meshes.append((vertices.astype(np.float32), faces.astype(np.int32), fixture.colour))
    return meshes


def part_mesh(kind: PartType) -> tuple[F64, NDArray[np.int64]]:
    """Mesh of a part about its centre."""
    if kind.shape == "cylinder":
        return cylinder_mesh(kind.size[0] / 2, kind.size[2])
    return box_mesh(list(kind.size))


@njit(cache=True, nogil=True)
def _matrices(rows: F64) -> F64:
    out = np.zeros((rows.shape[0], 4, 4))
    for i in range(rows.shape[0]):
        x, y, z, w = rows[i, 3], rows[i, 4], rows[i, 5], rows[i, 6]
        out[i, 0, 0], out[i, 0, 1], out[i, 0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)
        out[i, 1, 0], out[i, 1, 1], out[i, 1, 2] = 2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)
        out[i, 2, 0], out[i, 2, 1], out[i, 2, 2] = 2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)
        out[i, 0, 3], out[i, 1, 3], out[i, 2, 3], out[i, 3, 3] = rows[i, 0], rows[i, 1], rows[i, 2], 1.0
    return out


def part_matrices(parts: list[PartPose]) -> F64:
    """(n, 4, 4) poses of parts; their quaternions are unit ones."""
    return np.asarray(_matrices(np.array([part.T_base_part for part in parts], dtype=np.float64).reshape(-1, 7)))
