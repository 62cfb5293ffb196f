"""Runs as people look back at them: kept while they happen, saved when they end, with the charts' samples.

A run lasts from Starting to Complete, Stopped or Aborted. Finished ones lie in the data folder; those of `cell run`
are read from their own folders.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import math
import re
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from cell.contract import CellStatus
from cell.pendant.errors import missing
from cell.pendant.feed import Sample
from cell.pendant.history import LedgerReader
from cell.referee import RefereeView
from cell.report import Moment, draw_timeline

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

MOST_SAMPLES = 12_000
"""A longer run keeps every second one and takes half as many from then on."""
MOST_RUNS = 200
ENDS = ("Complete", "Stopped", "Aborted")
RESTS = (*ENDS, "Clearing", "Resetting", "Idle", "Stopping", "Aborting", "Completing")
"""States in which no run begins; in any other one there is one, also if this pendant was started in its middle."""
RUN_ID = re.compile(r"[A-Za-z0-9_.-]{1,80}")
COUNTS = ("contacts_while_moving", "psd_violations")


@dataclass
class Series:
    """Samples of one run."""

    t: list[float] = field(default_factory=list)
    separation: list[float | None] = field(default_factory=list)
    """None: nobody."""
    required: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    state: list[tuple[float, str]] = field(default_factory=list)
    """(time it was entered, state)."""

    def add(self, sample: Sample) -> None:
        """Add one sample."""
        self.t.append(sample.t)
        self.separation.append(None if math.isnan(sample.separation) else sample.separation)
        self.required.append(sample.required)
        self.rate.append(sample.rate)
        if not self.state or self.state[-1][1] != sample.state:
            self.state.append((sample.t, sample.state))

    def halve(self) -> None:
        """Keep every second one."""
        for name in ("t", "separation", "required", "rate"):
            setattr(self, name, getattr(self, name)[::2])

    def part(self, begin: float | None, end: float | None, points: int) -> dict[str, Any]:
        """At most `points` samples between two times."""
        low, high = begin if begin is not None else -math.inf, end if end is not None else math.inf
        chosen = [i for i, t in enumerate(self.t) if low <= t <= high]
        chosen = chosen[:: max(1, -(-len(chosen) // points))]
        rows: dict[str, Any] = {
            name: [getattr(self, name)[i] for i in chosen] for name in ("t", "separation", "required", "rate")
        }
        return {**rows, "state": [list(one) for one in self.state]}


@dataclass
class Run:
    """What is told of one run."""

    id: str
    began_wall: int
    began_t: float
    recipe: str
    settings: dict[str, Any]
    fingerprint: str
    predicted_cycle_s: float
    outcome: str = ""
    """State it ended in; empty while it lasts."""
    ended_wall: int | None = None
    parts: int = 0
    batches: int = 0
    """Finished ones."""
    cycle_times_s: list[float] = field(default_factory=list)
    contacts: int | None = None
    """None: nobody judged."""
    violations: int | None = None
    planned_s: float = 0.0
    running_s: float = 0.0
    time_stopped_s: float = 0.0
    time_slowed_s: float = 0.0
    reworked: int = 0


class RunKeeper:
    """Follows the cell; `sample` is told each look at the topics."""

    def __init__(self, pendant: Pendant) -> None:
        self._pendant = pendant
        self._folder = pendant.data / "runs"
        self._referee = RefereeView(pendant.link.ports)
        self._issuers = frozenset(pendant.cell.config.robot.leases.issuers)
        self._ledger = LedgerReader(pendant.session.directory / "events.sqlite")
        self.run: Run | None = None
        """The present run, or the last one."""
        self.series = Series()
        self._keep = 1
        self._count = 0
        self._last = math.nan
        self._before: dict[str, int] = {}
        self._finished: asyncio.Task[None] | None = None

    def sample(self, sample: Sample) -> None:
        """Take one sample."""
        status = self._pendant.feed.status
        self._referee.step()
        if status is None:
            return
        going = self.run is not None and not self.run.outcome
        if not going and status.state not in RESTS:
            self._begin(status, sample)
        elif going and self.run is not None:
            self._account(self.run, status, sample)
            if status.state in ENDS:
                self._end(self.run, status)

    def _begin(self, status: CellStatus, sample: Sample) -> None:
        recipe = self._pendant.feed.recipe
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        self.run = Run(
            f"{stamp}_{sample.t:.0f}",
            self._pendant.wall(),
            sample.t,
            status.recipe,
            dict(recipe.settings) if recipe is not None else {},
            recipe.fingerprint if recipe is not None else "",
            status.predicted_cycle,
        )
        self.series, self._keep, self._count, self._last = Series(), 1, 0, sample.t
        self._before = {name: self._referee.count(name) or 0 for name in COUNTS}

    def _account(self, run: Run, status: CellStatus, sample: Sample) -> None:
        dt, self._last = sample.t - self._last, sample.t
        run.planned_s += dt
        if status.state in ("Execute", "Suspending", "Suspended", "Unsuspending", "Completing"):
            run.running_s += dt
        robot = self._pendant.feed.robot
        if robot is not None and robot.motion_id and robot.limit < 1.0 and robot.limit_by in self._issuers:
            run.time_slowed_s += dt
            run.time_stopped_s += dt if robot.rate == 0.0 else 0.0
        run.parts, run.batches = status.parts_done, len(status.cycle_times)
        run.cycle_times_s = list(status.cycle_times)
        judged = [self._referee.count(name) for name in COUNTS]
        if judged[0] is not None and judged[1] is not None:
            run.contacts = judged[0] - self._before[COUNTS[0]]
            run.violations = judged[1] - self._before[COUNTS[1]]
        self._count += 1
        if self._count % self._keep == 0:
            self.series.add(sample)
        if len(self.series.t) > MOST_SAMPLES:
            self.series.halve()
            self._keep *= 2

    def _end(self, run: Run, status: CellStatus) -> None:
        run.outcome, run.ended_wall = status.state, self._pendant.wall()
        text = json.dumps({"run": asdict(run), "series": asdict(self.series)}, allow_nan=False)

        async def save() -> None:
            await asyncio.to_thread(self._save, run.id, text)

        self._finished = asyncio.ensure_future(save())

    def _save(self, name: str, text: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{name}.part"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._folder / f"{name}.json")

    # ------------------------------------------------------------ looking back; these block

    def listed(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        rows = [_row(asdict(self.run))] if self.run is not None else []
        for path in sorted(self._folder.glob("*.json"), reverse=True)[:MOST_RUNS]:
            found = _read(path)
            if found is not None and (self.run is None or path.stem != self.run.id):
                rows.append(_row(found["run"]))
        for path in sorted(self._pendant.runs.glob("*/summary.json"), reverse=True)[:MOST_RUNS]:
            found = _read(path)
            if found is not None:
                rows.append(_row(_from_summary(path, found)))
        return sorted(rows, key=lambda row: -row["began_wall"])

    def one(self, name: str) -> dict[str, Any]:
        """All that is known of a run. Raises ApiError 404."""
        if self.run is not None and name == self.run.id:
            return asdict(self.run)
        path, kind = self._path(name)
        found = _read(path)
        if found is None:
            raise missing(f"run {name[:80]}")
        return found["run"] if kind == "own" else {**_from_summary(path, found), "summary": found}

    def series_of(self, name: str) -> Series:
        """Samples of a run; of a `cell run` there are none but its picture. Raises ApiError 404."""
        if self.run is not None and name == self.run.id:
            return self.series
        path, kind = self._path(name)
        found = _read(path) if kind == "own" else None
        return Series(**found["series"]) if found is not None else Series()

    def picture(self, name: str) -> Path | bytes:
        """The timeline. Raises ApiError 404."""
        known = self.run is not None and name == self.run.id
        if not known:
            path, kind = self._path(name)
            if kind == "folder":
                if not path.with_name("timeline.png").is_file():
                    raise missing(f"picture of run {name[:80]}")
                return path.with_name("timeline.png")
        return _draw(self.series_of(name), name)

    def _path(self, name: str) -> tuple[Path, str]:
        if RUN_ID.fullmatch(name) and not name.startswith("."):
            if (self._folder / f"{name}.json").is_file():
                return self._folder / f"{name}.json", "own"
            if (self._pendant.runs / name / "summary.json").is_file():
                return self._pendant.runs / name / "summary.json", "folder"
        raise missing(f"run {name[:80]}")

    def reworked(self) -> int:
        """Phases of the present or last run that did not work out at once."""
        if self.run is None:
            return 0
        where = "kind = 'recipe.phase_finished' AND t >= ? AND json_extract(data, '$.outcome') != 'done'"
        return self._ledger.count(where, [self.run.began_t])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _from_summary(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    began = path.stat().st_mtime - float(found.get("wall_s") or 0.0)
    return {
        "id": path.parent.name,
        "began_wall": int(1000 * began),
        "recipe": found.get("recipe", ""),
        "outcome": found.get("outcome", ""),
        "parts": found.get("parts_done", 0),
        "batches": found.get("batches_done", 0),
        "contacts": found.get("contacts_while_moving"),
        "violations": found.get("psd_violations"),
        "time_stopped_s": found.get("time_stopped_s", 0.0),
        "time_slowed_s": found.get("time_slowed_s", 0.0),
    }


def _row(run: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "began_wall", "recipe", "outcome", "parts", "batches", "contacts", "violations")
    return {name: run[name] for name in (*names, "time_stopped_s", "time_slowed_s")}


def _draw(series: Series, title: str) -> bytes:
    """Separation, required distance, rate and state over time, as PNG; nothing to draw is an empty picture's end."""
    states = [state for _, state in series.state]
    since = [t for t, _ in series.state]
    moments = []
    for t, near, required, rate in zip(series.t, series.separation, series.required, series.rate, strict=True):
        state = states[max(0, bisect.bisect_right(since, t) - 1)] if states else ""
        moments.append(Moment(t, -1.0 if near is None else near, required, rate, 1.0, state))
    with tempfile.TemporaryDirectory(prefix="cell-run-") as folder:
        path = Path(folder) / "timeline.png"
        if not draw_timeline(moments, path, title):
            raise missing("picture of this run: it has no samples")
        return path.read_bytes()


def oee(run: Run | None, reworked: int) -> dict[str, Any]:
    """Counters in the manner of overall equipment effectiveness, for one run; a factor nobody can tell is None.

    availability: time not lost to holds and people over the run's time; performance: predicted over measured cycle
    time; quality: parts placed over parts placed and phases that had to be repeated.
    """
    if run is None:
        names = ("availability", "performance", "quality")
        empty: dict[str, Any] = dict.fromkeys(names)
        numbers = ("good", "reworked", "planned_s", "running_s", "stopped_for_people_s", "predicted_cycle_s")
        return {**empty, **dict.fromkeys(numbers, 0), "cycle_times_s": []}
    lost = min(run.time_stopped_s, run.running_s)
    total = sum(run.cycle_times_s)
    ideal = run.predicted_cycle_s * len(run.cycle_times_s)
    return {
        "availability": (run.running_s - lost) / run.planned_s if run.planned_s > 0.0 else None,
        "performance": min(1.0, ideal / total) if total > 0.0 else None,
        "quality": run.parts / (run.parts + reworked) if run.parts + reworked else None,
        "good": run.parts,
        "reworked": reworked,
        "planned_s": run.planned_s,
        "running_s": run.running_s,
        "stopped_for_people_s": run.time_stopped_s,
        "cycle_times_s": run.cycle_times_s,
        "predicted_cycle_s": run.predicted_cycle_s,
    }


def router(pendant: Pendant) -> APIRouter:
    """Return the endpoints."""
    routes = APIRouter(tags=["runs"])
    keeper = RunKeeper(pendant)
    drawing = asyncio.Lock()
    pendant.feed.listeners.append(keeper.sample)

    @routes.get("/runs")
    async def runs() -> list[dict[str, Any]]:
        """All runs, newest first."""
        return await asyncio.to_thread(keeper.listed)

    @routes.get("/runs/{id}")
    async def run(id: str) -> dict[str, Any]:
        """One run."""
        return await asyncio.to_thread(keeper.one, id)

    @routes.get("/runs/{id}/series")
    async def run_series(
        id: str,
        begin: Annotated[float | None, Query(alias="from", allow_inf_nan=False)] = None,
        end: Annotated[float | None, Query(alias="to", allow_inf_nan=False)] = None,
        points: Annotated[int, Query(ge=2, le=5000)] = 600,
    ) -> dict[str, Any]:
        """Samples of a run between two times, s on the cell's clock."""
        return (await asyncio.to_thread(keeper.series_of, id)).part(begin, end, points)

    @routes.get("/runs/{id}/timeline.png")
    async def timeline(id: str) -> Response:
        """The run as a picture."""
        async with drawing:
            found = await asyncio.to_thread(keeper.picture, id)
        return Response(found, media_type="image/png") if isinstance(found, bytes) else FileResponse(found)

    @routes.get("/series")
    async def series(seconds: Annotated[float, Query(gt=0.0, le=3600.0, allow_inf_nan=False)] = 60.0) -> dict[str, Any]:
        """The last minute, so that a new page has it at once; longer only during a run."""
        since = pendant.now() - seconds
        if seconds > 60.0 and keeper.run is not None:
            return keeper.series.part(since, None, 1500)
        recent = Series()
        for sample in list(pendant.feed.samples):
            if sample.t >= since:
                recent.add(sample)
        return recent.part(None, None, 1500)

    @routes.get("/oee")
    async def counters() -> dict[str, Any]:
        """Counters of the present or last run."""
        return oee(keeper.run, await asyncio.to_thread(keeper.reworked))

    return routes
