"""The judge in contact zones: touches are judged by speed, by part of the body, and by where they happen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.arms import arm_spec
from sim.config import ContactZone, FixedBox, RefereeOptions
from sim.contract import RefereeReport
from sim.linkage import load_linkage
from sim.referee import ArmTruth, PersonTruth, Referee
from sim.referee_geometry import ArmPoints, PersonPoints
from sim.referee_zones import ContactZones
from tests.sim.test_referee import BODY, standing_at

ARM = arm_spec("panda")
LINKAGE = load_linkage(ARM)
BENT = np.radians([0.0, 40.0, 0.0, -60.0, 0.0, 120.0, 45.0])
TURN = np.array([1.0, 0, 0, 0, 0, 0, 0])
EVERY = ("chest", "abdomen", "pelvis", "upper_arm", "forearm", "hand", "thigh", "shin", "foot")


def zone(transient: float, clamped: float = 5.0, upper: float = 3.0, parts: tuple[str, ...] = EVERY) -> dict[str, Any]:
    limits = {part: {"transient": transient, "clamped": clamped, "width": 0.1} for part in parts}
    return {"corners": [[-3, -3], [3, -3], [3, 3], [-3, 3]], "z": [-3.0, upper], "limits": limits}


def swept(speed: float, **options: Any) -> RefereeReport:
    """The arm turns through a person who stands beside it, its tip at about 0.9 times `speed`."""
    referee = Referee(LINKAGE, RefereeOptions(**options), [2 * b for b in ARM.brake])
    person = [PersonTruth("p", "body_178", standing_at(0.75, 0.35))]
    for k in range(30):
        q = BENT + TURN * (0.03 * k - 0.3)
        t = 0.03 * k / speed
        referee.observe(t, ArmTruth(q, TURN * speed, 0.04), person)
    report = referee.report(9.0)
    referee.close()
    return report


@pytest.mark.requirement("CON-05")
def test_a_touch_outside_contact_zones_counts_as_today() -> None:
    plain, elsewhere = swept(0.3), swept(0.3, contact_zones=[zone(9.0, upper=-2.0)])
    assert plain.contacts_while_moving > 0
    assert plain.psd_violations > 0
    assert elsewhere.contacts_while_moving > 0
    assert elsewhere.psd_violations == plain.psd_violations
    assert elsewhere.contact_limit_exceedances == elsewhere.contacts_permitted == 0


@pytest.mark.requirement("CON-05")
def test_slow_touches_inside_are_permitted_and_fast_ones_are_caught() -> None:
    """CON-05: the planted bug is an arm that forgets the limit."""
    whole = [zone(0.3, parts=(*EVERY, "head"))]
    slow, fast = swept(0.15, contact_zones=whole), swept(0.6, contact_zones=whole)
    # A head that no zone names keeps its distance, though the touches themselves are permitted.
    assert swept(0.15, contact_zones=[zone(0.3)]).psd_violations > 0
    assert slow.contacts_permitted > 0
    assert slow.contact_limit_exceedances == slow.contacts_while_moving == slow.psd_violations == 0
    assert fast.contact_limit_exceedances > 0
    assert fast.contacts_while_moving == 0
    assert fast.psd_violations > 0


@pytest.mark.requirement("CON-05")
def test_parts_that_the_zone_does_not_name_must_not_be_touched() -> None:
    assert swept(0.15, contact_zones=[zone(0.3, parts=("hand",))]).contact_limit_exceedances > 0


@pytest.mark.requirement("CON-05")
def test_beside_something_fixed_the_limit_of_a_clamped_part_counts() -> None:
    wall = {"size": [4.0, 4.0, 4.0], "T_base_box": np.eye(4).reshape(-1).tolist()}
    here = [zone(0.3, clamped=0.05)]
    assert swept(0.15, contact_zones=here).contact_limit_exceedances == 0
    assert swept(0.15, contact_zones=here, fixed=[wall]).contact_limit_exceedances > 0


def test_points_and_places_are_told_apart() -> None:
    corners = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)]
    limits = {"hand": {"transient": 1.0, "clamped": 0.2, "width": 0.1}}
    box = FixedBox(size=(0.2, 0.2, 0.2), T_base_box=np.eye(4).reshape(-1).tolist())
    zones = ContactZones([ContactZone.model_validate({"corners": corners, "z": [0.0, 1.0], "limits": limits})], [box])
    assert zones.limit_at(np.array([0.5, 0.5, 0.5]), "left_hand") == 1.0
    assert zones.limit_at(np.array([0.15, 0.05, 0.05]), "right_hand") == 0.2
    assert zones.limit_at(np.array([0.5, 0.5, 0.5]), "head") == 0.0
    assert zones.limit_at(np.array([1.5, 0.5, 0.5]), "hand") is None
    rng = np.random.default_rng(1)
    x = rng.uniform(-0.5, 1.5, (500, 3))
    assert (zones.holding(x)[0] == ((x >= 0.0) & (x <= 1.0)).all(axis=1)).all()


def test_pairs_that_need_no_distance_are_those_slow_and_inside() -> None:
    """Every pair of points is in one of the parts unless both lie in the zone and the arm's group is slow."""
    limits = {part: {"transient": 0.3, "clamped": 0.3, "width": 0.1} for part in EVERY}
    half = {"corners": [[-3, -3], [0.7, -3], [0.7, 3], [-3, 3]], "z": [-3.0, 0.4], "limits": limits}
    zones = ContactZones([ContactZone.model_validate(half)], [])
    arm, person = ArmPoints(LINKAGE).at(BENT, 0.04), PersonPoints("p", BODY)
    skin = person.at(standing_at(0.75, 0.0))
    rng = np.random.default_rng(3)
    speeds = rng.uniform(0.0, 0.6, len(arm.start) - 1)
    found: set[tuple[int, int]] = set()

    def key(points: np.ndarray) -> list[bytes]:
        return [row.tobytes() for row in np.ascontiguousarray(points)]

    left, right = {k: n for n, k in enumerate(key(arm.points))}, {k: n for n, k in enumerate(key(skin.points))}
    for one, other in zones.apart(arm, speeds, skin, person.segments):
        assert len(one.start) == len(arm.start) and one.start[-1] == len(one.points)
        found |= {(left[a], right[b]) for a in key(one.points[::7]) for b in key(other.points[::5])}
    group = np.repeat(np.arange(len(speeds)), np.diff(arm.start))
    segment = np.repeat(np.arange(len(skin.start) - 1), np.diff(skin.start))
    arm_in, skin_in = zones.holding(arm.points)[0], zones.holding(skin.points)[0]
    for i, j in list(found)[:20000]:
        limit = 0.0 if person.segments[segment[j]] == "head" else 0.31
        assert not (arm_in[i] and skin_in[j] and speeds[group[i]] <= limit)
    assert found and arm_in.any() and skin_in.any() and not skin_in.all()
