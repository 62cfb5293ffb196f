"""Newton-Euler kernel against pinocchio; splines against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from robots.dynamics import inverse_dynamics
from robots.model import RobotModel
from robots.splines import PathSpline


@pytest.mark.parametrize("name", ["panda", "iiwa14", "ur5e"])
def test_torques_agree_with_pinocchio(name: str) -> None:
    model = RobotModel.load(name)
    rng = np.random.default_rng(5)
    tau = np.empty(model.dof)
    for _ in range(50):
        q, dq, ddq = rng.uniform(-2, 2, (3, model.dof))
        inverse_dynamics(model.chain, model.bodies, q, dq, 5 * ddq, tau)
        assert np.abs(tau - model.torque(q, dq, 5 * ddq)).max() < 1e-9


def test_path_spline_agrees_with_an_independent_natural_spline() -> None:
    rng = np.random.default_rng(6)
    u = np.cumsum(rng.uniform(0.01, 0.2, 30))
    Q = rng.uniform(-1, 1, (30, 7))
    at = np.linspace(u[0], u[-1], 333)
    reference = CubicSpline(u, Q, bc_type="natural")
    for k, values in enumerate(PathSpline(u, Q)(at)):
        assert np.allclose(values, reference(at, k), atol=1e-8 * 1000**k)
