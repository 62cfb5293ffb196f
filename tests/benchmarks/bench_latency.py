"""Frame complete -> rate applied, live: real processes, cameras whose pictures are there beforehand, a 500 Hz tick.

Run: python -m tests.benchmarks.bench_latency [--cameras 1 --rate 90] [--seconds 15]
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML

from cell.bus.zeromq import ZmqPorts
from cell.clock import RealClock
from cell.commands.detection import bench_cameras
from cell.config import default_cell, load_cell
from cell.launch import Processes, run_directory, start_nodes
from cell.operator import Operator
from cell.options import RunOptions
from cell.session import OPERATOR, entry_point, new_session
from perception.contract import TOPIC_OBSERVATION, Observation
from perception.detection import Place
from robots.contract import RobotState, SpeedLease, topic_lease, topic_state
from safety.contract import SUPERVISOR, SafetyStatus
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY

LATENCY = 0.015
"""Exposure to complete frame, as of a camera, s."""
PICTURES = 6
WHERE = (2.45, 0.6, 0.0)
"""Where somebody stands: seen, and far enough that the arm moves."""
MOUNTS = (
    {"position": [-0.94, -1.42, 1.94], "look_at": [1.12, -0.41, 0.45]},
    {"position": [2.05, -1.35, 1.56], "look_at": [0.18, -0.66, 0.1]},
    {"position": [2.05, 1.35, 1.56], "look_at": [0.9, 0.0, 0.1]},
    {"position": [2.3, -0.2, 1.9], "look_at": [0.9, -0.2, 0.0]},
)
RECIPE = """recipe: sweep
version: "1.0"
description: Slowly to and fro, so little that the pictures show the arm where it is.
capabilities: []
parameters: {}
operations:
  - operation: sweep
    phases:
      - {skill: move_to, params: {joints_deg: [-46, -35, 0, -135, 0, 100, 45], speed: 0.01}}
      - {skill: move_to, params: {joints_deg: [-44, -35, 0, -135, 0, 100, 45], speed: 0.01}}
"""


Said = list[tuple[float, float]]
"""When it was said and the oldest exposure it rests on, s."""


class Way(NamedTuple):
    """Of one camera frame; differences in s."""

    whole: float
    to_perception: float
    """Complete -> perception takes it: the camera's node, the ring, perception's period."""
    to_supervisor: float
    """... -> supervisor begins with it: perception's work, the bus, the supervisor's period."""
    to_tick: float
    """... -> tick of the robot node that applies it: the supervisor's work, the bus, the tick."""


def pictures(folder: Path, cameras: int) -> list[dict[str, Any]]:
    """Draw what each camera sees; return its options."""
    cell = load_cell()
    assert cell.config.world is not None
    base = bench_cameras(cell, "D435", 1, colour=False)[0][1]
    mounts = [{**mount, "roll_deg": 0.0} for mount in MOUNTS[:cameras]]
    named = [(f"c{n}", {**base, "mount": mount}) for n, mount in enumerate(mounts)]
    bench = entry_point("cell.targets", cell.config.world.driver).people(named, cell.home().tolist(), 1)
    out = []
    shots = [bench.shots("standing", Place(WHERE, (0.0, 0.0, 1.0, 0.0), 0.0), 0, seed) for seed in range(PICTURES)]
    for n, info in enumerate(bench.infos):
        path = folder / f"c{n}.npy"
        np.save(path, np.stack([shot[n].frame.depth for shot in shots]))
        out.append({"frames": str(path), "fx": info.intrinsics.fx, "noise": info.noise_coefficient, "mount": mounts[n]})
    bench.close()
    return out


def cell_file(folder: Path, cameras: int, rate: float, tick: int, issuers: list[str]) -> Path:
    """Write a cell without a world: the drives that move nothing, and ready cameras."""
    yaml = YAML(typ="safe", pure=True)
    text = yaml.load(default_cell().read_text(encoding="utf-8"))
    safety = yaml.load((default_cell().parent / text["safety"]).read_text(encoding="utf-8"))
    safety["reaction"].update(frame_period=1.0 / rate + 1e-6, tick=1.0 / tick)
    yaml.dump(safety, folder / "safety.yaml")
    del text["world"], text["scenario"]
    text["workcell"]["stock"] = []
    # One camera leaves much unseen: nobody comes in, so that the arm moves all the same.
    text["workcell"]["entries"] = []
    home = np.radians(text["robot"]["home_deg"]).tolist()
    text["safety"] = "safety.yaml"
    text["robot"].update(
        driver="null", rate_hz=tick, leases={"issuers": issuers}, options={"model": "panda", "q": home}
    )
    text["cameras"] = []
    for n, drawn in enumerate(pictures(folder, cameras)):
        mount = drawn.pop("mount")
        options = {**drawn, "rate_hz": rate, "latency": LATENCY, "phase": n / cameras / rate}
        text["cameras"].append({"name": f"c{n}", "driver": "ready", "mount": mount, "options": options})
    path = folder / "cell.yaml"
    yaml.dump(text, path)
    return path


def install(folder: Path) -> None:
    """Make the camera known by its name here and to the node processes."""
    about = folder / "plugins" / "ready_camera-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ready-camera\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[cell.cameras]\nready = tests.benchmarks.latency_camera:ReadyCamera\n")
    import sys

    sys.path.append(str(about.parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(about.parent), str(Path.cwd()), os.environ.get("PYTHONPATH", "")])


def measure(cameras: int, rate: float, tick: int, seconds: float, issuers: list[str]) -> list[Way]:
    """Run the cell and follow every frame that leads to a new permission while the arm moves."""
    with tempfile.TemporaryDirectory(prefix="lat") as name:
        folder = Path(name)
        install(folder)
        recipe = folder / "sweep.yaml"
        recipe.write_text(RECIPE, encoding="utf-8")
        cell = cell_file(folder, cameras, rate, tick, issuers)
        options = RunOptions(recipe=recipe, cell=cell, mode="live", runs=folder, batches=10_000, scenario="none")
        session = new_session(options, run_directory(folder))
        clock = RealClock()
        with Processes(session) as processes:
            ports = ZmqPorts(OPERATOR, session.addresses)
            try:
                start_nodes(session, processes, ports, clock)
                for log in sorted((session.directory / "logs").glob("*.log")):
                    print(log.stem, log.read_text().strip().splitlines()[-1:])
                return followed(ports, clock, seconds, rate)
            finally:
                ports.close()


def followed(ports: ZmqPorts, clock: RealClock, seconds: float, rate: float) -> list[Way]:
    """Collect what was said, and put it together."""
    operator = Operator(ports, "bench", True, False)
    observations = ports.follower(TOPIC_OBSERVATION, Observation)
    leases = ports.follower(topic_lease(SUPERVISOR), SpeedLease)
    states = ports.follower(topic_state(), RobotState)
    seen: Said = []
    permitted: Said = []
    applied: Said = []
    status = ports.subscriber(TOPIC_SAFETY, SafetyStatus)
    blocked = ""
    end = clock.now() + seconds
    while clock.now() < end:
        time.sleep(0.02)
        operator.step(clock.now())
        newest = status.take()
        blocked = newest.body.reason if newest is not None else blocked
        seen += [(e.sent_at, e.body.oldest_exposure) for e in observations.drain()]
        permitted += [(e.sent_at, e.body.oldest_exposure) for e in leases.drain()]
        applied += [(e.sent_at, e.sent_at - e.body.data_age) for e in states.drain() if e.body.data_age >= 0.0]
    print(
        f"{len(seen)} observations, {len(permitted)} leases, {len(applied)} ticks on one; {operator.outcome}, {blocked}"
    )
    return ways(seen, permitted, applied, rate)


def ways(
    seen: list[tuple[float, float]],
    permitted: list[tuple[float, float]],
    applied: list[tuple[float, float]],
    rate: float,
) -> list[Way]:
    """A frame renews the oldest exposure: of the same camera it is the one a frame time after that."""
    out = []
    looks, grants = iter(seen), iter(permitted)
    look, grant = next(looks, None), next(grants, None)
    for (_, old), (tick, new) in itertools.pairwise(applied):
        if not 1e-5 < new - old < 0.5:
            continue
        while look is not None and look[1] <= old + 1e-5:
            look = next(looks, None)
        while grant is not None and grant[1] <= old + 1e-5:
            grant = next(grants, None)
        if look is None or grant is None:
            break
        complete = old + 1.0 / rate + LATENCY
        out.append(Way(tick - complete, look[0] - complete, grant[0] - look[0], tick - grant[0]))
    return out


def report(what: str, found: list[Way]) -> None:
    """Print medians and 99th percentiles, ms."""
    if len(found) < 20:
        print(f"{what}: only {len(found)} frames were applied")
        return
    for field in Way._fields:
        values = sorted(1e3 * getattr(way, field) for way in found)
        p99 = values[min(len(values) - 1, int(0.99 * len(values)))]
        print(f"{what} {field:14} p50 {statistics.median(values):6.2f}  p99 {p99:6.2f} ms  ({len(values)} frames)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--rate", type=float, default=90.0)
    parser.add_argument("--tick", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--both", action="store_true", help="the second channel must permit too")
    given = parser.parse_args()
    issuers = [SUPERVISOR, *(["second_channel"] if given.both else [])]
    print(f"load {os.getloadavg()[0]:.1f} before")
    found = measure(given.cameras, given.rate, given.tick, given.seconds, issuers)
    print(f"load {os.getloadavg()[0]:.1f} after")
    report(f"{given.cameras} x {given.rate:g} Hz", found)


if __name__ == "__main__":
    main()
