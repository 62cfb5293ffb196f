"""Zones of a cell: where people are watched in which way, where the arm never goes, where nobody can be.

A zone is an upright prism over a convex polygon, in the base frame. Every set of zones must cover the volume in which
people are looked for, without two methods for one place; `zone_faults` says where it does not. A ball that lies in
several zones, or partly in one, gets the strictest method of all it touches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from robots.config import KeepOutBox
from robots.workcell import Finite, Name, Pose, Strict, Vector
from safety.contact import NO_CONTACT

Array = NDArray[np.float64]
Point = tuple[float, float]
Polygon = list[Point]
Mode = Literal["automatic", "manual"]
Method = Literal["stop", "ssm", "reduced_speed", "ssm_contact", "no_person", "keep_out"]

STRICTEST: tuple[Method, ...] = ("stop", "ssm", "reduced_speed", "ssm_contact", "no_person")
"""Methods for people, the one that permits least first; a code is an index into this. `keep_out` is for the arm."""
DEFAULT_SET = "default"
LEAST_AREA = 1e-4
"""Overlaps and gaps smaller than this are rounding, m^2."""
LEAST_HEIGHT = 1e-3
TALL = 10.0
"""Farther up or down no arm reaches, m."""
Height = Annotated[float, Field(ge=-100.0, le=100.0, allow_inf_nan=False)]


class BoxShape(Strict):
    """A box along the axes."""

    kind: Literal["box"]
    lower: Vector
    upper: Vector

    @model_validator(mode="after")
    def _ordered(self) -> BoxShape:
        if any(not low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError("lower must be below upper in x, y and z")
        return self


class PrismShape(Strict):
    """An upright prism over a convex polygon; `polygon` without heights reaches from floor to ceiling."""

    kind: Literal["prism", "polygon"]
    corners: Annotated[list[tuple[Finite, Finite]], Field(min_length=3, max_length=40)]
    """x, y in either sense of rotation, m."""
    z: tuple[Height, Height] | None = None
    """Lower and upper height, m; belongs to a prism."""

    @model_validator(mode="after")
    def _convex(self) -> PrismShape:
        if (self.kind == "prism") != (self.z is not None):
            raise ValueError("a prism needs z, a polygon has none")
        if self.z is not None and not self.z[0] < self.z[1]:
            raise ValueError("z: the lower height must be below the upper one")
        turned(list(self.corners))
        return self


class Assessment(Strict):
    """Who has assessed that contact is acceptable in a zone, for which parts of the body, and on what grounds."""

    regions: Annotated[list[Name], Field(min_length=1)]
    """Body regions that can be touched there."""
    text: Annotated[str, Field(min_length=10, max_length=2000)]
    """Grounds, and where the risk assessment is kept."""
    by: Annotated[str, Field(min_length=1, max_length=120)]

    @model_validator(mode="after")
    def _never(self) -> Assessment:
        head = sorted(NO_CONTACT.intersection(self.regions))
        if head:
            raise ValueError(f"regions: no contact is permitted with {', '.join(head)}")
        return self


class Zone(Strict):
    """A volume with a method for each mode."""

    name: Name
    shape: BoxShape | PrismShape = Field(discriminator="kind")
    automatic: Method
    manual: Method | None = None
    """Left out: as in automatic mode."""
    speed: Annotated[float, Field(gt=0.0, le=0.25)] | None = None
    """reduced_speed: fastest point of the arm while somebody may be in the zone, m/s (ISO 10218-1: at most 0.25)."""
    contact: Assessment | None = None
    """ssm_contact: the assessment."""
    justification: Annotated[str, Field(min_length=10, max_length=2000)] | None = None
    """no_person: why nobody can be there."""

    @model_validator(mode="after")
    def _belongings(self) -> Zone:
        used = {self.automatic, self.manual or self.automatic}
        needs: tuple[tuple[Method, str, object], ...] = (
            ("reduced_speed", "speed", self.speed),
            ("ssm_contact", "contact", self.contact),
            ("no_person", "justification", self.justification),
        )
        for method, field, value in needs:
            if (method in used) != (value is not None):
                raise ValueError(f"{method} and {field} belong together")
        for method in ("no_person", "keep_out"):
            if method in used and len(used) > 1:
                raise ValueError(f"{method} holds in every mode or in none")
        return self

    def method(self, mode: Mode) -> Method:
        """The method in a mode."""
        return self.automatic if mode == "automatic" or self.manual is None else self.manual

    @property
    def outline(self) -> Polygon:
        """Corners, counterclockwise."""
        if isinstance(self.shape, BoxShape):
            (x0, y0, _), (x1, y1, _) = self.shape.lower, self.shape.upper
            return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        return turned(list(self.shape.corners))

    @property
    def heights(self) -> tuple[float, float]:
        """Lower and upper height, m."""
        if isinstance(self.shape, BoxShape):
            return self.shape.lower[2], self.shape.upper[2]
        return self.shape.z if self.shape.z is not None else (-math.inf, math.inf)


class ZoneConfig(Strict):
    """The block `zones` of a safety.yaml. Without any zone, every place is under separation monitoring."""

    volumes: Annotated[list[Zone], Field(max_length=60)] = []
    sets: dict[Name, Annotated[list[Name], Field(min_length=1)]] = {}
    """Names of the zones in force together; left out: one set, `default`, of all zones."""
    phases: dict[Name, Name] = {}
    """Recipe phase (`operation.skill`, such as `fill.place`, or a whole `operation`) -> set; phases not named use
    `default`. Motions that belong to no phase have no set: then all that is strict in any of them holds."""
    elsewhere: Literal["stop", "ssm"] | None = None
    """What holds outside all zones; left out: the zones must cover everything."""

    @property
    def touching(self) -> bool:
        """Is there a zone of contact in any set and mode?"""
        return any("ssm_contact" in (zone.automatic, zone.manual) for zone in self.volumes)

    def set_of(self, phase: str) -> str:
        """The set in force in a phase."""
        named = (phase, phase.rpartition(".")[0])
        return next((self.phases[one] for one in named if one in self.phases), DEFAULT_SET)

    def members(self, name: str) -> tuple[Zone, ...]:
        """Zones of a set. Raises KeyError."""
        if not self.sets and name == DEFAULT_SET:
            return tuple(self.volumes)
        wanted = self.sets[name]
        return tuple(zone for zone in self.volumes if zone.name in wanted)


class ZoneFault(NamedTuple):
    """Something wrong with the zones; `path` leads to it inside the block."""

    path: tuple[str | int, ...]
    text: str


# ---------------------------------------------------------------- geometry of convex polygons


def turned(corners: Polygon) -> Polygon:
    """Return the corners counterclockwise. Raises ValueError unless they make a convex polygon with some area."""
    n = len(corners)
    crosses = []
    for i in range(n):
        (ax, ay), (bx, by), (cx, cy) = corners[i], corners[(i + 1) % n], corners[(i + 2) % n]
        crosses.append((bx - ax) * (cy - by) - (by - ay) * (cx - bx))
    area = _area(corners)
    if abs(area) < LEAST_AREA:
        raise ValueError("corners: the polygon has no area")
    sense = math.copysign(1.0, area)
    angles = [math.atan2(b[1] - a[1], b[0] - a[0]) for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)]
    turning = sum((b - a + math.pi) % math.tau - math.pi for a, b in zip(angles, [*angles[1:], angles[0]], strict=True))
    if any(c * sense < -1e-12 for c in crosses) or abs(abs(turning) - math.tau) > 1e-6:
        raise ValueError("corners: the polygon is not convex; cut it into several zones")
    return corners if sense > 0 else corners[::-1]


def _area(corners: Polygon) -> float:
    """Signed area, m^2."""
    return 0.5 * math.fsum(
        a[0] * b[1] - a[1] * b[0] for a, b in zip(corners, [*corners[1:], *corners[:1]], strict=True)
    )


def _cut(polygon: Polygon, a: Point, b: Point, inside: bool) -> Polygon:
    """The part of a convex polygon to the left (`inside`) or right of the line a-b."""
    sign = 1.0 if inside else -1.0

    def side(p: Point) -> float:
        return sign * ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]))

    result: Polygon = []
    for p, q in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        s, t = side(p), side(q)
        if s >= 0.0:
            result.append(p)
        if (s > 0.0 > t) or (s < 0.0 < t):
            share = s / (s - t)
            result.append((p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])))
    return result


def _edges(polygon: Polygon) -> Iterator[tuple[Point, Point]]:
    yield from zip(polygon, [*polygon[1:], polygon[0]], strict=True)


def common_area(p: Polygon, q: Polygon) -> float:
    """Area two convex polygons (counterclockwise) share, m^2."""
    rest = p
    for a, b in _edges(q):
        rest = _cut(rest, a, b, inside=True)
        if len(rest) < 3:
            return 0.0
    return _area(rest)


def remainder(pieces: list[Polygon], hole: Polygon) -> list[Polygon]:
    """Return convex pieces of what is left of convex `pieces` outside the convex `hole`."""
    left: list[Polygon] = []
    for piece in pieces:
        rest = piece
        for a, b in _edges(hole):
            outside = _cut(rest, a, b, inside=False)
            if len(outside) >= 3 and _area(outside) > LEAST_AREA / 10:
                left.append(outside)
            rest = _cut(rest, a, b, inside=True)
            if len(rest) < 3:
                break
    return left


# ---------------------------------------------------------------- checks


def zone_faults(config: ZoneConfig, lower: Vector, upper: Vector) -> list[ZoneFault]:
    """Return everything wrong with the zones of a cell whose people are looked for between `lower` and `upper`."""
    faults = list(_names(config))
    for i, zone in enumerate(config.volumes):
        if zone.automatic == "keep_out" and _holds(zone, (0.0, 0.0, 0.0)):
            faults.append(
                ZoneFault(("volumes", i), f"{zone.name} keeps the arm out of the place where its base stands")
            )
    if faults:
        return faults
    for name in config.sets or ({DEFAULT_SET: []} if config.volumes else {}):
        at: tuple[str | int, ...] = ("sets", name) if config.sets else ("volumes",)
        members = config.members(name)
        for mode in ("automatic", "manual"):
            faults += _overlaps(at, members, mode)
        if config.elsewhere is None:
            faults += _gaps(at, members, lower, upper)
    return list(dict.fromkeys(faults))


def _names(config: ZoneConfig) -> Iterator[ZoneFault]:
    names = [zone.name for zone in config.volumes]
    known = ", ".join(names) or "none"
    for i, name in enumerate(names):
        if name in names[:i]:
            yield ZoneFault(("volumes", i, "name"), f"{name} is given twice")
        if config.sets and not any(name in members for members in config.sets.values()):
            yield ZoneFault(("volumes", i), f"{name} is in no set")
    for set_name, members in config.sets.items():
        for i, member in enumerate(members):
            if member not in names:
                yield ZoneFault(("sets", set_name, i), f"unknown zone {member}; there are {known}")
            if member in members[:i]:
                yield ZoneFault(("sets", set_name, i), f"{member} is given twice")
    if config.sets and DEFAULT_SET not in config.sets:
        yield ZoneFault(("sets",), f"there is no set {DEFAULT_SET}: it holds in every phase that names none")
    for phase, set_name in config.phases.items():
        if set_name not in config.sets:
            yield ZoneFault(("phases", phase), f"unknown set {set_name}; there are {', '.join(config.sets) or 'none'}")


def _overlaps(at: tuple[str | int, ...], members: tuple[Zone, ...], mode: Mode) -> Iterator[ZoneFault]:
    watched = [zone for zone in members if zone.method(mode) != "keep_out"]
    for i, one in enumerate(watched):
        for other in watched[i + 1 :]:
            a, b = one.method(mode), other.method(mode)
            if a == b and one.contact == other.contact and one.speed == other.speed:
                continue
            low, high = max(one.heights[0], other.heights[0]), min(one.heights[1], other.heights[1])
            area = common_area(one.outline, other.outline)
            if high - low > LEAST_HEIGHT and area > LEAST_AREA:
                what = "contradict each other" if "no_person" in (a, b) else "overlap"
                text = f"{one.name} ({a}) and {other.name} ({b}) {what}: they share {area:.3f} m2 in {mode} mode"
                yield ZoneFault(at, text)


def _gaps(at: tuple[str | int, ...], members: tuple[Zone, ...], lower: Vector, upper: Vector) -> Iterator[ZoneFault]:
    """Where no zone says what holds, slab by slab between the heights at which anything begins or ends."""
    watched = [zone for zone in members if zone.automatic != "keep_out"]
    cuts = {lower[2], upper[2]}
    for zone in watched:
        cuts.update(min(max(z, lower[2]), upper[2]) for z in zone.heights)
    levels = sorted(cuts)
    for low, high in itertools.pairwise(levels):
        if high - low <= LEAST_HEIGHT:
            continue
        middle = 0.5 * (low + high)
        left: list[Polygon] = [[(lower[0], lower[1]), (upper[0], lower[1]), (upper[0], upper[1]), (lower[0], upper[1])]]
        for zone in watched:
            if zone.heights[0] <= middle <= zone.heights[1]:
                left = remainder(left, zone.outline)
        if left and sum(map(_area, left)) > LEAST_AREA:
            worst = max(left, key=_area)
            xs, ys = [p[0] for p in worst], [p[1] for p in worst]
            yield ZoneFault(
                at,
                f"no zone holds in x {min(xs):.2f} to {max(xs):.2f}, y {min(ys):.2f} to {max(ys):.2f}, "
                f"z {low:.2f} to {high:.2f}: close the gap or say what holds `elsewhere`",
            )


def _holds(zone: Zone, point: Vector) -> bool:
    low, high = zone.heights
    x, y, z = point
    sides = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for a, b in _edges(zone.outline))
    return low <= z <= high and all(s >= 0.0 for s in sides)


# ---------------------------------------------------------------- use


def keep_out_boxes(config: ZoneConfig) -> list[KeepOutBox]:
    """Return what the robot node has to keep the arm out of: the keep-out zones of all sets, at all times.

    A prism counts as the upright box round it, which is larger; one without heights reaches TALL up and down.
    """
    boxes = []
    for zone in config.volumes:
        if zone.automatic != "keep_out":
            continue
        xs, ys = [p[0] for p in zone.outline], [p[1] for p in zone.outline]
        low, high = max(zone.heights[0], -TALL), min(zone.heights[1], TALL)
        edges = zip((min(xs), min(ys), low), (max(xs), max(ys), high), strict=True)
        centre, size = zip(*((0.5 * (a + b), max(1e-3, b - a)) for a, b in edges), strict=True)
        boxes.append(KeepOutBox(name=zone.name, size=size, pose=Pose(position=centre)))
    return boxes


class ZoneMap:
    """The zones of one set in one mode, ready to be asked. Immutable."""

    def __init__(self, config: ZoneConfig, set_name: str, mode: Mode) -> None:
        """Raises KeyError for a set that does not exist."""
        self._zones = [z for z in config.members(set_name) if z.method(mode) != "keep_out"] if config.volumes else []
        self._codes = [STRICTEST.index(z.method(mode)) for z in self._zones]
        fallback: Method = "ssm" if not config.volumes else config.elsewhere or "stop"
        self._elsewhere = STRICTEST.index(fallback)
        # Zones that cover everything leave an elsewhere only to balls that touch none of them.
        self._covering = bool(config.volumes) and config.elsewhere is None
        self._planes = [zone_planes(z) for z in self._zones]
        self.keep_out = (
            tuple(z for z in config.members(set_name) if z.method(mode) == "keep_out") if config.volumes else ()
        )
        """Zones the arm must stay out of."""

    def zone(self, index: int) -> Zone:
        """Zone by its index as in `classify`."""
        return self._zones[index]

    def classify(self, balls: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for balls (n, 4), centre and radius in m, the code of the method and the zone's index (-1: elsewhere).

        The strictest of all zones a ball touches counts; where the zones do not cover everything, a ball that does not
        lie wholly in one of them counts as being elsewhere too. A ball that is not finite, or of negative radius, is
        under `stop`.
        """
        n = len(balls)
        code, zone = np.full(n, len(STRICTEST), np.int64), np.full(n, -1, np.int64)
        whole = np.zeros(n, dtype=bool)
        for i, (normals, offsets) in enumerate(self._planes):
            outside = (balls[:, :3] @ normals.T - offsets).max(axis=1)
            whole |= outside <= -balls[:, 3]
            # Beyond a corner this counts balls as touching that only come near: the strict side.
            stricter = (outside <= balls[:, 3]) & (self._codes[i] < code)
            code[stricter], zone[stricter] = self._codes[i], i
        nowhere = code == len(STRICTEST)
        other = nowhere if self._covering else ~whole & (self._elsewhere < code)
        code[other], zone[other] = self._elsewhere, -1
        broken = ~np.isfinite(balls).all(axis=1) | ~(balls[:, 3] >= 0.0)
        code[broken], zone[broken] = 0, -1
        return code, zone


def zone_planes(zone: Zone) -> tuple[Array, Array]:
    """Outward unit normals (m, 3) and offsets (m,) of the prism: inside where normals @ x <= offsets."""
    normals, offsets = [], []
    for a, b in _edges(zone.outline):
        nx, ny = b[1] - a[1], a[0] - b[0]
        length = math.hypot(nx, ny)
        if length > 1e-9:
            normals.append((nx / length, ny / length, 0.0))
            offsets.append((nx * a[0] + ny * a[1]) / length)
    low, high = zone.heights
    if math.isfinite(low):
        normals.append((0.0, 0.0, -1.0))
        offsets.append(-low)
    if math.isfinite(high):
        normals.append((0.0, 0.0, 1.0))
        offsets.append(high)
    return np.array(normals), np.array(offsets)
