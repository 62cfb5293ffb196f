"""What a run looked like: a table for the terminal, and a picture of separation, required distance, rate and state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cell.summary import RunSummary

if TYPE_CHECKING:
    from rich.table import Table

FAR = 4.0
"""Separations above this are drawn at the edge, m."""
UNKNOWN = -0.9
"""Separations below this stand for `not known`; slightly negative ones are overlapping outlines, m."""
STATE_COLOURS = {
    "Execute": "#2a9d57",
    "Starting": "#8fd0a8",
    "Completing": "#8fd0a8",
    "Complete": "#4c78a8",
    "Idle": "#b9c7d6",
    "Resetting": "#d5dde6",
    "Suspending": "#f2cf5b",
    "Suspended": "#e6b800",
    "Unsuspending": "#f2cf5b",
    "Holding": "#f2a65b",
    "Held": "#e8833a",
    "Unholding": "#f2a65b",
    "Stopping": "#b07aa1",
    "Stopped": "#9d9d9d",
    "Aborting": "#e15759",
    "Aborted": "#c0392b",
    "Clearing": "#e8a5a6",
}


class Moment(NamedTuple):
    """One sample of the timeline. Distances in m; -1 or above FAR where nobody is near."""

    t: float
    separation: float
    required: float
    rate: float
    limit: float
    state: str


def _number(value: float | None, unit: str, digits: int = 2) -> str:
    return "not judged" if value is None else f"{value:.{digits}f} {unit}".strip()


def _count(value: int | None) -> str:
    return "not judged" if value is None else str(value)


def _reaction(summary: RunSummary) -> str:
    if summary.reaction_time_s is None or summary.reaction_worst_s is None:
        return "not measured"
    over = [name for name, part in summary.reaction_parts.items() if part["p99_s"] > part["budget_s"] + 0.001]
    text = f"worst {summary.reaction_worst_s * 1e3:.0f} ms of {summary.reaction_time_s * 1e3:.0f} ms configured"
    return text + (f"; over budget: {', '.join(over)}" if over else "")


def table_of(summary: RunSummary) -> Table:
    """Return the summary as a rich table."""
    from rich.table import Table

    good = summary.outcome == "Complete"
    table = Table(title=f"{summary.recipe} in {summary.cell}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    cycles = ", ".join(f"{c:.1f}" for c in summary.cycle_times_s) or "-"
    predicted = f" (predicted {summary.predicted_cycle_s:.1f})" if summary.predicted_cycle_s else ""
    nearest = "nobody came near" if summary.min_separation_m is None else f"{summary.min_separation_m:.2f} m"
    rows = [
        ("outcome", f"[{'green' if good else 'red'}]{summary.outcome}[/]"),
        ("parts, batches", f"{summary.parts_done}, {summary.batches_done}"),
        ("cycle times", f"{cycles} s{predicted}"),
        ("time", f"{summary.sim_s:.1f} s in the cell, {summary.wall_s:.1f} s on the clock"),
        ("nearest person", nearest if summary.psd_violations is not None else "not judged"),
        ("contacts while moving", _count(summary.contacts_while_moving)),
        ("separation violations", _count(summary.psd_violations)),
        ("outside the assumption", _count(summary.outside_assumption)),
        ("protective stops", str(summary.protective_stops)),
        ("slowed, of that stopped", f"{summary.time_slowed_s:.1f} s, {summary.time_stopped_s:.1f} s"),
        ("reaction time", _reaction(summary)),
        ("alarms", ", ".join(summary.alarms) or "none"),
        ("fingerprint", summary.fingerprint[:16] or "-"),
    ]
    if summary.unjudged_s > 0.0:
        rows.insert(8, ("not judged", f"[red]the referee has not seen the last {summary.unjudged_s:.1f} s[/]"))
    for name, value in rows:
        table.add_row(name, value)
    for name, file in (("timeline", summary.timeline), ("recording", summary.recording), ("ledger", summary.ledger)):
        if file:
            table.add_row(name, file)
    return table


def draw_timeline(moments: Sequence[Moment], path: Path, title: str) -> bool:
    """Draw the timeline as PNG; False if there is nothing to draw."""
    if len(moments) < 2:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    begin = moments[0].t
    t = [m.t - begin for m in moments]
    figure, (top, middle, bottom) = pyplot.subplots(
        3, 1, sharex=True, figsize=(11, 6.2), gridspec_kw={"height_ratios": [3, 2, 0.5]}, layout="constrained"
    )
    nan = float("nan")
    seen = [UNKNOWN < m.separation < FAR for m in moments]
    top.plot(
        t,
        [max(m.separation, 0.0) if s else nan for m, s in zip(moments, seen, strict=True)],
        label="separation",
        lw=1.6,
    )
    required = [m.required if s else nan for m, s in zip(moments, seen, strict=True)]
    top.plot(t, required, label="required", lw=1.2, ls="--", color="#c0392b")
    top.set_ylabel("distance / m")
    top.set_ylim(bottom=0.0)
    top.legend(loc="upper right")
    if not any(seen):
        top.text(0.5, 0.5, "nobody came near", transform=top.transAxes, ha="center", color="grey")
    middle.plot(t, [m.limit for m in moments], label="permitted", lw=1.0, color="#e6b800", drawstyle="steps-post")
    middle.fill_between(t, [m.rate for m in moments], alpha=0.4, label="rate of progress", color="#2a9d57")
    middle.set_ylabel("rate")
    middle.set_ylim(-0.03, 1.08)
    middle.legend(loc="upper right")
    _draw_states(bottom, t, [m.state for m in moments])
    bottom.set_xlabel("time / s")
    top.set_title(title, loc="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _draw_states(axes: object, t: Sequence[float], states: Sequence[str]) -> None:
    """Draw the PackML states as a band, each named where there is room."""
    begin = 0
    for i in range(1, len(states) + 1):
        if i < len(states) and states[i] == states[begin]:
            continue
        end = t[i] if i < len(states) else t[-1]
        colour = STATE_COLOURS.get(states[begin], "white")
        axes.axvspan(t[begin], end, color=colour, lw=0)  # type: ignore[attr-defined]
        if end - t[begin] > 0.06 * (t[-1] - t[0]):
            middle = (t[begin] + end) / 2
            axes.text(middle, 0.5, states[begin], ha="center", va="center", fontsize=8)  # type: ignore[attr-defined]
        begin = i
    axes.set_yticks([])  # type: ignore[attr-defined]
    axes.set_ylabel("state")  # type: ignore[attr-defined]
