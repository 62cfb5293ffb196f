"""The process that talks to a UR controller with `ur_rtde`, whose calls wait and whose constructors hold everything up.

`python -m robots.drivers.ur_worker SOCKET MEMORY SETTINGS`, both file descriptors: orders come over the socket, what is
measured goes into the memory. One thread reads, the other commands, because braking waits for standstill. It ends with
its driver, and as soon as the controller is silent: it never connects twice, so nothing of `ur_rtde` can start the arm
by itself after an interruption.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import socket
import sys
import threading
import time
from typing import Any

import msgspec

from robots.drivers import ur_link as link
from robots.drivers.egm import ControllerClock

PORTS = {29999: "dashboard", 30004: "RTDE", 30003: "script"}
RATE = 500.0
REACHED = 0.5
"""A port must answer within, s."""
TRIED = 0.2
"""Time between two attempts to find anybody at the address, s."""
SILENT = 0.3
"""Without anything new from the controller for so long the connection is given up, s."""
POWERED = 15.0
"""Switching on and opening the brakes may take, s."""
STARTED = 5.0
NEAR = math.radians(1.0)
"""The first setpoint must be this near to where the arm stands, rad."""
BRAKING = 10.0
"""Deceleration of `servoStop`, m/s^2 at the tool."""
VARIABLES = (
    "timestamp", "actual_q", "actual_qd", "robot_mode", "safety_status_bits", "robot_status_bits", "runtime_state",
    "actual_digital_input_bits", "actual_digital_output_bits", "target_speed_fraction",
)  # fmt: skip


class Unreached(Exception):
    """`parts`: code, cause, remedy of everything that is missing."""

    def __init__(self, parts: list[tuple[str, str, str]]) -> None:
        super().__init__(parts)
        self.parts = parts


class Hand:
    """The commanding half: one thread that may wait. Everything it is told comes through `order` and `aim`."""

    def __init__(self, settings: link.Settings, receive: Any, dashboard: Any) -> None:
        self._settings, self._receive, self._dashboard = settings, receive, dashboard
        self._control: Any = None
        self._io: Any = None
        self._changed = threading.Condition()
        self._orders: list[link.Halt | link.Recover | link.Output] = []
        self._target: list[float] | None = None
        self._heard = math.inf
        self._ending = False
        self._streaming = False
        self.recovered = 0
        self.halted = False
        self.problem = ""
        self.commands, self.commanding = 0, 0.0

    # ------------------------------------------------------------ from the other thread

    def aim(self, q: list[float]) -> None:
        with self._changed:
            self._target = q
            self._changed.notify()

    def order(self, order: link.Halt | link.Recover | link.Output) -> None:
        with self._changed:
            self._orders.append(order)
            if not isinstance(order, link.Output):
                self.halted, self._target = self.halted or isinstance(order, link.Halt), None
            self._changed.notify()

    def see(self) -> None:
        """The controller has stopped the arm: it stays so until a person comes, even if the controller goes on."""
        if self._streaming and not (self._playing() and self.able()):
            self._streaming, self.halted, self.problem = False, True, "the robot's controller stopped the arm"

    def end(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()

    # ------------------------------------------------------------ the thread

    def run(self) -> None:
        """Until `end`; whatever the vendor's package raises halts the arm and is reported."""
        while self._once():
            pass
        with contextlib.suppress(Exception):
            self._brake()
        with contextlib.suppress(Exception):
            if self._control is not None:
                self._control.stopScript()

    def _once(self) -> bool:
        with self._changed:
            if self._target is None and not self._orders and not self._ending:
                self._changed.wait(self._settings.silence / 4.0)
            orders, self._orders = self._orders, []
            target, self._target = self._target, None
            if self._ending:
                return False
        try:
            for order in orders:
                self._carry_out(order)
            self._stream(target)
        except Exception as error:  # ur_rtde raises RuntimeError, ValueError and others, as its C++ does
            self.halted, self.problem = True, f"ur_rtde: {error}"
        return True

    def _carry_out(self, order: link.Halt | link.Recover | link.Output) -> None:
        if isinstance(order, link.Halt):
            self.halted = True  # again: a recovery that was under way may have ended meanwhile
            self._brake()
            if order.category == 0:
                self._dashboard.powerOff()
        elif isinstance(order, link.Recover):
            self.problem = ""
            self._recover()
            self.recovered = order.count
        else:
            if self._io is None:
                self._io = importlib.import_module("rtde_io").RTDEIOInterface(self._settings.address)
            self._io.setStandardDigitalOut(order.bit, order.value)

    def _stream(self, target: list[float] | None) -> None:
        now = time.monotonic()
        if self._control is None or self.halted or self.problem:
            if self._control is not None and self._playing():
                self._control.kickWatchdog()
            return
        if target is None:
            if self._streaming and now - self._heard > self._settings.silence:
                self._brake()
                self.halted, self.problem = True, f"no setpoints came for {self._settings.silence:g} s"
            elif not self._streaming:
                self._control.kickWatchdog()
            return
        if not self._streaming and not self._near(target):
            self.halted, self.problem = True, "the first setpoint was not where the arm stands"
            return
        self.commands, self.commanding = (
            self.commands + 1,
            self.commanding + (now - self._heard if self._streaming else 0.0),
        )
        self._heard, self._streaming = now, True
        s = self._settings
        if not self._control.servoJ(target, 0.0, 0.0, 1.0 / RATE, s.lookahead, s.gain):
            self.halted, self._streaming = True, False
            self.problem = "the control program does not take setpoints"

    def _near(self, target: list[float]) -> bool:
        return max(abs(a - b) for a, b in zip(target, self._receive.getActualQ(), strict=True)) <= NEAR

    def _playing(self) -> bool:
        return bool(self._receive.getRuntimeState() == link.PLAYING)

    def _brake(self) -> None:
        """Waits until the arm stands."""
        streaming, self._streaming = self._streaming, False
        if streaming and self._control is not None and self._playing():
            self._control.servoStop(BRAKING)

    def _recover(self) -> None:
        """What a person's word permits: release a protective stop, switch on, open the brakes, load the program."""
        self._streaming = False
        if not self._dashboard.isInRemoteControl():
            self.problem = "the arm is in local control: choose remote control at the pendant"
            return
        bits = self._receive.getSafetyStatusBits()
        if link.emergency_stopped(bits) or link.safeguarded(bits):
            self.halted, self.problem = True, "the arm was let go on while an emergency or safeguard stop was in force"
            return
        if self._receive.isProtectiveStopped():
            self._dashboard.closeSafetyPopup()
            self._dashboard.unlockProtectiveStop()
            self._wait(lambda: not self._receive.isProtectiveStopped(), 1.0)
        if self._receive.getRobotMode() != link.RUNNING:
            self._dashboard.powerOn()
            self._dashboard.brakeRelease()
            self._wait(lambda: self._receive.getRobotMode() == link.RUNNING, POWERED)
        self.load()
        self.halted = bool(self.problem)

    def _wait(self, done: Any, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until and not self._ending:
            time.sleep(0.01)

    def able(self) -> bool:
        """A program could move the arm."""
        return self._receive.getRobotMode() == link.RUNNING and self._receive.getSafetyStatusBits() & 3 != 0

    def load(self) -> None:
        """Load the control program unless it runs, and have the controller watch this process."""
        if not self.able():
            self.problem = ""
            return
        if self._control is None:
            module = importlib.import_module("rtde_control")
            self._control = module.RTDEControlInterface(self._settings.address, RATE)
        elif not self._playing():
            self._control.reuploadScript()
        self._wait(self._playing, STARTED)
        if not self._playing():
            self.problem = "the control program did not start"
            return
        self._control.setWatchdog(1.0 / self._settings.watchdog)
        if self._settings.payload > 0.0:
            self._control.setPayload(self._settings.payload, list(self._settings.payload_cog))


def missing(address: str) -> list[tuple[str, str, str]]:
    """The ports that do not answer. The dashboard must greet: a cut cable still lets connections be made."""
    parts = []
    for port, what in PORTS.items():
        try:
            with socket.create_connection((address, port), REACHED) as found:
                if what == "dashboard" and not found.recv(256):
                    raise OSError("it hangs up")
        except OSError as error:
            cause = f"{address} does not answer on port {port} ({what}): {error.strerror or error}"
            remedy = "See that the controller is on, the address right, the service enabled"
            parts.append((f"ur_{what.lower()}", cause, remedy))
    return parts


def wait_for(address: str, wire: socket.socket) -> None:
    """Until somebody answers at the address; the driver is told whenever something else is missing."""
    wire.settimeout(TRIED)
    told: list[tuple[str, str, str]] = []
    while found := missing(address):
        if found != told:
            wire.send(link.encode(link.Failed(found)))
            told = found
        with contextlib.suppress(TimeoutError):
            if not wire.recv(link.MOST):
                raise OSError("the driver is gone")


def reach(settings: link.Settings) -> tuple[Any, Any]:
    """RTDE receiver and dashboard. Raises Unreached with everything that is missing."""
    a, parts = settings.address, missing(settings.address)
    if parts:
        raise Unreached(parts)
    dashboard: Any = None
    receive: Any = None
    try:
        dashboard = importlib.import_module("dashboard_client").DashboardClient(a)
        dashboard.connect()
        if not dashboard.isInRemoteControl():
            parts.append(("ur_local", "the arm is in local control", "Choose remote control at the pendant"))
    except Exception as error:  # whatever the vendor's package raises
        parts.append(("ur_dashboard", f"dashboard: {error}", "See that the dashboard server is enabled"))
    try:
        receive = importlib.import_module("rtde_receive").RTDEReceiveInterface(a, RATE, list(VARIABLES))
    except Exception as error:
        parts.append(("ur_rtde", f"RTDE: {error}", "See that RTDE is enabled and no other client is in its way"))
    if parts:
        raise Unreached(parts)
    return receive, dashboard


class Eye:
    """The reading half: what the controller sends becomes reports, what the driver sends becomes orders."""

    def __init__(self, hand: Hand, receive: Any, wire: socket.socket, board: link.Board) -> None:
        self._hand, self._receive, self._wire, self._board = hand, receive, wire, board
        self._clock = ControllerClock()
        self._stamp, self._new = -1.0, time.monotonic()
        self._seq = 0

    def run(self) -> bool:
        """Until the driver hangs up (True) or the controller is silent (False)."""
        self._wire.settimeout(0.5 / RATE)
        while self._listen():
            now = time.monotonic()
            if self._look(now):
                self._new = now
            elif now - self._new > SILENT:
                return False
        return True

    def _listen(self) -> bool:
        """Take orders for a part of a cycle; False when nobody is there any more."""
        try:
            data = self._wire.recv(link.MOST)
        except TimeoutError:
            return True
        except OSError:
            return False
        if not data:
            return False
        order = link.decode_order(data)
        if isinstance(order, link.Target):
            self._hand.aim(order.q)
        else:
            self._hand.order(order)
        return True

    def _look(self, now: float) -> bool:
        """Report a new package; False if there is none."""
        r = self._receive
        stamp = r.getTimestamp()
        if stamp == self._stamp:
            return False
        q, dq = r.getActualQ(), r.getActualQd()
        if r.getTimestamp() != stamp:
            return False  # half of the next package: it is read in a moment
        if stamp < self._stamp:
            return False  # a controller that started anew, or one that makes time run backwards: given up by silence
        self._stamp = stamp
        self._hand.see()
        self._seq += 1
        hand = self._hand
        report = link.Measured(
            self._seq, self._clock.at(round(1e3 * stamp) % (1 << 32), now), q, dq, r.getRobotMode(),
            r.getSafetyStatusBits(), r.getRuntimeState() == link.PLAYING, r.getActualDigitalInputBits(),
            r.getActualDigitalOutputBits(), r.getTargetSpeedFraction(), hand.recovered, hand.halted, hand.problem,
            hand.commands, hand.commanding,
        )  # fmt: skip
        self._board.write(link.encode(report))
        return True


def main(wire: socket.socket, board: link.Board, settings: link.Settings) -> None:
    """Reach the arm, then serve until the driver or the controller is gone."""
    wait_for(settings.address, wire)
    try:
        receive, dashboard = reach(settings)
        hand = Hand(settings, receive, dashboard)
        if settings.load:
            hand.load()
        else:
            hand.halted, hand.problem = True, "the connection was lost: the arm waits for a person"
    except Unreached as error:
        wire.send(link.encode(link.Failed(error.parts)))
        return
    except Exception as error:  # of the control program: whatever the vendor's package raises
        remedy = "See that remote control is chosen and no other client uses RTDE"
        wire.send(link.encode(link.Failed([("ur_script", f"control program: {error}", remedy)])))
        return
    thread = threading.Thread(target=hand.run, name="hand", daemon=True)
    thread.start()
    if Eye(hand, receive, wire, board).run():  # a silent controller cannot be told to brake: its watchdog does it
        hand.end()
        thread.join(1.0)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as opened:
        with contextlib.suppress(OSError):  # the driver may be gone
            main(opened, link.Board(int(sys.argv[2])), msgspec.json.decode(sys.argv[3], type=link.Settings))
    # The vendor's threads are not waited for: one of them may be trying to connect again for ever.
    os._exit(0)
