"""Speed leases: signing, and the check that decides each tick how fast an issuer permits the arm to move.

A lease counts only if it is authentic, in order, for this motion and this stretch of it, computed from a recent robot
state and from recent exposures, and not expired. Everything else counts as 0.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from robots.contract import SpeedLease

CLOCK_TOLERANCE = 1e-3
"""Stamps may lie this far in the future, s."""
HELD_UP = 0.05
"""The node may be held up for so long between reading its clock and reading its leases, s."""
KEY_LENGTH = 32

_encode = msgspec.msgpack.Encoder().encode


def lease_mac(lease: SpeedLease, key: bytes) -> bytes:
    """Keyed BLAKE2s (16 bytes) over all fields of a lease but `mac`."""
    bare = msgspec.structs.replace(lease, mac=b"")
    return hashlib.blake2s(_encode(bare), key=key, digest_size=16).digest()


def sign_lease(lease: SpeedLease, key: bytes) -> SpeedLease:
    """Return the lease with its MAC. `key`: 16 to 32 bytes dealt out at launch."""
    return msgspec.structs.replace(lease, mac=lease_mac(lease, key))


def verify_lease(lease: SpeedLease, key: bytes) -> bool:
    """Whether the lease carries the right MAC (compared in constant time)."""
    try:
        return hmac.compare_digest(lease_mac(lease, key), lease.mac)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return False


@dataclass(frozen=True)
class LeaseRules:
    """What the node demands of every lease.

    Raises ValueError for an empty issuer list, a short key or a bound that is not positive and finite: a node without
    rules would be a node without leases.
    """

    issuers: tuple[str, ...]
    fingerprint: str
    key: bytes
    validity: float = 0.3
    """Longest expires_at - oldest_exposure, s."""
    state_age: float = 0.25
    """Oldest robot state a lease may rest on, s."""
    late: float = 0.5
    """Longest gap after which the arm goes on by itself, s."""
    tested: tuple[str, ...] = ()
    """Issuers whose leases permit nothing unless they say when they last passed their own self-test ..."""
    test_age: float = 0.5
    """... and that was no longer ago than this, s."""

    tick: float = 0.0
    """Tick of the node that the monitor counts on, s, if longer than the node's period."""

    def __post_init__(self) -> None:
        if not self.issuers or len(set(self.issuers)) != len(self.issuers):
            raise ValueError("lease rules need at least one issuer, each named once")
        if not 16 <= len(self.key) <= KEY_LENGTH:
            raise ValueError(f"the lease key must have 16 to {KEY_LENGTH} bytes")
        if not self.fingerprint:
            raise ValueError("lease rules need the fingerprint of the safety configuration")
        if not 0.0 <= self.tick <= 0.1:
            raise ValueError(f"tick must lie in [0, 0.1] s, got {self.tick}")
        if not set(self.tested) <= set(self.issuers):
            raise ValueError("only issuers can be asked for a self-test")
        for name in ("validity", "state_age", "late", "test_age"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 < value <= 1.0):
                raise ValueError(f"{name} must lie in (0, 1] s, got {value}")


class Permission(NamedTuple):
    """What one issuer permits now."""

    limit: float
    """In [0, 1]."""
    reason: str
    missing: bool
    """There is no valid lease for what the arm is doing."""
    latch: bool
    """The issuer demands a stop that only a person ends."""


class LeaseKeeper:
    """The newest acceptable lease of one issuer."""

    def __init__(self, issuer: str, rules: LeaseRules, ticks_per_second: float) -> None:
        self.issuer = issuer
        self._rules = rules
        self._oldest_ticks = math.ceil(rules.state_age * ticks_per_second)
        self._lease: SpeedLease | None = None
        self._boot = -1
        self._seq = -1
        self._why = "no lease has come yet"
        self.refused = 0
        """How many leases were not accepted."""
        self.restarts = 0
        """How often the issuer's boot number rose after its first lease."""

    def offer(self, lease: SpeedLease, now: float, state_seq: int) -> str:
        """Take a received lease. Return why it is refused, or an empty string.

        A refused lease withdraws the stored one: an issuer whose last word is not understood permits nothing. The
        exact repetition of the newest lease changes nothing.
        """
        held = self._lease
        if held is not None and lease.seq == held.seq and lease.mac == held.mac and lease == held:
            return ""
        why = self._refusal(lease, now, state_seq)
        if why:
            self.refused += 1
            self._lease, self._why = None, why
            return why
        if self._boot >= 0 and lease.boot > self._boot:
            self.restarts += 1
        self._boot, self._seq, self._lease = lease.boot, lease.seq, lease
        return ""

    def _refusal(self, lease: SpeedLease, now: float, state_seq: int) -> str:
        rules = self._rules
        if lease.issuer != self.issuer:
            return f"lease of issuer {lease.issuer!r} on the topic of {self.issuer}"
        if not verify_lease(lease, rules.key):
            return "forged lease: its authentication code is wrong"
        if lease.fingerprint != rules.fingerprint:
            return "lease was computed with another safety configuration"
        if lease.boot < self._boot or (lease.boot == self._boot and lease.seq <= self._seq):
            return "replayed lease: an equal or newer one was seen"
        numbers = (lease.limit, lease.progress_from, lease.progress_to, lease.oldest_exposure, lease.expires_at)
        if not all(map(math.isfinite, numbers)):
            return "lease contains numbers that are not finite"
        if not 0.0 <= lease.limit <= 1.0 or lease.progress_from > lease.progress_to:
            return "limit or progress window of the lease is out of range"
        if lease.oldest_exposure > now + CLOCK_TOLERANCE:
            return "lease rests on an exposure in the future"
        if lease.expires_at > lease.oldest_exposure + rules.validity + CLOCK_TOLERANCE:
            return "lease is valid for longer than configured"
        if lease.state_seq > state_seq or lease.state_seq < 0:
            return "lease was computed from a robot state that does not exist yet"
        return ""

    def permission(self, now: float, motion_id: str, progress: float, state_seq: int, from_seq: int = 0) -> Permission:
        """Return what the issuer permits now for this motion (empty: path-blind) at this progress.

        `state_seq` is the newest robot state, `from_seq` the first one of this motion.
        """
        lease = self._lease
        if lease is None:
            return Permission(0.0, self._why, True, False)
        if not now < lease.expires_at:
            return Permission(0.0, "lease expired", True, False)
        if lease.limit == 0.0 and not lease.restartable:
            # a stop for another cause than separation holds whatever the arm is doing
            return Permission(0.0, lease.reason or "stopped by the safety supervisor", False, True)
        if lease.motion_id != motion_id:
            return Permission(0.0, "lease is for another motion", True, False)
        if motion_id and not lease.progress_from - 1e-9 <= progress <= lease.progress_to + 1e-9:
            return Permission(0.0, "lease is for another stretch of the motion", True, False)
        if lease.state_seq < from_seq:
            return Permission(0.0, "lease is from before this motion", True, False)
        if state_seq - lease.state_seq > self._oldest_ticks:
            return Permission(0.0, "lease was computed from an old robot state", True, False)
        if lease.limit > 0.0:
            why = self._untested(lease, now)
            if why:
                # A node that was held up reads leases that are younger than its clock: that is a gap, no defect.
                ahead = lease.tested_at > now
                return Permission(0.0, why, ahead, not ahead)
        return Permission(lease.limit, lease.reason, False, False)

    @property
    def exposure(self) -> float:
        """Oldest exposure the stored lease rests on, s; inf without one."""
        return math.inf if self._lease is None else self._lease.oldest_exposure

    def _untested(self, lease: SpeedLease, now: float) -> str:
        """Why the issuer is not relied on: it does not show that its self-test runs. Empty if it does, or need not."""
        rules = self._rules
        if self.issuer not in rules.tested or -HELD_UP <= now - lease.tested_at <= rules.test_age:
            return ""
        return f"its self-test has not been passed within {rules.test_age:g} s"

    def alive(self, now: float) -> str:
        """Why the issuer permits no clearing: it is silent or still demands a stop. Empty if neither."""
        lease = self._lease
        if lease is None:
            return self._why
        if not now < lease.expires_at:
            return "its last lease expired"
        if lease.limit == 0.0 and not lease.restartable:
            return lease.reason or "it still demands a stop"
        return self._untested(lease, now)
