"""The twin as a node: physics up to now, drives behind the bus, parts, inputs, faults."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pybullet as p
import pytest

from cell.bus.inprocess import Hub
from robots.contract import DriverError, Setpoint
from robots.model import RobotModel
from robots.workcell import Workcell
from sim.arms import arm_spec
from sim.contract import TwinFault, TwinInput, TwinRestock, TwinTruth
from sim.drives import DriveTarget
from sim.robot import TwinDriver
from sim.twin import TwinNode
from sim.world import World


@functools.cache
def _reach(urdf: str, home: tuple[float, ...], at: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    """Joint positions with the gripper pointing down at a point between the fingers."""
    client = p.connect(p.DIRECT)
    body = p.loadURDF(urdf, useFixedBase=True, physicsClientId=client)
    q = np.array(home)
    for _ in range(100):
        for i, v in enumerate(q):
            p.resetJointState(body, i, v, physicsClientId=client)
        turn = p.getQuaternionFromEuler([math.pi, 0, 0])
        q = np.array(p.calculateInverseKinematics(body, 11, at, turn, physicsClientId=client)[:7])
    p.disconnect(client)
    return q


def above(bench: Any, home: list[float], at: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    return _reach(str(bench.twin.world.arm.urdf), tuple(home), (at[0], at[1], at[2]))


def move(bench: Any, start: Any, goal: Any, seconds: float = 1.4) -> Any:
    steps = round(seconds / 0.004)
    for k in range(1, steps + 1):
        u = k / steps
        s, ds = 10 * u**3 - 15 * u**4 + 6 * u**5, (30 * u**2 - 60 * u**3 + 30 * u**4) / seconds
        state = bench.tick(start + (goal - start) * s, (goal - start) * ds)
    return state


def hold(bench: Any, q: Any, seconds: float) -> Any:
    for _ in range(round(seconds / 0.004)):
        state = bench.tick(q)
    return state


def test_the_arm_follows_setpoints_without_lag(bench: Any, home: list[float]) -> None:
    b = bench()
    q0, goal = np.array(home), np.array(home) + 0.5
    hold(b, q0, 0.1)
    worst, before = 0.0, q0
    for k in range(1, 376):
        u = k / 375
        s, ds = 10 * u**3 - 15 * u**4 + 6 * u**5, (30 * u**2 - 60 * u**3 + 30 * u**4) / 1.5
        target = q0 + (goal - q0) * s
        state = b.tick(target, (goal - q0) * ds)
        worst = max(worst, np.abs(np.array(state.q) - before).max())
        before = target
    assert worst < 2e-3


def test_pick_and_place_is_real_and_repeatable(bench: Any, home: list[float]) -> None:
    finals = []
    for _ in range(2):
        b = bench()
        q0 = np.array(home)
        at = b.twin.parts()["cube_red#1"][:3]
        high, low = above(b, home, (at[0], at[1], at[2] + 0.12)), above(b, home, (at[0], at[1], at[2]))
        move(b, q0, high)
        move(b, high, low, 0.7)
        b.driver.grip(0.0, 20.0)
        state = hold(b, low, 0.8)
        assert state.gripper_holding
        assert 0.035 < state.gripper_width < 0.045
        over = above(b, home, (0.45, -0.28, 0.2))
        move(b, low, high, 0.7)
        move(b, high, over)
        assert b.twin.parts()["cube_red#1"][2] > 0.1
        down = above(b, home, (0.45, -0.28, 0.035))
        move(b, over, down, 0.7)
        b.driver.grip(0.08, 0.0)
        hold(b, down, 0.5)
        move(b, down, over, 0.7)
        assert b.twin.parts_in((0.348, -0.402, 0.0), (0.592, -0.158, 0.08)) == ["cube_red#1"]
        reply = b.ask(TwinTruth())
        assert reply.data["parts"]["cube_red#1"] == pytest.approx(b.twin.parts()["cube_red#1"], abs=1e-4)
        finals.append((b.twin.parts(), b.twin._reading.q.tolist()))
    assert finals[0] == finals[1]


def test_closing_on_nothing_holds_nothing(bench: Any, home: list[float]) -> None:
    b = bench()
    hold(b, home, 0.1)
    b.driver.grip(0.0, 20.0)
    state = hold(b, home, 1.2)
    assert not state.gripper_holding
    assert state.gripper_width < 0.002


def test_a_lost_part_falls_and_is_not_held_again(bench: Any, home: list[float]) -> None:
    b = bench()
    at = b.twin.parts()["post_white#9"][:3]
    high, low = above(b, home, (at[0], at[1], 0.2)), above(b, home, (at[0], at[1], at[2]))
    move(b, np.array(home), high)
    move(b, high, low, 0.7)
    b.driver.grip(0.0, 20.0)
    hold(b, low, 0.8)
    move(b, low, high, 0.7)
    assert b.driver.state(b.t).gripper_holding
    assert b.ask(TwinFault("lose_part")).verdict == "done"
    state = hold(b, high, 0.6)
    assert not state.gripper_holding
    assert b.twin.parts()["post_white#9"][2] < 0.06
    assert b.ask(TwinFault("lose_part")).verdict == "rejected"


def test_restocking_puts_every_part_back_unless_one_is_held(bench: Any, home: list[float]) -> None:
    b = bench()
    stocked = b.twin.parts()
    at = stocked["post_white#9"][:3]
    high, low = above(b, home, (at[0], at[1], 0.2)), above(b, home, (at[0], at[1], at[2]))
    move(b, np.array(home), high)
    move(b, high, low, 0.7)
    b.driver.grip(0.0, 20.0)
    hold(b, low, 0.8)
    assert b.ask(TwinRestock()).verdict == "rejected"
    move(b, low, high, 0.7)
    b.ask(TwinFault("lose_part"))
    hold(b, high, 0.6)
    b.driver.grip(0.08, 0.0)
    move(b, high, np.array(home))
    moved = b.twin.parts()["post_white#9"]
    assert math.dist(moved[:3], at) > 0.003
    assert b.ask(TwinRestock()).verdict == "done"
    hold(b, home, 0.5)
    for name, pose in b.twin.parts().items():
        assert pose[:3] == pytest.approx(stocked[name][:3], abs=1e-3), name
    # A part that was lost can be taken again.
    move(b, np.array(home), high)
    move(b, high, low, 0.7)
    b.driver.grip(0.0, 20.0)
    assert hold(b, low, 0.8).gripper_holding


def test_silence_of_the_node_stops_the_arm_and_needs_a_person(bench: Any, home: list[float]) -> None:
    b = bench()
    q = np.array(home)
    hold(b, q, 0.1)
    speed = np.array([0.8, 0, 0, 0, 0, 0, 0.0])
    for k in range(100):
        v = speed * min(1.0, k / 50)
        q = q + v * 0.004
        b.tick(q, v)
    for _ in range(100):
        state = b.tick()
    assert state.fault == "watchdog"
    assert max(abs(v) for v in state.dq) < 5e-3
    assert b.events("twin.drive_fault")[0].data["fault"] == "watchdog"
    for _ in range(20):
        state = b.tick(state.q)
    assert state.fault == "watchdog", "fresh setpoints alone restart nothing"
    b.driver.recover("anna", b.t)
    b.tick()
    assert b.tick().fault == ""


def test_inputs_reach_the_driver_and_the_emergency_stop_brakes(bench: Any, home: list[float]) -> None:
    b = bench()
    hold(b, home, 0.1)
    assert b.ask(TwinInput("emergency_stop", True)).verdict == "done"
    state = hold(b, home, 0.1)
    assert state.emergency_stop
    assert state.fault == "emergency_stop"
    assert b.ask(TwinInput("door", True)).verdict == "done"
    assert b.tick(home).inputs["door"] is True


@pytest.mark.parametrize(
    ("fault", "value"), [("no_such", 1.0), ("joint_stuck", 9.0), ("joint_stuck", 1.5), ("drives_silent", math.nan)]
)
def test_unknown_or_senseless_faults_are_refused(bench: Any, fault: str, value: float) -> None:
    reply = bench().ask(TwinFault(fault, value))
    assert reply.verdict == "rejected"
    assert reply.reason


def test_silent_frozen_and_nan_states(bench: Any, home: list[float]) -> None:
    b = bench()
    hold(b, home, 0.1)
    b.ask(TwinFault("state_frozen"))
    first = b.tick(home)
    assert b.tick(home).seq == first.seq
    b.ask(TwinFault("state_frozen", 0.0))
    b.ask(TwinFault("state_nan"))
    assert all(math.isnan(v) for v in b.tick(home).q)
    b.ask(TwinFault("state_nan", 0.0))
    b.ask(TwinFault("drives_silent"))
    before = b.driver.state(b.t).seq
    assert b.tick(home).seq == before


def test_a_stuck_joint_shows_as_following_error(bench: Any, home: list[float]) -> None:
    b = bench()
    q = np.array(home)
    hold(b, q, 0.1)
    b.ask(TwinFault("joint_stuck", 1))
    for k in range(300):
        v = np.array([0.5 * min(1.0, k / 50), 0, 0, 0, 0, 0, 0])
        q = q + v * 0.004
        state = b.tick(q, v)
    assert abs(state.q[0] - home[0]) < 0.01
    assert state.fault == "following_error"


def test_ignore_stop_runs_on_until_the_vendor_stop(bench: Any, home: list[float]) -> None:
    b = bench()
    q = np.array(home)
    hold(b, q, 0.1)
    for k in range(100):
        v = np.array([0.3 * min(1.0, k / 50), 0, 0, 0, 0, 0, 0])
        q = q + v * 0.004
        b.tick(q, v)
    b.ask(TwinFault("ignore_stop"))
    for _ in range(50):
        state = b.tick(q)
    assert state.dq[0] > 0.2
    b.driver.stop(1, b.t)
    for _ in range(60):
        state = b.tick(q)
    assert abs(state.dq[0]) < 5e-3
    assert state.fault == "stopped_by_node"


def test_late_steps_are_made_up_within_bounds_and_reported(bench: Any) -> None:
    b = bench()
    b.twin.step(0.004)
    b.twin.step(0.054)
    assert b.twin._t == pytest.approx(0.054, abs=0.004)
    b.twin.step(1.0)
    assert b.twin._t == pytest.approx(1.0, abs=0.004)
    assert b.events("twin.late")[0].data["skipped"] > 0.8


def test_parts_at_rest_are_reported_and_the_last_account_at_the_end(bench: Any) -> None:
    b = bench()
    for _ in range(100):
        b.tick()
    b.twin.close()
    b.twin.close()
    kinds = [e.kind for e in b.feed.drain()]
    assert kinds.count("twin.parts") == 2
    assert kinds.count("twin.referee") == 1


@pytest.mark.parametrize("model", ["panda", "iiwa14", "ur5e"])
def test_every_arm_loads_stands_still_and_agrees_with_its_linkage(workcell: Any, model: str) -> None:
    from sim.linkage import load_linkage

    arm = arm_spec(model)
    q = np.radians(arm.home_deg)
    # The demo cell's closed corners are laid out for the Panda: a longer arm's rest pose lies in them.
    bare = workcell.model_copy(update={"fixtures": [f for f in workcell.fixtures if f.visible]})
    world = World(bare, arm, q.tolist(), 250)
    for _ in range(125):
        world.step(DriveTarget(q, np.zeros_like(q)))
    reading = world.reading()
    assert np.abs(reading.q - q).max() < 2e-3
    linkage = load_linkage(arm)
    poses = linkage.poses(reading.q, reading.fingers)
    motion = world.link_motion()
    for i, name in enumerate(world.link_names):
        if i:
            assert np.abs(poses[linkage.links.index(name)][:3, 3] - motion.position[i]).max() < 1e-5, name
    # What plans and what guards must mean the same place as what moves.
    robot = RobotModel.load(model)
    places = dict(zip(world.link_names, motion.position, strict=True))
    for name, origin in zip(robot.link_names, robot.frames(reading.q)[1], strict=False):
        # PyBullet calls the root of an arm by the name of its body.
        assert name not in places or np.abs(origin - places[name]).max() < 1e-4, name
    world.close()


def test_driver_refuses_what_is_not_a_number(bench: Any) -> None:
    b = bench()
    with pytest.raises(DriverError):
        b.driver.send(Setpoint(1, 0.0, [math.nan] * 7, [0.0] * 7))
    with pytest.raises(DriverError):
        b.driver.send(Setpoint(1, 0.0, [0.0] * 6, [0.0] * 6))
    with pytest.raises(DriverError):
        b.driver.grip(math.inf, 0.7)
    with pytest.raises(DriverError):
        b.driver.set_output("no_such", True)
    with pytest.raises(DriverError):
        TwinDriver({"control_period": 5.0}, 7, b.hub.ports("other"))


def test_people_who_wait_stand_at_their_start_until_they_are_told(home: list[float]) -> None:
    hub = Hub()
    walker = {
        "name": "walker",
        "start": {"position": [2.0, 0.0], "yaw_deg": 180},
        "behaviour": [{"do": "walk_to", "position": [1.2, 0.0]}],
    }
    scenario = {"scenario": "walks", "people": [walker]}
    node = TwinNode(hub.ports("twin"), Workcell(), {"model": "panda"}, {"people_wait": True}, scenario)
    client = hub.ports("operator").requester("twin.requests", "s")

    def at(t: float) -> float:
        node.step(t)
        return float(np.frombuffer(node.people_now(t)[0].bones, "<f4").reshape(-1, 3, 4)[:, 0, 3].mean())

    try:
        assert at(0.004) == at(0.08)
        client.request({"type": "twin_start"}, 0.08)
        began = at(0.084)
        client.request({"type": "twin_start"}, 0.084)
        places = [at(0.084 + 0.1 * n) for n in range(1, 12)]
        assert [reply.verdict for reply in client.replies()] == ["done", "done"]
        assert places[-1] < began - 0.2
    finally:
        node.close()
