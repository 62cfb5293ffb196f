"""The envelope round every message, and the messages that belong to the bus itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

PROTOCOL_VERSION = 1
"""Raised whenever a message changes its meaning or its fields. Nodes of different versions refuse each other."""

T = TypeVar("T")


class Envelope(msgspec.Struct, Generic[T], array_like=True, frozen=True):
    """What travels in one frame: who sent the body, in which life of that sender, as its how-manieth, and when."""

    version: int
    source: str
    boot: int
    """Differs at each start of the source, so that a restarted sender is told from a replayed one."""
    seq: int
    sent_at: float
    """Shared monotonic clock, s."""
    body: T


class Event(msgspec.Struct, frozen=True):
    """Something that happened and must not be lost. Sequence numbers run per source and boot; a gap is reported."""

    source: str
    boot: int
    seq: int
    t: float
    """Shared monotonic clock, s."""
    kind: str
    """Dotted stable name, such as `packml.state` or `robot.fault`."""
    data: dict[str, Any]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First request on any service connection. A different version is answered with `rejected`."""

    version: int
    role: str
    """`controller`, `observer`, `perception`, ... : a service admits one session of the role `controller`."""
    session: str
    """Random id of this client's life. It is part of every later request."""
    capabilities: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    """Answer to the request `id`: first `accepted` or `rejected`, and after `accepted` later `done` or `failed`."""

    id: str
    verdict: Literal["accepted", "rejected", "done", "failed"]
    reason: str = ""
    """For `rejected` and `failed`: what is wrong and what to do about it."""
    data: dict[str, Any] = {}


class Heartbeat(msgspec.Struct, frozen=True):
    """Published by each node at least every 100 ms on the topic `heartbeat.<node>`."""

    node: str
    t: float
    ok: bool
    detail: str = ""
    lateness: float = 0.0
    """Largest lateness of a step since the last heartbeat, s."""


def open_envelope(decode: Callable[[bytes], Envelope[T]], data: bytes) -> Envelope[T] | None:
    """Return the envelope in `data`, or None if it does not decode or speaks another protocol version."""
    try:
        envelope = decode(data)
    except msgspec.DecodeError:
        return None
    return envelope if envelope.version == PROTOCOL_VERSION else None
