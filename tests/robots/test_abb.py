"""ABB over EGM: what comes from the wire is checked, late is late, the other public package understands both ends."""

from __future__ import annotations

import importlib
import math
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.contract import DriverError, Setpoint
from robots.drivers import abb, egm
from robots.drivers.abb import AbbDriver
from robots.drivers.null import NullDriver
from sim.driver_bench import free_udp_port
from sim.egm_robot import MESSAGES, EgmRobotEnd

ROOT = Path(__file__).parents[2]
LAMPS = ["lamp_green", "lamp_amber", "lamp_red", "buzzer"]


class Pair:
    """Our driver and our robot's end with an arm that follows perfectly, on one simulated clock."""

    def __init__(self, comm_timeout: float = 0.1) -> None:
        port = free_udp_port()
        self.arm = NullDriver({"model": "ur5e", "outputs": LAMPS}, 6)
        self.driver = AbbDriver({"address": "127.0.0.1", "port": port}, 6)
        self.end = EgmRobotEnd(self.arm, ("127.0.0.1", port), comm_timeout=comm_timeout)
        self.port = port
        self.now = 10.0
        with pytest.raises(DriverError):
            self.driver.connect(self.now)
        self.step()
        self.driver.connect(self.now)

    def step(self, q: list[float] | None = None, count: int = 1) -> Any:
        for _ in range(count):
            self.now += 0.004
            self.end.step(self.now)
            state = self.driver.state(self.now)
            if q is not None:
                self.driver.send(Setpoint(1, self.now, q, [0.0] * 6))
        return state

    def raw(self, data: bytes, sender: str = "127.0.0.1") -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((sender, 0))
            other.sendto(data, ("127.0.0.1", self.port))

    def feedback(self, number: int, joints: list[float], numbers: list[float]) -> bytes:
        message = importlib.import_module(MESSAGES).EgmRobot()
        message.header.seqno, message.header.tm = number, round(1e3 * self.now)
        message.feedBack.joints.joints.extend(joints)
        message.motorState.state = 1
        message.mciState.state = 3
        message.rapidExecState.state = 2
        message.RAPIDfromRobot.dnum.extend(numbers)
        data: bytes = message.SerializeToString()
        return data


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.driver.close()
    made.end.close()


def test_joints_gripper_and_outputs_pass_both_ways(pair: Pair) -> None:
    goal = [v + 0.01 for v in pair.arm.state(pair.now).q]  # type: ignore[union-attr]
    pair.driver.set_output("lamp_red", True)
    pair.driver.grip(0.03, 20.0)
    state = pair.step(goal, 200)
    assert state.q == pytest.approx(goal, abs=1e-9)
    assert state.outputs["lamp_red"] and not state.outputs["buzzer"]
    assert state.gripper_width == pytest.approx(0.03, abs=1e-6)
    assert not state.fault


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x0a\x00", bytes(1000)])
def test_noise_on_the_port_is_ignored(pair: Pair, data: bytes) -> None:
    before = pair.step()
    pair.raw(data)
    pair.driver.state(pair.now) if data not in (b"", b"\x0a\x00") else None
    after = pair.step()
    assert after.q == before.q and after.t > before.t


def test_feedback_from_another_address_is_ignored_and_not_answered(pair: Pair) -> None:
    before = pair.step()
    pair.raw(pair.feedback(10_000, [9.0] * 6, [0.0] * 7), sender="127.0.0.2")
    assert pair.driver.state(pair.now) is before
    assert pair.driver.ignored == 1
    assert pair.step().q == before.q


@pytest.mark.parametrize("number", [0, 1, 2])
def test_old_and_repeated_feedback_is_ignored(pair: Pair, number: int) -> None:
    before = pair.step(count=3)
    pair.raw(pair.feedback(number, [9.0] * 6, [0.0] * 7))
    assert pair.driver.state(pair.now) is before
    assert pair.driver.ignored == 1


@pytest.mark.parametrize(
    ("joints", "numbers"),
    [
        ([math.nan] * 6, [0.0] * 7),
        ([0.0] * 5 + [math.inf], [0.0] * 7),
        ([0.0] * 5, [0.0] * 7),
        ([0.0] * 7, [0.0] * 7),
        ([], []),
        ([0.0] * 6, [0.0] * 6),
        ([0.0] * 6, [math.nan] + [0.0] * 6),
        ([0.0] * 6, [0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0]),
        ([0.0] * 6, [0.0, 0.0, 0.0, 1e30, 0.0, 0.0, 0.0]),
    ],
)
def test_feedback_that_cannot_be_this_arms_is_a_fault(pair: Pair, joints: list[float], numbers: list[float]) -> None:
    pair.raw(pair.feedback(10_000, joints, numbers))
    with pytest.raises(DriverError) as caught:
        pair.driver.state(pair.now)
    assert caught.value.code == "abb_invalid"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"motorState": 2}, "motors"), ({"rapidExecState": 1}, "RAPID"), ({"mciState": 2}, "session"), ({}, "")],
)
def test_the_controllers_state_is_a_fault(pair: Pair, change: dict[str, int], says: str) -> None:
    message = importlib.import_module(MESSAGES).EgmRobot()
    message.ParseFromString(pair.feedback(10_000, [0.0] * 6, [0.0] * 7))
    for field, value in change.items():
        getattr(message, field).state = value
    pair.raw(message.SerializeToString())
    state = pair.driver.state(pair.now)
    assert state is not None
    assert says in state.fault and bool(says) == bool(state.fault)


def test_feedback_of_a_controller_whose_clock_stands_still_grows_old(pair: Pair) -> None:
    """Numbered anew and repeated for ever, the same measurement is no fresh one: the robot node sees its age."""
    begun = pair.step().t
    stamp = pair.now
    for n in range(50):
        now = pair.now = stamp + 0.004 * n
        message = importlib.import_module(MESSAGES).EgmRobot()
        message.ParseFromString(pair.feedback(10_000 + n, [0.0] * 6, [0.0] * 7))
        message.header.tm = round(1e3 * stamp)
        pair.raw(message.SerializeToString())
        state = pair.driver.state(now)
        assert state is not None
    assert state.seq > 50 and state.t == pytest.approx(begun, abs=2e-3)
    assert now - state.t > 0.19


def test_silence_ends_the_session_until_it_is_asked_for_anew(pair: Pair) -> None:
    q = list(pair.step().q)
    pair.step(q, 5)
    pair.driver.stop(1, pair.now)
    state = pair.step(q, 50)
    assert state.fault == "the EGM session is stopped" and pair.arm.stops == [1]
    moved = [v + 0.005 for v in q]
    assert pair.step(moved, 50).q == pytest.approx(q), "it moved without a session"
    pair.driver.recover("somebody", pair.now)
    far = [v + 0.1 for v in q]
    assert pair.step(far, 20).fault, "a session began far from where the arm stands"
    assert not pair.step(q, 3).fault
    assert pair.step(moved, 3).q == pytest.approx(moved)


@pytest.mark.parametrize("numbers", [[], [0.0] * 4, [math.nan] * 5, [0.0, 0.0, -1.0, 0.0, 0.0]])
def test_the_robots_end_ignores_what_is_no_setpoint(pair: Pair, numbers: list[float]) -> None:
    q = list(pair.step().q)
    pair.step(q, 3)
    ignored = pair.end.ignored
    client = pair.driver._client
    client.send_to_robot([10.0] * 6, rapid_to_robot=numbers)
    client.send_to_robot([math.nan] * 6, rapid_to_robot=[0.0] * 5)
    client.send_to_robot([10.0] * 5, rapid_to_robot=[0.0] * 5)
    client.socket.sendto(b"\xff\xff\xff", client.egm_addr)
    assert pair.step(None).q == pytest.approx(q)
    assert pair.end.ignored == ignored + 4


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abb, "_PACKAGE", "no_such_package")
    with pytest.raises(DriverError) as caught:
        AbbDriver({}, 6).connect(0.0)
    assert caught.value.code == "abb_package" and "collabcell[abb]" in caught.value.remedy


def test_a_port_in_use_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        driver = AbbDriver({"port": other.getsockname()[1]}, 6)
        with pytest.raises(DriverError) as caught:
            driver.connect(0.0)
    assert caught.value.code == "abb_port"


# ---------------------------------------------------------------- the controller's clock


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0.0, 0.3)), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_no_message_is_from_the_future_and_late_ones_are_old(messages: list[tuple[int, float]], start: int) -> None:
    """Sent at true times on an exact clock, held up for any time: never younger than it is by more than the fastest."""
    clock, sent, read = egm.ControllerClock(), 100.0, 0.0
    fastest = math.inf
    tm = start
    for ms, held in messages:
        sent += 1e-3 * ms
        tm = (tm + ms) % (1 << 32)
        read = max(read, sent + held)
        fastest = min(fastest, read - sent)
        t = clock.at(tm, read)
        assert t <= read + 1e-9
        drift = egm.DRIFT * (read - 100.0)
        assert t == pytest.approx(sent + fastest, abs=drift + 1e-6)


def test_a_controller_that_starts_anew_is_learned_anew() -> None:
    clock = egm.ControllerClock()
    assert clock.at(5_000_000, 10.0) == pytest.approx(10.0)
    assert clock.at(3, 12.0) == pytest.approx(12.0)
    assert clock.at(7, 12.5) == pytest.approx(12.004, abs=1e-3)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=9))
def test_numbers_from_rapid_are_read_or_refused(numbers: list[float]) -> None:
    for read in (egm.from_robot(numbers), egm.to_robot(numbers)):
        if read is not None:
            assert all(math.isfinite(float(v)) for v in read)


# ---------------------------------------------------------------- against the other public package


def peer(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).parent / "egm_peer.py"), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def test_the_other_packages_client_drives_our_robots_end() -> None:
    port, answers = free_udp_port(), 100
    arm = NullDriver({"model": "ur5e", "outputs": LAMPS}, 6)
    end = EgmRobotEnd(arm, ("127.0.0.1", port))
    start = arm.state(0.0)
    assert start is not None
    with peer("client", str(port), str(answers)) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        for n in range(answers):
            end.step(1.0 + 0.004 * n)
            assert select.select([end._socket], [], [], 30.0)[0], "no answer"
        end.step(1.0 + 0.004 * answers)
        said = client.stdout.readline().split()
    state = arm.state(1.0 + 0.004 * answers)
    assert state is not None
    assert state.q[0] - start.q[0] == pytest.approx(math.radians(5.0))
    assert state.outputs["lamp_green"], "the bits of RAPIDtoRobot"
    assert said[-2:] == ["True", "True"], "motors on, RAPID running"
    assert float(said[1]) == pytest.approx(math.degrees(state.q[1]))
    assert end.ignored == 0
    end.close()


def test_our_driver_drives_a_robots_end_with_the_other_packages_messages() -> None:
    port = free_udp_port()
    driver = AbbDriver({"address": "127.0.0.1", "port": port}, 6)
    with pytest.raises(DriverError):
        driver.connect(0.9)
    with peer("robot", str(port)) as robot:
        assert robot.stdin is not None
        assert robot.stdout is not None
        start: list[float] = []
        for n in range(100):
            now = 1.0 + 0.004 * n
            print(now, file=robot.stdin, flush=True)
            *q, ignored = map(float, robot.stdout.readline().split())
            driver.connect(now)
            state = driver.state(now)
            assert state is not None
            start = start or list(state.q)
            assert state.q == pytest.approx(q, abs=1e-9) and not state.fault
            driver.send(Setpoint(n, now, [start[0] + 0.001 * n, *start[1:]], [0.0] * 6))
        robot.stdin.close()
    assert q[0] - start[0] == pytest.approx(0.098, abs=1e-9) and ignored == 0
    driver.close()
