"""Settings of the cameras and of perception, as they stand in the cell file."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from robots.workcell import Name, Strict, Vector


class Mount(Strict):
    """Where a camera is and where it looks, base frame, m."""

    position: Vector
    look_at: Vector
    roll_deg: Annotated[float, Field(ge=-180.0, le=180.0, allow_inf_nan=False)] = 0.0
    """About the line of sight; 180: hung upside down."""

    def T_base_camera(self) -> NDArray[np.float64]:
        """Return the (4, 4) camera pose: z forward, x right, y down. Raises ValueError if it looks straight up."""
        forward = np.asarray(self.look_at, float) - np.asarray(self.position, float)
        length = float(np.linalg.norm(forward))
        if length < 1e-6:
            raise ValueError("camera position and look_at coincide: give two different points")
        forward /= length
        right = np.cross(forward, (0.0, 0.0, 1.0))
        if np.linalg.norm(right) < 1e-6:
            raise ValueError("camera looks straight up or down: move look_at a little sideways")
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        roll = np.radians(self.roll_deg)
        T = np.eye(4)
        T[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
        T[:3, 1] = -np.sin(roll) * right + np.cos(roll) * down
        T[:3, 2] = forward
        T[:3, 3] = self.position
        return T

    @staticmethod
    def of(T_base_camera: NDArray[np.float64], distance: float = 1.0) -> Mount:
        """Return the mount of a camera pose (4, 4), looking at the point `distance` (m) before it. Raises ValueError if
        it looks straight up or down."""
        position = T_base_camera[:3, 3]
        aim = position + distance * T_base_camera[:3, 2]
        level = Mount(position=_vector(position), look_at=_vector(aim)).T_base_camera()
        right = level[:3, :3].T @ T_base_camera[:3, 0]
        roll = float(np.degrees(np.arctan2(right[1], right[0])))
        return Mount(position=_vector(position), look_at=_vector(aim), roll_deg=round(roll, 5))


def _vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Three numbers to a hundredth of a millimetre, as people copy them."""
    x, y, z = (round(float(v), 5) for v in values)
    return (x, y, z)


class CalibrationRecord(Strict):
    """How well the measurement behind a mount fits; written by `cell calibrate extrinsics`."""

    residual_px: Annotated[float, Field(ge=0.0, le=10.0)]
    """Root mean square of all corners."""
    views: Annotated[int, Field(ge=1, le=10_000)]
    board: str
    """Squares, edge of a square and of a marker (mm), dictionary."""


class CameraConfig(Strict):
    """One camera of the cell file."""

    name: Name
    driver: Name
    mount: Mount
    mount_changed_on: date | None = None
    """Day on which the camera or its bracket was last touched. A calibration from before it is refused."""
    calibrated_on: date | None = None
    """Day of the measurement that `mount` comes from."""
    calibration: CalibrationRecord | None = None
    options: dict[str, Any] = {}

    @property
    def outdated(self) -> bool:
        """Whether `mount` was measured before the camera was last touched."""
        changed, measured = self.mount_changed_on, self.calibrated_on
        return changed is not None and measured is not None and measured < changed


class PeopleConfig(Strict):
    """What is told of people beyond where they are. No limit rests on it, so it is no part of the fingerprint."""

    skeletons: bool = False
    """Look for skeletons in the colour pictures of cameras whose `options` say `colour: true`."""


class PerceptionConfig(Strict):
    """How depth becomes occupied space. Every value decides what counts as a person: part of the fingerprint."""

    sigmas: Annotated[float, Field(ge=3.0, le=8.0)] = 4.0
    """Tolerance of background and robot in standard deviations of depth noise."""
    background_margin: Annotated[float, Field(ge=0.0, le=0.1)] = 0.012
    """m, added to the noise tolerance of static surfaces."""
    robot_margin: Annotated[float, Field(ge=0.0, le=0.1)] = 0.02
    """m, added to the noise tolerance round the link capsules."""
    part_margin: Annotated[float, Field(ge=0.0, le=0.05)] = 0.015
    support: Annotated[int, Field(ge=1, le=8)] = 2
    """Neighbours of 8 that must agree in depth with a person pixel."""
    smallest_object: Annotated[float, Field(gt=0.0, le=0.07)] = 0.04
    """Detection capability, m: nothing smaller is looked for behind narrow gaps in the picture."""
    cell_size: Annotated[float, Field(ge=0.01, le=0.1)] = 0.03
    """Edge of the cells that seen points are merged into, m; half its diagonal is added to every point."""
    voxel: Annotated[float, Field(ge=0.05, le=0.2)] = 0.1
    """Edge of the possible-space voxels, m."""
    growth_speed: Annotated[float, Field(ge=1.6, le=5.0)] = 2.0
    """Speed at which unseen possible space and ageing points grow, m/s."""
    least_person_volume: Annotated[float, Field(ge=0.0, le=0.05)] = 0.03
    """m^3. A closed pocket of unseen space smaller than this cannot hold a person (45 kg of body are 0.045 m^3)."""
    arm_layer: Annotated[float, Field(ge=0.0, le=0.2)] = 0.15
    """Pockets round the arm that no camera sees into do not count as room within this of a link, m: a torso is thicker,
    and a limb belongs to a torso that must be somewhere."""
    interest: Annotated[float, Field(ge=1.0, le=5.0)] = 2.2
    """Possible space farther than this from the arm's box is not passed on, m."""
    max_balls: Annotated[int, Field(ge=100, le=100_000)] = 6000
    late_after: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1
    """A camera whose newest exposure is older than this is late, s."""
    dead_after: Annotated[float, Field(gt=0.0, le=5.0)] = 0.5
    """... and dead after this, s: only a person may start again."""
    least_valid: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    """Smallest fraction of valid pixels of a usable frame."""
    covered_nearer: Annotated[float, Field(ge=0.0, le=2.0)] = 0.45
    """A camera most of whose valid pixels are nearer than this is covered, m."""
