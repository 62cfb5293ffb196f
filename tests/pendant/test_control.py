"""Single point of control: properties of the pure core."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.pendant.control import SILENCE, Control, Seat

SEATS = [Seat(f"login{i}", f"Person {i}", i % 2 == 0) for i in range(4)]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["take", "give", "refuse", "release", "heard", "expire"]),
        st.integers(0, 3),
        st.floats(0.0, 15.0),
    ),
    max_size=25,
)


@pytest.mark.requirement("CTL-12")
@settings(max_examples=40, deadline=None)
@given(ACTIONS)
def test_control_passes_only_by_release_hand_over_or_silence(actions: list[tuple[str, int, float]]) -> None:
    control, now = Control(), 0.0
    heard = [0.0] * 4
    for what, who, pause in actions:
        now += pause
        seat, before = SEATS[who], control.holder
        if what == "take":
            held = control.take(seat, now, int(now))
            heard[who] = now
            assert held == (control.holder == seat)
        elif what == "give":
            asked = control.request
            if control.give(seat.login, now, int(now)):
                assert before == seat and control.holder == asked and control.request is None
        elif what == "refuse":
            control.refuse(seat.login, now)
            assert control.holder == before
        elif what == "release":
            control.release(seat.login, now, int(now))
        elif what == "heard":
            control.heard(seat.login, now)
            heard[who] = now
        else:
            control.expire(now)
        after = control.holder
        if before is not None and after != before:
            silent = now - heard[SEATS.index(before)] > SILENCE
            assert silent or (what in ("give", "release") and seat == before)
        if control.holder is None:
            assert control.request is None
        assert control.request is None or control.request != control.holder
        may = [one for one in SEATS if not control.refusal(one.login, now)]
        assert len(may) <= 1 and may == ([control.holder] if control.holder is not None else [])


def test_a_request_is_shown_to_the_holder_and_handed_over() -> None:
    control = Control()
    assert control.take(SEATS[0], 0.0, 0) and not control.take(SEATS[1], 1.0, 1000)
    view = control.view(SEATS[0].login)
    assert view == {
        "holder": "Person 0", "mine": True, "kind": "local", "since_wall": 0, "requested_by": "Person 1",
    }  # fmt: skip
    assert not control.give(SEATS[1].login, 1.0, 1000)
    assert control.give(SEATS[0].login, 1.0, 1000)
    assert control.view(SEATS[1].login)["mine"] and control.view(SEATS[1].login)["kind"] == "remote"


def test_a_silent_holder_loses_control() -> None:
    control = Control()
    control.take(SEATS[0], 0.0, 0)
    control.heard(SEATS[0].login, 5.0)
    assert control.expire(5.0 + SILENCE) is None
    assert control.expire(5.1 + SILENCE) == SEATS[0]
    assert control.refusal(SEATS[0].login, 20.0) != ""
