"""`cell run` and `cell up`: check, launch, show, sum up."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cell.commands.files import read_both
from cell.exits import BAD_INPUT, FAILED, OK
from cell.launch import Progress, RunResult, run_live, run_lockstep, up
from cell.observer import TICK, USED
from cell.options import RunOptions
from cell.report import Moment, draw_timeline, table_of
from cell.summary import RunSummary, write_summary
from cell.yamlfile import FileErrors
from recipes.formula import parse_settings
from safety.reaction import budgets

if TYPE_CHECKING:
    from rich.table import Table


def checked(options: RunOptions) -> RunOptions:
    """Return the options with files found. Raises FileErrors with every fault that shows without planning."""
    assert options.recipe is not None  # asked only for runs of a recipe
    cell, loaded, errors = read_both(options.recipe, options.cell)
    errors = [*errors, *parse_settings(loaded.recipe, options.settings)[1]]
    if errors:
        raise FileErrors(errors)
    if options.mode == "live":
        # Later this would only be seen in a node's log.
        from cell.loading import freeze

        freeze(loaded, cell, cell.view(), options.settings, options.batches)
    return replace(options, recipe=Path(loaded.document.file))


def run_recipe(options: RunOptions) -> int:
    """Run; print the summary; return the exit code."""
    from rich.console import Console

    console = Console(stderr=options.quiet)
    options = checked(options)
    launch = run_lockstep if options.mode == "lockstep" else run_live
    if options.quiet or not sys.stdout.isatty():
        result = launch(options, None if options.quiet else _Lines())
    else:
        result = _watched(launch, options)
    summary = sum_up(result, options)
    console.print(table_of(summary))
    for reason in result.operator.refusals[-3:] if summary.outcome != "Complete" else ():
        console.print(f"the controller said: {reason}", style="yellow")
    if options.json is not None:
        write_summary(options.json, summary)
    return OK if summary.outcome == "Complete" else FAILED


def bring_up(options: RunOptions) -> int:
    """`cell up`; return the exit code."""
    if options.recipe is not None:
        options = checked(options)
    if options.mode == "lockstep":
        from cell.together import up_together

        up_together(options)
    else:
        up(options)
    return OK


def _worst_reaction(result: RunResult) -> float | None:
    """Worst measured reaction time, s; None if the arm never moved."""
    parts = result.observer.parts
    if USED not in parts:
        return None
    return round(parts[USED].worst + parts[TICK].worst + result.session.safety.reaction.drive_delay, 4)


def _reaction_parts(result: RunResult) -> dict[str, dict[str, float]]:
    """What was measured of each part, beside its budget."""
    reaction = result.session.safety.reaction
    limits = {**budgets(reaction), USED: reaction.lease_validity, TICK: reaction.tick}
    return {
        name: {
            "budget_s": round(limits[name], 4), "p50_s": round(part.quantile(0.5), 4),
            "p99_s": round(part.quantile(0.99), 4), "worst_s": round(part.worst, 4),
        }
        for name, part in sorted(result.observer.parts.items()) if name in limits
    }  # fmt: skip


def sum_up(result: RunResult, options: RunOptions) -> RunSummary:
    """Return the summary of a run; its picture and its JSON are in the run's folder."""
    observer, status, referee = result.observer, result.operator.status, result.referee
    folder = result.session.directory
    moments = [Moment(*sample) for sample in observer.samples]
    picture = folder / "timeline.png"
    recipe = status.recipe if status is not None else str(options.recipe)
    drawn = draw_timeline(moments, picture, f"{recipe}, seed {options.seed}: {result.outcome}")
    recording, ledger = folder / "flight.mcap", folder / "events.sqlite"
    summary = RunSummary(
        outcome=result.outcome,
        state=status.state if status is not None else "",
        recipe=recipe,
        cell=result.session.cell.config.cell,
        mode=options.mode,
        parts_done=status.parts_done if status is not None else 0,
        batches_done=len(status.cycle_times) if status is not None else 0,
        cycle_times_s=list(status.cycle_times) if status is not None else [],
        predicted_cycle_s=status.predicted_cycle if status is not None and status.predicted_cycle else None,
        sim_s=result.sim_s,
        wall_s=result.wall_s,
        min_separation_m=referee.min_separation,
        contacts_while_moving=referee.count("contacts_while_moving"),
        psd_violations=referee.count("psd_violations"),
        outside_assumption=referee.count("outside_assumption"),
        unjudged_s=referee.unjudged,
        protective_stops=observer.protective_stops,
        time_slowed_s=observer.time_slowed,
        time_stopped_s=observer.time_stopped,
        reaction_time_s=result.session.safety.reaction.total,
        reaction_worst_s=_worst_reaction(result),
        reaction_parts=_reaction_parts(result),
        seed=options.seed,
        fingerprint=status.fingerprint if status is not None else "",
        digest=observer.digest,
        alarms=list(observer.alarms),
        late_leases=observer.late_leases,
        event_gaps=observer.gaps,
        timeline=_shown(picture) if drawn else "",
        recording=_shown(recording) if recording.exists() else "",
        ledger=_shown(ledger) if ledger.exists() else "",
    )
    write_summary(folder / "summary.json", summary)
    return summary


def _shown(path: Path) -> str:
    """A path below the working directory is easier to read without it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class _Lines:
    """Progress for a terminal that is none: a line whenever the phase or the state changes."""

    def __init__(self) -> None:
        self._last: tuple[str, str] = ("", "")

    def __call__(self, progress: Progress) -> None:
        status = progress.operator.status
        if status is None or (status.state, status.phase) == self._last:
            return
        self._last = (status.state, status.phase)
        print(f"{progress.now:7.1f} s  {status.state:<12} {status.step}/{status.steps}  {status.phase}", flush=True)


def _watched(launch: Any, options: RunOptions) -> RunResult:
    from rich.live import Live

    with Live(auto_refresh=False, transient=True) if not options.quiet else nullcontext() as live:

        def show(progress: Progress) -> None:
            if live is not None:
                live.update(_panel(progress), refresh=True)

        result: RunResult = launch(options, show)
        return result


def _panel(progress: Progress) -> Table:
    """The live display: state, step, separation against what is required, rate."""
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2))
    status, observer = progress.operator.status, progress.observer
    table.add_row("time", f"{progress.now:.1f} s ({progress.wall:.1f} s on the clock)")
    if status is not None:
        table.add_row("state", f"[bold]{status.state}[/]  {status.recipe}")
        table.add_row("step", f"{status.step}/{status.steps}  {status.phase}")
        table.add_row("batch", f"{status.batch}/{status.batches}, {status.parts_done} parts")
    safety, robot = observer.safety, observer.robot
    if safety is not None:
        near = safety.separation < 1e8
        text = f"{safety.separation:.2f} m, required {safety.required:.2f} m" if near else "nobody is near"
        table.add_row("separation", text)
    if robot is not None:
        full = round(20 * robot.rate)
        why = f"  {robot.limit_reason}" if robot.limit < 1.0 else ""
        table.add_row("rate", f"[green]{'#' * full}[/]{'.' * (20 - full)} {robot.rate:.2f}{why}")
    if status is not None:
        for alarm in status.alarms:
            table.add_row("alarm", f"[red]{alarm.text}[/] {alarm.detail} - {alarm.remedy}")
        if status.question is not None:
            table.add_row("question", f"[yellow]{status.question.text}[/] ({', '.join(status.question.choices)})")
    return table


__all__ = ["BAD_INPUT", "bring_up", "checked", "run_recipe", "sum_up"]
