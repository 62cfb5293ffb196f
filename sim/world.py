"""The physical world in PyBullet: floor, fixtures, parts, the arm with its gripper. One client per world.

People are not part of the contact physics: a kinematic body of infinite mass would push the arm through its drives.
The referee measures people against the arm instead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from robots.workcell import Fixture, Workcell
from sim.arms import ArmSpec
from sim.drives import DriveTarget
from sim.stock import PARK_EVERY, PartBody, Stock

GRAVITY = -9.81
FINGER_FRICTION = 1.0
GRASP_FORCE_LIMIT = 250.0
"""What the grasp constraint can carry before it slips, N."""
TOUCH_FORCE = 0.05
"""A finger touches when its normal contact force exceeds this, N."""
GRASP_DEPTH = 0.11
"""Grasp point: so far along the z axis of the hand, m."""
RELEASE_STEP = 0.0005
"""Opening the fingers by more than this lets go, m."""


class ArmReading(NamedTuple):
    """Measured joints: positions (rad), velocities (rad/s), motor torques (Nm), distance between the fingers (m)."""

    q: NDArray[np.float64]
    dq: NDArray[np.float64]
    tau: NDArray[np.float64]
    fingers: float


class LinkMotion(NamedTuple):
    """True motion of the arm's links; row 0 is the base, then the links in the order of `World.link_names`."""

    position: NDArray[np.float64]
    """(n, 3), link frame origin, base frame, m."""
    quaternion: NDArray[np.float64]
    """(n, 4), x y z w."""
    linear: NDArray[np.float64]
    """(n, 3), velocity of the centre of mass, m/s."""
    angular: NDArray[np.float64]
    """(n, 3), rad/s."""
    com: NDArray[np.float64]
    """(n, 3), centre of mass, m."""


class World:
    """Owns one PyBullet client. Not thread-safe; `close` frees it."""

    def __init__(self, workcell: Workcell, arm: ArmSpec, home: list[float], physics_hz: int) -> None:
        """Load everything and put the arm at `home` (rad). Raises ValueError if `home` does not fit the arm."""
        if len(home) != len(arm.joints):
            raise ValueError(f"home has {len(home)} joints, {arm.model} has {len(arm.joints)}")
        self.arm = arm
        self.workcell = workcell
        self.dt = 1.0 / physics_hz
        self._client = p.connect(p.DIRECT)
        p.setTimeStep(self.dt, physicsClientId=self._client)
        p.setGravity(0, 0, GRAVITY, physicsClientId=self._client)
        p.setPhysicsEngineParameter(
            numSolverIterations=20, deterministicOverlappingPairs=1, enableFileCaching=0, physicsClientId=self._client
        )
        self._load_floor()
        self.fixtures = [self._load_fixture(f) for f in workcell.fixtures if f.solid]
        self._load_arm(home)
        self.stock = Stock(self._client, workcell)
        self._grasp: int | None = None
        self._grasped: PartBody | None = None
        self._grasp_width = 0.0
        self._slipped: set[int] = set()
        self._width_target = 2.0 * arm.finger_range
        self._grip_force = 20.0
        self._finger_speed = 0.05
        self._stuck: dict[int, float] = {}
        self._hand_mass: float | None = None
        self._steps = 0
        self._reading = self._measure()

    # ------------------------------------------------------------ loading

    def _load_floor(self) -> None:
        shape = p.createCollisionShape(p.GEOM_PLANE, physicsClientId=self._client)
        body = p.createMultiBody(0, shape, basePosition=[0, 0, self.workcell.floor], physicsClientId=self._client)
        p.changeDynamics(body, -1, lateralFriction=0.8, physicsClientId=self._client)

    def _load_fixture(self, fixture: Fixture) -> int:
        half = [s / 2 for s in fixture.size]
        shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=half, physicsClientId=self._client)
        body = p.createMultiBody(
            0,
            shape,
            basePosition=list(fixture.pose.position),
            baseOrientation=p.getQuaternionFromEuler(fixture.pose.rpy),
            physicsClientId=self._client,
        )
        p.changeDynamics(body, -1, lateralFriction=0.8, physicsClientId=self._client)
        return int(body)

    def _load_arm(self, home: list[float]) -> None:
        client = self._client
        self.body = int(
            p.loadURDF(
                str(self.arm.urdf),
                baseOrientation=p.getQuaternionFromEuler([0.0, 0.0, self.arm.base_yaw]),
                useFixedBase=True,
                flags=p.URDF_IGNORE_VISUAL_SHAPES,  # nobody looks at this world: cameras have a scene of their own
                physicsClientId=client,
            )
        )
        info = [p.getJointInfo(self.body, i, physicsClientId=client) for i in range(self._joint_count())]
        by_joint = {row[1].decode(): row for row in info}
        self.link_names = [p.getBodyInfo(self.body, physicsClientId=client)[0].decode()] + [
            row[12].decode() for row in info
        ]
        missing = [n for n in (*self.arm.joints, *self.arm.fingers) if n not in by_joint]
        if missing:
            raise ValueError(f"{self.arm.urdf.name} lacks the joints {', '.join(missing)}")
        rows = [by_joint[n] for n in self.arm.joints]
        self._joints = [int(row[0]) for row in rows]
        self.q_lower = np.array([row[8] for row in rows])
        self.q_upper = np.array([row[9] for row in rows])
        self._effort = [float(row[10]) for row in rows]
        self._fingers = [int(by_joint[n][0]) for n in self.arm.fingers]
        self._hand = self.link_names.index(self.arm.hand) - 1
        self._motors = self._joints + self._fingers
        self._position_gains = [0.6] * len(self._joints) + [0.2] * len(self._fingers)
        self._velocity_gains = [1.0] * len(self._motors)
        for index, value in zip(self._joints, home, strict=True):
            p.resetJointState(self.body, index, value, physicsClientId=client)
        for index in self._fingers:
            p.resetJointState(self.body, index, self.arm.finger_range, physicsClientId=client)
            p.changeDynamics(self.body, index, lateralFriction=FINGER_FRICTION, physicsClientId=client)
        for index in range(-1, self._joint_count()):
            p.changeDynamics(self.body, index, linearDamping=0.0, angularDamping=0.0, physicsClientId=client)
        self._mask_neighbours()

    def place_arm(self, q: NDArray[np.float64]) -> None:
        """Put the arm at joint positions `q`, rad, at once and at rest, as nothing real can be moved."""
        for index, value in zip(self._joints, q.tolist(), strict=True):
            p.resetJointState(self.body, index, value, physicsClientId=self._client)
        self._reading = self._measure()

    def set_payload(self, mass: float) -> None:
        """Mount a mass (kg) besides the tool on the hand, 0 to take it off."""
        if self._hand_mass is None:
            self._hand_mass = float(p.getDynamicsInfo(self.body, self._hand, physicsClientId=self._client)[0])
        p.changeDynamics(self.body, self._hand, mass=self._hand_mass + mass, physicsClientId=self._client)

    def _mask_neighbours(self) -> None:
        """The base touches the table it stands on; that contact carries no information."""
        for fixture in self.fixtures:
            p.setCollisionFilterPair(self.body, fixture, -1, -1, 0, physicsClientId=self._client)

    def _joint_count(self) -> int:
        return int(p.getNumJoints(self.body, physicsClientId=self._client))

    # ------------------------------------------------------------ stepping

    def step(self, target: DriveTarget) -> None:
        """Drive the joints towards `target` for one physics step of `dt`."""
        # The servo law adds the feed-forward to the correction, so it aims one step ahead of the position it is
        # given; taking that step off makes the joints be at `target.q` when the step ends.
        q, dq = (target.q - target.dq * self.dt).tolist(), target.dq.tolist()
        forces = list(self._effort)
        for joint, value in self._stuck.items():
            q[joint], dq[joint], forces[joint] = value, 0.0, 10.0 * forces[joint]
        q, dq, forces = self._finger_commands(q, dq, forces)
        p.setJointMotorControlArray(
            self.body,
            self._motors,
            p.POSITION_CONTROL,
            targetPositions=q,
            targetVelocities=dq,
            forces=forces,
            positionGains=self._position_gains,
            velocityGains=self._velocity_gains,
            physicsClientId=self._client,
        )
        p.stepSimulation(physicsClientId=self._client)
        self._reading = self._measure()
        self._update_grasp()
        self._steps += 1
        if self._steps % PARK_EVERY == 0:
            self.stock.park(self._grasp_point(), self._grasped)

    def _finger_commands(
        self, q: list[float], dq: list[float], forces: list[float]
    ) -> tuple[list[float], list[float], list[float]]:
        """Each finger goes to half the width at the gripper's speed, pressing with at most the commanded force."""
        goal = self._grasp_width / 2 if self._grasp is not None else self._width_target / 2
        step = self._finger_speed * self.dt
        # The two fingers move as one (they are geared together): both follow their mean.
        mean = 0.5 * self._reading.fingers
        towards = min(max(goal - mean, -step), step)
        force = self._grip_force if self._grip_force > 0 else 20.0
        for _ in self._fingers:
            # Lead by one step at full speed, so that the position servo presses with the force limit when blocked.
            q.append(mean + towards)
            dq.append(towards / self.dt)
            forces.append(force)
        return q, dq, forces

    def reading(self) -> ArmReading:
        """The arm as it was measured after the last step."""
        return self._reading

    def _measure(self) -> ArmReading:
        states = p.getJointStates(self.body, self._motors, physicsClientId=self._client)
        n = len(self._joints)
        q, dq, _, tau = zip(*states, strict=True)
        return ArmReading(np.array(q[:n]), np.array(dq[:n]), np.array(tau[:n]), float(q[n] + q[n + 1]))

    def link_motion(self) -> LinkMotion:
        """True pose and velocity of every link after the last step."""
        states = p.getLinkStates(
            self.body,
            list(range(self._joint_count())),
            computeLinkVelocity=1,
            computeForwardKinematics=1,
            physicsClientId=self._client,
        )
        zero = (0.0, 0.0, 0.0)
        base = (zero, p.getQuaternionFromEuler([0.0, 0.0, self.arm.base_yaw]), zero, zero, zero)
        rows = [base] + [(s[4], s[5], s[6], s[7], s[0]) for s in states]
        position, quaternion, linear, angular, com = (np.array([r[i] for r in rows]) for i in range(5))
        return LinkMotion(position, quaternion, linear, angular, com)

    # ------------------------------------------------------------ gripper

    def grip(self, width: float, force: float) -> None:
        """Go to `width` (m, distance between the fingers), pressing with at most `force` N (0: plain positioning)."""
        width = min(max(width, 0.0), 2.0 * self.arm.finger_range)
        if width > self._width_target + RELEASE_STEP or (
            self._grasp is not None and width > self._grasp_width + RELEASE_STEP
        ):
            self.release()
            self._let_hold_again()
        self._width_target = width
        self._grip_force = force

    def set_finger_speed(self, speed: float) -> None:
        self._finger_speed = speed

    @property
    def held(self) -> str:
        """Name of the part in the gripper, or empty."""
        return self._grasped.name if self._grasped is not None else ""

    def held_box(self) -> tuple[tuple[float, float, float], NDArray[np.float64]] | None:
        """Edge lengths (m) and pose (4, 4) of the held part, base frame; None if nothing is held."""
        if self._grasped is None:
            return None
        at, turn = p.getBasePositionAndOrientation(self._grasped.body, physicsClientId=self._client)
        r = p.getMatrixFromQuaternion(turn)
        pose = np.array([(*r[0:3], at[0]), (*r[3:6], at[1]), (*r[6:9], at[2]), (0.0, 0.0, 0.0, 1.0)])
        return self._grasped.size, pose

    def _touched(self, finger: int) -> set[int]:
        contacts = p.getContactPoints(bodyA=self.body, linkIndexA=finger, physicsClientId=self._client)
        return {int(c[2]) for c in contacts if c[9] > TOUCH_FORCE}

    def _update_grasp(self) -> None:
        """A part is held once both fingers press on it while closing with force."""
        if self._grasp is not None or self._grip_force <= 0.0:
            return
        width = self._reading.fingers
        if width <= self._width_target + 1e-4:
            return
        touched = self._touched(self._fingers[0])
        if not touched:
            return
        touched &= self._touched(self._fingers[1])
        for part in self.stock.parts:
            if part.body in touched and part.body not in self._slipped:
                self._hold(part, width)
                return

    def _hold(self, part: PartBody, width: float) -> None:
        hand = p.getLinkState(self.body, self._hand, computeForwardKinematics=1, physicsClientId=self._client)
        at, turn = p.getBasePositionAndOrientation(part.body, physicsClientId=self._client)
        # The parent frame of a constraint is relative to the link's centre of mass.
        inverse = p.invertTransform(hand[0], hand[1])
        local_at, local_turn = p.multiplyTransforms(*inverse, at, turn)
        self._grasp = int(
            p.createConstraint(
                self.body,
                self._hand,
                part.body,
                -1,
                p.JOINT_FIXED,
                [0, 0, 0],
                local_at,
                [0, 0, 0],
                local_turn,
                [0, 0, 0, 1],
                physicsClientId=self._client,
            )
        )
        p.changeConstraint(self._grasp, maxForce=GRASP_FORCE_LIMIT, physicsClientId=self._client)
        for finger in self._fingers:
            p.setCollisionFilterPair(self.body, part.body, finger, -1, 0, physicsClientId=self._client)
        self._grasped, self._grasp_width = part, width

    def release(self) -> None:
        """Let go of the held part, if any."""
        if self._grasp is None or self._grasped is None:
            return
        p.removeConstraint(self._grasp, physicsClientId=self._client)
        for finger in self._fingers:
            p.setCollisionFilterPair(self.body, self._grasped.body, finger, -1, 1, physicsClientId=self._client)
        p.changeDynamics(
            self._grasped.body, -1, activationState=p.ACTIVATION_STATE_WAKE_UP, physicsClientId=self._client
        )
        self._grasp, self._grasped = None, None

    def _grasp_point(self) -> tuple[float, float, float]:
        link = p.getLinkState(self.body, self._hand, computeForwardKinematics=1, physicsClientId=self._client)
        at, _ = p.multiplyTransforms(link[4], link[5], (0.0, 0.0, GRASP_DEPTH), (0.0, 0.0, 0.0, 1.0))
        return (at[0], at[1], at[2])

    def lose_part(self) -> bool:
        """Injected fault: the part slips out and cannot be held again before the fingers opened. False: none held."""
        if self._grasped is None:
            return False
        part = self._grasped
        self.release()
        self._slipped.add(part.body)
        for finger in self._fingers:
            p.setCollisionFilterPair(self.body, part.body, finger, -1, 0, physicsClientId=self._client)
        return True

    def _let_hold_again(self) -> None:
        """Parts that slipped out meet the fingers again."""
        for body in self._slipped:
            for finger in self._fingers:
                p.setCollisionFilterPair(self.body, body, finger, -1, 1, physicsClientId=self._client)
        self._slipped.clear()

    def restock(self) -> bool:
        """Put every part, lost ones too, at rest on its stock place. False, and nothing done, while one is held."""
        if self._grasped is not None:
            return False
        self.stock.restock()
        self._let_hold_again()
        return True

    def stick_joint(self, joint: int | None) -> None:
        """Injected fault: joint (index from 0) is jammed where it is; None frees all."""
        self._stuck = {} if joint is None else {joint: float(self.reading().q[joint])}

    # ------------------------------------------------------------ truth

    def arm_contacts(self) -> list[tuple[str, str, float]]:
        """(link, other body's name, normal force N) of the arm touching anything but a part it may hold."""
        names = {body: f.name for body, f in zip(self.fixtures, self._solid(), strict=True)}
        parts = {part.body: part.name for part in self.stock.parts}
        found = []
        for contact in p.getContactPoints(bodyA=self.body, physicsClientId=self._client):
            other = int(contact[2])
            if contact[9] > TOUCH_FORCE and other not in parts:
                found.append((self.link_names[contact[3] + 1], names.get(other, "floor"), float(contact[9])))
        return found

    def _solid(self) -> list[Fixture]:
        return [f for f in self.workcell.fixtures if f.solid]

    @property
    def client(self) -> int:
        """PyBullet client id, for the referee's own measurements."""
        return int(self._client)

    def close(self) -> None:
        """Idempotent."""
        if self._client >= 0 and p.isConnected(self._client):
            p.disconnect(physicsClientId=self._client)
        self._client = -1
