"""Judges one injected fault: did the arm stop in time, for the right reason, and stay standing; was it ever faster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from cell.faults.catalogue import Fault
from cell.session import Session

if TYPE_CHECKING:
    from cell.faults.bench import Moment, Trace

STANDS = 0.01
"""The arm stands while no joint is faster, rad/s."""
LAG = 0.06
"""The measured joints come to rest so long after the commanded ones, s (the twin's drives; measured)."""
FASTER = 0.05
"""Other pictures give slightly other limits: what the noise of a picture is worth as a rate."""
SLOW = 1.0
"""A fault that may go unnoticed for longer, s: the arm may end a motion before, and is judged by its last stop."""
STANDS_FOR = 0.02
"""The arm stands if it does so for so long, s."""


class Verdict(NamedTuple):
    """What became of one fault."""

    id: str
    where: str
    what: str
    expected: str
    reaction: str
    """What happened, in words."""
    to_standstill: float
    """s from the injection until the arm stood; nan if it did not stop."""
    bound: float
    """s; nan where the arm need not stop."""
    codes: list[str]
    problems: list[str]

    @property
    def passed(self) -> bool:
        return not self.problems


def judge(fault: Fault, trace: Trace, reference: Trace, session: Session) -> Verdict:
    """Compare what happened with what the row expects and with the run without a fault."""
    problems: list[str] = []
    end = trace.injected + (0.0 if fault.lasts is None else fault.lasts)
    stood = _last_standstill(trace.moments) if fault.detect > SLOW else _standstill(trace.moments)
    bound = _bound(fault, trace, session)
    last = trace.moments[-1]
    latched = [code for code in trace.codes if code in fault.codes]
    moves_again = stood is not None and any(m.speed > STANDS for m in trace.moments if m.t > max(stood[1], end))
    if fault.expect in ("unharmed", "slows"):
        problems += _still_working(fault.expect, trace, reference)
        stood, bound = None, math.nan
    elif stood is None:
        problems.append("the arm did not stop")
    elif stood[0] - trace.injected > bound:
        problems.append(f"stood only after {stood[0] - trace.injected:.3f} s")
    if fault.expect == "latched":
        if stood is not None and last.t - stood[0] < 1.0:
            problems.append("did not stay standing for 1 s")
        if stood is not None and any(m.speed > STANDS for m in trace.moments if m.t > stood[0]):
            problems.append("moved again without a person")
        if not latched:
            problems.append(f"raised {', '.join(trace.codes) or 'nothing'} instead of {' or '.join(fault.codes)}")
    if fault.expect == "resumes" and stood is not None and not moves_again:
        problems.append("did not go on by itself")
    if fault.expect != "latched" and fault.codes and not latched:
        problems.append(f"raised {', '.join(trace.codes) or 'nothing'} instead of {' or '.join(fault.codes)}")
    problems += _never_faster(trace, reference, session.safety.reaction.lease_validity)
    if trace.gaps:
        problems.append(f"{trace.gaps} events lost")
    taken = math.nan if stood is None else stood[0] - trace.injected
    words = "went on" if stood is None else ("stopped, went on by itself" if moves_again else "stopped, waits")
    return Verdict(
        fault.id, fault.where, fault.what, fault.expect, words, taken, bound, trace.codes, problems
    )  # fmt: skip


def _standstill(moments: list[Moment]) -> tuple[float, float] | None:
    """When the arm first stood, and when that pause ended; None if it never did."""
    since: float | None = None
    for moment in moments:
        if moment.speed > STANDS:
            if since is not None and moment.t - since >= STANDS_FOR:
                return since, moment.t
            since = None
        elif since is None:
            since = moment.t
    if since is not None and moments[-1].t - since >= STANDS_FOR:
        return since, moments[-1].t
    return None


def _last_standstill(moments: list[Moment]) -> tuple[float, float] | None:
    """From when on the arm stood to the end; None if it did not."""
    last = max((n for n, m in enumerate(moments) if m.speed > STANDS), default=-1)
    if last + 1 >= len(moments):
        return None
    return moments[last + 1].t, moments[-1].t


def _bound(fault: Fault, trace: Trace, session: Session) -> float:
    """Longest time from the injection to standstill: until braking begins, and braking from any moment until then."""
    robot, reaction = session.cell.config.robot, session.safety.reaction
    world = session.cell.config.world
    watchdog = float(world.options.get("watchdog", 0.05)) if world is not None else 0.0
    times = {
        "lease": reaction.lease_validity,
        "state": robot.state_timeout,
        "watchdog": watchdog,
        "keep_alive": robot.keep_alive,
        "late": robot.leases.late,
    }
    begins = fault.detect + sum(times[name] for name in fault.within)
    until = trace.injected + begins + reaction.tick
    until += reaction.tick
    braking = max(
        (max(m.stop_time, m.drives_stop if fault.by_drives else 0.0) for m in trace.moments if m.t <= until),
        default=0.0,
    )
    return begins + reaction.after_expiry + braking + LAG


def _never_faster(trace: Trace, reference: Trace, validity: float) -> list[str]:
    """While the arm is as far as without the fault, its rate is one that was permitted there within the last validity
    of a lease: no fault raises it."""
    usual = {round(m.t, 4): n for n, m in enumerate(reference.moments)}
    window = round(validity / 0.004)
    worst = 0.0
    for m in trace.moments:
        n = usual.get(round(m.t, 4))
        if n is None or reference.moments[n].motion != m.motion or m.progress < reference.moments[n].progress - 1e-9:
            continue
        permitted = max(max(r.limit, r.rate) for r in reference.moments[max(0, n - window) : n + 1])
        worst = max(worst, m.rate - permitted)
    return [f"moved at a rate {worst:.3f} above what was permitted"] if worst > FASTER else []


def _still_working(expected: str, trace: Trace, reference: Trace) -> list[str]:
    """The arm has gone on: much as without the fault, or less far."""
    way, usual = _way(trace.moments), _way(reference.moments[: len(trace.moments)])
    if expected == "slows":
        after = [m.speed for m in trace.moments if m.t > trace.moments[-1].t - 1.0]
        return [] if way < 0.95 * usual and max(after) > STANDS else [f"made {way:.2f} of {usual:.2f} rad"]
    return [] if way >= 0.5 * usual else [f"made only {way:.2f} of {usual:.2f} rad: the fault got through"]


def _way(moments: list[Moment]) -> float:
    return sum(0.004 * m.speed for m in moments)
