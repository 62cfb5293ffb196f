"""The perception node: ports in, `Observation` out. One node for all cameras."""

from __future__ import annotations

from typing import Any

import numpy as np

from cell.bus.messages import Reply
from cell.bus.ports import Ports, Subscriber
from perception.contract import (
    SERVICE,
    TOPIC_EXPECTED,
    TOPIC_OBSERVATION,
    Camera,
    CameraHealth,
    ConfirmClear,
    ExpectedPart,
    ExpectedParts,
    Frame,
    FrameMessage,
    Observation,
    PointSource,
    topic_frame,
)
from perception.core import CameraFusion, PointFusion
from robots.contract import RobotState, topic_state

NODE = "perception"


class CameraNode:
    """Runs one camera and publishes its newest frame."""

    def __init__(self, camera: Camera, ports: Ports, period: float) -> None:
        self.name = f"camera.{camera.info.name}"
        self.period = period
        self.camera = camera
        self._frames = ports.publisher(topic_frame(camera.info.name), FrameMessage)
        self._connected = False

    def warm_up(self) -> None:
        """Let a camera that has something to prepare do so before its clock runs."""
        prepare = getattr(self.camera, "warm_up", None)
        if prepare is not None:
            prepare()

    def step(self, now: float) -> None:
        """Publish a frame if one has arrived."""
        if not self._connected:
            self.camera.connect(now)
            self._connected = True
        frame = self.camera.poll(now)
        if frame is not None:
            height, width = frame.depth.shape
            self._frames.send(
                FrameMessage(frame.camera, frame.seq, frame.exposure, height, width, frame.depth.tobytes()), now
            )

    def close(self) -> None:
        """Let the camera go."""
        self.camera.close()


def decode_frame(message: FrameMessage) -> Frame | None:
    """Return the frame in a message, or None if its bytes do not make the picture it names."""
    if message.height <= 0 or message.width <= 0 or len(message.depth) != 2 * message.height * message.width:
        return None
    depth = np.frombuffer(message.depth, "<u2").reshape(message.height, message.width)
    return Frame(message.camera, message.seq, message.exposure, depth)


class _Shell:
    """What both perception nodes share: robot state, confirmations, events, publishing."""

    def __init__(self, ports: Ports, period: float) -> None:
        self.name = NODE
        self.period = period
        self._state: Subscriber[RobotState] = ports.subscriber(topic_state(), RobotState)
        self._parts: Subscriber[ExpectedParts] = ports.subscriber(TOPIC_EXPECTED, ExpectedParts)
        self._out = ports.publisher(TOPIC_OBSERVATION, Observation)
        self._requests = ports.responder(SERVICE, ConfirmClear)
        self._events = ports.event_source()
        self._expected: list[ExpectedPart] = []
        self._healthy: bool | None = None
        self._camera_reasons: dict[str, str] = {}

    def _serve(self, fusion: CameraFusion | PointFusion, now: float) -> None:
        for request in self._requests.requests():
            body: Any = request.body
            if not body.person.strip():
                reason = "name the person who looked: an empty name confirms nothing"
                self._requests.reply(request.client, Reply(request.id, "rejected", reason))
                continue
            fusion.confirm_clear()
            self._events.emit("perception.confirmed_clear", now, person=body.person)
            self._requests.reply(request.client, Reply(request.id, "accepted"))
            self._requests.reply(request.client, Reply(request.id, "done"))

    def _publish(self, observation: Observation | None, now: float) -> None:
        if observation is None:
            return
        self._out.send(observation, now)
        if observation.healthy != self._healthy:
            self._healthy = observation.healthy
            kind = "perception.healthy" if observation.healthy else "perception.unhealthy"
            self._events.emit(kind, now, reason=observation.reason)

    def _report_cameras(self, health: list[CameraHealth], now: float) -> None:
        """Report each change of a camera's state, also while no frame comes at all."""
        for camera in health:
            before = self._camera_reasons.get(camera.name)
            if before != camera.reason:
                self._camera_reasons[camera.name] = camera.reason
                if before is not None or not camera.ok:
                    kind = "camera.ok" if camera.ok else "camera.fault"
                    self._events.emit(kind, now, camera=camera.name, reason=camera.reason, exposure=camera.exposure)

    def _newest_state(self) -> RobotState | None:
        envelope = self._state.take()
        return envelope.body if envelope else None

    def _newest_parts(self) -> list[ExpectedPart]:
        envelope = self._parts.take()
        if envelope:
            self._expected = envelope.body.parts
        return self._expected

    def close(self) -> None:
        """Nothing is held beyond the ports."""


class PerceptionNode(_Shell):
    """Depth cameras to observations."""

    def __init__(self, ports: Ports, fusion: CameraFusion, period: float) -> None:
        super().__init__(ports, period)
        self._fusion = fusion
        self._frames = [ports.subscriber(topic_frame(name), FrameMessage) for name in fusion.views]
        self._unseen = {name: watch.unseen for name, watch in fusion.movement.items() if watch.unseen}

    def warm_up(self) -> None:
        """Load the compiled kernels before the clock runs."""
        self._fusion.warm_up()

    def step(self, now: float) -> None:
        """Use what arrived since the last step."""
        while self._unseen:
            camera, movement = self._unseen.popitem()
            self._events.emit("camera.movement_unseen", now, camera=camera, movement=movement)
        self._serve(self._fusion, now)
        frames = []
        for port in self._frames:
            envelope = port.take()
            frame = decode_frame(envelope.body) if envelope else None
            if frame is not None:
                frames.append(frame)
        self._publish(self._fusion.step(now, frames, self._newest_state(), self._newest_parts()), now)
        self._report_cameras(self._fusion.health(now), now)


class PointPerceptionNode(_Shell):
    """Point sources to observations."""

    def __init__(self, ports: Ports, sources: list[PointSource], fusion: PointFusion, period: float) -> None:
        super().__init__(ports, period)
        self._fusion = fusion
        self._sources = sources
        self._connected = False

    def warm_up(self) -> None:
        """Let sources that have something to prepare do so before the clock runs."""
        for source in self._sources:
            prepare = getattr(source, "warm_up", None)
            if prepare is not None:
                prepare()
        self._fusion.warm_up()

    def step(self, now: float) -> None:
        """Use what arrived since the last step."""
        if not self._connected:
            for source in self._sources:
                source.connect(now)
            self._connected = True
        self._serve(self._fusion, now)
        frames = [f for f in (source.poll(now) for source in self._sources) if f is not None]
        self._publish(self._fusion.step(now, frames), now)

    def close(self) -> None:
        """Let the sources go."""
        for source in self._sources:
            source.close()
