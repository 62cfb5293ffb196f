"""Clusters followed: numbers, velocities, covariances, people side by side."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from perception.tracking import CENTROID_SD, FASTEST, FORGET, Motion, Tracker


def cloud(*centres: tuple[float, float, float]) -> NDArray[np.float32]:
    ball = np.array([(x, y, z) for x in (-0.1, 0, 0.1) for y in (-0.1, 0, 0.1) for z in (-0.1, 0, 0.1)])
    return np.concatenate([np.zeros((0, 3))] + [ball + np.asarray(c) for c in centres]).astype(np.float32)


def test_two_people_keep_their_numbers_and_speeds_while_they_pass_each_other() -> None:
    tracker = Tracker()
    for n in range(90):
        t = n / 30.0
        tracks = tracker.update(cloud((-1.5 + t, -0.5, 1.0), (1.5 - t, 0.5, 1.0)), t)
        assert sorted(track.id for track in tracks) == [1, 2]
        if n > 45:
            for track in tracks:
                towards = 1.0 if track.id == min(tr.id for tr in tracks if tr.position[1] < 0) else -1.0
                if track.position[1] < 0:
                    assert abs(track.velocity[0] - 1.0) < 0.05 and towards == 1.0
                else:
                    assert abs(track.velocity[0] + 1.0) < 0.05


def test_who_is_hidden_for_a_moment_keeps_the_number_and_after_longer_is_new() -> None:
    tracker = Tracker()
    for n in range(30):
        tracker.update(cloud((n / 30.0, 0.0, 1.0)), n / 30.0)
    assert tracker.update(cloud(), 1.1) == []
    assert [track.id for track in tracker.update(cloud((1.3, 0.0, 1.0)), 1.3)] == [1]
    tracker.update(cloud(), 1.3 + FORGET + 0.01)
    assert [track.id for track in tracker.update(cloud((1.9, 0.0, 1.0)), 1.9)] == [2]


def test_another_place_is_another_person() -> None:
    tracker = Tracker()
    tracker.update(cloud((0.0, 0.0, 1.0)), 0.0)
    assert [track.id for track in tracker.update(cloud((1.5, 0.0, 1.0)), 1.0 / 30.0)] == [2]


def test_uncertainty_shrinks_while_seen_and_grows_while_hidden() -> None:
    motion = Motion(1, np.zeros(3), 0.0)
    before = motion.covariance
    for n in range(1, 31):
        motion.update(np.zeros(3), n / 30.0)
    assert motion.covariance[0] < before[0] and motion.covariance[2] < before[2]
    assert motion.predicted(1.5)[1][0] > motion.predicted(1.1)[1][0] > motion.covariance[0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0.0, 0.4), st.floats(-5.0, 5.0), st.floats(-5.0, 5.0)), min_size=1, max_size=30))
def test_whatever_comes_speed_is_bounded_and_the_covariance_stays_one(steps: list[tuple[float, float, float]]) -> None:
    motion, t = Motion(1, np.zeros(3), 0.0), 0.0
    for dt, x, y in steps:
        t += dt
        motion.update(np.array([x, y, 0.0]), t)
        p, c, v = motion.covariance
        assert np.linalg.norm(motion.velocity) <= FASTEST * (1 + 1e-9)
        assert 0.0 < p <= CENTROID_SD**2 * (1 + 1e-9) and v > 0.0 and p * v - c * c > -1e-12
        assert all(map(math.isfinite, motion.position.tolist()))
