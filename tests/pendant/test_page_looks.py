"""How the pages look: accessible, small, in every language and theme, with what the arm and the run have to say."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.pendant import fakedata
from tests.pendant.browser import STATIC, Watched, started
from tests.pendant.fakecell import FakeServer

pytestmark = pytest.mark.xdist_group("page")
PAGES = {"run": "olga", "watch": "olga", "teach": "pia", "alarms": "olga", "safety": "sina", "people": "ada"}
AXE = STATIC.parent / "web" / "node_modules" / "axe-core" / "axe.min.js"
BUNDLE = 400_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def prepare(server: FakeServer, name: str) -> None:
    cell = server.cell
    cell.user = {"name": name, "role": fakedata.ROLES[name], "language": None}
    operator = fakedata.ROLES[name] in ("operator", "programmer")
    cell.control = {"holder": name if operator else None, "mine": operator, "kind": "local", "since_wall": None,
                    "requested_by": None}  # fmt: skip
    cell.status = fakedata.status("Idle") | {"mode": "manual" if fakedata.ROLES[name] == "programmer" else "automatic"}
    cell.status["alarms"] = [fakedata.alarm()]
    cell.person, cell.locked = (1.1, -0.4), False


def findings(page: Page) -> list[str]:
    """Serious and critical findings of axe."""
    found: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {[node['target'] for node in one['nodes']][:4]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser: Browser, server: FakeServer, name: str) -> None:
    prepare(server, PAGES[name])
    # The scanner itself may be injected where the page's policy admits no foreign script.
    with Watched(browser, server.url, bypass_csp=True) as watched:
        page = watched.open(name)
        page.wait_for_selector("main .panel")
        if name == "safety":
            page.wait_for_selector("[data-testid=terms]")
        page.add_script_tag(path=AXE)
        for theme in ("light", "dark", "contrast") if name == "run" else ("light",):
            page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            assert findings(page) == [], theme
        if name == "safety":
            page.get_by_test_id("zones-3d").click()
            page.locator("[data-corner]").first.wait_for()
            assert findings(page) == [], "zones in space"


def test_axe_finds_nothing_serious_at_the_login_and_when_held(browser: Browser, server: FakeServer) -> None:
    server.cell.user = None
    with Watched(browser, server.url, bypass_csp=True) as watched:
        page = watched.page
        page.goto(server.url)
        page.get_by_label("Name").wait_for()
        page.add_script_tag(path=AXE)
        assert findings(page) == []
        prepare(server, "olga")
        server.cell.user = None
        whats = ("pose", "part", "person", "tool")
        changes = [{"what": what, "before": "a", "now": "b", "changed": what == "part"} for what in whats]
        question = {"id": "1", "kind": "recovery", "text": "The grip missed", "choices": ["retry", "abort"]}
        server.cell.status = fakedata.status("Held") | {"resume": changes, "question": question}
        watched.login("olga")
        page.get_by_test_id("resume").wait_for()
        page.get_by_test_id("user").click()
        page.add_script_tag(path=AXE)
        assert findings(page) == []


def test_bundle_is_small_and_whole() -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in files) <= BUNDLE
    for path in files:
        if path.suffix in (".js", ".css", ".html"):
            text = path.read_text(encoding="utf-8")
            for foreign in ("@import", "fonts.googleapis", "cdn.", "unpkg", "jsdelivr"):
                assert foreign not in text, (path, foreign)


def test_languages_and_themes(browser: Browser, server: FakeServer) -> None:
    prepare(server, "olga")
    with Watched(browser, server.url) as watched:
        page = watched.open()
        page.get_by_test_id("user").click()
        for name, lang, word in (("Deutsch", "de", "Halten"), ("中文", "zh-Hans", "保持"), ("English", "en", "Hold")):
            page.get_by_role("button", name=name, exact=True).click()
            assert page.locator("html").get_attribute("lang") == lang
            expect(page.locator("[data-command=Hold]")).to_contain_text(word)
        for theme in ("Dark", "High contrast", "Light"):
            page.get_by_role("button", name=theme, exact=True).click()
        assert page.locator("html").get_attribute("data-theme") == "light"
        page.keyboard.press("Escape")
        expect(page.locator("#user-menu")).to_be_hidden()


def test_without_webgl_the_plan_is_shown(browser: Browser, server: FakeServer) -> None:
    prepare(server, "olga")
    with Watched(browser, server.url) as watched:
        watched.page.add_init_script(
            "const get = HTMLCanvasElement.prototype.getContext;"
            "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
            " return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest) }"
        )
        page = watched.open("watch")
        expect(page.get_by_test_id("plan")).to_be_visible()
        expect(page.get_by_text("No 3D graphics here")).to_be_visible()
        watched.faults = [fault for fault in watched.faults if "WebGL" not in fault]


def test_the_arms_own_devices_are_shown(browser: Browser, server: FakeServer) -> None:
    prepare(server, "pia")
    usual = server.cell.robot
    with Watched(browser, server.url) as watched:
        page = watched.open("teach")
        rows = page.get_by_test_id("arm-state").locator("[data-row]")

        def row(name: str) -> Locator:
            return page.get_by_test_id("arm-state").locator(f"[data-row='arm.{name}']")

        def note(name: str) -> Locator:
            return page.locator(f"p[data-row='arm.{name}']")

        expect(row("switch")).to_contain_text("not told")
        expect(row("estop")).to_contain_text("not pressed")
        expect(row("brakes")).to_contain_text("not told")
        expect(row("guiding")).to_contain_text("not on this arm")
        expect(note("guiding")).to_contain_text("driver does not offer it")
        told = {"drives": "stopped", "enabling": "released"}
        server.cell.robot = usual | {
            "emergency_stop": True, "safeguard": True, "mode_switch": "manual", "devices": told,
            "fault": "emergency_stop", "fault_text": "emergency stop at the panel",
        }  # fmt: skip
        expect(row("estop")).not_to_contain_text("not")
        expect(row("safeguard")).to_contain_text("open")
        expect(row("switch")).to_contain_text("Manual")
        expect(row("enabling")).to_contain_text("not held")
        expect(row("drives")).to_contain_text("stopped by a fault")
        expect(note("drives")).to_contain_text("emergency stop at the panel")
        expect(note("brakes")).to_contain_text("once the drives are off")
        server.cell.robot = usual | {"devices": {"drives": "on", "enabling": "held"}}
        page.goto(f"{server.url}/#/watch")
        expect(row("enabling")).to_contain_text("held")
        expect(rows).to_have_count(7)
        server.cell.robot = usual


def test_the_chart_goes_back_through_the_run(browser: Browser, server: FakeServer) -> None:
    prepare(server, "olga")
    series = server.cell.answers["series"]
    with Watched(browser, server.url) as watched:
        page = watched.open("watch")
        read = page.get_by_test_id("chart-readout")
        expect(read).to_contain_text("Point at the chart")
        page.get_by_label("Source of the chart").select_option("now")
        last = len(series["t"]) - 1

        def said(i: int) -> str:
            """What is to be read at a sample."""
            near = f"separation {series['separation'][i]:.2f} m · required {series['required'][i]:.2f} m"
            after, rate = series["t"][i] - series["t"][0], round(100 * series["rate"][i])
            return f"{after:.1f} s after the start · {near} · speed {rate} %"

        expect(read).to_have_text(f"{said(last)} · Execute")
        back, on = page.get_by_role("button", name="10 s back"), page.get_by_role("button", name="10 s on")
        expect(on).to_be_disabled()
        back.click()
        expect(read).to_have_text(f"{said(last - 50)} · Suspended")
        for _ in range(6):
            if back.is_enabled():
                back.click()
        expect(back).to_be_disabled()
        expect(read).to_have_text(f"{said(0)} · Execute")
        page.get_by_label("Place in the run").press("End")
        expect(read).to_have_text(f"{said(last)} · Execute")
        # Pointing reads another moment than the slider's.
        box = page.get_by_test_id("chart").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
        expect(read).not_to_have_text(f"{said(last)} · Execute")
        page.mouse.move(0, 0)
        page.get_by_label("Source of the chart").select_option("")
        expect(read).to_contain_text("Point at the chart")


def test_unknown_space_is_shown_when_it_limits_the_arm(
    browser: Browser, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(server, "olga")
    monkeypatch.setattr(server.cell, "unknown", [(0.9, -0.6 + 0.2 * i, 0.1, 5 * i) for i in range(5)])
    near = {"separation": 0.5, "point": [0.9, -0.4, 0.1]}
    monkeypatch.setattr(server.cell, "safety", fakedata.safety() | near | {"seen": True})
    with Watched(browser, server.url) as watched:
        page = watched.open("watch")
        layer = page.get_by_role("button", name="Unknown space")
        expect(layer).to_have_attribute("aria-pressed", "false")
        server.cell.safety = fakedata.safety() | near | {"seen": False}
        expect(page.get_by_test_id("nearness")).to_contain_text("unseen space 0.50 m")
        expect(layer).to_have_attribute("aria-pressed", "true")
        # Drawing goes on without a fault: the page would have complained of a shader that does not compile.
        page.wait_for_timeout(400)
        expect(page.get_by_test_id("view3d")).to_be_visible()


def test_locked_page_keeps_stop(browser: Browser, server: FakeServer) -> None:
    prepare(server, "olga")
    server.cell.locked = True
    server.cell.status = fakedata.status("Execute")
    with Watched(browser, server.url) as watched:
        page = watched.open()
        expect(page.get_by_test_id("lock")).to_be_visible()
        expect(page.locator("[data-command=Stop]")).to_have_attribute("aria-disabled", "false")
        expect(page.locator("[data-command=Hold]")).to_have_attribute("aria-disabled", "true")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Unlock").click()
        expect(page.get_by_test_id("lock")).to_be_hidden()


def test_sources_are_kept_small() -> None:
    sources = [path for path in (STATIC.parent / "web" / "src").rglob("*") if path.suffix in (".ts", ".svelte", ".css")]
    assert sources
    long = [path.name for path in sources if "i18n" not in path.parts and len(path.read_text().splitlines()) > 400]
    assert long == []
