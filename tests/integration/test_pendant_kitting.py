"""A new operator's first shift at the twin, in a browser: from the first account to a full box, with a visitor between.

Everything is what `cell up --lockstep` starts; whether the box is full and nobody was endangered say the twin's own
world and its referee.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cell.ledger import read_ledger
from tests.integration.test_kitting import KIT, in_box
from tests.pendant.browser import Watched, picture, started
from tests.pendant.harness import PASSWORD
from tests.pendant.twinned import SLOW_MOTION, Twinned

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live"), pytest.mark.timeout(900)]
SLOW = 120_000
BOTH = ("landscape", "portrait")
SIX = ["puck black", "cube green", "block yellow", "post white", "bar blue", "cube red"]
"""The order the operator wants, which is not the recipe's own."""


@contextmanager
def moment(cell: Twinned) -> Iterator[None]:
    """Let the cell's time pass slowly while pictures are taken of a moment."""
    cell.cell.speed = SLOW_MOTION
    try:
        yield
    finally:
        cell.cell.speed = 1.0


def state(page: Page, *names: str) -> None:
    selector = ", ".join(f"[data-state='{name}']" for name in names)
    page.locator(selector).wait_for(timeout=SLOW)


def command(page: Page, name: str) -> None:
    button = page.locator(f"[data-command={name}]")
    expect(button).to_have_attribute("aria-disabled", "false", timeout=SLOW)
    button.click()


def make_account(browser: Browser, cell: Twinned, password: str) -> None:
    """The administrator of a first start gives the operator an account."""
    with Watched(browser, cell.url) as watched:
        page = watched.login("admin", password)
        page.goto(f"{cell.url}/#/people")
        page.get_by_label("Name", exact=True).fill("Ada")
        page.get_by_label("Role", exact=True).select_option("operator")
        page.get_by_label("First password").fill(PASSWORD)
        page.get_by_role("button", name="Create", exact=True).click()
        expect(page.get_by_test_id("users")).to_contain_text("Ada")


def set_up(page: Page) -> None:
    """Choose kitting, put six varieties in, have it analysed and load it."""
    page.get_by_role("button", name="Take", exact=True).click()
    expect(page.get_by_test_id("control")).to_contain_text("you")
    page.locator("[data-recipe=kitting]").click()
    form = page.locator("[data-parameter=varieties]")
    while form.locator("li").count():
        form.get_by_role("button", name=re.compile("^Remove ")).first.click()
    expect(form.get_by_role("alert")).to_be_visible()
    for name in SIX:
        form.get_by_role("button", name=f"Add {name}", exact=True).click()
    expect(form.locator("li .name")).to_have_text(SIX)
    page.get_by_role("button", name="Analyse", exact=True).click()
    analysis = page.get_by_test_id("analysis")
    expect(analysis).to_contain_text("can be run", timeout=SLOW)
    expect(page.locator("[data-command=Start]")).to_have_attribute("aria-disabled", "true")


def start(page: Page) -> None:
    """As a person does: clear what was latched while the cell came up, confirm that nobody is there, reset, start."""
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.get_by_test_id("job")).to_contain_text("kitting", timeout=SLOW)
    command(page, "Reset")
    state(page, "Idle")
    # Nobody has said yet that the cell is clear: Start is off, and says so when pressed all the same.
    button = page.locator("[data-command=Start]")
    expect(button).to_have_attribute("aria-disabled", "true")
    button.click(force=True)
    expect(page.get_by_test_id("why")).to_contain_text("nobody has confirmed")
    card = page.get_by_test_id("unconfirmed")
    card.get_by_role("button", name="I have looked: nobody is in the cell").click()
    expect(card).to_be_hidden(timeout=SLOW)
    command(page, "Start")
    state(page, "Execute")


def rate(page: Page, percent: str) -> None:
    """Wait until the speed shown is as the pattern says."""
    expect(page.get_by_test_id("rate").locator("strong")).to_have_text(re.compile(rf"^{percent}\s?%$"), timeout=SLOW)


def test_a_new_operator_kits_six_parts_past_a_visitor(tmp_path: Path) -> None:
    with Twinned(tmp_path, scenario="visit") as cell, started() as browser:
        make_account(browser, cell, cell.ask(cell.cell.pendant.accounts.first_admin))
        with Watched(browser, cell.url) as watched:
            page = watched.login("Ada")
            set_up(page)
            picture(page, "flow_analysis", sizes=BOTH)
            start(page)
            # Somebody walks up: slower, then not at all, and the page says who and how near.
            reason = page.get_by_test_id("reason")
            expect(reason).to_have_text(re.compile(r"person \d\.\d\d m from .*, needs \d\.\d\d m"), timeout=SLOW)
            with moment(cell):
                rate(page, "([1-6][0-9])")
                expect(page.locator("[data-state]")).to_have_attribute("data-state", "Execute")
                picture(page, "flow_slowed", sizes=BOTH)
            rate(page, "0")
            assert cell.joint_speed() < 0.02, "the arm stands, as the page says"
            with moment(cell):
                expect(reason).to_contain_text("person")
                picture(page, "flow_stopped", sizes=BOTH)
                picture(page, "watch", at="watch", sizes=BOTH)
            # The visitor leaves and it goes on by itself.
            rate(page, "100")
            command(page, "Hold")
            state(page, "Held")
            gate = page.get_by_test_id("resume")
            for what in ("Pose", "Part", "People", "Tool"):
                expect(gate).to_contain_text(what)
            picture(page, "flow_held", sizes=BOTH)
            command(page, "Unhold")
            state(page, "Execute")
            state(page, "Complete")
            expect(page.get_by_test_id("steps").locator("[data-step].done")).to_have_count(
                page.get_by_test_id("steps").locator("[data-step]").count()
            )
            picture(page, "flow_complete", sizes=BOTH)
            put = in_box(cell.parts())
            assert len(put) == 6 and {name.split("#")[0] for name in put} == KIT
            end = cell.now()
            page.wait_for_timeout(2000)
            assert cell.referee.missing(end) == 0.0, "the referee has seen all of it"
            assert cell.referee.count("contacts_while_moving") == 0
            assert cell.referee.count("psd_violations") == 0
            assert cell.referee.min_separation is not None and cell.referee.min_separation < 0.6
    rows = list(read_ledger(cell.session.directory / "events.sqlite"))
    people = [row.event.data for row in rows if row.event.kind == "operator.command"]
    assert {row["person"] for row in people} == {"Ada"}
    assert [row["command"] for row in people][-3:] == ["Start", "Hold", "Unhold"]
