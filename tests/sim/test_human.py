"""People: the body, recorded and scripted motion, continuity and speeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim import body as b
from sim.config import Scenario
from sim.human import Human, people_of
from sim.mocap import ClipError, pybullet_clips, read_clip
from sim.poses import stand_pose, two_bones
from sim.retarget import RATE, lowest, retarget, standing_height
from sim.rotations import between, to_matrix, to_quaternion
from sim.scenario import load_scenario

FLOOR = -0.75
BODY = b.load_body("body_178")


def person(behaviour: list[dict[str, Any]], body: str = "body_178", at: tuple[float, float] = (1.5, 0.5)) -> Human:
    content = {
        "scenario": "test",
        "people": [
            {"name": "p", "body": body, "start": {"position": list(at), "yaw_deg": 180}, "behaviour": behaviour}
        ],
    }
    return people_of(Scenario.model_validate(content), FLOOR, 1)[0]


def clip_person(clip: str | Path, loop: bool = False, at: tuple[float, float, float] = (1.5, 0.0, 180.0)) -> Human:
    content = {"scenario": "t", "people": [{"name": "p", "mocap": {"clip": str(clip), "at": list(at), "loop": loop}}]}
    return people_of(Scenario.model_validate(content), FLOOR, 1)[0]


def speeds(human: Human, until: float, bones: tuple[str, ...], dt: float = 0.01) -> np.ndarray:
    """(steps, bones) speed of bone heads, m/s."""
    index = [human.body.bone(name) for name in bones]
    points = np.array([human.bones(t)[index, :, 3] for t in np.arange(0.0, until, dt)])
    return np.linalg.norm(np.diff(points, axis=0), axis=2) / dt


HANDS = ("finger3-3.L", "finger3-3.R")
TRUNK = ("root", "spine01", "neck01", "head")


@pytest.mark.parametrize(("name", "height"), [("body_178", 1.78), ("body_166", 1.66)])
def test_the_baked_bodies_are_whole(name: str, height: float) -> None:
    body = b.load_body(name)
    assert np.ptp(body.vertices[:, 2]) == pytest.approx(height, abs=0.005)
    assert len(body.bones) == 104
    assert np.allclose(body.weights.sum(axis=1), 1.0, atol=1e-5)
    assert body.faces.max() < len(body.vertices)
    assert (b.DATA / f"{name}.npz").stat().st_size < 1_000_000
    # Left is +y, forwards is +x, up is +z.
    assert body.heads[body.bone("wrist.L")][1] > 0.2
    assert body.heads[body.bone("toe2-1.L")][0] > body.heads[body.bone("foot.L")][0] + 0.05
    assert body.heads[body.bone("head")][2] > body.heads[body.bone("root")][2] + 0.5


def test_skinning_in_the_rest_pose_gives_the_rest_vertices() -> None:
    rotations = np.tile([0.0, 0.0, 0.0, 1.0], (b.DRIVEN, 1))
    bones = b.transforms(BODY, BODY.heads[0], rotations)
    assert np.abs(b.skin(BODY, bones) - BODY.vertices).max() < 2e-6


def test_skinning_is_a_rigid_motion_for_a_turned_and_shifted_body() -> None:
    rotations = np.tile([0.0, 0.0, 0.0, 1.0], (b.DRIVEN, 1))
    turn = Rotation.from_euler("xyz", [0.3, -0.5, 1.1])
    rotations[b.PELVIS] = turn.as_quat()
    root = np.array([1.0, -2.0, 0.5])
    skin = b.skin(BODY, b.transforms(BODY, root, rotations))
    expected = turn.apply(BODY.vertices - BODY.heads[0]) + root
    assert np.abs(skin - expected).max() < 1e-5


unit_quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


@settings(derandomize=True)
@given(unit_quaternions)
def test_quaternions_and_matrices_are_inverse(q: tuple[float, ...]) -> None:
    unit = np.array(q) / np.linalg.norm(q)
    matrix = to_matrix(unit)
    assert np.allclose(matrix, Rotation.from_quat(unit).as_matrix(), atol=1e-9)
    assert np.allclose(to_matrix(to_quaternion(matrix)), matrix, atol=1e-7)


@settings(derandomize=True)
@given(st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(-1, 1)] * 3))
def test_smallest_rotation_turns_one_direction_into_the_other(a: tuple[float, ...], c: tuple[float, ...]) -> None:
    u, v = np.array(a), np.array(c)
    if min(np.linalg.norm(u), np.linalg.norm(v)) < 1e-2:
        return
    r = between(u, v)
    assert np.allclose(r @ (u / np.linalg.norm(u)), v / np.linalg.norm(v), atol=1e-5)
    assert np.allclose(r @ r.T, np.eye(3), atol=1e-5)


@settings(derandomize=True)
@given(st.tuples(*[st.floats(-0.7, 0.7)] * 3))
def test_two_bone_chain_keeps_its_lengths_and_reaches_what_is_in_reach(target: tuple[float, ...]) -> None:
    goal = np.array(target)
    middle, end = two_bones(np.zeros(3), goal, 0.3, 0.28, np.array([0.1, 0.2, -1.0]))
    assert np.linalg.norm(middle) == pytest.approx(0.3, abs=1e-6)
    assert np.linalg.norm(end - middle) == pytest.approx(0.28, abs=1e-6)
    if 0.03 < np.linalg.norm(goal) < 0.579:
        assert np.allclose(end, goal, atol=1e-6)


@pytest.mark.parametrize("name", ["humanoid3d_walk", "humanoid3d_run", "humanoid3d_crawl", "humanoid3d_punch"])
def test_pybullet_clips_stand_on_the_floor_and_have_the_bodys_limbs(name: str) -> None:
    assert name in pybullet_clips()
    frames = retarget(BODY, read_clip(name))
    assert lowest(BODY, frames).min() > -0.03
    assert np.allclose(np.linalg.norm(frames.rotations, axis=2), 1.0, atol=1e-9)
    assert frames.roots[0, :2] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_walking_goes_where_the_body_looks() -> None:
    frames = retarget(BODY, read_clip("humanoid3d_walk"))
    assert frames.roots[-1, 0] > 1.0
    assert abs(frames.roots[-1, 1]) < 0.1
    head = b.transforms(BODY, frames.roots[50], frames.rotations[50])[BODY.bone("head"), 2, 3]
    assert 1.5 < head < 1.7


def test_visit_reaches_over_the_tray_and_keeps_its_speeds() -> None:
    human = people_of(load_scenario("visit"), FLOOR, 1)[0]
    knuckle = human.body.bone("finger3-1.R")
    nearest = min(
        np.linalg.norm(human.bones(t)[knuckle, :, 3] - np.array([0.30, -0.45, 0.20]))
        for t in np.arange(0.0, human.duration, 0.1)
    )
    assert nearest < 0.02
    fast = speeds(human, human.duration + 1.0, HANDS + TRUNK)
    assert fast[:, :2].max() <= 2.0
    assert fast[:, 2:].max() <= 1.6
    for t in np.arange(0.0, human.duration, 0.5):
        assert -0.80 < b.skin(human.body, human.bones(t), human.body.spread[:400])[:, 2].min() < -0.72


def test_pose_is_a_function_of_time_alone() -> None:
    human = person([{"do": "walk_to", "position": [0.9, 0.1]}, {"do": "crouch"}, {"do": "stand"}])
    again = person([{"do": "walk_to", "position": [0.9, 0.1]}, {"do": "crouch"}, {"do": "stand"}])
    times = [5.0, 0.1, 3.3, 100.0, 0.1]
    for t in times:
        assert np.array_equal(human.bones(t), again.bones(t))
    assert np.array_equal(human.bones(-3.0)[:, :, :3], human.bones(0.0)[:, :, :3])
    with pytest.raises(ValueError, match="finite"):
        human.bones(math.nan)


def test_crouching_sinks_by_the_depth_and_keeps_the_feet() -> None:
    human = person([{"do": "crouch", "depth": 0.4, "hold": 1.0}, {"do": "stand"}])
    root, foot = human.body.bone("root"), human.body.bone("foot.L")
    heights = [human.bones(t)[root, 2, 3] for t in np.arange(0.0, human.duration, 0.05)]
    assert heights[0] - min(heights) == pytest.approx(0.4, abs=0.05)
    feet = np.array([human.bones(t)[foot, :, 3] for t in np.arange(0.0, human.duration, 0.05)])
    assert np.ptp(feet, axis=0).max() < 0.03


def test_running_is_faster_than_the_limits_of_the_others() -> None:
    human = person([{"do": "run_at", "position": [-2.0, -1.0], "speed": 3.0}, {"do": "stand"}])
    trunk = speeds(human, human.duration, TRUNK)
    assert trunk[:, 0].max() > 2.5
    assert trunk.max() < 6.0


@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    st.floats(0.3, 1.4),
    st.tuples(st.floats(-0.8, 0.8), st.floats(-0.8, 0.8), st.floats(-0.3, 0.9)),
    st.sampled_from(["left", "right"]),
)
def test_scripted_people_never_teleport_and_keep_their_limits(
    goal: tuple[float, float], speed: float, offset: tuple[float, float, float], hand: str
) -> None:
    target = [goal[0] + offset[0], goal[1] + offset[1], offset[2]]
    human = person(
        [
            {"do": "walk_to", "position": list(goal), "speed": speed},
            {"do": "reach_into", "target": target, "hand": hand, "speed": 1.0, "hold": 0.2},
            {"do": "stand"},
        ]
    )
    fast = speeds(human, human.duration + 0.5, HANDS + TRUNK)
    assert fast[:, :2].max() <= 2.0
    assert fast[:, 2:].max() <= 1.6
    everything = speeds(human, human.duration + 0.5, human.body.bones, dt=0.02)
    assert everything.max() < 6.0


def test_a_looped_clip_walks_back_without_a_jump() -> None:
    human = clip_person("humanoid3d_walk", loop=True)
    until = 2.5 * human.duration
    assert speeds(human, until, human.body.bones).max() < 6.0
    places = np.array([human.bones(t)[0, :2, 3] for t in np.arange(0.0, until, 0.05)])
    assert np.ptp(places[:, 0]) < 3.0, "it never walks away"
    middle = human.duration + 0.3
    later = middle + (human.duration - human._loop_from / RATE)
    assert np.allclose(human.bones(middle)[:, :, :3], human.bones(later)[:, :, :3], atol=1e-6)


def test_placement_and_start_time_of_a_clip() -> None:
    content = {
        "scenario": "t",
        "people": [{"name": "p", "mocap": {"clip": "humanoid3d_walk", "at": [1.0, -0.5, 90.0], "start_s": 2.0}}],
    }
    human = people_of(Scenario.model_validate(content), FLOOR, 1)[0]
    assert human.bones(0.0)[0, :2, 3] == pytest.approx([1.0, -0.5], abs=0.02)
    assert human.bones(2.0)[0, :2, 3] == pytest.approx([1.0, -0.5], abs=0.05)
    moved = human.bones(human.duration)[0, :2, 3] - human.bones(0.0)[0, :2, 3]
    assert moved[1] > 1.0
    assert abs(moved[0]) < 0.15


RECORDED = [
    "cmu/02_01.joints_m.npz",
    "cmu/62_15.bvh",
    "cmu/62_03.joints_m.npz",
    "hrc_vicon_tum/CollaborativeLifting_3.bvh",
    "hrc_vicon_tum/HumanRobotHandover_1.joints_m.npz",
]


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_clips_become_whole_standing_people(mocap: Path, name: str) -> None:
    clip = read_clip(mocap / name)
    frames = retarget(BODY, clip)
    assert len(frames) == pytest.approx(clip.duration * RATE, abs=2)
    heights = [
        b.transforms(BODY, r, q)[BODY.bone("head"), 2, 3]
        for r, q in zip(frames.roots[::20], frames.rotations[::20], strict=True)
    ]
    assert 1.2 < np.median(heights) < 1.7
    low = lowest(BODY, frames)
    assert low.min() > -0.03
    assert np.median(low) < 0.03


def test_bvh_and_joint_positions_of_the_same_clip_agree(mocap: Path) -> None:
    first, second = read_clip(mocap / "cmu/62_15.bvh"), read_clip(mocap / "cmu/62_15.joints_m.npz")
    n = min(len(first.joints), len(second.joints))
    known = np.isfinite(first.joints).all(axis=(0, 2))
    assert np.abs(first.joints[-n:, known] - second.joints[-n:, known]).max() < 0.003


def test_a_clip_with_marker_jumps_is_refused(mocap: Path) -> None:
    with pytest.raises(ClipError, match="jumps"):
        read_clip(mocap / "hrc_vicon_tum/artefacts_CollaborativeHammering_7.joints_m.npz")


def test_a_cut_bvh_and_other_wrong_files_are_refused(mocap: Path, tmp_path: Path) -> None:
    text = (mocap / "hrc_vicon_tum/CollaborativeLifting_3.bvh").read_text()
    wrong = {
        "cut.bvh": text[: len(text) // 2 + 7],
        "empty.bvh": "",
        "nan.bvh": text.replace("Frame Time: 0.01", "Frame Time: nan"),
        "words.bvh": text[:-40] + " not numbers here ",
    }
    for name, content in wrong.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ClipError):
            read_clip(tmp_path / name)


@pytest.mark.parametrize("arrays", [{}, {"joints_m": np.zeros((5, 2, 3))}, "nan", "units"])
def test_wrong_joint_files_are_refused(tmp_path: Path, arrays: Any) -> None:
    from sim.mocap import _ALIASES

    names = [a[0] for a in _ALIASES.values()] + ["r" + a[0][1:] for k, a in _ALIASES.items() if k.startswith("l_")]
    rng = np.random.default_rng(1)
    still = np.tile(rng.uniform(0, 1, (1, len(names), 3)), (20, 1, 1))
    if arrays == "nan":
        still[7, 3, 1] = np.nan
        arrays = {"joints_m": still, "names": names, "dt": 0.01}
    elif arrays == "units":
        arrays = {"joints_m": still * 1e5, "names": names, "dt": 0.01}
    path = tmp_path / "x.joints_m.npz"
    np.savez(path, **arrays)
    with pytest.raises(ClipError):
        read_clip(path)


def test_unknown_clips_name_what_there_is() -> None:
    with pytest.raises(ClipError, match="humanoid3d_walk"):
        read_clip("humanoid3d_fly")
    with pytest.raises(ClipError, match="give a"):
        read_clip("no/such/file.bvh")


def test_standing_height_matches_the_skin() -> None:
    frame = stand_pose(BODY)
    skin = b.skin(BODY, b.transforms(BODY, frame.roots[0], frame.rotations[0]))
    assert skin[:, 2].min() == pytest.approx(0.0, abs=0.005)
    assert standing_height(BODY) == pytest.approx(0.934, abs=0.01)
