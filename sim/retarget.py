"""Recorded joints -> poses of the baked body: each bone is turned along the limb it stands for."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from sim import body as b
from sim.body import Body
from sim.mocap import INDEX, Clip
from sim.rotations import F64, between, continuous, frame, to_quaternion, unit

RATE = 100.0
"""Frames per second of all poses, Hz."""
_NECK_TILT = math.radians(40.0)
_UP = np.array([0.0, 0.0, 1.0])


class Frames(NamedTuple):
    """Poses at `RATE`."""

    roots: F64
    """(n, 3) root bone, floor at z = 0, m."""
    rotations: F64
    """(n, 16, 4)."""

    def __len__(self) -> int:
        return len(self.roots)

    def part(self, start: int, stop: int | None = None) -> Frames:
        return Frames(self.roots[start:stop], self.rotations[start:stop])


def join(*pieces: Frames) -> Frames:
    """One after the other."""
    return Frames(np.concatenate([p.roots for p in pieces]), np.concatenate([p.rotations for p in pieces]))


def placed(frames: Frames, x: float, y: float, yaw: float) -> Frames:
    """Turn about the vertical through the origin by `yaw` rad, then shift by x, y."""
    c, s = math.cos(yaw), math.sin(yaw)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    roots = frames.roots @ turn.T + np.array([x, y, 0.0])
    rotations = frames.rotations.copy()
    from sim.rotations import about, multiply

    rotations[:, b.PELVIS] = multiply(about((0.0, 0.0, 1.0), yaw), rotations[:, b.PELVIS])
    return Frames(roots, rotations)


def resample(values: F64, dt: float) -> F64:
    """Linear interpolation of (frames, ...) to `RATE`."""
    count = max(round((len(values) - 1) * dt * RATE) + 1, 2)
    at = np.linspace(0.0, len(values) - 1, count)
    low = np.minimum(at.astype(int), len(values) - 2)
    part = (at - low).reshape(-1, *([1] * (values.ndim - 1)))
    return values[low] * (1.0 - part) + values[low + 1] * part


class _Rest(NamedTuple):
    """Directions of the body's own limbs at rest."""

    pelvis: F64
    chest: F64
    neck: F64
    limbs: dict[str, F64]
    leg: float
    hips: float


def _rest(body: Body) -> _Rest:
    def head(bone: str) -> F64:
        return body.heads[body.bone(bone)]

    trunk = head("neck01") - 0.5 * (head("upperleg01.L") + head("upperleg01.R"))
    limbs = {}
    for side in ("L", "R"):
        limbs[f"upper_{side}"] = unit(head(f"lowerarm01.{side}") - head(f"upperarm01.{side}"))
        limbs[f"fore_{side}"] = unit(head(f"wrist.{side}") - head(f"lowerarm01.{side}"))
        limbs[f"thigh_{side}"] = unit(head(f"lowerleg01.{side}") - head(f"upperleg01.{side}"))
        limbs[f"shin_{side}"] = unit(head(f"foot.{side}") - head(f"lowerleg01.{side}"))
        limbs[f"foot_{side}"] = unit(head(f"toe2-1.{side}") - head(f"foot.{side}"))
    leg = float(
        np.linalg.norm(head("lowerleg01.L") - head("upperleg01.L"))
        + np.linalg.norm(head("foot.L") - head("lowerleg01.L"))
    )
    hips = float(head("root")[2] - head("upperleg01.L")[2])
    return _Rest(
        frame(trunk, head("upperleg01.L") - head("upperleg01.R")),
        frame(trunk, head("upperarm01.L") - head("upperarm01.R")),
        unit(head("head") - head("neck01")),
        limbs,
        leg,
        hips,
    )


def standing_height(body: Body) -> float:
    """Height of the root bone above the floor when the body stands on straight legs, m."""
    return float(body.heads[body.bone("root")][2] - body.vertices[:, 2].min())


def lowest(body: Body, frames: Frames, points: int = 500) -> F64:
    """(n,) height of the lowest of `points` skin points, each moved with its main bone alone, m."""
    chosen = body.spread[:points]
    bone = b.dominant_bone(body)[chosen]
    local = body.vertices[chosen].astype(np.float64) - body.heads[bone]
    result = np.empty(len(frames))
    for i in range(len(frames)):
        t = b.transforms(body, frames.roots[i], frames.rotations[i])[bone]
        result[i] = (np.einsum("nj,nj->n", t[:, 2, :3], local) + t[:, 2, 3]).min()
    return result


def retarget(body: Body, clip: Clip) -> Frames:
    """Poses of `body` for a clip. The first frame stands over the origin and looks along +x; the floor is z = 0."""
    joints = resample(clip.joints, clip.dt)
    rest = _rest(body)
    legs = clip.has_legs
    rotations = _rotations(joints, rest, legs)
    pelvis = joints[:, INDEX["pelvis"]]
    if legs:
        pelvis = 0.5 * (joints[:, INDEX["l_hip"]] + joints[:, INDEX["r_hip"]])
        thigh = np.linalg.norm(joints[0, INDEX["l_knee"]] - joints[0, INDEX["l_hip"]])
        shin = np.linalg.norm(joints[0, INDEX["l_ankle"]] - joints[0, INDEX["l_knee"]])
        scale = rest.leg / float(thigh + shin)
        roots = pelvis * scale
    else:
        roots = uniform_filter1d(pelvis, 25, axis=0, mode="nearest")
        roots[:, 2] = standing_height(body)
    start = to_heading(rotations[0, b.PELVIS])
    frames = placed(Frames(roots, rotations), 0.0, 0.0, -start)
    shift = np.array([frames.roots[0, 0], frames.roots[0, 1], 0.0])
    frames = Frames(frames.roots - shift, continuous(frames.rotations))
    return on_floor(body, frames) if legs else frames


def on_floor(body: Body, frames: Frames) -> Frames:
    """Set a clip on the floor: feet that all but touch it touch it, nothing sinks in, jumps stay jumps."""
    height = lowest(body, frames)
    height = height - np.percentile(height, 10.0)
    near = np.where(height < 0.06, height, 0.06 - np.minimum((height - 0.06), 0.06))
    correction = uniform_filter1d(np.maximum(near, 0.0), 15, mode="nearest") + np.minimum(height, 0.0)
    roots = frames.roots.copy()
    base = lowest(body, frames.part(0, 1))[0] - height[0]
    roots[:, 2] -= base + correction
    return Frames(roots, frames.rotations)


def to_heading(pelvis: F64) -> float:
    """Yaw of the direction the pelvis looks, rad."""
    x, y, z, w = pelvis
    return math.atan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z))


def _rotations(joints: F64, rest: _Rest, legs: bool) -> F64:
    def at(name: str) -> F64:
        return joints[:, INDEX[name]]

    shoulders = at("l_shoulder") - at("r_shoulder")
    trunk = at("neck") - (0.5 * (at("l_hip") + at("r_hip")) if legs else at("pelvis"))
    if legs:
        pelvis = frame(trunk, at("l_hip") - at("r_hip")) @ rest.pelvis.T
    else:
        level = shoulders * np.array([1.0, 1.0, 0.0])
        pelvis = frame(0.7 * _UP + 0.3 * unit(trunk), level) @ rest.pelvis.T
    chest = frame(trunk, shoulders) @ rest.chest.T
    world: dict[int, F64] = {b.PELVIS: pelvis, b.SPINE: chest}
    world[b.NECK] = _along(chest, rest.neck, _tilt_limited(at("head") - at("neck"), chest @ rest.neck))
    world[b.HEAD] = world[b.NECK]
    for side, (shoulder, elbow, wrist), (hip, knee, ankle) in (
        ("L", (b.L_SHOULDER, b.L_ELBOW, b.L_WRIST), (b.L_HIP, b.L_KNEE, b.L_ANKLE)),
        ("R", (b.R_SHOULDER, b.R_ELBOW, b.R_WRIST), (b.R_HIP, b.R_KNEE, b.R_ANKLE)),
    ):
        s = side.lower()
        world[shoulder] = _along(chest, rest.limbs[f"upper_{side}"], at(f"{s}_elbow") - at(f"{s}_shoulder"))
        world[elbow] = _along(world[shoulder], rest.limbs[f"fore_{side}"], at(f"{s}_wrist") - at(f"{s}_elbow"))
        world[wrist] = world[elbow]
        if legs:
            world[hip] = _along(pelvis, rest.limbs[f"thigh_{side}"], at(f"{s}_knee") - at(f"{s}_hip"))
            world[knee] = _along(world[hip], rest.limbs[f"shin_{side}"], at(f"{s}_ankle") - at(f"{s}_knee"))
            toe = at(f"{s}_toe") - at(f"{s}_ankle")
            known = np.isfinite(toe).all() and np.linalg.norm(toe, axis=1).min() > 0.02
            world[ankle] = _along(world[knee], rest.limbs[f"foot_{side}"], toe) if known else world[knee]
        else:
            upright = frame(np.broadcast_to(_UP, trunk.shape), shoulders * np.array([1.0, 1.0, 0.0]))
            world[hip] = world[knee] = world[ankle] = upright
    return local_rotations(world)


PARENT = {
    b.SPINE: b.PELVIS,
    b.NECK: b.SPINE,
    b.HEAD: b.NECK,
    b.L_SHOULDER: b.SPINE,
    b.L_ELBOW: b.L_SHOULDER,
    b.L_WRIST: b.L_ELBOW,
    b.R_SHOULDER: b.SPINE,
    b.R_ELBOW: b.R_SHOULDER,
    b.R_WRIST: b.R_ELBOW,
    b.L_HIP: b.PELVIS,
    b.L_KNEE: b.L_HIP,
    b.L_ANKLE: b.L_KNEE,
    b.R_HIP: b.PELVIS,
    b.R_KNEE: b.R_HIP,
    b.R_ANKLE: b.R_KNEE,
}
"""Joint above each driven joint."""


def local_rotations(world: dict[int, F64]) -> F64:
    """World rotations (n, 3, 3) of all driven joints -> local quaternions (n, 16, 4)."""
    n = len(world[b.PELVIS])
    result = np.empty((n, b.DRIVEN, 4))
    for joint in range(b.DRIVEN):
        above = PARENT.get(joint)
        local = world[joint] if above is None else np.swapaxes(world[above], -1, -2) @ world[joint]
        result[:, joint] = to_quaternion(local)
    return continuous(result)


def _along(parent: F64, rest: F64, direction: F64) -> F64:
    """The parent's rotation, then the smallest turn that brings the limb's rest direction to `direction`."""
    return between(parent @ rest, direction) @ parent


def _tilt_limited(direction: F64, neutral: F64) -> NDArray[np.float64]:
    """`direction`, brought to within a neck's range of `neutral` (head markers often sit behind the head)."""
    direction, neutral = unit(direction), unit(neutral)
    angle = np.arccos(np.clip((direction * neutral).sum(axis=-1), -1.0, 1.0))
    part = np.where(angle > _NECK_TILT, _NECK_TILT / np.maximum(angle, 1e-9), 1.0)[..., None]
    return unit(neutral * (1.0 - part) + direction * part)
