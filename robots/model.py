"""An arm with its tool: kinematics, limits, the capsules that enclose it, gravity."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pinocchio
from numpy.typing import ArrayLike, NDArray

from robots import kinematics
from robots.contract import PartGeometry
from robots.description import (
    CapsuleSpec,
    ModelError,
    RobotDescription,
    ToolSpec,
    available_models,
    load_description,
)
from robots.dynamics import Bodies
from robots.kinematics import Chain
from robots.urdf import package_file, transform

__all__ = ["IkError", "ModelError", "RobotModel", "available_models", "part_capsule"]

Array = NDArray[np.float64]


class IkError(Exception):
    """No joint position puts the TCP at the pose asked for. `reason`: `invalid`, `out_of_reach` or `no_solution`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class RobotModel:
    """Immutable; `load` returns one shared instance for each arm and tool, safe for use from several threads."""

    def __init__(self, description: RobotDescription, tool_name: str) -> None:
        tool = description.tools[tool_name]
        self.description = description
        self.name = description.name
        self.tool_name = tool_name
        self.tool: ToolSpec = tool
        self.urdf_path = package_file(description.urdf.package, description.urdf.path)
        self._pin = _reduced_model(description, str(self.urdf_path), tool)
        self._data = self._pin.createData()
        self.joint_names: tuple[str, ...] = tuple(description.joints)
        self.dof = len(self.joint_names)
        limits = description.limits
        self.q_lower = _fixed(limits.q_lower)
        self.q_upper = _fixed(limits.q_upper)
        self.v_max = _fixed(limits.v_max)
        self.a_max = _fixed(limits.a_max)
        self.j_max = _fixed(limits.j_max)
        self.tau_max = _fixed(limits.tau_max)
        self.home = _fixed([math.radians(v) for v in description.home_deg])
        self.gripper_max = tool.opening_max
        self.link_names: tuple[str, ...] = tuple(c.link for c in [*description.capsules, *tool.capsules])
        """Names of the capsules, from the base outwards; the tool's come last."""
        self.chain = self._make_chain()
        self.bodies = self._make_bodies()
        self.elbow_frame = self._pin.frames[self._pin.getFrameId(description.elbow_link)].parentJoint
        self.reach = float(sum(np.linalg.norm(p) for p in self.chain.p) + np.linalg.norm(self.chain.tcp_p))
        self._held: dict[PartGeometry, Chain] = {}

    @staticmethod
    def load(name: str, tool: str | None = None) -> RobotModel:
        """Return the model of an arm by name, with its default tool or the named one.

        Raises:
            ModelError: unknown arm or tool, or an inconsistent description.
            UrdfError: the package with the URDF is not installed.
        """
        return _load(name, tool)

    def _make_chain(self) -> Chain:
        R = np.array([np.array(self._pin.jointPlacements[i + 1].rotation) for i in range(self.dof)])
        p = np.array([np.array(self._pin.jointPlacements[i + 1].translation) for i in range(self.dof)])
        T_mount = transform(self.tool.mount.xyz, self.tool.mount.rpy)
        T_tcp = T_mount @ transform(self.tool.tcp.xyz, self.tool.tcp.rpy)
        owners, ends = [], []
        for spec in self.description.capsules:
            owner, T = self._link_frame(spec.link)
            owners.append(owner)
            ends.append(_ends(spec, T))
        for spec in self.tool.capsules:
            owners.append(self.dof)
            ends.append(_ends(spec, T_mount))
        return _contiguous(
            Chain(
                R,
                p,
                np.ascontiguousarray(T_tcp[:3, :3]),
                T_tcp[:3, 3].copy(),
                np.array(owners, dtype=np.int64),
                np.array([e[0] for e in ends]),
                np.array([e[1] for e in ends]),
                np.array([e[2] for e in ends], dtype=np.float64),
            )
        )

    def _make_bodies(self) -> Bodies:
        inertias = [self._pin.inertias[i + 1] for i in range(self.dof)]
        return Bodies(
            np.array([float(body.mass) for body in inertias]),
            np.array([np.array(body.lever) for body in inertias]),
            np.array([np.array(body.inertia) for body in inertias]),
        )

    def _link_frame(self, link: str) -> tuple[int, Array]:
        """Number of the moving frame a link is fixed to, and the link's pose in it."""
        if not self._pin.existFrame(link):
            raise ModelError(f"{self.name}: capsule table names a link the URDF does not have: {link}")
        frame = self._pin.frames[self._pin.getFrameId(link)]
        return int(frame.parentJoint), np.array(frame.placement.homogeneous)

    # ------------------------------------------------------------ kinematics

    def fk(self, q: ArrayLike) -> Array:
        """Return the pose of the TCP in the base frame, (4, 4), at joint positions q (dof,), rad."""
        T = np.empty((4, 4))
        kinematics.tcp_pose(self.chain, self._vector(q), T)
        return T

    def jacobian(self, q: ArrayLike) -> Array:
        """Return the Jacobian (6, dof) at the TCP in base-aligned axes: linear rows first, then angular."""
        T, J = np.empty((4, 4)), np.empty((6, self.dof))
        kinematics.tcp_and_jacobian(self.chain, self._vector(q), T, J)
        return J

    def tcp_path(self, Q: ArrayLike) -> Array:
        """Return the TCP positions (K, 3) along configurations Q (K, dof)."""
        rows = self._matrix(Q)
        out = np.empty((rows.shape[0], 3))
        kinematics.tcp_positions(self.chain, rows, out)
        return out

    def frames(self, q: ArrayLike) -> tuple[Array, Array]:
        """Return rotations (dof + 1, 3, 3) and origins (dof + 1, 3) of base and links in the base frame."""
        R, p = np.empty((self.dof + 1, 3, 3)), np.empty((self.dof + 1, 3))
        kinematics.link_frames(self.chain, self._vector(q), R, p)
        return R, p

    def elbow(self, q: ArrayLike) -> Array:
        """Return the elbow point (3,) in the base frame, m."""
        return self.frames(q)[1][self.elbow_frame].copy()

    def elbow_path(self, Q: ArrayLike) -> Array:
        """Return the elbow points (K, 3) along configurations Q (K, dof)."""
        return np.array([self.elbow(q) for q in self._matrix(Q)]).reshape(-1, 3)

    def capsules(self, q: ArrayLike, held: PartGeometry | None = None) -> tuple[Array, Array, Array]:
        """Return capsule axis ends a, b (n, 3) in the base frame and radii (n,), m. `held` adds the part held."""
        chain = self.chain_with(held)
        a, b = np.empty_like(chain.a), np.empty_like(chain.b)
        kinematics.capsule_ends(chain, self._vector(q), a, b)
        return a, b, chain.radius

    def capsule_paths(self, Q: ArrayLike, held: PartGeometry | None = None) -> tuple[Array, Array, Array]:
        """Return capsule axis ends a, b (K, n, 3) along configurations Q (K, dof), and radii (n,)."""
        chain, rows = self.chain_with(held), self._matrix(Q)
        a = np.empty((rows.shape[0], len(chain.owner), 3))
        b = np.empty_like(a)
        kinematics.capsule_paths(chain, rows, a, b)
        return a, b, chain.radius

    def capsule_names(self, held: PartGeometry | None = None) -> tuple[str, ...]:
        """Names of the capsules in the order of `capsules`; a held part is called `held`."""
        return self.link_names if held is None else (*self.link_names, "held")

    def chain_with(self, held: PartGeometry | None) -> Chain:
        """Return the kernel arrays, with one more capsule for the held part. Raises ValueError for a wrong part."""
        if held is None:
            return self.chain
        chain = self._held.get(held)
        if chain is None:
            if len(self._held) > 64:
                self._held.clear()
            chain = self._held[held] = self._extend(held)
        return chain

    def _extend(self, held: PartGeometry) -> Chain:
        a, b, radius = part_capsule(held)
        c = self.chain
        ends = [c.tcp_R @ end + c.tcp_p for end in (a, b)]
        return _contiguous(
            c._replace(
                owner=np.append(c.owner, self.dof),
                a=np.vstack([c.a, ends[0]]),
                b=np.vstack([c.b, ends[1]]),
                radius=np.append(c.radius, radius),
            )
        )

    # ------------------------------------------------------------ limits, inverse kinematics, dynamics

    def in_limits(self, q: ArrayLike, margin: float = 0.0) -> bool:
        """Whether q is finite and inside the position limits by `margin` rad."""
        v = np.asarray(q, dtype=np.float64)
        if v.shape != (self.dof,) or not np.isfinite(v).all():
            return False
        return bool(((v >= self.q_lower + margin) & (v <= self.q_upper - margin)).all())

    def ik(
        self,
        T_base_tcp: ArrayLike,
        seed: ArrayLike,
        *,
        restarts: int = 24,
        position_tolerance: float = 1e-6,
        rotation_tolerance: float = 1e-6,
        margin: float = 1e-3,
    ) -> Array:
        """Return joint positions (dof,) that put the TCP at the pose (4, 4), as near to `seed` as was found.

        Damped least squares from the seed; where that ends elsewhere, from a fixed sequence of starts that move ever
        farther from the seed. Among the first three solutions of those the nearest is taken. `restarts=0`: pure
        continuation of the seed. The same arguments always give the same answer.

        Raises:
            IkError: pose or seed invalid, pose out of reach, or no solution inside the joint limits.
        """
        goal = np.ascontiguousarray(T_base_tcp, dtype=np.float64)
        start = self._vector(seed)
        _check_pose(goal)
        distance = float(np.linalg.norm(goal[:3, 3] - self.chain.p[0]))
        if distance > self.reach - np.linalg.norm(self.chain.p[0]):
            raise IkError("out_of_reach", f"{_place(goal)} is {distance:.2f} m from the shoulder, beyond the arm")
        lower, upper = self.q_lower + margin, self.q_upper - margin
        random = np.random.default_rng(7)
        found: list[Array] = []
        for attempt in range(restarts + 1):
            q = np.clip(start, lower, upper)
            if attempt:
                spread = min(1.0, attempt / 8) * (upper - lower) / 2
                q = np.clip(q + random.uniform(-1.0, 1.0, self.dof) * spread, lower, upper)
            steps = 60 if attempt == 0 else 120
            ok, _, _ = kinematics.solve_ik(
                self.chain, goal, q, lower, upper, steps, position_tolerance, rotation_tolerance
            )
            if ok and attempt == 0:
                return q
            if ok:
                found.append(q)
                if len(found) == 3:
                    break
        if not found:
            raise IkError("no_solution", f"{_place(goal)} cannot be reached in that orientation within joint limits")
        return min(found, key=lambda q: float(np.abs(q - start).max()))

    def gravity(self, q: ArrayLike) -> Array:
        """Return the joint torques (dof,) that hold the arm against gravity at q, Nm."""
        return np.array(pinocchio.computeGeneralizedGravity(self._pin, self._data, self._vector(q)))

    def torque(self, q: ArrayLike, dq: ArrayLike, ddq: ArrayLike) -> Array:
        """Return the joint torques (dof,) of rigid-body dynamics, Nm (recursive Newton-Euler)."""
        v, a = self._vector(dq), self._vector(ddq)
        return np.array(pinocchio.rnea(self._pin, self._data, self._vector(q), v, a))

    def _vector(self, q: ArrayLike) -> Array:
        v = np.ascontiguousarray(q, dtype=np.float64)
        if v.shape != (self.dof,):
            raise ValueError(f"{self.name} has {self.dof} joints, got an array of shape {v.shape}")
        return v

    def _matrix(self, Q: ArrayLike) -> Array:
        rows = np.ascontiguousarray(Q, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dof:
            raise ValueError(f"{self.name} has {self.dof} joints, got an array of shape {rows.shape}")
        return rows


def part_capsule(part: PartGeometry) -> tuple[Array, Array, float]:
    """Return a capsule (a, b, radius) in the TCP frame, along an edge of the part's box, that holds the whole box.

    Raises:
        ValueError: sizes or pose are not finite, sizes not in (0, 2] m, or the quaternion is not a unit one.
    """
    size, pose = np.asarray(part.size, dtype=np.float64), np.asarray(part.T_tcp_part, dtype=np.float64)
    if size.shape != (3,) or pose.shape != (7,) or not (np.isfinite(size).all() and np.isfinite(pose).all()):
        raise ValueError(f"part {part.name}: size and pose must be 3 and 7 finite numbers")
    if (size <= 0).any() or (size > 2).any() or abs(np.linalg.norm(pose[3:]) - 1) > 1e-3 or abs(pose[:3]).max() > 2:
        raise ValueError(f"part {part.name}: edges must lie in (0, 2] m, the quaternion must be of length 1")
    best = (math.inf, 0, 0.0, 0.0)
    for axis, share in itertools.product(range(3), np.linspace(0.0, 1.0, 21)):
        rest = np.delete(size, axis) / 2
        half = float(size[axis]) / 2 * float(share)
        radius = math.sqrt(float(rest @ rest) + (float(size[axis]) / 2 - half) ** 2)
        volume = math.pi * radius**2 * (2 * half + 4 / 3 * radius)
        best = min(best, (volume, axis, half, radius))
    _, axis, half, radius = best
    direction = pinocchio.Quaternion(*pose[[6, 3, 4, 5]]).normalized().toRotationMatrix()[:, axis]
    return pose[:3] - half * direction, pose[:3] + half * direction, radius + 1e-6


@functools.lru_cache(maxsize=16)
def _load(name: str, tool: str | None) -> RobotModel:
    description = load_description(name)
    tool_name = tool or description.default_tool
    if tool_name not in description.tools:
        raise ModelError(f"{name} has no tool {tool_name!r}: choose one of {', '.join(sorted(description.tools))}")
    return RobotModel(description, tool_name)


def _reduced_model(description: RobotDescription, urdf: str, tool: ToolSpec) -> Any:
    """The pinocchio model with only the arm's joints free, and the tool's own mass added."""
    full = pinocchio.buildModelFromUrdf(urdf)
    missing = [j for j in description.joints if not full.existJointName(j)]
    if missing:
        raise ModelError(f"{description.name}: the URDF has no joints {', '.join(missing)}")
    locked = [i for i in range(1, full.njoints) if full.names[i] not in description.joints]
    model = pinocchio.buildReducedModel(full, locked, pinocchio.neutral(full))
    if list(model.names)[1:] != description.joints or any(model.parents[i] != i - 1 for i in range(1, model.njoints)):
        raise ModelError(f"{description.name}: joints must be listed from the base outwards and form one chain")
    if any(model.joints[i].shortname() != "JointModelRZ" for i in range(1, model.njoints)):
        raise ModelError(f"{description.name}: every joint must turn about the z axis of its frame")
    if tool.mass > 0:
        T = transform(tool.mount.xyz, tool.mount.rpy) @ transform(tool.com)
        inertia = pinocchio.Inertia(tool.mass, np.zeros(3), np.eye(3) * tool.mass * 0.05**2)
        model.appendBodyToJoint(model.njoints - 1, inertia, pinocchio.SE3(T))
    return model


def _ends(spec: CapsuleSpec, T: Array) -> tuple[Array, Array, float]:
    return T[:3, :3] @ np.array(spec.a) + T[:3, 3], T[:3, :3] @ np.array(spec.b) + T[:3, 3], spec.radius


def _fixed(values: list[float]) -> Array:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


def _contiguous(chain: Chain) -> Chain:
    """The same chain with every array C-contiguous, as the kernels are compiled for."""
    fields: list[Any] = [np.ascontiguousarray(field) for field in chain]
    return Chain(*fields)


def _check_pose(T: Array) -> None:
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise IkError("invalid", "the pose is not a finite 4x4 matrix")
    if abs(T[:3, :3] @ T[:3, :3].T - np.eye(3)).max() > 1e-6 or np.linalg.det(T[:3, :3]) < 0:
        raise IkError("invalid", "the pose has no proper rotation matrix")


def _place(T: Array) -> str:
    return f"position ({T[0, 3]:.3f}, {T[1, 3]:.3f}, {T[2, 3]:.3f}) m"
