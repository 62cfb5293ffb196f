"""Zones and contact in the second channel: plain float64 numpy, written from the standard, with geometry of its own.

A ball that touches a stop zone stops the arm; one in a zone of reduced speed bounds the speed of every point of the
arm; one that lies wholly in zones of contact may be touched by links that stay wholly in such a zone while they sweep,
at a speed for which neither force nor pressure exceeds what ISO/TS 15066:2016, annex A permits for the most sensitive
part of the body named there. In all other cases separation decides.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robots.contract import PartGeometry
from robots.model import RobotModel
from robots.workcell import Workcell
from safety.clamping import default_gaps
from safety.config import SafetyConfig
from safety.contact import ContactLimits, default_limits
from safety.second_arm import ArmGeometry, Course
from safety.second_clamps import LAG, Clamps
from safety.second_sweep import STEP, distances
from safety.zones import DEFAULT_SET, BoxShape, Mode, Zone

Array = NDArray[np.float64]
FINE = 4
"""Speeds are worked out at so many instants between two places."""
WIGGLE = 0.002
"""Speed that may be missed between two instants, beyond what their second difference shows, m/s."""
INERTIA = 1.03
"""Kinetic energy that may be missed between two places, likewise, as a factor of its root."""
TIGHT = 1e-4
"""What lies in a zone by less than this is not in it, m."""


class _Part(NamedTuple):
    """Limits of a region of the body: mass, kg; spring, N/m; forces, N; gap in which it is clamped, m."""

    mass: float
    spring: float
    transient: float
    held: float
    width: float


class Sorted(NamedTuple):
    """What the zones make of everyone there is."""

    free: Array
    """(n, 4): under separation alone."""
    touchable: tuple[tuple[int, Array], ...]
    """Zone of contact (number in `zones`) and the balls (n, 4) that lie wholly in it."""
    zones: tuple[Zone, ...]
    stop: str
    slowest: float


class SecondZones:
    """Zones of a configuration. Immutable."""

    def __init__(
        self, config: SafetyConfig, model: RobotModel, arm: ArmGeometry, limits: ContactLimits | None,
        workcell: Workcell | None,
    ) -> None:  # fmt: skip
        """Raises ValueError if the configuration names a file of contact limits and none is handed over."""
        if limits is None and config.contact.limits is not None:
            raise ValueError("the safety configuration names a file of contact limits, and none was handed over")
        self._zones = config.zones
        self._contact = config.contact
        self._limits = limits if limits is not None else default_limits()
        self._model, self._arm = model, arm
        self._clamps = Clamps(arm, model, workcell) if workcell is not None and config.zones.touching else None
        self._half_mass = 0.5 * math.fsum(float(m) for m in model.bodies.mass) + config.contact.load

    def sort(self, balls: Array, seen: int, phase: str, mode: Mode) -> Sorted:
        """Sort balls (n, 4), of which the first `seen` are seen, by what holds where they are.

        Where sets are configured and no phase is told, everything strict in any of them holds.
        """
        z = self._zones
        if z.sets and not phase:
            every = [self._of(balls, seen, name, mode) for name in z.sets]
            stop = next((one.stop for one in every if one.stop), "")
            return Sorted(balls, (), (), stop, min(one.slowest for one in every))
        return self._of(balls, seen, z.set_of(phase) if z.sets else DEFAULT_SET, mode)

    def _of(self, balls: Array, seen: int, name: str, mode: Mode) -> Sorted:
        members = [(zone, zone.method(mode)) for zone in self._zones.members(name)]
        members = [(zone, method) for zone, method in members if method != "keep_out"]
        n = len(balls)
        x, r = balls[:, :3], balls[:, 3]
        met, whole, strict, empty = (np.zeros(n, bool) for _ in range(4))
        where = np.full(n, -1)
        contact: list[Zone] = []
        stop, slowest = "", math.inf
        for zone, method in members:
            depth = _depth(zone, x)
            touches, inside = depth >= -r, depth >= r + TIGHT
            met |= touches
            whole |= inside
            if method == "stop" and touches.any():
                stop = zone.name
            elif method == "reduced_speed" and touches.any():
                slowest = min(slowest, zone.speed or 0.0)
            elif method == "ssm_contact":
                where[inside] = len(contact)
                contact.append(zone)
            elif method == "no_person":
                empty |= inside
            if method in ("ssm", "reduced_speed"):
                strict |= touches
        rest = ~met if self._zones.elsewhere is None else ~whole
        if (self._zones.elsewhere or "stop") == "stop" and rest.any():
            stop = "elsewhere"
        # Only unseen space counts as empty where nobody can be; what is seen there is somebody.
        gone = empty & ~strict & (np.arange(n) >= seen)
        where[strict | empty] = -1
        touchable = tuple((k, balls[where == k]) for k in range(len(contact)) if (where == k).any())
        return Sorted(balls[(where < 0) & ~gone], touchable, tuple(contact), stop, slowest)

    def jogging(self, found: Sorted, top: Array, ends: Array, origins: Array) -> float:
        """Largest limit that keeps to a reduced speed with joints at up to `top` (n,), wherever the arm is jogged.

        No point is farther from any joint than the whole arm is long: ends (k, 3) and origins (n, 3) as they are now.
        """
        way = np.linalg.norm(np.diff(origins, axis=0), axis=1).sum()
        tip = np.linalg.norm(ends - origins[-1], axis=1).max() + 0.3
        fastest = float(top.sum()) * float(way + tip)
        return min(1.0, found.slowest / fastest)

    def touch(self, found: Sorted, course: Course, here: tuple[Array, Array, Array],
              ahead: tuple[Array, Array, Array, Array], first: int, held: PartGeometry | None, widest: float,
              slack: float) -> Touch:  # fmt: skip
        """Work out what the zones permit along the places `ahead` (as `Sweep.stretch` returns them) from `first` on."""
        a, b, half, _ = ahead
        speed, energy = self._pace(course, first, len(a), held, slack)
        top = np.maximum.accumulate(speed.max(axis=1))
        a0, b0, radii = here
        if not found.touchable:
            return Touch(top, found.slowest, np.empty((0, *half.shape)), ())
        gaps = np.full(half.shape, -np.inf)
        if self._clamps is not None:
            gaps = self._clamps.gaps(course, first, len(a), held, speed, slack)
        caps = [self._caps(zone, speed, energy, gaps) for zone in found.zones]
        stays = []
        for zone in found.zones:
            off = radii + half * slack + TIGHT
            inside = (_depth(zone, a) >= off) & (_depth(zone, b) >= off)
            now = (_depth(zone, a0) >= radii + TIGHT) & (_depth(zone, b0) >= radii + TIGHT)
            stays.append(np.logical_and.accumulate(inside & now, axis=0))
        rates = np.zeros((len(caps), *half.shape))
        for k, cap in enumerate(caps):
            for other, stay in zip(caps, stays, strict=True):
                rates[k] = np.maximum(rates[k], np.where(stay, np.minimum(cap, other), 0.0))
        near = []
        for k, balls in found.touchable:
            for i in range(len(radii)):
                one = slice(i, i + 1)
                alone = (a0[one], b0[one], radii[one])
                part = (a[:, one], b[:, one], half[:, one] * slack, ahead[3][:, one])
                near.append((k, i, distances(balls, alone, part, widest)))
        return Touch(top, found.slowest, rates, tuple(near))

    def _pace(
        self, course: Course, first: int, count: int, held: PartGeometry | None, slack: float
    ) -> tuple[Array, Array]:
        """Speed (count, m) of every link's fastest point in the stretches that begin LAG places before each place, up
        to the next, and root of twice the kinetic energy (count,), both at rate 1. Without slack: at the places alone.
        """
        begin = first - LAG
        at: Array = np.arange(begin * FINE, (first + count) * FINE + 1, dtype=np.float64) * (STEP / FINE)
        speeds = self._arm.speeds(course.positions(at), course.velocities(at), held)
        bend = np.zeros_like(speeds)
        bend[1:-1] = np.abs(speeds[2:] - 2.0 * speeds[1:-1] + speeds[:-2])
        speeds = speeds + slack * (bend + WIGGLE)
        at = at[::FINE]
        zero = np.zeros(self._model.dof)
        root = []
        for q, v in zip(course.positions(at), course.velocities(at), strict=True):
            force = self._model.torque(q, zero, v) - self._model.torque(q, zero, zero)
            root.append(math.sqrt(max(0.0, float(v @ force))))
        energy = np.array(root)
        turn = np.zeros_like(energy)
        turn[1:-1] = np.abs(energy[2:] - 2.0 * energy[1:-1] + energy[:-2])
        energy = (energy + slack * turn) * (INERTIA if slack > 0.0 else 1.0)
        if slack == 0.0:
            return speeds[LAG * FINE :: FINE][:count], self._loaded(energy[LAG:][:count], speeds[LAG * FINE :: FINE])
        window = np.lib.stride_tricks.sliding_window_view
        fastest: Array = window(speeds, (LAG + 1) * FINE + 1, axis=0)[::FINE].max(axis=-1)[:count]
        strongest: Array = window(energy, LAG + 2).max(axis=-1)[:count]
        return fastest, self._loaded(strongest, fastest)

    def _loaded(self, energy: Array, speed: Array) -> Array:
        """Root of twice the energy (count,) with the load, taken to move as the fastest point of the arm does."""
        loaded: Array = np.sqrt(energy**2 + self._contact.load * speed[: len(energy)].max(axis=1) ** 2)
        return loaded

    def _caps(self, zone: Zone, speed: Array, energy: Array, gaps: Array) -> Array:
        """Largest rate (count, m) up to each place at which a touch stays within the limits of a zone's regions."""
        assert zone.contact is not None  # a zone of contact has its assessment
        v = np.maximum(speed, 1e-9)
        # Half the moving mass and the load (A.3.3), or all the energy the arm has, whichever is more.
        work = np.maximum(self._half_mass * v**2, energy[:, None] ** 2)
        worst = np.full(v.shape, np.inf)
        for region in zone.contact.regions:
            part = self._part(region)
            # Free to yield: 1/2 mu v^2 = F^2 / 2k; held: all the work goes into the spring.
            free = work * part.mass * v**2 / (work + part.mass * v**2)
            worst = np.minimum(worst, part.transient / np.sqrt(part.spring * free))
            narrow = ~(gaps >= part.width)
            worst = np.where(narrow, np.minimum(worst, part.held / np.sqrt(part.spring * work)), worst)
        rates: Array = np.minimum.accumulate(np.nan_to_num(worst, nan=0.0, posinf=1e9), axis=0)
        return rates

    def _part(self, region: str) -> _Part:
        """Limits of the weakest area of a region; none where no contact is permitted."""
        body = self._limits.regions[region]
        area = self._contact.contact_area_mm2
        transient = held = math.inf
        for spot in body.areas.values():
            transient, held = min(transient, spot.F_T or 0.0), min(held, spot.F_QS)
            if area is not None:
                # N/cm2 on mm2
                transient, held = min(transient, (spot.p_T or 0.0) * area / 100.0), min(held, spot.p_QS * area / 100.0)
        if not body.contact:
            transient = held = 0.0
        return _Part(body.m_H, 1000.0 * body.k, transient, held, default_gaps().width(region))


class Touch(NamedTuple):
    """What the zones permit along a row of places; see `shortfall`."""

    top: Array
    """(K,): fastest point of the arm up to each place at rate 1, m/s."""
    slowest: float
    rates: Array
    """(zones, K, m): largest rate at which a link may touch balls of a zone, up to each place."""
    near: tuple[tuple[int, int, Array], ...]
    """Zone, link, and their distance (1 + K,): now and at each place."""

    def distance(self, limit: float, last: int, cut: NDArray[np.int64]) -> float:
        """Least distance, m, to those who may not be touched at `limit` up to place `last`; -inf: too fast as such.

        cut: which of the distances count.
        """
        end = min(last, len(self.top) - 1)
        if limit * self.top[end] > self.slowest:
            return -math.inf
        least = math.inf
        for zone, link, away in self.near:
            if not limit <= self.rates[zone, end, link]:
                least = min(least, float(away[np.minimum(cut, len(away) - 1)].min()))
        return least


def _depth(zone: Zone, x: Array) -> Array:
    """How deep points (..., 3) lie in a zone: distance from the nearest of its faces' planes, negative outside, m."""
    shape = zone.shape
    if isinstance(shape, BoxShape):
        box: Array = np.minimum(x - np.array(shape.lower), np.array(shape.upper) - x).min(axis=-1)
        return box
    corners = np.array(shape.corners)
    middle = corners.mean(axis=0)
    depth = np.full(x.shape[:-1], np.inf)
    for p, q in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        side = q - p
        length = float(np.hypot(*side))
        if length < 1e-9:
            continue
        across = np.array([side[1], -side[0]]) / length
        if (middle - p) @ across < 0.0:
            across = -across
        depth = np.minimum(depth, (x[..., :2] - p) @ across)
    if shape.z is not None:
        depth = np.minimum(depth, np.minimum(x[..., 2] - shape.z[0], shape.z[1] - x[..., 2]))
    return depth
