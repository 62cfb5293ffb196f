"""What perception costs: processor milliseconds a picture by stage, with a person in the demo cell, and for points.

Run: python -m tests.benchmarks.bench_perception
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import numpy as np

from cell.bus.inprocess import Hub
from cell.config import default_cell, load_cell
from perception import freedepth, kernels, pixels
from perception.contract import Frame, PointFrame
from perception.core import CameraFusion, PointFusion
from perception.view import part_boxes
from robots.contract import RobotState
from sim.camera import TwinCamera
from sim.contract import TOPIC_SCENE, BodyPose, Scene
from sim.human import people_of
from sim.scenario import load_scenario
from sim.surface import SurfaceSource

PICTURES = 90
FIRST = 9.0
"""Into the visit, s: the person walks up and reaches in."""


def cpu_ms(call: Callable[[], object], count: int = 60, warm: int = 3) -> float:
    """Median processor time of a call in this thread, ms."""
    for _ in range(warm):
        call()
    times = []
    for _ in range(count):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return 1e3 * statistics.median(times)


def robot_state(t: float, q: list[float]) -> RobotState:
    """A standing arm."""
    still = [0.0] * len(q)
    return RobotState(
        seq=1, t=t, q=q, dq=still, tau=still, q_commanded=q, dq_commanded=still, motion_id="", progress=0.0,
        duration=0.0, rate=0.0, rate_slope=0.0, limit=0.0, limit_by="", limit_reason="", override=1.0,
        mode="automatic", fault="", fault_text="", standing=True, gripper_width=0.0, gripper_holding=False, held=None,
        inputs={}, outputs={}, emergency_stop=False, safeguard=False, tracking_error=0.0, late_leases=0, session="",
    )  # fmt: skip


class Recorded:
    """The demo cell's two cameras and a surface source over three seconds of the visit."""

    def __init__(self) -> None:
        loaded = load_cell(default_cell())
        config = loaded.config
        self.model = loaded.model()
        self.config = config.perception
        self.workcell = config.workcell
        self.q = np.radians(config.robot.home_deg).tolist()
        human = people_of(load_scenario("visit"), config.workcell.floor, 1)[0]
        hub = Hub()
        scenes = hub.ports("twin").publisher(TOPIC_SCENE, Scene)
        self.cameras = []
        for block in config.cameras:
            options = {**block.options, "mount": block.mount.model_dump(), "workcell": config.workcell, "latency": 0.0}
            self.cameras.append(TwinCamera(block.name, options, hub.ports(block.name)))
        source = SurfaceSource({"latency": 0.0}, hub.ports("surface"))
        self.frames: list[tuple[float, list[Frame]]] = []
        self.points: list[tuple[float, PointFrame]] = []
        for camera in [*self.cameras, source]:
            camera.warm_up()
            camera.connect(FIRST)
        for k in range(PICTURES):
            t = FIRST + k / 30.0
            person = BodyPose("visitor", human.bones(t).astype("<f4").tobytes())
            scenes.send(Scene(t, self.q, 0.08, [person], []), t)
            self.frames.append((t, [f for camera in self.cameras if (f := camera.poll(t)) is not None]))
            cloud = source.poll(t)
            if cloud is not None:
                self.points.append((t, cloud))


def stages(recorded: Recorded, fusion: CameraFusion) -> list[tuple[str, float]]:
    """Kernels of one picture, with the cameras' mean."""
    t, frames = recorded.frames[-1]
    arm = fusion.history.at(t)
    assert arm is not None
    sums: dict[str, float] = {}
    for frame in frames:
        view = fusion.views[frame.camera]
        c, b, noise = recorded.config, view.background, view.info.noise_coefficient
        part_T, part_half = part_boxes(())
        found = pixels.candidates(frame.depth, view._near, view._depth, view._label, view._pixels)
        chosen = view._pixels[:found]
        calls: dict[str, Callable[[], object]] = {
            "candidates": functools.partial(
                pixels.candidates, frame.depth, view._near, view._depth, view._label, view._pixels
            ),
            "support": functools.partial(
                kernels.resolve_edges_and_support,
                view._depth, frame.depth, chosen, view._label, noise, c.sigmas, c.support, view.label,
            ),
            "free depth": functools.partial(
                freedepth.free_depth, view._depth, chosen, view.label, 12.0, noise, c.sigmas, 8000.0,
                view._bridged, view._pooled,
            ),
            "whole view": functools.partial(view.process, frame, arm, []),
            "map cleared": functools.partial(
                fusion.map.look, frame.exposure, [(fusion._voxels[frame.camera], view._pooled)]
            ),
            "pockets dropped": functools.partial(fusion.map.drop_pockets, arm),
        }  # fmt: skip
        kernels.classify(
            view._depth, chosen, b.ray_x, b.ray_y, view._T, arm.a, arm.b, arm.r, c.robot_margin, noise, c.sigmas,
            part_T, part_half, c.part_margin, view._lower, view._upper, view._label,
        )  # fmt: skip
        for name, call in calls.items():
            sums[name] = sums.get(name, 0.0) + cpu_ms(call) / len(frames)
    return list(sums.items())


def main() -> None:
    recorded = Recorded()
    fusion = CameraFusion([c.info for c in recorded.cameras], recorded.workcell, recorded.config, recorded.model)
    fusion.warm_up()
    fusion.confirm_clear()
    spent = []
    for t, frames in recorded.frames:
        state = robot_state(t, recorded.q)
        start = time.thread_time()
        observation = fusion.step(t + 0.001, frames, state, [])
        spent.append((time.thread_time() - start) / max(1, len(frames)))
        assert observation is not None
        assert observation.healthy, observation.reason
    rows = [(f"picture: {name}", value) for name, value in stages(recorded, fusion)]
    rows.append(("picture: everything", 1e3 * statistics.median(spent)))
    points = PointFusion(recorded.config)
    points.warm_up()
    points.confirm_clear()
    spent = []
    for t, cloud in recorded.points:
        start = time.thread_time()
        points.step(t + 0.001, [cloud])
        spent.append(time.thread_time() - start)
    rows.append(("surface points: everything", 1e3 * statistics.median(spent)))
    for camera in recorded.cameras:
        camera.close()
    for label, value in rows:
        print(f"{label:45s} {value:9.3f} ms")


def test_print_times() -> None:
    """Collected by `make bench`; prints, judges nothing."""
    main()


if __name__ == "__main__":
    main()
