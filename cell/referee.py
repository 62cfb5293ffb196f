"""Reads what an independent referee of a simulated world reports. On a real cell there is none, and it says so."""

from __future__ import annotations

from typing import Any

from cell.bus.ports import Ports

TOPIC = "twin.referee"
"""The topic a world with a referee publishes its `RefereeReport` on; the struct is read as plain data."""


class RefereeView:
    """Newest report, or None while there is no referee."""

    def __init__(self, ports: Ports) -> None:
        self._reports = ports.subscriber(TOPIC, dict[str, Any])
        self.report: dict[str, Any] | None = None
        self.unjudged = 0.0
        """Time at the end of the run that the referee has not seen when it was given up, s."""

    def step(self) -> None:
        """Take the newest report."""
        envelope = self._reports.take()
        if envelope is not None:
            self.report = envelope.body

    def missing(self, until: float) -> float:
        """How much of the time up to `until`, s, it has not seen; 0 where nobody judges."""
        return 0.0 if self.report is None else max(0.0, until - float(self.report["t"]))

    def count(self, name: str) -> int | None:
        """A count of the report; None if nobody judged."""
        return None if self.report is None else int(self.report[name])

    @property
    def min_separation(self) -> float | None:
        """Smallest true separation, m; None if nobody was ever near or nobody judged."""
        if self.report is None:
            return None
        value = float(self.report["min_separation"])
        return value if value < 1e8 else None
