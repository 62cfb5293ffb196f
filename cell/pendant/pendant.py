"""What the parts of the pendant share: accounts, logins, control, the bus, the newest of everything. No globals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from fastapi import Request

from cell.clock import Clock
from cell.config import LoadedCell
from cell.loading import Loader
from cell.pendant.accounts import Accounts
from cell.pendant.control import Control, Seat
from cell.pendant.feed import Feed
from cell.pendant.link import Link
from cell.pendant.logins import Attempts, Login, Logins
from cell.session import Session
from recipes.contract import CellView
from robots.model import RobotModel

ROLE_CHECK = 2.0
"""An account that was changed elsewhere counts as changed after this, s."""


@dataclass
class Pendant:
    """One pendant server. Everything happens in one event loop, except what is handed to threads by name."""

    session: Session
    cell: LoadedCell
    view: CellView
    model: RobotModel
    data: Path
    runs: Path
    clock: Clock
    link: Link
    feed: Feed
    accounts: Accounts
    loader: Loader
    simulated: bool
    logins: Logins = field(default_factory=Logins)
    attempts: Attempts = field(default_factory=Attempts)
    control: Control = field(default_factory=Control)
    every_step: list[Callable[[float], None]] = field(default_factory=list)
    """Called with the time at each look at the topics."""

    def __post_init__(self) -> None:
        # These import the class below.
        from cell.pendant.jog import Device
        from cell.pendant.proposals import SafetyFiles
        from cell.pendant.recipes import Shelf
        from cell.pendant.teach import Notebook
        from cell.pendant.telemetry import Pump

        self.pump = Pump(self)
        self.recipes = Shelf(self.cell.recipes_path, self.data / "recipes", self.loader)
        self.device = Device(self)
        self.every_step.append(self.device.step)
        self.points = Notebook(self.data / "points.json", "point")
        self.safety = SafetyFiles(self, self.cell.safety_path)
        self.frames = Notebook(self.data / "frames.json", "frame")
        self._checked: dict[str, float] = {}
        self._encode = msgspec.msgpack.Encoder().encode

    def now(self) -> float:
        """Shared monotonic clock, s."""
        return self.clock.now()

    def wall(self) -> int:
        """Unix ms."""
        return int(time.time() * 1000)

    def pack(self, value: Any) -> bytes:
        """msgpack."""
        return self._encode(value)

    def step(self, now: float) -> None:
        """What has to be looked at all the time."""
        lost = self.control.expire(now)
        if lost is not None:
            self.emit("pendant.control", lost.person, what="lost", reason="silent")
        for step in self.every_step:
            step(now)

    def emit(self, kind: str, person: str, **data: Any) -> None:
        """Report what a person did."""
        self.link.emit(kind, person=person, **data)

    def login_of(self, token: str) -> Login | None:
        """Return the live login of a cookie, with the role the account has now."""
        now = self.now()
        login = self.logins.find(token, now)
        if login is None:
            return None
        if now - self._checked.get(login.id, -1e18) > ROLE_CHECK:
            user = self.accounts.find(login.name)
            if user is None or user.disabled or user.role != login.role:
                self.end(login, "account changed")
                return None
            self._checked[login.id] = now
        if login.locked:
            self.give_up_control(login, "locked")
        return login

    def end(self, login: Login, reason: str) -> None:
        """Log a browser out."""
        self.logins.close(login)
        self._checked.pop(login.id, None)
        self.give_up_control(login, reason)

    def give_up_control(self, login: Login, reason: str) -> None:
        """Take control from a login that may not have it any more."""
        if self.control.release(login.id, self.now(), self.wall()):
            self.emit("pendant.control", login.name, what="lost", reason=reason)

    def rekey(self, name: str, old: str, new: str) -> None:
        """A person has another password now. Raises AcceptanceError if the person's key cannot be read."""
        self.safety.rekey(name, old, new)

    def seat(self, login: Login) -> Seat:
        """Return the login as control sees it."""
        return Seat(login.id, login.name, login.local)


def who(request: Request) -> Login:
    """Return who asks; the guard has made sure that somebody does."""
    login: Login = request.scope["login"]
    return login
