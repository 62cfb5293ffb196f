"""What a skill sees, what it may ask for, and what it must declare.

A skill is one file with one class: `Params` (a pydantic model), `outcomes` (how it can end other than well, each
something an operator can act on), `analyse` (what can be told before anything moves), `run` (a generator), `hold`.

`run` yields *actions* and receives their *results*; it never waits, sleeps or touches a bus. So one and the same
generator is driven by the sequencer with the real arm and by the analysis with none. It lives from the first `next`
until it returns its `Outcome` or is closed (stop, abort, retry); it must be repeatable: a retry starts a new one from
wherever the arm then stands.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recipes.parts import Parts
from robots.contract import PartGeometry
from robots.model import RobotModel
from robots.motion import Motion
from robots.workcell import Workcell

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CellView:
    """What recipes know of the cell they run in."""

    name: str
    workcell: Workcell
    model: RobotModel
    home: Array
    """Joint positions of the rest pose, rad."""
    inputs: tuple[str, ...] | None = None
    """Digital inputs the driver offers; None: not known before it is connected."""
    outputs: tuple[str, ...] | None = None
    gripper_speed: float = 0.115
    """Change of the distance between the fingers, m/s; for the predicted time."""


@dataclass(frozen=True)
class MoveAction:
    """Run a planned motion to its end."""

    motion: Motion


@dataclass(frozen=True)
class GripAction:
    """Open or close the gripper."""

    width: float
    """m."""
    force: float = 0.0
    """N."""
    part: PartGeometry | None = None
    release: bool = False


@dataclass(frozen=True)
class OutputAction:
    """Switch a digital output."""

    name: str
    value: bool


@dataclass(frozen=True)
class InputAction:
    """Wait until a digital input has a value; fails with `wait_timeout`."""

    name: str
    value: bool
    timeout: float
    """s."""


@dataclass(frozen=True)
class DelayAction:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True)
class AskAction:
    """Ask a person; the result's `answer` is one of the choices."""

    text: str
    choices: tuple[str, ...]
    restocked: bool = False
    """A yes also says that trays are full and boxes exchanged."""


Action = MoveAction | GripAction | OutputAction | InputAction | DelayAction | AskAction


@dataclass(frozen=True)
class Result:
    """How an action ended."""

    ok: bool
    code: str = ""
    """Stable code of the failure, such as `grip_missed` or `move_failed`."""
    reason: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a phase ended: `done`, or one of the skill's declared outcomes."""

    code: str
    text: str = ""


DONE = Outcome("done")


@dataclass(frozen=True)
class OutcomeSpec:
    """A declared way of ending other than well."""

    text: str
    retries: int = 0
    """How often a new try by itself is harmless and sensible, unless the recipe says otherwise."""
    choices: tuple[Literal["retry", "skip", "stop"], ...] = ("retry", "skip", "stop")


@dataclass
class SkillContext:
    """The world as a skill may see it; the executor keeps it true between actions."""

    cell: CellView
    parts: Parts
    q: Array
    """Where the arm stands (commanded), rad."""
    gripper_width: float
    """Distance between the fingers, m."""
    inputs: Mapping[str, bool] = field(default_factory=dict)
    dry: bool = False
    """Driven by the analysis: nothing moves, inputs have no values."""
    cache: dict[str, Motion] = field(default_factory=dict)
    """Motions the analysis has planned, by phase and label."""
    prefix: str = ""
    """Key of the phase."""
    id_prefix: str = ""
    """Of motion ids in this try of this phase; empty: the phase's key."""
    count: int = 0

    def next_id(self) -> str:
        """Return a motion id that no other motion of the run has."""
        self.count += 1
        return f"{self.id_prefix or self.prefix}.{self.count}"


class PhaseFault(Exception):
    """A phase cannot go on; `code` is one of its declared outcomes."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


Run = Generator[Action, Result, Outcome]


class Skill(Protocol):
    """Entry point `cell.skills`: a class without arguments."""

    name: ClassVar[str]
    Params: ClassVar[type[BaseModel]]
    outcomes: ClassVar[dict[str, OutcomeSpec]]
    needs: ClassVar[frozenset[str]]
    """Capabilities: `gripper`, `inputs`, `outputs`, `operator`."""

    def label(self, params: Any) -> str:
        """Return what the operator reads while it runs."""
        ...

    def analyse(self, cell: CellView, params: Any) -> Iterator[tuple[str, str]]:
        """Yield (field of Params, what is wrong) for everything that can be told without planning a motion."""
        ...

    def run(self, context: SkillContext, params: Any) -> Run:
        """Do it. Raises PhaseFault for declared outcomes met while planning."""
        ...

    def assume(self, context: SkillContext, params: Any) -> None:
        """Change the parts as a successful run would; the analysis goes on with this after a fault."""
        ...

    def hold(self) -> Literal["on_path", "after_action"]:
        """`on_path`: a Hold stops the arm where it is on its path; `after_action`: the present action ends first."""
        ...
