"""Where the robot descriptions of installed packages lie, and what their links are made of.

The packages that carry URDF files are located without importing them, so that a node needs no physics engine to know
its own arm. Two traps are handled here: `package://` mesh addresses that are meant relative to the URDF file, and
vendor attributes with an undeclared namespace, which no XML parser accepts.
"""

from __future__ import annotations

import importlib.util
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class UrdfError(Exception):
    """A robot description that is missing or cannot be used; the text names the file and the remedy."""


def package_file(package: str, path: str) -> Path:
    """Return the absolute path of a data file inside an installed package, without importing the package.

    Raises:
        UrdfError: the package is not installed or has no such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UrdfError(f"package {package} is not installed: run `make setup`")
    for folder in spec.submodule_search_locations:
        candidate = Path(folder) / path
        if candidate.is_file():
            return candidate
    raise UrdfError(f"package {package} has no file {path}: another version is installed; run `make setup`")


def rotation_rpy(roll: float, pitch: float, yaw: float) -> Array:
    """Rotation matrix of fixed-axis roll, pitch, yaw (the URDF convention), shape (3, 3)."""
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def transform(xyz: tuple[float, float, float], rpy: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    """Homogeneous transform (4, 4) of a position (m) and roll-pitch-yaw (rad)."""
    T = np.eye(4)
    T[:3, :3] = rotation_rpy(*rpy)
    T[:3, 3] = xyz
    return T


@dataclass(frozen=True)
class CollisionMesh:
    """One collision mesh of a link."""

    link: str
    path: Path
    T_link_mesh: Array
    """Pose of the mesh in the link's frame, (4, 4)."""


def read_xml(path: Path) -> ET.Element:
    """Parse a URDF file; attributes of undeclared vendor namespaces are dropped.

    Raises:
        UrdfError: the file is unreadable or is not XML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return ET.fromstring(re.sub(r'\s(?!xmlns)[A-Za-z_]+:[A-Za-z_]+="[^"]*"', "", text))
    except (OSError, UnicodeDecodeError, ET.ParseError) as error:
        raise UrdfError(f"{path}: not a readable URDF file ({error})") from error


def _origin(element: ET.Element) -> Array:
    origin = element.find("origin")
    if origin is None:
        return np.eye(4)
    xyz = [float(v) for v in origin.get("xyz", "0 0 0").split()]
    rpy = [float(v) for v in origin.get("rpy", "0 0 0").split()]
    return transform((xyz[0], xyz[1], xyz[2]), (rpy[0], rpy[1], rpy[2]))


def mesh_path(urdf: Path, filename: str) -> Path:
    """Resolve a mesh address of a URDF file: `package://` is taken relative to the file's folder."""
    return urdf.parent / filename.removeprefix("package://")


def collision_meshes(urdf: Path) -> list[CollisionMesh]:
    """Return all collision meshes of a URDF file in file order. Raises UrdfError for a mesh that is not there."""
    meshes = []
    for link in read_xml(urdf).iter("link"):
        for collision in link.findall("collision"):
            mesh = collision.find("geometry/mesh")
            if mesh is None:
                continue
            path = mesh_path(urdf, mesh.get("filename", ""))
            if not path.is_file():
                raise UrdfError(f"{urdf}: link {link.get('name')} names a mesh that is missing: {path}")
            meshes.append(CollisionMesh(link.get("name", ""), path, _origin(collision)))
    return meshes
