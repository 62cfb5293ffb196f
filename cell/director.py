"""The person who starts a run and watches it: confirms that the cell is clear, resets, starts, answers, waits for the end.

`cell run` puts this node beside the others. It speaks to the controller through the same service as a pendant, so a run
from the command line takes the way every other start takes. It also samples what the summary and the timeline show.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from cell.bus.messages import PROTOCOL_VERSION, Hello, Reply
from cell.bus.ports import Ports
from cell.contract import SERVICE, TOPIC_STATUS, AnswerConfirm, CellStatus, Command
from perception.contract import ConfirmClear
from robots.contract import ARM, RobotState, topic_state
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY
from safety.contract import SafetyStatus

PERSON = "command line"
RETRY = 0.5
"""Between two tries of a command the controller has refused, s."""
START_PATIENCE = 30.0
"""So long may the cell take until it can be started, s."""
FAR = 1e8
"""Separations from here on mean that nobody is there, m."""


class Sample(NamedTuple):
    """One moment of the timeline."""

    t: float
    separation: float | None
    """By the monitor's own eyes, m; None: nobody is near."""
    required: float | None
    rate: float
    limit: float
    state: str
    moving: bool
    """A motion is accepted."""


class Progress(NamedTuple):
    """What the live display shows."""

    now: float
    status: CellStatus | None
    robot: RobotState | None
    safety: SafetyStatus | None
    message: str


@dataclass
class Account:
    """What was counted on the way."""

    samples: list[Sample] = field(default_factory=list)
    protective_stops: int = 0
    time_slowed: float = 0.0
    time_stopped: float = 0.0
    first_motion: float | None = None
    alarms: list[str] = field(default_factory=list)
    referee: dict[str, Any] = field(default_factory=dict)
    events: int = 0


class DirectorNode:
    """Runs one start to its end. `finished` becomes true when there is nothing left to wait for."""

    name = "director"

    def __init__(
        self,
        ports: Ports,
        session: str,
        confirm_clear: bool = True,
        time_limit: float = 600.0,
        restock: Callable[[], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        robot: str = ARM,
        period: float = 0.02,
        digest: bool = True,
        settle: float = 0.5,
    ) -> None:
        """Args:
        restock: refills trays and exchanges boxes of a simulated cell; called before a `yes` to a question.
        on_progress: called at each step, for the display.
        settle: time the end state is watched before the run counts as finished, s.
        """
        self.period = period
        self.account = Account()
        self.finished = False
        self.outcome = ""
        self.status: CellStatus | None = None
        self._ports = ports
        self._people = ports.requester(SERVICE, session)
        self._status_in = ports.subscriber(TOPIC_STATUS, CellStatus)
        self._robot_in = ports.subscriber(topic_state(robot), RobotState)
        self._safety_in = ports.subscriber(TOPIC_SAFETY, SafetyStatus)
        self._feed = ports.event_feed()
        self._robot: RobotState | None = None
        self._safety: SafetyStatus | None = None
        self._session = session
        self._restock = restock
        self._on_progress = on_progress
        self._limit = time_limit
        self._settle = settle
        self._began: float | None = None
        self._plan: deque[Any] = deque()
        if confirm_clear:
            self._plan.append(ConfirmClear(PERSON))
        self._plan.extend([Command("Reset", PERSON), Command("Start", PERSON)])
        self._open: tuple[str, Any] | None = None
        self._not_before = 0.0
        self._started = False
        self._end_since: float | None = None
        self._answered = ""
        self._blocked = False
        self._message = ""
        self._hash = hashlib.sha256() if digest else None
        self._encode = msgspec.msgpack.Encoder().encode

    @property
    def digest(self) -> str:
        """sha256 over all robot states, cell states and events seen, in order."""
        return self._hash.hexdigest() if self._hash is not None else ""

    @property
    def event_gaps(self) -> int:
        return self._feed.gaps

    def step(self, now: float) -> None:
        if self._began is None:
            self._began = now
            self._people.request(Hello(PROTOCOL_VERSION, "operator", self._session), now)
        self._take(now)
        self._direct(now)
        self._sample(now)
        self._watch_end(now)
        if self._on_progress is not None:
            self._on_progress(Progress(now, self.status, self._robot, self._safety, self._message))

    # ------------------------------------------------------------ seeing

    def _take(self, now: float) -> None:
        for inbox, keep in (
            (self._status_in, "status"),
            (self._robot_in, "_robot"),
            (self._safety_in, "_safety"),
        ):
            message = inbox.take()  # type: ignore[attr-defined]  # three kinds of subscribers in one tuple
            if message is not None:
                setattr(self, keep, message.body)
                if self._hash is not None and keep != "_safety":
                    self._hash.update(self._encode(message.body))
        for event in self._feed.drain():
            self.account.events += 1
            if self._hash is not None:
                self._hash.update(self._encode(event))
            if event.kind == "alarm.raised":
                self.account.alarms.append(str(event.data.get("code", "")))
            elif event.kind == "packml.gave_up":
                self._message = str(event.data.get("reason", ""))
            elif event.kind == "twin.referee":
                self.account.referee = dict(event.data)

    def _sample(self, now: float) -> None:
        robot, safety = self._robot, self._safety
        if robot is None:
            return
        account, dt = self.account, self.period
        moving = bool(robot.motion_id)
        if moving and account.first_motion is None and robot.rate > 0.0:
            account.first_motion = now
        held_up = moving and self._started and robot.override > 0.0 and not robot.fault
        if held_up and robot.limit < 1.0:
            account.time_slowed += dt
        blocked = held_up and not robot.limit > 0.0
        if blocked:
            account.time_stopped += dt
            if not self._blocked:
                account.protective_stops += 1
        self._blocked = blocked
        near = safety is not None and safety.separation < FAR
        account.samples.append(
            Sample(
                now,
                safety.separation if near and safety is not None else None,
                safety.required if near and safety is not None else None,
                robot.rate,
                robot.limit,
                self.status.state if self.status is not None else "",
                moving,
            )
        )

    # ------------------------------------------------------------ acting

    def _direct(self, now: float) -> None:
        for reply in self._people.replies():
            self._hear(reply, now)
        if self._open is None and self._plan and now >= self._not_before and self._ready():
            body = self._plan[0]
            self._open = (self._people.request(body, now), body)
        self._answer(now)

    def _ready(self) -> bool:
        """The next thing to do fits the state, so that it is not asked in vain."""
        body, status = self._plan[0], self.status
        if isinstance(body, ConfirmClear):
            return True
        if status is None or not isinstance(body, Command):
            return False
        wanted = {"Reset": ("Stopped", "Complete"), "Start": ("Idle",)}
        return status.state in wanted.get(body.name, ())

    def _hear(self, reply: Reply, now: float) -> None:
        if self._open is None or reply.id != self._open[0] or reply.verdict == "accepted":
            return
        body, self._open = self._open[1], None
        if reply.verdict == "done":
            self._plan.popleft()
            self._started = self._started or (isinstance(body, Command) and body.name == "Start")
        else:
            # Nodes may still be coming up: asked again until the patience ends.
            self._message, self._not_before = reply.reason, now + RETRY

    def _answer(self, now: float) -> None:
        question = self.status.question if self.status is not None else None
        if question is None or question.id == self._answered or question.kind != "confirm":
            return
        self._answered = question.id
        if self._restock is not None:
            self._restock()
        self._people.request(AnswerConfirm(question.id, "yes", PERSON), now)

    def _watch_end(self, now: float) -> None:
        assert self._began is not None  # set by the first step
        status = self.status
        if not self._started and now - self._began > START_PATIENCE:
            self._end(f"could not start: {self._message or 'nodes are missing'}")
        elif now - self._began > self._limit:
            self._end("time limit")
        elif self._started and status is not None:
            question = status.question
            ended = status.state in ("Complete", "Stopped", "Aborted") or (
                status.state == "Held" and question is not None and question.kind == "recovery"
            )
            ended = ended or (status.state == "Held" and bool(status.alarms))
            if not ended:
                self._end_since = None
            elif self._end_since is None:
                self._end_since = now
            elif now - self._end_since >= self._settle:
                self._end(status.state)

    def _end(self, outcome: str) -> None:
        self.outcome, self.finished = outcome, True

    @property
    def message(self) -> str:
        """The last reason the controller gave for a refusal or for giving up."""
        return self._message

    def close(self) -> None:
        """Nothing is held open."""
