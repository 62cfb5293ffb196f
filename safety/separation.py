"""The protective separation distance of ISO/TS 15066:2016, 5.5.4.2.3, and what the terms mean here.

S_p = S_h + S_r + S_s + C + Z_d + Z_r
  S_h  the person's travel until the arm stands: v_h (age of the picture + remaining reaction + stopping time)
  S_r  the arm's approach to that point during the remaining reaction time
  S_s  the arm's approach to that point while it brakes
  C    intrusion distance: how far a body part reaches before it is seen (ISO 13855:2010, 6.2: 8 (d - 14 mm))
  Z_d  position uncertainty of the person, Z_r of the arm
"""

from __future__ import annotations

import math

SLOW_APPROACH = 1.6
"""Walking speed used above 500 mm, m/s (ISO 13855:2010, 5.2 and 6.2.3)."""
FAST_APPROACH = 2.0
"""Hand speed used up to 500 mm, m/s (ISO 13855:2010, 6.2.3)."""
NEAR = 0.5
"""Separation up to which the hand speed holds, m."""


def intrusion_distance(detection_capability_mm: float) -> float:
    """Return C, m, for the smallest object never missed (mm): 8 (d - 14), at least 0, for d <= 40; 850 mm up to 70.

    ISO 13855:2010, 6.2.3.1 and 6.2.3.2. Raises ValueError outside 0 < d <= 70 mm: nothing coarser is accepted.
    """
    d = detection_capability_mm
    if not math.isfinite(d) or not 0.0 < d <= 70.0:
        raise ValueError(f"detection capability {d} mm: allowed is more than 0 and at most 70 mm")
    if d <= 40.0:
        return max(0.0, 8.0 * (d - 14.0)) / 1000.0
    return 0.85


def human_travel(time: float, other_terms: float, slow: float = SLOW_APPROACH, fast: float = FAST_APPROACH) -> float:
    """Return S_h, m, for `time` s of human travel when all other terms of S_p add up to `other_terms`, m.

    As in ISO 13855:2010, 6.2.3: the hand speed counts as long as the distance stays within 500 mm; beyond, walking
    speed, but never less than 500 mm in all.
    """
    if not (math.isfinite(time) and math.isfinite(other_terms)) or time < 0.0:
        raise ValueError(f"human travel needs a finite time >= 0, got {time} s and {other_terms} m")
    near = fast * time
    if near + other_terms <= NEAR:
        return near
    return max(slow * time, NEAR - other_terms)
