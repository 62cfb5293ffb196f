"""The compiled loops against slow definitions of what they compute."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from perception import freedepth, voxelbits
from perception import pixels as first
from perception.kernels import BACKGROUND, EDGE, PART, PERSON, ROBOT, UNKNOWN

TALL = st.integers(1, 9)
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
    pooled = np.full(((rows + 3) // 4, (columns + 3) // 4), freedepth.FREE_ALL)
    v, u = np.nonzero(label != BACKGROUND)
    pixels = (v << 16 | u).astype(np.int32)
    freedepth.free_depth(depth, pixels, label, margin, noise, sigmas, width, np.empty_like(depth), pooled)
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
@given(TALL, TALL, st.one_of(TALL, st.integers(60, 140)), st.integers(0, 10**6), st.floats(0.02, 0.6))
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
    result = voxelbits.pack(possible)
    first, most = np.empty(result.size + 1, np.int32), 32 * result.size
    scratch = np.empty(most, np.uint64), np.empty(most, np.int32), np.empty(most, np.int32)
    cleared = voxelbits.drop_small_components(
        result, voxelbits.pack(anchored), voxelbits.pack(thin), least, first, *scratch
    )
    assert np.array_equal(voxelbits.unpack(result, nz), expected)
    assert cleared == possible.sum() - expected.sum()


def test_points_outside_the_map_or_not_numbers_mark_nothing() -> None:
    marked = voxelbits.pack(np.zeros((3, 3, 3), np.uint8))
    wild = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [-1e30, 0, 0], [0, 0, 0.31], [0, -1e-4, 0]], np.float32)
    voxelbits.occupy(wild, 0.0, np.zeros(3), 0.1, 3, marked)
    assert not marked.any()
    voxelbits.occupy(np.array([[0.05, 0.15, 0.25]], np.float32), 0.0, np.zeros(3), 0.1, 3, marked)
    assert list(zip(*np.nonzero(voxelbits.unpack(marked, 3)), strict=True)) == [(0, 1, 2)]
    # A cell of 3 cm round a point 1 cm from a face reaches into the next voxel.
    voxelbits.occupy(np.array([[0.05, 0.05, 0.09]], np.float32), 0.015, np.zeros(3), 0.1, 3, marked)
    assert voxelbits.unpack(marked, 3)[0, 0].tolist() == [1, 1, 0]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(TALL, TALL, st.one_of(TALL, st.integers(60, 140)), st.integers(0, 10**6), st.floats(0.001, 0.3))
def test_dilation_and_frontier_agree_with_their_definitions(nx: int, ny: int, nz: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    possible = (rng.random((nx, ny, nz)) < share).astype(np.uint8)
    bits = voxelbits.pack(possible)
    assert np.array_equal(voxelbits.unpack(bits, nz), possible)
    out = np.empty_like(bits)
    passable = rng.random((nx, ny, nz)) < 0.9
    expected = possible.astype(bool)
    for steps in range(4):
        voxelbits.grow(bits, voxelbits.pack(passable), steps, np.empty_like(bits), out)
        assert np.array_equal(voxelbits.unpack(out, nz), expected)
        expected = ndimage.binary_dilation(expected, np.ones((3, 3, 3))) & passable
    again = bits.copy()
    voxelbits.grow(again, voxelbits.pack(passable), 3, np.empty_like(bits), again)
    assert np.array_equal(again, out)
    grown = ndimage.binary_dilation(possible, np.ones((3, 3, 3)))
    balls = np.zeros((possible.size + 1, 3), np.float32)
    low, high = np.full(3, 0.15), np.full(3, 0.35)
    n = voxelbits.frontier(voxelbits.pack(grown), np.zeros(3), 0.1, nz, low, high, 0.9, 0.2, balls)
    centre = (np.indices(grown.shape).reshape(3, -1).T + 0.5) * 0.1
    away = np.linalg.norm(np.maximum(0.0, np.maximum(low - centre, centre - high)), axis=1)
    edge = grown & ~ndimage.binary_erosion(grown, border_value=1)
    wanted = grown.ravel() & (away <= 0.9 + 1e-9) & (edge.ravel() | (away <= 0.2 + 1e-9))
    least = grown.ravel() & (away <= 0.9 - 1e-9) & (edge.ravel() | (away <= 0.2 - 1e-9))
    found = {tuple(c) for c in np.rint(balls[:n] / 0.1 - 0.5).astype(int).tolist()}
    assert len(found) == n
    assert {tuple(c) for c in np.rint(centre[least] / 0.1 - 0.5).astype(int).tolist()} <= found
    assert found <= {tuple(c) for c in np.rint(centre[wanted] / 0.1 - 0.5).astype(int).tolist()}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_a_voxel_is_free_only_if_every_block_of_its_projection_is(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pooled = np.where(rng.random((rows, columns)) < 0.1, 500, 2000).astype(np.uint16)
    least, greatest = np.empty_like(pooled), np.empty_like(pooled)
    voxelbits.extremes_of_window(pooled, least, greatest)
    columns_of_voxels, nz = 12, 7
    n = columns_of_voxels * nz
    v, u = np.sort(rng.integers(0, rows, (n, 2))), np.sort(rng.integers(0, columns, (n, 2)))
    far = rng.choice([400, 1500, 2500], n, p=[0.2, 0.75, 0.05])
    box = np.concatenate([v, u, far[:, None]], 1).astype(np.uint16)
    group = np.zeros((16 * columns_of_voxels, 6), np.uint16)
    for i in range(columns_of_voxels):
        for g, here in enumerate((slice(i * nz, i * nz + 4), slice(i * nz + 4, i * nz + nz))):
            low, high = box[here].min(0), box[here].max(0)
            group[16 * i + g] = low[0], high[1], low[2], high[3], high[4], low[4]
    query = rng.random((1, columns_of_voxels, nz)) < 0.8
    bits = voxelbits.pack(query)
    out = np.empty_like(bits)
    voxelbits.seen_free(bits, pooled, least, greatest, box, group, nz, out)
    found = voxelbits.unpack(out, nz).ravel()
    for i in range(n):
        free = pooled[v[i, 0] : v[i, 1] + 1, u[i, 0] : u[i, 1] + 1].min() >= far[i]
        assert found[i] == (free and query.ravel()[i])


@pytest.mark.parametrize("valid", [5, 6, 8])
def test_a_hole_is_filled_only_among_six_valid_neighbours_and_with_the_nearest(valid: int) -> None:
    depth = np.full((5, 5), 2000, np.uint16)
    depth[2, 2] = 0
    ring = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (3, 3)]
    for v, u in ring[valid:]:
        depth[v, u] = 0
    depth[1, 1] = 1500
    filled, label, pixels = np.empty_like(depth), np.empty((5, 5), np.uint8), np.empty(25, np.int32)
    found = first.candidates(depth, np.full((5, 5), 1800, np.uint16), filled, label, pixels)
    assert [(p >> 16, p & 0xFFFF) for p in pixels[:found]] == list(zip(*np.nonzero(label != BACKGROUND), strict=True))
    assert filled[2, 2] == (1500 if valid >= 6 else 0)
    assert label[2, 2] == (PERSON if valid >= 6 else UNKNOWN)
    assert label[1, 1] == PERSON
    assert label[0, 0] == BACKGROUND
    depth[0, 0] = 0
    first.candidates(depth, np.full((5, 5), 1800, np.uint16), filled, label, pixels)
    assert label[0, 0] == UNKNOWN, "a hole at the rim has too few neighbours"
