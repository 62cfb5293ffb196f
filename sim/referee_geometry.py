"""What the referee measures with: skin points of people against points of the arm's hulls, both taken from truth, and
GJK on convex hulls where they come close. None of it is shared with the room safety or with the robot's capsules."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pybullet as p
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from cell.compiled import njit
from sim.body import Body, skin
from sim.human_shape import segments
from sim.linkage import Linkage, box_mesh, link_poses
from sim.rotations import to_quaternion

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
SPACING = 0.025
"""Points on the arm's hulls are at most about this far apart, m."""
SKIN_POINTS = 1500
_MOMENT = 1e-3
"""Step of the difference that turns joint speeds into speeds of points, s."""
Held = tuple[tuple[float, float, float], F64]
"""Edge lengths (m) and pose (4, 4) in the base frame of the box in the gripper."""
NARROW = 0.08
"""Below this distance between points the hulls themselves are measured, m."""


class Cloud(NamedTuple):
    """Points in groups with bounding balls."""

    points: F64
    """(n, 3), base frame, m."""
    start: I64
    """(g + 1,) group g holds points start[g] to start[g + 1] - 1."""
    centre: F64
    """(g, 3)."""
    radius: F64
    """(g,)."""


class ArmPoints:
    """Points on the convex hulls of an arm's links, and of a box it may hold."""

    def __init__(self, linkage: Linkage, ignored: tuple[str, ...] = ()) -> None:
        """`ignored`: links left out, for the planted-bug tests."""
        self.linkage = linkage
        self.links = [
            i for i, name in enumerate(linkage.links) if len(linkage.vertices[i]) >= 4 and name not in ignored
        ]
        self.names = [linkage.links[i] for i in self.links] + ["held part"]
        local = [_spread_on_hull(linkage.vertices[i].astype(np.float64)) for i in self.links]
        self._local = np.concatenate(local)
        self._owner = np.repeat(np.array(self.links), [len(x) for x in local])
        self._start = np.concatenate([[0], np.cumsum([len(x) for x in local])]).astype(np.int64)
        self._owner_of_group = np.array(self.links)
        self._centre = np.array([0.5 * (x.min(axis=0) + x.max(axis=0)) for x in local])
        self._radius = np.array([np.linalg.norm(x - c, axis=1).max() for x, c in zip(local, self._centre, strict=True)])

    def balls(self, q: F64, fingers: float, held: Held | None = None) -> tuple[F64, F64]:
        """Bounding balls of the groups: centres (g, 3), radii (g,)."""
        centre = _moved(self._centre, self._owner_of_group, self.linkage.poses(q, fingers))
        if held is None:
            return centre, self._radius
        size, pose = held
        radius = float(np.linalg.norm(size)) / 2
        return np.concatenate([centre, pose[None, :3, 3]]), np.append(self._radius, radius)

    def gaps(self, q: F64, fingers: F64, held: list[Held | None], person: PersonPoints, bones: F64) -> F64:
        """Lower bound (n,) of the distance to a person, m, in a row of n moments: `q` (n, dof), `fingers` (n,),
        `bones` (n, 104, 3, 4)."""
        ball = np.full((len(q), 4), -1.0)
        for row, box in zip(ball, held, strict=True):
            if box is not None:
                row[:3], row[3] = box[1][:3, 3], float(np.linalg.norm(box[0])) / 2
        linkage = self.linkage
        arm: tuple[Any, ...] = (len(linkage.links), linkage.base_yaw, *linkage.chain)
        arm += (self._centre, self._owner_of_group, self._radius)
        everything: tuple[Any, ...] = (q, fingers, ball, *arm, bones, *person.ball_parts)
        return np.asarray(_gaps(*everything))

    def at(self, q: F64, fingers: float, held: Held | None = None) -> Cloud:
        """Points at joint positions `q` (rad) and finger opening (m), and on what is held."""
        points = _moved(self._local, self._owner, self.linkage.poses(q, fingers))
        centre, radius = self.balls(q, fingers, held)
        if held is None:
            return Cloud(points, self._start, centre, radius)
        size, pose = held
        at = _box_points(size) @ pose[:3, :3].T + pose[:3, 3]
        return Cloud(np.concatenate([points, at]), np.append(self._start, len(points) + len(at)), centre, radius)

    def speeds(self, q: F64, dq: F64, fingers: float, finger_speed: float, held: Held | None = None) -> F64:
        """Speed of the fastest point of each group, m/s; what is held moves with the hand."""
        now = self.linkage.poses(q, fingers)
        before = self.linkage.poses(q - dq * _MOMENT, fingers - finger_speed * _MOMENT)
        points = _moved(self._local, self._owner, now)
        speeds = group_speeds(points, _moved(self._local, self._owner, before), self._start, _MOMENT)
        return np.asarray(speeds) if held is None else np.append(speeds, speeds[-3:].max())


@functools.lru_cache(maxsize=64)
def _box_points(size: tuple[float, float, float]) -> F64:
    """Corners, centres of faces and of edges of a box round the origin."""
    corners = box_mesh(list(size))[0]
    middles = 0.5 * (corners[:, None] + corners[None]).reshape(-1, 3)
    return np.asarray(np.unique(np.concatenate([corners, middles]), axis=0))


def _spread_on_hull(vertices: F64) -> F64:
    """Corners of the convex hull and points on its faces no farther than `SPACING` apart."""
    hull = ConvexHull(vertices)
    points: list[F64] = [vertices[hull.vertices]]
    for a, b, c in vertices[hull.simplices]:
        longest = max(np.linalg.norm(b - a), np.linalg.norm(c - b), np.linalg.norm(a - c))
        n = int(np.ceil(longest / SPACING))
        if n > 1:
            u, v = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
            inside = u + v <= n
            along, across = u[inside, None] / n, v[inside, None] / n
            points.append(a + along * (b - a) + across * (c - a))
    everything = np.concatenate(points)
    cells = np.round(everything / (0.5 * SPACING)).astype(np.int64)
    _, first = np.unique(cells, axis=0, return_index=True)
    kept = np.union1d(first, np.arange(len(hull.vertices)))
    return everything[kept]


class PersonPoints:
    """Skin points of a person, grouped by body segment."""

    def __init__(self, name: str, body: Body) -> None:
        self.name = name
        self.body = body
        near = body.spread[:SKIN_POINTS]
        found = [(s, s.skin[np.isin(s.skin, near)]) for s in segments(body)]
        parts = [s for s, skin_ in found if len(skin_)]
        chosen = [skin_ for _, skin_ in found if len(skin_)]
        self.segments = [s.name for s in parts]
        self.bones = np.array([s.bone for s in parts])
        self._chosen = np.concatenate(chosen)
        self._start = np.concatenate([[0], np.cumsum([len(c) for c in chosen])]).astype(np.int64)
        centre: list[F64] = []
        radius: list[float] = []
        for segment in parts:
            low, high = segment.vertices.min(axis=0), segment.vertices.max(axis=0)
            centre.append(0.5 * (low + high))
            # Skin near a joint follows two bones; the margin keeps it inside the ball at every bend.
            radius.append(float(np.linalg.norm(segment.vertices - centre[-1], axis=1).max()) + 0.06)
        self._centre, self._radius = np.array(centre), np.array(radius)
        self.ball_parts = (self._centre, self.bones, self._radius)
        """Bounding balls in the frames of their bones: centres (g, 3), bones (g,), radii (g,)."""

    def balls(self, bones: F64) -> tuple[F64, F64]:
        """Bounding balls of the segments: centres (g, 3), radii (g,)."""
        return _moved(self._centre, self.bones, bones), self._radius

    def at(self, bones: F64) -> Cloud:
        """Skin points for bone transforms (104, 3, 4)."""
        points = skin(self.body, bones, self._chosen).astype(np.float64)
        centre, radius = self.balls(bones)
        return Cloud(points, self._start, centre, radius)


@njit(cache=True)
def _moved(local: F64, owner: I64, poses: F64) -> F64:
    out = np.empty_like(local)
    for i in range(len(local)):
        m = poses[owner[i]]
        x, y, z = local[i, 0], local[i, 1], local[i, 2]
        for k in range(3):
            out[i, k] = m[k, 0] * x + m[k, 1] * y + m[k, 2] * z + m[k, 3]
    return out


@njit(cache=True)
def group_speeds(now: F64, before: F64, start: I64, dt: float) -> F64:
    """Speed of the fastest point of each group between two sets of points, m/s."""
    speeds = np.zeros(len(start) - 1)
    for g in range(len(start) - 1):
        fastest = 0.0
        for i in range(start[g], start[g + 1]):
            d = 0.0
            for k in range(3):
                e = now[i, k] - before[i, k]
                d += e * e
            fastest = max(fastest, d)
        speeds[g] = np.sqrt(fastest) / dt
    return speeds


@njit(cache=True)
def largest_step(now: F64, before: F64) -> float:
    """Longest way any bone's head went between two sets of bone transforms (104, 3, 4), m."""
    longest = 0.0
    for i in range(len(now)):
        d = 0.0
        for k in range(3):
            e = now[i, k, 3] - before[i, k, 3]
            d += e * e
        longest = max(longest, d)
    return np.sqrt(longest)


@njit(cache=True)
def largest_steps(bones: F64) -> F64:
    """`largest_step` (n - 1,) between neighbours of a row of bone transforms (n, 104, 3, 4)."""
    steps = np.empty(len(bones) - 1)
    for n in range(len(steps)):
        steps[n] = largest_step(bones[n + 1], bones[n])
    return steps


@njit(cache=True)
def least_gap(a_centre: F64, a_radius: F64, b_centre: F64, b_radius: F64) -> float:
    """Lower bound of the distance between two sets of balls, m."""
    best = np.inf
    for i in range(len(a_radius)):
        for j in range(len(b_radius)):
            d = 0.0
            for k in range(3):
                e = a_centre[i, k] - b_centre[j, k]
                d += e * e
            gap = np.sqrt(d) - a_radius[i] - b_radius[j]
            if gap < best:
                best = gap
    return best


@njit(cache=True)
def _gaps(
    q: F64,
    fingers: F64,
    held: F64,
    links: int,
    base_yaw: float,
    parents: I64,
    children: I64,
    indices: I64,
    origins: F64,
    axes: F64,
    centre: F64,
    owner: I64,
    radius: F64,
    bones: F64,
    body_centre: F64,
    body_bone: I64,
    body_radius: F64,
) -> F64:
    out = np.empty(len(q))
    for n in range(len(q)):
        poses = link_poses(q[n], fingers[n], links, base_yaw, parents, children, indices, origins, axes)
        arm = _moved(centre, owner, poses)
        person = _moved(body_centre, body_bone, bones[n])
        out[n] = least_gap(arm, radius, person, body_radius)
        if held[n, 3] >= 0.0:
            out[n] = min(out[n], least_gap(held[n : n + 1, :3], held[n : n + 1, 3], person, body_radius))
    return out


@njit(cache=True)
def _nearest(
    a: F64, a_start: I64, a_centre: F64, a_radius: F64, b: F64, b_start: I64, b_centre: F64, b_radius: F64, limit: float
) -> tuple[float, int, int]:
    """Smallest distance between two clouds, if below `limit`, and the groups it lies between; else limit, -1, -1."""
    n, m = len(a_radius), len(b_radius)
    gaps = np.empty(n * m)
    for i in range(n):
        for j in range(m):
            d = 0.0
            for k in range(3):
                e = a_centre[i, k] - b_centre[j, k]
                d += e * e
            gaps[i * m + j] = np.sqrt(d) - a_radius[i] - b_radius[j]
    best, group_a, group_b = limit, -1, -1
    best2 = limit * limit
    for pair in np.argsort(gaps):
        if gaps[pair] >= best:
            break
        i, j = pair // m, pair % m
        for u in range(a_start[i], a_start[i + 1]):
            x, y, z = a[u, 0], a[u, 1], a[u, 2]
            # A point of the arm outside the ball of the segment by more than the best distance cannot improve it.
            dx, dy, dz = x - b_centre[j, 0], y - b_centre[j, 1], z - b_centre[j, 2]
            reach = best + b_radius[j]
            if dx * dx + dy * dy + dz * dz >= reach * reach:
                continue
            for v in range(b_start[j], b_start[j + 1]):
                dx, dy, dz = x - b[v, 0], y - b[v, 1], z - b[v, 2]
                d2 = dx * dx + dy * dy + dz * dz
                if d2 < best2:
                    best2 = d2
                    best = np.sqrt(d2)
                    group_a, group_b = i, j
    return best, group_a, group_b


def nearest(arm: Cloud, person: Cloud, limit: float) -> tuple[float, int, int]:
    """Distance between arm and person (m) with the arm's and the person's group; (limit, -1, -1) if not below it."""
    d, i, j = _nearest(*arm, *person, limit)
    return float(d), int(i), int(j)


class NarrowPhase:
    """Convex hulls of links and body segments in a PyBullet client of its own, measured pair by pair with GJK/EPA."""

    def __init__(self, arm: ArmPoints) -> None:
        self._client = p.connect(p.DIRECT)
        self._arm = arm
        self._links = [self._hull(arm.linkage.vertices[i].astype(np.float64)) for i in arm.links]
        self._people: dict[str, list[int]] = {}

    def _hull(self, vertices: F64) -> int:
        corners = vertices[ConvexHull(vertices).vertices]
        shape = p.createCollisionShape(p.GEOM_MESH, vertices=corners.tolist(), physicsClientId=self._client)
        return int(p.createMultiBody(0, shape, physicsClientId=self._client))

    def distances(self, q: F64, fingers: float, cloud: Cloud, person: PersonPoints, bones: F64) -> F64:
        """Signed distance (m) of every group of the arm to a person; inf where it is beyond `NARROW`. What is held has
        no hull here."""
        if person.name not in self._people:
            self._people[person.name] = [
                self._hull(s.vertices) for s in segments(person.body) if s.name in person.segments
            ]
        centre, radius = person.balls(bones)
        gaps = np.linalg.norm(cloud.centre[:, None] - centre[None], axis=2) - cloud.radius[:, None] - radius[None]
        poses = self._arm.linkage.poses(q, fingers)
        result = np.full(len(cloud.radius), np.inf)
        placed: set[int] = set()
        for link, link_body in enumerate(self._links):
            near = np.flatnonzero(gaps[link] < NARROW)
            if not len(near):
                continue
            self._place(link_body, poses[self._arm.links[link], :3])
            for segment in near.tolist():
                body = self._people[person.name][segment]
                if segment not in placed:
                    self._place(body, bones[person.bones[segment]])
                    placed.add(segment)
                found = p.getClosestPoints(link_body, body, NARROW, physicsClientId=self._client)
                result[link] = min([result[link], *(float(c[8]) for c in found)])
        return result

    def touches(
        self, q: F64, fingers: float, person: PersonPoints, bones: F64, links: I64
    ) -> list[tuple[int, int, F64]]:
        """Group of the arm, segment and place (3,) of the deepest touch of each pair, for some groups of the arm that
        `distances` has just found in touch."""
        poses = self._arm.linkage.poses(q, fingers)
        found = []
        for link in links.tolist():
            self._place(self._links[link], poses[self._arm.links[link], :3])
            for segment, body in enumerate(self._people[person.name]):
                self._place(body, bones[person.bones[segment]])
                points = p.getClosestPoints(self._links[link], body, 0.0, physicsClientId=self._client)
                if points:
                    deepest = min(points, key=lambda c: float(c[8]))
                    found.append((int(link), segment, 0.5 * (np.array(deepest[5]) + np.array(deepest[6]))))
        return found

    def _place(self, body: int, pose: F64) -> None:
        turn = to_quaternion(pose[:, :3])
        p.resetBasePositionAndOrientation(body, pose[:, 3].tolist(), turn.tolist(), physicsClientId=self._client)

    def close(self) -> None:
        """Idempotent."""
        if self._client >= 0:
            p.disconnect(physicsClientId=self._client)
        self._client = -1
