"""The compiled loops against slow definitions of what they compute."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from perception import kernels, voxels
from perception.kernels import BACKGROUND, EDGE, PART, PERSON, ROBOT, UNKNOWN

SIZES = st.tuples(st.integers(2, 19), st.integers(2, 23), st.integers(0, 10**6))


def bridged_line(free: np.ndarray, unknown: np.ndarray, width: float) -> np.ndarray:
    """What the unknown runs of one line are free to, by their two ends and their length."""
    out = np.zeros(len(free))
    runs, count = ndimage.label(unknown)
    for run in range(1, count + 1):
        where = np.flatnonzero(runs == run)
        if where[0] > 0 and where[-1] < len(free) - 1:
            out[where] = min(free[where[0] - 1], free[where[-1] + 1], width / len(where))
    return out


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SIZES)
def test_free_depth_is_the_least_of_each_block_with_only_narrow_gaps_bridged(size: tuple[int, int, int]) -> None:
    rows, columns, seed = size
    rng = np.random.default_rng(seed)
    depth = rng.integers(1, 9000, (rows, columns)).astype(np.uint16)
    label = rng.choice(
        [UNKNOWN, BACKGROUND, ROBOT, PART, PERSON, EDGE], (rows, columns), p=[0.2, 0.5, 0.1, 0.05, 0.1, 0.05]
    )
    label = label.astype(np.uint8)
    depth[label == UNKNOWN] = 0
    margin, noise, sigmas, width = 12.0, 0.002, 4.0, 8000.0
    pooled = np.zeros(((rows + 3) // 4, (columns + 3) // 4), np.uint16)
    v, u = np.nonzero(label != BACKGROUND)
    pixels = (v << 16 | u).astype(np.int32)
    kernels.free_depth(
        depth, pixels, label, margin, noise, sigmas, width, np.empty_like(depth), np.empty_like(depth), pooled
    )
    z = depth.astype(float)
    unknown = (label == UNKNOWN) | (label == EDGE)
    free = np.maximum(0.0, z - margin - sigmas * noise * z * z / 1000.0)
    free[(label == BACKGROUND) | (label == PART)] = 65535.0
    free[unknown] = 0.0
    best = free.copy()
    for v in range(rows):
        best[v] = np.maximum(best[v], bridged_line(free[v], unknown[v], width))
    for u in range(columns):
        best[:, u] = np.maximum(best[:, u], bridged_line(free[:, u], unknown[:, u], width))
    for v in range(pooled.shape[0]):
        for u in range(pooled.shape[1]):
            least = best[4 * v : 4 * v + 4, 4 * u : 4 * u + 4].min()
            assert least - 1.0 <= pooled[v, u] <= least + 1e-6


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6), st.floats(0.02, 0.6))
def test_pockets_are_dropped_by_whole_components(nx: int, ny: int, nz: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (nx, ny, nz)
    possible = (rng.random(shape) < share).astype(np.uint8)
    anchored = (rng.random(shape) < 0.01).astype(np.uint8)
    thin = (rng.random(shape) < 0.3).astype(np.uint8)
    least = int(rng.integers(1, 12))
    labels, count = ndimage.label(possible, np.ones((3, 3, 3)))
    expected = possible.copy()
    for component in range(1, count + 1):
        inside = labels == component
        if not anchored[inside].any() and np.count_nonzero(thin[inside] == 0) < least:
            expected[inside] = 0
    most = nx * ny * ((nz + 1) // 2)
    scratch = np.empty(nx * ny + 1, np.int32), np.empty((most, 5), np.int32), np.empty(most, np.int32)
    result = possible.copy()
    cleared = voxels.drop_small_components(result, anchored, thin, least, *scratch)
    assert np.array_equal(result, expected)
    assert cleared == possible.sum() - expected.sum()


def test_points_outside_the_map_or_not_numbers_mark_nothing() -> None:
    possible, anchored = np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3, 3), np.uint8)
    wild = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [-1e30, 0, 0], [0, 0, 0.31], [0, -1e-4, 0]], np.float32)
    voxels.occupy(wild, np.zeros(3), 0.1, possible, anchored)
    assert possible.sum() == anchored.sum() == 0
    voxels.occupy(np.array([[0.05, 0.15, 0.25]], np.float32), np.zeros(3), 0.1, possible, anchored)
    assert possible[0, 1, 2] == anchored[0, 1, 2] == 1
    assert possible.sum() == anchored.sum() == 1


@pytest.mark.parametrize("valid", [5, 6, 8])
def test_a_hole_is_filled_only_among_six_valid_neighbours_and_with_the_nearest(valid: int) -> None:
    depth = np.full((5, 5), 2000, np.uint16)
    depth[2, 2] = 0
    ring = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (3, 3)]
    for v, u in ring[valid:]:
        depth[v, u] = 0
    depth[1, 1] = 1500
    filled, label, pixels = np.empty_like(depth), np.empty((5, 5), np.uint8), np.empty(25, np.int32)
    found = kernels.candidates(depth, np.full((5, 5), 1800, np.uint16), filled, label, pixels)
    assert [(p >> 16, p & 0xFFFF) for p in pixels[:found]] == list(zip(*np.nonzero(label != BACKGROUND), strict=True))
    assert filled[2, 2] == (1500 if valid >= 6 else 0)
    assert label[2, 2] == (PERSON if valid >= 6 else UNKNOWN)
    assert label[1, 1] == PERSON
    assert label[0, 0] == BACKGROUND
    depth[0, 0] = 0
    kernels.candidates(depth, np.full((5, 5), 1800, np.uint16), filled, label, pixels)
    assert label[0, 0] == UNKNOWN, "a hole at the rim has too few neighbours"
