"""Plain numbers for the referee of a simulated world: contact zones, what may be touched there how fast, what stands
fixed. From the safety configuration and the cell file; the referee itself shares no code with the monitor."""

from __future__ import annotations

from typing import Any

import numpy as np

from robots.model import RobotModel
from robots.urdf import transform
from robots.workcell import Workcell
from safety.clamping import default_gaps
from safety.config import SafetyConfig
from safety.contact import ContactLimits, contact_speed, simplified_mass
from safety.zones import Zone

REGION_OF = {
    "chest": "chest",
    "abdomen": "abdomen",
    "pelvis": "pelvis",
    "upper_arm": "upper_arms_elbows",
    "forearm": "lower_arms_wrists",
    "hand": "hands_fingers",
    "thigh": "thighs_knees",
    "shin": "lower_legs",
    "foot": "lower_legs",
}
"""Body segments of the simulated people; the head is in no list: it must never be touched."""
UNBOUNDED = 100.0
"""Height that stands for a polygon without any, m."""
HIGHEST_WIDTH = 2.0


def contact_truth(
    config: SafetyConfig, limits: ContactLimits, model: RobotModel, workcell: Workcell
) -> dict[str, Any]:  # fmt: skip
    """Options of the referee that follow from zones of contact in automatic mode; empty if there are none.

    Zones of all sets: which set holds when is the monitor's business, that it is the right one the tests' of zones.
    """
    zones = [zone for zone in config.zones.volumes if zone.method("automatic") == "ssm_contact"]
    if not zones:
        return {}
    boxes = []
    for fixture in workcell.fixtures:
        if fixture.solid:
            T = transform(fixture.pose.position, fixture.pose.rpy)
            boxes.append({"size": list(fixture.size), "T_base_box": np.asarray(T).reshape(-1).tolist()})
    return {"contact_zones": [_zone(zone, config, limits, model) for zone in zones], "fixed": boxes}


def _zone(zone: Zone, config: SafetyConfig, limits: ContactLimits, model: RobotModel) -> dict[str, Any]:
    assert zone.contact is not None  # a zone of contact has its assessment
    low, high = zone.heights
    area = config.contact.contact_area_mm2
    m_R = simplified_mass(model, config.contact.load)
    found = {}
    for segment, region in REGION_OF.items():
        if region not in zone.contact.regions:
            continue
        speeds = [
            contact_speed(region, m_R, kind, None if area is None else area * 1e-6, limits=limits).speed
            for kind in ("transient", "quasi_static")
        ]
        width = min(default_gaps().width(region), HIGHEST_WIDTH)
        found[segment] = {"transient": speeds[0], "clamped": speeds[1], "width": width}
    corners = [list(corner) for corner in zone.outline]
    return {"corners": corners, "z": [max(low, -UNBOUNDED), min(high, UNBOUNDED)], "limits": found}
