"""What the controller tells people, and what people may ask of it. SI units.

Whoever shows the cell (pendant, command line, factory) reads `CellStatus` and sends the requests below to `SERVICE`.
Every request is answered: `accepted` and `done`, or `rejected` with the reason and nothing changed.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cell.bus.messages import Hello
from perception.contract import ConfirmClear
from robots.contract import ClearFault, SetOverride

NODE = "controller"
TOPIC_STATUS = "cell.status"
SERVICE = "cell.requests"

CommandName = Literal["Reset", "Start", "Stop", "Hold", "Unhold", "Suspend", "Unsuspend", "Abort", "Clear", "Complete"]


class Command(msgspec.Struct, frozen=True, tag="command"):
    """A PackML command from a person. A command that the state does not admit is rejected with the reason."""

    name: CommandName
    person: str = "operator"


class SetUnitMode(msgspec.Struct, frozen=True, tag="set_unit_mode"):
    """Production (automatic) or manual; taken only in Stopped, Idle, Complete or Aborted."""

    mode: Literal["automatic", "manual"]
    person: str = "operator"


class AnswerConfirm(msgspec.Struct, frozen=True, tag="answer_confirm"):
    """Answer to the open question of an `operator_confirm` phase."""

    question: str
    """`Question.id` it answers: an answer to an older question is rejected."""
    answer: str
    person: str = "operator"


class ChooseRecovery(msgspec.Struct, frozen=True, tag="choose_recovery"):
    """What to do about the failed phase: one of `CellStatus.question.choices`. Unhold then goes on."""

    question: str
    choice: str
    person: str = "operator"


class AcknowledgeAlarm(msgspec.Struct, frozen=True, tag="acknowledge_alarm"):
    """A person has read the alarm. It leaves the list when its cause is gone too."""

    code: str
    person: str = "operator"


class LoadRecipe(msgspec.Struct, frozen=True, tag="load_recipe"):
    """Analyse a recipe and freeze it for Start; taken only in Stopped, Idle, Complete or Aborted.

    Answered `accepted` at once, and `done` or `failed` when the analysis has ended; `data` is then an `AnalysisView`.
    """

    name: str
    text: str
    """The recipe file's content: what a person has seen is what is loaded."""
    settings: dict[str, Any] = {}
    """Formula parameters, as values or as typed texts."""
    batches: int = 1
    person: str = "operator"


class UnloadRecipe(msgspec.Struct, frozen=True, tag="unload_recipe"):
    """Forget the loaded recipe; taken only in Stopped, Idle, Complete or Aborted."""

    person: str = "operator"


class OverrideSpeed(msgspec.Struct, frozen=True, tag="override_speed"):
    """Speed override in [0, 1] set by a person."""

    value: float
    person: str = "operator"


Stepping = Literal["automatic", "step", "confirm_each"]


class SetStepping(msgspec.Struct, frozen=True, tag="set_stepping"):
    """How phases follow each other: by themselves, each after `NextPhase`, or each confirmed when it has ended."""

    value: Stepping
    person: str = "operator"


class NextPhase(msgspec.Struct, frozen=True, tag="next_phase"):
    """Let the phase begin that waits in stepping mode `step`."""

    person: str = "operator"


class GoTo(msgspec.Struct, frozen=True, tag="go_to"):
    """Manual mode: a planned, checked motion to joint positions, at no more than 250 mm/s. `accepted` when planned,
    `done` or `failed` at its end."""

    q: list[float]
    label: str
    person: str = "operator"


class ManualGrip(msgspec.Struct, frozen=True, tag="manual_grip"):
    """Manual mode: open or close the gripper, m and N. A part that is held is let go."""

    width: float
    force: float
    person: str = "operator"


class ManualOutput(msgspec.Struct, frozen=True, tag="manual_output"):
    """Manual mode: switch a digital output."""

    name: str
    value: bool
    person: str = "operator"


CellRequest = (
    Hello
    | LoadRecipe
    | UnloadRecipe
    | OverrideSpeed
    | SetStepping
    | NextPhase
    | GoTo
    | ManualGrip
    | ManualOutput
    | Command
    | SetUnitMode
    | AnswerConfirm
    | ChooseRecovery
    | AcknowledgeAlarm
    | SetOverride
    | ClearFault
    | ConfirmClear
)
"""All `SERVICE` understands. `ClearFault` and `SetOverride` go on to the robot node, `ConfirmClear` to perception."""


class AlarmView(msgspec.Struct, frozen=True):
    """One alarm as a person reads it."""

    code: str
    text: str
    cause: str
    remedy: str
    reaction: Literal["none", "suspend", "hold", "abort"]
    state: Literal["active", "acknowledged", "cleared"]
    """active: cause present, nobody has read it; acknowledged: read, cause present; cleared: gone, not yet read."""
    raised_at: float
    count: int
    detail: str
    first_out: bool
    """The first alarm of this standstill: the others may be its consequences."""


class Question(msgspec.Struct, frozen=True):
    """Something only a person can decide."""

    id: str
    kind: Literal["confirm", "recovery"]
    text: str
    choices: tuple[str, ...]
    restocked: bool = False
    """A yes also says that trays are full and boxes exchanged."""


class ResumeItem(msgspec.Struct, frozen=True):
    """One thing compared between the moment of Held and now."""

    what: Literal["pose", "part", "person", "tool"]
    before: str
    now: str
    changed: bool


class CellStatus(msgspec.Struct, frozen=True):
    """The controller's state, published at least every 100 ms on `TOPIC_STATUS`."""

    t: float
    state: str
    state_number: int
    """As ISA-TR88.00.02 numbers it."""
    mode: Literal["automatic", "manual"]
    recipe: str
    operation: str
    phase: str
    step: int
    """Phase of the batch being run, from 1; 0 before the first."""
    steps: int
    parts_done: int
    """Parts placed in all batches of this run."""
    batch: int
    """Batch being run, from 1; 0 before the first."""
    batches: int
    cycle_times: list[float]
    """Of the finished batches, s."""
    blocked_since: float
    """When the arm came to stand for a person, s; -1 if it does not."""
    override: float
    alarms: list[AlarmView]
    question: Question | None
    fingerprint: str
    """Of the frozen recipe, formula, cell and versions; empty before Start."""
    predicted_cycle: float
    """s; 0 if not analysed."""
    blocked: dict[str, str] = {}
    """Command the state admits -> what speaks against it now."""
    stepping: Stepping = "automatic"
    waits: bool = False
    """Stepping mode `step`: the next phase waits for `NextPhase`."""
    loading: str = ""
    """Recipe being analysed for loading."""
    manual_missing: str = ""
    """Why nothing can be moved by hand now; empty: it can."""
    resume: list[ResumeItem] = []
    """In Held: what there was when the arm stood still, and what there is now."""


TOPIC_RECIPE = "cell.recipe"


class StepView(msgspec.Struct, frozen=True):
    """One phase of a batch."""

    operation: str
    label: str
    skill: str
    duration: float
    """Predicted, s."""


class RecipeStatus(msgspec.Struct, frozen=True):
    """The loaded recipe, published on `TOPIC_RECIPE` whenever another is loaded, and every 0.5 s."""

    recipe: str
    """Empty: none is loaded."""
    settings: dict[str, Any]
    batches: int
    fingerprint: str
    predicted_cycle: float
    steps: list[StepView]
    loads: int
    """Raised each time something is loaded or unloaded."""


class ProblemView(msgspec.Struct, frozen=True):
    """One fault of a recipe."""

    line: int
    field: str
    message: str
    allowed: str
    remedy: str


class AnalysisView(msgspec.Struct, frozen=True):
    """What an analysis found."""

    ok: bool
    recipe: str
    settings: dict[str, Any]
    """All parameters with the values that were used."""
    batches: int
    fingerprint: str
    """Of the frozen recipe; empty if it cannot be started."""
    predicted_cycle: float
    steps: list[StepView]
    problems: list[ProblemView]


TOPIC_JOG = "cell.jog"
LONGEST_JOG = 0.25
"""s; no jog command lives longer."""


class JogWish(msgspec.Struct, frozen=True):
    """A person at the pendant holds a jog button: streamed on `TOPIC_JOG`, expires by itself.

    The controller hands it on in manual mode only, with its own session, for what is left of its life.
    """

    person: str
    seq: int
    t: float
    """When it was sent, shared monotonic clock, s."""
    valid_for: float
    """s, at most `LONGEST_JOG`."""
    space: Literal["joint", "base", "tool"]
    velocity: list[float]
    """As in `robots.contract.Jog`; empty: the button was released, the arm is to stop now."""


TOPIC_LEDGER = "ledger.status"


class LedgerStatus(msgspec.Struct, frozen=True):
    """How far the ledger has come; an event counts as acknowledged once `acknowledged[source]` reached its number."""

    t: float
    ok: bool
    reason: str
    events: int
    """Written since the file was made."""
    gaps: int
    """Events known to be missing."""
    waiting: int
    """Received and not yet on disk."""
    acknowledged: dict[str, int]
    """source -> highest sequence number on disk, of its newest boot."""
