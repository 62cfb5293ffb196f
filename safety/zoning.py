"""Zones in force: which of them hold for a motion, what each occupied ball calls for, and what that permits the arm.

Which set of zones holds is bound to the motion: the recipe phase it was planned for travels with it, and the signed
configuration says which set that phase has. Where sets are configured and no phase is told, the strictest of all sets
holds: every stop zone and every reduced speed of any of them, no contact, and nobody is taken out of account.

* `stop`: a ball that touches the zone permits nothing.
* `reduced_speed`: separation as everywhere, and no point of the arm is faster than the zone's speed.
* `ssm`: separation.
* `ssm_contact`: separation, or a touch slow enough (`safety.permits`), for balls that lie wholly in such zones.
* `no_person`: a ball of unseen space that lies wholly in the zone holds nobody. Whatever is *seen* there contradicts
  the justification and counts like any other.

Balls are not grown here: each already contains all travel up to the observation's reference time, separation counts
what comes after, and the size of a stop zone is for the standard for protective fields (`safety.protective_field`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.compiled import njit
from perception.contract import Observation
from robots.contract import PartGeometry
from robots.kinematics import Chain
from robots.model import RobotModel
from robots.motion import Motion
from safety.clamping import Fixed, default_gaps, gaps_along, pinching_pairs
from safety.config import SafetyConfig
from safety.contact import ContactLimits, TouchLimit, default_limits, simplified_mass, touch_limit, touching_rates
from safety.pace import Pace, pace_of
from safety.permits import Terrain, open_terrain
from safety.stations import WINDOW, Path, levers
from safety.zones import DEFAULT_SET, STRICTEST, Mode, Zone, ZoneConfig, zone_planes

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
STOP, SSM, REDUCED, CONTACT, NO_PERSON = range(5)
assert STRICTEST == ("stop", "ssm", "reduced_speed", "ssm_contact", "no_person")
MARGIN = 1e-4
"""A ball or link that lies in a zone by less than this is not in it: coordinates come in single precision, m."""


class Ruling(NamedTuple):
    """What the zones make of an observation."""

    balls: F32
    """(n * 4,) balls that count for separation."""
    zone: I8
    """(n,) contact zone of each; empty if nobody is in one."""
    stop: str
    """Stop zone that somebody is in, or empty."""
    slowest: float
    """Reduced speed in force, m/s; inf: none."""


class _Set(NamedTuple):
    """The zones of one set in one mode, as arrays."""

    names: tuple[str, ...]
    planes: F64
    """(zones, p, 4)."""
    kind: I8
    contact: I8
    """Number among the zones of contact, or -1."""
    speed: F64
    elsewhere: int
    covering: bool
    touch: tuple[tuple[TouchLimit, ...], ...]
    """Body regions of each zone of contact."""
    contact_planes: F64


@njit(cache=True)
def classify(
    balls: F32, seen: int, planes: F64, kind: I8, contact: I8, speed: F64, elsewhere: int, covering: bool,
    zone: I8, keep: NDArray[np.bool_],
) -> tuple[int, float, bool, bool]:  # fmt: skip
    """Sort balls (n * 4,) by the zones (Z,) they touch; the first `seen` of them are seen.

    zone, keep: (n,) filled with the contact zone and whether the ball counts.

    Returns:
        the stop zone touched (-1: none; Z: elsewhere), least reduced speed, whether any ball is in a contact zone, and
        whether any does not count.
    """
    stopped, slowest, touching, dropped = -1, np.inf, False, False
    for i in range(zone.shape[0]):
        x, y, z = float(balls[4 * i]), float(balls[4 * i + 1]), float(balls[4 * i + 2])
        r = float(balls[4 * i + 3])
        zone[i], keep[i] = -1, True
        if not (np.isfinite(x + y + z) and 0.0 <= r < np.inf):
            # It is nowhere, so in no zone that makes it count for less; separation stops the arm for it.
            continue
        met, whole, empty, strict = False, False, False, False
        for s in range(kind.shape[0]):
            out = -np.inf
            for p in range(planes.shape[1]):
                out = max(out, planes[s, p, 0] * x + planes[s, p, 1] * y + planes[s, p, 2] * z - planes[s, p, 3])
            # Beyond a corner this takes what only comes near for touching: the strict side.
            if out > r:
                continue
            inside = out <= -(r + MARGIN)
            met = True
            whole |= inside
            if kind[s] == STOP:
                stopped = s
            elif kind[s] == REDUCED:
                slowest, strict = min(slowest, speed[s]), True
            elif kind[s] == CONTACT and inside:
                zone[i] = contact[s]
            elif kind[s] == NO_PERSON and inside:
                empty = True
            elif kind[s] == SSM:
                strict = True
        beyond = not met if covering else not whole
        if beyond and elsewhere == STOP:
            stopped = kind.shape[0]
        if strict or empty:
            zone[i] = -1
        if empty and not strict and i >= seen:
            keep[i], dropped = False, True
        touching |= zone[i] >= 0
    return stopped, slowest, touching, dropped


class Zoning:
    """The zones of a safety configuration, ready to be asked. Keeps what it has worked out for the motion under way."""

    def __init__(
        self, config: SafetyConfig, model: RobotModel, limits: ContactLimits | None = None, fixed: Fixed | None = None
    ) -> None:
        """limits: those the configuration names. Raises ValueError if it names some and none are given.

        fixed: what somebody can be clamped against; left out: they can be everywhere.
        """
        if limits is None and config.contact.limits is not None:
            raise ValueError("the safety configuration names a file of contact limits, and none was handed over")
        self._config = config.zones
        self._model = model
        self._load = config.contact.load
        self._mass = simplified_mass(model, self._load)
        mm2 = config.contact.contact_area_mm2
        table = limits if limits is not None else default_limits()
        self._sets = {
            (name, mode): _arrays(config.zones, name, mode, table, None if mm2 is None else mm2 * 1e-6)
            for name in config.zones.sets or {DEFAULT_SET: []}
            for mode in _MODES
        }
        self._fixed = fixed
        touching = any(one.touch for one in self._sets.values())
        self._pairs = (
            pinching_pairs(model.chain, model.q_lower, model.q_upper) if fixed is not None and touching else None
        )
        self._pace: tuple[Motion, PartGeometry | None, Pace] | None = None
        self._caps: tuple[Pace, tuple[str, Mode], F64] | None = None

    def warm_up(self, fixed: int) -> None:
        """Load the compiled kernels."""
        rest = np.tile((self._model.q_lower + self._model.q_upper) / 2, (3, 1))
        path = Path(rest, np.zeros_like(rest), np.full(3, 8.0), 0.01)
        pace_of(self._model.chain, fixed, self._model.bodies, path, 0.0, self._load)
        if self._fixed is not None and self._pairs is not None:
            still = np.zeros((len(self._model.chain.owner) - fixed, 4))
            gaps_along(self._model.chain, fixed, path, 0.0, 0.0025, still, self._pairs, self._fixed, 1.0)
        levers(self._model.chain, fixed, np.empty((len(self._model.chain.owner) - fixed, self._model.dof)))
        for found in self._sets.values():
            _ruled(found, 1, np.zeros(4, np.float32))

    def set_for(self, phase: str) -> str | None:
        """The set in force in a recipe phase; None: not known."""
        if not self._config.sets:
            return DEFAULT_SET
        return self._config.set_of(phase) if phase else None

    def rule(self, observation: Observation, balls: F32, phase: str, mode: Mode) -> Ruling:
        """Apply the zones to the balls (n * 4,) of an observation."""
        name = self.set_for(phase)
        if name is not None:
            found = _ruled(self._sets[name, mode], observation.seen, balls)
            # What perception or a test has reservations about is no ground for touching anybody.
            return found._replace(zone=_NOBODY) if observation.reason else found
        stop, slowest = "", math.inf
        for (_, of_mode), arrays in self._sets.items():
            if of_mode == mode:
                one = _ruled(arrays, observation.seen, balls)
                stop, slowest = stop or one.stop, min(slowest, one.slowest)
        return Ruling(balls, _NOBODY, stop, slowest)

    def terrain(self, ruling: Ruling, chain: Chain, fixed: int, held: PartGeometry | None, motion: Motion,
                progress: float, mode: Mode) -> Terrain:  # fmt: skip
        """What a ruling means for a motion from `progress` on."""
        touching = len(ruling.zone) > 0
        if not touching and not ruling.slowest < math.inf:
            return _OPEN
        pace = self._paced(chain, fixed, held, motion, progress)
        top: F64 = pace.speed.max(axis=0)
        name = self.set_for(motion.phase)
        if not touching or name is None:
            return _OPEN._replace(
                top=top, slowest=ruling.slowest, begin=pace.begin, piece=pace.piece, final=pace.final
            )  # fmt: skip
        caps = self._capped(pace, name, mode, chain, fixed, motion)
        planes = self._sets[name, mode].contact_planes
        return Terrain(ruling.zone, planes, caps, top, ruling.slowest, pace.begin, pace.piece, pace.final)

    def jogging(self, slowest: float, chain: Chain, fixed: int, top: F64) -> float:
        """Largest limit at which no point is faster than a reduced speed while joints turn at up to `top` (n,), rad/s.

        In any configuration: by the farthest that each point can ever be from each axis.
        """
        lever = np.empty((len(chain.owner) - fixed, len(top)))
        levers(chain, fixed, lever)
        fastest = float(((lever + chain.radius[fixed:, None]) @ top).max())
        return 1.0 if slowest >= fastest else slowest / fastest

    def _paced(self, chain: Chain, fixed: int, held: PartGeometry | None, motion: Motion, progress: float) -> Pace:
        known = self._pace
        if known is not None and known[0] is motion and known[1] == held:
            pace = known[2]
            if pace.begin <= max(0.0, progress - 0.1) + 1e-9 and (pace.final or pace.end >= progress + WINDOW):
                return pace
        path = Path(motion.path, motion.curvature, motion.slope_limits, motion.step)
        pace = pace_of(chain, fixed, self._model.bodies, path, progress, self._load)
        self._pace = (motion, held, pace)
        return pace

    def _capped(self, pace: Pace, name: str, mode: Mode, chain: Chain, fixed: int, motion: Motion) -> F64:
        if self._caps is not None and self._caps[0] is pace and self._caps[1] == (name, mode):
            return self._caps[2]
        touch = self._sets[name, mode].touch
        gaps = self._gaps(pace, chain, fixed, motion, touch)
        caps = np.empty((len(touch), *pace.speed.shape))
        for cap, regions in zip(caps, touch, strict=True):
            cap[:] = np.inf
            for one in regions:
                clamped = ~(gaps >= default_gaps().width(one.region))
                np.minimum(cap, touching_rates(one, pace.speed, pace.energy, self._mass, clamped), out=cap)
        # A number that is none permits nothing.
        caps[~np.isfinite(caps)] = 0.0
        self._caps = (pace, (name, mode), caps)
        return caps

    def _gaps(
        self, pace: Pace, chain: Chain, fixed: int, motion: Motion, touch: tuple[tuple[TouchLimit, ...], ...]
    ) -> F64:
        """Narrowest gap at each link in each piece, (links, K); -inf where nothing is known of them."""
        if self._fixed is None or self._pairs is None:
            return np.full(pace.speed.shape, -np.inf)
        widths = [default_gaps().width(one.region) for regions in touch for one in regions]
        widest = max((w for w in widths if w < math.inf), default=0.0)
        path = Path(motion.path, motion.curvature, motion.slope_limits, motion.step)
        return gaps_along(
            chain, fixed, path, pace.begin, pace.piece, pace.speed, self._pairs, self._fixed, widest + MARGIN
        )  # fmt: skip


_MODES: tuple[Mode, ...] = ("automatic", "manual")
_NOBODY: I8 = np.empty(0, np.int8)
_OPEN = open_terrain()


def _arrays(
    config: ZoneConfig, name: str, mode: Mode, limits: ContactLimits, contact_area: float | None
) -> _Set:  # fmt: skip
    zones: list[Zone] = [zone for zone in config.members(name) if zone.method(mode) != "keep_out"]
    kind = np.array([STRICTEST.index(zone.method(mode)) for zone in zones], np.int8)
    planes = [zone_planes(zone) for zone in zones]
    most = max((len(offsets) for _, offsets in planes), default=0)
    table = np.zeros((len(zones), most, 4))
    table[:, :, 3] = 1e9  # what pads the shorter ones is far outside
    for row, (normals, offsets) in zip(table, planes, strict=True):
        row[: len(offsets), :3], row[: len(offsets), 3] = normals, offsets
    contact = np.full(len(zones), -1, np.int8)
    touching = np.flatnonzero(kind == CONTACT)
    contact[touching] = np.arange(len(touching))
    touch = tuple(
        tuple(touch_limit(region, limits, contact_area) for region in zones[z].contact.regions)  # type: ignore[union-attr]
        for z in touching
    )
    shrunk = np.ascontiguousarray(table[touching])
    shrunk[:, :, 3] -= MARGIN
    fallback = "ssm" if not config.volumes else config.elsewhere or "stop"
    speed = np.array([zone.speed if zone.speed is not None else math.inf for zone in zones], dtype=np.float64)
    return _Set(
        tuple(zone.name for zone in zones), table, kind, contact, speed, STRICTEST.index(fallback),
        bool(config.volumes) and config.elsewhere is None, touch, shrunk,
    )  # fmt: skip


def _ruled(found: _Set, seen: int, balls: F32) -> Ruling:
    n = len(balls) // 4
    zone, keep = np.empty(n, np.int8), np.empty(n, np.bool_)
    stopped, slowest, touching, dropped = classify(
        balls, seen, found.planes, found.kind, found.contact, found.speed, found.elsewhere, found.covering, zone, keep
    )
    stop = "" if stopped < 0 else (*found.names, "elsewhere")[stopped]
    if dropped:
        balls, zone = np.ascontiguousarray(balls.reshape(-1, 4)[keep]).reshape(-1), zone[keep]
    return Ruling(balls, zone if touching else _NOBODY, stop, slowest)
