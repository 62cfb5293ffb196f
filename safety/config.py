"""safety.yaml: every figure the monitor's decisions rest on, with the fingerprint that stands on each lease."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field, model_validator

from robots.workcell import Strict
from safety.separation import FAST_APPROACH, SLOW_APPROACH, intrusion_distance

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

    @property
    def intrusion(self) -> float:
        """C, m."""
        return intrusion_distance(self.detection_capability_mm) if self.C is None else self.C


def fingerprint(*parts: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of all parts; pydantic models are dumped first."""
    digest = hashlib.sha256()
    for part in parts:
        plain = part.model_dump(mode="json") if hasattr(part, "model_dump") else part
        digest.update(json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
        digest.update(b"\0")
    return digest.hexdigest()
