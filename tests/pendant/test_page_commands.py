"""The page's buttons: enabled exactly where the PackML table permits, never on old data, never without control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.pendant import fakedata
from tests.pendant.browser import Watched, started
from tests.pendant.fakecell import FakeCell, FakeServer

pytestmark = pytest.mark.xdist_group("page")
TABLE = fakedata.packml()
STATES = [state["name"] for state in TABLE["states"]]
STOPS = {"Stop", "Hold", "Abort"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(scope="module")
def watched(browser: Browser, server: FakeServer) -> Iterator[Watched]:
    operate(server.cell)
    with Watched(browser, server.url) as watched:
        watched.open()
        yield watched


@pytest.fixture
def page(watched: Watched, server: FakeServer) -> Page:
    operate(server.cell)
    return watched.page


def operate(cell: FakeCell, mine: bool = True, holder: str = "olga", role: str = "operator") -> None:
    cell.user = {"name": "olga", "role": role, "language": None}
    cell.control = {"holder": holder, "mine": mine, "kind": "local", "since_wall": None, "requested_by": None}
    cell.status, cell.silent, cell.asked = fakedata.status("Idle"), False, []


def show(page: Page, cell: FakeCell, state: str, **changes: Any) -> None:
    cell.status = fakedata.status(state) | changes
    page.locator(f"[data-state='{state}']").wait_for()


def enabled(page: Page) -> set[str]:
    """Commands whose buttons can be pressed now."""
    return set(
        page.evaluate(
            "() => [...document.querySelectorAll('[data-command]')]"
            ".filter(b => b.getAttribute('aria-disabled') === 'false').map(b => b.dataset.command)"
        )
    )


def press_all(page: Page) -> None:
    page.evaluate("() => document.querySelectorAll('[data-command]').forEach(b => b.click())")


def sent(cell: FakeCell) -> list[str]:
    return sorted(body["name"] for _, path, body in cell.asked if path == "/commands")


@pytest.mark.parametrize("state", STATES)
def test_each_button_in_each_state_is_enabled_exactly_when_the_table_permits(
    page: Page, server: FakeServer, state: str
) -> None:
    show(page, server.cell, state)
    permitted = sorted(TABLE["admitted"][state])
    assert sorted(enabled(page)) == permitted
    with page.expect_response("**/commands") if permitted else _nothing():
        press_all(page)
    page.wait_for_function("() => document.querySelectorAll('[data-command]').length === 10")
    expect_sent(page, server.cell, permitted)
    for _, _, body in server.cell.asked:
        assert body["type"] == "packml" and body["seen"] > 0


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def expect_sent(page: Page, cell: FakeCell, names: list[str]) -> None:
    for _ in range(100):
        if len(sent(cell)) >= len(names):
            break
        page.wait_for_timeout(20)
    page.wait_for_timeout(40)
    assert sent(cell) == names


def test_a_button_that_is_off_says_why(page: Page, server: FakeServer) -> None:
    show(page, server.cell, "Execute")
    page.locator("[data-command=Reset]").click(force=True)
    expect(page.get_by_test_id("why")).to_contain_text("Not possible in state Execute")
    show(page, server.cell, "Idle", blocked={"Start": "no recipe is loaded"})
    page.locator("[data-command=Start]").click(force=True)
    expect(page.get_by_test_id("why")).to_contain_text("no recipe is loaded")
    described = page.locator("[data-command=Start]").get_attribute("aria-describedby")
    assert "no recipe is loaded" in (page.locator(f"#{described}").text_content() or "")
    assert sent(server.cell) == []


def test_without_control_only_stopping_is_possible_and_the_holder_is_named(page: Page, server: FakeServer) -> None:
    operate(server.cell, mine=False, holder="otto")
    show(page, server.cell, "Execute")
    expect(page.get_by_test_id("control")).to_contain_text("otto")
    assert enabled(page) == STOPS
    page.locator("[data-command=Complete]").click(force=True)
    expect(page.get_by_test_id("why")).to_contain_text("otto has control")
    page.get_by_role("button", name="Ask for it", exact=True).click()
    expect(page.get_by_test_id("control")).to_contain_text("waiting for an answer")


def test_old_data_turns_everything_off_but_stop(page: Page, server: FakeServer) -> None:
    show(page, server.cell, "Execute")
    server.cell.silent = True
    expect(page.get_by_test_id("stale")).to_be_visible(timeout=5000)
    assert enabled(page) == {"Stop"}
    assert page.locator("main button[aria-disabled='false'][aria-pressed]").count() == 0
    press_all(page)
    expect_sent(page, server.cell, ["Stop"])
    server.cell.silent = False
    expect(page.get_by_test_id("stale")).to_be_hidden(timeout=5000)
    assert enabled(page) == set(TABLE["admitted"]["Execute"])


@pytest.mark.parametrize("source", ["status", "robot", "safety", "observation"])
def test_one_old_source_is_enough(page: Page, server: FakeServer, source: str) -> None:
    show(page, server.cell, "Execute")
    before = dict(server.cell.age)
    server.cell.age = {**before, source: 0.9}
    try:
        expect(page.get_by_test_id("stale")).to_be_visible(timeout=5000)
        assert enabled(page) == {"Stop"}
    finally:
        server.cell.age = before
    expect(page.get_by_test_id("stale")).to_be_hidden(timeout=5000)


def test_a_refusal_of_the_cell_is_shown_with_its_remedy(page: Page, server: FakeServer) -> None:
    server.cell.refusal = (409, {"code": "refused", "message": "an alarm is open", "remedy": "Acknowledge it"})
    try:
        page.locator("[data-command=Start]").click()
        expect(page.get_by_test_id("toasts")).to_contain_text("an alarm is open")
        expect(page.get_by_test_id("toasts")).to_contain_text("Acknowledge it")
    finally:
        server.cell.refusal = None


def test_always_visible(page: Page, server: FakeServer) -> None:
    server.cell.safety = fakedata.safety() | {"separation": 0.84, "required": 1.02, "link": "link_5"}
    server.cell.robot = fakedata.robot() | {"rate": 0.42, "limit": 0.42, "limit_by": "supervisor"}
    show(page, server.cell, "Execute", alarms=[fakedata.alarm()])
    expect(page.get_by_test_id("rate")).to_contain_text("42 %")
    expect(page.get_by_test_id("reason")).to_have_text("person 0.84 m from link 5, needs 1.02 m")
    expect(page.get_by_test_id("job")).to_contain_text("step 4 of 13 · batch 1 of 2")
    expect(page.get_by_test_id("mode")).to_have_text("Automatic")
    expect(page.get_by_test_id("alarm-bar")).to_contain_text("front: no picture for 0.4 s")
    expect(page.get_by_test_id("clock").locator("time")).to_contain_text(":")
    page.get_by_test_id("alarm-bar").get_by_role("button", name="Acknowledge").click()
    page.wait_for_timeout(100)
    assert server.cell.asked[-1][2]["type"] == "acknowledge"
