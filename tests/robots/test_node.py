"""The robot node: motion, holds, stops, driver faults, inputs, sessions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.bus.messages import Hello
from robots.client import RobotClient
from robots.contract import CancelMotion, DriverError, Move
from robots.geometry import rotation_vector
from robots.motion import Motion
from robots.planning import plan_ptp
from robots.requests import REQUESTS
from tests.robots.bench import Bench


def fault_codes(b: Bench) -> list[str]:
    return [e.data["code"] for e in b.events if e.kind == "robot.fault"]


@pytest.mark.requirement("ROB-04")
@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([None, 0.0, 0.15, 0.5, 1.0]), st.integers(1, 60)), min_size=2, max_size=10),
    st.sampled_from([250.0, 500.0]),
)
def test_setpoints_stay_on_the_planned_path_at_every_lease_profile(
    profile: list[tuple[float | None, int]], rate_hz: float
) -> None:
    b = Bench(rate_hz=rate_hz)
    motion = b.motion(1.5)
    b.client.move(motion, b.now)
    dense = np.array([motion.sample(p)[0] for p in np.arange(0.0, motion.duration + 1e-3, 0.001)])
    tcp = b.model.tcp_path(dense)
    q_before = None
    for limit, ticks in profile:
        b.issuer.limit = limit
        for _ in range(ticks):
            b.step()
            q = np.array(b.state.q_commanded)
            point = b.model.fk(q)
            k = int(np.argmin(np.linalg.norm(dense - q, axis=1)))
            assert np.linalg.norm(tcp[k] - point[:3, 3]) < 1e-3
            assert np.linalg.norm(rotation_vector(b.model.fk(dense[k])[:3, :3].T @ point[:3, :3])) < 2e-3
            if q_before is not None:
                assert (np.abs(q - q_before) <= b.model.v_max / rate_hz + 1e-9).all()
            q_before = q


def test_a_motion_runs_to_its_end_in_its_nominal_time() -> None:
    b = Bench()
    motion = b.motion(1.0)
    request = b.client.move(motion, b.now)
    took = b.run_until(lambda: b.status(request).finished)
    assert b.client.status(request).verdict == "done"
    assert motion.duration <= took <= motion.duration + 0.1
    assert np.allclose(b.state.q, motion.path[-1], atol=1e-6)
    assert b.state.motion_id == ""
    assert (b.state.duration, b.state.standing) == (0.0, True)


def test_override_slows_holds_and_resumes() -> None:
    b = Bench()
    request = b.start(2.0)
    b.ask(b.client.set_override(0.3, b.now))
    b.run(0.5)
    assert b.state.rate == pytest.approx(0.3)
    assert b.state.limit_by == "override"
    b.ask(b.client.set_override(0.0, b.now))
    b.run(0.5)
    assert (b.state.rate, b.state.motion_id, b.state.fault) == (0.0, "m1", "")
    b.ask(b.client.set_override(1.0, b.now))
    assert b.ask(request, 6.0).verdict == "done"
    for bad in (math.nan, -0.1, 1.1, math.inf):
        assert b.ask(b.client.set_override(bad, b.now)).verdict == "rejected"


def test_stop_of_category_2_keeps_the_motion_and_the_power() -> None:
    b = Bench()
    request = b.start(2.0)
    stop = b.client.stop(2, "look", b.now)
    assert b.ask(stop).verdict == "done"
    assert b.state.standing
    assert (b.state.motion_id, b.state.fault, b.driver.stops) == ("m1", "", [])
    b.run(0.5)
    assert b.state.rate == 0.0
    b.ask(b.client.set_override(1.0, b.now))
    assert b.ask(request, 6.0).verdict == "done"


@pytest.mark.requirement("ROB-05")
def test_stop_of_category_1_drops_motion_and_power() -> None:
    b = Bench()
    request = b.start(2.0)
    b.client.stop(1, "end of shift", b.now)
    b.run(0.04)
    assert b.state.rate > 0.0
    assert b.driver.stops == []  # the power goes at standstill
    b.run(1.0)
    assert b.driver.stops == [1]
    assert b.status(request).code == "stopped"
    assert (b.state.fault, b.state.motion_id) == ("stopped", "")
    assert "clear" in b.ask(b.client.move(b.motion(0.2, "m2"), b.now)).reason
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "done"
    b.run(0.5)
    assert b.state.motion_id == ""
    assert b.ask(b.client.move(b.motion(0.2, "m2"), b.now)).verdict == "done"


def test_cancel_brakes_on_the_path_and_drops() -> None:
    b = Bench()
    motion = b.motion(2.0)
    request = b.client.move(motion, b.now)
    b.run(0.5)
    cancel = b.client.cancel("not needed", b.now)
    assert b.ask(cancel).verdict == "done"
    status = b.status(request)
    assert (status.verdict, status.code) == ("failed", "cancelled")
    assert b.state.motion_id == ""
    where = np.array(b.state.q_commanded)
    assert np.abs(motion.sample(status.data["progress"])[0] - where).max() < 1e-9
    assert b.ask(b.client.move(b.motion(0.3, "m2"), b.now)).verdict == "done"


# ---------------------------------------------------------------- drives

FAULTS: list[tuple[str, Any, str]] = [
    ("silent", lambda d: setattr(d.faults, "silent", True), "driver_lost"),
    ("frozen", lambda d: setattr(d.faults, "frozen", True), "driver_lost"),
    ("latency", lambda d: setattr(d.faults, "latency", 0.1), "driver_lost"),
    ("nan", lambda d: setattr(d.faults, "nan", True), "driver_invalid"),
    ("vendor", lambda d: setattr(d.faults, "fault", "joint 3 hot"), "driver_fault"),
    ("refuse", lambda d: setattr(d.faults, "refuse", True), "driver_fault"),
    ("stuck", lambda d: setattr(d.faults, "stuck_joint", 0), "tracking_error"),
    ("runaway", lambda d: setattr(d.faults, "runaway", True), ""),
]


@pytest.mark.requirement("ROB-06")
@pytest.mark.parametrize(("name", "inject", "code"), FAULTS, ids=[f[0] for f in FAULTS])
def test_driver_faults_stop_the_arm_call_the_vendor_and_latch(name: str, inject: Any, code: str) -> None:
    b = Bench()
    request = b.start(2.0, until=0.4)
    inject(b.driver)
    if name == "runaway":
        b.issuer.limit = 0.0  # told to stand, it keeps its speed
    b.run(1.5)
    codes = fault_codes(b)
    if code:
        assert codes[0] == code
    else:
        assert "stop_disobeyed" in codes or "tracking_error" in codes
    assert b.driver.stops
    assert b.node.core.follower is None
    assert b.status(request).verdict == "failed"
    assert b.node.core.faults
    before = len(b.driver.stops)
    b.run(0.5)
    assert len(b.driver.stops) == before  # called once, not each tick
    again = plan_ptp(b.model, b.model.home, b.model.home + 0.1, motion_id="m2")
    assert b.ask(b.client.move(again, b.now)).verdict == "rejected"


@pytest.mark.requirement("ROB-20")
@pytest.mark.parametrize("tool", ["", "vacuum_cup"])
def test_another_tool_than_the_cell_files_stops_the_arm_on_its_path(tool: str) -> None:
    b = Bench()
    b.driver.faults.tool = b.model.tool_name
    request = b.start(2.0, until=0.4)
    assert not b.state.fault
    b.driver.faults.tool = tool
    b.brake()
    b.run(0.1)
    assert fault_codes(b) == ["tool_changed"] and not b.driver.stops
    assert b.status(request).verdict == "failed"
    again = plan_ptp(b.model, b.model.home, b.model.home + 0.1, motion_id="m2")
    assert b.ask(b.client.move(again, b.now)).verdict == "rejected"
    assert "tool" in b.ask(b.client.clear_fault("Ann", b.now)).reason
    b.driver.faults.tool = b.model.tool_name
    b.run(0.1)
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "done"


@pytest.mark.requirement("ROB-06")
def test_a_running_away_arm_is_stopped_with_category_0() -> None:
    b = Bench(tracking_tolerance=0.5)
    b.start(2.0, until=0.4)
    b.driver.faults.runaway = True
    b.client.stop(2, "x", b.now)
    b.run(1.0)
    assert "stop_disobeyed" in fault_codes(b)
    assert 0 in b.driver.stops


@pytest.mark.requirement("ROB-06")
def test_the_setpoints_go_on_braking_on_the_path_when_the_state_is_lost() -> None:
    b = Bench()
    sent: list[list[float]] = []
    send = b.driver.send
    b.driver.send = lambda s: (sent.append(s.q), send(s))[1]  # type: ignore[method-assign,func-returns-value]
    motion = b.motion(2.0)
    b.client.move(motion, b.now)
    b.run(0.5)
    b.driver.faults.silent = True
    sent.clear()
    b.run(0.6)
    q = np.array(sent)
    steps = np.abs(np.diff(q, axis=0)).max(axis=1)
    assert steps[0] > 0
    assert steps[-1] == 0
    assert np.abs(np.diff(q, n=2, axis=0)).max() / 0.004**2 <= 1.1 * b.model.a_max.max()


@pytest.mark.requirement("ROB-07")
def test_clearing_needs_the_cause_gone_and_restarts_nothing() -> None:
    b = Bench()
    b.start(2.0, until=0.4)
    b.driver.faults.silent = True
    b.run(0.5)
    assert "fresh" in b.ask(b.client.clear_fault("Ann", b.now)).reason
    b.driver.faults.silent = False
    b.run(0.2)
    assert b.state.fault == "driver_lost"
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "done"
    q = b.state.q
    b.run(0.5)
    assert b.state.q == q
    assert (b.state.motion_id, b.state.fault) == ("", "")
    assert b.ask(b.client.clear_fault("Ann", b.now)).reason == "no fault is latched"
    assert b.ask(b.client.move(b.motion(0.3, "m2"), b.now)).verdict == "done"


@pytest.mark.requirement("ROB-07")
def test_a_vendor_fault_that_does_not_go_away_fails_the_clearing() -> None:
    b = Bench()
    b.driver.faults.fault = "brake open"
    b.driver.recover = lambda person, now: None  # type: ignore[method-assign]
    b.run(0.1)
    answer = b.ask(b.client.clear_fault("Ann", b.now))
    assert (answer.verdict, answer.code) == ("failed", "not_recovered")
    assert "brake open" in answer.reason
    assert b.state.fault == "driver_fault"


@pytest.mark.requirement("ROB-08")
@pytest.mark.parametrize(("name", "code"), [("emergency_stop", "emergency_stop"), ("safeguard", "safeguard_stop")])
def test_stop_inputs_latch_and_releasing_them_restarts_nothing(name: str, code: str) -> None:
    b = Bench()
    b.start(2.0, until=0.4)
    setattr(b.driver, name, True)
    b.run(0.8)
    assert b.state.fault == code
    assert b.state.rate == 0.0
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "rejected"
    setattr(b.driver, name, False)
    b.run(1.0)
    assert (b.state.fault, b.state.rate) == (code, 0.0)
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "done"
    b.run(0.5)
    assert b.state.rate == 0.0
    assert b.state.standing
    assert bool(b.state.motion_id) == (code == "safeguard_stop")


def test_start_up_waits_for_a_fresh_state_and_reports_silence() -> None:
    b = Bench(hello=False)
    b.driver.faults.silent = True
    b.run(1.0)
    assert b.states == []
    assert b.node.core.faults.codes == []
    b.run(1.5)
    assert b.node.core.faults.codes == ["driver_lost"]


def test_a_driver_that_cannot_connect_is_asked_again() -> None:
    b = Bench(hello=False)
    calls: list[float] = []

    def connect(now: float) -> None:
        calls.append(now)
        if len(calls) < 3:
            raise DriverError("no_route", "no answer from 192.0.2.1", "plug the cable in")

    b.driver.connect = connect  # type: ignore[method-assign]
    b.run(1.5)
    assert len(calls) == 2
    b.run(1.0)
    assert len(calls) == 3
    assert b.states


def test_a_joint_measured_outside_its_limits_latches() -> None:
    b = Bench()
    b.driver._q[3] = 0.2
    b.run(0.1)
    assert "limit_violated" in fault_codes(b)


# ---------------------------------------------------------------- requests and sessions


def test_moves_that_cannot_be_done_are_refused_with_words_to_act_on() -> None:
    b = Bench()
    good = b.motion(0.5)
    off = good.path + 0.01
    cases = {
        "plan it from the present position": Motion.from_samples(b.model, "a", good.step, off).to_move(),
        "finite": Move("a", good.step, 7, np.full((9, 7), np.nan).tobytes()),
        "joints": Move("a", good.step, 6, good.path.tobytes()),
        "needs an id": Move("", good.step, 7, good.path.tobytes()),
        "limit": Move("a", good.step, 7, good.path[::5].tobytes()),
    }
    for word, move in cases.items():
        status = b.ask(b.client.move(move, b.now))
        assert status.verdict == "rejected"
        assert word in status.reason
    b.start(2.0, "m1")
    busy = b.ask(b.client.move(b.motion(0.5, "m2"), b.now))
    assert "m1 is under way" in busy.reason


@pytest.mark.requirement("ROB-09")
def test_only_one_controller_and_only_after_hello() -> None:
    b = Bench()
    second = RobotClient(b.hub.ports("other"), "observer", "s2")
    raw = b.hub.ports("raw").requester("arm.requests", "s3")
    raw.request(CancelMotion("x"), b.now)
    raw.request(Hello(99, "controller", "s3"), b.now)
    raw.request(Hello(1, "controller", "s3"), b.now)
    second.poll(b.now)
    b.run(0.05)
    unknown, old, taken = [r for r in raw.replies() if r.verdict == "rejected"]
    assert "hello" in unknown.reason
    assert "version" in old.reason
    assert "s1 holds control" in taken.reason
    second.poll(b.now)
    assert second.connected
    request = second.cancel("x", b.now)
    b.run(0.02)
    second.poll(b.now)
    assert "does not hold control" in second.status(request).reason
    with pytest.raises(PermissionError):
        second.jog("joint", [0.0] * 7, b.now)


def test_a_request_id_is_taken_once() -> None:
    b = Bench()
    service = b.hub._services["arm.requests"]
    box = service.connect(b"x")
    import msgspec

    from robots.contract import SetOverride

    body = msgspec.msgpack.encode(SetOverride(0.5))
    for _ in range(2):
        service.put(b"x", "same-id", "s1", body)
    b.step()
    assert [r.verdict for r in box] == ["accepted", "done", "rejected"]
    assert "before" in box[2].reason


@pytest.mark.requirement("ROB-09")
def test_a_silent_controller_stops_the_arm_and_latches() -> None:
    b = Bench()
    b.start(2.0, until=0.3)
    b.ask(b.client.set_override(0.3, b.now))
    b.alive = False
    took = b.run_until(lambda: b.state.fault == "controller_lost")
    assert took <= 0.5 + 0.1 + 0.02
    b.brake()
    assert b.state.session == ""
    newcomer = RobotClient(b.hub.ports("controller2"), "observer", "s9")
    newcomer.role = "controller"
    newcomer.poll(b.now)
    b.run(0.02)
    newcomer.poll(b.now)
    assert newcomer.connected
    assert b.state.fault == "controller_lost"
    request = newcomer.clear_fault("Ann", b.now)
    b.run(0.02)
    newcomer.poll(b.now)
    assert newcomer.status(request).verdict == "done"


def test_release_gives_control_up_without_a_fault() -> None:
    b = Bench()
    b.client.release("done for today", b.now)
    b.run(1.5)
    assert (b.state.session, b.state.fault) == ("", "")
    assert not b.client.connected


def test_outputs_are_done_when_the_drives_report_them() -> None:
    b = Bench()
    assert b.ask(b.client.set_output("signal", True, b.now)).verdict == "done"
    assert b.state.outputs == {"signal": True}
    assert "signal" in b.ask(b.client.set_output("horn", True, b.now)).reason
    b.driver.set_output = lambda name, value: None  # type: ignore[method-assign]
    assert b.ask(b.client.set_output("signal", False, b.now)).code == "output_stuck"


@pytest.mark.requirement("ROB-10")
def test_keep_out_regions_refuse_motions_that_would_enter_them() -> None:
    plane = {"kind": "plane", "name": "wall", "normal": [0, -1, 0], "offset": -0.35}
    b = Bench(keep_out=[plane])
    q = np.array(b.state.q_commanded)
    goal = q.copy()
    goal[0] = 0.3
    assert b.ask(b.client.move(plan_ptp(b.model, q, goal, motion_id="ok"), b.now), 4).verdict == "done"
    q = np.array(b.state.q_commanded)
    goal[0] = 1.4
    status = b.ask(b.client.move(plan_ptp(b.model, q, goal, motion_id="bad"), b.now))
    assert status.verdict == "rejected"
    assert "wall" in status.reason
    box = {"kind": "box", "name": "press", "size": [0.3, 0.3, 0.6], "pose": {"position": [0.0, 0.5, 0.5]}}
    b = Bench(keep_out=[box])
    q = np.array(b.state.q_commanded)
    goal = q.copy()
    goal[0] = 1.4
    assert "press" in b.ask(b.client.move(plan_ptp(b.model, q, goal, motion_id="bad"), b.now)).reason


def test_the_node_understands_every_request_of_the_contract() -> None:
    import robots.contract as contract

    tagged = {
        kind
        for kind in vars(contract).values()
        if isinstance(kind, type) and issubclass(kind, contract.msgspec.Struct) and kind.__struct_config__.tag
    }
    assert tagged <= set(REQUESTS.__args__)


def test_accepted_motion_is_published_again_and_again() -> None:
    b = Bench()
    inbox = b.hub.ports("late").subscriber("arm.motion", __import__("robots.contract", fromlist=["x"]).AcceptedMotion)
    b.start(2.0)
    inbox.take()
    for _ in range(3):
        b.run(0.05)
        envelope = inbox.take()
        assert envelope is not None
        assert envelope.body.motion_id == "m1"
    b.client.cancel("x", b.now)
    b.run(1.0)
    envelope = inbox.take()
    assert envelope is not None
    assert envelope.body.motion_id == ""


def test_closing_a_moving_node_stops_the_drives() -> None:
    b = Bench()
    b.start(2.0, until=0.4)
    b.node.close()
    assert b.driver.stops == [1]


def test_a_stop_whose_standstill_cannot_be_measured_is_not_called_done() -> None:
    b = Bench()
    b.start(2.0, until=0.4)
    b.driver.faults.silent = True
    status = b.ask(b.client.stop(2, "x", b.now))
    assert (status.verdict, status.code) == ("failed", "not_measured")


def test_a_fault_at_the_very_end_keeps_the_motion_until_it_is_cleared() -> None:
    b = Bench()
    request = b.start(0.5)
    b.run_until(lambda: b.state.progress >= b.state.duration - 1e-9)
    b.driver.safeguard = True
    b.run(2.5)
    assert (b.status(request).verdict, b.state.fault) in (("accepted", "safeguard_stop"), ("done", "safeguard_stop"))
    b.driver.safeguard = False
    b.run(0.05)
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "done"
    assert b.ask(request).verdict == "done"


@pytest.mark.requirement("ROB-07")
def test_an_input_pressed_again_while_the_drives_recover_fails_the_clearing() -> None:
    b = Bench()
    b.driver.emergency_stop = True
    b.run(0.1)
    b.driver.emergency_stop = False
    b.driver.recover = lambda person, now: setattr(b.driver, "emergency_stop", True)  # type: ignore[method-assign]
    b.run(0.05)
    answer = b.ask(b.client.clear_fault("Ann", b.now))
    assert (answer.verdict, answer.code) == ("failed", "not_recovered")
    assert b.state.fault == "emergency_stop"
