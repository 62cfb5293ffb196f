"""Kills and freezes each node of a running cell and measures, from the twin's truth, when the arm stands.

    python scripts/kill_tests.py [--perception surface|rendered] [--node NAME]... [--signal KILL|STOP]...

Each case starts a cell of its own (real processes, real time, nobody in the cell), waits until the arm moves fast,
sends the signal and watches. Printed with each result: the bound, made of what still permitted motion at that moment
(rest of the lease, of the controller's sign of life, of the drives' watchdog), the drive delay and the braking time
T_s of that moment, and the scheduling slack measured meanwhile. Exit code 1 if a case fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cell.bus.messages import Event, Heartbeat
from cell.bus.zeromq import ZmqPorts
from cell.clock import RealClock
from cell.contract import TOPIC_LEDGER, LedgerStatus
from cell.heartbeat import topic as heartbeat_topic
from cell.launch import Processes, start_nodes
from cell.nodes import model_of
from cell.operator import Operator
from cell.options import RunOptions
from cell.session import ARM, CONTROLLER, OPERATOR, PERCEPTION, SUPERVISOR, WORLD, Session, new_session
from robots.contract import AcceptedMotion, RobotState, SpeedLease, topic_lease, topic_motion, topic_state
from robots.motion import Motion
from sim.arms import arm_spec
from sim.contract import TOPIC_DRIVE_STATE, DriveState

RECIPE = Path(__file__).parents[1] / "recipes" / "library" / "kitting.yaml"
POLL = 0.001
STANDS = 0.01
"""The arm stands while no joint is faster, rad/s."""
FAST = 0.8
"""The signal is sent once some joint is faster, rad/s, and the motion will go on for `LEFT`, s."""
LEFT = 1.0
FROZEN = 1.2
"""How long a frozen node is frozen, and how long nothing may move after it is back, s."""
EXPECTED = {
    SUPERVISOR: ({"lease_lost", "issuer_restarted"}, {"supervisor_lost"}),
    PERCEPTION: ({"safety_stop", "lease_lost"}, {"perception_lost"}),
    "camera": ({"safety_stop", "lease_lost"}, {"camera_fault"}),
    CONTROLLER: ({"controller_lost"}, set()),
    ARM: (set(), {"robot_lost"}),
    WORLD: ({"driver_lost"}, {"driver_lost"}),
}
"""Node -> fault codes of the robot node and alarms of the controller, one of each of which must come."""


class Sample(NamedTuple):
    """A moment of the truth."""

    t: float
    seen: float
    """When it was read, s."""
    fastest: float
    """Of the joints, rad/s."""


@dataclass
class Tape:
    """What was seen since the tape was started."""

    truth: list[Sample] = field(default_factory=list)
    states: list[RobotState] = field(default_factory=list)
    commanded: list[tuple[float, float]] = field(default_factory=list)
    """When a state of the robot node was read (s), and the rate it commanded."""
    leases: list[SpeedLease] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    lateness: float = 0.0
    """Largest lateness any node reported, s."""
    gap: float = 0.0
    """Longest time between two looks, s."""
    acknowledged: dict[str, int] = field(default_factory=dict)


class Watch:
    """Reads everything a live cell says, and attends its run."""

    def __init__(self, session: Session, processes: Processes, ports: ZmqPorts) -> None:
        self.session, self.processes = session, processes
        self.clock = RealClock()
        self.operator = Operator(ports, "kill test", True, WORLD in session.node_names)
        self.attending = True
        self._truth = ports.subscriber(TOPIC_DRIVE_STATE, DriveState)
        self._states = ports.subscriber(topic_state(), RobotState)
        self._motions = ports.subscriber(topic_motion(), AcceptedMotion)
        self._leases = ports.subscriber(topic_lease(SUPERVISOR), SpeedLease)
        self._ledger = ports.subscriber(TOPIC_LEDGER, LedgerStatus)
        self._beats = {n: ports.subscriber(heartbeat_topic(n), Heartbeat) for n in session.node_names}
        self.beat_at = dict.fromkeys(session.node_names, -1e9)
        self._feed = ports.event_feed()
        self.tape = Tape()
        self.motion: AcceptedMotion | None = None
        self.state: RobotState | None = None
        self._last = self.clock.now()

    def look(self) -> float:
        """Read what is new; return the time."""
        time.sleep(POLL)
        now, tape = self.clock.now(), self.tape
        tape.gap, self._last = max(tape.gap, now - self._last), now
        truth, state, lease = self._truth.take(), self._states.take(), self._leases.take()
        if truth is not None:
            tape.truth.append(Sample(truth.body.state.t, now, float(np.abs(truth.body.state.dq).max())))
        if state is not None:
            self.state = state.body
            tape.states.append(state.body)
            tape.commanded.append((now, state.body.rate))
        if lease is not None:
            tape.leases.append(lease.body)
        motion, ledger = self._motions.take(), self._ledger.take()
        self.motion = motion.body if motion is not None else self.motion
        if ledger is not None:
            tape.acknowledged = dict(ledger.body.acknowledged)
        for name, beats in self._beats.items():
            beat = beats.take()
            if beat is not None:
                self.beat_at[name] = now
                tape.lateness = max(tape.lateness, beat.body.lateness)
        tape.events += self._feed.drain()
        if self.attending:
            self.operator.step(now)
        return now

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look until the condition holds; False if it did not within the time."""
        end = self.clock.now() + seconds
        while self.look() < end:
            if condition():
                return True
        return False

    def for_(self, seconds: float) -> None:
        """Look for so long."""
        self.until(lambda: False, seconds)

    def fast(self) -> bool:
        """The arm moves fast at full rate, with enough of its motion left."""
        state, truth = self.state, self.tape.truth
        return (
            state is not None
            and bool(truth)
            and state.rate > 0.99
            and state.duration - state.progress > LEFT
            and truth[-1].fastest > FAST
            and self.motion is not None
            and self.motion.motion_id == state.motion_id
        )


@contextmanager
def live_cell(directory: Path, perception: str) -> Iterator[Watch]:
    """A cell that runs the kitting recipe over and over with nobody near."""
    options = RunOptions(RECIPE, scenario="none", batches=50, mode="live", perception=perception)  # type: ignore[arg-type]
    session = new_session(options, directory, attended=True)
    with Processes(session) as processes:
        ports = ZmqPorts(OPERATOR, session.addresses)
        try:
            start_nodes(session, processes, ports, RealClock())
            yield Watch(session, processes, ports)
        finally:
            ports.close()


@dataclass
class Result:
    """One case. Times in s from the signal."""

    node: str
    signal: str
    speed: float = 0.0
    """Of the fastest joint when the signal was sent, rad/s."""
    permitted: float = 0.0
    """What still permitted motion: rest of lease, sign of life or watchdog."""
    delay: float = 0.0
    braking: float = 0.0
    slack: float = 0.0
    stood: float = 0.0
    faults: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def bound(self) -> float:
        return self.permitted + self.delay + self.braking

    def line(self) -> str:
        """For people."""
        verdict = "ok" if not self.problems else "FAILED: " + "; ".join(self.problems)
        return (
            f"{self.node:12} {self.signal}  {self.speed:4.2f} rad/s  stood after {1e3 * self.stood:4.0f} ms, bound "
            f"{1e3 * self.bound:4.0f} = {1e3 * self.permitted:.0f} + {1e3 * self.delay:.0f} + "
            f"{1e3 * self.braking:.0f} ms (+ {1e3 * self.slack:.0f} ms scheduling)  "
            f"{','.join(self.faults) or '-'}  {','.join(self.alarms) or '-'}  {verdict}"
        )

    def row(self) -> str:
        """For a Markdown table."""
        cells = [self.node, f"SIG{self.signal}", f"{self.speed:.2f}"]
        cells += [f"{1e3 * v:.0f}" for v in (self.permitted, self.delay, self.braking, self.bound, self.slack)]
        cells += [f"{1e3 * self.stood:.0f}", ", ".join(self.faults) or "-", ", ".join(self.alarms) or "-"]
        return "| " + " | ".join([*cells, "passed" if not self.problems else "; ".join(self.problems)]) + " |"


def run_case(node: str, how: str, perception: str, directory: Path) -> Result:
    """Run one case in a cell of its own. `how`: KILL or STOP."""
    result = Result(node, how)
    with live_cell(directory, perception) as cell:
        if not cell.until(cell.fast, 60.0):
            state = cell.state
            result.problems.append(f"the arm never moved fast: {state.fault_text if state else 'no state'}")
            return result
        _strike(cell, node, how, result)
    _check_ledger(cell, result)
    return result


def _strike(cell: Watch, node: str, how: str, result: Result) -> None:
    pid = cell.processes.children[node].pid
    assert pid is not None and cell.motion is not None and cell.state is not None
    # A robot node that restarts is not to be started again by an eager operator.
    cell.attending = False
    before = cell.tape
    accepted = cell.motion
    result.speed, at = before.truth[-1].fastest, cell.clock.now()
    cell.tape = Tape(states=[cell.state], leases=before.leases[-1:], truth=before.truth[-1:], events=before.events)
    os.kill(pid, getattr(signal, f"SIG{how}"))
    cell.for_(FROZEN)
    tape = cell.tape
    if node == WORLD:  # without physics nothing moves: what is judged is that the robot node commands a stop by itself
        result.stood = max([t - at for t, rate in tape.commanded if rate > 0.0], default=0.0)
    else:
        result.stood = max([s.t - at for s in tape.truth if s.fastest >= STANDS], default=0.0)
    result.slack = max(tape.lateness, tape.gap)
    _bound(cell, node, at, Motion.from_accepted(model_of(cell.session), accepted), result)
    if result.stood > result.bound + result.slack:
        result.problems.append("stood too late")
    _come_back(cell, node, how, pid, result)
    _check_alarms(cell, node, how, result)


def _bound(cell: Watch, node: str, at: float, motion: Motion, result: Result) -> None:
    """What permits motion after the loss of a node, and how long the arm then brakes."""
    robot, reaction, tape = cell.session.cell.config.robot, cell.session.safety.reaction, cell.tape
    result.delay = reaction.drive_delay
    if node == ARM:
        result.permitted = cell.session.cell.config.world.options.get("watchdog", 0.05)  # type: ignore[union-attr]
        brake = np.array(arm_spec(robot.model).brake)
        result.braking = float((motion.peak_velocity / brake).max())
        return
    if node == WORLD:
        result.permitted = robot.state_timeout
    elif node == CONTROLLER:
        result.permitted = robot.keep_alive
    else:
        valid = [lease.expires_at for lease in tape.leases if lease.limit > 0.0]
        result.permitted = max(0.0, max(valid, default=at) - at)
    result.permitted += robot.period
    moments = [
        s for s in tape.states if s.motion_id == motion.motion_id and s.t <= at + result.permitted + robot.period
    ]
    result.braking = max(
        (motion.braking(s.rate, s.progress, max(s.rate_slope, 0.0), robot.period)[0] for s in moments), default=0.0
    )


def _come_back(cell: Watch, node: str, how: str, pid: int, result: Result) -> None:
    """Let the node go on, or start it again; nothing may move without ClearFault."""
    tape = cell.tape
    if how == "STOP":
        os.kill(pid, signal.SIGCONT)
        # A frozen world still has its momentum: it brakes on when its time goes on.
        cell.for_(0.3 if node == WORLD else 0.0)
    else:
        cell.processes.children[node].join(2.0)
        back = cell.clock.now()
        cell.processes.start(node)
        if not cell.until(lambda: cell.beat_at[node] > back, 30.0):
            result.problems.append("the node did not come back")
            return
    seen = len(tape.truth)
    cell.for_(FROZEN)
    moved = [s for s in tape.truth[seen:] if s.fastest >= STANDS]
    if moved:
        result.problems.append(f"moved again without ClearFault: {max(s.fastest for s in moved):.2f} rad/s")
    if len(tape.truth) - seen < 20:
        result.problems.append("no truth after the node came back")


def _check_alarms(cell: Watch, node: str, how: str, result: Result) -> None:
    events = [e for e in cell.tape.events if e.t >= cell.tape.states[0].t]
    result.faults = list(dict.fromkeys(str(e.data["code"]) for e in events if e.kind == "robot.fault"))
    result.alarms = list(dict.fromkeys(str(e.data["code"]) for e in events if e.kind == "alarm.raised"))
    faults, alarms = EXPECTED["camera" if node.startswith("camera.") else node]
    if faults and not faults & set(result.faults):
        result.problems.append(f"none of the faults {', '.join(sorted(faults))} came")
    if alarms and not alarms & set(result.alarms):
        result.problems.append(f"none of the alarms {', '.join(sorted(alarms))} came")


def _check_ledger(cell: Watch, result: Result) -> None:
    """Nothing acknowledged is missing, no number is skipped, and all that was seen here is there."""
    path = cell.session.directory / "events.sqlite"
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    gaps = db.execute("SELECT source, first, last FROM gaps").fetchall()
    kept = set(db.execute("SELECT source, boot, seq FROM events"))
    db.close()
    if gaps:
        result.problems.append(f"the ledger has gaps: {gaps[:3]}")
    newest: dict[str, int] = {}
    for event in cell.tape.events:
        newest[event.source] = max(newest.get(event.source, 0), event.boot)
    for event in cell.tape.events:
        told = event.boot != newest[event.source] or event.seq <= cell.tape.acknowledged.get(event.source, 0)
        if told and (event.source, event.boot, event.seq) not in kept:
            result.problems.append(f"the ledger lacks event {event.seq} of {event.source}")
            return


def nodes_of(perception: str) -> list[str]:
    """The nodes that are struck."""
    cameras = ["camera.front"] if perception == "rendered" else []
    return [SUPERVISOR, *cameras, PERCEPTION, CONTROLLER, ARM, WORLD]


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--perception", choices=("surface", "rendered"), default="surface")
    parser.add_argument("--node", action="append", default=[])
    parser.add_argument("--signal", action="append", default=[], choices=("KILL", "STOP"))
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory(prefix="kill") as folder:
        for node in given.node or nodes_of(given.perception):
            for how in given.signal or ("KILL", "STOP"):
                results.append(run_case(node, how, given.perception, Path(folder) / f"{node}-{how}"))
                print(results[-1].line(), flush=True)
    if given.markdown is not None:
        given.markdown.write_text("\n".join(r.row() for r in results) + "\n")
    return 1 if any(r.problems for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
