"""What the telemetry socket says: the newest message of each topic as a map of packed values, shared by all clients.

Each value is packed once; a client gets the bytes of those that have changed since its own last message.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cell.bus.messages import Envelope
from cell.bus.ports import Ports, Subscriber
from cell.contract import TOPIC_RECIPE, TOPIC_STATUS, CellStatus, RecipeStatus
from cell.pendant.devices import devices
from perception.contract import (
    TOPIC_EXPECTED,
    TOPIC_OBSERVATION,
    TOPIC_SKELETONS,
    ExpectedParts,
    Observation,
    Skeletons,
)
from robots.contract import AcceptedMotion, RobotState, topic_motion, topic_state
from robots.manual import HOLD_DEVICE
from robots.model import RobotModel
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY
from safety.contract import SafetyStatus

RATE = 25.0
"""Hz."""
SLOW = 2
"""Pictures, clouds and scenes are looked at every so many ticks."""
MOST_POINTS = 5000
MOST_POSSIBLE = 2000
NOBODY = 1e8
"""A separation above this means that nobody is there, m."""
PATH_POINTS = 120
SCENE = "twin.scene"
"""Topic of a simulated world's truth; read as plain data, a real cell has none."""
_encode = msgspec.msgpack.Encoder().encode


class _Body(msgspec.Struct):
    name: str
    bones: bytes
    body: str = ""


class _Part(msgspec.Struct):
    name: str
    kind: str
    T_base_part: tuple[float, ...]


class Scene(msgspec.Struct):
    """What is drawn of a simulated world's truth."""

    people: list[_Body]
    parts: list[_Part]


class Sample(NamedTuple):
    """One moment of the charts."""

    t: float
    separation: float
    """m; NaN: nobody."""
    required: float
    rate: float
    state: str


class Feed:
    """Looks at the topics and keeps what clients are sent. Call `sample` at `RATE`."""

    def __init__(self, ports: Ports, model: RobotModel, simulated: bool, enabling_device: bool = True) -> None:
        """`enabling_device`: the cell file asks for it."""
        self._model = model
        self._demanded = enabling_device
        self._cell = ports.subscriber(TOPIC_STATUS, CellStatus)
        self._recipe = ports.subscriber(TOPIC_RECIPE, RecipeStatus)
        self._robot = ports.subscriber(topic_state(), RobotState)
        self._motion = ports.subscriber(topic_motion(), AcceptedMotion)
        self._safety = ports.subscriber(TOPIC_SAFETY, SafetyStatus)
        self._observation = ports.subscriber(TOPIC_OBSERVATION, Observation)
        self._skeletons = ports.subscriber(TOPIC_SKELETONS, Skeletons)
        self._scene: Subscriber[Scene] | None = ports.subscriber(SCENE, Scene) if simulated else None
        self._parts = ports.subscriber(TOPIC_EXPECTED, ExpectedParts)
        self.status: CellStatus | None = None
        self.recipe: RecipeStatus | None = None
        self.robot: RobotState | None = None
        self.safety: SafetyStatus | None = None
        self.observation: Observation | None = None
        self.values: dict[str, tuple[int, bytes]] = {}
        """Key -> number of the value, packed value."""
        self.samples: deque[Sample] = deque(maxlen=int(60 * RATE))
        """The last minute."""
        self.listeners: list[Callable[[Sample], None]] = []
        """Told every sample."""
        self._said: dict[str, float] = {}
        self._number = 0
        self._tick = 0

    # ------------------------------------------------------------ in

    def sample(self, now: float, full: bool = True) -> None:
        """Take what is new. `full`: also what only clients need."""
        self._tick += 1
        self._take_cell()
        robot = self._newest("robot", self._robot)
        if robot is not None:
            self.robot = robot
        safety = self._newest("safety", self._safety)
        if safety is not None:
            self.safety = safety
        if full:
            self._pack_arm(robot, safety)
            if self._tick % SLOW == 0:
                self._pack_slow()
        self._note(now)

    def _newest(self, source: str, inbox: Subscriber[Any]) -> Any:
        envelope: Envelope[Any] | None = inbox.take()
        if envelope is None:
            return None
        self._said[source] = envelope.sent_at
        return envelope.body

    def age(self, now: float) -> dict[str, float]:
        """How old the newest message of each source is, s; 1e9 if there never was one."""
        names = ("status", "robot", "safety", "observation")
        return {name: max(0.0, now - self._said[name]) if name in self._said else 1e9 for name in names}

    def _note(self, now: float) -> None:
        robot, safety, status = self.robot, self.safety, self.status
        if robot is None or safety is None or status is None:
            return
        near = safety.separation if safety.separation < NOBODY else float("nan")
        sample = Sample(now, near, safety.required, robot.rate, status.state)
        self.samples.append(sample)
        for listener in self.listeners:
            listener(sample)

    # ------------------------------------------------------------ packing

    def put(self, key: str, value: Any, always: bool = False) -> None:
        """Set a value; it counts as new only if its bytes are, or `always`."""
        packed = _encode(value)
        old = self.values.get(key)
        if always or old is None or old[1] != packed:
            self._number += 1
            self.values[key] = (self._number, packed)

    def _take_cell(self) -> None:
        status, recipe = self._newest("status", self._cell), self._newest("recipe", self._recipe)
        self.status, self.recipe = status or self.status, recipe or self.recipe
        if (status is None and recipe is None) or self.status is None:
            return
        shown = msgspec.to_builtins(self.status)
        del shown["t"]
        shown["step_list"] = step_list(self.status, self.recipe)
        shown["recipe_settings"] = self.recipe.settings if self.recipe is not None else {}
        self.put("status", shown)

    def _pack_arm(self, robot: RobotState | None, safety: SafetyStatus | None) -> None:
        if robot is not None:
            self.put("robot", self._robot_map(robot), always=True)
            self.put("hull", self._hull(robot), always=True)
        if safety is not None:
            self.put("safety", safety_map(safety), always=True)
        motion = self._motion.take()
        if motion is not None:
            self.put("motion", self._motion_map(motion.body))

    def _robot_map(self, robot: RobotState) -> dict[str, Any]:
        shown = msgspec.to_builtins(robot)
        for name in ("seq", "t", "session", "dq_commanded", "rate_slope", "data_age", "tick", "late_leases"):
            del shown[name]
        shown["held"] = robot.held.name if robot.held is not None else None
        shown["devices"] = devices(robot, self._scene is not None, self._demanded)
        shown["manual_missing"] = self.manual_missing(robot)
        shown["T_base_tcp"] = self._model.fk(robot.q).ravel().tolist()
        return shown

    def manual_missing(self, robot: RobotState) -> str:
        """What keeps a person from moving the arm by hand. The device of a simulated arm is held by the button."""
        missing = self.status.manual_missing if self.status is not None else ""
        if missing or (self._scene is not None and robot.manual_missing == HOLD_DEVICE):
            return missing
        return robot.manual_missing if robot.mode == "manual" else ""

    def _hull(self, robot: RobotState) -> dict[str, Any]:
        a, b, radius = self._model.capsules(robot.q, robot.held)
        names = self._model.capsule_names(robot.held)
        links = [
            {"link": name, "a": p.tolist(), "b": q.tolist(), "radius": float(r)}
            for name, p, q, r in zip(names, a, b, radius, strict=True)
        ]
        return {"links": links, "required": self.safety.required if self.safety is not None else None}

    def _motion_map(self, motion: AcceptedMotion) -> dict[str, Any]:
        path = np.frombuffer(motion.path, dtype="<f8").reshape(-1, max(1, motion.dof))
        tcp = np.zeros((0, 3))
        if motion.motion_id and len(path):
            rows = np.unique(np.linspace(0, len(path) - 1, PATH_POINTS).astype(int))
            tcp = self._model.tcp_path(np.ascontiguousarray(path[rows]))
        return {"id": motion.motion_id, "label": motion.label, "tcp": tcp.astype("<f4").tobytes()}

    def _pack_slow(self) -> None:
        observation = self._newest("observation", self._observation)
        if observation is not None:
            self.observation = observation
            self.put("cloud", cloud(observation), always=True)
            tracks = [{"id": t.id, "position": t.position, "velocity": t.velocity} for t in observation.tracks]
            self.put("tracks", tracks)
            fields = ("name", "ok", "reason", "valid_fraction", "dropped")
            self.put("confirmed_clear", observation.confirmed_clear)
            self.put("cameras", [{f: getattr(c, f) for f in fields} for c in observation.cameras])
        skeletons = self._newest("skeletons", self._skeletons)
        if skeletons is not None:
            self.put("skeletons", msgspec.to_builtins(skeletons)["people"])
        self._pack_scene()

    def _pack_scene(self) -> None:
        if self._scene is not None:
            scene = self._newest("scene", self._scene)
            if scene is not None:
                people = [{"name": p.name, "body": p.body, "bones": p.bones} for p in scene.people]
                parts = [{"name": p.name, "kind": p.kind, "pose": p.T_base_part} for p in scene.parts]
                self.put("scene", {"people": people, "parts": parts})
            return
        expected = self._newest("parts", self._parts)
        if expected is not None:
            parts = [{"name": p.name, "kind": p.name.split("#")[0], "pose": p.T_base_part} for p in expected.parts]
            self.put("scene", {"people": [], "parts": parts})


# ---------------------------------------------------------------- pure pieces


def step_list(status: CellStatus, recipe: RecipeStatus | None) -> list[dict[str, Any]]:
    """Return the phases of the loaded recipe with what became of each: done, running, failed, waiting, open."""
    rows = []
    for number, step in enumerate(recipe.steps if recipe is not None else [], start=1):
        state = "open"
        if number < status.step or (number == status.step and status.state in ("Completing", "Complete")):
            state = "done"
        elif number == status.step:
            failed = status.question is not None and status.question.kind == "recovery"
            state = "failed" if failed else "running"
            if status.waits or (status.question is not None and status.question.text.endswith(": done?")):
                state = "done"
        elif number == status.step + 1 and status.waits:
            state = "waiting"
        rows.append({"step": number, "operation": step.operation, "label": step.label, "state": state})
    return rows


def safety_map(safety: SafetyStatus) -> dict[str, Any]:
    """Return the monitor's decision as the page shows it."""
    return {
        "limit": safety.limit,
        "reason": safety.reason,
        "separation": safety.separation if safety.separation < NOBODY else None,
        "required": safety.required,
        "terms": msgspec.to_builtins(safety.terms),
        "link": safety.link,
        "point": safety.point,
        "seen": safety.seen,
        "fingerprint": safety.fingerprint,
        "simulation_only": safety.simulation_only,
    }


def cloud(observation: Observation) -> dict[str, bytes]:
    """Return at most `MOST_POINTS` balls: seen ones come first, of too many every n-th is taken."""
    balls = np.frombuffer(observation.balls, dtype="<f4").reshape(-1, 4)
    seen, possible = balls[: observation.seen], balls[observation.seen :]
    possible = _thin(possible, min(MOST_POSSIBLE, MOST_POINTS))
    seen = _thin(seen, MOST_POINTS - len(possible))
    (a, ra), (b, rb) = _packed(seen), _packed(possible)
    return {"seen": a, "possible": b, "seen_radius": ra, "possible_radius": rb}


def _thin(points: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    return points if len(points) <= most else points[:: -(-len(points) // max(1, most))]


def _packed(points: NDArray[np.float32]) -> tuple[bytes, bytes]:
    """Positions as int16, mm; radii as uint8, cm, rounded up."""
    clean = np.nan_to_num(points, nan=0.0, posinf=32.0, neginf=-32.0)
    places = np.clip(np.rint(clean[:, :3] * 1000.0), -32768, 32767).astype("<i2")
    radii = np.clip(np.ceil(clean[:, 3] * 100.0 - 1e-6), 0, 255).astype(np.uint8)
    return places.tobytes(), radii.tobytes()


class Stream:
    """What one client has been sent."""

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}
        self._seq = 0

    def message(self, values: Mapping[str, tuple[int, bytes]], now: float, age: dict[str, float]) -> bytes:
        """Return one message: what is new since the last one of this client."""
        self._seq += 1
        parts = [_encode("seq"), _encode(self._seq), _encode("t"), _encode(now)]
        parts += [_encode("wall"), _encode(int(time.time() * 1000)), _encode("age"), _encode(age)]
        count = 4
        for key, (number, packed) in values.items():
            if self._sent.get(key) != number:
                self._sent[key] = number
                parts += [_encode(key), packed]
                count += 1
        # A map of fewer than 16 pairs has one byte before it, of fewer than 65,536 three.
        head = bytes([0x80 | count]) if count < 16 else b"\xde" + count.to_bytes(2, "big")
        return b"".join([head, *parts])
