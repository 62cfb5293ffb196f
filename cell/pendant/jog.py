"""The jog socket: hold to run. A beat every 80 ms keeps the arm moving; whatever is missing stops it.

`Hold` is the pure core: it decides on each message and at each look whether a command goes on to the cell. After any
drop nothing moves before the button is pressed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import Field, ValidationError

from cell.contract import JogWish
from cell.pendant.commands import AHEAD, STALE, greeted
from cell.pendant.logins import Login
from cell.pendant.people import Body
from cell.pendant.roles import permits

if TYPE_CHECKING:
    from cell.pendant.pendant import Pendant

MISSED = 0.2
"""Without a beat for this long the arm is stopped, s."""
VALID = 0.2
"""Life of each command, s; the robot node permits 0.25."""
LOOK = 0.02
WAITS = 25
FASTEST = 10.0
"""rad/s or m/s; no pendant asks for more, and the robot node permits far less."""
Number = Annotated[float, Field(ge=-FASTEST, le=FASTEST)]


class Beat(Body):
    """One message of the page."""

    press: Literal[True] | None = None
    stop: Literal[True] | None = None
    seq: Annotated[int, Field(ge=0, le=2**53)] | None = None
    space: Literal["joint", "base", "tool"] | None = None
    velocity: Annotated[list[Number], Field(max_length=12)] | None = None
    seen: float | None = None


@dataclass
class Hold:
    """One button that is held, or not."""

    dof: int
    pressed: bool = False
    active: bool = False
    """The arm has been told to move, and not yet to stop."""
    reason: str = ""
    last_seq: int = -1
    last_beat: float = -math.inf

    def press(self, now: float) -> None:
        """The button goes down."""
        self.pressed, self.reason, self.last_seq, self.last_beat = True, "", -1, now

    def drop(self, reason: str) -> bool:
        """Stop; return whether the arm has to be told."""
        told = self.active
        if self.pressed or self.active:
            self.reason = reason
        self.pressed = self.active = False
        return told

    def beat(self, beat: Beat, now: float, objection: str) -> tuple[str, list[float]] | None:
        """Return space and velocity to send on, or None; then `reason` says why, and the button counts as released."""
        fault = self._fault(beat, now) or objection
        if fault:
            # The arm is stopped by whoever asks `active` next: the caller compares it before and after.
            self.pressed, self.reason = False, fault
            return None
        assert beat.space is not None and beat.velocity is not None and beat.seq is not None  # looked at in _fault
        self.last_seq, self.last_beat = beat.seq, now
        self.active, self.reason = True, ""
        return beat.space, beat.velocity

    def _fault(self, beat: Beat, now: float) -> str:
        if not self.pressed:
            return "press again"
        if beat.seq is None or beat.seq <= self.last_seq:
            return "a beat came twice or out of order: press again"
        # Written so that a NaN, or nothing, is stale.
        if beat.seen is None or not -AHEAD <= now - beat.seen <= STALE:
            return "the page shows old data"
        if beat.space is None or beat.velocity is None:
            return "a beat names space and velocity"
        count = self.dof if beat.space == "joint" else 6
        if len(beat.velocity) != count or not all(map(math.isfinite, beat.velocity)):
            return f"a jog in {beat.space} space has {count} finite velocities"
        return ""

    def look(self, now: float, objection: str) -> bool:
        """Watch over the beats; return whether the arm has to be told to stop."""
        if (self.pressed or self.active) and now - self.last_beat > MISSED:
            return self.drop("a beat is missing: press again")
        if (self.pressed or self.active) and objection:
            return self.drop(objection)
        return False


def objection_of(pendant: Pendant, login: Login) -> str:
    """Why this login may not jog now."""
    now = pendant.now()
    pendant.logins.look(login, now)
    if login.ended:
        return "not_logged_in: nobody is logged in here any more"
    if login.locked:
        return "locked: the session is locked"
    if not permits(login.role, "programmer"):
        return "role: jogging is for programmers"
    reason = pendant.control.refusal(login.id, now)
    if reason:
        return f"not_in_control: {reason}"
    age = pendant.feed.age(now)
    status = pendant.feed.status
    if status is None or age["status"] > STALE or age["robot"] > STALE:
        return "the cell is silent"
    return status.manual_missing


class JogSocket:
    """One open socket."""

    def __init__(self, pendant: Pendant, socket: WebSocket, login: Login) -> None:
        self._pendant, self._socket, self._login = pendant, socket, login
        self._hold = Hold(pendant.model.dof)
        self._said: tuple[bool, str] = (False, "")
        self._space: Literal["joint", "base", "tool"] = "joint"

    async def run(self) -> None:
        """Until the socket closes; the arm is stopped whatever happens."""
        watch = asyncio.ensure_future(self._watch())
        try:
            while True:
                await self._take(await self._socket.receive_text())
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            if self._hold.drop("the socket closed"):
                self._stop()
            self._settle()

    async def _take(self, text: str) -> None:
        now, hold = self._pendant.now(), self._hold
        try:
            beat = Beat.model_validate_json(text)
        except ValidationError:
            if hold.drop("a message that cannot be read: press again"):
                self._stop()
            await self._say()
            return
        self._login.active = now if not self._login.locked else self._login.active
        self._pendant.control.heard(self._login.id, now)
        if beat.stop:
            # Also when nothing seems to move: stopping twice harms nobody.
            hold.drop("")
            self._stop()
        elif beat.press:
            reason = self._pendant.device.claim(self) or objection_of(self._pendant, self._login)
            hold.press(now)
            if reason:
                hold.drop(reason)
            else:
                self._pendant.device.hold("jog")
        else:
            await self._beat(beat, now)
        await self._say(always=bool(beat.stop or beat.press))

    async def _beat(self, beat: Beat, now: float) -> None:
        hold = self._hold
        wish = hold.beat(beat, now, objection_of(self._pendant, self._login))
        if wish is None:
            if hold.drop(hold.reason):
                self._stop()
            return
        space, velocity = wish
        self._space = space  # type: ignore[assignment]  # one of the three, as the model has checked
        person, kind = self._login.name, self._space
        self._pendant.link.jog(lambda seq, t: JogWish(person, seq, t, VALID, kind, velocity))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            hold = self._hold
            objection = objection_of(self._pendant, self._login) if hold.pressed or hold.active else ""
            if hold.look(self._pendant.now(), objection):
                self._stop()
            await self._say()

    def _stop(self) -> None:
        person, kind = self._login.name, self._space
        self._pendant.link.jog(lambda seq, t: JogWish(person, seq, t, VALID, kind, []))

    def _settle(self) -> None:
        """A button that is up holds nothing."""
        if not (self._hold.pressed or self._hold.active):
            self._pendant.device.release(self)

    async def _say(self, always: bool = False) -> None:
        """Tell the page what has changed."""
        self._settle()
        told = (self._hold.active or self._hold.pressed, self._hold.reason)
        if told != self._said or always:
            self._said = told
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._socket.send_text(json.dumps({"active": told[0], "reason": told[1]}))


class Device:
    """Who jogs: one button at a time. And the enabling device of a simulated arm, held while somebody jogs or sends it
    to a point; real ones are real."""

    def __init__(self, pendant: Pendant) -> None:
        self._pendant = pendant
        self._used = pendant.session.simulation_only and pendant.cell.config.robot.enabling_device
        self._why: set[str] = set()
        self._until = math.inf
        self._jogging: JogSocket | None = None

    def claim(self, socket: JogSocket) -> str:
        """A button goes down; return why it must not, or an empty text."""
        if self._jogging not in (None, socket):
            return "the arm is being jogged from another window"
        self._jogging = socket
        return ""

    def release(self, socket: JogSocket) -> None:
        """The button is up."""
        if self._jogging is socket:
            self._jogging = None
            self.let_go("jog")

    def hold(self, why: str) -> None:
        """Hold it."""
        if not self._why:
            self._set(True)
        self._why.add(why)
        if why == "goto":
            self._until = self._pendant.now() + 1.0

    async def held(self, why: str) -> None:
        """Hold it, and wait until the robot node has seen that, for a moment at most."""
        self.hold(why)
        for _ in range(WAITS if self._used else 0):
            robot = self._pendant.feed.robot
            if robot is not None and not robot.manual_missing:
                return
            await asyncio.sleep(LOOK)

    def let_go(self, why: str) -> None:
        """Let it go, unless something else holds it."""
        if why in self._why:
            self._why.discard(why)
            if not self._why:
                self._set(False)

    def step(self, now: float) -> None:
        """Let it go when the motion to a point has ended."""
        robot = self._pendant.feed.robot
        if "goto" in self._why and now > self._until and (robot is None or not robot.motion_id):
            self.let_go("goto")

    def _set(self, held: bool) -> None:
        if self._used:
            self._pendant.link.tell_world({"type": "twin_input", "name": "enabling_device", "value": held})


def router(pendant: Pendant) -> APIRouter:
    """Return the jog socket."""
    routes = APIRouter(tags=["teach"])

    @routes.websocket("/jog")
    async def jog(socket: WebSocket) -> None:
        """Beats as in the description; the first message is `{csrf}`."""
        login: Login = socket.scope["login"]
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, KeyError):
            if await greeted(socket, login):
                await JogSocket(pendant, socket, login).run()

    return routes


__all__ = ["Beat", "Device", "Hold", "router"]
