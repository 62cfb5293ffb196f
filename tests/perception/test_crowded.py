"""Pictures taken in blocks against the same pictures taken pixel by pixel, and against plain arithmetic on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from perception import kernels, pixels, view
from perception.background import rays
from perception.config import PerceptionConfig
from perception.contract import ExpectedPart
from perception.crowded import MOST_HOLES
from perception.kernels import BACKGROUND, PERSON
from perception.view import CameraView, Capsules, Seen
from robots.workcell import Workcell
from tests.perception.conftest import Box, camera_info, frame, render

CONFIG = PerceptionConfig()
ARM = Capsules(
    np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]), np.array([[0.0, 0.0, 0.5], [0.5, 0.1, 0.6]]), np.array([0.09, 0.07])
)
LINKS: list[Box] = [((0.0, 0.0, 0.25), (0.1, 0.1, 0.5)), ((0.25, 0.05, 0.55), (0.5, 0.08, 0.08))]
PART = ExpectedPart("cube", size=(0.06, 0.06, 0.06), T_base_part=(0.4, -0.2, 0.03, 0.0, 0.0, 0.0, 1.0))
PART_BOX: Box = ((0.4, -0.2, 0.03), (0.06, 0.06, 0.06))


def scene(cell: Workcell, seed: int, holes: float) -> tuple[NDArray[np.uint16], list[Box]]:
    """A picture with the arm, a part, boxes anywhere, noise, holes, and single wrong pixels."""
    rng = np.random.default_rng(seed)
    boxes = [
        (tuple(rng.uniform([-0.8, -1.2, -0.5], [2.2, 1.2, 1.0])), tuple(rng.uniform(0.1, 1.2, 3)))
        for _ in range(int(rng.integers(1, 5)))
    ]
    picture = render(camera_info(), cell, [*LINKS, PART_BOX, *boxes], seed)
    wild = rng.random(picture.shape) < 0.002
    picture[wild] = rng.integers(300, 4000, int(wild.sum()))
    picture[rng.random(picture.shape) < holes] = 0
    return picture, boxes


def both(cell: Workcell, picture: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch) -> tuple[CameraView, list[Seen]]:
    """The view after the second, and what a picture gives pixel by pixel and in blocks."""
    info = camera_info()
    answers = []
    for share in (2.0, -1.0):
        monkeypatch.setattr(view, "CROWDED", share)
        one = CameraView(info, cell, CONFIG)
        seen = one.process(frame(info, picture, 1, 1.0), ARM, [PART])
        answers.append(seen._replace(free=seen.free.copy()))
    return one, answers


def numbers(points: NDArray[np.float32]) -> set[tuple[int, int, int]]:
    return {(int(i), int(j), int(k)) for i, j, k in np.rint(np.asarray(points, float) / CONFIG.cell_size * 2.0)}


def free_of(z: NDArray[np.float64]) -> NDArray[np.float64]:
    noise = camera_info().noise_coefficient
    free = z - CONFIG.background_margin * 1000.0 - CONFIG.sigmas * noise * z * z / 1000.0
    return np.asarray(np.maximum(0.0, free))


def bridged(free: NDArray[np.float64], measured: NDArray[np.bool_], v: int, u: int, width: float) -> float:
    """What an unmeasured pixel is free to by the ends of its runs along its row and its column."""
    best = 0.0
    for line, known, at in ((free[v], measured[v], u), (free[:, u], measured[:, u], v)):
        ends = np.flatnonzero(known)
        before, after = ends[ends < at], ends[ends > at]
        if len(before) and len(after):
            best = max(best, min(line[before[-1]], line[after[0]], width / (after[0] - before[-1] - 1)))
    return best


@pytest.mark.requirement("PER-03")
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.02, 0.1, 0.3]))
def test_blocks_lose_nothing_that_pixels_show_and_call_nothing_free_that_is_not(seed: int, holes: float) -> None:
    cell = Workcell.model_validate(
        {"floor": -0.75, "person_volume": [[-1.0, -1.5, -0.75], [2.5, 1.5, 1.45]], "entries": ["x_max"], "fixtures": []}
    )
    picture, _ = scene(cell, seed, holes)
    with pytest.MonkeyPatch.context() as patch:
        one, (dense, blocks) = both(cell, picture, patch)
    if not blocks.overflow:
        assert numbers(dense.points) <= numbers(blocks.points)
    z = picture.astype(float)
    measured = picture > 0
    foreground = measured & (picture < one._near)
    free = np.where(foreground, free_of(z), 65535.0)
    k = one.info.intrinsics
    width = CONFIG.smallest_object * 1000.0 * min(k.fx, k.fy)
    for v, u in np.ndindex(*blocks.free.shape):
        if one._holes[v, u] > MOST_HOLES:
            assert blocks.free[v, u] <= dense.free[v, u]
            continue
        for y, x in np.ndindex(4, 4):
            y, x = 4 * v + y, 4 * u + x
            limit = free[y, x] if measured[y, x] else bridged(free, measured, y, x, width)
            assert blocks.free[v, u] <= limit + 1e-6


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_every_measured_point_of_a_person_is_in_a_cell_and_no_cell_is_far_from_all(seed: int) -> None:
    """Against the points in float64; a cell that no pixel fell into is at most a block and its depth from one."""
    cell = Workcell.model_validate(
        {"floor": -0.75, "person_volume": [[-1.0, -1.5, -0.75], [2.5, 1.5, 1.45]], "entries": ["x_max"], "fixtures": []}
    )
    picture, _ = scene(cell, seed, 0.02)
    with pytest.MonkeyPatch.context() as patch:
        one, (_, blocks) = both(cell, picture, patch)
    v, u = np.nonzero((one.label == PERSON) & (picture > 0))
    ray_x, ray_y = (np.asarray(ray, float) for ray in rays(one.info.intrinsics))
    z = picture[v, u] / 1000.0
    T = np.reshape(one.info.T_base_camera, (4, 4))
    points = np.stack([ray_x[u] * z, ray_y[v] * z, z], 1) @ T[:3, :3].T + T[:3, 3]
    if blocks.overflow or not len(points):
        return
    centres = blocks.points.astype(float)
    half = 0.5 * CONFIG.cell_size + 1e-5
    for point in points[:: max(1, len(points) // 200)]:
        assert np.abs(centres - point).max(1).min() <= half
    noise = one.info.noise_coefficient
    for centre in centres[:: max(1, len(centres) // 200)]:
        away = np.linalg.norm(points - centre, axis=1)
        near = away.argmin()
        block = 4.0 * z[near] / one.info.intrinsics.fx
        depth = 3.0 * (0.03 + CONFIG.sigmas * noise * z[near] ** 2)
        assert away[near] <= np.sqrt(3.0) * CONFIG.cell_size + 2.0 * block + depth


def test_a_sheet_before_the_camera_is_free_only_as_far_as_it_is_and_no_depth_at_all_not_at_all(
    workcell: Workcell,
) -> None:
    info = camera_info()
    picture = np.full((info.intrinsics.height, info.intrinsics.width), 700, np.uint16)
    one = CameraView(info, workcell, CONFIG)
    seen = one.process(frame(info, picture, 1, 1.0), ARM, [])
    assert len(seen.points) > 100
    surface = one._holes <= MOST_HOLES
    assert surface.mean() > 0.2
    assert seen.free[surface].max() <= 700 - 12
    picture[:] = 0
    seen = one.process(frame(info, picture, 2, 1.1), ARM, [])
    assert len(seen.points) == 0
    assert seen.free.max() == 0, "nothing is known, so nothing is free"


def test_what_belongs_to_the_robot_and_to_a_part_is_no_person_in_a_crowded_picture(workcell: Workcell) -> None:
    info = camera_info()
    one = CameraView(info, workcell, CONFIG)
    sheet: Box = ((1.9, 0.0, 0.5), (0.3, 2.6, 1.8))
    picture = render(info, workcell, [*LINKS, PART_BOX, sheet])
    seen = one.process(frame(info, picture, 1, 1.0), ARM, [PART])
    assert np.count_nonzero((picture > 0) & (picture < one._near)) > view.CROWDED * picture.size
    assert (one._holes <= MOST_HOLES).any()
    assert len(seen.points) > 50
    assert seen.points[:, 0].min() > 1.6, "only the sheet"


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 10**6), st.floats(0.0, 1.0))
def test_pixels_that_are_not_background_are_listed_once_and_in_order(
    rows: int, columns: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    near = rng.integers(1, 4, (rows, columns)).astype(np.uint16)
    depth = np.where(rng.random((rows, columns)) < share, rng.integers(0, 4, (rows, columns)), 9).astype(np.uint16)
    label, found = np.empty((rows, columns), np.uint8), np.empty(rows * columns, np.int32)
    count = pixels.first_labels(depth, near, label)
    assert count == np.count_nonzero((depth > 0) & (depth < near))
    expected = np.where(depth == 0, kernels.UNKNOWN, np.where(depth < near, PERSON, BACKGROUND))
    assert np.array_equal(label, expected)
    n = pixels.not_background(label, found)
    v, u = np.nonzero(label != BACKGROUND)
    assert found[:n].tolist() == (v << 16 | u).tolist()
