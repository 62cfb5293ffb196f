"""Runs the third-party Franka simulator on one loopback address, in its own environment: see `scripts/franka_sim.py`.

`.franka-sim/bin/python franka_host.py ADDRESS SLOWER [Q1 .. Q7]`: a second of it lasts SLOWER of the machine's, and the
arm stands at Q, rad, at first. Started by its path, it imports nothing of this project. Somebody at the arm types
`user_stop on`, `user_stop off` or `collision`; the end of its input ends it.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

COLLISION = 7
"""Place of `cartesian_reflex` among the vendor's 41 errors."""


_PR_SET_PDEATHSIG = 1
PRIORITY = 75
"""Of the simulator among those with real-time scheduling, where the machine permits it: an arm waits for nobody."""


SWITCH = 5e-5
"""A thread of the simulator waits so long for the one that computes, s: by default five of its cycles."""


LAST, CALM = 6, 0.5
"""Joint 7 carries little: with its whole damping, taken explicitly each millisecond, the simulated joint never stands
but trembles at 0.08 rad/s."""


class BoundSockets:
    """The module `socket`, except that a datagram socket is bound to the simulator's own address at once."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, family: int, kind: int) -> socket.socket:
        made = socket.socket(family, kind)
        if kind == socket.SOCK_DGRAM:
            made.bind((self._address, 0))
        return made


class SlowTime:
    """The module `time` on a clock that is slower than the machine's."""

    def __init__(self, slower: float) -> None:
        self._slower = slower

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def perf_counter(self) -> float:
        return time.perf_counter() / self._slower

    def monotonic(self) -> float:
        return time.monotonic() / self._slower

    def time(self) -> float:
        return time.time() / self._slower

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds * self._slower)


def slow_down(slower: float) -> None:
    """Let the simulator, whose modules are all loaded, have a clock that is slower than the machine's."""
    for name, module in list(sys.modules.items()):
        if name.startswith("franka_sim") and getattr(module, "time", None) is time:
            module.time = SlowTime(slower)  # type: ignore[attr-defined]


class UserStop:
    """The user stop button: a motion ends, none begins, and each state says so until the button is released."""

    def __init__(self, server: Any) -> None:
        self._server, self._pressed = server, False
        self._modes = importlib.import_module("franka_sim.server.constants").RobotMode
        states = importlib.import_module("franka_sim.robot_state").RobotState
        pack = states.pack_state

        def pack_state(state: Any) -> bytes:
            if self._pressed:  # whatever the end of a motion made of it
                state.state["robot_mode"] = self._modes.kUserStopped
            return bytes(pack(state))

        states.pack_state = pack_state

    def press(self, on: bool) -> None:
        self._pressed = on
        if on:
            self._server._abort_with_error((), "user stop")
        elif self._server.robot_state.state["robot_mode"] == self._modes.kUserStopped:
            self._server.robot_state.state["robot_mode"] = self._modes.kIdle


def obey(server: Any) -> None:
    """Until the input ends."""
    button = UserStop(server)
    for line in sys.stdin:
        if line.strip() == "collision":
            server._abort_with_error(COLLISION, "somebody pushes the arm")
        elif line.startswith("user_stop "):
            button.press(line.split()[1] == "on")
    os._exit(0)


def main(address: str, slow_motion: float, q: list[float]) -> None:
    # Stopped, as a pulled cable has it, it would outlive whoever started it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):  # an arm's controller has a machine of its own
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    sys.setswitchinterval(SWITCH)
    stream = importlib.import_module("franka_sim.server.state_stream")
    stream.socket = BoundSockets(address)  # type: ignore[attr-defined]
    physics = importlib.import_module("franka_sim.mujoco_franka_sim")
    physics.ARM_POSITION_KD[LAST] *= CALM
    if q:
        physics.ARM_INITIAL_Q[:] = q
    server = importlib.import_module("franka_sim").FrankaSimServer(
        host=address, enable_gripper=True, enforce_comm_constraints=True, enforce_motion_limits=True
    )
    slow_down(slow_motion)
    threading.Thread(target=obey, args=(server,), daemon=True).start()
    server.start()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), [float(angle) for angle in sys.argv[3:]])
