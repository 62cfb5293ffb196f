"""`cell camera` and `cell perceive --recording`: what they print, and what they refuse."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell.cli import BAD_INPUT, FAILED, OK, main
from perception.cameras.files import McapRecorder, McapRecording
from perception.contract import CameraInfo, Frame, Intrinsics

W, H = 64, 48
LENS = Intrinsics(W, H, 60.0, 60.0, 31.5, 23.5)
EYE = tuple(float(v) for v in np.eye(4).ravel())


def scene(box: bool) -> np.ndarray:
    """A wall at 3 m, with something of 20 x 20 px before it at 1.2 m."""
    depth = np.full((H, W), 3000, np.uint16)
    if box:
        depth[14:34, 22:42] = 1200
    depth[:2] = 0
    return depth


def recorded(path: Path, pictures: list[np.ndarray]) -> Path:
    recorder = McapRecorder(path, [CameraInfo("front", "test", LENS, 30.0, EYE, 0.002, 0.3, 6.0)])
    for k, depth in enumerate(pictures):
        recorder.add(Frame("front", k + 1, 5.0 + 0.5 * k, depth))
    recorder.close()
    return path


def called(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_each_frame_of_a_recording_is_perceived(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "a.mcap", [scene(False), scene(True), np.zeros((H, W), np.uint16), scene(True)])
    np.save(tmp_path / "empty.npy", scene(False))
    words = ["perceive", "--recording", str(path), "--background", str(tmp_path / "empty.npy")]
    assert called(*words, "--json", "--png", str(tmp_path / "pictures")) == OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["t"] for row in rows] == [0.0, 0.5, 1.0, 1.5]
    assert [len(row["objects"]) for row in rows] == [0, 1, 0, 1]
    assert rows[1]["objects"][0]["position"][2] == pytest.approx(1.2)
    assert [row["unknown"] for row in rows] == [False, False, True, False], "no depth is unknown, not free"
    assert rows[2]["invalid"] == W * H
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == [f"{k:06d}.png" for k in range(1, 5)]
    assert called(*words, "--every", "2") == OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "all unknown" in lines[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no frame with any depth"),
        (["--background", "{}/a.mcap"], "a depth picture is"),
        (["--background", "{}/small.npy"], "the background has"),
        (["--none", "--background", "{}/small.npy"], "exclude"),
        (["--camera", "other"], "there are front"),
        (["--depth", "x.png"], "figures of its own"),
    ],
)
def test_what_cannot_be_perceived(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path / "a.mcap", [np.zeros((H, W), np.uint16)])
    np.save(tmp_path / "small.npy", np.full((40, W), 900, np.uint16))
    assert called("perceive", "--recording", str(path), *(w.format(tmp_path) for w in words)) == BAD_INPUT
    assert said in capsys.readouterr().err


def test_a_recording_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mcap").write_bytes(b"nothing")
    for words in (["perceive", "--recording"], ["camera", "info"]):
        assert called(*words, str(tmp_path / "a.mcap")) == BAD_INPUT
        error = capsys.readouterr().err
        assert "no MCAP file" in error and "Traceback" not in error


def test_a_recording_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "a.mcap", [scene(False)] * 3)
    assert called("camera", "info", str(path)) == OK
    assert "3 frames in 1.00 s (2.0 Hz), 0 dropped" in capsys.readouterr().out
    assert called("camera", "info", str(path), "--json") == OK
    row = json.loads(capsys.readouterr().out)["cameras"][0]
    assert (row["frames"], row["longest_gap"], row["info"]["intrinsics"]["fx"]) == (3, 0.5, 60.0)


def test_a_damaged_recording_is_described_up_to_the_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    recorder = McapRecorder(tmp_path / "a.mcap", [CameraInfo("front", "t", LENS, 30.0, EYE, 0.002, 0.3, 6.0)])
    for k in range(400):
        recorder.add(Frame("front", k, 0.03 * k, rng.integers(0, 65536, (H, W)).astype(np.uint16)))
    recorder.close()
    content = bytearray((tmp_path / "a.mcap").read_bytes())
    content[len(content) * 3 // 4] ^= 1
    (tmp_path / "a.mcap").write_bytes(content)
    assert called("camera", "info", str(tmp_path / "a.mcap"), "--json") == FAILED
    result = json.loads(capsys.readouterr().out)
    assert "damaged" in result["damage"]
    assert 0 < result["cameras"][0]["frames"] < 400


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.avi"], "is written as .mcap"),
        (["there.mcap"], "is there already"),
        (["none/a.mcap"], "no such folder"),
        (["a.mcap", "--camera", "third"], "no camera third: there are front, back"),
        (["a.db3"], "of driver realsense"),
        (["a.mcap", "--cell", "nowhere.yaml"], "nowhere.yaml"),
        (["a.mcap", "--cell", "replay.yaml", "--scenario", "visit"], "--scenario is for cameras of the twin"),
        (["a.mcap", "--cell", "replay.yaml"], "no frame of front"),
    ],
)
def test_what_cannot_be_recorded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    drivers: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mcap").write_text("")
    recorded(tmp_path / "played.mcap", [])
    replay_cell(tmp_path)
    assert called("camera", "record", *words) == BAD_INPUT
    assert said in capsys.readouterr().err


def replay_cell(folder: Path) -> None:
    """The demo cell, with one camera that plays `played.mcap`."""
    from cell.config import default_cell

    text = default_cell().read_text()
    head, rest = text.split("cameras:", 1)
    camera = """cameras:
  - name: front
    driver: recording
    mount: {position: [-0.6, -1.42, 1.84], look_at: [1.08, -0.3, 0.4]}
    options: {file: played.mcap, latency: 0.0}

workcell:"""
    (folder / "replay.yaml").write_text(head + camera + rest.split("\nworkcell:", 1)[1])
    (folder / "demo_safety.yaml").write_text((default_cell().parent / "demo_safety.yaml").read_text())


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drivers of cameras that this tree declares, whatever is installed."""
    import tomllib
    from importlib.metadata import EntryPoint, entry_points

    import cell.config
    import cell.session

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]

    def found(group: str) -> Any:
        if group != "cell.cameras":
            return entry_points(group=group)
        return [EntryPoint(name, value, group) for name, value in declared[group].items()]

    monkeypatch.setattr(cell.session, "entry_points", found)
    monkeypatch.setattr(cell.config, "entry_points", found)


def test_what_a_camera_plays_is_recorded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], drivers: None
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 9000, (H, W)).astype(np.uint16) for _ in range(3)]
    recorder = McapRecorder(tmp_path / "played.mcap", [CameraInfo("x", "t", LENS, 30.0, EYE, 0.002, 0.3, 6.0)])
    for k, depth in enumerate(pictures):
        recorder.add(Frame("x", k + 1, 0.1 * k, depth))
    recorder.close()
    replay_cell(tmp_path)
    assert called("camera", "record", "again.mcap", "--cell", "replay.yaml", "--seconds", "0.6", "--json") == OK
    result = json.loads(capsys.readouterr().out)
    assert result["frames"] == {"front": 3} and result["trouble"] == ""
    back = list(McapRecording(tmp_path / "again.mcap").frames("front"))
    assert [f.seq for f in back] == [1, 2, 3]
    assert all(np.array_equal(f.depth, p) for f, p in zip(back, pictures, strict=True))
    assert np.allclose(np.diff([f.exposure for f in back]), 0.1)
    assert all(math.isfinite(f.exposure) for f in back)


def test_ctrl_c_ends_a_recording_that_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], drivers: None
) -> None:
    from cell.commands import camera_record

    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "played.mcap", [scene(True), scene(False)])
    replay_cell(tmp_path)
    count = 0

    def pause(seconds: float) -> None:
        nonlocal count
        count += 1
        if count == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(camera_record.time, "sleep", pause)
    assert called("camera", "record", "again.mcap", "--cell", "replay.yaml", "--json") == OK
    result = json.loads(capsys.readouterr().out)
    assert result["stopped"] and result["frames"]["front"] >= 1
    assert len(list(McapRecording(tmp_path / "again.mcap").frames("front"))) == result["frames"]["front"]


def test_cameras_are_listed(capsys: pytest.CaptureFixture[str], drivers: None) -> None:
    assert called("camera", "list", "--json") == OK
    found = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in found["cameras"]] == ["front", "back"]
    assert all("424x240@30" in c["what"] for c in found["cameras"])
    assert {"realsense", "recording", "twin"} <= set(found["drivers"])


def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("camera", "info", "123", "--size", "big") == BAD_INPUT
    assert "848x480@30" in capsys.readouterr().err


def test_people_in_the_colour_of_a_recording_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from perception.pose import model_path

    if not model_path().is_file():
        pytest.skip(f"no pose model at {model_path()}: run `make setup`")
    from skimage import data

    photograph = np.ascontiguousarray(data.astronaut())
    height, width = photograph.shape[:2]
    lens = Intrinsics(width, height, 900.0, 900.0, width / 2, height / 2)
    recorder = McapRecorder(tmp_path / "a.mcap", [CameraInfo("front", "t", lens, 30.0, EYE, 0.002, 0.3, 6.0, True)])
    flat = np.full((height, width), 1500, np.uint16)
    for k, colour in enumerate((photograph, np.zeros_like(photograph))):
        recorder.add(Frame("front", k, 0.1 * k, flat, colour))
    recorder.close()
    assert called("perceive", "--recording", str(tmp_path / "a.mcap"), "--json") == OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(row["people"]) for row in rows] == [1, 0]
    assert rows[0]["people"][0]["distance"] == pytest.approx(1.5, abs=0.3)
    assert called("perceive", "--recording", str(tmp_path / "a.mcap"), "--json", "--no-people") == OK
    assert not json.loads(capsys.readouterr().out.splitlines()[0])["people"]
