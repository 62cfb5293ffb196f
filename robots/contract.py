"""What passes between a robot arm, its node and everyone else. SI units; joint vectors are lists of length dof.

Layers of this contract, from the drives upwards:
`Driver` (one file per make, below the node) -> `RobotState` / requests / `SpeedLease` (round the node).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

ARM = "arm"
"""Name of the (first) robot node; topics and services of another arm carry that arm's name."""


def topic_state(robot: str = ARM) -> str:
    """Topic of `RobotState`."""
    return f"{robot}.state"


def topic_motion(robot: str = ARM) -> str:
    """Topic of `AcceptedMotion`."""
    return f"{robot}.motion"


def topic_lease(issuer: str, robot: str = ARM) -> str:
    """Topic of the `SpeedLease` of one issuer."""
    return f"{robot}.lease.{issuer}"


def topic_jog(robot: str = ARM) -> str:
    """Topic of `Jog` setpoints."""
    return f"{robot}.jog"


def service(robot: str = ARM) -> str:
    """Service that takes the requests below."""
    return f"{robot}.requests"


# ---------------------------------------------------------------- requests: controller -> robot node


class PartGeometry(msgspec.Struct, frozen=True):
    """What the gripper is to hold: a box fixed to the TCP, so that the held part is swept, filtered and protected."""

    name: str
    """Identity of the part in the cell, such as `cube_red#3`."""
    size: tuple[float, float, float]
    """Edge lengths along the axes of the part's frame, m."""
    T_tcp_part: tuple[float, ...]
    """Pose of the box centre in the TCP frame: x, y, z, qx, qy, qz, qw (m, unit quaternion)."""
    mass: float = 0.0
    """kg."""


class Move(msgspec.Struct, frozen=True, tag="move"):
    """A planned motion. The node checks it again (start, limits, continuity, keep-out planes) before it accepts.

    The path is sampled at equal steps of *nominal* time: the progress variable is nominal seconds, and the node
    advances it at `rate` in [0, 1]. At rate 1 the motion takes exactly its nominal duration.
    """

    motion_id: str
    step: float
    """Nominal time between two samples, s."""
    dof: int
    path: bytes
    """Joint positions, float64 little endian, shape (samples, dof), rad."""
    label: str = ""
    """What a person reads: `place cube_red: approach`."""
    phase: str = ""
    """Recipe phase it belongs to; the safety configuration says which zones hold in it. Empty: the strictest do."""


class Grip(msgspec.Struct, frozen=True, tag="grip"):
    """Open or close the gripper."""

    width: float
    """Distance between the fingers to go to, m."""
    force: float
    """Holding force, N; 0 = plain positioning."""
    part: PartGeometry | None = None
    """The part to hold after closing; None: nothing is expected between the fingers."""
    release: bool = False
    """Opening while a part is held is refused unless this is set."""


class SetOutput(msgspec.Struct, frozen=True, tag="set_output"):
    """Switch a digital output."""

    name: str
    value: bool


class SetOverride(msgspec.Struct, frozen=True, tag="set_override"):
    """Speed override in [0, 1]; 0 holds the arm on its path and keeps the motion."""

    value: float


class SetMode(msgspec.Struct, frozen=True, tag="set_mode"):
    """Manual mode limits TCP and elbow to 250 mm/s (ISO 10218-1). Taken only at standstill."""

    mode: Literal["automatic", "manual"]


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Controlled stop on the path. Category 2 keeps the motion and the power, category 1 drops both."""

    category: Literal[1, 2]
    reason: str


class CancelMotion(msgspec.Struct, frozen=True, tag="cancel_motion"):
    """Brake on the path and drop the motion; answered `done` at standstill."""

    reason: str


class ClearFault(msgspec.Struct, frozen=True, tag="clear_fault"):
    """A person clears latched faults, after the cause is gone. Restarts nothing."""

    person: str


class Release(msgspec.Struct, frozen=True, tag="release"):
    """The controller gives its session up (clean end)."""

    reason: str = ""


class KeepAlive(msgspec.Struct, frozen=True, tag="keep_alive"):
    """At least every 100 ms from the session that holds control; silence of 500 ms stops the arm and latches."""


class Jog(msgspec.Struct, frozen=True):
    """Streamed on `topic_jog`, renewed every 50-100 ms; expires by itself in the robot node."""

    session: str
    seq: int
    valid_for: float
    """s, at most 0.25."""
    space: Literal["joint", "base", "tool"]
    velocity: list[float]
    """joint: rad/s per joint; base/tool: vx, vy, vz (m/s), wx, wy, wz (rad/s)."""


# ---------------------------------------------------------------- robot node -> everyone


class RobotState(msgspec.Struct, frozen=True):
    """Published each tick on `topic_state`."""

    seq: int
    t: float
    """When the joints were measured, shared monotonic clock, s."""
    q: list[float]
    dq: list[float]
    tau: list[float]
    q_commanded: list[float]
    dq_commanded: list[float]
    motion_id: str
    """Accepted motion, or empty."""
    progress: float
    """Nominal seconds along the accepted motion."""
    duration: float
    """Nominal duration of the accepted motion, s."""
    rate: float
    """d progress / dt now."""
    rate_slope: float
    """d rate / dt now, 1/s."""
    limit: float
    """Lowest of override and leases in force this tick."""
    limit_by: str
    """Whose limit that is: `override`, an issuer's name, `fault`, ..."""
    limit_reason: str
    override: float
    mode: Literal["automatic", "manual"]
    fault: str
    """Stable code of the first latched fault, or empty."""
    fault_text: str
    standing: bool
    """No joint measured faster than 5 mrad/s and the rate is 0."""
    gripper_width: float
    gripper_holding: bool
    held: PartGeometry | None
    inputs: dict[str, bool]
    outputs: dict[str, bool]
    emergency_stop: bool
    safeguard: bool
    tracking_error: float
    """Largest |q - q_commanded|, rad."""
    late_leases: int
    """How often a lease came late (<= 500 ms), braked, and the arm went on."""
    session: str
    """Session that holds control, or empty."""
    data_age: float = -1.0
    """Age of the oldest exposure the permission to move rests on at this tick, s; -1: the arm is not moving on one."""
    tick: float = 0.0
    """Time since the tick before, s."""
    mode_switch: Literal["automatic", "manual"] | None = None
    """Where the vendor's mode switch stands; None: it cannot tell."""
    manual_missing: str = ""
    """What a person at the arm has to do before it can be moved by hand, mode switch or enabling device; or empty."""


class AcceptedMotion(msgspec.Struct, frozen=True):
    """The motion being executed, republished at least every 50 ms while one is accepted; `motion_id` empty: none."""

    motion_id: str
    step: float
    dof: int
    path: bytes
    label: str = ""
    phase: str = ""
    """As in `Move`."""


# ---------------------------------------------------------------- safety -> robot node


class SpeedLease(msgspec.Struct, frozen=True):
    """Permission to move at up to `limit` until `expires_at`, on this motion, in this window of its progress."""

    issuer: str
    boot: int
    seq: int
    limit: float
    """In [0, 1]: every rate from 0 to `limit` is admissible."""
    motion_id: str
    """The motion it was computed for. Empty: path-blind, for jog and hand-guiding only."""
    progress_from: float
    progress_to: float
    """Outside [progress_from, progress_to] it counts as 0."""
    state_seq: int
    """`RobotState.seq` it was computed from."""
    oldest_exposure: float
    """Oldest camera exposure it rests on, shared monotonic clock, s."""
    expires_at: float
    """At most oldest_exposure + the configured validity."""
    reason: str
    """Why the limit is below 1, for people; empty at 1."""
    restartable: bool
    """False if the limit is 0 for any other cause than separation: then only a person restarts the arm."""
    fingerprint: str
    """Of the safety configuration it was computed with."""
    tested_at: float = -1.0
    """When the issuer last passed its test of itself, s; -1: never, or it has none."""
    mac: bytes = b""
    """Keyed BLAKE2s over all other fields; the key is dealt out at launch to issuers and robot node alone."""


# ---------------------------------------------------------------- below the node: drivers


class DriverError(Exception):
    """A driver fault with a stable code, cause and remedy, and what it consists of."""

    def __init__(self, code: str, cause: str, remedy: str, parts: Sequence[DriverError] = ()) -> None:
        """`parts`: everything that failed, where more than one thing did, as in `connect`."""
        super().__init__(f"{code}: {cause}. {remedy}")
        self.code = code
        self.cause = cause
        self.remedy = remedy
        self.parts = tuple(parts)

    def tree(self, indent: str = "") -> str:
        """All of it, a line for each failure, its parts indented below it."""
        return "\n".join([f"{indent}{self}", *(part.tree(indent + "  ") for part in self.parts)])


class DriverInfo(msgspec.Struct, frozen=True):
    """What a driver can do and promises."""

    name: str
    dof: int
    control_period: float
    """s."""
    drive_delay: float
    """Upper bound from `send` to the drives acting on it, s."""
    watchdog: float
    """The drives brake by themselves when no setpoint came for so long, s."""
    gripper: bool
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    verified_on_hardware: bool = False
    commands: tuple[str, ...] = ("joint_position",)
    """How the drives are commanded: `joint_position`, `joint_velocity`."""
    brakes: bool = False
    """The vendor's controller has holding brakes that close when the drives are switched off."""
    vendor_safety: tuple[str, ...] = ()
    """States of the vendor's own safety controller that are shown here and cleared only there."""
    manual_devices: bool = False
    """Mode switch and three-position enabling device are read from the vendor's controller."""
    simulated: bool = False
    """Nothing real moves: manual work may do without a mode switch. A real arm without `manual_devices` allows none."""
    notices: tuple[str, ...] = ()
    """What people should know about how this driver is set up; told once when the drives are ready."""
    slow_motion: float = 1.0
    """The clock of this driver's states is so many times slower than the machine's (`cell.clock.RealClock`)."""


class DriverState(msgspec.Struct, frozen=True):
    """Newest measurement of the drives."""

    seq: int
    t: float
    """When it was measured, shared monotonic clock, s."""
    q: list[float]
    dq: list[float]
    tau: list[float]
    gripper_width: float
    gripper_holding: bool
    """Fingers press on something."""
    inputs: dict[str, bool]
    outputs: dict[str, bool]
    emergency_stop: bool
    safeguard: bool
    fault: str = ""
    """The vendor's own fault, or empty."""
    enabling_device: bool = False
    """Three-position enabling device held in its middle position: neither released nor gripped through."""
    tool: str | None = None
    """Name of the tool the vendor's controller is set up for, empty for none; None: it cannot tell."""
    mode_switch: Literal["automatic", "manual"] | None = None
    """Where the vendor's mode switch stands; None: it cannot tell."""


class Setpoint(msgspec.Struct, frozen=True):
    """One tick's command to the drives."""

    seq: int
    t: float
    q: list[float]
    dq: list[float]


class Driver(Protocol):
    """A robot make behind the node. All methods return at once; none raises anything but `DriverError`.

    A driver that counts what it does may have a property `account`, a dict of numbers since it connected; the node puts
    it into the ledger every ten seconds, as the event `robot.drives`.
    """

    info: DriverInfo

    def connect(self, now: float) -> None:
        """Idempotent. Raises DriverError whose `parts` name everything that is missing, not only the first."""
        ...

    def state(self, now: float) -> DriverState | None:
        """Return the newest measurement, or None if there never was one."""
        ...

    def send(self, setpoint: Setpoint) -> Setpoint:
        """Send and return what was really sent after the driver's own clamping."""
        ...

    def grip(self, width: float, force: float) -> None: ...

    def set_output(self, name: str, value: bool) -> None: ...

    def stop(self, category: Literal[0, 1], now: float) -> None:
        """The vendor's own stop, for an arm that does not obey. Idempotent."""
        ...

    def recover(self, person: str, now: float) -> None:
        """Clear the vendor's fault on a person's request. Never called by itself."""
        ...

    def close(self) -> None: ...


class DriverFactory(Protocol):
    """Entry point `cell.robot_drivers`: called with the cell file's `robot.options`, the dof and the node's ports."""

    def __call__(self, options: dict[str, Any], dof: int, ports: Any) -> Driver: ...


class GripperState(msgspec.Struct, frozen=True):
    """Newest measurement of a gripper that has a controller of its own."""

    t: float
    """When it was measured, shared monotonic clock, s."""
    width: float
    """Distance between the fingers, m."""
    holding: bool
    """Fingers press on something."""
    fault: str = ""
    """The maker's own fault, or empty."""


class GripperDriver(Protocol):
    """A gripper apart from the arm. All methods return at once; none raises anything but `DriverError`."""

    name: str

    def connect(self, now: float) -> None:
        """Idempotent. Raises DriverError whose `parts` name everything that is missing."""
        ...

    def state(self, now: float) -> GripperState | None:
        """Return the newest measurement, or None if there never was one."""
        ...

    def grip(self, width: float, force: float) -> None:
        """Go to `width`, m, pressing with at most `force`, N. Silence afterwards lets go of nothing."""
        ...

    def recover(self, person: str, now: float) -> None:
        """Clear the maker's fault on a person's request."""
        ...

    def close(self) -> None: ...


class GripperFactory(Protocol):
    """Entry point `cell.gripper_drivers`: called with the cell file's `robot.gripper.options` and the node's ports."""

    def __call__(self, options: dict[str, Any], ports: Any) -> GripperDriver: ...


# ---------------------------------------------------------------- a twin that follows a real arm

TOPIC_MIRROR = "twin.mirror"


class MirrorStatus(msgspec.Struct, frozen=True):
    """How well a simulated arm follows the real one's measured joints; published at least every 0.1 s."""

    t: float
    ok: bool
    reason: str
    """Why not, for people; empty if ok."""
    deviation: float
    """Largest |q of the twin - q measured|, rad; -1 if the two cannot be compared."""
    age: float
    """Of the newest measured joints, s."""
