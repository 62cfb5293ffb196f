"""The cell file: one arm, its cameras, what stands round them. Checked as a whole; every fault with file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.yamlfile import Document, FileError, FileErrors, read_yaml
from perception.config import CameraConfig, PeopleConfig, PerceptionConfig
from recipes.contract import CellView
from robots.config import RobotConfig
from robots.description import ModelError
from robots.model import RobotModel
from robots.urdf import UrdfError
from robots.workcell import Name, Strict, Workcell

SCENARIO_NONE = "none"
SHADOW_WORLD = "twin_shadow"
"""The world that only follows an arm, which may be a real one."""
SIMULATED = ("null", "twin")
"""Drivers that move nothing real."""


class WorldConfig(Strict):
    """The simulated world, if there is one."""

    driver: Name
    """Entry point of `cell.worlds`."""
    options: dict[str, Any] = Field(default_factory=dict)


class CellConfig(Strict):
    """A cell file."""

    cell: Name
    recipes: str = "recipes/library"
    """Folder of recipes, relative to the cell file, to the working directory, or to the installed packages."""
    scenario: str = SCENARIO_NONE
    """Scenario of a simulated world that runs unless another is asked for."""
    safety: str
    """Safety configuration, relative to the cell file."""
    robot: RobotConfig
    world: WorldConfig | None = None
    """Left out: the real one."""
    cameras: Annotated[list[CameraConfig], Field(max_length=16)] = Field(default_factory=list)
    perception: PerceptionConfig = PerceptionConfig()
    people: PeopleConfig = PeopleConfig()
    workcell: Workcell


@dataclass(frozen=True)
class LoadedCell:
    """A cell file that has passed all checks."""

    path: Path
    config: CellConfig
    text: str

    @property
    def simulated(self) -> bool:
        """The cell's arm is that of a simulated world."""
        world = self.config.world
        return world is not None and world.driver != SHADOW_WORLD

    @property
    def safety_path(self) -> Path:
        """The safety configuration's file."""
        return beside(self.path, self.config.safety)

    @property
    def recipes_path(self) -> Path:
        """The folder of recipes."""
        return beside(self.path, self.config.recipes)

    @property
    def fingerprint(self) -> str:
        """Of everything the cell file says, whatever its comments and layout (sha256, 16 hex digits)."""
        canonical = json.dumps(self.config.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def model(self) -> RobotModel:
        """Return the kinematic model of the arm with its tool."""
        return RobotModel.load(self.config.robot.model, self.config.robot.tool)

    def home(self) -> NDArray[np.float64]:
        """Return the rest pose, rad."""
        given = self.config.robot.home
        return np.array(given if given else self.model().home, dtype=np.float64)

    def view(self, inputs: tuple[str, ...] | None = None, outputs: tuple[str, ...] | None = None) -> CellView:
        """Return what recipes know of this cell."""
        return CellView(self.config.cell, self.config.workcell, self.model(), self.home(), inputs, outputs)


def beside(file: Path, name: str) -> Path:
    """Return `name` relative to the folder of `file`, else to the working directory, else to the installed packages."""
    path = Path(name)
    if path.is_absolute():
        return path
    candidates = [file.parent / path, Path.cwd() / path, default_cell().parents[2] / path]
    return next((c for c in candidates if c.exists()), candidates[0])


@cache
def default_cell() -> Path:
    """Return the demo cell of the package."""
    return Path(str(resources.files("cell").joinpath("cells", "demo.yaml")))


def load_cell(path: Path | None = None) -> LoadedCell:
    """Read a cell file, or the demo cell. Raises FileErrors with every fault."""
    file = path if path is not None else default_cell()
    document = read_yaml(file)
    config = document.parse(CellConfig)
    errors = [*_names(config, document), *_workcell(config.workcell, document), *_drivers(config, document)]
    errors += _robot(config, document)
    if errors:
        raise FileErrors(errors)
    return LoadedCell(file, config, file.read_text(encoding="utf-8"))


def _twice(document: Document, where: tuple[str | int, ...], names: list[str]) -> Iterator[FileError]:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in first:
            yield document.error((*where, i, "name"), f"{name} is given twice, first as number {first[name] + 1}")
        first.setdefault(name, i)


def _names(config: CellConfig, document: Document) -> Iterator[FileError]:
    yield from _twice(document, ("cameras",), [camera.name for camera in config.cameras])
    yield from _twice(document, ("workcell", "fixtures"), [fixture.name for fixture in config.workcell.fixtures])
    yield from _one_device_twice(config, document)
    for i, camera in enumerate(config.cameras):
        if camera.mount.position == camera.mount.look_at:
            yield document.error(("cameras", i, "mount", "look_at"), "is where the camera itself is")
        if camera.outdated:
            yield document.error(
                ("cameras", i, "calibrated_on"),
                f"{camera.calibrated_on} is before the mount was last changed ({camera.mount_changed_on})",
                remedy=f"Measure it again: cell calibrate extrinsics --camera {camera.name}",
            )


def _one_device_twice(config: CellConfig, document: Document) -> Iterator[FileError]:
    """Two cameras of the file that are one: what one of them must see would be seen by nobody."""
    first: dict[tuple[str, str], str] = {}
    for i, camera in enumerate(config.cameras):
        serial = camera.options.get("serial")
        if serial is None:
            continue
        key = (camera.driver, str(serial))
        if key in first:
            text = f"serial number {serial} is that of camera {first[key]} already"
            yield document.error(("cameras", i, "options", "serial"), text)
        first.setdefault(key, camera.name)


def _workcell(workcell: Workcell, document: Document) -> Iterator[FileError]:
    at = ("workcell",)
    for name, pattern in workcell.patterns.items():
        if pattern.frame not in workcell.frames:
            known = ", ".join(workcell.frames) or "none"
            yield document.error((*at, "patterns", name, "frame"), f"unknown frame {pattern.frame}", known)
    lower, upper = workcell.person_volume
    for i in range(3):
        if not lower[i] < upper[i]:
            yield document.error((*at, "person_volume"), f"lower corner is not below the upper one in {'xyz'[i]}")
    taken: dict[tuple[str, int], int] = {}
    for i, item in enumerate(workcell.stock):
        here = (*at, "stock", i)
        if item.part not in workcell.parts:
            yield document.error((*here, "part"), f"unknown part {item.part}", ", ".join(workcell.parts) or "none")
        places = workcell.patterns.get(item.pattern)
        if places is None:
            known = ", ".join(workcell.patterns) or "none"
            yield document.error((*here, "pattern"), f"unknown pattern {item.pattern}", known)
        elif item.index >= places.count:
            text = f"place {item.index} is outside {item.pattern}"
            yield document.error((*here, "index"), text, f"0 to {places.count - 1}")
        if (item.pattern, item.index) in taken:
            first = taken[(item.pattern, item.index)] + 1
            yield document.error(here, f"place {item.index} of {item.pattern} is taken by stock number {first}")
        taken.setdefault((item.pattern, item.index), i)


def installed(group: str) -> list[str]:
    """Return the names of the plug-ins of an entry-point group."""
    return sorted({point.name for point in entry_points(group=group)})


def _drivers(config: CellConfig, document: Document) -> Iterator[FileError]:
    wanted: list[tuple[tuple[str | int, ...], str, str]] = [
        (("robot", "driver"), config.robot.driver, "cell.robot_drivers")
    ]
    if config.robot.gripper is not None:
        wanted.append((("robot", "gripper", "driver"), config.robot.gripper.driver, "cell.gripper_drivers"))
    wanted += [(("cameras", i, "driver"), c.driver, "cell.cameras") for i, c in enumerate(config.cameras)]
    if config.world is not None:
        wanted.append((("world", "driver"), config.world.driver, "cell.worlds"))
    for where, name, group in wanted:
        names = installed(group)
        if name not in names:
            remedy = "Install the package that brings it"
            yield document.error(where, f"unknown driver {name}", ", ".join(names) or "none", remedy)


def _robot(config: CellConfig, document: Document) -> Iterator[FileError]:
    try:
        model = RobotModel.load(config.robot.model, config.robot.tool)
    except (ModelError, UrdfError) as error:
        yield document.error(("robot", "model"), str(error))
        return
    home = config.robot.home
    if home and len(home) != model.dof:
        yield document.error(("robot", "home_deg"), f"{len(home)} values, {model.name} has {model.dof} joints")
    elif home and not model.in_limits(home):
        yield document.error(("robot", "home_deg"), "outside the joint ranges of the arm")
    yield from _identified(config, model, document)


def _identified(config: CellConfig, model: RobotModel, document: Document) -> Iterator[FileError]:
    """What was measured must be of this arm, and no worse than the driver is told."""
    robot, found = config.robot, config.robot.identified
    if found is None:
        return
    at, again = ("robot", "identified"), "Measure it again: cell robots identify --write"
    for name, measured, here in (
        ("driver", found.driver, robot.driver),
        ("model", found.model, model.name),
        ("tool", found.tool, model.tool_name),
    ):
        if measured != here:
            yield document.error((*at, name), f"was measured with {measured}, this cell has {here}", remedy=again)
    if len(found.delays) != model.dof:
        yield document.error(
            (*at, "delays"), f"{len(found.delays)} values, {model.name} has {model.dof} joints", remedy=again
        )
    real = config.world is None or config.world.driver == SHADOW_WORLD
    if found.simulation_only and real and robot.driver not in SIMULATED:
        yield document.error(
            (*at, "simulation_only"), "was measured on a simulated arm, this one is real", remedy=again
        )
    told = robot.options.get("drive_delay")
    if isinstance(told, int | float) and told < found.delay:
        text = f"drive_delay is {told} s, but {found.delay} s were measured"
        yield document.error(("robot", "options", "drive_delay"), text, remedy="Raise it to at least that")
