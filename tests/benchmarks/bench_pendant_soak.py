"""Eight hours of the pendant in a fraction of the time: every telemetry message of a shift, through server and page.

The cell's clock advances by 40 ms a message, as fast as server and page go, and waits for the page every few messages;
counted is what the page has received. Memory of the server's process and of the page's heap after garbage collection
are sampled. Printed, not judged.

Run: python -m tests.benchmarks.bench_pendant_soak [--messages 720000] [--page run]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.bench_pendant import free_port

SHIFT = 720_000
"""Messages at 25 Hz in eight hours."""
PERIOD = 0.04
AHEAD = 400
"""So many messages may be made before the page is asked how far it is."""
POINTS = 300
"""Points of a person who stands near."""
COUNT = """() => {
  window.received = 0;
  const Real = WebSocket;
  window.WebSocket = class extends Real {
    constructor(...a) {
      super(...a);
      if (this.url.includes('/telemetry')) this.addEventListener('message', () => { window.received++; });
    }
  };
}"""


def serve(port: int, folder: str, pipe: Connection) -> None:
    """Serve; the pipe says up to which message the cell may go, and is answered with how far it is."""
    asyncio.run(_serve(port, Path(folder), pipe))


async def _serve(port: int, folder: Path, pipe: Connection) -> None:
    import msgspec
    import uvicorn

    from cell.pendant.app import create_app
    from cell.pendant.logins import Logins
    from perception.contract import Observation
    from tests.pendant.harness import Site

    site = Site(folder)
    site.run(0.5)
    site.pendant.pump.clients = 0
    bench, pendant = site.bench, site.pendant
    robot, status = bench.robot, bench.status
    assert robot is not None and status is not None
    # Somebody looks on for the whole shift and touches nothing.
    pendant.logins = Logins(math.inf)
    config = uvicorn.Config(
        create_app(pendant, pump=False), host="127.0.0.1", port=port, log_level="error", ws_per_message_deflate=False,
        ws_ping_interval=None,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve())
    balls = np.random.default_rng(1).uniform(-1, 1, (POINTS, 4)).astype("<f4")
    balls[:, 3] = 0.1
    cloud = balls.tobytes()
    made = allowed = 0
    while True:
        while pipe.poll():
            allowed = pipe.recv()
            pipe.send(made)
        if allowed < 0:
            break
        if made < allowed and pendant.pump.clients:
            made += 1
            now = bench.now = bench.now + PERIOD
            moved = [v + 0.1 * math.sin(now + k) for k, v in enumerate(robot.q)]
            bench.arm._state.send(msgspec.structs.replace(robot, q=moved, seq=made, t=now), now)
            bench.supervisor.limit = 0.15 if made % 500 < 200 else 1.0
            bench.supervisor.step(now)
            bench.supervisor._observation.send(Observation(made, now, now, cloud, 200, True, "", [], [], True), now)
            if made % 3 == 0:
                # A batch a minute, with a visitor in it.
                phase = made % 1500
                state = "Execute" if phase < 1400 else "Complete" if phase < 1450 else "Idle"
                shown = msgspec.structs.replace(status, t=now, step=made // 50 % 13, state=state)
                bench.node._status.send(shown, now)
            pendant.pump.step()
            # The stream wakes, builds its message and hands it over before the next one is made.
            for _ in range(4):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(0.0005)
        if made % 16 == 0:
            await asyncio.sleep(0.0002)
    server.should_exit = True
    await task


def soak(messages: int, where: str, samples: int = 24) -> list[tuple[int, float, float]]:
    """Return messages received, server's memory and page's heap, MB, over the shift."""
    import psutil

    from tests.pendant.browser import Watched, started
    from tests.pendant.harness import NAMES, PASSWORD

    context = multiprocessing.get_context("spawn")
    port = free_port()
    rows: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        here, there = context.Pipe()
        child = context.Process(target=serve, args=(port, folder, there), daemon=True)
        child.start()
        process = psutil.Process(child.pid)
        here.send(400)
        here.recv()
        with started() as browser, Watched(browser, f"http://127.0.0.1:{port}") as watched:
            page = watched.page
            page.add_init_script(f"({COUNT})()")
            page.goto(watched.url)
            page.get_by_label("Name").fill(NAMES["viewer"])
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            page.locator("[data-state]:not([data-state=''])").wait_for()
            page.goto(f"{watched.url}/#/{where}")
            cdp: Any = watched.context.new_cdp_session(page)
            cdp.send("HeapProfiler.enable")
            began = time.monotonic()
            received = made = 0
            while received < messages:
                received = int(page.evaluate("() => window.received"))
                here.send(made + AHEAD)
                made = int(here.recv())
                if received >= len(rows) * messages / samples:
                    cdp.send("HeapProfiler.collectGarbage")
                    heap = cdp.send("Runtime.getHeapUsage")["usedSize"] / 1e6
                    rows.append((received, process.memory_info().rss / 1e6, heap))
                    hours = received * PERIOD / 3600
                    print(
                        f"{hours:5.2f} h  {received:7d} messages  server {rows[-1][1]:.1f} MB  page {heap:.2f} MB  "
                        f"({time.monotonic() - began:.0f} s)",
                        flush=True,
                    )
        here.send(-1)
        child.join(5.0)
        child.kill()
    return rows


def main() -> None:
    """Run once and print the slopes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--messages", type=int, default=SHIFT)
    arguments.add_argument("--page", default="run", choices=["run", "watch", "teach", "alarms"])
    given = arguments.parse_args()
    rows = soak(given.messages, given.page)
    table = np.array(rows[len(rows) // 4 :])
    hours = table[:, 0] * PERIOD / 3600
    for name, column in (("server", 1), ("page", 2)):
        slope, first = np.polyfit(hours, table[:, column], 1)
        print(f"{name}: {first:.1f} MB {slope:+.3f} MB/h after the first quarter")


if __name__ == "__main__":
    main()
