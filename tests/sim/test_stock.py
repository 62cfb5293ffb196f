"""Parts that stand fast away from the hand: they stay where they lie, and do not jump when they are movable again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pybullet as p
import pytest

from sim.arms import arm_spec
from sim.drives import DriveTarget
from sim.stock import PARK_LOOKS, PARK_SPEED, Stock
from sim.world import World

FAR = (5.0, 5.0, 5.0)


class _Bench:
    """A world whose arm stands at home; the hand is said to be anywhere."""

    def __init__(self, workcell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        arm = arm_spec("panda")
        q = np.radians(arm.home_deg)
        self.world = World(workcell, arm, q.tolist(), 250)
        self._target = DriveTarget(q, np.zeros_like(q))
        self.stock: Stock = self.world.stock
        self.client = self.world._client
        self.hand = FAR
        monkeypatch.setattr(self.world, "_grasp_point", lambda: self.hand)

    def run(self, seconds: float, hand: tuple[float, float, float]) -> None:
        """Physics for so long, with the hand there."""
        self.hand = hand
        for _ in range(int(seconds * 250)):
            self.world.step(self._target)

    def tilt(self, name: str) -> float:
        """Of the part's axis against the vertical, rad."""
        matrix = p.getMatrixFromQuaternion(self.stock.poses()[name][1])
        return math.acos(min(1.0, matrix[8]))


@pytest.fixture
def bench(workcell: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Bench]:
    made = _Bench(workcell, monkeypatch)
    yield made
    made.world.close()


def test_parts_left_alone_for_long_stay_put_and_do_not_jump_when_the_hand_comes(bench: _Bench) -> None:
    bench.stock.restock()
    lying = bench.stock.poses()
    # At rest is not without any speed at all, and what a body creeps at is where it would be a minute later.
    for part in bench.stock.parts:
        p.resetBaseVelocity(
            part.body, (0.6 * PARK_SPEED, 0, 0.6 * PARK_SPEED), (0, 5 * PARK_SPEED, 0), physicsClientId=bench.client
        )
    for _ in range(PARK_LOOKS):
        bench.stock.park(FAR, None)
    bench.run(8.0, FAR)
    for part in bench.stock.parts:
        at = lying[part.name][0]
        bench.run(0.3, (at[0], at[1], at[2] + 0.08))
        assert math.dist(bench.stock.poses()[part.name][0], at) < 0.5e-3, part.name
        assert bench.tilt(part.name) < math.radians(0.4), part.name


def test_a_part_is_at_rest_only_when_it_is_slow_at_several_looks_in_a_row(bench: _Bench) -> None:
    part = bench.stock.parts[0]
    at, turn = bench.stock.poses()[part.name]
    p.resetBasePositionAndOrientation(part.body, (at[0], at[1], at[2] + 0.05), turn, physicsClientId=bench.client)
    p.resetBaseVelocity(part.body, (0, 0, 0), (0, 0, 0), physicsClientId=bench.client)
    for _ in range(PARK_LOOKS - 1):
        bench.stock.park(FAR, None)
    bench.run(1.0, FAR)
    # Held up in the air it would hang there for good.
    assert bench.stock.poses()[part.name][0][2] < at[2] + 1e-3
