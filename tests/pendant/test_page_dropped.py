"""Hold to run when the browser freezes, dies, or loses its link: the arm stands within 350 ms of the cell's time, and
what was queued meanwhile never moves it. The real pendant, controller and robot node; delays on the clock they use."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.pendant.browser import Watched, started
from tests.pendant.harness import NAMES, PASSWORD
from tests.pendant.relay import Relay
from tests.pendant.served import Served

pytestmark = pytest.mark.xdist_group("page")
WITHIN = 0.35
"""Between the fault and the last moment at which a joint was told to move, s."""
PLUS = "joint 1 plus, hold"
FROZEN = 1.2
"""So long the browser is frozen, s."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("pendant")) as served:
        yield served


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Browser]:
    with started() as browser:
        yield browser


def to_teach(watched: Watched, served: Served) -> Page:
    """Log in, take control, go to where arms are jogged."""
    page = watched.login(NAMES["programmer"], PASSWORD)
    page.get_by_test_id("control").get_by_role("button", name="Take", exact=True).click()
    expect(page.get_by_test_id("control")).to_contain_text("you")
    page.goto(f"{watched.url}/#/teach")
    jog = page.get_by_role("button", name=PLUS)
    jog.wait_for()
    if served.bench.node.unit.mode != "manual":
        page.get_by_role("button", name="Manual mode", exact=True).click()
    expect(jog).to_have_attribute("aria-disabled", "false")
    return page


@pytest.fixture(autouse=True)
def nobody(served: Served) -> Iterator[None]:
    """Nobody has control before a test: the one before left without giving it up."""
    yield
    control = served.site.pendant.control
    if control.holder is not None:
        control.release(control.holder.login, served.bench.now, 0)


def hold(page: Page, served: Served) -> tuple[float, float]:
    """Press the button and wait until the arm moves steadily; return where the pointer is, px."""
    box = page.get_by_role("button", name=PLUS).bounding_box()
    assert box is not None
    at = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*at)
    page.mouse.down()
    end = time.monotonic() + 20.0
    while not served.moves() and time.monotonic() < end:
        time.sleep(0.005)
    served.pass_time(0.3)
    assert served.moves(), "it moves while it is held"
    return at


def stands_soon(served: Served, since: float) -> float:
    """The arm stands in time after a fault at `since`; return after how long, s."""
    served.pass_time(since + 1.0 - served.bench.now)
    took = max(0.0, served.moved_at - since)
    assert took <= WITHIN
    return took


def still(served: Served, since: float, seconds: float = 0.8) -> None:
    """Nothing moves the arm."""
    served.pass_time(seconds)
    assert served.moved_at <= since + WITHIN, "what was queued does not move it"


def moves_by_a_new_press(page: Page, served: Served) -> None:
    expect(page.get_by_role("button", name=PLUS)).to_have_attribute("aria-disabled", "false")
    hold(page, served)
    page.mouse.up()
    served.pass_time(0.4)
    assert not served.moves()


def processes(before: set[int]) -> list[psutil.Process]:
    """The browser's processes."""
    mine = psutil.Process().children(recursive=True)
    return [one for one in mine if one.pid not in before and "chrom" in one.name().lower()]


def test_a_frozen_browser(served: Served) -> None:
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with started() as browser, Watched(browser, served.url) as watched:
        page = to_teach(watched, served)
        frozen = processes(before)
        assert len(frozen) >= 3
        session = watched.context.new_cdp_session(page)
        x, y = hold(page, served)
        since = served.bench.now
        for one in frozen:
            one.suspend()
        print(f"frozen: stood after {1e3 * stands_soon(served, since):.0f} ms")

        def go_on() -> None:
            for one in frozen:
                one.resume()

        # While it is frozen somebody lets go, clicks, holds, and tries the keyboard: all of it waits in the queue.
        timer = threading.Timer(FROZEN, go_on)
        timer.start()
        then = time.time()
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1, "timestamp": then}
        for kind in ("mouseReleased", "mousePressed", "mouseReleased", "mousePressed"):
            session.send("Input.dispatchMouseEvent", {"type": kind, **mouse})
        key = {"key": " ", "code": "Space", "text": " ", "windowsVirtualKeyCode": 32, "timestamp": then}
        session.send("Input.dispatchKeyEvent", {"type": "keyDown", **key})
        timer.join()
        still(served, since)
        page.mouse.up()
        session.send("Input.dispatchKeyEvent", {"type": "keyUp", "key": " ", "code": "Space"})
        moves_by_a_new_press(page, served)


@pytest.mark.live
@pytest.mark.parametrize("end", ["page", "context", "killed"])
def test_a_browser_that_is_gone(served: Served, end: str) -> None:
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with started() as browser:
        watched = Watched(browser, served.url)
        page = to_teach(watched, served)
        hold(page, served)
        since = served.bench.now
        if end == "killed":
            for one in processes(before):
                os.kill(one.pid, signal.SIGKILL)
        elif end == "context":
            watched.context.close()
        else:
            page.close()
        print(f"{end}: stood after {1e3 * stands_soon(served, since):.0f} ms")
        still(served, since, 0.2)


@pytest.mark.live
def test_a_link_that_drops_without_a_word(browser: Browser, served: Served) -> None:
    with Relay(served.url) as relay, Watched(browser, relay.url) as watched:
        page = to_teach(watched, served)
        hold(page, served)
        since = served.bench.now
        relay.cut()
        print(f"cut: stood after {1e3 * stands_soon(served, since):.0f} ms")
        expect(page.get_by_test_id("jog-state")).not_to_have_attribute("data-phase", "running")
        # The button is still held, and the beats that were on their way arrive now.
        relay.mend()
        still(served, since)
        page.mouse.up()
        moves_by_a_new_press(page, served)
