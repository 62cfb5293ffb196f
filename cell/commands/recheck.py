"""`cell safety recheck RUN`: every recorded lease recalculated by the second channel."""

from __future__ import annotations

import json
import math
import sys
from collections import deque
from pathlib import Path
from typing import Any

from cell.exits import BAD_INPUT, FAILED, OK
from cell.recorder import PackedObservation, RecordError, read_about, read_flight
from robots.config import RobotConfig
from robots.contract import AcceptedMotion, RobotState, SpeedLease
from robots.model import RobotModel
from robots.workcell import Workcell
from safety.config import SafetyConfig
from safety.contact import ContactLimits
from safety.recheck import Recheck, Tally
from safety.second import SecondMonitor
from safety.second_arm import ArmError
from safety.stopping import StopTable

SHOWN = 20
LATE = 5.0
"""A lease is looked at when the recording is so much further, s: on a crowded machine what it rests on may have been
seconds on its way to the recorder, and been written after it."""


def recheck_flight(path: Path) -> Tally:
    """Recheck one recording. Raises RecordError if it does not say which arm and configuration it is of."""
    about = read_about(path)
    try:
        config = SafetyConfig.model_validate_json(about["safety"])
        robot = RobotConfig.model_validate_json(about["robot"])
        fingerprint = about["fingerprint"]
        model = RobotModel.load(robot.model, robot.tool)
        given = about.get("contact_limits")
        contact = ContactLimits.model_validate_json(given) if given else None
        around = about.get("workcell")
        workcell = Workcell.model_validate_json(around) if around else None
        measured = about.get("stopping_table")
        table = StopTable.model_validate_json(measured) if measured else None
        monitor = SecondMonitor(config, model, robot.rate_limits.limits, contact, workcell, table)
    except KeyError as error:
        raise RecordError(f"recording {path}: does not say {error}; it was made by an earlier version") from None
    except (ArmError, ValueError) as error:
        raise RecordError(f"recording {path}: its configuration cannot be used: {error}") from None
    check = Recheck(config, monitor, fingerprint)
    leases: deque[tuple[float, SpeedLease]] = deque()
    for message in read_flight(path):
        body = message.body
        # What a lease rests on was said before it, but may have been late on its way to the recorder.
        while leases and leases[0][0] < message.t - LATE:
            check.lease(leases.popleft()[1])
        if isinstance(body, RobotState):
            check.state(body)
        elif isinstance(body, AcceptedMotion):
            check.motion(body)
        elif isinstance(body, PackedObservation):
            try:
                check.observation(body.unpack())
            except ValueError as error:
                check.tally.not_checked[str(error)] += 1
        elif isinstance(body, SpeedLease):
            leases.append((message.t, body))
    for _, lease in leases:
        check.lease(lease)
    return check.tally


def recheck_run(run: Path, as_json: bool) -> int:
    """Print what a recheck found; return the exit code: 0 clean, 1 not, 2 no usable recording."""
    path = run / "flight.mcap" if run.is_dir() else run
    try:
        tally = recheck_flight(path)
    except RecordError as error:
        print(f"cell safety recheck: {error}", file=sys.stderr)
        return BAD_INPUT
    result = result_of(tally)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        _print(path, tally)
    return OK if tally.clean else FAILED


def result_of(tally: Tally) -> dict[str, Any]:
    """The tally as plain data."""
    return {
        "clean": tally.clean,
        "leases": dict(tally.leases),
        "checked": tally.checked,
        "stops": tally.stops,
        "not_in_force": tally.not_in_force,
        "not_checked": dict(tally.not_checked),
        "not_checked_share": round(tally.share_not_checked, 6),
        "stricter_here": tally.stricter_here,
        "largest_reserve_m": round(tally.largest_reserve, 4) if math.isfinite(tally.largest_reserve) else None,
        "too_permissive": [
            {**f._asdict(), "shortfall": f.shortfall if math.isfinite(f.shortfall) else None} for f in tally.findings
        ],
    }


def _print(path: Path, tally: Tally) -> None:
    from rich.console import Console

    console = Console()

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)

    by = ", ".join(f"{count} of {issuer}" for issuer, count in tally.leases.items()) or "none"
    line(f"{path}: leases recorded: {by}")
    line(f"  {tally.checked} recalculated, {tally.stops} granted nothing, {tally.not_in_force} not in force")
    reserve = f", by {1e3 * tally.largest_reserve:.0f} mm at most" if tally.stricter_here else ""
    line(f"  {tally.stricter_here} times the second channel with its reserves would have granted less{reserve}")
    if tally.not_checked:
        count = sum(tally.not_checked.values())
        line(f"  not checked: {count}, {100 * tally.share_not_checked:.2f} % of all that were issued", "red")
    for reason, count in tally.not_checked.items():
        line(f"    {count}: {reason}", "red")
    for f in tally.findings[:SHOWN]:
        short = f", {1e3 * f.shortfall:.0f} mm short" if math.isfinite(f.shortfall) else ""
        line(
            f"  too permissive: {f.t:.3f} s, {f.issuer}, limit {f.limit:.2f} on {f.motion_id}: {f.reason}{short}", "red"
        )
    if len(tally.findings) > SHOWN:
        line(f"  ... and {len(tally.findings) - SHOWN} more", "red")
    if tally.clean:
        line("no lease was too permissive", "bold green")
    else:
        count = len(tally.findings)
        line(
            f"{count} lease{'s' if count != 1 else ''} too permissive" if count else "not a proof: see above",
            "bold red",
        )
