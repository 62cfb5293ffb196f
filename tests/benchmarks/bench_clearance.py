"""What possible space and depth-to-points cost: processor milliseconds at 848x480, one thread, medians.

A cell of 5 x 5 x 2.2 m with an arm and a person, two cameras, 2 % of all pixels invalid.
Run: python -m tests.benchmarks.bench_clearance
"""

from __future__ import annotations

import itertools
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from perception.background import rays
from perception.clearance import ClearanceMap, VoxelView
from perception.config import Mount, PerceptionConfig
from perception.contract import CameraInfo, Frame, Intrinsics
from perception.kernels import raycast_boxes
from perception.view import CameraView, Capsules
from robots.workcell import Workcell

WIDTH, HEIGHT = 848, 480
PERIOD = 1.0 / 30.0
CELL = Workcell.model_validate(
    {
        "floor": -0.75,
        "person_volume": [[-2.5, -2.5, -0.75], [2.5, 2.5, 1.45]],
        "entries": ["x_max"],
        "fixtures": [{"name": "table", "size": [1.0, 1.0, 0.75], "pose": {"position": [0.0, 0.0, -0.375]}}],
    }
)
ARM = Capsules(
    np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.4], [0.3, 0.0, 0.6], [0.5, 0.0, 0.4]]),
    np.array([[0.0, 0.0, 0.4], [0.3, 0.0, 0.6], [0.5, 0.0, 0.4], [0.5, 0.0, 0.25]]),
    np.array([0.09, 0.08, 0.07, 0.06]),
)
Box = tuple[tuple[float, float, float], tuple[float, float, float]]
LINKS: list[Box] = [((0.0, 0.0, 0.2), (0.12, 0.12, 0.4)), ((0.25, 0.0, 0.5), (0.45, 0.1, 0.1))]
PERSON: list[Box] = [((1.2, -0.3, 0.05), (0.3, 0.5, 1.6)), ((0.9, -0.5, 0.3), (0.5, 0.09, 0.09))]
CLOSE: list[Box] = [((0.0, 0.0, 0.6), (4.9, 4.9, 0.02))]
"""A sheet right across the volume: the whole picture is foreground."""


def camera(name: str, position: tuple[float, float, float]) -> CameraInfo:
    """A D455 at the edge of the volume that looks at the table."""
    f = WIDTH / 2 / np.tan(np.radians(43.5))
    T = Mount(position=position, look_at=(0.3, 0.0, 0.2)).T_base_camera()
    k = Intrinsics(WIDTH, HEIGHT, f, f, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    return CameraInfo(name, "D455", k, 30.0, tuple(T.ravel().tolist()), 0.001, 0.4, 6.0)


def picture(info: CameraInfo, boxes: list[Box], seed: int, holes: float = 0.02) -> NDArray[np.uint16]:
    """Depth of the cell with upright boxes in it, with the camera's noise and holes."""
    boxes = [(f.pose.position, f.size) for f in CELL.fixtures] + boxes
    T = np.array([np.eye(4) for _ in boxes])
    T[:, :3, 3] = [-np.asarray(centre) for centre, _ in boxes]
    half = np.array([np.asarray(size) / 2 for _, size in boxes])
    out = np.empty((HEIGHT, WIDTH), np.float32)
    ray_x, ray_y = rays(info.intrinsics)
    raycast_boxes(ray_x, ray_y, np.reshape(info.T_base_camera, (4, 4)), T, half, CELL.floor, info.depth_max, out)
    rng = np.random.default_rng(seed)
    noisy = out + info.noise_coefficient * out**2 * rng.normal(size=out.shape)
    noisy[rng.random(out.shape) < holes] = 0.0
    return np.clip(np.rint(noisy * 1000.0), 0, 65535).astype(np.uint16)


def clearance_ms(size: float, count: int = 60) -> dict[str, tuple[float, float]]:
    """One step of the map for two cameras by stage, and as a whole: median and least."""
    config = PerceptionConfig(voxel=size)
    grid = ClearanceMap(CELL, config)
    infos = [camera("a", (-1.5, -2.4, 1.4)), camera("b", (2.4, -1.8, 1.4))]
    views = [CameraView(info, CELL, config) for info in infos]
    seen: list[list[tuple[NDArray[np.float32], NDArray[np.uint16]]]] = []
    for k in range(5):
        frames = [Frame(i.name, k, 0.0, picture(i, LINKS + PERSON, 10 * k + n)) for n, i in enumerate(infos)]
        answers = [view.process(f, ARM, []) for view, f in zip(views, frames, strict=True)]
        seen.append([(a.points, a.free.copy()) for a in answers])
    projected: list[VoxelView] = [grid.view(i, v.background) for i, v in zip(infos, views, strict=True)]
    out = np.zeros((100_000, 3), np.float32)
    box = ARM.a.min(0), ARM.b.max(0)
    spent: dict[str, list[float]] = {}
    grid.confirm_clear()
    for n in range(count + 20):
        marks = [("", time.thread_time())]
        grid.look(n * PERIOD, [(projected[k], seen[n % 5][k][1]) for k in range(2)], ARM)
        marks.append(("grow, clear", time.thread_time()))
        for k in range(2):
            grid.occupy(seen[n % 5][k][0], config.cell_size, n * PERIOD, infos[k].name)
        marks.append(("people", time.thread_time()))
        grid.drop_pockets(ARM)
        marks.append(("pockets", time.thread_time()))
        grid.balls(box, out)
        marks.append(("balls", time.thread_time()))
        if n >= 20:
            for (_, before), (name, after) in itertools.pairwise(marks):
                spent.setdefault(name, []).append(1e3 * (after - before))
            spent.setdefault("whole step", []).append(1e3 * (marks[-1][1] - marks[0][1]))
    return {name: (statistics.median(times), min(times)) for name, times in spent.items()}


def points_ms(boxes: list[Box], count: int = 60) -> tuple[int, float, float]:
    """Foreground pixels, median of frame to points, and of frame to points and free depth, ms."""
    config = PerceptionConfig()
    info = camera("a", (-1.5, -2.4, 1.4))
    view = CameraView(info, CELL, config)
    frames = [Frame("a", k, 0.0, picture(info, boxes, k)) for k in range(5)]
    spent = []
    for n in range(count + 5):
        start = time.thread_time()
        view.process(frames[n % 5], ARM, [])
        spent.append(1e3 * (time.thread_time() - start))
    return int(np.count_nonzero(view.label > 1)), statistics.median(spent[5:]), min(spent[5:])


def main() -> None:
    for size in (0.05, 0.0625, 0.1):
        for name, (median, least) in clearance_ms(size).items():
            print(f"possible space, {100 * size:g} cm: {name:12s} {median:9.3f} ms, least {least:.3f}")
    for title, boxes in (("arm and person", LINKS + PERSON), ("whole picture", CLOSE)):
        pixels, median, least = points_ms(boxes)
        print(f"frame to points, {title}: {pixels:7d} foreground pixels {median:9.3f} ms, least {least:.3f}")


def test_print_times() -> None:
    """Collected by `make bench`; prints, judges nothing."""
    main()


if __name__ == "__main__":
    main()
