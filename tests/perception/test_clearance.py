"""Possible space against intruders: whoever is not seen is inside it, with every part of the body, at every moment."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from perception import voxelbits
from perception.clearance import ClearanceMap
from perception.config import PerceptionConfig
from perception.core import CameraFusion
from robots.workcell import Workcell
from tests.perception.conftest import camera_info, frame, front_camera, render
from tests.perception.test_perception import OneLink, robot_state

SIZE = 0.1
CELL = Workcell.model_validate(
    {
        "floor": -0.7,
        "person_volume": [[0.0, 0.0, -0.7], [3.0, 3.0, 1.3]],
        "entries": ["x_max"],
        # The faces of both lie inside voxels, so that a limb finds room in a voxel that is partly wall.
        "fixtures": [
            {"name": "wall", "size": [0.24, 1.5, 2.2], "pose": {"position": [1.53, 1.85, 0.3]}},
            {"name": "table", "size": [0.9, 0.8, 0.74], "pose": {"position": [0.7, 0.6, -0.33]}},
        ],
    }
)
TORSO, HAND = 1.6, 2.0
"""Fastest torso and fastest hand, m/s."""
SUBSTEP = 0.01
BODY = np.array([[0, 0, 0], [0.06, 0, 0.12], [-0.06, 0.05, -0.12], [0, -0.06, 0.05], [0, 0.07, -0.05]], float)
"""Points of a crouching trunk that move together, m; two hands are added to them."""
REACH = 0.45
WALKERS = 500
RUNS = 22


class Lookers:
    """Cameras with clocks of their own: a period, a phase, a delay, dropped pictures, and an eye that wanders.

    What a camera sees free is all that lies on its side of a plane through a point that wanders about, without the
    shadow of a column that stands somewhere else in every run.
    """

    def __init__(self, rng: np.random.Generator, centres: NDArray[np.float64]) -> None:
        self.count = int(rng.integers(1, 4))
        self._centres = centres
        self.period = rng.uniform(0.015, 0.12, self.count)
        if rng.random() < 0.3:
            self.period[:] = self.period[0]
        self.phase = rng.uniform(0.0, self.period) if rng.random() < 0.7 else np.zeros(self.count)
        self.delay = rng.uniform(0.0, 0.1, self.count) if rng.random() < 0.7 else np.zeros(self.count)
        self.drop = rng.choice([0.0, 0.2, 0.6], self.count)
        self._eye = rng.uniform([-0.5, -0.5, 1.0], [3.5, 3.5, 2.5], (self.count, 3))
        self._column = rng.uniform(0.5, 2.5, (self.count, 2))
        self._normal = rng.normal(size=(self.count, 3))
        self._swing = rng.uniform(0.2, 3.0, self.count)

    def free(self, n: int, t: float) -> NDArray[np.bool_]:
        """(voxels,) what camera `n` sees free at `t`."""
        angle = self._swing[n] * t
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        normal = turn @ self._normal[n]
        seen = (self._centres - [1.5, 1.5, 0.3]) @ normal > -0.5 * np.linalg.norm(normal)
        # A ray hits the upright column if it passes its axis within a quarter metre on the way.
        eye, to = self._eye[n, :2], self._centres[:, :2] - self._eye[n, :2]
        column = self._column[n] + 0.4 * np.array([np.sin(2.0 * angle), np.cos(1.3 * angle)])
        along = np.clip(((column - eye) * to).sum(1) / np.maximum((to**2).sum(1), 1e-9), 0.0, 1.0)
        return np.asarray(seen & (np.linalg.norm(eye + along[:, None] * to - column, axis=1) > 0.25))


class Crowd:
    """Walkers at once in one map, each a trunk and two hands; those a camera has seen are replaced by unseen ones.

    A walker that was replaced goes on as a copy of one that nobody has seen, whose whole way was possible too.
    """

    def __init__(self, rng: np.random.Generator, grid: ClearanceMap) -> None:
        self._rng, self._grid = rng, grid
        self.trunk = self.outside()
        self.hands = np.repeat(self.trunk[:, None], 2, axis=1)
        self.heading = rng.normal(size=(WALKERS, 3, 3))
        self.heading[:, :, 0] -= 1.0
        # Some run straight on, some dodge; who is stopped by a wall takes another way.
        self.turns = rng.choice([0.005, 0.02, 0.1], (WALKERS, 1))
        self.solid = grid.solid.astype(bool)
        self.walks = 0

    def outside(self) -> NDArray[np.float64]:
        """(walkers, 3) places just outside the entry."""
        y, z = self._rng.uniform(0.1, 2.9, WALKERS), self._rng.uniform(-0.5, 1.1, WALKERS)
        return np.stack([np.full(WALKERS, 3.1), y, z], axis=1)

    def points(self) -> NDArray[np.float64]:
        """(walkers, points, 3) of all bodies."""
        return np.concatenate([self.trunk[:, None] + 0.9 * BODY, self.hands], axis=1)

    def voxel(self, points: NDArray[np.float64]) -> tuple[NDArray[np.intp], ...]:
        at = np.floor((points - self._grid.lower) / SIZE).astype(np.intp)
        return tuple(np.moveaxis(np.clip(at, 0, np.array(self._grid.shape) - 1), -1, 0))

    def move(self, dt: float) -> None:
        """Everybody moves as fast as allowed and turns now and then; who would leave or enter a wall stands still."""
        turning = self._rng.random((WALKERS, 3)) < self.turns
        self.heading[turning] = self._rng.normal(size=(int(turning.sum()), 3))
        step = self.heading / np.maximum(np.linalg.norm(self.heading, axis=2, keepdims=True), 1e-9) * dt
        before = self.trunk.copy(), self.hands.copy()
        self.trunk += TORSO * step[:, 0]
        self.hands += HAND * step[:, 1:]
        # Hands stay on their arms: one that would not is carried along with the trunk.
        far = np.linalg.norm(self.hands - self.trunk[:, None], axis=2) > REACH
        self.hands[far] = (before[1] + TORSO * step[:, :1])[far]
        points = self.points()
        low, high = self._grid.lower, self._grid.lower + np.array(self._grid.shape) * SIZE
        # At the entry the body is still outside with a part of it.
        bad = (points < low).any((1, 2)) | (points[..., 1:] > high[1:]).any((1, 2)) | (points[..., 0] > 3.2).any(1)
        bad |= (self.solid[self.voxel(points)] & (points[..., 0] < high[0])).any(1)
        self.trunk[bad], self.hands[bad] = before[0][bad], before[1][bad]
        self.heading[bad] = self._rng.normal(size=(int(bad.sum()), 3, 3))

    def seen(self, free: NDArray[np.bool_]) -> None:
        """Replace those of whom a part was in a voxel that was seen free."""
        points = self.points()
        hit = (free.reshape(self._grid.shape)[self.voxel(points)] & (points[..., 0] < 3.0)).any(1)
        left = np.flatnonzero(~hit)
        if len(left):
            other = self._rng.choice(left, int(hit.sum()))
            self.trunk[hit], self.hands[hit] = self.trunk[other], self.hands[other]
        self.walks += int(hit.sum())
        # One in ten, and all if nobody is left, comes anew from outside the entry.
        anew = hit & (self._rng.random(WALKERS) < (0.1 if len(left) else 1.0))
        self.trunk[anew] = self.outside()[anew]
        self.hands[anew] = self.trunk[anew][:, None]


def uncovered(grid: ClearanceMap, crowd: Crowd, t: float) -> int:
    """Body points that at `t` are in no reachable voxel, or farther than the travel since the map's time from all."""
    points = crowd.points().reshape(-1, 3)
    points = points[points[:, 0] < 3.0]
    home = np.floor((points - grid.lower) / SIZE).astype(int)
    reachable = voxelbits.unpack(grid.reachable(t), grid.shape[2]).astype(bool)
    lost = ~reachable[home[:, 0], home[:, 1], home[:, 2]]
    travel = HAND * max(0.0, t - grid.time)
    if travel >= SIZE:
        return int(np.count_nonzero(lost))
    possible = np.pad(grid.possible.astype(bool), 1)
    found = np.zeros(len(points), bool)
    # Travel is less than a voxel: no other voxel than the 26 round a point can be near enough.
    for offset in np.ndindex(3, 3, 3):
        at = home + offset
        low = grid.lower + (at - 1) * SIZE
        away = np.maximum(0.0, np.maximum(low - points, points - low - SIZE))
        near = np.linalg.norm(away, axis=1) <= travel + 1e-9
        found |= near & possible[at[:, 0], at[:, 1], at[:, 2]]
    return int(np.count_nonzero(lost | ~found))


class RoundedDown(ClearanceMap):
    """A map that forgets the last part of a voxel of travel."""

    def _voxels_of(self, lag: float) -> int:
        return max(0, super()._voxels_of(lag) - 1)


def run(seed: int, fault: str = "") -> tuple[int, int, int]:
    """One map and its crowd for 2.5 s: body points lost, walks, points judged."""
    rng = np.random.default_rng(seed)
    config = PerceptionConfig(voxel=SIZE, least_person_volume=0.0)
    if fault == "slow":
        config = config.model_copy(update={"growth_speed": 1.0})
    grid = (RoundedDown if fault == "rounded down" else ClearanceMap)(CELL, config)
    lookers = Lookers(rng, grid._centres())
    grid.sweep(0.0, [], voxelbits.pack(np.zeros(grid.shape, np.uint8)))
    grid.confirm_clear()
    crowd = Crowd(rng, grid)
    due = lookers.phase.copy() + 0.05
    arriving: list[tuple[float, float, int, NDArray[np.bool_]]] = []
    lost = judged = 0
    for k in range(1, 250):
        t = k * SUBSTEP
        crowd.move(SUBSTEP)
        for n in range(lookers.count):
            if t >= due[n]:
                due[n] += lookers.period[n]
                if rng.random() >= lookers.drop[n]:
                    free = lookers.free(n, t)
                    crowd.seen(free)
                    arriving.append((t + lookers.delay[n], t, n, free))
        here = sorted((a for a in arriving if a[0] <= t), key=lambda a: (a[1], a[2]))
        arriving = [a for a in arriving if a[0] > t]
        for exposure in sorted({a[1] for a in here}):
            together = [a for a in here if a[1] == exposure]
            free = np.logical_or.reduce([a[3] for a in together])
            # What was free when a picture was exposed is, carelessly, taken for free now.
            at = t if fault == "careless" else exposure
            grid.sweep(at, [f"camera {a[2]}" for a in together], voxelbits.pack(free.reshape(grid.shape)))
        if k % 5 == 0 or here:
            lost += uncovered(grid, crowd, t)
            judged += crowd.trunk.shape[0] * (len(BODY) + 2)
    return lost, WALKERS + crowd.walks, judged


@pytest.mark.requirement("PER-03")
def test_every_part_of_ten_thousand_unseen_intruders_is_always_inside_possible_space() -> None:
    """PER-03: bodies with hands at up to 2 m/s, cameras on their own clocks, late and dropped pictures."""
    results = [run(seed) for seed in range(RUNS)]
    assert RUNS * WALKERS >= 10_000
    assert sum(judged for _, _, judged in results) > 3_000_000
    assert [lost for lost, _, _ in results] == [0] * RUNS


@pytest.mark.parametrize("fault", ["slow", "careless", "rounded down"])
def test_the_intruders_find_the_holes_of_a_map_that_is_wrong(fault: str) -> None:
    """Growth at half the speed; late pictures taken for new ones; growth rounded down to whole voxels."""
    assert sum(run(seed, fault)[0] for seed in range(3)) > 0


LINK = ((0.0, 0.0, 0.4), (0.12, 0.12, 0.6))


@pytest.mark.requirement("PER-03")
@pytest.mark.parametrize("apart", [0.0, 0.011])
def test_an_arm_in_the_view_of_one_camera_stops_no_cell_with_two(workcell: Workcell, apart: float) -> None:
    """What its shadow hides from one camera the other sees, also after a walker has crossed, also with own clocks."""
    infos = [camera_info("a"), front_camera()]
    fusion = CameraFusion(infos, workcell, PerceptionConfig(), OneLink())
    fusion.confirm_clear()
    for k in range(1, 40):
        for n, info in enumerate(infos):
            t = 1.0 + k / 30 + n * apart
            boxes = [LINK, ((1.4, 0.6 - 0.05 * k, 0.1), (0.3, 0.5, 1.7))] if k < 16 else [LINK]
            picture = render(info, workcell, boxes, 100 * k + n)
            observation = fusion.step(t + 0.005, [frame(info, picture, k, t)], robot_state(t), [])
            assert observation is not None
            if k == 15:
                assert observation.seen > 0
    balls = np.frombuffer(observation.balls, "<f4").reshape(-1, 4)
    away = balls[:, :3] - np.clip(balls[:, :3], [0.0, 0.0, 0.1], [0.0, 0.0, 0.7])
    assert observation.seen == 0
    assert float((np.linalg.norm(away, axis=1) - balls[:, 3] - 0.1).min()) > 1.2


def test_groups_of_four_voxels_hold_the_bounds_of_those_that_are_visible(workcell: Workcell) -> None:
    fusion = CameraFusion([camera_info("a")], workcell, PerceptionConfig(), OneLink())
    grid, view = fusion.map, fusion._voxels["a"]
    visible = voxelbits.unpack(view.visible, grid.shape[2])
    nx, ny, nz = grid.shape
    box, groups = view.box.reshape(nx, ny, nz, 5), view.group.reshape(nx, ny, -1, 6)
    some = 0
    for i, j, g in np.argwhere(np.ones((nx, ny, (nz + 3) // 4))):
        here = slice(4 * g, 4 * g + 4)
        seen = visible[i, j, here].astype(bool)
        if seen.any():
            low, high = box[i, j, here][seen].min(0), box[i, j, here][seen].max(0)
            assert groups[i, j, g].tolist() == [low[0], high[1], low[2], high[3], high[4], low[4]]
            some += 1
    assert some > 100
