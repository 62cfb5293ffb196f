"""The controller's end of a robot node: session, requests by id, newest state. Never blocks."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from typing import Any, Literal

import msgspec

from cell.bus.messages import PROTOCOL_VERSION, Hello, Reply
from cell.bus.ports import Ports
from robots.contract import (
    ARM,
    CancelMotion,
    ClearFault,
    Grip,
    Jog,
    KeepAlive,
    Move,
    PartGeometry,
    Release,
    RobotState,
    SetMode,
    SetOutput,
    SetOverride,
    Stop,
    service,
    topic_jog,
    topic_state,
)
from robots.motion import Motion

KEEP_ALIVE = 0.1
"""Time between two signs of life, s."""
HELLO_RETRY = 0.5
ANSWER_TIME = 2.0
"""A request not even accepted after this long has failed, s."""
_REMEMBERED = 500


class RequestStatus(msgspec.Struct):
    """What became of a request."""

    id: str
    verdict: Literal["sent", "accepted", "done", "rejected", "failed"]
    reason: str
    code: str
    """Stable name of the reason, such as `grip_missed`, `part_lost`, `cancelled`; empty without one."""
    data: dict[str, Any]
    sent_at: float

    @property
    def finished(self) -> bool:
        """No further reply will come."""
        return self.verdict in ("done", "rejected", "failed")


class RobotClient:
    """One session with one robot node. Call `poll` at every step of the owner; it sends keep-alives by itself."""

    def __init__(self, ports: Ports, role: str, session: str, robot: str = ARM) -> None:
        self.role = role
        self.session = session
        self.robot = robot
        self._requests = ports.requester(service(robot), session)
        self._states = ports.subscriber(topic_state(robot), RobotState)
        self._jog = ports.publisher(topic_jog(robot), Jog) if role == "controller" else None
        self._jog_seq = itertools.count(1)
        self._open: OrderedDict[str, RequestStatus] = OrderedDict()
        self._hello = ""
        self._next_hello = -math.inf
        self._next_alive = -math.inf
        self._alive_ids: set[str] = set()
        self._released = False
        self.connected = False
        """Hello was accepted, and the node still knows this session."""
        self.refusal = ""
        """Why the last hello was rejected."""
        self.capabilities: dict[str, Any] = {}
        self.state: RobotState | None = None
        """Newest state of the arm."""
        self.state_received = -math.inf
        """When it was received, s."""

    def poll(self, now: float) -> None:
        """Read states and replies, say hello while unknown, keep the session alive."""
        envelope = self._states.take()
        if envelope is not None:
            self.state, self.state_received = envelope.body, now
        for reply in self._requests.replies():
            self._take(reply)
        for status in self._open.values():
            if status.verdict == "sent" and now - status.sent_at > ANSWER_TIME:
                status.verdict, status.code = "failed", "no_answer"
                status.reason = f"the robot node did not answer within {ANSWER_TIME:.0f} s: see that it runs"
        if self._released:
            return
        if not self.connected:
            if now >= self._next_hello:
                self.hello(now)
        elif now >= self._next_alive:
            self._next_alive = now + KEEP_ALIVE
            self._alive_ids.add(self._requests.request(KeepAlive(), now))

    def hello(self, now: float) -> str:
        """Introduce the session; done by `poll` too. Returns the request's id."""
        self._next_hello = now + HELLO_RETRY
        self._released = False
        self._hello = self._send(Hello(PROTOCOL_VERSION, self.role, self.session), now)
        return self._hello

    def _take(self, reply: Reply) -> None:
        if reply.id in self._alive_ids:
            if reply.verdict == "rejected":  # the node restarted or dropped this session
                self.connected = False
            if reply.verdict != "accepted":
                self._alive_ids.discard(reply.id)
            return
        if reply.id == self._hello:
            if reply.verdict == "accepted":
                self.connected, self.refusal, self.capabilities = True, "", reply.data
            elif reply.verdict == "rejected":
                self.connected, self.refusal = False, reply.reason
        status = self._open.get(reply.id)
        if status is None or status.finished:
            return
        status.verdict, status.reason, status.data = reply.verdict, reply.reason, reply.data
        status.code = str(reply.data.get("code", ""))

    def _send(self, body: Any, now: float) -> str:
        request_id = self._requests.request(body, now)
        self._open[request_id] = RequestStatus(request_id, "sent", "", "", {}, now)
        while len(self._open) > _REMEMBERED:
            self._open.popitem(last=False)
        if len(self._alive_ids) > _REMEMBERED:
            self._alive_ids.clear()
        return request_id

    def status(self, request_id: str) -> RequestStatus:
        """Return what became of a request of this client. Raises KeyError for one that was never made or is old."""
        return self._open[request_id]

    # ------------------------------------------------------------ requests: each returns the request's id

    def move(self, motion: Motion | Move, now: float) -> str:
        """Ask for a motion; `done` when the arm stands at its end."""
        return self._send(motion.to_move() if isinstance(motion, Motion) else motion, now)

    def grip(
        self, width: float, force: float, now: float, part: PartGeometry | None = None, release: bool = False
    ) -> str:
        """Open or close the gripper to `width` m with `force` N; `done` when settled, or holding `part`."""
        return self._send(Grip(width, force, part, release), now)

    def set_output(self, name: str, value: bool, now: float) -> str:
        """Switch a digital output; `done` when the drives report it."""
        return self._send(SetOutput(name, value), now)

    def set_override(self, value: float, now: float) -> str:
        """Set the speed override in [0, 1]; above 0 it also ends a hold."""
        return self._send(SetOverride(value), now)

    def set_mode(self, mode: Literal["automatic", "manual"], now: float) -> str:
        """Change the mode, at standstill."""
        return self._send(SetMode(mode), now)

    def stop(self, category: Literal[1, 2], reason: str, now: float) -> str:
        """Stop on the path; `done` at standstill."""
        return self._send(Stop(category, reason), now)

    def cancel(self, reason: str, now: float) -> str:
        """Brake and give the motion up; `done` at standstill."""
        return self._send(CancelMotion(reason), now)

    def clear_fault(self, person: str, now: float) -> str:
        """Clear the latched faults in a person's name."""
        return self._send(ClearFault(person), now)

    def release(self, reason: str, now: float) -> str:
        """Give the session up. `poll` then says no hello any more."""
        self._released, self.connected = True, False
        return self._send(Release(reason), now)

    def jog(
        self, space: Literal["joint", "base", "tool"], velocity: list[float], now: float, valid_for: float = 0.2
    ) -> None:
        """Stream one jog command; renew it every 50 to 100 ms. Only a controller can."""
        if self._jog is None:
            raise PermissionError("only a session of the role controller can jog")
        self._jog.send(Jog(self.session, next(self._jog_seq), valid_for, space, velocity), now)
