"""What the pendant costs: processor time of its process, kB/s and delay per client, with a cloud of 5,000 points.

The server runs in a process of its own, on an in-process bus with made-up states at the rates of a live cell; clients
run here. Printed, not judged; the accepted figures are 6 % of a core with one client, 18 % with four, 800 kB/s, 60 ms.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np

SECONDS = 8.0
POINTS = 5000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(port: int, folder: str, pipe: Connection) -> None:
    """Serve until told to end; answers each message on the pipe with the processor time used so far, s."""
    asyncio.run(_serve(port, Path(folder), pipe))


async def _serve(port: int, folder: Path, pipe: Connection) -> None:
    import uvicorn

    from cell.clock import RealClock
    from cell.pendant.app import create_app
    from perception.contract import Observation
    from tests.pendant.harness import Site

    site = Site(folder)
    site.run(0.5)
    bench, pendant, clock = site.bench, site.pendant, RealClock()
    robot, status = bench.robot, bench.status
    assert robot is not None and status is not None
    pendant.clock = clock
    pendant.link._clock = clock
    balls = np.random.default_rng(1).uniform(-2, 2, (POINTS, 4)).astype("<f4")
    balls[:, 3] = 0.1
    cloud = balls.tobytes()
    config = uvicorn.Config(
        create_app(pendant), host="127.0.0.1", port=port, log_level="error", ws_per_message_deflate=False
    )
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve())
    seq = 0
    while not pipe.poll() or pipe.recv() != "end":
        for _ in range(25):
            seq += 1
            now = clock.now()
            moved = [v + 0.1 * math.sin(now + k) for k, v in enumerate(robot.q)]
            bench.arm._state.send(msgspec.structs.replace(robot, q=moved, seq=seq, t=now), now)
            bench.supervisor.step(now)
            bench.supervisor._observation.send(
                Observation(seq, now, now - 0.05, cloud, POINTS - 1500, True, "", [], [], True), now
            )
            if seq % 3 == 0:
                bench.node._status.send(status, now)
            await asyncio.sleep(0.04)
            if pipe.poll():
                break
        if pipe.poll() and pipe.recv() == "end":
            break
        pipe.send(time.process_time())
    server.should_exit = True
    await task


async def watch(port: int, clients: int) -> tuple[float, float, float]:
    """Return messages/s and kB/s of a client, and the 95th percentile of the delay, ms."""
    from cell.pendant.client import Client
    from tests.pendant.harness import NAMES, PASSWORD

    delays: list[float] = []
    group = [Client(f"http://127.0.0.1:{port}") for _ in range(clients)]
    for client in group:
        await client.login(NAMES["viewer"], PASSWORD)
        client.on_message = lambda message: delays.append(time.monotonic() - message["t"])
        await client.watch()
    await asyncio.sleep(0.5)
    before = [(client.messages, client.bytes) for client in group]
    delays.clear()
    await asyncio.sleep(SECONDS)
    rates = [(c.messages - m, c.bytes - b) for c, (m, b) in zip(group, before, strict=True)]
    for client in group:
        await client.close()
    messages, data = (sum(r[i] for r in rates) / clients / SECONDS for i in (0, 1))
    return messages, data / 1e3, 1e3 * float(np.quantile(delays, 0.95))


def test_load() -> None:
    context = multiprocessing.get_context("spawn")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        here, there = context.Pipe()
        child = context.Process(target=serve, args=(port, folder, there), daemon=True)
        child.start()
        here.recv()
        for clients in (0, 1, 4):
            while here.poll():
                here.recv()
            began, used = time.monotonic(), float(here.recv())
            began = time.monotonic()
            shown = asyncio.run(watch(port, clients)) if clients else (0.0, 0.0, 0.0)
            if not clients:
                time.sleep(SECONDS)
            while here.poll():
                here.recv()
            spent = float(here.recv()) - used
            took = time.monotonic() - began
            print(
                f"\n{clients} clients: {100 * spent / took:.1f} % of a core, {shown[0]:.1f} messages/s, "
                f"{shown[1]:.0f} kB/s a client, p95 delay {shown[2]:.1f} ms"
            )
        here.send("end")
        child.join(5.0)
        child.kill()


def test_memory_over_hours(tmp_path: Path) -> None:
    """The server's memory over a compressed shift: telemetry for one client, commands, charts; printed in MB."""
    import psutil

    from cell.pendant.feed import Stream
    from perception.contract import Observation
    from tests.pendant.harness import Site

    site = Site(tmp_path)
    site.run(0.5)
    feed, stream, process = site.pendant.feed, Stream(), psutil.Process()
    robot, status = site.bench.robot, site.bench.status
    assert robot is not None and status is not None
    cloud = np.random.default_rng(1).uniform(-2, 2, (POINTS, 4)).astype("<f4").tobytes()
    sizes = []
    for k in range(30_000):
        now = site.bench.now = 1.0 + 0.04 * k
        site.bench.arm._state.send(msgspec.structs.replace(robot, seq=k, t=now), now)
        site.bench.node._status.send(msgspec.structs.replace(status, step=k % 13), now)
        site.bench.supervisor.step(now)
        site.bench.supervisor._observation.send(Observation(k, now, now, cloud, 3000, True, "", [], [], True), now)
        site.pendant.step(now)
        feed.sample(now)
        stream.message(feed.values, now, feed.age(now))
        if k % 5000 == 0:
            sizes.append(process.memory_info().rss / 1e6)
    print("\n", [f"{size:.0f} MB" for size in sizes], f"after {0.04 * 30_000 / 60:.0f} min of the cell")
