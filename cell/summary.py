"""What a run came to: one struct, written as JSON and shown as a table."""

from __future__ import annotations

from pathlib import Path

import msgspec


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one run. Distances in m, times in s; values nobody measured are None, never 0."""

    outcome: str
    """`Complete`, or why not: `Aborted`, `Held`, `Stopped`, `time limit`."""
    state: str
    """PackML state at the end."""
    recipe: str
    cell: str
    mode: str
    parts_done: int
    batches_done: int
    cycle_times_s: list[float]
    predicted_cycle_s: float | None
    sim_s: float
    """Time that passed for the cell."""
    wall_s: float
    min_separation_m: float | None
    """By the referee's truth; None: nobody was there, or no referee (real robot)."""
    contacts_while_moving: int | None
    psd_violations: int | None
    outside_assumption: int | None
    unjudged_s: float = 0.0
    """Time before the end that the referee did not get to see: the counts above say nothing of it."""
    protective_stops: int
    """How often the arm came to stand for a person."""
    time_slowed_s: float
    """Time with a limit below 1 while a motion was under way."""
    time_stopped_s: float
    seed: int
    fingerprint: str
    """Of the frozen recipe, formula, cell and versions."""
    digest: str
    """sha256 over all robot states, cell states and events in order; equal for equal runs in lock-step."""
    reaction_time_s: float | None = None
    """Configured T_r."""
    reaction_worst_s: float | None = None
    """Worst measured: age of the data the arm moved on, a tick of the robot node, and the drives' configured delay."""
    reaction_parts: dict[str, dict[str, float]] = {}
    """Part of the reaction time -> budget_s, p50_s, p99_s, worst_s as measured."""
    late_leases: int = 0
    """How often a lease came late (<= 500 ms), braked the arm, and the arm went on."""
    alarms: list[str]
    """Codes in the order they were raised."""
    event_gaps: int
    timeline: str = ""
    recording: str = ""
    ledger: str = ""


def write_summary(path: Path, summary: RunSummary) -> None:
    """Write `summary` as JSON; the file is replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    draft.replace(path)
