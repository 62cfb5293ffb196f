"""An issuer of speed leases for tests of the robot node: it permits what it is told, and misbehaves on demand."""

from __future__ import annotations

from typing import Any

from cell.bus.inprocess import Hub
from robots.contract import AcceptedMotion, RobotState, SpeedLease, topic_lease, topic_motion, topic_state
from robots.leases import sign_lease

KEY = b"k" * 32
PRINT = "fingerprint-1"
VALIDITY = 0.2


class Issuer:
    """A supervisor that permits `limit` for whatever is accepted; `None` makes it silent."""

    def __init__(self, hub: Hub, name: str = "supervisor") -> None:
        ports = hub.ports(name)
        self.name = name
        self.out = ports.publisher(topic_lease(name), SpeedLease)
        self.states = ports.subscriber(topic_state(), RobotState)
        self.motions = ports.subscriber(topic_motion(), AcceptedMotion)
        self.limit: float | None = 1.0
        self.restartable = True
        self.reason = ""
        self.boot = 1
        self.seq = 0
        self.state_seq = 0
        self.motion_id = ""
        self.changes: dict[str, Any] = {}
        """Fields replaced before signing."""
        self.forge = False

    def step(self, now: float) -> None:
        state, motion = self.states.take(), self.motions.take()
        if state is not None:
            self.state_seq = state.body.seq
        if motion is not None:
            self.motion_id = motion.body.motion_id
        if self.limit is None:
            return
        self.seq += 1
        self.out.send(self.lease(now), now)

    def lease(self, now: float) -> SpeedLease:
        fields: dict[str, Any] = {
            "issuer": self.name,
            "boot": self.boot,
            "seq": self.seq,
            "limit": self.limit,
            "motion_id": self.motion_id,
            "progress_from": 0.0,
            "progress_to": 1e6,
            "state_seq": self.state_seq,
            "oldest_exposure": now - 0.05,
            "expires_at": now - 0.05 + VALIDITY,
            "reason": self.reason,
            "restartable": self.restartable,
            "fingerprint": PRINT,
            **self.changes,
        }
        return sign_lease(SpeedLease(**fields), b"x" * 32 if self.forge else KEY)
