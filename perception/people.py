"""Skeletons where depth says that somebody may be: colour is asked only about pixels that are neither background, robot
nor an expected part, and what it answers must last. Labels for people to look at: having none loosens nothing."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from perception.contract import Intrinsics
from perception.kernels import PERSON
from perception.objects import segment
from perception.pose import Person, PoseFinder, widened

LEAST_EXTENT, MOST_EXTENT = 0.2, 2.6
"""Longest edge of what may be a person, or the part of one that is seen, m."""
MOST_BOXES = 4
LAST, OFTEN = 3, 2
"""A person counts who was found in `OFTEN` of the `LAST` pictures ..."""
STEP = 0.4
"""... not farther than this from one to the next, m: 2 m/s at 10 pictures a second, and the error of a trunk."""


def foreground_of(label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(h, w) pixels of `CameraView.label` that may be a person's."""
    return np.asarray(label == PERSON)


def find_people(
    finder: PoseFinder,
    colour: NDArray[np.uint8],
    depth: NDArray[np.uint16],
    foreground: NDArray[np.bool_],
    camera: Intrinsics,
) -> list[Person]:
    """People in one picture, nearest first: skeletons on the foreground (h, w). Where nothing stands before the
    background the colour is not even looked at. Raises ValueError for pictures that do not fit together."""
    if foreground.shape != depth.shape:
        raise ValueError(f"the foreground has {foreground.shape[::-1]} pixels, the depth {depth.shape[::-1]}")
    # Joints get their places from a person's own pixels alone: not from the floor behind an ankle.
    own = np.where(foreground, depth, 0).astype(np.uint16)
    things = segment(own, camera).things
    boxes = [widened(thing.box) for thing in things if LEAST_EXTENT <= max(thing.extent) <= MOST_EXTENT][:MOST_BOXES]
    return finder.find(colour, own, camera, boxes, foreground) if boxes else []


class Persistence:
    """Lets people through who were found in most of the last pictures, near where they were before. One a camera."""

    def __init__(self) -> None:
        self._before: deque[list[tuple[float, float, float]]] = deque(maxlen=LAST - 1)

    def update(self, people: list[Person]) -> list[Person]:
        """Those of one picture's people that last. Call it once a picture, also when nobody was found."""
        lasting = [person for person in people if self._seen(person) >= OFTEN - 1]
        self._before.append([person.position for person in people if person.position is not None])
        return lasting

    def _seen(self, person: Person) -> int:
        if person.position is None:
            return 0
        at = person.position
        # The older picture is two steps away.
        return sum(
            any(math.dist(at, place) <= STEP * age for place in places)
            for age, places in zip(range(len(self._before), 0, -1), self._before, strict=True)
        )


PARTS: dict[str, tuple[str, str]] = {
    "left_upper_arm": ("left_shoulder", "left_elbow"),
    "right_upper_arm": ("right_shoulder", "right_elbow"),
    "left_forearm": ("left_elbow", "left_wrist"),
    "right_forearm": ("right_elbow", "right_wrist"),
    "left_thigh": ("left_hip", "left_knee"),
    "right_thigh": ("right_hip", "right_knee"),
    "left_shin": ("left_knee", "left_ankle"),
    "right_shin": ("right_knee", "right_ankle"),
    "trunk_left": ("left_shoulder", "left_hip"),
    "trunk_right": ("right_shoulder", "right_hip"),
}
"""Body part -> the joints at its ends."""
HANDS = {"left_hand": ("left_elbow", "left_wrist"), "right_hand": ("right_elbow", "right_wrist")}
HAND_LENGTH = 0.20
"""From the wrist on in the direction of the forearm: as long as a long hand, m."""
NEAR_BONE = 0.25
"""A point farther than this from every bone has no label, m."""
HEAD_RADIUS = 0.22
"""Points this near the nose are the head's, m: half a head's length and its depth."""
UNLABELLED = ""


def label_points(points: NDArray[np.floating], person: Person) -> list[str]:
    """Body part of each point (n, 3; camera frame, m): that of the nearest bone, `head`, or `UNLABELLED`.

    A point without a label is taken for the most sensitive part by whoever sets limits: a lost skeleton can only
    tighten. Points that are not finite have no label."""
    best = np.full(len(points), np.inf)
    names = np.full(len(points), UNLABELLED, dtype=object)
    p = np.asarray(points, np.float64).reshape(-1, 3)
    nose = person.skeleton["nose"].position if "nose" in person.skeleton else None
    candidates: list[tuple[str, NDArray[np.float64], float]] = []
    if nose is not None:
        candidates.append(("head", np.linalg.norm(p - np.asarray(nose), axis=1), HEAD_RADIUS))
    for name, (a, b) in (*PARTS.items(), *HANDS.items()):
        start, end = (person.skeleton[j].position if j in person.skeleton else None for j in (a, b))
        if start is None or end is None:
            continue
        along = np.asarray(end) - np.asarray(start)
        if name in HANDS:
            start, along = end, HAND_LENGTH * along / max(float(np.linalg.norm(along)), 1e-9)
        square = max(float(along @ along), 1e-12)
        s = np.clip((p - np.asarray(start)) @ along / square, 0.0, 1.0)
        away = np.linalg.norm(p - np.asarray(start) - s[:, None] * along, axis=1)
        candidates.append((name.removesuffix("_left").removesuffix("_right"), away, NEAR_BONE))
    for name, away, most in candidates:
        # Comparisons with NaN are false, so such points keep no label.
        nearer = (away < best) & (away <= most)
        best[nearer], names[nearer] = away[nearer], name
    return [str(name) for name in names]
