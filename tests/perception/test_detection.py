"""Detection statistics: what counts as due, missed and reported too far; and the twin's people end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from cell.commands.detection import bench_cameras
from cell.config import LoadedCell, load_cell
from cell.session import entry_point
from perception.background import build_background
from perception.coverage import Arms
from perception.detection import BODIES, HAND, LIMB, Judge, Moment, Place, Shot, holds, quiet, separation, tally, z_d
from perception.standing import layer, layer_figures, place
from perception.view import CameraView, Capsules


def moment(found: bool, due: bool = True, reach: float = 2.0, excess: float = -0.02, allowed: float = 0.1) -> Moment:
    return Moment(due, found, reach, excess if found and due else math.nan, allowed)


def test_runs_of_missed_frames_are_counted_within_a_run_and_a_range() -> None:
    runs = [[moment(False), moment(True), moment(False), moment(False)], [moment(False), moment(True)]]
    t = tally("standing", True, runs)
    assert (t.frames, t.missed, t.longest) == (6, 4, 2)
    # What was not due is no miss, and interrupts no run of frames in which it was.
    t = tally("standing", True, [[moment(False), moment(False, due=False), moment(False)]])
    assert (t.frames, t.missed, t.longest) == (2, 2, 1)
    assert tally("standing", False, runs).frames == 0


def test_the_promise_fails_on_a_missed_body_a_hand_missed_twice_and_a_distance_too_large() -> None:
    good = tally("lying", True, [[moment(True)] * 6])
    assert holds([good]) == []
    assert "missed in 1 of 2" in holds([tally("lying", True, [[moment(False), moment(True)]])])[0]
    once = tally(HAND, True, [[moment(False), moment(True), moment(False)]])
    assert holds([once]) == []
    assert "2 frames in a row" in holds([tally(HAND, True, [[moment(False), moment(False)]])])[0]
    far = tally(LIMB, False, [[moment(True, reach=3.0, excess=0.13, allowed=0.1)]])
    assert far.beyond == 1 and "30 mm beyond" in holds([far])[0]
    assert holds([]) and holds([tally("lying", True, [])])


def test_separation_is_the_least_distance_to_a_capsule() -> None:
    arm = Capsules(np.array([[0.0, 0, 0], [5.0, 0, 0]]), np.array([[0.0, 0, 1], [5.0, 0, 0]]), np.array([0.1, 0.2]))
    near, which = separation(np.array([[1.0, 0, 0.5], [0.5, 0, 2.0], [5.0, 0.9, 0.0]]), arm)
    assert near == pytest.approx(0.7) and which == 2
    assert separation(np.zeros((0, 3)), arm) == (math.inf, -1)


@pytest.fixture(scope="module")
def cell() -> LoadedCell:
    return load_cell(None)


@pytest.fixture(scope="module")
def bench(cell: LoadedCell):  # type: ignore[no-untyped-def]
    made = entry_point("cell.targets", "twin").people(bench_cameras(cell, "D435", 1), cell.home().tolist(), 1)
    yield made
    made.close()


def standing_place(x: float = 1.6, y: float = 0.3) -> Place:
    return Place((x, y, 0.0), (0.0, 0.0, 0.0, 1.0), 0.2)


def judge_of(bench, cell: LoadedCell) -> tuple[Judge, Capsules]:  # type: ignore[no-untyped-def]
    config = cell.config
    views = [CameraView(info, config.workcell, config.perception) for info in bench.infos]
    arm = Capsules(*(np.asarray(v) for v in cell.model().capsules(cell.home())))
    volume = np.array(config.workcell.person_volume, float)
    return Judge(views, arm, volume, config.perception.sigmas, config.perception.cell_size), arm


def test_people_are_seen_and_a_picture_without_them_is_a_miss(bench, cell: LoadedCell) -> None:  # type: ignore[no-untyped-def]
    judge, _ = judge_of(bench, cell)
    for target in BODIES[:6]:
        seen = judge.moment(target, bench.shots(target, standing_place(), 0, 3))
        assert seen.due and seen.found and seen.excess <= seen.allowed, target
    # The truth says somebody stands there, the picture is that of the empty cell: it has to be called missed.
    shots = bench.shots("standing", standing_place(), 0, 3)
    empty = bench.empty(cell.home().tolist(), 0.0, 1, 3)[0]
    blind = [Shot(frame, shot.depth, shot.target) for frame, shot in zip(empty, shots, strict=True)]
    verdict = judge.moment("standing", blind)
    assert verdict.due and not verdict.found and math.isnan(verdict.excess)


def test_a_distance_that_is_too_large_is_seen_to_be(bench, cell: LoadedCell) -> None:  # type: ignore[no-untyped-def]
    judge, _ = judge_of(bench, cell)
    near = bench.shots("standing", standing_place(1.3, 0.5), 0, 3)
    far = bench.shots("standing", standing_place(2.2, 0.9), 0, 3)
    # The truth of one who stands near with the pictures of one who stands a metre behind.
    mixed = [Shot(b.frame, a.depth, a.target | b.target) for a, b in zip(near, far, strict=True)]
    verdict = judge.moment("standing", mixed)
    assert verdict.found and verdict.excess > 0.3 > verdict.allowed


def test_only_the_arm_of_one_behind_the_guard_counts(bench, cell: LoadedCell) -> None:  # type: ignore[no-untyped-def]
    judge, _ = judge_of(bench, cell)
    where = Place((1.0, -2.0, 0.0), (0.0, 0.0, math.sin(math.pi / 4), math.cos(math.pi / 4)), 0.5)
    shots = bench.shots("arm_through_gap", where, 0, 2)
    told = [judge.told(shot) for shot in shots]
    assert sum(len(points) for _, points in told) > 100
    for shot, (mask, points) in zip(shots, told, strict=True):
        assert (points[:, 1] >= cell.config.workcell.person_volume[0][1]).all()
        assert mask.sum() < 0.5 * shot.target.sum()


def test_an_empty_cell_is_empty(bench, cell: LoadedCell) -> None:  # type: ignore[no-untyped-def]
    config = cell.config
    views = [CameraView(info, config.workcell, config.perception) for info in bench.infos]
    poses = cell.home() + np.array([[0.0], [0.2]])
    arms = [Capsules(*(np.asarray(v) for v in cell.model().capsules(q))) for q in poses]
    result = quiet(bench, views, poses, arms, 5, [], 1)
    assert (result.moments, result.pictures, result.false) == (10, 20, 0)
    # An arm that is not where it is said to be is taken for somebody: the count can be other than 0.
    moved = [Capsules(arm.a + 1.0, arm.b + 1.0, arm.r) for arm in arms]
    wrong = quiet(bench, views, poses, moved, 1, [], 1)
    assert wrong.false == wrong.pictures == 4 and wrong.cells > 10


def test_the_layer_is_thicker_where_noise_is_and_walls_of_nothing_are_not_seen(bench, cell: LoadedCell) -> None:  # type: ignore[no-untyped-def]
    config = cell.config
    backgrounds = [build_background(info, config.workcell, config.perception) for info in bench.infos]
    a, b, r = (np.asarray(v) for v in cell.model().capsules(cell.home()))
    found = layer(bench.infos, backgrounds, config.workcell, Arms(a[None], b[None], r), 0.1)
    table = found.surface > config.workcell.floor + 0.5
    assert table.any() and np.median(found.thickness[table]) < np.median(found.thickness[~table])
    finer = entry_point("cell.targets", "twin").people(bench_cameras(cell, "D455", 1), cell.home().tolist(), 1)
    better = [build_background(info, config.workcell, config.perception) for info in finer.infos]
    other = layer(finer.infos, better, config.workcell, Arms(a[None], b[None], r), 0.1)
    assert layer_figures(other, 0.208)["median_m"] < layer_figures(found, 0.208)["median_m"]
    nothing = layer(bench.infos[:0], backgrounds[:0], config.workcell, Arms(a[None], b[None], r), 0.2)
    assert layer_figures(nothing, 0.208)["share_not_seen"] == 1.0


def test_noise_and_bias_grow_with_the_range(bench) -> None:  # type: ignore[no-untyped-def]
    noise, bias = zip(*(z_d(bench.infos[0], 4.0, reach) for reach in (1.0, 2.0, 3.0)), strict=True)
    assert noise == pytest.approx([0.0152, 0.0608, 0.1368], rel=0.01) and list(bias) == sorted(bias)


def test_places_keep_clear_of_fixtures(cell: LoadedCell) -> None:
    random = np.random.default_rng(4)
    for _ in range(50):
        x, y, _z = place("standing", cell.config.workcell, [], random).position
        assert not (-0.35 < x < 0.75 and -0.85 < y < 0.45)
    with pytest.raises(ValueError, match="no camera sees"):
        place(HAND, cell.config.workcell, [], random)


def test_the_command_judges_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cell.cli import main

    png = tmp_path / "layer.png"
    args = ["--camera-model", "D435", "--seeds", "1", "--replay", "12", "--poses", "lying,hand", "--png", str(png)]
    with pytest.raises(SystemExit) as done:
        main(["perceive", "detection", *args, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert done.value.code == 0 and result["holds"] and png.stat().st_size > 1000
    assert {row["target"] for row in result["targets"]} == {"lying", "hand"}
    assert sum(row["frames"] for row in result["targets"]) + sum(result["frames_not_due"].values()) == 12
    with pytest.raises(SystemExit) as done:
        main(["perceive", "detection", "--poses", "unicorn"])
    assert done.value.code == 2 and "unicorn" in capsys.readouterr().err
