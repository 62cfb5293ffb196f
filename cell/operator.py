"""What a person does to start and attend a run, for `cell run`: confirm, reset, start, answer questions."""

from __future__ import annotations

import secrets
from typing import Any

from cell.bus.messages import PROTOCOL_VERSION, Hello, Reply
from cell.bus.ports import Ports
from cell.contract import SERVICE, TOPIC_STATUS, AnswerConfirm, CellStatus, Command
from perception.contract import ConfirmClear
from robots.contract import ClearFault
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY
from safety.contract import SafetyStatus

PATIENCE = 0.3
"""A request without an effect is made again after this long, s."""
ANSWER_AFTER = 1.0
"""A question is answered so long after it was first seen, s: a person needs to read it."""
RESTOCK_TIME = 1.0
"""So long is a simulated world waited for to put its parts back, s."""
WORLD_SERVICE = "twin.requests"
"""Service of a simulated world; the request is made as plain data, a real cell has none."""
MOST_CLEARS = 6
ENDED = ("Complete", "Aborted", "Held", "Stopped")


class Operator:
    """Attends one run. `step` is called often; `outcome` is set once the run is over."""

    def __init__(
        self, ports: Ports, person: str, confirm_clear: bool, world: bool = False, session: str | None = None
    ) -> None:
        """`world`: there is a simulated world, whose people wait for the run to start."""
        session = session or secrets.token_hex(8)
        self._world = ports.requester(WORLD_SERVICE, session) if world else None
        self._world_asked = -1e9
        self._person = person
        self._confirm = confirm_clear
        self._requests = ports.requester(SERVICE, session)
        self._world_started = False
        self._start_asked = ""
        self._restock_asked = ""
        self._restock_over = False
        self._status = ports.subscriber(TOPIC_STATUS, CellStatus)
        self._safety = ports.subscriber(TOPIC_SAFETY, SafetyStatus)
        self.status: CellStatus | None = None
        self.safety: SafetyStatus | None = None
        self.outcome = ""
        self.refusals: list[str] = []
        self._asked = -1e9
        self._started = self._begun = self._confirmed = False
        self._confirm_asked = ""
        self._greeted = False
        self._cleared = 0
        self._question = ("", 0.0)

    def step(self, now: float) -> None:
        """Read what is new and do the next thing."""
        status, safety = self._status.take(), self._safety.take()
        self.status = status.body if status else self.status
        self.safety = safety.body if safety else self.safety
        for reply in self._requests.replies():
            self._confirmed = self._confirmed or (reply.id == self._confirm_asked and reply.verdict == "done")
            self._note(reply)
        for reply in self._world.replies() if self._world is not None else ():
            self._restock_over = self._restock_over or reply.id == self._restock_asked
            self._world_started = self._world_started or (reply.verdict == "done" and reply.id == self._start_asked)
            self._note(reply)
        if self.status is not None and not self.outcome:
            self._attend(now, self.status)

    def _start_world(self, now: float) -> None:
        """Tell the world that the run starts, until it has heard it."""
        if self._world is None or self._world_started or now - self._world_asked < PATIENCE:
            return
        self._start_asked = self._world.request({"type": "twin_start"}, now)
        self._world_asked = now

    def _note(self, reply: Reply) -> None:
        if reply.verdict in ("rejected", "failed"):
            self.refusals = [*self.refusals[-9:], reply.reason]

    def _ask(self, body: Any, now: float) -> str:
        """Make a request; return its id."""
        if not self._greeted:
            self._requests.request(Hello(PROTOCOL_VERSION, "observer", self._person), now)
            self._greeted = True
        self._asked = now
        return self._requests.request(body, now)

    def _attend(self, now: float, status: CellStatus) -> None:
        self._answer(now, status)
        if self._started and status.state in ENDED and status.batch > 0:
            self.outcome = status.state
            return
        if now - self._asked < PATIENCE:
            return
        if status.state == "Aborted" and not self._started:
            # Nothing has moved yet: what was latched while the nodes started one after another is cleared by the
            # person who starts the run. A cause that is still there latches again, and after a few tries it stays.
            if self._cleared < MOST_CLEARS:
                self._cleared += 1
                self._ask(ClearFault(self._person) if self._cleared % 2 else Command("Clear", self._person), now)
            else:
                self.outcome = "Aborted"
        elif status.state == "Stopped" and not self._started and self._sighted():
            if self._confirm and not self._confirmed:
                # Whatever the supervisor says at this moment: only the answer tells that it was heard.
                self._confirm_asked = self._ask(ConfirmClear(self._person), now)
            else:
                self._ask(Command("Reset", self._person), now)
        elif status.state == "Idle":
            self._start_world(now)
            self._ask(Command("Start", self._person), now)
            self._begun = True
        elif self._begun and status.state in ("Held", "Aborted"):
            # It went wrong before anybody saw it start.
            self.outcome = status.state
        elif status.state in ("Starting", "Execute"):
            self._started = True
            self._start_world(now)

    def _sighted(self) -> bool:
        """Has the supervisor seen a first picture?"""
        return self.safety is not None and self.safety.oldest_exposure >= 0.0

    def _answer(self, now: float, status: CellStatus) -> None:
        question = status.question
        if question is None or question.kind != "confirm" or not question.choices:
            return
        if question.id != self._question[0]:
            self._question = (question.id, now)
            self._restock_asked, self._restock_over = "", False
        elif now - self._question[1] >= ANSWER_AFTER and (not question.restocked or self._restock(now)):
            self._requests.request(AnswerConfirm(question.id, question.choices[0], self._person), now)
            self._question = (question.id, now)

    def _restock(self, now: float) -> bool:
        """Have a simulated world fill its trays, which on a real cell the person has done; return whether to answer.

        A real cell has no such service: then the answer is given all the same.
        """
        if self._world is None:
            return True
        if not self._restock_asked:
            self._restock_asked = self._world.request({"type": "twin_restock"}, now)
        return self._restock_over or now - self._question[1] >= ANSWER_AFTER + RESTOCK_TIME
