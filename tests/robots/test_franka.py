"""Franka: whatever the setpoints, no command is one the arm answers with a reflex; words for states; processes end."""

from __future__ import annotations

import importlib.util
import math
import os
import random
import signal
import socket
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robots.contract import DriverError, Setpoint
from robots.drivers import franka, franka_fingers, franka_worker
from robots.drivers import franka_link as link
from robots.drivers.child import Child
from robots.drivers.franka import FrankaDriver
from robots.drivers.franka_motion import (
    A_MAX,
    DT,
    J_MAX,
    Q_LOWER,
    Q_UPPER,
    Metronome,
    Shaper,
    Stream,
    velocity_limits,
)
from robots.model import RobotModel
from sim import franka_host, franka_server

HOME = [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785]
EPS = 1e-6


# ---------------------------------------------------------------- commands the controller accepts


def differences(rows: list[list[float]], before: list[float]) -> Iterator[tuple[int, float, float, float, float]]:
    """Joint, position before, velocity, acceleration, jerk of each step, as the controller takes them."""
    q, v, a = list(before), [0.0] * 7, [0.0] * 7
    for row in rows:
        for j in range(7):
            vj = (row[j] - q[j]) / DT
            aj = (vj - v[j]) / DT
            yield j, q[j], vj, aj, (aj - a[j]) / DT
            v[j], a[j] = vj, aj
        q = list(row)


def assert_accepted(rows: list[list[float]], before: list[float]) -> None:
    for j, q, v, a, jerk in differences(rows, before):
        low, high = velocity_limits(j, q)
        assert low - EPS <= v <= high + EPS, f"joint {j + 1} at {q:.4f} rad: {v:.4f} rad/s"
        assert abs(a) <= A_MAX + 1e-3 and abs(jerk) <= J_MAX + 1.0
    for row in rows:
        assert all(a < q < b for a, q, b in zip(Q_LOWER, row, Q_UPPER, strict=True))


anywhere = st.tuples(*(st.floats(a - 0.5, b + 0.5) for a, b in zip(Q_LOWER, Q_UPPER, strict=True)))
fast = st.tuples(*([st.floats(-9.0, 9.0)] * 7))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(anywhere, fast, st.integers(1, 250)), min_size=1, max_size=5), st.integers(0, 300))
def test_no_curve_leads_beyond_the_limits(
    ways: list[tuple[tuple[float, ...], tuple[float, ...], int]], braked: int
) -> None:
    """Jumps anywhere, at any velocity, and braking at any moment."""
    shaper, rows = Shaper(HOME), []
    for q, v, cycles in ways:
        for n in range(cycles):
            at = [a + b * DT * n for a, b in zip(q, v, strict=True)]
            rows.append(shaper.follow((at, list(v), [0.0] * 7)))
    rows += [shaper.brake() for _ in range(braked)]
    assert_accepted(rows, HOME)


@settings(max_examples=25, deadline=None)
@given(anywhere, st.integers(1, 600))
def test_braking_comes_to_rest_on_the_tangent(goal: tuple[float, ...], cycles: int) -> None:
    shaper = Shaper(HOME)
    rows = [shaper.follow((list(goal), [0.0] * 7, [0.0] * 7)) for _ in range(cycles)]
    for _ in range(1200):
        if shaper.standing:
            break
        rows.append(shaper.brake())
    assert shaper.standing, "still moving after 1.2 s"
    rows += [shaper.rest()] * 3
    assert_accepted(rows, HOME)
    assert rows[-1] == rows[-2]


def test_it_arrives_and_stands() -> None:
    shaper, goal = Shaper(HOME), [q + 0.3 for q in HOME]
    for _ in range(2500):
        shaper.follow((goal, [0.0] * 7, [0.0] * 7))
    assert shaper.q == pytest.approx(goal, abs=1e-6) and shaper.standing


def smooth(t: float) -> list[float]:
    return [q + 0.4 * (1.0 - math.cos(1.5 * t)) * (0.5 + 0.1 * j) for j, q in enumerate(HOME)]


@pytest.mark.parametrize("period", [0.001, 0.002, 0.004])
def test_a_smooth_motion_is_followed_exactly_at_any_rate_of_the_node(period: float) -> None:
    stream, shaper = Stream(), Shaper(HOME)
    sent, rows, worst = 0, [], 0.0
    for k in range(4000):
        now = k * DT
        while sent * period <= now:
            stream.put(sent, sent * period, smooth(max(0.0, sent * period - 0.2)))
            sent += 1
        if sent < 3:
            continue
        due = now + DT - 0.012
        rows.append(shaper.follow(stream.at(due)))
        want = smooth(max(0.0, due - 0.2))
        worst = max(worst, max(abs(a - b) for a, b in zip(rows[-1], want, strict=True)))
    assert_accepted(rows, HOME)
    assert worst < 2e-4


def test_setpoints_that_come_late_leave_the_arm_on_its_path() -> None:
    """One joint leads, the others are to be in proportion; lateness may cost time, not the path."""
    stream, shaper, rng = Stream(), Shaper(HOME), random.Random(5)
    arrivals = []
    for n in range(1000):
        late = rng.uniform(0.03, 0.05) if rng.random() < 0.01 else abs(rng.gauss(0.0, 1e-3))
        sent = max(n * 0.004 + late, arrivals[-1][0] if arrivals else 0.0)
        s = 0.3 * (1.0 - math.cos(2.0 * max(0.0, n * 0.004 - 0.2)))
        arrivals.append((sent, n, [q + s * (1.0 - 0.2 * j) for j, q in enumerate(HOME)]))
    rows, off = [], 0.0
    for k in range(3900):
        now = k * DT
        while arrivals and arrivals[0][0] <= now:
            sent, n, q = arrivals.pop(0)
            stream.put(n, sent, q)
        if now > 0.02:
            rows.append(shaper.follow(stream.at(now + DT - 0.012)))
            lead = rows[-1][0] - HOME[0]
            off = max(
                off, *(abs(r - q - lead * (1.0 - 0.2 * j)) for j, (r, q) in enumerate(zip(rows[-1], HOME, strict=True)))
            )
    assert_accepted(rows, HOME)
    assert off < 2e-3


@given(st.lists(st.tuples(st.integers(-5, 60), st.floats(0.0, 2.0)), min_size=1, max_size=40), st.floats(-1.0, 3.0))
def test_any_order_of_setpoints_gives_a_finite_curve(puts: list[tuple[int, float]], t: float) -> None:
    stream, newest = Stream(), -(1 << 30)
    for seq, at in puts:
        taken = stream.put(seq, at, [0.01 * seq] * 7)
        assert taken == (seq > newest), "an old or repeated setpoint was taken"
        newest = max(newest, seq)
    q, v, a = stream.at(t)
    assert math.isfinite(sum(q) + sum(v) + sum(a))


@given(st.floats(8e-4, 1.3e-3), st.integers(0, 1 << 30))
def test_the_metronome_learns_the_pace(period: float, seed: int) -> None:
    rng, clock = random.Random(seed), Metronome(0.02, 5e-3)
    for n in range(2500):
        clock.take(n, 5.0 + n * period + abs(rng.gauss(0.0, 1e-4)))
    assert clock.period == pytest.approx(period, rel=0.01)
    assert clock.at(2500) == pytest.approx(5.0 + 2500 * period, abs=5e-4)


# ---------------------------------------------------------------- when commands are lost on the way


def single(values: list[float]) -> list[float]:
    """As they come back: in single precision."""
    import struct

    return [struct.unpack("f", struct.pack("f", v))[0] for v in values]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 9))
def test_a_lost_command_is_gone_on_from_where_the_controller_went(seed: int, lost: int) -> None:
    """The controller goes on at constant acceleration meanwhile; what comes then continues just that."""
    rng, shaper = random.Random(seed), Shaper(HOME)
    goal = [q + rng.uniform(-0.5, 0.5) for q in HOME]
    rows = [shaper.follow((goal, [0.0] * 7, [0.0] * 7)) for _ in range(rng.randint(5, 200))]
    q, v, a = list(shaper.q), list(shaper.v), list(shaper.a)
    for _ in range(lost):
        v = [x + y * DT for x, y in zip(v, a, strict=True)]
        q = [x + y * DT for x, y in zip(q, v, strict=True)]
        rows.append(list(q))
    slack = rows[-1]
    assert shaper.agree(single(q), single(v), single(a), lost) is False
    assert shaper.q == pytest.approx(slack, abs=1e-6)
    after = [shaper.follow((goal, [0.0] * 7, [0.0] * 7)) for _ in range(50)]
    for _, _, _, acc, jerk in list(differences(rows + after, HOME))[7 * len(rows) :]:
        assert abs(acc) <= A_MAX + 0.5 and abs(jerk) <= J_MAX


@given(st.integers(1, 9), st.integers(0, 9), st.floats(-5e-6, 5e-6))
def test_all_cycles_count_whatever_the_report_has_got_to(lost: int, reported: int, off: float) -> None:
    """A report that is a cycle old, or of a simulator that took a late command, beside ours, for one in time."""
    shaper = Shaper(HOME)
    for _ in range(200):
        shaper.follow(([q + 0.5 for q in HOME], [0.0] * 7, [0.0] * 7))
    a = list(shaper.a)
    ways = [(list(shaper.q), list(shaper.v))]
    for _ in range(lost):
        v = [x + y * DT for x, y in zip(ways[-1][1], a, strict=True)]
        ways.append(([x + y * DT for x, y in zip(ways[-1][0], v, strict=True)], v))
    q, v = ways[min(reported, lost)]
    assert shaper.agree(single([x + off for x in q]), single(v), single(a), lost) is False
    behind = max(0, lost - reported)
    most = 0.5 * behind * (behind + 1) * DT * DT * max(map(abs, a))
    assert shaper.q == pytest.approx([x + off for x in ways[-1][0]], abs=4e-7 + most)


def test_a_command_that_was_not_sent_is_unsaid() -> None:
    shaper = Shaper(HOME)
    for _ in range(40):
        shaper.follow(([q + 0.1 for q in HOME], [0.0] * 7, [0.0] * 7))
    was = (list(shaper.q), list(shaper.v), list(shaper.a))
    shaper.follow(([q - 0.1 for q in HOME], [0.0] * 7, [0.0] * 7))
    shaper.unsay()
    assert (shaper.q, shaper.v, shaper.a) == was


def test_a_report_of_something_else_is_taken_over() -> None:
    shaper = Shaper(HOME)
    shaper.follow(([q + 0.1 for q in HOME], [0.0] * 7, [0.0] * 7))
    other = [q + 0.02 for q in HOME]
    assert shaper.agree(other, [0.1] * 7, [0.0] * 7, 2) is False
    assert (shaper.q, shaper.v) == (other, [0.1] * 7)
    assert shaper.agree(other, [0.1] * 7, [0.0] * 7, 0) is True


# ---------------------------------------------------------------- the model


def test_within_the_models_limits_the_arms_own_never_bind() -> None:
    model = RobotModel.load("fr3")
    for j in range(7):
        for q in (model.q_lower[j], model.q_upper[j], 0.5 * (model.q_lower[j] + model.q_upper[j])):
            low, high = velocity_limits(j, float(q))
            assert 0.95 * low + 0.05 <= -model.v_max[j] and model.v_max[j] <= 0.95 * high - 0.05
        assert model.a_max[j] <= 0.8 * A_MAX and model.j_max[j] <= 0.8 * J_MAX


def test_the_arms_limits_fall_to_nothing_at_the_ends() -> None:
    for j in range(7):
        assert velocity_limits(j, Q_UPPER[j])[1] == 0.0 and velocity_limits(j, Q_LOWER[j])[0] == 0.0
        assert velocity_limits(j, Q_UPPER[j] + 1.0)[1] == 0.0


# ---------------------------------------------------------------- words for states

sevens = st.lists(st.floats(allow_nan=False, width=64), min_size=7, max_size=7)


@given(sevens, st.integers(0, 1 << 40), st.floats(allow_nan=False))
def test_orders_and_reports_arrive_as_they_were_sent(q: list[float], n: int, t: float) -> None:
    target = link.Target(n, t, q)
    assert link.decode_order(link.encode(target)) == target
    assert link.decode_order(link.encode(link.Halt(1))) == link.Halt(1)
    report = measured(q=q, seq=n, t=t)
    assert link.decode_measured(link.encode(report)) == report


def measured(**changes: Any) -> link.Measured:
    values: dict[str, Any] = {
        "seq": 1, "t": 0.0, "q": list(HOME), "dq": [0.0] * 7, "tau": [0.0] * 7, "mode": link.IDLE, "errors": "",
        "recovered": 0, "halted": False, "problem": "", "cycles": 0, "missed": 0, "answered": 1.0, **changes,
    }  # fmt: skip
    return link.Measured(**values)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"mode": link.MOVE}, ""),
        ({"mode": link.USER_STOPPED, "problem": "it waits"}, ""),
        ({"mode": link.REFLEX, "errors": "cartesian_reflex"}, "cartesian_reflex"),
        ({"mode": link.REFLEX}, "no reason given"),
        ({"mode": link.OTHER}, "joints are unlocked"),
        ({"mode": link.GUIDING}, "by hand"),
        ({"mode": link.RECOVERING}, "recovers"),
        ({"mode": 99}, "99"),
        ({"problem": "it waits"}, "it waits"),
    ],
)
def test_what_keeps_the_arm_from_following_is_said(changes: dict[str, Any], says: str) -> None:
    said = link.fault(measured(**changes))
    assert says in said and bool(says) == bool(said)


def test_names_of_errors_are_words() -> None:
    assert link.names('["joint_reflex", "cartesian_reflex"]') == "joint_reflex, cartesian_reflex"
    assert link.names("[]") == ""


# ---------------------------------------------------------------- the driver by itself


@pytest.mark.parametrize(
    "options",
    [
        {"address": "robot"},
        {"watchdog": 9.0},
        {"payload": -1.0},
        {"payload": math.nan},
        {"buffer": 0.0},
        {"buffer": 0.03, "drive_delay": 0.03},
        {"buffer": 0.05, "drive_delay": 0.1},
        {"contact_torques": [20.0] * 6},
        {"contact_torques": [50.0] * 7},
        {"collision_forces": [math.inf] * 6},
        {"payload_inertia": [-1.0, 0.0, 0.0]},
        {"realtime": "perhaps"},
        {"unknown": 1},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DriverError) as caught:
        FrankaDriver(options, 7)
    assert caught.value.code == "franka_options"


def test_an_arm_with_six_joints_is_refused() -> None:
    with pytest.raises(DriverError):
        FrankaDriver({}, 6)


def test_slow_motion_is_told_about_and_part_of_the_promise() -> None:
    driver = FrankaDriver({"slow_motion": 4.0}, 7)
    assert driver.info.slow_motion == 4.0 and any("simulated arms" in notice for notice in driver.info.notices)
    assert FrankaDriver({}, 7).info.slow_motion == 1.0 and not FrankaDriver({}, 7).info.notices
    for wrong in (0.5, 21.0, float("nan")):
        with pytest.raises(DriverError, match="slow_motion"):
            FrankaDriver({"slow_motion": wrong}, 7)


def test_a_machine_without_real_time_is_told_about() -> None:
    assert not FrankaDriver({}, 7).info.notices
    assert "reflex" in FrankaDriver({"realtime": "ignore"}, 7).info.notices[0]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(franka, "_PACKAGE", "no_such_package")
    with pytest.raises(DriverError) as caught:
        FrankaDriver({}, 7).connect(0.0)
    assert caught.value.code == "franka_package" and "collabcell[franka]" in caught.value.remedy


def test_without_an_arm_nothing_is_sent() -> None:
    driver = FrankaDriver({}, 7)
    with pytest.raises(DriverError):
        driver.send(Setpoint(1, 0.0, [0.0] * 7, [0.0] * 7))
    with pytest.raises(DriverError):
        driver.recover("somebody", 0.0)
    with pytest.raises(DriverError):
        driver.grip(0.02, 0.0)
    driver.close()
    driver.close()


def test_what_is_missing_is_named_for_arm_and_gripper() -> None:
    driver = FrankaDriver({"address": "127.255.255.5", "realtime": "ignore"}, 7)
    try:
        end, said = time.monotonic() + 60.0, DriverError("", "", "")
        while len(said.parts) < 2 and time.monotonic() < end:
            with pytest.raises(DriverError) as caught:
                driver.connect(time.monotonic())
            said = caught.value
            time.sleep(0.01)
        assert {part.code for part in said.parts} == {"franka_network", "franka_gripper"}
        assert "1337" in said.tree() and "1338" in said.tree() and "gripper: false" in said.tree()
    finally:
        driver.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_stands_still_is_started_again(how: signal.Signals) -> None:
    driver = FrankaDriver({"address": "127.255.255.6", "realtime": "ignore", "gripper": False}, 7)
    try:
        now = 0.0
        driver.state(now)
        first = driver._arm._child
        assert first is not None
        os.kill(first.pid, how)
        driver._arm.hang_up()
        end = time.monotonic() + 60.0
        while driver._arm._child is first and time.monotonic() < end:
            now += 0.5
            driver.state(now)
            time.sleep(0.005)
        assert driver._arm._child is not first and first.gone
    finally:
        driver.close()


def test_a_process_that_ends_is_noticed() -> None:
    child = Child("robots.drivers.no_such_module", b"{}")
    end = time.monotonic() + 60.0
    while child.open and time.monotonic() < end:
        assert child.heard() is None
        time.sleep(0.005)
    assert not child.open and not child.tell(b"x") and child.newest() is None
    child.close()


# ---------------------------------------------------------------- the gripper's process


class Hand:
    """Stands for the vendor's client."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    def move(self, *values: float) -> None:
        self.done.append(("move", *values))

    def grasp(self, *values: float) -> None:
        self.done.append(("grasp", *values))


def test_a_force_closes_until_something_is_held_and_none_only_moves() -> None:
    hand = Hand()
    franka_fingers.carry_out(hand, link.Grasp(1, 0.03, 0.0))
    franka_fingers.carry_out(hand, link.Grasp(2, 0.03, 20.0))
    assert hand.done[0] == ("move", 0.03, franka_fingers.SPEED)
    kind, width, _, force, inner, outer = hand.done[1]
    assert (kind, width, force) == ("grasp", 0.03, 20.0) and 0.0 <= width - inner < 0.0011 and outer > 0.08


def test_of_grasps_that_wait_the_newest_counts() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        there.settimeout(0.001)
        assert franka_fingers.newest(there) is None
        for n in range(3):
            here.send(link.encode(link.Grasp(n, 0.01 * n, 0.0)))
        found = franka_fingers.newest(there)
        assert found is not None and found.count == 2
        here.close()
        with pytest.raises(OSError):
            franka_fingers.newest(there)


# ---------------------------------------------------------------- the vendor's answers


def test_what_the_vendor_says_has_a_remedy() -> None:
    class Vendor:
        class RealtimeException(RuntimeError): ...

        class NetworkException(RuntimeError): ...

        class CommandException(RuntimeError): ...

    settings_ = FrankaDriver({}, 7)._settings()
    cases = {
        Vendor.RealtimeException("libfranka: no"): "franka_realtime",
        Vendor.NetworkException("libfranka: no"): "franka_network",
        OSError("no route"): "franka_network",
        Vendor.CommandException("no"): "franka_refused",
        RuntimeError("odd"): "franka_client",
    }
    for error, code in cases.items():
        found = franka_worker.why(Vendor, settings_, error)
        assert found[0] == code and "libfranka: " not in found[1] and found[2]


# ---------------------------------------------------------------- the simulator's own side


def test_a_simulator_that_is_not_installed_says_how_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(franka_server.FOLDER, str(tmp_path))
    with pytest.raises(franka_server.NotInstalled, match=r"scripts/franka_sim\.py"):
        franka_server.FrankaServer()


def test_listeners_of_an_address_are_found() -> None:
    with socket.socket() as server:
        server.bind(("127.255.255.7", 0))
        assert server.getsockname()[1] not in franka_server.listening("127.255.255.7")
        server.listen()
        assert server.getsockname()[1] in franka_server.listening("127.255.255.7")


def test_the_simulators_datagrams_stay_on_its_address() -> None:
    bound = franka_host.BoundSockets("127.255.255.8")
    with bound.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        assert made.getsockname()[0] == "127.255.255.8"
    assert bound.AF_INET == socket.AF_INET


def test_meshes_are_taken_out_of_the_simulators_model() -> None:
    spec = importlib.util.spec_from_file_location("franka_sim_script", "scripts/franka_sim.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    made = ET.fromstring(
        script.without_meshes(
            b"<mujoco><compiler meshdir='a' angle='radian'/><asset><mesh name='m' file='m.obj'/><material name='c'/>"
            b"</asset><worldbody><body><geom mesh='m'/><geom type='box' size='1 1 1'/></body></worldbody></mujoco>"
        )
    )
    assert [e.tag for e in made.iter("mesh")] == [] and len(list(made.iter("geom"))) == 1
    assert len(list(made.iter("material"))) == 1 and made.find("compiler").attrib == {"angle": "radian"}
