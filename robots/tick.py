"""What goes into and comes out of one tick of the robot node's core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cell.bus.messages import Reply
from cell.bus.ports import Incoming
from robots.contract import AcceptedMotion, DriverState, Jog, RobotState, Setpoint, SpeedLease


class Ticket(NamedTuple):
    """Where the answer to an open request goes."""

    client: bytes
    id: str


class Inputs(NamedTuple):
    """What the node received since the last tick."""

    driver: DriverState | None = None
    driver_error: str = ""
    """Text of a DriverError raised by the driver, or empty."""
    leases: Sequence[tuple[str, SpeedLease]] = ()
    """With the issuer whose topic each came on."""
    jog: Jog | None = None
    requests: Sequence[Incoming] = ()
    unreached: str = ""
    """Why the driver could not connect to the drives, or empty."""


@dataclass
class Outputs:
    """What the node is to send and do now."""

    setpoint: Setpoint | None = None
    state: RobotState | None = None
    motion: AcceptedMotion | None = None
    replies: list[tuple[bytes, Reply]] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    grip: tuple[float, float] | None = None
    outputs: list[tuple[str, bool]] = field(default_factory=list)
    stop: int = -1
    """Vendor's stop to call: category 0 or 1; -1: none."""
    recover: str = ""
    """Person for whom the vendor's fault is to be cleared, or empty."""
