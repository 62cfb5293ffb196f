"""What a `Message` of the catalogue does to the messages of its topic."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import msgspec
import numpy as np

from cell.faults.bus import Change, Sent
from cell.faults.catalogue import Message
from robots.contract import SpeedLease
from robots.leases import sign_lease

NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class MessageFault:
    """A change of one topic, made once for each fault. Deterministic."""

    def __init__(self, fault: Message, key: bytes, past: deque[tuple[float, Any]]) -> None:
        """`key` signs leases; `past`: what was sent on the topic before the fault, newest last."""
        self._fault = fault
        self._key = key
        self._past = past
        self._frozen: Any = None
        self._kept: Any = None
        self._rng = np.random.default_rng(1)

    def __call__(self, body: Any, now: float) -> list[Sent]:
        self._past.append((now, body))
        true = [Sent(body)] if self._fault.extra else []
        return [*true, *self._changed(body, now)]

    def _changed(self, body: Any, now: float) -> list[Sent]:
        f = self._fault
        if f.drop:
            return []
        if f.freeze:
            self._frozen = body if self._frozen is None else self._frozen
            return [Sent(self._frozen)]
        if f.delay is not None:
            return [Sent(body, f.delay)]
        if f.swap:
            kept, self._kept = self._kept, None
            if kept is None:
                self._kept = body
                return []
            return [Sent(body), Sent(kept, 0.004)]
        if f.replace_by_earlier is not None:
            return self._earlier(now - f.replace_by_earlier)
        if f.raw is not None:
            return [Sent(self._raw(body))]
        if f.depth is not None:
            return [Sent(self._picture(body))]
        return [Sent(self._edited(body))]

    def _earlier(self, t: float) -> list[Sent]:
        older = [body for at, body in self._past if at <= t]
        return [Sent(older[-1])] if older else []

    def _raw(self, body: Any) -> bytes:
        if self._fault.raw == "empty":
            return b""
        if self._fault.raw == "noise":
            return self._rng.bytes(200)
        whole = msgspec.msgpack.encode(body)
        return whole[: len(whole) // 2]

    # ------------------------------------------------------------ contents

    def _edited(self, body: Any) -> Any:
        f = self._fault
        new = {name: _element(getattr(body, name), value) for name, value in f.fields.items()}
        new |= {name: _shifted(getattr(body, name), by) for name, by in f.shift.items()}
        new |= {name: _floats(getattr(body, name), edit) for name, edit in f.floats.items()}
        changed = msgspec.structs.replace(body, **new)
        if f.sign and isinstance(changed, SpeedLease):
            changed = sign_lease(changed, self._key)
        return changed

    def _picture(self, body: Any) -> Any:
        depth = np.frombuffer(body.depth, "<u2").copy()
        if self._fault.depth == "covered":
            depth[:] = 60 + self._rng.integers(0, 5, depth.size)
        elif self._fault.depth == "invalid":
            depth[self._rng.random(depth.size) < 0.6] = 0
        elif self._fault.depth == "dead":
            depth[:] = 0
        else:
            depth[:] = 1500
        return msgspec.structs.replace(body, depth=depth.tobytes())


def _number(value: Any) -> Any:
    return NUMBERS.get(value, value) if isinstance(value, str) else value


def _element(old: Any, value: Any) -> Any:
    if isinstance(value, dict) and "at" in value:
        new = list(old)
        new[value["at"]] = _number(value["value"])
        return new
    return _number(value)


def _shifted(old: Any, by: float) -> Any:
    return [v + by for v in old] if isinstance(old, list) else old + by


def _floats(old: bytes, edit: dict[str, Any]) -> bytes:
    if "cut" in edit:
        return old[: -edit["cut"]] if old else b"\x01"
    if "repeat" in edit:
        return (old or bytes(16)) * edit["repeat"]
    values = np.frombuffer(old or bytes(16), "<f4").copy()
    values[edit["at"]] = float(_number(edit["value"]))
    return values.tobytes()


def build_change(fault: Message, key: bytes, past: deque[tuple[float, Any]]) -> Change:
    """Return the change a row of the catalogue makes."""
    return MessageFault(fault, key, past)
