"""How a command ends: its exit codes, and the error that is the fault of who typed it."""

from __future__ import annotations

OK, FAILED, BAD_INPUT = 0, 1, 2


class BadInput(Exception):
    """An argument that cannot be used."""
