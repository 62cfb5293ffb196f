"""The controller's session with the robot node: hello, signs of life, requests and what became of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from cell.bus.messages import PROTOCOL_VERSION, Hello, Reply
from cell.bus.ports import Ports
from robots.contract import ARM, KeepAlive, Release, RobotState, service

KEEP_ALIVE_PERIOD = 0.1
HELLO_PERIOD = 1.0
"""Between two attempts to open a session, s."""
REMEMBERED = 1000
"""Verdicts kept; older requests have long been dealt with."""


class RobotLink:
    """Never blocks. A session that the node has dropped is opened again; what was under way has then failed."""

    def __init__(self, ports: Ports, session: str, robot: str = ARM) -> None:
        self.session = session
        self.newest: RobotState | None = None
        self.connected = False
        self.refusal = ""
        self.capabilities: dict[str, Any] = {}
        """What the node said at hello: model, limits, inputs, outputs."""
        self._requester = ports.requester(service(robot), session)
        self._verdicts: OrderedDict[str, Reply | None] = OrderedDict()
        self._hello = ""
        self._hello_at = -1e9
        self._alive: set[str] = set()
        self._alive_at = -1e9

    @property
    def state(self) -> RobotState | None:
        """Newest state of the robot."""
        return self.newest

    def submit(self, body: Any, now: float) -> str:
        """Send a request; return its id."""
        request = self._requester.request(body, now)
        self._verdicts[request] = None
        while len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)
        return request

    def verdict(self, request_id: str) -> Reply | None:
        """Return the newest reply to a request, or None."""
        return self._verdicts.get(request_id)

    def poll(self, now: float, state: RobotState | None) -> None:
        """Read replies, keep the session alive, open it if there is none."""
        for reply in self._requester.replies():
            self._take(reply)
        if self.connected and state is not None and now - self._hello_at > HELLO_PERIOD:
            self.connected = state.session == self.session
        if not self.connected and now - self._hello_at >= HELLO_PERIOD:
            self._hello_at = now
            self._hello = self._requester.request(Hello(PROTOCOL_VERSION, "controller", self.session), now)
        if self.connected and now - self._alive_at >= KEEP_ALIVE_PERIOD - 1e-9:
            self._alive_at = now
            self._alive.add(self._requester.request(KeepAlive(), now))

    def _take(self, reply: Reply) -> None:
        if reply.id == self._hello:
            self.connected = reply.verdict in ("accepted", "done")
            self.refusal = "" if self.connected else reply.reason
            self.capabilities = reply.data or self.capabilities
        elif reply.id in self._alive:
            # A sign of life that is refused: the node has forgotten the session.
            if reply.verdict == "rejected":
                self.connected = False
            self._alive.discard(reply.id)
        elif reply.id in self._verdicts:
            self._verdicts[reply.id] = reply

    def close(self) -> None:
        """Give the session up."""
        if self.connected:
            self._requester.request(Release("controller ends"), 0.0)
            self.connected = False
