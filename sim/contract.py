"""What passes between the twin's own parts: simulated drives, scene truth, referee."""

from __future__ import annotations

from typing import Any

import msgspec

from robots.contract import DriverState, Setpoint

TOPIC_DRIVE_COMMAND = "twin.drive_command"
TOPIC_DRIVE_STATE = "twin.drive_state"
TOPIC_SCENE = "twin.scene"
TOPIC_REFEREE = "twin.referee"
SERVICE = "twin.requests"


class DriveCommand(msgspec.Struct, frozen=True):
    """What `TwinDriver` streams to the simulated drives."""

    setpoint: Setpoint | None
    gripper_width: float
    gripper_force: float
    gripper_seq: int
    """Raised with each new grip command."""
    outputs: dict[str, bool]
    stop_category: int = -1
    """0 or 1: vendor stop asked for; -1: none."""
    recover_seq: int = 0
    """Raised when a person clears the drives' fault."""


class DriveState(msgspec.Struct, frozen=True):
    """What the simulated drives report."""

    state: DriverState
    watchdog_tripped: bool


class BodyPose(msgspec.Struct, frozen=True):
    """A person of the twin, enough to draw it: 104 bone transforms."""

    name: str
    bones: bytes
    """float32 little endian, shape (bones, 3, 4), world transforms of the skinning bones, base frame."""
    body: str = "body_178"
    """Which baked body."""


class PartPose(msgspec.Struct, frozen=True):
    """Truth about one part."""

    name: str
    kind: str
    T_base_part: tuple[float, ...]
    """x, y, z, qx, qy, qz, qw."""


class Scene(msgspec.Struct, frozen=True):
    """Truth, published `scene_hz` times a second for cameras and views."""

    t: float
    q: list[float]
    fingers: float
    """Distance between the fingers, m."""
    people: list[BodyPose]
    parts: list[PartPose]


class RefereeReport(msgspec.Struct, frozen=True):
    """The referee's account of the run so far."""

    t: float
    min_separation: float
    """m; 1e9 if nobody was ever near."""
    contacts_while_moving: int
    contact_limit_exceedances: int
    psd_violations: int
    outside_assumption: int
    """Steps in which some body point was faster than the configured human speed."""
    worst: dict[str, Any] = {}
    """The worst moment: t, link, body part, separation, required."""
    contacts_permitted: int = 0
    """Touches of a moving arm inside contact zones and within their limits."""
    contacts_outside_assumption: int = 0
    """Of `contacts_while_moving`: those in which every touching part of the body came faster than the configured human
    speed, over the whole reaction and stopping time."""
    time_judged: float = 0.0
    """With somebody there, s."""
    time_beyond: float = 0.0
    """Of that: trunk, head or arms of somebody were faster than configured, over reaction and stopping time, s."""


class TwinInput(msgspec.Struct, frozen=True, tag="twin_input"):
    """Set a simulated input: `emergency_stop`, `safeguard`, `enabling_device`, `mode_switch` (on: manual) or a named
    digital input."""

    name: str
    value: bool


class TwinStart(msgspec.Struct, frozen=True, tag="twin_start"):
    """People who wait for it begin what their scenario says; asked for again it changes nothing."""


class TwinFault(msgspec.Struct, frozen=True, tag="twin_fault"):
    """Inject a fault into the twin, for tests: `joint_stuck`, `drives_silent`, `lose_part`, `ignore_stop` ..."""

    name: str
    value: float = 1.0


class TwinRestock(msgspec.Struct, frozen=True, tag="twin_restock"):
    """Put every part back on its stock place, as a person does between batches. Rejected while a part is held."""


class TwinTruth(msgspec.Struct, frozen=True, tag="twin_truth"):
    """Ask where every part really is; answered `done` with `parts`: name -> x, y, z, qx, qy, qz, qw, and `t`."""
