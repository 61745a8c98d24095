"""The report in a real browser, opened from disk: see tests/browser.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from browser import BrowserPage
from lib import compare, report, schema
from made_up_run import HOSTILE, make_run

pytestmark = pytest.mark.browser

MAP = "04_cluster_purity.html"
CHAPTERS = [f"{name}.html" for name in schema.STEPS]
MOST_POINTS = 100_000
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
AXIS_TITLE = "getComputedStyle(document.querySelector('.xtitle')).fill"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A report with all its pages, and a page that compares two runs."""
    outputs = tmp_path_factory.mktemp("outputs")
    run = make_run(outputs / "made-up")
    changes = {"04_cluster_purity": {"min_purity": 0.9}}
    steps = ("01_gold_data", "04_cluster_purity", "06_final_eval")
    other = make_run(outputs / "other", changes=changes, steps=steps, seed=1)
    target = report.write(run).parent
    report.write_single(run)
    compare.write([run, other], target / "compare.html")
    return target


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A report whose map has as many texts as a map may have."""
    steps = ("04_cluster_purity", "06_final_eval")
    run = make_run(tmp_path_factory.mktemp("outputs") / "large", points=MOST_POINTS, steps=steps)
    return report.write(run).parent


@pytest.mark.parametrize("file", ["index.html", *CHAPTERS, "made-up.html", "compare.html"])
def test_every_page_opens_from_disk(folder, browser_page: BrowserPage, file):
    page = browser_page.open(folder / file)
    browser_page.check()
    figures = browser_page.drawn()
    assert figures == [True] * (file in (MAP, "made-up.html"))
    pictures = page.locator("img")
    assert pictures.count() >= 1
    assert all(image.evaluate("i => i.naturalWidth") > 100 for image in pictures.all())
    assert all(image.get_attribute("alt") for image in pictures.all())
    # hostile texts of data, data sets and machines are shown as they are
    assert HOSTILE in page.inner_text("main")
    assert page.locator("main script:not([data-figure]), img[src=x]").count() == 0


@pytest.mark.parametrize("file", ["index.html", MAP, "made-up.html", "compare.html"])
def test_a_phone_needs_no_moving_sideways(folder, browser_page: BrowserPage, file):
    browser_page.page.set_viewport_size({"width": 375, "height": 700})
    page = browser_page.open(folder / file)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert all(0 < box["width"] <= 375 for box in boxes(page, ".plotly-graph-div .main-svg"))


def boxes(page, selector: str) -> list[dict]:
    return [found.bounding_box() for found in page.locator(selector).all() if found.is_visible()]


def test_a_hover_shows_a_hostile_text_as_text(folder, browser_page: BrowserPage):
    browser_page.open(folder / MAP)
    shown = browser_page.hover(0, 0)
    assert HOSTILE.split(" ")[0] in shown
    assert "cluster" in shown and "confidence" in shown
    browser_page.check()


def test_light_and_dark(folder, browser_page: BrowserPage):
    page = browser_page.page
    page.emulate_media(color_scheme="dark")
    browser_page.open(folder / MAP)
    dark = page.evaluate(BACKGROUND), page.evaluate(AXIS_TITLE)
    assert lightness(dark[0]) < 60 and lightness(dark[1]) > 180
    # colours are to mean the same: what they stand on stays light
    plot = page.evaluate("getComputedStyle(document.querySelector('.bglayer .bg')).fill")
    paper = page.evaluate("getComputedStyle(document.querySelector('img')).backgroundColor")
    assert lightness(plot) > 200 and lightness(paper) > 200
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{AXIS_TITLE} != '{dark[1]}'")
    assert lightness(page.evaluate(BACKGROUND)) > 240 and lightness(page.evaluate(AXIS_TITLE)) < 60
    page.click("#theme-toggle")
    page.wait_for_function(f"{AXIS_TITLE} == '{dark[1]}'")
    assert page.evaluate(BACKGROUND) == dark[0]
    assert page.inner_text("#theme-toggle") == "Light"
    browser_page.open(folder / "index.html")  # the choice holds on the next page
    assert page.evaluate(BACKGROUND) == dark[0]
    browser_page.check()


def lightness(color: str) -> float:
    """Mean of red, green and blue of `rgb(r, g, b)`."""
    return sum(float(part) for part in color.split("(")[1].rstrip(")").split(",")[:3]) / 3


def test_code_is_shown_only_when_asked_for(folder, browser_page: BrowserPage):
    page = browser_page.open(folder / CHAPTERS[0])
    code = page.get_by_text("table # таблица")
    assert not code.is_visible()
    page.click("#code-toggle")
    assert code.is_visible() and page.inner_text("#code-toggle") == "Hide code"
    page.reload()
    assert not code.is_visible()
    page.locator("summary").first.click()  # one cell alone
    assert code.is_visible() and page.locator("details[open]").count() == 1


def test_links_lead_through_the_report(folder, browser_page: BrowserPage):
    page = browser_page.open(folder / "index.html")
    seen = []
    page.locator("main table a").first.click()
    while not page.url.endswith("index.html"):
        seen.append(page.url.rsplit("/", 1)[1])
        assert page.locator("header a[aria-current]").get_attribute("href") == seen[-1]
        page.locator("a[rel=next]").click()
    assert seen == CHAPTERS
    page.goto((folder / MAP).as_uri())
    page.locator(".toc a").last.click()
    assert page.url.endswith("#04_cluster_purity-Write")
    browser_page.check()


def test_printed_it_is_light_and_fits_the_paper(folder, browser_page: BrowserPage):
    page = browser_page.page
    page.emulate_media(color_scheme="dark")
    browser_page.open(folder / "made-up.html")
    before = page.evaluate(AXIS_TITLE)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert lightness(page.evaluate(BACKGROUND)) > 240 and lightness(page.evaluate(AXIS_TITLE)) < 60
    assert all(box["width"] <= 680 for box in boxes(page, ".plotly-graph-div .main-svg"))
    assert not page.locator("header, .toc, summary").filter(visible=True).count()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(AXIS_TITLE) == before
    page.wait_for_function("document.querySelector('.main-svg').clientWidth > 900")
    assert page.pdf(format="A4").startswith(b"%PDF")
    browser_page.check()


def test_the_front_page_opens_at_once_with_100_000_texts(large, browser_page: BrowserPage):
    started = time.perf_counter()
    browser_page.open(large / "index.html")
    seconds = time.perf_counter() - started
    assert browser_page.page.locator("figure img").count() == 3
    assert seconds < 2
    browser_page.check()


def test_a_map_of_100_000_texts_is_drawn(large, browser_page: BrowserPage):
    assert (large / MAP).stat().st_size < 25_000_000
    page = browser_page.open(large / MAP)
    assert browser_page.drawn() == [True]
    traces = "document.querySelector('.plotly-graph-div')._fullData"
    assert page.evaluate(f"{traces}.reduce((n, trace) => n + trace.x.length, 0)") == MOST_POINTS
    browser_page.check()
