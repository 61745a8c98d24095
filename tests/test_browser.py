"""The report in a real browser, opened from disk: see tests/browser.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import browser
import conftest
from browser import BrowserPage
from lib.clusters import explorer
from lib.clusters.filter import facts
from lib.parameters import STEPS
from lib.reports import compare, report
from made_up_clusters import write_run
from made_up_run import HOSTILE, make_run

MAP = "04_cluster_purity.html"
PAGES = ["index.html", MAP, "made-up.html", "compare.html", "explorer.html"]
FIGURES = {MAP: 1, "made-up.html": 1, "explorer.html": 1}
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
AXIS_TITLE = "getComputedStyle(document.querySelector('.xtitle')).fill"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with its report, a page that compares it, and clusters to explore."""
    outputs = tmp_path_factory.mktemp("outputs")
    run = make_run(outputs / "made-up")
    other = make_run(outputs / "other", steps=("01_gold_data", "06_final_eval"), seed=1)
    compare.write([run, other], run / "report" / "compare.html")
    write_run(run, map_points=200)
    report.write(run)
    report.write_single(run)
    return run


@pytest.mark.browser
@pytest.mark.parametrize("file", PAGES)
def test_every_page_opens_from_disk_also_on_a_phone(run, browser_page: BrowserPage, file):
    browser_page.page.set_viewport_size({"width": 375, "height": 700})
    page = browser_page.open(run / "report" / file)
    assert browser_page.drawn() == [True] * FIGURES.get(file, 0)
    assert HOSTILE in page.inner_text("main")  # of data, data sets and machines: as it is
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    browser_page.check()


@pytest.mark.browser
def test_light_dark_and_print(run, browser_page: BrowserPage):
    page = browser_page.page
    page.emulate_media(color_scheme="dark")
    browser_page.open(run / "report" / MAP)
    dark = page.evaluate(BACKGROUND), page.evaluate(AXIS_TITLE)
    assert lightness(dark[0]) < 60 and lightness(dark[1]) > 180
    # colours are to mean the same: what they stand on stays light
    assert lightness(page.evaluate("getComputedStyle(document.querySelector('.bg')).fill")) > 200
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{AXIS_TITLE} != '{dark[1]}'")
    assert lightness(page.evaluate(BACKGROUND)) > 240 and lightness(page.evaluate(AXIS_TITLE)) < 60
    page.click("#theme-toggle")
    page.wait_for_function(f"{AXIS_TITLE} == '{dark[1]}'")
    browser_page.open(run / "report" / MAP)  # the choice holds
    assert page.evaluate(BACKGROUND) == dark[0] and page.inner_text("#theme-toggle") == "Light"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert lightness(page.evaluate(BACKGROUND)) > 240 and lightness(page.evaluate(AXIS_TITLE)) < 60
    assert page.locator(".main-svg").first.bounding_box()["width"] <= 680
    assert not page.locator("header, .toc, summary").filter(visible=True).count()
    browser_page.check()


def lightness(color: str) -> float:
    """Mean of red, green and blue of `rgb(r, g, b)`."""
    return sum(float(part) for part in color.split("(")[1].rstrip(")").split(",")[:3]) / 3


@pytest.mark.browser
def test_links_lead_through_the_report_and_code_unfolds(run, browser_page: BrowserPage):
    page = browser_page.open(run / "report" / "index.html")
    seen = []
    page.locator("main table a").first.click()
    while not page.url.endswith("index.html"):
        seen.append(page.url.rsplit("/", 1)[1])
        assert page.locator("header a[aria-current]").get_attribute("href") == seen[-1]
        code = page.get_by_text("table # таблица")
        assert not code.is_visible()
        page.click("#code-toggle")
        assert code.is_visible() and page.inner_text("#code-toggle") == "Hide code"
        page.locator("a[rel=next]").click()
    assert seen == [f"{name}.html" for name in STEPS]
    browser_page.check()


@pytest.mark.browser
def test_the_explorer_answers_to_clicks_and_sliders(run, browser_page: BrowserPage):
    known = explorer.load(run)
    page = browser_page.open(run / "report" / "explorer.html")
    labels = known.texts["predicted"].to_numpy()[known.map_rows]
    row = int(known.map_rows[77])
    browser_page.point(int(labels[77]), int((labels[:77] == labels[77]).sum()))
    page.wait_for_function("!document.getElementById('hover').hidden")
    assert page.locator("#hover").text_content().startswith(known.read([row])[0])
    page.mouse.down()
    page.mouse.up()
    cluster = int(known.texts["cluster"][row])
    page.wait_for_function(f"document.getElementById('name').textContent == 'Cluster {cluster}'")
    assert texts_of(page, "#texts") == known.read(known.examples(cluster, "centre", 10))
    page.get_by_role("button", name="least sure").click()
    assert texts_of(page, "#texts") == known.read(known.examples(cluster, "unsure", 10))

    for slider, presses in (("#purity", 17), ("#confidence", 4)):
        page.focus(slider)
        for _ in range(presses):
            page.keyboard.press("ArrowRight")
    kept = facts(known.texts, known.passing(0.77, 0.54))
    assert 0 < kept["kept"] < known.passing(0.6, 0.5).sum()
    share = f"{kept['kept']:,} of 600 texts kept ({kept['kept_share']:.1%})"
    assert page.locator("#kept").text_content() == share
    measured = "{measured_precision:.3f} [{low:.3f}, {high:.3f}]".format(**kept)
    assert f"measured {measured}" in page.locator("#precision").text_content()
    bright = "document.getElementById('map').data.slice(0, 3).map(t => t.selectedpoints.length)"
    passing = known.passing(0.77, 0.54)[known.map_rows]
    assert sum(page.evaluate(bright)) == passing.sum()

    page.fill("#search", "window.hacked")
    assert any(HOSTILE in text for text in texts_of(page, "#found-texts"))
    page.fill("#number", "0")
    page.press("#number", "Enter")
    assert page.url.endswith("#cluster=0") and page.locator("img").count() == 0
    browser_page.check()


def texts_of(page, where: str) -> list[str]:
    return page.locator(f"{where} li p:first-child").all_text_contents()


def test_without_chromium_nothing_is_found_and_the_picture_is_no_error(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "chromium"))
    assert browser.find_chromium() is None
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert browser.find_chromium() is None
    assert browser.screenshot(tmp_path / "page.html", tmp_path / "picture.png") == 0
    assert "picture.png is not made: no Chromium found" in capsys.readouterr().err


def test_the_summary_counts_tests_skipped_for_want_of_a_browser():
    lines: list[str] = []
    skipped = [SimpleNamespace(longrepr=("file", 1, why)) for why in (browser.SKIPPED, "no GPU")]
    terminal = SimpleNamespace(
        stats={"skipped": skipped},
        section=lambda title, **_: lines.append(title),
        line=lambda text, **_: lines.append(text),
    )
    conftest.pytest_terminal_summary(terminal)
    assert lines == ["browser", f"1 browser tests were SKIPPED: {browser.SKIPPED}"]
