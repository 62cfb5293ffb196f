"""All cameras together: frames in, one observation of occupied and possible space out. Pure: no sockets, no clock."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception import voxels
from perception.armhistory import ArmHistory, CapsuleModel
from perception.clearance import ClearanceMap, VoxelView
from perception.config import PerceptionConfig
from perception.contract import CameraHealth, CameraInfo, ExpectedPart, Frame, Observation, PointFrame
from perception.health import CameraWatch
from perception.movement import MovementWatch
from perception.tracking import Tracker
from perception.view import CameraView, Capsules, Seen
from robots.contract import RobotState
from robots.workcell import Workcell


class _Latest(NamedTuple):
    exposure: float
    points: NDArray[np.float32]
    overflow: bool


class CameraFusion:
    """Perception over 1-4 depth cameras. `step` is called with what arrived; not thread safe."""

    def __init__(
        self, cameras: list[CameraInfo], workcell: Workcell, config: PerceptionConfig, model: CapsuleModel
    ) -> None:
        if not cameras:
            raise ValueError("perception needs at least one camera")
        if len({c.name for c in cameras}) != len(cameras):
            raise ValueError("two cameras have the same name")
        self._config = config
        self._order = [c.name for c in cameras]
        self.views = {c.name: CameraView(c, workcell, config) for c in cameras}
        self._watches = {c.name: CameraWatch(c, config) for c in cameras}
        lower, upper = (np.asarray(corner, float) for corner in workcell.person_volume)
        self.movement = {c.name: MovementWatch(c, self.views[c.name].background, lower, upper) for c in cameras}
        self.map = ClearanceMap(workcell, config)
        self._workcell = workcell
        self._voxels: dict[str, VoxelView] = {c.name: self.map.view(c, self.views[c.name].background) for c in cameras}
        self.history = ArmHistory(model)
        self._latest: dict[str, _Latest] = {}
        self._overflow = False
        self._balls = np.zeros((config.max_balls, 3), np.float32)
        self._tracker = Tracker()
        self._seq = 0
        self.confirmed = False
        self._waiting: list[Frame] = []

    def warm_up(self) -> None:
        """Load the compiled kernels with an empty picture; nothing of it stays."""
        spare = ClearanceMap(self._workcell, self._config)
        for view in self.views.values():
            info = view.info.intrinsics
            blank = np.full((info.height, info.width), 900, np.uint16)
            arm = Capsules(np.zeros((1, 3)), np.ones((1, 3)), np.ones(1))
            seen = view.process(Frame(view.info.name, 0, 0.0, blank), arm, [])
            self.movement[view.info.name].warm_up()
            spare.look(0.0, [(self._voxels[view.info.name], np.zeros_like(seen.free))], arm)
            spare.occupy(seen.points, self._config.cell_size)
            spare.drop_pockets(arm)
            spare.balls((arm.a[0], arm.b[0]), self._balls)

    def confirm_clear(self) -> None:
        """A person vouches that nobody is in the unseen part of the cell."""
        self.map.confirm_clear()
        self.confirmed = True

    def step(
        self, now: float, frames: list[Frame], state: RobotState | None, parts: list[ExpectedPart]
    ) -> Observation | None:
        """Take new frames (any order) and the newest robot state; return an observation if a frame was used."""
        if state is not None:
            self.history.add(state)
        admitted = [f for f in frames if f.camera in self._watches and self._watches[f.camera].admit(f, now)]
        used = [
            (frame, arm)
            for frame in sorted(admitted, key=lambda f: (f.exposure, f.camera))
            if (arm := self.history.at(frame.exposure)) is not None
        ]
        if not used:
            return None
        # Cameras exposed at the same moment sweep the map together: nobody passes from one's view into another's.
        for exposure, together in itertools.groupby(used, key=lambda pair: pair[0].exposure):
            self._use(exposure, list(together), parts)
        self.map.drop_pockets(used[-1][1])
        return self._observe(now)

    def _use(self, exposure: float, frames: list[tuple[Frame, Capsules]], parts: list[ExpectedPart]) -> None:
        seen: list[tuple[str, Seen]] = []
        for frame, arm in frames:
            view, movement = self.views[frame.camera], self.movement[frame.camera]
            answer: Seen = view.process(frame, arm, parts)
            seen.append((frame.camera, answer))
            movement.update(frame.depth, view.label)
            self._watches[frame.camera].moved = movement.moved
            self._latest[frame.camera] = _Latest(answer.exposure, answer.points, answer.overflow)
        self.map.look(exposure, [(self._voxels[name], answer.free) for name, answer in seen], frames[0][1])
        for name, answer in seen:
            self.map.occupy(answer.points, self._config.cell_size, exposure, name)

    def _observe(self, now: float) -> Observation:
        reference = max(latest.exposure for latest in self._latest.values())
        oldest = min(latest.exposure for latest in self._latest.values())
        if len(self._latest) < len(self._order):
            oldest = -1.0
        seen = self._seen_balls(reference)
        possible, overflow = self._possible_balls(reference)
        health = [self._watches[name].health(now) for name in self._order]
        reason = self._fault(health, overflow or len(seen) + len(possible) > self._config.max_balls)
        balls = np.concatenate([seen, possible])[: self._config.max_balls]
        self._seq += 1
        return Observation(
            self._seq, reference, oldest, balls.tobytes(), min(len(seen), len(balls)), not reason, reason, health,
            self._tracker.update(seen[:, :3], reference), self.confirmed,
        )  # fmt: skip

    def _seen_balls(self, reference: float) -> NDArray[np.float32]:
        speed, half = self._config.growth_speed, 0.5 * math.sqrt(3.0) * self._config.cell_size
        parts = []
        for latest in self._latest.values():
            parts.append(_balls(latest.points, half + speed * (reference - latest.exposure)))
        return np.concatenate(parts)

    def _possible_balls(self, reference: float) -> tuple[NDArray[np.float32], bool]:
        newest = self.history.newest
        if newest is None:
            return np.zeros((0, 4), np.float32), True
        arm = self.history.at(newest.t)
        if arm is None:
            return np.zeros((0, 4), np.float32), True
        box = np.minimum(arm.a, arm.b).min(0), np.maximum(arm.a, arm.b).max(0)
        count = self.map.balls(box, self._balls)
        grown = self.map.ball_radius + self._config.growth_speed * max(0.0, reference - self.map.time)
        kept = self._balls[: min(count, len(self._balls))]
        return _balls(kept, grown), count > len(self._balls)

    def _fault(self, health: list[CameraHealth], overflow: bool) -> str:
        bad = [f"camera {h.name}: {h.reason}" for h in health if not h.ok]
        if not self.confirmed:
            bad.append("nobody has confirmed since start that the cell is clear")
        if overflow or any(latest.overflow for latest in self._latest.values()):
            bad.append("more occupied space than can be handled: cannot tell where people are")
        return "; ".join(bad)

    def health(self, now: float) -> list[CameraHealth]:
        """Return the verdict on every camera."""
        return [self._watches[name].health(now) for name in self._order]


def _balls(centres: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    balls = np.empty((len(centres), 4), np.float32)
    balls[:, :3], balls[:, 3] = centres, radius
    return balls


class PointFusion:
    """Perception from a point source (the twin's `surface` mode): no cameras, no unseen space, otherwise the same."""

    def __init__(self, config: PerceptionConfig) -> None:
        self._config = config
        self._seq = 0
        self._last: PointFrame | None = None
        self._tracker = Tracker()
        self.confirmed = False

    def confirm_clear(self) -> None:
        """As `CameraFusion.confirm_clear`."""
        self.confirmed = True

    def warm_up(self) -> None:
        """Use the tracker's and the cells' libraries once; nothing of it stays."""
        Tracker().update(merge_cells(np.zeros((20, 3), np.float32), self._config.cell_size), 0.0)

    def step(self, now: float, frames: list[PointFrame]) -> Observation | None:
        """Take new point frames; return an observation if one is newer than the last."""
        fresh = [f for f in frames if self._last is None or f.exposure > self._last.exposure]
        fresh = [f for f in fresh if math.isfinite(f.exposure) and f.exposure <= now + 0.001]
        if not fresh:
            return None
        frame = max(fresh, key=lambda f: f.exposure)
        self._last = frame
        self._seq += 1
        # One bad point makes all of it a single NaN.
        cells = merge_cells(frame.points, self._config.cell_size)
        finite = not len(cells) or bool(np.isfinite(cells[0]).all())
        balls = _balls(cells, 0.5 * math.sqrt(3.0) * self._config.cell_size)
        reason = "" if self.confirmed else "nobody has confirmed since start that the cell is clear"
        if len(balls) > self._config.max_balls or not finite:
            reason = "more occupied space than can be handled: cannot tell where people are"
            balls = np.zeros((0, 4), np.float32)
        health = [CameraHealth(frame.camera, True, "", frame.exposure, 1.0, 0)]
        return Observation(
            self._seq, frame.exposure, frame.exposure, balls.tobytes(), len(balls), not reason, reason, health,
            self._tracker.update(cells, frame.exposure), self.confirmed,
        )  # fmt: skip


def merge_cells(points: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    """Return the centres of the cells of edge `size` that (n, 3) points fall into, one entry a cell.

    A single NaN if a point is not finite or farther than 1000 m: an answer that cannot be taken for free space."""
    out = np.empty((len(points), 3), np.float32)
    table = np.empty(1 << max(4, (2 * len(points)).bit_length()), np.int64)
    count = voxels.merge_cells(np.ascontiguousarray(points, np.float32), size, table, out)
    return np.full((1, 3), np.nan, np.float32) if count < 0 else out[:count]
