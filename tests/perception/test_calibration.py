"""Calibration without pictures: exact corners with noise, every refusal, files, dates in the cell file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cell.config import default_cell, load_cell
from cell.yamlfile import FileErrors
from perception.calibration.board import Board, CalibrationError, Corners, find_corners, parse_board
from perception.calibration.extrinsics import Extrinsics, locate, turn_between
from perception.calibration.files import read_observations, read_picture
from perception.calibration.handeye import View, closed_form, inverse
from perception.calibration.intrinsics import calibrate_lens
from perception.calibration.lens import Lens, board_poses
from perception.config import Mount

F64 = NDArray[np.float64]
BOARD = Board()
LENS = Lens(width=1280, height=800, fx=635.0, fy=636.0, cx=640.0, cy=399.0)
IDS = np.arange(BOARD.corner_count, dtype=np.int32)
POINTS = BOARD.points(IDS)
CAMERA = Mount(position=(2.0, -1.3, 1.5), look_at=(0.2, -0.2, 0.4)).T_base_camera()


def pose(shift: Any, turn: Any) -> F64:
    """(4, 4) from a position (m) and a rotation vector (rad)."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    T[:3, 3] = shift
    return T


FLANGE_BOARD = pose([-0.17, 0.14, 0.05], [3.1, 0.03, -0.02])


def views_of(seed: int, count: int = 20, noise: float = 0.15, tilt: float = 0.5, one_axis: bool = False) -> list[View]:
    """Exact views of the board at the flange before CAMERA, with noise (px) on the corners."""
    random = np.random.default_rng(seed)
    views: list[View] = []
    while len(views) < count:
        turn = random.uniform(-tilt, tilt, 3) * (np.array([0.0, 0.0, 1.0]) if one_axis else 1.0)
        seen = pose([*random.uniform(-0.5, 0.3, 2), random.uniform(1.6, 2.4)], turn)
        pixels = LENS.project(POINTS @ seen[:3, :3].T + seen[:3, 3]) + random.normal(0.0, noise, (len(IDS), 2))
        if (pixels > 0).all() and (pixels < [1279, 799]).all():
            flange = CAMERA @ seen @ inverse(FLANGE_BOARD)
            views.append(View(f"v{len(views)}", flange, POINTS, pixels))
    return views


def error(found: Extrinsics) -> tuple[float, float]:
    """Off the truth by m and degrees."""
    away = found.T_base_camera[:3, 3] - CAMERA[:3, 3]
    return float(np.linalg.norm(away)), math.degrees(turn_between(found.T_base_camera, CAMERA))


# ---------------------------------------------------------------- the board and the lens


def test_corners_of_the_print_are_where_the_board_says() -> None:
    page = np.pad(BOARD.picture(40), 60, constant_values=255)
    found = find_corners(BOARD, page)
    assert found is not None and sorted(found.ids.tolist()) == IDS.tolist()
    # Pixel centres are whole numbers, so the print's left edge is at 59.5.
    expected = BOARD.points(found.ids)[:, :2] / BOARD.square * 40 + 59.5
    assert np.abs(found.pixels - expected).max() < 0.3
    upside_down = find_corners(BOARD, np.ascontiguousarray(page[::-1, ::-1]))
    assert upside_down is not None
    turned = np.array([page.shape[1], page.shape[0]]) - 1 - upside_down.pixels
    assert np.abs(turned - (BOARD.points(upside_down.ids)[:, :2] / BOARD.square * 40 + 59.5)).max() < 0.3


def test_no_board_and_no_picture() -> None:
    assert find_corners(BOARD, np.full((200, 200), 128, np.uint8)) is None
    other = Board(columns=8, rows=6, dictionary="5X5_100")
    assert find_corners(other, np.pad(BOARD.picture(40), 60, constant_values=255)) is None
    for wrong in (np.zeros((200, 200)), np.zeros((10, 10), np.uint8), np.zeros(200, np.uint8)):
        with pytest.raises(CalibrationError, match="8-bit"):
            find_corners(BOARD, wrong)


def test_boards_are_written_as_they_are_read() -> None:
    assert parse_board(str(BOARD)) == BOARD
    assert parse_board("8x6:30:22:5x5_100").dictionary == "5X5_100"
    for text in (
        "", "6x5", "6x5:60", "6x5:45:60", "6x5:nan:1", "6x5:inf:9", "axb:60:45", "6x5:60:45:7X7",
        "30x30:20:15",                 "6x5:-60:45", "6x5:60:45:4X4_50:x",
    ):  # fmt: skip
        with pytest.raises(CalibrationError, match="board"):
            parse_board(text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-0.2, 0.2), min_size=5, max_size=5),
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(1.0, 5.0)), min_size=1, max_size=20),
)
def test_projection_is_that_of_opencv(distortion: list[float], points: list[tuple[float, float, float]]) -> None:
    lens = LENS.model_copy(update={"distortion": distortion})
    there = np.array(points)
    expected, _ = cv2.projectPoints(there, np.zeros(3), np.zeros(3), lens.K, lens.coefficients)
    assert np.abs(lens.project(there) - expected.reshape(-1, 2)).max() < 1e-6
    assert np.isnan(lens.project(there * [1, 1, -1])).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.tuples(*[st.floats(-3, 3)] * 3), st.floats(-math.pi, math.pi), st.floats(-1.4, 1.4), st.floats(-179, 179),
    st.floats(0.5, 4.0),
)  # fmt: skip
def test_a_mount_gives_back_the_pose_it_was_made_of(
    position: tuple[float, float, float], yaw: float, pitch: float, roll: float, distance: float
) -> None:
    aim = [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)]
    look_at = tuple(float(p + v) for p, v in zip(position, aim, strict=True))
    T = Mount(position=position, look_at=look_at, roll_deg=roll).T_base_camera()  # type: ignore[arg-type]
    again = Mount.of(T, distance).T_base_camera()
    assert np.abs(again[:3, 3] - T[:3, 3]).max() <= 6e-6
    # Rounding of `look_at` to 10 micrometres half a metre away, larger in the roll of a steep camera.
    assert math.degrees(turn_between(T, again)) < 0.01


# ---------------------------------------------------------------- extrinsics


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 1))
def test_the_closed_form_is_exact_for_exact_poses(seed: int) -> None:
    random = np.random.default_rng(seed)
    X, Z = (pose(random.uniform(-2, 2, 3), random.uniform(-2, 2, 3)) for _ in range(2))
    A = [pose(random.uniform(-1, 1, 3), random.uniform(-2, 2, 3)) for _ in range(6)]
    found_X, found_Z = closed_form(A, [inverse(X) @ a @ Z for a in A])
    assert np.abs(found_X - X).max() < 1e-6 and np.abs(found_Z - Z).max() < 1e-6


def test_a_camera_is_found_within_2_mm_and_a_tenth_of_a_degree_and_the_deviation_is_honest() -> None:
    shares = []
    for seed in range(12):
        found = locate(LENS, views_of(seed, noise=0.2))
        off, turn = error(found)
        assert off < 0.002 and turn < 0.1, seed
        assert found.residual_px == pytest.approx(0.2 * math.sqrt(2.0), rel=0.1) and found.used == 20
        shares.append(off / found.shift_sd)
    # In three directions a few standard deviations are rare; far fewer than one would mean it is overstated.
    assert max(shares) < 4.0 and np.median(shares) > 0.1


def test_views_that_do_not_fit_are_named_and_left_out() -> None:
    views = views_of(3)
    views[4] = views[4]._replace(T_base_flange=views[4].T_base_flange @ pose([0.02, 0.0, 0.0], [0.0, 0.03, 0.0]))
    views[11] = views[11]._replace(pixels=views[11].pixels + 5.0)
    found = locate(LENS, views)
    assert [view.name for view in found.views if view.outlier] == ["v4", "v11"] and found.used == 18
    off, turn = error(found)
    assert off < 0.002 and turn < 0.1


def test_a_nominal_pose_far_off_does_no_harm() -> None:
    far = CAMERA @ pose([0.3, -0.2, 0.2], [0.2, 0.1, -0.2])
    assert error(locate(LENS, views_of(5), far))[0] < 0.002


def _refused(views: list[View], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        locate(LENS, views)


def test_degenerate_views_are_refused() -> None:
    _refused([], "0 different poses")
    _refused(views_of(1, 14), "14 different poses")
    _refused([v._replace(name=f"again{n}") for n in range(20) for v in views_of(1, 1)], "1 different poses")
    _refused(views_of(1, tilt=0.0), "parallel")
    _refused(views_of(1, tilt=0.02), "parallel")
    _refused(views_of(1, one_axis=True), "one axis")
    _refused(views_of(1, noise=3.0), "residual|do not determine")
    assert locate(LENS, views_of(1)).used == 20


def test_a_board_that_is_not_as_described_is_refused() -> None:
    _refused([v._replace(points=v.points * 1.1) for v in views_of(1)], "residual|do not fit")


def test_strange_views_are_refused() -> None:
    good = views_of(1)
    bad = good[2].pixels.copy()
    bad[0, 0] = math.nan
    outside = good[2].pixels.copy()
    outside[0, 0] = 2000.0
    for change, text in (
        ({"pixels": bad}, "outside"),
        ({"pixels": outside}, "outside"),
        ({"pixels": good[2].pixels[:3], "points": POINTS[:3]}, "at least 6"),
        ({"pixels": good[2].pixels[:5]}, "at least 6"),
        ({"name": "v3"}, "twice"),
        ({"T_base_flange": np.full((4, 4), math.nan)}, "no pose"),
        ({"T_base_flange": good[2].T_base_flange * 1.01}, "no pose"),
    ):
        _refused([*good[:2], good[2]._replace(**change), *good[3:]], text)  # type: ignore[arg-type]


def test_random_poses_that_belong_to_other_pictures_are_refused() -> None:
    views = views_of(2)
    shuffled = [v._replace(T_base_flange=views[(n + 7) % 20].T_base_flange) for n, v in enumerate(views)]
    _refused(shuffled, "do not fit|residual|do not determine")


# ---------------------------------------------------------------- intrinsics


def seen_by(lens: Lens, seed: int, count: int = 16, tilt: float = 0.6, size: float = 0.65) -> list[tuple[str, Corners]]:
    """Exact corners with noise of a board held into all parts of the picture."""
    random = np.random.default_rng(seed)
    seen = []
    while len(seen) < count:
        n = len(seen)
        away = pose([0, 0, 0], [*random.uniform(-tilt, tilt, 2), random.uniform(-0.3, 0.3)])
        z = random.uniform(0.7, 1.0)
        away[:3, 3] = [(n % 3 - 1) * size * z - 0.18, ((n // 3) % 3 - 1) * 0.6 * size * z - 0.15, z]
        pixels = lens.project(POINTS @ away[:3, :3].T + away[:3, 3]) + random.normal(0.0, 0.1, (len(IDS), 2))
        inside = ((pixels > 0) & (pixels < [1279, 799])).all(1)
        if inside.sum() >= 8:
            seen.append((f"p{n}", Corners(IDS[inside], pixels[inside])))
    return seen


def test_a_lens_with_distortion_is_found() -> None:
    lens = LENS.model_copy(update={"distortion": [-0.05, 0.04, 0.001, -0.001, 0.0]})
    for seed in range(3):
        found = calibrate_lens(BOARD, (1280, 800), seen_by(lens, seed, 24))
        for name in ("fx", "fy", "cx", "cy"):
            sd = found.sd[("fx", "fy", "cx", "cy").index(name)]
            assert abs(getattr(found.lens, name) - getattr(lens, name)) < 5.0 * sd + 0.2 < 10.0, (seed, name)
        assert found.residual_px < 0.2 and found.covered > 0.4
        points = np.array([[x, y, 1.0] for x in (-0.6, 0.0, 0.6) for y in (-0.35, 0.35)])
        assert np.abs(found.lens.project(points) - lens.project(points)).max() < 4.0


def test_a_rectified_lens_has_no_distortion_and_an_outlier_is_named() -> None:
    seen = seen_by(LENS, 4, 20)
    name, corners = seen[6]
    blurred = corners.pixels + np.random.default_rng(1).normal(0, 3, corners.pixels.shape)
    seen[6] = (name, corners._replace(pixels=blurred))
    found = calibrate_lens(BOARD, (1280, 800), seen, distortion=False)
    assert found.lens.distortion == [] and [v.name for v in found.views if v.outlier] == ["p6"]
    assert abs(found.lens.fx - LENS.fx) < 0.005 * LENS.fx


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"count": 11}, "11 pictures"), ({"tilt": 0.0}, "parallel"), ({"size": 0.02}, "cover|parallel|focal")],
)
def test_pictures_that_determine_no_lens_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        calibrate_lens(BOARD, (1280, 800), seen_by(LENS, 1, **arguments))


def test_a_flat_target_has_the_true_pose_among_its_poses() -> None:
    T = pose([0.1, -0.2, 2.0], [0.4, -0.3, 0.2])
    poses = board_poses(LENS, POINTS, LENS.project(POINTS @ T[:3, :3].T + T[:3, 3]))
    assert poses and np.abs(poses[0] - T).max() < 1e-4


# ---------------------------------------------------------------- files and the cell file


def _observations(views: list[View]) -> dict[str, Any]:
    return {
        "camera": "front",
        "board": BOARD.model_dump(mode="json"),
        "lens": LENS.model_dump(mode="json"),
        "views": [
            {"name": v.name, "T_base_flange": v.T_base_flange.ravel().tolist(), "ids": IDS.tolist(),
             "pixels": v.pixels.tolist()}
            for v in views
        ],
    }  # fmt: skip


def test_observations_are_read_and_give_the_same_answer(tmp_path: Path) -> None:
    views = views_of(1)
    path = tmp_path / "o.json"
    path.write_text(json.dumps(_observations(views)))
    file, again, without = read_observations(path, lambda q: np.eye(4), 7)
    assert file.board == BOARD and not without
    assert error(locate(file.lens, again)) == pytest.approx(error(locate(LENS, views)), abs=1e-6)


@pytest.mark.parametrize(
    ("where", "value", "text"),
    [
        (("views", 0, "q"), [0.0] * 7, "either q"),
        (("views", 0, "T_base_flange"), [0.0] * 15, "16 numbers"),
        (("views", 0, "T_base_flange"), [math.nan] * 16, "wrong kind"),
        (("views", 0, "ids"), [0] * 20, "each id once"),
        (("views", 0, "ids"), list(range(5, 25)), "has corners 0 to 19"),
        (("views", 0, "pixels"), [[1.0, 2.0]], "one by one"),
        (("views", 0, "pixels", 0), [1e9, 2.0], "out of range"),
        (("views", 0, "image"), "x.png", "either image"),
        (("board", "marker"), 0.07, "smaller than square"),
        (("lens", "fx"), 1.0, "fx"),
        (("lens", "fx"), -1.0, "out of range"),
        (("board", "colour"), 1, "unknown key"),
    ],
)
def test_every_fault_of_an_observations_file_is_named(tmp_path: Path, where: Any, value: Any, text: str) -> None:
    data: Any = _observations(views_of(1, 2))
    here = data
    for key in where[:-1]:
        here = here[key]
    here[where[-1]] = value
    path = tmp_path / "o.json"
    path.write_text(json.dumps(data))
    with pytest.raises(FileErrors, match=text):
        read_observations(path, lambda q: np.eye(4), 7)


def test_joints_that_do_not_fit_the_arm_and_missing_pictures(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    data = _observations([])
    data["views"] = [{"name": "a", "q": [0.0] * 6, "image": "gone.png"}]
    path.write_text(json.dumps(data))
    with pytest.raises(FileErrors, match="7 joints"):
        read_observations(path, lambda q: np.eye(4), 7)
    with pytest.raises(CalibrationError, match="no such file"):
        read_observations(path, lambda q: np.eye(4), 6)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    good = cv2.imencode(".png", BOARD.picture(20))[1].tobytes()
    for raw in (b"", b"text", good[:20]):
        path.write_bytes(raw)
        with pytest.raises(CalibrationError, match="no picture"):
            read_picture(path)
    path.write_bytes(good)
    assert read_picture(path).shape == (100, 120)


def _cell_with(tmp_path: Path, lines: str) -> Path:
    text = default_cell().read_text(encoding="utf-8")
    old = "  - name: front\n"
    assert text.count(old) == 1
    path = tmp_path / "cell.yaml"
    path.write_text(text.replace(old, old + lines))
    return path


@pytest.mark.requirement("PER-12")
def test_a_calibration_from_before_the_mount_was_changed_is_refused(tmp_path: Path) -> None:
    changed = "    mount_changed_on: 2026-03-02\n"
    for lines in (changed, changed + "    calibrated_on: 2026-03-02\n", "    calibrated_on: 2026-03-01\n"):
        assert load_cell(_cell_with(tmp_path, lines)).config.cameras[0].name == "front"
    with pytest.raises(FileErrors, match="before the mount was last changed") as caught:
        load_cell(_cell_with(tmp_path, changed + "    calibrated_on: 2026-03-01\n"))
    (fault,) = caught.value.errors
    assert fault.field == "cameras[0].calibrated_on" and fault.line > 0 and "cell calibrate" in fault.remedy
    for wrong in ("2026-13-01", "yesterday", "5"):
        with pytest.raises(FileErrors, match="calibrated_on"):
            load_cell(_cell_with(tmp_path, f"    calibrated_on: {wrong}\n"))
