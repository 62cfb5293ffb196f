"""safety.yaml: every figure the monitor's decisions rest on, with the fingerprint that stands on each lease."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from cell.yamlfile import Document, FileError, FileErrors, read_yaml
from robots.model import RobotModel
from robots.rates import RateLimits
from robots.workcell import Strict, Vector
from safety.contact import ContactLimits, default_limits, limits_fingerprint, load_limits
from safety.separation import FAST_APPROACH, NEAR, SLOW_APPROACH, intrusion_distance
from safety.stopping import Stopping, StoppingError, load_table, table_fingerprint
from safety.zones import ZoneConfig, zone_faults

Seconds = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Metres = Annotated[float, Field(ge=0.0, le=2.0, allow_inf_nan=False)]


class ReactionTime(Strict):
    """Parts of the time from exposure to the drives braking, s. Their sum is the reaction time T_r."""

    frame_period: Seconds = 1 / 30
    exposure_and_transfer: Seconds = 0.035
    missed_frames: Annotated[int, Field(ge=0, le=10)] = 1
    """Frames in a row that may be lost without the arm braking."""
    perception: Seconds = 0.006
    monitor_period: Seconds = 0.008
    bus: Seconds = 0.002
    tick: Seconds = 0.004
    drive_delay: Seconds = 0.016

    @property
    def lease_validity(self) -> float:
        """How long after the oldest exposure a lease may be obeyed, s."""
        frames = (1 + self.missed_frames) * self.frame_period
        return frames + self.exposure_and_transfer + self.perception + self.monitor_period + self.bus

    @property
    def after_expiry(self) -> float:
        """Time from a lease's expiry to the drives braking, s."""
        return self.tick + self.drive_delay

    @property
    def total(self) -> float:
        """T_r, s."""
        return self.lease_validity + self.after_expiry


class HumanSpeed(Strict):
    """Speeds a person is taken to move at, m/s. What is faster is an assumption, counted and not guaranteed."""

    slow: Annotated[float, Field(ge=SLOW_APPROACH, le=10.0)] = SLOW_APPROACH
    fast: Annotated[float, Field(ge=FAST_APPROACH, le=10.0)] = FAST_APPROACH

    @model_validator(mode="after")
    def _ordered(self) -> HumanSpeed:
        if self.fast < self.slow:
            raise ValueError("fast (hand) must not be below slow (walking)")
        return self


class ContactConfig(Strict):
    """What the calculation of contact rests on, apart from the zones where it is permitted."""

    limits: Annotated[str, Field(min_length=1)] | None = None
    """File of biomechanical limits beside the safety.yaml; left out: the package's."""
    limits_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Its fingerprint, so that the file is part of what is signed."""
    contact_area_mm2: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Smallest area with which arm and tool can touch, as measured and declared; left out: pressures are not used."""
    load: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    """Heaviest part and whatever the arm's model does not contain, kg."""

    @model_validator(mode="after")
    def _together(self) -> ContactConfig:
        if (self.limits is None) != (self.limits_sha256 is None):
            raise ValueError("limits and limits_sha256 belong together")
        return self


class SafetyConfig(Strict):
    """One safety.yaml."""

    title: Annotated[str, Field(min_length=1, max_length=120)]
    reaction: ReactionTime = ReactionTime()
    human: HumanSpeed = HumanSpeed()
    detection_capability_mm: Annotated[float, Field(gt=0.0, le=70.0)] = 40.0
    """Smallest object that is never missed, mm."""
    C: Metres | None = None
    """Intrusion distance, m; by default what ISO 13855 gives for the detection capability, never less."""
    Z_d: Metres
    """Position uncertainty of a person: noise, bias, calibration, m."""
    Z_r: Metres
    """Position uncertainty of the arm: tracking error, model, what the self-filter hides, m."""
    restart_after: Annotated[float, Field(ge=1.0, le=60.0)] = 1.0
    """After a protective stop the way must have been clear for so long before the arm goes on by itself, s."""
    restart_limit: Annotated[float, Field(ge=0.02, le=1.0)] = 0.05
    """... and the permitted rate must be at least this."""
    zones: ZoneConfig = ZoneConfig()
    contact: ContactConfig = ContactConfig()
    stopping_table: Annotated[str, Field(min_length=1)] | None = None
    """Table of `cell robots stop-test` beside the safety.yaml: no stop is then taken to be shorter than measured."""
    stopping_table_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Its fingerprint, so that the table is part of what is signed."""
    sources: dict[str, str] = {}
    """Where each figure comes from; for the reader and the report."""

    @model_validator(mode="after")
    def _intrusion(self) -> SafetyConfig:
        least = intrusion_distance(self.detection_capability_mm)
        if self.C is not None and least > self.C:
            raise ValueError(
                f"C = {self.C} m is below the {least:.3f} m that ISO 13855 gives for a detection capability of "
                f"{self.detection_capability_mm:g} mm: leave C out or raise it"
            )
        return self

    @model_validator(mode="after")
    def _table(self) -> SafetyConfig:
        if (self.stopping_table is None) != (self.stopping_table_sha256 is None):
            raise ValueError("stopping_table and stopping_table_sha256 belong together")
        return self

    @property
    def intrusion(self) -> float:
        """C, m."""
        return intrusion_distance(self.detection_capability_mm) if self.C is None else self.C

    @property
    def people_covered(self) -> str:
        """Which people the figures cover, and which they do not: for the report."""
        slow, fast = self.human.slow, self.human.fast
        standard = slow == SLOW_APPROACH and fast == FAST_APPROACH
        origin = "the speeds of ISO 13855" if standard else "raised above the speeds of ISO 13855 (1.6 and 2.0 m/s)"
        hands = "below" if fast < WORK_HANDS else "not below"
        return (
            f"Covered: people of 14 years and more whose body and limbs approach at up to {slow:g} m/s, and up to "
            f"{fast:g} m/s within {NEAR:g} m of the arm ({origin}). Not covered: anything faster, such as running, "
            f"jumping, falling and throwing. Hands recorded at work reach {WORK_HANDS} m/s, at building work "
            f"{BUILDING_HANDS} m/s; the configured {fast:g} m/s lie {hands} the former. What is seen to be faster is "
            f"counted, not prevented."
        )


WORK_HANDS = 2.6
"""Fastest hand in recorded work at a bench, m/s; the 99th percentile is 1.4 (recorded motion, own evaluation)."""
BUILDING_HANDS = 4.9
"""The same for building work."""


def load_safety(path: Path, volume: tuple[Vector, Vector] | None = None) -> SafetyConfig:
    """Read a safety configuration and check it as a whole.

    volume: lower and upper corner of the space in which people are looked for; left out: zones are not checked for
    gaps. Raises FileErrors with every fault, each with line and field.
    """
    document = read_yaml(path)
    config = document.parse(SafetyConfig)
    errors = [
        *_zone_errors(config, document, volume),
        *_contact_errors(config, document, path),
        *_stopping_errors(config, document, path),
    ]
    if errors:
        raise FileErrors(errors)
    return config


def contact_limits(config: SafetyConfig, path: Path) -> ContactLimits:
    """Return the biomechanical limits a configuration (read from `path`) uses. Raises FileErrors."""
    if config.contact.limits is None:
        return default_limits()
    return load_limits(path.parent / config.contact.limits)


def stopping_of(
    config: SafetyConfig, path: Path, model: RobotModel, limits: RateLimits, driver: str
) -> Stopping | None:
    """Return the stopping table a configuration (read from `path`) names, ready for the arm; None if it names none.

    Raises FileErrors for a damaged file, StoppingError for one that was measured with something else."""
    if config.stopping_table is None:
        return None
    file = path.parent / config.stopping_table
    table = load_table(file)
    if table_fingerprint(file) != config.stopping_table_sha256:
        raise StoppingError(f"{file} is not the table that the safety configuration names: its fingerprint differs")
    return Stopping(table, model, limits, driver)


def _stopping_errors(config: SafetyConfig, document: Document, path: Path) -> list[FileError]:
    """The table must be the one that was signed."""
    if config.stopping_table is None:
        return []
    file = path.parent / config.stopping_table
    try:
        load_table(file)
    except FileErrors as caught:
        return caught.errors
    found = table_fingerprint(file)
    if found == config.stopping_table_sha256:
        return []
    text = f"{config.stopping_table} has another fingerprint: {found}"
    return [document.error(("stopping_table_sha256",), text, remedy="Check what changed, sign anew")]


def _zone_errors(config: SafetyConfig, document: Document, volume: tuple[Vector, Vector] | None) -> list[FileError]:
    zones = config.zones
    if volume is None:
        zones = zones.model_copy(update={"elsewhere": zones.elsewhere or "ssm"})
    lower, upper = volume if volume is not None else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return [document.error(("zones", *fault.path), fault.text) for fault in zone_faults(zones, lower, upper)]


def _contact_errors(config: SafetyConfig, document: Document, path: Path) -> list[FileError]:
    """The file of limits must be the one that was signed, and know the regions of the zones."""
    try:
        limits = contact_limits(config, path)
        if config.contact.limits is not None:
            found = limits_fingerprint(path.parent / config.contact.limits)
            if found != config.contact.limits_sha256:
                text = f"{config.contact.limits} has another fingerprint: {found}"
                return [document.error(("contact", "limits_sha256"), text, remedy="Check what changed, sign anew")]
    except FileErrors as caught:
        return caught.errors
    errors = []
    for i, zone in enumerate(config.zones.volumes):
        for k, region in enumerate(zone.contact.regions if zone.contact is not None else ()):
            if region not in limits.regions or not limits.regions[region].contact:
                at = ("zones", "volumes", i, "contact", "regions", k)
                known = ", ".join(name for name, body in limits.regions.items() if body.contact)
                errors.append(document.error(at, f"contact with {region} is unknown or not permitted", known))
    return errors


def fingerprint(*parts: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of all parts; pydantic models are dumped first."""
    digest = hashlib.sha256()
    for part in parts:
        plain = part.model_dump(mode="json") if hasattr(part, "model_dump") else part
        digest.update(json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
        digest.update(b"\0")
    return digest.hexdigest()
