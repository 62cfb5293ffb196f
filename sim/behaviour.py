"""Scripted behaviour: a person stands, walks, reaches, crouches, runs, plays clips - as one continuous run of poses."""

from __future__ import annotations

import functools
import math

import numpy as np

from sim import body as b
from sim.body import Body
from sim.config import Behaviour, ClipPlacement, Crouch, Person, PlayClip, ReachInto, RunAt, Stand, WalkTo
from sim.mocap import read_clip
from sim.poses import crouching, reaching, stand_pose
from sim.retarget import RATE, Frames, join, lowest, placed, retarget, to_heading
from sim.rotations import F64, blend

HAND_LIMIT, TRUNK_LIMIT = 2.0, 1.6
"""Scripted people (except runners) keep hands and trunk below these speeds, m/s."""
LIMB_LIMIT = 2.5
"""No other joint of a person who reaches or crouches is faster, m/s (feet of walking people are)."""
BLEND_SPEED = 1.0
"""Nothing moves faster than this while one pose blends into another, m/s."""
STRIDE_TIME = 0.7
"""Starting and stopping take at least so long, s."""
TURN_SPEED = 1.6
"""rad/s."""
_HANDS = ("finger3-3.L", "finger3-3.R")
_TRUNK = ("root", "spine01", "neck01", "head")


def smooth(u: F64) -> F64:
    """Quintic from 0 to 1 with zero speed and acceleration at both ends."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)


@functools.lru_cache(maxsize=4)
def _gait(body_name: str, clip: str) -> tuple[Frames, float]:
    """One cycle on the spot, heading +x, its ends equal; and the distance one cycle covers, m."""
    body = b.load_body(body_name)
    frames = retarget(body, read_clip(clip))
    n = len(frames)
    stride = float(frames.roots[-1, 0] - frames.roots[0, 0])
    roots = frames.roots.copy()
    u = np.linspace(0.0, 1.0, n)[:, None]
    roots -= u * (roots[-1] - roots[0])
    roots[:, :2] -= roots[:, :2].mean(axis=0)
    # The last tenth runs into the first frame, so that the cycle closes.
    part = smooth((u - 0.9) / 0.1)[:, :, None]
    rotations = blend(frames.rotations, np.broadcast_to(frames.rotations[0], frames.rotations.shape), part)
    return Frames(roots, rotations), abs(stride)


def key_points(body: Body, frames: Frames, bones: tuple[str, ...]) -> F64:
    """(n, bones, 3) heads of bones over a run of poses."""
    index = [body.bone(name) for name in bones]
    return np.array(
        [b.transforms(body, r, q)[index, :, 3] for r, q in zip(frames.roots, frames.rotations, strict=True)]
    )


def paced(
    body: Body, frames: Frames, hand: float = HAND_LIMIT, trunk: float = TRUNK_LIMIT, rest: float = math.inf
) -> Frames:
    """Stretch time where hands, trunk or any other joint would be faster than the limits, m/s; frames stay `RATE`
    apart, and a leap between two frames becomes a motion."""
    limits = np.full(len(body.bones), rest)
    for names, limit in ((_TRUNK, trunk), (_HANDS, hand)):
        for name in names:
            index = body.bone(name)
            limits[index] = min(limits[index], limit)
    # Between two frames far apart joints travel on arcs, which only the finer frames of a first pass show.
    for _ in range(4):
        if len(frames) < 2:
            return frames
        points = key_points(body, frames, body.bones)
        distance = np.linalg.norm(np.diff(points, axis=0), axis=2)
        steps = np.maximum((distance / (0.94 * limits)).max(axis=1), 1.0 / RATE)
        times = np.concatenate([[0.0], np.cumsum(steps)])
        if times[-1] <= (len(frames) - 1) / RATE + 1e-9:
            return frames
        wanted = np.arange(math.ceil(times[-1] * RATE) + 1) / RATE
        frames = at_times(frames, times, np.minimum(wanted, times[-1]))
    return frames


def at_times(frames: Frames, times: F64, wanted: F64) -> Frames:
    """Poses at `wanted` of frames given at `times` (increasing)."""
    low = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 2)
    part = (wanted - times[low]) / (times[low + 1] - times[low])
    roots = frames.roots[low] + part[:, None] * (frames.roots[low + 1] - frames.roots[low])
    return Frames(roots, blend(frames.rotations[low], frames.rotations[low + 1], part[:, None, None]))


class Choreography:
    """Builds one person's poses, behaviour after behaviour; each begins where the one before ended."""

    def __init__(self, body: Body, x: float, y: float, yaw: float, floor: float = 0.0) -> None:
        """`floor`: its height in the frame in which targets of `reach_into` are given; poses have the floor at 0."""
        self.body = body
        self._floor = floor
        self.loop_from: int | None = None
        """Frame from which the run repeats for ever; None: the last pose is held."""
        self._stand = stand_pose(body)
        self._pieces: list[Frames] = [placed(self._stand, x, y, yaw)]
        self._upright = True

    @property
    def last(self) -> Frames:
        return self._pieces[-1].part(-1)

    @property
    def count(self) -> int:
        return sum(len(p) for p in self._pieces)

    def frames(self) -> Frames:
        """Everything so far; quaternion signs are continuous."""
        from sim.rotations import continuous

        run = join(*self._pieces)
        return Frames(run.roots, continuous(run.rotations))

    def add(self, frames: Frames) -> None:
        if len(frames):
            self._pieces.append(frames)

    def place(self) -> tuple[float, float, float]:
        """Where the person is now: x, y (m), yaw (rad)."""
        root = self.last.roots[0]
        return float(root[0]), float(root[1]), to_heading(self.last.rotations[0, b.PELVIS])

    # ------------------------------------------------------------ behaviours

    def perform(self, item: Behaviour) -> None:
        """Append one behaviour. Raises ClipError."""
        if isinstance(item, Stand):
            self.stand_up()
            self.hold(item.duration or 0.0)
        elif isinstance(item, WalkTo):
            self.walk(item.position, item.speed, "humanoid3d_walk", 1.2, HAND_LIMIT, TRUNK_LIMIT)
        elif isinstance(item, RunAt):
            self.walk(item.position, item.speed, "humanoid3d_run", 4.0, math.inf, math.inf)
        elif isinstance(item, ReachInto):
            self.reach(np.array(item.target) - np.array([0.0, 0.0, self._floor]), item.hand, item.speed, item.hold)
        elif isinstance(item, Crouch):
            self.crouch(item.depth, item.speed, item.hold)
        elif isinstance(item, PlayClip):
            self.stand_up()
            self.play(item.clip, item.loop)

    def hold(self, seconds: float) -> None:
        count = round(seconds * RATE)
        last = self.last
        self.add(Frames(np.repeat(last.roots, count, axis=0), np.repeat(last.rotations, count, axis=0)))

    def blend_to(self, target: Frames, speed: float = BLEND_SPEED) -> None:
        """Blend from the present pose into `target` (one frame), no joint faster than `speed`."""
        start = self.last
        points = key_points(self.body, join(start, target), self.body.bones)
        far = float(np.linalg.norm(points[1] - points[0], axis=1).max())
        # 1.875 is the peak of the quintic's speed over its mean.
        count = max(math.ceil(RATE * max(0.2, 1.875 * far / speed)), 2)
        part = smooth(np.arange(count + 1) / count)
        roots = start.roots + part[:, None] * (target.roots - start.roots)
        rotations = blend(
            np.repeat(start.rotations, count + 1, axis=0),
            np.repeat(target.rotations, count + 1, axis=0),
            part[:, None, None],
        )
        # Joints travel on arcs, which are longer than the straight way.
        self.add(paced(self.body, Frames(roots, rotations), speed, speed, speed).part(1))

    def stand_up(self) -> None:
        """Blend into the standing pose where the person is; nothing if already there."""
        if not self._upright:
            self.blend_to(placed(self._stand, *self.place()))
            self._upright = True

    def turn(self, yaw: float) -> None:
        """Turn on the spot to look along `yaw`, rad."""
        self.stand_up()
        x, y, now = self.place()
        delta = (yaw - now + math.pi) % (2 * math.pi) - math.pi
        if abs(delta) < 1e-3:
            return
        count = max(math.ceil(RATE * 1.875 * abs(delta) / TURN_SPEED), 2)
        for part in smooth(np.arange(1, count + 1) / count):
            self.add(placed(self._stand, x, y, now + float(part) * delta))

    def walk(
        self, position: tuple[float, float], speed: float, clip: str, acceleration: float, hand: float, trunk: float
    ) -> None:
        """Turn towards `position`, go there in a straight line, stop."""
        x, y, _ = self.place()
        dx, dy = position[0] - x, position[1] - y
        distance = math.hypot(dx, dy)
        if distance < 0.03:
            self.stand_up()
            return
        yaw = math.atan2(dy, dx)
        self.turn(yaw)
        cycle, stride = _gait(self.body.name, clip)
        # Legs need time to find into their stride and out of it.
        travelled, velocity = _trapezoid(distance, speed, min(acceleration, speed / STRIDE_TIME))
        weight = smooth(velocity / (0.6 * velocity.max()))[:, None, None]
        phase = (travelled / stride % 1.0) * (len(cycle) - 1)
        low = phase.astype(int)
        gait = blend(cycle.rotations[low], cycle.rotations[low + 1], (phase - low)[:, None, None])
        standing = np.repeat(self._stand.rotations, len(travelled), axis=0)
        arms = [b.L_SHOULDER, b.L_ELBOW, b.L_WRIST, b.R_SHOULDER, b.R_ELBOW, b.R_WRIST]
        # Arms swing half as far as the recorded walker's, who walks faster than people do in a workshop.
        share = np.ones((1, b.DRIVEN, 1))
        share[:, arms] = 0.5 if math.isfinite(hand) else 1.0
        run = Frames(np.repeat(self._stand.roots, len(travelled), axis=0), blend(standing, gait, weight * share))
        run.roots[:, 1] += weight[:, 0, 0] * cycle.roots[low, 1]
        run.roots[:, 2] -= lowest(self.body, run, 200)
        run.roots[:, 0] += travelled
        run = placed(run, x, y, yaw)
        if math.isfinite(hand):
            run = paced(self.body, run, hand, trunk)
        self.add(run)
        self._upright = False
        self.stand_up()

    def reach(self, target: F64, hand: str, speed: float, hold: float) -> None:
        """Lead the knuckles of `hand` over to `target`, leaning as far as it takes, stay, and come back."""
        x, y, yaw = self.place()
        away = math.atan2(target[1] - y, target[0] - x)
        if abs((away - yaw + math.pi) % (2 * math.pi) - math.pi) > math.radians(15.0):
            self.turn(away)
        self.stand_up()
        x, y, yaw = self.place()
        side = "L" if hand == "left" else "R"
        knuckle = self.body.bone(f"finger3-1.{side}")
        start = b.transforms(self.body, self.last.roots[0], self.last.rotations[0])[knuckle, :, 3]
        length = float(np.linalg.norm(target - start))
        count = max(math.ceil(RATE * 1.875 * 1.2 * length / speed), 10)
        u = smooth(np.arange(1, count + 1) / count)[:, None]
        middle = 0.5 * (start + target)
        middle[2] = max(start[2], target[2]) + 0.2
        path = (1 - u) ** 2 * start + 2 * u * (1 - u) * middle + u**2 * target
        poses = [reaching(self.body, self._stand, (x, y, yaw), point, side) for point in path]
        run = join(*poses)
        entry = smooth(u[:, 0] / 0.3)[:, None, None]
        run = Frames(run.roots, blend(np.repeat(self.last.rotations, count, axis=0), run.rotations, entry))
        run = paced(self.body, join(self.last, run), min(speed, HAND_LIMIT), min(speed, TRUNK_LIMIT), LIMB_LIMIT)
        self.add(run)
        self.hold(hold)
        self.add(Frames(run.roots[::-1], run.rotations[::-1]))
        self._upright = False
        self.stand_up()

    def crouch(self, depth: float, speed: float, hold: float) -> None:
        """Sink by `depth` with bent knees, stay, and rise."""
        self.stand_up()
        place = self.place()
        count = max(math.ceil(RATE * 1.875 * depth / speed), 10)
        sinks = depth * smooth(np.arange(1, count + 1) / count)
        run = join(*(crouching(self.body, self._stand, place, float(sink)) for sink in sinks))
        run = paced(self.body, join(self.last, run), rest=LIMB_LIMIT)
        self.add(run)
        self.hold(hold)
        self.add(Frames(run.roots[::-1], run.rotations[::-1]))
        self._upright = False
        self.stand_up()

    def play(self, clip: str, loop: bool) -> None:
        """Play a clip from where the person stands. Looped: walk back, look the same way, begin again - for ever."""
        x, y, yaw = self.place()
        run = placed(retarget(self.body, read_clip(clip)), x, y, yaw)
        self.blend_to(run.part(0, 1))
        start = self.count
        self.add(run)
        self._upright = False
        self.stand_up()
        if loop:
            self.walk((x, y), 1.0, "humanoid3d_walk", 1.2, HAND_LIMIT, TRUNK_LIMIT)
            self.turn(yaw)
            self.blend_to(run.part(0, 1))
            self.loop_from = start


def _trapezoid(distance: float, speed: float, acceleration: float) -> tuple[F64, F64]:
    """Distance travelled (m) and speed (m/s) at each frame of a start, a steady run and a stop."""
    top = min(speed, math.sqrt(distance * acceleration))
    ramp = top / acceleration
    duration = distance / top + ramp
    t = np.append(np.arange(1, math.ceil(duration * RATE)) / RATE, duration)
    up = np.minimum(t, ramp)
    down = np.maximum(t - (duration - ramp), 0.0)
    travelled = 0.5 * acceleration * up**2 + top * np.maximum(t - ramp, 0.0) - 0.5 * acceleration * down**2
    velocity = np.maximum(top * np.minimum(1.0, t / ramp) - acceleration * down, 0.0)
    return np.minimum(travelled, distance), velocity


def choreograph(person: Person, floor: float) -> Choreography:
    """All poses of one person of a scenario. Raises ClipError."""
    body = b.load_body(person.body)
    if person.mocap is not None:
        return _clip_person(body, person.mocap)
    assert person.start is not None
    run = Choreography(body, *person.start.position, math.radians(person.start.yaw_deg), floor)
    for item in person.behaviour:
        run.perform(item)
    return run


def _clip_person(body: Body, mocap: ClipPlacement) -> Choreography:
    x, y, yaw = mocap.at
    run = Choreography(body, x, y, math.radians(yaw))
    run.hold(mocap.start_s)
    run.play(mocap.clip, mocap.loop)
    return run
