"""Requests to the robot node: who may ask for what, when it is refused and with which words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cell.bus.messages import Hello
from cell.bus.ports import Incoming
from robots.contract import (
    CancelMotion,
    ClearFault,
    Grip,
    KeepAlive,
    Move,
    Release,
    SetMode,
    SetOutput,
    SetOverride,
    Stop,
)
from robots.manual import automatic_missing, switch_missing
from robots.motion import Motion, MotionError
from robots.tick import Outputs, Ticket

if TYPE_CHECKING:
    from robots.core import RobotCore

START_TOLERANCE = 5e-4
"""How far a motion may start from the commanded position, rad."""

REQUESTS = (
    Hello | Move | Grip | SetOutput | SetOverride | SetMode | Stop | CancelMotion | ClearFault | Release | KeepAlive
)
"""All requests the node understands."""


def handle(core: RobotCore, now: float, incoming: Incoming, out: Outputs) -> None:
    """Answer one request and do what it asks."""
    ticket = Ticket(incoming.client, incoming.id)
    body = incoming.body
    if isinstance(body, Hello):
        why = core.sessions.hello(incoming.session, body, now)
        if why:
            core.answer(out, ticket, "rejected", why, "refused")
            return
        out.events.append(("robot.hello", {"session": incoming.session, "role": body.role}))
        core.answer(out, ticket, "accepted", **_capabilities(core))
        core.answer(out, ticket, "done", **_capabilities(core))
        return
    commands = not isinstance(body, KeepAlive | Release)
    why = core.sessions.refusal(incoming.session, incoming.id, commands)
    if why:
        core.answer(out, ticket, "rejected", why, "refused")
        return
    core.sessions.heard(incoming.session, now)
    checked = _refusal(core, now, body)
    if isinstance(checked, str) and checked:
        core.answer(out, ticket, "rejected", checked, "refused")
        return
    core.answer(out, ticket, "accepted")
    if isinstance(checked, Motion):
        core.accept(checked, ticket, out)
    else:
        _do(core, now, incoming.session, body, ticket, out)


def _capabilities(core: RobotCore) -> dict[str, Any]:
    """What `hello` tells a client: model, units are SI, limits."""
    model = core.model
    return {
        "robot": model.name,
        "tool": model.tool_name,
        "dof": model.dof,
        "driver": core.info.name,
        "verified_on_hardware": core.info.verified_on_hardware,
        "period": core.dt,
        "q_lower": model.q_lower.tolist(),
        "q_upper": model.q_upper.tolist(),
        "v_max": model.v_max.tolist(),
        "gripper_max": model.gripper_max if core.info.gripper else 0.0,
        "manual_devices": core.info.manual_devices,
        "simulated": core.info.simulated,
        "inputs": list(core.info.inputs),
        "outputs": list(core.info.outputs),
        "rate_limits": list(core.limits),
    }


# ---------------------------------------------------------------- refusals


def _refusal(core: RobotCore, now: float, body: Any) -> str | Motion:
    """Why a request cannot be done now; empty if it can. For a good `Move` the motion itself."""
    if isinstance(body, Move):
        return _refuse_move(core, body)
    if isinstance(body, Grip):
        return _refuse_grip(core, body)
    if isinstance(body, SetOutput):
        if body.name not in core.info.outputs:
            known = ", ".join(core.info.outputs) or "none"
            return f"driver {core.info.name} has no output {body.name!r}; it has: {known}"
        return ""
    if isinstance(body, SetOverride):
        if not (math.isfinite(body.value) and 0.0 <= body.value <= 1.0):
            return f"override must lie in [0, 1], got {body.value}"
        if body.value > 0.0 and core.faults:
            return f"fault {core.faults.first[0]} is latched: clear it first"
        if body.value > 0.0 and core.hold and core.forbidden:
            return core.forbidden
        return ""
    if isinstance(body, SetMode):
        return _refuse_mode(core, body)
    if isinstance(body, ClearFault):
        return _refuse_clear(core, now, body)
    return ""


def _refuse_mode(core: RobotCore, request: SetMode) -> str:
    """The mode follows the vendor's switch, and changes only while nothing moves."""
    if not core.standing or core.follower is not None:
        return "the mode changes only at standstill without a motion"
    state = core.watch.state
    return switch_missing(core.info, state) if request.mode == "manual" else automatic_missing(core.info, state)


def _not_ready(core: RobotCore) -> str:
    if core.q is None or not core.watch.fresh:
        return "no fresh state from the drives"
    if core.faults:
        code, text = core.faults.first
        return f"fault {code} is latched: {text}"
    if core.drives_off:
        return "the drives are stopped"
    return ""


def _refuse_move(core: RobotCore, move: Move) -> str | Motion:
    why = _not_ready(core)
    if why:
        return why
    assert core.q is not None
    if core.forbidden:
        return core.forbidden
    if core.follower is not None:
        return f"motion {core.follower.motion.motion_id} is under way: wait for its end or cancel it"
    if core.jogger.moving:
        return "the arm is being jogged"
    if core.gripper.busy:
        return "the gripper is moving: wait until the grip is done"
    try:
        motion = Motion.from_accepted(core.model, move, core.limits)
    except MotionError as error:
        return str(error)
    off = abs(motion.path[0] - core.q)
    if off.max() > START_TOLERANCE:
        j = int(off.argmax())
        return (
            f"the motion starts {math.degrees(off[j]):.2f} degrees away from where {core.model.joint_names[j]} is "
            "commanded: plan it from the present position"
        )
    every = max(1, round(0.02 / motion.step))
    return core.regions.violation(core.model, motion.path[::every], core.gripper.held) or motion


def _refuse_grip(core: RobotCore, grip: Grip) -> str:
    why = _not_ready(core)
    if why:
        return why
    assert core.watch.state is not None
    if core.follower is not None or not core.standing:
        return "the gripper moves only while the arm stands without a motion"
    return core.gripper.refusal(grip, core.watch.state)


def _refuse_clear(core: RobotCore, now: float, request: ClearFault) -> str:
    """A fault is cleared by a named person, at standstill, when its cause is gone."""
    if not request.person.strip():
        return "clearing a fault needs the name of the person who does it"
    if core.clear_ticket is not None:
        return "a fault is being cleared already"
    if not core.faults:
        return "no fault is latched"
    state = core.watch.state
    if state is None or not core.watch.fresh:
        return "the drives still deliver no fresh, valid state"
    if state.emergency_stop:
        return "the emergency stop is still pressed"
    if state.safeguard:
        return "the safeguard is still open"
    if state.tool is not None and state.tool != core.model.tool_name:
        return f"the drives still report the tool {state.tool or 'none'} instead of {core.model.tool_name}"
    if not core.standing:
        return "the arm is not standing yet"
    if "limit_violated" in core.faults and not core.model.in_limits(core.watch.q, -0.02):
        return "a joint is still outside its limits"
    if any(code in core.faults for code in ("lease_lost", "safety_stop", "issuer_restarted")):
        return core.leases.blocking(now)
    return ""


# ---------------------------------------------------------------- actions


def _do(core: RobotCore, now: float, session: str, body: Any, ticket: Ticket, out: Outputs) -> None:
    """Carry out a request that was not refused."""
    if isinstance(body, Grip):
        core.grip(body, ticket, now, out)
    elif isinstance(body, SetOutput):
        out.outputs.append((body.name, body.value))
        core.output_tickets.append((ticket, body, now))
    elif isinstance(body, Stop):
        _stop(core, body, ticket, out)
    elif isinstance(body, CancelMotion):
        core.give_up("cancelled", body.reason or "cancelled")
        core.jogger.forget()
        core.standing_tickets.append(ticket)
    elif isinstance(body, ClearFault):
        _clear(core, now, body, ticket, out)
    else:
        if isinstance(body, SetOverride):
            core.override = body.value
            if body.value > 0.0:
                core.hold = ""
        elif isinstance(body, SetMode):
            core.mode = body.mode
            out.events.append(("robot.mode", {"mode": body.mode}))
        elif isinstance(body, Release):
            _release(core, session, body, out)
        core.answer(out, ticket, "done")


def _stop(core: RobotCore, stop: Stop, ticket: Ticket, out: Outputs) -> None:
    core.jogger.forget()
    out.events.append(("robot.stop", {"category": stop.category, "reason": stop.reason}))
    if stop.category == 1:
        core.latch("stopped", stop.reason, out)
    elif core.follower is not None:
        core.hold = f"stopped: {stop.reason}"
    core.standing_tickets.append(ticket)


def _release(core: RobotCore, session: str, body: Release, out: Outputs) -> None:
    if session == core.sessions.holder:
        core.jogger.forget()
        core.give_up("released", "the controller gave its session up")
    core.sessions.release(session)
    out.events.append(("robot.release", {"session": session, "reason": body.reason}))


def _clear(core: RobotCore, now: float, body: ClearFault, ticket: Ticket, out: Outputs) -> None:
    core.leases.restart_gaps(now)
    if core.drives_off:
        out.recover = body.person
        core.clear_ticket = (ticket, body.person, now)
    else:
        core.clear(body.person, ticket, out)
