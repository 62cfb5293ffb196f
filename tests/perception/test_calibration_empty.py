"""The empty cell against the cell file: boxes that are missing, gone or moved are named, and nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from perception.background import build_background
from perception.calibration.board import CalibrationError
from perception.calibration.empty import DEEPER, NEARER, Comparison, compare, record
from perception.config import Mount, PerceptionConfig
from perception.contract import CameraInfo, Intrinsics
from perception.view import Capsules
from robots.workcell import Workcell

CONFIG = PerceptionConfig()
POSE = Mount(position=(2.0, 0.3, 1.8), look_at=(0.0, 0.0, 0.3)).T_base_camera()
INFO = CameraInfo(
    "c", "test", Intrinsics(212, 120, 105.0, 105.0, 105.5, 59.5), 30.0, tuple(POSE.ravel().tolist()), 0.002, 0.3, 10.0
)
NO_ARM = Capsules(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
TABLE = {"name": "table", "size": [0.8, 1.2, 0.5], "pose": {"position": [0.0, 0.0, 0.25]}}
CRATE = {"name": "crate", "size": [0.3, 0.3, 0.3], "pose": {"position": [0.1, 0.2, 0.65]}}


def room(*fixtures: dict[str, Any]) -> Workcell:
    return Workcell.model_validate(
        {"floor": 0.0, "person_volume": [[-2, -2, 0], [2, 2, 2]], "fixtures": list(fixtures)}
    )  # fmt: skip


def pictures(real: Workcell, seed: int = 1, count: int = 12) -> list[NDArray[np.uint16]]:
    """Noisy depth of a room, 2 % holes, mm."""
    random = np.random.default_rng(seed)
    z = build_background(INFO, real, CONFIG).depth.astype(float)
    frames = []
    for _ in range(count):
        noisy = z + random.normal(0.0, 1.0, z.shape) * INFO.noise_coefficient * z**2
        frames.append(np.where(random.random(z.shape) < 0.02, 0, np.rint(1000 * noisy)).astype(np.uint16))
    return frames


def seen(real: Workcell, file: Workcell, seed: int = 1, arm: Capsules = NO_ARM) -> Comparison:
    return compare(INFO, file, CONFIG, record(pictures(real, seed)), arm)


def test_a_cell_that_is_as_described_has_no_differences() -> None:
    for seed in range(5):
        found = seen(room(TABLE, CRATE), room(TABLE, CRATE), seed)
        assert found.differences == [] and found.unknown == 0.0
        assert found.noise_coefficient == pytest.approx(INFO.noise_coefficient, rel=0.1)


def test_something_that_is_not_in_the_file_is_reported_where_it_stands() -> None:
    (found,) = seen(room(TABLE, CRATE), room(TABLE)).differences
    assert found.kind == "extra" and found.moved == "" and found.pixels > 50 and found.off < -0.05
    assert np.abs(np.array(found.centre) - (0.1, 0.2, 0.65)).max() < 0.12
    assert max(found.extent) < 0.4


def test_a_fixture_that_is_gone_is_named() -> None:
    found = seen(room(TABLE), room(TABLE, CRATE)).differences
    assert {d.fixture for d in found} == {"crate"} and all(d.kind == "gone" and d.off > 0.02 for d in found)
    assert found[0].moved == ""


def test_a_fixture_that_was_moved_is_named_at_both_places() -> None:
    there = CRATE | {"pose": {"position": [0.1, -0.2, 0.65]}}
    found = seen(room(TABLE, there), room(TABLE, CRATE)).differences
    assert {d.kind for d in found} == {"extra", "gone"} and {d.moved for d in found} == {"crate"}
    extra = next(d for d in found if d.kind == "extra")
    assert abs(extra.centre[1] + 0.2) < 0.1


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.floats(-0.25, 0.25), st.floats(-0.4, 0.4), st.floats(0.2, 0.3), st.booleans())
def test_a_box_on_the_table_is_found_whichever_side_has_it(x: float, y: float, size: float, in_file: bool) -> None:
    box = {"name": "box", "size": [size] * 3, "pose": {"position": [x, y, 0.5 + size / 2]}}
    real, file = (room(TABLE), room(TABLE, box)) if in_file else (room(TABLE, box), room(TABLE))
    found = seen(real, file)
    assert {d.kind for d in found.differences} == {"gone" if in_file else "extra"}
    value, other = (DEEPER, NEARER) if in_file else (NEARER, DEEPER)
    assert (found.mask == value).any() and not (found.mask == other).any()


def test_the_arm_is_no_fixture() -> None:
    post = {"name": "post", "size": [0.1, 0.1, 0.8], "pose": {"position": [0.0, 0.0, 0.9]}}
    arm = Capsules(np.array([[0.0, 0.0, 0.5]]), np.array([[0.0, 0.0, 1.3]]), np.array([0.08]))
    assert seen(room(TABLE, post), room(TABLE)).differences
    assert seen(room(TABLE, post), room(TABLE), arm=arm).differences == []


def test_what_lies_outside_the_volume_of_people_is_not_compared() -> None:
    wall = {"name": "wall", "size": [0.1, 8.0, 4.0], "pose": {"position": [-2.6, 0.0, 2.0]}}
    assert seen(room(TABLE, wall), room(TABLE)).differences == []


def test_recordings_that_cannot_be_used_are_refused() -> None:
    frames = pictures(room(TABLE))
    blind = [np.zeros_like(frame) for frame in frames]
    saturated = [np.full_like(frame, 65535) for frame in frames]
    for given_, text in (
        ([], "0 depth pictures"),
        (frames[:9], "9 depth pictures"),
        ([*frames[:-1], frames[0][:50]], "one size"),
        ([frame.astype(np.float32) for frame in frames], "whole millimetres"),
        (blind, "only 0%"),
        (saturated, "only 0%"),
    ):
        with pytest.raises(CalibrationError, match=text):
            record(given_)  # type: ignore[arg-type]
    small = INFO.__class__(
        "c", "t", Intrinsics(106, 60, 52.0, 52.0, 52.0, 29.5), 30.0, INFO.T_base_camera, 0.002, 0.3, 10.0
    )
    with pytest.raises(CalibrationError, match="212 x 120"):
        compare(small, room(TABLE), CONFIG, record(frames), NO_ARM)


def test_somebody_who_moves_is_refused() -> None:
    frames = pictures(room(TABLE))
    for n, frame in enumerate(frames):
        frame[40:110, 8 * n : 8 * n + 40] = 1200
    with pytest.raises(CalibrationError, match="varied"):
        compare(INFO, room(TABLE), CONFIG, record(frames), NO_ARM)
