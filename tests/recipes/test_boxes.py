"""The separating axis test agrees with an independent library, and the clearance check sees thin walls."""

from __future__ import annotations

import coal
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cell.config import load_cell
from recipes.boxes import Boxes, separations
from recipes.clearance import Obstacle, collisions
from recipes.parts import matrix
from robots.workcell import Pose


def random_pose(rng: np.random.Generator, spread: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    T[:3, 3] = rng.uniform(-spread, spread, 3)
    return T


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans())
def test_agrees_with_coal(seed: int, aligned: bool) -> None:
    rng = np.random.default_rng(seed)
    half_a, half_b = rng.uniform(0.02, 0.3, 3), rng.uniform(0.02, 0.3, 3)
    T_a, T_b = random_pose(rng, 0.4), random_pose(rng, 0.4)
    if aligned:
        T_b[:3, :3] = T_a[:3, :3]
    boxes = Boxes(np.zeros((1, 3)), half_a[None])
    own = float(separations(T_a[None], boxes, T_b, half_b)[0, 0])
    request, result = coal.DistanceRequest(), coal.DistanceResult()
    first, second = coal.Box(*(2 * half_a)), coal.Box(*(2 * half_b))
    poses = [coal.Transform3s(T[:3, :3].copy(), T[:3, 3].copy()) for T in (T_a, T_b)]
    other = coal.distance(first, poses[0], second, poses[1], request, result)
    assert (own > 1e-6) == (other > 1e-6) or abs(other) < 1e-6
    # A separating axis never claims more room than there is.
    assert own <= other + 1e-6


def test_a_thin_wall_between_the_fingers_is_seen() -> None:
    cell = load_cell().view()
    model = cell.model
    T = matrix(Pose(position=(0.47, -0.28, 0.03), rpy_deg=(180.0, 0.0, 0.0)))
    q = model.ik(T, cell.home)
    path = np.array([q, q])
    for y in np.linspace(-0.06, 0.06, 41):
        wall = Obstacle("wall", matrix(Pose(position=(0.47, -0.28 + y, 0.03))), np.array([0.1, 0.001, 0.01]))
        hits = [hit for hit in collisions(model, [wall], path, 0.04) if hit.part == "fingers"]
        if abs(y) < 0.0185:
            assert not hits
        elif 0.021 < abs(y) < 0.033:
            assert hits, y


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_pose_that_is_no_number_is_a_collision() -> None:
    cell = load_cell().view()
    T = np.eye(4)
    T[0, 3] = np.nan
    hits = collisions(cell.model, [Obstacle("ghost", T, np.ones(3) * 0.1)], np.array([cell.home] * 2), 0.08)
    assert {hit.part for hit in hits} >= {"hand", "fingers", "panda_link7"}
