"""Fit one capsule to the convex hull of each link's collision meshes and print the table for robots/models/*.yaml.

    python scripts/fit_capsules.py panda

Each capsule has the least volume found from several starts; the radius is then enlarged so that every hull vertex lies
inside with 0.2 mm to spare. A capsule is convex, so with its vertices the whole hull lies inside.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import trimesh
from scipy.optimize import minimize

from robots.urdf import CollisionMesh, collision_meshes, package_file, transform

MARGIN = 2e-4
FINGER_OPEN = 0.04

SOURCES = {
    "panda": ("pybullet_data", "franka_panda/panda.urdf", "panda_link0"),
    "iiwa14": ("pybullet_data", "kuka_iiwa/model.urdf", "lbr_iiwa_link_0"),
    "ur5e": ("airo_models", "arms/ur5e/ur5e.urdf", "base_link_inertia"),
}


def hull_vertices(meshes: list[CollisionMesh]) -> np.ndarray:
    points = []
    for mesh in meshes:
        vertices = np.asarray(trimesh.load(mesh.path, force="mesh").vertices)
        points.append(vertices @ mesh.T_link_mesh[:3, :3].T + mesh.T_link_mesh[:3, 3])
    cloud = np.concatenate(points)
    return np.asarray(trimesh.convex.convex_hull(cloud).vertices)


def distances(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = b - a
    t = np.clip((points - a) @ d / max(float(d @ d), 1e-12), 0.0, 1.0)
    return np.linalg.norm(points - a - t[:, None] * d, axis=1)


def cost(x: np.ndarray, points: np.ndarray) -> float:
    a, b = x[:3], x[3:]
    r = float(distances(points, a, b).max())
    return math.pi * r * r * float(np.linalg.norm(b - a)) + 4.0 / 3.0 * math.pi * r**3


def fit(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    centre = (points.max(axis=0) + points.min(axis=0)) / 2.0
    axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2]
    best, best_x = math.inf, np.zeros(6)
    for axis in [*axes, *np.eye(3)]:
        half = np.abs((points - centre) @ axis).max()
        for share in (0.3, 0.7):
            x = np.concatenate([centre - axis * half * share, centre + axis * half * share])
            for _ in range(3):
                options = {"maxiter": 4000, "xatol": 1e-6, "fatol": 1e-10, "adaptive": True}
                x = minimize(cost, x, args=(points,), method="Nelder-Mead", options=options).x
            value = cost(x, points)
            if value < best:
                best, best_x = value, x
    a, b = np.round(best_x[:3], 4), np.round(best_x[3:], 4)
    return a, b, math.ceil((float(distances(points, a, b).max()) + MARGIN) * 1e4) / 1e4


def show(link: str, points: np.ndarray) -> None:
    a, b, r = fit(points)
    ends = ", ".join(f"{k}: [{', '.join(f'{v:.4f}' for v in p)}]" for k, p in (("a", a), ("b", b)))
    print(f"  - {{link: {link}, {ends}, radius: {r:.4f}}}", flush=True)


def panda_tool(meshes: list[CollisionMesh], urdf: Path) -> None:
    hand = [m for m in meshes if m.link == "panda_hand"]
    left = transform((0.0, FINGER_OPEN, 0.0584))
    right = transform((0.0, -FINGER_OPEN, 0.0584))
    fingers = []
    for mesh in meshes:
        if mesh.link in ("panda_leftfinger", "panda_rightfinger"):
            T = left if mesh.link == "panda_leftfinger" else right
            fingers.append(CollisionMesh(mesh.link, mesh.path, T @ mesh.T_link_mesh))
    print("  # tool, in the frame panda_hand, fingers at the largest opening")
    show("hand", hull_vertices(hand))
    show("fingers", hull_vertices(fingers))


def main(name: str) -> None:
    package, path, base = SOURCES[name]
    urdf = package_file(package, path)
    meshes = collision_meshes(urdf)
    if name == "ur5e":  # the URDF gives the base two spheres only; its visual placement holds for the base mesh too
        mesh = urdf.parent / "collision/base.obj"
        meshes.insert(0, CollisionMesh(base, mesh, transform((0, 0, 0), (0, 0, math.pi))))
    print("capsules:")
    for link in dict.fromkeys(m.link for m in meshes):
        if "hand" in link or "finger" in link:
            continue
        show(link, hull_vertices([m for m in meshes if m.link == link]))
    if name == "panda":
        panda_tool(meshes, urdf)


if __name__ == "__main__":
    main(sys.argv[1])
