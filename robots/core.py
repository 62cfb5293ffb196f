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
from robots.completion import complete
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
from robots.manual import automatic_missing, manual_missing
from robots.model import RobotModel
from robots.motion import Motion
from robots.pace import Pace
from robots.permits import LeaseDesk
from robots.requests import handle
from robots.sessions import Sessions
from robots.tick import Inputs, Outputs, Ticket
from robots.watch import DriverWatch

Array = NDArray[np.float64]

MOTION_REPEAT = 0.04
"""The accepted motion is published again at least this often, s."""


@dataclass
class Drop:
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
        self.pace = Pace(max(config.period, rules.tick))
        self.gripper = Gripper(model.gripper_max, info.gripper)
        self.jogger = Jogger(model, self.regions, config.manual_speed, self.dt)
        self.mode: Literal["automatic", "manual"] = "automatic"
        self.override = 1.0
        self.hold = ""
        """Why the arm is held on its path until an override above 0 is set; empty: it is not."""
        self.follower: Follower | None = None
        self.q: Array | None = None
        """Commanded joint positions; None before the first driver state."""
        self._zero = np.zeros(model.dof)
        self.dq = self._zero
        self.drives_off = False
        """The vendor's stop was called: the command follows the measured arm until a person clears the fault."""
        self.drop: Drop | None = None
        self.move_ticket: Ticket | None = None
        self.grip_ticket: Ticket | None = None
        self.clear_ticket: tuple[Ticket, str, float] | None = None
        self.standing_tickets: list[Ticket] = []
        self.output_tickets: list[tuple[Ticket, SetOutput, float]] = []
        self._manual: Array = np.ones(1)
        self._seq = 0
        self.end_since = math.inf
        """When the commanded end of the motion was reached, s."""
        self._motion_due = -math.inf
        self._refused: dict[str, str] = {}
        self._limit: tuple[float, str, str] = (0.0, "startup", "no state from the drives yet")

    # ------------------------------------------------------------ the tick

    def step(self, now: float, inputs: Inputs) -> Outputs:
        """Advance by one tick at time `now` (s, shared monotonic clock)."""
        out = Outputs()
        self._seq += 1
        slow = self.pace.tick(now)
        if slow:
            self.latch("node_slow", slow, out)
        self._take_driver(now, inputs, out)
        self._take_devices(out)
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
        complete(self, now, out)
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
            self.vendor_stop(0 if code == "stop_disobeyed" else 1, out)

    def give_up(self, code: str, reason: str) -> None:
        """Brake on the path and drop the motion, if there is one."""
        if self.follower is not None and self.drop is None:
            self.drop = Drop(code, reason)

    def answer(self, out: Outputs, ticket: Ticket, verdict: Any, reason: str = "", code: str = "", **data: Any) -> None:
        """Send one reply; `code` is the stable name of the reason."""
        body = {"code": code, **data} if code else data
        out.replies.append((ticket.client, Reply(ticket.id, verdict, reason, body)))

    def vendor_stop(self, category: int, out: Outputs) -> None:
        """Call the drives' own stop; the command then follows the measured arm until a person clears the fault."""
        out.stop = category if out.stop < 0 else min(out.stop, category)
        self.drives_off = True

    # ------------------------------------------------------------ inputs

    def _take_driver(self, now: float, inputs: Inputs, out: Outputs) -> None:
        if inputs.driver_error:
            self.latch("driver_fault", inputs.driver_error, out)
        for finding in self.watch.take(inputs.driver, now, inputs.unreached):
            self.latch(finding.code, finding.detail, out)
        if self.q is None and self.watch.fresh:
            self.q = self.watch.q.copy()
            said = {"notices": list(self.info.notices)} if self.info.notices else {}
            out.events.append(("robot.ready", {"driver": self.info.name, "q": self.q.tolist(), **said}))
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

    @property
    def manual_missing(self) -> str:
        """What is missing for manual motion now; empty: nothing."""
        return manual_missing(self.info, self.watch.state, self.config.enabling_device)

    @property
    def forbidden(self) -> str:
        """Why mode switch and enabling device forbid motion in the present mode; empty: they permit it."""
        return self.manual_missing if self.mode == "manual" else automatic_missing(self.info, self.watch.state)

    def _take_devices(self, out: Outputs) -> None:
        """End what the vendor's devices no longer permit: a motion is held, and goes on only after a new command."""
        why = self.forbidden
        if not why:
            return
        moving = self.jogger.moving or (self.follower is not None and not self.hold)
        if moving and not self.hold:
            out.events.append(("robot.manual_ended", {"mode": self.mode, "reason": why}))
        self.jogger.forget()
        if self.follower is not None:
            self.hold = self.hold or why

    def _take_jog(self, now: float, jog: Jog, out: Outputs) -> None:
        why = ""
        if self.mode != "manual":
            why = "jogging needs manual mode"
        elif self.forbidden:
            why = self.forbidden
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
        if self.forbidden:
            return 0.0, "enabling_device" if self.mode == "manual" else "mode_switch", self.forbidden
        if self.hold:
            return 0.0, "hold", self.hold
        best = (self.override, "override", "" if self.override >= 1.0 else f"override {self.override:.0%}")
        if self.mode == "manual":
            best = self._manual_limit(best, follower)
        if verdict.by and verdict.limit < best[0]:
            best = (verdict.limit, verdict.by, verdict.reason)
        return best

    def _manual_limit(self, best: tuple[float, str, str], follower: Follower | None) -> tuple[float, str, str]:
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
            self.q, self.dq = self.watch.q.copy(), self._zero
        else:
            self.dq = self._zero
        q, dq = self.q.tolist(), self.dq.tolist()
        if not math.isfinite(sum(q) + sum(dq)):
            # cannot be reached by any checked input; if it is, nothing may leave the node
            self.follower, self.q, self.dq = None, self.watch.q.copy(), self._zero
            self.latch("internal", "commanded position is not finite", out)
            return
        out.setpoint = Setpoint(self._seq, now, q, dq)

    def accept(self, motion: Motion, ticket: Ticket, out: Outputs) -> None:
        """Take a checked motion over; it starts when a lease for it comes."""
        self.follower = Follower(motion, self.dt)
        self.move_ticket, self.drop, self.hold = ticket, None, ""
        self.leases.begin(self._seq)
        self._manual = manual_rates(self.model, motion, self.config.manual_speed)
        self.end_since, self._motion_due = math.inf, -math.inf
        out.events.append(
            ("robot.motion_accepted", {"motion": motion.motion_id, "label": motion.label, "duration": motion.duration})
        )

    # ------------------------------------------------------------ standstill, end of motions and faults

    @property
    def commanded_standing(self) -> bool:
        """Nothing is commanded to move."""
        return not self.jogger.moving and (self.follower is None or self.follower.rate == 0.0)

    @property
    def standing(self) -> bool:
        """Nothing is commanded to move and no joint is measured moving."""
        return self.commanded_standing and self.watch.standing

    def end_motion(self, verdict: Literal["done", "failed"], reason: str, code: str, out: Outputs) -> None:
        """Let go of the accepted motion and answer its request."""
        if self.follower is None:
            return
        motion, progress = self.follower.motion, self.follower.progress
        if self.move_ticket is not None:
            self.answer(out, self.move_ticket, verdict, reason, code, progress=progress)
        data = {"motion": motion.motion_id, "verdict": verdict, "code": code, "progress": progress}
        out.events.append(("robot.motion_ended", data))
        self.follower, self.move_ticket, self.drop, self.hold = None, None, None, ""
        self.dq = self._zero
        self._motion_due = -math.inf

    def clear(self, person: str, ticket: Ticket, out: Outputs) -> None:
        """Forget all faults on a person's word. The arm stays where it is."""
        if self.drives_off and self.watch.fresh:
            self.q, self.dq = self.watch.q.copy(), self._zero
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
            q_commanded=out.setpoint.q if out.setpoint else self.q.tolist(),
            dq_commanded=out.setpoint.dq if out.setpoint else self.dq.tolist(),
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
            data_age=self.leases.data_age(now) if follower is not None and follower.rate > 0.0 else -1.0,
            tick=self.pace.gap,
            mode_switch=state.mode_switch,
            manual_missing=self.manual_missing,
        )

    def grip(self, request: Grip, ticket: Ticket, now: float, out: Outputs) -> None:
        """Start a grip that was not refused."""
        self.gripper.start(request, now)
        self.grip_ticket = ticket
        out.grip = (request.width, request.force)
