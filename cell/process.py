"""One node as a process of its own: `python -m cell.process NODE SESSION_FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

PRIORITY = {"arm": 60, "supervisor": 50, "perception": 40, "twin": 55}
"""SCHED_FIFO priorities where the system permits: the last line before the drives comes first."""


def main(arguments: list[str]) -> int:
    """Run the node until SIGTERM; return the exit code."""
    name, path = arguments
    from cell.heartbeat import LiveLoop, real_time_scheduling

    how = real_time_scheduling(PRIORITY[name]) if name in PRIORITY else "ordinary scheduling"
    # Scheduling comes before the first ZeroMQ context, or its threads stay behind at ordinary priority.
    from cell.bus.ports import BusError
    from cell.bus.zeromq import ZmqPorts
    from cell.clock import RealClock
    from cell.nodes import build
    from cell.session import SessionError, load_session
    from cell.yamlfile import FileErrors

    clock = RealClock()
    try:
        session = load_session(Path(path))
        ports = ZmqPorts(name, session.addresses)
        node = build(name, session, ports, clock, boot=ports.boot)
    except (SessionError, FileErrors, BusError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"node {name}: {how}", flush=True)
    LiveLoop(node, ports, clock).run()
    ports.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
