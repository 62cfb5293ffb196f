"""A link that can be cut without either end being told: bytes simply stop, as with a pulled cable or a lost network."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlparse


class Relay:
    """Forwards TCP connections to a server on this host until the block ends; `cut` and `mend` stop and go on.

    What was sent meanwhile is kept and delivered late, as a network that comes back does.
    """

    def __init__(self, url: str) -> None:
        self._to = ("127.0.0.1", int(urlparse(url).port or 80))
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._open = threading.Event()
        self._open.set()
        self._ends: list[socket.socket] = []

    def cut(self) -> None:
        """From now on nothing gets through."""
        self._open.clear()

    def mend(self) -> None:
        """What waits is delivered, in order, and the link stands again."""
        self._open.set()

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        for end in (self._door, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection(self._to)
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                self._open.wait()
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
