"""The node that looks for skeletons: coloured frames, the arm and perception's tracks in, `Skeletons` out.

It only ever tells: nobody who limits the arm reads it, it never asks anybody to wait, and it takes what time others
leave. If it ends, `TOPIC_SKELETONS` falls silent and the controller says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from cell.bus.ports import Ports
from perception.cameras.links import FrameSource
from perception.contract import (
    TOPIC_EXPECTED,
    TOPIC_OBSERVATION,
    TOPIC_SKELETONS,
    ExpectedPart,
    ExpectedParts,
    Observation,
    Skeletons,
    Track,
)
from perception.skeletons import STALE, SkeletonCore
from robots.contract import RobotState, topic_state

NODE = "skeletons"
PERIOD = 0.08
"""12.5 Hz, where the processor permits."""
REACHED, LEFT = 0.10, 0.20
"""A person this near the arm is reported with the body part, and again only after having been farther, m."""


class SkeletonNode:
    """Shell of `SkeletonCore`."""

    def __init__(
        self, ports: Ports, core: SkeletonCore, sources: Mapping[str, FrameSource], period: float = PERIOD
    ) -> None:
        """`sources`: where coloured frames come from, by camera."""
        self.name = NODE
        self.period = period
        self._core = core
        self._sources = sources
        # Every state: where the arm was at an exposure is told from those before and after it.
        self._states = ports.follower(topic_state(), RobotState)
        self._parts = ports.subscriber(TOPIC_EXPECTED, ExpectedParts)
        self._observations = ports.subscriber(TOPIC_OBSERVATION, Observation)
        self._out = ports.publisher(TOPIC_SKELETONS, Skeletons)
        self._events = ports.event_source()
        self._expected: list[ExpectedPart] = []
        self._tracks: tuple[float, list[Track]] = -1e9, []
        self._reason: str | None = None
        self._near: dict[int, float] = {}

    def warm_up(self) -> None:
        """Load library and model before the clock runs."""
        self._core.warm_up()

    def step(self, now: float) -> None:
        """Look at everybody who is followed, in the newest pictures."""
        frames = [frame for source in self._sources.values() if (frame := source.take(now)) is not None]
        states = [envelope.body for envelope in self._states.drain()]
        parts, observation = self._parts.take(), self._observations.take()
        if parts is not None:
            self._expected = parts.body.parts
        if observation is not None:
            self._tracks = observation.body.t, observation.body.tracks
        fresh = 0.0 <= now - self._tracks[0] <= STALE
        seen = self._core.step(now, frames, states, self._expected, self._tracks[1] if fresh else [])
        self._out.send(seen, now)
        self._report(seen, now)

    def _report(self, seen: Skeletons, now: float) -> None:
        if seen.reason != self._reason:
            if self._reason is not None or not seen.ok:
                self._events.emit("skeletons.ok" if seen.ok else "skeletons.none", now, reason=seen.reason)
            self._reason = seen.reason
        self._near = {track: t for track, t in self._near.items() if now - t <= STALE}
        for person in seen.people:
            known = person.track in self._near
            if person.nearest_distance <= (LEFT if known else REACHED):
                self._near[person.track] = now
                if not known:
                    self._events.emit(
                        "person.near", now, track=person.track, part=person.nearest_part or "unknown",
                        distance=round(person.nearest_distance, 3), position=[round(v, 3) for v in person.nearest],
                        camera=person.camera, exposure=person.exposure,
                    )  # fmt: skip

    def close(self) -> None:
        """End the library's threads and let the frames' sources go."""
        self._core.close()
        for source in self._sources.values():
            source.close()
