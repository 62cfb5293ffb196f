"""Builds each node of a session on the ports it is given: the one place that knows who needs what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cell.bus.ports import Node, Ports
from cell.clock import Clock
from cell.config import LoadedCell
from cell.contact_truth import contact_truth
from cell.session import (
    ARM,
    CONTROLLER,
    LEDGER,
    PERCEPTION,
    RECORDER,
    SKELETONS,
    SUPERVISOR,
    WORLD,
    Session,
    entry_point,
)
from perception.cameras.links import BusSink, BusSource, ColourSource, FrameSink, FrameSource, RingSink, RingSource
from perception.cameras.ring import RingError, RingFormat, RingReader, RingWriter, ring_folder
from perception.contract import CameraInfo, FrameReady, topic_ready
from perception.core import CameraFusion, PointFusion
from perception.node import CameraNode, PerceptionNode, PointPerceptionNode
from perception.skeletonnode import SkeletonNode
from perception.skeletons import SkeletonCore
from robots.config import RobotConfig
from robots.contract import Driver
from robots.description import load_description
from robots.drivers.combined import ArmWithGripper
from robots.leases import LeaseRules
from robots.model import RobotModel
from robots.rates import RateLimits
from safety.clamping import fixed_boxes
from safety.config import contact_limits, stopping_of
from safety.contract import SECOND
from safety.methods import build_monitor
from safety.node import SupervisorNode
from safety.second import SecondMonitor
from safety.second_arm import ArmGeometry
from safety.second_core import SecondCore
from safety.second_node import SecondNode
from safety.selftest import ModelLimbs, SelfTest
from safety.stopping import Stopping, StoppingError
from safety.supervisor import SupervisorCore
from safety.zones import keep_out_boxes

if TYPE_CHECKING:
    from cell.loading import Loader

PERCEPTION_PERIOD = 0.004
CAMERA_PERIOD = 0.004
LIVE_CAMERA_PERIOD = 0.001
"""Live, a frame is complete at any time; asking for it costs little."""
SELF_TESTED = ("exact", "ssm_contact", "reach")
"""Methods that must answer a phantom in any link with 0, and whose robot node demands the test of both channels; the
others look at a distance or a zone alone."""


def helper_of(name: str, session: Session) -> Loader | None:
    """Start what a live node needs beside itself before it opens any socket: the controller's recipe analysis."""
    if name != CONTROLLER or session.file.mode != "live":
        return None
    from cell.loading import ProcessLoader

    return ProcessLoader(session.cell)


def build(name: str, session: Session, ports: Ports, clock: Clock, boot: int = 1, helper: Loader | None = None) -> Node:
    """Return node `name`. Raises SessionError for a name the session does not have."""
    if name == WORLD:
        return _world(session, ports, clock)
    if name.startswith("camera."):
        return _camera(name.removeprefix("camera."), session, ports)
    if name == PERCEPTION:
        return _perception(session, ports)
    if name == SKELETONS:
        return _skeletons(session, ports)
    if name == SUPERVISOR:
        return _supervisor(session, ports, clock, boot)
    if name == SECOND:
        return _second(session, ports, boot)
    if name == ARM:
        return _arm(session, ports)
    if name == CONTROLLER:
        return _controller(session, ports, helper)
    return _observer(name, session, ports)


def model_of(session: Session) -> RobotModel:
    """The arm's model with its tool."""
    return session.cell.model()


def _robot_block(cell: LoadedCell) -> dict[str, Any]:
    robot = cell.config.robot.model_dump(mode="json")
    if not robot["home_deg"]:
        robot["home_deg"] = [float(v) * 57.29577951308232 for v in cell.home()]
    return robot


def _referee(session: Session) -> dict[str, Any]:
    """Plain numbers for the referee, from the safety configuration."""
    s = session.safety
    numbers = {"human_speed": s.human.slow, "human_speed_near": s.human.fast, "reaction": s.reaction.total}
    limits = contact_limits(s, session.cell.safety_path)
    return {**numbers, **contact_truth(s, limits, model_of(session), session.cell.config.workcell)}


def _world(session: Session, ports: Ports, clock: Clock) -> Node:
    world = session.cell.config.world
    assert world is not None
    options = dict(world.options)
    options.setdefault("people_wait", session.file.attended)
    options.setdefault("judged", "apart" if session.file.mode == "lockstep" else "meanwhile")
    options["referee"] = {**_referee(session), **options.get("referee", {})}
    factory = entry_point("cell.worlds", world.driver)
    node: Node = factory(
        ports,
        session.cell.config.workcell,
        _robot_block(session.cell),
        options,
        session.file.scenario,
        session.file.seed,
        now=clock.now(),
    )
    return node


def camera_options(name: str, cell: LoadedCell, seed: int) -> tuple[str, dict[str, Any]]:
    """Driver of a camera and the options it is built with."""
    camera = next(c for c in cell.config.cameras if c.name == name)
    options = dict(camera.options)
    options["mount"] = camera.mount.model_dump(mode="json")
    options["workcell"] = cell.config.workcell
    options["robot"] = _robot_block(cell)
    options["seed"] = seed
    return camera.driver, options


def camera_infos(cell: LoadedCell, seed: int = 0) -> list[CameraInfo]:
    """What the cameras of a cell are and where, without opening them. Raises CameraError for a wrong option."""
    infos = []
    for camera in cell.config.cameras:
        driver, options = camera_options(camera.name, cell, seed)
        infos.append(entry_point("cell.cameras", driver).describe(camera.name, options))
    return infos


def _camera(name: str, session: Session, ports: Ports) -> Node:
    driver, options = camera_options(name, session.cell, session.file.seed)
    camera = entry_point("cell.cameras", driver)(name, options, ports)
    period = LIVE_CAMERA_PERIOD if session.file.mode == "live" else CAMERA_PERIOD
    return CameraNode(camera, _frame_sink(camera.info, session, ports), ports.event_source(), period)


def camera_ring(info: CameraInfo, session: Session) -> tuple[Path, RingFormat]:
    """Where the frames of a live camera are handed over."""
    return ring_folder(session.file.bus), RingFormat(info.name, info.intrinsics, info.colour)


def _frame_sink(info: CameraInfo, session: Session, ports: Ports) -> FrameSink:
    """Frames go through shared memory between processes, over the bus within one."""
    if session.file.mode != "live":
        return BusSink(ports, info.name, session.skeletons and info.colour)
    from cell.session import SessionError

    try:
        writer = RingWriter(*camera_ring(info, session))
    except RingError as error:
        raise SessionError(str(error)) from error
    return RingSink(writer, ports.publisher(topic_ready(info.name), FrameReady))


def _frame_source(info: CameraInfo, session: Session, ports: Ports) -> FrameSource:
    if session.file.mode != "live":
        return BusSource(ports, info.name)
    # Copying colours would cost more than depth does.
    reader = RingReader(*camera_ring(info, session), colour=False)
    return RingSource(reader, ports.subscriber(topic_ready(info.name), FrameReady))


def _perception(session: Session, ports: Ports) -> Node:
    config = session.cell.config
    if session.file.perception == "surface":
        factory = entry_point("cell.point_sources", config.world.driver if config.world else "none")
        sources = [factory({"seed": session.file.seed, "apart": session.file.mode == "lockstep"}, ports)]
        return PointPerceptionNode(ports, sources, PointFusion(config.perception), PERCEPTION_PERIOD)
    infos = camera_infos(session.cell, session.file.seed)
    fusion = CameraFusion(infos, config.workcell, config.perception, model_of(session))
    links = {info.name: _frame_source(info, session, ports) for info in infos}
    return PerceptionNode(ports, fusion, PERCEPTION_PERIOD, links)


def _skeletons(session: Session, ports: Ports) -> Node:
    config = session.cell.config
    infos = camera_infos(session.cell, session.file.seed)
    core = SkeletonCore(infos, config.workcell, config.perception, model_of(session))
    live = session.file.mode == "live"
    coloured = [info for info in infos if info.colour]
    sources: dict[str, FrameSource] = {
        info.name: RingSource(RingReader(*camera_ring(info, session))) if live else ColourSource(ports, info.name)
        for info in coloured
    }
    return SkeletonNode(ports, core, sources)


def _supervisor(session: Session, ports: Ports, clock: Clock, boot: int) -> Node:
    model = model_of(session)
    limits = session.cell.config.robot.rate_limits.limits
    contact = contact_limits(session.safety, session.cell.safety_path)
    workcell = session.cell.config.workcell
    fixed = fixed_boxes(workcell.fixtures, workcell.floor)
    monitor = build_monitor(
        session.method, session.safety, model, limits, session.reach, contact, fixed, _stopping(session, model, limits)
    )
    exact = session.method in SELF_TESTED
    test = SelfTest(ArmGeometry(load_description(model.name), model.tool_name)) if exact else None
    core = SupervisorCore(session.safety, monitor, model, session.file.fingerprint, boot, session.simulation_only, test)
    return SupervisorNode(ports, core, session.key, session.safety.reaction.monitor_period, clock)


def _stopping(session: Session, model: RobotModel, limits: RateLimits) -> Stopping | None:
    from cell.session import SessionError

    try:
        return stopping_of(session.safety, session.cell.safety_path, model, limits, session.cell.config.robot.driver)
    except StoppingError as error:
        raise SessionError(f"{session.cell.safety_path}: stopping_table: {error}") from error


def _second(session: Session, ports: Ports, boot: int) -> Node:
    model = model_of(session)
    contact = contact_limits(session.safety, session.cell.safety_path)
    cell = session.cell.config
    limits = cell.robot.rate_limits.limits
    stopping = _stopping(session, model, limits)
    table = stopping.table if stopping is not None else None
    monitor = SecondMonitor(session.safety, model, limits, contact, cell.workcell, table)
    test = SelfTest(ModelLimbs(model)) if session.method in SELF_TESTED else None
    core = SecondCore(session.safety, monitor, session.file.fingerprint, boot, test)
    return SecondNode(ports, core, monitor, model, session.key, session.safety.reaction.monitor_period)


def driver_of(robot: RobotConfig, model: RobotModel, ports: Ports) -> Driver:
    """The driver of a cell file's robot block, with the gripper of another make where it names one."""
    driver: Driver = entry_point("cell.robot_drivers", robot.driver)(dict(robot.options), model.dof, ports)
    if robot.gripper is None:
        return driver
    gripper = entry_point("cell.gripper_drivers", robot.gripper.driver)(dict(robot.gripper.options), ports)
    return ArmWithGripper(driver, gripper)


def _arm(session: Session, ports: Ports) -> Node:
    from robots.node import RobotNode

    robot = session.cell.config.robot
    robot = robot.model_copy(update={"keep_out": [*robot.keep_out, *keep_out_boxes(session.safety.zones)]})
    model = model_of(session)
    driver = driver_of(robot, model, ports)
    declared = driver.info.drive_delay
    if declared > session.safety.reaction.drive_delay + 1e-9:
        from cell.session import SessionError

        raise SessionError(
            f"the driver {robot.driver} needs up to {declared} s from command to motion, {session.cell.safety_path} "
            f"allows {session.safety.reaction.drive_delay} s: raise reaction.drive_delay"
        )
    if robot.identified is not None and robot.identified.delay > declared + 1e-9:
        from cell.session import SessionError

        raise SessionError(
            f"the driver {robot.driver} promises {declared} s from command to motion, {robot.identified.delay} s were "
            "measured: raise robot.options.drive_delay"
        )
    rules = LeaseRules(
        issuers=tuple(robot.leases.issuers),
        fingerprint=session.file.fingerprint,
        key=session.key,
        validity=session.safety.reaction.lease_validity + 1e-6,
        state_age=robot.leases.state_age,
        late=robot.leases.late,
        tick=session.safety.reaction.tick,
        tested=tuple(
            issuer
            for issuer in robot.leases.issuers
            if issuer in (SUPERVISOR, SECOND) and session.method in SELF_TESTED
        ),
    )
    return RobotNode(ports, robot, model, driver, rules)


def _controller(session: Session, ports: Ports, loader: Loader | None) -> Node:
    from cell.controller import build_controller

    return build_controller(session, ports, loader)


def _observer(name: str, session: Session, ports: Ports) -> Node:
    if name == LEDGER:
        from cell.ledger import LedgerNode

        return LedgerNode(ports, session.directory / "events.sqlite")
    if name == RECORDER:
        from cell.recorder import RecorderNode

        issuers = tuple(session.cell.config.robot.leases.issuers)
        about = {"safety": session.safety.model_dump_json(), "robot": session.cell.config.robot.model_dump_json()}
        about["fingerprint"] = session.file.fingerprint
        about["workcell"] = session.cell.config.workcell.model_dump_json()
        about["contact_limits"] = contact_limits(session.safety, session.cell.safety_path).model_dump_json()
        stopping = _stopping(session, model_of(session), session.cell.config.robot.rate_limits.limits)
        if stopping is not None:
            about["stopping_table"] = stopping.table.model_dump_json()
        return RecorderNode(
            ports, session.directory / "flight.mcap", issuers=issuers, about=about, skeletons=session.skeletons
        )
    from cell.session import SessionError

    raise SessionError(f"there is no node {name!r}; there are {', '.join(session.node_names)}")
