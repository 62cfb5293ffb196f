"""The perception node: ports in, `Observation` out. One node for all cameras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cell.bus.messages import Reply
from cell.bus.ports import EventSource, Ports, Subscriber
from perception.cameras.links import FrameSink, FrameSource
from perception.cameras.ring import RingError
from perception.contract import (
    SERVICE,
    TOPIC_EXPECTED,
    TOPIC_OBSERVATION,
    Camera,
    CameraError,
    CameraHealth,
    ConfirmClear,
    ExpectedPart,
    ExpectedParts,
    Observation,
    PointSource,
)
from perception.core import CameraFusion, PointFusion
from robots.contract import RobotState, topic_state

NODE = "perception"
SILENT = 0.5
"""A camera that gives no picture for so long is reported by its own node, s."""


class CameraNode:
    """Runs one camera and hands its newest frame on. What the camera complains of, and its silence, become events;
    the frames that do not come are perception's reason to stop."""

    def __init__(self, camera: Camera, sink: FrameSink, events: EventSource, period: float) -> None:
        self.name = f"camera.{camera.info.name}"
        self.period = period
        self.camera = camera
        self._sink = sink
        self._events = events
        self._connected = False
        self._heard = 0.0
        self._trouble = ""

    def warm_up(self) -> None:
        """Let a camera that has something to prepare do so before its clock runs."""
        prepare = getattr(self.camera, "warm_up", None)
        if prepare is not None:
            prepare()

    def step(self, now: float) -> None:
        """Hand a frame on if one has arrived. Raises CameraError only for a camera that cannot even be started."""
        if not self._connected:
            self.camera.connect(now)
            self._connected, self._heard = True, now
        try:
            frame = self.camera.poll(now)
            if frame is not None:
                self._sink.send(frame, now)
                self._heard = now
                self._report("", now)
            elif now - self._heard > SILENT:
                self._report(self._trouble or f"no picture for {SILENT:g} s", now)
        except (CameraError, RingError) as error:
            self._report(str(error), now)

    def _report(self, trouble: str, now: float) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            kind = "camera.silent" if trouble else "camera.delivers"
            self._events.emit(kind, now, camera=self.camera.info.name, reason=trouble)

    def close(self) -> None:
        """Let the camera go."""
        self.camera.close()
        self._sink.close()


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

    def __init__(self, ports: Ports, fusion: CameraFusion, period: float, sources: Mapping[str, FrameSource]) -> None:
        """`sources`: where the frames of each of the fusion's cameras come from."""
        super().__init__(ports, period)
        self._fusion = fusion
        self._frames = {name: sources[name] for name in fusion.views}
        self._faults = dict.fromkeys(self._frames, "")
        self.wakes: list[Subscriber[Any]] = [
            s for source in self._frames.values() for s in getattr(source, "wakes", ())
        ]
        """A frame that lies in a ring is looked at at once; every message of these is taken in each step."""
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
        for name, source in self._frames.items():
            frame = source.take(now)
            if frame is not None:
                frames.append(frame)
            if source.fault != self._faults[name]:
                self._faults[name] = source.fault
                self._events.emit("camera.link", now, camera=name, reason=source.fault)
        self._publish(self._fusion.step(now, frames, self._newest_state(), self._newest_parts()), now)
        self._report_cameras(self._fusion.health(now), now)

    def close(self) -> None:
        """Let the frames' sources go."""
        for source in self._frames.values():
            source.close()


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
