"""A real browser for tests: headless Chromium, driven by Playwright, pages opened from disk.

`browser_page` is a fixture; conftest makes it known to all tests. Mark a test that uses it with
`@pytest.mark.browser`. Chromium is the system's own: the environment variable CHROMIUM names its
executable, otherwise the usual names are looked for; without one these tests are skipped.

As a program it takes a picture of a page: `python tests/browser.py PAGE.html PICTURE.png`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SKIPPED = "no Chromium found: install it or name its executable in the variable CHROMIUM"
# WebGL in software, as scattergl needs it; no sandbox, since containers often forbid it
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# where a point of the page's first figure is, in CSS pixels of the window
POINT = """([curve, point]) => {
    const figure = document.querySelector(".plotly-graph-div");
    figure.scrollIntoView({block: "center"});
    const {xaxis, yaxis} = figure._fullLayout, trace = figure._fullData[curve];
    const {left, top} = figure.getBoundingClientRect();
    return [left + xaxis._offset + xaxis.d2p(trace.x[point]),
            top + yaxis._offset + yaxis.d2p(trace.y[point])];
}"""
SIZE = {"width": 1280, "height": 900}
LOCAL = ("file:", "data:", "blob:", "about:")
DRAWN = """figures => figures.map(figure => {
    const canvas = [...figure.querySelectorAll("canvas")].some(c => c.width && c.height);
    const marks = figure.querySelectorAll(".main-svg .trace *, .main-svg .points *").length;
    return Boolean(figure.querySelector(".main-svg") && (canvas || marks));
})"""


class BrowserPage:
    """A page with what it complained about and what it asked the network for.

    Attributes:
        page: Playwright's page.
        errors: texts of console errors and of uncaught exceptions.
        requests: addresses of all requests that are not local (file:, data:, blob:).
    """

    def __init__(self, context: BrowserContext):
        self.context = context
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        # of the context: requests of workers and of windows that the page opens count, too
        context.on("request", self._request)

    def open(self, path: Path) -> Page:
        """Open a file from disk and wait until it is loaded and its figures are drawn."""
        self.page.goto(path.resolve().as_uri(), wait_until="load")
        self.page.wait_for_function(
            "[...document.querySelectorAll('.plotly-graph-div')]"
            ".every(figure => figure.querySelector('.main-svg'))"
        )
        return self.page

    def check(self) -> None:
        """Fail if anything so far was an error, a request, a hostile text run or a broken image."""
        assert self.errors == []
        assert self.requests == []
        assert self.page.evaluate("typeof window.hacked") == "undefined"
        broken = "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert self.page.eval_on_selector_all("img", broken) == []

    def drawn(self) -> list[bool]:
        """For each plotly figure whether it shows something: a filled canvas, or marks in svg."""
        return self.page.eval_on_selector_all(".plotly-graph-div", DRAWN)

    def point(self, trace: int, point: int) -> None:
        """Move the mouse to a point of the page's first figure."""
        x, y = self.page.evaluate(POINT, [trace, point])
        self.page.mouse.move(x - 30, y - 30)
        self.page.mouse.move(x, y, steps=3)

    def _console(self, message) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request) -> None:
        if not request.url.startswith(LOCAL):
            self.requests.append(request.url)


def find_chromium() -> str | None:
    """Executable of the system's Chromium, None if there is none."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launch(executable: str) -> Iterator[Browser]:
    """A running browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, args=ARGUMENTS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser itself, started once per test file.

    While it is open this process counts as running an event loop, in which Papermill and nbclient
    refuse to work: tests that execute notebooks stand before those with a browser in their file.
    """
    executable = find_chromium()
    if executable is None:
        pytest.skip(SKIPPED)
    with launch(executable) as browser:
        yield browser


@pytest.fixture
def browser_page(chromium: Browser) -> Iterator[BrowserPage]:
    """An empty page 1280 x 900 in a browser without history; see BrowserPage."""
    context = chromium.new_context(viewport=SIZE)
    context.set_default_timeout(120_000)  # a page with a large map takes 30 s on two busy cores
    yield BrowserPage(context)
    context.close()


def screenshot(page: Path, picture: Path) -> int:
    """Take a picture of a page's upper part; returns the exit status, 0 also without Chromium."""
    executable = find_chromium()
    if executable is None:
        print(f"{picture} is not made: {SKIPPED}", file=sys.stderr)
        return 0
    with launch(executable) as browser:
        context = browser.new_context(viewport=SIZE, device_scale_factor=1.5)
        BrowserPage(context).open(page).screenshot(path=picture)
    return 0


if __name__ == "__main__":
    sys.exit(screenshot(Path(sys.argv[1]), Path(sys.argv[2])))
