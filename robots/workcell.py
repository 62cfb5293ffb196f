"""What stands round the arm: fixtures, frames, parts. The description the cell file, the planner, perception, safety
and the twin share. Base frame: origin at the robot base, z up; m, rad."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False, ge=-100.0, le=100.0)]
Length = Annotated[float, Field(gt=0.0, le=20.0, allow_inf_nan=False)]
Vector = tuple[Finite, Finite, Finite]
Name = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$")]


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt safety parameter must not vanish."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pose(Strict):
    """Position and roll-pitch-yaw (fixed axes x, y, z), in the frame named by the owner."""

    position: Vector = (0.0, 0.0, 0.0)
    rpy_deg: tuple[Finite, Finite, Finite] | tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees, because people write cell files."""

    @property
    def rpy(self) -> tuple[float, float, float]:
        """Roll, pitch, yaw in rad."""
        return (math.radians(self.rpy_deg[0]), math.radians(self.rpy_deg[1]), math.radians(self.rpy_deg[2]))


class Fixture(Strict):
    """A box that never moves. `solid`: no person can be inside (it is drawn, collides and blocks growth)."""

    name: Name
    size: tuple[Length, Length, Length]
    pose: Pose
    """Of the box centre in the base frame."""
    solid: bool = True
    visible: bool = True
    """False for a see-through fence: it blocks people and robot, cameras see through it."""
    colour: tuple[float, float, float] = (0.7, 0.7, 0.72)
    collide: bool = True
    """The planner keeps the arm out of it."""


class GridPattern(Strict):
    """Rows x columns x layers of places in a frame; index runs columns first, then rows, then layers."""

    kind: Literal["grid"] = "grid"
    frame: Name
    columns: Annotated[int, Field(ge=1, le=100)] = 1
    rows: Annotated[int, Field(ge=1, le=100)] = 1
    layers: Annotated[int, Field(ge=1, le=100)] = 1
    pitch: Vector = (0.0, 0.0, 0.0)
    """Distance between neighbours along the frame's x (columns), y (rows), z (layers)."""

    @property
    def count(self) -> int:
        return self.columns * self.rows * self.layers

    def place(self, index: int) -> tuple[float, float, float]:
        """Position of place `index` (from 0) in the pattern's frame, m. Raises IndexError outside the pattern."""
        if not 0 <= index < self.count:
            raise IndexError(f"place {index} of a pattern with {self.count} places")
        layer, rest = divmod(index, self.columns * self.rows)
        row, column = divmod(rest, self.columns)
        return (column * self.pitch[0], row * self.pitch[1], layer * self.pitch[2])


class PartType(Strict):
    """A variety of part: a box or an upright cylinder (size = diameter, diameter, height)."""

    shape: Literal["box", "cylinder"] = "box"
    size: tuple[Length, Length, Length]
    mass: Annotated[float, Field(gt=0.0, le=20.0)] = 0.05
    colour: tuple[float, float, float] = (0.8, 0.2, 0.2)
    grip_force: Annotated[float, Field(gt=0.0, le=200.0)] = 20.0

    @property
    def grip_width(self) -> float:
        """Distance between the fingers when they hold it: its extent along y, m."""
        return self.size[1]


class StockItem(Strict):
    """A part that is there when the twin starts, on a place of a pattern (its underside on the place)."""

    part: Name
    pattern: Name
    index: Annotated[int, Field(ge=0)]


class Workcell(Strict):
    """Everything round the arm."""

    fixtures: list[Fixture] = []
    frames: dict[Name, Pose] = {}
    """In the base frame."""
    patterns: dict[Name, GridPattern] = {}
    parts: dict[Name, PartType] = {}
    stock: list[StockItem] = []
    floor: Finite = -0.75
    """Height of the floor in the base frame, m."""
    person_volume: tuple[Vector, Vector] = ((-2.5, -2.5, -0.75), (2.5, 2.5, 1.45))
    """Lower and upper corner of the volume in which people are looked for, m."""
    entries: list[Literal["x_min", "x_max", "y_min", "y_max"]] = ["x_min", "x_max", "y_min", "y_max"]
    """Sides of `person_volume` through which people can come in; the others are closed by guards."""
