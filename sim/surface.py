"""The `surface` perception: points spread over people's skin, as a perfect segmentation of a depth camera would give.

It skips rendering and everything perception does with pictures, not the delay, the rate or the noise.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, get_args

import numpy as np
from pydantic import Field, ValidationError

from cell.bus.ports import Ports
from perception.contract import CameraError, PointFrame
from sim.body import load_body, skin
from sim.config import BodyName, Strict
from sim.contract import TOPIC_SCENE, BodyPose, Scene
from sim.noise import scatter
from sim.rotations import F64


class SurfaceOptions(Strict):
    """Options of the point source `twin`."""

    name: str = "surface"
    rate_hz: float = Field(30.0, gt=0.0, le=250.0)
    points: int = Field(1500, ge=100, le=2000)
    """Points a person."""
    latency: float = Field(0.025, ge=0.0, le=0.5)
    """Exposure to delivery, s."""
    noise: float = Field(0.0050, ge=0.0, le=0.1)
    """Standard deviation of each point along each axis, m (that of a D455 at 1.6 m)."""
    seed: int = Field(1, ge=0)


class SurfaceSource:
    """Implements `perception.contract.PointSource` from the `Scene` topic."""

    def __init__(self, options: dict[str, Any], ports: Ports) -> None:
        """Raises CameraError if an option is wrong."""
        try:
            self.options = SurfaceOptions.model_validate(options)
        except ValidationError as error:
            raise CameraError(f"options of the twin's surface source: {error}") from error
        self._scenes = ports.subscriber(TOPIC_SCENE, Scene)
        self._due = -math.inf
        self._seq = 0
        self._waiting: deque[tuple[float, PointFrame]] = deque()

    def connect(self, now: float) -> None:
        """Idempotent."""
        if math.isinf(self._due):
            self._due = now

    def warm_up(self) -> None:
        """Load the bodies and the compiled kernels that spread points over them."""
        for name in get_args(BodyName):
            body = load_body(name)
            scatter(skin(body, np.zeros((len(body.bones), 3, 4)), body.spread[: self.options.points]), 0.0, 0, 0)

    def poll(self, now: float) -> PointFrame | None:
        """Return the newest frame delivered by `now` that was not returned yet. Call at least every 10 ms."""
        # Scenes between two exposures are not even decoded.
        envelope = self._scenes.take() if now >= self._due - 1e-6 else None
        if envelope is not None and envelope.body.t >= self._due - 1e-6:
            self._expose(envelope.body)
        newest = None
        while self._waiting and self._waiting[0][0] <= now + 1e-9:
            newest = self._waiting.popleft()[1]
        return newest

    def _expose(self, scene: Scene) -> None:
        period = 1.0 / self.options.rate_hz
        self._due = max(self._due, scene.t - period) + period if math.isfinite(self._due) else scene.t + period
        self._seq += 1
        clouds = [self._points(person) for person in scene.people]
        points = np.concatenate(clouds) if clouds else np.zeros((0, 3), dtype=np.float32)
        scatter(points, self.options.noise, self.options.seed, self._seq)
        frame = PointFrame(self.options.name, self._seq, scene.t, points)
        self._waiting.append((scene.t + self.options.latency, frame))

    def _points(self, person: BodyPose) -> np.ndarray[Any, np.dtype[np.float32]]:
        body = load_body(person.body)
        return skin(body, bones_of(person), body.spread[: self.options.points])

    def close(self) -> None:
        """Idempotent; nothing to release."""
        self._waiting.clear()


def bones_of(person: BodyPose) -> F64:
    """World transforms (b, 3, 4) of a person of a `Scene`. Raises ValueError if they do not fit the body."""
    bones = np.frombuffer(person.bones, dtype="<f4").reshape(-1, 3, 4)
    if len(bones) != len(load_body(person.body).bones):
        raise ValueError(f"{person.name}: {len(bones)} bones do not fit {person.body}")
    return bones.astype(np.float64)
