"""False stops: an empty cell gives none, a visitor is counted, and a count of none is worth what its bound says."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson

from cell.commands.detection import bench_cameras
from cell.commands.soak import CLEAN
from cell.config import LoadedCell, load_cell
from cell.session import entry_point
from perception.contract import CameraHealth, Frame, Observation
from perception.soak import EmptyWatch, Keeper, Kept, rate_bound, replay
from perception.view import CameraView
from robots.contract import RobotState
from tests.perception.test_perception import OneLink, robot_state

Noise = Callable[[np.ndarray, int], np.ndarray]


@pytest.fixture(scope="module")
def cell() -> LoadedCell:
    return load_cell()


class Stand:
    """The demo cell's cameras: true pictures of it, and their noise."""

    def __init__(self, cell: LoadedCell) -> None:
        config = cell.config
        assert config.world is not None
        cameras, q = bench_cameras(cell, "", 1), cell.home()
        factory = entry_point("cell.targets", config.world.driver)
        clean = [(name, {**options, **CLEAN}) for name, options in cameras]
        bench = factory(clean, [(0.3, 0.3)], q.tolist(), 1)
        state = msgspec.structs.replace(robot_state(0.9), q=q.tolist(), dq=[0.0] * len(q))
        self.empty = self._kept(cell, bench.frames(None, ()), state)
        # A post 0.3 m wide stands at the open side.
        self.visited = self._kept(cell, bench.frames(0, (1.4, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0)), state)
        self.views = {info.name: CameraView(info, config.workcell, config.perception) for info in bench.infos}
        self.noises: dict[str, Noise] = {name: factory.noise(name, options) for name, options in cameras}
        bench.close()

    @staticmethod
    def _kept(cell: LoadedCell, frames: list[Frame], state: RobotState) -> list[Kept]:
        keeper = Keeper(cell.model(), 0.25, 10)
        exposure = frames[0].exposure
        # The arm stands: it is known before and after the exposure.
        states = [msgspec.structs.replace(state, t=exposure + dt) for dt in (-0.01, 0.01)]
        keeper.take([], states[0], [])
        keeper.take(frames, states[1], [])
        return keeper.kept


@pytest.fixture(scope="module")
def stand(cell: LoadedCell) -> Stand:
    return Stand(cell)


def test_noise_over_the_empty_cell_is_nobody_and_a_visitor_is_somebody_every_time(stand: Stand) -> None:
    assert len(stand.empty) == len(stand.visited) == 2
    told: list[tuple[int, int]] = []

    def tell(done: int, false: int) -> bool:
        told.append((done, false))
        return True

    quiet = replay(stand.empty, stand.views, stand.noises, 600, tell, batch=50)
    assert quiet == (600, 0, 0, 0)
    assert told == [(50 * n, 0) for n in range(1, 13)]
    seen = replay(stand.visited, stand.views, stand.noises, 60, tell, batch=25)
    assert seen.pictures == 60 and seen.false == 60 and seen.most > 20


def test_noise_is_fresh_in_each_picture_and_a_replay_can_be_ended(stand: Stand) -> None:
    drawn: list[bytes] = []

    def noisy(name: str) -> Noise:
        def draw(depth: np.ndarray, number: int) -> np.ndarray:
            made = stand.noises[name](depth, number)
            drawn.append(made.tobytes())
            return made

        return draw

    noises = {name: noisy(name) for name in stand.noises}
    ended = replay(stand.empty, stand.views, noises, 1000, lambda done, false: done < 40, batch=20)
    assert ended.pictures == 40 and len(set(drawn)) == 40
    with pytest.raises(ValueError, match="no picture"):
        replay([], stand.views, stand.noises, 1, lambda done, false: True)


def test_pictures_are_kept_apart_in_time_for_each_camera_and_only_with_the_arm_known() -> None:
    keeper = Keeper(OneLink(), 0.1, 3)
    blank = np.zeros((2, 2), np.uint16)
    keeper.take([Frame("a", 0, 0.0, blank)], None, [])
    assert keeper.kept == [], "nothing is known of the arm"
    for k in range(100):
        t = 0.01 * k
        keeper.take([Frame(name, k, t, blank) for name in "ab"], robot_state(t), [])
    for name in "ab":
        times = [kept.frame.exposure for kept in keeper.kept if kept.frame.camera == name]
        assert len(times) == 3 and np.all(np.diff(times) >= 0.1 - 1e-9)


def observation(seq: int, seen: int = 0, healthy: bool = True, confirmed: bool = True) -> Observation:
    balls = np.zeros((seen, 4), "<f4").tobytes()
    health = [CameraHealth("a", healthy, "" if healthy else "late", 0.0, 1.0, 0)]
    return Observation(seq, 0.1, 0.1, balls, seen, healthy, "" if healthy else "late", health, [], confirmed)


def test_what_is_counted_of_a_run() -> None:
    watch = EmptyWatch()
    for one in (
        observation(1, 5, confirmed=False), observation(2, 1), observation(2, 1), observation(3),
        observation(4, healthy=False), observation(5, 2, healthy=False),
    ):  # fmt: skip
        watch.take(one)
    assert watch.result == (4, 2, 2, ["late"])


def test_what_is_no_longer_expected_after_a_changeover_is_nobody_only_in_pictures_from_before_it() -> None:
    watch = EmptyWatch()
    watch.changeover(5.0)
    for k, exposure in enumerate((4.9, 5.0, 5.001, 6.0, math.nan)):
        watch.take(msgspec.structs.replace(observation(k, 1), oldest_exposure=exposure))
    assert watch.result == (5, 3, 0, [])


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 30), st.floats(0.01, 1000.0), st.floats(0.5, 0.999))
def test_the_bound_is_the_rate_at_which_so_few_events_are_just_unlikely(n: int, hours: float, trust: float) -> None:
    rate = rate_bound(n, hours, trust)
    assert poisson.cdf(n, rate * hours) == pytest.approx(1.0 - trust, rel=1e-6)
    assert rate_bound(n + 1, hours, trust) > rate > rate_bound(n, 2.0 * hours, trust)


def test_a_count_of_none_is_worth_three_over_the_hours_and_nothing_without_any() -> None:
    assert rate_bound(0, 10.0) == pytest.approx(-math.log(0.05) / 10.0)
    assert rate_bound(0, 0.0) == rate_bound(0, math.nan) == rate_bound(3, -1.0) == math.inf
