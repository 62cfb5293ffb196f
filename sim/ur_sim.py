"""The twin's UR arm behind a UR controller, in real time: what `cell ur-sim` runs, and what the tests drive."""

from __future__ import annotations

import contextlib
import errno
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from cell.bus.inprocess import Hub
from cell.clock import RealClock
from robots.model import RobotModel
from robots.workcell import Workcell
from sim.contract import SERVICE
from sim.robot import TwinDriver
from sim.twin import TwinNode
from sim.ur_controller import Ports, UrController
from sim.ur_machine import STARTING, Machine, RobotMode, SafetyMode

CYCLE = 0.002
"""s."""
WATCHDOG = 0.5
"""Of the drives behind the controller, s: whether a client is silent is the controller's business."""
PRIORITY = 58
"""Above the nodes of a cell but the one before the drives."""
PATIENCE = 120.0
"""The kernels may have to be compiled first, s."""
WARM = STARTING + 50
"""Cycles of warming up: until a fault of the arm would count."""
ORDERS = """emergency_stop on|off   the emergency stop button
safeguard on|off        a safeguard input of the controller
protective_stop         as after a collision; a client unlocks it after 5 s at the earliest
slider 0...100          the pendant's speed slider, %
remote on|off           remote control, chosen at the pendant
cable on|off            off: nothing passes on any port, and nobody is told
state                   what the arm and its controller are doing"""


class UrSimulation:
    """One arm without furniture. `step` once a cycle with the machine's monotonic time."""

    def __init__(
        self, address: str, model: str = "ur5e", ports: Ports | None = None, remote: bool = True, running: bool = True
    ) -> None:
        """Raises OSError for an address or port that cannot be had, ValueError for an arm without six joints."""
        self.model = RobotModel.load(model)
        if self.model.dof != 6:
            raise ValueError(f"{model} has {self.model.dof} joints, a UR arm six")
        hub = Hub()
        robot, options = {"model": model, "tool": self.model.tool_name}, {"watchdog": WATCHDOG}
        self._twin = TwinNode(hub.ports("twin"), Workcell(), robot, options)
        self._requests = hub.ports("hands").requester(SERVICE, "hands")
        self._now = 0.0
        arm = TwinDriver({"watchdog": WATCHDOG}, 6, hub.ports("drives"))
        arm.connect(0.0)
        try:
            machine = Machine(arm, model, remote, running)
            self.controller = UrController(arm, address, ports, machine, self._tcp_pose)
        except OSError:
            self._twin.close()
            raise

    def _tcp_pose(self, q: list[float]) -> list[float]:
        """x, y, z, m, and rotation vector, rad, of the tool in the frame the maker calls base: half a turn about the
        vertical from the URDF's root."""
        T = np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.model.fk(q)
        return [*T[:3, 3].tolist(), *rotation_vector(T[:3, :3])]

    def step(self, now: float) -> None:
        self._now = now
        self._twin.step(now)
        self.controller.step(now)

    def warm_up(self) -> None:
        """Load the compiled kernels, which may take longer than the drives wait, then begin anew."""
        clock, machine = RealClock(), self.controller.machine
        running, slowest = machine.robot_mode is RobotMode.RUNNING, math.inf
        self._tcp_pose([0.0] * 6)
        while slowest > 0.5 * WATCHDOG or machine.safety_mode is not SafetyMode.NORMAL:
            machine.power_off(clock.now())
            machine.restart_safety(clock.now())
            if running:
                machine.release_brakes()
            slowest = 0.0
            for _ in range(WARM):
                begun = clock.now()
                self.step(begun)
                slowest = max(slowest, clock.now() - begun)
                time.sleep(CYCLE)

    def order(self, line: str) -> str:
        """Do what a person at the arm does (see `ORDERS`); return what there is to say."""
        words = line.split() or ["state"]
        machine, value = self.controller.machine, words[1] if len(words) > 1 else ""
        on = {"on": True, "off": False}.get(value)
        if words[0] == "state":
            return self._state()
        if words[0] == "protective_stop":
            machine.protective_stop(self._now)
        elif words[0] == "slider" and value.replace(".", "", 1).isdigit() and float(value) <= 100.0:
            machine.slider = float(value) / 100.0
        elif words[0] == "remote" and on is not None:
            machine.remote = on
        elif words[0] == "cable" and on is not None:
            self.controller.cable = on
        elif words[0] in ("emergency_stop", "safeguard") and on is not None:
            self._requests.request({"type": "twin_input", "name": words[0], "value": on}, self._now)
        else:
            return f"not understood: {line.strip()}\n{ORDERS}"
        return "done"

    def _state(self) -> str:
        m = self.controller.machine
        at = " ".join(f"{v:.1f}" for v in np.degrees(m.q))
        return (
            f"robot {m.robot_mode.name}, safety {m.safety_mode.name} {m.fault}, program {m.program.name} "
            f"{m.program_name}, slider {100.0 * m.slider:.0f} %, {'remote' if m.remote else 'local'}, "
            f"joints {at} degrees"
        )

    def close(self) -> None:
        self.controller.close()
        self._twin.close()


def run(simulation: UrSimulation, goes_on: Callable[[], bool]) -> None:
    """Step in real time until `goes_on` says no; steps that are late are not made up for."""
    clock = RealClock()
    due = clock.now()
    while goes_on():
        simulation.step(clock.now())
        due = max(due + CYCLE, clock.now() - CYCLE)
        time.sleep(max(0.0, due - clock.now()))


def rotation_vector(R: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Axis times angle, rad, of a rotation matrix (3, 3); half a turn is told apart by its largest axis."""
    from pinocchio import log3

    return [float(v) for v in log3(np.ascontiguousarray(R))]


# ---------------------------------------------------------------- in a process of its own, for tests


class UrProcess:
    """A simulation in a process of its own, on a loopback address nobody uses, with the vendor's ports."""

    def __init__(self, model: str = "ur5e") -> None:
        """Raises OSError if no address is free."""
        here, there = multiprocessing.Pipe()
        self._pipe = here
        self._process = multiprocessing.get_context("fork").Process(target=_serve, args=(there, model), daemon=True)
        self._process.start()
        there.close()
        self.address = str(self._answer())

    def order(self, line: str) -> str:
        """As `UrSimulation.order`."""
        self._pipe.send(line)
        return str(self._answer())

    def _answer(self) -> str:
        if not self._pipe.poll(PATIENCE):
            raise OSError(errno.ETIMEDOUT, "the simulated arm does not answer")
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    def close(self) -> None:
        """End the process. Idempotent."""
        with contextlib.suppress(OSError):
            self._pipe.send("end")
        self._pipe.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, model: str) -> None:
    # A controller keeps its own time; the nodes of a cell on the same machine must not hold it up.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    try:
        simulation = _on_free_address(model)
    except (OSError, ValueError) as error:
        pipe.send(error)
        return
    simulation.warm_up()
    pipe.send(simulation.controller.address)

    def goes_on() -> bool:
        try:
            if pipe.poll():
                line = pipe.recv()
                if line == "end":
                    return False
                pipe.send(simulation.order(line))
        except (EOFError, OSError):
            return False
        return True

    run(simulation, goes_on)
    simulation.close()


def _on_free_address(model: str) -> UrSimulation:
    for n in range(200):
        number = os.getpid() + 7919 * n
        try:
            return UrSimulation(f"127.{1 + number // 64516 % 250}.{1 + number // 254 % 254}.{1 + number % 254}", model)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no loopback address is free")
