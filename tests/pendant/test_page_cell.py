"""The page before the real pendant, controller and robot node: what an operator and a programmer do in a day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.pendant.browser import Watched, picture, started
from tests.pendant.harness import NAMES, PASSWORD
from tests.pendant.served import Served

pytestmark = pytest.mark.xdist_group("page")
SLOW = 60_000
PARTS = ["cube red", "block yellow", "cube green", "bar blue", "puck black", "post white"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("pendant"), speed=2.0) as served:
        yield served


def state(page: Page, *names: str, timeout: float = SLOW) -> None:
    selector = ", ".join(f"[data-state='{name}']" for name in names)
    page.locator(selector).wait_for(timeout=timeout)


def command(page: Page, name: str) -> None:
    button = page.locator(f"[data-command={name}]")
    expect(button).to_have_attribute("aria-disabled", "false", timeout=SLOW)
    button.click()


def take(page: Page) -> None:
    page.get_by_test_id("control").get_by_role("button", name="Take", exact=True).click()
    expect(page.get_by_test_id("control")).to_contain_text("you")


def test_operator_from_login_to_complete(browser: Browser, served: Served) -> None:
    with Watched(browser, served.url) as watched:
        page = watched.login(NAMES["operator"], PASSWORD)
        take(page)
        page.locator("[data-recipe=kitting]").click()
        # Two of the six, in another order than the recipe's own.
        for name in PARTS[2:]:
            page.get_by_role("button", name=f"Remove {name}", exact=True).click()
        page.get_by_role("button", name="block yellow earlier", exact=True).click()
        expect(page.get_by_test_id("analysis")).to_contain_text("Not analysed yet")
        page.get_by_role("button", name="Analyse", exact=True).click()
        expect(page.get_by_test_id("analysis")).to_contain_text("can be run", timeout=2 * SLOW)
        expect(page.locator("[data-command=Start]")).to_have_attribute("aria-disabled", "true")
        expect(page.get_by_test_id("stale")).to_be_hidden(timeout=SLOW)
        page.get_by_role("button", name="Load", exact=True).click()
        expect(page.get_by_test_id("job")).to_contain_text("kitting", timeout=2 * SLOW)
        expect(page.get_by_test_id("steps").locator("[data-step]")).to_have_count(5)
        expect(page.get_by_test_id("steps")).to_contain_text("pick block yellow")
        if page.locator("[data-state=Stopped]").count():
            command(page, "Reset")
        state(page, "Idle")
        command(page, "Start")
        state(page, "Execute")
        # Somebody comes: the arm slows down, then stands, and the header says why.
        served.bench.supervisor.limit = 0.15
        words = "person 0.50 m from panda link7, needs 0.70 m"
        expect(page.get_by_test_id("reason")).to_contain_text(words, timeout=SLOW)
        served.bench.supervisor.limit = 1.0
        command(page, "Hold")
        state(page, "Held")
        gate = page.get_by_test_id("resume")
        for what in ("Pose", "Part", "People", "Tool"):
            expect(gate).to_contain_text(what)
        gate.get_by_role("button").click()
        state(page, "Execute")
        state(page, "Complete", timeout=3 * SLOW)
        expect(page.get_by_test_id("steps").locator("[data-step].done")).to_have_count(5)
        command(page, "Reset")
        state(page, "Idle")


def test_two_browsers_one_control(browser: Browser, served: Served) -> None:
    with Watched(browser, served.url) as first, Watched(browser, served.url) as second:
        holder = first.login(NAMES["operator"], PASSWORD)
        if holder.get_by_role("button", name="Release", exact=True).count() == 0:
            take(holder)
        other = second.login(NAMES["programmer"], PASSWORD)
        expect(other.get_by_test_id("control")).to_contain_text(NAMES["operator"])
        picture(other, "control")
        expect(other.locator("[data-command=Reset]")).to_have_attribute("aria-disabled", "true")
        other.get_by_role("button", name="Ask for it", exact=True).click()
        expect(holder.get_by_test_id("control")).to_contain_text(f"{NAMES['programmer']} asks for it")
        holder.get_by_role("button", name="Hand over", exact=True).click()
        expect(other.get_by_test_id("control")).to_contain_text("you")
        expect(holder.get_by_test_id("control")).to_contain_text(NAMES["programmer"])
        other.get_by_role("button", name="Release", exact=True).click()
        expect(holder.get_by_test_id("control")).to_contain_text("nobody")


def test_programmer_jogs_saves_points_and_inserts_a_step(browser: Browser, served: Served) -> None:
    with Watched(browser, served.url) as watched:
        page = watched.login(NAMES["programmer"], PASSWORD)
        take(page)
        page.goto(f"{served.url}/#/teach")
        page.get_by_role("button", name="Manual mode", exact=True).click()
        jog = page.get_by_role("button", name="joint 1 plus, hold")
        expect(jog).to_have_attribute("aria-disabled", "false", timeout=SLOW)
        save(page, "first")
        before = served.bench.robot.q[0] if served.bench.robot else 0.0
        box = jog.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.wait_for_timeout(900)
        page.mouse.up()
        expect(page.get_by_text("· standing")).to_be_visible(timeout=SLOW)
        assert served.bench.robot is not None
        assert served.bench.robot.q[0] > before + 0.02, "it moved while it was held"
        save(page, "second")
        page.get_by_label("Recipe to edit").select_option("kitting")
        expect(page.get_by_test_id("check")).to_contain_text("No problems found")
        page.get_by_role("button", name="Insert second as a step", exact=True).click()
        expect(page.get_by_label("Text of the recipe")).to_have_value(_containing("to second"))
        picture(page, "teach")
        expect(page.get_by_test_id("check")).to_contain_text("No problems found")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_test_id("check")).to_contain_text("Saved")
        # A mistake is told with its line while it is typed.
        text = page.get_by_label("Text of the recipe")
        text.fill(text.input_value().replace("skill: move_to", "skill: fly_to", 1))
        expect(page.get_by_test_id("editor")).to_contain_text("fly_to", timeout=SLOW)
        expect(page.get_by_test_id("check")).to_contain_text("problems")


def save(page: Page, name: str) -> None:
    page.get_by_test_id("points").get_by_label("Name").fill(name)
    page.get_by_role("button", name="Save point here", exact=True).click()
    page.locator(f"[data-point={name}]").wait_for()


def _containing(word: str) -> re.Pattern[str]:
    return re.compile(re.escape(word))


def test_safety_engineer_proposes_and_a_second_accepts(browser: Browser, tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "cell" / "cells" / "demo_safety.yaml"
    file = tmp_path / "demo_safety.yaml"
    zones = (
        "zones:\n  elsewhere: ssm\n  volumes:\n    - name: entry\n      shape: {kind: box, lower: [1.2, -1.0, -0.75], "
        "upper: [2.2, 1.0, 1.4]}\n      automatic: ssm\n"
    )
    file.write_text(source.read_text(encoding="utf-8") + zones, encoding="utf-8")
    with Served(tmp_path / "site", safety=file) as served:
        served.site.pendant.accounts.create("Second", "safety_engineer", PASSWORD)
        with Watched(browser, served.url) as watched:
            page = watched.login(NAMES["safety_engineer"], PASSWORD)
            page.goto(f"{served.url}/#/safety")
            before = page.get_by_test_id("file-fingerprint").inner_text()
            page.locator("[data-zone=entry]").focus()
            page.keyboard.press("Shift+ArrowLeft")
            expect(page.get_by_test_id("zone-check")).to_be_visible(timeout=SLOW)
            page.get_by_role("button", name="Show the difference", exact=True).click()
            expect(page.get_by_test_id("diff")).to_contain_text("zones.volumes[0].shape.lower[0]", timeout=SLOW)
            picture(page, "zones")
            page.get_by_label("Why").fill("The gangway is narrower")
            page.get_by_label("Your password, as signature").fill(PASSWORD)
            page.get_by_role("button", name="Propose", exact=True).click()
            expect(page.locator("[data-proposal]")).to_contain_text("Another safety engineer", timeout=SLOW)
        with Watched(browser, served.url) as watched:
            page = watched.login("Second", PASSWORD)
            page.goto(f"{served.url}/#/safety")
            proposal = page.locator("[data-proposal]")
            expect(proposal).to_contain_text("The gangway is narrower", timeout=SLOW)
            expect(proposal.get_by_test_id("diff")).to_contain_text("1.1")
            picture(page, "proposal")
            proposal.get_by_label("Your password, as signature").fill(PASSWORD)
            proposal.get_by_role("button", name="Accept and sign", exact=True).click()
            expect(proposal).to_contain_text("accepted", timeout=SLOW)
            assert page.get_by_test_id("file-fingerprint").inner_text() != before
            expect(page.get_by_test_id("pending")).to_be_visible()
            expect(page.get_by_test_id("fingerprint").locator("li")).to_have_count(2)
