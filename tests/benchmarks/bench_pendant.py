"""What the pendant costs: processor time of its process, kB/s and delay per client, with a cloud of 5,000 points; how
soon a browser shows motion, and how soon it lets go.

The server runs in a process of its own, on an in-process bus with made-up states at the rates of a live cell; clients
run here. Printed, not judged; the accepted figures are 6 % of a core with one client, 18 % with four, 800 kB/s, 60 ms;
2.5 s to the first motion; 50 ms from the end of a press to its stop.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
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
    site.pendant.pump.clients = 0
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
            rate = 0.5 + 0.5 * math.sin(3.0 * now)
            bench.arm._state.send(msgspec.structs.replace(robot, q=moved, rate=rate, seq=seq, t=now), now)
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


class Moving:
    """The server of `serve` in a process of its own until the block ends."""

    def __enter__(self) -> str:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        port = free_port()
        self._pipe, there = context.Pipe()
        self._child = context.Process(target=serve, args=(port, self._folder.name, there), daemon=True)
        self._child.start()
        self._pipe.recv()
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._pipe.send("end")
        self._child.join(5.0)
        self._child.kill()
        self._folder.cleanup()


NOTE_FIRSTS = """() => {
  const firsts = window.firsts = {}, note = name => { firsts[name] ??= performance.now(); };
  const draw = WebGL2RenderingContext.prototype.drawElements;
  WebGL2RenderingContext.prototype.drawElements = function (...a) { note('drawn'); return draw.apply(this, a); };
  let shown = null;
  const look = () => {
    const value = document.querySelector('[data-testid=rate] strong')?.innerText ?? '';
    if (/\\d/.test(value)) {
      note('values');
      if (shown !== null && value !== shown) note('moved');
      shown = value;
    }
    if (!('moved' in firsts)) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


def test_first_motion() -> None:
    """A fresh browser context with a login opens the page as it comes up, and the one with the 3D view: times from the
    start of navigation to the first values, the first 3D frame drawn, the first value that has changed."""
    from tests.pendant.browser import LANDSCAPE, started
    from tests.pendant.harness import NAMES, PASSWORD

    firsts: dict[str, list[dict[str, float]]] = {"run": [], "watch": []}
    with Moving() as url, started() as browser:
        for where in ("run", "watch") * 6:
            context = browser.new_context(viewport=LANDSCAPE)
            body = {"name": NAMES["viewer"], "password": PASSWORD}
            assert context.request.post(f"{url}/api/v1/session", data=body, headers={"origin": url}).ok
            page = context.new_page()
            page.add_init_script(f"({NOTE_FIRSTS})()")
            page.goto(f"{url}/#/{where}")
            page.wait_for_function("() => 'moved' in window.firsts", timeout=60_000)
            firsts[where].append(page.evaluate("() => window.firsts"))
            context.close()
    for where, names in (("run", ("values", "moved")), ("watch", ("values", "drawn", "moved"))):
        for name in names:
            times = sorted(one.get(name, math.inf) for one in firsts[where])
            middle, worst = times[len(times) // 2], times[-1]
            print(f"\npage {where}: first load to {name}: median {middle:.0f} ms, worst {worst:.0f} ms", end="")


RELEASES = """async ([names, kind, n]) => {
  const send = WebSocket.prototype.send, sent = [], waits = [];
  WebSocket.prototype.send = function (data) {
    if (this.url.endsWith('/jog')) sent.push({at: performance.now(), stop: String(data).includes('stop')});
    return send.call(this, data);
  };
  const buttons = names.map(name => document.querySelector(`button[aria-label='${name}']`));
  for (const b of buttons) b.setPointerCapture = () => {};
  const pause = ms => new Promise(r => setTimeout(r, ms));
  const make = type => new PointerEvent(type, {pointerId: 1, button: 0, clientX: -5, bubbles: true});
  for (let i = 0; i < n; i++) {
    // To and fro: the arm stays where it is.
    const b = buttons[i % 2];
    sent.length = 0;
    b.dispatchEvent(make('pointerdown'));
    await pause(100 + 7 * (i % 18 >> 1));
    // Posted as another task, as input is: what the page is busy with then is part of the time.
    const began = performance.now();
    await new Promise(done => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        if (kind === 'blur') window.dispatchEvent(new Event('blur')); else b.dispatchEvent(make(kind));
        done();
      };
      channel.port2.postMessage(0);
    });
    // A press that had been dropped before, for old data or a page that hung, has no release to time.
    if (!sent.some(m => m.stop && m.at < began)) {
      const stop = sent.find(m => m.stop);
      waits.push(stop ? stop.at - began : 1e9);
    }
    b.dispatchEvent(make('pointerup'));
    await pause(30);
  }
  WebSocket.prototype.send = send;
  return waits;
}"""


def test_releases(tmp_path: Path) -> None:
    """From the end of a press to the stop that leaves the page, and to the arm's last motion, with the real pendant."""
    from tests.pendant.browser import Watched, started
    from tests.pendant.served import Served
    from tests.pendant.test_page_dropped import PLUS, hold, to_teach

    with Served(tmp_path) as served, started() as browser, Watched(browser, served.url) as watched:
        page = to_teach(watched, served)
        for kind in ("pointerup", "pointermove", "blur"):
            waits = page.evaluate(RELEASES, [[PLUS, PLUS.replace("plus", "minus")], kind, 60])
            p50, p95 = np.quantile(waits, [0.5, 0.95])
            print(
                f"\n{kind}: stop sent after p50 {p50:.2f} ms, p95 {p95:.2f} ms, worst {max(waits):.2f} of {len(waits)}",
                end="",
            )
        stands = []
        for _ in range(20):
            hold(page, served)
            began = served.bench.now
            page.mouse.up()
            served.pass_time(0.5)
            stands.append(1e3 * max(0.0, served.moved_at - began))
        p50, p95 = np.quantile(stands, [0.5, 0.95])
        print(f"\nmouse up (as the driver of the browser is told) to standstill: p50 {p50:.0f} ms, p95 {p95:.0f} ms")


def follow(url: str, seconds: float, clients: int) -> None:
    """So many clients for a while; for a process of its own that takes only what time others leave."""
    from cell.pendant.client import Client
    from tests.pendant.harness import PASSWORD

    os.nice(10)

    async def watch() -> None:
        group = [Client(url) for _ in range(clients)]
        for client in group:
            await client.login("Viewer", PASSWORD)
            await client.watch()
        await asyncio.sleep(seconds)
        assert all(client.messages > 10 * seconds for client in group), "all of them are served"
        for client in group:
            await client.close()

    asyncio.run(watch())


def test_lateness_of_the_loops(tmp_path: Path) -> None:
    """A live cell, one process a node, with nobody and with four pendants in turn: how late the loops are."""
    from cell.bus.messages import Heartbeat
    from cell.bus.zeromq import ZmqPorts
    from cell.clock import RealClock
    from cell.heartbeat import topic
    from cell.launch import Processes, await_nodes, run_directory, start_nodes
    from cell.options import RunOptions
    from cell.pendant.accounts import Accounts
    from cell.pendant.place import pendant_of
    from cell.session import OPERATOR, PENDANT, new_session
    from tests.pendant.harness import PASSWORD

    port, part, rounds = free_port(), 12.0, 4
    options = RunOptions(
        recipe=None, runs=tmp_path / "runs", scenario="visit", perception="surface", mode="live", pendant_port=port
    )
    place = pendant_of(options)
    assert place is not None
    Accounts(Path(place.data)).create("Viewer", "viewer", PASSWORD)
    session = new_session(options, run_directory(options.runs), True, place)
    late: dict[tuple[str, int], list[float]] = {}
    with Processes(session) as processes:
        ports = ZmqPorts(OPERATOR, session.addresses)
        try:
            start_nodes(session, processes, ports, RealClock())
            processes.start(PENDANT)
            await_nodes([PENDANT], processes, ports, RealClock())
            beats = {name: ports.subscriber(topic(name), Heartbeat) for name in ("arm", "supervisor", "controller")}
            for clients in (0, 4) * rounds:
                fan = multiprocessing.get_context("spawn").Process(
                    target=follow, args=(f"http://127.0.0.1:{port}", part, clients), daemon=True
                )
                if clients:
                    fan.start()
                    time.sleep(5.0)
                end = time.monotonic() + part - 3.0
                while time.monotonic() < end:
                    for name, beat in beats.items():
                        if (message := beat.take()) is not None:
                            late.setdefault((name, clients), []).append(1e3 * message.body.lateness)
                    time.sleep(0.02)
                if clients:
                    fan.join()
                    assert fan.exitcode == 0
        finally:
            ports.close()
    for name in beats:
        without, four = (np.quantile(late[name, clients], [0.5, 0.99]) for clients in (0, 4))
        print(
            f"\n{name}: latest step of each 0.1 s: p50 {without[0]:.2f} ms, p99 {without[1]:.2f} ms without a pendant; "
            f"p50 {four[0]:.2f} ms, p99 {four[1]:.2f} ms with four (ratio of p99 {four[1] / without[1]:.2f}, "
            f"{len(late[name, 0])} and {len(late[name, 4])} values)",
            end="",
        )


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
