"""Rehearses a robot node's work on a core of its own, so that compiled kernels are loaded before the arm may move.

A kernel that is loaded at its first use holds the servo loop up for up to a second: longer than any lease lasts and
longer than the drives wait for a setpoint.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from cell.bus.messages import PROTOCOL_VERSION, Hello
from cell.bus.ports import Incoming
from robots.config import RobotConfig
from robots.contract import ClearFault, DriverInfo, DriverState, Jog, SetMode, SpeedLease, Stop
from robots.core import RobotCore
from robots.leases import LeaseRules, sign_lease
from robots.model import RobotModel
from robots.planning import plan_ptp
from robots.tick import Inputs, Outputs

_SESSION = "rehearsal"


class Rehearsal:
    """A core that is fed made-up drives, leases and requests on a clock of its own; nothing of it leaves."""

    def __init__(self, config: RobotConfig, model: RobotModel, info: DriverInfo, rules: LeaseRules) -> None:
        self._core = RobotCore(config, model, info, rules)
        self._model, self._rules = model, rules
        self._now, self._tick = 1.0, 0
        self._q, self._dq = model.home.tolist(), [0.0] * model.dof
        self._switch: Literal["automatic", "manual"] = "automatic"

    def run(self) -> int:
        """Start a motion, brake it, clear, jog in manual mode; return how many ticks found the arm moving."""
        home = self._model.home
        goal = np.clip(home + 0.05, self._model.q_lower, self._model.q_upper)
        motion = plan_ptp(self._model, home, goal, motion_id=_SESSION)
        moving = self._ticks(1, Hello(PROTOCOL_VERSION, "controller", _SESSION))
        moving += self._ticks(12, motion.to_move(), motion_id=_SESSION)
        moving += self._ticks(25, Stop(2, _SESSION), motion_id=_SESSION)
        self._ticks(2, ClearFault(_SESSION))
        self._switch = "manual"
        self._ticks(2, SetMode("manual"))
        return moving + self._ticks(4, jog=True)

    def _ticks(self, count: int, request: Any = None, motion_id: str = "", jog: bool = False) -> int:
        moving = 0
        for n in range(count):
            out = self._one(request if n == 0 else None, motion_id, jog)
            if out.setpoint is not None:
                self._q, self._dq = out.setpoint.q, out.setpoint.dq
                moving += any(self._dq)
        return moving

    def _one(self, request: Any, motion_id: str, jog: bool) -> Outputs:
        self._tick += 1
        self._now += self._core.dt
        n, now = self._tick, self._now
        still = [0.0] * self._model.dof
        drives = DriverState(
            n, now, self._q, self._dq, still, 0.04, False, {}, {}, False, False, "", True, None, self._switch
        )
        leases = [
            (issuer, sign_lease(self._lease(issuer, motion_id), self._rules.key)) for issuer in self._rules.issuers
        ]
        command = None
        if jog:
            command = Jog(_SESSION, n, 0.2, "joint", [0.05, *still[1:]])
        requests = [] if request is None else [Incoming(b"", str(n), _SESSION, request)]
        return self._core.step(now, Inputs(drives, "", leases, command, requests))

    def _lease(self, issuer: str, motion_id: str) -> SpeedLease:
        exposed = self._now - 0.01
        return SpeedLease(
            issuer=issuer,
            boot=1,
            seq=self._tick,
            limit=1.0,
            motion_id=motion_id,
            progress_from=0.0,
            progress_to=1e6,
            state_seq=self._tick - 1,
            oldest_exposure=exposed,
            expires_at=exposed + 0.5 * self._rules.validity,
            reason="",
            restartable=True,
            fingerprint=self._rules.fingerprint,
            tested_at=self._now,
        )
