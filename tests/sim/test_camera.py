"""The twin's camera and surface source: geometry, time, noise, fallback."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

from cell.bus.inprocess import Hub
from perception.contract import CameraError, Frame
from robots.workcell import Workcell
from sim.arms import arm_spec
from sim.body import load_body, skin
from sim.camera import TwinCamera
from sim.contract import TOPIC_SCENE, BodyPose, PartPose, Scene
from sim.human import people_of
from sim.noise import MODELS, DepthNoise, Effects
from sim.raster import RasterRenderer, _fill
from sim.render import ROOM, ROOM_HEIGHT, GlRenderer, View
from sim.scenario import load_scenario
from sim.surface import SurfaceSource

PERFECT = {
    "stereo_noise": False,
    "quantisation": False,
    "edge_holes": False,
    "dark_holes": False,
    "flying_pixels": False,
    "scatter": 0.0,
}
Q = [-0.785, -0.61, 0.0, -2.356, 0.0, 1.745, 0.785]


class Studio:
    """A hub on which a test publishes scenes."""

    def __init__(self, demo: dict[str, Any], workcell: Workcell) -> None:
        self.hub = Hub()
        self.scenes = self.hub.ports("twin").publisher(TOPIC_SCENE, Scene)
        self.demo, self.workcell = demo, workcell
        self.cameras: list[TwinCamera] = []

    def camera(self, number: int = 0, **options: Any) -> TwinCamera:
        block = self.demo["cameras"][number]
        given = {**block["options"], "mount": block["mount"], "workcell": self.workcell, "robot": "panda", **options}
        camera = TwinCamera(block["name"], given, self.hub.ports(f"camera{len(self.cameras)}"))
        camera.connect(0.0)
        self.cameras.append(camera)
        return camera

    def shoot(self, camera: TwinCamera, scene: Scene) -> Frame:
        """Publish `scene` at rising times until a frame of it is delivered."""
        for k in range(1, 60):
            t = 0.004 * k
            self.scenes.send(Scene(t, scene.q, scene.fingers, scene.people, scene.parts), t)
            frame = camera.poll(t)
            if frame is not None:
                return frame
        raise AssertionError("no frame in 0.24 s")


@pytest.fixture
def studio(demo: dict[str, Any], workcell: Workcell) -> Any:
    one = Studio(demo, workcell)
    yield one
    for camera in one.cameras:
        camera.close()
        camera.close()


def empty() -> Scene:
    return Scene(0.0, Q, 0.08, [], [])


@functools.cache
def visitor() -> BodyPose:
    human = people_of(load_scenario("visit"), -0.75, 1)[0]
    return BodyPose("visitor", human.bones(12.0).astype("<f4").tobytes())


def points(camera: TwinCamera, frame: Frame) -> np.ndarray:
    """(h, w, 3) points of a frame in the base frame, by the published intrinsics and pose alone."""
    k = camera.info.intrinsics
    pose = np.array(camera.info.T_base_camera).reshape(4, 4)
    z = frame.depth / 1000.0
    u, v = np.meshgrid(np.arange(k.width), np.arange(k.height))
    local = np.stack([(u - k.cx) / k.fx * z, (v - k.cy) / k.fy * z, z], axis=-1)
    return local @ pose[:3, :3].T + pose[:3, 3]


def test_perfect_depth_lies_on_the_furniture_to_a_millimetre(studio: Studio) -> None:
    for number in (0, 1):
        camera = studio.camera(number, **PERFECT)
        frame = studio.shoot(camera, empty())
        assert (frame.depth > 0).all()
        at = points(camera, frame)
        floor = (np.abs(at[..., 2] + 0.75) < 0.02) & (np.abs(at[..., :2]) < 4.9).all(axis=-1)
        table = (
            (np.abs(at[..., 2]) < 0.004) & (at[..., 0] > -0.3) & (at[..., 0] < -0.15) & (np.abs(at[..., 1] + 0.2) < 0.6)
        )
        assert floor.sum() > 5000
        assert table.sum() > 200
        assert np.abs(at[floor][:, 2] + 0.75).mean() < 0.001
        assert np.abs(at[table][:, 2]).mean() < 0.001


def test_a_camera_says_whether_it_has_colour() -> None:
    mount = {"position": [0, 0, 2], "look_at": [1, 0, 0]}
    assert TwinCamera.describe("a", {"mount": mount, "colour": True}).colour
    assert not TwinCamera.describe("a", {"mount": mount}).colour


def test_every_person_pixel_lies_on_the_person(studio: Studio) -> None:
    camera = studio.camera(0, **PERFECT)
    person = visitor()
    without = studio.shoot(camera, empty())
    frame = studio.shoot(studio.camera(0, **PERFECT), Scene(0.0, Q, 0.08, [person], []))
    changed = without.depth.astype(int) - frame.depth > 40
    assert changed.sum() > 1500
    cloud = points(camera, frame)[changed]
    from scipy.spatial import cKDTree

    bones = np.frombuffer(person.bones, dtype="<f4").reshape(-1, 3, 4).astype(float)
    distance = cKDTree(skin(load_body("body_178"), bones)).query(cloud)[0]
    # The drawn mesh is the reduced one; its faces leave the full skin by millimetres.
    assert np.percentile(distance, 99) < 0.025
    assert distance.max() < 0.05


def test_parts_and_arm_are_drawn_where_they_are(studio: Studio) -> None:
    camera = studio.camera(0, **PERFECT)
    bare = studio.shoot(camera, empty())
    part = PartPose("cube_red#1", "cube_red", (0.2, 0.3, 0.02, 0.0, 0.0, 0.0, 1.0))
    frame = studio.shoot(studio.camera(0, **PERFECT), Scene(0.0, Q, 0.08, [], [part]))
    changed = bare.depth.astype(int) - frame.depth > 5
    assert changed.sum() >= 8
    at = points(camera, frame)[changed]
    assert np.abs(at - np.array([0.2, 0.3, 0.02])).max() < 0.03
    moved = studio.shoot(studio.camera(0, **PERFECT), Scene(0.0, [0.5, *Q[1:]], 0.08, [], []))
    assert (np.abs(moved.depth.astype(int) - bare.depth) > 50).sum() > 500


def test_frames_come_at_their_rate_and_after_their_latency(studio: Studio) -> None:
    camera = studio.camera(0, latency=0.030, rate_hz=30.0)
    exposures, delays = [], []
    for k in range(1, 260):
        t = 0.004 * k
        studio.scenes.send(Scene(t, Q, 0.08, [], []), t)
        frame = camera.poll(t)
        if frame is not None:
            exposures.append(frame.exposure)
            delays.append(t - frame.exposure)
            assert frame.seq == len(exposures)
    assert len(exposures) in (30, 31)
    assert min(delays) >= 0.030 and max(delays) <= 0.0341
    assert max(np.diff(exposures)) <= 0.0361


def test_lost_and_doubled_frames_show_in_the_counter(studio: Studio) -> None:
    camera = studio.camera(0, drop=0.3, repeat=0.3)
    seqs = []
    for k in range(1, 1000):
        t = 0.004 * k
        studio.scenes.send(Scene(t, Q, 0.08, [], []), t)
        frame = camera.poll(t)
        if frame is not None:
            seqs.append(frame.seq)
    steps = np.diff(seqs)
    assert (steps > 1).sum() > 5
    assert (steps == 0).sum() > 5
    assert (steps >= 0).all()


def test_the_same_seed_gives_the_same_pictures(studio: Studio) -> None:
    scene = Scene(0.0, Q, 0.08, [visitor()], [])
    a, b, c = (studio.shoot(studio.camera(0, seed=s), scene) for s in (3, 3, 4))
    assert np.array_equal(a.depth, b.depth)
    assert (a.depth != c.depth).mean() > 0.2


@pytest.mark.parametrize(("make", "sigma"), [("D435", 0.0150), ("D455", 0.0079)])
def test_depth_noise_has_the_makers_figure(make: str, sigma: float) -> None:
    effects = Effects(edge_holes=False, dark_holes=False, flying_pixels=False, scatter=0.0)
    noise = DepthNoise(MODELS[make], 424, 2, effects, 1)
    depth = np.full((240, 424), 2.0, dtype=np.float32)
    shade = np.ones_like(depth)
    out = noise.apply(depth, shade, 1) / 1000.0
    assert out.std() == pytest.approx(sigma, rel=0.10)
    assert out.mean() == pytest.approx(2.0, abs=0.002)
    assert noise.coefficient * 4.0 == pytest.approx(sigma, rel=0.05)
    coarse = DepthNoise(MODELS[make], 424, 1, effects, 1).apply(depth, shade, 1) / 1000.0
    assert coarse.std() == pytest.approx(2 * sigma, rel=0.10)


def test_noise_is_white_in_space_and_time_and_belongs_to_seed_and_frame() -> None:
    effects = Effects(quantisation=False, edge_holes=False, dark_holes=False, flying_pixels=False, scatter=0.0)
    depth, shade = np.full((101, 203), 2.0, np.float32), np.ones((101, 203), np.float32)

    def residual(seed: int, frame: int) -> np.ndarray:
        picture = DepthNoise(MODELS["D435"], 424, 2, effects, seed).apply(depth, shade, frame)
        return picture - 2000.0

    one, other = residual(5, 1), residual(5, 2)
    assert np.array_equal(one, residual(5, 1))
    for x, y in ((one, other), (one, residual(6, 1)), (one[:, 1:], one[:, :-1]), (one[1:], one[:-1])):
        assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < 0.03
    # A normal distribution's share beyond two and three sigmas.
    assert (np.abs(one) > 2 * one.std()).mean() == pytest.approx(0.0455, abs=0.006)
    assert (np.abs(one) > 3 * one.std()).mean() == pytest.approx(0.0027, abs=0.0015)


def test_each_effect_does_what_it_says_and_nothing_when_off() -> None:
    depth = np.full((200, 300), 2.5, dtype=np.float32)
    depth[50:150, 100:200] = 1.5
    shade = np.full_like(depth, 0.5)
    shade[:, 250:] = 0.05

    def apply(**on: Any) -> np.ndarray:
        off = Effects(False, False, False, False, False, 0.0)
        return DepthNoise(MODELS["D435"], 424, 2, off._replace(**on), 5).apply(depth, shade, 9)

    assert np.array_equal(apply(), np.rint(1000 * depth))
    assert (apply(scatter=0.02) == 0).mean() == pytest.approx(0.02, abs=0.003)
    assert (apply(dark_holes=True) == 0)[:, 250:].mean() == pytest.approx(0.05 * 2.5**2, abs=0.05)
    assert not (apply(dark_holes=True) == 0)[:, :250].any()
    edges = apply(edge_holes=True) == 0
    assert edges[60:140, 97:100].mean() > 0.4
    assert not edges[:, 205:].any()
    flying = apply(flying_pixels=True)
    assert ((flying > 1550) & (flying < 2450)).sum() > 5
    assert len(np.unique(apply(stereo_noise=True, quantisation=True))) < len(np.unique(apply(stereo_noise=True)))


def test_impossible_depth_is_invalid_never_a_number() -> None:
    noise = DepthNoise(MODELS["D435"], 424, 2, Effects(scatter=0.0), 1)
    depth = np.array([[0.0, -1.0, np.nan, np.inf, 0.05, 80.0]], dtype=np.float32)
    assert (noise.apply(depth, np.ones_like(depth), 1) == 0).all()


def test_the_fallback_renderer_sees_the_same_cell(studio: Studio) -> None:
    scene = Scene(0.0, Q, 0.08, [visitor()], [PartPose("p", "puck_black", (0.2, 0.3, 0.015, 0.0, 0.0, 0.0, 1.0))])
    quick = studio.shoot(studio.camera(0, renderer="egl", **PERFECT), scene).depth.astype(float)
    events = studio.hub.ports("observer").event_feed()
    slow = studio.shoot(studio.camera(0, renderer="tiny", **PERFECT), scene).depth.astype(float)
    assert next(e for e in events.drain() if e.kind == "camera.renderer").data["renderer"] == "tiny"
    both = (quick > 0) & (slow > 0)
    assert both.mean() > 0.99
    difference = np.abs(quick - slow)[both]
    assert np.median(difference) < 4.0
    # Outlines fall on neighbouring pixels, and body parts are drawn as their hulls.
    assert (difference > 60).mean() < 0.02


def test_the_rasteriser_and_opengl_draw_the_same_picture(studio: Studio, workcell: Workcell) -> None:
    parts = [PartPose("p", "puck_black", (0.2, 0.3, 0.015, 0.0, 0.0, 0.0, 1.0))]
    scenes = [Scene(0.0, Q, 0.08, [visitor()], parts), Scene(0.0, [1.0, *Q[1:]], 0.0, [], []), empty()]
    for number in (0, 1):
        view = studio.camera(number)._view
        raster, opengl = (make(view, workcell, arm_spec("panda")) for make in (RasterRenderer, GlRenderer))
        for scene in scenes:
            mine, other = raster.draw(scene, False), opengl.draw(scene, False)
            # Only centres of pixels that lie on an outline to the last bit may fall on either side of it.
            differ = np.abs(mine.depth - other.depth) > 1e-4 * other.depth
            assert differ.sum() <= 12
            assert (np.abs(mine.shade - other.shade)[~differ] < 1e-5).all()
        opengl.close()


def test_the_rasteriser_clips_what_passes_the_eye(workcell: Workcell) -> None:
    """The walls of the room pass behind every camera; each pixel's ray is checked against them by hand."""
    pose = np.eye(4)
    pose[:3, :3] = [[0.0, 0.6, 0.8], [-1.0, 0.0, 0.0], [0.0, -0.8, 0.6]]
    pose[:3, 3] = [1.0, 0.5, 1.0]
    view = View(90, 60, 40.0, 42.0, 44.0, 31.0, pose)
    bare = workcell.model_copy(update={"fixtures": []})
    far_away = RasterRenderer(view, bare, arm_spec("panda")).draw(Scene(0.0, Q, 0.08, [], []), False).depth
    u, v = np.meshgrid(np.arange(90), np.arange(60))
    rays = np.stack([(u - 44.0) / 40.0, (v - 31.0) / 42.0, np.ones_like(u, float)], -1) @ pose[:3, :3].T
    low, high = np.array([-ROOM, -ROOM, -0.75]), np.array([ROOM, ROOM, -0.75 + ROOM_HEIGHT])
    with np.errstate(divide="ignore"):
        expected = (np.where(rays > 0, high - pose[:3, 3], pose[:3, 3] - low) / np.abs(rays)).min(-1)
    seen_room = np.abs(far_away - expected) < 1e-4 * expected
    assert seen_room.mean() > 0.9
    assert (far_away <= expected * 1.0001).all()
    assert (far_away > 0).all()


def test_the_rasteriser_leaves_no_cracks_between_triangles() -> None:
    """A fan of slivers over the whole picture, with corners on pixel centres and off: every pixel is filled."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rim = np.array([[-80.0, -60.0], [150.0, -60.0], [150.0, 130.0], [-80.0, 130.0]])
        angle = np.sort(rng.uniform(0, 2 * np.pi, 300))
        ring = np.concatenate([rim, 400 * np.stack([np.cos(angle), np.sin(angle)], 1)])
        ring = np.rint(ring * 4) / 4
        ring = ring[np.argsort(np.arctan2(ring[:, 1] - 30, ring[:, 0] - 40))]
        flat = np.concatenate([[[40.0, 30.0]], ring])
        camera = np.column_stack([flat, np.ones(len(flat))])
        n = len(ring)
        faces = np.stack([np.zeros(n), 1 + np.arange(n), 1 + (np.arange(n) + 1) % n], 1).astype(np.int32)
        inverse, tone = np.zeros((60, 80), np.float32), np.zeros((60, 80), np.float32)
        tints = np.full(n, 0.5, np.float32)
        _fill(camera, faces, tints, np.array([1.0, 1.0, 0.0, 0.0]), False, np.empty_like(camera), inverse, tone)
        assert np.allclose(inverse, 1.0)
        assert (tone == 0.5).all()


def test_depth_alone_needs_no_egl_and_colour_no_rasteriser(studio: Studio) -> None:
    events = studio.hub.ports("observer").event_feed()
    studio.camera()
    assert next(e for e in events.drain() if e.kind == "camera.renderer").data["renderer"] == "raster"
    with pytest.raises(CameraError, match="depth only"):
        studio.camera(renderer="raster", colour=True)


def test_without_egl_the_camera_falls_back_and_says_so(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    import sim.camera

    def broken(*_: Any) -> Any:
        raise RuntimeError("no display")

    monkeypatch.setattr(sim.camera, "GlRenderer", broken)
    events = studio.hub.ports("observer").event_feed()
    assert (studio.shoot(studio.camera(colour=True), empty()).depth > 0).mean() > 0.9
    event = next(e for e in events.drain() if e.kind == "camera.renderer")
    assert event.data["renderer"] == "tiny"
    assert "no display" in event.data["reason"]
    with pytest.raises(CameraError, match="egl"):
        studio.camera(renderer="egl")


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 3},
        {"model": "D999"},
        {"mount": {"position": [0, 0, 1], "look_at": [0, 0, 1]}},
        {"mount": {"position": [0, 0, math.nan], "look_at": [0, 0, 0]}},
        {"robot": "no_such"},
        {"latencyy": 1.0},
    ],
)
def test_wrong_options_are_refused(studio: Studio, wrong: dict[str, Any]) -> None:
    with pytest.raises(CameraError):
        studio.camera(**wrong)


def test_poll_before_connect_is_an_error(studio: Studio, workcell: Workcell, demo: dict[str, Any]) -> None:
    block = demo["cameras"][0]
    camera = TwinCamera("x", {"mount": block["mount"], "workcell": workcell}, studio.hub.ports("x"))
    with pytest.raises(CameraError):
        camera.poll(0.0)


# ---------------------------------------------------------------- surface source


def test_surface_points_lie_on_the_person_late_and_at_rate(studio: Studio) -> None:
    source = SurfaceSource({"noise": 0.0}, studio.hub.ports("surface"))
    source.connect(0.0)
    person = visitor()
    bones = np.frombuffer(person.bones, dtype="<f4").reshape(-1, 3, 4).astype(float)
    full = skin(load_body("body_178"), bones)
    frames = []
    for k in range(1, 260):
        t = 0.004 * k
        studio.scenes.send(Scene(t, Q, 0.08, [person], []), t)
        frame = source.poll(t)
        if frame is not None:
            frames.append(frame)
            assert 0.025 <= t - frame.exposure <= 0.0291
    assert len(frames) in (30, 31)
    from scipy.spatial import cKDTree

    points_ = frames[0].points
    assert points_.shape == (1500, 3)
    assert cKDTree(full).query(points_)[0].max() < 1e-4
    # Nowhere on the skin is farther than this from a point: nothing the size of a hand is missed.
    assert cKDTree(points_).query(full)[0].max() < 0.06


def test_points_spread_in_a_process_of_their_own_are_the_same_at_the_same_time(studio: Studio) -> None:
    sources = [SurfaceSource({"apart": apart}, studio.hub.ports("surface")) for apart in (False, True)]
    frames: list[list[tuple[float, int, float, bytes]]] = [[], []]
    for source in sources:
        source.connect(0.0)
    for k in range(1, 60):
        t = 0.004 * k
        studio.scenes.send(Scene(t, Q, 0.08, [visitor()] if k < 40 else [], []), t)
        for source, found in zip(sources, frames, strict=True):
            frame = source.poll(t)
            if frame is not None:
                found.append((t, frame.seq, frame.exposure, frame.points.tobytes()))
    assert frames[0] == frames[1]
    assert len(frames[0]) >= 6
    for source in sources:
        source.close()
        source.close()


def test_surface_noise_is_seeded_and_an_empty_cell_gives_empty_frames(studio: Studio) -> None:
    clouds = []
    for seed in (1, 1, 2):
        source = SurfaceSource({"seed": seed}, studio.hub.ports("surface"))
        source.connect(0.0)
        found = None
        for k in range(1, 12):
            studio.scenes.send(Scene(0.004 * k, Q, 0.08, [visitor()], []), 0.004 * k)
            found = source.poll(0.004 * k) or found
        assert found is not None
        clouds.append(found.points)
        source.close()
    assert np.array_equal(clouds[0], clouds[1])
    assert not np.array_equal(clouds[0], clouds[2])
    quiet = SurfaceSource({}, studio.hub.ports("surface"))
    quiet.connect(0.0)
    for k in range(1, 12):
        studio.scenes.send(Scene(0.004 * k, Q, 0.08, [], []), 0.004 * k)
        frame = quiet.poll(0.004 * k)
        assert frame is None or frame.points.shape == (0, 3)


def test_wrong_surface_options_are_refused(studio: Studio) -> None:
    with pytest.raises(CameraError):
        SurfaceSource({"points": 7}, studio.hub.ports("surface"))
