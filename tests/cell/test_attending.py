"""Who attends a run (restocking before the answer), and what counts as slowed for a person."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import msgspec
import pytest

from cell.bus.inprocess import Hub
from cell.bus.messages import Reply
from cell.contract import SERVICE, AnswerConfirm, CellRequest, CellStatus, Question
from cell.contract import TOPIC_STATUS as TOPIC_CELL
from cell.observer import Observer
from cell.operator import ANSWER_AFTER, RESTOCK_TIME, Operator
from robots.contract import RobotState, topic_state
from safety.contract import TOPIC_STATUS as TOPIC_SAFETY
from safety.contract import SafetyStatus, SeparationTerms
from tests.cell.test_watch import STATE

TICK = 0.02


class Restock(msgspec.Struct, frozen=True, tag="twin_restock"):
    """As a simulated world understands it."""


class Start(msgspec.Struct, frozen=True, tag="twin_start"):
    """As a simulated world understands it."""


def attend(restocked: bool, world: bool, served: Literal["done", "rejected", "never"]) -> tuple[list[float], float]:
    """Return when the world was asked to restock, and when the question was answered, s."""
    hub = Hub()
    operator = Operator(hub.ports("operator"), "p", True, world, session="s")
    status = hub.ports("controller").publisher(TOPIC_CELL, CellStatus)
    service = hub.ports("controller").responder(SERVICE, CellRequest)
    twin = hub.ports("twin").responder("twin.requests", Restock | Start)
    question = Question("q-1", "confirm", "Is the tray full?", ("yes", "no"), restocked)
    asked: list[float] = []
    for k in range(round(3.0 / TICK)):
        now = k * TICK
        status.send(cell_status(now, question), now)
        operator.step(now)
        for incoming in twin.requests():
            asked += [now] * isinstance(incoming.body, Restock)
            if served != "never":
                twin.reply(incoming.client, Reply(incoming.id, served))
        answers = [r.body for r in service.requests() if isinstance(r.body, AnswerConfirm)]
        if answers:
            assert answers == [AnswerConfirm("q-1", "yes", "p")]
            return asked, now
    raise AssertionError("the question was never answered")


def cell_status(now: float, question: Question | None) -> CellStatus:
    return CellStatus(
        now, "Execute", 6, "automatic", "r", "", "", 0, 1, 0, 1, 2, [], -1.0, 1.0, [], question, "f", 1.0
    )  # fmt: skip


@pytest.mark.parametrize("served", ["done", "rejected"])
def test_the_trays_are_filled_before_the_answer(served: Any) -> None:
    asked, answered = attend(True, True, served)
    assert asked == [pytest.approx(ANSWER_AFTER)]
    assert asked[0] < answered <= asked[0] + 3 * TICK


def test_a_world_that_does_not_answer_is_waited_for_and_asked_once() -> None:
    asked, answered = attend(True, True, "never")
    assert len(asked) == 1
    assert answered == pytest.approx(ANSWER_AFTER + RESTOCK_TIME, abs=1.5 * TICK)


@pytest.mark.parametrize(("restocked", "world"), [(True, False), (False, True), (False, False)])
def test_nobody_is_asked_on_a_real_cell_or_for_another_question(restocked: bool, world: bool) -> None:
    asked, answered = attend(restocked, world, "done")
    assert asked == []
    assert answered == pytest.approx(ANSWER_AFTER, abs=1.5 * TICK)


def slowed(robot: dict[str, Any], limit: float, reason: str, separation: float) -> float:
    """Share of one second that counts as slowed."""
    hub = Hub()
    observer = Observer(hub.ports("observer"))
    states = hub.ports("arm").publisher(topic_state(), RobotState)
    statuses = hub.ports("supervisor").publisher(TOPIC_SAFETY, SafetyStatus)
    terms = SeparationTerms(0.1, 0.0, 0.1, 0.2, 0.05, 0.03)
    required = -1.0 if separation == -1.0 else 0.5
    for k in range(51):
        now = k * TICK
        states.send(msgspec.structs.replace(STATE, t=now, **robot), now)
        statuses.send(
            SafetyStatus(k, now, limit, reason, separation, required, terms, "", (0, 0, 0), True, now, 0.0, "f", True),
            now,
        )
        observer.step(now)
    return observer.time_slowed


NEAR = "person 0.40 m from panda_hand, needs 0.50 m"
UNKNOWN = "the accepted motion is not known yet"
OBEYED = {"motion_id": "m", "limit": 0.3, "limit_by": "supervisor", "limit_reason": NEAR}


def test_what_the_monitor_decided_counts() -> None:
    assert slowed(OBEYED, 0.3, NEAR, 0.4) == pytest.approx(1.0)
    inside = "unseen space -0.04 m from panda_link5, needs 0.50 m"
    assert slowed({**OBEYED, "limit": 0.0, "limit_reason": inside}, 0.0, inside, -0.04) == pytest.approx(1.0)
    waiting = "the way is clear: going on in 0.4 s"
    assert slowed({**OBEYED, "limit": 0.0, "limit_reason": waiting}, 0.0, waiting, 1e9) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("robot", "limit", "reason", "separation"),
    [
        ({**OBEYED, "motion_id": ""}, 0.0, NEAR, 0.4),
        ({**OBEYED, "limit": 1.0, "limit_reason": ""}, 1.0, "", 1e9),
        ({**OBEYED, "limit": 0.0, "limit_reason": "lease is for another motion"}, 0.0, NEAR, 0.4),
        ({**OBEYED, "limit": 0.0, "limit_reason": "no lease yet"}, 0.0, "", 1e9),
        ({**OBEYED, "limit": 0.0, "limit_reason": UNKNOWN}, 0.0, UNKNOWN, -1.0),
        ({**OBEYED, "limit_by": "override", "limit_reason": "override"}, 1.0, "", 1e9),
    ],
)  # fmt: skip
def test_waiting_and_overrides_do_not(robot: dict[str, Any], limit: float, reason: str, separation: float) -> None:
    assert slowed(robot, limit, reason, separation) == 0.0


def test_a_long_run_keeps_few_samples_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cell.observer.MOST_SAMPLES", 100)
    hub = Hub()
    observer = Observer(hub.ports("observer"))
    observer.robot = STATE
    terms = SeparationTerms(0.1, 0.0, 0.1, 0.2, 0.05, 0.03)
    observer.safety = SafetyStatus(0, 0.0, 1.0, "", 1.0, 0.5, terms, "", (0, 0, 0), True, 0.0, 0.0, "f", True)
    for k in range(6000):
        observer.step(0.01 * k)
    times = [sample.t for sample in observer.samples]
    assert 50 <= len(times) <= 100
    assert times[0] == 0.0 and times[-1] > 59.0
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert max(steps) <= 2.1 * min(steps), "one part of the run is drawn coarser than another"
