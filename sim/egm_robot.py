"""The robot's end of ABB's EGM: any arm that has a driver here answers as an ABB controller with a RAPID program would.

It speaks the wire protocol (UDP, protobuf) and behaves as the controller does: it begins, sends feedback every 4 ms,
takes numbered answers, ends the session when none come for `CommTimeout`, and starts a new one only when asked to.
"""

from __future__ import annotations

import importlib
import math
import socket
from collections.abc import Sequence
from typing import Any

from robots.contract import Driver, DriverState, Setpoint
from robots.drivers import egm

NEAR = math.radians(1.0)
"""A new session begins only with a setpoint this near to where the arm stands, rad."""
AT_ONCE = 200
MESSAGES = "ABBRobotEGM._egm_protobuf.egm_pb2"


class EgmRobotEnd:
    """One arm behind EGM. `step` once every 4 ms; reads and writes one UDP socket, never waits."""

    def __init__(
        self,
        arm: Driver,
        to: tuple[str, int],
        address: str = "127.0.0.1",
        comm_timeout: float = 0.1,
        messages: str = MESSAGES,
    ) -> None:
        """`arm`: what moves; `to`: where the feedback goes; `address`: of this end; `messages`: module of the protobuf
        classes (every public package has them; only one fits into a process). Raises OSError."""
        self._messages: Any = importlib.import_module(messages)
        self._unreadable: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
        self.arm = arm
        self._to = to
        self._timeout = comm_timeout
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.setblocking(False)
        self.cable = True
        """False: nothing passes."""
        self.running = True
        """The EGM session runs."""
        self.motors = True
        self.ignored = 0
        """Answers that were repeated, out of order, unreadable or no setpoint."""
        self._sent = 0
        self._number = -1
        self._heard = math.inf
        self._now = 0.0
        self._grips = self._recovers = 0
        self._state: DriverState | None = None

    def step(self, now: float) -> None:
        """A whole cycle: take what has come, let the arm follow, send feedback."""
        self.take(now)
        self.tell(now)

    def take(self, now: float) -> None:
        """Hand what has come to the arm; end the session if nothing has for too long."""
        self._now = now
        for data in self._received():
            self._take(data, now)
        if self.running and now - self._heard > self._timeout:
            self._end(now)

    def tell(self, now: float) -> None:
        """Send the arm's feedback."""
        self._state = self.arm.state(now)
        if self._state is not None and self._state.emergency_stop:
            self.motors = False
        if self._state is not None and self.cable:
            self._send(self._state, now)

    def _received(self) -> list[bytes]:
        found = []
        for _ in range(AT_ONCE):
            try:
                found.append(self._socket.recvfrom(65536)[0])
            except BlockingIOError:
                break
        return found if self.cable else []

    def _take(self, data: bytes, now: float) -> None:
        message = self._messages.EgmSensor()
        try:
            message.ParseFromString(data)
        except self._unreadable:
            self.ignored += 1
            return
        q = egm.to_radians(message.planned.joints.joints, message.planned.externalJoints.joints, self.arm.info.dof)
        numbers = egm.to_robot(message.RAPIDtoRobot.dnum)
        stale = message.header.seqno <= self._number and now - self._heard < self._timeout
        if stale or q is None or numbers is None or not math.isfinite(sum(q)):
            self.ignored += 1
            return
        self._number = message.header.seqno
        if not self.running and not self._begins(q, numbers):
            return
        self._heard = now
        self._follow(q, message, numbers, now)

    def _begins(self, q: Sequence[float], numbers: egm.ToRobot) -> bool:
        """A person asked for a new session, and the setpoint is where the arm stands."""
        state = self._state
        if state is None or state.emergency_stop or numbers.recover_count == self._recovers:
            return False
        if max(abs(a - b) for a, b in zip(q, state.q, strict=True)) > NEAR:
            return False
        self.arm.recover("RAPID", self._now)
        self._recovers, self.running, self.motors = numbers.recover_count, True, True
        return True

    def _follow(self, q: list[float], message: Any, numbers: egm.ToRobot, now: float) -> None:
        dq = egm.to_radians(message.speedRef.joints.joints, message.speedRef.externalJoints.joints, len(q))
        self.arm.send(Setpoint(self._number, now, q, dq or [0.0] * len(q)))
        if numbers.grip_count != self._grips:
            self._grips = numbers.grip_count
            self.arm.grip(1e-3 * numbers.grip_width, numbers.grip_force)
        for n, name in enumerate(self.arm.info.outputs):
            value = bool(numbers.outputs >> n & 1)
            if self._state is not None and self._state.outputs.get(name) is not value:
                self.arm.set_output(name, value)

    def _end(self, now: float) -> None:
        """No answers: the controller stops the arm and ends the session."""
        self.running = False
        self.arm.stop(1, now)

    def _send(self, state: DriverState, now: float) -> None:
        m = self._messages
        message = m.EgmRobot()
        self._sent += 1
        message.header.seqno, message.header.tm = self._sent, round(1e3 * state.t) % (1 << 32)
        message.header.mtype = m.EgmHeader.MSGTYPE_DATA
        joints, external = egm.to_degrees(state.q)
        microseconds = round(1e6 * state.t)
        for part in (message.feedBack, message.planned):
            part.joints.joints.extend(joints)
            part.externalJoints.joints.extend(external)
            part.time.sec, part.time.usec = divmod(microseconds, 1_000_000)
        message.motorState.state = m.EgmMotorState.MOTORS_ON if self.motors else m.EgmMotorState.MOTORS_OFF
        running = self.running and not state.fault
        message.mciState.state = m.EgmMCIState.MCI_RUNNING if running else m.EgmMCIState.MCI_STOPPED
        message.rapidExecState.state = m.EgmRapidCtrlExecState.RAPID_RUNNING
        known = {"emergency_stop", "safeguard", "enabling_device", "mode_switch"}
        inputs = [value for name, value in state.inputs.items() if name not in known]
        bits = [sum(v << n for n, v in enumerate(values)) for values in (inputs, state.outputs.values())]
        message.RAPIDfromRobot.dnum.extend(
            [1e3 * state.gripper_width, state.gripper_holding, *bits, state.emergency_stop, state.safeguard,
             state.enabling_device, egm.MODE_SWITCH.index(state.mode_switch)]
        )  # fmt: skip
        self._socket.sendto(message.SerializeToString(), self._to)

    def close(self) -> None:
        """End the session."""
        self._socket.close()
