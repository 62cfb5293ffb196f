"""What ends by itself: motions, grips, stops, outputs, recovery of the drives. Each open request gets its answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from robots.tick import Outputs

if TYPE_CHECKING:
    from robots.core import RobotCore

SETTLE_TIME = 1.5
"""A motion that has not settled this long after its commanded end has failed, s."""
OUTPUT_TIME = 1.0
"""How long an output may take to be reported, s."""
CLEAR_TIME = 2.0
"""How long the drives may take to recover after a person cleared their fault, s."""


def complete(core: RobotCore, now: float, out: Outputs) -> None:
    """Answer every request that has come to its end this tick."""
    _motion(core, now, out)
    _grip(core, now, out)
    _stops(core, out)
    if core.output_tickets:
        _outputs(core, now, out)
    if core.clear_ticket is not None:
        _clearing(core, now, out)


def _motion(core: RobotCore, now: float, out: Outputs) -> None:
    follower = core.follower
    if follower is None:
        return
    if core.drop is not None:
        if follower.rate == 0.0:
            core.end_motion("failed", core.drop.reason, core.drop.code, out)
        return
    if not follower.at_end:
        return
    if core.end_since == math.inf or core.faults:
        core.end_since = now  # a latched fault that keeps the motion keeps its last moments too
    near = core.watch.fresh and float(np.abs(core.watch.q - follower.q).max()) <= core.config.settle_tolerance
    if near and core.watch.standing and not core.faults:
        core.end_motion("done", "", "", out)
    elif now - core.end_since > SETTLE_TIME:
        core.end_motion("failed", "the arm did not settle at the end of the motion", "not_settled", out)


def _grip(core: RobotCore, now: float, out: Outputs) -> None:
    state = core.watch.state
    if not core.gripper.busy or state is None or not core.watch.fresh:
        return
    outcome = core.gripper.step(now, state)
    if outcome is None or core.grip_ticket is None:
        return
    core.answer(out, core.grip_ticket, outcome.verdict, outcome.reason, outcome.code)
    core.grip_ticket = None
    held = core.gripper.held
    data = {"verdict": outcome.verdict, "code": outcome.code, "width": state.gripper_width}
    out.events.append(("robot.grip", {**data, "part": held.name if held else ""}))


def _stops(core: RobotCore, out: Outputs) -> None:
    """Stops and cancellations end at standstill; power of a category 1 stop goes then."""
    if core.standing_tickets and core.drop is None and core.commanded_standing:
        if not core.watch.fresh:
            for ticket in core.standing_tickets:
                core.answer(out, ticket, "failed", "the standstill cannot be measured: no fresh state", "not_measured")
            core.standing_tickets.clear()
        elif core.watch.standing:
            for ticket in core.standing_tickets:
                core.answer(out, ticket, "done")
            core.standing_tickets.clear()
    still = core.standing or (core.commanded_standing and not core.watch.fresh)
    if "stopped" in core.faults and not core.drives_off and still and core.drop is None:
        core.vendor_stop(1, out)


def _outputs(core: RobotCore, now: float, out: Outputs) -> None:
    state, waiting = core.watch.state, []
    for ticket, request, since in core.output_tickets:
        if state is not None and state.t > since and state.outputs.get(request.name) == request.value:
            core.answer(out, ticket, "done")
        elif now - since > OUTPUT_TIME:
            core.answer(out, ticket, "failed", f"output {request.name} did not switch", "output_stuck")
        else:
            waiting.append((ticket, request, since))
    core.output_tickets = waiting


def _clearing(core: RobotCore, now: float, out: Outputs) -> None:
    """The drives' own fault is gone, or it did not go in time."""
    assert core.clear_ticket is not None
    ticket, person, since = core.clear_ticket
    state = core.watch.state
    quiet = state is not None and not (state.fault or state.emergency_stop or state.safeguard)
    if state is not None and quiet and state.t > since and core.watch.standing:
        core.clear_ticket = None
        core.clear(person, ticket, out)
    elif now - since > CLEAR_TIME:
        core.clear_ticket = None
        why = state.fault if state is not None and state.fault else "a stop input, no fresh state, or the arm moves"
        core.answer(out, ticket, "failed", f"the drives did not recover: {why}", "not_recovered")
