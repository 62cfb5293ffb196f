"""Terms of the protective separation distance."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safety.config import SafetyConfig, fingerprint
from safety.separation import FAST_APPROACH, NEAR, SLOW_APPROACH, human_travel, intrusion_distance


@pytest.mark.parametrize(
    ("d", "C"), [(14.0, 0.0), (10.0, 0.0), (20.0, 0.048), (30.0, 0.128), (40.0, 0.208), (55.0, 0.85)]
)
def test_intrusion_distance_of_iso_13855(d: float, C: float) -> None:
    assert intrusion_distance(d) == pytest.approx(C)


@pytest.mark.parametrize("d", [0.0, -1.0, 70.1, math.nan, math.inf])
def test_no_intrusion_distance_outside_the_standard(d: float) -> None:
    with pytest.raises(ValueError, match="detection capability"):
        intrusion_distance(d)


@given(st.floats(0, 3), st.floats(0, 3), st.floats(0, 1), st.floats(0, 1))
def test_human_travel_grows_with_time_and_the_sum_with_the_rest(t: float, other: float, dt: float, more: float) -> None:
    base = human_travel(t, other)
    assert human_travel(t + dt, other) >= base - 1e-12
    assert human_travel(t, other + more) + other + more >= base + other - 1e-12
    assert SLOW_APPROACH * t - 1e-12 <= base <= FAST_APPROACH * t + 1e-12


def test_hand_speed_up_to_half_a_metre_walking_speed_beyond() -> None:
    assert human_travel(0.1, 0.0) == pytest.approx(0.2)
    assert human_travel(1.0, 0.0) == pytest.approx(1.6)
    assert human_travel(0.16, 0.2) == pytest.approx(NEAR - 0.2)


@pytest.mark.parametrize(("t", "other"), [(math.nan, 0.0), (-0.1, 0.0), (0.1, math.inf)])
def test_human_travel_refuses_nonsense(t: float, other: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        human_travel(t, other)


@pytest.mark.requirement("SAF-06")
def test_configuration_refuses_an_intrusion_distance_below_the_standard() -> None:
    with pytest.raises(ValueError, match=r"below the 0\.208 m"):
        SafetyConfig(title="x", Z_d=0.05, Z_r=0.03, C=0.1)
    assert SafetyConfig(title="x", Z_d=0.05, Z_r=0.03).intrusion == pytest.approx(0.208)
    with pytest.raises(ValueError, match="fast"):
        SafetyConfig.model_validate({"title": "x", "Z_d": 0, "Z_r": 0, "human": {"slow": 2.5, "fast": 2.0}})
    with pytest.raises(ValueError, match="Extra inputs"):
        SafetyConfig.model_validate({"title": "x", "Z_d": 0, "Z_r": 0, "Z_q": 1})


def test_reaction_time_adds_up() -> None:
    r = SafetyConfig(title="x", Z_d=0.05, Z_r=0.03).reaction
    assert r.total == pytest.approx(2 / 30 + 0.035 + 0.006 + 0.008 + 0.002 + 0.004 + 0.016)


def test_fingerprint_changes_with_every_figure() -> None:
    base = SafetyConfig(title="x", Z_d=0.05, Z_r=0.03)
    prints = {fingerprint(base)}
    for change in (
        {"Z_d": 0.06},
        {"Z_r": 0.04},
        {"title": "y"},
        {"detection_capability_mm": 30.0},
        {"restart_after": 2},
    ):
        prints.add(fingerprint(SafetyConfig.model_validate(base.model_dump() | change)))
    assert len(prints) == 6
    assert fingerprint(base) == fingerprint(SafetyConfig.model_validate(base.model_dump()))
