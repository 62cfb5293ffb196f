"""Where each part is, as far as the controller knows: on a place, in the gripper, or lost. Pure.

Perception is told of parts on places (they are no persons); the planner picks from and places to free places only.
Poses are 4x4 in the base frame; a part's frame is the centre of its bounding box, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception.contract import ExpectedPart, ExpectedParts
from robots.contract import PartGeometry
from robots.workcell import PartType, Pose, Workcell

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """A place of a pattern."""

    pattern: str
    index: int


@dataclass(frozen=True)
class Part:
    """One part. Exactly one of: on `place`, `held`, or lost (neither)."""

    name: str
    kind: str
    place: Place | None
    pose: Matrix | None
    """Of the box centre in the base frame; None unless it lies on a place."""
    held: bool = False


class PartsError(Exception):
    """No such part or place; `code` is the outcome a skill ends in (`no_part`, `no_place`)."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def matrix(pose: Pose) -> Matrix:
    """Return a cell file's pose as 4x4 (roll-pitch-yaw about fixed axes x, y, z)."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", pose.rpy).as_matrix()
    T[:3, 3] = pose.position
    return T


def vector(T: Matrix) -> tuple[float, ...]:
    """Return a 4x4 as x, y, z, qx, qy, qz, qw."""
    quaternion = Rotation.from_matrix(T[:3, :3]).as_quat(canonical=True)
    return tuple(float(v) for v in (*T[:3, 3], *quaternion))


def place_pose(workcell: Workcell, place: Place) -> Matrix:
    """Return the pose of a place (on its surface), 4x4. Raises PartsError for an unknown pattern, frame or index."""
    pattern = workcell.patterns.get(place.pattern)
    if pattern is None or pattern.frame not in workcell.frames:
        raise PartsError("no_place", f"the cell has no pattern {place.pattern}")
    try:
        offset = pattern.place(place.index)
    except IndexError as error:
        raise PartsError("no_place", f"{place.pattern}: {error}") from None
    T = matrix(workcell.frames[pattern.frame])
    T[:3, 3] += T[:3, :3] @ np.array(offset)
    return T


class Parts:
    """The world of parts."""

    def __init__(self, workcell: Workcell) -> None:
        self._workcell = workcell
        self._parts: dict[str, Part] = {}
        self._seq = 0
        self._expected: list[ExpectedPart] = []
        self._expected_version = -1
        self.version = 0
        """Raised by each change."""
        self.placed = 0
        """Parts the gripper has put on places so far, each counted once however often it is put down."""
        self._handled: set[str] = set()
        self.restock()

    def copy(self) -> Parts:
        """Return an independent copy, for analysis."""
        other = Parts(self._workcell)
        other._parts = dict(self._parts)
        return other

    def restock(self) -> None:
        """The cell is as the cell file says at the start: trays filled, boxes empty."""
        self._parts.clear()
        self._handled = set()
        for number, item in enumerate(self._workcell.stock, 1):
            name = f"{item.part}#{number}"
            place = Place(item.pattern, item.index)
            pose = self.pose_on(item.part, place)
            self._parts[name] = Part(name, item.part, place, pose)
        self.version += 1

    def kind(self, kind: str) -> PartType:
        """Return the description of a variety. Raises PartsError."""
        found = self._workcell.parts.get(kind)
        if found is None:
            known = ", ".join(self._workcell.parts) or "none"
            raise PartsError("no_part", f"the cell knows no part {kind}; it knows {known}")
        return found

    def pose_on(self, kind: str, place: Place) -> Matrix:
        """Return the pose a part of this variety has on a place."""
        T = place_pose(self._workcell, place)
        T[:3, 3] += T[:3, 2] * self.kind(kind).size[2] / 2
        return T

    def find(self, kind: str, pattern: str) -> Part:
        """Return the part of this variety with the lowest index in a pattern. Raises PartsError."""
        self.kind(kind)
        if pattern not in self._workcell.patterns:
            raise PartsError("no_part", f"the cell has no pattern {pattern}")
        here = [p for p in self._parts.values() if p.place and p.place.pattern == pattern and p.kind == kind]
        if not here:
            raise PartsError("no_part", f"no {kind} is left in {pattern}")
        return min(here, key=lambda p: p.place.index if p.place else 0)

    def at(self, place: Place) -> Part | None:
        """Return the part on a place."""
        return next((p for p in self._parts.values() if p.place == place), None)

    def free(self, pattern: str) -> list[Place]:
        """Return the free places of a pattern in order. Raises PartsError if there is none."""
        grid = self._workcell.patterns.get(pattern)
        if grid is None:
            raise PartsError("no_place", f"the cell has no pattern {pattern}")
        taken = {p.place.index for p in self._parts.values() if p.place and p.place.pattern == pattern}
        places = [Place(pattern, index) for index in range(grid.count) if index not in taken]
        if not places:
            raise PartsError("no_place", f"all {grid.count} places of {pattern} are taken")
        return places

    def lying(self, but: str = "") -> list[tuple[str, Matrix, Matrix]]:
        """Return name, pose and half edges of every part on a place, except the one named."""
        return [
            (p.name, p.pose, np.array(self._workcell.parts[p.kind].size) / 2)
            for p in self._parts.values()
            if p.pose is not None and p.name != but
        ]

    @property
    def held(self) -> Part | None:
        """The part in the gripper."""
        return next((p for p in self._parts.values() if p.held), None)

    def grip(self, name: str) -> None:
        """The gripper holds `name` now."""
        part = self._parts[name]
        self._parts[name] = Part(part.name, part.kind, None, None, True)
        self.version += 1

    def put(self, place: Place) -> Part:
        """The held part lies on `place` now. Raises PartsError if nothing is held or the place is taken."""
        part = self.held
        if part is None:
            raise PartsError("part_lost", "nothing is in the gripper")
        if self.at(place) is not None:
            raise PartsError("no_place", f"place {place.index} of {place.pattern} is taken")
        done = Part(part.name, part.kind, place, self.pose_on(part.kind, place))
        self._parts[part.name] = done
        if part.name not in self._handled:
            self._handled.add(part.name)
            self.placed += 1
        self.version += 1
        return done

    def lose(self, name: str) -> None:
        """Nobody knows where `name` is: it is no expected part any more, so cameras take it for a person."""
        part = self._parts[name]
        self._parts[name] = Part(part.name, part.kind, None, None)
        self.version += 1

    def expected(self) -> ExpectedParts:
        """Return what perception may see: every part that lies on a place."""
        self._seq += 1
        if self._expected_version != self.version:
            self._expected_version = self.version
            self._expected = [
                ExpectedPart(p.name, self._workcell.parts[p.kind].size, vector(p.pose))
                for p in self._parts.values()
                if p.pose is not None
            ]
        return ExpectedParts(self._seq, self._expected)

    def geometry(self, part: Part, T_tcp_part: Matrix) -> PartGeometry:
        """Return what the robot node has to know of a part it is to hold."""
        kind = self.kind(part.kind)
        return PartGeometry(part.name, kind.size, vector(T_tcp_part), kind.mass)
