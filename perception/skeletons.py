"""Skeletons in a running cell: everybody who is followed is looked at in one camera's colours, several times a second.

Labels for people to look at and for reports. Nothing here is read by whoever limits the arm, so that whatever fails,
lags or ends here loosens nothing. Depth is classified anew rather than taken from perception, which waits for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception.armhistory import ArmHistory, CapsuleModel
from perception.config import PerceptionConfig
from perception.contract import (
    CameraInfo,
    ExpectedPart,
    Frame,
    Intrinsics,
    Skeleton,
    SkeletonJoint,
    Skeletons,
    Track,
)
from perception.objects import Thing, points_of, segment
from perception.people import LEAST_EXTENT, MOST_EXTENT, Persistence, foreground_of, label_points
from perception.pose import (
    CONFIDENCE_ON_FOREGROUND,
    TORSO,
    Person,
    PoseError,
    PoseFinder,
    library_silenced,
    widened,
)
from perception.tracking import GATE, Motion
from perception.view import CameraView, Capsules
from robots.contract import RobotState
from robots.workcell import Workcell

F64 = NDArray[np.float64]
STALE = 0.5
"""Pictures and tracks older than this are not looked at, s."""
SAME = 0.8
"""Something seen farther than this beside a track is not of that person, m: half of what outstretched arms reach."""
MOST_ASKED = 4
"""People who are looked at in one step; more take turns."""
MOST_POINTS = 1500
"""Of a person, for the distance from the arm."""
FINE = 600
"""Pictures at least so wide are taken apart at half their resolution, px: that finds nobody's box worse."""
RETRY = 10.0
"""After a failure of the library or a missing model it is tried again, s."""
MISSES = 3
"""A joint that was measured so often where it cannot have gone has gone there."""
NO_COLOUR = "no camera gives colours: set `colour: true` in the options of one"


class _View(NamedTuple):
    """What one picture shows."""

    frame: Frame
    colour: NDArray[np.uint8]
    camera: Intrinsics
    own: NDArray[np.uint16]
    """Depth of what is neither background nor robot, mm; 0 elsewhere."""
    pitch: int
    """Of the pixels that were taken apart."""
    labels: NDArray[np.int32]
    """Number of the thing at each of these."""
    things: list[Thing]
    """Their boxes are in whole pixels of the picture."""
    T: F64
    """(4, 4) camera -> base."""
    arm: Capsules
    """At the exposure."""


class _Sight(NamedTuple):
    """One person in one picture."""

    view: _View
    things: list[Thing]

    @property
    def points(self) -> int:
        return sum(thing.points for thing in self.things)


class JointFilter:
    """Smooths the joints of one person over time; one that jumps is left out, until it stays where it jumped to."""

    def __init__(self) -> None:
        self._joints: dict[str, Motion] = {}
        self._missed: dict[str, int] = {}

    def update(self, person: Person, t: float) -> Person:
        """Return the person (base frame) as at `t`, s, with filtered joints."""
        skeleton = {}
        for name, joint in person.skeleton.items():
            place = self._place(name, joint.position, t) if joint.position is not None else None
            skeleton[name] = joint._replace(position=place)
        places = [p for name in TORSO if (p := skeleton[name].position) is not None]
        position = _triple(np.mean(places, axis=0)) if places else person.position
        return person._replace(skeleton=skeleton, position=position)

    def _place(self, name: str, position: tuple[float, float, float], t: float) -> tuple[float, float, float] | None:
        measured, known = np.asarray(position), self._joints.get(name)
        if known is not None and t - known.t <= STALE:
            if known.off(measured, t) <= GATE:
                known.update(measured, t)
                self._missed[name] = 0
                return _triple(known.position)
            self._missed[name] = self._missed.get(name, 0) + 1
            if self._missed[name] < MISSES:
                return None
        self._joints[name], self._missed[name] = Motion(0, measured, t), 0
        return position


class _Followed:
    """What is kept of one track."""

    def __init__(self) -> None:
        self.gate = Persistence()
        self.joints = JointFilter()
        self.t = -math.inf


class SkeletonCore:
    """Frames with colours in, skeletons out. Not thread safe; `close` ends the library's threads."""

    def __init__(
        self,
        cameras: Sequence[CameraInfo],
        workcell: Workcell,
        config: PerceptionConfig,
        model: CapsuleModel,
        finder: Callable[[], PoseFinder] = lambda: PoseFinder(confidence=CONFIDENCE_ON_FOREGROUND),
    ) -> None:
        """`cameras`: all of the cell; those without colours are left out. `finder` may raise PoseError."""
        self.views = {c.name: CameraView(c, workcell, config) for c in cameras if c.colour}
        self.history = ArmHistory(model)
        self._make = finder
        self._finder: PoseFinder | None = None
        self._reason = "" if self.views else NO_COLOUR
        self._retry = -math.inf
        self._looked = dict.fromkeys(self.views, -math.inf)
        self._followed: dict[int, _Followed] = {}
        self._turn = 0
        self._seq = 0

    def warm_up(self) -> None:
        """Load library, model and kernels before the clock runs."""
        for view in self.views.values():
            k = view.info.intrinsics
            arm = Capsules(np.zeros((1, 3)), np.ones((1, 3)), np.ones(1))
            view.process(Frame(view.info.name, 0, 0.0, np.full((k.height, k.width), 900, np.uint16)), arm, [])
        self._open(0.0)

    def _open(self, now: float) -> PoseFinder | None:
        """The library, opened if it is not and may be tried again."""
        if not self.views or self._finder is not None or now < self._retry:
            return self._finder
        try:
            with library_silenced():
                self._finder = self._make()
                # The first picture costs more than all later ones, and is remarked upon.
                self._finder.find(np.zeros((64, 64, 3), np.uint8))
            self._reason = ""
        except (PoseError, RuntimeError, ValueError, OSError) as error:
            self._fail(str(error), now)
        return self._finder

    def _fail(self, reason: str, now: float) -> None:
        self.close()
        self._reason, self._retry = reason[:300], now + RETRY

    def step(
        self,
        now: float,
        frames: Iterable[Frame],
        states: Iterable[RobotState],
        parts: list[ExpectedPart],
        tracks: Sequence[Track],
    ) -> Skeletons:
        """Look at everybody in `tracks` once. `states`: all of the arm since the last step; `tracks`: empty if they are
        old. What cannot be used is left out."""
        for state in states:
            self.history.add(state)
        views = [view for frame in frames if (view := self._viewed(frame, now, parts)) is not None]
        finder = self._open(now)
        people, asked = [], 0
        if finder is not None and views:
            sights = self._turned(self._sights(views, tracks))
            asked = len(sights)
            try:
                with library_silenced():
                    found = [self._look(finder, track, sight) for track, sight in sights]
                people = [person for person in found if person is not None]
            except (RuntimeError, ValueError) as error:
                self._fail(f"the pose library failed: {error}", now)
        self._forget(now)
        self._seq += 1
        newest = max(self._looked.values(), default=-math.inf)
        t = newest if math.isfinite(newest) else -1.0
        return Skeletons(self._seq, t, not self._reason, self._reason, people, asked)

    def _viewed(self, frame: Frame, now: float, parts: list[ExpectedPart]) -> _View | None:
        """A picture taken apart; None for one that is old, or of which nothing can be told."""
        view, colour = self.views.get(frame.camera), frame.colour
        if view is None or colour is None or not math.isfinite(frame.exposure):
            return None
        k = view.info.intrinsics
        if frame.depth.shape != (k.height, k.width) or colour.shape != (k.height, k.width, 3):
            return None
        arm = self.history.at(frame.exposure)
        if arm is None or not now - STALE <= frame.exposure <= now or frame.exposure <= self._looked[frame.camera]:
            return None
        self._looked[frame.camera] = frame.exposure
        view.process(frame, arm, parts)
        own = np.where(foreground_of(view.label), frame.depth, 0).astype(np.uint16)
        pitch = 1 if k.width < FINE else 2
        found = segment(own[::pitch, ::pitch], coarser(k, pitch))
        things = [_enlarged(thing, pitch) for thing in found.things if max(thing.extent) <= MOST_EXTENT]
        T = np.asarray(view.info.T_base_camera, float).reshape(4, 4)
        return _View(frame, colour, k, own, pitch, found.labels, things, T, arm)

    def _sights(self, views: list[_View], tracks: Sequence[Track]) -> list[tuple[Track, _Sight]]:
        """Everybody who is followed, each in the picture that shows most of them."""
        best: dict[int, tuple[Track, _Sight]] = {}
        for view in views:
            shown: dict[int, list[Thing]] = {}
            for thing in view.things:
                place = _to_base(view.T, thing.position)
                apart = [math.dist(place[:2], track.position[:2]) for track in tracks]
                if apart and min(apart) <= SAME:
                    shown.setdefault(int(np.argmin(apart)), []).append(thing)
            for n, things in shown.items():
                sight = _Sight(view, things)
                if max(max(thing.extent) for thing in things) < LEAST_EXTENT:
                    continue
                if n not in best or sight.points > best[n][1].points:
                    best[n] = tracks[n], sight
        return [best[n] for n in sorted(best)]

    def _turned(self, sights: list[tuple[Track, _Sight]]) -> list[tuple[Track, _Sight]]:
        """At most `MOST_ASKED` of them, in turns."""
        if len(sights) <= MOST_ASKED:
            return sights
        self._turn += MOST_ASKED
        return [sights[(self._turn + i) % len(sights)] for i in range(MOST_ASKED)]

    def _look(self, finder: PoseFinder, track: Track, sight: _Sight) -> Skeleton | None:
        view = sight.view
        boxes = np.array([thing.box for thing in sight.things])
        (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
        crop = widened((left, top, right, bottom))
        seen = finder.find(view.colour, view.own, view.camera, [crop], view.own > 0, whole=False)
        people = [in_base(person, view.T) for person in seen]
        apart = [(_beside(p, track), n) for n, p in enumerate(people)]
        here = [people[n] for off, n in sorted(apart) if off <= SAME]
        followed = self._followed.setdefault(track.id, _Followed())
        t = followed.t = view.frame.exposure
        lasting = followed.gate.update(here[:1])
        if not lasting:
            return None
        return _skeleton(followed.joints.update(lasting[0], t), track, sight)

    def _forget(self, now: float) -> None:
        for number in [n for n, followed in self._followed.items() if now - followed.t > STALE]:
            del self._followed[number]

    def close(self) -> None:
        """End the library's threads. Idempotent."""
        finder, self._finder = self._finder, None
        if finder is not None:
            finder.close()


def coarser(camera: Intrinsics, pitch: int) -> Intrinsics:
    """The camera of every `pitch`-th pixel, beginning with the first."""
    width, height = -(-camera.width // pitch), -(-camera.height // pitch)
    return Intrinsics(width, height, camera.fx / pitch, camera.fy / pitch, camera.cx / pitch, camera.cy / pitch)


def _enlarged(thing: Thing, pitch: int) -> Thing:
    left, top, right, bottom = (pitch * side for side in thing.box)
    return thing._replace(box=(left, top, right, bottom))


def in_base(person: Person, T: F64) -> Person:
    """A person of the camera's frame in the base frame, `T` (4, 4) camera -> base."""
    skeleton = {
        name: joint._replace(position=_to_base(T, joint.position)) if joint.position is not None else joint
        for name, joint in person.skeleton.items()
    }
    position = None if person.position is None else _to_base(T, person.position)
    return person._replace(position=position, skeleton=skeleton)


def _skeleton(person: Person, track: Track, sight: _Sight) -> Skeleton:
    view = sight.view
    points = _points(sight)
    away = distances(points, view.arm)
    n = int(np.argmin(away))
    return Skeleton(
        track=track.id,
        camera=view.frame.camera,
        exposure=view.frame.exposure,
        position=person.position or track.position,
        confidence=person.confidence,
        joints=[SkeletonJoint(k, j.position, j.visibility) for k, j in person.skeleton.items() if j.position],
        nearest_part=label_points(points[n : n + 1], person)[0],
        nearest=_triple(points[n]),
        nearest_distance=float(away[n]),
    )


def _points(sight: _Sight) -> F64:
    """(n, 3) seen points of a person, base frame, m."""
    view = sight.view
    v, u = np.nonzero(np.isin(view.labels, [thing.label for thing in sight.things]))
    step = -(-len(v) // MOST_POINTS)
    coarse = view.own[:: view.pitch, :: view.pitch]
    cloud = points_of(coarse, coarser(view.camera, view.pitch))[v[::step], u[::step]].astype(np.float64)
    return cloud @ view.T[:3, :3].T + view.T[:3, 3]


def distances(points: F64, arm: Capsules) -> F64:
    """(n,) from each of (n, 3) points to the surface of the nearest capsule, m; below 0 inside. Without capsules
    infinite."""
    best = np.full(len(points), np.inf)
    for a, b, r in zip(arm.a, arm.b, arm.r, strict=True):
        along = b - a
        s = np.clip((points - a) @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
        best = np.minimum(best, np.linalg.norm(points - a - s[:, None] * along, axis=1) - r)
    return best


def _beside(person: Person, track: Track) -> float:
    """How far a skeleton stands from a track, m; height does not count."""
    return math.inf if person.position is None else math.dist(person.position[:2], track.position[:2])


def _to_base(T: F64, position: tuple[float, float, float]) -> tuple[float, float, float]:
    return _triple(T[:3, :3] @ np.asarray(position) + T[:3, 3])


def _triple(v: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(v[0]), float(v[1]), float(v[2])
