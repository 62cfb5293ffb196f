"""The twin's depth camera: to the camera node it is a make of camera like any other. Entry point `cell.cameras`."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal, get_args

import numpy as np
from pydantic import Field, ValidationError

from cell.bus.ports import Ports
from perception.config import Mount
from perception.contract import CameraError, CameraInfo, Frame, Intrinsics
from robots.workcell import Workcell
from sim.arms import ArmSpec, arm_spec
from sim.body import load_body
from sim.config import BodyName, Strict
from sim.contract import TOPIC_SCENE, BodyPose, Scene
from sim.noise import MODELS, NATIVE_WIDTH, DepthNoise, Effects
from sim.raster import RasterRenderer
from sim.render import GlRenderer, Renderer, View


class CameraOptions(Strict):
    """A camera's `options` of the cell file for the driver `twin`; `mount` comes from the camera's block."""

    mount: Mount
    model: Literal["D435", "D455"] = "D455"
    width: int = Field(424, ge=64, le=1280)
    height: int = Field(240, ge=48, le=800)
    rate_hz: float = Field(30.0, gt=0.0, le=90.0)
    decimation: int = Field(2, ge=1, le=4)
    latency: float = Field(0.030, ge=0.0, le=1.0)
    """Exposure to delivery, s."""
    colour: bool = False
    stereo_noise: bool = True
    quantisation: bool = True
    edge_holes: bool = True
    dark_holes: bool = True
    flying_pixels: bool = True
    scatter: float = Field(0.02, ge=0.0, le=0.5)
    """Share of scattered invalid pixels."""
    drop: float = Field(0.0, ge=0.0, le=1.0)
    """Probability that a frame is lost; its number is used up."""
    repeat: float = Field(0.0, ge=0.0, le=1.0)
    """Probability that a frame is delivered twice."""
    seed: int = Field(1, ge=0)
    renderer: Literal["auto", "raster", "egl", "tiny"] = "auto"
    """`auto`: the rasteriser for depth alone; for colour OpenGL, or PyBullet's renderer where there is no EGL."""


def describe(name: str, options: dict[str, Any]) -> tuple[CameraInfo, CameraOptions, DepthNoise]:
    """What the camera `name` is, without opening it. Raises CameraError for a wrong option."""
    given = {key: value for key, value in options.items() if key not in ("workcell", "robot")}
    try:
        o = CameraOptions.model_validate(given)
        pose = o.mount.T_base_camera()
    except (ValidationError, ValueError) as error:
        raise CameraError(f"camera {name}: {error}") from error
    model = MODELS[o.model]
    focal = model.focal * o.width / NATIVE_WIDTH
    effects = Effects(o.stereo_noise, o.quantisation, o.edge_holes, o.dark_holes, o.flying_pixels, o.scatter)
    identity = int.from_bytes(name.encode()[-6:], "big")
    noise = DepthNoise(model, o.width, o.decimation, effects, o.seed * 1_000_003 + identity % 1_000_003)
    info = CameraInfo(
        name=name,
        model=f"twin {o.model}",
        intrinsics=Intrinsics(o.width, o.height, focal, focal, (o.width - 1) / 2, (o.height - 1) / 2),
        rate=o.rate_hz,
        T_base_camera=tuple(float(v) for v in pose.reshape(-1)),
        noise_coefficient=noise.coefficient,
        depth_min=model.depth_min,
        depth_max=model.depth_max,
        colour=o.colour,
    )
    return info, o, noise


class TwinCamera:
    """Implements `perception.contract.Camera` from the `Scene` topic.

    A picture is exposed at the first scene at or after each multiple of the frame time and handed out `latency` later.
    Rendering happens when the picture is exposed; nothing is drawn that is never delivered.
    """

    def __init__(self, name: str, options: dict[str, Any], ports: Ports) -> None:
        """`options` also holds `workcell` (a Workcell or its contents) and `robot` (the arm's model name).
        Raises CameraError for a wrong option."""
        self.info, self.options, self._noise = describe(name, options)
        workcell, robot = options.get("workcell"), options.get("robot", "panda")
        if self.options.colour and self.options.renderer == "raster":
            raise CameraError(f"camera {name}: the renderer `raster` draws depth only; take `auto` for colour")
        try:
            self._workcell = workcell if isinstance(workcell, Workcell) else Workcell.model_validate(workcell or {})
            self._arm: ArmSpec = arm_spec(str(robot["model"] if isinstance(robot, dict) else robot))
        except (ValidationError, ValueError, FileNotFoundError) as error:
            raise CameraError(f"camera {name}: {error}") from error
        k = self.info.intrinsics
        pose = self.options.mount.T_base_camera()
        self._view = View(k.width, k.height, k.fx, k.fy, k.cx, k.cy, pose)
        self._scenes = ports.subscriber(TOPIC_SCENE, Scene)
        self._events = ports.event_source()
        self._renderer: Renderer | None = None
        self._fallback = ""
        self._due = -math.inf
        self._seq = 0
        self._waiting: deque[tuple[float, Frame]] = deque()

    @staticmethod
    def describe(name: str, options: dict[str, Any]) -> CameraInfo:
        """What the camera is and where, without opening it. Raises CameraError for a wrong option."""
        return describe(name, options)[0]

    def connect(self, now: float) -> None:
        """Open the renderer. Idempotent. Colour without EGL falls back to PyBullet's renderer; which one draws is
        reported as `camera.renderer`. Raises CameraError if none works."""
        if math.isinf(self._due):
            reason = self._open()
            assert self._renderer is not None
            name = self._renderer.name
            self._events.emit("camera.renderer", now, camera=self.info.name, renderer=name, reason=reason)
            self._due = now

    def warm_up(self) -> None:
        """Open the renderer and draw one picture: the first one costs more than a camera may be late."""
        self._open()
        assert self._renderer is not None
        arm = [0.0] * len(self._arm.joints)
        for body in get_args(BodyName):
            bones = np.zeros((len(load_body(body).bones), 3, 4), "<f4").tobytes()
            picture = self._renderer.draw(Scene(0.0, arm, 0.0, [BodyPose(body, bones, body)], []), self.options.colour)
        self._noise.apply(picture.depth, picture.shade, 0)

    def _open(self) -> str:
        """Open the renderer; return why it is not the one that was asked for."""
        if self._renderer is not None:
            return self._fallback
        reason = ""
        wanted = self.options.renderer
        if wanted == "auto":
            wanted = "egl" if self.options.colour else "raster"
        if wanted == "raster":
            self._renderer = RasterRenderer(self._view, self._workcell, self._arm)
        if wanted == "egl":
            try:
                self._renderer = GlRenderer(self._view, self._workcell, self._arm)
            except Exception as error:  # moderngl raises its own kinds and plain Exception
                reason = f"no EGL ({error}); install libegl1 and libgl1-mesa-dri"
        if self._renderer is None:
            if self.options.renderer == "egl":
                raise CameraError(f"camera {self.info.name}: {reason}")
            from sim.tiny import TinyRenderer

            self._renderer = TinyRenderer(self._view, self._workcell, self._arm)
        self._fallback = reason
        return reason

    def poll(self, now: float) -> Frame | None:
        """Return the newest frame delivered by `now` that was not returned yet. Raises CameraError if not connected."""
        if self._renderer is None:
            raise CameraError(f"camera {self.info.name} is not connected")
        # Scenes between two exposures are not even decoded.
        envelope = self._scenes.take() if now >= self._due - 1e-6 else None
        if envelope is not None and envelope.body.t >= self._due - 1e-6:
            self._expose(envelope.body, self._renderer)
        newest = None
        while self._waiting and self._waiting[0][0] <= now + 1e-9:
            newest = self._waiting.popleft()[1]
        return newest

    def _expose(self, scene: Scene, renderer: Renderer) -> None:
        period = 1.0 / self.options.rate_hz
        self._due = max(self._due, scene.t - period) + period
        self._seq += 1
        o = self.options
        lost, twice = np.random.default_rng([o.seed, self._seq, 7]).random(2) if o.drop or o.repeat else (1.0, 1.0)
        if lost < o.drop:
            return
        picture = renderer.draw(scene, o.colour)
        depth = self._noise.apply(picture.depth, picture.shade, self._seq)
        frame = Frame(self.info.name, self._seq, scene.t, depth, picture.colour)
        delivered = scene.t + o.latency
        self._waiting.append((delivered, frame))
        if twice < o.repeat:
            self._waiting.append((delivered + 0.5 * period, frame))

    def knock(self, shift: tuple[float, float, float]) -> None:
        """Shift the camera in its own frame by `shift` (m): what it sees changes, what it says of itself does not."""
        pose = self._view.pose.copy()
        pose[:3, 3] += pose[:3, :3] @ np.asarray(shift, float)
        self._view = self._view._replace(pose=pose)
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
            self._open()

    def close(self) -> None:
        """Free the renderer. Idempotent."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
            self._due = -math.inf
        self._waiting.clear()
