"""Fixed protective fields: the least distance of a light curtain, scanner field or the like from the hazard.

ISO 13855:2010 and ISO 13855:2024. Where the figures of the 2024 edition could not be confirmed from public text, the
function refuses instead of guessing. Lengths are mm and speeds mm/s here, as in the standard and in data sheets.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Edition = Literal["2010", "2024"]
Approach = Literal["orthogonal", "parallel"]

HAND = 2000.0
"""Approach speed up to 500 mm, mm/s (2010: 6.2.3; 2024: 5)."""
WALK = 1600.0
"""Approach speed beyond, mm/s."""
SWITCH = 500.0
"""Distance up to which the hand speed holds, mm."""
LEAST_ORTHOGONAL = 100.0
"""Least distance of a field across the direction of approach, mm (2010: 6.2.3.1)."""
COARSE = 850.0
"""C of a device that resolves arms only, 40 mm < d <= 70 mm (2010: 6.2.3.2), and the least C of a parallel field."""
ARM_REACH = 1200.0
"""Reach beyond a parallel field at floor level, mm (2010: 6.3; 2024: D_DS, independent of H)."""
HIGHEST_FIELD = 1000.0
"""Parallel fields lie at most so high above the floor, mm: people could crawl below."""
MOST_T = 100.0
MOST_D = 200.0


class Field(NamedTuple):
    """Result: approach speed, reach past the field and distance from field to hazard."""

    K: float
    """mm/s."""
    reach: float
    """C (2010) or D_DS (2024), mm."""
    S: float
    """mm."""


class FieldError(ValueError):
    """An argument outside the standard. `field` names it."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


def protective_field(
    edition: Edition,
    approach: Approach,
    d_mm: float,
    T: float,
    H: float | None = None,
    reach_over: float = 0.0,
    Z: float = 0.0,
) -> Field:
    """Return the separation distance of a fixed protective field.

    ISO 13855:2010: S = K T + C. ISO 13855:2024: S = K T + D_DS + Z.

    Args:
        edition: `2010` or `2024`.
        approach: `orthogonal` to the field's plane, or `parallel` to it.
        d_mm: detection capability, mm.
        T: overall response time of field, control and machine, s.
        H: height of a parallel field above the floor, mm; of no effect for an orthogonal one.
        reach_over: the larger of the reach over and under an orthogonal field (2024: D_DO, D_DU), mm; 0 if the
            structure prevents both.
        Z: supplement for measuring tolerance (2024), mm.

    Raises FieldError, naming the argument, for everything outside the standard.
    """
    d = _within("d_mm", d_mm, 0.0, MOST_D, open_low=True)
    T = _within("T", T, 0.0, MOST_T)
    over = _within("reach_over", reach_over, 0.0, 1e5)
    Z = _within("Z", Z, 0.0, 1e5)
    if edition not in ("2010", "2024"):
        raise FieldError("edition", f"{edition!r} is neither 2010 nor 2024")
    if edition == "2010" and (over or Z):
        raise FieldError("Z" if Z else "reach_over", "belongs to the 2024 edition")
    if approach == "orthogonal":
        return _orthogonal(edition, d, T, over, Z)
    if approach == "parallel":
        return _parallel(edition, d, T, H, Z)
    raise FieldError("approach", f"{approach!r} is neither orthogonal nor parallel")


def _orthogonal(edition: Edition, d: float, T: float, over: float, Z: float) -> Field:
    """2010: 6.2.3; 2024: D_DS is the largest of reaching through, over and under."""
    if d <= 40.0:
        through = max(0.0, 8.0 * (d - 14.0))
        reach = max(through, over)
        near = max(LEAST_ORTHOGONAL, HAND * T + reach + Z)
        if near <= SWITCH:
            return Field(HAND, reach, near)
        return Field(WALK, reach, max(SWITCH, WALK * T + reach + Z))
    if edition == "2024":
        raise FieldError("d_mm", f"{d:g} mm: the 2024 edition's formula above 40 mm is not confirmed here; use d <= 40")
    if d > 70.0:
        raise FieldError("d_mm", f"{d:g} mm: at most 70 mm for an orthogonal field")
    return Field(WALK, COARSE, max(LEAST_ORTHOGONAL, WALK * T + COARSE))


def _parallel(edition: Edition, d: float, T: float, H: float | None, Z: float) -> Field:
    """2010: 6.3; 2024: the reach no longer falls with the height, and H >= 15 (d - 50)."""
    if H is None:
        raise FieldError("H", "is missing: height of the field above the floor, mm")
    H = _within("H", H, 0.0, HIGHEST_FIELD)
    # A twentieth of a millimetre for figures that were rounded, such as d = 108.3 mm at H = 875 mm.
    if d > H / 15.0 + 50.0 + 0.05:
        raise FieldError("d_mm", f"{d:g} mm: at H = {H:g} mm at most H / 15 + 50 = {H / 15 + 50:.1f} mm")
    reach = ARM_REACH if edition == "2024" else max(COARSE, ARM_REACH - 0.4 * H)
    return Field(WALK, reach, WALK * T + reach + Z)


def _within(name: str, value: float, low: float, high: float, open_low: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError(name, f"{value!r} is no number")
    if not math.isfinite(value) or not low <= value <= high or (open_low and value == low):
        raise FieldError(name, f"{value} is out of range: {'more than ' if open_low else ''}{low:g} to {high:g}")
    return float(value)
