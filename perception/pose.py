"""People in a colour picture by their skeletons (MediaPipe), lifted into space with depth. Labels for people to look
at: losing them, or finding none, loosens nothing."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception.contract import Intrinsics

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
MODEL_VARIABLE = "CELL_POSE_MODEL"
MODEL_SHA256 = "4eaa5eb7a98365221087693fcc286334cf0858e2eb6e15b506aa4a7ecdcec4ad"
"""Of the official pose_landmarker_full.task."""
JOINTS = {
    "nose": 0, "left_shoulder": 11, "right_shoulder": 12, "left_elbow": 13, "right_elbow": 14, "left_wrist": 15,
    "right_wrist": 16, "left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26, "left_ankle": 27,
    "right_ankle": 28,
}  # fmt: skip
"""Name -> number of the landmark in MediaPipe's pose model."""
BONES: dict[tuple[str, str], tuple[float, float]] = {
    ("left_shoulder", "right_shoulder"): (0.18, 0.60),
    ("left_shoulder", "left_elbow"): (0.15, 0.50),
    ("right_shoulder", "right_elbow"): (0.15, 0.50),
    ("left_elbow", "left_wrist"): (0.12, 0.45),
    ("right_elbow", "right_wrist"): (0.12, 0.45),
    ("left_shoulder", "left_hip"): (0.30, 0.80),
    ("right_shoulder", "right_hip"): (0.30, 0.80),
    ("left_hip", "left_knee"): (0.25, 0.70),
    ("right_hip", "right_knee"): (0.25, 0.70),
    ("left_knee", "left_ankle"): (0.25, 0.65),
    ("right_knee", "right_ankle"): (0.25, 0.65),
    ("nose", "left_shoulder"): (0.10, 0.50),
    ("nose", "right_shoulder"): (0.10, 0.50),
}
"""Lengths that occur among adults, with room for an error of several cm in depth at either end, m."""
SEEN = 0.5
"""Least visibility of a joint that counts."""
PATCH = 5
"""Half the edge of the square of pixels a joint's depth is taken from."""
QUANTILE = 20.0
"""Percentile of the depths in it: the limb rather than what lies behind it."""
LIMB_DEPTH = 0.08
"""Depths within this of that percentile are of the same limb; their median is less noisy than the percentile, m."""
INWARD = {"shoulder": 0.08, "elbow": 0.055, "wrist": 0.04, "hip": 0.15, "knee": 0.05, "ankle": 0.06, "nose": 0.0}
"""How far a joint lies behind the skin a camera sees before it, m: medians over the twin's bodies, 1.66 and 1.78 m."""
FOREGROUND_LEAST = 0.6
"""Share of a skeleton's visible joints that must lie on pixels known to be neither background nor robot."""
CONFIDENCE, CONFIDENCE_ON_FOREGROUND = 0.5, 0.3
"""Of the library: alone, and where depth tells what is neither background nor robot."""
MOST_PEOPLE = 8
LEAST_SIDE = 40
"""Parts of a picture with fewer pixels show nobody that could be told, pixels."""
TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


class PoseError(Exception):
    """Skeletons cannot be had; the text says why and what to do."""


class Joint(NamedTuple):
    """One joint."""

    pixel: tuple[float, float]
    position: tuple[float, float, float] | None
    """Camera frame, m; None where there is no depth."""
    visibility: float


class Person(NamedTuple):
    """One person."""

    position: tuple[float, float, float] | None
    """Middle of the visible joints of the trunk, camera frame, m; None without depth."""
    distance: float | None
    skeleton: dict[str, Joint]
    confidence: float
    """Mean visibility of the trunk's joints and the nose."""


def model_path() -> Path:
    """Where the model is looked for: the variable CELL_POSE_MODEL, or beside the installed environment."""
    given = os.environ.get(MODEL_VARIABLE)
    return Path(given) if given else Path(sys.prefix) / "share" / "collabcell" / "pose_landmarker_full.task"


def read_model(path: Path) -> bytes:
    """Return the model. Raises PoseError if it is missing, or another one than was checked."""
    try:
        content = path.read_bytes()
    except OSError:
        raise PoseError(
            f"no pose model at {path}: run `make setup`, or set {MODEL_VARIABLE} to a pose_landmarker_full.task"
        ) from None
    if hashlib.sha256(content).hexdigest() != MODEL_SHA256:
        raise PoseError(f"{path} is not the pose model that was checked (sha256 {MODEL_SHA256[:12]}...): fetch it anew")
    return content


class PoseFinder:
    """Finds people in single pictures. Use as a context manager: the library holds threads until it is closed."""

    def __init__(self, path: Path | None = None, confidence: float = CONFIDENCE) -> None:
        """`confidence` (0 to 1): from which on the library reports anybody at all. Raises PoseError: library or model
        missing, or the model is another one than was checked."""
        self._mp, self._landmarker = _landmarker(read_model(path or model_path()), confidence)

    def find(
        self,
        colour: U8,
        depth: U16 | None = None,
        camera: Intrinsics | None = None,
        boxes: Sequence[tuple[int, int, int, int]] = (),
        foreground: NDArray[np.bool_] | None = None,
        whole: bool = True,
    ) -> list[Person]:
        """People in (h, w, 3) RGB; with the depth (h, w) of the same view in mm they have places, and a skeleton that
        no person can have is dropped. Nearest first. `boxes` (left, top, right, bottom): where single people may be,
        as the library overlooks one of two in a picture; left out: overlapping parts of the picture. `foreground`
        (h, w): pixels that are neither background nor robot; skeletons elsewhere are dropped. `whole`: look at the
        picture as a whole too. Raises ValueError for pictures that do not fit."""
        if colour.ndim != 3 or colour.shape[2] != 3 or colour.dtype != np.uint8:
            raise ValueError(f"colour of shape {colour.shape}, {colour.dtype}: (height, width, 3) of 8 bits")
        if depth is not None and depth.shape != colour.shape[:2]:
            raise ValueError(f"depth has {depth.shape[::-1]} pixels, colour {colour.shape[1::-1]}")
        if foreground is not None and foreground.shape != colour.shape[:2]:
            raise ValueError(f"the foreground has {foreground.shape[::-1]} pixels, colour {colour.shape[1::-1]}")
        height, width = colour.shape[:2]
        people: list[Person] = []
        parts = list(boxes or _parts(width, height))
        for left, top, right, bottom in [(0, 0, width, height), *parts] if whole else parts:
            part = colour[max(0, top) : bottom, max(0, left) : right]
            if min(part.shape[:2]) < LEAST_SIDE:
                continue
            for marks in self._detected(part):
                person = _person(marks, (max(0, left), max(0, top)), part.shape[:2], depth, camera)
                if not _plausible(person, depth is not None) or not on_foreground(person, foreground):
                    continue
                if not any(_same(person, other) for other in people):
                    people.append(_consistent(person))
        return sorted(people, key=lambda person: math.inf if person.distance is None else person.distance)

    def _detected(self, part: U8) -> Any:
        picture = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(part))
        return self._landmarker.detect(picture).pose_landmarks

    def close(self) -> None:
        """Free the library's threads."""
        self._landmarker.close()

    def __enter__(self) -> PoseFinder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def library_silenced() -> Iterator[None]:
    """Keep a library's compiled parts from writing remarks for their makers to the error stream, past Python."""
    sys.stderr.flush()
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _landmarker(model: bytes, confidence: float) -> tuple[Any, Any]:
    os.environ.setdefault("GLOG_minloglevel", "3")
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        raise PoseError(f"mediapipe is missing ({error}): run `make setup`") from None
    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model),
        running_mode=vision.RunningMode.IMAGE,
        num_poses=MOST_PEOPLE,
        min_pose_detection_confidence=confidence,
        min_pose_presence_confidence=confidence,
    )
    try:
        return mediapipe, vision.PoseLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        raise PoseError(f"mediapipe cannot use the pose model: {str(error)[:200]}") from None


def _parts(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Overlapping squares over a wide picture."""
    if width <= 1.2 * height:
        return []
    return [(left, 0, min(left + height, width), height) for left in range(0, width - height // 2, height // 2)]


def widened(box: tuple[int, int, int, int], share: float = 0.15) -> tuple[int, int, int, int]:
    """A box with room round it: the library wants to see where a person ends."""
    left, top, right, bottom = box
    more = round(share * max(right - left, bottom - top))
    return left - more, top - more, right + more, bottom + more


def _same(a: Person, b: Person) -> bool:
    """Are these two findings of one person? Their shoulders and noses lie on each other."""
    names = ("nose", "left_shoulder", "right_shoulder")
    apart = [math.dist(a.skeleton[name].pixel, b.skeleton[name].pixel) for name in names]
    wide = math.dist(b.skeleton["left_shoulder"].pixel, b.skeleton["nose"].pixel)
    return float(np.mean(apart)) < max(0.7 * wide, 10.0)


def _person(
    marks: Any, origin: tuple[int, int], size: tuple[int, ...], depth: U16 | None, camera: Intrinsics | None
) -> Person:
    skeleton = {}
    for name, number in JOINTS.items():
        mark = marks[number]
        pixel = (origin[0] + float(mark.x) * size[1], origin[1] + float(mark.y) * size[0])
        visibility = float(mark.visibility or 0.0)
        place = _lifted(pixel, depth, camera, INWARD[name.split("_")[-1]]) if visibility >= SEEN else None
        skeleton[name] = Joint(pixel, place, visibility)
    trunk = [skeleton[name].position for name in TORSO]
    places = [place for place in trunk if place is not None]
    position, distance = None, None
    if places:
        middle = np.mean(places, axis=0)
        position = (float(middle[0]), float(middle[1]), float(middle[2]))
        distance = float(np.linalg.norm(middle))
    confidence = float(np.mean([skeleton[name].visibility for name in (*TORSO[:2], "nose")]))
    return Person(position, distance, skeleton, confidence)


def _lifted(
    pixel: tuple[float, float], depth: U16 | None, camera: Intrinsics | None, inward: float = 0.0
) -> tuple[float, float, float] | None:
    """The point in the camera frame `inward` (m) behind what a pixel looks at, from the near side of the depths round
    it."""
    if depth is None or camera is None:
        return None
    u, v = round(pixel[0]), round(pixel[1])
    if not (0 <= u < camera.width and 0 <= v < camera.height):
        return None
    patch = depth[max(0, v - PATCH) : v + PATCH + 1, max(0, u - PATCH) : u + PATCH + 1]
    measured = patch[patch > 0]
    if len(measured) < PATCH:
        return None
    # A depth that was measured, not one between two: nothing may be near that.
    near = float(np.percentile(measured, QUANTILE, method="nearest"))
    z = float(np.median(measured[np.abs(measured.astype(np.float64) - near) <= 1000.0 * LIMB_DEPTH])) / 1000.0
    x, y = (pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy
    z += inward / math.sqrt(1.0 + x * x + y * y)
    return (x * z, y * z, z)


def on_foreground(person: Person, foreground: NDArray[np.bool_] | None) -> bool:
    """Do enough visible joints lie on pixels that may be a person's? True where nothing is known of the pixels."""
    if foreground is None:
        return True
    height, width = foreground.shape
    on = there = 0
    for joint in person.skeleton.values():
        u, v = round(joint.pixel[0]), round(joint.pixel[1])
        if joint.visibility < SEEN or not (0 <= u < width and 0 <= v < height):
            continue
        there += 1
        on += bool(foreground[max(0, v - 2) : v + 3, max(0, u - 2) : u + 3].any())
    return there > 0 and on >= FOREGROUND_LEAST * there


def _consistent(person: Person) -> Person:
    """Take the place from the less visible end of every bone whose length no person's has: it is hidden, and what was
    measured there is what hides it. The worst bone first, as one wrong joint spoils several bones."""
    skeleton = dict(person.skeleton)
    while True:
        worst, at = 1.0, ""
        for (a, b), (low, high) in BONES.items():
            start, end = skeleton[a].position, skeleton[b].position
            if start is None or end is None:
                continue
            length = math.dist(start, end)
            off = max(length / high, low / max(length, 1e-6)) if math.isfinite(length) else math.inf
            if off > worst:
                worst, at = off, a if skeleton[a].visibility <= skeleton[b].visibility else b
        if not at:
            return person._replace(skeleton=skeleton)
        skeleton[at] = skeleton[at]._replace(position=None)


def _plausible(person: Person, lifted: bool) -> bool:
    """Could this be a person? With depth its bones must be as long as bones are, without it must be seen clearly."""
    if person.confidence < SEEN:
        return False
    if not lifted:
        return True
    right = wrong = 0
    for (a, b), (low, high) in BONES.items():
        start, end = person.skeleton[a].position, person.skeleton[b].position
        if start is None or end is None:
            continue
        length = math.dist(start, end)
        # A hidden joint takes the depth of what hides it: bones are seen shorter than they are more often than longer.
        right += length <= high and (length >= low or (a, b) != ("left_shoulder", "right_shoulder"))
        wrong += not length <= high
    return right >= 2 and wrong <= right
