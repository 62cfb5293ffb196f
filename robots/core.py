"""The robot node's core: the one place where motion is permitted. Pure: `step(now, inputs) -> outputs`.

Each tick the arm advances on its accepted motion at the lowest of override, manual limit and the leases of all
issuers, or brakes. Every fault brakes on the path, is latched, and waits for a person; clearing restarts nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell.bus.messages import Reply
from robots.config import RobotConfig
from robots.contract import (
    AcceptedMotion,
    DriverInfo,
    Grip,
    Jog,
    RobotState,
    SetOutput,
    Setpoint,
)
from robots.faults import KINDS, FaultBoard
from robots.follower import Follower
from robots.gripping import Gripper
from robots.guards import KeepOutRegions, manual_rates
from robots.jogging import Jogger
from robots.leases import LeaseRules
from robots.model import RobotModel
from robots.motion import Motion
from robots.permits import LeaseDesk
from robots.requests import handle
from robots.sessions import Sessions
from robots.tick import Inputs, Outputs, Ticket
from robots.watch import DriverWatch

Array = NDArray[np.float64]

MOTION_REPEAT = 0.04
"""The accepted motion is published again at least this often, s."""
SETTLE_TIME = 1.5
"""A motion that has not settled this long after its commanded end has failed, s."""
OUTPUT_TIME = 1.0
CLEAR_TIME = 2.0
"""How long the drives may take to recover after a person cleared their fault, s."""


@dataclass
class _Drop:
    """A motion that is being given up: brake, then answer."""

    code: str
    reason: str


class RobotCore:
    """State of the node between ticks. `step` is called once a tick, with time that never runs back."""

    def __init__(self, config: RobotConfig, model: RobotModel, info: DriverInfo, rules: LeaseRules) -> None:
        if info.dof != model.dof:
            raise ValueError(f"driver {info.name} drives {info.dof} joints, model {model.name} has {model.dof}")
        self.config, self.model, self.info = config, model, info
        self.dt = config.period
        self.limits = config.rate_limits.limits
        self.regions = KeepOutRegions.from_config(config.keep_out)
        self.faults = FaultBoard()
        self.sessions = Sessions(config.keep_alive)
        self.leases = LeaseDesk(rules, config.rate_hz)
        self.watch = DriverWatch(model, config, info)
        self.gripper = Gripper(model.gripper_max, info.gripper)
        self.jogger = Jogger(model, self.regions, config.manual_speed, self.dt)
        self.mode: Literal["automatic", "manual"] = "automatic"
        self.override = 1.0
        self.hold = ""
        """Why the arm is held on its path until an override above 0 is set; empty: it is not."""
        self.follower: Follower | None = None
        self.q: Array | None = None
        """Commanded joint positions; None before the first driver state."""
        self.dq = np.zeros(model.dof)
        self.drives_off = False
        """The vendor's stop was called: the command follows the measured arm until a person clears the fault."""
        self.drop: _Drop | None = None
        self.move_ticket: Ticket | None = None
        self.grip_ticket: Ticket | None = None
        self.clear_ticket: tuple[Ticket, str, float] | None = None
        self.standing_tickets: list[Ticket] = []
        self.output_tickets: list[tuple[Ticket, SetOutput, float]] = []
        self._manual: Array = np.ones(1)
        self._seq = 0
        self._end_since = math.inf
        self._motion_due = -math.inf
        self._refused: dict[str, str] = {}
        self._limit: tuple[float, str, str] = (0.0, "startup", "no state from the drives yet")

    # ------------------------------------------------------------ the tick

    def step(self, now: float, inputs: Inputs) -> Outputs:
        """Advance by one tick at time `now` (s, shared monotonic clock)."""
        out = Outputs()
        self._seq += 1
        self._take_driver(now, inputs, out)
        self._take_leases(now, inputs, out)
        if self.sessions.silent(now):
            self.jogger.forget()
            self.latch("controller_lost", "", out)
        for incoming in inputs.requests:
            handle(self, now, incoming, out)
        if inputs.jog is not None:
            self._take_jog(now, inputs.jog, out)
        self._limit = self._permitted(now, out)
        self._command(now, out)
        self._complete(now, out)
        self._publish(now, out)
        return out

    def latch(self, code: str, detail: str, out: Outputs) -> None:
        """Latch a fault: brake, hold or give up the motion, call the vendor's stop where the fault says so."""
        if not self.faults.latch(code, detail):
            return
        kind = KINDS[code]
        out.events.append(("robot.fault", {"code": code, "detail": detail, "remedy": kind.remedy}))
        self.jogger.forget()
        if kind.drops_motion:
            self.give_up(code, kind.cause + (f": {detail}" if detail else ""))
        elif self.follower is not None:
            self.hold = self.hold or code
        if kind.vendor_stop and code != "stopped":
            self._vendor_stop(0 if code == "stop_disobeyed" else 1, out)

    def give_up(self, code: str, reason: str) -> None:
        """Brake on the path and drop the motion, if there is one."""
        if self.follower is not None and self.drop is None:
            self.drop = _Drop(code, reason)

    def answer(self, out: Outputs, ticket: Ticket, verdict: Any, reason: str = "", code: str = "", **data: Any) -> None:
        """Send one reply; `code` is the stable name of the reason."""
        body = {"code": code, **data} if code else data
        out.replies.append((ticket.client, Reply(ticket.id, verdict, reason, body)))

    def _vendor_stop(self, category: int, out: Outputs) -> None:
        out.stop = category if out.stop < 0 else min(out.stop, category)
        self.drives_off = True

    # ------------------------------------------------------------ inputs

    def _take_driver(self, now: float, inputs: Inputs, out: Outputs) -> None:
        if inputs.driver_error:
            self.latch("driver_fault", inputs.driver_error, out)
        for finding in self.watch.take(inputs.driver, now):
            self.latch(finding.code, finding.detail, out)
        if self.q is None and self.watch.fresh:
            self.q = self.watch.q.copy()
            out.events.append(("robot.ready", {"driver": self.info.name, "q": self.q.tolist()}))
        if self.q is not None:
            for finding in self.watch.compare(now, self.q, self.dq, not self.drives_off):
                self.latch(finding.code, finding.detail, out)
        if self.watch.fresh and self.watch.state is not None:
            lost = self.gripper.lost(now, self.watch.state)
            if lost:
                out.events.append(("robot.part_lost", {"part": lost}))
                self.latch("part_lost", lost, out)

    def _take_leases(self, now: float, inputs: Inputs, out: Outputs) -> None:
        for issuer, lease in inputs.leases:
            why = self.leases.offer(lease, issuer, now, self._seq - 1)
            if why != self._refused.get(issuer, ""):
                self._refused[issuer] = why
                if why:
                    out.events.append(("robot.lease_refused", {"issuer": issuer, "reason": why, "seq": lease.seq}))

    def _take_jog(self, now: float, jog: Jog, out: Outputs) -> None:
        why = ""
        if self.mode != "manual":
            why = "jogging needs manual mode"
        elif self.follower is not None:
            why = "a motion is accepted: cancel it before jogging"
        elif self.faults:
            why = "a fault is latched: clear it first"
        elif self.q is None or self.drives_off:
            why = "the drives are not ready"
        if why:
            self.jogger.forget()
        else:
            why = self.jogger.offer(jog, now, self.sessions.holder)
        if why:
            if self._refused.get("jog") != why:
                out.events.append(("robot.jog_refused", {"reason": why}))
        elif jog.session == self.sessions.holder:
            self.sessions.heard(jog.session, now)
        self._refused["jog"] = why

    # ------------------------------------------------------------ what is permitted

    def _permitted(self, now: float, out: Outputs) -> tuple[float, str, str]:
        """Lowest limit in force, whose it is, and why."""
        follower = self.follower
        what: str | None = None
        progress = 0.0
        if follower is not None:
            what, progress = follower.motion.motion_id, follower.progress
        elif self.jogger.moving or self.jogger.wanted(now):
            what = ""
        verdict = self.leases.verdict(now, what, progress, self._seq - 1)
        if verdict.fault:
            self.latch(verdict.fault, verdict.detail, out)
        code, text = self.faults.first
        if code:
            return 0.0, "fault", text
        if self.q is None:
            return 0.0, "startup", "no state from the drives yet"
        if self.drop is not None:
            return 0.0, "cancel", self.drop.reason
        if self.hold:
            return 0.0, "hold", self.hold
        best = (self.override, "override", "" if self.override >= 1.0 else f"override {self.override:.0%}")
        if self.mode == "manual":
            best = self._manual_limit(best, follower)
        if verdict.by and verdict.limit < best[0]:
            best = (verdict.limit, verdict.by, verdict.reason)
        return best

    def _manual_limit(self, best: tuple[float, str, str], follower: Follower | None) -> tuple[float, str, str]:
        state = self.watch.state
        if self.config.enabling_device and not (state is not None and state.enabling_device):
            return 0.0, "enabling_device", "hold the enabling device in its middle position"
        if follower is not None:
            k = min(int(follower.progress / follower.motion.step), len(self._manual) - 1)
            slow = float(min(self._manual[k], self._manual[min(k + 1, len(self._manual) - 1)]))
            if slow < best[0]:
                return slow, "manual", f"manual mode: {self.config.manual_speed * 1e3:.0f} mm/s"
        return best

    # ------------------------------------------------------------ commands to the drives

    def _command(self, now: float, out: Outputs) -> None:
        """Compute the setpoint of this tick."""
        if self.q is None:
            return
        limit = self._limit[0]
        follower = self.follower
        if follower is not None:
            follower.step(limit)
            self.q, self.dq = follower.q.copy(), follower.dq.copy()
        elif self.jogger.moving or (limit > 0.0 and self.jogger.wanted(now)):
            self.q = self.jogger.step(now, self.q, limit)
            self.dq = self.jogger.dq.copy()
        elif self.drives_off and self.watch.fresh:
            self.q, self.dq = self.watch.q.copy(), np.zeros(self.model.dof)
        elif self.dq.any():
            self.dq = np.zeros(self.model.dof)
        if not math.isfinite(float(self.q.sum() + self.dq.sum())):
            # cannot be reached by any checked input; if it is, nothing may leave the node
            self.follower, self.q, self.dq = None, self.watch.q.copy(), np.zeros(self.model.dof)
            self.latch("internal", "commanded position is not finite", out)
            return
        out.setpoint = Setpoint(self._seq, now, self.q.tolist(), self.dq.tolist())

    def accept(self, motion: Motion, ticket: Ticket, out: Outputs) -> None:
        """Take a checked motion over; it starts when a lease for it comes."""
        self.follower = Follower(motion, self.dt)
        self.move_ticket, self.drop, self.hold = ticket, None, ""
        self._manual = manual_rates(self.model, motion, self.config.manual_speed)
        self._end_since, self._motion_due = math.inf, -math.inf
        out.events.append(
            ("robot.motion_accepted", {"motion": motion.motion_id, "label": motion.label, "duration": motion.duration})
        )

    # ------------------------------------------------------------ completions

    @property
    def commanded_standing(self) -> bool:
        """Nothing is commanded to move."""
        return not self.jogger.moving and (self.follower is None or self.follower.rate == 0.0)

    @property
    def standing(self) -> bool:
        return self.commanded_standing and self.watch.standing

    def _complete(self, now: float, out: Outputs) -> None:
        self._finish_motion(now, out)
        state = self.watch.state
        if self.gripper.busy and state is not None and self.watch.fresh:
            outcome = self.gripper.step(now, state)
            if outcome is not None and self.grip_ticket is not None:
                self.answer(out, self.grip_ticket, outcome.verdict, outcome.reason, outcome.code)
                held = self.gripper.held
                data = {"verdict": outcome.verdict, "code": outcome.code, "width": state.gripper_width}
                out.events.append(("robot.grip", {**data, "part": held.name if held else ""}))
                self.grip_ticket = None
        if self.standing_tickets and self.follower_released and (self.standing or not self.watch.fresh):
            for ticket in self.standing_tickets:
                self.answer(out, ticket, "done")
            self.standing_tickets.clear()
        if "stopped" in self.faults and not self.drives_off and self.standing:
            self._vendor_stop(1, out)
        self._finish_outputs(now, out)
        self._finish_clear(now, out)

    @property
    def follower_released(self) -> bool:
        """No motion is still being given up."""
        return self.drop is None

    def _finish_motion(self, now: float, out: Outputs) -> None:
        follower = self.follower
        if follower is None:
            return
        if self.drop is not None and follower.rate == 0.0:
            drop, self.drop = self.drop, None
            self._end_motion("failed", drop.reason, drop.code, out)
            return
        if not follower.at_end:
            return
        if self._end_since == math.inf:
            self._end_since = now
        near = self.watch.fresh and float(np.abs(self.watch.q - follower.q).max()) <= self.config.settle_tolerance
        if near and self.watch.standing and not self.faults:
            self._end_motion("done", "", "", out)
        elif now - self._end_since > SETTLE_TIME:
            self._end_motion("failed", "the arm did not settle at the end of the motion", "not_settled", out)

    def _end_motion(self, verdict: str, reason: str, code: str, out: Outputs) -> None:
        assert self.follower is not None
        motion = self.follower.motion
        if self.move_ticket is not None:
            self.answer(out, self.move_ticket, verdict, reason, code, progress=self.follower.progress)
        data = {"motion": motion.motion_id, "verdict": verdict, "code": code, "progress": self.follower.progress}
        out.events.append(("robot.motion_ended", data))
        self.follower, self.move_ticket, self.hold = None, None, ""
        self.dq = np.zeros(self.model.dof)
        self._motion_due = -math.inf

    def _finish_outputs(self, now: float, out: Outputs) -> None:
        state, waiting = self.watch.state, []
        for ticket, request, since in self.output_tickets:
            if state is not None and state.t > since and state.outputs.get(request.name) == request.value:
                self.answer(out, ticket, "done")
            elif now - since > OUTPUT_TIME:
                self.answer(out, ticket, "failed", f"output {request.name} did not switch", "output_stuck")
            else:
                waiting.append((ticket, request, since))
        self.output_tickets = waiting

    def _finish_clear(self, now: float, out: Outputs) -> None:
        if self.clear_ticket is None:
            return
        ticket, person, since = self.clear_ticket
        state = self.watch.state
        if state is not None and self.watch.fresh and state.t > since and not state.fault and self.watch.standing:
            self.clear_ticket = None
            self.clear(person, ticket, out)
        elif now - since > CLEAR_TIME:
            self.clear_ticket = None
            why = state.fault if state is not None and state.fault else "no fresh state, or the arm moves"
            self.answer(out, ticket, "failed", f"the drives did not recover: {why}", "not_recovered")

    def clear(self, person: str, ticket: Ticket, out: Outputs) -> None:
        """Forget all faults on a person's word. The arm stays where it is."""
        if self.drives_off and self.watch.fresh:
            self.q, self.dq = self.watch.q.copy(), np.zeros(self.model.dof)
        self.drives_off = False
        codes = self.faults.clear()
        self.watch.restart()
        out.events.append(("robot.fault_cleared", {"codes": codes, "person": person}))
        self.answer(out, ticket, "done", cleared=codes)

    # ------------------------------------------------------------ state

    def _publish(self, now: float, out: Outputs) -> None:
        if now >= self._motion_due - 1e-9:
            self._motion_due = now + MOTION_REPEAT
            out.motion = AcceptedMotion("", 0.0, self.model.dof, b"")
            if self.follower is not None:
                out.motion = self.follower.motion.to_accepted()
        state = self.watch.state
        if state is None or self.q is None:
            return
        follower = self.follower
        code, text = self.faults.first
        out.state = RobotState(
            seq=self._seq,
            t=state.t,
            q=state.q,
            dq=state.dq,
            tau=state.tau,
            q_commanded=self.q.tolist(),
            dq_commanded=self.dq.tolist(),
            motion_id=follower.motion.motion_id if follower else "",
            progress=follower.progress if follower else 0.0,
            duration=follower.motion.duration if follower else 0.0,
            rate=follower.rate if follower else 0.0,
            rate_slope=follower.slope if follower else 0.0,
            limit=self._limit[0],
            limit_by=self._limit[1],
            limit_reason=self._limit[2],
            override=0.0 if self.hold else self.override,
            mode=self.mode,
            fault=code,
            fault_text=text,
            standing=self.standing,
            gripper_width=state.gripper_width,
            gripper_holding=state.gripper_holding,
            held=self.gripper.held,
            inputs=state.inputs,
            outputs=state.outputs,
            emergency_stop=state.emergency_stop,
            safeguard=state.safeguard,
            tracking_error=self.watch.tracking_error,
            late_leases=self.leases.late,
            session=self.sessions.holder,
        )

    def grip(self, request: Grip, ticket: Ticket, now: float, out: Outputs) -> None:
        """Start a grip that was not refused."""
        self.gripper.start(request, now)
        self.grip_ticket = ticket
        out.grip = (request.width, request.force)
