"""A camera that was moved is noticed by the fixed scene; people, parts, noise and drifting scale move no camera."""

from __future__ import annotations

import functools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception.background import build_background
from perception.config import PerceptionConfig
from perception.contract import MOVED, CameraInfo
from perception.core import CameraFusion
from perception.kernels import BACKGROUND, PART
from perception.movement import FRAMES, HIDDEN, WINDOWS, WITHIN, MovementWatch, static_scene
from robots.workcell import Workcell
from tests.perception.conftest import Box, camera_info, frame, front_camera, render
from tests.perception.test_perception import OneLink, look, robot_state

CELL = Workcell.model_validate(
    {
        "floor": -0.75,
        "person_volume": [[-1.0, -1.5, -0.75], [2.5, 1.5, 1.45]],
        "entries": ["x_max"],
        "fixtures": [
            {"name": "table", "size": [1.0, 1.0, 0.75], "pose": {"position": [0.0, 0.0, -0.375]}},
            {"name": "machine", "size": [0.5, 0.4, 0.4], "pose": {"position": [0.1, 0.2, 0.2]}},
        ],
    }
)
LOWER, UPPER = (np.asarray(corner, float) for corner in CELL.person_volume)
STILL = (0.0, 0.0, 0.0)
Twist = tuple[float, float, float]


@functools.lru_cache
def background(info: CameraInfo, cell: str = "") -> object:
    return build_background(info, CELL, PerceptionConfig())


def watch(info: CameraInfo) -> MovementWatch:
    return MovementWatch(info, background(info), LOWER, UPPER)  # type: ignore[arg-type]


def knocked(info: CameraInfo, t: Twist = STILL, degrees: Twist = STILL) -> CameraInfo:
    """The camera after it was shifted by t (m) and turned, in its own frame."""
    D = np.eye(4)
    D[:3, :3] = Rotation.from_rotvec(np.radians(degrees)).as_matrix()
    D[:3, 3] = t
    T = np.reshape(info.T_base_camera, (4, 4)) @ D
    return msgspec.structs.replace(info, T_base_camera=tuple(float(v) for v in T.ravel()))


def label(picture: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.full(picture.shape, BACKGROUND, np.uint8)


def feed(w: MovementWatch, info: CameraInfo, frames: int, boxes: list[Box], first: int = 0) -> int | None:
    """Show `frames` pictures; return after how many the camera counts as moved."""
    perfect = render(info, CELL, boxes, None).astype(float) / 1000.0
    rng = np.random.default_rng(first + 1)
    for k in range(frames):
        z = perfect + info.noise_coefficient * perfect**2 * rng.normal(size=perfect.shape)
        picture = np.clip(np.rint(z * 1000), 0, 65535).astype(np.uint16)
        picture[rng.random(picture.shape) < 0.05] = 0
        w.update(picture, label(picture))
        if w.moved:
            return k + 1
    return None


@pytest.mark.requirement("PER-08")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3), st.booleans(), st.booleans(), st.integers(0, 99))
def test_a_camera_moved_by_2_cm_or_turned_by_1_degree_is_noticed_in_time(
    direction: list[float], turned: bool, front: bool, seed: int
) -> None:
    n = np.asarray(direction)
    if np.linalg.norm(n) < 0.1:
        n = np.array([1.0, 0.0, 0.0])
    n /= np.linalg.norm(n)
    x, y, z = (float(v) for v in n * (1.0 if turned else 0.02))
    info = front_camera() if front else camera_info()
    w = watch(info)
    assert not w.unseen
    assert feed(w, info, 20 + seed % FRAMES, [], seed) is None
    there = knocked(info, degrees=(x, y, z)) if turned else knocked(info, (x, y, z))
    noticed = feed(w, there, WITHIN, [], seed)
    assert noticed is not None and w.moved.startswith(MOVED)
    # Put back, it is in its place again.
    feed_on(w, info, (WINDOWS + 2) * FRAMES)
    assert not w.moved


def feed_on(w: MovementWatch, info: CameraInfo, frames: int) -> None:
    for k in range(frames):
        picture = render(info, CELL, [], 1000 + k)
        w.update(picture, label(picture))


@pytest.mark.requirement("PER-08")
@pytest.mark.parametrize("info", [camera_info(), front_camera()])
def test_people_and_parts_move_no_camera(info: CameraInfo) -> None:
    """Somebody walks through and leans on the table, boxes stand on it, for half a minute."""
    w = watch(info)
    rng = np.random.default_rng(5)
    found = []
    for k in range(900):
        s = k / 900
        boxes: list[Box] = [
            ((2.4 - 3.0 * s, -0.9 + 0.4 * np.sin(7 * s), 0.1), (0.35, 0.5, 1.7)),
            ((0.2, -0.3, 0.02), (0.06, 0.06, 0.04)),
            ((0.3 - 0.3 * s, 0.1, 0.03), (0.3, 0.1, 0.06)),
        ]
        picture = render(info, CELL, boxes, k)
        picture[rng.random(picture.shape) < 0.05] = 0
        fit = w.update(picture, label(picture))
        found += [fit.displacement] if fit is not None else []
        assert not w.moved
    assert len(found) == 900 // FRAMES and np.median(found) < 0.004


def test_a_drift_of_scale_is_no_movement() -> None:
    info = camera_info()
    w = watch(info)
    for k in range(6 * FRAMES):
        picture = np.rint(render(info, CELL, [], k) * 1.004).astype(np.uint16)
        fit = w.update(picture, label(picture))
    assert fit is not None and abs(fit.twist[6] - 0.004) < 0.0015
    assert not w.moved


@pytest.mark.requirement("PER-08")
@pytest.mark.parametrize("degrees", [(20.0, 0.0, 0.0), (0.0, 20.0, 0.0), (0.0, -20.0, 0.0), (5.0, 0.0, 0.0)])
def test_a_camera_that_was_turned_away_is_noticed(degrees: Twist) -> None:
    info = camera_info()
    assert feed(watch(info), knocked(info, degrees=degrees), WITHIN, []) is not None


@pytest.mark.requirement("PER-08")
def test_a_hidden_scene_decides_nothing_at_first_and_is_a_fault_in_the_end() -> None:
    info = camera_info()
    w = watch(info)
    T = np.reshape(info.T_base_camera, (4, 4))
    x, y, z = (float(v) for v in T[:3, 3] + 0.6 * T[:3, 2])
    noticed = feed(w, info, HIDDEN + FRAMES, [((x, y, z), (0.6, 1.5, 1.5))])
    assert noticed is not None and HIDDEN <= noticed <= HIDDEN + FRAMES and "hidden" in w.moved


def test_directions_the_scene_does_not_show_are_named_at_the_start() -> None:
    bare = CELL.model_copy(update={"fixtures": []})
    info = camera_info()
    floor_only = build_background(info, bare, PerceptionConfig())
    assert "shift" in MovementWatch(info, floor_only, LOWER, UPPER).unseen
    sky = camera_info(position=(0.0, 0.0, 1.0), look_at=(1.0, 0.1, 2.0))
    nothing = MovementWatch(sky, build_background(sky, bare, PerceptionConfig()), LOWER, UPPER)
    assert "any movement" in nothing.unseen
    assert nothing.update(np.full((120, 212), 900, np.uint16), np.ones((120, 212), np.uint8)) is None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6), st.booleans())
def test_the_derivatives_are_those_of_the_ray_cast(direction: list[float], front: bool) -> None:
    info = front_camera() if front else camera_info()
    b = build_background(info, CELL, PerceptionConfig())
    scene = static_scene(info, b, LOWER, UPPER)
    twist = np.asarray(direction) * 1e-3
    t, w = twist[:3], np.degrees(twist[3:])
    there = knocked(info, (t[0], t[1], t[2]), (w[0], w[1], w[2]))
    after = build_background(there, CELL, PerceptionConfig()).depth.ravel()[scene.pixel]
    expected = scene.jacobian[:, :6].astype(float) @ twist
    error = np.abs(after - scene.depth - expected)
    assert np.quantile(error, 0.98) < 1e-4, "all but pixels that changed surface"


def test_pixels_of_robot_and_parts_say_nothing() -> None:
    info = camera_info()
    w = watch(info)
    picture = render(info, CELL, [])
    for _ in range(FRAMES):
        fit = w.update(picture + 50, np.full(picture.shape, PART, np.uint8))
    assert fit is not None and fit.used == 0.0 and fit.displacement == 0.0


@pytest.mark.requirement("PER-08")
def test_a_moved_camera_makes_the_observation_unhealthy(config: PerceptionConfig) -> None:
    fusion = CameraFusion([camera_info("a"), front_camera()], CELL, config, OneLink())
    fusion.confirm_clear()
    observation = look(fusion, CELL, 0, [])
    for k in range(1, WITHIN):
        t = 1.0 + k / 30
        frames = []
        for i, v in enumerate(fusion.views.values()):
            there = knocked(v.info, (0.02, 0.0, 0.0)) if v.info.name == "b" else v.info
            frames.append(frame(v.info, render(there, CELL, [], 100 * k + i), k, t))
        observation = fusion.step(t + 0.03, frames, robot_state(t), []) or observation
    bad = [h for h in observation.cameras if not h.ok]
    assert [h.name for h in bad] == ["b"] and bad[0].reason.startswith(MOVED)
    assert not observation.healthy and "camera b: moved" in observation.reason
