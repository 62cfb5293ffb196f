"""Chromium for the tests of the page: every page is watched for errors and for requests to other hosts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
]
NAMES = ("chromium", "chromium-browser", "google-chrome")
STATIC = Path(__file__).parents[2] / "cell" / "pendant" / "static"
LANDSCAPE: ViewportSize = {"width": 1280, "height": 800}
PORTRAIT: ViewportSize = {"width": 800, "height": 1280}


def chromium() -> str:
    """Return the browser's path; the test is skipped, or in CI fails, where browser or built page are missing."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    lacking = "Chromium is missing: apt-get install chromium" if path is None else ""
    if not (STATIC / "index.html").is_file():
        lacking = "the page is not built: make setup"
    if lacking and os.environ.get("CI"):
        pytest.fail(lacking)
    if lacking:
        pytest.skip(lacking)
    assert path is not None
    return path


@contextmanager
def started() -> Iterator[Browser]:
    """A browser until the block ends."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()


def picture(page: Page, name: str) -> None:
    """Keep a picture of the page for the operator's guide, in both formats, if PENDANT_PICTURES names a folder."""
    folder = os.environ.get("PENDANT_PICTURES")
    if not folder:
        return
    size = page.viewport_size
    for form, view in (("", LANDSCAPE), ("_portrait", PORTRAIT)):
        page.set_viewport_size(view)
        page.wait_for_timeout(700)
        page.screenshot(path=Path(folder) / f"{name}{form}.png")
    if size is not None:
        page.set_viewport_size(size)


class Watched:
    """A page and all that went wrong in it. Closing it checks that nothing did."""

    def __init__(self, browser: Browser, url: str, size: ViewportSize = LANDSCAPE, **options: Any) -> None:
        self.context = browser.new_context(viewport=size, locale="en-GB", reduced_motion="reduce", **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(45_000)
        self.url = url
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        foreign = [url for url in self.requests if urlparse(url).netloc != urlparse(self.url).netloc]
        self.context.close()
        if kind is None:
            assert not foreign, "the page asked another host"
            assert not self.faults

    def open(self, page: str = "run") -> Page:
        """Open one of the pages, and wait until it shows the cell."""
        self.page.goto(f"{self.url}/#/{page}")
        self.page.locator("[data-state]:not([data-state=''])").wait_for()
        return self.page

    def login(self, name: str, password: str = "correct horse") -> Page:
        """Log in by hand."""
        self.page.goto(self.url)
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        self.page.locator("[data-state]:not([data-state=''])").wait_for()
        return self.page
