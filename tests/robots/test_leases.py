"""Speed leases at the robot node: every reason for which a lease must count as 0, and what follows."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robots.contract import SpeedLease, topic_lease
from robots.leases import HELD_UP, LeaseKeeper, LeaseRules, sign_lease, verify_lease
from tests.robots.bench import KEY, PRINT, VALIDITY, Bench

RULES = LeaseRules(("supervisor",), PRINT, KEY, validity=VALIDITY)


def lease(**changes: Any) -> SpeedLease:
    fields: dict[str, Any] = {
        "issuer": "supervisor",
        "boot": 1,
        "seq": 1,
        "limit": 0.7,
        "motion_id": "m1",
        "progress_from": 0.0,
        "progress_to": 1.0,
        "state_seq": 100,
        "oldest_exposure": 9.95,
        "expires_at": 10.15,
        "reason": "person",
        "restartable": True,
        "fingerprint": PRINT,
        **changes,
    }
    return sign_lease(SpeedLease(**fields), KEY)


def keeper() -> LeaseKeeper:
    return LeaseKeeper("supervisor", RULES, 250.0)


def test_a_good_lease_permits_what_it_says() -> None:
    k = keeper()
    assert k.offer(lease(), 10.0, 100) == ""
    assert k.permission(10.0, "m1", 0.5, 100) == (0.7, "person", False, False)


@pytest.mark.requirement("SAF-20")
@given(st.floats(allow_nan=True, allow_infinity=True) | st.floats(9.0, 10.6))
def test_without_a_young_self_test_a_lease_permits_nothing(tested_at: float) -> None:
    rules = LeaseRules(("supervisor", "second_channel"), PRINT, KEY, validity=VALIDITY, tested=("supervisor",))
    k = LeaseKeeper("supervisor", rules, 250.0)
    assert k.offer(lease(tested_at=tested_at), 10.0, 100) == ""
    permission = k.permission(10.0, "m1", 0.5, 100)
    if 9.5 <= tested_at <= 10.0 + HELD_UP:
        assert permission == (0.7, "person", False, False) and k.alive(10.0) == ""
    else:
        assert permission.limit == 0.0 and "self-test" in permission.reason
        assert permission.latch != permission.missing == (tested_at > 10.0)
        assert "self-test" in k.alive(10.0)


def test_a_self_test_is_demanded_of_issuers_only() -> None:
    with pytest.raises(ValueError, match="self-test"):
        LeaseRules(("supervisor",), PRINT, KEY, tested=("somebody",))
    with pytest.raises(ValueError, match="tick"):
        LeaseRules(("supervisor",), PRINT, KEY, tick=math.nan)
    with pytest.raises(ValueError, match="test_age"):
        LeaseRules(("supervisor",), PRINT, KEY, test_age=math.nan)
    k = LeaseKeeper("second_channel", LeaseRules(("supervisor", "second_channel"), PRINT, KEY, validity=VALIDITY,
                                                 tested=("supervisor",)), 250.0)  # fmt: skip
    assert k.offer(lease(issuer="second_channel"), 10.0, 100) == ""
    assert k.permission(10.0, "m1", 0.5, 100).limit == 0.7


@pytest.mark.requirement("ROB-01")
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"limit": math.nan}, "finite"),
        ({"limit": math.inf}, "finite"),
        ({"limit": -0.1}, "range"),
        ({"limit": 1.01}, "range"),
        ({"progress_from": math.nan}, "finite"),
        ({"progress_to": -1.0}, "range"),
        ({"oldest_exposure": math.nan}, "finite"),
        ({"oldest_exposure": 10.5, "expires_at": 10.6}, "future"),
        ({"expires_at": math.nan}, "finite"),
        ({"expires_at": 10.3}, "longer"),
        ({"fingerprint": "other"}, "configuration"),
        ({"fingerprint": ""}, "configuration"),
        ({"issuer": "someone"}, "issuer"),
        ({"state_seq": 101}, "exist"),
        ({"state_seq": -1}, "exist"),
    ],
)
def test_each_wrong_field_refuses_the_lease_and_withdraws_the_one_before(changes: dict[str, Any], word: str) -> None:
    k = keeper()
    assert k.offer(lease(), 10.0, 100) == ""
    assert word in k.offer(lease(seq=2, **changes), 10.0, 100)
    assert k.permission(10.0, "m1", 0.5, 100).limit == 0.0
    assert k.permission(10.0, "m1", 0.5, 100).missing
    assert k.offer(lease(seq=3), 10.0, 100) == ""
    assert k.permission(10.0, "m1", 0.5, 100).limit == 0.7


@pytest.mark.requirement("ROB-01")
@given(st.sampled_from(SpeedLease.__struct_fields__), st.integers(0, 15))
def test_changing_any_field_or_the_code_itself_is_a_forgery(name: str, index: int) -> None:
    good = lease()
    assert verify_lease(good, KEY)
    value = getattr(good, name)
    if isinstance(value, bytes):
        changed: Any = bytes(b ^ (1 if i == index else 0) for i, b in enumerate(value))
    elif isinstance(value, bool):
        changed = not value
    elif isinstance(value, str):
        changed = value + "x"
    else:
        changed = value + 1
    bad = msgspec.structs.replace(good, **{name: changed})
    assert not verify_lease(bad, KEY)
    assert "forged" in keeper().offer(bad, 10.0, 10**9) or name == "issuer"


@pytest.mark.requirement("ROB-01")
def test_replays_are_refused_and_the_exact_repetition_of_the_newest_changes_nothing() -> None:
    k = keeper()
    old, new = lease(seq=5), lease(seq=6, limit=0.3)
    assert k.offer(old, 10.0, 100) == ""
    assert k.offer(new, 10.0, 100) == ""
    assert k.offer(new, 10.0, 100) == ""
    assert k.permission(10.0, "m1", 0.5, 100).limit == 0.3
    assert "replayed" in k.offer(old, 10.0, 100)
    assert k.permission(10.0, "m1", 0.5, 100).limit == 0.0
    assert "replayed" in k.offer(lease(boot=0, seq=99), 10.0, 100)
    assert k.offer(lease(boot=2, seq=1), 10.0, 100) == ""
    assert k.restarts == 1


@pytest.mark.requirement("ROB-01")
def test_a_lease_counts_only_in_its_time_motion_window_and_for_a_recent_state() -> None:
    k = keeper()
    k.offer(lease(), 10.0, 100)
    assert k.permission(10.1499, "m1", 0.5, 100).limit == 0.7
    assert k.permission(10.15, "m1", 0.5, 100).missing
    assert k.permission(10.0, "m2", 0.5, 100).missing
    assert k.permission(10.0, "", 0.0, 100).missing
    assert k.permission(10.0, "m1", 1.0, 100).limit == 0.7
    assert k.permission(10.0, "m1", 1.01, 100).missing
    assert k.permission(10.0, "m1", -0.01, 100).missing
    assert k.permission(10.0, "m1", 0.5, 162).limit == 0.7
    assert k.permission(10.0, "m1", 0.5, 164).missing
    assert k.permission(math.nan, "m1", 0.5, 100).missing


def test_a_stop_for_another_cause_than_separation_asks_for_a_latch() -> None:
    k = keeper()
    k.offer(lease(limit=0.0, restartable=False, reason="camera dead"), 10.0, 100)
    assert k.permission(10.0, "m1", 0.5, 100) == (0.0, "camera dead", False, True)
    assert "camera dead" in k.alive(10.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuers": ()},
        {"issuers": ("a", "a")},
        {"key": b"short"},
        {"fingerprint": ""},
        {"validity": 0.0},
        {"validity": math.nan},
        {"late": 2.0},
    ],
)
def test_rules_that_would_let_everything_pass_are_refused(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"issuers": ("supervisor",), "fingerprint": PRINT, "key": KEY}
    with pytest.raises(ValueError, match=r".+"):
        LeaseRules(**{**good, **wrong})


# ---------------------------------------------------------------- at the node


@pytest.mark.requirement("ROB-02")
def test_nothing_moves_before_the_first_lease() -> None:
    b = Bench()
    b.issuer.limit = None
    q = b.state.q
    b.start(until=0.4)
    assert b.state.q == q
    assert b.state.limit == 0.0
    b.issuer.limit = 1.0
    b.run(0.1)
    assert b.state.rate == 1.0
    assert b.state.late_leases == 0


@pytest.mark.requirement("ROB-02")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda issuer: setattr(issuer, "limit", None),
        lambda issuer: setattr(issuer, "forge", True),
        lambda issuer: setattr(issuer, "limit", math.nan),
        lambda issuer: issuer.changes.update(fingerprint="other"),
        lambda issuer: issuer.changes.update(motion_id="m7"),
        lambda issuer: issuer.changes.update(progress_to=0.01),
        lambda issuer: issuer.changes.update(expires_at=0.5),
        lambda issuer: issuer.changes.update(seq=3),
        lambda issuer: issuer.changes.update(state_seq=10**6),
        lambda issuer: issuer.changes.update(state_seq=1),
        lambda issuer: issuer.changes.update(oldest_exposure=1e6, expires_at=1e6),
    ],
    ids=[
        "silent", "forged", "nan", "fingerprint", "other_motion", "window",
        "expired", "replayed", "future_state", "old_state", "future_exposure",
    ],
)  # fmt: skip
def test_the_arm_stands_when_its_lease_is_spoiled_and_latches(spoil: Any) -> None:
    b = Bench()
    b.start(span=2.0, until=0.5)
    state = b.state
    assert state.rate == 1.0
    time, _ = b.node.core.follower.motion.braking(state.rate, state.progress, state.rate_slope, b.config.period)
    spoil(b.issuer)
    took = b.brake()
    # what the last good lease still permitted, one issuer period, and the braking of that moment
    assert took <= VALIDITY + 0.008 + max(time, 0.35)
    b.run(0.75)
    assert b.state.fault == "lease_lost"
    assert b.state.standing
    assert b.state.motion_id == "m1"


@pytest.mark.requirement("ROB-03")
def test_a_late_lease_brakes_resumes_and_is_counted() -> None:
    b = Bench()
    request = b.start(span=2.0, until=0.5)
    b.issuer.limit = None
    b.run(0.4)
    assert b.state.rate < 0.5
    b.issuer.limit = 1.0
    assert b.ask(request, 6.0).verdict == "done"
    assert b.state.late_leases == 1
    assert "robot.fault" not in b.kinds()


@pytest.mark.requirement("ROB-03")
def test_a_lost_lease_waits_for_a_person_and_clearing_restarts_nothing() -> None:
    b = Bench()
    request = b.start(span=2.0, until=0.5)
    b.issuer.limit = None
    b.run(1.5)
    assert b.state.fault == "lease_lost"
    refused = b.ask(b.client.clear_fault("Ann", b.now))
    assert refused.verdict == "rejected"
    assert "supervisor" in refused.reason
    b.issuer.limit = 1.0
    b.run(1.0)
    assert b.state.rate == 0.0  # the lease alone does not restart it
    assert "name" in b.ask(b.client.clear_fault("  ", b.now)).reason
    assert b.ask(b.client.clear_fault("Ann", b.now)).verdict == "done"
    b.run(0.5)
    assert (b.state.rate, b.state.fault, b.state.limit_by) == (0.0, "", "hold")
    assert b.ask(b.client.set_override(1.0, b.now)).verdict == "done"
    assert b.ask(request, 6.0).verdict == "done"
    cleared = next(e for e in b.events if e.kind == "robot.fault_cleared")
    assert cleared.data == {"codes": ["lease_lost"], "person": "Ann"}


@pytest.mark.requirement("ROB-03")
def test_separation_alone_resumes_by_itself_but_another_cause_latches() -> None:
    b = Bench()
    request = b.start(span=2.0, until=0.5)
    b.issuer.limit, b.issuer.reason = 0.0, "person at 0.4 m"
    b.run(2.0)
    assert b.state.rate == 0.0
    assert (b.state.fault, b.state.limit_by, b.state.limit_reason) == ("", "supervisor", "person at 0.4 m")
    b.issuer.limit = 1.0
    b.run(0.3)
    assert b.state.rate > 0.5
    b.issuer.limit, b.issuer.restartable, b.issuer.reason = 0.0, False, "camera north dead"
    b.run(0.5)
    assert b.state.fault == "safety_stop"
    assert "camera north dead" in b.state.fault_text
    b.issuer.limit, b.issuer.restartable = 1.0, True
    b.run(1.0)
    assert b.state.rate == 0.0
    b.ask(b.client.clear_fault("Ann", b.now))
    b.ask(b.client.set_override(1.0, b.now))
    assert b.ask(request, 6.0).verdict == "done"


@pytest.mark.requirement("ROB-02")
def test_every_issuer_must_permit() -> None:
    b = Bench(leases={"issuers": ["supervisor", "second"]})
    b.start(span=2.0, until=0.6)
    assert b.state.rate == 1.0
    b.issuers[1].limit = 0.4
    b.run(0.5)
    assert b.state.rate == pytest.approx(0.4)
    assert b.state.limit_by == "second"
    b.issuers[1].limit = None
    b.brake()
    b.run(0.7)
    assert b.state.fault == "lease_lost"


@pytest.mark.requirement("ROB-03")
def test_a_restarted_supervisor_latches_while_a_motion_is_accepted() -> None:
    b = Bench()
    b.start(span=2.0, until=0.5)
    b.issuer.boot, b.issuer.seq = 2, 0
    b.run(0.1)
    assert b.state.fault == "issuer_restarted"


def test_without_a_motion_missing_leases_latch_nothing() -> None:
    b = Bench()
    b.issuer.limit = None
    b.run(2.0)
    b.issuer.boot, b.issuer.limit, b.issuer.restartable = 3, 0.0, False
    b.run(0.5)
    assert b.state.fault == ""


def test_refused_leases_are_reported_once_per_cause() -> None:
    b = Bench()
    b.issuer.forge = True
    b.run(0.5)
    refused = [e for e in b.events if e.kind == "robot.lease_refused"]
    assert len(refused) == 1
    assert "forged" in refused[0].data["reason"]


def test_garbage_on_the_lease_topic_is_dropped() -> None:
    b = Bench()
    b.start(span=2.0, until=0.3)
    inbox = b.hub._topics[topic_lease("supervisor")][0]
    inbox.newest = b"\x93garbage"
    b.node.step(b.now)
    assert inbox.rejected == 1
    assert b.state.fault == ""


@pytest.mark.requirement("ROB-02")
def test_a_lease_for_an_earlier_motion_of_the_same_name_permits_nothing() -> None:
    b = Bench()
    b.start(span=2.0, name="twin", until=0.3)
    b.ask(b.client.cancel("x", b.now))
    b.issuer.changes.update(state_seq=b.issuer.state_seq)  # it goes on judging the state of the first motion
    request = b.client.move(b.motion(-0.5, "twin"), b.now)
    b.run(0.1)
    assert b.client.status(request).verdict == "accepted"
    assert b.state.rate == 0.0
    assert b.state.limit_reason == "lease is from before this motion"
    b.issuer.changes.clear()
    assert b.ask(request, 5.0).verdict == "done"
