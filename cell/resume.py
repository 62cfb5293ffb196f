"""What has changed in the cell since it was held: for the person who is about to let it go on. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from cell.contract import ResumeItem
from perception.contract import Observation
from robots.contract import RobotState

SAME_ANGLE = math.radians(0.5)
SAME_WIDTH = 0.002
"""m, between the fingers."""


class Snapshot(NamedTuple):
    """What is compared."""

    q: tuple[float, ...]
    part: str
    people: int
    tool: float


def snapshot(state: RobotState | None, observation: Observation | None) -> Snapshot:
    """Take down what there is now; what is not known is nothing, and differs from everything."""
    if state is None:
        return Snapshot((), "", -1, math.nan)
    part = state.held.name if state.held is not None else ""
    people = len(observation.tracks) if observation is not None else -1
    return Snapshot(tuple(state.q), part, people, state.gripper_width)


def compare(before: Snapshot, now: Snapshot) -> list[ResumeItem]:
    """Return one item for each of pose, part, person and tool."""
    known = len(before.q) == len(now.q) > 0
    off = max((abs(a - b) for a, b in zip(before.q, now.q, strict=True)), default=0.0) if known else math.inf
    moved = f"moved by {math.degrees(off):.1f} deg" if known else "not known"
    return [
        ResumeItem("pose", "as held", "as held" if off <= SAME_ANGLE else moved, not off <= SAME_ANGLE),
        ResumeItem("part", before.part or "none", now.part or "none", before.part != now.part),
        ResumeItem("person", _people(before.people), _people(now.people), before.people != now.people),
        ResumeItem("tool", _width(before.tool), _width(now.tool), not abs(before.tool - now.tool) <= SAME_WIDTH),
    ]


def _people(count: int) -> str:
    return "not known" if count < 0 else str(count)


def _width(width: float) -> str:
    return f"{1e3 * width:.0f} mm" if math.isfinite(width) else "not known"
