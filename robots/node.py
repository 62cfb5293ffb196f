"""The robot node's shell: ports and driver round the pure core."""

from __future__ import annotations

import math
from typing import Any

from cell.bus.messages import Envelope
from cell.bus.ports import Ports, Subscriber
from robots.config import RobotConfig
from robots.contract import (
    ARM,
    AcceptedMotion,
    Driver,
    DriverError,
    DriverState,
    Jog,
    RobotState,
    SpeedLease,
    service,
    topic_jog,
    topic_lease,
    topic_motion,
    topic_state,
)
from robots.core import RobotCore
from robots.leases import LeaseRules
from robots.model import RobotModel
from robots.rehearsal import Rehearsal
from robots.requests import REQUESTS
from robots.tick import Inputs, Outputs

ACCOUNT_EVERY = 10.0
"""Between two accounts of the driver in the ledger, s."""
RECONNECT = 1.0
"""Time between two attempts to reach the drives, s."""


class RobotNode:
    """Servo loop round any driver; `cell.bus.ports.Node`. `step` never raises for anything the driver does."""

    def __init__(
        self,
        ports: Ports,
        config: RobotConfig,
        model: RobotModel,
        driver: Driver,
        rules: LeaseRules,
        robot: str = ARM,
    ) -> None:
        self.name = ports.node
        self.period = config.period
        self.driver = driver
        self.core = RobotCore(config, model, driver.info, rules)
        self._state = ports.publisher(topic_state(robot), RobotState)
        self._motion = ports.publisher(topic_motion(robot), AcceptedMotion)
        self._leases: list[tuple[str, Subscriber[SpeedLease]]] = [
            (issuer, ports.subscriber(topic_lease(issuer, robot), SpeedLease)) for issuer in rules.issuers
        ]
        self._jog = ports.subscriber(topic_jog(robot), Jog)
        self._events = ports.event_source()
        self._service = ports.responder(service(robot), REQUESTS)
        self._connected = False
        self._next_connect = -1e18
        self._unreached = ""
        self._last: float | None = None
        self.published: RobotState | None = None
        """The last state that was sent."""
        self._account_due = -math.inf
        self._rehearsal = Rehearsal(config, model, driver.info, rules)

    def warm_up(self) -> None:
        """Load the compiled kernels before the clock runs, on a core that moves nothing."""
        self._rehearsal.run()

    def step(self, now: float) -> None:
        """One tick."""
        self._last = now
        state, error = self._read(now)
        jog = self._jog.take()
        inputs = Inputs(
            state,
            error,
            [(issuer, lease.body) for issuer, lease in ((i, s.take()) for i, s in self._leases) if lease is not None],
            jog.body if isinstance(jog, Envelope) else None,
            self._service.requests(),
            self._unreached,
        )
        out = self.core.step(now, inputs)
        self._drive(now, out)
        self._send(now, out)
        if now >= self._account_due:
            self._account(now)

    def _account(self, now: float) -> None:
        """What the driver has counted, for whoever looks into its pace later."""
        self._account_due = now + ACCOUNT_EVERY
        counted: dict[str, float] = getattr(self.driver, "account", {})
        if counted:
            self._events.emit("robot.drives", now, **counted)

    def _read(self, now: float) -> tuple[DriverState | None, str]:
        try:
            if not self._connected and now >= self._next_connect:
                self._next_connect = now + RECONNECT
                self.driver.connect(now)
                self._connected, self._unreached = True, ""
            return (self.driver.state(now) if self._connected else None), ""
        except DriverError as error:
            if self._connected:
                return None, str(error)
            self._say_why(error, now)
            return None, ""

    def _say_why(self, error: DriverError, now: float) -> None:
        """What keeps the drives from being reached: once, and again whenever it is something else."""
        tree = error.tree()
        if tree != self._unreached:
            self._unreached = tree
            self._events.emit("robot.unreached", now, code=error.code, text=tree)

    def _drive(self, now: float, out: Outputs) -> None:
        """Hand the commands to the driver; whatever it raises is reported and counts as a fault at the next tick."""
        if not self._connected:
            return
        try:
            if out.recover:
                self.driver.recover(out.recover, now)
            if out.stop == 0:
                self.driver.stop(0, now)
            elif out.stop == 1:
                self.driver.stop(1, now)
            if out.setpoint is not None:
                self.driver.send(out.setpoint)
            for name, value in out.outputs:
                self.driver.set_output(name, value)
            if out.grip is not None:
                self.driver.grip(*out.grip)
        except DriverError as error:
            if "driver_fault" in self.core.faults:
                return  # it goes on refusing: reported and stopped already
            out.events.append(("robot.driver_error", {"code": error.code, "text": str(error)}))
            self.core.latch("driver_fault", str(error), out)
            self._stop_again(now)

    def _stop_again(self, now: float) -> None:
        """The driver refused a command: its own stop is asked for at once, and may fail too."""
        try:
            self.driver.stop(1, now)
        except DriverError as error:
            self._events.emit("robot.driver_error", now, code=error.code, text=str(error))

    def _send(self, now: float, out: Outputs) -> None:
        if out.motion is not None:
            self._motion.send(out.motion, now)
        if out.state is not None:
            self._state.send(out.state, now)
            self.published = out.state
        for client, reply in out.replies:
            self._service.reply(client, reply)
        for kind, data in out.events:
            self._events.emit(kind, now, **data)

    def close(self) -> None:
        """Stop the drives. The arm is left to its own brakes, whatever it was doing."""
        now = self._last if self._last is not None else 0.0
        try:
            if self._connected and not self.core.standing:
                self.driver.stop(1, now)
        except DriverError as error:
            self._events.emit("robot.driver_error", now, code=error.code, text=str(error))
        finally:
            self.driver.close()


def lease_rules(config: RobotConfig, fingerprint: str, key: bytes, **changes: Any) -> LeaseRules:
    """Build the lease rules of a cell file's robot block with what is dealt out at launch. Raises ValueError."""
    c = config.leases
    values: dict[str, Any] = {"validity": c.validity, "state_age": c.state_age, "late": c.late, **changes}
    return LeaseRules(tuple(c.issuers), fingerprint, key, **values)
