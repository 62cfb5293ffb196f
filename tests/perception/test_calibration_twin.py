"""Calibration through pictures: the twin draws the board, the detector finds it, the truth judges. And the commands."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cell.cli import main
from cell.config import LoadedCell, load_cell
from cell.nodes import camera_options
from perception.calibration.board import Board, find_corners
from perception.calibration.extrinsics import LEAST_VIEWS, locate, turn_between
from perception.calibration.handeye import View
from perception.calibration.intrinsics import calibrate_lens
from perception.calibration.lens import lens_of
from perception.calibration.poses import flange_board, plan_poses
from sim.calibration_target import CalibrationStand
from sim.targets import TargetBench

BOARD = Board()


@pytest.fixture(scope="module")
def cell() -> LoadedCell:
    return load_cell()


def stand_of(cell: LoadedCell, camera: str, seed: int, **given: Any) -> CalibrationStand:
    return CalibrationStand(camera, camera_options(camera, cell, seed)[1], BOARD, flange_board(BOARD), seed, **given)


@pytest.mark.parametrize(("camera", "seed"), [("front", 1), ("front", 7), ("back", 2)])
def test_a_camera_of_the_twin_is_found_within_2_mm_and_a_tenth_of_a_degree(
    cell: LoadedCell, camera: str, seed: int
) -> None:
    stand, model = stand_of(cell, camera, seed), cell.model()
    nominal = np.asarray(stand.info.T_base_camera).reshape(4, 4)
    lens = lens_of(stand.info.intrinsics)
    views: list[View] = []
    for n, q in enumerate(plan_poses(model, cell.home(), nominal, lens, BOARD, cell.config.workcell, 32, seed)):
        picture, reported = stand.on_flange(q)
        corners = find_corners(BOARD, picture)
        if corners is not None and len(views) < 20:
            views.append(View(f"v{n}", model.fk(reported), BOARD.points(corners.ids), corners.pixels))
    stand.close()
    # The camera stands somewhere else than the cell file says, or finding it would prove nothing.
    truth = stand.truth.T_base_camera
    assert np.linalg.norm(nominal[:3, 3] - truth[:3, 3]) > 0.004 and math.degrees(turn_between(nominal, truth)) > 0.2
    found = locate(lens, views, nominal)
    assert found.used >= LEAST_VIEWS
    assert np.linalg.norm(found.T_base_camera[:3, 3] - truth[:3, 3]) < 0.002
    assert math.degrees(turn_between(found.T_base_camera, truth)) < 0.1


def test_corners_of_the_twins_pictures_are_where_the_truth_says(cell: LoadedCell) -> None:
    stand = stand_of(cell, "front", 4)
    away = []
    for T in stand.held_poses(9):
        corners = find_corners(BOARD, stand.held(T))
        assert corners is not None
        points = BOARD.points(corners.ids)
        away.append(stand.truth.lens.project(points @ T[:3, :3].T + T[:3, 3]) - corners.pixels)
    found = np.concatenate(away)
    assert np.abs(found.mean(0)).max() < 0.03 and np.sqrt((found**2).mean()) < 0.15


def test_a_bent_lens_of_the_twin_is_found(cell: LoadedCell) -> None:
    stand = stand_of(cell, "front", 5, distortion=(-0.06, 0.03, 0.0005, -0.0005, 0.0))
    seen = [(f"v{n}", find_corners(BOARD, stand.held(T))) for n, T in enumerate(stand.held_poses(20))]
    found = calibrate_lens(BOARD, (1280, 800), [(name, corners) for name, corners in seen if corners is not None])
    truth = stand.truth.lens
    assert abs(found.lens.fx / truth.fx - 1.0) < 0.002 and abs(found.lens.fy / truth.fy - 1.0) < 0.002
    edge = np.array([[x, y, 1.0] for x in (-0.7, 0.7) for y in (-0.4, 0.4)])
    straight = truth.model_copy(update={"distortion": []})
    assert np.abs(found.lens.project(edge) - truth.project(edge)).max() < 1.5
    assert np.abs(straight.project(edge) - truth.project(edge)).max() > 10.0


def test_what_stands_before_the_board_covers_it(cell: LoadedCell) -> None:
    stand = stand_of(cell, "front", 6)
    table = np.eye(4)
    near, far = table.copy(), table.copy()
    near[:3, 3], far[:3, 3] = (-0.18, -0.15, 1.0), (-0.18, -0.15, 9.0)
    assert find_corners(BOARD, stand.held(near)) is not None
    empty = stand.held(np.diag([1.0, -1.0, -1.0, 1.0]) @ near).astype(float)
    assert np.abs(stand.held(far).astype(float) - empty).mean() < 4.0


# ---------------------------------------------------------------- commands


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and error of `cell calibrate ...`."""
    with pytest.raises(SystemExit) as done:
        main(["calibrate", *arguments])
    text = capsys.readouterr()
    return int(done.value.code or 0), text.out, text.err


def test_extrinsics_from_the_twin_and_again_from_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    code, out, _ = call(["extrinsics", "--twin", "--camera", "back", "--json", "--out", str(first)], capsys)
    report = json.loads(out)
    assert code == 0 and report["used_views"] >= LEAST_VIEWS
    assert report["error"]["mm"] < 2.0 and report["error"]["deg"] < 0.1
    assert report["from_cell_file"]["mm"] > 2.0
    for name in ("proposal.yaml", "extrinsics.png", "extrinsics.json", "observations.json"):
        assert (first / name).stat().st_size > 100
    assert "SIMULATION ONLY" in (first / "proposal.yaml").read_text()
    observations = str(first / "observations.json")
    code, out, _ = call(["extrinsics", "--observations", observations, "--json", "--out", str(second)], capsys)
    again = json.loads(out)
    assert code == 0 and again["T_base_camera"] == pytest.approx(report["T_base_camera"], abs=1e-5)
    assert "error" not in again
    code, _, error = call(["extrinsics", "--observations", observations, "--camera", "front"], capsys)
    assert code == 2 and "is of camera back" in error


def test_intrinsics_from_a_folder_of_pictures(
    cell: LoadedCell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = stand_of(cell, "front", 7)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, T in enumerate(stand.held_poses(14)):
        cv2.imwrite(str(folder / f"p{n:02d}.png"), stand.held(T))
    cv2.imwrite(str(folder / "p99.png"), np.full((800, 1280), 90, np.uint8))
    arguments = ["intrinsics", "--images", str(folder), "--rectified", "--json", "--out", str(tmp_path / "out")]
    code, out, _ = call(arguments, capsys)
    report = json.loads(out)
    assert code == 0 and report["no_board_found"] == ["p99.png"] and len(report["views"]) == 14
    assert abs(report["lens"]["fx"] / stand.truth.lens.fx - 1.0) < 0.003
    cv2.imwrite(str(folder / "p98.png"), np.full((80, 128), 90, np.uint8))
    code, _, error = call(arguments, capsys)
    assert code == 2 and "p98.png" in error and "128 x 80" in error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["intrinsics"], "either --images"),
        (["intrinsics", "--images", "gone"], "no such folder"),
        (["intrinsics", "--images", ".", "--twin"], "either --images"),
        (["intrinsics", "--twin", "--board", "6x5:45:60"], "do not fit"),
        (["intrinsics", "--twin", "--camera", "side"], "no camera side"),
        (["intrinsics", "--twin", "--views", "5"], "at least 12"),
        (["extrinsics"], "either --observations"),
        (["extrinsics", "--observations", "gone.json"], "gone.json"),
        (["extrinsics", "--twin", "--cell", "gone.yaml"], "gone.yaml"),
        (["extrinsics", "--twin", "--views", "14"], "at least 15"),
        (["extrinsics", "--twin", "--board", "4x3:20:15"], "only 0 of"),
        (["background"], "either --depth"),
        (["background", "--depth", "gone.png"], "gone.png"),
        (["background", "--twin", "--frames", "3"], "at least 10"),
    ],
)
def test_arguments_that_cannot_be_used_end_with_their_reason(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = call(arguments, capsys)
    assert code == 2 and text in error


def test_the_empty_twin_is_as_its_cell_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for camera in ("front", "back"):
        code, out, _ = call(
            ["background", "--twin", "--camera", camera, "--frames", "12", "--json", "--out", str(tmp_path / camera)],
            capsys,
        )
        report = json.loads(out)
        assert code == 0 and report["differences"] == [] and report["unknown_share"] < 0.05
        noise = report["noise_coefficient"]
        assert noise["measured"] == pytest.approx(noise["assumed"], rel=0.15)
        assert (tmp_path / camera / "background.png").stat().st_size > 1000


def test_a_table_that_was_moved_in_the_twin_is_reported_from_depth_files(
    cell: LoadedCell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workcell = cell.config.workcell
    (table,) = (f for f in workcell.fixtures if f.name == "table")
    x, y, z = table.pose.position
    moved = table.model_copy(update={"pose": table.pose.model_copy(update={"position": (x + 0.2, y, z)})})
    real = workcell.model_copy(update={"fixtures": [moved if f is table else f for f in workcell.fixtures]})
    options = camera_options("front", cell, 1)[1] | {"workcell": real}
    bench = TargetBench([("front", options)], [], cell.home().tolist(), 1)
    folder = tmp_path / "empty"
    folder.mkdir()
    for n in range(12):
        np.save(folder / f"{n:02d}.npy", bench.frames(None, ())[0].depth)
    bench.close()
    arguments = ["background", "--camera", "front", "--depth", str(folder), "--json", "--out", str(tmp_path / "out")]
    code, out, _ = call(arguments, capsys)
    report = json.loads(out)
    assert code == 1 and {d["kind"] for d in report["differences"]} == {"extra", "gone"}
    assert any(d["kind"] == "gone" and d["fixture"] == "table" for d in report["differences"])
    before = [np.load(path) for path in sorted(folder.iterdir())]
    np.save(folder / "00.npy", before[0][:200])
    code, _, error = call(arguments, capsys)
    assert code == 2 and "one size" in error
