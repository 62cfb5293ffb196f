"""Test targets before the twin's cameras: a cylinder anywhere in the cell, drawn and measured as everything else is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.bus.inprocess import Hub
from perception.contract import CameraInfo, Frame
from robots.workcell import PartType, Workcell
from sim.arms import arm_spec
from sim.camera import TwinCamera, describe
from sim.contract import TOPIC_SCENE, PartPose, Scene
from sim.detection import PeopleBench


class TargetBench:
    """The cameras of a cell, its fixtures and its arm at rest; `frames` puts one target before them."""

    def __init__(
        self,
        cameras: Sequence[tuple[str, Mapping[str, Any]]],
        sizes: Sequence[tuple[float, float]],
        q: Sequence[float],
        seed: int,
    ) -> None:
        """`cameras`: name and options as for `TwinCamera`; `sizes`: (diameter, length) of the targets, m; `q`: the
        arm's joints, rad. Raises CameraError for wrong options, ValueError for a `q` that does not fit."""
        hub = Hub()
        self._scenes = hub.ports("bench").publisher(TOPIC_SCENE, Scene)
        kinds = {
            f"target_{n}": PartType(shape="cylinder", size=(diameter, diameter, length), colour=(0.5, 0.5, 0.5))
            for n, (diameter, length) in enumerate(sizes)
        }
        self._cameras: list[TwinCamera] = []
        for name, options in cameras:
            workcell: Workcell = options["workcell"]
            with_targets = workcell.model_copy(update={"parts": {**workcell.parts, **kinds}, "stock": []})
            own = {**options, "workcell": with_targets, "seed": seed, "latency": 0.0, "drop": 0.0, "repeat": 0.0}
            self._cameras.append(TwinCamera(name, own, hub.ports(name)))
        robot = cameras[0][1]["robot"]
        if len(arm_spec(str(robot["model"])).joints) != len(q):
            raise ValueError(f"{len(q)} joints given, the {robot['model']} has another number")
        self._q = list(q)
        self._now = 0.0
        for camera in self._cameras:
            camera.connect(self._now)

    people = PeopleBench
    """The bench for people and parts of people."""

    @staticmethod
    def calibration(
        camera: tuple[str, Mapping[str, Any]], board: Any, T_flange_board: NDArray[np.float64], seed: int
    ) -> Any:
        """A `CalibrationStand`: a board before one of the cameras, on the flange or held by hand."""
        from sim.calibration_target import CalibrationStand

        return CalibrationStand(camera[0], camera[1], board, T_flange_board, seed)

    @staticmethod
    def noise(name: str, options: Mapping[str, Any]) -> Callable[[NDArray[np.uint16], int], NDArray[np.uint16]]:
        """The noise of one camera alone: a function of true depth (h, w), mm, and a number of the draw, which returns
        the depth it would deliver. Everything is taken to be bright. Raises CameraError for wrong options."""
        made = describe(name, dict(options))[2]
        last: list[Any] = [None, None, None]

        def noisy(depth: NDArray[np.uint16], number: int) -> NDArray[np.uint16]:
            if last[0] is not depth:
                last[:] = depth, depth.astype(np.float32) / np.float32(1000.0), np.ones(depth.shape, np.float32)
            return made.apply(last[1], last[2], number)

        return noisy

    @property
    def infos(self) -> list[CameraInfo]:
        """What the cameras are and where."""
        return [camera.info for camera in self._cameras]

    def frames(self, target: int | None, pose: tuple[float, ...]) -> list[Frame]:
        """One picture of each camera, a new exposure each time: target number `target` with its centre at `pose` (x, y,
        z, qx, qy, qz, qw; base frame, axis along its z), or nothing."""
        self._now += 1.0
        parts = [] if target is None else [PartPose("target", f"target_{target}", pose)]
        self._scenes.send(Scene(self._now, self._q, 0.0, [], parts), self._now)
        taken = [camera.poll(self._now) for camera in self._cameras]
        return [frame for frame in taken if frame is not None]

    def close(self) -> None:
        """Free the renderers. Idempotent."""
        for camera in self._cameras:
            camera.close()
