"""Depth pictures and clouds from files: read exactly, or refused with the reason; never free where nothing is known."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from perception.contract import Intrinsics
from perception.depthfile import DepthFileError, check_intrinsics, read_depth
from perception.pcd import read_pcd

PINHOLE = (40.0, 40.0, 15.5, 11.5)


def picture() -> np.ndarray:
    """A wall with a box before it, a hole and a saturated pixel."""
    depth = np.full((24, 32), 3000, np.uint16)
    depth[8:16, 10:20] = 1500
    depth[0, :5] = 0
    return depth


def save(folder: Path, name: str, values: np.ndarray) -> Path:
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", picture()),
        ("a.npy", picture()),
        ("b.npy", picture().astype(np.float32) / 1000),
        ("c.npy", picture().astype(np.float64) / 1000),
        ("d.npy", picture().astype(np.int32)),
    ],
)
def test_reads_what_was_written(tmp_path: Path, name: str, values: np.ndarray) -> None:
    depth, camera = read_depth(save(tmp_path, name, values), *PINHOLE)
    assert (depth == picture()).all() and depth.dtype == np.uint16
    assert camera == Intrinsics(32, 24, *PINHOLE)


def test_saturated_and_not_finite_are_unknown(tmp_path: Path) -> None:
    saturated = picture()
    saturated[3, 3] = 65535
    assert read_depth(save(tmp_path, "a.png", saturated), *PINHOLE)[0][3, 3] == 0
    metres = picture() / 1000.0
    metres[3, 3], metres[4, 4], metres[5, 5] = np.nan, np.inf, -np.inf
    depth = read_depth(save(tmp_path, "a.npy", metres), *PINHOLE)[0]
    assert depth[3, 3] == depth[4, 4] == depth[5, 5] == 0 and depth[6, 6] == 3000


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("a.png", picture().astype(np.uint8), "16 bits"),
        ("a.png", np.zeros((24, 32, 3), np.uint8), "16 bits"),
        ("a.npy", np.zeros((24, 32, 3), np.uint16), "shape"),
        ("a.npy", np.zeros((0, 32), np.uint16), "size"),
        ("a.npy", -picture().astype(np.int32), "negative"),
        ("a.npy", picture() / -1000.0, "negative"),
        ("a.npy", picture().astype(np.float32), "metres"),
        ("a.npy", np.full((24, 32), 100_000), "100000"),
        ("a.npy", np.zeros((24, 32), bool), "type"),
        ("a.npy", np.array([[None, 1], [2, 3]], dtype=object), "no readable"),
    ],
)
def test_what_is_no_depth_picture_is_refused(tmp_path: Path, name: str, values: np.ndarray, text: str) -> None:
    with pytest.raises(DepthFileError, match=text) as error:
        read_depth(save(tmp_path, name, values), *PINHOLE)
    assert name in str(error.value)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.pcd"])
def test_truncated_empty_and_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(DepthFileError, match="No such file"):
        read_depth(path, *PINHOLE)
    path.write_bytes(b"")
    with pytest.raises(DepthFileError, match="empty"):
        read_depth(path, *PINHOLE)
    path.write_bytes(b"\x89PNG\r\n\x1a\n garbage")
    with pytest.raises(DepthFileError):
        read_depth(path, *PINHOLE)
    if name != "a.pcd":
        whole = save(tmp_path, f"whole{path.suffix}", picture()).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DepthFileError):
            read_depth(path, *PINHOLE)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("fx", {"fx": 0.0}),
        ("fx", {"fx": float("nan")}),
        ("fy", {"fy": -40.0}),
        ("fy", {"fy": 1e6}),
        ("cx", {"cx": 400.0}),
        ("cy", {"cy": float("inf")}),
    ],
)
def test_figures_of_another_camera_are_refused_by_name(tmp_path: Path, field: str, change: dict[str, float]) -> None:
    figures = dict(zip(("fx", "fy", "cx", "cy"), PINHOLE, strict=True)) | change
    assert [name for name, _ in check_intrinsics(Intrinsics(32, 24, **figures))] == [field]
    with pytest.raises(DepthFileError, match=field):
        read_depth(save(tmp_path, "a.png", picture()), **figures)


# ---------------------------------------------------------------- point clouds


def cloud() -> np.ndarray:
    """(n, 3) points whose projections are the pixels of `picture`."""
    depth = picture()
    v, u = np.nonzero(depth)
    z = depth[v, u] / 1000.0
    return np.stack([(u - 15.5) / 40 * z, (v - 11.5) / 40 * z, z], axis=1).astype(np.float32)


def header(points: np.ndarray, kind: str, width: int = 0, height: int = 1) -> bytes:
    lines = ["# .PCD v0.7", "VERSION 0.7", "FIELDS x y z rgb", "SIZE 4 4 4 4", "TYPE F F F U", "COUNT 1 1 1 1"]
    lines += [f"WIDTH {width or len(points)}", f"HEIGHT {height}", f"POINTS {len(points)}", f"DATA {kind}", ""]
    return "\n".join(lines).encode()


def body(points: np.ndarray, kind: str) -> bytes:
    if kind == "ascii":
        return "\n".join(f"{x:.6f} {y:.6f} {z:.6f} 0" for x, y, z in points).encode()
    if kind == "binary":
        rows = np.zeros(len(points), dtype=[("p", "<f4", 3), ("c", "<u4")])
        rows["p"] = points
        return rows.tobytes()
    columns = points.T.astype("<f4").tobytes() + bytes(4 * len(points))
    packed = literals(columns)
    return struct.pack("<II", len(packed), len(columns)) + packed


def literals(data: bytes) -> bytes:
    """The plainest LZF there is: nothing but literals of 32 bytes."""
    return b"".join(bytes([len(part) - 1]) + part for part in (data[n : n + 32] for n in range(0, len(data), 32)))


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_a_cloud_becomes_the_picture_it_came_from(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(header(cloud(), kind) + body(cloud(), kind))
    depth, camera = read_depth(path, *PINHOLE)
    assert (camera.width, camera.height) == (32, 24)
    assert (depth == picture()).all()


def test_of_two_points_in_one_pixel_the_nearer_one_counts(tmp_path: Path) -> None:
    both = np.concatenate([cloud(), cloud() * 0.5, np.array([[np.nan, 0, 1], [0, 0, -1]], np.float32)])
    path = tmp_path / "a.pcd"
    path.write_bytes(header(both, "binary") + body(both, "binary"))
    assert (read_depth(path, *PINHOLE)[0] == picture() // 2).all()


def test_compressed_references_are_followed() -> None:
    points = np.tile(np.array([[1.0, 2.0, 3.0]], np.float32), (4, 1))
    columns = points.T.astype("<f4").tobytes() + bytes(16)
    # The first number as a literal, its three repeats as a reference four bytes back, and so on.
    packed = b""
    for n in range(4):
        packed += bytes([3]) + columns[16 * n : 16 * n + 4] + bytes([7 << 5, 12 - 2 - 7, 3])
    found, width, height = read_pcd(header(points, "binary_compressed") + struct.pack("<II", len(packed), 64) + packed)
    assert (found == points).all() and (width, height) == (4, 1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.sampled_from(["ascii", "binary", "binary_compressed"]), st.integers(0, 400))
def test_damaged_clouds_are_refused_and_never_anything_else(noise: bytes, kind: str, cut: int) -> None:
    whole = header(cloud()[:20], kind) + body(cloud()[:20], kind)
    for raw in (whole[:cut] + noise, noise + whole[cut:]):
        try:
            points, width, height = read_pcd(raw)
        except ValueError:
            continue
        assert points.shape == (width * height, 3)
