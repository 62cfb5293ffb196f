"""faults.yaml: which fault is injected where, and what must come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cell.yamlfile import load_yaml

Seconds = Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(Strict):
    """What happens to the messages of a topic while the fault lasts. Exactly one of the changes."""

    topic: Annotated[str, Field(min_length=1)]
    drop: bool = False
    """None arrives."""
    freeze: bool = False
    """The first message of the fault is repeated instead of every later one."""
    delay: Seconds | None = None
    """Every message arrives so much later, in order."""
    swap: bool = False
    """Every second message arrives after the one that follows it."""
    replace_by_earlier: Seconds | None = None
    """Each message is replaced by the one sent so long before."""
    raw: Literal["empty", "noise", "cut"] | None = None
    """The bytes on the bus: none, random, or the first half of them."""
    fields: dict[str, Any] = {}
    """Field -> new value; `{at: index, value: v}` sets one element of a list. `nan`, `inf` and `-inf` are numbers."""
    shift: dict[str, float] = {}
    """Field -> added to it; a list grows in every element."""
    floats: dict[str, Any] = {}
    """Bytes field of float32 -> `{at: index, value: v}`; `{cut: n}` drops n bytes; `{repeat: n}` repeats the whole."""
    depth: Literal["covered", "invalid", "dead", "flat"] | None = None
    """The picture of a frame: a hand on the lens, 60 % of it invalid, all of it invalid, one value."""
    sign: bool = False
    """A changed lease is signed again with the session's key: a defect of the issuer instead of a forger."""
    extra: bool = False
    """The changed message comes besides the true one, after it."""

    @model_validator(mode="after")
    def _one_change(self) -> Message:
        given = [
            self.drop, self.freeze, self.delay is not None, self.swap, self.replace_by_earlier is not None,
            self.raw is not None, bool(self.fields or self.shift or self.floats), self.depth is not None,
        ]  # fmt: skip
        if sum(given) != 1:
            raise ValueError("a message fault takes exactly one change")
        return self


class Process(Strict):
    """What happens to a node."""

    name: Annotated[str, Field(min_length=1)]
    do: Literal[
        "kill", "pause", "slow", "clock", "restart", "disk_full", "monitor_stuck", "monitor_blind", "self_test_off",
        "camera_moved",
    ]  # fmt: skip
    """kill: it never runs again; pause: not while the fault lasts; slow: every 40th time; clock: its clock is off by
    `by` s; restart: a new one starts at once; disk_full: no file of the
    process can grow; monitor_stuck: the monitor goes on giving its last answer; monitor_blind: it knows nothing of the
    arm's last link; self_test_off: the supervisor's self-test is never due; camera_moved: the twin's camera is shifted
    sideways by `by` m and goes on reporting its old place."""
    by: Annotated[float, Field(ge=-10.0, le=10.0)] = 0.0


class Fault(Strict):
    """One row."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,40}$")]
    where: Annotated[str, Field(min_length=1, max_length=80)]
    what: Annotated[str, Field(min_length=1, max_length=160)]
    message: Message | None = None
    process: Process | None = None
    twin: dict[str, float] | None = None
    """Faults of the twin's drives, name -> value, set for the time of the fault."""
    inputs: dict[str, bool] | None = None
    """Safety inputs, switched for the time of the fault."""
    lasts: Seconds | None = 1.0
    """None: for good."""
    expect: Literal["latched", "resumes", "slows", "unharmed"]
    """latched: the arm stops and a person must clear; resumes: it stops and goes on by itself; slows: it falls behind
    and goes on; unharmed: the fault is refused or without effect and the arm goes on."""
    codes: list[str] = []
    """One of these faults of the robot node or alarms must be raised."""
    detect: Seconds = 0.0
    """Longest time from the injection to the command to brake, s, beside what the configuration adds."""
    within: list[Literal["lease", "state", "watchdog", "keep_alive", "late"]] = []
    """Times of the configuration that pass before braking begins: a lease's validity, the oldest state of the drives,
    the drives' watchdog, the controller's sign of life, the longest gap of leases."""
    by_drives: bool = False
    """The drives brake by themselves, off the path, with their own deceleration."""
    perception: Literal["surface", "rendered"] = "surface"

    @model_validator(mode="after")
    def _one_place(self) -> Fault:
        if sum(x is not None for x in (self.message, self.process, self.twin, self.inputs)) != 1:
            raise ValueError("a fault is injected in exactly one place: message, process, twin or inputs")
        if self.expect == "latched" and not self.codes:
            raise ValueError("a latched fault names the codes it may raise")
        return self


class Catalogue(Strict):
    """The whole file."""

    faults: Annotated[list[Fault], Field(min_length=1)]

    @model_validator(mode="after")
    def _ids_differ(self) -> Catalogue:
        ids = [fault.id for fault in self.faults]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"ids used twice: {', '.join(twice)}")
        return self


def load_catalogue(path: Path) -> list[Fault]:
    """Return the rows of a faults.yaml. Raises FileErrors with every problem, its file and line."""
    return load_yaml(path, Catalogue).faults
