"""Puts moments before the referee: in this process, or in one of its own that judges a row while the next one happens.

Either way the referee sees the same rows in the same order. In its own process the account of a row is there when the
next row is handed over, never earlier: a lock-step run does not depend on which of the two is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from cell.bus.worker import Handler, Worker
from sim.contract import RefereeReport
from sim.human import Human
from sim.referee import ArmTruth, PersonTrack, Referee


class Moment(NamedTuple):
    """One step for the referee."""

    t: float
    since: float
    """Time on the people's clocks, s."""
    arm: ArmTruth


class Judge(Protocol):
    """What the twin asks."""

    def see(self, row: list[Moment]) -> RefereeReport:
        """Judge a row; return the newest account there is."""
        ...

    def settle(self) -> RefereeReport:
        """The account of everything seen."""
        ...

    def free(self) -> bool:
        """Would `see` return at once?"""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class DirectJudge:
    """The referee in this process."""

    def __init__(self, referee: Referee, people: list[Human], now: float) -> None:
        self.referee = referee
        self._people = people
        self._report = referee.report(now)

    def see(self, row: list[Moment]) -> RefereeReport:
        """Judge a row."""
        since = [moment.since for moment in row]
        people = [PersonTrack(h.name, h.body.name, h.bones_row(since)) for h in self._people]
        self.referee.observe_all([m.t for m in row], [m.arm for m in row], people)
        self._report = self.referee.report(row[-1].t)
        return self._report

    def settle(self) -> RefereeReport:
        """The account of everything seen."""
        return self._report

    def free(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Free the narrow phase."""
        self.referee.close()


class _Arm(msgspec.Struct, array_like=True):
    """`ArmTruth` on its way."""

    q: list[float]
    dq: list[float]
    fingers: float
    held: tuple[tuple[float, float, float], list[list[float]]] | None


_Row = list[tuple[float, float, _Arm]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode
_report = msgspec.msgpack.Decoder(RefereeReport).decode


class JudgeApart:
    """The referee in a process of its own. Raises WorkerError if that fails."""

    def __init__(
        self, referee: Callable[[], Referee], people: list[Human], now: float, background: bool = False
    ) -> None:
        self._worker = Worker("referee", lambda: _serve(DirectJudge(referee(), people, now)), background)
        self._worker.send(b"")
        self._last: RefereeReport | None = None

    def see(self, row: list[Moment]) -> RefereeReport:
        """Hand a row over; return the account of the one before."""
        before = self.settle()
        self._worker.send(_encode([(m.t, m.since, _packed(m.arm)) for m in row]))
        return before

    def settle(self) -> RefereeReport:
        """Wait for the account of everything seen."""
        while self._worker.waiting or self._last is None:
            self._last = _report(self._worker.receive())
        return self._last

    def free(self) -> bool:
        """Has it judged all that it was given?"""
        return not self._worker.waiting or self._worker.ready()

    def close(self) -> None:
        """End the process."""
        self._worker.close()


def _packed(arm: ArmTruth) -> _Arm:
    held = None if arm.held is None else (arm.held[0], arm.held[1].tolist())
    return _Arm(arm.q.tolist(), arm.dq.tolist(), arm.fingers, held)


def _opened(arm: _Arm) -> ArmTruth:
    held = None if arm.held is None else (arm.held[0], np.array(arm.held[1]))
    return ArmTruth(np.array(arm.q), np.array(arm.dq), arm.fingers, held)


def _serve(judge: DirectJudge) -> Handler:
    def handle(request: bytes) -> bytes:
        if not request:
            return _encode(judge.settle())
        return _encode(judge.see([Moment(t, since, _opened(arm)) for t, since, arm in _decode(request)]))

    return handle
