"""Parts of the twin: put on their places at the start, movable while the hand is near, solid always."""

from __future__ import annotations

import math
from typing import NamedTuple

import pybullet as p

from robots.workcell import PartType, Workcell

Position = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
PART_FRICTION = 0.9
PARK_EVERY = 5
"""Steps between two looks at which parts are at rest."""
PARK_LOOKS = 4
"""A part is at rest when it is slow at so many looks in a row."""
PARK_DISTANCE = 0.07
"""Parts at rest with all of them farther than this from the grasp point and what is held there stand fast until the
hand comes near, m: half an open gripper, its finger, and 20 mm for the way between two looks."""
PARK_SPEED = 0.003
"""m/s; and ten times as much in rad/s."""


class PartBody(NamedTuple):
    """A part in the world."""

    name: str
    kind: str
    body: int
    size: tuple[float, float, float]
    place: tuple[Position, Quaternion]
    """Where it is stocked."""


class Stock:
    """All parts of one world, in the order of the cell file."""

    def __init__(self, client: int, workcell: Workcell) -> None:
        """Put every stock item on its place."""
        self._client = client
        self.parts = _load_stock(client, workcell)
        self._parked: dict[int, tuple[Position, Quaternion]] = {}
        self._looks = {part.body: 0 for part in self.parts}
        self._masses = {part.body: workcell.parts[part.kind].mass for part in self.parts}

    def park(self, hand: Position, held: PartBody | None) -> None:
        """Make parts at rest away from the hand immovable, which spares the solver most of its work, and those the
        hand comes near movable again. They stay solid throughout."""
        reach = PARK_DISTANCE + (math.hypot(*held.size) / 2 if held is not None else 0.0)
        for part in self.parts:
            parked = self._parked.get(part.body)
            at, turn = parked or self._pose(part)
            near = part is held or math.dist(at, hand) < reach + math.hypot(*part.size) / 2
            if parked is not None and near:
                del self._parked[part.body]
                self._looks[part.body] = 0
                p.resetBasePositionAndOrientation(part.body, at, turn, physicsClientId=self._client)
                p.changeDynamics(
                    part.body,
                    -1,
                    mass=self._masses[part.body],
                    activationState=p.ACTIVATION_STATE_WAKE_UP,
                    physicsClientId=self._client,
                )
            elif parked is None and not near and self._rests(part):
                # An immovable body still drifts at the speed it has: without this it creeps into or off what it lies
                # on, and jumps when it is movable again.
                p.resetBaseVelocity(part.body, (0, 0, 0), (0, 0, 0), physicsClientId=self._client)
                self._parked[part.body] = (at, turn)
                p.changeDynamics(part.body, -1, mass=0.0, physicsClientId=self._client)

    def _rests(self, part: PartBody) -> bool:
        """Slow at several looks in a row: at the top of a bounce it is slow once."""
        linear, angular = p.getBaseVelocity(part.body, physicsClientId=self._client)
        slow = math.hypot(*linear) < PARK_SPEED and math.hypot(*angular) < 10 * PARK_SPEED
        self._looks[part.body] = self._looks[part.body] + 1 if slow else 0
        return self._looks[part.body] >= PARK_LOOKS

    def restock(self) -> None:
        """Put every part at rest on its stock place."""
        for part in self.parts:
            # A parked part has no mass; it gets it back, and is parked again once it lies.
            p.changeDynamics(
                part.body,
                -1,
                mass=self._masses[part.body],
                activationState=p.ACTIVATION_STATE_WAKE_UP,
                physicsClientId=self._client,
            )
            p.resetBasePositionAndOrientation(part.body, *part.place, physicsClientId=self._client)
            p.resetBaseVelocity(part.body, (0, 0, 0), (0, 0, 0), physicsClientId=self._client)
        self._parked.clear()

    def _pose(self, part: PartBody) -> tuple[Position, Quaternion]:
        at, turn = p.getBasePositionAndOrientation(part.body, physicsClientId=self._client)
        return at, turn

    def poses(self) -> dict[str, tuple[Position, Quaternion]]:
        """Name -> (centre in the base frame, m; quaternion x y z w)."""
        return {part.name: self._parked.get(part.body) or self._pose(part) for part in self.parts}

    def inside(self, lower: Position, upper: Position) -> list[str]:
        """Names of the parts whose centre lies in the axis-aligned box [lower, upper] of the base frame."""
        found = []
        for name, (at, _) in self.poses().items():
            if all(low <= x <= high for low, x, high in zip(lower, at, upper, strict=True)):
                found.append(name)
        return sorted(found)


def _load_stock(client: int, workcell: Workcell) -> list[PartBody]:
    """Put every stock item on its place; names are `<type>#<n>`, n being its place in the cell file's stock from 1."""
    bodies = []
    for number, item in enumerate(workcell.stock, start=1):
        kind = workcell.parts[item.part]
        pattern = workcell.patterns[item.pattern]
        frame = workcell.frames[pattern.frame]
        turn = p.getQuaternionFromEuler(frame.rpy)
        x, y, z = pattern.place(item.index)
        at, _ = p.multiplyTransforms(frame.position, turn, (x, y, z + kind.size[2] / 2), (0, 0, 0, 1))
        body = _part_body(client, kind, at, turn)
        bodies.append(PartBody(f"{item.part}#{number}", item.part, body, kind.size, (at, turn)))
    return bodies


def _part_body(client: int, kind: PartType, at: tuple[float, ...], turn: tuple[float, ...]) -> int:
    if kind.shape == "cylinder":
        shape = p.createCollisionShape(
            p.GEOM_CYLINDER, radius=kind.size[0] / 2, height=kind.size[2], physicsClientId=client
        )
    else:
        shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=[s / 2 for s in kind.size], physicsClientId=client)
    body = p.createMultiBody(kind.mass, shape, basePosition=at, baseOrientation=turn, physicsClientId=client)
    # Spinning and rolling friction let parts come to rest instead of creeping; small parts need a tight contact.
    p.changeDynamics(
        body,
        -1,
        lateralFriction=PART_FRICTION,
        spinningFriction=0.005,
        rollingFriction=0.0005 if kind.shape == "cylinder" else 0.0,
        linearDamping=0.02,
        angularDamping=0.05,
        activationState=p.ACTIVATION_STATE_ENABLE_SLEEPING,
        physicsClientId=client,
    )
    return int(body)
