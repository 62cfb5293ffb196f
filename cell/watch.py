"""What the controller watches: one function per cause, from the newest messages to alarms raised and cleared. Pure.

Every condition is written so that a missing, old or not finite value counts as the fault, not as its absence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cell.contract import LedgerStatus
from perception.contract import MOVED, Observation, Skeletons
from robots.contract import MirrorStatus, RobotState
from safety.contract import SafetyStatus

STATE_TIMEOUT = 0.25
"""A robot state older than this: the robot node is lost, s."""
OBSERVATION_TIMEOUT = 0.5
STATUS_TIMEOUT = 0.5
HEARTBEAT_TIMEOUT = 1.0
LEDGER_TIMEOUT = 2.0
SKELETON_TIMEOUT = 2.0
"""Skeletons take what time others leave; nobody waits for them, s."""
MIRROR_TIMEOUT = 1.0
UNHEALTHY_TIME = 0.2
"""So long may an observation be unhealthy before it is an alarm (the arm stands at once in any case), s."""
GRACE = 10.0
"""Nodes start one after another: for so long after the controller's own start nobody is missed, s."""
BLOCKED_TIME = 3.0
"""An arm kept from moving for longer than this suspends the cell, s."""


@dataclass
class Seen:
    """The newest message of each kind and when it came."""

    began: float
    state: RobotState | None = None
    state_at: float = -1e9
    status: SafetyStatus | None = None
    status_at: float = -1e9
    status_boot: int | None = None
    observation: Observation | None = None
    observation_at: float = -1e9
    unhealthy_since: float | None = None
    ledger: LedgerStatus | None = None
    ledger_at: float = -1e9
    skeletons: Skeletons | None = None
    skeletons_at: float = -1e9
    skeletons_due: bool = False
    mirror: MirrorStatus | None = None
    mirror_at: float = -1e9
    mirror_due: bool = False
    """There is a twin that follows the arm."""
    heartbeats: dict[str, float] = field(default_factory=dict)
    """Watched node -> time of its last sign of life."""
    status_restarted: bool = False
    """Latched until a person unholds."""
    fingerprint: str = ""
    """Safety configuration at Start; empty before."""

    def take_status(self, status: SafetyStatus, boot: int, now: float) -> None:
        """Take over a supervisor's status."""
        if self.status_boot is not None and boot != self.status_boot:
            self.status_restarted = True
        self.status, self.status_at, self.status_boot = status, now, boot

    def take_observation(self, observation: Observation, now: float) -> None:
        """Take over perception's observation."""
        self.observation, self.observation_at = observation, now
        unconfirmed = not observation.confirmed_clear and all(camera.ok for camera in observation.cameras)
        if observation.healthy or unconfirmed:
            # That nobody has looked yet is no fault of a camera: it only keeps the arm from starting.
            self.unhealthy_since = None
        elif self.unhealthy_since is None:
            self.unhealthy_since = now


def conditions(seen: Seen, now: float) -> Iterator[tuple[str, bool, str]]:
    """Yield (alarm code, present, detail) for every watched cause that is not a robot fault."""
    late = now - seen.began > GRACE

    def silent(at: float, limit: float) -> bool:
        fresh = now - at <= limit
        return not fresh and (at > -1e8 or late)

    yield "robot_lost", silent(seen.state_at, STATE_TIMEOUT), ""
    yield "supervisor_lost", silent(seen.status_at, STATUS_TIMEOUT), ""
    yield "perception_lost", silent(seen.observation_at, OBSERVATION_TIMEOUT), ""
    since = seen.unhealthy_since
    sick = since is not None and not now - since <= UNHEALTHY_TIME
    reason = seen.observation.reason if seen.observation is not None else ""
    cameras = [camera for camera in (seen.observation.cameras if seen.observation is not None else []) if not camera.ok]
    moved = [camera for camera in cameras if camera.reason.startswith(MOVED)]
    yield "camera_moved", sick and bool(moved), "; ".join(f"camera {c.name}: {c.reason}" for c in moved)
    yield "camera_fault", sick and len(moved) < max(1, len(cameras)), reason
    exceeded = seen.status.reaction_exceeded if seen.status is not None else ""
    yield "reaction_exceeded", bool(exceeded), exceeded
    yield "supervisor_restarted", seen.status_restarted, ""
    changed = bool(seen.fingerprint and seen.status is not None and seen.status.fingerprint != seen.fingerprint)
    yield "configuration_changed", changed, seen.status.fingerprint if changed and seen.status is not None else ""
    quiet = sorted(node for node, at in seen.heartbeats.items() if silent(at, HEARTBEAT_TIMEOUT))
    yield "node_silent", bool(quiet), ", ".join(quiet)
    if seen.skeletons_due:
        gone = silent(seen.skeletons_at, SKELETON_TIMEOUT)
        lost = seen.skeletons is not None and not seen.skeletons.ok
        reason = seen.skeletons.reason if seen.skeletons is not None else ""
        yield "skeletons_lost", gone or lost, "their node is silent" if gone else reason
    if seen.mirror_due:
        gone = silent(seen.mirror_at, MIRROR_TIMEOUT)
        differs = seen.mirror is not None and not seen.mirror.ok
        reason = seen.mirror.reason if seen.mirror is not None else ""
        yield "twin_deviates", gone or differs, "the twin is silent" if gone else reason
    if seen.ledger is not None:
        gone = silent(seen.ledger_at, LEDGER_TIMEOUT)
        yield "ledger_failed", gone or not seen.ledger.ok, "the ledger is silent" if gone else seen.ledger.reason
        yield "ledger_gap", seen.ledger.gaps > 0, f"{seen.ledger.gaps} events"


def blocked(state: RobotState | None, issuers: frozenset[str]) -> bool:
    """The arm has a motion, stands, and it is a safety supervisor that keeps it from moving."""
    if state is None or not state.motion_id or state.fault:
        return False
    return not state.limit > 0.0 and state.limit_by in issuers and not state.rate > 0.0
