"""Recheck of recordings: justified leases pass, planted ones are found, gaps in the recording are no proof."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.bus.inprocess import Hub
from cell.commands.recheck import recheck_flight, recheck_run
from cell.exits import BAD_INPUT, FAILED, OK
from cell.recorder import PackedObservation, RecorderNode, RecordError, read_about, read_flight
from perception.contract import TOPIC_OBSERVATION, Observation
from robots.config import RobotConfig
from robots.contract import AcceptedMotion, RobotState, SpeedLease, topic_lease, topic_motion, topic_state
from safety.recheck import Recheck, Tally
from tests.safety.test_monitor import model, motion, observation, scene, state_on
from tests.safety.test_second import CONFIG, course, second

PRINT = "print"
SEED = 1


def lease_for(o: Observation, state: RobotState, limit: float, **changes: object) -> SpeedLease:
    lease = SpeedLease(
        issuer="supervisor", boot=1, seq=1, limit=limit, motion_id=state.motion_id,
        progress_from=max(0.0, state.progress - 0.05), progress_to=state.progress + 0.5, state_seq=state.seq,
        oldest_exposure=o.oldest_exposure, expires_at=o.oldest_exposure + CONFIG.reaction.lease_validity, reason="",
        restartable=True, fingerprint=PRINT,
    )  # fmt: skip
    return msgspec.structs.replace(lease, **changes)


def person(distance: float, state: RobotState) -> np.ndarray:
    """Somebody at a distance from the hand, away from the base."""
    hand = model().fk(np.array(state.q))[:3, 3]
    away = hand / np.linalg.norm(hand)
    return np.array([[*(hand + (distance + 0.1) * away), 0.05]])


def recheck(o: Observation | None, state: RobotState, lease: SpeedLease, moves: bool = True) -> Tally:
    check = Recheck(CONFIG, second(), PRINT)
    if moves:
        check.motion(motion(SEED).to_accepted())
    if o is not None:
        check.observation(o)
    check.state(state)
    check.lease(lease)
    return check.tally


def standing(rate: float = 0.8) -> RobotState:
    return state_on(motion(SEED), 0.3 * motion(SEED).duration, rate)


@pytest.mark.requirement("SEC-04")
def test_a_justified_lease_passes_and_a_raised_one_is_found() -> None:
    state = standing(0.0)
    for distance in np.arange(0.3, 1.6, 0.1):
        o = observation(person(float(distance), state))
        granted = second().judge(10.0, o, state, course(SEED)).limit
        assert recheck(o, state, lease_for(o, state, granted)).clean
    near = observation(person(0.2, state))
    for limit in (0.1, 0.5, 1.0):
        (finding,) = recheck(near, state, lease_for(near, state, limit)).findings
        assert finding.issuer == "supervisor" and finding.shortfall > 0.05 and finding.limit == limit


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 11), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.integers(1, 4))
def test_what_the_second_channel_grants_is_never_found_too_permissive(
    path: int, where: float, rate: float, seed: int, n: int
) -> None:
    m = motion(path)
    progress = where * m.duration
    o, state = observation(scene(seed, m, progress, n)), state_on(m, progress, rate)
    granted = second().judge(10.0, o, state, course(path)).limit
    if granted > 0.0:
        margins = second().audit(o, state, course(path), granted)
        assert margins is not None and margins[0] >= margins[1] >= -1e-9


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"limit": math.nan}, "not finite"),
        ({"limit": 1.5}, "out of range"),
        ({"progress_to": math.inf}, "not finite"),
        ({"expires_at": 11.0}, "valid for longer"),
        ({"fingerprint": "another"}, "another configuration"),
    ],
)
def test_a_lease_that_should_never_have_been_issued_is_found(change: dict[str, object], reason: str) -> None:
    state, o = standing(), observation(np.zeros((0, 4)))
    (finding,) = recheck(o, state, lease_for(o, state, **({"limit": 1.0} | change))).findings
    assert reason in finding.reason and math.isinf(finding.shortfall)


@pytest.mark.parametrize("what", ["unhealthy", "torn", "nan", "off"])
def test_nothing_may_be_granted_on_such_grounds(what: str) -> None:
    state, o = standing(), observation(np.full((3, 4), 5.0))
    if what == "unhealthy":
        o = msgspec.structs.replace(o, healthy=False)
    elif what == "torn":
        o = msgspec.structs.replace(o, balls=o.balls[:-4])
    elif what == "nan":
        o = observation(np.full((3, 4), math.nan))
    else:
        state = msgspec.structs.replace(state, q=[state.q[0] + 0.3, *state.q[1:]])
    assert len(recheck(o, state, lease_for(o, state, 0.1)).findings) == 1
    assert recheck(o, state, lease_for(o, state, 0.0)).findings == []


@pytest.mark.requirement("SEC-04")
def test_what_was_not_recorded_is_no_proof() -> None:
    state, o = standing(), observation(np.zeros((0, 4)))
    whole = recheck(o, state, lease_for(o, state, 1.0))
    assert whole.clean and whole.checked == 1
    for tally in (
        recheck(None, state, lease_for(o, state, 1.0)),
        recheck(o, state, lease_for(o, state, 1.0), moves=False),
        recheck(o, state, lease_for(o, state, 1.0, state_seq=500)),
        Recheck(CONFIG, second(), PRINT).tally,
    ):
        assert not tally.clean and tally.checked == 0
    again = Recheck(CONFIG, second(), PRINT)
    again.lease(lease_for(o, state, 1.0))
    assert sum(again.tally.not_checked.values()) == 1


def test_leases_that_had_expired_grant_nothing() -> None:
    state, o = standing(), observation(person(0.2, standing()))
    change = {"oldest_exposure": o.oldest_exposure - 0.2, "expires_at": o.oldest_exposure - 0.1}
    tally = recheck(o, state, lease_for(o, state, 1.0, **change))
    assert (tally.not_in_force, tally.findings) == (1, [])


@pytest.mark.requirement("SEC-04")
@pytest.mark.parametrize("change", ["motion", "ahead", "behind"])
def test_a_lease_for_something_else_than_its_own_state_does_is_found(change: str) -> None:
    """The node might obey it elsewhere, where nobody has calculated anything."""
    state, o = standing(), observation(np.zeros((0, 4)))
    changes: dict[str, dict[str, object]] = {
        "motion": {"motion_id": "another"},
        "ahead": {"progress_from": state.progress + 0.1},
        "behind": {"progress_to": state.progress - 0.1},
    }
    (finding,) = recheck(o, state, lease_for(o, state, 1.0, **changes[change])).findings
    assert "another motion or stretch" in finding.reason and math.isinf(finding.shortfall)


@pytest.mark.requirement("SEC-04")
def test_a_lease_is_checked_against_the_state_it_names_whatever_came_after() -> None:
    """A later state of another place, or off the path, is no reproach; and it excuses nothing."""
    m = motion(SEED)
    far, near = standing(0.0), msgspec.structs.replace(standing(0.0), seq=8)
    later = msgspec.structs.replace(near, seq=9, t=near.t + 0.02, q=[near.q[0] + 0.3, *near.q[1:]])
    for distance, findings in ((3.0, 0), (0.2, 1)):
        o = observation(person(distance, near))
        check = Recheck(CONFIG, second(), PRINT)
        check.motion(m.to_accepted())
        check.observation(o)
        for state in (far, near, later):
            check.state(state)
        check.lease(lease_for(o, near, 0.6))
        assert (len(check.tally.findings), check.tally.checked) == (findings, 1)
        assert not check.tally.not_checked


def test_a_state_of_the_same_number_before_a_restart_of_the_node_is_not_taken() -> None:
    state, o = standing(0.0), observation(np.zeros((0, 4)))
    before = msgspec.structs.replace(state, t=state.t - 5.0)
    (reason,) = recheck(o, before, lease_for(o, state, 1.0)).not_checked
    assert "another one" in reason


def test_a_replayed_lease_is_found() -> None:
    state, o = standing(), observation(np.zeros((0, 4)))
    check = Recheck(CONFIG, second(), PRINT)
    check.motion(motion(SEED).to_accepted())
    check.observation(o)
    check.state(state)
    for seq in (5, 6, 5):
        check.lease(lease_for(o, state, 1.0, seq=seq))
    assert [f.reason for f in check.tally.findings] == ["older than the one before it"]


@pytest.mark.requirement("SEC-04")
def test_leases_that_are_missing_from_the_recording_are_counted() -> None:
    state, o = standing(), observation(np.zeros((0, 4)))
    check = Recheck(CONFIG, second(), PRINT)
    check.motion(motion(SEED).to_accepted())
    check.observation(o)
    check.state(state)
    for seq, boot in ((5, 1), (6, 1), (9, 1), (1, 2), (2, 2)):
        check.lease(lease_for(o, state, 1.0, seq=seq, boot=boot))
    assert sum(check.tally.not_checked.values()) == check.tally.missing == 2 and not check.tally.clean
    assert check.tally.checked == 5
    assert check.tally.share_not_checked == pytest.approx(2 / 7)


# ---------------------------------------------------------------- recordings


@given(st.lists(st.tuples(*[st.floats(-3, 3, width=32)] * 4), max_size=40))
def test_points_are_recorded_without_loss(rows: list[tuple[float, ...]]) -> None:
    o = observation(np.array(rows).reshape(-1, 4))
    back = PackedObservation.of(o).unpack()
    assert (back.balls, back.t, back.oldest_exposure, back.healthy) == (o.balls, o.t, o.oldest_exposure, o.healthy)


@pytest.mark.parametrize("damage", [b"", b"x", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\xe0" + b"\x7f" * 8])
def test_damaged_points_are_refused(damage: bytes) -> None:
    packed = PackedObservation.of(observation(np.zeros((2, 4))))
    for balls in (damage, packed.balls[:-5] + damage):
        with pytest.raises(ValueError, match="damaged"):
            msgspec.structs.replace(packed, balls=balls).unpack()


def record(path: Path, limits: list[float], distance: float = 0.2, about: bool = True) -> Path:
    """A recording of one motion, a person at a distance, and leases with these limits."""
    hub = Hub()
    robot = RobotConfig(driver="null", model="panda")
    facts = {"safety": CONFIG.model_dump_json(), "robot": robot.model_dump_json(), "fingerprint": PRINT}
    recorder = RecorderNode(hub.ports("recorder"), path, about=facts if about else None)
    ports = hub.ports("all")
    state_out, motion_out = ports.publisher(topic_state(), RobotState), ports.publisher(topic_motion(), AcceptedMotion)
    lease_out = ports.publisher(topic_lease("supervisor"), SpeedLease)
    seen_out = ports.publisher(TOPIC_OBSERVATION, Observation)
    state = standing(0.0)
    for k, limit in enumerate(limits):
        now = 10.0 + 0.02 * k
        at = msgspec.structs.replace(state, t=now, seq=k + 1)
        o = msgspec.structs.replace(
            observation(person(distance, state)), seq=k, t=now - 0.06, oldest_exposure=now - 0.08
        )
        motion_out.send(motion(SEED).to_accepted(), now)
        state_out.send(at, now)
        seen_out.send(o, now)
        lease_out.send(lease_for(o, at, limit, seq=k + 1), now)
        recorder.step(now)
    recorder.close()
    return path


def test_a_recording_is_rechecked_from_its_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = record(tmp_path / "flight.mcap", [0.0, 0.0, 0.0])
    assert read_about(good)["fingerprint"] == PRINT
    assert recheck_run(tmp_path, as_json=False) == OK
    assert "no lease was too permissive" in capsys.readouterr().out
    free = record(tmp_path / "free.mcap", [1.0, 1.0, 0.5], distance=3.0)
    assert recheck_flight(free).clean
    planted = record(tmp_path / "planted.mcap", [0.0, 0.6, 0.0])
    assert recheck_run(planted, as_json=True) == FAILED
    result = json.loads(capsys.readouterr().out)
    assert not result["clean"] and result["checked"] == 1 and result["stops"] == 2
    (finding,) = result["too_permissive"]
    assert finding["limit"] == 0.6 and finding["t"] == pytest.approx(10.02)
    assert recheck_run(planted, as_json=False) == FAILED
    assert "1 lease too permissive" in capsys.readouterr().out


@pytest.mark.requirement("SEC-04")
def test_every_lease_of_a_dense_stream_is_checked(tmp_path: Path) -> None:
    """States every 4 ms, leases every 8 ms that rest on the state but one before, a recorder that looks every 20 ms."""
    hub = Hub()
    facts = {"safety": CONFIG.model_dump_json(), "fingerprint": PRINT}
    facts["robot"] = RobotConfig(driver="null", model="panda").model_dump_json()
    path = tmp_path / "flight.mcap"
    recorder = RecorderNode(hub.ports("recorder"), path, about=facts)
    ports = hub.ports("all")
    state_out, motion_out = ports.publisher(topic_state(), RobotState), ports.publisher(topic_motion(), AcceptedMotion)
    lease_out = ports.publisher(topic_lease("supervisor"), SpeedLease)
    seen_out = ports.publisher(TOPIC_OBSERVATION, Observation)
    state = standing(0.0)
    states: list[RobotState] = []
    for k in range(500):
        now = 10.0 + 0.004 * k
        states.append(msgspec.structs.replace(state, t=now, seq=k + 1))
        motion_out.send(motion(SEED).to_accepted(), now)
        state_out.send(states[-1], now)
        if k % 8 == 0:
            o = msgspec.structs.replace(observation(np.zeros((0, 4))), seq=k, t=now - 0.06, oldest_exposure=now - 0.08)
            seen_out.send(o, now)
        if k % 2 and k > 2:
            lease_out.send(lease_for(o, states[-3], 1.0, seq=k // 2), now)
        if k % 5 == 0:
            recorder.step(now)
    recorder.close()
    tally = recheck_flight(path)
    assert tally.clean and tally.checked == 249 and tally.missing == 0
    times = [m.t for m in read_flight(path)]
    assert times == sorted(times)
    recorded = sum(isinstance(m.body, RobotState) for m in read_flight(path))
    assert 249 <= recorded < 360, "states that nobody names are thinned out"


def test_a_recording_that_does_not_say_what_it_is_of_is_refused(tmp_path: Path) -> None:
    old = record(tmp_path / "old.mcap", [0.0], about=False)
    with pytest.raises(RecordError, match="earlier version"):
        recheck_flight(old)
    assert recheck_run(old, as_json=True) == BAD_INPUT
    assert recheck_run(tmp_path / "none", as_json=True) == BAD_INPUT
    (tmp_path / "text.mcap").write_text("not a recording", encoding="utf-8")
    assert recheck_run(tmp_path / "text.mcap", as_json=True) == BAD_INPUT
