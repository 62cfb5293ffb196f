"""The files `robots/models/*.yaml`: what an arm is, beyond its URDF. SI units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from robots.workcell import Finite, Name, Strict, Vector

FOLDER = Path(__file__).parent / "models"
Positive = Annotated[float, Field(gt=0.0, le=1e6, allow_inf_nan=False)]
Angle = Annotated[float, Field(ge=-7.0, le=7.0, allow_inf_nan=False)]


class ModelError(Exception):
    """A robot model that is unknown or inconsistent; the text names the file and the field."""


class UrdfSource(Strict):
    """A URDF file inside an installed package."""

    package: str
    path: str


class JointLimits(Strict):
    """One value per joint: rad, rad/s, rad/s^2, rad/s^3, Nm."""

    q_lower: list[Angle]
    q_upper: list[Angle]
    v_max: list[Positive]
    a_max: list[Positive]
    j_max: list[Positive]
    tau_max: list[Positive]


class CapsuleSpec(Strict):
    """A capsule in the frame of its link (or of the tool)."""

    link: Name
    a: Vector
    b: Vector
    radius: Annotated[float, Field(gt=0.0, le=1.0)]


class Placement(Strict):
    """Position (m) and roll-pitch-yaw (rad)."""

    xyz: Vector = (0.0, 0.0, 0.0)
    rpy: Vector = (0.0, 0.0, 0.0)


class BoxSpec(Strict):
    """A box of a gripper body, in the tool frame."""

    size: tuple[Positive, Positive, Positive]
    xyz: Vector


class ToolSpec(Strict):
    """A gripper: the fingers move along y of the tool frame, which points out along z."""

    mount: Placement = Placement()
    """Tool frame in the frame of the last link."""
    tcp: Placement = Placement()
    """TCP in the tool frame: the grasp centre between the finger tips."""
    mass: Annotated[float, Field(ge=0.0, le=20.0)] = 0.0
    """What the URDF does not contain, kg."""
    com: Vector = (0.0, 0.0, 0.0)
    """Centre of that mass in the tool frame."""
    opening_max: Positive = 0.08
    """Largest distance between the fingers, m."""
    finger_joints: list[Name] = Field(default_factory=list)
    """Finger joints of the URDF, each moving half the opening; empty: the boxes below are the gripper."""
    body: BoxSpec | None = None
    finger: BoxSpec | None = None
    """The finger on the +y side at zero opening; the other is its mirror image."""
    capsules: list[CapsuleSpec]


class RobotDescription(Strict):
    """One arm."""

    name: Name
    urdf: UrdfSource
    joints: list[Name]
    base_link: Name
    elbow_link: Name
    home_deg: list[Finite] | list[float]
    limits: JointLimits
    capsules: list[CapsuleSpec]
    default_tool: Name
    tools: dict[Name, ToolSpec]

    @model_validator(mode="after")
    def _same_length(self) -> RobotDescription:
        n = len(self.joints)
        for field in JointLimits.model_fields:
            if len(getattr(self.limits, field)) != n:
                raise ValueError(f"limits.{field} has not one value for each of the {n} joints")
        if len(self.home_deg) != n:
            raise ValueError(f"home_deg has not one value for each of the {n} joints")
        if self.default_tool not in self.tools:
            raise ValueError(f"default_tool {self.default_tool} is not among tools")
        return self


def available_models() -> list[str]:
    """Names of the models in the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_description(name: str) -> RobotDescription:
    """Read the description of a model by its name.

    Raises:
        ModelError: unknown name, or the file is wrong.
    """
    path = FOLDER / f"{name}.yaml"
    if name not in available_models():
        raise ModelError(f"unknown robot model {name!r}: choose one of {', '.join(available_models())}")
    try:
        return RobotDescription.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except (ValidationError, YAMLError) as error:
        raise ModelError(f"{path.name}: {error}") from error
