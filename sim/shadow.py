"""The twin that follows a real arm: its joints are those the robot node measures, whatever make the arm is.

People, parts, cameras and the referee are the twin's; the arm is only shown. It still has weight and stops at what
stands in its way, so a real arm that passes through something of the cell file is noticed: the two differ.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cell.bus.ports import Ports
from robots.contract import TOPIC_MIRROR, MirrorStatus, RobotState, topic_state
from sim.config import Strict
from sim.drives import DriveTarget
from sim.twin import TwinNode

Vector = NDArray[np.float64]

AHEAD = 0.05
"""Measured joints are carried on at their speed for at most so long, s: then the shadow stands."""
SILENT = 0.25
"""Measured joints older than this are no measurement of now, s."""
DIFFERS_FOR = 0.2
"""A deviation counts once it has lasted so long, s: the shadow's own servo is some milliseconds behind."""
FAR = 0.5
"""A shadow farther off than this is put where the arm is, if nothing is in its fingers, rad."""
TELL_EVERY = 0.05


class ShadowOptions(Strict):
    """What `world.options` may say besides the twin's own."""

    shadow_tolerance: float = Field(0.05, ge=0.005, le=1.0)
    """Largest deviation between shadow and measured joints, rad."""


class Follower:
    """From measured joints to what the shadow is to do; pure."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._state: RobotState | None = None
        self._since = math.inf
        self._future = False
        """The newest measurement is stamped later than now."""

    def hear(self, state: RobotState) -> None:
        """Take measured joints; what is not finite or older than the last is no measurement. One from the future does
        not keep later ones out."""
        if not all(map(math.isfinite, (*state.q, *state.dq, state.t))):
            return
        if self._state is None or state.t >= self._state.t or self._future:
            self._state = state

    def target(self, t: float, q: Vector) -> DriveTarget:
        """Where the shadow, now at `q`, is to be at `t`."""
        state = self._state
        if state is None or len(state.q) != len(q):
            return DriveTarget(q, np.zeros_like(q))
        since = t - state.t
        ahead = min(max(since, 0.0), AHEAD)
        dq = np.array(state.dq)
        return DriveTarget(np.array(state.q) + ahead * dq, dq if since < AHEAD else np.zeros_like(dq))

    def status(self, now: float, q: Vector, touching: list[str]) -> MirrorStatus | None:
        """How well the shadow at `q` follows; `touching`: what it touches. None before the arm was ever measured."""
        state = self._state
        if state is None:
            return None
        age = now - state.t
        self._future = age < -AHEAD
        if len(state.q) != len(q):
            reason = f"the arm has {len(state.q)} joints, the twin {len(q)}"
            return MirrorStatus(now, False, reason, -1.0, age)
        error = np.abs(self.target(now, q).q - q)
        worst = int(error.argmax())
        deviation = float(error[worst])
        if deviation <= self._tolerance:
            self._since = math.inf
        elif math.isinf(self._since):
            self._since = now
        reason = ""
        if self._future:
            reason = f"the measured joints are stamped {-age:.2f} s in the future"
        elif age > SILENT:
            reason = f"the last measured joints are {age:.2f} s old"
        elif now - self._since >= DIFFERS_FOR:
            met = f"; in the twin it touches {', '.join(touching)}" if touching else ""
            reason = f"joint {worst + 1} is {deviation:.3f} rad off (tolerated {self._tolerance:g}){met}"
        return MirrorStatus(now, not reason, reason, deviation, age)


class ShadowTwinNode(TwinNode):
    """Entry point `cell.worlds`: `twin_shadow`. Its options are the twin's and those of `ShadowOptions`."""

    def __init__(self, ports: Ports, workcell: Any, robot: Any, options: Any = None, *others: Any, **named: Any):
        """As `TwinNode`."""
        plain = dict(options or {})
        try:
            own = ShadowOptions.model_validate({k: plain.pop(k) for k in ShadowOptions.model_fields if k in plain})
        except ValidationError as error:
            raise ValueError(f"world.options: {error}") from error
        super().__init__(ports, workcell, robot, plain, *others, **named)
        self._follower = Follower(own.shadow_tolerance)
        self._measured = ports.subscriber(topic_state(), RobotState)
        self._mirror = ports.publisher(TOPIC_MIRROR, MirrorStatus)
        self._tell_due = -math.inf
        self._ok = True

    def step(self, now: float) -> None:
        envelope = self._measured.take()
        if envelope is not None:
            self._follower.hear(envelope.body)
        self._catch_up(now)
        super().step(now)
        if now >= self._tell_due - 1e-9:
            self._tell_due = now + TELL_EVERY
            self._tell(now)

    def _catch_up(self, now: float) -> None:
        """A shadow that is somewhere else altogether, as at the start, is put where the arm is."""
        goal = self._follower.target(now, self._reading.q)
        if not self.world.held and float(np.abs(goal.q - self._reading.q).max()) > FAR:
            self.world.place_arm(goal.q)
            self._reading = self.world.reading()
            self._events.emit("twin.placed", now, q=goal.q.tolist())

    def _target(self) -> DriveTarget:
        return self._follower.target(self._t + self.world.dt, self._reading.q)

    def _tell(self, now: float) -> None:
        touching = sorted({f"{other} with {link}" for link, other, _ in self.world.arm_contacts()})
        status = self._follower.status(now, self._reading.q, touching)
        if status is None:
            return  # that nobody has measured the arm yet is told by the robot node
        if status.ok != self._ok:
            self._ok = status.ok
            self._events.emit("twin.mirror", now, ok=status.ok, reason=status.reason, deviation=status.deviation)
        self._mirror.send(status, now)
