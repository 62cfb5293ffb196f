"""What a person moves by hand in manual mode: one planned motion, the gripper, an output, jogging. Pure.

The robot node limits everything here to 250 mm/s and asks for the enabling device; a motion still needs its leases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from cell.arm import Arm
from cell.contract import LONGEST_JOG, GoTo, JogWish
from cell.packml import Refused
from recipes.contract import CellView, PhaseFault, SkillContext
from recipes.parts import Parts, PartsError
from recipes.skills.move_to import held_geometry
from recipes.travel import Load, to_joints

SLOW = 0.25
"""Share of the nominal point-to-point speed (1 m/s at the TCP): 250 mm/s."""
AHEAD = 0.02
"""A jog command that says it comes from farther in the future than this is refused, s."""


class JogArm(Arm, Protocol):
    """An arm that can be jogged; `robots.client.RobotClient` is one."""

    def jog(
        self, space: Literal["joint", "base", "tool"], velocity: list[float], now: float, valid_for: float = 0.2
    ) -> None: ...


@dataclass
class Manual:
    """Moves the arm on a person's word. The caller has made sure that this is permitted at all."""

    cell: CellView
    arm: Arm
    going: str = ""
    """Request of the planned motion under way; empty: none."""

    def go_to(self, request: GoTo, parts: Parts, now: float) -> str:
        """Plan and submit; return the robot node's request. Raises Refused with the reason."""
        state = self.arm.state
        if state is None or not state.standing or state.motion_id:
            raise Refused("the arm is moving: wait until it stands")
        q = np.array(request.q, dtype=np.float64)
        if not self.cell.model.in_limits(q):
            raise Refused(f"{request.label} is not a valid joint position of {self.cell.model.name}")
        start = np.array(state.q_commanded, dtype=np.float64)
        if float(np.abs(q - start).max()) < 1e-4:
            raise Refused(f"the arm is at {request.label} already")
        context = SkillContext(self.cell, parts, start, state.gripper_width)
        context.prefix = context.id_prefix = f"manual.{now:.3f}"
        try:
            motion = to_joints(context, q, f"go to {request.label}", Load(held_geometry(context)), SLOW)
        except (PhaseFault, PartsError) as fault:
            raise Refused(str(fault)) from None
        self.going = self.arm.move(motion, now)
        return self.going

    @property
    def moving(self) -> bool:
        """A planned motion is under way."""
        if self.going and self.arm.status(self.going).finished:
            self.going = ""
        return bool(self.going)

    def cancel(self, reason: str, now: float) -> bool:
        """Brake and give the motion up; False if there is none."""
        if not self.moving:
            return False
        self.arm.cancel(reason, now)
        self.going = ""
        return True


class JogGate:
    """Hands jog commands on: each once, none that is old, repeated or from another life of the sender."""

    def __init__(self, dof: int) -> None:
        self._dof = dof
        self._last: tuple[int, int] = (0, 0)
        self.person = ""
        """Who jogs; empty: nobody."""

    def refusal(self, wish: JogWish, boot: int, now: float) -> str:
        """Why a command is not handed on; empty if it is. Each command can pass only once."""
        if (boot, wish.seq) <= self._last:
            return "repeated or old jog command"
        self._last = (boot, wish.seq)
        # Written so that a NaN is refused.
        if not -AHEAD <= now - wish.t <= LONGEST_JOG:
            return "jog command from another time"
        if not 0.0 < wish.valid_for <= LONGEST_JOG:
            return f"jog commands live at most {LONGEST_JOG} s"
        count = self._dof if wish.space == "joint" else 6
        if wish.velocity and (len(wish.velocity) != count or not all(map(math.isfinite, wish.velocity))):
            return f"a jog in {wish.space} space has {count} finite velocities"
        return ""

    def forward(self, wish: JogWish, arm: JogArm, now: float) -> None:
        """Hand a command on for what is left of its life; an empty one stops the arm at once."""
        left = min(wish.valid_for, LONGEST_JOG) - max(0.0, now - wish.t)
        if not wish.velocity:
            arm.jog(wish.space, [0.0] * (self._dof if wish.space == "joint" else 6), now, 0.02)
        elif left > 0.0:
            arm.jog(wish.space, list(wish.velocity), now, left)
