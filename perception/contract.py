"""What passes between cameras, perception and its readers. Metres, seconds; frames are named in the field."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

TOPIC_OBSERVATION = "perception.observation"
TOPIC_EXPECTED = "cell.expected_parts"
TOPIC_SKELETONS = "perception.skeletons"
MOVED = "moved: "
"""Beginning of `CameraHealth.reason` of a camera that is not where the cell file says."""
SERVICE = "perception.requests"


def topic_frame(camera: str) -> str:
    """Topic of `FrameMessage` of one camera."""
    return f"camera.{camera}.frame"


def topic_colour(camera: str) -> str:
    """Topic of `ColourMessage` of one camera."""
    return f"camera.{camera}.colour"


def topic_ready(camera: str) -> str:
    """Topic of `FrameReady` of one camera."""
    return f"camera.{camera}.ready"


class Intrinsics(msgspec.Struct, frozen=True):
    """Pinhole model without distortion (depth is delivered rectified); pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


class CameraInfo(msgspec.Struct, frozen=True):
    """What a camera is and where."""

    name: str
    model: str
    intrinsics: Intrinsics
    rate: float
    """Nominal frames per second, Hz."""
    T_base_camera: tuple[float, ...]
    """4x4 row major; camera z forward, x right, y down."""
    noise_coefficient: float
    """Standard deviation of depth = coefficient * z^2, 1/m."""
    depth_min: float
    depth_max: float
    colour: bool = False
    """Its frames carry a colour picture of the same view and size."""


class Frame(NamedTuple):
    """One depth picture."""

    camera: str
    seq: int
    """The camera's own frame counter."""
    exposure: float
    """Middle of exposure on the shared monotonic clock, s."""
    depth: NDArray[np.uint16]
    """(height, width), mm along the optical axis; 0 = invalid, which is *unknown*, never free."""
    colour: NDArray[np.uint8] | None = None
    """(height, width, 3) RGB, or None."""
    boot: int = 0
    """Life of the camera; a later one is larger, and `seq` may begin again with it."""
    exposure_time: float = math.nan
    """How long the picture was exposed, s; not a number if the camera does not say."""
    hardware: float = math.nan
    """`exposure` on the camera's own clock, s; not a number if it has none."""


class PointFrame(NamedTuple):
    """Points of people's surfaces from a source that is no camera (the twin's `surface` perception)."""

    camera: str
    seq: int
    exposure: float
    points: NDArray[np.float32]
    """(n, 3), base frame, m. Empty: nobody is there."""


class FrameMessage(msgspec.Struct, frozen=True):
    """A frame on the bus of a lock-step run. In live runs frames go through a ring in shared memory instead."""

    camera: str
    seq: int
    exposure: float
    height: int
    width: int
    depth: bytes
    boot: int = 0


class FrameReady(msgspec.Struct, frozen=True):
    """A frame lies in the ring of a live camera: whoever reads it need not wait for its next look. Nothing is lost if
    this is."""

    seq: int


class ColourMessage(msgspec.Struct, frozen=True):
    """A frame with its colours on the bus of a lock-step run, for whoever looks for skeletons. It is a topic of its
    own, so that what reads depth alone reads the same with and without it."""

    camera: str
    seq: int
    exposure: float
    height: int
    width: int
    depth: bytes
    """uint16 little endian, mm."""
    colour: bytes
    """RGB, 8 bits."""
    boot: int = 0


class Camera(Protocol):
    """A depth camera. Exceptions are `CameraError`; no call blocks longer than 50 ms."""

    info: CameraInfo

    def connect(self, now: float) -> None: ...

    def poll(self, now: float) -> Frame | None:
        """Return the newest frame that has arrived by `now` and was not returned yet."""
        ...

    def close(self) -> None: ...


class PointSource(Protocol):
    """A source of `PointFrame`s; entry point `cell.point_sources`. Otherwise as `Camera`."""

    def connect(self, now: float) -> None: ...

    def poll(self, now: float) -> PointFrame | None: ...

    def close(self) -> None: ...


class CameraError(Exception):
    """A camera fault a person can act on."""


class CameraFactory(Protocol):
    """Entry point `cell.cameras`: called with the camera's block of the cell file and the node's ports."""

    def __call__(self, name: str, options: dict[str, Any], ports: Any) -> Camera: ...

    def describe(self, name: str, options: dict[str, Any]) -> CameraInfo:
        """What the camera is and where, without opening it: perception runs in another process."""
        ...


class CameraHealth(msgspec.Struct, frozen=True):
    """State of one camera at the time of an observation."""

    name: str
    ok: bool
    reason: str
    """`late`, `frozen`, `dead`, `invalid`, `covered`, `moved` ...; empty when ok."""
    exposure: float
    """Exposure of the newest usable frame, s; -inf encoded as -1.0 if there was none."""
    valid_fraction: float
    dropped: int
    """Frames missing by the camera's counter since start."""


class Track(msgspec.Struct, frozen=True):
    """A cluster of seen points taken for one person."""

    id: int
    position: tuple[float, float, float]
    """Centroid in the base frame, m."""
    velocity: tuple[float, float, float]
    points: int


class Observation(msgspec.Struct, frozen=True):
    """Where people are or could be, as balls in the base frame."""

    seq: int
    t: float
    """Reference time of the balls, s: each ball already contains all human travel from its exposure to `t`."""
    oldest_exposure: float
    """Oldest exposure of any camera this rests on, s."""
    balls: bytes
    """float32 little endian, shape (n, 4): x, y, z, radius (m). Seen points first, possible space after them."""
    seen: int
    """How many of the balls are seen points; the rest is space where a person could be unseen."""
    healthy: bool
    """False: some camera does not deliver, or a limit was exceeded; the robot must stand."""
    reason: str
    """Why not healthy."""
    cameras: list[CameraHealth]
    tracks: list[Track]
    confirmed_clear: bool
    """A person has confirmed since start that the cell is clear; before that everything unseen is possible."""


class SkeletonJoint(msgspec.Struct, frozen=True):
    """One joint of a skeleton; names as in `perception.pose.JOINTS`."""

    name: str
    position: tuple[float, float, float]
    """Base frame, m."""
    visibility: float
    """As the library judges it, 0 to 1."""


class Skeleton(msgspec.Struct, frozen=True):
    """A person as colour and depth show them."""

    track: int
    """`Track.id` of the person it is of."""
    camera: str
    exposure: float
    """Of the picture it was found in, s."""
    position: tuple[float, float, float]
    """Middle of the trunk's joints, base frame, m."""
    confidence: float
    joints: list[SkeletonJoint]
    """Those that have a place."""
    nearest_part: str
    """Body part of the person's seen point that is nearest to the arm; empty: cannot be told, which has to count as the
    most sensitive one."""
    nearest: tuple[float, float, float]
    """That point, base frame, m."""
    nearest_distance: float
    """From it to the arm's surface at the exposure, m; below 0 inside."""


class Skeletons(msgspec.Struct, frozen=True):
    """Who was recognised by a skeleton, several times a second. Labels for people to look at and for reports: no limit
    rests on them, and having none loosens nothing."""

    seq: int
    t: float
    """Newest exposure that was looked at, s; -1.0 if there was none."""
    ok: bool
    """False: nobody can be recognised, `reason` says why."""
    reason: str
    people: list[Skeleton]
    asked: int
    """People of whom a picture was looked at this time."""


class ExpectedPart(msgspec.Struct, frozen=True):
    """A part the recipe put somewhere: depth that agrees with it is not a person."""

    name: str
    size: tuple[float, float, float]
    """Edge lengths of its bounding box, m."""
    T_base_part: tuple[float, ...]
    """x, y, z, qx, qy, qz, qw of the box centre."""


class ExpectedParts(msgspec.Struct, frozen=True):
    """All parts outside the gripper, published by the controller on every grip and place, and every 0.5 s."""

    seq: int
    parts: list[ExpectedPart]


class ConfirmClear(msgspec.Struct, frozen=True, tag="confirm_clear"):
    """Request to perception: a person has looked and nobody is in the unseen space of the cell."""

    person: str
