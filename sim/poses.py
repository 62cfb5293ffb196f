"""Single poses of a person: standing, leaning, reaching with a hand, crouching."""

from __future__ import annotations

import math

import numpy as np

from sim import body as b
from sim.body import Body
from sim.retarget import Frames, local_rotations, placed, standing_height
from sim.rotations import F64, about, between, multiply, to_matrix, to_quaternion

_LEAN_MAX = math.radians(75.0)
_LEAN_PELVIS = 0.35
"""Share of a lean that the hips take; the spine takes the rest."""


def stand_pose(body: Body, side_arms: float = math.radians(8.0)) -> Frames:
    """One frame: upright over the origin, looking along +x, arms hanging."""
    eye = np.eye(3)[None]
    world = dict.fromkeys(range(b.DRIVEN), eye)
    for side, sign, shoulder, elbow, wrist in (
        ("L", 1.0, b.L_SHOULDER, b.L_ELBOW, b.L_WRIST),
        ("R", -1.0, b.R_SHOULDER, b.R_ELBOW, b.R_WRIST),
    ):
        upper = body.heads[body.bone(f"lowerarm01.{side}")] - body.heads[body.bone(f"upperarm01.{side}")]
        fore = body.heads[body.bone(f"wrist.{side}")] - body.heads[body.bone(f"lowerarm01.{side}")]
        down = np.array([0.05, sign * math.sin(side_arms), -math.cos(side_arms)])
        world[shoulder] = between(upper, down)[None]
        bent = np.array([0.3, sign * 0.05, -0.95])
        world[elbow] = between(world[shoulder][0] @ fore, bent)[None] @ world[shoulder]
        world[wrist] = world[elbow]
    return Frames(np.array([[0.0, 0.0, standing_height(body)]]), local_rotations(world))


def _leaning(body: Body, stand: Frames, place: tuple[float, float, float], lean: float) -> Frames:
    """The standing pose with the trunk bent forwards about the hip joints by `lean` rad, the legs as they were."""
    hips = 0.5 * (body.heads[body.bone("upperleg01.L")] + body.heads[body.bone("upperleg01.R")]) - body.heads[0]
    pelvis = about((0.0, 1.0, 0.0), _LEAN_PELVIS * lean)
    rotations = stand.rotations.copy()
    rotations[0, b.PELVIS] = pelvis
    rotations[0, b.SPINE] = about((0.0, 1.0, 0.0), (1.0 - _LEAN_PELVIS) * lean)
    rotations[0, b.NECK] = about((0.0, 1.0, 0.0), -0.4 * lean)
    roots = stand.roots.copy()
    roots[0] += hips - to_matrix(pelvis) @ hips
    back = about((0.0, 1.0, 0.0), -_LEAN_PELVIS * lean)
    for hip in (b.L_HIP, b.R_HIP):
        rotations[0, hip] = multiply(back, stand.rotations[0, hip])
    # Arms go on hanging while the chest turns.
    hang = about((0.0, 1.0, 0.0), -lean)
    for shoulder in (b.L_SHOULDER, b.R_SHOULDER):
        rotations[0, shoulder] = multiply(hang, stand.rotations[0, shoulder])
    return placed(Frames(roots, rotations), *place)


def reaching(body: Body, stand: Frames, place: tuple[float, float, float], target: F64, side: str) -> Frames:
    """One frame: the knuckles of hand `side` at `target`, with the smallest lean from which the arm gets there."""
    upper = body.bone(f"upperarm01.{side}")
    fore = body.bone(f"lowerarm01.{side}")
    knuckle = body.bone(f"finger3-1.{side}")
    l1 = float(np.linalg.norm(body.heads[fore] - body.heads[upper]))
    l2 = float(np.linalg.norm(body.heads[knuckle] - body.heads[fore]))
    low, high = 0.0, _LEAN_MAX
    if _shoulder_gap(body, _leaning(body, stand, place, low), upper, target) > 0.96 * (l1 + l2):
        for _ in range(12):
            lean = 0.5 * (low + high)
            far = _shoulder_gap(body, _leaning(body, stand, place, lean), upper, target) > 0.96 * (l1 + l2)
            low, high = (lean, high) if far else (low, lean)
        low = high
    frame = _leaning(body, stand, place, low)
    bones = b.transforms(body, frame.roots[0], frame.rotations[0])
    chest, shoulder = bones[body.bone("spine01"), :, :3], bones[upper, :, 3]
    sign = 1.0 if side == "L" else -1.0
    pole = chest @ np.array([-0.2, 0.6 * sign, -0.8])
    elbow, hand = two_bones(shoulder, target, l1, l2, pole)
    world_upper = between(chest @ (body.heads[fore] - body.heads[upper]), elbow - shoulder) @ chest
    world_fore = between(world_upper @ (body.heads[knuckle] - body.heads[fore]), hand - elbow) @ world_upper
    joints = (b.L_SHOULDER, b.L_ELBOW, b.L_WRIST) if side == "L" else (b.R_SHOULDER, b.R_ELBOW, b.R_WRIST)
    # The clavicle and the bones below the shoulder are rigid with the chest.
    frame.rotations[0, joints[0]] = to_quaternion(chest.T @ world_upper)
    frame.rotations[0, joints[1]] = to_quaternion(world_upper.T @ world_fore)
    frame.rotations[0, joints[2]] = (0.0, 0.0, 0.0, 1.0)
    return frame


def _shoulder_gap(body: Body, frame: Frames, upper: int, target: F64) -> float:
    shoulder = b.transforms(body, frame.roots[0], frame.rotations[0])[upper, :, 3]
    return float(np.linalg.norm(target - shoulder))


def two_bones(root: F64, target: F64, l1: float, l2: float, pole: F64) -> tuple[F64, F64]:
    """Middle joint and end of a two-bone chain from `root` towards `target`, bending towards `pole`."""
    line = target - root
    distance = float(np.linalg.norm(line))
    direction = line / distance if distance > 1e-9 else np.array([0.0, 0.0, -1.0])
    distance = min(max(distance, abs(l1 - l2) + 1e-3), 0.999 * (l1 + l2))
    along = (l1 * l1 - l2 * l2 + distance * distance) / (2.0 * distance)
    across = math.sqrt(max(l1 * l1 - along * along, 0.0))
    side = pole - direction * float(pole @ direction)
    norm = float(np.linalg.norm(side))
    side = side / norm if norm > 1e-9 else np.cross(direction, [0.0, 1.0, 0.0])
    return root + along * direction + across * side, root + distance * direction


def crouching(body: Body, stand: Frames, place: tuple[float, float, float], sink: float) -> Frames:
    """One frame: pelvis lowered by `sink`, feet where they were, knees forwards, trunk leaning to keep balance."""
    upright = placed(stand, *place)
    frame = _leaning(body, stand, place, 0.9 * sink)
    frame.roots[0, 2] -= sink
    before = b.transforms(body, upright.roots[0], upright.rotations[0])
    now = b.transforms(body, frame.roots[0], frame.rotations[0])
    forwards = to_matrix(upright.rotations[0, b.PELVIS]) @ np.array([1.0, 0.0, 0.0])
    for side, hip, knee, ankle in (("L", b.L_HIP, b.L_KNEE, b.L_ANKLE), ("R", b.R_HIP, b.R_KNEE, b.R_ANKLE)):
        bones = [body.bone(f"{n}.{side}") for n in ("upperleg01", "lowerleg01", "foot")]
        heads = body.heads[bones]
        l1, l2 = (float(np.linalg.norm(heads[i + 1] - heads[i])) for i in (0, 1))
        foot = before[bones[2]]
        middle, end = two_bones(now[bones[0], :, 3], foot[:, 3], l1, l2, forwards)
        pelvis = to_matrix(frame.rotations[0, b.PELVIS])
        thigh = between(pelvis @ (heads[1] - heads[0]), middle - now[bones[0], :, 3]) @ pelvis
        shin = between(thigh @ (heads[2] - heads[1]), end - middle) @ thigh
        frame.rotations[0, hip] = to_quaternion(pelvis.T @ thigh)
        frame.rotations[0, knee] = to_quaternion(thigh.T @ shin)
        frame.rotations[0, ankle] = to_quaternion(shin.T @ foot[:, :3])
    return frame
