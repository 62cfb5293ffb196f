"""Single point of control: at most one login commands the cell. Pure; the time is handed in.

A holder keeps control by being there: a browser that has been silent for `SILENCE` loses it. Stopping needs no control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SILENCE = 10.0
"""s."""


@dataclass(frozen=True)
class Seat:
    """A login as control sees it."""

    login: str
    person: str
    local: bool


class Control:
    """Who holds control and who asks for it."""

    def __init__(self) -> None:
        self.holder: Seat | None = None
        self.request: Seat | None = None
        self.since_wall = 0
        """Unix ms."""
        self._heard: dict[str, float] = {}
        self.version = 0
        """Raised with every change."""

    def heard(self, login: str, now: float) -> None:
        """A login gives a sign of life."""
        if self.holder is not None and login == self.holder.login:
            self._heard[login] = now
        if self.request is not None and login == self.request.login:
            self._heard[login] = now

    def expire(self, now: float) -> Seat | None:
        """Take control from a silent holder; return who lost it. A silent request is forgotten too."""
        lost = None
        if self.request is not None and now - self._heard.get(self.request.login, -1e18) > SILENCE:
            self._set(self.holder, None, now, self.since_wall)
        if self.holder is not None and now - self._heard.get(self.holder.login, -1e18) > SILENCE:
            lost = self.holder
            self._set(self.request, None, now, self.since_wall)
        return lost

    def take(self, seat: Seat, now: float, wall: int) -> bool:
        """Take control if nobody holds it; else ask the holder. Return whether it is held now."""
        self.expire(now)
        if self.holder is None or self.holder.login == seat.login:
            if self.holder is None:
                self._set(seat, None, now, wall)
            self._heard[seat.login] = now
            return True
        self._heard[seat.login] = now
        if self.request != seat:
            self._set(self.holder, seat, now, self.since_wall)
        return False

    def give(self, login: str, now: float, wall: int) -> bool:
        """The holder hands over to whoever asks; False if this login cannot."""
        self.expire(now)
        if self.holder is None or self.holder.login != login or self.request is None:
            return False
        self._set(self.request, None, now, wall)
        return True

    def refuse(self, login: str, now: float) -> bool:
        """The holder declines the request; False if this login cannot."""
        if self.holder is None or self.holder.login != login or self.request is None:
            return False
        self._set(self.holder, None, now, self.since_wall)
        return True

    def release(self, login: str, now: float, wall: int) -> bool:
        """Give control up, or withdraw a request; False if this login had neither."""
        if self.holder is not None and self.holder.login == login:
            self._set(self.request, None, now, wall)
            return True
        if self.request is not None and self.request.login == login:
            self._set(self.holder, None, now, self.since_wall)
            return True
        return False

    def refusal(self, login: str, now: float) -> str:
        """Why a login may not command; empty if it may."""
        self.expire(now)
        if self.holder is None:
            return "nobody holds control: take it first"
        if self.holder.login != login:
            return f"{self.holder.person} holds control: ask for it"
        return ""

    def _set(self, holder: Seat | None, request: Seat | None, now: float, wall: int) -> None:
        if holder is not None and (self.holder is None or holder.login != self.holder.login):
            self._heard.setdefault(holder.login, now)
        self.holder, self.request, self.since_wall = holder, request, wall
        self.version += 1
        known = {seat.login for seat in (holder, request) if seat is not None}
        self._heard = {login: at for login, at in self._heard.items() if login in known}

    def view(self, login: str) -> dict[str, Any]:
        """Return what a login sees."""
        mine = self.holder is not None and self.holder.login == login
        kind = "display" if self.holder is None else ("local" if self.holder.local else "remote")
        return {
            "holder": self.holder.person if self.holder is not None else None,
            "mine": mine,
            "kind": kind,
            "since_wall": self.since_wall if self.holder is not None else None,
            "requested_by": self.request.person if self.request is not None else None,
        }
