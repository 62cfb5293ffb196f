"""One walk through all pages, and what holds on each: nothing from elsewhere, names, language, contrast, targets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from tests.pendant.browser import LANDSCAPE, PORTRAIT, started
from tests.pendant.fakecell import FakeServer
from tests.pendant.test_page_looks import AXE, PAGES, prepare

pytestmark = pytest.mark.xdist_group("page")
STOP = 96
TARGET = 48
"""Pixels."""
LANGUAGES = {"en": "en", "de": "de", "zh": "zh-Hans"}
SIZES: dict[str, ViewportSize] = {"landscape": LANDSCAPE, "portrait": PORTRAIT}
NAMED = {"button", "link", "textbox", "searchbox", "combobox", "spinbutton", "slider", "checkbox", "radio", "img"}
"""Roles of the accessibility tree that are nothing without a name."""

# A checkbox is hit by its label, a corner in the plan by the invisible circle round it. A zone's outline is drawn to
# scale, as large as the zone is: list and table beside the plan choose and move it too.
SMALL = """least => {
  const label = e => e.matches('[type=checkbox], [type=radio]') ? e.closest('label') ?? e : e
  const list = 'button, select, a, input, textarea, summary, [role=button]:not([data-zone]), [data-corner]'
  return [...document.querySelectorAll(list)].map(label).filter(e => e.getClientRects().length)
    .map(e => [e, e.getBoundingClientRect()]).filter(([e, r]) => r.height < least - 0.5 || r.width < least - 0.5)
    .map(([e, r]) => `${e.outerHTML.slice(0, 90)} ${Math.round(r.width)}x${Math.round(r.height)}`)
}"""
# Stop after everything that can be scrolled was scrolled to its end: its place, and what lies on top of its corners.
STOP_SHOWN = """() => {
  const all = [document.scrollingElement, ...document.querySelectorAll('main, main *')]
  for (const e of all) if (e.scrollHeight > e.clientHeight) e.scrollTop = e.scrollHeight
  const stop = document.querySelector('[data-command=Stop]'), r = stop.getBoundingClientRect()
  const [left, right, top, bottom] = [r.left + 5, r.right - 5, r.top + 5, r.bottom - 5]
  const at = [[left, top], [right, top], [left, bottom], [right, bottom]]
  const covered = at.filter(([x, y]) => !stop.contains(document.elementFromPoint(x, y))).length
  const inside = r.left >= 0 && r.top >= 0 && r.right <= innerWidth && r.bottom <= innerHeight
  const wide = document.documentElement.scrollWidth - innerWidth
  return {width: r.width, height: r.height, inside, covered, wide, says: stop.innerText}
}"""
# Each language from the user's menu: what the document says it is written in, and its title.
CHOOSE = """async () => {
  const drawn = () => new Promise(done => setTimeout(done))
  const menu = document.querySelector('[data-testid=user]'), said = {}
  menu.click(), await drawn()
  for (const code of ['de', 'zh', 'en']) {
    document.querySelector(`#user-menu button[lang=${code}]`).click()
    await drawn()
    said[code] = [document.documentElement.lang, document.title]
  }
  menu.click(), await drawn()
  return said
}"""
SOFTWARE = "GL Driver Message"
"""What the browser says of drawing without a graphics card is no fault of the page."""


@dataclass
class Walk:
    """What one walk found, by page (and size, theme or language)."""

    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    nameless: dict[str, list[str]] = field(default_factory=dict)
    small: dict[str, list[str]] = field(default_factory=dict)
    stop: dict[str, dict[str, Any]] = field(default_factory=dict)
    contrast: dict[str, list[str]] = field(default_factory=dict)
    titles: dict[tuple[str, str], str] = field(default_factory=dict)
    languages: dict[tuple[str, str], str] = field(default_factory=dict)
    viewport: str = ""
    faces: list[str] = field(default_factory=list)


def nameless(page: Page) -> list[str]:
    """Controls and pictures without a name, from the browser's own accessibility tree."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        f"{node['role']['value']} {node.get('backendDOMNodeId')}"
        for node in nodes
        if not node.get("ignored")
        and node["role"]["value"] in NAMED
        and not node.get("name", {}).get("value", "").strip()
    ]


def contrast(page: Page) -> list[str]:
    """Axe's findings about colour, serious or critical."""
    found: dict[str, Any] = page.evaluate(
        "() => axe.run(document, {runOnly: {type: 'tag', values: ['cat.color']}, preload: false,"
        " resultTypes: ['violations']})"
    )
    return [
        f"{one['id']}: {node['target']} {node['any'][0]['message'] if node['any'] else ''}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:4]
    ]


def look(page: Page, name: str, walk: Walk) -> None:
    """Everything about one page."""
    walk.nameless[name] = nameless(page)
    for size, view in SIZES.items():
        page.set_viewport_size(view)
        walk.small[f"{name} {size}"] = page.evaluate(SMALL, TARGET)
        walk.stop[f"{name} {size}"] = page.evaluate(STOP_SHOWN)
    page.set_viewport_size(LANDSCAPE)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for theme in ("dark", "contrast"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        walk.contrast[f"{name} {theme}"] = contrast(page)


def walked(browser: Browser, server: FakeServer) -> Walk:
    """Visit every page in the role it is made for."""
    walk = Walk()
    home = urlparse(server.url).netloc
    context = browser.new_context(viewport=LANDSCAPE, locale="en-GB", reduced_motion="reduce")

    # Whatever else is asked for is not answered: the page has to do without, as it does without a network.
    context.route(re.compile(rf"^(?!(http|ws)://{re.escape(home)}/)"), lambda route: route.abort())
    context.add_init_script("addEventListener('unhandledrejection', e => console.error('unhandled', String(e.reason)))")
    page = context.new_page()
    page.set_default_timeout(45_000)
    loud = ("error", "warning")
    page.on("console", lambda m: walk.said.append(m.text) if m.type in loud and SOFTWARE not in m.text else None)
    page.on("pageerror", lambda error: walk.said.append(str(error)))
    page.on("request", lambda request: walk.asked.append(request.url))
    page.on("websocket", lambda socket: walk.asked.append(socket.url))
    before = ""
    for name, person in sorted(PAGES.items(), key=lambda item: item[1]):
        prepare(server, person)
        page.goto(f"{server.url}/#/{name}")
        if before and person != before:
            page.reload()
        before = person
        page.locator("[data-state]:not([data-state=''])").wait_for()
        page.locator("main h1", has_text=name.capitalize()).wait_for(state="attached")
        page.locator("main .panel").first.wait_for()
        look(page, name, walk)
        for language, (lang, title) in page.evaluate(CHOOSE).items():
            walk.languages[name, language], walk.titles[name, language] = lang, title
    walk.viewport = page.locator("meta[name=viewport]").get_attribute("content") or ""
    walk.faces = page.evaluate("() => [...document.fonts].map(face => face.family)")
    walk.asked += page.evaluate("() => performance.getEntriesByType('resource').map(e => e.name)")
    context.close()
    return walk


def nothing_is_asked_of_another_host(walk: Walk) -> None:
    hosts = {urlparse(url).hostname for url in walk.asked}
    assert hosts == {"127.0.0.1"}
    assert len({urlparse(url).netloc for url in walk.asked}) == 1
    assert walk.faces == [], "fonts are the machine's own"
    assert sum("/assets/" in url for url in walk.asked) > 5, "the pages' scripts were seen"


def no_page_complains(walk: Walk) -> None:
    assert walk.said == []


def every_control_has_a_name(walk: Walk) -> None:
    assert len(walk.nameless) == len(PAGES)
    assert {page: found for page, found in walk.nameless.items() if found} == {}


def targets_are_large(walk: Walk) -> None:
    assert len(walk.small) == 2 * len(PAGES)
    assert {page: found for page, found in walk.small.items() if found} == {}


def stop_never_leaves(walk: Walk) -> None:
    assert len(walk.stop) == 2 * len(PAGES)
    for page, stop in walk.stop.items():
        assert stop["width"] >= STOP and stop["height"] >= STOP, page
        assert stop["inside"] and stop["covered"] == 0, page
        assert stop["wide"] <= 0, page
        assert "not an emergency stop" in stop["says"], page


def colours_can_be_told_apart(walk: Walk) -> None:
    assert len(walk.contrast) == 2 * len(PAGES)
    assert {page: found for page, found in walk.contrast.items() if found} == {}


def language_and_title_follow_the_choice(walk: Walk) -> None:
    for (page, language), said in walk.languages.items():
        assert said == LANGUAGES[language], page
    for language in LANGUAGES:
        titles = [title for (_, code), title in walk.titles.items() if code == language]
        assert all("demo" in title for title in titles)
        assert len(set(titles)) == len(PAGES), "each page has a title of its own"
    for page in PAGES:
        assert len({walk.titles[page, language] for language in LANGUAGES}) == len(LANGUAGES), page


def the_page_may_be_enlarged(walk: Walk) -> None:
    said = dict(part.strip().split("=") for part in walk.viewport.split(","))
    assert said["width"] == "device-width"
    assert said.get("user-scalable", "yes") not in ("no", "0")
    assert float(said.get("maximum-scale", "5")) >= 5


CHECKS = (
    nothing_is_asked_of_another_host,
    no_page_complains,
    every_control_has_a_name,
    targets_are_large,
    stop_never_leaves,
    colours_can_be_told_apart,
    language_and_title_follow_the_choice,
    the_page_may_be_enlarged,
)


def test_the_walk_finds_nothing(subtests: pytest.Subtests) -> None:
    """One walk for all checks: it takes far longer than they do."""
    with FakeServer() as server, started() as browser:
        walk = walked(browser, server)
    for check in CHECKS:
        with subtests.test(check.__name__.replace("_", " ")):
            check(walk)
