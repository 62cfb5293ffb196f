"""Starts a cell: all nodes in one process on simulated time (lock-step), or one process a node in real time (live)."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

from cell.bus.inprocess import Hub
from cell.bus.messages import Heartbeat
from cell.bus.ports import BusError, Node, Ports, Publisher
from cell.bus.zeromq import ZmqPorts
from cell.clock import Clock, RealClock, SimulatedClock
from cell.heartbeat import in_real_time
from cell.heartbeat import topic as heartbeat_topic
from cell.hosted import HostedNode
from cell.loading import Loader
from cell.lockstep import TICK, Lockstep, Paced
from cell.nodes import build
from cell.observer import Observer
from cell.operator import Operator
from cell.options import RunOptions
from cell.process import PRIORITY, preload, run_node, warm_up
from cell.referee import RefereeView
from cell.session import (
    LEDGER,
    OPERATOR,
    PENDANT,
    RECORDER,
    RUN_PREFIX,
    SKELETONS,
    WORLD,
    Session,
    SessionError,
    new_session,
    save_session,
)
from perception.cameras.ring import clear_away, ring_folder
from safety.contract import SECOND

VISITOR = "visitor"
SHOW_EVERY = 0.1
"""Time between two updates of the display, wall s."""
END_AFTER = 0.5
"""A run goes on so long after its end, s, so that the last events are recorded."""
HOSTED = {SECOND: (1, 2, False), RECORDER: (10, 2, True), LEDGER: (1, 1, False), SKELETONS: (1, 2, True)}
"""Nodes that have a process of their own in lock-step runs too: how many steps they get at once, and how many of these
later they have answered. The second channel's lease comes two periods after its inputs: as long as plain numpy takes
for a full picture, and its own period. Skeletons come 0.16 s after their pictures."""
REFEREE_TIME = 10.0
"""A run goes on for at most so long after that, s, until the referee has seen all of it."""
START_UP = 60.0
"""Longest time until all node processes must beat, s."""


class Progress(NamedTuple):
    """What the display gets."""

    now: float
    wall: float
    observer: Observer
    operator: Operator


class RunResult(NamedTuple):
    """What is left of a run, for summary and report."""

    session: Session
    observer: Observer
    operator: Operator
    referee: RefereeView
    sim_s: float
    wall_s: float
    outcome: str


Show = Callable[[Progress], None]
Visit = Callable[[Ports], Callable[[float], None]]
"""Connects somebody who looks on; returns what is told the time, s, after each step."""


def run_directory(runs: Path) -> Path:
    """Make and return a new folder for one run: runs/2026-11-22_14-03-55."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for n in range(100):
        path = runs / (stamp if n == 0 else f"{stamp}_{n}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise SessionError(f"no free folder name in {runs}")


def run_lockstep(
    options: RunOptions, show: Show | None = None, session: Session | None = None, visit: Visit | None = None
) -> RunResult:
    """Run a recipe on simulated time, in a new session unless one is given. `visit`: looks on, told the time after each
    step. Raises FileErrors, SessionError, BusError before anything moves."""
    with in_real_time(PRIORITY["arm"]) if options.paced else nullcontext():
        return _run_lockstep(options, show, session, visit)


def _run_lockstep(options: RunOptions, show: Show | None, session: Session | None, visit: Visit | None) -> RunResult:
    begun = time.perf_counter()
    session = session or new_session(options, run_directory(options.runs), attended=True)
    machine = RealClock(options.slow_motion)
    clock, hub = SimulatedClock(machine.now() if options.paced else 0.0), Hub()
    nodes = stepped_nodes(session, hub, clock)
    if options.paced:
        for node, _ in nodes:
            if not isinstance(node, HostedNode):
                warm_up(node)
        loop: Lockstep = Paced(nodes, clock, machine, machine.slower)
    else:
        loop = Lockstep(nodes, clock)
    ports = hub.ports(OPERATOR)
    operator = Operator(ports, "operator", options.confirm_clear, WORLD in session.node_names, session=OPERATOR)
    observer, referee = Observer(ports), RefereeView(ports)
    look = visit(hub.ports(VISITOR)) if visit is not None else None

    def step() -> float:
        now = loop.step()
        if look is not None:
            look(now)
        return now

    # What was loaded stays to the end: looking through it again and again for garbage costs several percent of a run.
    gc.collect()
    gc.freeze()
    try:
        now = _drive(step, options, operator, observer, referee, show, begun)
    finally:
        gc.unfreeze()
        loop.close()
    outcome = operator.outcome or "time limit"
    return RunResult(session, observer, operator, referee, now, time.perf_counter() - begun, outcome)


def stepped_nodes(
    session: Session, hub: Hub, clock: SimulatedClock, helper: Loader | None = None
) -> list[tuple[Node, Publisher[Heartbeat]]]:
    """Build all nodes of a lock-step session in the order in which they step, each with where its heartbeats go.

    `helper`: analyses recipes that people load. Raises SessionError, FileErrors, BusError.
    """
    nodes: list[tuple[Node, Publisher[Heartbeat]]] = []
    # First of all, so that they begin while the others are built here.
    hosted = {name: _hosted(name, session, hub) for name in HOSTED if name in session.node_names}
    for name in session.node_names:
        ports = hub.ports(name)
        node: Node = hosted[name] if name in hosted else build(name, session, ports, clock, helper=helper)
        nodes.append((node, ports.publisher(heartbeat_topic(name), Heartbeat)))
    for guest in hosted.values():
        guest.open()
    return nodes


def _hosted(name: str, session: Session, hub: Hub) -> HostedNode:
    return HostedNode(name, hub, lambda ports, clock: build(name, session, ports, clock), *HOSTED[name])


def _drive(
    step: Callable[[], float],
    options: RunOptions,
    operator: Operator,
    observer: Observer,
    referee: RefereeView,
    show: Show | None,
    begun: float,
) -> float:
    """Step until the operator says it is over, or time is up; return the time on the cell's clock since the start."""
    first = step()
    now, shown, over = first, 0.0, float("inf")
    while not _ended(now, min(over, first + options.time_limit), referee):
        operator.step(now)
        observer.step(now)
        referee.step()
        if operator.outcome and over == float("inf"):
            over = now + END_AFTER
        wall = time.perf_counter() - begun
        if show is not None and wall - shown >= SHOW_EVERY:
            shown = wall
            show(Progress(now - first, wall, observer, operator))
        now = step()
    return now - first


def _ended(now: float, end: float, referee: RefereeView) -> bool:
    """The end has come, and the referee has seen what led to it or is given up."""
    if now < end:
        return False
    referee.unjudged = referee.missing(end - END_AFTER)
    return referee.unjudged == 0.0 or now >= end + REFEREE_TIME


class Processes:
    """The node processes of a live session; a context manager that leaves none behind.

    They are forked from a server that has imported everything once: seven interpreters that each import the numerical
    libraries take half a minute on two cores.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._file = save_session(session)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(preload(session))
        self.children: dict[str, ForkServerProcess] = {}

    def __enter__(self) -> Processes:
        (self._session.directory / "logs").mkdir(exist_ok=True)
        # What cells that were killed left in the memory would stay there until the next start of the machine.
        clear_away(ring_folder(self._session.file.bus).parent, RUN_PREFIX, time.time())
        return self

    def log(self, name: str) -> Path:
        """Where a node's output goes."""
        return self._session.directory / "logs" / f"{name}.log"

    def start(self, name: str) -> None:
        """Start (again) one node."""
        child = self._context.Process(target=run_node, args=(name, str(self._file), str(self.log(name))), name=name)
        child.start()
        self.children[name] = child

    def ended(self) -> dict[str, int]:
        """Names and exit codes of nodes that are no longer running."""
        return {name: child.exitcode for name, child in self.children.items() if child.exitcode is not None}

    def log_tail(self, name: str, lines: int = 5) -> str:
        """Last lines of a node's log."""
        path = self.log(name)
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def __exit__(self, *_: object) -> None:
        # Observers end last, so that they record how the others ended.
        for name in (PENDANT, *self._session.node_names):
            child = self.children.get(name)
            if child is not None and child.pid is not None and child.exitcode is None:
                os.kill(child.pid, signal.SIGCONT)
                child.terminate()
        deadline = time.monotonic() + 5.0
        for child in self.children.values():
            child.join(max(0.1, deadline - time.monotonic()))
            if child.exitcode is None:
                child.kill()
                child.join()
        for folder in (ring_folder(self._session.file.bus), Path(self._session.file.bus)):
            shutil.rmtree(folder, ignore_errors=True)


def start_nodes(session: Session, processes: Processes, ports: ZmqPorts, clock: Clock) -> None:
    """Start all nodes, the world first: the arm's drives must be there before the node that reads them."""
    world = [name for name in session.node_names if name == WORLD]
    rest = [name for name in session.node_names if name != WORLD]
    for group in (world, rest):
        for name in group:
            processes.start(name)
        # What only labels keeps nobody waiting; that it is missing is an alarm.
        await_nodes([name for name in group if name != SKELETONS], processes, ports, clock)


def await_nodes(names: list[str], processes: Processes, ports: ZmqPorts, clock: Clock) -> None:
    """Wait for a heartbeat of every node. Raises SessionError naming the node that gave none and its log."""
    beats = {name: ports.subscriber(heartbeat_topic(name), Heartbeat) for name in names}
    waiting = set(beats)
    deadline = clock.now() + START_UP
    while waiting:
        waiting -= {name for name in waiting if beats[name].take() is not None}
        for name, code in processes.ended().items():
            if name == SKELETONS:
                continue
            raise SessionError(f"node {name} ended with code {code} while starting:\n{processes.log_tail(name)}")
        if clock.now() > deadline:
            raise SessionError(f"no sign of life from {', '.join(sorted(waiting))} after {START_UP:.0f} s")
        time.sleep(0.01)


def run_live(options: RunOptions, show: Show | None = None) -> RunResult:
    """Run a recipe in real time with one process a node."""
    begun = time.perf_counter()
    session = new_session(options, run_directory(options.runs), attended=True)
    clock = RealClock()
    with Processes(session) as processes:
        ports = ZmqPorts(OPERATOR, session.addresses)
        try:
            start_nodes(session, processes, ports, clock)
            operator = Operator(ports, "operator", options.confirm_clear, WORLD in session.node_names)
            observer, referee = Observer(ports), RefereeView(ports)

            def step() -> float:
                time.sleep(TICK)
                return clock.now()

            now = _drive(step, options, operator, observer, referee, show, begun)
        finally:
            ports.close()
    outcome = operator.outcome or "time limit"
    return RunResult(session, observer, operator, referee, now, time.perf_counter() - begun, outcome)


def up(options: RunOptions, announce: Callable[[str], None] = print) -> None:
    """Start all nodes and the pendant, and keep them until Ctrl-C.

    A node that ends by itself is reported, not restarted: what it held is a person's to look at. The pendant decides
    nothing, so it is started again. Raises FileErrors, SessionError, BusError before anything has started.
    """
    from cell.pendant.place import first_password, pendant_of

    pendant = pendant_of(options)
    # With a pendant, people of a simulated world wait until somebody starts the recipe there.
    attended = pendant is not None
    session = new_session(replace(options, mode="live"), run_directory(options.runs), attended, pendant)
    with Processes(session) as processes:
        ports = ZmqPorts(OPERATOR, session.addresses)
        try:
            start_nodes(session, processes, ports, RealClock())
            announce(
                f"The cell is up: {len(session.node_names)} nodes, run folder {session.directory}. Ctrl-C ends it."
            )
            keeper = None
            if pendant is not None:
                password = first_password(Path(pendant.data))
                if password:
                    # At once: it exists nowhere else, whatever happens next.
                    announce(f"First start: log in as admin with the password {password} (shown only now; change it).")
                processes.start(PENDANT)
                keeper = PendantKeeper(processes, ports)
                await_nodes([PENDANT], processes, ports, RealClock())
                announce(f"Pendant: http://127.0.0.1:{pendant.port}")
            told: set[str] = set()
            while True:
                for name, code in processes.ended().items():
                    if name == PENDANT and keeper is not None:
                        keeper.revive(code, announce)
                    elif name not in told:
                        told.add(name)
                        announce(f"node {name} ended with code {code}: {processes.log_tail(name, 1)}")
                ports.refresh()
                time.sleep(0.2)
        except KeyboardInterrupt:
            announce("ending ...")
        finally:
            ports.close()


class PendantKeeper:
    """Starts a pendant that has ended again, ever more rarely if it does not stay, and says so to the ledger."""

    def __init__(self, processes: Processes, ports: ZmqPorts) -> None:
        self._processes = processes
        self._events = ports.event_source()
        self._again = 0.0
        self._wait = 0.5

    def revive(self, code: int, announce: Callable[[str], None]) -> None:
        """Called while it is down; starts it when it is time."""
        now = time.monotonic()
        if self._again == 0.0:
            tail = self._processes.log_tail(PENDANT, 1)
            announce(f"the pendant ended with code {code} and is started again: {tail}")
            self._events.emit("pendant.ended", now, code=code, text=tail)
            self._again, self._wait = now + self._wait, min(2.0 * self._wait, 30.0)
        elif now >= self._again:
            self._again = 0.0
            self._processes.start(PENDANT)
            self._events.emit("pendant.restarted", now)


__all__ = ["BusError", "Processes", "Progress", "RunResult", "run_live", "run_lockstep", "up"]
