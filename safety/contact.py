"""Power and force limiting: how fast the arm may be when it may touch a person (ISO/TS 15066:2016, annex A).

A transient contact is taken as two masses and a spring: the arm's effective mass m_R, the body region's m_H and k.
All of the kinetic energy of their relative motion goes into the spring, mu v^2 / 2 = F^2 / (2 k) with the reduced mass
mu = 1 / (1/m_H + 1/m_R), so that the permitted force F gives v = F / sqrt(mu k) (A.3.4 and A.3.6). A permitted pressure
p gives F = p A, but only for a contact area A that somebody has measured on the tool and declared.

The limits are data (`data/contact_limits.yaml`) with a source a row, and can be replaced. Two regions permit no contact
whatever the file says. Which regions can be touched is for the risk assessment of a zone, never for a camera to say.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from cell.yamlfile import load_yaml
from robots.model import RobotModel
from robots.workcell import Name, Strict

NO_CONTACT = frozenset({"skull_forehead", "face"})
"""Regions where ISO/TS 15066 permits no contact."""
Kind = Literal["transient", "quasi_static"]

PER_MM = 1e3
"""N/mm in N/m."""
PER_CM2 = 1e4
"""N/cm2 in Pa."""

Force = Annotated[float, Field(gt=0.0, le=2000.0, allow_inf_nan=False)]
Pressure = Annotated[float, Field(gt=0.0, le=5000.0, allow_inf_nan=False)]


class BodyArea(Strict):
    """Limits of one measured spot of a body region."""

    p_QS: Pressure
    """Quasi-static, N/cm2."""
    F_QS: Force
    """Quasi-static, N."""
    p_T: Pressure | None = None
    """Transient, N/cm2; absent: no transient contact is permitted."""
    F_T: Force | None = None
    """Transient, N."""
    confidence: Annotated[str, Field(min_length=1, max_length=60)]
    source: Annotated[str, Field(min_length=1, max_length=400)]

    @model_validator(mode="after")
    def _together(self) -> BodyArea:
        if (self.p_T is None) != (self.F_T is None):
            raise ValueError("p_T and F_T belong together")
        if self.F_T is not None and self.p_T is not None and (self.F_T < self.F_QS or self.p_T < self.p_QS):
            raise ValueError("a transient limit below the quasi-static one is a slip of the pen")
        return self


class BodyRegion(Strict):
    """Spring constant, mass and limits of one body region."""

    contact: bool
    """Whether contact is permitted at all."""
    k: Annotated[float, Field(gt=0.0, le=1000.0, allow_inf_nan=False)]
    """N/mm."""
    m_H: Annotated[float, Field(gt=0.0, le=200.0, allow_inf_nan=False)]
    """kg."""
    source: Annotated[str, Field(min_length=1, max_length=400)]
    areas: Annotated[dict[Name, BodyArea], Field(min_length=1)]


class ContactLimits(Strict):
    """A file of limits."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    regions: Annotated[dict[Name, BodyRegion], Field(min_length=1)]

    @model_validator(mode="after")
    def _never(self) -> ContactLimits:
        for name, region in self.regions.items():
            if name in NO_CONTACT and region.contact:
                raise ValueError(f"{name}: ISO/TS 15066 permits no contact there")
            if region.contact and any(area.F_T is None for area in region.areas.values()):
                raise ValueError(f"{name}: contact is permitted, but an area has no transient limits")
        return self


class ContactError(ValueError):
    """An argument that cannot be used. `field` names it."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


class ContactSpeed(NamedTuple):
    """What contact with a region permits. SI units."""

    mu: float
    """Reduced mass, kg."""
    k: float
    """N/m."""
    force: float
    """Permitted force, N; 0 where no contact is permitted."""
    pressure: float
    """Permitted pressure, Pa; 0 where no contact is permitted."""
    speed: float
    """Largest relative speed, m/s."""
    source: str


def default_limits_path() -> Path:
    """Return the file of limits that comes with the package."""
    return Path(str(resources.files("safety").joinpath("data", "contact_limits.yaml")))


@cache
def default_limits() -> ContactLimits:
    """Return the limits that come with the package."""
    return load_limits(default_limits_path())


def load_limits(path: Path) -> ContactLimits:
    """Read a file of limits. Raises FileErrors with every fault."""
    return load_yaml(path, ContactLimits)


def limits_fingerprint(path: Path) -> str:
    """SHA-256 (hex) of a file of limits, byte by byte. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reduced_mass(m_H: float, m_R: float) -> float:
    """Return mu = 1 / (1/m_H + 1/m_R), kg (ISO/TS 15066:2016, A.3.4). m_R may be inf: a body that does not yield."""
    for name, value in (("m_H", m_H), ("m_R", m_R)):
        if math.isnan(value) or value <= 0.0:
            raise ContactError(name, f"{value} kg must be more than 0")
    return 1.0 / (1.0 / m_H + 1.0 / m_R)


def contact_speed(
    region: str,
    m_R: float,
    kind: Kind = "transient",
    contact_area: float | None = None,
    body_area: str | None = None,
    limits: ContactLimits | None = None,
) -> ContactSpeed:
    """Return the largest speed of the arm relative to a body region.

    Of the region's areas the weakest counts, unless `body_area` names one. Without a declared `contact_area` the force
    alone limits; with one also the pressure. Quasi-static contact (a part that can be clamped) uses the quasi-static
    limits, and the arm's whole effective mass as mu: what is clamped cannot give way.

    Args:
        region: name in the file of limits.
        m_R: effective mass of arm and load towards the person, kg; inf is allowed.
        kind: transient or quasi-static.
        contact_area: smallest area with which the tool can touch, m^2, as declared for it.
        body_area: name of an area of the region.
        limits: file of limits; left out: the package's.

    Raises ContactError, naming the argument, for a value that cannot be used.
    """
    table = limits if limits is not None else default_limits()
    body = _region(table, region)
    if isinstance(m_R, bool) or not isinstance(m_R, int | float) or math.isnan(m_R) or m_R <= 0.0:
        raise ContactError("m_R", f"{m_R!r} kg must be more than 0")
    if contact_area is not None and not (math.isfinite(contact_area) and 0.0 < contact_area <= 1.0):
        raise ContactError("contact_area", f"{contact_area!r} m2 must be more than 0 and at most 1")
    spots = _areas(body, region, body_area)
    if kind not in ("transient", "quasi_static"):
        raise ContactError("kind", f"{kind!r} is neither transient nor quasi_static")
    mu = reduced_mass(body.m_H, m_R) if kind == "transient" else m_R
    k = body.k * PER_MM
    origin = f"{table.title}; {region}: k, m_H: {body.source}"
    if region in NO_CONTACT or not body.contact:
        return ContactSpeed(mu, k, 0.0, 0.0, 0.0, f"no contact is permitted; {origin}")
    force, by_force = min((_limits(area, kind)[0], name) for name, area in spots.items())
    pressure, by_pressure = min((_limits(area, kind)[1], name) for name, area in spots.items())
    permitted = force if contact_area is None else min(force, pressure * contact_area)
    for what, name in (("force", by_force), ("pressure", by_pressure)):
        origin += f"; {what}: {name} ({spots[name].confidence}): {spots[name].source}"
    return ContactSpeed(mu, k, force, pressure, permitted / math.sqrt(mu * k), origin)


def _limits(area: BodyArea, kind: Kind) -> tuple[float, float]:
    """Force, N, and pressure, Pa."""
    if kind == "quasi_static":
        return area.F_QS, area.p_QS * PER_CM2
    return area.F_T or 0.0, (area.p_T or 0.0) * PER_CM2


def _region(table: ContactLimits, region: str) -> BodyRegion:
    body = table.regions.get(region) if isinstance(region, str) else None
    if body is None:
        raise ContactError("region", f"{region!r} is unknown: there are {', '.join(table.regions)}")
    return body


def _areas(body: BodyRegion, region: str, body_area: str | None) -> dict[str, BodyArea]:
    if body_area is None:
        return body.areas
    if body_area not in body.areas:
        raise ContactError("body_area", f"{body_area!r} is no area of {region}: there are {', '.join(body.areas)}")
    return {body_area: body.areas[body_area]}


# ---------------------------------------------------------------- the arm's mass


def simplified_mass(model: RobotModel, load: float) -> float:
    """Return m_R = M / 2 + m_L, kg (ISO/TS 15066:2016, A.3.3, figure A.3).

    M is the mass of all moving parts, with the tool as far as the model has it. load: part and everything else carried,
    kg. Raises ContactError for a load that is negative or not finite.
    """
    if not (math.isfinite(load) and load >= 0.0):
        raise ContactError("load", f"{load!r} kg must be finite and >= 0")
    return float(np.sum(model.bodies.mass)) / 2.0 + load


def mass_matrix(model: RobotModel, q: ArrayLike) -> NDArray[np.float64]:
    """Return the joint-space inertia (dof, dof), kg m^2, from the rigid-body model, column by column."""
    zero = np.zeros(model.dof)
    still = model.torque(q, zero, zero)
    columns = [model.torque(q, zero, unit) - still for unit in np.eye(model.dof)]
    M = np.column_stack(columns)
    return 0.5 * (M + M.T)


def directed_mass(
    model: RobotModel, q: ArrayLike, frame: int, point: ArrayLike, direction: ArrayLike, load: float = 0.0
) -> float:
    """Return the mass, kg, that somebody feels who stops a point of the arm along a direction.

    1 / (u^T J M^-1 J^T u) with the translational Jacobian J at the point (Khatib 1987, operational-space inertia along
    one direction). It is what a blow meets before the drives react; compliance of the joints would only lower it.

    Args:
        q: joint positions (dof,), rad.
        frame: moving frame the point is fixed to, 1..dof.
        point: (3,) in the base frame, m. direction: (3,), any length but 0.
        load: mass of what is held, kg. It is taken as moving with the last frame, at the TCP.

    Returns inf where the arm cannot yield in that direction. Raises ContactError for arguments that are not finite or
    of the wrong shape.
    """
    x, u = np.asarray(point, dtype=np.float64), np.asarray(direction, dtype=np.float64)
    joints = np.asarray(q, dtype=np.float64)
    if x.shape != (3,) or u.shape != (3,) or not (np.isfinite(x).all() and np.isfinite(u).all()):
        raise ContactError("point", "point and direction must be three finite numbers each")
    if joints.shape != (model.dof,) or not np.isfinite(joints).all():
        raise ContactError("q", f"{model.dof} finite joint positions are needed")
    length = float(np.linalg.norm(u))
    if length == 0.0 or not 1 <= frame <= model.dof:
        raise ContactError("direction" if length == 0.0 else "frame", "is of length 0, or no moving frame")
    if not (math.isfinite(load) and load >= 0.0):
        raise ContactError("load", f"{load!r} kg must be finite and >= 0")
    M = mass_matrix(model, joints)
    if load > 0.0:
        J_tcp = model.jacobian(joints)[:3]
        M = M + load * J_tcp.T @ J_tcp
    row = _jacobian(model, joints, frame, x).T @ (u / length)
    yielding = float(row @ np.linalg.solve(M, row))
    return 1.0 / yielding if yielding > 1e-12 else math.inf


def _jacobian(model: RobotModel, q: NDArray[np.float64], frame: int, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Translational Jacobian (3, dof) of a point fixed to a frame."""
    R, p = model.frames(q)
    J = np.zeros((3, model.dof))
    for k in range(frame):
        J[:, k] = np.cross(R[k + 1][:, 2], point - p[k + 1])
    return J


# ---------------------------------------------------------------- rates along a motion


class TouchLimit(NamedTuple):
    """What contact with one body region permits, whatever the arm's mass. SI units."""

    region: str
    m_H: float
    """kg."""
    k: float
    """N/m."""
    transient: float
    """Permitted force, N, of force and of pressure on the declared area."""
    quasi_static: float
    """N."""


def touch_limit(region: str, limits: ContactLimits, contact_area: float | None = None) -> TouchLimit:
    """Return the limits of a region. Raises ContactError for one where no contact is permitted."""
    found = [contact_speed(region, 1.0, kind, contact_area, limits=limits) for kind in ("transient", "quasi_static")]
    forces = [one.speed * math.sqrt(one.mu * one.k) for one in found]
    if min(forces) <= 0.0:
        raise ContactError("region", f"no contact is permitted with {region}")
    body = limits.regions[region]
    return TouchLimit(region, body.m_H, found[0].k, forces[0], forces[1])


def touching_rates(
    limit: TouchLimit, speed: NDArray[np.float64], energy: NDArray[np.float64], mass: float,
    clamping: NDArray[np.bool_],
) -> NDArray[np.float64]:  # fmt: skip
    """Return the largest rate (links, K) at which contact with a body region keeps its limits.

    The arm's mass is the larger of the simplified model's and of what the arm can bring to bear in the worst direction:
    whatever the direction of the blow, it cannot give more than its whole kinetic energy, so that its directed mass is
    at most 2 E / v^2. A part that is clamped takes all of that; one that is free yields with its own mass.

    Args:
        limit: of the region.
        speed: (links, K) of the fastest point of a link at rate 1, m/s.
        energy: (K,) square root of twice the kinetic energy at rate 1.
        mass: of the simplified model, kg.
        clamping: (links, K): where a part of that region can be clamped.
    """
    v = np.maximum(speed, 1e-9)
    m_R = np.maximum(mass, (energy / v) ** 2)
    mu = 1.0 / (1.0 / limit.m_H + 1.0 / m_R)
    free = limit.transient / (np.sqrt(mu * limit.k) * v)
    held = limit.quasi_static / (np.sqrt(m_R * limit.k) * v)
    rates: NDArray[np.float64] = np.where(clamping, np.minimum(free, held), free)
    return rates
