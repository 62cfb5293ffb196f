"""From pictures to occupied space: people are found, robot and parts are not people, doubt counts as occupied."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from perception import voxelbits
from perception.background import leaving_depth, rays
from perception.cameras.links import decode_frame
from perception.clearance import ClearanceMap
from perception.config import Mount, PerceptionConfig
from perception.contract import CameraInfo, ExpectedPart, FrameMessage, Observation, PointFrame
from perception.core import CameraFusion, PointFusion
from perception.kernels import UNKNOWN
from perception.view import CameraView, Capsules
from robots.contract import PartGeometry, RobotState
from robots.workcell import Workcell
from tests.perception.conftest import Box, camera_info, frame, front_camera, render

NO_ARM = Capsules(np.zeros((1, 3)) + 9.0, np.zeros((1, 3)) + 9.0, np.array([0.01]))
PERSON = ((1.4, 0.0, 0.1), (0.3, 0.5, 1.7))


class OneLink:
    """An arm of one upright link at the origin, for the self-filter."""

    dof = 1

    def capsules(
        self, q: NDArray[np.float64], held: PartGeometry | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        x = 0.3 * float(q[0])
        return np.array([[x, 0.0, 0.1]]), np.array([[x, 0.0, 0.7]]), np.array([0.1])


def robot_state(t: float, q: float = 0.0) -> RobotState:
    return RobotState(
        seq=1, t=t, q=[q], dq=[0.0], tau=[0.0], q_commanded=[q], dq_commanded=[0.0], motion_id="", progress=0.0,
        duration=0.0, rate=0.0, rate_slope=0.0, limit=0.0, limit_by="", limit_reason="", override=1.0,
        mode="automatic", fault="", fault_text="", standing=True, gripper_width=0.0, gripper_holding=False, held=None,
        inputs={}, outputs={}, emergency_stop=False, safeguard=False, tracking_error=0.0, late_leases=0, session="",
    )  # fmt: skip


def balls(o: Observation) -> NDArray[np.float32]:
    return np.frombuffer(o.balls, "<f4").reshape(-1, 4)


@pytest.fixture
def fusion(workcell: Workcell, config: PerceptionConfig) -> CameraFusion:
    return CameraFusion([camera_info("a"), front_camera()], workcell, config, OneLink())


def look(fusion: CameraFusion, workcell: Workcell, k: int, boxes: list[Box]) -> Observation:
    """Both cameras see the cell with `boxes` in it at time k/30."""
    t = 1.0 + k / 30
    frames = [
        frame(v.info, render(v.info, workcell, boxes, 100 * k + i), k, t) for i, v in enumerate(fusion.views.values())
    ]
    observation = fusion.step(t + 0.03, frames, robot_state(t), [])
    assert observation is not None
    return observation


def test_empty_cell_has_no_person_in_many_noisy_pictures(workcell: Workcell, config: PerceptionConfig) -> None:
    info = camera_info()
    view = CameraView(info, workcell, config)
    assert all(len(view.process(frame(info, render(info, workcell, [], s), s, 1.0), NO_ARM, []).points) == 0
               for s in range(60))  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(0.9, 1.8), st.floats(-0.5, 0.5), st.integers(0, 1000))
def test_a_limb_full_of_holes_is_not_lost(x: float, y: float, seed: int) -> None:
    """80 mm, up to 2.5 m away, at half of the usual resolution, three pixels of ten invalid."""
    cell = Workcell.model_validate({"person_volume": [[-1.0, -1.5, -0.75], [2.5, 1.5, 1.45]], "fixtures": []})
    info = camera_info()
    view = CameraView(info, cell, PerceptionConfig())
    picture = render(info, cell, [((x, y, 0.2), (0.08, 0.08, 0.5))], seed)
    picture[np.random.default_rng(seed).random(picture.shape) < 0.3] = 0
    assert len(view.process(frame(info, picture, 1, 1.0), NO_ARM, []).points) > 3


def test_one_wrong_pixel_among_holes_does_not_support_itself(workcell: Workcell, config: PerceptionConfig) -> None:
    info = camera_info()
    view = CameraView(info, workcell, config)
    picture = render(info, workcell, [])
    # In the middle of the floor, inside the person volume even 400 mm above it.
    v, u = next(
        (v, u) for v, u in np.ndindex(*picture.shape) if 60 < v < 110 and view._near[v, u] > picture[v, u] - 200
    )
    picture[v, u] = picture[v, u] - 400
    picture[v + 1, u] = picture[v, u + 1] = 0
    assert len(view.process(frame(info, picture, 1, 1.0), NO_ARM, []).points) == 0
    assert view.label[v, u] == view.label[v + 1, u] == UNKNOWN, "doubt is not free space"
    # Three that were measured do: a fingertip's worth is enough.
    picture[v + 1, u] = picture[v, u + 1] = picture[v, u]
    assert len(view.process(frame(info, picture, 2, 1.1), NO_ARM, []).points) > 0


@pytest.mark.parametrize("info", [camera_info(), front_camera()])
def test_beyond_the_leaving_depth_nothing_is_inside_the_person_volume(info: CameraInfo, workcell: Workcell) -> None:
    lower, upper = (np.asarray(corner, float) for corner in workcell.person_volume)
    leaving = leaving_depth(info, lower, upper).astype(float) / 1000.0
    T = np.asarray(info.T_base_camera).reshape(4, 4)
    ray_x, ray_y = rays(info.intrinsics)
    local = np.stack([*np.meshgrid(ray_x, ray_y), np.ones_like(leaving)], -1) @ T[:3, :3].T

    def inside(z: np.ndarray) -> np.ndarray:
        at = local * z[..., None] + T[:3, 3]
        return np.asarray(((at >= lower) & (at <= upper)).all(-1))

    met = np.zeros(leaving.shape, bool)
    for z in np.arange(0.01, 10.0, 0.01):
        there = inside(np.full_like(leaving, z))
        assert not (there & (z >= leaving)).any()
        met |= there
    assert met.mean() > 0.2
    # ... and it is no deeper than it must be.
    just_before = inside(leaving - 0.004)
    assert just_before[met & (leaving < 65.0)].mean() > 0.95


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.9, 2.0), st.floats(-0.7, 0.7), st.floats(-0.3, 0.6), st.integers(0, 1000))
def test_a_limb_is_found_where_it_is(x: float, y: float, z: float, seed: int) -> None:
    cell = Workcell.model_validate({"person_volume": [[-1.0, -1.5, -0.75], [2.5, 1.5, 1.45]], "fixtures": []})
    info = camera_info()
    view = CameraView(info, cell, PerceptionConfig())
    limb = ((x, y, z), (0.08, 0.08, 0.5))
    seen = view.process(frame(info, render(info, cell, [limb], seed), 1, 1.0), NO_ARM, [])
    assert len(seen.points) > 5
    distance = np.linalg.norm(seen.points - np.array([x, y, z]), axis=1)
    assert distance.max() < 0.45
    # The seen surface is never farther away than the true one by more than noise and cell size.
    eye = np.array(info.T_base_camera).reshape(4, 4)[:3, 3]
    to_centre = np.linalg.norm(np.array([x, y, z]) - eye)
    assert np.linalg.norm(seen.points - eye, axis=1).min() < to_centre + 0.1


@pytest.mark.requirement("PER-01")
def test_robot_and_expected_part_are_no_person_but_an_unexpected_part_is(
    workcell: Workcell, config: PerceptionConfig
) -> None:
    info = camera_info()
    view = CameraView(info, workcell, config)
    link, part = ((0.0, 0.0, 0.4), (0.1, 0.1, 0.7)), ((0.3, -0.3, 0.1), (0.1, 0.1, 0.2))
    picture = render(info, workcell, [link, part])
    arm = Capsules(np.array([[0.0, 0.0, 0.1]]), np.array([[0.0, 0.0, 0.7]]), np.array([0.11]))
    known = [ExpectedPart("p", (0.1, 0.1, 0.2), (0.3, -0.3, 0.1, 0.0, 0.0, 0.0, 1.0))]
    elsewhere = [ExpectedPart("p", (0.1, 0.1, 0.2), (-0.3, -0.3, 0.1, 0.0, 0.0, 0.0, 1.0))]
    lost = [ExpectedPart("p", (0.1, 0.1, 0.2), (math.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))]
    assert len(view.process(frame(info, picture, 1, 1.0), arm, known).points) == 0
    assert len(view.process(frame(info, picture, 2, 1.1), arm, elsewhere).points) > 0
    assert len(view.process(frame(info, picture, 3, 1.2), arm, lost).points) > 0
    assert len(view.process(frame(info, picture, 4, 1.3), NO_ARM, known).points) > 0


@pytest.mark.requirement("PER-02")
def test_nothing_is_clear_until_a_person_says_so(fusion: CameraFusion, workcell: Workcell) -> None:
    before = look(fusion, workcell, 1, [])
    assert not before.healthy
    assert "confirmed" in before.reason
    fusion.confirm_clear()
    after = look(fusion, workcell, 2, [])
    assert after.healthy, after.reason
    assert len(balls(after)) < len(balls(before))


@pytest.mark.requirement("PER-03")
def test_a_person_is_seen_and_the_shadow_stays_possible_and_is_swept_clean_after(
    fusion: CameraFusion, workcell: Workcell
) -> None:
    fusion.confirm_clear()
    for k in range(1, 6):
        empty = look(fusion, workcell, k, [])
    assert empty.seen == 0
    for k in range(6, 20):
        with_person = look(fusion, workcell, k, [PERSON])
    assert with_person.seen > 50
    assert len(with_person.tracks) == 1
    assert np.allclose(with_person.tracks[0].position[:2], PERSON[0][:2], atol=0.3)
    behind = balls(with_person)[with_person.seen :]
    assert np.any((behind[:, 0] > 1.5) & (behind[:, 0] < 2.3) & (np.abs(behind[:, 1]) < 0.5))
    for k in range(20, 40):
        gone = look(fusion, workcell, k, [])
    assert gone.seen == 0
    assert nearest(with_person, (0.5, 0.0, 0.4)) < 0.8
    assert nearest(gone, (0.5, 0.0, 0.4)) > 1.2


def nearest(o: Observation, point: tuple[float, float, float]) -> float:
    b = balls(o)
    return float((np.linalg.norm(b[:, :3] - np.asarray(point), axis=1) - b[:, 3]).min()) if len(b) else math.inf


@pytest.mark.requirement("PER-04")
def test_a_blind_camera_lets_possible_space_grow_and_is_reported(fusion: CameraFusion, workcell: Workcell) -> None:
    fusion.confirm_clear()
    for k in range(1, 6):
        first = look(fusion, workcell, k, [])
    blind = np.zeros((120, 212), np.uint16)
    last = first
    for k in range(6, 36):
        t = 1.0 + k / 30
        made = fusion.step(t + 0.03, [frame(v.info, blind, k, t) for v in fusion.views.values()], robot_state(t), [])
        last = made or last
    assert last.seq == first.seq, "an all-invalid picture is not used at all"
    health = fusion.health(1.0 + 36 / 30)
    assert all(not h.ok and ("frozen" in h.reason or "invalid" in h.reason) for h in health)


@pytest.mark.requirement("PER-05")
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("frozen", "frozen"),
        ("size", "wrong picture size"),
        ("future", "future"),
        ("covered", "covered"),
        ("nan_time", "future"),
        ("late", "late"),
        ("saturated", "saturated"),
        ("blank", "invalid"),
        ("empty", "wrong picture size"),
        ("type", "wrong picture size"),
    ],
)
def test_each_camera_fault_makes_the_observation_unhealthy(
    fusion: CameraFusion, workcell: Workcell, change: str, word: str
) -> None:
    fusion.confirm_clear()
    look(fusion, workcell, 1, [])
    a, b = fusion.views.values()
    t = 1.0 + 2 / 30
    good = render(b.info, workcell, [], 5)
    exposure, depth = t, render(a.info, workcell, [], 6)
    if change == "frozen":
        depth = render(a.info, workcell, [], 100)
    if change == "size":
        depth = depth[:-1]
    if change == "future":
        exposure = t + 1.0
    if change == "nan_time":
        exposure = math.nan
    if change == "covered":
        depth = np.full_like(depth, 200)
    if change == "saturated":
        # One pixel is enough: as a depth it would say that all before it is free.
        depth[60, 100] = 65535
    if change == "blank":
        depth[:] = 0
    if change == "empty":
        depth = depth[:0]
    if change == "type":
        depth = depth.astype(np.int32)  # type: ignore[assignment]
    frames = [frame(b.info, good, 2, t)] + ([] if change == "late" else [frame(a.info, depth, 2, exposure)])
    o = fusion.step(t + (0.12 if change == "late" else 0.03), frames, robot_state(t), [])
    assert o is not None
    assert not o.healthy
    assert word in o.reason


@pytest.mark.requirement("PER-05")
def test_repeated_and_late_frames_do_not_refresh(fusion: CameraFusion, workcell: Workcell) -> None:
    fusion.confirm_clear()
    look(fusion, workcell, 5, [])
    a = next(iter(fusion.views.values()))
    picture = render(a.info, workcell, [], 77)
    assert fusion.step(1.3, [frame(a.info, picture, 5, 1.25)], robot_state(1.25), []) is None
    assert fusion.step(1.3, [frame(a.info, picture, 6, 1.1)], robot_state(1.26), []) is None


@pytest.mark.requirement("PER-06")
def test_too_much_occupied_space_is_not_cut_silently(workcell: Workcell) -> None:
    config = PerceptionConfig(max_balls=100)
    fusion = CameraFusion([camera_info("a")], workcell, config, OneLink())
    fusion.confirm_clear()
    o = look(fusion, workcell, 1, [PERSON])
    assert not o.healthy
    assert "more occupied space" in o.reason


@pytest.mark.requirement("PER-07")
def test_without_robot_state_no_picture_is_used(fusion: CameraFusion, workcell: Workcell) -> None:
    fusion.confirm_clear()
    a = next(iter(fusion.views.values()))
    picture = frame(a.info, render(a.info, workcell, []), 1, 1.0)
    assert fusion.step(1.03, [picture], None, []) is None
    broken = msgspec.structs.replace(robot_state(1.0), q=[math.nan])
    assert fusion.step(1.03, [frame(a.info, render(a.info, workcell, [], 3), 2, 1.01)], broken, []) is None


@pytest.mark.requirement("PER-03")
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_an_unseen_walker_is_always_inside_possible_space(seed: int) -> None:
    """PER-03: from the entry, at up to 2 m/s, at random headings, with nothing seen at all."""
    cell = Workcell.model_validate(
        {
            "person_volume": [[-1.0, -1.5, -0.75], [2.5, 1.5, 1.45]],
            "entries": ["x_max"],
            "fixtures": [{"name": "block", "size": [0.6, 1.6, 3.0], "pose": {"position": [1.0, 0.4, 0.0]}}],
        }
    )
    grid = ClearanceMap(cell, PerceptionConfig())
    grid.confirm_clear()
    rng = np.random.default_rng(seed)
    lower, upper = np.array(cell.person_volume[0]) + 0.01, np.array(cell.person_volume[1]) - 0.01
    p = np.array([upper[0], rng.uniform(lower[1], upper[1]), rng.uniform(lower[2], upper[2])])
    t, heading = 0.0, np.array([-1.0, 0.0, 0.0])
    grid.look(t, [])
    centres = grid._centres().reshape(*grid.shape, 3)
    for _ in range(150):
        dt = float(rng.uniform(0.005, 0.06))
        if rng.random() < 0.15:
            heading = rng.normal(size=3)
            heading /= np.linalg.norm(heading)
        step = np.clip(p + heading * 2.0 * dt, lower, upper)
        index = tuple(np.floor((step - grid.lower) / grid.size).astype(int))
        if not grid.solid[index]:
            p = step
        t += dt
        grid.look(t, [])
        near = centres[grid.possible == 1]
        assert np.linalg.norm(near - p, axis=1).min() <= grid.ball_radius + 1e-9


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf])
def test_the_map_refuses_a_time_that_is_no_number(workcell: Workcell, config: PerceptionConfig, at: float) -> None:
    grid = ClearanceMap(workcell, config)
    grid.confirm_clear()
    grid.look(2.0, [])
    before = grid.possible
    with pytest.raises(ValueError, match="no time of a picture"):
        grid.look(at, [])
    assert np.array_equal(grid.possible, before)


def test_a_late_picture_clears_only_what_nobody_can_have_entered_since(
    workcell: Workcell, config: PerceptionConfig
) -> None:
    grid = ClearanceMap(workcell, config)
    grid.look(2.0, [])
    free = np.zeros(grid.shape, np.uint8)
    free[5:12, 10:17, 5:12] = 1
    before = grid.possible
    grid.sweep(1.96, ["a"], voxelbits.pack(free))
    # 80 mm of travel may have brought somebody into the outermost voxel of what was seen free.
    inner = np.zeros_like(free)
    inner[6:11, 11:16, 6:11] = 1
    assert np.array_equal(grid.possible, before & (1 - inner))
    assert grid.time == 2.0
    grid.sweep(0.5, ["b"], voxelbits.pack(np.ones(grid.shape, np.uint8)))
    assert np.array_equal(grid.possible, before & (1 - inner))


def test_small_closed_pockets_are_dropped_large_or_anchored_ones_stay(
    workcell: Workcell, config: PerceptionConfig
) -> None:
    grid = ClearanceMap(workcell, config)
    small, large = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    small[5:7, 20:22, 15:17] = 1
    large[5:9, 20:24, 15:19] = 1
    grid.confirm_clear()
    entries = grid.possible
    grid.possible = entries | small
    assert grid.drop_pockets(NO_ARM) == 8
    grid.possible = entries | large
    assert grid.drop_pockets(NO_ARM) == 0
    grid.possible = entries | small
    grid.occupy((grid.lower + (np.array([[7, 20, 15]]) + 0.5) * grid.size).astype(np.float32))
    assert grid.drop_pockets(NO_ARM) == 0


@pytest.mark.parametrize(("h", "w", "n"), [(0, 4, 0), (2, 2, 7), (2, 2, 9), (-2, -2, 8)])
def test_a_frame_whose_bytes_do_not_fit_is_no_frame(h: int, w: int, n: int) -> None:
    assert decode_frame(FrameMessage("a", 1, 0.0, h, w, b"\0" * n)) is None


def test_point_source_keeps_the_same_promises() -> None:
    fusion = PointFusion(PerceptionConfig())
    points = np.random.default_rng(1).uniform(0, 1, (500, 3)).astype(np.float32)
    first = fusion.step(1.0, [PointFrame("s", 1, 0.98, points)])
    assert first is not None
    assert not first.healthy
    fusion.confirm_clear()
    assert fusion.step(1.1, [PointFrame("s", 2, 0.98, points)]) is None
    assert fusion.step(1.1, [PointFrame("s", 2, 1.5, points)]) is None
    good = fusion.step(1.1, [PointFrame("s", 3, 1.08, points)])
    assert good is not None
    assert good.healthy
    b = balls(good)
    gap = np.linalg.norm(points[:, None] - b[None, :, :3], axis=2) - b[None, :, 3]
    assert gap.min(1).max() <= 1e-6
    bad = points.copy()
    bad[3, 1] = np.nan
    broken = fusion.step(1.2, [PointFrame("s", 4, 1.18, bad)])
    assert broken is not None
    assert not broken.healthy


def test_mounts_that_make_no_pose_are_refused() -> None:
    with pytest.raises(ValueError, match="coincide"):
        Mount(position=(0, 0, 1), look_at=(0, 0, 1)).T_base_camera()
    with pytest.raises(ValueError, match="straight"):
        Mount(position=(0, 0, 1), look_at=(0, 0, 0)).T_base_camera()
    T = Mount(position=(1, 2, 3), look_at=(0, 0, 0), roll_deg=90).T_base_camera()
    assert np.allclose(T[:3, :3].T @ T[:3, :3], np.eye(3))
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1.0)
