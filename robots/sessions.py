"""Who may command the arm: one session of the role `controller`, alive, and each request only once."""

from __future__ import annotations

import math
from collections import OrderedDict

from cell.bus.messages import PROTOCOL_VERSION, Hello

CONTROLLER = "controller"
_REMEMBERED_IDS = 2000
_REMEMBERED_SESSIONS = 100


class Sessions:
    """Sessions that said hello, and which of them holds control."""

    def __init__(self, keep_alive: float) -> None:
        self._keep_alive = keep_alive
        self._roles: OrderedDict[str, str] = OrderedDict()
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._heard = -math.inf
        self.holder = ""
        """Session that holds control, or empty."""

    def hello(self, session: str, hello: Hello, now: float) -> str:
        """Register a session. Return why it is refused, or an empty string."""
        if hello.version != PROTOCOL_VERSION:
            return (
                f"protocol version {hello.version} does not match {PROTOCOL_VERSION} of this node: "
                "install the same release on both sides"
            )
        if not session or session != hello.session or len(session) > 200:
            return "hello must carry the session id of its connection"
        if hello.role == CONTROLLER:
            if self.holder and self.holder != session:
                return f"session {self.holder} holds control: stop that controller first"
            self.holder, self._heard = session, now
        self._roles[session] = hello.role
        while len(self._roles) > _REMEMBERED_SESSIONS:
            oldest = next(s for s in self._roles if s != self.holder)
            del self._roles[oldest]
        return ""

    def refusal(self, session: str, request_id: str, commands: bool) -> str:
        """Why a request of this session is not taken; empty if it is. `commands`: it needs control of the arm."""
        if session not in self._roles:
            return "unknown session: say hello first"
        if commands and session != self.holder:
            who = f"session {self.holder} does" if self.holder else "nobody does; say hello as controller"
            return f"this session does not hold control; {who}"
        key = (session, request_id)
        if key in self._ids:
            return f"request id {request_id} was used before"
        self._ids[key] = None
        while len(self._ids) > _REMEMBERED_IDS:
            self._ids.popitem(last=False)
        return ""

    def heard(self, session: str, now: float) -> None:
        """Note a sign of life."""
        if session == self.holder:
            self._heard = now

    def silent(self, now: float) -> bool:
        """Whether the holder was silent for too long; it then loses control."""
        if not self.holder or now - self._heard <= self._keep_alive:
            return False
        self._roles.pop(self.holder, None)
        self.holder = ""
        return True

    def release(self, session: str) -> None:
        """The session gives itself up."""
        self._roles.pop(session, None)
        if session == self.holder:
            self.holder = ""
