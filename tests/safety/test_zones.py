"""Zones: geometry against brute force, every fault with its line, and balls that lie in more than one zone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cell.yamlfile import FileErrors
from safety.config import SafetyConfig, fingerprint, load_safety
from safety.contact import default_limits_path, limits_fingerprint
from safety.zones import STRICTEST, Zone, ZoneConfig, ZoneMap, common_area, remainder, turned, zone_faults

VOLUME = ((-1.0, -1.0, 0.0), (1.0, 1.0, 2.0))


def box(name: str, lower: list[float], upper: list[float], method: str = "ssm", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": {"kind": "box", "lower": lower, "upper": upper}, "automatic": method, **more}


LEFT = box("left", [-1, -1, 0], [0, 1, 2])
RIGHT = box("right", [0, -1, 0], [1, 1, 2], "stop")
WHY = {"text": "risk assessment 7, section 3", "by": "A. Engineer"}


def faults(*volumes: dict[str, Any], **more: Any) -> list[str]:
    config = ZoneConfig.model_validate({"volumes": list(volumes), **more})
    return [fault.text for fault in zone_faults(config, *VOLUME)]


@st.composite
def convex(draw: st.DrawFn) -> list[tuple[float, float]]:
    """A convex polygon: points on an ellipse, counterclockwise."""
    angles = sorted(draw(st.lists(st.floats(0, 6.28), min_size=3, max_size=7, unique_by=lambda a: round(a, 1))))
    x, y, a, b = (draw(st.floats(lo, hi)) for lo, hi in ((-0.5, 0.5), (-0.5, 0.5), (0.3, 1.0), (0.3, 1.0)))
    corners = [(x + a * np.cos(t), y + b * np.sin(t)) for t in angles]
    area = 0.5 * sum(p[0] * q[1] - p[1] * q[0] for p, q in zip(corners, [*corners[1:], corners[0]], strict=True))
    assume(area > 0.01)
    return corners


def inside(points: np.ndarray, polygon: list[tuple[float, float]]) -> np.ndarray:
    result = np.ones(len(points), dtype=bool)
    for a, b in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        result &= (b[0] - a[0]) * (points[:, 1] - a[1]) - (b[1] - a[1]) * (points[:, 0] - a[0]) >= 0
    return result


GRID = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 151), np.linspace(-1.5, 1.5, 151)), -1).reshape(-1, 2)
CELL = 0.02**2


@settings(max_examples=80, deadline=None)
@given(convex(), convex())
def test_shared_area_and_what_is_left_agree_with_counting(
    p: list[tuple[float, float]], q: list[tuple[float, float]]
) -> None:
    both = CELL * np.count_nonzero(inside(GRID, p) & inside(GRID, q))
    assert common_area(p, q) == pytest.approx(both, abs=0.12)
    assert common_area(p, q) == pytest.approx(common_area(q, p), abs=1e-9)
    pieces = remainder([p], q)
    covered = sum(inside(GRID, piece).astype(int) for piece in pieces) if pieces else np.zeros(len(GRID), int)
    left = inside(GRID, p) & ~inside(GRID, q)
    assert np.count_nonzero((covered > 0) ^ left) * CELL < 0.12
    assert np.count_nonzero(covered > 1) * CELL < 0.1


@given(convex())
def test_polygons_are_taken_in_either_sense(p: list[tuple[float, float]]) -> None:
    assert turned(p) == p
    assert turned(p[::-1]) == p


@pytest.mark.parametrize(
    "corners",
    [
        [[0, 0], [1, 1], [2, 2]],
        [[0, 0], [2, 0], [1, 0.2], [1, 2]],
        [[0, 0], [1, 1], [1, 0], [0, 1]],
        [[0, 0], [1, 0]],
        [[np.cos(4 * np.pi * k / 5), np.sin(4 * np.pi * k / 5)] for k in range(5)],
    ],
)
def test_no_flat_dented_or_crossed_polygon(corners: list[list[float]]) -> None:
    with pytest.raises(ValidationError):
        Zone.model_validate({"name": "z", "shape": {"kind": "polygon", "corners": corners}, "automatic": "ssm"})


def test_zones_that_cover_everything_once_have_no_fault() -> None:
    assert faults() == []
    assert faults(LEFT, RIGHT) == []
    triangle = {"kind": "polygon", "corners": [[-1, -1], [1, -1], [1, 1]]}
    other = {"kind": "prism", "corners": [[-1, -1], [1, 1], [-1, 1]], "z": [0, 2]}
    assert faults({**LEFT, "shape": triangle}, {**RIGHT, "shape": other}) == []


@pytest.mark.requirement("SEC-03")
def test_gaps_are_found_and_named() -> None:
    (text,) = faults(LEFT)
    assert "x 0.00 to 1.00" in text and "z 0.00 to 2.00" in text
    (text,) = faults(LEFT, {**RIGHT, "shape": {"kind": "box", "lower": [0, -1, 0.5], "upper": [1, 1, 2]}})
    assert "z 0.00 to 0.50" in text
    assert faults(LEFT, elsewhere="ssm") == []


@pytest.mark.requirement("SEC-03")
def test_overlaps_and_contradictions_are_found() -> None:
    wide = box("wide", [-0.5, -1, 0], [1, 1, 2], "stop")
    (text,) = [t for t in faults(LEFT, wide) if "automatic" in t]
    assert "left (ssm) and wide (stop) overlap" in text and "1.000 m2" in text
    assert faults(LEFT, {**wide, "automatic": "ssm"}) == []
    nobody = {**wide, "automatic": "no_person", "justification": "a fence closes it on every side"}
    assert any("contradict" in t for t in faults(LEFT, nobody))
    assert any("base" in t for t in faults(LEFT, RIGHT, box("k", [-1, -1, -1], [1, 1, 1], "keep_out")))
    assert faults(LEFT, RIGHT, box("k", [0.5, 0.5, 0], [1, 1, 1], "keep_out")) == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"sets": {"default": ["left", "right", "x"]}}, "unknown zone x"),
        ({"sets": {"default": ["left", "right", "left"]}}, "left is given twice"),
        ({"sets": {"default": ["left"]}, "elsewhere": "ssm"}, "right is in no set"),
        ({"sets": {"other": ["left", "right"]}}, "no set default"),
        ({"phases": {"load": "x"}}, "unknown set x"),
        ({"sets": {"default": ["left", "right"], "other": ["right"]}}, "no zone holds in x -1.00"),
    ],
)
def test_sets_and_phases_are_checked(more: dict[str, Any], text: str) -> None:
    assert any(text in found for found in faults(LEFT, RIGHT, **more))


@pytest.mark.parametrize(
    "more",
    [
        {"automatic": "no_person"},
        {"automatic": "ssm_contact"},
        {"automatic": "reduced_speed"},
        {"automatic": "reduced_speed", "speed": 0.3},
        {"automatic": "ssm", "speed": 0.2},
        {"automatic": "ssm", "justification": "nobody ever goes there"},
        {"automatic": "no_person", "manual": "ssm", "justification": "nobody ever goes there"},
        {"automatic": "ssm_contact", "contact": {**WHY, "regions": ["face"]}},
        {"automatic": "ssm_contact", "contact": {**WHY, "regions": []}},
        {"automatic": "fly"},
    ],
)
def test_what_does_not_belong_together_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Zone.model_validate({**LEFT, **more})


def test_a_phase_switches_the_set() -> None:
    sets = {"default": ["left", "right"], "loading": ["left", "bench"]}
    bench = box("bench", [0, -1, 0], [1, 1, 2], "ssm_contact", contact={**WHY, "regions": ["hands_fingers"]})
    config = ZoneConfig.model_validate({"volumes": [LEFT, RIGHT, bench], "sets": sets, "phases": {"load": "loading"}})
    ball = np.array([[0.5, 0.0, 1.0, 0.05]])
    assert zone_faults(config, *VOLUME) == []
    for phase, expected in (("other", "stop"), ("load", "ssm_contact")):
        codes, _ = ZoneMap(config, config.set_of(phase), "automatic").classify(ball)
        assert STRICTEST[codes[0]] == expected


METHODS = st.sampled_from(["stop", "ssm", "ssm_contact", "no_person"])
MORE = {
    "ssm_contact": {"contact": {**WHY, "regions": ["chest"]}},
    "no_person": {"justification": "a fence closes it"},
}


@pytest.mark.requirement("SEC-03")
@settings(max_examples=100)
@given(METHODS, METHODS, st.floats(-0.9, 0.9), st.sampled_from([None, "stop", "ssm"]), st.integers(0, 10**6))
def test_a_ball_gets_the_strictest_of_all_it_touches(
    a: str, b: str, wall: float, elsewhere: str | None, seed: int
) -> None:
    one = box("one", [-1, -1, 0], [wall, 1, 2], a, **MORE.get(a, {}))
    two = box("two", [wall, -1, 0], [1, 1, 2], b, **MORE.get(b, {}))
    config = ZoneConfig.model_validate({"volumes": [one, two], "elsewhere": elsewhere})
    zones = ZoneMap(config, "default", "automatic")
    rng = np.random.default_rng(seed)
    balls = np.column_stack([rng.uniform([-1.5, -1.5, -0.5], [1.5, 1.5, 2.5], (50, 3)), rng.uniform(0, 0.3, 50)])
    codes, _ = zones.classify(balls)
    for (x, y, z, r), code in zip(balls, codes, strict=True):
        for dx in np.linspace(-r, r, 5):  # every point of the ball's middle chord is watched at least as strictly
            within = -1 <= x + dx <= 1 and -1 <= y <= 1 and 0 <= z <= 2
            if within:
                assert code <= STRICTEST.index(a if x + dx < wall else b)
            elif elsewhere is not None:
                assert code <= STRICTEST.index(elsewhere)
    alone, index = zones.classify(
        np.array([[(wall - 1) / 2, 0, 1, 0.0], [5, 5, 5, 0.1], [np.nan, 0, 0, 0], [0, 0, 1, -1]])
    )
    assert STRICTEST[alone[0]] == a and index[0] == 0
    assert STRICTEST[alone[1]] == (elsewhere or "stop")
    assert list(alone[2:]) == [0, 0]


def write(path: Path, zones: str = "", contact: str = "") -> Path:
    path.write_text(f"title: t\nZ_d: 0.05\nZ_r: 0.03\n{zones}{contact}", encoding="utf-8")
    return path


def test_faults_come_with_file_and_line(tmp_path: Path) -> None:
    file = write(
        tmp_path / "s.yaml",
        "zones:\n  volumes:\n"
        "    - {name: a, shape: {kind: box, lower: [-1, -1, 0], upper: [0.5, 1, 2]}, automatic: ssm}\n"
        "    - {name: b, shape: {kind: box, lower: [0, -1, 0], upper: [1, 1, 2]}, automatic: stop}\n"
        "  sets:\n    default: [a, b]\n    late: [b]\n",
    )
    with pytest.raises(FileErrors) as caught:
        load_safety(file, VOLUME)
    found = [(e.line, e.field) for e in caught.value.errors]
    assert (9, "zones.sets.default") in found and (10, "zones.sets.late") in found
    with pytest.raises(FileErrors, match=r"s\.yaml:9"):
        load_safety(file)


def test_the_file_of_contact_limits_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_bytes(default_limits_path().read_bytes())
    digest = limits_fingerprint(limits)
    file = write(tmp_path / "s.yaml", contact=f"contact: {{limits: limits.yaml, limits_sha256: {digest}}}\n")
    config = load_safety(file)
    assert fingerprint(config) != fingerprint(SafetyConfig(title="t", Z_d=0.05, Z_r=0.03))
    limits.write_text(limits.read_text(encoding="utf-8").replace("k: 25", "k: 26"), encoding="utf-8")
    with pytest.raises(FileErrors, match="another fingerprint"):
        load_safety(file)
    with pytest.raises(FileErrors, match="belong together"):
        load_safety(write(tmp_path / "t.yaml", contact="contact: {limits: limits.yaml}\n"))
    missing = f"contact: {{limits: none.yaml, limits_sha256: {digest}}}\n"
    with pytest.raises(FileErrors, match="does not exist"):
        load_safety(write(tmp_path / "u.yaml", contact=missing))


def test_the_report_says_which_people_are_covered() -> None:
    usual = SafetyConfig(title="x", Z_d=0.05, Z_r=0.03).people_covered
    assert "2 m/s within 0.5 m" in usual and "the speeds of ISO 13855" in usual and "below the former" in usual
    raised = {"title": "x", "Z_d": 0, "Z_r": 0, "human": {"slow": 1.6, "fast": 3.0}}
    faster = SafetyConfig.model_validate(raised).people_covered
    assert "3 m/s" in faster and "not below the former" in faster
