"""People and parts of people before the twin's cameras, with the truth of every pixel."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from perception.contract import CameraInfo, Frame
from perception.detection import HAND, HAND_SIZE, LIMB, LIMB_SIZE, RATE, Place, Shot
from robots.workcell import PartType, Workcell
from sim.arms import arm_spec
from sim.body import load_body, transforms
from sim.camera import describe
from sim.contract import BodyPose, PartPose, Scene
from sim.mocap import read_clip
from sim.noise import DepthNoise
from sim.poses import crouching, reaching, stand_pose
from sim.raster import RasterRenderer
from sim.render import GlRenderer, Picture, Renderer, View
from sim.retarget import RATE as POSES_RATE
from sim.retarget import Frames, lowest, placed, retarget

CLIPS = {"walking": "humanoid3d_walk", "crawling": "humanoid3d_crawl"}
LYING_CLIP = "humanoid3d_getup_faceup"
"""Its first frame lies on the back."""
SINK = 0.45
"""How far somebody who crouches lowers the pelvis, m."""
REACH = 0.75
"""From the feet to the hand that goes through the gap, m."""
DARK = 0.30
"""Share of the pixels that dark clothes lose."""


@functools.lru_cache(maxsize=8)
def _motion(body: str, clip: str) -> Frames:
    return retarget(load_body(body), read_clip(clip))


def _posed(target: str, place: Place, moment: int, floor: float, body_name: str) -> BodyPose:
    """The person at moment number `moment` of the cameras' rate."""
    body = load_body(body_name)
    x, y, _ = place.position
    yaw = float(Rotation.from_quat(place.turn).as_euler("zyx")[0])
    stand = stand_pose(body)
    if target in CLIPS:
        motion = _motion(body_name, CLIPS[target])
        first = place.start * max(0, len(motion) - 1 - round(6 * POSES_RATE / RATE))
        frame = motion.part(at := min(round(first + moment * POSES_RATE / RATE), len(motion) - 1), at + 1)
        # Recorded people travel; where the clip is entered is where the target was put.
        shift = motion.roots[round(first)] * [1.0, 1.0, 0.0]
        frame = placed(Frames(frame.roots - shift, frame.rotations), x, y, yaw)
    elif target == "lying":
        frame = _motion(body_name, LYING_CLIP).part(0, 1)
        # Recorded people lie on a mat; these lie on the floor.
        down = np.array([[0.0, 0.0, frame.roots[0, 2] - lowest(body, frame)[0]]])
        frame = placed(Frames(down, frame.rotations), x, y, yaw)
    elif target == "crouching":
        frame = crouching(body, stand, (x, y, yaw), SINK)
    elif target == "arm_through_gap":
        hand = np.array([x + REACH * math.cos(yaw), y + REACH * math.sin(yaw), 0.9 + 0.3 * place.start])
        frame = reaching(body, stand, (x, y, yaw), hand, "R")
    else:
        frame = placed(stand, x, y, yaw)
    root = frame.roots[0] + np.array([0.0, 0.0, floor])
    bones = transforms(body, root, frame.rotations[0]).astype("<f4")
    return BodyPose("target", bones.tobytes(), body_name)


class PeopleBench:
    """The cameras of a cell, its fixtures and its arm; implements `perception.detection.Bench`."""

    def __init__(
        self, cameras: Sequence[tuple[str, Mapping[str, Any]]], q: Sequence[float], seed: int, colour: bool = False
    ) -> None:
        """`cameras`: name and options as for `TwinCamera`; `q`: the arm at rest, rad; `colour`: draw colours too, which
        needs EGL. Raises CameraError for wrong options, ValueError for a `q` that does not fit."""
        kinds = {
            LIMB: PartType(shape="cylinder", size=(LIMB_SIZE[0], *LIMB_SIZE), colour=(0.5, 0.5, 0.5)),
            HAND: PartType(shape="box", size=HAND_SIZE, colour=(0.7, 0.5, 0.4)),
        }
        robot = cameras[0][1]["robot"]
        arm = arm_spec(str(robot["model"]))
        if len(arm.joints) != len(q):
            raise ValueError(f"{len(q)} joints given, the {robot['model']} has another number")
        workcell: Workcell = cameras[0][1]["workcell"]
        with_targets = workcell.model_copy(update={"parts": {**workcell.parts, **kinds}, "stock": []})
        self._floor, self._q, self._colour = workcell.floor, list(q), colour
        self.infos: list[CameraInfo] = []
        self._noise: list[DepthNoise] = []
        self._renderers: list[Renderer] = []
        for name, options in cameras:
            info, own, noise = describe(name, {**options, "seed": seed})
            k = info.intrinsics
            view = View(k.width, k.height, k.fx, k.fy, k.cx, k.cy, own.mount.T_base_camera())
            self.infos.append(info)
            self._noise.append(noise)
            self._renderers.append((GlRenderer if colour else RasterRenderer)(view, with_targets, arm))
        self._bare = [self._drawn(n, Scene(0.0, self._q, 0.0, [], [])).depth for n in range(len(self.infos))]

    def _drawn(self, camera: int, scene: Scene) -> Picture:
        picture = self._renderers[camera].draw(scene, self._colour)
        return Picture(picture.depth.copy(), picture.shade.copy(), picture.colour)

    def shots(self, target: str, place: Place, moment: int, seed: int) -> list[Shot]:
        """One picture of each camera at moment number `moment` (30 a second), noise from `seed` and `moment`. Raises
        ValueError for a target that does not exist."""
        people, parts = [], []
        if target in (LIMB, HAND):
            parts.append(PartPose("target", target, (*place.position, *place.turn)))
        else:
            people.append(_posed(target, place, moment, self._floor, ("body_178", "body_166")[seed % 2]))
        scene = Scene(float(moment), self._q, 0.0, people, parts)
        return [self._shot(n, scene, target, seed * 64 + moment) for n in range(len(self.infos))]

    def _shot(self, camera: int, scene: Scene, target: str, number: int) -> Shot:
        picture = self._drawn(camera, scene)
        bare = self._bare[camera]
        mask = (picture.depth > 0.0) & ((bare == 0.0) | (picture.depth < bare - np.float32(1e-4)))
        depth = self._noise[camera].apply(picture.depth, picture.shade, number)
        if target == "dark":
            lost = np.random.default_rng([number, camera, 30]).random(depth.shape, np.float32) < DARK
            depth[mask & lost] = 0
        frame = Frame(self.infos[camera].name, number, float(number), depth, picture.colour)
        return Shot(frame, picture.depth, mask)

    def joints(self, target: str, place: Place, moment: int, seed: int) -> dict[str, tuple[float, float, float]]:
        """True places of a person's joints in the base frame, m, by the names of `perception.pose.JOINTS`."""
        name = ("body_178", "body_166")[seed % 2]
        body = load_body(name)
        pose = _posed(target, place, moment, self._floor, name)
        bones = np.frombuffer(pose.bones, "<f4").reshape(-1, 3, 4)
        heads = {
            "shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "hip": "upperleg01",
            "knee": "lowerleg01", "ankle": "foot",
        }  # fmt: skip
        out = {}
        for side, letter in (("left", "L"), ("right", "R")):
            for joint, bone in heads.items():
                x, y, z = bones[body.bone(f"{bone}.{letter}"), :, 3].tolist()
                out[f"{side}_{joint}"] = (x, y, z)
        return out

    def empty(self, q: Sequence[float], fingers: float, count: int, seed: int) -> list[list[Frame]]:
        """`count` moments of the cell without people, arm at `q`: one true picture of each camera, new noise each."""
        scene = Scene(0.0, list(q), fingers, [], [])
        truth = [self._drawn(n, scene) for n in range(len(self.infos))]
        moments = []
        for i in range(count):
            number = seed * count + i
            row = [noise.apply(p.depth, p.shade, number) for noise, p in zip(self._noise, truth, strict=True)]
            moments.append(
                [
                    Frame(info.name, number, float(number), depth, picture.colour)
                    for info, depth, picture in zip(self.infos, row, truth, strict=True)
                ]
            )
        return moments

    def close(self) -> None:
        """Free the renderers. Idempotent."""
        for renderer in self._renderers:
            renderer.close()
