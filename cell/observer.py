"""Watches a run from outside and sums it up: samples for the timeline, counts, and the digest of everything said."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from typing import NamedTuple

import msgspec

from cell.bus.messages import Event
from cell.bus.ports import Ports
from cell.contract import TOPIC_STATUS as TOPIC_CELL
from cell.contract import CellStatus
from robots.contract import RobotState, topic_state
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY
from safety.contract import SafetyStatus

SAMPLE_EVERY = 0.05
"""Time between two samples of the timeline at first, s."""
MOST_SAMPLES = 12_000
"""Of ten minutes; a longer run keeps every second one and takes half as many from then on, as often as it must."""
_encode = msgspec.msgpack.Encoder().encode
_NO_TIME = {"wall", "wall_time", "cycle_time", "pid", "path"}
"""Event fields that tell of the machine and not of the run."""


USED, TICK = "age of data when moving", "tick of the robot node"
BIN = 0.001
"""Width of the bins of a histogram, s."""
BINS = 1000


class Durations:
    """Histogram of one part of the reaction time."""

    def __init__(self) -> None:
        self.counts = [0] * BINS
        """Per bin of BIN; the last one holds all longer ones."""
        self.worst = 0.0
        """s."""

    def take(self, took: float) -> None:
        """Count one measurement, s."""
        if took >= 0.0:
            self.counts[min(int(took / BIN), BINS - 1)] += 1
            self.worst = max(self.worst, took)

    def quantile(self, share: float) -> float:
        """Upper edge of the bin up to which `share` of all lie, at most the worst, s; 0 without any."""
        rest = share * sum(self.counts)
        for k, count in enumerate(self.counts):
            rest -= count
            if rest <= 0.0:
                return min((k + 1) * BIN, self.worst)
        return self.worst


class Sample(NamedTuple):
    """One moment of the timeline."""

    t: float
    separation: float
    """m; -1 where it is not known."""
    required: float
    rate: float
    limit: float
    state: str


class Observer:
    """Step it after the nodes. Times in s."""

    def __init__(self, ports: Ports) -> None:
        self._robot = ports.subscriber(topic_state(), RobotState)
        self._safety = ports.subscriber(TOPIC_SAFETY, SafetyStatus)
        self._cell = ports.subscriber(TOPIC_CELL, CellStatus)
        self._feed = ports.event_feed()
        self._digest = hashlib.sha256()
        self.robot: RobotState | None = None
        self.safety: SafetyStatus | None = None
        self.cell: CellStatus | None = None
        self.samples: list[Sample] = []
        self.alarms: list[str] = []
        self.protective_stops = 0
        self.time_slowed = 0.0
        self.time_stopped = 0.0
        self.lowest_rate_while_moving = 1.0
        self.late_leases = 0
        self.parts: defaultdict[str, Durations] = defaultdict(Durations)
        """Parts of the reaction time as measured by supervisor and robot node."""
        self.recent: list[Event] = []
        self._grounds: deque[str] = deque(maxlen=64)
        self._last: float | None = None
        self._next_sample, self._every = 0.0, SAMPLE_EVERY

    @property
    def gaps(self) -> int:
        """Events known to be missing."""
        return self._feed.gaps

    @property
    def digest(self) -> str:
        """sha256 (hex) over all states and events so far, in order."""
        return self._digest.hexdigest()

    def step(self, now: float) -> None:
        """Take what is new."""
        for event in self._feed.drain():
            self._take_event(event)
        robot, safety, cell = self._robot.take(), self._safety.take(), self._cell.take()
        if robot is not None:
            self.robot = robot.body
            if robot.body.data_age >= 0.0:
                self.parts[USED].take(robot.body.data_age)
            self.parts[TICK].take(robot.body.tick)
            self._digest.update(_encode(robot.body))
        if cell is not None:
            self.cell = cell.body
            self._digest.update(_encode(cell.body))
        if safety is not None:
            self.safety = safety.body
            for part, took in safety.body.reaction.items():
                self.parts[part].take(took)
            # A refusal without a measurement has no required distance; a separation below 0 is space within the arm.
            if safety.body.required >= 0.0 and safety.body.limit < 1.0:
                self._grounds.append(safety.body.reason)
        self._account(now)

    def _take_event(self, event: Event) -> None:
        data = {k: v for k, v in event.data.items() if k not in _NO_TIME}
        self._digest.update(_encode((event.source, event.seq, event.t, event.kind, data)))
        self.recent = [*self.recent[-19:], event]
        if event.kind == "safety.protective_stop":
            self.protective_stops += 1
        elif event.kind == "alarm.raised":
            self.alarms.append(str(event.data.get("code", "?")))

    def _slowed(self, robot: RobotState) -> bool:
        """Is the arm slowed for somebody, or for space nobody sees?

        The robot node repeats the reason of the lease it obeys. What it waits for by itself (the first lease of a new
        motion, a camera) is none of the monitor's reasons and is no slow-down for a person.
        """
        return bool(robot.motion_id) and robot.limit < 1.0 and robot.limit_reason in self._grounds

    def _account(self, now: float) -> None:
        dt = now - self._last if self._last is not None else 0.0
        self._last = now
        robot, safety = self.robot, self.safety
        if robot is None or safety is None:
            return
        self.late_leases = robot.late_leases
        if self._slowed(robot):
            self.time_slowed += dt
            if robot.rate == 0.0 and safety.limit == 0.0:
                self.time_stopped += dt
        if now >= self._next_sample:
            if len(self.samples) >= MOST_SAMPLES:
                self.samples, self._every = self.samples[::2], 2.0 * self._every
            self._next_sample = now + self._every
            state = self.cell.state if self.cell is not None else ""
            self.samples.append(Sample(now, safety.separation, safety.required, robot.rate, safety.limit, state))
