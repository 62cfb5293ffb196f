"""The comparison of methods: its visits, its judgement, and one real visit under each method."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cell.commands.compare import clairvoyant
from cell.compare.clairvoyant import STEP, People, Work, gap, least_lost
from cell.compare.report import SAME, Comparison, draw, markdown, plain, table_of
from cell.compare.runs import Result, in_processes, jobs_of, on_its_own, run_job, working_reach
from cell.compare.traces import recorded, scripted
from cell.config import load_cell
from cell.options import RunOptions
from cell.session import new_session
from robots.model import RobotModel
from robots.planning import plan_ptp
from safety.contract import SECOND
from sim.config import RefereeOptions
from sim.human import people_of
from sim.referee_assumption import Assumption, Watched
from sim.scenario import load_scenario

ROOT = Path(__file__).parents[2]
KITTING = ROOT / "recipes/library/kitting.yaml"


def one_part(folder: Path) -> Path:
    """The kitting recipe with one part, as a file in `folder`."""
    lines = KITTING.read_text(encoding="utf-8").splitlines()
    (at,) = (n for n, line in enumerate(lines) if line.lstrip().startswith("default: [cube_red"))
    lines[at] = "    default: [cube_red]"
    path = folder / "one_part.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def result(trace: str, method: str, cycle: float, **more: object) -> Result:
    values: dict[str, object] = {
        "outcome": "Complete", "stops": 1, "slowed_s": 1.0, "stopped_s": 1.0, "min_separation_m": 0.5,
        "contacts_while_moving": 0, "psd_violations": 0, "outside_assumption": 0, "folder": "",
    }  # fmt: skip
    return Result(trace=trace, method=method, cycle_s=cycle, **{**values, **more})  # type: ignore[arg-type]


def test_there_are_at_least_twenty_visits_of_different_names() -> None:
    names = [trace.name for trace in [*scripted(), *recorded([])]]
    assert len(names) >= 20
    assert len(set(names)) == len(names)


def test_clips_of_a_folder_are_visits(tmp_path: Path) -> None:
    (tmp_path / "some.bvh").write_text("", encoding="utf-8")
    (tmp_path / "other.joints_m.npz").write_bytes(b"")
    assert [trace.name for trace in recorded([tmp_path])][-2:] == ["other", "some.bvh"]


def test_lost_time_is_summed_and_compared() -> None:
    c = Comparison(30.0, [
        result("a", "static_zone", 40.0), result("a", "exact", 33.0),
        result("b", "static_zone", 35.0), result("b", "exact", 31.0),
    ])  # fmt: skip
    assert c.total_lost("static_zone") == pytest.approx(15.0)
    assert plain(c)["methods"][1]["below_static_zone"] == pytest.approx(1 - 4 / 15)
    assert c.problems() == []
    assert table_of(c).row_count == 3
    assert markdown(c).count("\n") == 5


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (result("a", "exact", 41.0), "loses"),
        (result("a", "exact", 33.0, contacts_while_moving=1), "contacts"),
        (
            result("a", "exact", 33.0, contacts_while_moving=2, contacts_outside_assumption=1, beyond_share=0.9),
            "1 contact",
        ),
        (result("a", "exact", 33.0, contacts_while_moving=0, contacts_outside_assumption=1), "contacts"),
        (result("a", "exact", 33.0, psd_violations=2), "violations"),
        (result("a", "exact", 33.0, outcome="time limit"), "time limit"),
    ],
)
def test_what_may_not_be_is_named(bad: Result, word: str) -> None:
    problems = Comparison(30.0, [result("a", "static_zone", 40.0), bad]).problems()
    assert len(problems) == 1
    assert word in problems[0]


def test_a_contact_outside_the_assumption_is_shown_apart_and_fails_nobody() -> None:
    """The person ran into the arm: no method promises anything about that, and none may hide it."""
    ran = result("runs", "exact", 33.0, contacts_while_moving=2, contacts_outside_assumption=2, beyond_share=0.25)
    c = Comparison(30.0, [result("runs", "static_zone", 40.0), ran, result("walks", "exact", 31.0)])
    assert c.problems() == []
    (shown,) = c.outside_contacts()
    assert "runs, exact: 2 contacts outside the assumption" in shown and "25 %" in shown
    assert c.inside == ["walks"] and c.beyond("runs") == 0.25
    data = plain(c)
    exact = next(m for m in data["methods"] if m["method"] == "exact")
    assert (exact["contacts_while_moving"], exact["contacts_outside_assumption"]) == (2, 2)
    assert data["contacts_outside_assumption"] == [shown] and data["visits_inside_assumption"] == 1
    assert data["visits"] == [{"visit": "runs", "beyond_share": 0.25}, {"visit": "walks", "beyond_share": 0.0}]
    assert "25.0 %, 2 contacts" in markdown(c)


@pytest.mark.live  # as long as many others together
def test_at_least_twenty_visits_lie_inside_the_assumption() -> None:
    """As people's clocks run, without a cell: the same judgement that the referee makes of every run."""
    watched = []
    for trace in [*scripted(), *recorded([])]:
        person = people_of(load_scenario(trace.scenario), -0.75, 1)[0]
        judge = Assumption(RefereeOptions(), lambda dq: 0.195)
        times = np.arange(0.0, 40.0, 0.04)
        judge.note(times.tolist(), np.zeros((len(times), 7)), [
            Watched(person.name, person.body, person.bones_row(times.tolist()))
        ])  # fmt: skip
        assert judge.time > 39.0
        watched.append((trace.name, judge.beyond))
    inside = [name for name, beyond in watched if beyond == 0.0]
    assert len(inside) >= 20
    assert {"humanoid3d_run", "runs at the tray"}.isdisjoint(inside)


def test_reach_is_judged_by_contact() -> None:
    fine = Comparison(30.0, [result("a", "reach", 33.0, psd_violations=2)])
    assert fine.problems() == []
    assert plain(fine)["methods"][0]["psd_violations"] == 2
    touched = Comparison(30.0, [result("a", "reach", 33.0, contacts_while_moving=1)])
    assert len(touched.problems()) == 1
    slow = Comparison(30.0, [result("a", "constant_speed", 33.0), result("a", "reach", 34.0)])
    assert "reach loses" in slow.problems()[0]


def test_each_method_is_on_its_own(tmp_path: Path) -> None:
    """The second channel, which keeps S_p, neither helps nor hinders, and the leases say so."""
    session = new_session(RunOptions(recipe=KITTING, quiet=True), tmp_path, attended=True)
    alone = on_its_own(session, "reach", 0.7)
    assert SECOND in session.node_names
    assert SECOND not in alone.node_names
    assert alone.cell.config.robot.leases.issuers == ["supervisor"]
    assert (alone.method, alone.reach) == ("reach", 0.7)
    assert alone.file.fingerprint != session.file.fingerprint


def work_and(balls: list[np.ndarray]) -> tuple[Work, float, People]:
    """A motion of the demo arm, once over, with balls that change every 0.1 s."""
    model = RobotModel.load("panda")
    rest = (model.q_lower + model.q_upper) / 2
    m = plan_ptp(model, rest, rest + np.array([0.8, 0.2, 0.0, 0.3, 0.0, 0.0, 0.0]))
    times = np.arange(0.0, m.duration, 0.02)
    q = np.array([m.sample(t)[0] for t in times])
    when = 0.1 * np.arange(len(balls))
    return Work(times, q, [None] * len(times), model, 0.3), m.duration, People(when, balls)


def test_a_clairvoyant_waits_only_while_somebody_is_in_the_way() -> None:
    far = np.array([[5.0, 5.0, 0.0, 0.05]])
    work, took, nobody = work_and([np.empty((0, 4))])
    assert least_lost(work, 0.0, took, nobody) == 0.0
    assert least_lost(work, 0.0, took, work_and([far])[2]) == 0.0
    a, b, _ = work.model.capsules(work.q[len(work.q) // 2])
    there = np.array([[*((a[-1] + b[-1]) / 2), 0.05]])
    assert gap(work.model, work.q[len(work.q) // 2], None, there) < 0.0
    assert least_lost(work, 0.0, took, work_and([there])[2]) == math.inf
    blocked = least_lost(work, 0.0, took, work_and([there] * 50 + [far])[2])
    assert blocked == pytest.approx(5.0, abs=took)
    assert blocked > 1.0
    # who comes and goes before the arm is there costs nothing
    assert least_lost(work, 0.0, took, work_and([far, there, far])[2]) <= 0.1 + STEP + 1e-9


def test_a_clairvoyant_lets_a_standing_arm_be_touched() -> None:
    work, took, _ = work_and([np.empty((0, 4))])
    still = work._replace(q=np.tile(work.q[0], (len(work.q), 1)))
    a, b, _ = work.model.capsules(work.q[0])
    there = np.array([[*((a[-1] + b[-1]) / 2), 0.05]])
    assert least_lost(still, 0.0, took, People(np.array([0.0]), [there])) == 0.0


def test_the_clairvoyant_stands_in_table_and_data() -> None:
    both = [result("a", "exact", 33.0), result("b", "exact", 34.0)]
    known = Comparison(30.0, both, {"a": 1.0, "b": 0.5})
    assert plain(known)["clairvoyant_lost_s"] == pytest.approx(1.5)
    assert plain(known)["methods"][0]["above_clairvoyant_s"] == pytest.approx(5.5)
    assert "| 0.50 |" in markdown(known)
    half = Comparison(30.0, both, {"a": 1.0})
    assert half.total_least is None
    assert plain(half)["methods"][0]["above_clairvoyant_s"] is None


def test_the_working_reach_holds_every_place() -> None:
    assert 0.6 < working_reach(load_cell(None)) < 1.0


@pytest.mark.timeout(120)
def test_all_runs_are_done_by_processes_that_are_replaced() -> None:
    """Three generations of two processes; the last one has less to do."""
    assert sorted(in_processes(math.factorial, list(range(9)), 2, 2)) == [math.factorial(n) for n in range(9)]


@pytest.mark.live  # four whole runs, a minute: too long for each change
@pytest.mark.timeout(600)
def test_one_visit_under_each_method(tmp_path: Path) -> None:
    """Somebody in the gangway stops the arm for the zone, slows it for constant speeds, hardly for the others."""
    (visit,) = (trace for trace in scripted() if trace.name == "stands in the gangway")
    way = visit.scenario["people"][0]["behaviour"]
    way[0]["for"], way[2]["for"] = 1.0, 4.0
    options = RunOptions(recipe=one_part(tmp_path), quiet=True)
    jobs = jobs_of([visit], ["static_zone", "constant_speed", "exact", "reach"], options, tmp_path, 0.7)
    results = [run_job(job) for job in jobs]
    c = Comparison(6.1, results)
    zone, constant, exact = (c.total_lost(m) for m in ("static_zone", "constant_speed", "exact"))
    assert c.total_lost("reach") <= exact + SAME
    assert zone > 4.0
    assert exact < constant <= zone
    assert c.problems() == []
    # the longest run stands for the one with nobody there: its own people are too far away to cost a clairvoyant time
    least = clairvoyant(results[-1], results)
    assert least == {"stands in the gangway": 0.0}
    draw(c, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 5000
