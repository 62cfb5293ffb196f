"""The robot node, a driver and what it is connected to, with a supervisor of the test's own: nothing else runs.

The arm is stopped as it is in operation: a lease with the limit 0 arrives at the robot node, which brakes on the path.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell.bus.inprocess import Hub
from cell.bus.ports import Node
from cell.clock import Clock, RealClock, SimulatedClock
from cell.config import LoadedCell
from cell.session import ARM, WORLD, entry_point
from robots.client import RobotClient
from robots.config import RobotConfig
from robots.conformance.surroundings import Surroundings, surroundings
from robots.contract import Driver, DriverError, RobotState, SpeedLease, topic_lease
from robots.leases import LeaseRules, sign_lease
from robots.model import RobotModel
from robots.motion import Motion
from robots.node import RobotNode
from robots.planning import plan_ptp
from robots.watch import STANDING_SPEED

ISSUER = "stop_test"
VALIDITY = 0.2
"""Of the test's leases, s: an arm whose test is held up for longer stops."""
STANDS_FOR = 0.04
"""The arm stands if no joint was measured moving for so long, s; it stood from the beginning of that time."""
PATIENCE = 30.0
"""Longest time for anything the test waits for, s."""
AT_HOME = 0.01
"""rad."""
SLOWLY = 0.2
"""Share of the nominal speed on the way to where a test begins."""
CALM = 0.1
"""The arm stands for so long before a sweep, s."""


class RigError(Exception):
    """The arm did not do what the test needs; the text says what and what to do."""


class Stopped(NamedTuple):
    """One stop."""

    speed: float
    """Of the joint at the command, rad/s."""
    extension: float
    """m."""
    time: float
    """s."""
    angle: float
    """rad."""


class Arm(NamedTuple):
    """An arm that is to be tested, and what it is connected to."""

    hub: Hub
    config: RobotConfig
    model: RobotModel
    driver: Driver
    world: Node | None
    """Steps before the robot node; None: the arm keeps its own time."""
    simulated_time: bool
    simulated: bool
    """Nothing real moves, whatever keeps the time."""
    loads: bool
    """The world can attach a load."""


def cell_arm(cell: LoadedCell, driver_name: str, world: bool) -> Arm:
    """The arm of a cell. `world`: run the cell's twin in this process on simulated time.

    Raises what driver and world raise."""
    config, hub, model = cell.config, Hub(), cell.model()
    node: Node | None = None
    if world and config.world is not None:
        robot = config.robot.model_dump(mode="json")
        robot["home_deg"] = [float(v) for v in np.degrees(cell.home())]
        factory = entry_point("cell.worlds", config.world.driver)
        node = factory(hub.ports(WORLD), config.workcell, robot, dict(config.world.options), None, 1, now=0.0)
    driver = entry_point("cell.robot_drivers", driver_name)(dict(config.robot.options), model.dof, hub.ports(ARM))
    return Arm(hub, config.robot, model, driver, node, world, world or driver.info.simulated, world)


class _Around:
    """Surroundings as a node."""

    name, period = "around", 0.0

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def warm_up(self) -> None:
        """Nothing of it is compiled at its first use."""

    def step(self, now: float) -> None:
        self._around.step(now)

    def close(self) -> None:
        self._around.close()


def bench_arm(driver_name: str, options: dict[str, Any], block: dict[str, Any] | None = None) -> Arm:
    """The arm of a driver without a cell, in the surroundings of `cell.driver_benches`, else as it is in real time.

    `options`: those of the driver, and `model`; `block`: other fields of the cell file's robot block. Raises
    SessionError for a driver nobody has, and what it raises."""
    hub = Hub()
    factory = entry_point("cell.robot_drivers", driver_name)
    benches = {point.name: point for point in entry_points(group="cell.driver_benches")}
    bench = benches[driver_name].load() if driver_name in benches else None
    around = surroundings(driver_name, factory, bench, hub, options)
    try:
        model = RobotModel.load(around.model)
        own: Mapping[str, Any] = getattr(around, "config", {})
        config = RobotConfig(
            **{"driver": driver_name, "model": around.model, "options": options, **own, **(block or {})}
        )
        driver = around.driver(hub.ports(ARM))
    except BaseException:
        around.close()
        raise
    simulated = bench is not None or driver.info.simulated
    return Arm(hub, config, model, driver, _Around(around), not around.real_time, simulated, False)


class Rig:
    """One arm under test. Not thread safe. `close` stops the drives."""

    def __init__(self, arm: Arm) -> None:
        self.model = arm.model
        self.driver = arm.driver
        self._slower = arm.driver.info.slow_motion
        self._clock: Clock = SimulatedClock() if arm.simulated_time else RealClock(self._slower)
        self._nodes: list[Node] = [] if arm.world is None else [arm.world]
        self._key, self._print = secrets.token_bytes(32), "stop test"
        rules = LeaseRules((ISSUER,), self._print, self._key, validity=VALIDITY)
        self.node = RobotNode(arm.hub.ports(ARM), arm.config, self.model, arm.driver, rules)
        self._nodes.append(self.node)
        self._leases = arm.hub.ports(ISSUER).publisher(topic_lease(ISSUER), SpeedLease)
        self.client = RobotClient(arm.hub.ports("controller"), "controller", "stop-test")
        self._twin = arm.hub.ports("load").requester("twin.requests", "stop-test") if arm.loads else None
        self.limit = 0.0
        self.watch: Callable[[], None] | None = None
        """Called after each tick of the robot node."""
        self._seq = 0
        self._tick = 0
        self._began = self._clock.now()
        self.now = self._began

    def prepare(self, load: float) -> None:
        """Compile, connect, and attach the load (twin only). Raises RigError."""
        for node in self._nodes:
            node.warm_up()  # type: ignore[attr-defined]
        self._connect()
        self._began = self.now = self._clock.now()
        self.until(self._reached, "the drives did not answer")
        if self._twin is not None:
            self._twin.request({"type": "twin_fault", "name": "payload", "value": load}, self.now)
            self.rest(0.2)
            replies = [reply for reply in self._twin.replies() if reply.verdict == "rejected"]
            if replies:
                raise RigError(f"the twin does not carry {load:g} kg: {replies[0].reason}")

    def _connect(self) -> None:
        """Wait for drives in real time before the robot node does: it takes late ones for lost ones."""
        end = self._clock.now() + PATIENCE
        while isinstance(self._clock, RealClock):
            try:
                self.driver.connect(self._clock.now())
                return
            except DriverError as error:
                if self._clock.now() > end:
                    raise RigError(f"the drives were not reached:\n{error.tree()}") from error
            time.sleep(0.02)

    def _reached(self) -> bool:
        return self.client.connected and self.node.published is not None

    def start_at(self, home: NDArray[np.float64]) -> None:
        """See that the arm stands at its rest pose, from where all ways were planned. Raises RigError."""
        off = float(np.abs(np.array(self.state.q) - home).max())
        if not off <= AT_HOME:
            raise RigError(f"a joint is {math.degrees(off):.1f} degrees off the rest pose: move the arm there first")

    def approach(self, q: NDArray[np.float64]) -> None:
        """Go slowly from where the arm stands straight to q (dof,). Raises RigError."""
        at = np.array(self.state.q_commanded)
        if float(np.abs(at - q).max()) > 1e-6:
            self.go(plan_ptp(self.model, at, q, SLOWLY, motion_id="approach", label="to the rest pose"))
            self.finish()

    @property
    def state(self) -> RobotState:
        """Newest state of the arm."""
        state = self.node.published
        if state is None:
            raise RigError("the robot node has no state yet")
        return state

    def step(self) -> None:
        """One tick of the robot node."""
        self._tick += 1
        t = self._began + self._tick * self.node.period
        if isinstance(self._clock, SimulatedClock):
            self._clock.advance_to(t)
        else:
            time.sleep(max(0.0, t - self._clock.now()) * self._slower)
        self.now = self._clock.now()
        self.client.poll(self.now)
        self._permit()
        for node in self._nodes:
            node.step(self.now)
        if self.watch is not None:
            self.watch()
        if self.state_or_none is not None and self.state.fault:
            raise RigError(f"the arm stopped for a fault: {self.state.fault_text}")

    @property
    def state_or_none(self) -> RobotState | None:
        """As `state`, None before the first one."""
        return self.node.published

    def _permit(self) -> None:
        state = self.state_or_none
        self._seq += 1
        exposure = self.now - 0.01
        lease = SpeedLease(
            ISSUER, 1, self._seq, self.limit, state.motion_id if state is not None else "", 0.0, 1e6,
            state.seq if state is not None else 0, exposure, exposure + VALIDITY, "stop test", True, self._print,
        )  # fmt: skip
        self._leases.send(sign_lease(lease, self._key), self.now)

    def rest(self, seconds: float) -> None:
        """Wait."""
        for _ in range(max(1, round(seconds / self.node.period))):
            self.step()

    def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Step until something holds. Raises RigError after PATIENCE."""
        end = self.now + PATIENCE
        while not condition():
            self.step()
            if self.now > end:
                raise RigError(f"{otherwise} within {PATIENCE:.0f} s")

    def go(self, motion: Motion, at: float | None = None) -> None:
        """Start a motion and let it run: to its end, or until the nominal time `at`. Raises RigError."""
        self.limit = 1.0
        request = self.client.move(motion, self.now)
        while True:
            self.step()
            status = self.client.status(request)
            if status.verdict in ("rejected", "failed"):
                raise RigError(f"the robot node refused a motion: {status.reason}")
            if status.verdict == "done":
                return
            if at is not None and self.state.motion_id == motion.motion_id and self.state.progress >= at:
                return

    def finish(self) -> None:
        """Let the motion under way come to its end, and the arm to rest."""
        self.limit = 1.0
        self.until(lambda: not self.state.motion_id and self.state.standing, "the arm did not come to its end")
        self.rest(CALM)

    def stop(self, joint: int, reached: Callable[[NDArray[np.float64]], float]) -> Stopped:
        """Command a stop now and watch until the arm stands. `reached` gives the extension at a posture."""
        before = self.state
        commanded, q = self.now, np.array(before.q)
        self.limit = 0.0
        far, since, stood = 0.0, None, math.nan
        end = self.now + PATIENCE
        while math.isnan(stood):
            self.step()
            s = self.state
            far = max(far, abs(s.q[joint] - before.q[joint]))
            if not max(map(abs, s.dq)) <= STANDING_SPEED:
                since = None
            elif since is None:
                since = s.t
            elif s.t - since >= STANDS_FOR:
                stood = since
            if self.now > end:
                raise RigError("the arm did not stop: switch its drives off")
        return Stopped(abs(before.dq[joint]), reached(q), max(stood - commanded, self.node.period), far)

    def settle(self) -> None:
        """Bring the arm to rest whatever it is doing; gives up after two seconds."""
        self.limit = 0.0
        for _ in range(round(2.0 / self.node.period)):
            try:
                self.step()
            except RigError:
                continue
            if self.state_or_none is None or self.state.standing:
                return

    def close(self) -> None:
        """Let go of everything; drives of a moving arm are stopped by the node."""
        for node in reversed(self._nodes):
            node.close()


__all__: list[Any] = ["ISSUER", "Arm", "Rig", "RigError", "Stopped", "bench_arm", "cell_arm"]
