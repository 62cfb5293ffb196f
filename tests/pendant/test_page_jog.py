"""Hold to run: the arm moves only while beats go out, and whatever ends a press ends them in the same instant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.pendant import fakedata
from tests.pendant.browser import Watched, started
from tests.pendant.fakecell import FakeServer

pytestmark = pytest.mark.xdist_group("page")
PLUS = "joint 1 plus, hold"
# Notes what goes out of the jog socket, with the page's own clock.
SPY = """() => {
  window.sent = [];
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    if (this.url.endsWith('/jog')) window.sent.push({at: performance.now(), ...JSON.parse(data)});
    return send.call(this, data);
  };
}"""
ENDS = {
    "up": "b.dispatchEvent(new PointerEvent('pointerup', {pointerId: 1, bubbles: true}))",
    "cancel": "b.dispatchEvent(new PointerEvent('pointercancel', {pointerId: 1, bubbles: true}))",
    "leave": "b.dispatchEvent(new PointerEvent('pointermove', {pointerId: 1, clientX: -5, bubbles: true}))",
    "lost": "b.dispatchEvent(new PointerEvent('lostpointercapture', {pointerId: 1, bubbles: true}))",
    "blur": "window.dispatchEvent(new Event('blur'))",
    "hidden": "Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true});"
    "document.dispatchEvent(new Event('visibilitychange')); delete document.visibilityState",
    "leaving": "window.dispatchEvent(new Event('pagehide'))",
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        cell = server.cell
        cell.user = {"name": "pia", "role": "programmer", "language": None}
        cell.control = {"holder": "pia", "mine": True, "kind": "local", "since_wall": None, "requested_by": None}
        cell.status = fakedata.status("Idle") | {"mode": "manual"}
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def watched(browser: Browser, server: FakeServer) -> Iterator[Watched]:
    with Watched(browser, server.url) as watched:
        watched.open("teach").evaluate(SPY)
        yield watched


@pytest.fixture
def page(watched: Watched) -> Page:
    page = watched.page
    expect(page.get_by_role("button", name=PLUS)).to_have_attribute("aria-disabled", "false")
    page.evaluate("() => { window.sent = [] }")
    return page


def hold(page: Page) -> Any:
    box = page.get_by_role("button", name=PLUS).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_function("() => window.sent.filter(m => 'seq' in m).length >= 2")
    return box


def sent(page: Page) -> list[dict[str, Any]]:
    return list(page.evaluate("() => window.sent"))


def test_press_beats_release(page: Page, server: FakeServer) -> None:
    hold(page)
    assert page.get_by_test_id("jog-state").get_attribute("data-phase") == "running"
    page.mouse.up()
    messages = sent(page)
    assert messages[0]["press"] is True
    beats = [m for m in messages if "seq" in m]
    assert [m["seq"] for m in beats] == list(range(beats[0]["seq"], beats[0]["seq"] + len(beats)))
    assert all(m["space"] == "joint" and m["velocity"][0] > 0 and not any(m["velocity"][1:]) for m in beats)
    assert all(isinstance(m["seen"], float) for m in beats)
    assert messages[-1]["stop"] is True
    page.wait_for_timeout(300)
    assert sent(page) == messages, "nothing goes out after the stop"
    assert {"stop": True} in [message for _, message in server.cell.jogs]


@pytest.mark.parametrize("end", ENDS)
def test_every_end_stops_in_the_same_task_and_needs_a_new_press(page: Page, end: str) -> None:
    hold(page)
    # All of it happens before the page does anything else: no timer, no frame, no answer lies between event and stop.
    last = page.evaluate(
        "code => { const b = document.querySelector('[data-testid=jog] button.active');"
        " new Function('b', code)(b); return window.sent[window.sent.length - 1] }",
        ENDS[end],
    )
    assert last.get("stop") is True
    count = len(sent(page))
    page.wait_for_timeout(250)
    assert len(sent(page)) == count, "held or not, only a new press moves it again"
    page.mouse.up()
    page.wait_for_timeout(50)
    hold(page)
    assert sent(page)[count]["press"] is True
    page.mouse.up()


def test_leaving_the_button_with_the_pointer_stops(page: Page) -> None:
    box = hold(page)
    page.mouse.move(box["x"] + box["width"] + 200, box["y"] - 90)
    page.wait_for_function("() => window.sent.some(m => m.stop)")
    page.mouse.up()
    expect(page.get_by_test_id("jog-state")).to_contain_text("Press again")


@pytest.mark.parametrize("waited", [600, 1e9, "NaN"])
def test_a_press_that_waited_for_a_page_that_hung_counts_for_nothing(page: Page, waited: object) -> None:
    sent_then = page.evaluate(
        """([name, waited]) => {
          const b = document.querySelector(`button[aria-label='${name}']`);
          const late = event => Object.defineProperty(event, 'timeStamp', {value: performance.now() - Number(waited)});
          b.dispatchEvent(late(new PointerEvent('pointerdown', {pointerId: 1, button: 0, bubbles: true})));
          b.dispatchEvent(late(new KeyboardEvent('keydown', {key: ' ', bubbles: true})));
          return window.sent.length;
        }""",
        [PLUS, waited],
    )
    page.wait_for_timeout(150)
    assert sent_then == 0 and sent(page) == []
    expect(page.get_by_text("press again").first).to_be_visible()


def test_old_data_stops(page: Page, server: FakeServer) -> None:
    hold(page)
    server.cell.silent = True
    try:
        page.wait_for_function("() => window.sent.some(m => m.stop)", timeout=5000)
    finally:
        server.cell.silent = False
        page.mouse.up()
    beats = [m for m in sent(page) if "seq" in m]
    stop = next(m for m in sent(page) if m.get("stop"))
    assert beats[-1]["at"] <= stop["at"]


def test_only_in_manual_mode_and_with_what_the_robot_asks_for(page: Page, server: FakeServer) -> None:
    button = page.get_by_role("button", name=PLUS)
    before = server.cell.robot
    server.cell.robot = before | {"manual_missing": "hold the enabling device"}
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_test_id("jog-state")).to_have_text("hold the enabling device")
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    page.wait_for_timeout(150)
    page.mouse.up()
    server.cell.robot = before
    server.cell.status = server.cell.status | {"mode": "automatic"}
    expect(page.get_by_test_id("jog-state")).to_have_text("Only in manual mode.")
    server.cell.status = server.cell.status | {"mode": "manual"}
    expect(button).to_have_attribute("aria-disabled", "false")
    assert [m for m in sent(page) if "stop" not in m] == []


def test_touch_and_selection_are_off_on_the_buttons(page: Page) -> None:
    style = page.evaluate(
        "() => { const s = getComputedStyle(document.querySelector('[data-testid=jog] .axes button'));"
        " return [s.touchAction, s.userSelect] }"
    )
    assert style == ["none", "none"]


def test_space_bar_holds_and_does_not_repeat(page: Page) -> None:
    page.get_by_role("button", name=PLUS).focus()
    page.keyboard.down(" ")
    page.wait_for_function("() => window.sent.some(m => 'seq' in m)")
    page.keyboard.down(" ")
    page.keyboard.up(" ")
    messages = sent(page)
    assert messages[-1]["stop"] is True
    assert len([m for m in messages if m.get("press")]) == 1
