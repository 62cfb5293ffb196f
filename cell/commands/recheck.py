"""`cell safety recheck RUN`: every recorded lease recalculated by the second channel."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from cell.cli import BAD_INPUT, FAILED, OK
from cell.recorder import PackedObservation, RecordError, read_about, read_flight
from robots.config import RobotConfig
from robots.contract import AcceptedMotion, RobotState, SpeedLease
from robots.model import RobotModel
from robots.workcell import Workcell
from safety.config import SafetyConfig
from safety.contact import ContactLimits
from safety.recheck import Recheck, Tally
from safety.second import SecondMonitor

SHOWN = 20


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
        monitor = SecondMonitor(config, model, robot.rate_limits.limits, contact, workcell)
    except KeyError as error:
        raise RecordError(f"recording {path}: does not say {error}; it was made by an earlier version") from None
    except ValueError as error:
        raise RecordError(f"recording {path}: its configuration cannot be used: {error}") from None
    check = Recheck(config, monitor, fingerprint)
    leases: list[SpeedLease] = []
    for message in read_flight(path):
        body = message.body
        if isinstance(body, RobotState):
            # What follows a state was said up to the next one; the points come after the leases that rest on them.
            _judge(check, leases)
            check.state(body)
        elif isinstance(body, AcceptedMotion):
            check.motion(body)
        elif isinstance(body, PackedObservation):
            try:
                check.observation(body.unpack())
            except ValueError as error:
                check.tally.not_checked[str(error)] += 1
        elif isinstance(body, SpeedLease):
            leases.append(body)
    _judge(check, leases)
    return check.tally


def _judge(check: Recheck, leases: list[SpeedLease]) -> None:
    for lease in leases:
        check.lease(lease)
    leases.clear()


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
    for reason, count in tally.not_checked.items():
        line(f"  not checked: {count}, {reason}", "red")
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
