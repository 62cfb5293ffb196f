"""Carries what a node needs of one `Hub` to another, as the bytes they are: for a node hosted in a second process."""

from __future__ import annotations

import msgspec

from cell.bus.inprocess import Hub
from cell.bus.messages import Event


class Wants(msgspec.Struct, frozen=True):
    """What a node connected to, besides the events it reports."""

    newest: list[str]
    """Topics of which it reads the newest message."""
    every: list[str]
    """Topics of which it reads every message."""
    publishes: list[str]
    events: bool
    """It reads all events."""


class Parcel(msgspec.Struct, array_like=True):
    """All that was said between two steps of a node."""

    now: float
    """Time of the step, s."""
    newest: list[tuple[str, bytes]]
    every: list[tuple[str, list[bytes]]]
    events: list[Event]


class RelayError(Exception):
    """A node that cannot be hosted elsewhere."""


def wants_of(hub: Hub) -> Wants:
    """What the nodes on a hub connected to. Raises RelayError if one serves or makes requests."""
    if hub.services():
        raise RelayError(f"requests ({', '.join(hub.services())}) do not pass to another process")
    return Wants(hub.topics_read(), hub.topics_followed(), hub.topics_published(), hub.events_read())


class Collector:
    """Takes from a hub what is wanted, as bytes."""

    def __init__(self, hub: Hub, newest: list[str], every: list[str], events: bool) -> None:
        self._newest = [(topic, hub.raw_inbox(topic)) for topic in newest]
        self._every = [(topic, hub.raw_queue(topic)) for topic in every]
        self._feed = hub.raw_feed() if events else None

    def take(self, now: float) -> Parcel:
        """All that has come since the last call."""
        newest = []
        for topic, inbox in self._newest:
            data, inbox.newest = inbox.newest, None
            if data is not None:
                newest.append((topic, data))
        every = []
        for topic, queue in self._every:
            if queue:
                every.append((topic, list(queue)))
                queue.clear()
        events: list[Event] = self._feed.drain() if self._feed is not None else []
        return Parcel(now, newest, every, events)

    def deliver(self, hub: Hub, parcel: Parcel) -> None:
        """Say on `hub` what the parcel holds; this collector does not hear the events itself."""
        for topic, data in parcel.newest:
            hub.say_newest(topic, data)
        for topic, all_of_it in parcel.every:
            for data in all_of_it:
                hub.say(topic, data)
        for event in parcel.events:
            hub.report(event, unheard_by=self._feed)


_encoder = msgspec.msgpack.Encoder()
_one, _all = msgspec.msgpack.Decoder(Parcel), msgspec.msgpack.Decoder(list[Parcel])


def encode(parcels: Parcel | list[Parcel]) -> bytes:
    """Pack one parcel, or several."""
    return _encoder.encode(parcels)


def decode_one(data: bytes) -> Parcel:
    """Unpack one parcel. Raises msgspec.DecodeError."""
    return _one.decode(data)


def decode(data: bytes) -> list[Parcel]:
    """Unpack several parcels. Raises msgspec.DecodeError."""
    return _all.decode(data)
