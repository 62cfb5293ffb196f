"""Zones in space: what is dragged on the screen is what is checked, compared and proposed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.pendant.browser import Watched, started
from tests.pendant.fakecell import FakeServer
from tests.pendant.test_page_looks import prepare

pytestmark = pytest.mark.xdist_group("page")
ENTRY, BENCH = 0, 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def volumes(body: dict[str, Any]) -> Any:
    return body["config"]["zones"]["volumes"]


def checked(server: FakeServer) -> list[Any]:
    """Zones of each configuration the page had checked."""
    return [volumes(body) for _, path, body in server.cell.asked if path == "/safety/check"]


def opened(watched: Watched) -> Page:
    page = watched.open("safety")
    page.get_by_test_id("zones-3d").click()
    page.locator("[data-testid=zone-scene] [data-corner]").first.wait_for()
    page.get_by_test_id("zone-scene").scroll_into_view_if_needed()
    return page


def centre(page: Page, corner: int) -> tuple[float, float]:
    """Where a corner's grip is on the screen."""
    box = page.locator(f"[data-testid=zone-scene] [data-corner='{corner}']").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, start: tuple[float, float], by: tuple[float, float]) -> tuple[float, float]:
    """Press, move in two steps, let go; where that was."""
    end = (start[0] + by[0], start[1] + by[1])
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()
    return end


def until(page: Page, what: Callable[[], Any]) -> Any:
    """What is asked for, as soon as it is there."""
    for _ in range(200):
        found = what()
        if found:
            return found
        page.wait_for_timeout(25)
    raise AssertionError("it never came")


def test_a_corner_dragged_in_space_is_checked_compared_and_proposed(browser: Browser, server: FakeServer) -> None:
    prepare(server, "sina")
    server.cell.asked.clear()
    before = copy.deepcopy(server.cell.answers["safety"]["config"]["zones"]["volumes"])
    with Watched(browser, server.url) as watched:
        page = opened(watched)
        page.get_by_label("Zone", exact=True).select_option("1")
        expect(page.locator("[data-testid=zone-scene] [data-corner]")).to_have_count(4)
        others = [centre(page, corner) for corner in range(4)]
        end = drag(page, others[1], (40, -20))
        # The corner came to lie under the pointer, to the centimetre to which zones are kept, and no other moved.
        until(page, lambda: abs(centre(page, 1)[0] - others[1][0]) > 30)
        now = [centre(page, corner) for corner in range(4)]
        assert now[1] == pytest.approx(end, abs=4)
        assert [now[i] for i in (0, 2, 3)] == [pytest.approx(others[i], abs=1) for i in (0, 2, 3)]

        zones = until(page, lambda: checked(server))[-1]
        shape = zones[BENCH]["shape"]
        assert zones[ENTRY] == before[ENTRY], "the other zone stays"
        assert shape["z"] == before[BENCH]["shape"]["z"], "heights stay"
        moved = [i for i, corner in enumerate(shape["corners"]) if corner != before[BENCH]["shape"]["corners"][i]]
        assert moved == [1]
        # Seen from the first view (from +x, -y, above), a drag to the right and up goes towards +x and +y.
        (x, y), (x0, y0) = shape["corners"][1], before[BENCH]["shape"]["corners"][1]
        assert 0.1 < x - x0 + y - y0 < 1.0
        expect(page.get_by_test_id("zone-check")).to_be_visible()

        page.get_by_role("button", name="Show the difference").click()
        expect(page.get_by_role("row", name="corners[1][0]")).to_contain_text(f"{x:g}")
        page.get_by_label("Why").fill("a wider bench")
        page.get_by_label("Your password, as signature").fill("correct horse")
        page.get_by_role("button", name="Propose").click()
        asked = until(page, lambda: [body for _, path, body in server.cell.asked if path == "/safety/proposals"])
        assert volumes(asked[0]) == zones


def test_a_whole_zone_is_dragged_and_elsewhere_the_view_turns(
    browser: Browser, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(server, "sina")
    server.cell.asked.clear()
    fault = {"line": None, "field": "zones.entry", "message": "entry overlaps bench", "allowed": "", "remedy": ""}
    answers = {**server.cell.answers, "POST safety/check": {"ok": True, "problems": [], "warnings": [fault]}}
    monkeypatch.setattr(server.cell, "answers", answers)
    box = server.cell.answers["safety"]["config"]["zones"]["volumes"][ENTRY]["shape"]
    with Watched(browser, server.url) as watched:
        page = opened(watched)
        page.get_by_role("button", name="Top", exact=True).click()
        until(page, lambda: centre(page, 0)[0] != centre(page, 1)[0])
        page.get_by_test_id("zone-scene").scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        corners = [centre(page, corner) for corner in range(4)]
        middle = (sum(x for x, _ in corners) / 4, sum(y for _, y in corners) / 4)
        drag(page, middle, (-30, 0))
        zones = until(page, lambda: checked(server))[-1]
        shape = zones[ENTRY]["shape"]
        shift = [a - b for a, b in zip(shape["lower"], box["lower"], strict=True)]
        assert shift[:2] != [0, 0] and shift[2] == 0
        assert [a - b for a, b in zip(shape["upper"], box["upper"], strict=True)] == pytest.approx(shift, abs=1e-9)

        expect(page.get_by_text("entry overlaps bench")).to_be_visible()

        page.get_by_test_id("zone-scene").scroll_into_view_if_needed()
        asked = len(server.cell.asked)
        scene = page.get_by_test_id("zone-scene").bounding_box()
        assert scene is not None
        before = centre(page, 0)
        drag(page, (scene["x"] + 30, scene["y"] + 30), (90, 40))
        until(page, lambda: centre(page, 0) != before)
        page.wait_for_timeout(500)
        assert len(server.cell.asked) == asked, "turning the view changes no zone"


def test_who_may_not_change_zones_cannot_drag_them(browser: Browser, server: FakeServer) -> None:
    prepare(server, "olga")
    server.cell.asked.clear()
    with Watched(browser, server.url) as watched:
        page = watched.open("safety")
        page.get_by_test_id("zones-3d").click()
        page.locator("[data-testid=zone-scene] canvas").wait_for()
        expect(page.locator("[data-corner]")).to_have_count(0)
        scene = page.get_by_test_id("zone-scene").bounding_box()
        assert scene is not None
        drag(page, (scene["x"] + scene["width"] / 2, scene["y"] + scene["height"] / 2), (60, 0))
        page.wait_for_timeout(500)
        assert checked(server) == []
