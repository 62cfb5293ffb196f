"""Skeletons through the real nodes: a person drawn by the twin is recognised, and whatever becomes of it, what the
monitor gets stays the same to the byte."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.alarms import load_definitions
from cell.bus.inprocess import Hub
from cell.config import LoadedCell, load_cell
from cell.session import entry_point
from perception.cameras.links import BusSink, BusSource, ColourSource, FrameSink, FrameSource, RingSink, RingSource
from perception.cameras.ring import RingFormat, RingReader, RingWriter
from perception.contract import (
    SERVICE,
    TOPIC_OBSERVATION,
    TOPIC_SKELETONS,
    CameraInfo,
    ColourMessage,
    ConfirmClear,
    Frame,
    Intrinsics,
    Observation,
    Skeletons,
    Track,
    topic_colour,
)
from perception.core import CameraFusion
from perception.detection import Place
from perception.node import CameraNode, PerceptionNode
from perception.objects import points_of
from perception.people import PARTS
from perception.pose import JOINTS, Joint, Person, PoseError, PoseFinder, model_path
from perception.skeletonnode import SkeletonNode
from perception.skeletons import (
    MOST_ASKED,
    NO_COLOUR,
    RETRY,
    JointFilter,
    SkeletonCore,
    coarser,
    distances,
)
from perception.view import Capsules
from robots.contract import RobotState, topic_state
from tests.perception.test_perception import robot_state

TICK = 0.004
FRAMES = 30
RATE = 30.0
WHERE = (1.45, 0.0)
Finder = Callable[[], PoseFinder]
needs_model = pytest.mark.skipif(not model_path().exists(), reason=f"no pose model at {model_path()}: run `make setup`")


@pytest.fixture(scope="module")
def cell() -> LoadedCell:
    return load_cell()


class Shown:
    """Pictures of somebody who stands at the open side, drawn once, and the truth."""

    def __init__(self, cell: LoadedCell) -> None:
        config = cell.config
        assert config.world is not None
        mount = {"position": (2.05, -1.35, 1.56), "look_at": (0.8, 0.0, 0.1), "roll_deg": 0.0}
        options = {
            "mount": mount, "workcell": config.workcell, "robot": {"model": config.robot.model}, "model": "D455",
            "width": 424, "height": 240, "decimation": 2, "colour": True,
        }  # fmt: skip
        people = entry_point("cell.targets", config.world.driver).people
        bench = people([("front", options)], cell.home().tolist(), 1, colour=True)
        turn = (0.0, 0.0, math.sin(math.radians(-100.0) / 2), math.cos(math.radians(-100.0) / 2))
        here = Place((*WHERE, 0.0), turn, 0.0)
        self.info: CameraInfo = bench.infos[0]
        self.frames: list[Frame] = []
        first = bench.shots("standing", here, 0, 2)[0].frame
        # One drawing and fresh noise: colour costs ten times what noise does.
        for k in range(FRAMES):
            random = np.random.default_rng(k)
            noisy = first.depth + random.integers(-2, 3, first.depth.shape) * (first.depth > 0)
            self.frames.append(first._replace(depth=noisy.astype(np.uint16), seq=k + 1, exposure=0.1 + k / RATE))
        self.joints: dict[str, tuple[float, float, float]] = bench.joints("standing", here, 0, 2)
        bench.close()


@pytest.fixture(scope="module")
def shown(cell: LoadedCell) -> Shown:
    return Shown(cell)


class Playing:
    """A camera that shows the pictures, each 30 ms after its exposure."""

    def __init__(self, shown: Shown) -> None:
        self.info = shown.info
        self._frames = list(shown.frames)

    def connect(self, now: float) -> None:
        """It is there."""

    def poll(self, now: float) -> Frame | None:
        if self._frames and now >= self._frames[0].exposure + 0.03:
            return self._frames.pop(0)
        return None

    def close(self) -> None:
        """Nothing is held."""


class Chain:
    """Camera node, perception and skeletons as a session connects them."""

    def __init__(self, cell: LoadedCell, shown: Shown, finder: Finder | None, ring: Path | None = None) -> None:
        """`finder` None: nobody looks for skeletons. `ring`: frames go through shared memory there."""
        config, self._q = cell.config, cell.home()
        hub = Hub()
        camera, there, looking = hub.ports("camera.front"), hub.ports("perception"), hub.ports("skeletons")
        form = RingFormat("front", shown.info.intrinsics, True)
        sink: FrameSink = BusSink(camera, "front", finder is not None)
        source: FrameSource = BusSource(there, "front")
        if ring is not None:
            sink, source = RingSink(RingWriter(ring, form)), RingSource(RingReader(ring, form, colour=False))
        self.camera = CameraNode(Playing(shown), sink, camera.event_source(), TICK)
        fusion = CameraFusion([shown.info], config.workcell, config.perception, cell.model())
        self.perception = PerceptionNode(there, fusion, TICK, {"front": source})
        self.skeletons: SkeletonNode | None = None
        if finder is not None:
            bright: FrameSource = ColourSource(looking, "front")
            if ring is not None:
                bright = RingSource(RingReader(ring, form))
            core = SkeletonCore([shown.info], config.workcell, config.perception, cell.model(), finder)
            self.skeletons = SkeletonNode(looking, core, {"front": bright})
            self.skeletons.warm_up()
        self._states = hub.ports("arm").publisher(topic_state(), RobotState)
        asking = hub.ports("controller")
        asking.requester(SERVICE, "test").request(ConfirmClear("tester"), 0.0)
        self.observations = asking.follower(TOPIC_OBSERVATION, Observation)
        self.said = asking.follower(TOPIC_SKELETONS, Skeletons)
        self.events = asking.event_feed()
        self.states: list[RobotState] = []

    def run(self, until: float = 0.1 + FRAMES / RATE, ends: float = math.inf) -> list[bytes]:
        """Step all nodes; the one for skeletons only until `ends`, s. Returns the observations' bytes."""
        every = round(self.skeletons.period / TICK) if self.skeletons is not None else 1
        for k in range(1, round(until / TICK) + 1):
            now = k * TICK
            q = self._q.tolist()
            state = msgspec.structs.replace(robot_state(now), q=q, dq=[0.0] * len(q))
            self._states.send(state, now)
            self.camera.step(now)
            self.perception.step(now)
            if self.skeletons is not None and k % every == 0 and now < ends:
                self.skeletons.step(now)
        self.perception.close()
        if self.skeletons is not None:
            self.skeletons.close()
        self.camera.close()
        return [msgspec.msgpack.encode(envelope.body) for envelope in self.observations.drain()]


@needs_model
@pytest.mark.parametrize("shared", [False, True], ids=["bus", "ring"])
def test_a_person_is_recognised_through_the_nodes(cell: LoadedCell, shown: Shown, tmp_path: Path, shared: bool) -> None:
    chain = Chain(cell, shown, lambda: PoseFinder(confidence=0.3), tmp_path if shared else None)
    observations = [msgspec.msgpack.decode(data, type=Observation) for data in chain.run()]
    said = [envelope.body for envelope in chain.said.drain()]
    assert all(s.ok and not s.reason for s in said)
    asked = [s for s in said if s.asked]
    assert len(asked) >= 10, "somebody who stands there is looked at twelve times a second"
    found = [s.people[0] for s in asked[1:] if s.people]
    assert len(found) >= len(asked) - 2 and all(len(s.people) <= 1 for s in said)
    assert not asked[0].people, "one picture makes no person"
    tracks = {track.id for o in observations for track in o.tracks}
    middle = np.mean([shown.joints[n] for n in shown.joints if n.endswith(("shoulder", "hip"))], axis=0)
    for person in found:
        assert person.camera == "front" and person.track in tracks
        assert math.dist(person.position[:2], middle[:2]) < 0.15
        assert person.nearest_part in {*(n.removesuffix("_left").removesuffix("_right") for n in PARTS), "head",
                                       "left_hand", "right_hand"}  # fmt: skip
        assert 0.3 < person.nearest_distance < 2.5
    errors = [math.dist(j.position, shown.joints[j.name]) for p in found for j in p.joints if j.name in shown.joints]
    assert len(errors) > 5 * len(found) and float(np.median(errors)) < 0.08


def somebody(shown: Shown, change: float = 0.0) -> Person:
    """The true person in the camera's frame."""
    T = np.linalg.inv(np.asarray(shown.info.T_base_camera, float).reshape(4, 4))
    places = {**shown.joints, "nose": (WHERE[0], WHERE[1], 0.9)}
    skeleton = {}
    for name in JOINTS:
        x, y, z = (T[:3, :3] @ np.asarray(places[name]) + T[:3, 3] + change).tolist()
        skeleton[name] = Joint((200.0, 120.0), (x, y, z), 0.9)
    trunk = [skeleton[n].position for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
    x, y, z = np.mean([p for p in trunk if p is not None], axis=0).tolist()
    return Person((x, y, z), math.hypot(x, y, z), skeleton, 0.9)


class Wild:
    """Stands for the library: finds anything, or fails, as its seed says."""

    def __init__(self, shown: Shown, seed: int, fails_from: int) -> None:
        self._shown, self._random, self._left = shown, np.random.default_rng(seed), fails_from
        self.closed = False

    def find(self, colour: Any, *_: Any, **__: Any) -> list[Person]:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("the graph has ended")
        if colour.shape[0] == 64:
            return []
        count = int(self._random.integers(0, 4))
        return [somebody(self._shown, float(self._random.normal(0.0, 0.3))) for _ in range(count)]

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def without(cell: LoadedCell, shown: Shown) -> list[bytes]:
    return Chain(cell, shown, None).run()


@pytest.mark.requirement("PER-13")
@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 1000), fails=st.integers(0, 14), missing=st.booleans(),
    ends=st.floats(0.0, 1.2), shared=st.booleans(),
)  # fmt: skip
def test_what_the_monitor_gets_is_the_same_to_the_byte_whatever_becomes_of_skeletons(
    cell: LoadedCell,
    shown: Shown,
    without: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    fails: int,
    missing: bool,
    ends: float,
    shared: bool,
) -> None:
    def make() -> Any:
        if missing:
            raise PoseError("no pose model")
        return Wild(shown, seed, fails)

    ring = tmp_path_factory.mktemp("ring") if shared else None
    seen = Chain(cell, shown, make, ring).run(ends=ends)
    assert len(without) == FRAMES
    assert seen == without


@pytest.mark.requirement("PER-13")
def test_a_library_that_fails_is_told_and_tried_again(cell: LoadedCell, shown: Shown) -> None:
    made: list[Wild] = []

    def make() -> Any:
        made.append(Wild(shown, 1, 3))
        return made[-1]

    chain = Chain(cell, shown, make)
    chain.run()
    said = [envelope.body for envelope in chain.said.drain()]
    bad = [s for s in said if not s.ok]
    assert bad and all(not s.people and "graph has ended" in s.reason for s in bad)
    assert said[-1] in bad, "not tried again within the time"
    assert len(made) == 1 and made[0].closed
    told = [e for e in chain.events.drain() if e.kind.startswith("skeletons.")]
    assert [e.kind for e in told] == ["skeletons.none"] and "graph" in told[0].data["reason"]


def core_of(cell: LoadedCell, shown: Shown, make: Finder, colour: bool = True) -> SkeletonCore:
    info = msgspec.structs.replace(shown.info, colour=colour)
    return SkeletonCore([info], cell.config.workcell, cell.config.perception, cell.model(), make)


def test_without_colour_or_model_it_says_why_and_finds_the_model_later(cell: LoadedCell, shown: Shown) -> None:
    there = [False]

    def make() -> Any:
        if not there[0]:
            raise PoseError("no pose model at /nowhere: run `make setup`")
        return Wild(shown, 1, 1000)

    blind = core_of(cell, shown, make, colour=False).step(0.1, [], [], [], [])
    assert not blind.ok and blind.reason == NO_COLOUR and blind.t == -1.0
    core = core_of(cell, shown, make)
    core.warm_up()
    first = core.step(0.1, [], [], [], [])
    assert not first.ok and "make setup" in first.reason
    there[0] = True
    assert not core.step(RETRY - 0.1, [], [], [], []).ok, "too early to look again"
    assert core.step(RETRY + 0.1, [], [], [], []).ok
    core.close()


def states(cell: LoadedCell, until: float) -> list[RobotState]:
    q = cell.home().tolist()
    times = [k * TICK for k in range(1, round(until / TICK) + 1)]
    return [msgspec.structs.replace(robot_state(t), q=q, dq=[0.0] * len(q)) for t in times]


TRACK = Track(7, (*WHERE, 0.3), (0.0, 0.0, 0.0), 100)


def test_pictures_that_cannot_be_used_are_left_out(cell: LoadedCell, shown: Shown) -> None:
    good = shown.frames[0]
    assert good.colour is not None
    wrong = [
        good._replace(colour=None),
        good._replace(camera="unknown"),
        good._replace(exposure=math.nan),
        good._replace(exposure=9.0),
        good._replace(depth=good.depth[:-1]),
        good._replace(colour=good.colour[:-1]),
        good._replace(exposure=-0.6),
    ]
    for frame in wrong:
        core = core_of(cell, shown, lambda: Wild(shown, 1, 1000))  # type: ignore[arg-type,return-value]
        seen = core.step(0.2, [frame], states(cell, 0.2), [], [TRACK])
        assert seen.asked == 0 and seen.ok, frame[:3]
    core = core_of(cell, shown, lambda: Wild(shown, 1, 1000))  # type: ignore[arg-type,return-value]
    assert core.step(0.2, [good], [], [], [TRACK]).asked == 0, "nothing is known of the arm"
    assert core.step(0.2, [good], states(cell, 0.2), [], [TRACK]).asked == 1
    assert core.step(0.3, [good], [], [], [TRACK]).asked == 0, "the same picture again"
    assert core.step(0.3, [shown.frames[2]], states(cell, 0.3), [], []).asked == 0, "nobody is followed"


def test_a_message_without_all_its_colours_is_no_picture(shown: Shown) -> None:
    hub = Hub()
    out = hub.ports("camera").publisher(topic_colour("front"), ColourMessage)
    source = ColourSource(hub.ports("skeletons"), "front")
    frame, k = shown.frames[0], shown.info.intrinsics
    assert frame.colour is not None
    pixels, shades = frame.depth.tobytes(), frame.colour.tobytes()
    out.send(ColourMessage("front", 1, 0.1, k.height, k.width, pixels, shades, 3), 0.1)
    taken = source.take(0.1)
    assert taken is not None and taken.colour is not None and taken.boot == 3
    assert (taken.colour == frame.colour).all() and (taken.depth == frame.depth).all()
    assert source.take(0.1) is None
    for height, width, depth, colour in (
        (k.height, k.width, pixels, shades[:-1]), (k.height, k.width, pixels[:-2], shades),
        (0, 0, b"", b""), (-k.height, -k.width, pixels, shades),
    ):  # fmt: skip
        out.send(ColourMessage("front", 1, 0.1, height, width, depth, colour), 0.1)
        assert source.take(0.1) is None


class Steady(Wild):
    """Finds the true person."""

    def find(self, colour: Any, *_: Any, **__: Any) -> list[Person]:
        return [somebody(self._shown)] if colour.shape[0] != 64 else []


def test_somebody_beside_the_arm_is_reported_once_with_the_part(cell: LoadedCell, shown: Shown) -> None:
    chain = Chain(cell, shown, lambda: Steady(shown, 1, 1000))  # type: ignore[arg-type,return-value]
    assert chain.skeletons is not None
    core = chain.skeletons._core
    right = np.asarray(shown.joints["right_wrist"])
    arm = Capsules(right[None] + [[-0.12, 0.0, -0.1]], right[None] + [[-0.12, 0.0, 0.1]], np.array([0.05]))
    core.history.at = lambda t: arm  # type: ignore[method-assign]
    chain.run()
    near = [e for e in chain.events.drain() if e.kind == "person.near"]
    assert len(near) == 1
    said = [p for envelope in chain.said.drain() for p in envelope.body.people]
    assert said and all(p.nearest_distance < 0.1 for p in said)
    assert near[0].data["part"] == said[0].nearest_part and near[0].data["track"] == said[0].track


@pytest.mark.requirement("PER-13")
def test_losing_skeletons_changes_nothing_in_the_state_of_the_cell() -> None:
    assert load_definitions()["skeletons_lost"].reaction == "none"


# ------------------------------------------------------------ parts of it


def test_more_people_than_can_be_looked_at_take_turns() -> None:
    core = SkeletonCore.__new__(SkeletonCore)
    core._turn = 0
    sights: list[Any] = [(n, None) for n in range(MOST_ASKED + 3)]
    looked = [n for _ in range(len(sights)) for n, _ in core._turned(sights)]
    counts = np.bincount(looked)
    assert counts.min() == counts.max() == MOST_ASKED
    assert core._turned(sights[:MOST_ASKED]) == sights[:MOST_ASKED]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3), st.integers(300, 9000))
def test_a_coarser_picture_shows_the_same_points(width: int, height: int, pitch: int, z: int) -> None:
    camera = Intrinsics(width, height, 100.0, 90.0, (width - 1) / 2, (height - 1) / 2)
    depth = np.full((height, width), z, np.uint16)
    fine = points_of(depth, camera)[::pitch, ::pitch]
    coarse = coarser(camera, pitch)
    assert (coarse.height, coarse.width) == fine.shape[:2]
    assert np.allclose(points_of(depth[::pitch, ::pitch], coarse), fine, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_distances_are_those_of_points_along_the_links(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b, r = random.normal(size=(3, 3)), random.normal(size=(3, 3)), random.uniform(0.01, 0.2, 3)
    points = random.normal(size=(20, 3))
    dense = [a[i] + s * (b[i] - a[i]) for i in range(3) for s in np.linspace(0.0, 1.0, 400)]
    radii = np.repeat(r, 400)
    brute = np.min(np.linalg.norm(points[:, None] - np.asarray(dense)[None], axis=2) - radii, axis=1)
    found = distances(points, Capsules(a, b, r))
    assert np.all(found <= brute + 1e-9) and np.all(brute - found < 0.01)
    nothing = Capsules(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    assert np.isinf(distances(points, nothing)).all()


def still(x: float) -> Person:
    joint = Joint((0.0, 0.0), (x, 0.0, 0.0), 0.9)
    return Person((x, 0.0, 0.0), 1.0, dict.fromkeys(JOINTS, joint), 0.9)


def test_joints_are_smoothed_and_one_that_jumps_waits() -> None:
    smooth, random = JointFilter(), np.random.default_rng(3)
    raw, out = [], []
    for k in range(60):
        person = still(float(random.normal(0.0, 0.04)))
        after = smooth.update(person, k / 12.5).skeleton["nose"].position
        assert after is not None and person.position is not None
        raw.append(person.position[0])
        out.append(after[0])
    assert np.std(out[10:]) < 0.8 * np.std(raw[10:])
    jumps = [smooth.update(still(2.0), (60 + k) / 12.5).skeleton["nose"].position for k in range(4)]
    assert jumps[:2] == [None, None]
    assert jumps[2] == (2.0, 0.0, 0.0) and jumps[3] is not None
    lost = still(2.0)._replace(skeleton=dict.fromkeys(JOINTS, Joint((0.0, 0.0), None, 0.2)))
    assert all(j.position is None for j in smooth.update(lost, 65 / 12.5).skeleton.values())
    assert smooth.update(still(-3.0), 80 / 12.5).skeleton["nose"].position == (-3.0, 0.0, 0.0), "long ago"
