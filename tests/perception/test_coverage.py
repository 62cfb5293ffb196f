"""What cameras see of a cell: geometry against dense sampling, and cells whose answer is plain."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception.config import Mount, PerceptionConfig
from perception.contract import CameraInfo, Intrinsics
from perception.coverage import Arms, _apart, approaches, best_addition, coverage, detectable, grid
from robots.workcell import Workcell

CONFIG = PerceptionConfig()
NO_ARM = Arms(np.full((1, 1, 3), 50.0), np.full((1, 1, 3), 51.0), np.array([0.1]))


def workcell(*fixtures: dict[str, object]) -> Workcell:
    """An empty room of 4 x 4 x 2 m with these fixtures."""
    return Workcell.model_validate(
        {
            "floor": 0.0,
            "person_volume": [[-2, -2, 0], [2, 2, 2]],
            "entries": ["x_max"],
            "fixtures": list(fixtures),
            "frames": {},
            "patterns": {},
            "parts": {},
            "stock": [],
        }
    )


def camera(position: tuple[float, float, float], look_at: tuple[float, float, float], far: float = 8.0) -> CameraInfo:
    pose = Mount(position=position, look_at=look_at).T_base_camera()
    pinhole = Intrinsics(160, 120, 100.0, 100.0, 79.5, 59.5)
    return CameraInfo("c", "test", pinhole, 30.0, tuple(pose.ravel().tolist()), 0.002, 0.3, far)


WALL = {"name": "wall", "size": [0.1, 4.0, 2.0], "pose": {"position": [0.0, 0.0, 1.0]}}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.floats(-2, 2), min_size=12, max_size=12), st.sampled_from(["any", "point", "parallel"]))
def test_distance_of_segments_is_the_least_of_all_pairs(values: list[float], kind: str) -> None:
    p, q, a, b = np.array(values).reshape(4, 3)
    if kind == "point":
        b = a.copy()
    elif kind == "parallel":
        b = a + 0.7 * (q - p)
    found = _apart(p, q, a, b)
    u = np.linspace(0, 1, 201)
    one, two = p + u[:, None] * (q - p), a + u[:, None] * (b - a)
    least = np.linalg.norm(one[:, None] - two[None], axis=2).min()
    spacing = 0.5 * (np.linalg.norm(q - p) + np.linalg.norm(b - a)) / 200
    assert least - spacing - 1e-9 <= found <= least + 1e-9


def test_an_empty_room_is_seen_but_for_the_layer_before_the_floor() -> None:
    eyes = [camera((2, 2, 2), (0, 0, 0.5)), camera((-2, -2, 2), (0, 0, 0.5)), camera((2, -2, 2), (0, 0, 0.5))]
    found = coverage(eyes, workcell(), CONFIG, NO_ARM)
    middle = (np.abs(found.points[:, :2]) < 1.0).all(axis=1) & (found.points[:, 2] < 1.0)
    high = middle & (found.points[:, 2] > 0.2)
    assert found.always[high].all()
    assert found.share.shape == (3, len(found.points)) and not (found.always & found.never).any()


def test_nobody_is_seen_behind_a_wall_and_inside_it_is_nothing() -> None:
    room = workcell(WALL)
    assert not ((np.abs(grid(room, 0.1)[:, 0]) < 0.05) & (grid(room, 0.1)[:, 2] < 2.0)).any()
    found = coverage([camera((1.9, 0, 1.5), (0, 0, 0.8))], room, CONFIG, NO_ARM)
    behind = found.points[:, 0] < -0.1
    assert found.never[behind].all() and np.isinf(found.smallest[behind]).all()
    both = coverage(
        [camera((1.9, 0, 1.5), (0, 0, 0.8)), camera((-1.9, 0, 1.5), (0, 0, 0.8))], room, CONFIG, NO_ARM
    )  # fmt: skip
    assert both.volume(both.always) > 1.8 * found.volume(found.always)


def test_the_arm_hides_what_is_behind_it_in_the_poses_in_which_it_is_there() -> None:
    eye = camera((1.9, 0, 1.0), (0, 0, 1.0))
    post = np.array([[[0.0, 0.0, 0.0]], [[0.0, 50.0, 0.0]]]), np.array([[[0.0, 0.0, 2.0]], [[0.0, 50.0, 2.0]]])
    found = coverage([eye], workcell(), CONFIG, Arms(*post, np.array([0.15])))
    shadow = (found.points[:, 0] < -0.5) & (np.abs(found.points[:, 1]) < 0.1) & (np.abs(found.points[:, 2] - 1) < 0.3)
    assert (found.together[shadow] == 0.5).all() and not found.always[shadow].any() and not found.never[shadow].any()
    before = (
        (found.points[:, 0] > 0.4) & (found.points[:, 0] < 1.2) & (np.abs(found.points[:, 1:] - (0, 1)) < 0.2).all(1)
    )
    assert found.always[before].all()


def test_the_smallest_target_grows_with_the_distance_and_range_ends_sight() -> None:
    eye = camera((1.9, 0, 1.0), (0, 0, 1.0), far=2.0)
    points = np.array([[0.9, 0, 1.0], [-0.1, 0, 1.0], [-1.1, 0, 1.0]])
    assert detectable(eye, points) == pytest.approx([0.03, 0.06, 0.09])
    found = coverage([eye], workcell(), CONFIG, NO_ARM)
    assert found.never[found.points[:, 0] < -0.15].all()


def test_ways_in_that_are_not_watched_show_and_one_more_camera_helps() -> None:
    room = workcell(WALL | {"size": [0.1, 2.0, 2.0]})
    eye = camera((-1.9, 0, 1.5), (0, 0, 0.5))
    found = coverage([eye], room, CONFIG, NO_ARM, 0.2)
    (way,) = approaches(found, room, np.array([-0.5, 0.0, 1.0]))
    assert way.entry == "x_max" and way.seen < 0.6 and way.longest > 0.5
    more = best_addition(found, eye, room, CONFIG, NO_ARM)
    assert more is not None and more.gain > 0.3 * found.volume(found.never)
    second = camera(more.position, more.look_at)
    both = coverage([eye, second], room, CONFIG, NO_ARM, 0.2)
    assert both.volume(both.always) - found.volume(found.always) == pytest.approx(more.gain)
    (after,) = approaches(both, room, np.array([-0.5, 0.0, 1.0]))
    assert after.seen > way.seen


def test_nothing_to_look_with_is_refused() -> None:
    with pytest.raises(ValueError, match="camera"):
        coverage([], workcell(), CONFIG, NO_ARM)


def test_the_command_reports_the_demo_cell(capsys: pytest.CaptureFixture[str]) -> None:
    from cell.cli import main

    with pytest.raises(SystemExit) as done:
        main(["safety", "coverage", "--json", "--size", "0.25", "--no-one-more"])
    assert not done.value.code
    result = json.loads(capsys.readouterr().out)
    assert result["always_seen"]["share"] > 0.85 and result["arm_poses"] == 24
    parts = [result[key]["m3"] for key in ("always_seen", "sometimes_seen", "blind")]
    assert sum(parts) == pytest.approx(result["volume_m3"], abs=0.01)
    assert [c["name"] for c in result["cameras"]] == ["front", "back"] and result["approaches"][0]["entry"] == "x_max"


def test_a_wrong_cell_or_recipe_ends_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    from cell.cli import main

    for arguments, text in ((["gone.yaml"], "gone.yaml"), (["--recipe", "none_such"], "none_such")):
        with pytest.raises(SystemExit) as done:
            main(["safety", "coverage", *arguments])
        assert done.value.code == 2 and text in capsys.readouterr().err
