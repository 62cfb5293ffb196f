"""The controller with the real robot node: what each cause does, and what it never does by itself."""

from __future__ import annotations

import pytest

from cell.bus.messages import PROTOCOL_VERSION, Hello
from cell.contract import AcknowledgeAlarm, AnswerConfirm, ChooseRecovery, Command, SetUnitMode
from cell.controller import ControllerNode
from robots.contract import ClearFault, SetOverride
from tests.cell.harness import SHORT, Bench, demo

ASKING = """
recipe: asking
version: "1"
capabilities: [operator]
operations:
  - operation: one
    phases:
      - {skill: operator_confirm, params: {text: Is the machine empty?}}
"""
WAITING = """
recipe: waiting
version: "1"
capabilities: [inputs, outputs]
operations:
  - operation: one
    phases:
      - {skill: set_output, params: {name: clamp, value: true}}
      - {skill: wait_for, params: {input: ready, timeout: 2.0}}
"""


def test_a_batch_from_start_to_complete() -> None:
    bench = Bench()
    bench.start()
    assert bench.until("Complete", "Held", "Aborted") == "Complete"
    bench.run(0.2)
    status = bench.status
    assert status is not None
    assert (status.parts_done, status.batch, len(status.cycle_times)) == (1, 1, 1)
    assert status.predicted_cycle == pytest.approx(status.cycle_times[0], rel=0.1)
    assert status.fingerprint == bench.kinds("batch.started")[0]["fingerprint"]
    finished = [(e["phase"], e["outcome"]) for e in bench.kinds("recipe.phase_finished")]
    assert finished == [("pick cube_red", "done"), ("place in kit_places", "done"), ("move home", "done")]
    assert bench.expected is not None
    red = next(p for p in bench.expected.parts if p.name == "cube_red#1")
    assert red.T_base_part[0] == pytest.approx(0.385)
    assert bench.command("Reset").verdict == "done"
    bench.until("Idle")


def test_illegal_commands_are_answered_and_change_nothing() -> None:
    bench = Bench()
    bench.run(0.1)
    for name in ("Start", "Hold", "Unhold", "Suspend", "Unsuspend", "Complete", "Clear"):
        reply = bench.command(name)
        assert reply.verdict == "rejected"
        assert "Stopped" in reply.reason
        assert bench.state == "Stopped"


def test_start_without_a_recipe_or_supervisor_is_refused() -> None:
    bench = Bench(recipe=None)
    bench.run(0.1)
    bench.command("Reset")
    bench.until("Idle")
    reply = bench.command("Start")
    assert (reply.verdict, reply.reason) == ("rejected", "no recipe is loaded")
    bench = Bench()
    bench.supervisor.silent = True
    bench.run(0.1)
    bench.command("Reset")
    bench.until("Idle")
    assert "supervisor" in bench.command("Start").reason
    assert bench.state == "Idle"


@pytest.mark.requirement("CTL-01")
def test_a_person_near_changes_the_rate_only() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.supervisor.limit = 0.3
    bench.run(0.6)
    assert bench.robot is not None
    assert bench.robot.rate <= 0.3 + 1e-6
    assert bench.state == "Execute"
    assert not bench.codes


@pytest.mark.requirement("CTL-02")
def test_blocked_suspends_after_three_seconds_and_goes_on_by_itself() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.supervisor.limit = 0.0
    bench.run(2.8)
    assert bench.state == "Execute"
    bench.until("Suspended", seconds=1.5)
    assert bench.codes == ["blocked"]
    bench.run(3.0)
    assert bench.state == "Suspended"
    assert max(bench.rates[-500:]) == 0.0
    bench.supervisor.limit = 1.0
    bench.until("Execute", seconds=1.0)
    assert bench.until("Complete", "Held", "Aborted") == "Complete"
    assert bench.kinds("alarm.cleared")[0]["code"] == "blocked"


@pytest.mark.requirement("CTL-03")
def test_hold_in_mid_motion_keeps_the_motion_and_resumes_it() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.run(0.3)
    assert bench.robot is not None
    motion = bench.robot.motion_id
    assert bench.command("Hold").verdict == "done"
    bench.until("Held", seconds=2.0)
    bench.run(1.0)
    assert (bench.robot.motion_id, bench.robot.rate, bench.robot.standing) == (motion, 0.0, True)
    before = bench.robot.progress
    assert bench.command("Unhold").verdict == "done"
    bench.until("Execute", seconds=1.0)
    bench.run(0.3)
    assert bench.robot.motion_id == motion
    assert bench.robot.progress > before
    assert bench.until("Complete", "Held", "Aborted") == "Complete"


@pytest.mark.requirement("CTL-04")
def test_an_unhealthy_camera_holds_and_only_a_person_goes_on() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.supervisor.healthy = False
    bench.until("Held", seconds=2.0)
    assert "camera_fault" in bench.codes
    assert "Check cable" in bench.command("Unhold").reason
    bench.supervisor.healthy = True
    bench.run(2.0)
    assert bench.state == "Held"
    assert "camera_fault" not in bench.codes
    assert bench.command("Unhold").verdict == "done"
    assert bench.until("Complete", "Held", "Aborted") == "Complete"


@pytest.mark.requirement("CTL-05")
def test_a_silent_supervisor_holds_and_latches() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.supervisor.silent = True
    bench.until("Held", seconds=3.0)
    assert "supervisor_lost" in bench.codes
    bench.run(1.0)
    assert bench.robot is not None
    assert bench.robot.fault == "lease_lost"
    bench.supervisor.silent = False
    bench.run(1.0)
    assert bench.state == "Held"
    assert bench.command("Unhold").verdict == "rejected"
    assert bench.ask(ClearFault("anna")).verdict == "done"
    bench.run(0.2)
    assert bench.command("Unhold").verdict == "done"
    assert bench.until("Complete", "Held", "Aborted") == "Complete"
    assert bench.kinds("operator.clear_fault")[0]["person"] == "anna"


@pytest.mark.requirement("CTL-06")
def test_a_restarted_supervisor_holds() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.supervisor.restart()
    bench.until("Held", seconds=2.0)
    assert "supervisor_restarted" in bench.codes


@pytest.mark.requirement("CTL-07")
def test_a_changed_safety_configuration_aborts() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.supervisor.fingerprint = "another"
    bench.until("Aborted", seconds=3.0)
    assert "configuration_changed" in bench.codes
    assert bench.robot is not None
    assert bench.robot.standing


@pytest.mark.requirement("CTL-08")
def test_a_dead_robot_node_aborts_and_nothing_moves_again() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.arm_runs = False
    bench.until("Aborted", seconds=4.0)
    assert "robot_lost" in bench.codes
    assert bench.command("Clear").verdict == "rejected"
    bench.arm_runs = True
    bench.run(1.5)
    assert bench.state == "Aborted"
    assert bench.robot is not None
    assert bench.robot.rate == 0.0


@pytest.mark.requirement("CTL-08")
@pytest.mark.parametrize("fault", ["silent", "nan"])
def test_lost_drives_abort(fault: str) -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    setattr(bench.driver.faults, fault, True)
    bench.until("Aborted", seconds=4.0)
    assert bench.robot is not None
    assert bench.robot.fault in ("driver_lost", "driver_invalid")
    setattr(bench.driver.faults, fault, False)
    bench.run(1.0)
    assert bench.state == "Aborted"
    assert bench.robot.rate == 0.0


@pytest.mark.requirement("CTL-08")
def test_emergency_stop_aborts_and_releasing_it_restarts_nothing() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.driver.emergency_stop = True
    bench.until("Aborted", seconds=4.0)
    assert bench.command("Clear").verdict == "rejected"
    bench.driver.emergency_stop = False
    bench.run(2.0)
    assert bench.state == "Aborted"
    assert bench.ask(ClearFault("anna")).verdict == "done"
    bench.run(0.3)
    assert bench.state == "Aborted"
    assert bench.command("Clear").verdict == "done"
    bench.until("Stopped")
    assert bench.robot is not None
    assert (bench.robot.motion_id, bench.robot.rate) == ("", 0.0)
    bench.command("Reset")
    bench.until("Idle", seconds=12.0)


@pytest.mark.requirement("CTL-10")
@pytest.mark.parametrize("state", ["Starting", "Unholding", "Completing"])
def test_a_person_in_other_acting_states_changes_no_state(state: str) -> None:
    if state == "Starting":
        bench = _away_from_home()
        bench.command("Reset")
        bench.until("Idle")
        bench.command("Start")
        bench.until_moving()
        assert bench.state == "Starting"
        bench.supervisor.limit = 0.0
        bench.run(5.0)
        assert bench.state == "Starting"
        assert bench.rates[-1] == 0.0
        bench.supervisor.limit = 1.0
        bench.until("Execute")
        return
    bench = Bench()
    bench.start()
    bench.until_moving()
    bench.supervisor.limit = 0.0
    bench.run(1.0)
    assert bench.rates[-1] == 0.0
    if state == "Unholding":
        bench.command("Hold")
        bench.until("Held")
        bench.command("Unhold")
        assert bench.until("Execute", "Unholding") in ("Execute", "Unholding")
    else:
        bench.command("Complete")
        bench.until("Complete", "Completing")
    bench.run(1.0)
    assert bench.state in ("Execute", "Unholding", "Completing", "Complete")
    assert bench.rates[-1] == 0.0
    # The state was entered, and what follows it is its own end and nothing the person caused.
    entered = [event["state"] for event in bench.kinds("packml.state")]
    after = entered[entered.index(state) + 1 :]
    assert after in ([], [{"Unholding": "Execute", "Completing": "Complete"}[state]])


def _away_from_home() -> Bench:
    """A cell whose arm Starting has to bring to its rest pose."""
    bench = Bench()
    bench.driver._q = [float(q) for q in demo().home() + 0.15]
    bench.run(0.2)
    return bench


def test_a_missed_grip_is_tried_again_then_asked() -> None:
    bench = Bench()
    bench.empty_tray = True
    bench.start()
    bench.until("Held")
    outcomes = [(e["outcome"], e["attempt"]) for e in bench.kinds("recipe.phase_finished")]
    assert outcomes == [("grip_missed", 1), ("grip_missed", 2)]
    assert "grip_missed" in bench.codes
    assert "choose a recovery" in bench.command("Unhold").reason or "retry or skip" in bench.command("Unhold").reason
    bench.run(0.2)
    assert bench.status is not None
    question = bench.status.question
    assert question is not None
    assert question.choices == ("retry", "skip", "stop")
    assert bench.ask(ChooseRecovery(question.id, "dance")).verdict == "rejected"
    assert bench.ask(ChooseRecovery("old", "retry")).verdict == "rejected"
    bench.empty_tray = False
    assert bench.ask(ChooseRecovery(question.id, "retry")).verdict == "done"
    assert bench.state == "Held"
    assert bench.command("Unhold").verdict == "done"
    assert bench.until("Complete", "Held", "Aborted") == "Complete"
    assert bench.status.parts_done == 1


def test_a_lost_part_holds_and_can_be_skipped() -> None:
    bench = Bench()
    bench.start()
    while bench.robot is None or not (bench.robot.gripper_holding and bench.robot.rate > 0.9):
        bench.tick()
    bench.driver.part_width = None
    bench.until("Held", seconds=4.0)
    bench.run(0.3)
    assert "part_lost" in bench.codes
    assert bench.expected is not None
    assert "cube_red#1" not in {p.name for p in bench.expected.parts}
    assert bench.ask(ClearFault("anna")).verdict == "done"
    assert bench.status is not None
    assert bench.status.question is not None
    assert bench.ask(ChooseRecovery(bench.status.question.id, "skip")).verdict == "done"
    bench.run(0.2)
    assert bench.command("Unhold").verdict == "done"
    assert bench.until("Complete", "Held", "Aborted") in ("Complete", "Held")


def test_stop_cancels_and_reset_starts_anew() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    assert bench.command("Stop").verdict == "done"
    bench.until("Stopped", seconds=3.0)
    assert bench.robot is not None
    assert (bench.robot.motion_id, bench.robot.standing) == ("", True)
    bench.command("Reset")
    bench.until("Idle")
    bench.command("Start")
    assert bench.until("Complete", "Held", "Aborted") == "Complete"


def test_questions_are_answered_once_and_by_choice() -> None:
    bench = Bench(ASKING)
    bench.start()
    bench.run(0.3)
    assert bench.status is not None
    assert bench.status.question is not None
    question = bench.status.question
    assert bench.ask(AnswerConfirm(question.id, "maybe")).verdict == "rejected"
    assert bench.ask(AnswerConfirm(question.id, "yes")).verdict == "done"
    bench.until("Complete")
    assert bench.ask(AnswerConfirm(question.id, "yes")).verdict == "rejected"


def test_an_input_that_does_not_come_holds() -> None:
    bench = Bench(WAITING, inputs=("ready",))
    bench.start()
    bench.until("Held", seconds=5.0)
    assert bench.codes == ["wait_timeout"]
    assert bench.robot is not None
    assert bench.robot.outputs["clamp"] is True
    bench.driver.set_input("ready", True)
    assert bench.status is not None
    bench.run(0.2)
    assert bench.status.question is not None
    bench.ask(ChooseRecovery(bench.status.question.id, "retry"))
    bench.command("Unhold")
    bench.until("Complete")


def test_hello_of_another_version_and_mode_changes_are_refused() -> None:
    bench = Bench()
    bench.run(0.1)
    assert "version" in bench.ask(Hello(PROTOCOL_VERSION + 1, "operator", "people")).reason
    assert bench.ask(SetUnitMode("manual")).verdict == "done"
    assert bench.status is not None
    bench.command("Reset")
    bench.until("Idle")
    assert "manual" in bench.command("Start").reason
    assert bench.ask(SetUnitMode("automatic")).verdict == "done"
    bench.command("Start")
    bench.until("Execute")
    assert "only" in bench.ask(SetUnitMode("manual")).reason
    for value in (float("nan"), -0.1, 1.1, float("inf")):
        assert bench.ask(SetOverride(value)).verdict == "rejected"
    assert bench.ask(AcknowledgeAlarm("nothing")).verdict == "rejected"


@pytest.mark.requirement("ROB-30")
def test_the_cells_mode_follows_the_arms_mode_switch() -> None:
    bench = Bench()
    bench.driver.mode_switch = "automatic"
    bench.run(0.1)
    assert "mode switch" in bench.ask(SetUnitMode("manual")).reason
    assert bench.status is not None and bench.status.mode == "automatic"
    bench.driver.mode_switch = "manual"
    bench.run(0.1)
    assert bench.ask(SetUnitMode("manual")).verdict == "done"
    bench.run(0.1)
    assert bench.status.mode == "manual"
    assert "mode switch" in bench.ask(SetUnitMode("automatic")).reason
    bench.driver.mode_switch = "automatic"
    bench.run(0.1)
    assert bench.ask(SetUnitMode("automatic")).verdict == "done"


def test_an_override_survives_a_hold() -> None:
    bench = Bench()
    bench.start()
    bench.until_moving()
    assert bench.ask(SetOverride(0.4)).verdict == "done"
    bench.command("Hold")
    bench.until("Held")
    assert bench.robot is not None
    assert bench.robot.override == 0.0
    bench.command("Unhold")
    bench.until("Execute")
    bench.run(0.2)
    assert bench.robot.override == pytest.approx(0.4)


def test_a_second_controller_is_refused_by_the_robot_node() -> None:
    bench = Bench()
    bench.run(0.2)
    hub = bench.hub
    hub._published.discard("cell.status")
    hub._published.discard("cell.expected_parts")
    hub._published.discard("cell.recipe")
    hub._published.discard("arm.jog")
    hub._services.pop("cell.requests")
    other = ControllerNode(hub.ports("second"), demo().view(), "second-session")
    for _ in range(100):
        bench.tick()
        other.step(bench.now)
    assert "test-session holds control" in other._link.refusal
    assert "session_refused" in [a.code for a in other.unit.alarms.listed()]


@pytest.mark.parametrize("recipe", [SHORT])
def test_two_equal_runs_say_the_same(recipe: str) -> None:
    def story() -> list[tuple[str, float, object]]:
        bench = Bench(recipe)
        bench.start()
        bench.until_moving()
        bench.supervisor.limit = 0.2
        bench.run(0.5)
        return [(e.kind, e.t, e.data) for e in bench.events]

    assert story() == story()


def test_a_request_nobody_understands_is_answered() -> None:
    bench = Bench()
    bench.run(0.1)
    assert bench.ask({"type": "no_such_thing"}).verdict == "rejected"
    assert bench.ask({"type": "command", "name": "Explode"}).verdict == "rejected"
    assert bench.ask(Command("Start")).verdict == "rejected"
