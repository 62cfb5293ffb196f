"""Skeletons on the foreground: persistence, labels of points, hidden joints; none of it loosens anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.contract import Intrinsics
from perception.kernels import EDGE, PERSON, ROBOT
from perception.people import PARTS, UNLABELLED, Persistence, find_people, foreground_of, label_points
from perception.pose import JOINTS, Joint, Person, _consistent, on_foreground

PLACES = {
    "nose": (0.0, -0.65, 2.0),
    "left_shoulder": (0.18, -0.45, 2.0), "right_shoulder": (-0.18, -0.45, 2.0),
    "left_elbow": (0.22, -0.17, 2.0), "right_elbow": (-0.22, -0.17, 2.0),
    "left_wrist": (0.24, 0.08, 2.0), "right_wrist": (-0.24, 0.08, 2.0),
    "left_hip": (0.1, 0.05, 2.0), "right_hip": (-0.1, 0.05, 2.0),
    "left_knee": (0.1, 0.45, 2.0), "right_knee": (-0.1, 0.45, 2.0),
    "left_ankle": (0.1, 0.85, 2.0), "right_ankle": (-0.1, 0.85, 2.0),
}  # fmt: skip


def person(z: float = 0.0, **changed: tuple[float, float, float] | None) -> Person:
    places = {**PLACES, **changed}
    skeleton = {
        name: Joint((300.0 + 200 * PLACES[name][0], 240.0 + 200 * PLACES[name][1]), place, 0.9)
        for name, place in places.items()
    }
    return Person((0.0, -0.2, 2.0 + z), 2.0 + z, skeleton, 0.9)


def test_one_picture_makes_no_person_and_two_of_three_do() -> None:
    gate = Persistence()
    assert gate.update([person()]) == []
    assert len(gate.update([person()])) == 1
    assert gate.update([]) == []
    assert len(gate.update([person()])) == 1
    assert gate.update([person(z=1.5)]) == []
    for _ in range(3):
        gate.update([])
    assert gate.update([person()]) == []


def test_points_take_the_nearest_part_and_far_ones_none() -> None:
    points = np.array(
        [(0.0, -0.7, 1.95), (0.21, -0.3, 1.96), (0.1, 0.25, 1.95), (-0.1, 0.7, 2.0), (1.0, 0.0, 2.0), (math.nan, 0, 2)]
    )
    names = label_points(points, person())
    assert names == ["head", "left_upper_arm", "left_thigh", "right_shin", UNLABELLED, UNLABELLED]
    assert label_points(np.array([(0.14, -0.2, 2.0)]), person())[0] == "trunk"


@settings(deadline=None, max_examples=50)
@given(st.sets(st.sampled_from(sorted(JOINTS))), st.integers(0, 1000))
def test_losing_joints_never_labels_a_point_that_had_no_label(lost: set[str], seed: int) -> None:
    points = np.random.default_rng(seed).uniform([-1, -1, 1.5], [1, 1, 2.5], (40, 3))
    whole = label_points(points, person())
    less = label_points(points, person(**dict.fromkeys(lost)))
    assert all(b == UNLABELLED for a, b in zip(whole, less, strict=True) if a == UNLABELLED)
    if len(lost) == len(JOINTS):
        assert set(less) == {UNLABELLED}


def test_every_part_has_joints_that_exist() -> None:
    assert all(joint in JOINTS for ends in PARTS.values() for joint in ends)


def test_a_joint_that_makes_a_bone_impossible_loses_its_place() -> None:
    hidden = person(left_elbow=(0.22, -0.17, 1.2))
    unsure = hidden.skeleton["left_elbow"]._replace(visibility=0.6)
    right = _consistent(hidden._replace(skeleton={**hidden.skeleton, "left_elbow": unsure}))
    assert right.skeleton["left_elbow"].position is None
    assert all(right.skeleton[name].position is not None for name in JOINTS if name != "left_elbow")
    assert _consistent(person()) == person()
    broken = person(nose=(math.nan, 0.0, 2.0))
    unsure = broken.skeleton["nose"]._replace(visibility=0.6)
    assert _consistent(broken._replace(skeleton={**broken.skeleton, "nose": unsure})).skeleton["nose"].position is None


def test_only_what_is_neither_robot_nor_edge_is_foreground() -> None:
    label = np.array([[PERSON, ROBOT], [EDGE, 0]], np.uint8)
    assert foreground_of(label).tolist() == [[True, False], [False, False]]
    nobody, all_over = np.zeros((480, 640), bool), np.ones((480, 640), bool)
    assert on_foreground(person(), all_over) and not on_foreground(person(), nobody) and on_foreground(person(), None)


class _Asked:
    """Stands for the library where it must not be asked."""

    def find(self, *_: object) -> list[Person]:
        raise AssertionError("colour was looked at although nothing stands before the background")


def test_without_foreground_colour_is_not_even_looked_at() -> None:
    depth = np.full((480, 640), 2000, np.uint16)
    colour, camera = np.zeros((480, 640, 3), np.uint8), Intrinsics(640, 480, 500.0, 500.0, 319.5, 239.5)
    assert find_people(_Asked(), colour, depth, np.zeros((480, 640), bool), camera) == []  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="foreground"):
        find_people(_Asked(), colour, depth, np.zeros((240, 320), bool), camera)  # type: ignore[arg-type]
