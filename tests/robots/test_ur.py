"""Universal Robots: bytes from anywhere are refused, the emulator answers as a controller, `ur_rtde` drives it."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cell.cli import BadInput, app
from robots.contract import DriverError, DriverState, Setpoint
from robots.drivers import ur, ur_link
from robots.drivers.null import NullDriver
from robots.drivers.ur import UrDriver
from robots.drivers.ur_worker import missing
from sim import ur_dashboard, ur_rtde, ur_script
from sim.ur_controller import Ports, UrController
from sim.ur_machine import Machine, ProgramState, RobotMode, SafetyMode
from sim.ur_sim import UrProcess

PROGRAM = "def rtde_control():\n  sync()\nend\n"
LAMPS = ["lamp_green", "lamp_amber", "lamp_red", "buzzer"]


# ---------------------------------------------------------------- bytes


@given(st.binary(max_size=400), st.integers(1, 60))
def test_whatever_comes_is_cut_into_packages_or_refused(data: bytes, piece: int) -> None:
    buffer, size = bytearray(), 0
    try:
        for at in range(0, len(data), piece):
            buffer += data[at : at + piece]
            for _, body in ur_rtde.packages(buffer):
                size += ur_rtde.HEADER.size + len(body)
    except ur_rtde.BadPackage:
        return
    assert size + len(buffer) == len(data), "bytes were lost"


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=8), st.integers(1, 20))
def test_packages_arrive_as_they_were_sent(sent: list[tuple[int, bytes]], piece: int) -> None:
    data = b"".join(ur_rtde.package(*one) for one in sent)
    buffer, came = bytearray(), []
    for at in range(0, len(data), piece):
        buffer += data[at : at + piece]
        came += list(ur_rtde.packages(buffer))
    assert came == sent and not buffer


@pytest.mark.parametrize("size", [0, 1, 2, ur_rtde.LONGEST + 1, 65535])
def test_a_package_of_an_impossible_length_is_refused(size: int) -> None:
    with pytest.raises(ur_rtde.BadPackage):
        list(ur_rtde.packages(bytearray(struct.pack(">HB", size, ur_rtde.DATA))))


@given(st.binary(max_size=120))
def test_input_values_are_finite_and_complete_or_refused(data: bytes) -> None:
    names = ["input_int_register_0", *(f"input_double_register_{n}" for n in range(6))]
    values = ur_rtde.Recipe.of(names, ur_rtde.INPUT_TYPES).unpack(data)
    assert (values is None) or (len(data) == 52 and all(math.isfinite(float(v)) for v in values.values()))  # type: ignore[arg-type]


@given(st.lists(st.floats(-1e9, 1e9), min_size=6, max_size=6))
def test_values_travel(q: list[float]) -> None:
    recipe = ur_rtde.Recipe.of(["actual_q", "robot_mode"], ur_rtde.OUTPUT_TYPES)
    *back, mode = struct.unpack(">6di", recipe.pack({"actual_q": q, "robot_mode": 7}))
    assert back == q and mode == 7


@given(st.binary(max_size=60))
def test_a_set_up_is_read_or_refused(body: bytes) -> None:
    try:
        rate, names, types = ur_rtde.setup_outputs(body)
    except ur_rtde.BadPackage:
        return
    assert 1.0 <= rate <= ur_rtde.FASTEST and len(names) == len(types)


@given(st.lists(st.sampled_from([b"def a():\n", b" x\n", b"end\n", b"# no\n", b"line\n", b"\xff\n"]), max_size=12))
def test_programs_are_whole(pieces: list[bytes]) -> None:
    buffer = bytearray(b"".join(pieces))
    for source in ur_script.split_programs(buffer):
        assert source.endswith("\n") and (not source.startswith("def ") or source.rstrip().endswith("end"))


# ---------------------------------------------------------------- the controller, without a wire


class Robot:
    """A machine with the control program and an arm that follows perfectly, on simulated time."""

    def __init__(self, **options: Any) -> None:
        self.arm = NullDriver({"model": "ur5e", "outputs": LAMPS}, 6)
        self.machine = Machine(self.arm, **options)
        self.program = ur_script.ControlProgram(self.machine)
        self.inputs: dict[str, Any] = {}
        self.now = 10.0
        self.step(400)

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += 0.002
            dt = self.machine.follow(self.now)
            self.program.cycle(self.inputs, self.now, dt)

    def command(self, number: int, *values: float) -> Any:
        written = {"input_int_register_0": number, **{f"input_double_register_{n}": v for n, v in enumerate(values)}}
        self.inputs.update(written)
        self.program.written(written, self.inputs, self.now)
        return self.program.registers["output_int_register_0"]

    def servo(self, q: list[float], seconds: float) -> None:
        for _ in range(round(seconds / 0.002)):
            self.command(ur_script.SERVO_J, *q, 0.0, 0.0, 0.002, 0.03, 300.0)
            self.step()


@pytest.fixture
def robot() -> Robot:
    made = Robot()
    assert made.program.load(PROGRAM)
    return made


def test_servoj_arrives_without_overshoot(robot: Robot) -> None:
    goal = [q + 0.2 for q in robot.machine.q]
    fastest = 0.0
    for _ in range(200):
        robot.servo(goal, 0.002)
        fastest = max(fastest, *map(abs, robot.machine.dq))
        assert all(q <= g + 1e-9 for q, g in zip(robot.machine.q, goal, strict=True))
    assert robot.machine.q == pytest.approx(goal, abs=1e-3) and 1.0 < fastest <= math.pi + 1e-9


def test_the_speed_slider_slows_every_motion(robot: Robot) -> None:
    start = robot.machine.q[0]
    goal = [start + 0.1, *robot.machine.q[1:]]
    robot.machine.slider = 0.1
    robot.servo(goal, 0.1)
    slow = robot.machine.q[0] - start
    robot.machine.slider = 0.0
    robot.servo(goal, 0.5)
    held = robot.machine.q[0]
    robot.servo(goal, 0.2)
    assert robot.machine.q[0] == held and 0.0 < slow < 0.05


def test_a_command_that_waits_is_answered_when_it_is_done(robot: Robot) -> None:
    robot.servo([q + 0.3 for q in robot.machine.q], 0.06)
    assert robot.command(ur_script.SERVO_STOP, 5.0) == ur_script.READY
    robot.step(2)
    assert robot.program.registers["output_int_register_0"] == ur_script.READY
    robot.step(400)
    assert robot.program.registers["output_int_register_0"] == ur_script.DONE
    assert max(map(abs, robot.machine.dq)) < 1e-3
    assert robot.command(ur_script.NONE) == ur_script.READY


def test_movej_goes_there_and_ends(robot: Robot) -> None:
    goal = [q - 0.3 for q in robot.machine.q]
    robot.command(ur_script.MOVE_J, *goal, 1.0, 2.0)
    robot.step(1000)
    assert robot.machine.q == pytest.approx(goal) and robot.program.registers["output_int_register_0"] == 2


def test_the_clients_watchdog_ends_the_program(robot: Robot) -> None:
    robot.command(ur_script.WATCHDOG, 10.0)
    robot.command(ur_script.NONE)
    robot.servo(list(robot.machine.q), 0.3)
    assert robot.machine.program is ProgramState.PLAYING
    robot.step(60)
    assert robot.machine.program is ProgramState.STOPPED


def test_an_unknown_command_ends_the_program_and_says_so(robot: Robot) -> None:
    robot.command(58, 0.0)
    assert robot.machine.program is ProgramState.STOPPED and "58" in robot.machine.popup


@pytest.mark.parametrize("cause", ["emergency", "safeguard", "protective", "fault"])
def test_every_safety_state_stops_the_arm_and_shows(robot: Robot, cause: str) -> None:
    goal = [q + 0.5 for q in robot.machine.q]
    robot.servo(goal, 0.05)
    if cause == "emergency":
        robot.machine.emergency_button = True
    elif cause == "safeguard":
        robot.machine.safeguard_input = True
    elif cause == "protective":
        robot.machine.protective_stop(robot.now)
    else:
        robot.arm.faults.fault = "overcurrent"
    robot.step()
    bit = {"emergency": 1 << 6, "safeguard": 1 << 4, "protective": 1 << 2, "fault": 1 << 9}[cause]
    assert robot.machine.safety_bits & bit and not robot.machine.safety_bits & 3
    robot.servo(goal, 0.5)
    stood = list(robot.machine.q)
    robot.servo(goal, 0.2)
    assert robot.machine.q == stood and robot.machine.program is ProgramState.STOPPED
    assert (robot.machine.robot_mode is RobotMode.RUNNING) == (cause in ("safeguard", "protective"))
    assert robot.program.load(PROGRAM) is False


def test_a_protective_stop_waits_five_seconds(robot: Robot) -> None:
    robot.machine.protective_stop(robot.now)
    assert "until 5s" in ur_dashboard.answer("unlock protective stop", robot.machine, robot.now + 4.9)
    assert ur_dashboard.answer("unlock protective stop", robot.machine, robot.now + 5.1).endswith("releasing")
    assert robot.machine.safety_mode is SafetyMode.NORMAL


def test_nothing_clears_the_emergency_stop_but_its_button(robot: Robot) -> None:
    robot.machine.emergency_button = True
    robot.step()
    for line in ("unlock protective stop", "restart safety", "power on", "brake release", "close safety popup", "play"):
        ur_dashboard.answer(line, robot.machine, robot.now + 10.0)
        robot.step()
    assert robot.machine.safety_mode is SafetyMode.ROBOT_EMERGENCY_STOP
    assert robot.machine.robot_mode is RobotMode.POWER_OFF
    robot.machine.emergency_button = False
    ur_dashboard.answer("brake release", robot.machine, robot.now)
    assert robot.machine.robot_mode is RobotMode.RUNNING


def test_local_control_refuses_orders_and_answers_questions() -> None:
    robot = Robot(remote=False, running=False)
    assert "remote control" in ur_dashboard.answer("power on", robot.machine, robot.now)
    assert robot.machine.robot_mode is RobotMode.POWER_OFF
    assert ur_dashboard.answer("is in remote control", robot.machine, robot.now) == "false"
    assert ur_dashboard.answer("robotmode", robot.machine, robot.now) == "Robotmode: POWER_OFF"


def test_any_line_is_answered(robot: Robot) -> None:
    @given(st.text(max_size=40))
    def answered(line: str) -> None:
        assert ur_dashboard.answer(line, Machine(robot.arm), 0.0)

    answered()


# ---------------------------------------------------------------- words for states


def measured(**changes: Any) -> ur_link.Measured:
    values: dict[str, Any] = {
        "seq": 1, "t": 0.0, "q": [0.0] * 6, "dq": [0.0] * 6, "robot_mode": 7, "safety_bits": 1, "playing": True,
        "inputs": 0, "outputs": 0, "slider": 1.0, "recovered": 0, "halted": False, "problem": "", **changes,
    }  # fmt: skip
    return ur_link.Measured(**values)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"safety_bits": 2}, ""),
        ({"safety_bits": 0}, "permits motion"),
        ({"safety_bits": 1 << 2}, "protective stop"),
        ({"safety_bits": 1 << 3}, "recovery"),
        ({"safety_bits": 1 << 8}, "violated"),
        ({"safety_bits": 1 << 9 | 1}, "fault"),
        ({"robot_mode": 3}, "switched off"),
        ({"robot_mode": 99}, "99"),
        ({"playing": False}, "control program"),
        ({"slider": 0.5}, "50 %"),
        ({"slider": math.nan}, "nan"),
        ({"problem": "it waits"}, "it waits"),
    ],
)
def test_what_keeps_the_arm_from_following_is_said(changes: dict[str, Any], says: str) -> None:
    said = ur_link.fault(measured(**changes))
    assert says in said and bool(says) == bool(said)


@pytest.mark.parametrize("bit", [5, 6, 7])
def test_every_emergency_bit_counts(bit: int) -> None:
    assert ur_link.emergency_stopped(1 << bit) and not ur_link.safeguarded(1 << bit)


def test_the_board_shows_the_newest_and_never_a_torn_message(tmp_path: Any) -> None:
    with (tmp_path / "memory").open("w+b") as file:
        file.truncate(ur_link.Board.SIZE)
        board = ur_link.Board(file.fileno())
        assert board.read() is None
        board.write(b"first" * 20)
        board.write(b"second")
        assert board.read() == b"second"
        file.seek(9)
        file.write(b"X")
        file.flush()
        assert board.read() is None
        with pytest.raises(ValueError, match="do not fit"):
            board.write(bytes(ur_link.Board.SIZE))


# ---------------------------------------------------------------- the driver by itself


@pytest.mark.parametrize("options", [{"address": "robot"}, {"watchdog": 9.0}, {"payload": -1.0}, {"lookahead": 0.0}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DriverError) as caught:
        UrDriver(options, 6)
    assert caught.value.code == "ur_options"


def test_an_arm_with_seven_joints_is_refused() -> None:
    with pytest.raises(DriverError):
        UrDriver({}, 7)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ur, "_PACKAGE", "no_such_package")
    with pytest.raises(DriverError) as caught:
        UrDriver({}, 6).connect(0.0)
    assert caught.value.code == "ur_package" and "collabcell[ur]" in caught.value.remedy


def test_nobody_there_is_named_port_by_port() -> None:
    parts = missing("127.255.255.1")
    assert [code for code, _, _ in parts] == ["ur_dashboard", "ur_rtde", "ur_script"]


def test_without_an_arm_nothing_is_sent() -> None:
    driver = UrDriver({"address": "127.255.255.2"}, 6)
    with pytest.raises(DriverError):
        driver.send(Setpoint(1, 0.0, [0.0] * 6, [0.0] * 6))
    with pytest.raises(DriverError):
        driver.recover("somebody", 0.0)
    driver.close()


def test_a_port_in_use_is_named() -> None:
    arm = NullDriver({"model": "ur5e"}, 6)
    first = UrController(arm, "127.255.255.3", Ports())
    try:
        with pytest.raises(BadInput, match="port 29999"):
            CliRunner().invoke(app, ["ur-sim", "--address", "127.255.255.3"], catch_exceptions=False)
    finally:
        first.close()


# ---------------------------------------------------------------- garbage on the wire


@pytest.fixture
def controller() -> Iterator[UrController]:
    made = UrController(NullDriver({"model": "ur5e"}, 6), "127.255.255.4", Ports(*(p + 1000 for p in Ports())))
    yield made
    made.close()


@pytest.mark.parametrize(
    "data", [b"\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x04U\x09", b"\x00\x0bOabcdefgh", b"a" * 5000]
)
@pytest.mark.parametrize("port", ["rtde", "dashboard", "realtime"])
def test_noise_on_a_port_ends_or_is_refused_and_others_are_served(
    controller: UrController, data: bytes, port: str
) -> None:
    with socket.create_connection((controller.address, getattr(controller.ports, port))) as noisy:
        noisy.sendall(data)
        with socket.create_connection((controller.address, controller.ports.dashboard)) as other:
            other.sendall(b"robotmode\n")
            other.settimeout(5.0)
            said = b""
            for n in range(2000):
                controller.step(1.0 + 0.002 * n)
                if n > 5 and b"RUNNING" in (said := said + other.recv(256)):
                    break
    assert b"Robotmode: RUNNING" in said


# ---------------------------------------------------------------- through `ur_rtde`


class Reached:
    """Our driver, its process with the vendor's client, and the simulated arm in another; in real time, unhurried."""

    def __init__(self) -> None:
        self.arm = UrProcess()
        self.driver = UrDriver({"address": self.arm.address, "watchdog": 0.5, "drive_delay": 0.2}, 6)
        self.n = 0

    @property
    def state(self) -> DriverState | None:
        return self.driver.state(time.monotonic())

    def until(
        self, done: Callable[[DriverState], bool], q: list[float] | None = None, person: bool = False
    ) -> DriverState:
        """`q`: is sent all the time; `person`: lets the arm go on whenever it has a fault."""
        end, asked = time.monotonic() + 60.0, 0.0
        while time.monotonic() < end:
            now, state = time.monotonic(), None
            with contextlib.suppress(DriverError):  # not reached yet
                self.driver.connect(now)
                state = self.state
            if state is not None:
                if done(state):
                    return state
                if person and state.fault and now - asked > 1.0:
                    asked = now
                    self.driver.recover("somebody", now)
                if q is not None and not state.fault:
                    self.n += 1
                    near = [a + min(max(b - a, -0.01), 0.01) for a, b in zip(state.q, q, strict=True)]
                    self.driver.send(Setpoint(self.n, now, near, [0.0] * 6))
            time.sleep(0.004)
        raise AssertionError(f"nothing within 60 s: {state}")


def test_the_vendors_client_drives_the_simulated_arm_and_only_a_person_restarts_it() -> None:
    reached = Reached()
    try:
        start = reached.until(lambda s: not s.fault)
        goal = [q + 0.05 for q in start.q]

        def arrived(state: DriverState) -> bool:
            return max(abs(a - b) for a, b in zip(state.q, goal, strict=True)) < 0.002

        reached.until(arrived, goal, person=True)
        reached.driver.set_output("lamp_red", True)
        reached.until(lambda s: s.outputs["lamp_red"] and not s.outputs["lamp_green"])
        reached.arm.order("emergency_stop on")
        assert not reached.until(lambda s: s.emergency_stop, goal).safeguard
        reached.driver.recover("somebody", time.monotonic())
        told = reached.driver._recovers
        reached.until(lambda s: reached.driver._measured is not None and reached.driver._measured.recovered == told)
        assert reached.until(lambda s: True).emergency_stop, "cleared from software"
        reached.arm.order("emergency_stop off")
        off = reached.until(lambda s: not s.emergency_stop)
        assert off.fault
        goal = [q - 0.05 for q in off.q]
        moved = reached.until(lambda s: s.seq > off.seq + 50, goal)
        assert moved.fault and moved.q == pytest.approx(off.q, abs=2e-3), "it went on without a person"
        reached.until(arrived, goal, person=True)
        reached.arm.order("slider 50")
        assert "50 %" in reached.until(lambda s: bool(s.fault)).fault
    finally:
        reached.driver.close()
        reached.arm.close()
