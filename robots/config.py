"""The `robot:` block of a cell file. SI units, except where the name says degrees."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from robots.rates import RateLimits
from robots.workcell import Finite, Length, Name, Pose, Strict, Vector

Degrees = Annotated[float, Field(ge=-720.0, le=720.0, allow_inf_nan=False)]


class KeepOutPlane(Strict):
    """The moving arm stays where normal . x >= offset (base frame)."""

    kind: Literal["plane"] = "plane"
    name: Name
    normal: Vector
    """Points to the permitted side; need not be of length 1, must not be 0."""
    offset: Finite
    """m, along the normal of length 1."""

    @model_validator(mode="after")
    def _direction(self) -> KeepOutPlane:
        if math.dist(self.normal, (0.0, 0.0, 0.0)) < 1e-6:
            raise ValueError("normal must not be the zero vector")
        return self


class KeepOutBox(Strict):
    """The moving arm stays out of this box."""

    kind: Literal["box"] = "box"
    name: Name
    size: tuple[Length, Length, Length]
    pose: Pose = Pose()
    """Of the box centre, base frame."""


KeepOut = Annotated[KeepOutPlane | KeepOutBox, Field(discriminator="kind")]


class RateConfig(Strict):
    """How fast the rate of progress may change; what the joints permit can only lower it."""

    slope_up: Annotated[float, Field(ge=0.2, le=10.0)] = 3.0
    slope_down: Annotated[float, Field(ge=1.0, le=20.0)] = 8.0
    jerk: Annotated[float, Field(ge=10.0, le=2000.0)] = 160.0

    @property
    def limits(self) -> RateLimits:
        return RateLimits(self.slope_up, self.slope_down, self.jerk)


class LeaseConfig(Strict):
    """What the robot node demands of a lease, besides key and fingerprint, which are handed over at launch."""

    issuers: list[Name] = Field(default_factory=lambda: ["supervisor"], min_length=1, max_length=8)
    """Every one of them must permit motion."""
    validity: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    """Longest `expires_at - oldest_exposure` accepted, s."""
    state_age: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """Oldest robot state a lease may have been computed from, s."""
    late: Annotated[float, Field(gt=0.0, le=0.5)] = 0.5
    """A gap up to this long brakes, resumes and is counted; a longer one latches, s."""


class GripperConfig(Strict):
    """A gripper with a controller of its own, apart from the arm's."""

    driver: Name
    """Entry point of `cell.gripper_drivers`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the gripper's driver."""


Lag = Annotated[float, Field(ge=-0.05, le=0.5, allow_inf_nan=False)]


class Identified(Strict):
    """What `cell robots identify` measured of this arm; written by it, and held against every other figure."""

    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    driver: Name
    model: Name
    tool: Name
    simulation_only: bool
    """Measured on a simulated arm."""
    amplitude_deg: Annotated[float, Field(gt=0.0, le=20.0)]
    delay: Annotated[float, Field(ge=0.0, le=0.5, allow_inf_nan=False)]
    """Longest delay of any joint from command to motion, s: the cell starts only if driver and safety configuration
    count on no less."""
    delays: Annotated[list[Lag], Field(min_length=1, max_length=12)]
    """The same for each joint, s."""
    following: Annotated[list[Lag], Field(min_length=1, max_length=12)]
    """rad behind the command per rad/s, each joint, s."""
    stopping_table_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of the stopping table that was measured with it: the safety configuration must name that one."""

    @model_validator(mode="after")
    def _largest(self) -> Identified:
        if len(self.delays) != len(self.following):
            raise ValueError("delays and following have a value for each joint")
        if max(self.delays) > self.delay + 1e-9:
            raise ValueError(f"delay {self.delay} is less than that of a joint, {max(self.delays)}")
        return self


class RobotConfig(Strict):
    """One arm of the cell."""

    driver: Name
    """Entry point of `cell.robot_drivers`."""
    model: Name = "panda"
    tool: Name | None = None
    rate_hz: Annotated[float, Field(ge=250.0, le=1000.0)] = 250.0
    home_deg: list[Degrees] = Field(default_factory=list, max_length=12)
    """Joint positions of the resting pose; empty: the model's own."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the driver."""
    gripper: GripperConfig | None = None
    """Left out: the arm's driver has the gripper, if there is one."""
    keep_out: list[KeepOut] = Field(default_factory=list)
    manual_speed: Annotated[float, Field(gt=0.0, le=0.25)] = 0.25
    """Limit at TCP and elbow in manual mode (ISO 10218-1), m/s."""
    enabling_device: bool = True
    """In manual mode the arm moves only while the enabling device is held."""
    tracking_tolerance: Annotated[float, Field(gt=0.0, le=0.5)] = 0.08
    """Largest |q - q_commanded| beyond the known delay of the drives, rad."""
    settle_tolerance: Annotated[float, Field(gt=0.0, le=0.05)] = 0.004
    """A motion is done when every joint is this near to its end, rad."""
    state_timeout: Annotated[float, Field(ge=0.004, le=0.2)] = 0.05
    """A driver state older than this is a fault, s."""
    keep_alive: Annotated[float, Field(ge=0.1, le=0.5)] = 0.5
    """Silence of the controller that stops the arm, s."""
    obey_time: Annotated[float, Field(ge=0.05, le=1.0)] = 0.3
    """An arm still moving this long after it was told to stand does not obey, s."""
    rate_limits: RateConfig = RateConfig()
    leases: LeaseConfig = LeaseConfig()
    identified: Identified | None = None
    """Left out: the drives' delay rests on the driver's word."""

    @property
    def period(self) -> float:
        """Tick of the robot node, s."""
        return 1.0 / self.rate_hz

    @property
    def home(self) -> list[float]:
        """Resting pose, rad; empty: the model's own."""
        return [math.radians(v) for v in self.home_deg]
