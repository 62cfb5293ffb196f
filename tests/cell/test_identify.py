"""`cell robots identify`: estimators on known drives, text of cell files kept, claims held against measurements."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ruamel.yaml import YAML

from cell.cli import BAD_INPUT, FAILED, OK, guarded
from cell.commands import identify
from cell.commands.identify import Asked, run_identify
from cell.commands.stoptest import filled, write_table
from cell.config import LoadedCell, default_cell, load_cell
from cell.identify import estimate, signals
from cell.identify.cellfile import NotWritten, with_identified
from cell.identify.estimate import EstimateError, Series
from cell.identify.run import Joint, Recorded, Trial, evaluate, total
from cell.options import RunOptions
from cell.session import SessionError, new_session
from cell.yamlfile import FileErrors
from robots.model import RobotModel
from robots.rates import RateLimits
from safety.stopping import StopRow, load_table, table_fingerprint

F64 = NDArray[np.float64]
MODEL = RobotModel.load("panda")
LIMITS = RateLimits(3.0, 8.0, 160.0)
FINE = 0.0005
QUIET = settings(deadline=None, derandomize=True, max_examples=15)


def drive(way: F64, dead: float, lag: float, tick: float, seed: int, noise: float, lost: float) -> Series:
    """Commands along a way (samples of `signals.STEP`) to a first-order drive with dead time; samples are missing."""
    rng = np.random.default_rng(seed)
    t = np.arange(0.0, len(way) * signals.STEP + 0.6, FINE)
    u = np.interp(t - 0.05, np.arange(len(way)) * signals.STEP, way)
    late = np.interp(t - dead, t, u)
    y, share = np.empty_like(late), 1.0 - math.exp(-FINE / max(lag, 1e-9))
    y[0] = late[0]
    for k in range(1, len(t)):
        y[k] = y[k - 1] + share * (late[k - 1] - y[k - 1]) if lag > 0.0 else late[k]
    sent = np.arange(0.0, t[-1], tick)
    seen = sent + rng.uniform(0.0, 0.3 * tick, len(sent))
    kept = rng.random(len(seen)) >= lost
    values = np.interp(seen, t, y) + noise * rng.standard_normal(len(seen))
    return estimate.series(sent, np.interp(sent, t, u), seen[kept], values[kept])


class Drives:
    """The three signals of a joint."""

    def __init__(self, joint: int, *how: Any) -> None:
        way = signals.step_way(MODEL, joint, math.radians(3.0))
        self.sweep = drive(signals.sweep_way(MODEL, joint, math.radians(3.0)), *how)
        self.there, self.back = drive(way, *how), drive(way[-1] - way, *how)


KINDS = {
    "dead": st.floats(0.0, 0.08), "lag": st.floats(0.0, 0.06), "tick": st.sampled_from([0.002, 0.004]),
    "seed": st.integers(0, 2**31), "noise": st.floats(0.0, 1e-4), "lost": st.floats(0.0, 0.3),
}  # fmt: skip


@QUIET
@given(joint=st.integers(0, 6), **KINDS)
def test_delay_and_following_error_of_a_known_drive_are_found(
    joint: int, dead: float, lag: float, tick: float, seed: int, noise: float, lost: float
) -> None:
    d = Drives(joint, dead, lag, tick, seed, noise, lost)
    following = estimate.following(d.there, d.back)
    assert following.seconds == pytest.approx(dead + lag, abs=1e-3)
    assert following.worst >= following.seconds - 1e-4
    assert abs(following.offset) < 1e-3
    found = estimate.response(d.sweep, signals.LOWEST, signals.HIGHEST)
    w = 2.0 * math.pi * found.frequency
    assert found.delay == pytest.approx(dead + np.arctan(w * lag) / w, abs=2.5e-3)
    assert found.gain == pytest.approx(1.0 / np.sqrt(1.0 + (w * lag) ** 2), abs=0.03)
    assert np.all(np.diff(found.frequency) > 0.0) and len(found.frequency) >= 5
    match = estimate.matching_delay(d.sweep)
    assert dead + 0.6 * lag - 1e-3 <= match <= dead + lag + 1e-3
    if noise < 2e-5:
        onset = estimate.onset_delay(d.there)
        assert dead - 2e-3 <= onset <= dead + lag + 2e-3


@QUIET
@given(offset=st.floats(-0.01, 0.01), **KINDS)
def test_a_steady_offset_is_no_lag(
    offset: float, dead: float, lag: float, tick: float, seed: int, noise: float, lost: float
) -> None:
    d = Drives(1, dead, lag, tick, seed, noise, lost)
    there, back = (s._replace(measured=s.measured - offset) for s in (d.there, d.back))
    found = estimate.following(there, back)
    assert found.seconds == pytest.approx(dead + lag, abs=1e-3)
    assert found.offset == pytest.approx(offset, abs=1e-3)


@QUIET
@given(**KINDS, which=st.integers(0, 2**31))
def test_what_is_no_number_repeated_or_out_of_order_is_left_out(
    dead: float, lag: float, tick: float, seed: int, noise: float, lost: float, which: int
) -> None:
    s = Drives(0, dead, lag, tick, seed, noise, min(lost, 0.1)).sweep
    rng = np.random.default_rng(which)
    seen, measured = s.seen.copy(), s.measured.copy()
    rows = rng.choice(len(seen), 60, replace=False)
    measured[rows[:20]] = rng.choice([math.nan, math.inf, -math.inf], 20)
    seen[rows[20:30]] = math.nan
    order = np.sort(np.concatenate([np.arange(len(seen)), rows[30:]]))
    clean = estimate.series(s.sent, s.commanded, seen[order], measured[order])
    assert np.isfinite(clean.seen).all() and np.isfinite(clean.measured).all() and (np.diff(clean.seen) > 0.0).all()
    assert estimate.matching_delay(clean) == pytest.approx(estimate.matching_delay(s), abs=5e-4)


def test_too_little_or_a_gap_is_refused() -> None:
    s = Drives(0, 0.02, 0.01, 0.004, 1, 0.0, 0.0).sweep
    with pytest.raises(EstimateError, match="usable measurements"):
        estimate.series(s.sent, s.commanded, s.seen[:50], s.measured[:50])
    with pytest.raises(EstimateError, match="usable measurements"):
        estimate.series(s.sent, s.commanded, s.seen, np.full_like(s.measured, math.nan))
    hole = (s.seen < 3.0) | (s.seen > 3.2)
    with pytest.raises(EstimateError, match="without measurements"):
        estimate.series(s.sent, s.commanded, s.seen[hole], s.measured[hole])
    with pytest.raises(EstimateError, match="times"):
        estimate.series(s.sent, s.commanded[:-1], s.seen, s.measured)
    backwards = estimate.series(s.sent, s.commanded, np.concatenate([s.seen, s.seen]), np.tile(s.measured, 2))
    assert len(backwards.seen) == len(s.seen)


def test_an_arm_that_stands_or_does_something_else_is_refused() -> None:
    d = Drives(0, 0.02, 0.01, 0.004, 1, 0.0, 0.0)
    still = d.sweep._replace(measured=np.zeros_like(d.sweep.measured))
    other = d.sweep._replace(measured=np.sin(3.0 * d.sweep.seen))
    for series in (still, other):
        with pytest.raises(EstimateError, match="does not follow"):
            estimate.matching_delay(series)
        with pytest.raises(EstimateError):
            estimate.response(series, signals.LOWEST, signals.HIGHEST)
    with pytest.raises(EstimateError, match="step"):
        estimate.onset_delay(d.there._replace(measured=np.zeros_like(d.there.measured)))
    with pytest.raises(EstimateError, match="opposite"):
        estimate.following(d.there, d.there)
    with pytest.raises(EstimateError, match="speed"):
        estimate.following(d.there._replace(commanded=np.zeros_like(d.there.commanded)), d.back)


def trial(dead: float, **changes: Any) -> Trial:
    d = Drives(0, dead, 0.0, 0.004, 1, 0.0, 0.0)
    made = Trial(
        d.sweep, d.there, d.back, estimate.matching_delay(d.sweep),
        estimate.response(d.sweep, signals.LOWEST, signals.HIGHEST), estimate.onset_delay(d.there),
        estimate.following(d.there, d.back),
    )  # fmt: skip
    return made._replace(**changes)


def test_the_longest_of_all_estimates_trials_and_joints_counts() -> None:
    joints = [Joint(0, (trial(0.010), trial(0.012))), Joint(1, (trial(0.020),))]
    assert 0.020 <= total(joints) <= 0.0215
    for changes in (
        {"delay": 0.05}, {"onset": 0.05},
        {"following": estimate.Following(0.05, 0.01, 0.0)}, {"following": estimate.Following(0.01, 0.05, 0.0)},
    ):  # fmt: skip
        assert total([*joints, Joint(2, (trial(0.01), trial(0.01, **changes)))]) == pytest.approx(0.05, abs=1.1e-4)
    for changes in ({"delay": math.nan}, {"onset": math.nan}, {"following": estimate.Following(0.01, math.nan, 0.0)}):
        with pytest.raises(EstimateError, match="no number"):
            total([*joints, Joint(2, (trial(0.01), trial(0.01, **changes), trial(0.01)))])


def test_a_joint_that_cannot_be_evaluated_is_named() -> None:
    good, bad = (Drives(j, 0.02, 0.0, 0.004, 1, 0.0, 0.0) for j in (0, 1))
    still = bad.sweep._replace(measured=np.zeros_like(bad.sweep.measured))
    recorded = [Recorded(0, good.sweep, good.there, good.back), Recorded(4, still, bad.there, bad.back)]
    with pytest.raises(EstimateError, match="joint 5"):
        evaluate(recorded)
    assert [one.joint for one in evaluate(recorded[:1] * 2)] == [0]


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize("model", ["panda", "ur5e"])
@pytest.mark.parametrize("degrees", [0.5, 3.0, 10.0])
def test_signals_begin_and_end_at_rest_within_the_joints_means(model: str, degrees: float) -> None:
    arm, amplitude = RobotModel.load(model), math.radians(degrees)
    for joint in range(arm.dof):
        sweep, step, back = (
            signals.motion(arm, arm.home, joint, amplitude, LIMITS, "m", kind) for kind in signals.KINDS
        )
        assert np.abs(sweep.path[:, joint] - arm.home[joint]).max() <= amplitude * 1.001
        assert np.abs(step.path[:, joint] - arm.home[joint]).max() <= signals.STEP_WAY * amplitude * 1.05
        assert np.allclose(sweep.path[-1], arm.home, atol=1e-9) and np.allclose(back.path[-1], arm.home, atol=1e-9)
        for one in (sweep, step, back):
            others = [j for j in range(arm.dof) if j != joint]
            assert np.array_equal(one.path[:, others], np.tile(one.path[0, others], (len(one.path), 1)))
            assert one.peak_acceleration[joint] <= 0.5 * arm.a_max[joint]
            assert one.peak_velocity[joint] <= 0.35 * arm.v_max[joint]


def test_no_room_is_said() -> None:
    at = MODEL.home.copy()
    at[3] = MODEL.q_upper[3] - 0.01
    with pytest.raises(signals.NoSignal, match="joint 4 has no room"):
        signals.motion(MODEL, at, 3, math.radians(3.0), LIMITS, "m", "sweep")
    for wrong in (0.0, -1.0, 1.0, math.nan, math.inf):
        with pytest.raises(signals.NoSignal, match="amplitude"):
            signals.motion(MODEL, MODEL.home, 0, wrong, LIMITS, "m", "step")


# ---------------------------------------------------------------- the cell file

FOUND: dict[str, Any] = {
    "date": "2026-11-23", "driver": "twin", "model": "panda", "tool": "panda_hand", "simulation_only": True,
    "amplitude_deg": 3.0, "delay": 0.0041, "delays": [0.004] * 7, "following": [0.004] * 7,
}  # fmt: skip
DEMO = default_cell().read_text(encoding="utf-8")
FILES = [
    DEMO,
    "robot: {driver: x}\n",
    "robot: {driver: x, options: {}} # said\n",
    "robot:\n  driver: x # said",
    "# first\nrobot:\r\n  driver: x # said\r\n\r\n# last\r\nb: 1\r\n",
    "robot:\n  options:\n    a: |\n      one\n      two\n\n\n# said\nz: 1\n",
    "robot:\n  driver: x\n  options: {a: 1}   # said\n  # tail\nw: [1]\n",
    "robot:\n    options:\n        drive_delay: 1\n        b: [1,\n           2]\n    identified: {d: 1} # said",
    "robot:\n  identified:\n    delay: 1   # lost with the block\n    delays:\n      - 1\n  # said\n  driver: x\n",
]


@pytest.mark.parametrize("number", range(len(FILES)))
@pytest.mark.parametrize("delay", [None, 0.02])
def test_the_rest_of_the_file_stays_as_it_is(number: int, delay: float | None) -> None:
    text = FILES[number]
    new = with_identified(text, FOUND, delay)
    data, before = (YAML(typ="safe", pure=True).load(t) for t in (new, text))
    assert data["robot"]["identified"] == FOUND
    if delay is not None:
        assert data["robot"]["options"]["drive_delay"] == delay
    for one in (data["robot"], before["robot"]):
        one.pop("identified", None)
        (one.get("options") or {}).pop("drive_delay", None)
        if not one.get("options"):
            one.pop("options", None)
    assert data == before
    for line in text.splitlines():
        if "said" in line or line.startswith("#"):
            assert line.split("#", 1)[1] in new, line
    again = with_identified(new, FOUND, delay)
    assert again == new, "writing it twice changes nothing"
    if text == DEMO:
        kept = [line for line in new.splitlines() if line not in set(text.splitlines())]
        assert len(new.splitlines()) - len(text.splitlines()) == len(kept) <= 4


@pytest.mark.parametrize("text", ["", "a: 1\n", "robot: 5\n", "robot: [1]\n", "robot: {a: 1", "robot: null\n", "[1]\n"])
def test_a_file_without_robot_is_not_touched(text: str) -> None:
    with pytest.raises(NotWritten):
        with_identified(text, FOUND, 0.02)


@QUIET
@given(st.text(alphabet="robt: {}[],\n#'\"-&*x1", max_size=60))
def test_any_text_is_changed_rightly_or_not_at_all(text: str) -> None:
    try:
        new = with_identified("robot:\n  driver: x\n" + text, FOUND, 0.02)
    except NotWritten:
        return
    except ValueError as error:
        assume("not YAML" in str(error))
        raise
    data = YAML(typ="safe", pure=True).load(new)
    assert data["robot"]["identified"] == FOUND


def cell(folder: Path, found: dict[str, Any] | None = None, options: str = "", **safety: Any) -> Path:
    """A copy of the demo cell."""
    text = DEMO.replace("    watchdog: 0.08         #", f"{options}    watchdog: 0.08         #", 1)
    if found is not None:
        text = with_identified(text, found, None)
    path = folder / "cell.yaml"
    path.write_text(text, encoding="utf-8")
    figures = (default_cell().parent / "demo_safety.yaml").read_text(encoding="utf-8")
    for key, value in safety.items():
        figures += f"{key}: {value}\n"
    (folder / "demo_safety.yaml").write_text(figures, encoding="utf-8")
    return path


def start(path: Path, folder: Path) -> None:
    new_session(RunOptions(recipe=None, cell=path), folder / "run")


@pytest.mark.requirement("ROB-31")
def test_a_cell_whose_drives_are_later_than_counted_on_does_not_start(tmp_path: Path) -> None:
    start(cell(tmp_path, FOUND), tmp_path)
    late = {**FOUND, "delay": 0.0161, "delays": [0.0161] * 7}
    with pytest.raises(SessionError, match=r"0\.0161 s late.*counts on 0\.016"):
        start(cell(tmp_path, late), tmp_path)


@pytest.mark.requirement("ROB-31")
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"driver": "ur"}, "measured with ur"),
        ({"model": "ur5e"}, "measured with ur5e"),
        ({"tool": "other"}, "measured with other"),
        ({"delays": [0.004] * 6, "following": [0.004] * 6}, "6 values"),
        ({"delay": 0.001}, "less than that of a joint"),
        ({"delay": -1.0}, "out of range"),
        ({"following": [0.004] * 6}, "for each joint"),
    ],
)
def test_a_measurement_of_another_arm_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(FileErrors, match=word):
        load_cell(cell(tmp_path, {**FOUND, **changes}))


@pytest.mark.requirement("ROB-31")
def test_a_simulated_arms_figures_are_none_of_a_real_one(tmp_path: Path) -> None:
    real = {**FOUND, "driver": "ur"}
    path = cell(tmp_path, real)
    simulated = path.read_text(encoding="utf-8").replace("driver: twin\n  model", "driver: ur\n  model", 1)
    begin, end = simulated.index("world:"), simulated.index("cameras:")
    physics = "  options:\n    physics"
    shadow = simulated.replace(f"driver: twin\n{physics}", f"driver: twin_shadow\n{physics}", 1)
    assert "twin_shadow" in shadow
    for text in (simulated[:begin] + simulated[end:], shadow):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FileErrors, match="this one is real"):
            load_cell(path)


@pytest.mark.requirement("ROB-31")
def test_a_driver_that_is_told_less_than_was_measured_is_refused(tmp_path: Path) -> None:
    late = {**FOUND, "delay": 0.012, "delays": [0.012] * 7}
    load_cell(cell(tmp_path, late, "    drive_delay: 0.012\n"))
    with pytest.raises(FileErrors, match=r"0\.012 s were measured"):
        load_cell(cell(tmp_path, late, "    drive_delay: 0.011\n"))


@pytest.mark.requirement("ROB-31")
def test_a_stopping_table_that_is_not_counted_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="does not name it"):
        start(cell(tmp_path, {**FOUND, "stopping_table_sha256": "0" * 64}), tmp_path)


# ---------------------------------------------------------------- the command


def asked(**changes: Any) -> Asked:
    return Asked(None, None, "{}", "{}", [], 3.0, 1, None, False, False, None, False)._replace(**changes)


def test_the_null_driver_is_identified(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "responses.png"
    assert run_identify(asked(driver="null", joints=[2], picture=picture, as_json=True)) == OK
    result = json.loads(capsys.readouterr().out)
    assert result["delay"] == pytest.approx(0.004, abs=2e-4) and result["faults"] == [] and result["simulation_only"]
    assert [one["joint"] for one in result["joints"]] == [2]
    assert result["joints"][0]["trials"][0]["gain"] == pytest.approx([1.0] * 10, abs=1e-3)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 150_000


def test_a_driver_that_promises_too_much_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = json.dumps({"drive_delay": 0.001})
    assert run_identify(asked(driver="null", driver_options=options, joints=[7])) == FAILED
    assert "drive_delay says 1 ms" in capsys.readouterr().err


def known(found: LoadedCell, delay: float) -> list[Recorded]:
    d = Drives(0, delay, 0.0, 0.004, 1, 0.0, 0.0)
    return [Recorded(j, d.sweep, d.there, d.back) for j in range(found.model().dof)]


@pytest.mark.parametrize(("delay", "code"), [(0.010, OK), (0.030, FAILED)])
def test_the_result_is_written_even_if_it_is_bad_and_the_cell_then_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay: float, code: int
) -> None:
    path = cell(tmp_path)
    before = path.read_text(encoding="utf-8")
    monkeypatch.setattr(identify, "_measure", lambda *rest: known(load_cell(path), delay))
    assert run_identify(asked(cell=path, write=True)) == code
    after = path.read_text(encoding="utf-8")
    assert all(line in after.splitlines() for line in before.splitlines())
    found = load_cell(path)
    assert found.config.robot.identified is not None
    assert found.config.robot.identified.delay == pytest.approx(delay, abs=1e-3)
    assert ("drive_delay" in found.config.robot.options) == (code == FAILED)
    if code == FAILED:
        with pytest.raises(SessionError, match="raise reaction"):
            start(path, tmp_path)
    else:
        start(path, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cell.yaml", "demo_safety.yaml"]


def test_a_file_that_changed_during_the_test_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cell(tmp_path)
    text = path.read_text(encoding="utf-8") + "# somebody was here\n"

    def measure(*rest: Any) -> list[Recorded]:
        path.write_text(text, encoding="utf-8")
        return known(load_cell(), 0.01)

    monkeypatch.setattr(identify, "_measure", measure)
    assert guarded(lambda: run_identify(asked(cell=path, write=True))) == BAD_INPUT
    assert path.read_text(encoding="utf-8") == text


def test_a_real_arm_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cell(tmp_path)
    text = path.read_text(encoding="utf-8").replace("driver: twin\n  model", 'driver: "null"\n  model', 1)
    begin, end = text.index("world:"), text.index("cameras:")
    text = (text[:begin] + text[end:]).replace("    watchdog: 0.08         #", "    drive_delay: 0.01 #", 1)
    path.write_text(text, encoding="utf-8")
    said: list[str] = []
    monkeypatch.setattr(identify.typer, "confirm", lambda text, **more: bool(said.append(text)))
    assert run_identify(asked(cell=path)) == FAILED
    assert len(said) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"joints": [8]}, {"write": True}, {"driver": "null", "write": True}, {"driver": "null", "cell": Path("x")},
        {"driver": "null", "driver_options": "["}, {"driver": "null", "driver_options": "[]"},
        {"cell": Path("x.yaml"), "write": True, "joints": [1]}, {"driver": "nobody"},
        {"driver": "null", "driver_options": '{"no_such_option": 1}'},
        {"driver": "null", "driver_config": "5"}, {"driver": "null", "driver_config": '{"rate_hz": 1.0}'},
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(changes: dict[str, Any]) -> None:
    assert guarded(lambda: run_identify(asked(**changes))) == BAD_INPUT


@pytest.mark.requirement("ROB-31")
def test_stops_that_were_measured_must_be_counted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, table = cell(tmp_path), tmp_path / "stops.yaml"
    row = StopRow(joint=1, speed_percent=33, extension_percent=33, load=0.0, speed=1.0, extension=0.5, stops=10,
                  time=0.2, angle=0.1)  # fmt: skip
    monkeypatch.setattr(identify, "_measure", lambda *rest: known(load_cell(path), 0.01))
    monkeypatch.setattr(identify, "measure_stops", lambda *rest: None)
    before = path.read_bytes()
    assert run_identify(asked(cell=path, write=True, table=table)) == FAILED
    assert path.read_bytes() == before and not table.exists(), "half a test writes nothing"
    monkeypatch.setattr(identify, "measure_stops", lambda *rest: [row])
    assert run_identify(asked(cell=path, write=True, table=table)) == OK
    assert load_table(table).simulation_only
    heavy = row.model_copy(update={"load": 1.0})
    write_table(table, filled(load_table(table), [row, heavy]))
    assert run_identify(asked(cell=path, write=True, table=table)) == OK
    assert load_table(table).rows == [row, heavy], "what was measured with other loads is kept"
    found = load_cell(path).config.robot.identified
    assert found is not None and found.stopping_table_sha256 == table_fingerprint(table)
    with pytest.raises(SessionError, match="does not name it"):
        start(path, tmp_path)
    names = f"\nstopping_table: stops.yaml\nstopping_table_sha256: {found.stopping_table_sha256}\n"
    figures = tmp_path / "demo_safety.yaml"
    figures.write_text(figures.read_text(encoding="utf-8") + names, encoding="utf-8")
    start(path, tmp_path)
