"""`cell replay`: a finished run again, from its flight recording and its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from cell.contract import CellStatus
from cell.exits import FAILED, OK
from cell.ledger import LedgerError, read_ledger
from cell.recorder import read_flight
from cell.report import Moment, draw_timeline
from robots.contract import RobotState
from safety.contract import SafetyStatus


def moments_of(path: Path) -> Iterator[Moment]:
    """Yield the timeline of a recording. Raises RecordError."""
    state, separation, required = "", -1.0, -1.0
    for message in read_flight(path):
        body = message.body
        if isinstance(body, CellStatus):
            state = body.state
        elif isinstance(body, SafetyStatus):
            separation, required = body.separation, body.required
        elif isinstance(body, RobotState):
            yield Moment(body.t, separation, required, body.rate, body.limit, state)


def show_run(folder: Path, picture: Path | None, list_events: bool) -> int:
    """Print what happened; return the exit code."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    flight = folder / "flight.mcap" if folder.is_dir() else folder
    moments = list(moments_of(flight))
    table = Table(title=str(folder), title_justify="left")
    for name in ("s", "event", "what"):
        table.add_column(name, justify="right" if name == "s" else "left")
    complete = True
    ledger = flight.parent / "events.sqlite"
    begin = moments[0].t if moments else 0.0
    try:
        for row in read_ledger(ledger):
            event = row.event
            if list_events or event.kind.startswith(("packml.state", "alarm.raised", "batch.", "operator.")):
                text = ", ".join(f"{k} {v}" for k, v in event.data.items() if k not in ("number", "fingerprint"))
                table.add_row(f"{event.t - begin:.2f}", event.kind, text[:100])
    except LedgerError as error:
        complete = False
        console.print(str(error), style="red")
    console.print(table)
    if moments:
        slowed = sum(b.t - a.t for a, b in pairwise(moments) if a.limit < 1.0)
        console.print(f"{moments[-1].t - begin:.1f} s recorded, {slowed:.1f} s of it with a limit below 1")
    target = picture or flight.parent / "replay.png"
    if draw_timeline(moments, target, f"replay of {folder.name}"):
        console.print(f"timeline {target}")
    return OK if complete and moments else FAILED
