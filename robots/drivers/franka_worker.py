"""The process that talks to a Franka arm with `pylibfranka`, one command for each state, a thousand times a second.

`python -m robots.drivers.franka_worker SOCKET MEMORY SETTINGS`, both file descriptors: orders come over the socket, the
newest state goes into the memory. `pylibfranka` keeps the interpreter to itself while it waits, so there is one thread
and nothing else happens in it. It ends with its driver, and at the first interruption: it never connects twice.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import socket
import sys
from typing import Any

import msgspec

from cell.clock import RealClock
from robots.drivers import franka_link as link
from robots.drivers.franka_motion import DT, Metronome, Shaper, Stream
from robots.drivers.ur_link import Board

PORT = 1337
REACHED = 0.5
"""The port must answer within, s."""
TRIED = 0.5
"""Time between two attempts to reach the arm, s."""
NEAR = math.radians(1.0)
"""The first setpoint must be this near to where the arm stands, rad."""
WAITED = 1e-4
"""A state for which there was less than this to wait, s, has lain there already: its answer may come after the next."""
LATE = 6e-4
"""A state that came so long ago is not answered any more, s: the answer takes its time as well."""
MOST_SKIPPED = 15
"""In a row: after 20 the controller ends the motion."""
SETTLING = 8
"""States, at most, that may still tell where the arm was held before: a command that begins there is a jump."""
PRIORITY = 70
"""Of the process among those with real-time scheduling, where the machine permits it: above every node of the cell."""


class Arm:
    """One connection. Everything happens in `run`, between a state of the controller and the next."""

    def __init__(self, vendor: Any, robot: Any, settings: link.Settings, wire: socket.socket, board: Board) -> None:
        self._vendor, self._robot, self._settings = vendor, robot, settings
        self._wire, self._board = wire, board
        self._now = RealClock(settings.slow_motion).now
        wire.setblocking(False)
        self._control: Any = None
        self._stream = Stream()
        self._clock = Metronome(0.1, Metronome.LOST)
        self._shaper = Shaper([0.0] * 7)
        self._heard = math.inf
        self._fresh: link.Target | None = None
        """Newest setpoint that came since the last cycle."""
        self._braking = False
        self._category = -1
        """Of a stop that was asked for and is not carried out; -1: none."""
        self._asked = 0
        """`Recover` that was asked for last."""
        self._recovered = 0
        self._recovery: Recovery | None = None
        self._halted = not settings.ready
        self._problem = "" if settings.ready else "the connection was lost: the arm waits for a person"
        self._seq = self._ticks = self._skipped = self._cycles = self._missed = 0
        self._ending = False

    def run(self) -> None:
        """Until the driver hangs up and the arm stands. Raises what the vendor's client raises of the network."""
        while not (self._ending and self._control is None):
            self._listen()
            if self._control is None:
                self._watch()
            else:
                self._command()

    # ------------------------------------------------------------ orders

    def _listen(self) -> None:
        """Take every order that has come."""
        while not self._ending:
            try:
                data = self._wire.recv(link.MOST)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._ending = True
                return
            order = link.decode_order(data)
            if isinstance(order, link.Target):
                self._take(order)
            elif isinstance(order, link.Halt):
                self._halted, self._asked = True, self._recovered
                self._category = order.category
            else:
                self._asked = order.count

    def _take(self, target: link.Target) -> None:
        if not self._halted and self._stream.put(target.seq, target.t, target.q):
            self._fresh, self._heard = target, self._now()

    # ------------------------------------------------------------ not in command

    def _watch(self) -> None:
        """Read one state; begin to command if there is somebody to follow, recover if a person asked for it."""
        state = self._robot.read_once()
        now = self._now()
        self._look(state, now)
        self._category = -1
        if self._ending:
            return
        mode, target, self._fresh = int(state.robot_mode), self._fresh, None
        if self._recovery is not None:
            outcome = self._recovery.outcome()
            if outcome is not None:
                self._recovery = None
                self._go_on(outcome)
        elif self._asked != self._recovered:
            self._recover(state, mode)
        elif self._halted:
            return
        elif mode not in (link.IDLE, link.MOVE):
            self._hold("the arm was not ready to be moved: it waits for a person")
        elif target is not None and mode == link.IDLE:
            if max(abs(a - b) for a, b in zip(target.q, state.q, strict=True)) > NEAR:
                self._hold("the first setpoint was not where the arm stands")
            else:
                self._begin()

    def _begin(self) -> None:
        try:
            self._control = self._robot.start_joint_position_control(self._vendor.ControllerMode.JointImpedance)
            state, _ = self._control.readOnce()
            for _ in range(SETTLING):
                before, (state, _) = state, self._control.readOnce()
                if max(abs(a - b) for a, b in zip(before.q_d, state.q_d, strict=True)) < 1e-7:
                    break
        except (self._vendor.CommandException, self._vendor.ControlException) as error:
            self._lose(error)
            return
        self._shaper = Shaper(state.q_d, self._settings.scale)
        self._clock = Metronome(0.1, Metronome.LOST)
        self._ticks, self._skipped, self._braking = 0, 0, False
        self._answer(state, 0, self._now())

    def _recover(self, state: Any, mode: int) -> None:
        """What a person's word permits: clear the vendor's error, once, and follow again."""
        if mode == link.USER_STOPPED:
            self._go_on("the arm was let go on while the user stop was in force")
        elif mode == link.REFLEX or state.current_errors:
            self._recovery = Recovery(self._robot)
        else:
            self._go_on("")

    def _go_on(self, problem: str) -> None:
        """Follow again if there is no problem, and nobody has stopped the arm again meanwhile."""
        if self._asked != self._recovered:
            self._recovered, self._halted, self._problem = self._asked, bool(problem), problem
            self._stream, self._heard = Stream(), math.inf

    def _hold(self, problem: str) -> None:
        self._halted, self._problem = True, problem

    # ------------------------------------------------------------ in command

    def _command(self) -> None:
        """Answer one state with one command."""
        before = self._now()
        try:
            state, elapsed = self._control.readOnce()
        except (self._vendor.CommandException, self._vendor.ControlException) as error:
            self._lose(error)
            return
        came = self._now()
        self._listen()
        cycles = max(1, round(1e3 * elapsed.to_sec()))
        lost = cycles - 1 + (self._skipped > 0)
        self._missed += lost
        self._cycles += cycles
        self._shaper.agree(state.q_d, state.dq_d, state.ddq_d, lost)
        self._answer(state, cycles, came if came - before >= WAITED else -math.inf)

    def _answer(self, state: Any, cycles: int, came: float) -> None:
        """`came`: when the state did, s; -inf if nobody was there to see it."""
        now = self._now()
        self._ticks += cycles
        self._clock.take(self._ticks, now)
        if not self._braking:
            self._braking = self._must_brake(now)
        try:
            if self._category == 0:
                self._control = None  # letting go of it has the controller stop the motion by itself
                self._category = -1
            elif self._braking and self._shaper.standing:
                self._finish()
            else:
                self._go(self._shaper.brake() if self._braking else self._follow(now), came)
        except (self._vendor.CommandException, self._vendor.ControlException) as error:
            self._lose(error)
        self._look(state, now)

    def _follow(self, now: float) -> list[float]:
        due = self._clock.at(self._ticks + 1) if self._clock.period else now
        # A controller whose milliseconds last longer than ours, as a simulator's may, gets longer strides.
        pace = min(max(self._clock.period / DT, 0.5), 2.0) if self._clock.period else 1.0
        return self._shaper.follow(self._stream.at(due - self._settings.buffer, pace), pace)

    def _finish(self) -> None:
        last = self._vendor.JointPositions(self._shaper.rest())
        last.motion_finished = True
        self._control.writeOnce(last)
        self._control = None
        self._category = -1

    def _go(self, q: list[float], came: float) -> None:
        command = self._vendor.JointPositions(q)
        if self._too_late(came):
            self._shaper.unsay()
        else:
            self._control.writeOnce(command)

    def _too_late(self, came: float) -> bool:
        """The answer to this state may come after the next one: the arm goes on at constant acceleration instead.

        A controller drops what comes late, and a simulator may not: without an answer both do the same, and say so.
        """
        late = self._ticks > 0 and self._now() - came > LATE
        self._skipped = self._skipped + 1 if late and self._skipped < MOST_SKIPPED else 0
        return self._skipped > 0

    def _must_brake(self, now: float) -> bool:
        if now - self._heard > self._settings.silence and not self._halted:
            self._hold(f"no setpoints came for {self._settings.silence:g} s")
        return self._halted or self._ending or self._asked != self._recovered

    def _lose(self, error: Exception) -> None:
        """The controller ended the motion."""
        self._control = None
        self._hold(f"the controller ended the motion: {str(error).removeprefix('libfranka: ')}")

    # ------------------------------------------------------------ reports

    def _look(self, state: Any, now: float) -> None:
        """Report a state."""
        self._seq += 1
        mode = int(state.robot_mode)
        errors = state.current_errors or (state.last_motion_errors if mode == link.REFLEX else "")
        report = link.Measured(
            self._seq, now, state.q, state.dq, state.tau_J, mode, link.names(str(errors)) if errors else "",
            self._recovered, self._halted, self._problem, self._cycles, self._missed,
            state.control_command_success_rate,
        )  # fmt: skip
        self._board.write(link.encode(report))


class Recovery:
    """The vendor's error recovery, asked for by a copy of this process: it takes up to a second, and while it waits
    `pylibfranka` would let nobody here read the states that tell the robot node where the arm is."""

    def __init__(self, robot: Any) -> None:
        self._end, end = os.pipe()
        self._copy = os.fork()
        if self._copy == 0:
            said = b""
            try:
                robot.automatic_error_recovery()
            except Exception as error:  # whatever the vendor's client raises; nothing may leave this copy
                said = str(error).encode()[:1000] or b"no reason given"
            finally:
                with contextlib.suppress(OSError):
                    os.write(end, said)
                os._exit(0 if not said else 1)
        os.close(end)

    def outcome(self) -> str | None:
        """Empty: recovered; else why not. None while it goes on."""
        pid, status = os.waitpid(self._copy, os.WNOHANG)
        if pid == 0:
            return None
        with os.fdopen(self._end, "rb") as end:
            said = end.read().decode(errors="replace")
        if status == 0:
            return ""
        return f"the error was not cleared: {said.removeprefix('libfranka: ') or 'no reason given'}"


def reach(vendor: Any, settings: link.Settings) -> Any:
    """The connected, configured robot. Raises what the vendor's client raises, and OSError."""
    with socket.create_connection((settings.address, PORT), REACHED):
        pass  # the vendor's client waits longer for nobody
    real = vendor.RealtimeConfig.kEnforce if settings.realtime else vendor.RealtimeConfig.kIgnore
    robot = vendor.Robot(settings.address, real)
    robot.set_collision_behavior(*settings.torques, *settings.forces)
    if settings.load is not None:
        robot.set_load(*settings.load)
    return robot


def why(vendor: Any, settings: link.Settings, error: Exception) -> tuple[str, str, str]:
    """Code, cause and remedy of what kept the arm from being reached."""
    said = str(error).removeprefix("libfranka: ")
    if isinstance(error, vendor.RealtimeException):
        remedy = "Run a PREEMPT_RT kernel and permit real-time priorities, or choose `realtime: ignore`"
        return "franka_realtime", f"no real-time scheduling: {said}", remedy
    if isinstance(error, (vendor.NetworkException, OSError)):
        cause = f"{settings.address} does not answer on port {PORT} (FCI): {said}"
        remedy = "See that the arm is on, its joints unlocked, FCI activated in Desk, and no other client connected"
        return "franka_network", cause, remedy
    if isinstance(error, vendor.CommandException):
        return "franka_refused", f"payload or collision thresholds: {said}", "Correct robot.options"
    return "franka_client", f"the vendor's client: {said}", "See that its version fits the arm's system image"


def wait_for(vendor: Any, settings: link.Settings, wire: socket.socket) -> Any:
    """Until the arm is reached; the driver is told whenever something else is in the way. Raises OSError without it."""
    wire.settimeout(TRIED)
    told: tuple[str, str, str] | None = None
    while True:
        try:
            return reach(vendor, settings)
        except Exception as error:  # whatever the vendor's client raises
            found = why(vendor, settings, error)
        if found != told:
            wire.send(link.encode(link.Failed([found])))
            told = found
        with contextlib.suppress(TimeoutError):
            if not wire.recv(link.MOST):
                raise OSError("the driver is gone")


def main(wire: socket.socket, board: Board, settings: link.Settings) -> None:
    """Reach the arm, then serve until the driver or the controller is gone."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    vendor = importlib.import_module("pylibfranka")
    robot = wait_for(vendor, settings, wire)
    try:
        Arm(vendor, robot, settings, wire, board).run()
    except Exception as error:  # of the network: the connection is given up, and the reason told
        wire.setblocking(True)
        wire.send(link.encode(link.Failed([why(vendor, settings, error)])))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as opened:
        with contextlib.suppress(OSError):  # the driver may be gone
            main(opened, Board(int(sys.argv[2])), msgspec.json.decode(sys.argv[3], type=link.Settings))
    # The vendor's client would try to say goodbye to an arm that is not there.
    os._exit(0)
