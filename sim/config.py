"""Options of the twin and models of its scenario files (pydantic; everything is checked before anything starts)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False, ge=-100.0, le=100.0)]
Positive = Annotated[float, Field(gt=0.0, le=1e4, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0.0, le=86400.0, allow_inf_nan=False)]
Speed = Annotated[float, Field(gt=0.0, le=10.0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$")]
BodyName = Literal["body_178", "body_166"]


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TouchLimits(Strict):
    """Largest speed of the arm that may touch a part of the body."""

    transient: Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]
    """m/s."""
    clamped: Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]
    """The same where the part can be clamped, m/s."""
    width: Annotated[float, Field(ge=0.0, le=2.0, allow_inf_nan=False)]
    """It can be, in a gap narrower than this, m."""


class ContactZone(Strict):
    """An upright prism in which contact is permitted; base frame."""

    corners: Annotated[list[tuple[Finite, Finite]], Field(min_length=3, max_length=40)]
    z: tuple[Finite, Finite]
    limits: dict[str, TouchLimits]
    """By body segment (`hand`, `forearm`, `chest` ...); one that is not named must not be touched."""


class FixedBox(Strict):
    """Something a part of the body can be clamped against."""

    size: tuple[Positive, Positive, Positive]
    T_base_box: Annotated[list[Finite], Field(min_length=16, max_length=16)]
    """4x4 row major, of the centre."""


class RefereeOptions(Strict):
    """Plain numbers the referee judges with. They come from the safety configuration, never from its code."""

    human_speed: Annotated[float, Field(ge=0.5, le=10.0)] = 1.6
    """Configured v_h beyond `near_distance`, m/s."""
    human_speed_near: Annotated[float, Field(ge=0.5, le=10.0)] = 2.0
    """Configured v_h at or below `near_distance`, m/s."""
    near_distance: Annotated[float, Field(ge=0.0, le=2.0)] = 0.5
    reaction: Annotated[float, Field(gt=0.0, le=2.0)] = 0.20
    """T_r: from exposure to the drives acting, worst case, s."""
    brake_deceleration: Annotated[list[Positive], Field(min_length=1, max_length=12)] | None = None
    """Joint decelerations of a full braking, rad/s^2; None: the vendor's limits."""
    brake_floor: Annotated[float, Field(ge=0.0, le=2.0)] = 0.125
    """A full braking on the path is not over sooner, whatever the joints can do: 1 / (fall of the rate, 1/s), s."""
    brake_time_cap: Annotated[float, Field(gt=0.0, le=5.0)] = 1.0
    """A braking never counts longer than this, s."""
    drive_delay: Annotated[float, Field(ge=0.0, le=0.5)] = 0.02
    """Setpoint to motion, s: at full speed until then."""
    brake_ramp: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Time the rate's jerk limit takes to build the full deceleration up, s."""
    contact_zones: Annotated[list[ContactZone], Field(max_length=60)] = []
    fixed: Annotated[list[FixedBox], Field(max_length=500)] = []
    """Matters only with contact zones."""


class WorldOptions(Strict):
    """`world.options` of the cell file."""

    physics_hz: Annotated[int, Field(ge=240, le=1000)] = 250
    catch_up: Annotated[float, Field(ge=0.004, le=1.0)] = 0.1
    """Live: physics makes up at most so much lost time in one step, s; the rest is skipped and reported."""
    watchdog: Annotated[float, Field(ge=0.005, le=0.5)] = 0.05
    """The simulated drives brake by themselves after so long without a new setpoint, s."""
    finger_speed: Annotated[float, Field(gt=0.0, le=0.5)] = 0.05
    """Speed of each finger, m/s."""
    scene_hz: Annotated[float, Field(ge=30.0, le=1000.0)] = 60.0
    """How often `Scene` is published, Hz; a multiple of the cameras' rate lets them expose on time."""
    referee: RefereeOptions = RefereeOptions()
    judged: Literal["here", "apart", "meanwhile"] = "here"
    """Where the referee works: in the twin's step; in a process of its own, with its account one row later; or there,
    whenever it has time, with rows as long as they get (live: it must not hold physics up)."""
    start_people: Seconds = 0.0
    """People's clocks start so long after the twin's, s."""
    people_wait: bool = False
    """People stand at their start until the request `twin_start`; `start_people` then counts from there."""


class Place2(Strict):
    """Where a person stands: on the floor, base frame."""

    position: tuple[Finite, Finite]
    yaw_deg: Annotated[float, Field(ge=-720.0, le=720.0, allow_inf_nan=False)] = 0.0
    """Direction the person looks: 0 along +x, 90 along +y."""


class Stand(Strict):
    do: Literal["stand"]
    duration: Annotated[Seconds | None, Field(alias="for")] = None
    """s; None: for ever (only as the last behaviour)."""


class WalkTo(Strict):
    do: Literal["walk_to"]
    position: tuple[Finite, Finite]
    speed: Annotated[float, Field(gt=0.05, le=1.6)] = 1.0


class RunAt(Strict):
    do: Literal["run_at"]
    position: tuple[Finite, Finite]
    speed: Annotated[float, Field(gt=0.05, le=6.0)] = 3.0


class ReachInto(Strict):
    do: Literal["reach_into"]
    target: tuple[Finite, Finite, Finite]
    hand: Literal["left", "right"] = "right"
    speed: Annotated[float, Field(gt=0.02, le=2.0)] = 1.0
    """Of the hand, m/s."""
    hold: Seconds = 1.0


class Crouch(Strict):
    do: Literal["crouch"]
    depth: Annotated[float, Field(gt=0.0, le=0.6)] = 0.4
    """How far the pelvis sinks, m."""
    speed: Annotated[float, Field(gt=0.02, le=1.0)] = 0.5
    hold: Seconds = 1.0


class PlayClip(Strict):
    do: Literal["clip"]
    clip: Annotated[str, Field(min_length=1, max_length=1000)]
    loop: bool = False
    """Only as the last behaviour: repeated for ever, the person walking back in between."""


Behaviour = Annotated[Stand | WalkTo | RunAt | ReachInto | Crouch | PlayClip, Field(discriminator="do")]


class ClipPlacement(Strict):
    """A mocap clip put into the cell, as `--person` does."""

    clip: Annotated[str, Field(min_length=1, max_length=1000)]
    """A BVH or .joints_m.npz file, or the name of a pybullet_data clip such as `humanoid3d_walk`."""
    at: tuple[Finite, Finite, Annotated[float, Field(ge=-720.0, le=720.0, allow_inf_nan=False)]] = (1.5, 0.0, 180.0)
    """x, y (m), yaw_deg: where the clip's first frame stands and which way it looks."""
    start_s: Seconds = 0.0
    loop: bool = False


class Person(Strict):
    name: Name = "person"
    body: BodyName = "body_178"
    start: Place2 | None = None
    behaviour: list[Behaviour] = []
    mocap: ClipPlacement | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Person:
        if (self.mocap is None) == (not self.behaviour):
            raise ValueError("give either `behaviour` (with `start`) or `mocap`")
        if self.behaviour and self.start is None:
            raise ValueError("`behaviour` needs `start: {position: [x, y], yaw_deg: ...}`")
        for item in self.behaviour[:-1]:
            if (isinstance(item, Stand) and item.duration is None) or (isinstance(item, PlayClip) and item.loop):
                raise ValueError(f"`{item.do}` without an end can only be the last behaviour")
        return self


class Scenario(Strict):
    """Who comes into the cell and what they do."""

    scenario: Name
    seed: Annotated[int, Field(ge=0, le=2**31)] = 1
    people: Annotated[list[Person], Field(max_length=8)] = []

    @model_validator(mode="after")
    def _names_differ(self) -> Scenario:
        names = [p.name for p in self.people]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"people of the same name: {', '.join(doubled)}")
        return self


def valid_scenario_name(text: str) -> bool:
    """True for a bare scenario name (not a path)."""
    return re.fullmatch(r"[A-Za-z0-9_\-]{1,60}", text) is not None
