"""The third-party Franka simulator as a process of its own, on a loopback address nobody else uses."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sim import franka_host

FOLDER = "FRANKA_SIM"
"""Environment variable with the folder that `scripts/franka_sim.py` made, if it is not in the source tree."""
PORTS = (1337, 1338)
"""Of the arm and of the gripper: the vendor's client knows no others."""
PATIENCE = 60.0
"""The simulator may take so long to answer, s."""


class NotInstalled(Exception):
    """The simulator's environment is missing; the text says how to make it."""


def folder() -> Path:
    """Of the simulator's environment. Raises NotInstalled."""
    made = Path(os.environ.get(FOLDER) or Path(__file__).resolve().parent.parent / ".franka-sim")
    if not ((made / "bin" / "python").exists() and (made / "fr3.xml").exists()):
        raise NotInstalled(f"no Franka simulator in {made}: make it with `python scripts/franka_sim.py`")
    return made


class FrankaServer:
    """A simulated FR3 that keeps its own time, with a gripper and nothing to grip; ends with this process."""

    def __init__(self, address: str = "", slow_motion: float = 1.0, q: Sequence[float] = ()) -> None:
        """`address`: a certain one; `slow_motion`: its second lasts so many of the machine's; `q`: where the arm stands
        at first (7), rad. Raises NotInstalled, or OSError if the simulator does not come up."""
        python = folder() / "bin" / "python"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the process does
        self.address = address or free_address()
        # A session of its own: an interrupt at the keyboard is for whoever started it, who then ends it.
        self._process = subprocess.Popen(
            [str(python), str(Path(franka_host.__file__).resolve()), self.address, str(slow_motion),
             *map(str, q)],
            stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "FR3_MJCF": str(folder() / "fr3.xml")}, cwd=tempfile.gettempdir(),
        )  # fmt: skip
        try:
            self._wait()
        except OSError:
            self.close()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while not all(map(self._answers, PORTS)):
            if self._process.poll() is not None or time.monotonic() > until:
                raise OSError(errno.ETIMEDOUT, f"the simulator does not come up: {self.said()[-2000:]}")
            time.sleep(0.1)

    def _answers(self, port: int) -> bool:
        # Looking at the table of listeners: connecting would count as a client, and only one is served.
        return port in listening(self.address)

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self) -> str:
        """What the simulator has logged."""
        with open(f"/proc/self/fd/{self._log.fileno()}", "rb") as log:
            return log.read().decode(errors="replace")

    def order(self, line: str) -> None:
        """`user_stop on`, `user_stop off` or `collision`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def freeze(self) -> None:
        """The simulator stands still, as if its cable were pulled: nothing comes, nothing is hung up."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """At once, without a word to anybody."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it. Idempotent."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self.kill()
        self._log.close()


def listening(address: str) -> set[int]:
    """TCP ports of this machine that are listened to at an IPv4 address."""
    wanted = socket.inet_aton(address)[::-1].hex().upper()
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        where, port = local.split(":")
        if state == "0A" and where in (wanted, "00000000"):
            ports.add(int(port, 16))
    return ports


def free_address() -> str:
    """A loopback address on which both ports are free, another one for each process that asks. Raises OSError."""
    for n in range(200):
        number = os.getpid() + 7919 * n + int(time.monotonic_ns() // 1000) % 7919
        address = f"127.{1 + number // 64516 % 250}.{1 + number // 254 % 254}.{1 + number % 254}"
        if not set(PORTS) & listening(address):
            return address
    raise OSError(errno.EADDRINUSE, "no loopback address is free for the simulator")
