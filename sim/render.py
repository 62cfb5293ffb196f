"""Depth and colour pictures of the twin through OpenGL (EGL; llvmpipe where there is no graphics card)."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from robots.workcell import PartType, Workcell
from sim.arms import ArmSpec
from sim.body import load_body, skin
from sim.contract import PartPose, Scene
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
uniform mat4 camera;     // world -> camera, z forward
uniform mat4 projection;
uniform mat4 model;
uniform vec3 tint;
in vec3 in_position;
out float z;
out vec3 seen;
out vec3 paint;
void main() {
    vec4 p = camera * (model * vec4(in_position, 1.0));
    z = p.z;
    seen = p.xyz;
    paint = tint;
    gl_Position = projection * p;
}
"""
_FRAGMENT = """
#version 330
in float z;
in vec3 seen;
in vec3 paint;
layout(location = 0) out vec2 measured;
layout(location = 1) out vec4 colour;
uniform bool shaded;
void main() {
    measured = vec2(z, dot(paint, vec3(0.299, 0.587, 0.114)));
    if (shaded) {
        vec3 n = normalize(cross(dFdx(seen), dFdy(seen)));
        colour = vec4(paint * (0.45 + 0.55 * abs(dot(n, normalize(seen)))), 1.0);
    } else {
        colour = vec4(paint, 1.0);
    }
}
"""


class _Mesh:
    """A vertex buffer with its indices."""

    def __init__(self, context: Any, program: Any, vertices: F32, faces: NDArray[np.int32], dynamic: bool) -> None:
        self.buffer = context.buffer(np.ascontiguousarray(vertices, dtype="f4").tobytes(), dynamic=dynamic)
        index = context.buffer(np.ascontiguousarray(faces, dtype="i4").tobytes())
        self.array = context.vertex_array(program, [(self.buffer, "3f", "in_position")], index)


class GlRenderer:
    """One OpenGL context and framebuffer for one view. Use from one thread; `close` frees it."""

    name = "egl"

    def __init__(self, view: View, workcell: Workcell, arm: ArmSpec) -> None:
        """Raises RuntimeError (of any kind moderngl chooses) where there is no EGL."""
        import moderngl

        self.view = view
        self._moderngl = moderngl
        self._context: Any = moderngl.create_standalone_context(backend="egl")
        size = (view.width, view.height)
        self._measured = self._context.texture(size, 2, dtype="f4")
        self._colour = self._context.texture(size, 4)
        self._target = self._context.framebuffer(
            [self._measured, self._colour], self._context.depth_renderbuffer(size)
        )
        self._program = self._context.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self._program["camera"].write(np.linalg.inv(view.pose).T.astype("f4").tobytes())
        self._program["projection"].write(projection(view).T.astype("f4").tobytes())
        self._kinds: dict[str, PartType] = dict(workcell.parts)
        self._linkage: Linkage = load_linkage(arm)
        self._links = {
            i: self._mesh(v, f)
            for i, (v, f) in enumerate(zip(self._linkage.vertices, self._linkage.faces, strict=True))
            if len(f)
        }
        self._static = [(self._mesh(v, f), colour) for v, f, colour in furniture(workcell)]
        self._part_meshes = {name: self._mesh(*part_mesh(kind)) for name, kind in workcell.parts.items()}
        self._people: dict[str, tuple[_Mesh, NDArray[np.int64]]] = {}

    def _mesh(self, vertices: Any, faces: Any, dynamic: bool = False) -> _Mesh:
        return _Mesh(self._context, self._program, vertices, faces, dynamic)

    def draw(self, scene: Scene, colour: bool) -> Picture:
        """Draw the scene. The first picture with a new person allocates its buffers."""
        gl = self._context
        self._target.use()
        gl.enable_only(self._moderngl.DEPTH_TEST)
        gl.clear(0.0, 0.0, 0.0, 0.0)
        self._program["shaded"].value = colour
        identity = np.eye(4)
        for mesh, tint in self._static:
            self._put(mesh, identity, tint)
        poses = self._linkage.poses(scene.q, scene.fingers)
        for link, mesh in self._links.items():
            self._put(mesh, poses[link], ARM_COLOUR)
        for part in scene.parts:
            self._put(self._part_meshes[part.kind], part_matrix(part), self._kinds[part.kind].colour)
        for number, person in enumerate(scene.people):
            self._put(self._person(person), identity, CLOTHES[number % len(CLOTHES)])
        return self._read(colour)

    def _person(self, person: Any) -> _Mesh:
        body = load_body(person.body)
        if person.name not in self._people:
            used, faces = np.unique(body.reduced, return_inverse=True)
            mesh = self._mesh(body.vertices[used], faces.reshape(-1, 3).astype(np.int32), dynamic=True)
            self._people[person.name] = (mesh, used.astype(np.int64))
        mesh, used = self._people[person.name]
        mesh.buffer.write(skin(body, bones_of(person), used).tobytes())
        return mesh

    def _put(self, mesh: _Mesh, pose: F64, tint: tuple[float, float, float]) -> None:
        self._program["model"].write(pose.T.astype("f4").tobytes())
        self._program["tint"].value = tint
        mesh.array.render()

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
    from scipy.spatial.transform import Rotation

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


def part_matrix(part: PartPose) -> F64:
    """(4, 4) pose of a part."""
    from sim.rotations import to_matrix

    pose = np.eye(4)
    pose[:3, 3] = part.T_base_part[:3]
    pose[:3, :3] = to_matrix(np.array(part.T_base_part[3:]))
    return pose
