"""Tables of reference figures that are not in the repository."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Rows = Callable[[str], list[dict[str, str]]]


@pytest.fixture(scope="session")
def table() -> Rows:
    """Return a reader of one table by name: a list of rows."""
    folder = Path(os.environ.get("CELL_TEST_DATA", ROOT.parent / "shared")) / "tables"
    if not folder.is_dir():
        pytest.skip(f"no reference tables in {folder}: set CELL_TEST_DATA")

    def rows(name: str) -> list[dict[str, str]]:
        with (folder / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    return rows
