"""Objects in a depth picture, on made pictures and on a real one; people in real photographs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perception.contract import Intrinsics
from perception.objects import LEAST_PIXELS, foreground, points_of, segment
from perception.pose import PoseError, PoseFinder, model_path

ROOT = Path(__file__).parents[2]
CAMERA = Intrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
NO_MODEL = not model_path().is_file()


def wall(depth: int = 3000) -> np.ndarray:
    return np.full((48, 64), depth, np.uint16)


def test_two_boxes_before_a_wall_are_two_objects_and_the_wall_the_third() -> None:
    depth = wall()
    depth[10:30, 5:15] = 1000
    depth[10:30, 15:30] = 2000
    depth[40, 40:60] = 0
    found = segment(depth, CAMERA)
    assert [round(thing.position[2], 3) for thing in found.things] == [1.0, 2.0, 3.0]
    near = found.things[0]
    assert near.points == 200 and near.box == (5, 10, 14, 29)
    assert near.position == pytest.approx(((9.5 - 31.5) / 60, (19.5 - 23.5) / 60, 1.0), abs=1e-6)
    assert near.extent == pytest.approx((9 / 60, 19 / 60, 0.0), abs=1e-6)
    assert (found.points, found.invalid) == (48 * 64 - 20, 20)
    assert (found.labels[10:30, 5:15] == 1).all() and (found.labels[40, 40:60] == 0).all()
    assert found.nearest == pytest.approx(np.linalg.norm(points_of(depth, CAMERA)[depth > 0], axis=1).min())


def test_a_slanted_surface_stays_one_object() -> None:
    depth = np.tile(np.linspace(1000, 3000, 64).astype(np.uint16), (48, 1))
    assert len(segment(depth, CAMERA).things) == 1


def test_background_is_taken_away_as_far_as_noise_reaches_and_no_further() -> None:
    empty = wall()
    empty[:, 50:] = 0
    now = wall()
    now[5:15, 5:15] = 3000 - 100
    now[20:35, 20:35] = 3000 - 200
    mask = foreground(now, empty)
    # 4 sigma of a D435 at 3 m are 137 mm.
    assert not mask[5:15, 5:15].any() and mask[20:35, 20:35].all()
    # Where the background is not known, nothing is known to be background.
    assert mask[:, 50:].all()
    assert not mask[:, :5].any()


def test_scatter_is_no_object_but_counts() -> None:
    depth = np.zeros((48, 64), np.uint16)
    depth[::4, ::4] = 1500
    found = segment(depth, CAMERA)
    assert found.things == [] and found.points == 12 * 16 > LEAST_PIXELS
    assert found.nearest is not None and found.nearest < 1.6


def test_an_empty_picture_has_nothing_and_all_of_it_is_unknown() -> None:
    found = segment(np.zeros((48, 64), np.uint16), CAMERA)
    assert (found.things, found.points, found.invalid, found.nearest) == ([], 0, 48 * 64, None)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="camera"):
        segment(np.ones((10, 10), np.uint16), CAMERA)
    with pytest.raises(ValueError, match="background"):
        segment(wall(), CAMERA, np.ones((10, 10), np.uint16))


# ---------------------------------------------------------------- the command, on real pictures


def perceive(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cell.cli", "perceive", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


def test_a_real_head_and_shoulders_is_found(tmp_path: Path) -> None:
    folder = Path(os.environ.get("CELL_TEST_DATA", ROOT.parent / "shared")) / "recordings" / "pcl_person"
    if not folder.is_dir():
        pytest.skip(f"no recorded depth in {folder}: set CELL_TEST_DATA")
    target = tmp_path / "out.png"
    figures = ["--fx", "525", "--fy", "525", "--cx", "319.5", "--cy", "239.5"]
    done = perceive("--depth", str(folder / "depth_mm.png"), *figures, "--none", "--json", "--png", str(target))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    person = result["objects"][0]
    assert person["distance"] == pytest.approx(0.76, abs=0.05)
    assert person["position"][2] == pytest.approx(0.76, abs=0.05)
    assert 0.25 < person["extent"][0] < 0.6 and 0.35 < person["extent"][1] < 0.8 and person["points"] > 40_000
    assert result["nearest_m"] == pytest.approx(0.69, abs=0.02)
    assert result["points"] + result["invalid"] == 640 * 480
    with Image.open(target) as picture:
        assert picture.size == (640, 480)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--depth"),
        (["--depth", "a.npy"], "--fx"),
        (["--depth", "a.npy", "--fx", "60", "--cx", "900", "--cy", "23"], "cx"),
        (["--depth", "a.npy", "--fx", "nan", "--cx", "31", "--cy", "23"], "fx"),
        (["--depth", "gone.npy", "--fx", "60", "--cx", "31", "--cy", "23"], "gone.npy"),
        (["--depth", "unknown.npy", "--fx", "60", "--cx", "31", "--cy", "23"], "unknown"),
        (["--depth", "a.npy", "--fx", "60", "--cx", "31", "--cy", "23", "--background", "small.npy"], "pixels"),
        (["--depth", "a.npy", "--fx", "60", "--cx", "31", "--cy", "23", "--rgb", "small.npy"], "readable"),
        (["--depth", "a.npy", "--fx", "60", "--cx", "31", "--cy", "23", "--background", "a.npy", "--none"], "exclude"),
        (["--rgb", "gone.png"], "gone.png"),
    ],
)
def test_bad_input_ends_with_its_reason(
    tmp_path: Path, arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cell.cli import main

    monkeypatch.chdir(tmp_path)
    np.save("a.npy", wall())
    np.save("unknown.npy", np.zeros((48, 64), np.uint16))
    np.save("small.npy", np.ones((47, 31), np.uint16))
    with pytest.raises(SystemExit) as done:
        main(["perceive", *arguments])
    assert done.value.code == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.skipif(NO_MODEL, reason=f"no pose model at {model_path()}: run `make setup`")
def test_people_in_photographs_are_found_and_things_are_not_people() -> None:
    from skimage import data

    with PoseFinder() as finder:
        (woman,) = finder.find(data.astronaut())
        shoulders = [woman.skeleton[name].pixel for name in ("right_shoulder", "left_shoulder")]
        assert shoulders[0] == pytest.approx((112, 240), abs=15) and shoulders[1] == pytest.approx((306, 256), abs=15)
        assert woman.position is None and woman.confidence > 0.9
        assert len(finder.find(np.repeat(data.camera()[:, :, None], 3, axis=2))) == 1
        assert finder.find(data.coffee()) == [] == finder.find(data.chelsea())
        # Beside herself, farther away: two people, each where the depth says.
        twice = np.concatenate([data.astronaut(), data.astronaut()], axis=1)
        depth = np.full(twice.shape[:2], 1100, np.uint16)
        depth[:, 512:] = 1500
        near, far = finder.find(twice, depth, Intrinsics(1024, 512, 700.0, 700.0, 511.5, 255.5))
        assert len(finder.find(twice)) == 2
        assert near.position is not None and near.position[2] == pytest.approx(1.1, abs=0.15)
        assert far.position is not None and far.position[2] == pytest.approx(1.5, abs=0.15)
        assert near.position[0] < 0 < far.position[0]
        # The same picture 20 m away shows bones that nobody has.
        assert finder.find(data.astronaut(), np.full((512, 512), 20_000, np.uint16),
                           Intrinsics(512, 512, 500.0, 500.0, 255.5, 255.5)) == []  # fmt: skip


def test_another_or_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="make setup"):
        PoseFinder(tmp_path / "none.task")
    other = tmp_path / "other.task"
    other.write_bytes(b"something else")
    with pytest.raises(PoseError, match="checked"):
        PoseFinder(other)
