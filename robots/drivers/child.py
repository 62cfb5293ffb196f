"""A process of one driver's own, for a vendor's client that waits: orders go there, the newest state comes back."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

from robots.drivers.ur_link import MOST, Board


class Child:
    """`python -m MODULE SOCKET MEMORY SETTINGS`, both file descriptors. It ends when it is hung up on."""

    GRACE = 2.0
    """So long after it was hung up on it is killed, s."""

    def __init__(self, module: str, settings: bytes) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        memory = os.memfd_create("driver")
        os.truncate(memory, Board.SIZE)
        descriptors = (there.fileno(), memory)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, descriptors), settings.decode()], pass_fds=descriptors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._wire: socket.socket | None = here
        self._board = Board(memory)
        os.close(memory)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def open(self) -> bool:
        """Nobody has hung up yet."""
        return self._wire is not None

    @property
    def gone(self) -> bool:
        """The process has ended."""
        return self._process.poll() is not None

    def newest(self) -> bytes | None:
        """What the process wrote last, if anything."""
        return self._board.read() if self._wire is not None else None

    def heard(self) -> bytes | None:
        """A message, None without one. One that hangs up is hung up on: `open` says so."""
        if self._wire is None:
            return None
        try:
            data = self._wire.recv(MOST)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if data:
            return data
        self.hang_up()
        return None

    def tell(self, data: bytes) -> bool:
        """False if the process is gone or does not listen."""
        if self._wire is None:
            return False
        try:
            self._wire.send(data)
        except OSError:
            return False
        return True

    def hang_up(self) -> None:
        """Idempotent."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
            self._board.close()

    def kill(self) -> None:
        """At once; whatever it was doing."""
        self.hang_up()
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Hang up and wait until it has ended by itself, or has had its time."""
        self.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.GRACE)
        self.kill()
