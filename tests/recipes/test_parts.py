"""Each part is in exactly one place, whatever happens to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.config import load_cell
from recipes.grasp import grip_height, pick_poses, place_poses, tcp_from_part, too_wide
from recipes.parts import Parts, PartsError, Place, matrix, place_pose, vector
from robots.workcell import PartType, Pose

WORKCELL = load_cell().config.workcell


def test_stock_is_where_the_cell_file_says() -> None:
    parts = Parts(WORKCELL)
    red = parts.find("cube_red", "tray_grid")
    assert red.name == "cube_red#1"
    assert red.pose is not None
    assert red.pose[:3, 3] == pytest.approx([-0.02, -0.61, 0.01 + 0.02])
    assert len(parts.expected().parts) == 12


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["grip", "put", "lose"]), max_size=30), st.integers(0, 10_000))
def test_no_part_is_ever_twice(actions: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = Parts(WORKCELL)
    kinds = list(WORKCELL.parts)
    codes: set[str] = set()
    for action in actions:
        held = parts.held
        try:
            if action == "grip" and held is None:
                parts.grip(parts.find(str(rng.choice(kinds)), "tray_grid").name)
            elif action == "put":
                parts.put(parts.free("kit_places")[0])
            elif held is not None:
                parts.lose(held.name)
        except PartsError as error:
            codes.add(error.code)
        lying = [p for p in parts._parts.values() if p.place is not None]
        assert len({p.place for p in lying}) == len(lying)
        assert sum(p.held for p in parts._parts.values()) <= 1
        assert all((p.place is None) == (p.pose is None) for p in parts._parts.values())
        assert {e.name for e in parts.expected().parts} == {p.name for p in lying}
    assert codes <= {"no_part", "no_place", "part_lost"}


def test_refusals() -> None:
    parts = Parts(WORKCELL)
    for call, code in [
        (lambda: parts.find("gold", "tray_grid"), "no_part"),
        (lambda: parts.find("cube_red", "moon"), "no_part"),
        (lambda: parts.find("cube_red", "kit_places"), "no_part"),
        (lambda: parts.free("moon"), "no_place"),
        (lambda: parts.put(Place("kit_places", 0)), "part_lost"),
        (lambda: place_pose(WORKCELL, Place("kit_places", 6)), "no_place"),
    ]:
        with pytest.raises(PartsError) as caught:
            call()
        assert caught.value.code == code


@given(
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.floats(-180, 180),
    st.tuples(*[st.floats(0.02, 0.07)] * 3),
    st.sampled_from(["box", "cylinder"]),
)
def test_grasp_and_place_agree(
    position: tuple[float, float, float], yaw: float, size: tuple[float, float, float], shape: str
) -> None:
    if shape == "cylinder":
        size = (size[0], size[0], size[2])
    kind = PartType(shape="box" if shape == "box" else "cylinder", size=size)
    T = matrix(Pose(position=position, rpy_deg=(0.0, 0.0, yaw)))
    T_tcp_part = tcp_from_part(kind)
    for pose in pick_poses(T, kind):
        assert pose[:3, 2] == pytest.approx([0, 0, -1], abs=1e-9)
        underside = T[2, 3] - size[2] / 2
        assert pose[2, 3] == pytest.approx(underside + grip_height(kind))
    ends = [pose @ T_tcp_part for pose in place_poses(T, T_tcp_part, kind)]
    assert all(end[:3, 3] == pytest.approx(T[:3, 3], abs=1e-9) for end in ends)
    x, y, z, *q = vector(T)
    assert (x, y, z) == pytest.approx(position)
    assert np.linalg.norm(q) == pytest.approx(1.0)


def test_too_wide_counts_the_clearance() -> None:
    assert too_wide(PartType(size=(0.05, 0.079, 0.03)), 0.08)
    assert not too_wide(PartType(size=(0.2, 0.07, 0.03)), 0.08)
