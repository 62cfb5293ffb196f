"""Pace of the makers' clients with the whole cell live: commands a second over a minute, and how late the node was.

    python -m tests.benchmarks.bench_rates --driver franka|ur [--seconds 60] [--ordinary]

The arm is a maker's simulator or an emulator on this machine, beside all nodes of the cell: a share of what is measured
is theirs. Asked: franka 750 Hz, ur 400 Hz, sustained for 60 s.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import re
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cell.bus.messages import Heartbeat
from cell.bus.ports import Subscriber
from cell.bus.zeromq import ZmqPorts
from cell.clock import RealClock
from cell.heartbeat import topic as heartbeat_topic
from cell.launch import Processes, run_directory, start_nodes
from cell.ledger import read_ledger
from cell.operator import Operator
from cell.options import RunOptions
from cell.session import OPERATOR, new_session
from sim.franka_server import FrankaServer, NotInstalled
from sim.ur_sim import UrProcess
from tests.integration.test_kitting_drivers import cell_with
from tests.integration.test_kitting_real_time import ur_block

ASKED = {"franka": 750.0, "ur": 400.0}
"""Hz."""
SETTLE = 12.0
"""The first account after so long begins the measurement, s."""


def arm_of(driver: str) -> FrankaServer | UrProcess:
    """The simulated arm. Raises NotInstalled."""
    return FrankaServer() if driver == "franka" else UrProcess()


def franka_block(address: str) -> dict[str, Any]:
    """A Franka Research 3 whose fingers are the twin's."""
    options = {"address": address, "realtime": "ignore", "watchdog": 0.3, "gripper": False, "drive_delay": 0.06}
    return {"driver": "franka", "model": "fr3", "gripper": {"driver": "twin"}, "options": options}


def block(driver: str, address: str) -> dict[str, Any]:
    """The robot block of the cell file; the node of a UR arm runs at the pace of its controller."""
    found = franka_block(address) if driver == "franka" else {**ur_block(address), "rate_hz": 500}
    return {**found, "state_timeout": 0.15}


def measure(driver: str, seconds: float) -> dict[str, float | str]:
    """Run the cell, standing, for so long; return what driver and node counted."""
    with closing(arm_of(driver)) as arm, tempfile.TemporaryDirectory(prefix="rates") as name:
        folder = Path(name)
        cell = cell_with(folder, block(driver, arm.address), {}, drive_delay=0.06)
        options = RunOptions(None, cell=cell, runs=folder, mode="live", perception="surface", shadow=True)
        session = new_session(options, run_directory(folder))
        with Processes(session) as processes:
            with closing(ZmqPorts(OPERATOR, session.addresses)) as ports:
                start_nodes(session, processes, ports, RealClock())
                beats = ports.subscriber(heartbeat_topic("arm"), Heartbeat)
                late = attend(Operator(ports, "bench", True), beats, SETTLE + seconds + 11.0)
        rows = [r.event for r in read_ledger(session.directory / "events.sqlite") if r.event.kind == "robot.drives"]
        log = processes.log("arm").read_text()
    return {"driver": driver, **paces([(row.t, row.data) for row in rows], seconds), **kept(log), **lateness(late)}


def attend(operator: Operator, beats: Subscriber[Heartbeat], seconds: float) -> list[float]:
    """A person clears what was latched while the nodes started; nothing is run. Returns the latest step of the robot
    node in each beat of 0.1 s after SETTLE, s."""
    clock, late = RealClock(), []
    begun = clock.now()
    while (now := clock.now()) < begun + seconds:
        operator.step(now)
        beat = beats.take()
        if beat is not None and now > begun + SETTLE:
            late.append(beat.body.lateness)
        time.sleep(0.05)
    return late


def lateness(late: list[float]) -> dict[str, float]:
    """Of the latest steps of all beats, ms."""
    found = sorted(1e3 * value for value in late)
    return {
        "node_late_p50_ms": round(statistics.median(found), 2),
        "node_late_p99_ms": round(found[int(0.99 * (len(found) - 1))], 2),
    }


def without_real_time() -> None:
    """From now on no process that is started here may ask for real-time scheduling. Raises OSError."""
    PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the capability cannot be given up")


def paces(accounts: list[tuple[float, dict[str, float]]], seconds: float) -> dict[str, float]:
    """Commands a second between the first account after SETTLE and the last, and the slowest ten seconds."""
    begun = accounts[0][0]
    used = [(t, a) for t, a in accounts if t >= begun + SETTLE - 3.0]
    done = [(t, a["commands"] if "commands" in a else a["cycles"] - a["missed"]) for t, a in used]
    steps = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(done)]
    (t0, n0), (t1, n1) = done[0], done[-1]
    found = {
        "hz": round((n1 - n0) / (t1 - t0), 1),
        "slowest_10_s_hz": round(min(steps), 1),
        "seconds": round(t1 - t0, 1),
    }
    if "missed" in used[-1][1]:
        found["missed"] = used[-1][1]["missed"] - used[0][1]["missed"]
    return found


def kept(log: str) -> dict[str, float | str]:
    """What the node's log says of its own pace."""
    account = re.search(r"(\d+) steps of .*?, (\d+) took longer.*?longest ([\d.]+) ms, latest ([\d.]+) ms", log)
    how = re.search(r"node arm: (.*)", log)
    found: dict[str, float | str] = {"scheduling": how[1] if how else "?"}
    if account:
        found |= {
            "node_steps": int(account[1]),
            "node_longer_than_a_tick": int(account[2]),
            "latest_ms": float(account[4]),
        }
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("driver", ["franka", "ur"])
def test_pace_of_the_makers_client(driver: str) -> None:
    try:
        found = measure(driver, 60.0)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    print(found)
    assert float(found["hz"]) >= ASKED[driver]


def main() -> None:
    """By hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=sorted(ASKED), required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ordinary", action="store_true", help="without real-time scheduling (as root on Linux)")
    args = parser.parse_args()
    if args.ordinary:
        without_real_time()
    for key, value in measure(args.driver, args.seconds).items():
        print(f"{key:>26}  {value}")


if __name__ == "__main__":
    main()
