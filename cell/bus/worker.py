"""A second process that does work for this one on request: bytes there, bytes back, in order, over a pipe.

It is forked, so that it starts with all that is loaded here. What it does must depend on the requests alone; then a
run that uses it stays the same from run to run, however fast the two processes are.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

Handler = Callable[[bytes], bytes]
PATIENCE = 60.0
"""An answer that takes longer never comes, s."""
BUFFER = 1 << 20
"""What a pipe holds before its sender waits for the reader, where the system permits it, bytes."""
_OK, _FAILED = b"+", b"!"
_END = b"\x00end"
"""Said at the end: processes that were forked later hold this end of the pipe open too, so closing it says nothing."""


class WorkerError(Exception):
    """The other process has failed or died; the text says how."""


class Worker:
    """`begin` runs in the new process and returns what answers requests. One thread; `close` ends it."""

    def __init__(self, name: str, begin: Callable[[], Handler], background: bool = False) -> None:
        """`background`: it works with what time others leave."""
        self.name = name
        self.waiting = 0
        """Requests sent that have not been answered yet."""
        self.failed = False
        """An error was raised: no more answers come."""
        here, there = multiprocessing.Pipe()
        for end in (here, there):
            _widen(end)
        self._pipe: Connection = here
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_serve, args=(here, there, begin, background), name=name, daemon=True)
        self._process.start()
        there.close()
        # Asked at every answer: `Connection.poll` builds a selector each time, which costs more than the answer.
        self._arrival = select.poll()
        self._arrival.register(here.fileno(), select.POLLIN)
        self._closed = False

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """0: it ended when it was told to; below 0: by that signal; None: it runs."""
        return self._process.exitcode

    def send(self, request: bytes) -> None:
        """Hand a request over. Raises WorkerError if nobody is there."""
        try:
            self._pipe.send_bytes(request)
        except OSError as error:
            raise self._gone(error) from None
        self.waiting += 1

    def ready(self) -> bool:
        """Is an answer there?"""
        return bool(self._arrival.poll(0))

    def receive(self) -> bytes:
        """Wait for the answer to the oldest unanswered request. Raises WorkerError if it fails, dies or hangs."""
        try:
            if not self._arrival.poll(1e3 * PATIENCE):
                raise TimeoutError(f"no answer within {PATIENCE:.0f} s")
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._gone(error) from None
        self.waiting -= 1
        if answer[:1] != _OK:
            self.failed = True
            raise WorkerError(f"{self.name} failed:\n{answer[1:].decode(errors='replace')}")
        return answer[1:]

    def _gone(self, error: BaseException) -> WorkerError:
        self.failed = True
        if isinstance(error, TimeoutError):
            return WorkerError(f"{self.name}: {error}")
        self._process.join(1.0)
        return WorkerError(f"{self.name}: its process has ended (exit code {self.exit_code}; {error})")

    def close(self) -> None:
        """End the process. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):  # it has ended already, or hangs and reads nothing more
            os.set_blocking(self._pipe.fileno(), False)
            self._pipe.send_bytes(_END)
        self._pipe.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _widen(end: Connection) -> None:
    with socket.socket(fileno=os.dup(end.fileno())) as pipe:
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def _serve(other_end: Connection, pipe: Connection, begin: Callable[[], Handler], background: bool) -> None:
    """Answer until the other end closes. Ctrl-C is the other process's business: it ends this one by closing."""
    other_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        # Work on request never takes the processor from what has to keep time.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    if background:
        os.nice(10)
    # What came with the fork belongs to the other process: looking through it would only copy its pages.
    gc.freeze()
    handler: Handler | None = None
    while True:
        try:
            request = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        if request == _END:
            return
        try:
            handler = handler or begin()
            answer = _OK + handler(request)
        except Exception:
            answer = _FAILED + traceback.format_exc().encode()
        try:
            pipe.send_bytes(answer)
        except OSError:
            return


__all__ = ["Handler", "Worker", "WorkerError"]
