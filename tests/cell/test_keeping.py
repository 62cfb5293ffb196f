"""What a recording keeps of dense streams, and in which order."""

from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cell.bus.messages import PROTOCOL_VERSION, Envelope
from cell.keeping import MOST_STATES, InOrder, StateKeeper


def state(seq: int, t: float) -> Envelope[msgspec.Raw]:
    body = msgspec.Raw(msgspec.msgpack.encode({"seq": seq, "q": [0.0], "t": t}))
    return Envelope(PROTOCOL_VERSION, "arm", 1, seq, t, body)


def lease(state_seq: int) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode({"issuer": "supervisor", "state_seq": state_seq}))


def kept(keeper: StateKeeper, until: float) -> list[int]:
    return [envelope.seq for envelope in keeper.release(until)]


@given(st.lists(st.integers(1, 60), max_size=20), st.integers(1, 9), st.booleans())
def test_every_state_that_a_lease_names_is_kept_in_order(named: list[int], every: int, first: bool) -> None:
    """The lease may come before its state or after it."""
    keeper = StateKeeper()
    for seq in named if first else ():
        keeper.lease(lease(seq))
    for begin in range(1, 61, every):
        keeper.take([state(seq, 0.01 * seq) for seq in range(begin, min(61, begin + every))], 1.0)
    for seq in () if first else named:
        keeper.lease(lease(seq))
    found = kept(keeper, 10.0)
    newest = {min(60, begin + every - 1) for begin in range(1, 61, every)}
    assert found == sorted(set(named) | newest)
    assert kept(keeper, math.inf) == []


def test_states_wait_until_their_time_and_never_more_than_fit() -> None:
    keeper = StateKeeper()
    keeper.take([state(1, 1.0)], 1.0)
    keeper.take([state(2, 2.0)], 2.0)
    assert kept(keeper, 0.9) == []
    assert kept(keeper, 1.0) == [1]
    keeper.take([state(3 + k, 5.0) for k in range(2 * MOST_STATES)], 5.0)
    assert kept(keeper, 1.5) == [2]
    assert kept(keeper, 5.0) == [2 + 2 * MOST_STATES]


def test_what_cannot_be_read_is_kept_as_a_sample_and_names_nothing() -> None:
    keeper = StateKeeper()
    broken = Envelope(PROTOCOL_VERSION, "arm", 1, 7, 1.0, msgspec.Raw(b"\xc1"))
    keeper.lease(msgspec.Raw(b"\xc1"))
    keeper.lease(msgspec.Raw(msgspec.msgpack.encode({"state_seq": "many"})))
    keeper.take([broken], 1.0)
    assert kept(keeper, 2.0) == [7]


@given(st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 100)), max_size=40))
def test_messages_come_out_in_the_order_in_which_they_were_said(said: list[tuple[float, float]]) -> None:
    order = InOrder()
    for n, (t, now) in enumerate(said):
        order.add("x", int, n, t, now)
    whole = list(order.release(200.0))
    assert sorted(line.body for line in whole) == list(range(len(said)))
    since = [min(t, now) if math.isfinite(t) else now for t, now in said]
    assert [since[line.body] for line in whole] == sorted(since)
