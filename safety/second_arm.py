"""What the second channel knows of the arm: where its links are, and how hard it can brake. Plain float64 numpy.

Geometry comes from the robot description and its URDF by a calculation of its own, braking from the joints' limits by
another one than the robot node's. Nothing here is shared with the first channel but the description itself and, for
torques, the rigid-body model.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from robots.contract import AcceptedMotion, PartGeometry
from robots.description import RobotDescription
from robots.urdf import package_file, read_xml

Array = NDArray[np.float64]
Torque = Callable[[Array, Array, Array], Array]
"""Joint torques (n,) of rigid-body motion q, dq, ddq, Nm."""

JOINT_WINDOW, TORQUE_WINDOW = (0.02, 0.08), (0.05, 0.13)
"""The node brakes with the least of what joints and torques permit from so much behind the arm's place to so much ahead
of it, in its own sampling; these are a little more, nominal s."""
PITCH, TORQUE_PITCH = 0.02, 0.04
"""Nominal time between the places where joints and torques are looked at, s."""
TORQUE_SHARE = 0.95
MOST_SAMPLES = 60_000


class ArmError(Exception):
    """A description or motion the second channel cannot work with; the text says why."""


class _Joint(NamedTuple):
    name: str
    parent: str
    T: Array
    axis: Array


class ArmGeometry:
    """Capsules of an arm with its tool at any joint positions. Immutable."""

    def __init__(self, description: RobotDescription, tool: str) -> None:
        """Raises ArmError if the description and its URDF do not fit, UrdfError if the URDF is missing."""
        tools = description.tools
        if tool not in tools:
            raise ArmError(f"{description.name} has no tool {tool!r}")
        tree = read_xml(package_file(description.urdf.package, description.urdf.path))
        self._by_child = {_text(j.find("child"), "link"): _joint(j) for j in tree.findall("joint")}
        known = {joint.name: child for child, joint in self._by_child.items()}
        missing = [name for name in description.joints if name not in known]
        if missing:
            raise ArmError(f"{description.name}: the URDF has no joints {', '.join(missing)}")
        self._moving = {known[name]: i + 1 for i, name in enumerate(description.joints)}
        self.dof = len(description.joints)
        steps = np.tile(np.eye(4), (self.dof, 1, 1))
        turns: list[Array] = []  # of each joint's axis into z
        for i, name in enumerate(description.joints):
            joint = self._by_child[known[name]]
            owner, T = self._walk(joint.parent)
            if owner != i:
                raise ArmError(f"{description.name}: {name} does not follow the joint before it")
            turns.append(_upright(joint.axis))
            steps[i] = T @ joint.T @ turns[i]
            if i:
                steps[i] = turns[i - 1].T @ steps[i]
        self._steps, self._last_turn = steps, turns[-1]
        mount = _matrix(tools[tool].mount.xyz, tools[tool].mount.rpy)
        self._tcp = mount @ _matrix(tools[tool].tcp.xyz, tools[tool].tcp.rpy)
        found: list[tuple[int, Array, float, str]] = []
        for spec, at_tool in [(s, False) for s in description.capsules] + [(s, True) for s in tools[tool].capsules]:
            owner, T = (self.dof, mount) if at_tool else self._walk(spec.link)
            if owner == 0:
                continue  # bolted to the floor
            ends = np.array([[*spec.a, 1.0], [*spec.b, 1.0]])
            found.append((owner, turns[owner - 1].T @ T @ ends.T, spec.radius, spec.link))
        if [one[0] for one in found] != sorted(one[0] for one in found):
            raise ArmError(f"{description.name}: capsules must run from the base outwards")
        self._radii, self.names = np.array([one[2] for one in found]), tuple(one[3] for one in found)
        # The ends of all capsules of a joint side by side, (4, 2 m).
        self._ends = [
            np.hstack([np.empty((4, 0)), *(one[1] for one in found if one[0] == i + 1)]) for i in range(self.dof)
        ]

    def _walk(self, link: str) -> tuple[int, Array]:
        """Number of the joint that moves a link (0: none) and the link's pose in that joint's frame."""
        T = np.eye(4)
        for _ in range(len(self._by_child) + 1):
            if link in self._moving:
                return self._moving[link], T
            joint = self._by_child.get(link)
            if joint is None:
                return 0, T
            T = joint.T @ T
            link = joint.parent
        raise ArmError(f"the URDF goes in a circle at {link}")

    def _with(self, held: PartGeometry | None) -> tuple[Array, list[Array]]:
        """Radii, and ends by joint, with the held part."""
        if held is None:
            return self._radii, self._ends
        part_ends, radius = part_hull(held)
        in_hand = self._last_turn.T @ self._tcp @ np.vstack([part_ends.T, [1.0, 1.0]])
        return np.append(self._radii, radius), [*self._ends[:-1], np.hstack([self._ends[-1], in_hand])]

    def capsules(self, Q: Array, held: PartGeometry | None = None) -> tuple[Array, Array, Array]:
        """Return axis ends a, b (K, m, 3) in the base frame and radii (m,) at Q (K, dof); the held part comes last."""
        radii, ends = self._with(held)
        moves = self._moves(Q)
        T = np.eye(4)
        points = []
        for i in range(self.dof):
            T = T @ moves[i]
            points.append((T @ ends[i])[:, :3])
        both = np.concatenate(points, axis=2).transpose(0, 2, 1)
        return np.ascontiguousarray(both[:, 0::2]), np.ascontiguousarray(both[:, 1::2]), radii

    def speeds(self, Q: Array, V: Array, held: PartGeometry | None = None) -> Array:
        """Bound (K, m) of the speed of any point of each capsule at joint positions and speeds Q, V (K, dof), m/s.

        A body's velocity field is v(x) = v0 + w x x: summed up joint by joint, taken at both ends of the axis, and on
        the surface by at most radius times |w| more.
        """
        radii, ends = self._with(held)
        T, w, v0 = np.eye(4), np.zeros((len(Q), 3)), np.zeros((len(Q), 3))
        found: list[Array] = []
        first = 0
        for i, move in enumerate(self._moves(Q)):
            T = T @ move
            turn = V[:, i, None] * T[:, :3, 2]
            w, v0 = w + turn, v0 + np.cross(T[:, :3, 3], turn)
            x = (T @ ends[i])[:, :3].transpose(0, 2, 1)
            at = np.linalg.norm(v0[:, None] + np.cross(w[:, None], x), axis=2)
            mine = radii[first : first + at.shape[1] // 2]
            found.append(np.maximum(at[:, 0::2], at[:, 1::2]) + np.linalg.norm(w, axis=1)[:, None] * mine)
            first += len(mine)
        return np.concatenate(found, axis=1)

    @property
    def carried_by(self) -> tuple[int, ...]:
        """Number of the joint that moves each capsule, from 1."""
        return tuple(i + 1 for i, ends in enumerate(self._ends) for _ in range(ends.shape[1] // 2))

    def origins(self, q: Array) -> Array:
        """Return a point on each joint's axis (dof, 3) in the base frame."""
        T, found = np.eye(4), np.empty((self.dof, 3))
        for i, move in enumerate(self._moves(q[None])[:, 0]):
            T = T @ move
            found[i] = T[:3, 3]
        return found

    def tips(self, Q: Array) -> Array:
        """Return where the TCP is (K, 3) at Q (K, dof), base frame."""
        T = np.eye(4)
        for move in self._moves(Q):
            T = T @ move
        at: Array = (T @ (self._last_turn.T @ self._tcp)[:, 3])[:, :3]
        return at

    def shoulder(self, Q: Array) -> Array:
        """Return where the axis of the second joint begins (K, 3) at Q (K, dof), base frame."""
        moves = self._moves(Q)
        at: Array = (moves[0] @ moves[min(1, self.dof - 1)])[:, :3, 3]
        return at

    def _moves(self, Q: Array) -> Array:
        """Transforms (dof, K, 4, 4) from each joint's frame to the one before it."""
        K = len(Q)
        spin = np.zeros((self.dof, K, 4, 4))
        spin[:, :, 0, 0] = spin[:, :, 1, 1] = np.cos(Q).T
        spin[:, :, 1, 0] = np.sin(Q).T
        spin[:, :, 0, 1] = -spin[:, :, 1, 0]
        spin[:, :, 2, 2] = spin[:, :, 3, 3] = 1.0
        moves: Array = self._steps[:, None] @ spin
        return moves


@lru_cache(maxsize=32)
def part_hull(part: PartGeometry) -> tuple[Array, float]:
    """Ends (2, 3) in the TCP frame and radius of a capsule, or a ball where that is smaller, that holds a part's box.

    Raises ArmError for sizes or poses that are no such thing.
    """
    size, pose = np.array(part.size, dtype=np.float64), np.array(part.T_tcp_part, dtype=np.float64)
    if size.shape != (3,) or pose.shape != (7,) or not (np.isfinite(size).all() and np.isfinite(pose).all()):
        raise ArmError("the held part's size and pose are not 3 and 7 finite numbers")
    if (size <= 0.0).any() or abs(float(np.linalg.norm(pose[3:])) - 1.0) > 1e-3:
        raise ArmError("the held part has no size, or its quaternion is not of length 1")
    long = int(np.argmax(size))
    radius = 0.5 * float(np.linalg.norm(np.delete(size, long)))
    ball = 0.5 * float(np.linalg.norm(size))
    if ball <= 0.5 * size[long] + radius:
        return np.array([pose[:3], pose[:3]]), ball
    x, y, z, w = pose[3:] / np.linalg.norm(pose[3:])
    axes = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)],
            [2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)],
            [2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    half = 0.5 * size[long] * axes[long]
    return np.array([pose[:3] - half, pose[:3] + half]), radius


class Course:
    """An accepted motion as the second channel sees it: joint positions and braking along it.

    `table` (K, n): joint positions at places no farther apart than PITCH; `peak` (n,): highest joint speeds there.
    """

    def __init__(
        self, motion: AcceptedMotion, v_max: Array, a_max: Array, tau_max: Array, torque: Torque, down: float
    ) -> None:
        """Raises ArmError for a motion that is torn, not finite or too fast. `down`: fastest fall of the rate, 1/s."""
        n = len(a_max)
        raw = np.frombuffer(motion.path, "<f8") if len(motion.path) % (8 * n) == 0 else np.empty(0)
        if motion.dof != n or not 2 <= len(raw) // n <= MOST_SAMPLES or not np.isfinite(raw).all():
            raise ArmError("the accepted motion is not a whole number of finite joint positions")
        if not (math.isfinite(motion.step) and 0.001 <= motion.step <= 0.1):
            raise ArmError("the accepted motion has no sample time")
        self.motion_id, self.phase = motion.motion_id, motion.phase
        Q = raw.reshape(-1, n).copy()
        self.duration = motion.step * (len(Q) - 1)
        spline = CubicSpline(np.arange(len(Q)) * motion.step, Q, bc_type="clamped")
        self._pitch = min(PITCH, motion.step)
        at = np.arange(0.0, self.duration + self._pitch, self._pitch).clip(0.0, self.duration)
        q, v, acc = spline(at), spline(at, 1), spline(at, 2)
        if (np.abs(v) > v_max * 1.01).any():
            raise ArmError("the accepted motion is faster than the joints are")
        self._spline, self._q, self._v = spline, q, v
        self.table, self.peak = q, np.abs(v).max(axis=0)
        coarse = slice(None, None, max(1, round(TORQUE_PITCH / self._pitch)))
        by_torque = _torque_fall(q[coarse], v[coarse], acc[coarse], TORQUE_SHARE * tau_max, torque)
        by_joint = _joint_fall(v, acc, a_max)
        # Just here, without the node's caution about what comes next.
        self._fall_here = np.minimum(np.minimum(by_joint, np.interp(at, at[coarse], by_torque)), down)
        self._rise_here = _joint_fall(v, -acc, a_max)
        # Between two places the lower of both counts: one place more on either side.
        by_torque = np.interp(at, at[coarse], _least(by_torque, 1, 1))
        joints = _least(by_joint, *(math.ceil(w / self._pitch) for w in JOINT_WINDOW))
        torques = _least(by_torque, *(math.ceil(w / self._pitch) for w in TORQUE_WINDOW))
        self._fall = np.minimum(np.minimum(joints, torques), down)

    def positions(self, progress: Array) -> Array:
        """Joint positions (K, n) at progress (K,), nominal s, clamped to the ends."""
        values: Array = self._spline(np.clip(progress, 0.0, self.duration))
        return values

    def velocities(self, progress: Array) -> Array:
        """Joint speeds (K, n) per unit of rate at progress (K,), rad/s; 0 beyond the ends."""
        within = (progress >= 0.0) & (progress <= self.duration)
        values: Array = self._spline(np.clip(progress, 0.0, self.duration), 1) * within[:, None]
        return values

    def near(self, progress: float) -> Array:
        """Joint positions (n,) at a progress, to a milliradian: linear between the places of a table."""
        at = min(max(progress / self._pitch, 0.0), len(self._q) - 1.0)
        low = min(int(at), len(self._q) - 2)
        row: Array = self._q[low] + (at - low) * (self._q[low + 1] - self._q[low])
        return row

    def speed(self, progress: float) -> Array:
        """Joint speeds (n,) per unit of rate, rad/s, near a progress."""
        nearest = min(max(round(progress / self._pitch), 0), len(self._v) - 1)
        row: Array = self._v[nearest]
        return row

    def braking(self, begin: float, end: float) -> float:
        """Fall of the rate, 1/s, that joints and torques permit everywhere from `begin` to `end` of the progress."""
        first = max(0, math.floor(begin / self._pitch))
        last = math.ceil(end / self._pitch) + 1
        window = self._fall[min(first, len(self._fall) - 1) : last]
        return float(window.min())

    def here(self, progress: float) -> tuple[float, float]:
        """The most by which joints and torques permit the rate to fall, and joints to rise, at one place, 1/s."""
        nearest = min(max(round(progress / self._pitch), 0), len(self._v) - 1)
        return float(self._fall_here[nearest]), float(self._rise_here[nearest])


def _joint_fall(v: Array, acc: Array, a_max: Array) -> Array:
    """Fall of the rate at which no joint needs more than its acceleration, at any rate up to 1. (K,)"""
    speed = np.maximum(np.abs(v), 1e-9)
    against = np.where(v * acc < 0.0, np.maximum(a_max - np.abs(acc), 0.0), a_max)
    least: Array = np.where(np.abs(v) > 1e-6, against / speed, 1e3).min(axis=1)
    return least


def _torque_fall(q: Array, v: Array, acc: Array, limit: Array, torque: Torque) -> Array:
    """The same for torque with gravity. It is linear in rate^2 and in the fall: the ends of the rate decide."""
    result = np.empty(len(q))
    zero = np.zeros(q.shape[1])
    for k in range(len(q)):
        gravity = torque(q[k], zero, zero)
        per_fall = torque(q[k], zero, v[k]) - gravity
        full = torque(q[k], v[k], acc[k])
        room = np.full(len(zero), 1e3)
        heavy = np.abs(per_fall) > 1e-6
        for load in (gravity, full):
            # load - fall * per_fall must stay within +- limit
            spare = limit + np.where(per_fall > 0.0, load, -load)
            room[heavy] = np.minimum(room[heavy], np.maximum(spare[heavy], 0.0) / np.abs(per_fall[heavy]))
        result[k] = room.min()
    return result


def _least(values: Array, behind: int, ahead: int) -> Array:
    """Least of each value (K,) and so many before and after it."""
    padded = np.concatenate([np.full(behind, np.inf), values, np.full(ahead, np.inf)])
    least: Array = np.lib.stride_tricks.sliding_window_view(padded, behind + ahead + 1).min(axis=1)
    return least


def _upright(axis: Array) -> Array:
    """A rotation (4, 4) that takes z into a unit axis."""
    result = np.eye(4)
    across = np.cross([0.0, 0.0, 1.0], axis)
    sine = float(np.linalg.norm(across))
    if sine >= 1e-12:
        result[:3, :3] = _turn(across / sine, np.array([math.atan2(sine, float(axis[2]))]))[0]
    elif axis[2] < 0.0:
        result[:3, :3] = np.diag([1.0, -1.0, -1.0])
    return result


def _turn(axis: Array, angle: Array) -> Array:
    """Rotations (K, 3, 3) about a unit axis (Rodrigues)."""
    x, y, z = axis
    K = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    turned: Array = np.eye(3) + s * K + (1.0 - c) * (K @ K)
    return turned


def _matrix(xyz: tuple[float, ...], rpy: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Array:
    """Homogeneous transform of a URDF origin: rotations about the fixed axes x, y, z in turn."""
    T = np.eye(4)
    for axis, angle in zip(np.eye(3), rpy, strict=True):
        T[:3, :3] = _turn(axis, np.array([angle]))[0] @ T[:3, :3]
    T[:3, 3] = xyz
    return T


def _joint(element: ET.Element) -> _Joint:
    origin = element.find("origin")
    axis = np.array(_numbers(element.find("axis"), "xyz", "1 0 0"))
    length = float(np.linalg.norm(axis))
    if length == 0.0:
        if element.get("type") != "fixed":
            raise ArmError(f"joint {element.get('name')} has no axis")
        length = 1.0
    T = _matrix(_numbers(origin, "xyz", "0 0 0"), _numbers(origin, "rpy", "0 0 0"))
    return _Joint(element.get("name", ""), _text(element.find("parent"), "link"), T, axis / length)


def _numbers(element: ET.Element | None, name: str, default: str) -> tuple[float, ...]:
    text = element.get(name, default) if element is not None else default
    values = tuple(float(v) for v in text.split())
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise ArmError(f"the URDF has {name}={text!r} where three numbers are needed")
    return values


def _text(element: ET.Element | None, name: str) -> str:
    return element.get(name, "") if element is not None else ""
