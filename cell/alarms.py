"""Alarms: what a person reads, what PackML does, and three states per alarm (after IEC 62682's acknowledged alarms).

active -> (read) acknowledged -> (cause gone) history, or active -> (cause gone) cleared -> (read) history. Pure: every
method returns what changed, for the event feed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cell.contract import AlarmView
from cell.yamlfile import parse_text
from robots.workcell import Strict

Reaction = Literal["none", "suspend", "hold", "abort"]
SEVERITY: dict[str, int] = {"none": 0, "suspend": 1, "hold": 2, "abort": 3}
HISTORY = 500
DETAIL_LIMIT = 500


class AlarmDefinition(Strict):
    """What is fixed about an alarm."""

    text: Annotated[str, Field(min_length=3, max_length=120)]
    cause: Annotated[str, Field(min_length=3, max_length=300)]
    remedy: Annotated[str, Field(min_length=3, max_length=300)]
    reaction: Reaction


class AlarmFile(Strict):
    """cell/data/alarms.yaml."""

    alarms: dict[str, AlarmDefinition]


def load_definitions() -> dict[str, AlarmDefinition]:
    """Return the alarms of the package by code. Raises FileErrors."""
    source = resources.files("cell.data").joinpath("alarms.yaml")
    return (
        parse_text(source.read_text(encoding="utf-8"), Path("cell/data/alarms.yaml").as_posix()).parse(AlarmFile).alarms
    )


@dataclass(frozen=True)
class Alarm:
    """One alarm that is in the list."""

    code: str
    definition: AlarmDefinition
    raised_at: float
    active: bool
    acknowledged: bool
    count: int
    detail: str
    first_out: bool

    def view(self) -> AlarmView:
        state: Literal["active", "acknowledged", "cleared"]
        state = ("acknowledged" if self.acknowledged else "active") if self.active else "cleared"
        d = self.definition
        return AlarmView(
            self.code,
            d.text,
            d.cause,
            d.remedy,
            d.reaction,
            state,
            self.raised_at,
            self.count,
            self.detail,
            self.first_out,
        )


@dataclass(frozen=True)
class Change:
    """What an alarm did: `raised`, `cleared`, `acknowledged`."""

    what: Literal["raised", "cleared", "acknowledged"]
    alarm: Alarm


class Alarms:
    """The list of alarms. A code that is not in the table reacts as the gravest, because nobody has assessed it."""

    def __init__(self, definitions: dict[str, AlarmDefinition]) -> None:
        self._definitions = definitions
        self._listed: dict[str, Alarm] = {}
        self.history: deque[Alarm] = deque(maxlen=HISTORY)
        """Alarms that are gone and have been read, oldest first."""

    def definition(self, code: str) -> AlarmDefinition:
        """Return the definition of `code`; an unknown code aborts."""
        found = self._definitions.get(code)
        if found is not None:
            return found
        return AlarmDefinition(
            text=f"Unknown alarm {code[:60]}",
            cause="A node reported a code that the alarm table does not hold",
            remedy="Bring all nodes to one version",
            reaction="abort",
        )

    def raise_(self, code: str, now: float, detail: str = "") -> Change | None:
        """Cause `code` is present. Returns the change, or None if it was already active."""
        old = self._listed.get(code)
        if old is not None and old.active:
            if detail and detail != old.detail:
                self._listed[code] = replace(old, detail=detail[:DETAIL_LIMIT])
            return None
        definition = self.definition(code)
        grave = SEVERITY[definition.reaction] >= SEVERITY["hold"]
        others = any(a.active and SEVERITY[a.definition.reaction] >= SEVERITY["hold"] for a in self._listed.values())
        count = old.count + 1 if old is not None else 1
        alarm = Alarm(code, definition, now, True, False, count, detail[:DETAIL_LIMIT], grave and not others)
        self._listed[code] = alarm
        return Change("raised", alarm)

    def clear(self, code: str) -> Change | None:
        """Cause `code` is gone. Returns the change, or None if it was not active."""
        old = self._listed.get(code)
        if old is None or not old.active:
            return None
        return Change("cleared", self._settle(replace(old, active=False)))

    def acknowledge(self, code: str) -> Change | None:
        """A person has read `code`. Returns the change, or None if there is nothing to read."""
        old = self._listed.get(code)
        if old is None or old.acknowledged:
            return None
        return Change("acknowledged", self._settle(replace(old, acknowledged=True)))

    def _settle(self, alarm: Alarm) -> Alarm:
        # A suspend or plain message is no alarm a person has to read: it leaves with its cause.
        unread = not alarm.acknowledged and SEVERITY[alarm.definition.reaction] >= SEVERITY["hold"]
        if alarm.active or unread:
            self._listed[alarm.code] = alarm
        else:
            del self._listed[alarm.code]
            self.history.append(alarm)
        return alarm

    def is_active(self, code: str) -> bool:
        """The cause of `code` is present."""
        found = self._listed.get(code)
        return found is not None and found.active

    @property
    def gravest(self) -> Reaction:
        """Gravest reaction of all active alarms."""
        active = [a.definition.reaction for a in self._listed.values() if a.active]
        return max(active, key=lambda r: SEVERITY[r], default="none")

    def listed(self) -> list[Alarm]:
        """Active and unread alarms: first-out first, then by time."""
        return sorted(self._listed.values(), key=lambda a: (not a.first_out, a.raised_at, a.code))
