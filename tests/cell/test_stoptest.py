"""`cell robots stop-test`: sweeps that the arm can make, the worst kept, and nothing half written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell.cli import BAD_INPUT, FAILED, OK, guarded
from cell.commands import stoptest
from cell.config import load_cell
from cell.stoptest.measure import Measurement, plan
from cell.stoptest.rig import Rig, RigError, Stopped, cell_arm
from cell.stoptest.sweeps import STEP, Sweep, free, law, motion, plateau, sweeps
from recipes.clearance import fixtures
from robots.motion import Motion
from safety.stopping import PERCENT, StopRow, extension, load_table

CELL = load_cell()
MODEL = CELL.model()
LIMITS = CELL.config.robot.rate_limits.limits


@pytest.fixture(scope="module")
def found() -> list[Sweep]:
    return list(sweeps(MODEL, fixtures(CELL.config.workcell), CELL.home(), range(MODEL.dof), LIMITS))


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize("share", [0.33, 1.0])
def test_the_law_reaches_its_speed_and_keeps_it_within_the_joints_means(joint: int, share: float) -> None:
    speed = share * 0.8 * float(MODEL.v_max[joint])
    way = law(MODEL, joint, speed)
    v = np.diff(way) / STEP
    assert v.max() == pytest.approx(speed, rel=1e-9) and v.min() >= 0.0
    assert (v > speed * (1 - 1e-9)).sum() * STEP >= 0.44
    assert np.abs(np.diff(v)).max() / STEP <= 0.51 * MODEL.a_max[joint]
    assert way[-1] - way[-2] < 0.05 * speed * STEP and way[1] < 0.05 * speed * STEP


def test_every_condition_has_a_free_sweep_of_its_extension(found: list[Sweep]) -> None:
    assert len(found) == MODEL.dof * len(PERCENT) ** 2
    furniture = fixtures(CELL.config.workcell)
    largest = max(extension(MODEL, s.start) for s in found if s.extension_percent == 100)
    for sweep in found:
        way = motion(MODEL, sweep, False, LIMITS, "m")
        assert free(MODEL, furniture, way.path)
        assert way.peak_velocity[sweep.joint] == pytest.approx(sweep.speed, rel=1e-3)
        begins, lasts = plateau(MODEL, sweep)
        assert begins + lasts < way.duration - begins / 2
        middle = extension(MODEL, (sweep.start + sweep.end) / 2)
        off = abs(middle - sweep.extension_percent / 100 * largest)
        # The elbow makes the extension itself: folded up it has no room to sweep.
        assert off < (0.25 if sweep.joint == 3 else 0.05) * largest


def test_the_twin_is_stopped_and_the_worst_of_ten_is_kept(found: list[Sweep]) -> None:
    rig = Rig(cell_arm(CELL, "twin", True))
    kept: list[Stopped] = []
    try:
        rig.prepare(0.0)
        stop = rig.stop
        rig.stop = lambda joint, reached: kept.append(stop(joint, reached)) or kept[-1]  # type: ignore[method-assign,func-returns-value]
        rig.start_at(CELL.home())
        with pytest.raises(RigError, match="rest pose"):
            rig.start_at(CELL.home() + 0.1)
        measurement = Measurement(rig, *plan(MODEL, fixtures(CELL.config.workcell), CELL.home(), [6], LIMITS))
        done: list[int] = []
        row = next(measurement.rows(10, 0.0, lambda sweep, n: done.append(n)))
    finally:
        rig.close()
    assert done == list(range(1, 11)) and len(kept) == 10 == row.stops
    assert row.time == pytest.approx(max(s.time for s in kept), abs=1e-4)
    assert row.angle == pytest.approx(max(s.angle for s in kept), abs=1e-4)
    assert row.speed == pytest.approx(min(s.speed for s in kept), abs=1e-4)
    way = motion(MODEL, found[-9], False, LIMITS, "m")
    law_time = way.braking(1.0, plateau(MODEL, found[-9])[0])[0]
    assert 0.8 * law_time < row.time < law_time + 0.1, "the node's brake and what the drives add"
    assert 0.2 * row.speed * row.time < row.angle < row.speed * row.time


class Measured(Measurement):
    """Gives rows without moving anything; `broken` interrupts it."""

    broken: type[BaseException] | None = None

    def __init__(self, rig: Rig, joints: Any, home: Any) -> None:
        self.joints = joints

    def rows(self, stops: int, load: float, progress: Any) -> Iterator[StopRow]:
        for joint in self.joints:
            for speed in PERCENT:
                for reach in PERCENT:
                    yield StopRow(joint=joint + 1, speed_percent=speed, extension_percent=reach, load=load,
                                  speed=1.0, extension=0.5, stops=stops, time=0.2, angle=0.1)  # fmt: skip
            if self.broken is not None:
                raise self.broken


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> type[Measured]:
    monkeypatch.setattr(stoptest, "Measurement", Measured)
    monkeypatch.setattr(stoptest, "plan", lambda model, obstacles, home, joints, limits: (joints, []))
    monkeypatch.setattr(Rig, "start_at", lambda self, home: None)
    monkeypatch.setattr(Rig, "prepare", lambda self, load: None)
    monkeypatch.setattr(Rig, "settle", lambda self: None)
    monkeypatch.setattr(Measured, "broken", None)
    return Measured


def test_other_loads_and_joints_in_the_file_are_kept(quick: type[Measured], tmp_path: Path) -> None:
    out = tmp_path / "stops.yaml"
    assert stoptest.run_stop_test(None, [1, 2], 10, 0.0, out, False) == OK
    assert stoptest.run_stop_test(None, [], 11, 3.0, out, False) == OK
    assert stoptest.run_stop_test(None, [2], 20, 0.0, out, False) == OK
    table = load_table(out)
    assert len(table.rows) == 9 * (2 + 7)
    assert {(r.joint, r.load): r.stops for r in table.rows}[(2, 0.0)] == 20
    assert {r.stops for r in table.rows if r.load == 3.0} == {12}, "to and fro: an even number"
    assert (
        table.simulation_only
        and "SIMULATION ONLY" in table.title
        and (table.model, table.tool) == ("panda", "panda_hand")
    )
    out.write_text(out.read_text(encoding="utf-8").replace("panda_hand", "vacuum"), encoding="utf-8")
    assert guarded(lambda: stoptest.run_stop_test(None, [], 10, 0.0, out, False)) == BAD_INPUT


def test_an_interrupted_test_writes_nothing(
    quick: type[Measured], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stops.yaml"
    assert stoptest.run_stop_test(None, [1], 10, 0.0, out, False) == OK
    before = out.read_bytes()
    monkeypatch.setattr(Measured, "broken", KeyboardInterrupt)
    assert stoptest.run_stop_test(None, [], 10, 0.0, out, False) == FAILED
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    assert guarded(lambda: stoptest.run_stop_test(None, [8], 10, 0.0, None, False)) == BAD_INPUT
    assert guarded(lambda: stoptest.run_stop_test(None, [], 9, 0.0, None, False)) == BAD_INPUT


def test_a_real_arm_is_asked_for(quick: type[Measured], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = tmp_path / "cell.yaml"
    text = CELL.path.read_text(encoding="utf-8")
    begin, end = text.index("world:"), text.index("cameras:")
    cell.write_text(text[:begin] + text[end:], encoding="utf-8")
    (tmp_path / "demo_safety.yaml").write_bytes(CELL.safety_path.read_bytes())
    asked: list[str] = []
    monkeypatch.setattr(stoptest.typer, "confirm", lambda text, **more: bool(asked.append(text)))
    assert stoptest.run_stop_test(cell, [1], 10, 0.0, None, False) == FAILED
    assert len(asked) == 1


def test_a_motion_of_a_sweep_goes_both_ways(found: list[Sweep]) -> None:
    there, back = (motion(MODEL, found[0], b, LIMITS, "m") for b in (False, True))
    assert isinstance(there, Motion)
    assert np.allclose(there.path[0], found[0].start) and np.allclose(there.path[-1], found[0].end, atol=1e-9)
    assert np.allclose(back.path[0], found[0].end) and np.allclose(back.path[-1], found[0].start, atol=1e-9)
