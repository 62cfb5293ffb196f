"""Formulas of separation, protective fields and contact: reference tables, and what must hold for every number."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.yamlfile import FileErrors
from robots.model import RobotModel
from safety.contact import (
    NO_CONTACT,
    ContactError,
    contact_speed,
    default_limits,
    default_limits_path,
    directed_mass,
    load_limits,
    mass_matrix,
    reduced_mass,
    simplified_mass,
)
from safety.protective_field import FieldError, protective_field
from safety.separation import Braking, allowed_speed, constant_speed, integral

Rows = Callable[[str], list[dict[str, str]]]
TOLERANCE = 1e-4
SMALL = st.floats(0.0, 3.0)
SPEED = st.floats(0.0, 5.0)


# ---------------------------------------------------------------- reference tables


def test_allowed_speed_matches_the_reference(table: Rows) -> None:
    rows = table("ssm_vmax_golden.csv")
    assert len(rows) == 450
    for row in rows:
        v_h, T_r, a = float(row["v_h"]), float(row["T_r"]), float(row["a_s"])
        d, rest, expected = float(row["distance_m"]), float(row["C_plus_Z"]), float(row["v_r_max_m_per_s"])
        got = allowed_speed(d, v_h, T_r, Braking(a), rest, 0.0, 0.0)
        # the table carries six decimals
        assert got == pytest.approx(expected, rel=TOLERANCE, abs=6e-7), row
        if expected > 0.0:
            assert constant_speed(v_h, got, T_r, Braking(a), 0.0, rest, 0.0).S_p == pytest.approx(d, rel=1e-9)


def test_published_separation_distances(table: Rows) -> None:
    for row in table("ssm_published_points.csv"):
        refit = row["PSD_refit_m(a=10,C=0.208,vh=1.6)"]
        if refit:
            terms = constant_speed(1.6, float(row["v_r_m_s"]), float(row["T_r_s"]), Braking(10.0), 0.208, 0.0, 0.0)
            assert terms.S_p == pytest.approx(float(refit), abs=5e-4)


def test_protective_fields_match_the_reference(table: Rows) -> None:
    rows = table("iso13855_golden.csv")
    assert len(rows) == 18
    for row in rows:
        found = re.fullmatch(r"(2010|2024)_(orth|par)(?:_H=(\d+))?", row["rule"])
        assert found is not None
        approach = "orthogonal" if found[2] == "orth" else "parallel"
        height = float(found[3]) if found[3] else None
        field = protective_field(found[1], approach, float(row["d_mm"]), float(row["T_s"]), height)  # type: ignore[arg-type]
        assert pytest.approx(float(row["S_mm"]), rel=TOLERANCE) == field.S, row
        assert field.reach == pytest.approx(float(row["C_or_DDS_mm"]), rel=TOLERANCE), row


def test_contact_speeds_match_the_reference(table: Rows) -> None:
    rows = table("pfl_vmax_golden.csv")
    assert len(rows) == 30
    for row in rows:
        got = contact_speed(row["body_region"], float(row["m_R_kg"]))
        assert got.mu == pytest.approx(float(row["mu_kg"]), rel=TOLERANCE)
        assert got.k == float(row["k_N_per_mm"]) * 1e3
        assert got.force == float(row["F_T_N"])
        assert got.speed == pytest.approx(float(row["v_rel_max_m_per_s"]), rel=TOLERANCE)


def test_the_limits_of_the_package_are_those_of_the_tables(table: Rows) -> None:
    regions = default_limits().regions
    rows = table("iso15066_table_A2_limits.csv")
    assert sum(len(r.areas) for r in regions.values()) == len(rows) == 29
    for row in rows:
        area = regions[row["body_region"]].areas[row["body_area"]]
        assert (area.p_QS, area.F_QS) == (float(row["qs_pressure_N_per_cm2"]), float(row["qs_force_N"]))
        transient = (row["transient_pressure_N_per_cm2"], row["transient_force_N"])
        assert (area.p_T, area.F_T) == tuple(float(v) if v else None for v in transient)
        assert area.confidence == row["confidence"]
        assert regions[row["body_region"]].contact == (row["contact_permissible"] == "yes")
    for row in table("iso15066_table_A3_mass_spring.csv"):
        assert regions[row["body_region"]].k == float(row["k_N_per_mm"])
        assert regions[row["body_region"]].m_H == float(row["m_H_kg"])


# ---------------------------------------------------------------- separation


@given(SMALL, SPEED, st.floats(0.0, 1.0), st.floats(0.01, 50.0), st.floats(0, 1), st.floats(0, 0.2), st.floats(0, 0.2))
def test_allowed_speed_is_the_root_of_the_distance(
    d: float, v_h: float, T_r: float, a: float, C: float, Z_d: float, Z_r: float
) -> None:
    v = allowed_speed(d, v_h, T_r, Braking(a), C, Z_d, Z_r)
    assert v >= 0.0
    at = constant_speed(v_h, v, T_r, Braking(a), C, Z_d, Z_r).S_p
    if v > 0.0:
        assert at == pytest.approx(d, rel=1e-9, abs=1e-9)
    else:
        assert at >= d - 1e-9
    assert constant_speed(v_h, v + 0.01, T_r, Braking(a), C, Z_d, Z_r).S_p > d - 1e-9


@given(SMALL, SPEED, st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0, 1))
def test_allowed_speed_for_a_measured_stop(d: float, v_h: float, T_r: float, T_s: float, S_s: float, C: float) -> None:
    stop = Braking(time=T_s, distance=S_s)
    v = allowed_speed(d, v_h, T_r, stop, C, 0.0, 0.0)
    at = constant_speed(v_h, v, T_r, stop, C, 0.0, 0.0)
    assert (at.S_p == pytest.approx(d, abs=1e-9)) if v > 0.0 else at.S_p >= d - 1e-9
    assert (at.S_s, at.S_h) == (S_s, v_h * (T_r + T_s))


@given(SPEED, SPEED, st.floats(0.0, 1.0), st.floats(0.1, 50.0), st.floats(0.0, 1.0))
def test_no_term_falls_when_anything_gets_worse(v_h: float, v_r: float, T_r: float, a: float, more: float) -> None:
    base = constant_speed(v_h, v_r, T_r, Braking(a), 0.2, 0.05, 0.03)
    worse = constant_speed(v_h + more, v_r + more, T_r + more, Braking(a / (1.0 + more)), 0.2, 0.05, 0.03)
    assert all(w >= b - 1e-12 for w, b in zip(worse, base, strict=True))
    assert base.S_p == pytest.approx(sum(base))


def test_the_integral_of_constant_speeds_is_the_closed_form() -> None:
    v_h, v_r, T_r, a, step = 1.6, 1.2, 0.2, 4.0, 0.001
    reacting, braking = [v_r] * 201, [max(0.0, v_r - a * k * step) for k in range(301)]
    got = integral(step, [v_h] * 501, reacting, braking, 0.2, 0.05, 0.03)
    expected = constant_speed(v_h, v_r, T_r, Braking(a), 0.2, 0.05, 0.03)
    assert got == pytest.approx(expected, abs=v_r * step)
    assert got.S_s >= expected.S_s


@given(st.lists(st.floats(-3.0, 3.0), min_size=2, max_size=30), st.integers(1, 29))
def test_the_integral_never_credits_an_arm_that_moves_away(speeds: list[float], cut: int) -> None:
    cut = min(cut, len(speeds) - 1)
    got = integral(0.01, [1.6] * len(speeds), speeds[: cut + 1], speeds[cut:], 0.0, 0.0, 0.0)
    directed = [max(0.0, v) for v in speeds]
    least = 0.01 * sum((p + q) / 2 for p, q in itertools.pairwise(directed))
    assert got.S_r + got.S_s >= least - 1e-12
    assert min(got) >= 0.0


BAD = [math.nan, math.inf, -math.inf, -0.1, "1", None, True]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["v_h", "v_r", "T_r", "C", "Z_d", "Z_r"])
def test_separation_names_what_it_cannot_use(name: str, bad: object) -> None:
    good = {"v_h": 1.6, "v_r": 1.0, "T_r": 0.1, "C": 0.2, "Z_d": 0.05, "Z_r": 0.03}
    with pytest.raises(ValueError, match=rf"^{name}: "):
        constant_speed(**(good | {name: bad}), braking=Braking(5.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stop", "name"),
    [
        (Braking(), "a_s"),
        (Braking(0.0), "a_s"),
        (Braking(math.nan), "a_s"),
        (Braking(5.0, 0.1, 0.1), "a_s"),
        (Braking(time=0.1), "S_s"),
        (Braking(distance=0.1), "T_s"),
        (Braking(time=math.nan, distance=0.1), "T_s"),
    ],
)
def test_braking_is_given_in_exactly_one_way(stop: Braking, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: "):
        constant_speed(1.6, 1.0, 0.1, stop, 0.2, 0.0, 0.0)
    with pytest.raises(ValueError, match=rf"^{name}: "):
        allowed_speed(1.0, 1.6, 0.1, stop, 0.2, 0.0, 0.0)


def test_without_a_reaction_time_a_measured_stop_bounds_no_speed() -> None:
    with pytest.raises(ValueError, match=r"^T_r: "):
        allowed_speed(1.0, 1.6, 0.0, Braking(time=0.1, distance=0.1), 0.2, 0.0, 0.0)


@pytest.mark.parametrize(
    ("profiles", "name"),
    [
        (([1.6], [], [1.0]), "v_h"),
        (([1.6, 1.6], [1.0], [1.0]), "v_h"),
        (([-1.0], [1.0], [1.0]), "v_h"),
        (([1.6, math.nan], [1.0, 1.0], [0.0]), "v_h"),
        (([1.6, 1.6], [1.0, math.inf], [0.0]), "v_r"),
        (([1.6, 1.6], [1.0], [0.0, math.nan]), "v_s"),
    ],
)
def test_the_integral_refuses_broken_profiles(
    profiles: tuple[list[float], list[float], list[float]], name: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: "):
        integral(0.01, *profiles, 0.0, 0.0, 0.0)


# ---------------------------------------------------------------- protective fields


@given(st.sampled_from(["2010", "2024"]), st.floats(0.1, 40.0), st.floats(0.0, 2.0), st.floats(0.0, 1.0))
def test_an_orthogonal_field_never_comes_nearer_when_it_gets_slower_or_coarser(
    edition: str, d: float, T: float, more: float
) -> None:
    base = protective_field(edition, "orthogonal", d, T)  # type: ignore[arg-type]
    assert protective_field(edition, "orthogonal", d, T + more).S >= base.S - 1e-9  # type: ignore[arg-type]
    assert protective_field(edition, "orthogonal", d + (40.0 - d) * more, T).S >= base.S - 1e-9  # type: ignore[arg-type]
    assert base.S >= 100.0
    assert base.S <= 500.0 if base.K == 2000.0 else base.K == 1600.0 and base.S >= 500.0


@given(st.floats(0.0, 1000.0), st.floats(0.0, 2.0))
def test_the_newer_edition_never_lies_nearer_for_parallel_fields(H: float, T: float) -> None:
    d = H / 15.0 + 50.0
    old, new = (protective_field(e, "parallel", d, T, H) for e in ("2010", "2024"))  # type: ignore[arg-type]
    assert new.S >= old.S
    assert old.reach >= 850.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"edition": "2005"}, "edition"),
        ({"approach": "askew"}, "approach"),
        ({"d_mm": 0.0}, "d_mm"),
        ({"d_mm": math.nan}, "d_mm"),
        ({"d_mm": 71.0}, "d_mm"),
        ({"edition": "2024", "d_mm": 41.0}, "d_mm"),
        ({"T": -0.1}, "T"),
        ({"T": math.inf}, "T"),
        ({"approach": "parallel"}, "H"),
        ({"approach": "parallel", "H": 1001.0}, "H"),
        ({"approach": "parallel", "H": math.nan}, "H"),
        ({"approach": "parallel", "H": 0.0, "d_mm": 51.0}, "d_mm"),
        ({"Z": 10.0}, "Z"),
        ({"reach_over": 10.0}, "reach_over"),
    ],
)
def test_protective_field_names_what_it_cannot_use(change: dict[str, object], field: str) -> None:
    good = {"edition": "2010", "approach": "orthogonal", "d_mm": 30.0, "T": 0.2}
    with pytest.raises(FieldError) as caught:
        protective_field(**(good | change))  # type: ignore[arg-type]
    assert caught.value.field == field


# ---------------------------------------------------------------- contact


REGIONS = st.sampled_from(sorted(default_limits().regions))


@given(REGIONS, st.floats(0.1, 100.0), st.floats(1.0, 3.0), st.floats(1e-5, 1e-2))
def test_heavier_clamped_or_sharper_never_permits_more(region: str, m_R: float, more: float, area: float) -> None:
    base = contact_speed(region, m_R)
    assert contact_speed(region, m_R * more).speed <= base.speed
    assert contact_speed(region, m_R, contact_area=area).speed <= base.speed
    assert contact_speed(region, m_R, "quasi_static").speed <= base.speed
    energy = 0.5 * base.mu * base.speed**2
    assert energy == pytest.approx(base.force**2 / (2.0 * base.k), rel=1e-9)
    assert (base.speed == 0.0) == (region in NO_CONTACT)


@pytest.mark.requirement("SEC-03")
@pytest.mark.parametrize("region", sorted(NO_CONTACT))
def test_no_file_can_permit_contact_with_the_head(region: str, tmp_path: Path) -> None:
    text = default_limits_path().read_text(encoding="utf-8")
    file = tmp_path / "limits.yaml"
    file.write_text(re.sub(rf"(  {region}:\n    contact: )false", r"\1true", text), encoding="utf-8")
    with pytest.raises(FileErrors, match="no contact"):
        load_limits(file)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (("tail", 5.0), "region"),
        ((None, 5.0), "region"),
        (("chest", 0.0), "m_R"),
        (("chest", math.nan), "m_R"),
        (("chest", True), "m_R"),
        (("chest", 5.0, "gentle"), "kind"),
        (("chest", 5.0, "transient", 0.0), "contact_area"),
        (("chest", 5.0, "transient", math.nan), "contact_area"),
        (("chest", 5.0, "transient", None, "palm_D"), "body_area"),
    ],
)
def test_contact_names_what_it_cannot_use(call: tuple[object, ...], field: str) -> None:
    with pytest.raises(ContactError) as caught:
        contact_speed(*call)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_pressure_counts_only_for_a_declared_area() -> None:
    free = contact_speed("hands_fingers", 5.0)
    # 380 N/cm2 on 1 cm2 is more than the 280 N the force limit permits
    assert contact_speed("hands_fingers", 5.0, contact_area=1e-4).speed == free.speed
    assert contact_speed("hands_fingers", 5.0, contact_area=5e-5).speed == pytest.approx(
        380e4 * 5e-5 / math.sqrt(free.mu * free.k)
    )


def test_a_body_that_does_not_yield_leaves_the_persons_mass() -> None:
    assert reduced_mass(0.6, math.inf) == pytest.approx(0.6)
    with pytest.raises(ContactError):
        reduced_mass(0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.floats(0.0, 3.0))
def test_mass_along_a_direction_is_what_the_kinetic_energy_says(seed: int, frame: int, load: float) -> None:
    """Among joint speeds that move the point at 1 m/s along u, the least kinetic energy is m / 2 (Thomson)."""
    model = RobotModel.load("panda")
    rng = np.random.default_rng(seed)
    q = rng.uniform(model.q_lower, model.q_upper)
    M = mass_matrix(model, q)
    assert np.linalg.eigvalsh(M).min() > 0.0
    R, p = model.frames(q)
    point, u = p[frame] + R[frame] @ rng.uniform(-0.2, 0.2, 3), rng.normal(size=3)
    u /= np.linalg.norm(u)
    m = directed_mass(model, q, frame, point, u, load)
    J = np.zeros((3, 7))
    for k in range(frame):
        J[:, k] = np.cross(R[k + 1][:, 2], point - p[k + 1])
    J_tcp = model.jacobian(q)[:3]
    whole = M + load * J_tcp.T @ J_tcp
    for _ in range(20):
        dq = rng.normal(size=7)
        along = float(u @ J @ dq)
        if abs(along) > 1e-3:
            assert m <= dq @ whole @ dq / along**2 * (1 + 1e-6)
    if math.isfinite(m) and m < 1e6:
        best = np.linalg.solve(whole, J.T @ u) * m
        assert float(u @ J @ best) == pytest.approx(1.0, rel=1e-6)
        assert best @ whole @ best == pytest.approx(m, rel=1e-6)


def test_simplified_mass_is_half_the_moving_mass_and_the_load() -> None:
    model = RobotModel.load("panda")
    moving = float(model.bodies.mass.sum())
    assert 10.0 < moving < 20.0
    assert simplified_mass(model, 1.5) == pytest.approx(moving / 2 + 1.5)
    with pytest.raises(ContactError):
        simplified_mass(model, math.nan)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0, [0, 0, 0], [1, 0, 0]), "frame"),
        ((8, [0, 0, 0], [1, 0, 0]), "frame"),
        ((7, [0, 0, 0], [0, 0, 0]), "direction"),
        ((7, [0, 0, math.nan], [1, 0, 0]), "point"),
        ((7, [0, 0], [1, 0, 0]), "point"),
        ((7, [0, 0, 0], [1, 0, 0], -1.0), "load"),
    ],
)
def test_directed_mass_names_what_it_cannot_use(arguments: tuple[object, ...], field: str) -> None:
    model = RobotModel.load("panda")
    with pytest.raises(ContactError) as caught:
        directed_mass(model, model.home, *arguments)  # type: ignore[arg-type]
    assert caught.value.field == field
