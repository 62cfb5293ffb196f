"""Loading, stepping, manual motions and the resume gate, on a cell with a real robot node."""

from __future__ import annotations

import math

import pytest

from cell.contract import (
    TOPIC_JOG,
    AnswerConfirm,
    ChooseRecovery,
    GoTo,
    JogWish,
    LoadRecipe,
    ManualGrip,
    ManualOutput,
    NextPhase,
    OverrideSpeed,
    SetStepping,
    SetUnitMode,
    UnloadRecipe,
)
from cell.loading import DirectLoader
from cell.manual import JogGate
from robots.contract import ClearFault
from tests.cell.harness import SHORT, Bench, demo


def bench(recipe: str | None = SHORT) -> Bench:
    b = Bench(recipe)
    b.node._loader = DirectLoader(demo(), demo().view())
    b.arm.core.config = b.arm.core.config.model_copy(update={"enabling_device": False})
    b.run(0.4)
    return b


def test_a_recipe_is_loaded_and_started() -> None:
    b = bench(None)
    assert b.status is not None and b.command("Reset").verdict == "done"
    b.until("Idle")
    b.run(0.2)
    assert b.status.blocked["Start"] == "no recipe is loaded"
    reply = b.ask(LoadRecipe("short", SHORT, {}, 2, "Ada"), 10.0)
    assert reply.verdict == "done" and reply.data["ok"] and len(reply.data["steps"]) == 3
    b.run(0.2)
    assert b.status.recipe == "short" and b.status.batches == 2 and "Start" not in b.status.blocked
    assert b.kinds("operator.load")[-1]["person"] == "Ada"
    assert b.command("Start").verdict == "done"
    b.until("Execute")
    assert b.ask(LoadRecipe("short", SHORT)).verdict == "rejected"
    assert b.ask(UnloadRecipe()).verdict == "rejected"


@pytest.mark.parametrize("batches", [0, -1, 1001])
def test_a_wrong_recipe_changes_nothing(batches: int) -> None:
    b = bench()
    assert b.ask(LoadRecipe("bad", "recipe: [", {}), 5.0).verdict == "failed"
    reply = b.ask(LoadRecipe("bad", SHORT.replace("tray_grid", "nowhere")), 5.0)
    assert reply.verdict == "failed" and "nowhere" in str(reply.data["problems"])
    assert b.ask(LoadRecipe("short", SHORT, {}, batches), 5.0).verdict == "failed"
    assert b.node.unit.frozen is not None and b.node.unit.frozen.recipe == "short"
    assert b.ask(UnloadRecipe("Ada")).verdict == "done" and b.node.unit.frozen is None


def test_each_phase_waits_for_the_person() -> None:
    b = bench()
    assert b.ask(SetStepping("step", "Ada")).verdict == "done"
    b.start()
    b.run(1.0)
    assert b.status is not None and b.status.waits and b.status.step == 0
    assert b.ask(NextPhase("Ada")).verdict == "done"
    assert b.ask(NextPhase("Ada")).verdict == "rejected"
    b.run(15.0)
    assert b.status.waits and b.status.step == 1
    b.ask(SetStepping("automatic", "Ada"))
    b.until("Complete")


def test_each_phase_is_confirmed() -> None:
    b = bench()
    b.ask(SetStepping("confirm_each"))
    b.start()
    for step in (1, 2, 3):
        for _ in range(5000):
            b.tick()
            if b.status is not None and b.status.question is not None:
                break
        assert b.status is not None and b.status.question is not None and b.status.step == step
        assert b.status.question.kind == "confirm"
        answer = b.status.question.choices[0]
        assert b.ask(AnswerConfirm(b.status.question.id, answer, "Ada")).verdict == "done"
        b.run(0.3)
    b.until("Complete")


def test_a_confirmation_that_says_stop_stops() -> None:
    b = bench()
    b.ask(SetStepping("confirm_each"))
    b.start()
    for _ in range(5000):
        b.tick()
        if b.status is not None and b.status.question is not None:
            break
    assert b.status is not None and b.status.question is not None
    b.ask(AnswerConfirm(b.status.question.id, "stop", "Ada"))
    b.until("Stopped")


def manual(b: Bench) -> None:
    assert b.ask(SetUnitMode("manual", "Ada")).verdict == "done"
    b.run(0.3)
    assert b.status is not None and b.status.manual_missing == ""


@pytest.mark.requirement("CTL-14")
def test_go_to_a_point_slowly() -> None:
    b = bench()
    target = demo().home() + 0.2
    assert b.ask(GoTo(target.tolist(), "P1", "Ada")).verdict == "rejected"
    manual(b)
    assert b.ask(GoTo([math.nan] * 7, "P1", "Ada")).verdict == "rejected"
    assert b.ask(GoTo([0.0] * 3, "P1", "Ada")).verdict == "rejected"
    b.people.request(GoTo(target.tolist(), "P1", "Ada"), b.now)
    model, fastest, last = demo().model(), 0.0, None
    for _ in range(2500):
        b.tick()
        if b.robot is not None:
            here = model.fk(b.robot.q_commanded)[:3, 3]
            fastest = max(fastest, 0.0 if last is None else float(abs(here - last).max()) / 0.004)
            last = here
    assert b.robot is not None and abs(b.robot.q[3] - target[3]) < 0.01
    assert 0.05 < fastest <= 0.26
    assert [d for d in b.kinds("operator.manual") if d["verdict"] == "done"]


@pytest.mark.requirement("CTL-14")
def test_stop_ends_a_motion_by_hand_in_a_state_that_admits_no_stop() -> None:
    b = bench()
    manual(b)
    b.people.request(GoTo((demo().home() + 0.3).tolist(), "P1", "Ada"), b.now)
    b.run(1.0)
    assert b.robot is not None and b.robot.motion_id
    assert b.command("Stop").verdict == "done"
    b.run(1.0)
    assert b.robot.standing and not b.robot.motion_id


@pytest.mark.requirement("CTL-14")
def test_gripper_and_output_by_hand() -> None:
    b = bench()
    assert b.ask(ManualGrip(0.05, 10.0, "Ada")).verdict == "rejected"
    manual(b)
    assert b.ask(ManualGrip(0.05, 10.0, "Ada"), 5.0).verdict == "done"
    assert b.ask(ManualOutput("clamp", True, "Ada"), 2.0).verdict == "done"
    assert b.ask(ManualOutput("no such", True, "Ada"), 2.0).verdict == "failed"
    assert b.ask(OverrideSpeed(math.nan, "Ada")).verdict == "rejected"


@pytest.mark.requirement("CTL-11")
def test_jogging_through_the_controller() -> None:
    b = bench()
    jog = b.hub.ports("pendant").publisher(TOPIC_JOG, JogWish)
    count = 0

    def press(seconds: float, velocity: list[float]) -> None:
        nonlocal count
        for i in range(round(seconds / 0.004)):
            if i % 20 == 0:
                count += 1
                jog.send(JogWish("Ada", count, b.now, 0.2, "joint", velocity), b.now)
            b.tick()

    press(0.5, [0.1] + [0.0] * 6)
    assert b.robot is not None and b.robot.standing, "automatic mode"
    manual(b)
    before = b.robot.q[0]
    press(1.0, [0.1] + [0.0] * 6)
    assert b.robot.q[0] > before + 0.05
    count += 1
    jog.send(JogWish("Ada", count, b.now, 0.2, "joint", []), b.now)
    b.run(0.04)
    assert abs(b.robot.dq_commanded[0]) < 0.1
    b.run(0.3)
    assert b.robot.standing
    here = b.robot.q[0]
    for stale in (
        JogWish("Ada", count, b.now, 0.2, "joint", [0.1] * 7),
        JogWish("Ada", 99, b.now - 1, 0.2, "joint", [0.1] * 7),
    ):
        jog.send(stale, b.now)
        b.run(0.1)
    assert abs(b.robot.q[0] - here) < 1e-3
    assert {d["active"] for d in b.kinds("operator.jog")} == {True, False}


@pytest.mark.requirement("CTL-11")
def test_a_jog_command_passes_once() -> None:
    gate = JogGate(7)
    wish = JogWish("Ada", 1, 10.0, 0.2, "joint", [0.1] * 7)
    assert gate.refusal(wish, 5, 10.01) == ""
    assert gate.refusal(wish, 5, 10.01) != ""
    assert gate.refusal(wish, 4, 10.01) != ""
    for bad in (math.nan, 11.0, 9.0, math.inf):
        assert gate.refusal(JogWish("Ada", 2, bad, 0.2, "joint", [0.1] * 7), 6, 10.0) != ""
    for life in (0.0, -1.0, 0.3, math.nan):
        assert gate.refusal(JogWish("Ada", 2, 10.0, life, "joint", [0.1] * 7), 8 if life != life else 7, 10.0) != ""
    assert gate.refusal(JogWish("Ada", 3, 10.0, 0.2, "base", [0.1] * 7), 9, 10.0) != ""
    assert gate.refusal(JogWish("Ada", 4, 10.0, 0.2, "base", [math.nan] * 6), 9, 10.0) != ""


def test_the_resume_gate_shows_what_has_changed() -> None:
    b = bench()
    b.start()
    b.until_moving()
    b.command("Hold")
    b.until("Held")
    b.run(0.3)
    assert b.status is not None
    assert [i.what for i in b.status.resume] == ["pose", "part", "person", "tool"]
    assert not any(i.changed for i in b.status.resume)
    b.driver.width = 0.01
    b.run(0.3)
    b.command("Unhold")
    b.until("Execute")
    b.run(0.2)
    assert b.status.resume == []


def test_a_lost_part_is_fetched_again_from_the_beginning_of_the_round() -> None:
    b = bench()
    b.start()
    while b.robot is None or not (b.robot.gripper_holding and b.robot.rate > 0.9):
        b.tick()
    b.driver.part_width = None
    b.until("Held", seconds=4.0)
    b.run(0.3)
    assert b.ask(ClearFault("Ada")).verdict == "done"
    b.run(0.3)
    assert b.status is not None and b.status.question is not None
    assert "redo" in b.status.question.choices and "fixed" not in b.status.question.choices
    assert b.ask(ChooseRecovery(b.status.question.id, "redo", "Ada")).verdict == "done"
    assert b.command("Unhold").verdict == "done"
    assert b.until("Complete", "Held", "Aborted") == "Complete"
    started = [e["phase"] for e in b.kinds("recipe.phase_started")]
    assert [name.split()[0] for name in started] == ["pick", "place", "pick", "place", "move"]
    assert b.status.parts_done == 1


WAITING = """
recipe: waiting
version: "1"
capabilities: [inputs]
operations:
  - operation: one
    phases:
      - {skill: wait_for, params: {input: door, timeout: 0.2}, on: {wait_timeout: {retry: 0, then: ask}}}
      - {skill: move_to, params: {home: true}}
"""


def test_what_was_put_right_by_hand_counts_as_done() -> None:
    b = Bench(WAITING, inputs=("door",))
    b.run(0.4)
    b.start()
    b.until("Held")
    b.run(0.3)
    assert b.status is not None and b.status.question is not None
    assert {"retry", "fixed", "stop"} <= set(b.status.question.choices) and "redo" not in b.status.question.choices
    assert b.ask(ChooseRecovery(b.status.question.id, "fixed", "Ada")).verdict == "done"
    b.command("Unhold")
    assert b.until("Complete", "Held", "Aborted") == "Complete"
