"""The `surface` perception: points spread over people's skin, as a perfect segmentation of a depth camera would give.

It skips rendering and everything perception does with pictures, not the delay, the rate or the noise.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cell.bus.ports import Ports
from cell.bus.worker import Worker
from perception.contract import CameraError, PointFrame
from sim.body import load_body, skin
from sim.config import BodyName, Strict
from sim.contract import TOPIC_SCENE, BodyPose, Scene
from sim.noise import scatter
from sim.rotations import F64

Points = NDArray[np.float32]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[BodyPose]]).decode


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
    apart: bool = False
    """Spread the points in a process of its own, between exposure and delivery."""


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
        self._waiting: deque[tuple[float, int, float, Points | None]] = deque()
        """Frames on their way: time of delivery, number, exposure, and the points unless they are spread apart."""
        spread = _Spread(self.options)
        self._spread = spread
        self._worker = Worker("surface", lambda: spread.serve, background=True) if self.options.apart else None

    def connect(self, now: float) -> None:
        """Idempotent."""
        if math.isinf(self._due):
            self._due = now

    def warm_up(self) -> None:
        """Load the bodies and the compiled kernels that spread points over them."""
        self._spread.warm_up()

    def poll(self, now: float) -> PointFrame | None:
        """Return the newest frame delivered by `now` that was not returned yet. Call at least every 10 ms."""
        # Scenes between two exposures are not even decoded.
        envelope = self._scenes.take() if now >= self._due - 1e-6 else None
        if envelope is not None and envelope.body.t >= self._due - 1e-6:
            self._expose(envelope.body)
        newest = None
        while self._waiting and self._waiting[0][0] <= now + 1e-9:
            newest = self._deliver(*self._waiting.popleft()[1:])
        return newest

    def _deliver(self, seq: int, exposure: float, points: Points | None) -> PointFrame:
        if points is None:
            assert self._worker is not None  # without it the points were there at once
            points = np.frombuffer(self._worker.receive(), dtype="<f4").reshape(-1, 3)
        return PointFrame(self.options.name, seq, exposure, points)

    def _expose(self, scene: Scene) -> None:
        period = 1.0 / self.options.rate_hz
        self._due = max(self._due, scene.t - period) + period if math.isfinite(self._due) else scene.t + period
        self._seq += 1
        points = None
        if self._worker is None:
            points = self._spread(self._seq, scene.people)
        else:
            self._worker.send(_encode((self._seq, scene.people)))
        self._waiting.append((scene.t + self.options.latency, self._seq, scene.t, points))

    def close(self) -> None:
        """Idempotent."""
        self._waiting.clear()
        if self._worker is not None:
            self._worker.close()


class _Spread:
    """Spreads points over people's skin."""

    def __init__(self, options: SurfaceOptions) -> None:
        self._options = options

    def __call__(self, seq: int, people: list[BodyPose]) -> Points:
        """(n, 3) points of frame number `seq`, m. Raises ValueError if bones do not fit a body."""
        clouds = [self._points(person) for person in people]
        points = np.concatenate(clouds) if clouds else np.zeros((0, 3), dtype=np.float32)
        scatter(points, self._options.noise, self._options.seed, seq)
        return points

    def serve(self, request: bytes) -> bytes:
        """Answer for the process of its own."""
        return self(*_decode(request)).astype("<f4", copy=False).tobytes()

    def warm_up(self) -> None:
        """Load the bodies and the compiled kernels."""
        for name in get_args(BodyName):
            body = load_body(name)
            scatter(skin(body, np.zeros((len(body.bones), 3, 4)), body.spread[: self._options.points]), 0.0, 0, 0)

    def _points(self, person: BodyPose) -> Points:
        body = load_body(person.body)
        return skin(body, bones_of(person), body.spread[: self._options.points])


def bones_of(person: BodyPose) -> F64:
    """World transforms (b, 3, 4) of a person of a `Scene`. Raises ValueError if they do not fit the body."""
    bones = np.frombuffer(person.bones, dtype="<f4").reshape(-1, 3, 4)
    if len(bones) != len(load_body(person.body).bones):
        raise ValueError(f"{person.name}: {len(bones)} bones do not fit {person.body}")
    return bones.astype(np.float64)
