"""Bake skinned human bodies for the twin from the model `anny` (data CC0-1.0, code Apache-2.0).

Run once, in an environment of its own (it needs torch; the product does not):

    python -m venv bake && bake/bin/pip install "anny==0.6.2" "torch==2.13.0" fast-simplification
    bake/bin/python scripts/bake_human.py sim/data

Writes `body_178.npz` and `body_166.npz`. Axes of the result: x forwards, y to the left, z up, origin midway between
the hip joints' height and the ground as the model has it (the reader uses the joints, not the origin). Arrays:

vertices     (v, 3) float32   rest pose, m
faces        (f, 3) uint16    triangles, counter-clockwise from outside
bones        (b,)   str       names; facial bones are merged into the head
parents      (b,)   int16     parent bone, -1 for the root
heads, tails (b, 3) float32   ends of the bones in the rest pose, m; every rest frame is parallel to the axes
weight_bones (v, 9) uint8     bones of each vertex
weights      (v, 9) float32   their weights, rows sum to 1
spread       (n,)   uint16    vertices in farthest-point order: any beginning of it is well spread over the skin
reduced      (g, 3) uint16    triangles of a reduced mesh over a subset of the same vertices
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

BODIES = {
    "body_178": {"age": 0.6667, "gender": 0.0, "height": 0.38},
    "body_166": {"age": 0.6667, "gender": 1.0, "height": 0.40},
}
SPREAD = 2000
REDUCED_FACES = 6000


def to_cell_axes(points: np.ndarray) -> np.ndarray:
    """The model looks along -y with its left at +x; the cell's people look along +x with their left at +y."""
    return np.stack([-points[:, 1], points[:, 0], points[:, 2]], axis=1)


def merge_bones(names: list[str], parents: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Bones to keep, and for every bone the kept one it is merged into: all below `head` become `head`."""
    head = names.index("head")
    into = np.arange(len(names))
    for bone in range(len(names)):
        above = bone
        while above >= 0 and above != head:
            above = int(parents[above])
        if above == head:
            into[bone] = head
    return [b for b in range(len(names)) if into[b] == b], into


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` points, each the farthest from those before it."""
    chosen = [int(points[:, 2].argmax())]
    distance = np.full(len(points), np.inf)
    for _ in range(count - 1):
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def reduced_faces(vertices: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Quadric decimation, its vertices moved to the nearest original ones so that they keep their weights."""
    import fast_simplification
    from scipy.spatial import cKDTree

    points, triangles = fast_simplification.simplify(
        vertices.astype(np.float32), faces.astype(np.int64), target_count=count
    )
    nearest = cKDTree(vertices).query(points)[1]
    result = nearest[triangles]
    distinct = (result[:, 0] != result[:, 1]) & (result[:, 1] != result[:, 2]) & (result[:, 2] != result[:, 0])
    return result[distinct]


def outer_surface(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """True for vertices of the largest connected surface: the skin, without eyeballs, tongue and teeth."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(vertices)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    return label == np.bincount(label).argmax()


def main(target: Path) -> None:
    import anny
    import torch

    model = anny.create_fullbody_model(rig="default", topology="default", triangulate_faces=True)
    names = list(model.bone_labels)
    parents = np.array([int(p) for p in model.bone_parents])
    keep, into = merge_bones(names, parents)
    position = {bone: i for i, bone in enumerate(keep)}
    new_parents = np.array([position[int(into[parents[b]])] if parents[b] >= 0 else -1 for b in keep])
    all_faces = model.get_triangular_faces().numpy()
    for name, shape in BODIES.items():
        out = model(phenotype_kwargs={k: torch.tensor([v]) for k, v in shape.items()})
        vertices = to_cell_axes(out["rest_vertices"][0].detach().numpy())
        heads = to_cell_axes(out["rest_bone_heads"][0].detach().numpy())[keep]
        tails = to_cell_axes(out["rest_bone_tails"][0].detach().numpy())[keep]
        skin = outer_surface(vertices, all_faces)
        index = np.cumsum(skin) - 1
        faces = index[all_faces[skin[all_faces].all(axis=1)]]
        vertices = vertices[skin]
        weights = model.vertex_bone_weights.numpy()[skin].astype(np.float64)
        bones = np.vectorize(lambda b: position[int(into[b])])(model.vertex_bone_indices.numpy()[skin])
        weights /= weights.sum(axis=1, keepdims=True)
        path = target / f"{name}.npz"
        np.savez_compressed(
            path,
            vertices=vertices.astype(np.float32),
            faces=faces.astype(np.uint16),
            bones=np.array([names[b] for b in keep]),
            parents=new_parents.astype(np.int16),
            heads=heads.astype(np.float32),
            tails=tails.astype(np.float32),
            weight_bones=bones.astype(np.uint8),
            weights=weights.astype(np.float32),
            spread=farthest_points(vertices, SPREAD).astype(np.uint16),
            reduced=reduced_faces(vertices, faces, REDUCED_FACES).astype(np.uint16),
        )
        height = np.ptp(vertices[:, 2])
        print(f"{path}: {len(vertices)} vertices, {len(faces)} faces, {len(keep)} bones, {height:.3f} m,")
        print(f"  {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
