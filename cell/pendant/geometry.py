"""What the page draws of the cell: links with their meshes, fixtures, places, cameras, zones; people's bodies.

Meshes are sent as one binary file each: length of a JSON header (uint32), the header padded with spaces to four bytes,
then the arrays it lists, each at its offset from the end of the header. Little endian.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.config import LoadedCell
from cell.nodes import camera_infos
from cell.pendant.pictures import pose_matrix
from perception.contract import CameraError, CameraInfo
from robots.model import RobotModel
from robots.urdf import UrdfError, mesh_path, read_xml, transform
from safety.config import SafetyConfig
from safety.zones import Zone

Array = NDArray[np.float64]
CLUSTER = 0.004
"""Vertices of a link within one cube of this edge become one, m: what is drawn on a tablet needs no more."""
BODIES = "cell.bodies"
"""Entry points of functions that return a simulated person's body by its name."""
BODY_NAMES = ("body_178", "body_166")
INFLUENCES = 4
"""Bones that move one vertex."""


def pack(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return the file described above, gzipped."""
    listed, blobs, offset = [], [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        listed.append({"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "offset": offset})
        padded = data + b"\0" * (-len(data) % 4)
        blobs.append(padded)
        offset += len(padded)
    text = json.dumps({**header, "arrays": listed}).encode()
    text += b" " * (-len(text) % 4)
    return gzip.compress(struct.pack("<I", len(text)) + text + b"".join(blobs), 6, mtime=0)


def clustered(vertices: Array, faces: NDArray[np.int64], edge: float) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Merge vertices that lie in one cube; faces that collapse or repeat are dropped."""
    cells = np.floor(vertices / edge).astype(np.int64)
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.ravel()
    sums = np.zeros((len(first), 3))
    np.add.at(sums, inverse, vertices)
    means = sums / np.bincount(inverse, minlength=len(first))[:, None]
    merged = inverse[faces]
    alive = (merged[:, 0] != merged[:, 1]) & (merged[:, 1] != merged[:, 2]) & (merged[:, 0] != merged[:, 2])
    merged = merged[alive]
    _, kept = np.unique(np.sort(merged, axis=1), axis=0, return_index=True)
    return means.astype(np.float32), merged[np.sort(kept)].astype(np.uint32)


class Meshes:
    """Files of meshes by name; each is made when it is first asked for. Blocking."""

    def __init__(self, model: RobotModel, simulated: bool) -> None:
        self._paths: dict[str, Path] = {}
        self._files: dict[str, bytes] = {}
        self._model = model
        self._bodies = BODY_NAMES if simulated and list(entry_points(group=BODIES)) else ()

    def links(self) -> list[dict[str, Any]]:
        """Links of the arm with their meshes."""
        urdf = self._model.urdf_path
        rows = []
        for link in read_xml(urdf).iter("link"):
            shapes = link.findall("visual") or link.findall("collision")
            meshes = [row for row in (self._shape(urdf, shape) for shape in shapes) if row is not None]
            rows.append({"name": link.get("name", ""), "meshes": meshes})
        return rows

    def _shape(self, urdf: Path, shape: Any) -> dict[str, Any] | None:
        mesh = shape.find("geometry/mesh")
        if mesh is None:
            return None
        path = mesh_path(urdf, mesh.get("filename", ""))
        if not path.is_file():
            return None
        name = f"{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}.bin"
        self._paths[name] = path
        scale = [float(v) for v in mesh.get("scale", "1 1 1").split()]
        T = _origin(shape) @ np.diag([*scale, 1.0])
        return {"url": f"/api/v1/meshes/{name}", "T_link_mesh": T.ravel().tolist()}

    def body_urls(self) -> dict[str, str]:
        """Bodies of simulated people: name -> file."""
        return {name: f"/api/v1/meshes/{name}.bin" for name in self._bodies}

    def file(self, name: str) -> bytes | None:
        """Return a file, gzipped; None if there is none of that name."""
        if name not in self._files:
            stem = name.removesuffix(".bin")
            if name in self._paths:
                self._files[name] = _mesh_file(self._paths[name])
            elif stem in self._bodies:
                self._files[name] = _body_file(stem)
            else:
                return None
        return self._files[name]


def _mesh_file(path: Path) -> bytes:
    mesh: Any = trimesh.load(path, force="mesh")
    vertices, faces = clustered(np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces), CLUSTER)
    return pack({"kind": "mesh"}, {"vertices": vertices, "faces": faces})


def _body_file(name: str) -> bytes:
    """A person's body in its rest pose, with the bones that move each vertex.

    A bone's transform (3, 4) of the telemetry turns about the bone's head: p = R (v - head) + t.
    """
    point = next(iter(entry_points(group=BODIES)))
    body = point.load()(name)
    used, faces = np.unique(body.reduced, return_inverse=True)
    bones, weights = body.weight_bones[used], body.weights[used]
    order = np.argsort(-weights, axis=1)[:, :INFLUENCES]
    weights = np.take_along_axis(weights, order, axis=1)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return pack(
        {"kind": "body", "bones": list(body.bones)},
        {
            "vertices": body.vertices[used].astype(np.float32),
            "faces": faces.reshape(-1, 3).astype(np.uint32),
            "heads": body.heads.astype(np.float32),
            "bone_index": np.take_along_axis(bones, order, axis=1).astype(np.uint8),
            "bone_weight": weights.astype(np.float32),
        },
    )


def _origin(element: Any) -> Array:
    origin = element.find("origin")
    if origin is None:
        return np.eye(4)
    xyz = [float(v) for v in origin.get("xyz", "0 0 0").split()]
    rpy = [float(v) for v in origin.get("rpy", "0 0 0").split()]
    return transform((xyz[0], xyz[1], xyz[2]), (rpy[0], rpy[1], rpy[2]))


def joint_chain(model: RobotModel) -> list[dict[str, Any]]:
    """All joints of the arm's URDF, from the base outwards."""
    rows = []
    for joint in read_xml(model.urdf_path).iter("joint"):
        parent, child = joint.find("parent"), joint.find("child")
        if parent is None or child is None:
            continue
        axis = joint.find("axis")
        mimic = joint.find("mimic")
        rows.append(
            {
                "name": joint.get("name", ""),
                "type": joint.get("type", "fixed"),
                "parent": parent.get("link", ""),
                "child": child.get("link", ""),
                "T_parent_joint": _origin(joint).ravel().tolist(),
                "axis": [float(v) for v in axis.get("xyz", "0 0 1").split()] if axis is not None else [0.0, 0.0, 1.0],
                "mimic": mimic.get("joint") if mimic is not None else None,
            }
        )
    return rows


def robot_view(model: RobotModel, home: Array, meshes: Meshes) -> dict[str, Any]:
    """The arm."""
    joints = [
        {"name": name, "lower": float(low), "upper": float(high), "v_max": float(v)}
        for name, low, high, v in zip(model.joint_names, model.q_lower, model.q_upper, model.v_max, strict=True)
    ]
    return {
        "model": model.name,
        "tool": model.tool_name,
        "dof": model.dof,
        "joints": joints,
        "home": home.tolist(),
        "T_base_tool": (model.fk(home)).ravel().tolist(),
        "base_link": model.description.base_link,
        "finger_joints": list(model.tool.finger_joints),
        "gripper_max": model.gripper_max,
        "links": meshes.links(),
        "joint_chain": joint_chain(model),
    }


def camera_rows(infos: list[CameraInfo]) -> list[dict[str, Any]]:
    """The cameras; `fov` is the horizontal angle, rad."""
    return [
        {
            "name": info.name,
            "model": info.model,
            "T_base_camera": list(info.T_base_camera),
            "width": info.intrinsics.width,
            "height": info.intrinsics.height,
            "fov": float(2.0 * np.arctan(info.intrinsics.width / 2.0 / info.intrinsics.fx)),
            "colour": info.colour,
            "depth_max": info.depth_max,
        }
        for info in infos
    ]


def cameras_of(cell: LoadedCell, seed: int) -> list[CameraInfo]:
    """What the cameras are and where; those that cannot be told are left out."""
    try:
        return camera_infos(cell, seed)
    except CameraError:
        return []


def zone_view(zone: Zone) -> dict[str, Any]:
    """One zone as it is drawn."""
    low, high = zone.heights
    return {
        "name": zone.name,
        "automatic": zone.automatic,
        "manual": zone.manual or zone.automatic,
        "outline": [list(corner) for corner in zone.outline],
        "z": [low if np.isfinite(low) else None, high if np.isfinite(high) else None],
        "speed": zone.speed,
    }


def _patterns(cell: LoadedCell) -> Iterator[tuple[str, dict[str, Any]]]:
    workcell = cell.config.workcell
    for name, pattern in workcell.patterns.items():
        T = pose_matrix(workcell.frames[pattern.frame])
        places = [(T @ np.array([*pattern.place(i), 1.0]))[:3].tolist() for i in range(pattern.count)]
        yield name, {"frame": pattern.frame, "places": places}


def cell_view(
    cell: LoadedCell, model: RobotModel, safety: SafetyConfig | None, infos: list[CameraInfo], meshes: Meshes
) -> dict[str, Any]:
    """Everything about the cell that does not change while it is up. Raises UrdfError."""
    workcell = cell.config.workcell
    fixtures = [
        {
            "name": fixture.name,
            "size": list(fixture.size),
            "T_base": pose_matrix(fixture.pose).ravel().tolist(),
            "colour": list(fixture.colour),
            "visible": fixture.visible,
        }
        for fixture in workcell.fixtures
    ]
    return {
        "name": cell.config.cell,
        "robot": robot_view(model, cell.home(), meshes),
        "fixtures": fixtures,
        "parts": {name: part.model_dump(mode="json") for name, part in workcell.parts.items()},
        "frames": {name: pose_matrix(pose).ravel().tolist() for name, pose in workcell.frames.items()},
        "patterns": dict(_patterns(cell)),
        "cameras": camera_rows(infos),
        "zones": [zone_view(zone) for zone in safety.zones.volumes] if safety is not None else [],
        "keep_out": [region.model_dump(mode="json") for region in cell.config.robot.keep_out],
        "person_volume": [list(corner) for corner in workcell.person_volume],
        "floor": workcell.floor,
        "entries": list(workcell.entries),
        "body": meshes.body_urls() or None,
        "manual_speed": cell.config.robot.manual_speed,
        "enabling_device": cell.config.robot.enabling_device,
    }


__all__ = ["Meshes", "UrdfError", "camera_rows", "cameras_of", "cell_view", "clustered", "pack", "zone_view"]
