"""The skinned body: loading, forward kinematics of its bones, skinning. Rest frames of all bones are parallel to the
body's axes (x forwards, y left, z up), so a bone's local rotation is given in those axes.

A *pose* is the position of the root bone and sixteen unit quaternions (x y z w), one for each of `DRIVEN`, local to
the parent bone. The spine's rotation is shared equally by its five bones.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

DATA = Path(__file__).parent / "data"
PELVIS, SPINE, NECK, HEAD = 0, 1, 2, 3
L_SHOULDER, L_ELBOW, L_WRIST, R_SHOULDER, R_ELBOW, R_WRIST = 4, 5, 6, 7, 8, 9
L_HIP, L_KNEE, L_ANKLE, R_HIP, R_KNEE, R_ANKLE = 10, 11, 12, 13, 14, 15
DRIVEN = 16
SPINE_BONES = ("spine05", "spine04", "spine03", "spine02", "spine01")
_DRIVEN_BONES = {
    "root": PELVIS,
    "neck01": NECK,
    "head": HEAD,
    "upperarm01.L": L_SHOULDER,
    "lowerarm01.L": L_ELBOW,
    "wrist.L": L_WRIST,
    "upperarm01.R": R_SHOULDER,
    "lowerarm01.R": R_ELBOW,
    "wrist.R": R_WRIST,
    "upperleg01.L": L_HIP,
    "lowerleg01.L": L_KNEE,
    "foot.L": L_ANKLE,
    "upperleg01.R": R_HIP,
    "lowerleg01.R": R_KNEE,
    "foot.R": R_ANKLE,
}
_SEGMENT_OF = {
    "root": "pelvis",
    "pelvis": "pelvis",
    "spine05": "pelvis",
    "spine04": "abdomen",
    "spine03": "abdomen",
    "spine02": "chest",
    "spine01": "chest",
    "breast": "chest",
    "clavicle": "chest",
    "shoulder01": "chest",
    "neck": "head",
    "head": "head",
    "upperarm": "upper_arm",
    "lowerarm": "forearm",
    "wrist": "hand",
    "finger": "hand",
    "metacarpal": "hand",
    "upperleg": "thigh",
    "lowerleg": "shin",
    "foot": "foot",
    "toe": "foot",
}


class Body(NamedTuple):
    """A baked body. v vertices, f faces, b bones."""

    name: str
    vertices: F32
    """(v, 3) rest pose, m."""
    faces: NDArray[np.int32]
    """(f, 3)."""
    reduced: NDArray[np.int32]
    """(g, 3) triangles of the reduced mesh over the same vertices."""
    bones: tuple[str, ...]
    parents: NDArray[np.int64]
    heads: F64
    """(b, 3) rest positions of the bones, m."""
    tails: F64
    weight_bones: NDArray[np.uint8]
    """(v, 9)."""
    weights: F32
    """(v, 9)."""
    spread: NDArray[np.int64]
    """Vertex indices in farthest-point order."""
    driver: NDArray[np.int64]
    """(b,) index into the pose's rotations, -1: none (rigid with its parent)."""
    share: F64
    """(b,) share of that rotation the bone takes: 1, or 1/5 for the spine's bones."""

    def bone(self, name: str) -> int:
        return self.bones.index(name)

    def joint(self, driven: int) -> int:
        """Bone whose head is the joint `driven` (for the spine the lowest of its bones)."""
        return int(np.flatnonzero(self.driver == driven)[0])


@functools.cache
def load_body(name: str) -> Body:
    """Load `body_178` or `body_166`. Raises FileNotFoundError."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as data:
        bones = tuple(str(b) for b in data["bones"])
        driver = np.full(len(bones), -1, dtype=np.int64)
        share = np.ones(len(bones))
        for bone, joint in _DRIVEN_BONES.items():
            driver[bones.index(bone)] = joint
        for bone in SPINE_BONES:
            driver[bones.index(bone)] = SPINE
            share[bones.index(bone)] = 1.0 / len(SPINE_BONES)
        body = Body(
            name,
            data["vertices"],
            data["faces"].astype(np.int32),
            data["reduced"].astype(np.int32),
            bones,
            data["parents"].astype(np.int64),
            data["heads"].astype(np.float64),
            data["tails"].astype(np.float64),
            data["weight_bones"],
            data["weights"],
            data["spread"].astype(np.int64),
            driver,
            share,
        )
    if (body.parents[1:] >= np.arange(1, len(bones))).any():
        raise ValueError(f"{name}: a bone comes before its parent")
    return body


def segment_of(body: Body) -> list[str]:
    """For each bone the body segment it belongs to, such as `left_forearm`; head and neck are `head`."""
    names = []
    for bone in body.bones:
        stem = max((key for key in _SEGMENT_OF if bone.startswith(key)), key=len)
        segment = _SEGMENT_OF[stem]
        paired = segment in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot")
        side = {"L": "left_", "R": "right_"}[bone[-1]] if paired else ""
        names.append(side + segment)
    return names


def dominant_bone(body: Body) -> NDArray[np.int64]:
    """(v,) the bone with the largest weight of each vertex."""
    rows = np.arange(len(body.vertices))
    return body.weight_bones[rows, body.weights.argmax(axis=1)].astype(np.int64)


@njit(cache=True)
def _bone_rotation(q: F64, share: float) -> F64:
    """Rotation matrix of the unit quaternion `q` (x y z w) raised to the power `share`."""
    x, y, z, w = q[0], q[1], q[2], q[3]
    if share != 1.0:
        if w < 0.0:
            x, y, z, w = -x, -y, -z, -w
        s = np.sqrt(x * x + y * y + z * z)
        if s > 1e-12:
            half = np.arctan2(s, w) * share
            k = np.sin(half) / s
            x, y, z, w = x * k, y * k, z * k, np.cos(half)
    r = np.empty((3, 3))
    r[0, 0] = 1 - 2 * (y * y + z * z)
    r[0, 1] = 2 * (x * y - z * w)
    r[0, 2] = 2 * (x * z + y * w)
    r[1, 0] = 2 * (x * y + z * w)
    r[1, 1] = 1 - 2 * (x * x + z * z)
    r[1, 2] = 2 * (y * z - x * w)
    r[2, 0] = 2 * (x * z - y * w)
    r[2, 1] = 2 * (y * z + x * w)
    r[2, 2] = 1 - 2 * (x * x + y * y)
    return r


@njit(cache=True)
def bone_transforms(
    root: F64, rotations: F64, heads: F64, parents: NDArray[np.int64], driver: NDArray[np.int64], share: F64
) -> F64:
    """World transforms (b, 3, 4) of all bones for a pose: `root` (3,), `rotations` (16, 4)."""
    n = heads.shape[0]
    out = np.empty((n, 3, 4))
    for b in range(n):
        parent = parents[b]
        if parent < 0:
            for i in range(3):
                for j in range(3):
                    out[b, i, j] = 1.0 if i == j else 0.0
                out[b, i, 3] = root[i]
        else:
            dx = heads[b, 0] - heads[parent, 0]
            dy = heads[b, 1] - heads[parent, 1]
            dz = heads[b, 2] - heads[parent, 2]
            for i in range(3):
                for j in range(3):
                    out[b, i, j] = out[parent, i, j]
                out[b, i, 3] = (
                    out[parent, i, 3] + out[parent, i, 0] * dx + out[parent, i, 1] * dy + out[parent, i, 2] * dz
                )
        if driver[b] >= 0:
            r = _bone_rotation(rotations[driver[b]], share[b])
            for i in range(3):
                a0, a1, a2 = out[b, i, 0], out[b, i, 1], out[b, i, 2]
                for j in range(3):
                    out[b, i, j] = a0 * r[0, j] + a1 * r[1, j] + a2 * r[2, j]
    return out


@njit(cache=True)
def pose_at(roots: F64, rotations: F64, low: int, high: int, part: float, out_root: F64, out_rotations: F64) -> None:
    """Pose between the frames `low` and `high` of a track (roots (n, 3), rotations (n, 16, 4)), into the outputs."""
    for i in range(3):
        out_root[i] = roots[low, i] + part * (roots[high, i] - roots[low, i])
    for j in range(rotations.shape[1]):
        dot = 0.0
        for i in range(4):
            dot += rotations[low, j, i] * rotations[high, j, i]
        sign = 1.0 if dot >= 0.0 else -1.0
        norm = 0.0
        for i in range(4):
            value = (1.0 - part) * rotations[low, j, i] + part * sign * rotations[high, j, i]
            out_rotations[j, i] = value
            norm += value * value
        norm = np.sqrt(norm)
        for i in range(4):
            out_rotations[j, i] /= norm


def transforms(body: Body, root: F64, rotations: F64) -> F64:
    """World transforms (b, 3, 4) of all bones for a pose."""
    return np.asarray(bone_transforms(root, rotations, body.heads, body.parents, body.driver, body.share))


@njit(cache=True)
def _transforms_row(
    roots: F64,
    rotations: F64,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    part: F64,
    sway: F64,
    heads: F64,
    parents: NDArray[np.int64],
    driver: NDArray[np.int64],
    share: F64,
) -> F64:
    out = np.empty((len(low), len(heads), 3, 4))
    root, turns = np.empty(3), np.empty(rotations.shape[1:])
    for n in range(len(low)):
        pose_at(roots, rotations, low[n], high[n], part[n], root, turns)
        root[0] += sway[n, 0]
        root[1] += sway[n, 1]
        out[n] = bone_transforms(root, turns, heads, parents, driver, share)
    return out


def transforms_row(
    body: Body,
    roots: F64,
    rotations: F64,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    part: F64,
    sway: F64,
) -> F64:
    """World transforms (n, b, 3, 4) for n poses between the frames `low` and `high` of a track (`pose_at`), the root
    moved by `sway` (n, 2)."""
    bone = (body.heads, body.parents, body.driver, body.share)
    return np.asarray(_transforms_row(roots, rotations, low, high, part, sway, *bone))


@njit(cache=True)
def _skin(
    vertices: F32,
    chosen: NDArray[np.int64],
    weight_bones: NDArray[np.uint8],
    weights: F32,
    heads: F64,
    bones: F64,
) -> F32:
    n_bones = bones.shape[0]
    matrices = np.empty((n_bones, 12), dtype=np.float32)
    for b in range(n_bones):
        for i in range(3):
            shift = bones[b, i, 3]
            for j in range(3):
                matrices[b, 4 * i + j] = bones[b, i, j]
                shift -= bones[b, i, j] * heads[b, j]
            matrices[b, 4 * i + 3] = shift
    out = np.empty((chosen.shape[0], 3), dtype=np.float32)
    m = np.empty(12, dtype=np.float32)
    for k in range(chosen.shape[0]):
        v = chosen[k]
        m[:] = 0.0
        for w in range(weight_bones.shape[1]):
            weight = weights[v, w]
            if weight > 0.0:
                b = weight_bones[v, w]
                for i in range(12):
                    m[i] += weight * matrices[b, i]
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        out[k, 0] = m[0] * x + m[1] * y + m[2] * z + m[3]
        out[k, 1] = m[4] * x + m[5] * y + m[6] * z + m[7]
        out[k, 2] = m[8] * x + m[9] * y + m[10] * z + m[11]
    return out


def skin(body: Body, bones: F64, chosen: NDArray[np.int64] | None = None) -> F32:
    """Linear blend skinning: (n, 3) positions of the `chosen` vertices (all if None) for bone transforms (b, 3, 4)."""
    if chosen is None:
        chosen = np.arange(len(body.vertices))
    return np.asarray(
        _skin(body.vertices, chosen, body.weight_bones, body.weights, body.heads, np.ascontiguousarray(bones))
    )
