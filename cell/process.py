"""One node as a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path

from cell.bus.ports import BusError, Node
from cell.session import PENDANT, Session, SessionError, load_session
from cell.yamlfile import FileErrors

PRIORITY = {
    "arm": 60,
    "supervisor": 50,
    "second_channel": 45,
    "perception": 40,
    "twin": 55,
    "controller": 35,
    "camera": 30,
}
"""SCHED_FIFO priorities where the system permits, by the first word of a node's name: the last line before the drives
comes first. A controller or a camera that is late stops the arm, so both go before what only
tells or records."""
NICE = {"skeletons": 10, PENDANT: 5}
"""What only labels or shows takes what time others leave."""
_PR_SET_PDEATHSIG = 1


def preload(session: Session) -> list[str]:
    """Modules that all node processes of a session need, or that are slow to import."""
    config = session.cell.config
    wanted = {
        "cell.robot_drivers": {config.robot.driver},
        "cell.gripper_drivers": {config.robot.gripper.driver} if config.robot.gripper is not None else set(),
        "cell.worlds": {config.world.driver} if config.world is not None else set(),
        "cell.cameras": {camera.driver for camera in config.cameras},
        "cell.point_sources": {config.world.driver} if config.world is not None else set(),
    }
    plug_ins = [e.module for group, names in wanted.items() for e in entry_points(group=group) if e.name in names]
    return ["cell.process", "cell.nodes", "cell.controller", "cell.ledger", "cell.recorder", "robots.node", *plug_ins]


def warm_up(node: Node) -> None:
    """Let a node load its compiled kernels before its clock runs: a first use in motion would cost a lease."""
    prepare = getattr(node, "warm_up", None)
    if prepare is not None:
        prepare()


def end_with_parent() -> None:
    """Have the kernel end this process when the fork server ends. That the launcher has ended each node sees for itself
    (`cell.heartbeat.launcher_lives`): the fork server outlives it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def run_node(name: str, session_file: str, log: str) -> None:
    """Run the node until SIGTERM; ends the process with 0, or with 2 if it could not start."""
    os.setsid()
    end_with_parent()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.exit(_run(name, Path(session_file)))


def _run(name: str, session_file: Path) -> int:
    from cell.heartbeat import LiveLoop, real_time_scheduling

    priority = PRIORITY.get(name.partition(".")[0])
    how = real_time_scheduling(priority) if priority is not None else "ordinary scheduling"
    if (more := NICE.get(name, 0)) > 0:
        os.nice(more)
    # Scheduling comes before the first ZeroMQ context, or its threads stay behind at ordinary priority.
    from cell.bus.zeromq import ZmqPorts
    from cell.clock import RealClock
    from cell.nodes import build, helper_of

    clock = RealClock()
    try:
        session = load_session(session_file)
        if name == PENDANT:
            from cell.pendant.server import serve

            return serve(session)
        helper = helper_of(name, session)
        ports = ZmqPorts(name, session.addresses)
        node = build(name, session, ports, clock, boot=ports.boot, helper=helper)
    except (SessionError, FileErrors, BusError) as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    warm_up(node)
    print(f"node {name}: {how}", flush=True)
    LiveLoop(node, ports, clock).run()
    ports.close()
    return 0
