"""Runs one visit under one method in lock-step, and all of them on several processes."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cell.compare.traces import Trace
from cell.config import LoadedCell
from cell.launch import run_directory, run_lockstep
from cell.options import RunOptions
from cell.session import Session, SessionError, new_session, read_safety, session_fingerprint
from recipes.parts import Place, place_pose
from safety.contract import SUPERVISOR
from safety.methods import Method

TIME_LIMIT = 240.0
"""A run that takes longer is given up, simulated s."""


HAND = 0.12
"""Half the width of the hand, m."""
EACH = 20
"""Runs of one process, before another one takes its place."""
Given = TypeVar("Given")
Made = TypeVar("Made")


class Result(msgspec.Struct, frozen=True):
    """One visit under one method."""

    trace: str
    method: str
    outcome: str
    cycle_s: float
    """Until the recipe was done; the time limit if it was not."""
    stops: int
    slowed_s: float
    stopped_s: float
    min_separation_m: float | None
    contacts_while_moving: int
    psd_violations: int
    outside_assumption: int
    folder: str
    contact_limit_exceedances: int = 0
    contacts_permitted: int = 0
    contacts_outside_assumption: int = 0
    """Of `contacts_while_moving`: whoever touched the arm came faster than the configured human speed."""
    beyond_share: float = 0.0
    """Share of the visit in which trunk, head or arms were faster than that, over reaction and stopping time, [0, 1].
    `outside_assumption` counts every moment in which any bone is, swinging feet included."""

    @property
    def contacts_within(self) -> int:
        """Contacts with the moving arm that the method has to answer for."""
        return self.contacts_while_moving - self.contacts_outside_assumption


class Job(msgspec.Struct, frozen=True):
    """What a process is given."""

    trace: str
    scenario: str
    """File; empty: nobody comes."""
    method: Method
    reach: float
    recipe: str
    cell: str
    seed: int
    folder: str


def jobs_of(
    traces: list[Trace], methods: list[Method], options: RunOptions, folder: Path, reach: float
) -> list[Job]:  # fmt: skip
    """All runs; the scenarios are written into `folder`."""
    jobs = []
    cell = str(options.cell) if options.cell is not None else ""
    for number, trace in enumerate(traces):
        file = folder / f"{number:02d}.yaml"
        file.write_text(json.dumps(trace.scenario), encoding="utf-8")
        for method in methods:
            place = str(folder / f"{number:02d}-{method}")
            jobs.append(
                Job(trace.name, str(file), method, reach, str(options.recipe), cell, options.seed, place)
            )  # fmt: skip
    return jobs


def on_its_own(session: Session, method: Method, reach: float) -> Session:
    """Return the session with the supervisor under a method as the only issuer of leases.

    The second channel keeps S_p by the exact rule: beside it no method could permit more than that, and what one
    permits wrongly would not be seen.
    """
    config = session.cell.config
    leases = config.robot.leases.model_copy(update={"issuers": [SUPERVISOR]})
    robot = config.robot.model_copy(update={"leases": leases})
    cell = replace(session.cell, config=config.model_copy(update={"robot": robot}))
    file = msgspec.structs.replace(session.file, fingerprint=session_fingerprint(cell, session.safety))
    return replace(session, file=file, cell=cell, method=method, reach=reach)


def run_job(job: Job) -> Result:
    """One run."""
    options = RunOptions(
        recipe=Path(job.recipe), cell=Path(job.cell) if job.cell else None, scenario=job.scenario or "none",
        perception="surface", seed=job.seed, time_limit=TIME_LIMIT, quiet=True, runs=Path(job.folder),
    )  # fmt: skip
    session = new_session(options, run_directory(options.runs), attended=True)
    if job.method == "ssm_contact":
        session = with_contact(session)
    done = run_lockstep(options, session=on_its_own(session, job.method, job.reach))
    status, referee, observer = done.operator.status, done.referee, done.observer
    cycles = list(status.cycle_times) if status is not None else []
    return Result(
        trace=job.trace,
        method=job.method,
        outcome=done.outcome,
        cycle_s=sum(cycles) if done.outcome == "Complete" else TIME_LIMIT,
        stops=observer.protective_stops,
        slowed_s=observer.time_slowed,
        stopped_s=observer.time_stopped,
        min_separation_m=referee.min_separation,
        contacts_while_moving=referee.count("contacts_while_moving") or 0,
        psd_violations=referee.count("psd_violations") or 0,
        outside_assumption=referee.count("outside_assumption") or 0,
        folder=str(session.directory),
        contact_limit_exceedances=referee.count("contact_limit_exceedances") or 0,
        contacts_permitted=referee.count("contacts_permitted") or 0,
        contacts_outside_assumption=referee.count("contacts_outside_assumption") or 0,
        beyond_share=share_beyond(referee.report),
    )


def share_beyond(report: dict[str, Any] | None) -> float:
    """Share of the time somebody was there in which somebody was beyond the assumption; 0 if nobody was there."""
    judged = float(report["time_judged"]) if report is not None else 0.0
    return float(report["time_beyond"]) / judged if report is not None and judged > 0.0 else 0.0


def contact_file(cell: LoadedCell) -> Path:
    """The safety file with contact zones that belongs to a cell: `X_contact_safety.yaml` beside `X_safety.yaml`."""
    return cell.safety_path.with_name(f"{cell.safety_path.stem.removesuffix('_safety')}_contact_safety.yaml")


def with_contact(session: Session) -> Session:
    """The same session with the cell's safety file that has contact zones. Raises FileErrors, and SessionError where a
    real arm would be moved: comparisons are for the twin."""
    if not session.simulation_only:
        raise SessionError("contact zones are compared in the twin alone")
    config = session.cell.config.model_copy(update={"safety": contact_file(session.cell).name})
    cell = replace(session.cell, config=config)
    safety = read_safety(cell)
    file = msgspec.structs.replace(session.file, fingerprint=session_fingerprint(cell, safety))
    return replace(session, file=file, cell=cell, safety=safety)


def run_all(jobs: list[Job], processes: int) -> Iterator[Result]:
    """All runs, in the order in which they end. Ctrl-C ends the processes."""
    if processes == 1:
        yield from map(run_job, jobs)
        return
    yield from in_processes(run_job, jobs, processes, EACH)


def in_processes(work: Callable[[Given], Made], given: list[Given], processes: int, each: int) -> Iterator[Made]:
    """Results of a function of a module for everything given, in the order in which they are done.

    New processes begin after `each` results of each: a process keeps some of the memory of every run. Not by the
    pool's own `max_tasks_per_child`: as tasks queue up, it may not replace a process that has ended, and wait forever.
    """
    # Not a `Pool`: its processes may have none of their own, and a lock-step run has.
    spawn = multiprocessing.get_context("spawn")
    for start in range(0, len(given), processes * each):
        with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
            try:
                some = given[start : start + processes * each]
                yield from (done.result() for done in as_completed([pool.submit(work, one) for one in some]))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def working_reach(cell: LoadedCell) -> float:
    """Horizontal distance of the farthest place of a cell from the base axis, and `HAND`, m.

    The arm's elbow may reach farther: the static zone comes out rather too small than too large.
    """
    workcell = cell.config.workcell
    reach = 0.0
    for name, pattern in workcell.patterns.items():
        for index in range(pattern.count):
            x, y = place_pose(workcell, Place(name, index))[:2, 3]
            reach = max(reach, math.hypot(x, y))
    return reach + HAND
