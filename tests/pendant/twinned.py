"""The demo cell as it is - twin, perception, supervisor, both channels, controller, robot node - with its pendant, in
one process, for tests that drive it from a browser. Truth is asked of the twin, not of the page."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cell.launch import run_directory
from cell.options import RunOptions
from cell.referee import RefereeView
from cell.session import new_session
from cell.together import Together

T = TypeVar("T")
SLOW_MOTION = 0.03
"""Cell seconds a second while somebody looks at a moment."""


class Twinned:
    """A `Together` on a free port, in a thread of its own until the block ends. Make it before any browser."""

    def __init__(self, folder: Path, scenario: str = "none", **more: Any) -> None:
        """`more`: further RunOptions."""
        options = RunOptions(
            recipe=None, runs=folder / "runs", scenario=scenario, perception="surface", mode="lockstep", **more
        )
        self.session = new_session(options, run_directory(options.runs), attended=True)
        self.cell = Together(self.session, folder / "pendant-data", options.runs)
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.referee = RefereeView(self.cell.hub.ports("visitor"))
        self.cell.pendant.every_step.append(lambda _: self.referee.step())
        self._ready = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._events: asyncio.AbstractEventLoop

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # told to the test, whose thread this is not
            self._fault = error
        finally:
            self._ready.set()

    async def _run(self) -> None:
        self._events = asyncio.get_running_loop()
        await self.cell.run(self._listening, self._ready.set)

    def __enter__(self) -> Twinned:
        self._thread.start()
        self._ready.wait(300)
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        self.cell.stop()
        self._thread.join(20)
        self.cell.close()
        self._listening.close()
        self._check()

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault

    def ask(self, question: Callable[[], T]) -> T:
        """Return what `question` returns, called between two steps of the cell."""
        self._check()

        async def answer() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(answer(), self._events).result(60)

    def now(self) -> float:
        """Time of the cell, s."""
        return self.cell.clock.now()

    def parts(self) -> dict[str, list[float]]:
        """Truth: where every part is, name -> x, y, z and quaternion."""
        twin: Any = self.cell.nodes["twin"]
        found: dict[str, list[float]] = self.ask(twin.parts)
        return found

    def joint_speed(self) -> float:
        """Truth: the fastest joint, rad/s."""
        twin: Any = self.cell.nodes["twin"]
        return float(self.ask(twin.joint_speed))
