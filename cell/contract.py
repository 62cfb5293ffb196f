"""What the controller tells people, and what people may ask of it. SI units.

Whoever shows the cell (pendant, command line, factory) reads `CellStatus` and sends the requests below to `SERVICE`.
Every request is answered: `accepted` and `done`, or `rejected` with the reason and nothing changed.
"""

from __future__ import annotations

from typing import Literal

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


CellRequest = (
    Hello
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
