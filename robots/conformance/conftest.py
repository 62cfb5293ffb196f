"""Options and fixtures of the suite; each test has a robot node of its own and a newly made driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import pytest

from cell.bus.inprocess import Hub
from robots.conformance.bench import Bench
from robots.conformance.surroundings import Surroundings, Unavailable, surroundings


class Subject(NamedTuple):
    """What is tested."""

    name: str
    factory: Any
    bench: Any
    options: dict[str, Any]
    config: dict[str, Any]

    def around(self, hub: Hub) -> Surroundings:
        return surroundings(self.name, self.factory, self.bench, hub, dict(self.options))


def _found(group: str, name: str) -> Any:
    for entry in entry_points(group=group):
        if entry.name == name:
            return entry.load()
    return None


def _json(config: pytest.Config, option: str) -> dict[str, Any]:
    try:
        value = json.loads(config.getoption(option))
    except json.JSONDecodeError as error:
        raise pytest.UsageError(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise pytest.UsageError(f"{option} must be an object, such as {{}}")
    return value


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    """The driver that was asked for."""
    name = request.config.getoption("--driver")
    known = ", ".join(sorted(entry.name for entry in entry_points(group="cell.robot_drivers")))
    if not name:
        raise pytest.UsageError(f"say which driver: --driver NAME; installed: {known}")
    factory = _found("cell.robot_drivers", name)
    if factory is None:
        raise pytest.UsageError(f"no driver {name!r} in the entry points cell.robot_drivers; installed: {known}")
    options, config = _json(request.config, "--driver-options"), _json(request.config, "--driver-config")
    return Subject(name, factory, _found("cell.driver_benches", name), options, config)


@pytest.fixture
def bench(subject: Subject) -> Iterator[Bench]:
    """A robot node round the driver, ready to move, for one test alone."""
    yield from _bench(subject)


@pytest.fixture(scope="module")
def calm(subject: Subject) -> Iterator[Bench]:
    """The same for all tests of a file that leave the arm as they found it."""
    yield from _bench(subject)


def _bench(subject: Subject) -> Iterator[Bench]:
    hub = Hub()
    around = subject.around(hub)
    made = Bench(subject.name, around, hub, subject.config)
    try:
        made.begin()
        yield made
    finally:
        made.close()


@pytest.fixture
def hands(bench: Bench) -> Callable[[Callable[[], Any]], Any]:
    """Somebody at the arm: does what these surroundings permit, or the test is skipped."""

    def do(what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Unavailable as error:
            pytest.skip(str(error))

    return do
