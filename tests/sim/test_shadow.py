"""The twin that follows another arm: carried on for a moment, then standing; what differs is told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.bus.inprocess import Hub
from cell.config import load_cell
from cell.session import SHADOW, SessionError, with_shadow
from cell.watch import Seen, conditions
from robots.contract import TOPIC_MIRROR, MirrorStatus, RobotState, topic_state
from robots.workcell import Fixture, Pose, Workcell
from sim.shadow import AHEAD, DIFFERS_FOR, SILENT, Follower, ShadowTwinNode

HOME = [0.0, -0.7854, 0.0, -2.3562, 0.0, 1.5708, 0.7854]
ZERO = [0.0] * 7


def measured(t: float, q: list[float], dq: list[float] | None = None) -> RobotState:
    """A robot state of which only the joints matter."""
    return RobotState(
        seq=1, t=t, q=q, dq=dq or ZERO, tau=ZERO, q_commanded=q, dq_commanded=ZERO, motion_id="", progress=0.0,
        duration=0.0, rate=0.0, rate_slope=0.0, limit=0.0, limit_by="", limit_reason="", override=1.0,
        mode="automatic", fault="", fault_text="", standing=True, gripper_width=0.08, gripper_holding=False, held=None,
        inputs={}, outputs={}, emergency_stop=False, safeguard=False, tracking_error=0.0, late_leases=0, session="",
    )  # fmt: skip


@given(st.floats(-10.0, 10.0), st.floats(-2.0, 2.0))
def test_the_shadow_goes_on_for_a_moment_only(since: float, speed: float) -> None:
    follower = Follower(0.05)
    follower.hear(measured(5.0, HOME, [speed] * 7))
    target = follower.target(5.0 + since, np.array(HOME))
    assert np.abs(target.q - HOME).max() <= abs(speed) * AHEAD + 1e-12
    if since >= AHEAD:
        assert not target.dq.any()


def test_what_is_no_measurement_is_not_followed() -> None:
    follower, here = Follower(0.05), np.array(HOME)
    assert follower.status(0.0, here, []) is None
    for bad in (math.nan, math.inf):
        follower.hear(measured(0.0, [bad, *HOME[1:]]))
        follower.hear(measured(bad, HOME))
    assert (follower.target(0.0, here).q == here).all()
    follower.hear(measured(2.0, [v + 0.1 for v in HOME]))
    follower.hear(measured(1.0, HOME))
    assert follower.target(2.0, here).q[0] == pytest.approx(0.1), "an older measurement came later and won"
    status = follower.status(2.0, here[:6], [])
    assert status is not None and not status.ok and "7 joints" in status.reason


def test_silence_and_lasting_differences_are_told() -> None:
    follower, here = Follower(0.05), np.array(HOME)
    follower.hear(measured(0.0, HOME))
    assert follower.status(SILENT, here, []).ok  # type: ignore[union-attr]
    assert "old" in follower.status(SILENT + 0.01, here, []).reason  # type: ignore[union-attr]
    away = here + 0.06
    for t, ok in ((1.0, True), (1.0 + 0.5 * DIFFERS_FOR, True), (1.0 + DIFFERS_FOR + 0.01, False)):
        follower.hear(measured(t, HOME))
        status = follower.status(t, away, ["table with hand"])
        assert status is not None and status.ok is ok
    assert "table with hand" in status.reason
    follower.hear(measured(2.0, HOME))
    assert follower.status(2.0, here, []).ok  # type: ignore[union-attr]


@pytest.mark.parametrize("ahead", [0.3, 1e9])
def test_a_measurement_from_the_future_is_told_and_does_not_hide_what_comes_later(ahead: float) -> None:
    follower, here = Follower(0.05), np.array(HOME)
    follower.hear(measured(1.0 + ahead, HOME))
    status = follower.status(1.0, here, [])
    assert status is not None and not status.ok and "future" in status.reason
    follower.hear(measured(1.1, [v + 0.2 for v in HOME]))
    assert follower.target(1.1, here).q[0] == pytest.approx(0.2)


class Cell:
    """A shadow in a world with one box, and an arm that goes where a test says."""

    def __init__(self, fixtures: list[Fixture]) -> None:
        hub = Hub()
        robot = {"model": "panda", "tool": "panda_hand", "home_deg": np.degrees(HOME).tolist()}
        self.node = ShadowTwinNode(hub.ports("twin"), Workcell(fixtures=fixtures), robot, {"shadow_tolerance": 0.03})
        self._states = hub.ports("arm").publisher(topic_state(), RobotState)
        self._mirror = hub.ports("controller").subscriber(TOPIC_MIRROR, MirrorStatus)
        self.events = hub.ports("ledger").event_feed()
        self.told: MirrorStatus | None = None
        self.now = 0.0

    def go(self, q: list[float], seconds: float, start: list[float]) -> None:
        steps = round(seconds / 0.004)
        speed = [(b - a) / seconds for a, b in zip(start, q, strict=True)]
        for n in range(steps):
            self.now += 0.004
            at = [a + v * 0.004 * (n + 1) for a, v in zip(start, speed, strict=True)]
            self._states.send(measured(self.now, at, speed), self.now)
            self.node.step(self.now)
            envelope = self._mirror.take()
            self.told = envelope.body if envelope is not None else self.told

    def close(self) -> None:
        self.node.close()


def test_the_shadow_follows_and_a_thing_in_its_way_is_noticed() -> None:
    free = Cell([])
    free.go([0.8, *HOME[1:]], 1.0, HOME)
    assert free.told is not None and free.told.ok and free.told.deviation < 0.02
    free.close()
    # Where the hand passes after a third of the way stands a post of the cell file.
    tcp = (0.31 * math.cos(0.5), 0.31 * math.sin(0.5))
    post = Fixture(name="post", size=(0.06, 0.06, 0.9), pose=Pose(position=(*tcp, 0.45)))
    blocked = Cell([post])
    blocked.go([0.8, *HOME[1:]], 1.0, HOME)
    assert blocked.told is not None and not blocked.told.ok and "post" in blocked.told.reason
    kinds = [event.kind for event in blocked.events.drain()]
    assert "twin.mirror" in kinds
    blocked.close()


def test_a_shadow_far_from_the_arm_is_put_there() -> None:
    cell = Cell([])
    away = [1.5, *HOME[1:]]
    cell.go(away, 0.1, away)
    assert abs(cell.node.world.reading().q[0] - 1.5) < 0.01
    assert [e.kind for e in cell.events.drain()].count("twin.placed") == 1
    cell.close()


def test_options_that_are_wrong_are_refused() -> None:
    with pytest.raises(ValueError, match="shadow_tolerance"):
        ShadowTwinNode(Hub().ports("twin"), Workcell(), {"model": "panda"}, {"shadow_tolerance": 7.0})


@pytest.mark.parametrize(
    ("mirror", "at", "present"),
    [
        (MirrorStatus(100.0, True, "", 0.001, 0.0), 100.0, False),
        (MirrorStatus(100.0, False, "joint 2 is 0.2 rad off", 0.2, 0.0), 100.0, True),
        (MirrorStatus(98.0, True, "", 0.001, 0.0), 98.0, True),
        (None, -1e9, True),
    ],
)
def test_a_twin_that_differs_or_is_silent_is_an_alarm(mirror: Any, at: float, present: bool) -> None:
    seen = Seen(began=0.0, mirror=mirror, mirror_at=at, mirror_due=True)
    found = {code: there for code, there, _ in conditions(seen, 100.0)}
    assert found["twin_deviates"] is present
    assert "twin_deviates" not in {code for code, _, _ in conditions(Seen(began=0.0), 100.0)}


def test_there_is_no_shadow_of_the_twins_own_arm() -> None:
    cell = load_cell()
    with pytest.raises(SessionError, match="no other arm"):
        with_shadow(cell)
    robot = cell.config.robot.model_copy(update={"driver": "abb"})
    config = cell.config.model_copy(update={"robot": robot})
    shadowed = with_shadow(replace(cell, config=config))
    assert shadowed.config.world is not None and shadowed.config.world.driver == SHADOW
