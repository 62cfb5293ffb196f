"""What the twin costs: milliseconds per simulated second for what runs at every step, per picture for the cameras.

Run: python -m tests.benchmarks.bench_sim
"""

from __future__ import annotations

import functools
import math
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from cell.bus.inprocess import Hub
from robots.contract import Setpoint
from robots.workcell import Workcell
from sim.body import skin
from sim.camera import TwinCamera
from sim.contract import TOPIC_SCENE, Scene
from sim.drives import DriveTarget
from sim.human import people_of
from sim.robot import TwinDriver
from sim.scenario import load_scenario
from sim.surface import SurfaceSource
from sim.twin import TwinNode

DT = 0.004
CELL = Path(__file__).parents[2] / "cell/cells/demo.yaml"


def median_ms(call: Callable[[], object], count: int = 60, warm: int = 5) -> float:
    """Median duration of a call, ms."""
    for _ in range(warm):
        call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


class Lockstep:
    """The demo cell's twin with its arm swinging gently, as fast as it goes."""

    def __init__(self, demo: dict[str, Any], scenario: str) -> None:
        self.workcell = Workcell.model_validate(demo["workcell"])
        self.hub = Hub()
        self.twin = TwinNode(self.hub.ports("twin"), self.workcell, demo["robot"], {"start_people": 0.0}, scenario)
        self.driver = TwinDriver({}, 7, self.hub.ports("arm"))
        self.home = np.radians(demo["robot"]["home_deg"])
        self.t, self.seq = 0.0, 0
        self.spent: dict[str, float] = {}
        for owner, name in ((self.twin, "_physics_step"), (self.twin, "_judge"), (self.twin, "_scene")):
            setattr(owner, name, self._timed(name, getattr(owner, name)))
        self.twin._scenes.send = self._timed("_scene", self.twin._scenes.send)  # type: ignore[method-assign]

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            result = call(*args)
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return timed

    def run(self, seconds: float) -> dict[str, float]:
        """Run on; ms per simulated second of each part and of the whole twin."""
        self.spent.clear()
        whole = 0.0
        for _ in range(round(seconds / DT)):
            self.t, self.seq = self.t + DT, self.seq + 1
            start = time.perf_counter()
            self.twin.step(self.t)
            whole += time.perf_counter() - start
            self.driver.state(self.t)
            ramp = min(1.0, max(0.0, self.t - 0.5))
            swing = 0.3 * ramp * ramp * (3 - 2 * ramp)
            q = self.home.copy()
            q[0] += swing * math.sin(2 * self.t)
            dq = np.zeros(7)
            dq[0] = 2 * swing * math.cos(2 * self.t)
            self.driver.send(Setpoint(self.seq, self.t, q.tolist(), dq.tolist()))
        return {name: 1e3 * value / seconds for name, value in (self.spent | {"whole": whole}).items()}


def main() -> None:
    demo = YAML(typ="safe").load(CELL.read_text())
    rows: list[tuple[str, float, str]] = []
    start = time.perf_counter()
    bench = Lockstep(demo, "visit")
    rows.append(("twin constructed, with a person", 1e3 * (time.perf_counter() - start), "ms"))
    bench.run(1.0)
    far = bench.run(5.0)
    bench.run(4.5)
    near = bench.run(4.0)
    world = bench.twin.world
    still = DriveTarget(bench.home, np.zeros(7))
    rows.append(("Bullet alone (step of the world)", 250 * median_ms(lambda: world.step(still), 250), "ms / sim s"))
    for label, times in (("far", far), ("near", near)):
        rows.append((f"physics and drives, person {label}", times["_physics_step"], "ms / sim s"))
        rows.append((f"referee, person {label}", times["_judge"], "ms / sim s"))
        rows.append((f"scene published, person {label}", times["_scene"], "ms / sim s"))
        rows.append((f"whole twin, person {label}", times["whole"], "ms / sim s"))
    human = bench.twin.people[0]
    rows.append(("pose of a person (250 Hz)", 250 * median_ms(lambda: human.bones(3.3), 300), "ms / sim s"))
    bones = human.bones(12.0)
    rows.append(("whole skin of a person (13,348 vertices)", median_ms(lambda: skin(human.body, bones)), "ms"))
    rows += _pictures(bench, demo)
    start = time.perf_counter()
    people_of(load_scenario("visit"), -0.75, 1)
    rows.append(("choreography of `visit`", 1e3 * (time.perf_counter() - start), "ms"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(("peak memory of this process", peak, "MB"))
    bench.twin.close()
    for label, value, unit in rows:
        print(f"{label:45s} {value:9.2f} {unit}")


def _pictures(bench: Lockstep, demo: dict[str, Any]) -> list[tuple[str, float, str]]:
    scenes = bench.hub.ports("bench").subscriber(TOPIC_SCENE, Scene)
    block = demo["cameras"][0]
    options = {**block["options"], "mount": block["mount"], "workcell": bench.workcell, "robot": "panda"}
    rows = []
    bench.run(0.1)
    envelope = scenes.take()
    assert envelope is not None
    scene = envelope.body
    for renderer in ("raster", "egl", "tiny"):
        camera = TwinCamera(block["name"], {**options, "renderer": renderer}, bench.hub.ports(renderer))
        camera.connect(bench.t)
        drawer = camera._renderer
        assert drawer is not None
        picture = drawer.draw(scene, False)
        count = 10 if renderer == "tiny" else 60
        rows.append(
            (f"depth 424x240, {drawer.name}", median_ms(functools.partial(drawer.draw, scene, False), count), "ms")
        )
        if renderer == "egl":
            rows.append(("depth and colour 424x240", median_ms(functools.partial(drawer.draw, scene, True)), "ms"))
        if renderer == "raster":
            noise = camera._noise
            spoil = functools.partial(noise.apply, picture.depth, picture.shade, 1)
            rows.append(("noise 424x240", median_ms(spoil), "ms"))
        camera.close()
    source = SurfaceSource({}, bench.hub.ports("surface"))
    rows.append(("surface points of one frame", median_ms(lambda: source._expose(scene)), "ms"))
    return rows


def test_print_times() -> None:
    """Collected by `make bench`; prints, judges nothing."""
    main()


if __name__ == "__main__":
    main()
