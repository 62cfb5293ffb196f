"""Where a part of the body can be clamped: gaps between the arm and what stands fixed, and between parts of the arm.

A gap that gets narrower than a part of the body along the motion can crush it (ISO 13854). There the quasi-static
limits of contact hold, elsewhere the transient ones (`safety.contact`).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cell.yamlfile import load_yaml
from robots.workcell import Name, Strict


class Gap(Strict):
    """One row of the table."""

    gap: Annotated[float, Field(gt=0.0, le=2000.0, allow_inf_nan=False)]
    """mm."""
    source: Annotated[str, Field(min_length=1, max_length=400)]


class ClampingGaps(Strict):
    """A file of gaps by body region."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    gaps_mm: Annotated[dict[Name, Gap], Field(min_length=1)]

    def width(self, region: str) -> float:
        """Narrowest gap that is harmless for a region, m; inf for one the file does not know: it is always clamped."""
        row = self.gaps_mm.get(region)
        return float("inf") if row is None else row.gap / 1000.0


@cache
def default_gaps() -> ClampingGaps:
    """Return the table that comes with the package."""
    return load_yaml(Path(str(resources.files("safety").joinpath("data", "clamping_gaps.yaml"))), ClampingGaps)
